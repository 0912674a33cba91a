/* SPDX-License-Identifier: ISC */
/*
 * The fence between primaries, through a real redis-server: who publishes and
 * subscribes with which role epoch, and what becomes of it.
 */
#include <stdlib.h>
#include <string.h>

#include "keepsock/redis_continuity.h"
#include "redis_fixture.h"

static enum redis_result publish_with(struct fixture *f, uint64_t epoch)
{
	struct redis_publish message = message_for(f, "{}", &news, 1);

	message.fence.epoch = epoch;
	send_publish(f, &message);
	return f->answer.code;
}

static enum redis_result subscribe_with(struct fixture *f, struct redis_fence fence)
{
	const struct redis_presence_member member = {
		.client = SLICE("c1"), .user = SLICE("u"), .worker = SLICE(WORKER)};
	const struct redis_subscribe subscribe = {
		.fence = fence,
		.channel = news.channel,
		.history = true,
		.epoch = f->fresh_letters,
		.presence = &member,
		.presence_ttl_ms = HOUR_MS,
		.now_ms = NOW,
	};
	unsigned before = f->answer.count;

	redis_subscribe_read(f->pool, 1, &subscribe, on_subscribe, &f->answer);
	finish(f, before);
	return f->answer.code;
}

static enum redis_result remove_with(struct fixture *f, struct redis_fence fence)
{
	unsigned before = f->answer.count;

	redis_history_remove(f->pool, 1, fence, news.channel, on_count, &f->answer);
	finish(f, before);
	return f->answer.code;
}

static enum redis_result keep_with(struct fixture *f, struct redis_fence fence)
{
	const struct redis_user_subscription kept = {SLICE("news"), SLICE("{}")};
	unsigned before = f->answer.count;

	redis_user_subscription_set(f->pool, 1, fence, SLICE("u"), &kept, HOUR_MS, 9, on_count,
				    &f->answer);
	finish(f, before);
	return f->answer.code;
}

static enum redis_result forget_with(struct fixture *f, struct redis_fence fence)
{
	unsigned before = f->answer.count;

	redis_user_subscription_remove(f->pool, 1, fence, SLICE("u"), SLICE(""), on_count,
				       &f->answer);
	finish(f, before);
	return f->answer.code;
}

static enum redis_result raise_to(struct fixture *f, uint64_t epoch)
{
	unsigned before = f->answer.count;

	redis_role_raise(f->pool, epoch, on_count, &f->answer);
	finish(f, before);
	return f->answer.code;
}

static const char *kept(struct fixture *f)
{
	return text_of(f, "HGET keepsock.run role");
}

static void test_who_has_no_role_is_not_fenced(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(publish_with(f, 0), REDIS_RESULT_OK);
	assert_string_equal(kept(f), "");
	assert_int_equal(publish_with(f, 5), REDIS_RESULT_OK);
	assert_int_equal(publish_with(f, 0), REDIS_RESULT_OK);
	assert_int_equal(subscribe_with(f, (struct redis_fence){0}), REDIS_RESULT_OK);
	assert_string_equal(kept(f), "5");
}

static void test_the_first_script_raises(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(publish_with(f, 3), REDIS_RESULT_OK);
	assert_string_equal(kept(f), "3");
	assert_int_equal(publish_with(f, 3), REDIS_RESULT_OK);
	assert_int_equal(subscribe_with(f, (struct redis_fence){.epoch = 4}), REDIS_RESULT_OK);
	assert_string_equal(kept(f), "4");
}

static void test_an_older_one_is_refused_and_does_nothing(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(publish_with(f, 9), REDIS_RESULT_OK);
	assert_int_equal(publish_with(f, 8), REDIS_RESULT_FENCED);
	assert_int_equal(subscribe_with(f, (struct redis_fence){.epoch = 8}), REDIS_RESULT_FENCED);
	/* As numbers, not as text. */
	assert_int_equal(publish_with(f, 10), REDIS_RESULT_OK);
	assert_int_equal(publish_with(f, 9), REDIS_RESULT_FENCED);
	assert_string_equal(kept(f), "10");
	assert_int_equal(integer_of(f, "XLEN keepsock.stream.news"), 2);
	assert_string_equal(text_of(f, "GET keepsock.sequence"), "2");
	assert_int_equal(integer_of(f, "EXISTS keepsock.presence.news"), 0);
}

/* What is kept is not taken away, and nothing is added to it. */
static void test_an_older_one_removes_nothing(void **state)
{
	const struct redis_fence newer = {.epoch = 9}, older = {.epoch = 8};
	const struct redis_fence closed = {.closed = "a standby"};
	struct fixture *f = *state;

	assert_int_equal(publish_with(f, 9), REDIS_RESULT_OK);
	assert_int_equal(keep_with(f, newer), REDIS_RESULT_OK);
	assert_int_equal(remove_with(f, older), REDIS_RESULT_FENCED);
	assert_int_equal(forget_with(f, older), REDIS_RESULT_FENCED);
	assert_int_equal(remove_with(f, closed), REDIS_RESULT_FENCED);
	assert_int_equal(forget_with(f, closed), REDIS_RESULT_FENCED);
	assert_int_equal(integer_of(f, "XLEN keepsock.stream.news"), 1);
	assert_int_equal(integer_of(f, "HLEN keepsock.user_subscriptions.u"), 1);
	redis_server_do(f->server, "DEL keepsock.user_subscriptions.u");
	assert_int_equal(keep_with(f, older), REDIS_RESULT_FENCED);
	assert_int_equal(keep_with(f, closed), REDIS_RESULT_FENCED);
	assert_int_equal(integer_of(f, "EXISTS keepsock.user_subscriptions.u"), 0);
	/* A newer one raises, like any script. */
	assert_int_equal(forget_with(f, (struct redis_fence){.epoch = 10}), REDIS_RESULT_OK);
	assert_string_equal(kept(f), "10");
	assert_int_equal(remove_with(f, newer), REDIS_RESULT_FENCED);
	assert_int_equal(remove_with(f, (struct redis_fence){.epoch = 11}), REDIS_RESULT_OK);
	assert_string_equal(kept(f), "11");
	assert_int_equal(integer_of(f, "EXISTS keepsock.stream.news"), 0);
}

static void test_a_client_that_repeats_is_refused_too(void **state)
{
	struct fixture *f = *state;
	struct redis_publish message = message_for(f, "{}", &news, 1);

	message.client = SLICE("c1");
	message.number = 1;
	message.done_key = SLICE(DONE_KEY);
	message.fence.epoch = 1;
	send_publish(f, &message);
	assert_int_equal(f->answer.code, REDIS_RESULT_OK);
	assert_int_equal(raise_to(f, 2), REDIS_RESULT_OK);
	send_publish(f, &message);
	assert_int_equal(f->answer.code, REDIS_RESULT_FENCED);
}

static void test_who_is_no_primary_does_not_even_ask(void **state)
{
	struct fixture *f = *state;
	struct redis_publish message = message_for(f, "{}", &news, 1);
	const struct redis_fence closed = {.closed = "a standby"};

	message.fence = closed;
	send_publish(f, &message);
	assert_int_equal(f->answer.code, REDIS_RESULT_FENCED);
	assert_int_equal(subscribe_with(f, closed), REDIS_RESULT_FENCED);
	assert_int_equal(count_keys(f, "keepsock.*news*"), 0);
}

static void test_raising(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(raise_to(f, 0), REDIS_RESULT_OK);
	assert_int_equal(f->answer.number, 0);
	assert_int_equal(raise_to(f, 7), REDIS_RESULT_OK);
	assert_int_equal(f->answer.number, 7);
	assert_int_equal(raise_to(f, 7), REDIS_RESULT_OK);
	assert_int_equal(raise_to(f, 6), REDIS_RESULT_FENCED);
	assert_int_equal(publish_with(f, 6), REDIS_RESULT_FENCED);
	assert_int_equal(raise_to(f, 0), REDIS_RESULT_OK);
	assert_int_equal(f->answer.number, 7);
	assert_int_equal(raise_to(f, REDIS_ROLE_EPOCH_MAX), REDIS_RESULT_OK);
	assert_string_equal(kept(f), "9007199254740991");
	assert_int_equal(raise_to(f, REDIS_ROLE_EPOCH_MAX - 1), REDIS_RESULT_FENCED);
}

/* Nobody publishes yet; the epoch is kept all the same. */
static void test_raising_needs_no_settled_run(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(publish_with(f, 1), REDIS_RESULT_UNAVAILABLE);
	assert_int_equal(raise_to(f, 2), REDIS_RESULT_OK);
	settle(f);
	assert_int_equal(publish_with(f, 1), REDIS_RESULT_FENCED);
	assert_int_equal(publish_with(f, 2), REDIS_RESULT_OK);
}

static void on_continuity(void *ctx, const struct redis_continuity_result *result)
{
	start_answer(ctx, &result->outcome);
}

/* The primary's word at the start of a run, before anybody can publish in it. */
static void test_a_report_raises(void **state)
{
	struct fixture *f = *state;
	struct redis_continuity report = {.worker = SLICE(WORKER), .role_epoch = 6};

	for (int i = 0; i < 2; i++) {
		unsigned before = f->answer.count;

		redis_continuity(f->pool, 1, &report, on_continuity, &f->answer);
		finish(f, before);
		assert_int_equal(f->answer.code, REDIS_RESULT_OK);
		assert_string_equal(kept(f), "6");
		report.role_epoch = 5;
	}
	assert_int_equal(publish_with(f, 5), REDIS_RESULT_FENCED);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_who_has_no_role_is_not_fenced),
		TEST(test_the_first_script_raises),
		TEST(test_an_older_one_is_refused_and_does_nothing),
		TEST(test_an_older_one_removes_nothing),
		TEST(test_a_client_that_repeats_is_refused_too),
		TEST(test_who_is_no_primary_does_not_even_ask),
		TEST(test_raising),
		cmocka_unit_test_setup_teardown(test_raising_needs_no_settled_run, setup_alone,
						teardown),
		cmocka_unit_test_setup_teardown(test_a_report_raises, setup_alone, teardown),
	};

	quiet_log();
	return cmocka_run_group_tests(tests, NULL, NULL);
}

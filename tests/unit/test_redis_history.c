/* SPDX-License-Identifier: ISC */
/*
 * What a subscribe and a history request read, through a real redis-server.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "redis_fixture.h"

#define ALL UINT64_MAX

/* What clients see of a channel's letters; static. */
static const char *full_epoch(const struct fixture *f, const char *letters)
{
	static char epoch[REDIS_EPOCH_MAX + 1];

	snprintf(epoch, sizeof(epoch), "%s-%s", letters, f->generation);
	return epoch;
}

static void send_subscribe(struct fixture *f, const struct redis_subscribe *subscribe)
{
	unsigned before = f->answer.count;

	redis_subscribe_read(f->pool, 1, subscribe, on_subscribe, &f->answer);
	finish(f, before);
	assert_int_equal(f->answer.code, REDIS_RESULT_OK);
}

static void recover(struct fixture *f, uint64_t since, const char *since_epoch, uint32_t limit)
{
	struct redis_subscribe subscribe = {.channel = news.channel,
					    .history = true,
					    .epoch = "ZZZZZZZZ",
					    .meta_ttl_ms = 24 * HOUR_MS,
					    .recover = true,
					    .since_offset = since,
					    .since_epoch = slice_str(since_epoch),
					    .limit = limit};

	send_subscribe(f, &subscribe);
}

/* Offsets from first to last, rising or falling. */
static void assert_offsets(const struct fixture *f, uint64_t first, uint64_t last)
{
	size_t n = (first <= last ? last - first : first - last) + 1;

	assert_int_equal(f->answer.n, n);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(f->answer.offsets[i], first <= last ? first + i : first - i);
}

static void test_subscribe_plain(void **state)
{
	struct fixture *f = *state;
	struct redis_subscribe subscribe = {.channel = plain.channel};

	send_subscribe(f, &subscribe);
	assert_int_equal(f->answer.sequence, 0);
	assert_string_equal(f->answer.epoch, "");
	assert_int_equal(f->answer.top, 0);
	assert_false(f->answer.joined);
	assert_int_equal(count_keys(f, "keepsock.*plain*"), 0);
	publish(f, "{}", &plain);
	publish(f, "{}", &plain);
	send_subscribe(f, &subscribe);
	assert_int_equal(f->answer.sequence, 2);
}

static void test_subscribe_makes_the_epoch(void **state)
{
	struct fixture *f = *state;
	struct redis_subscribe subscribe = {.channel = news.channel,
					    .history = true,
					    .epoch = "AAAAAAAA",
					    .meta_ttl_ms = HOUR_MS};

	send_subscribe(f, &subscribe);
	assert_string_equal(f->answer.epoch, full_epoch(f, "AAAAAAAA"));
	assert_int_equal(f->answer.top, 0);
	assert_in_range(integer_of(f, "PTTL keepsock.meta.news"), 1, HOUR_MS);
	subscribe.epoch = "BBBBBBBB";
	subscribe.meta_ttl_ms = 24 * HOUR_MS;
	send_subscribe(f, &subscribe);
	assert_string_equal(f->answer.epoch, full_epoch(f, "AAAAAAAA"));
	assert_in_range(integer_of(f, "PTTL keepsock.meta.news"), HOUR_MS + 1, 24 * HOUR_MS);
	publish(f, "{}", &news);
	assert_string_equal(f->answer.epochs[0], full_epoch(f, "AAAAAAAA"));
	send_subscribe(f, &subscribe);
	assert_int_equal(f->answer.top, 1);
	assert_int_equal(f->answer.n, 0); /* it did not ask to recover */
}

static void test_recovery(void **state)
{
	struct fixture *f = *state;
	char data[16];

	for (unsigned i = 1; i <= 8; i++) {
		snprintf(data, sizeof(data), "%u,", i);
		publish(f, data, &news);
	}
	/* 4..8 are kept. The offset given is not read again. */
	recover(f, 5, f->fresh_epoch, 300);
	assert_offsets(f, 6, 8);
	assert_string_equal(buffer_cstr(&f->answer.text), "6,7,8,");
	assert_false(f->answer.truncated);
	assert_int_equal(f->answer.top, 8);
	assert_int_equal(f->answer.sequence, 8);
	assert_string_equal(f->answer.epoch, f->fresh_epoch);
	recover(f, 3, "", 300);
	assert_offsets(f, 4, 8);
	/* Exactly as many as the limit are not truncated, one more is. */
	recover(f, 5, "", 3);
	assert_offsets(f, 6, 8);
	assert_false(f->answer.truncated);
	recover(f, 4, "", 3);
	assert_offsets(f, 5, 7);
	assert_true(f->answer.truncated);
	recover(f, 4, "", 0);
	assert_int_equal(f->answer.n, 0);
	assert_true(f->answer.truncated);
	/* Nothing missed; a position that never was; the highest there is. */
	recover(f, 8, "", 300);
	assert_int_equal(f->answer.n, 0);
	assert_false(f->answer.truncated);
	recover(f, 1000, "", 300);
	assert_int_equal(f->answer.n, 0);
	recover(f, UINT64_MAX - 1, "", 300);
	assert_int_equal(f->answer.n, 0);
	recover(f, UINT64_MAX, "", 300);
	assert_int_equal(f->answer.n, 0);
	/* Too old: what is left starts later, which the reader sees. */
	recover(f, 0, "", UINT32_MAX);
	assert_offsets(f, 4, 8);
	/* Another epoch: nothing is read, the real one is told. */
	recover(f, 5, "OtherOne", 300);
	assert_int_equal(f->answer.n, 0);
	assert_int_equal(f->answer.top, 8);
	assert_string_equal(f->answer.epoch, f->fresh_epoch);
}

static void test_recovery_after_the_stream_expired(void **state)
{
	struct fixture *f = *state;

	publish(f, "{}", &news);
	publish(f, "{}", &news);
	redis_server_do(f->server, "PEXPIRE keepsock.stream.news 0");
	recover(f, 1, "", 300);
	assert_int_equal(f->answer.n, 0);
	assert_int_equal(f->answer.top, 2);
	recover(f, 2, f->fresh_epoch, 300);
	assert_int_equal(f->answer.top, 2);
}

static void test_foreign_stream_entry(void **state)
{
	struct fixture *f = *state;
	struct redis_subscribe subscribe = {.channel = news.channel,
					    .history = true,
					    .epoch = f->fresh_letters,
					    .recover = true,
					    .limit = 300};
	unsigned before;

	publish(f, "{}", &news);
	redis_server_do(f->server, "XADD keepsock.stream.news 2-0 d nonsense");
	before = f->answer.count;
	redis_subscribe_read(f->pool, 1, &subscribe, on_subscribe, &f->answer);
	finish(f, before);
	assert_int_equal(f->answer.code, REDIS_RESULT_ERROR);
	assert_int_equal(f->answer.n, 0);
}

/* -- history ------------------------------------------------------------- */

static void history(struct fixture *f, int64_t limit, bool reverse, uint64_t since,
		    const char *since_epoch)
{
	struct redis_history ask = {.channel = news.channel,
				    .epoch = "ZZZZZZZZ",
				    .meta_ttl_ms = 24 * HOUR_MS,
				    .limit = limit,
				    .reverse = reverse,
				    .has_since = since != ALL || since_epoch[0],
				    .since_offset = since,
				    .since_epoch = slice_str(since_epoch)};
	unsigned before = f->answer.count;

	redis_history(f->pool, 1, &ask, on_history, &f->answer);
	finish(f, before);
	assert_int_equal(f->answer.code, REDIS_RESULT_OK);
}

static void test_history_of_nothing(void **state)
{
	struct fixture *f = *state;

	history(f, -1, false, ALL, "");
	assert_int_equal(f->answer.n, 0);
	assert_int_equal(f->answer.top, 0);
	assert_string_equal(f->answer.epoch, full_epoch(f, "ZZZZZZZZ"));
	assert_in_range(integer_of(f, "PTTL keepsock.meta.news"), 1, 24 * HOUR_MS);
	publish(f, "{}", &news);
	assert_string_equal(f->answer.epochs[0], full_epoch(f, "ZZZZZZZZ"));
}

static void test_history_forms(void **state)
{
	struct fixture *f = *state;

	for (unsigned i = 1; i <= 8; i++)
		publish(f, "{}", &news);
	redis_server_do(f->server, "PEXPIRE keepsock.meta.news 100000");
	/* Only the top; the meta key lives on by being read. */
	history(f, 0, false, ALL, "");
	assert_int_equal(f->answer.n, 0);
	assert_int_equal(f->answer.top, 8);
	assert_false(f->answer.truncated);
	assert_string_equal(f->answer.epoch, f->fresh_epoch);
	assert_in_range(integer_of(f, "PTTL keepsock.meta.news"), 100001, 24 * HOUR_MS);
	/* All, some, exactly all; both ways. */
	history(f, -1, false, ALL, "");
	assert_offsets(f, 4, 8);
	history(f, -1, true, ALL, "");
	assert_offsets(f, 8, 4);
	history(f, 2, false, ALL, "");
	assert_offsets(f, 4, 5);
	assert_true(f->answer.truncated);
	history(f, 2, true, ALL, "");
	assert_offsets(f, 8, 7);
	assert_true(f->answer.truncated);
	history(f, 5, true, ALL, "");
	assert_offsets(f, 8, 4);
	assert_false(f->answer.truncated);
	history(f, INT64_MAX, false, ALL, "");
	assert_offsets(f, 4, 8);
	assert_false(f->answer.truncated);
	/* Since an offset: above it, or below it backwards. */
	history(f, -1, false, 6, "");
	assert_offsets(f, 7, 8);
	history(f, 1, false, 6, f->fresh_epoch);
	assert_offsets(f, 7, 7);
	assert_true(f->answer.truncated);
	history(f, -1, true, 6, f->fresh_epoch);
	assert_offsets(f, 5, 4);
	history(f, -1, false, 8, "");
	assert_int_equal(f->answer.n, 0);
	history(f, -1, true, 4, "");
	assert_int_equal(f->answer.n, 0);
	history(f, -1, true, 0, f->fresh_epoch);
	assert_int_equal(f->answer.n, 0);
	history(f, -1, false, UINT64_MAX, f->fresh_epoch);
	assert_int_equal(f->answer.n, 0);
	history(f, -1, true, UINT64_MAX, f->fresh_epoch);
	assert_offsets(f, 8, 4);
	/* Another epoch: the caller sees it, nothing is read. */
	history(f, -1, false, 6, "OtherOne");
	assert_int_equal(f->answer.n, 0);
	assert_string_equal(f->answer.epoch, f->fresh_epoch);
}

static void read_latest(struct fixture *f, uint64_t since, const char *since_epoch)
{
	struct redis_subscribe subscribe = {.channel = news.channel,
					    .history = true,
					    .epoch = "ZZZZZZZZ",
					    .latest = true,
					    .since_offset = since,
					    .since_epoch = slice_str(since_epoch)};

	send_subscribe(f, &subscribe);
}

/* Cache recovery: whatever the reader knows, it gets the newest one. */
static void test_latest(void **state)
{
	struct fixture *f = *state;

	read_latest(f, 0, "");
	assert_int_equal(f->answer.n, 0);
	assert_int_equal(f->answer.top, 0);
	choose_letters(f, "ZZZZZZZZ");
	for (unsigned i = 1; i <= 7; i++)
		publish(f, i == 7 ? "{\"newest\":1}" : "{}", &news);
	read_latest(f, 2, "Another");
	assert_offsets(f, 7, 7);
	assert_false(f->answer.truncated);
	assert_int_equal(f->answer.top, 7);
	assert_string_equal(f->answer.epoch, f->fresh_epoch);
	assert_string_equal(buffer_cstr(&f->answer.text), "{\"newest\":1}");
	redis_server_do(f->server, "PEXPIRE keepsock.stream.news 0");
	read_latest(f, 2, "");
	assert_int_equal(f->answer.n, 0);
	assert_int_equal(f->answer.top, 7);
}

static void remove_history(struct fixture *f)
{
	unsigned before = f->answer.count;

	redis_history_remove(f->pool, 1, (struct redis_fence){0}, news.channel, on_count,
			     &f->answer);
	finish(f, before);
	assert_int_equal(f->answer.code, REDIS_RESULT_OK);
}

static void test_history_remove(void **state)
{
	struct fixture *f = *state;

	remove_history(f);
	assert_int_equal(f->answer.number, 0);
	assert_int_equal(count_keys(f, "keepsock.*news"), 0);
	publish(f, "{}", &news);
	publish(f, "{}", &news);
	remove_history(f);
	assert_int_equal(f->answer.number, 1);
	/* Who missed something sees that it is gone; epoch and offset go on. */
	recover(f, 1, f->fresh_epoch, 300);
	assert_int_equal(f->answer.n, 0);
	assert_int_equal(f->answer.top, 2);
	publish(f, "{}", &news);
	assert_int_equal(f->answer.positions[0].offset, 3);
	assert_string_equal(f->answer.epochs[0], f->fresh_epoch);
	history(f, -1, false, ALL, "");
	assert_offsets(f, 3, 3);
}

/* The same letters under another generation are another epoch. */
static void test_another_generation(void **state)
{
	struct fixture *f = *state;
	char before[REDIS_EPOCH_MAX + 1];

	publish(f, "{}", &news);
	publish(f, "{}", &news);
	snprintf(before, sizeof(before), "%s", f->fresh_epoch);
	redis_server_do(f->server, "HSET keepsock.run %s Zyxwvu", f->run);
	snprintf(f->generation, sizeof(f->generation), "Zyxwvu");
	choose_letters(f, f->fresh_letters);
	recover(f, 1, before, 300);
	assert_int_equal(f->answer.n, 0);
	assert_string_equal(f->answer.epoch, f->fresh_epoch);
	recover(f, 1, f->fresh_epoch, 300);
	assert_offsets(f, 2, 2);
	history(f, -1, false, 1, before);
	assert_int_equal(f->answer.n, 0);
	history(f, -1, false, 1, f->fresh_epoch);
	assert_offsets(f, 2, 2);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_subscribe_plain),
		TEST(test_subscribe_makes_the_epoch),
		TEST(test_recovery),
		TEST(test_recovery_after_the_stream_expired),
		TEST(test_foreign_stream_entry),
		TEST(test_history_of_nothing),
		TEST(test_history_forms),
		TEST(test_latest),
		TEST(test_history_remove),
		TEST(test_another_generation),
	};

	quiet_log();
	return cmocka_run_group_tests_name("redis_history", tests, NULL, NULL);
}

/* SPDX-License-Identifier: ISC */
/*
 * Publishing through a real redis-server: numbers, order, the memory of what was
 * done, idempotency keys and versions.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "redis_fixture.h"

static void publish_as(struct fixture *f, const char *client, uint64_t number,
		       const struct redis_publish_channel *channels, size_t n)
{
	struct redis_publish message = message_for(f, "1", channels, n);

	message.client = slice_str(client);
	message.number = number;
	message.done_key = SLICE(DONE_KEY);
	send_publish(f, &message);
}

static void test_publish_without_history(void **state)
{
	struct fixture *f = *state;
	redisContext *subscriber = subscribe_all(f);
	struct redis_envelope envelope;
	struct slice name;
	redisReply *reply;

	publish(f, "{\"a\":1}", &plain);
	assert_int_equal(f->answer.n, 1);
	assert_int_equal(f->answer.positions[0].sequence, 1);
	assert_int_equal(f->answer.positions[0].offset, 0);
	assert_string_equal(f->answer.epochs[0], "");
	assert_false(f->answer.duplicate);
	reply = next_message(subscriber, &name, &envelope);
	assert_true(slice_is(name, "keepsock.channel.plain"));
	assert_int_equal(envelope.kind, REDIS_MESSAGE_PUBLICATION);
	assert_int_equal(envelope.sequence, 1);
	assert_int_equal(envelope.offset, 0);
	assert_int_equal(envelope.epoch.len, 0);
	assert_true(slice_is(envelope.body.data, "{\"a\":1}"));
	freeReplyObject(reply);
	redisFree(subscriber);
	/* Only the counter is left of it. */
	assert_int_equal(count_keys(f, "keepsock.*plain*"), 0);
	assert_string_equal(text_of(f, "GET keepsock.sequence"), "1");
}

static void test_publish_with_history(void **state)
{
	struct fixture *f = *state;
	redisContext *subscriber = subscribe_all(f);
	struct redis_envelope envelope;
	struct slice name;
	redisReply *reply;

	for (unsigned i = 1; i <= 8; i++) {
		publish(f, "{}", &news);
		assert_int_equal(f->answer.positions[0].sequence, i);
		assert_int_equal(f->answer.positions[0].offset, i);
		assert_string_equal(f->answer.epochs[0], f->fresh_epoch);
		reply = next_message(subscriber, &name, &envelope);
		assert_int_equal(envelope.sequence, i);
		assert_int_equal(envelope.offset, i);
		assert_true(slice_is(envelope.epoch, f->fresh_epoch));
		freeReplyObject(reply);
	}
	redisFree(subscriber);
	/* Exactly history_size are kept, each as its body; both keys expire. */
	assert_int_equal(integer_of(f, "XLEN keepsock.stream.news"), 5);
	reply = redis_server_command(f->server, "XRANGE keepsock.stream.news - + COUNT 1");
	assert_string_equal(reply->element[0]->element[0]->str, "4-0");
	assert_string_equal(reply->element[0]->element[1]->element[1]->str, "2 0 0\n{}");
	freeReplyObject(reply);
	assert_in_range(integer_of(f, "PTTL keepsock.stream.news"), 1, HOUR_MS);
	assert_in_range(integer_of(f, "PTTL keepsock.meta.news"), HOUR_MS + 1, 24 * HOUR_MS);
}

static void test_meta_without_expiry(void **state)
{
	struct fixture *f = *state;
	struct redis_publish_channel channel = news;

	publish(f, "{}", &news);
	channel.meta_ttl_ms = 0;
	publish(f, "{}", &channel);
	assert_int_equal(integer_of(f, "PTTL keepsock.meta.news"), -1);
	/* Either of size and TTL being 0 means no history. */
	channel.history_ttl_ms = 0;
	publish(f, "{}", &channel);
	assert_int_equal(f->answer.positions[0].offset, 0);
	channel = news;
	channel.history_size = 0;
	publish(f, "{}", &channel);
	assert_int_equal(f->answer.positions[0].offset, 0);
}

static void test_epoch_lives_with_meta(void **state)
{
	struct fixture *f = *state;
	char first[REDIS_EPOCH_MAX + 1];

	memcpy(first, f->fresh_epoch, sizeof(first));
	publish(f, "{}", &news);
	choose_letters(f, "Otherone");
	publish(f, "{}", &news);
	assert_string_equal(f->answer.epochs[0], first);
	/* The stream gone: same epoch, offsets go on. */
	redis_server_do(f->server, "DEL keepsock.stream.news");
	publish(f, "{}", &news);
	assert_string_equal(f->answer.epochs[0], first);
	assert_int_equal(f->answer.positions[0].offset, 3);
	/* The meta key gone: a new epoch from 1, and nothing of the old stream in it. */
	redis_server_do(f->server, "DEL keepsock.meta.news");
	publish(f, "{}", &news);
	assert_string_equal(f->answer.epochs[0], f->fresh_epoch);
	assert_int_equal(f->answer.positions[0].offset, 1);
	assert_int_equal(integer_of(f, "XLEN keepsock.stream.news"), 1);
}

static void test_kinds(void **state)
{
	struct fixture *f = *state;
	redisContext *subscriber = subscribe_all(f);
	struct redis_body body = {.info = SLICE("{\"user\":\"u\"}")};
	struct redis_envelope envelope;
	struct redis_publish message;
	struct slice name;
	redisReply *reply;

	message = message_for(f, "", &news, 1);
	buffer_reset(&f->body);
	redis_envelope_append_body(&f->body, &body);
	message.body = buffer_slice(&f->body);
	message.kind = REDIS_MESSAGE_JOIN;
	send_publish(f, &message);
	assert_int_equal(f->answer.code, REDIS_RESULT_OK);
	assert_int_equal(f->answer.positions[0].sequence, 1);
	assert_int_equal(f->answer.positions[0].offset, 0); /* joins are no history */
	reply = next_message(subscriber, &name, &envelope);
	assert_int_equal(envelope.kind, REDIS_MESSAGE_JOIN);
	assert_true(slice_is(envelope.body.info, "{\"user\":\"u\"}"));
	freeReplyObject(reply);
	redisFree(subscriber);
}

static void test_control(void **state)
{
	struct fixture *f = *state;
	redisContext *subscriber = subscribe_all(f);
	struct redis_envelope envelope;
	struct slice name;
	redisReply *reply;
	unsigned before = f->answer.count;

	redis_control_publish(f->pool, 0, SLICE(REDIS_CONTROL_CHANNEL), SLICE("{\"ask\":1}"),
			      on_count, &f->answer);
	finish(f, before);
	assert_int_equal(f->answer.code, REDIS_RESULT_OK);
	assert_int_equal(f->answer.number, 1);
	reply = next_message(subscriber, &name, &envelope);
	assert_true(slice_is(name, REDIS_CONTROL_CHANNEL));
	assert_int_equal(envelope.kind, REDIS_MESSAGE_CONTROL);
	assert_int_equal(envelope.sequence, 1);
	assert_true(slice_is(envelope.body.data, "{\"ask\":1}"));
	freeReplyObject(reply);
	redisFree(subscriber);
}

static void test_bytes_pass_unchanged(void **state)
{
	static const char bytes[] = "\0\r\n$5\r\n\xff\xfe 1 2 3\n%s\\\"";
	struct fixture *f = *state;
	redisContext *subscriber = subscribe_all(f);
	struct redis_body body = {.data = {bytes, sizeof(bytes) - 1}, .tags = SLICE("{}")};
	struct redis_publish_channel channel = news;
	struct redis_envelope envelope;
	struct redis_publish message;
	struct slice name;
	redisReply *reply;
	unsigned before;

	channel.channel = SLICE("a b\n*[?]%s");
	message = message_for(f, "", &channel, 1);
	buffer_reset(&f->body);
	redis_envelope_append_body(&f->body, &body);
	message.body = buffer_slice(&f->body);
	send_publish(f, &message);
	assert_int_equal(f->answer.code, REDIS_RESULT_OK);
	reply = next_message(subscriber, &name, &envelope);
	assert_true(slice_is(name, "keepsock.channel.a b\n*[?]%s"));
	assert_true(slice_equal(envelope.body.data, body.data));
	assert_true(slice_equal(envelope.body.tags, body.tags));
	freeReplyObject(reply);
	redisFree(subscriber);
	before = f->answer.count;
	redis_history(f->pool, 0,
		      &(struct redis_history){
			      .channel = channel.channel, .epoch = f->fresh_letters, .limit = -1},
		      on_history, &f->answer);
	finish(f, before);
	assert_int_equal(f->answer.n, 1);
	assert_true(slice_equal(buffer_slice(&f->answer.text), body.data));
}

/* Lua's numbers print as 1e+15 when one is not careful. */
static void test_large_numbers(void **state)
{
	struct fixture *f = *state;

	publish(f, "{}", &news);
	redis_server_do(f->server, "SET keepsock.sequence 9007199254740000");
	redis_server_do(f->server, "HSET keepsock.meta.news s 1000000000000000");
	publish(f, "{}", &news);
	assert_true(f->answer.positions[0].sequence == UINT64_C(9007199254740001));
	assert_true(f->answer.positions[0].offset == UINT64_C(1000000000000001));
}

struct order {
	struct fixture *fixture;
	unsigned answers;
	bool seen[MANY + 1];
};

static void on_order(void *ctx, const struct redis_publish_result *result)
{
	struct order *order = ctx;
	uint64_t offset;

	assert_int_equal(result->outcome.code, REDIS_RESULT_OK);
	offset = result->channels[0].offset;
	assert_in_range(offset, 1, MANY);
	assert_false(order->seen[offset]);
	order->seen[offset] = true;
	order->answers++;
}

/* From both connections at once: what is heard rises by exactly one, both numbers. */
static void test_order_over_two_connections(void **state)
{
	struct fixture *f = *state;
	struct order *order = xcalloc(1, sizeof(*order));
	struct redis_publish message = message_for(f, "{}", &news, 1);
	redisContext *subscriber = subscribe_all(f);
	struct redis_pool_stats stats;

	WAIT_FOR(f->base, (redis_pool_stats(f->pool, &stats), stats.connected == 2));
	for (unsigned i = 0; i < MANY; i++)
		redis_publish(f->pool, i, &message, on_order, order);
	WAIT_FOR(f->base, order->answers == MANY);
	for (unsigned i = 1; i <= MANY; i++) {
		struct redis_envelope envelope;
		struct slice name;
		redisReply *reply = next_message(subscriber, &name, &envelope);

		assert_int_equal(envelope.sequence, i);
		assert_int_equal(envelope.offset, i);
		freeReplyObject(reply);
	}
	redisFree(subscriber);
	free(order);
}

static void on_next_offset(void *ctx, const struct redis_publish_result *result)
{
	unsigned *answers = ctx;

	assert_int_equal(result->outcome.code, REDIS_RESULT_OK);
	assert_int_equal(result->channels[0].offset, ++*answers);
}

static void test_one_affinity_keeps_the_order_of_calls(void **state)
{
	struct fixture *f = *state;
	struct redis_publish message = message_for(f, "{}", &news, 1);
	struct redis_pool_stats stats;
	unsigned answers = 0;

	WAIT_FOR(f->base, (redis_pool_stats(f->pool, &stats), stats.connected == 2));
	for (unsigned i = 0; i < 1000; i++)
		redis_publish(f->pool, 12345, &message, on_next_offset, &answers);
	WAIT_FOR(f->base, answers == 1000);
}

static void test_numbers_survive_a_restart(void **state)
{
	struct fixture *f = *state;

	publish_as(f, "c", 1, &news, 1);
	redis_server_kill(f->server);
	WAIT_FOR(f->base, !redis_pool_available(f->pool));
	redis_server_restart(f->server);
	wait_for_connections(f);
	settle(f);
	publish_as(f, "c", 1, &news, 1);
	assert_int_equal(f->answer.code, REDIS_RESULT_OK);
	assert_true(f->answer.duplicate);
	assert_int_equal(f->answer.positions[0].offset, 1);
	publish_as(f, "c", 2, &news, 1);
	assert_int_equal(f->answer.positions[0].sequence, 3); /* the repetition took one */
	assert_int_equal(f->answer.positions[0].offset, 2);
	assert_string_equal(f->answer.epochs[0], f->fresh_epoch);
}

/* -- memory of done commands --------------------------------------------- */

static void test_command_is_done_once(void **state)
{
	struct fixture *f = *state;

	publish_as(f, "c", 9, &news, 1);
	assert_false(f->answer.duplicate);
	/* Equal: what it gave then, and nothing more happens. */
	publish(f, "{}", &news);
	publish_as(f, "c", 9, &news, 1);
	assert_int_equal(f->answer.code, REDIS_RESULT_OK);
	assert_true(f->answer.duplicate);
	assert_int_equal(f->answer.positions[0].sequence, 1);
	assert_int_equal(f->answer.positions[0].offset, 1);
	assert_string_equal(f->answer.epochs[0], f->fresh_epoch);
	assert_int_equal(integer_of(f, "XLEN keepsock.stream.news"), 2);
	/* Lower: refused. */
	publish_as(f, "c", 8, &news, 1);
	assert_int_equal(f->answer.code, REDIS_RESULT_REFUSED);
	assert_int_equal(f->answer.n, 0);
	/* 10 is above 9 though not as text; another client has numbers of its own. */
	publish_as(f, "c", 10, &news, 1);
	assert_int_equal(f->answer.code, REDIS_RESULT_OK);
	assert_false(f->answer.duplicate);
	assert_int_equal(f->answer.positions[0].offset, 3);
	publish_as(f, "c", 9, &news, 1);
	assert_int_equal(f->answer.code, REDIS_RESULT_REFUSED);
	publish_as(f, "d", 1, &news, 1);
	assert_int_equal(f->answer.positions[0].offset, 4);
	/* Neighbours that a double can't tell apart. */
	publish_as(f, "e", UINT64_MAX - 1, &news, 1);
	publish_as(f, "e", UINT64_MAX, &news, 1);
	assert_false(f->answer.duplicate);
	publish_as(f, "e", UINT64_MAX - 1, &news, 1);
	assert_int_equal(f->answer.code, REDIS_RESULT_REFUSED);
	assert_true(integer_of(f, "PTTL " DONE_KEY) > 0);
	assert_int_equal(integer_of(f, "HLEN " DONE_KEY), 3);
}

static void test_done_without_history(void **state)
{
	struct fixture *f = *state;

	publish_as(f, "c", 1, &plain, 1);
	publish_as(f, "c", 1, &plain, 1);
	assert_true(f->answer.duplicate);
	assert_int_equal(f->answer.positions[0].sequence, 1);
	assert_int_equal(f->answer.positions[0].offset, 0);
	assert_string_equal(f->answer.epochs[0], "");
}

static void test_done_remove(void **state)
{
	struct fixture *f = *state;
	struct slice clients[] = {SLICE("c"), SLICE("d"), SLICE("nobody")};
	unsigned before;

	publish_as(f, "c", 5, &plain, 1);
	publish_as(f, "d", 5, &plain, 1);
	publish_as(f, "e", 5, &plain, 1);
	before = f->answer.count;
	redis_done_remove(f->pool, 0, SLICE(DONE_KEY), clients, 3, on_count, &f->answer);
	finish(f, before);
	assert_int_equal(f->answer.number, 2);
	assert_int_equal(integer_of(f, "HLEN " DONE_KEY), 1);
	publish_as(f, "c", 1, &plain, 1);
	assert_int_equal(f->answer.code, REDIS_RESULT_OK);
	assert_false(f->answer.duplicate);
}

/* -- many channels ------------------------------------------------------- */

static void test_many_channels_in_one_step(void **state)
{
	struct fixture *f = *state;
	struct redis_publish_channel channels[] = {news, plain, news, news};
	redisContext *subscriber = subscribe_all(f);
	struct redis_envelope envelope;
	struct slice name;

	channels[2].channel = SLICE("other");
	publish(f, "{}", &channels[2]); /* so that its offset differs */
	freeReplyObject(next_message(subscriber, &name, &envelope));
	publish_as(f, "c", 1, channels, 4);
	assert_int_equal(f->answer.code, REDIS_RESULT_OK);
	for (unsigned repeat = 0; repeat < 2; repeat++) {
		static const uint64_t offsets[] = {1, 0, 2, 2};

		assert_int_equal(f->answer.n, 4);
		assert_int_equal(f->answer.duplicate, repeat);
		for (unsigned i = 0; i < 4; i++) {
			assert_int_equal(f->answer.positions[i].sequence, i + 2);
			assert_int_equal(f->answer.positions[i].offset, offsets[i]);
			assert_string_equal(f->answer.epochs[i], i == 1 ? "" : f->fresh_epoch);
		}
		publish_as(f, "c", 1, channels, 4);
	}
	for (unsigned i = 0; i < 4; i++) {
		redisReply *reply = next_message(subscriber, &name, &envelope);
		struct slice channel = {0};

		assert_true(redis_key_parse_channel(name, &channel));
		assert_true(slice_equal(channel, channels[i].channel));
		assert_int_equal(envelope.sequence, i + 2);
		assert_int_equal(envelope.offset, f->answer.positions[i].offset);
		freeReplyObject(reply);
	}
	redisFree(subscriber);
}

static void test_batches_are_bounded(void **state)
{
	struct fixture *f = *state;
	struct redis_publish_channel *channels = xcalloc(REDIS_BATCH_MAX + 1, sizeof(*channels));
	struct redis_publish message;
	unsigned before;

	for (size_t i = 0; i <= REDIS_BATCH_MAX; i++)
		channels[i] = plain;
	message = message_for(f, "{}", channels, REDIS_BATCH_MAX);
	send_publish(f, &message);
	assert_int_equal(f->answer.code, REDIS_RESULT_OK);
	assert_int_equal(f->answer.n, REDIS_BATCH_MAX);
	message.n_channels = REDIS_BATCH_MAX + 1;
	send_publish(f, &message);
	assert_int_equal(f->answer.code, REDIS_RESULT_ERROR);
	message.n_channels = 0;
	send_publish(f, &message);
	assert_int_equal(f->answer.code, REDIS_RESULT_ERROR);
	message = message_for(f, "{}", channels, 1);
	message.client = SLICE("c");
	send_publish(f, &message);
	assert_int_equal(f->answer.code, REDIS_RESULT_ERROR); /* no done key */
	before = f->answer.count;
	redis_presence_remove(f->pool, 0, NULL, 0, on_count, &f->answer);
	finish(f, before);
	assert_int_equal(f->answer.code, REDIS_RESULT_ERROR);
	free(channels);
}

/* -- idempotency keys ---------------------------------------------------- */

static void publish_keyed(struct fixture *f, const char *key,
			  const struct redis_publish_channel *channels, size_t n)
{
	struct redis_publish message = message_for(f, "1", channels, n);

	message.idempotency_key = slice_str(key);
	message.idempotency_ttl_ms = HOUR_MS;
	send_publish(f, &message);
	assert_int_equal(f->answer.code, REDIS_RESULT_OK);
}

static void test_idempotency_key(void **state)
{
	struct fixture *f = *state;

	publish(f, "{}", &news);
	publish_keyed(f, "k", &news, 1);
	assert_false(f->answer.positions[0].suppressed);
	assert_int_equal(f->answer.positions[0].sequence, 2);
	assert_int_equal(f->answer.positions[0].offset, 2);
	assert_in_range(integer_of(f, "PTTL keepsock.result.4.news.k"), 1, HOUR_MS);
	publish(f, "{}", &news);
	publish_keyed(f, "k", &news, 1);
	assert_true(f->answer.positions[0].suppressed);
	assert_false(f->answer.duplicate);
	assert_int_equal(f->answer.positions[0].sequence, 0);
	assert_int_equal(f->answer.positions[0].offset, 2);
	assert_string_equal(f->answer.epochs[0], f->fresh_epoch);
	assert_int_equal(integer_of(f, "XLEN keepsock.stream.news"), 3);
	/* Another key, and the same one after its time. */
	publish_keyed(f, "l", &news, 1);
	assert_int_equal(f->answer.positions[0].offset, 4);
	redis_server_do(f->server, "PEXPIRE keepsock.result.4.news.k 0");
	publish_keyed(f, "k", &news, 1);
	assert_int_equal(f->answer.positions[0].offset, 5);
	/* A channel without history remembers, too, that it was published. */
	publish_keyed(f, "k", &plain, 1);
	assert_false(f->answer.positions[0].suppressed);
	publish_keyed(f, "k", &plain, 1);
	assert_true(f->answer.positions[0].suppressed);
	assert_int_equal(f->answer.positions[0].offset, 0);
	assert_string_equal(f->answer.epochs[0], "");
}

/* What is suppressed is not heard, and each channel of a broadcast decides for itself. */
static void test_idempotency_key_of_many_channels(void **state)
{
	struct fixture *f = *state;
	redisContext *subscriber = subscribe_all(f);
	struct redis_publish_channel channels[] = {news, plain, news};
	struct redis_publish message;
	struct redis_envelope envelope;
	struct slice name;
	static const char *const heard[] = {"keepsock.channel.plain", "keepsock.channel.news",
					    "keepsock.channel.other", "keepsock.channel.plain"};

	channels[2].channel = SLICE("other");
	publish_keyed(f, "k", &plain, 1);
	message = message_for(f, "1", channels, 3);
	message.idempotency_key = SLICE("k");
	message.idempotency_ttl_ms = HOUR_MS;
	message.client = SLICE("c");
	message.number = 1;
	message.done_key = SLICE(DONE_KEY);
	for (unsigned repeat = 0; repeat < 2; repeat++) {
		send_publish(f, &message);
		assert_int_equal(f->answer.duplicate, repeat);
		assert_false(f->answer.positions[0].suppressed);
		assert_int_equal(f->answer.positions[0].offset, 1);
		assert_true(f->answer.positions[1].suppressed);
		assert_false(f->answer.positions[2].suppressed);
		assert_int_equal(f->answer.positions[2].offset, 1);
	}
	/* Another command under that key: every channel has it. */
	message.number = 2;
	send_publish(f, &message);
	assert_false(f->answer.duplicate);
	for (unsigned i = 0; i < 3; i++) {
		assert_true(f->answer.positions[i].suppressed);
		assert_int_equal(f->answer.positions[i].offset, i != 1);
	}
	publish(f, "2", &plain);
	for (unsigned i = 0; i < 4; i++) {
		redisReply *reply = next_message(subscriber, &name, &envelope);

		assert_true(slice_equal(name, slice_str(heard[i])));
		freeReplyObject(reply);
	}
	redisFree(subscriber);
}

/* -- versions ------------------------------------------------------------ */

static void publish_version(struct fixture *f, uint64_t version, const char *version_epoch,
			    const struct redis_publish_channel *channel)
{
	struct redis_publish message = message_for(f, "1", channel, 1);

	message.version = version;
	message.version_epoch = slice_str(version_epoch);
	send_publish(f, &message);
	assert_int_equal(f->answer.code, REDIS_RESULT_OK);
}

static void assert_version(struct fixture *f, uint64_t version, const char *version_epoch,
			   bool suppressed, uint64_t offset)
{
	publish_version(f, version, version_epoch, &news);
	assert_int_equal(f->answer.positions[0].suppressed, suppressed);
	assert_int_equal(f->answer.positions[0].sequence == 0, suppressed);
	assert_int_equal(f->answer.positions[0].offset, offset);
	assert_string_equal(f->answer.epochs[0], f->fresh_epoch);
}

static void test_versions(void **state)
{
	struct fixture *f = *state;
	struct redis_publish_channel channel = news;

	assert_version(f, 9, "", false, 1);
	assert_version(f, 9, "", true, 1);
	assert_version(f, 8, "", true, 1);
	assert_version(f, 10, "", false, 2); /* not as text */
	assert_version(f, 9, "", true, 2);
	/* Without a version nothing is compared, nor forgotten. */
	publish(f, "{}", &news);
	assert_version(f, 10, "", true, 3);
	/* Another epoch of versions begins anew; none compares with any. */
	assert_version(f, 1, "x", false, 4);
	assert_version(f, 1, "x", true, 4);
	assert_version(f, 1, "", true, 4);
	assert_version(f, 1, "y", false, 5);
	assert_version(f, UINT64_MAX - 1, "y", false, 6);
	assert_version(f, UINT64_MAX, "y", false, 7);
	assert_version(f, UINT64_MAX - 1, "y", true, 7);
	/* Without history there is nothing to compare with. */
	channel.history_size = 0;
	publish_version(f, 1, "", &channel);
	assert_false(f->answer.positions[0].suppressed);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_publish_without_history),
		TEST(test_publish_with_history),
		TEST(test_meta_without_expiry),
		TEST(test_epoch_lives_with_meta),
		TEST(test_kinds),
		TEST(test_control),
		TEST(test_bytes_pass_unchanged),
		TEST(test_large_numbers),
		TEST(test_order_over_two_connections),
		TEST(test_one_affinity_keeps_the_order_of_calls),
		TEST(test_numbers_survive_a_restart),
		TEST(test_command_is_done_once),
		TEST(test_done_without_history),
		TEST(test_done_remove),
		TEST(test_many_channels_in_one_step),
		TEST(test_batches_are_bounded),
		TEST(test_idempotency_key),
		TEST(test_idempotency_key_of_many_channels),
		TEST(test_versions),
	};

	quiet_log();
	return cmocka_run_group_tests_name("redis_publish", tests, NULL, NULL);
}

/* SPDX-License-Identifier: ISC */
/*
 * Every script against a real redis-server: numbers, order, memory of done
 * commands, recovery, history and presence. Wall clock values are made up, so
 * expiry of members needs no waiting.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "keepsock/alloc.h"
#include "keepsock/log.h"
#include "keepsock/redis_keys.h"
#include "keepsock/redis_scripts.h"
#include "redis_server.h"
#include "redis_wait.h"

#define MANY     10000
#define ALL      UINT64_MAX
#define HOUR_MS  UINT64_C(3600000)
#define NOW      UINT64_C(1700000000000)
#define DONE_KEY "keepsock.done.a.0.00c0ffee"

/* The last answer of each kind, copied out of the callback. */
struct answer {
	unsigned count; /* of answers so far */
	enum redis_result code;
	bool duplicate, truncated, joined;
	uint64_t sequence, top, number, users;
	char epoch[REDIS_EPOCH_MAX + 1];
	size_t n;
	struct redis_published positions[8];
	char epochs[8][REDIS_EPOCH_MAX + 1];
	uint64_t offsets[64];
	struct buffer text; /* of all members or bodies */
};

struct fixture {
	struct event_base *base;
	struct redis_server *server;
	struct redis_pool *pool;
	struct answer answer;
	struct buffer body;
	char fresh_epoch[REDIS_EPOCH_LENGTH + 1];
};

static int setup(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));
	struct redis_endpoint endpoint = {.host = "127.0.0.1"};
	struct redis_pool_options options = {.waiting_limit = MANY};

	f->base = event_base_new();
	f->server = redis_server_start(NULL);
	endpoint.port = redis_server_port(f->server);
	f->pool = redis_pool_create(f->base, &endpoint, &options, NULL, NULL);
	WAIT_FOR(f->base, redis_pool_available(f->pool));
	redis_epoch_generate(f->fresh_epoch);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	redis_pool_destroy(f->pool);
	event_base_free(f->base);
	redis_server_free(f->server);
	buffer_free(&f->answer.text);
	buffer_free(&f->body);
	free(f);
	return 0;
}

static void copy_epoch(char out[REDIS_EPOCH_MAX + 1], struct slice epoch)
{
	assert_true(epoch.len <= REDIS_EPOCH_MAX);
	if (epoch.len > 0)
		memcpy(out, epoch.data, epoch.len);
	out[epoch.len] = '\0';
}

static void start_answer(struct answer *a, const struct redis_outcome *outcome)
{
	a->count++;
	a->code = outcome->code;
	a->n = 0;
	buffer_reset(&a->text);
}

static void copy_publications(struct answer *a, const struct redis_publication *publications,
			      size_t n)
{
	assert_true(n <= sizeof(a->offsets) / sizeof(a->offsets[0]));
	a->n = n;
	for (size_t i = 0; i < n; i++) {
		a->offsets[i] = publications[i].offset;
		buffer_append_slice(&a->text, publications[i].body.data);
	}
}

static void on_publish(void *ctx, const struct redis_publish_result *result)
{
	struct answer *a = ctx;

	start_answer(a, &result->outcome);
	a->duplicate = result->duplicate;
	a->n = result->n_channels;
	for (size_t i = 0; i < a->n && i < 8; i++) {
		a->positions[i] = result->channels[i];
		copy_epoch(a->epochs[i], result->channels[i].epoch);
	}
}

static void on_subscribe(void *ctx, const struct redis_subscribe_result *result)
{
	struct answer *a = ctx;

	start_answer(a, &result->outcome);
	a->sequence = result->sequence;
	a->top = result->top;
	a->truncated = result->truncated;
	a->joined = result->joined;
	copy_epoch(a->epoch, result->epoch);
	copy_publications(a, result->publications, result->n_publications);
}

static void on_history(void *ctx, const struct redis_history_result *result)
{
	struct answer *a = ctx;

	start_answer(a, &result->outcome);
	a->top = result->top;
	a->truncated = result->truncated;
	copy_epoch(a->epoch, result->epoch);
	copy_publications(a, result->publications, result->n_publications);
}

static void on_count(void *ctx, const struct redis_count_result *result)
{
	struct answer *a = ctx;

	start_answer(a, &result->outcome);
	a->number = result->count;
}

static void on_presence(void *ctx, const struct redis_presence_result *result)
{
	struct answer *a = ctx;

	start_answer(a, &result->outcome);
	a->n = result->n_members;
	for (size_t i = 0; i < result->n_members; i++) {
		const struct redis_presence_member *m = &result->members[i];

		buffer_printf(&a->text, "<%.*s %.*s %.*s>", SLICE_ARG(m->client),
			      SLICE_ARG(m->user), SLICE_ARG(m->info));
	}
}

static void on_presence_stats(void *ctx, const struct redis_presence_stats_result *result)
{
	struct answer *a = ctx;

	start_answer(a, &result->outcome);
	a->number = result->n_clients;
	a->users = result->n_users;
}

/* Every start_*() sends one call, finish() waits for its answer. */
static void finish(struct fixture *f, unsigned before)
{
	WAIT_FOR(f->base, f->answer.count == before + 1);
}

static long long integer_of(struct fixture *f, const char *command)
{
	redisReply *reply = redis_server_command(f->server, command);
	long long value = reply->integer;

	assert_int_equal(reply->type, REDIS_REPLY_INTEGER);
	freeReplyObject(reply);
	return value;
}

/* -- publish ------------------------------------------------------------- */

static const struct redis_publish_channel news = {.channel = {"news", 4},
						  .history_size = 5,
						  .history_ttl_ms = HOUR_MS,
						  .meta_ttl_ms = 24 * HOUR_MS};
static const struct redis_publish_channel plain = {.channel = {"plain", 5}};

static struct redis_publish message_for(struct fixture *f, const char *data,
					const struct redis_publish_channel *channels, size_t n)
{
	struct redis_body body = {.data = slice_str(data)};

	buffer_reset(&f->body);
	redis_envelope_append_body(&f->body, &body);
	return (struct redis_publish){.kind = REDIS_MESSAGE_PUBLICATION,
				      .body = buffer_slice(&f->body),
				      .epoch = f->fresh_epoch,
				      .channels = channels,
				      .n_channels = n};
}

static void send_publish(struct fixture *f, const struct redis_publish *message)
{
	unsigned before = f->answer.count;

	redis_publish(f->pool, 1, message, on_publish, &f->answer);
	finish(f, before);
}

static void publish(struct fixture *f, const char *data,
		    const struct redis_publish_channel *channel)
{
	struct redis_publish message = message_for(f, data, channel, 1);

	send_publish(f, &message);
	assert_int_equal(f->answer.code, REDIS_RESULT_OK);
}

static void publish_as(struct fixture *f, const char *client, uint64_t number,
		       const struct redis_publish_channel *channels, size_t n)
{
	struct redis_publish message = message_for(f, "1", channels, n);

	message.client = slice_str(client);
	message.number = number;
	message.done_key = SLICE(DONE_KEY);
	send_publish(f, &message);
}

/* A blocking subscriber to everything of ours. */
static redisContext *subscribe_all(struct fixture *f)
{
	redisContext *context = redis_server_connect(f->server);

	freeReplyObject(redisCommand(context, "PSUBSCRIBE keepsock.*"));
	return context;
}

/* The next message; the slices live until the reply is freed. */
static redisReply *next_message(redisContext *context, struct slice *name,
				struct redis_envelope *envelope)
{
	redisReply *reply = NULL;

	assert_int_equal(redisGetReply(context, (void **)&reply), REDIS_OK);
	assert_int_equal(reply->elements, 4);
	*name = slice_from(reply->element[2]->str, reply->element[2]->len);
	assert_true(redis_envelope_parse(slice_from(reply->element[3]->str, reply->element[3]->len),
					 envelope));
	return reply;
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
	assert_int_equal(integer_of(f, "DBSIZE"), 1);
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
	char first[REDIS_EPOCH_LENGTH + 1];

	memcpy(first, f->fresh_epoch, sizeof(first));
	publish(f, "{}", &news);
	redis_epoch_generate(f->fresh_epoch);
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
			      .channel = channel.channel, .epoch = f->fresh_epoch, .limit = -1},
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
	unsigned before;

	publish_as(f, "c", 1, &news, 1);
	redis_server_kill(f->server);
	WAIT_FOR(f->base, !redis_pool_available(f->pool));
	redis_server_restart(f->server);
	WAIT_FOR(f->base, redis_pool_available(f->pool));
	do {
		before = f->answer.count;
		publish_as(f, "c", 1, &news, 1);
		assert_int_equal(f->answer.count, before + 1);
	} while (f->answer.code == REDIS_RESULT_UNAVAILABLE);
	assert_int_equal(f->answer.code, REDIS_RESULT_OK);
	assert_true(f->answer.duplicate);
	assert_int_equal(f->answer.positions[0].offset, 1);
	publish_as(f, "c", 2, &news, 1);
	assert_in_range(f->answer.positions[0].sequence, 3, MANY); /* the repetition took one */
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

/* -- subscribe ----------------------------------------------------------- */

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
	assert_int_equal(integer_of(f, "DBSIZE"), 0);
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
	assert_string_equal(f->answer.epoch, "AAAAAAAA");
	assert_int_equal(f->answer.top, 0);
	assert_in_range(integer_of(f, "PTTL keepsock.meta.news"), 1, HOUR_MS);
	subscribe.epoch = "BBBBBBBB";
	subscribe.meta_ttl_ms = 24 * HOUR_MS;
	send_subscribe(f, &subscribe);
	assert_string_equal(f->answer.epoch, "AAAAAAAA");
	assert_in_range(integer_of(f, "PTTL keepsock.meta.news"), HOUR_MS + 1, 24 * HOUR_MS);
	publish(f, "{}", &news);
	assert_string_equal(f->answer.epochs[0], "AAAAAAAA");
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
					    .epoch = f->fresh_epoch,
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
	assert_string_equal(f->answer.epoch, "ZZZZZZZZ");
	assert_in_range(integer_of(f, "PTTL keepsock.meta.news"), 1, 24 * HOUR_MS);
	publish(f, "{}", &news);
	assert_string_equal(f->answer.epochs[0], "ZZZZZZZZ");
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

/* -- presence ------------------------------------------------------------ */

static const struct redis_presence_member ann = {.channel = {"room", 4},
						 .client = {"client-1", 8},
						 .user = {"ann", 3},
						 .info = {"{\"user\":\"ann\"}", 14}};
static const struct redis_presence_member bob = {.channel = {"room", 4},
						 .client = {"client-2", 8},
						 .user = {"bob", 3},
						 .info = {"{\"user\":\"bob\"}", 14}};

static void presence(struct fixture *f, uint64_t now)
{
	unsigned before = f->answer.count;

	redis_presence_get(f->pool, 1, SLICE("room"), now, on_presence, &f->answer);
	finish(f, before);
	assert_int_equal(f->answer.code, REDIS_RESULT_OK);
}

static void refresh(struct fixture *f, uint64_t now, const struct redis_presence_member *members,
		    size_t n)
{
	unsigned before = f->answer.count;

	redis_presence_refresh(f->pool, 1, 60000, now, members, n, on_count, &f->answer);
	finish(f, before);
	assert_int_equal(f->answer.code, REDIS_RESULT_OK);
}

static void presence_stats(struct fixture *f, uint64_t now)
{
	unsigned before = f->answer.count;

	redis_presence_stats(f->pool, 1, SLICE("room"), now, on_presence_stats, &f->answer);
	finish(f, before);
	assert_int_equal(f->answer.code, REDIS_RESULT_OK);
}

static void test_subscribe_adds_the_member(void **state)
{
	struct fixture *f = *state;
	struct redis_subscribe subscribe = {.channel = SLICE("room"),
					    .presence = &ann,
					    .presence_ttl_ms = 60000,
					    .now_ms = NOW};

	presence(f, NOW);
	assert_int_equal(f->answer.n, 0);
	send_subscribe(f, &subscribe);
	assert_true(f->answer.joined);
	presence(f, NOW);
	assert_int_equal(f->answer.n, 1);
	assert_string_equal(buffer_cstr(&f->answer.text), "<client-1 ann {\"user\":\"ann\"}>");
	/* Again within the TTL: it was there; after it: it had gone. */
	subscribe.now_ms = NOW + 59999;
	send_subscribe(f, &subscribe);
	assert_false(f->answer.joined);
	subscribe.now_ms += 60000;
	send_subscribe(f, &subscribe);
	assert_true(f->answer.joined);
	/* Redis itself drops both keys when nobody comes back. */
	assert_in_range(integer_of(f, "PTTL keepsock.presence.room"), 1, 60000);
	assert_in_range(integer_of(f, "PTTL keepsock.presence_expire.room"), 1, 60000);
}

static void test_presence_expires(void **state)
{
	struct fixture *f = *state;

	refresh(f, NOW, &ann, 1);
	assert_int_equal(f->answer.number, 1);
	refresh(f, NOW + 30000, &bob, 1);
	presence(f, NOW + 59999);
	assert_int_equal(f->answer.n, 2);
	presence(f, NOW + 60000);
	assert_string_equal(buffer_cstr(&f->answer.text), "<client-2 bob {\"user\":\"bob\"}>");
	/* Purged, not only hidden. */
	assert_int_equal(integer_of(f, "HLEN keepsock.presence.room"), 1);
	assert_int_equal(integer_of(f, "ZCARD keepsock.presence_expire.room"), 1);
	refresh(f, NOW + 80000, &bob, 1);
	assert_int_equal(f->answer.number, 0);
	presence_stats(f, NOW + 139999);
	assert_int_equal(f->answer.number, 1);
	presence_stats(f, NOW + 140000);
	assert_int_equal(f->answer.number, 0);
	assert_int_equal(integer_of(f, "DBSIZE"), 0);
}

static void test_presence_remove(void **state)
{
	struct fixture *f = *state;
	struct redis_presence_member members[] = {ann, bob, ann};
	unsigned before;

	members[2].channel = SLICE("elsewhere");
	refresh(f, NOW, members, 3);
	assert_int_equal(f->answer.number, 3);
	before = f->answer.count;
	members[1].client = SLICE("stranger");
	redis_presence_remove(f->pool, 1, members, 3, on_count, &f->answer);
	finish(f, before);
	assert_int_equal(f->answer.number, 2);
	presence(f, NOW);
	assert_string_equal(buffer_cstr(&f->answer.text), "<client-2 bob {\"user\":\"bob\"}>");
	assert_int_equal(integer_of(f, "EXISTS keepsock.presence.elsewhere"), 0);
}

static void test_presence_stats(void **state)
{
	struct fixture *f = *state;
	struct redis_presence_member members[] = {ann, bob, ann, ann, bob};

	members[2].client = SLICE("client-3");
	members[3].client = SLICE("client-4");
	members[3].user = SLICE(""); /* anonymous */
	members[4].client = SLICE("client-5");
	members[4].user = (struct slice){"1 a\0n\n", 6};
	refresh(f, NOW, members, 5);
	presence_stats(f, NOW);
	assert_int_equal(f->answer.number, 5);
	assert_int_equal(f->answer.users, 4);
	presence(f, NOW);
	assert_int_equal(f->answer.n, 5);
}

static void test_many_members_expire(void **state)
{
	struct fixture *f = *state;
	struct redis_presence_member *members = xcalloc(REDIS_BATCH_MAX, sizeof(*members));
	char(*names)[24] = xcalloc(REDIS_BATCH_MAX, sizeof(*names));

	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < REDIS_BATCH_MAX; i++) {
			snprintf(names[i], sizeof(names[i]), "%u-%u", round, i);
			members[i] = ann;
			members[i].client = slice_str(names[i]);
		}
		refresh(f, NOW, members, REDIS_BATCH_MAX);
		assert_int_equal(f->answer.number, REDIS_BATCH_MAX);
	}
	free(names);
	free(members);
	presence_stats(f, NOW);
	assert_int_equal(f->answer.number, 3 * REDIS_BATCH_MAX);
	assert_int_equal(f->answer.users, 1);
	presence(f, NOW + 60000);
	assert_int_equal(f->answer.n, 0);
	assert_int_equal(integer_of(f, "DBSIZE"), 0);
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
		TEST(test_subscribe_plain),
		TEST(test_subscribe_makes_the_epoch),
		TEST(test_recovery),
		TEST(test_recovery_after_the_stream_expired),
		TEST(test_foreign_stream_entry),
		TEST(test_history_of_nothing),
		TEST(test_history_forms),
		TEST(test_subscribe_adds_the_member),
		TEST(test_presence_expires),
		TEST(test_presence_remove),
		TEST(test_presence_stats),
		TEST(test_many_members_expire),
	};

	/* The errors that are tested for are not news. */
	if (log_set_target("file:/dev/null") != 0)
		return 1;
	return cmocka_run_group_tests_name("redis_scripts", tests, NULL, NULL);
}

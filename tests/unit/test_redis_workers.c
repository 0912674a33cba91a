/* SPDX-License-Identifier: ISC */
/*
 * Workers that beat, fall silent, are purged, and were not dead after all.
 * Times in Redis are set back by hand, so nobody has to wait for a silence.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "redis_fixture.h"

#define OTHER   "b.1.feedbeef"
#define TIMEOUT 5000

struct beat {
	unsigned answers;
	enum redis_result code;
	uint64_t sequence;
	char generation[REDIS_GENERATION_LENGTH + 1];
	bool registered, probed;
	size_t n_silent;
	char silent[4][REDIS_WORKER_NAME_MAX + 1];
};

static void on_heartbeat(void *ctx, const struct redis_heartbeat_result *result)
{
	struct beat *b = ctx;

	b->answers++;
	b->code = result->outcome.code;
	b->sequence = result->sequence;
	snprintf(b->generation, sizeof(b->generation), "%.*s", SLICE_ARG(result->generation));
	b->registered = result->registered;
	b->probed = result->probed;
	b->n_silent = result->n_silent;
	for (size_t i = 0; i < result->n_silent && i < 4; i++)
		snprintf(b->silent[i], sizeof(b->silent[i]), "%.*s", SLICE_ARG(result->silent[i]));
}

static struct beat send_beat(struct fixture *f, const struct redis_heartbeat *heartbeat)
{
	struct beat b = {0};

	redis_heartbeat(f->pool, 1, heartbeat, on_heartbeat, &b);
	WAIT_FOR(f->base, b.answers == 1);
	return b;
}

static struct beat beat_as(struct fixture *f, const char *worker)
{
	const struct redis_heartbeat heartbeat = {.worker = slice_str(worker),
						  .node_timeout_ms = TIMEOUT};
	struct beat b = send_beat(f, &heartbeat);

	assert_int_equal(b.code, REDIS_RESULT_OK);
	return b;
}

/* A worker that was last heard an hour ago, while others were all the time. */
static void fall_silent(struct fixture *f, const char *worker)
{
	redis_server_do(f->server, "HSET keepsock.run grace 1");
	redis_server_do(f->server, "HSET keepsock.workers %s %s", worker, "1 0");
}

struct purged {
	unsigned answers;
	enum redis_result code;
	bool begun;
	uint64_t removed, left;
};

static void on_purge(void *ctx, const struct redis_purge_result *result)
{
	struct purged *p = ctx;

	p->answers++;
	p->code = result->outcome.code;
	p->begun = result->begun;
	p->removed = result->removed;
	p->left = result->left;
}

static struct purged purge(struct fixture *f, const char *worker, bool dead)
{
	const struct redis_purge call = {
		.worker = slice_str(worker), .dead = dead, .node_timeout_ms = TIMEOUT};
	struct purged p = {0};

	redis_purge(f->pool, 1, &call, on_purge, &p);
	WAIT_FOR(f->base, p.answers == 1);
	assert_int_equal(p.code, REDIS_RESULT_OK);
	return p;
}

static void add_members(struct fixture *f, const char *worker, const char *channel, unsigned first,
			unsigned n, bool join_leave)
{
	struct redis_presence_member *members = xcalloc(n, sizeof(*members));
	char(*names)[16] = xcalloc(n, sizeof(*names));
	unsigned before = f->answer.count;

	for (unsigned i = 0; i < n; i++) {
		snprintf(names[i], sizeof(names[i]), "c%u", first + i);
		members[i] = (struct redis_presence_member){.channel = slice_str(channel),
							    .client = slice_str(names[i]),
							    .user = SLICE("u"),
							    .info = SLICE("{\"user\":\"u\"}"),
							    .worker = slice_str(worker),
							    .join_leave = join_leave};
	}
	redis_presence_refresh(f->pool, 1, 60000, NOW, members, n, on_count, &f->answer);
	finish(f, before);
	assert_int_equal(f->answer.code, REDIS_RESULT_OK);
	free(names);
	free(members);
}

/* -- heartbeats ---------------------------------------------------------- */

static void test_not_before_the_run_is_settled(void **state)
{
	struct fixture *f = *state;
	const struct redis_heartbeat heartbeat = {.worker = SLICE(WORKER)};

	redis_server_do(f->server, "DEL keepsock.run");
	assert_int_equal(send_beat(f, &heartbeat).code, REDIS_RESULT_UNAVAILABLE);
}

static void test_registered_or_not(void **state)
{
	struct fixture *f = *state;
	struct beat b = beat_as(f, WORKER);

	assert_true(b.registered); /* when the run was settled */
	assert_string_equal(b.generation, f->generation);
	assert_int_equal(b.n_silent, 0);
	redis_server_do(f->server, "HDEL keepsock.workers " WORKER);
	assert_false(beat_as(f, WORKER).registered);
	assert_true(beat_as(f, WORKER).registered);
}

static void test_who_is_silent(void **state)
{
	struct fixture *f = *state;
	const struct redis_heartbeat patient = {.worker = SLICE(WORKER)};
	struct beat b;

	beat_as(f, OTHER);
	assert_int_equal(beat_as(f, WORKER).n_silent, 0);
	fall_silent(f, OTHER);
	b = beat_as(f, WORKER);
	assert_int_equal(b.n_silent, 1);
	assert_string_equal(b.silent[0], OTHER);
	/* One that does not ask, and the silent one itself. */
	assert_int_equal(send_beat(f, &patient).n_silent, 0);
	redis_server_do(f->server, "HSET keepsock.run grace 1");
	assert_int_equal(beat_as(f, OTHER).n_silent, 0);
	assert_int_equal(beat_as(f, WORKER).n_silent, 0);
}

static void test_redis_was_away_not_they(void **state)
{
	struct fixture *f = *state;

	beat_as(f, OTHER);
	fall_silent(f, OTHER);
	/* Nobody was heard for longer than half the timeout. */
	redis_server_do(f->server, "HSET keepsock.run beat 1");
	assert_int_equal(beat_as(f, WORKER).n_silent, 0);
	assert_true(integer_of(f, "HSTRLEN keepsock.run grace") > 10);
	/* Nor is it held against anybody later. */
	assert_int_equal(beat_as(f, WORKER).n_silent, 0);
}

static void test_a_clock_set_back(void **state)
{
	struct fixture *f = *state;
	const struct redis_heartbeat heartbeat = {
		.worker = SLICE(WORKER), .node_timeout_ms = TIMEOUT, .probe_interval_ms = HOUR_MS};
	struct beat b;

	redis_server_do(f->server, "HSET keepsock.workers %s %s", OTHER, "99999999999999 7");
	redis_server_do(f->server, "HSET keepsock.run beat 99999999999999 grace 99999999999999");
	redis_server_do(f->server, "HSET keepsock.run probe 99999999999999");
	b = send_beat(f, &heartbeat);
	assert_int_equal(b.n_silent, 0);
	assert_true(b.probed);
	/* From now on it ages again. */
	assert_int_equal(integer_of(f, "HSTRLEN keepsock.workers " OTHER), 15);
	assert_int_equal(integer_of(f, "HSTRLEN keepsock.run grace"), 13);
	assert_non_null(strstr(text_of(f, "HGET keepsock.workers " OTHER), " 7"));
}

static void test_foreign_entry(void **state)
{
	struct fixture *f = *state;
	struct beat b;

	fall_silent(f, "nonsense");
	redis_server_do(f->server, "HSET keepsock.workers nonsense nonsense");
	b = beat_as(f, WORKER);
	assert_int_equal(b.n_silent, 1);
	assert_true(purge(f, "nonsense", false).begun);
	assert_int_equal(beat_as(f, WORKER).n_silent, 0);
}

static void test_silent_ones_are_bounded(void **state)
{
	struct fixture *f = *state;
	char name[16];

	for (unsigned i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "n.%u.0", i);
		fall_silent(f, name);
	}
	assert_int_equal(beat_as(f, WORKER).n_silent, 64);
}

static void test_keys_live_on(void **state)
{
	struct fixture *f = *state;

	redis_server_do(f->server, "SADD keepsock.members." WORKER " x");
	redis_server_do(f->server, "HSET keepsock.sessions." WORKER " x y");
	redis_server_do(f->server, "HSET keepsock.done." WORKER " x y");
	redis_server_do(f->server, "SADD keepsock.members." OTHER " x");
	beat_as(f, WORKER);
	assert_in_range(integer_of(f, "PTTL keepsock.members." WORKER), 1, HOUR_MS);
	assert_in_range(integer_of(f, "PTTL keepsock.sessions." WORKER), 1, HOUR_MS);
	assert_in_range(integer_of(f, "PTTL keepsock.done." WORKER), 1, HOUR_MS);
	assert_int_equal(integer_of(f, "PTTL keepsock.members." OTHER), -1);
}

static void test_probe(void **state)
{
	struct fixture *f = *state;
	redisContext *subscriber = subscribe_all(f);
	struct redis_heartbeat heartbeat = {.worker = SLICE(WORKER), .probe_interval_ms = HOUR_MS};
	struct redis_envelope envelope;
	struct slice name;
	redisReply *reply;

	for (unsigned i = 1; i <= 2; i++) {
		struct beat b = send_beat(f, &heartbeat);

		assert_true(b.probed);
		assert_int_equal(b.sequence, i);
		reply = next_message(subscriber, &name, &envelope);
		assert_true(slice_is(name, REDIS_PROBE_CHANNEL));
		assert_int_equal(envelope.kind, REDIS_MESSAGE_CONTROL);
		assert_int_equal(envelope.sequence, i);
		assert_true(slice_is(envelope.body.data, WORKER));
		freeReplyObject(reply);
		/* One for all of them in half an interval. */
		assert_false(send_beat(f, &heartbeat).probed);
		heartbeat.worker = SLICE(OTHER);
		b = send_beat(f, &heartbeat);
		assert_false(b.probed);
		assert_int_equal(b.sequence, i);
		heartbeat.worker = SLICE(WORKER);
		redis_server_do(f->server, "HSET keepsock.run probe 1");
	}
	heartbeat.probe_interval_ms = 0;
	assert_false(send_beat(f, &heartbeat).probed);
	redisFree(subscriber);
}

/* -- what a worker has seen ---------------------------------------------- */

static void test_the_counter_is_lost(void **state)
{
	struct fixture *f = *state;
	struct redis_heartbeat heartbeat = {.worker = SLICE(WORKER), .max_seen = 5};
	struct beat b, again;

	for (unsigned i = 0; i < 5; i++)
		publish(f, "{}", &news);
	/* A generation of this run's own already: the counter is all that has to be put right. */
	redis_server_do(f->server, "SET keepsock.sequence 2");
	b = send_beat(f, &heartbeat);
	assert_string_equal(b.generation, f->generation);
	assert_int_equal(b.sequence, 5);
	/* One that was kept, with a worker that listens to the old master maybe. */
	redis_server_do(f->server, "HSET keepsock.run chain %s", "newerrun 4 0 olderrun 0 1");
	redis_server_do(f->server, "DEL keepsock.sequence");
	publish(f, "{}", &news);
	b = send_beat(f, &heartbeat);
	assert_string_not_equal(b.generation, f->generation);
	assert_int_equal(b.sequence, 5);
	publish(f, "{}", &news);
	assert_int_equal(f->answer.positions[0].sequence, 6);
	assert_non_null(strstr(f->answer.epochs[0], b.generation));
	/* Said once, it is known: another's word changes nothing more. */
	heartbeat.worker = SLICE(OTHER);
	heartbeat.max_seen = 1000;
	again = send_beat(f, &heartbeat);
	assert_string_equal(again.generation, b.generation);
	assert_int_equal(again.sequence, 1000);
}

static void test_the_server_changed_under_the_connection(void **state)
{
	struct fixture *f = *state;
	const struct redis_heartbeat heartbeat = {.worker = SLICE(WORKER)};
	char before[REDIS_RUN_MAX + 1];

	snprintf(before, sizeof(before), "%s", redis_pool_run_id(f->pool));
	redis_server_do(f->server, "REPLICAOF 127.0.0.1 1");
	redis_server_do(f->server, "REPLICAOF NO ONE");
	assert_int_equal(send_beat(f, &heartbeat).code, REDIS_RESULT_UNAVAILABLE);
	WAIT_FOR(f->base,
		 redis_pool_available(f->pool) && strcmp(redis_pool_run_id(f->pool), before) != 0);
}

/* -- purge --------------------------------------------------------------- */

static void assert_nothing_left(struct fixture *f)
{
	assert_int_equal(count_keys(f, "keepsock.presence*"), 0);
	assert_int_equal(count_keys(f, "keepsock.members.*"), 0);
	assert_int_equal(count_keys(f, "keepsock.purg*"), 0);
	assert_int_equal(count_keys(f, "keepsock.sessions.*"), 0);
	assert_int_equal(count_keys(f, "keepsock.done.*"), 0);
}

static void test_only_the_silent_are_purged(void **state)
{
	struct fixture *f = *state;
	struct purged p;

	beat_as(f, OTHER);
	add_members(f, OTHER, "room", 0, 3, false);
	p = purge(f, OTHER, false);
	assert_false(p.begun);
	assert_int_equal(p.removed + p.left, 0);
	assert_true(beat_as(f, OTHER).registered);
	assert_int_equal(integer_of(f, "HLEN keepsock.presence.room"), 3);
	/* Nobody of that name at all. */
	assert_false(purge(f, "nobody", false).begun);
	assert_false(purge(f, "nobody", true).begun);
}

static void test_purge(void **state)
{
	struct fixture *f = *state;
	redisContext *subscriber = subscribe_all(f);
	struct redis_envelope envelope;
	struct slice name;
	redisReply *reply;
	struct purged p;

	beat_as(f, OTHER);
	add_members(f, OTHER, "room", 0, 1, true);
	freeReplyObject(next_message(subscriber, &name, &envelope)); /* its join */
	add_members(f, OTHER, "quiet", 0, 2, false);
	add_members(f, WORKER, "quiet", 7, 1, false);
	redis_server_do(f->server, "HSET keepsock.sessions." OTHER " c0 {}");
	redis_server_do(f->server, "HSET keepsock.done." OTHER " c0 1");
	fall_silent(f, OTHER);
	p = purge(f, OTHER, false);
	assert_true(p.begun);
	assert_int_equal(p.removed, 3);
	assert_int_equal(p.left, 0);
	reply = next_message(subscriber, &name, &envelope);
	assert_true(slice_is(name, "keepsock.channel.room"));
	assert_int_equal(envelope.kind, REDIS_MESSAGE_LEAVE);
	assert_int_equal(envelope.sequence, 2);
	assert_true(slice_is(envelope.body.info, "{\"user\":\"u\"}"));
	freeReplyObject(reply);
	/* Once: whoever comes second finds nothing to do. */
	p = purge(f, OTHER, false);
	assert_false(p.begun);
	assert_int_equal(p.removed + p.left, 0);
	assert_int_equal(beat_as(f, WORKER).n_silent, 0);
	/* The other worker's member is still there. */
	assert_string_equal(text_of(f, "HGET keepsock.presence.quiet c7"), "0 1 u{\"user\":\"u\"}");
	p = purge(f, WORKER, true);
	assert_true(p.begun);
	assert_int_equal(p.removed, 1);
	assert_nothing_left(f);
	redisFree(subscriber);
}

/* Whoever leaves in one step is told one by one, each with a sequence of its own. */
static void test_leaves_of_a_crowd(void **state)
{
	struct fixture *f = *state;
	struct redis_envelope envelope;
	redisContext *subscriber;
	struct slice name;

	beat_as(f, OTHER);
	add_members(f, OTHER, "room", 0, 3, true);
	add_members(f, OTHER, "room", 3, 1, false);
	add_members(f, OTHER, "hall", 0, 2, true);
	assert_string_equal(text_of(f, "GET keepsock.sequence"), "5");
	subscriber = subscribe_all(f);
	fall_silent(f, OTHER);
	assert_int_equal(purge(f, OTHER, false).removed, 6);
	for (unsigned i = 0, in_room = 0; i < 5; i++) {
		redisReply *reply = next_message(subscriber, &name, &envelope);

		assert_int_equal(envelope.kind, REDIS_MESSAGE_LEAVE);
		assert_int_equal(envelope.sequence, 6 + i);
		assert_true(slice_is(envelope.body.info, "{\"user\":\"u\"}"));
		in_room += slice_is(name, "keepsock.channel.room");
		assert_true(in_room == 3 || i < 4);
		freeReplyObject(reply);
	}
	assert_string_equal(text_of(f, "GET keepsock.sequence"), "10");
	assert_nothing_left(f);
	redisFree(subscriber);
}

static void test_purge_in_steps(void **state)
{
	struct fixture *f = *state;
	struct purged p;
	struct beat b;

	beat_as(f, OTHER);
	add_members(f, OTHER, "room", 0, 400, false);
	add_members(f, OTHER, "hall", 0, 50, false);
	beat_as(f, OTHER);
	fall_silent(f, OTHER);
	p = purge(f, OTHER, false);
	assert_true(p.begun);
	assert_int_equal(p.removed, 200);
	assert_int_equal(p.left, 250);
	/* What is left does not expire with the worker's other keys. */
	assert_int_equal(integer_of(f, "PTTL keepsock.purged." OTHER), -1);
	/* Should the purger die, others hear of it. */
	b = beat_as(f, WORKER);
	assert_int_equal(b.n_silent, 1);
	assert_string_equal(b.silent[0], OTHER);
	for (uint64_t left = 50;; left -= 50) {
		p = purge(f, OTHER, false);
		assert_false(p.begun);
		assert_int_equal(p.left, left);
		if (left == 0)
			break;
	}
	assert_int_equal(p.removed, 50);
	assert_nothing_left(f);
}

/* It was only cut off: what it adds while it is being purged stays. */
static void test_back_while_being_purged(void **state)
{
	struct fixture *f = *state;

	beat_as(f, OTHER);
	add_members(f, OTHER, "room", 0, 300, false);
	fall_silent(f, OTHER);
	assert_int_equal(purge(f, OTHER, false).left, 100);
	assert_false(beat_as(f, OTHER).registered);
	add_members(f, OTHER, "room", 0, 300, false);
	assert_int_equal(purge(f, OTHER, false).left, 0);
	assert_int_equal(integer_of(f, "HLEN keepsock.presence.room"), 300);
	assert_int_equal(beat_as(f, WORKER).n_silent, 0);
}

static void test_dead_again_while_being_purged(void **state)
{
	struct fixture *f = *state;
	struct purged p;

	beat_as(f, OTHER);
	add_members(f, OTHER, "room", 0, 300, false);
	fall_silent(f, OTHER);
	assert_int_equal(purge(f, OTHER, false).left, 100);
	beat_as(f, OTHER);
	add_members(f, OTHER, "hall", 0, 30, false);
	fall_silent(f, OTHER);
	p = purge(f, OTHER, false);
	assert_true(p.begun);
	assert_int_equal(p.left, 0);
	assert_int_equal(p.removed, 130);
	assert_nothing_left(f);
}

static void test_joins_and_leaves_of_a_mistake(void **state)
{
	struct fixture *f = *state;
	redisContext *subscriber = subscribe_all(f);
	static const enum redis_message_kind kinds[] = {REDIS_MESSAGE_JOIN, REDIS_MESSAGE_LEAVE,
							REDIS_MESSAGE_JOIN};

	beat_as(f, OTHER);
	add_members(f, OTHER, "room", 0, 1, true);
	assert_true(purge(f, OTHER, true).begun);
	add_members(f, OTHER, "room", 0, 1, true);
	add_members(f, OTHER, "room", 0, 1, true);
	for (unsigned i = 0; i < 3; i++) {
		struct redis_envelope envelope;
		struct slice name;
		redisReply *reply = next_message(subscriber, &name, &envelope);

		assert_int_equal(envelope.kind, kinds[i]);
		assert_int_equal(envelope.sequence, i + 1);
		freeReplyObject(reply);
	}
	assert_string_equal(text_of(f, "GET keepsock.sequence"), "3");
	redisFree(subscriber);
}

/* -- all of them --------------------------------------------------------- */

static void on_workers(void *ctx, const struct redis_workers_result *result)
{
	struct answer *a = ctx;

	start_answer(a, &result->outcome);
	a->n = result->n_workers;
	for (size_t i = 0; i < a->n; i++) {
		const struct redis_worker_entry *worker = &result->workers[i];

		buffer_printf(&a->text, "<%.*s %s %" PRIu64 ">", SLICE_ARG(worker->name),
			      worker->silent_ms > HOUR_MS ? "silent" : "here", worker->max_seen);
	}
}

static void test_workers_read(void **state)
{
	struct fixture *f = *state;
	const struct redis_heartbeat heartbeat = {.worker = SLICE(WORKER), .max_seen = 0};
	unsigned before;

	send_beat(f, &heartbeat);
	redis_server_do(f->server, "HSET keepsock.workers %s %s", OTHER, "1 17");
	before = f->answer.count;
	redis_workers_read(f->pool, 1, on_workers, &f->answer);
	finish(f, before);
	assert_int_equal(f->answer.code, REDIS_RESULT_OK);
	assert_int_equal(f->answer.n, 2);
	assert_non_null(strstr(buffer_cstr(&f->answer.text), "<" WORKER " here 0>"));
	assert_non_null(strstr(buffer_cstr(&f->answer.text), "<" OTHER " silent 17>"));
	redis_server_do(f->server, "DEL keepsock.workers");
	before = f->answer.count;
	redis_workers_read(f->pool, 1, on_workers, &f->answer);
	finish(f, before);
	assert_int_equal(f->answer.n, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_not_before_the_run_is_settled),
		TEST(test_registered_or_not),
		TEST(test_who_is_silent),
		TEST(test_redis_was_away_not_they),
		TEST(test_a_clock_set_back),
		TEST(test_foreign_entry),
		TEST(test_silent_ones_are_bounded),
		TEST(test_keys_live_on),
		TEST(test_probe),
		TEST(test_the_counter_is_lost),
		TEST(test_the_server_changed_under_the_connection),
		TEST(test_only_the_silent_are_purged),
		TEST(test_purge),
		TEST(test_leaves_of_a_crowd),
		TEST(test_purge_in_steps),
		TEST(test_back_while_being_purged),
		TEST(test_dead_again_while_being_purged),
		TEST(test_joins_and_leaves_of_a_mistake),
		TEST(test_workers_read),
	};

	quiet_log();
	return cmocka_run_group_tests_name("redis_workers", tests, NULL, NULL);
}

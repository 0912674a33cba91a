/* SPDX-License-Identifier: ISC */
/*
 * Histories of a Redis that is restarted, rewound, emptied, replaced, and of
 * workers that see it or not: is what they saw still there? Each worker here
 * is a name and what it would remember; the servers are real.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "redis_fixture.h"

/* What a worker knows between its reports. */
struct witness {
	const char *name;
	char run[REDIS_RUN_MAX + 1];
	char generation[REDIS_GENERATION_LENGTH + 1];
	uint64_t max_seen;
	uint64_t wait_ms; /* for the others */

	unsigned answers;
	enum redis_result code;
	enum redis_continuity_state state;
	uint64_t start;
	bool registered;
	char why[200];
};

/* A witness that would wait for others as long as the test may take. */
#define WITNESS(text)                              \
	{                                          \
		.name = (text), .wait_ms = HOUR_MS \
	}

static void on_continuity(void *ctx, const struct redis_continuity_result *result)
{
	struct witness *w = ctx;

	w->answers++;
	w->code = result->outcome.code;
	if (w->code != REDIS_RESULT_OK)
		return;
	w->state = result->state;
	w->start = result->start;
	if (w->state == REDIS_CONTINUITY_PENDING)
		return;
	w->registered = result->registered;
	snprintf(w->run, sizeof(w->run), "%.*s", SLICE_ARG(result->run));
	snprintf(w->generation, sizeof(w->generation), "%.*s", SLICE_ARG(result->generation));
	snprintf(w->why, sizeof(w->why), "%.*s", SLICE_ARG(result->why));
}

static void send_report(struct fixture *f, struct witness *w)
{
	const struct redis_continuity report = {.worker = slice_str(w->name),
						.own_run = slice_str(w->run),
						.own_generation = slice_str(w->generation),
						.max_seen = w->max_seen,
						.wait_ms = w->wait_ms};

	w->answers = 0;
	redis_continuity(f->pool, 1, &report, on_continuity, w);
	WAIT_FOR(f->base, w->answers == 1);
}

static void report(struct fixture *f, struct witness *w, enum redis_continuity_state expected)
{
	send_report(f, w);
	assert_int_equal(w->code, REDIS_RESULT_OK);
	if (w->state != expected)
		fail_msg("%s is told %s", w->name, redis_continuity_state_name(w->state));
	if (expected != REDIS_CONTINUITY_PENDING)
		assert_string_equal(w->run, redis_pool_run_id(f->pool));
}

/* Publishes up to a sequence; the witnesses hear of it. */
static void publish_until(struct fixture *f, uint64_t sequence, struct witness *a,
			  struct witness *b)
{
	do
		publish(f, "{}", &news);
	while (f->answer.positions[0].sequence < sequence);
	a->max_seen = f->answer.positions[0].sequence;
	if (b)
		b->max_seen = a->max_seen;
}

/* kept: the name of older data; NULL: what it has; "": none. */
static void restart(struct fixture *f, const char *kept)
{
	redis_server_kill(f->server);
	WAIT_FOR(f->base, !redis_pool_available(f->pool));
	if (kept)
		redis_server_put_data(f->server, kept[0] ? kept : NULL);
	redis_server_restart(f->server);
	wait_for_connections(f);
}

static void assert_refused(struct fixture *f)
{
	struct redis_publish message = message_for(f, "{}", &news, 1);

	send_publish(f, &message);
	assert_int_equal(f->answer.code, REDIS_RESULT_UNAVAILABLE);
}

/* Publishes once; what the channel's epoch is then. */
static const char *epoch_now(struct fixture *f)
{
	publish(f, "{}", &news);
	return f->answer.epochs[0];
}

static int setup_histories(void **state)
{
	struct fixture *f;

	setup_alone(state);
	f = *state;
	choose_letters(f, "Abcdefgh");
	return 0;
}

/* -- one run ------------------------------------------------------------- */

static void test_the_first_run(void **state)
{
	struct fixture *f = *state;
	struct witness a = WITNESS("a.0.1"), b = WITNESS("b.0.1");
	char epoch[REDIS_EPOCH_MAX + 1];

	assert_refused(f);
	assert_int_equal(count_keys(f, "*"), 0);
	report(f, &a, REDIS_CONTINUITY_KEPT);
	assert_false(a.registered);
	assert_int_equal(a.start, 0);
	assert_int_equal(strlen(a.generation), REDIS_GENERATION_LENGTH);
	snprintf(epoch, sizeof(epoch), "Abcdefgh-%s", a.generation);
	assert_string_equal(epoch_now(f), epoch);
	/* Another one comes, and the same one again: nothing changes. */
	a.max_seen = 1;
	report(f, &b, REDIS_CONTINUITY_KEPT);
	report(f, &a, REDIS_CONTINUITY_KEPT);
	assert_true(a.registered);
	assert_string_equal(b.generation, a.generation);
	assert_string_equal(epoch_now(f), epoch);
}

static void test_the_run_key_is_lost(void **state)
{
	struct fixture *f = *state;
	struct witness a = WITNESS("a.0.1"), b = WITNESS("b.0.1"), before;

	report(f, &a, REDIS_CONTINUITY_KEPT);
	report(f, &b, REDIS_CONTINUITY_KEPT);
	publish_until(f, 3, &a, &b);
	before = a;
	redis_server_do(f->server, "DEL keepsock.run");
	assert_refused(f);
	report(f, &a, REDIS_CONTINUITY_RENEWED);
	assert_string_not_equal(a.generation, before.generation);
	report(f, &b, REDIS_CONTINUITY_RENEWED);
	assert_string_equal(b.generation, a.generation);
}

/* -- restarts ------------------------------------------------------------ */

static void test_restart_with_all_data(void **state)
{
	struct fixture *f = *state;
	struct witness a = WITNESS("a.0.1"), b = WITNESS("b.0.1"), before;
	char epoch[REDIS_EPOCH_MAX + 1], command[128];

	report(f, &a, REDIS_CONTINUITY_KEPT);
	report(f, &b, REDIS_CONTINUITY_KEPT);
	publish_until(f, 5, &a, &b);
	snprintf(epoch, sizeof(epoch), "%s", epoch_now(f));
	b.max_seen = 6;
	before = a;
	restart(f, NULL);
	assert_refused(f);
	report(f, &a, REDIS_CONTINUITY_PENDING);
	assert_int_equal(a.start, 6);
	assert_refused(f);
	/* Nor for whoever should still believe in the old run. */
	snprintf(command, sizeof(command), "HEXISTS keepsock.run %s", before.run);
	assert_int_equal(integer_of(f, command), 0);
	report(f, &a, REDIS_CONTINUITY_PENDING);
	report(f, &b, REDIS_CONTINUITY_KEPT);
	report(f, &a, REDIS_CONTINUITY_KEPT);
	assert_string_not_equal(a.run, before.run);
	assert_string_equal(a.generation, before.generation);
	assert_true(a.registered);
	assert_string_equal(epoch_now(f), epoch);
	assert_int_equal(f->answer.positions[0].sequence, 7);
	assert_int_equal(f->answer.positions[0].offset, 7);
}

static void test_restart_with_older_data(void **state)
{
	struct fixture *f = *state;
	struct witness a = WITNESS("a.0.1"), b = WITNESS("b.0.1"), before;

	report(f, &a, REDIS_CONTINUITY_KEPT);
	report(f, &b, REDIS_CONTINUITY_KEPT);
	publish_until(f, 5, &a, &b);
	redis_server_keep_data(f->server, "five");
	publish_until(f, 8, &b, NULL); /* only b hears of them */
	before = a;
	restart(f, "five");
	report(f, &a, REDIS_CONTINUITY_PENDING);
	/* b's word is enough, nobody else is waited for. */
	report(f, &b, REDIS_CONTINUITY_RENEWED);
	assert_string_equal(b.why, "b.0.1 has seen message 8, the data ended at 5");
	report(f, &a, REDIS_CONTINUITY_RENEWED);
	assert_string_equal(a.generation, b.generation);
	assert_string_not_equal(a.generation, before.generation);
	/* Its offsets are used again, under another epoch; sequences are not. */
	assert_non_null(strstr(epoch_now(f), a.generation));
	assert_int_equal(f->answer.positions[0].offset, 6);
	assert_int_equal(f->answer.positions[0].sequence, 9);
}

static void test_who_saw_the_end_is_dead(void **state)
{
	struct fixture *f = *state;
	struct witness a = WITNESS("a.0.1"), b = WITNESS("b.0.1"), before;

	report(f, &a, REDIS_CONTINUITY_KEPT);
	report(f, &b, REDIS_CONTINUITY_KEPT);
	publish_until(f, 5, &a, &b);
	redis_server_keep_data(f->server, "five");
	publish_until(f, 8, &b, NULL);
	before = a;
	restart(f, "five");
	report(f, &a, REDIS_CONTINUITY_PENDING);
	redis_server_do(f->server, "HSET keepsock.run deadline 0"); /* the time is over */
	report(f, &a, REDIS_CONTINUITY_RENEWED);
	assert_string_equal(a.why, "1 workers did not report in time: b.0.1");
	assert_string_not_equal(a.generation, before.generation);
	/* It was not dead after all: what it knows is void already. */
	before = a;
	report(f, &b, REDIS_CONTINUITY_RENEWED);
	assert_string_equal(b.generation, before.generation);
	report(f, &a, REDIS_CONTINUITY_KEPT);
}

static void test_the_deadline_is_the_first_callers(void **state)
{
	struct fixture *f = *state;
	struct witness a = WITNESS("a.0.1"), b = WITNESS("b.0.1");

	report(f, &a, REDIS_CONTINUITY_KEPT);
	report(f, &b, REDIS_CONTINUITY_KEPT);
	restart(f, NULL);
	a.wait_ms = 1;
	do
		send_report(f, &a);
	while (a.state == REDIS_CONTINUITY_PENDING);
	assert_int_equal(a.state, REDIS_CONTINUITY_RENEWED);
}

static void test_restart_without_data(void **state)
{
	struct fixture *f = *state;
	struct witness a = WITNESS("a.0.1"), b = WITNESS("b.0.1"), fresh = WITNESS("c.0.1"), before;

	report(f, &a, REDIS_CONTINUITY_KEPT);
	report(f, &b, REDIS_CONTINUITY_KEPT);
	publish_until(f, 5, &a, &b);
	before = a;
	restart(f, "");
	/* Even one that knows nothing begins a generation nobody knows. */
	report(f, &fresh, REDIS_CONTINUITY_KEPT);
	assert_string_not_equal(fresh.generation, before.generation);
	report(f, &a, REDIS_CONTINUITY_RENEWED);
	report(f, &b, REDIS_CONTINUITY_RENEWED);
	assert_string_equal(a.generation, fresh.generation);
	assert_string_equal(b.generation, fresh.generation);
	assert_false(a.registered);
	assert_non_null(strstr(epoch_now(f), fresh.generation));
	assert_int_equal(f->answer.positions[0].offset, 1);
	assert_int_equal(f->answer.positions[0].sequence, 6);
}

static void test_restart_while_pending(void **state)
{
	struct fixture *f = *state;
	struct witness a = WITNESS("a.0.1"), b = WITNESS("b.0.1"), before;

	report(f, &a, REDIS_CONTINUITY_KEPT);
	report(f, &b, REDIS_CONTINUITY_KEPT);
	publish_until(f, 5, &a, &b);
	before = a;
	restart(f, NULL);
	report(f, &a, REDIS_CONTINUITY_PENDING);
	restart(f, NULL);
	/* Nobody was on that run: both must speak again, and need not know of it. */
	report(f, &b, REDIS_CONTINUITY_PENDING);
	report(f, &a, REDIS_CONTINUITY_KEPT);
	report(f, &b, REDIS_CONTINUITY_KEPT);
	assert_string_equal(a.generation, before.generation);
}

/* The last to report is told KEPT, the server dies and has forgotten that. */
static void test_a_judgement_is_lost(void **state)
{
	struct fixture *f = *state;
	struct witness a = WITNESS("a.0.1"), b = WITNESS("b.0.1"), before;

	report(f, &a, REDIS_CONTINUITY_KEPT);
	report(f, &b, REDIS_CONTINUITY_KEPT);
	publish_until(f, 5, &a, &b);
	restart(f, NULL);
	report(f, &a, REDIS_CONTINUITY_PENDING);
	redis_server_keep_data(f->server, "pending");
	report(f, &b, REDIS_CONTINUITY_KEPT);
	publish_until(f, 6, &b, NULL);
	before = b;
	restart(f, "pending");
	report(f, &a, REDIS_CONTINUITY_PENDING);
	report(f, &b, REDIS_CONTINUITY_RENEWED);
	assert_string_equal(b.why, "b.0.1 was on a run this data knows nothing of");
	report(f, &a, REDIS_CONTINUITY_RENEWED);
	assert_string_not_equal(a.generation, before.generation);
}

/* -- workers that come and go -------------------------------------------- */

static void purge(struct fixture *f, const char *name)
{
	redis_server_do(f->server, "HDEL keepsock.workers %s", name);
}

static void test_nobody_was_left(void **state)
{
	struct fixture *f = *state;
	struct witness a = WITNESS("a.0.1"), next = WITNESS("a.0.2");

	report(f, &a, REDIS_CONTINUITY_KEPT);
	publish_until(f, 5, &a, NULL);
	purge(f, a.name);
	restart(f, NULL);
	/* A planned stop and start of everything: whoever comes back may recover. */
	report(f, &next, REDIS_CONTINUITY_KEPT);
	assert_string_equal(next.generation, a.generation);
}

static void test_everybody_died(void **state)
{
	struct fixture *f = *state;
	struct witness a = WITNESS("a.0.1"), next = WITNESS("a.0.2");

	report(f, &a, REDIS_CONTINUITY_KEPT);
	publish_until(f, 5, &a, NULL);
	restart(f, NULL);
	next.wait_ms = 1;
	do
		send_report(f, &next);
	while (next.state == REDIS_CONTINUITY_PENDING);
	assert_int_equal(next.state, REDIS_CONTINUITY_KEPT); /* it knew nothing */
	assert_string_not_equal(next.generation, a.generation);
}

static void test_a_purged_worker_comes_back(void **state)
{
	struct fixture *f = *state;
	struct witness a = WITNESS("a.0.1"), b = WITNESS("b.0.1"), before;

	report(f, &a, REDIS_CONTINUITY_KEPT);
	report(f, &b, REDIS_CONTINUITY_KEPT);
	publish_until(f, 5, &a, &b);
	purge(f, b.name); /* cut off, and soon nobody expects it */
	publish_until(f, 6, &a, NULL);
	restart(f, NULL);
	before = a;
	report(f, &a, REDIS_CONTINUITY_KEPT);
	publish_until(f, 9, &a, NULL);
	report(f, &b, REDIS_CONTINUITY_KEPT);
	assert_false(b.registered);
	assert_string_equal(b.generation, before.generation);
}

static void test_a_purged_worker_knows_better(void **state)
{
	struct fixture *f = *state;
	struct witness a = WITNESS("a.0.1"), b = WITNESS("b.0.1"), before;

	report(f, &a, REDIS_CONTINUITY_KEPT);
	report(f, &b, REDIS_CONTINUITY_KEPT);
	publish_until(f, 5, &a, &b);
	purge(f, b.name);
	redis_server_keep_data(f->server, "five");
	publish_until(f, 8, &b, NULL); /* it is not cut off from the other half */
	restart(f, "five");
	report(f, &a, REDIS_CONTINUITY_KEPT);
	publish_until(f, 20, &a, NULL);
	before = a;
	report(f, &b, REDIS_CONTINUITY_RENEWED);
	assert_string_equal(b.why, "b.0.1 has seen message 8, the data ended at 5");
	report(f, &a, REDIS_CONTINUITY_RENEWED);
	assert_string_equal(a.generation, b.generation);
	assert_string_not_equal(a.generation, before.generation);
	/* Once is enough: whoever else comes late knows nothing of this generation. */
	before.name = "c.0.1";
	before.max_seen = UINT64_C(1) << 40;
	memset(before.run, 'x', 40);
	report(f, &before, REDIS_CONTINUITY_RENEWED);
	assert_string_equal(before.generation, a.generation);
}

/* -- several runs -------------------------------------------------------- */

static void test_two_restarts_in_absence(void **state)
{
	struct fixture *f = *state;
	struct witness a = WITNESS("a.0.1"), b = WITNESS("b.0.1");

	report(f, &a, REDIS_CONTINUITY_KEPT);
	report(f, &b, REDIS_CONTINUITY_KEPT);
	publish_until(f, 5, &a, &b);
	purge(f, b.name);
	for (unsigned i = 0; i < 2; i++) {
		restart(f, NULL);
		report(f, &a, REDIS_CONTINUITY_KEPT);
		publish_until(f, 10 + i, &a, NULL);
	}
	report(f, &b, REDIS_CONTINUITY_KEPT);
	assert_string_equal(b.generation, a.generation);
}

/* Lost in the first, and overgrown by what came after it before the second. */
static void test_a_loss_between_two_restarts(void **state)
{
	struct fixture *f = *state;
	struct witness a = WITNESS("a.0.1"), b = WITNESS("b.0.1");

	report(f, &a, REDIS_CONTINUITY_KEPT);
	report(f, &b, REDIS_CONTINUITY_KEPT);
	publish_until(f, 5, &a, &b);
	purge(f, b.name);
	redis_server_keep_data(f->server, "five");
	publish_until(f, 8, &b, NULL);
	restart(f, "five");
	report(f, &a, REDIS_CONTINUITY_KEPT);
	publish_until(f, 20, &a, NULL);
	restart(f, NULL);
	report(f, &a, REDIS_CONTINUITY_KEPT);
	assert_int_equal(a.start, 20);
	report(f, &b, REDIS_CONTINUITY_RENEWED);
	assert_string_equal(b.why, "b.0.1 has seen message 8, the data ended at 5");
}

/* What a worker lost was renewed already in a run it has slept through. */
static void test_a_renewal_in_absence(void **state)
{
	struct fixture *f = *state;
	struct witness a = WITNESS("a.0.1"), b = WITNESS("b.0.1"), before;

	report(f, &a, REDIS_CONTINUITY_KEPT);
	report(f, &b, REDIS_CONTINUITY_KEPT);
	publish_until(f, 5, &a, &b);
	purge(f, b.name);
	redis_server_keep_data(f->server, "five");
	publish_until(f, 8, &a, &b);
	restart(f, "five");
	report(f, &a, REDIS_CONTINUITY_RENEWED);
	publish_until(f, 20, &a, NULL);
	restart(f, NULL);
	report(f, &a, REDIS_CONTINUITY_KEPT);
	before = a;
	report(f, &b, REDIS_CONTINUITY_RENEWED);
	report(f, &a, REDIS_CONTINUITY_KEPT);
	assert_string_equal(a.generation, before.generation);
	assert_string_equal(b.generation, before.generation);
}

/* A renewal protects only from what was seen before it, not from its own lost future. */
static void test_a_branch_after_a_renewal(void **state)
{
	struct fixture *f = *state;
	struct witness a = WITNESS("a.0.1"), b = WITNESS("b.0.1"), before;

	report(f, &a, REDIS_CONTINUITY_KEPT);
	report(f, &b, REDIS_CONTINUITY_KEPT);
	publish_until(f, 5, &a, &b);
	redis_server_keep_data(f->server, "five");
	publish_until(f, 8, &a, &b);
	restart(f, "five");
	report(f, &a, REDIS_CONTINUITY_RENEWED);
	report(f, &b, REDIS_CONTINUITY_RENEWED);
	publish_until(f, 20, &a, &b);
	purge(f, b.name);
	redis_server_keep_data(f->server, "twenty");
	/* This run will never have been, but b was on it. */
	restart(f, NULL);
	report(f, &a, REDIS_CONTINUITY_KEPT);
	report(f, &b, REDIS_CONTINUITY_KEPT);
	publish_until(f, 30, &b, NULL);
	restart(f, "twenty");
	purge(f, a.name);
	before = b;
	a = (struct witness)WITNESS("a.0.2");
	report(f, &a, REDIS_CONTINUITY_KEPT);
	assert_string_equal(a.generation, before.generation);
	publish_until(f, 40, &a, NULL);
	report(f, &b, REDIS_CONTINUITY_RENEWED);
	assert_string_not_equal(b.generation, before.generation);
}

static void test_runs_remembered_are_bounded(void **state)
{
	struct fixture *f = *state;
	struct witness a = WITNESS("a.0.1"), old = WITNESS("b.0.1"), older = WITNESS("c.0.1");
	size_t words = 1;

	report(f, &a, REDIS_CONTINUITY_KEPT);
	report(f, &older, REDIS_CONTINUITY_KEPT);
	purge(f, older.name);
	restart(f, NULL);
	report(f, &a, REDIS_CONTINUITY_KEPT);
	report(f, &old, REDIS_CONTINUITY_KEPT);
	purge(f, old.name);
	for (unsigned i = 0; i < 7; i++) {
		restart(f, NULL);
		report(f, &a, REDIS_CONTINUITY_KEPT);
	}
	for (const char *at = text_of(f, "HGET keepsock.run chain"); *at; at++)
		words += *at == ' ';
	assert_int_equal(words, 3 * 8);
	/* The eighth is remembered, the ninth is not: then nothing is proven. */
	report(f, &old, REDIS_CONTINUITY_KEPT);
	report(f, &older, REDIS_CONTINUITY_RENEWED);
	assert_string_equal(older.why, "c.0.1 was on a run this data knows nothing of");
}

/* -- other servers ------------------------------------------------------- */

static void move_to(struct fixture *f, const struct redis_server *server)
{
	struct redis_endpoint endpoint = {.host = "127.0.0.1", .port = redis_server_port(server)};

	redis_pool_set_endpoint(f->pool, &endpoint);
	wait_for_connections(f);
}

static void test_failover(void **state)
{
	struct fixture *f = *state;
	struct redis_server *other = redis_server_start(NULL);
	struct witness a = WITNESS("a.0.1"), b = WITNESS("b.0.1"), before;

	report(f, &a, REDIS_CONTINUITY_KEPT);
	report(f, &b, REDIS_CONTINUITY_KEPT);
	publish_until(f, 5, &a, &b);
	redis_server_follow(other, f->server);
	before = a;
	redis_server_kill(f->server);
	redis_server_follow(other, NULL);
	move_to(f, other);
	assert_refused(f);
	report(f, &a, REDIS_CONTINUITY_PENDING);
	report(f, &b, REDIS_CONTINUITY_KEPT);
	report(f, &a, REDIS_CONTINUITY_KEPT);
	assert_string_equal(a.generation, before.generation);
	redis_server_free(other);
}

/* Two masters for a while: each half of the workers hears one of them. */
static void test_split_brain(void **state)
{
	struct fixture *f = *state;
	struct redis_server *other = redis_server_start(NULL);
	struct witness a = WITNESS("a.0.1"), b = WITNESS("b.0.1"), before;

	report(f, &a, REDIS_CONTINUITY_KEPT);
	report(f, &b, REDIS_CONTINUITY_KEPT);
	publish_until(f, 5, &a, &b);
	redis_server_follow(other, f->server);
	redis_server_follow(other, NULL);
	publish_until(f, 8, &b, NULL);
	before = b;
	move_to(f, other);
	a.wait_ms = 1;
	do
		send_report(f, &a);
	while (a.state == REDIS_CONTINUITY_PENDING);
	assert_int_equal(a.state, REDIS_CONTINUITY_RENEWED);
	publish_until(f, 20, &a, NULL);
	/* Back with the majority, b learns that what it knows is void. */
	report(f, &b, REDIS_CONTINUITY_RENEWED);
	assert_string_equal(b.generation, a.generation);
	assert_string_not_equal(b.generation, before.generation);
	redis_server_free(other);
}

/*
 * A becomes a replica of B, forgets what B had not got, and is master again, in
 * the same process, under a connection that was there all the time.
 */
static void test_demoted_and_promoted_again(void **state)
{
	struct fixture *f = *state;
	struct redis_server *other = redis_server_start(NULL);
	struct witness a = WITNESS("a.0.1"), before;

	report(f, &a, REDIS_CONTINUITY_KEPT);
	publish_until(f, 5, &a, NULL);
	redis_server_follow(other, f->server);
	redis_server_follow(other, NULL);
	publish_until(f, 8, &a, NULL);
	before = a;
	redis_server_follow(f->server, other);
	redis_server_follow(f->server, NULL);
	assert_int_equal(integer_of(f, "XLEN keepsock.stream.news"), 5);
	assert_string_equal(text_of(f, "GET keepsock.sequence"), "5");
	/* The connection learns what it talks to, then the data is judged. */
	send_report(f, &a);
	assert_int_equal(a.code, REDIS_RESULT_UNAVAILABLE);
	WAIT_FOR(f->base, !redis_pool_available(f->pool));
	wait_for_connections(f);
	assert_string_not_equal(redis_pool_run_id(f->pool), before.run);
	report(f, &a, REDIS_CONTINUITY_RENEWED);
	assert_string_not_equal(a.generation, before.generation);
	redis_server_free(other);
}

/* The same, and the worker has seen nothing that is lost; somebody else may have. */
static void test_promoted_again_is_never_trusted(void **state)
{
	struct fixture *f = *state;
	struct redis_server *other = redis_server_start(NULL);
	struct witness a = WITNESS("a.0.1"), before;

	report(f, &a, REDIS_CONTINUITY_KEPT);
	publish_until(f, 5, &a, NULL);
	before = a;
	redis_server_follow(other, f->server);
	redis_server_follow(other, NULL);
	redis_server_follow(f->server, other);
	redis_server_follow(f->server, NULL);
	move_to(f, f->server);
	report(f, &a, REDIS_CONTINUITY_RENEWED);
	assert_string_equal(a.why, "the server was demoted and promoted again");
	assert_string_not_equal(a.generation, before.generation);
	redis_server_free(other);
}

/* The old master, which the others have left behind, is brought back with its data. */
static void test_the_old_master_again(void **state)
{
	struct fixture *f = *state;
	struct redis_server *other = redis_server_start(NULL);
	struct witness a = WITNESS("a.0.1"), before;

	report(f, &a, REDIS_CONTINUITY_KEPT);
	publish_until(f, 5, &a, NULL);
	redis_server_follow(other, f->server);
	redis_server_kill(f->server);
	redis_server_follow(other, NULL);
	move_to(f, other);
	report(f, &a, REDIS_CONTINUITY_KEPT);
	publish_until(f, 8, &a, NULL);
	before = a;
	redis_server_restart(f->server);
	move_to(f, f->server);
	report(f, &a, REDIS_CONTINUITY_RENEWED);
	assert_string_equal(a.why, "a.0.1 was on a run this data knows nothing of");
	assert_string_not_equal(a.generation, before.generation);
	redis_server_free(other);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_histories, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_the_first_run),
		TEST(test_the_run_key_is_lost),
		TEST(test_restart_with_all_data),
		TEST(test_restart_with_older_data),
		TEST(test_who_saw_the_end_is_dead),
		TEST(test_the_deadline_is_the_first_callers),
		TEST(test_restart_without_data),
		TEST(test_restart_while_pending),
		TEST(test_a_judgement_is_lost),
		TEST(test_nobody_was_left),
		TEST(test_everybody_died),
		TEST(test_a_purged_worker_comes_back),
		TEST(test_a_purged_worker_knows_better),
		TEST(test_two_restarts_in_absence),
		TEST(test_a_loss_between_two_restarts),
		TEST(test_a_renewal_in_absence),
		TEST(test_a_branch_after_a_renewal),
		TEST(test_runs_remembered_are_bounded),
		TEST(test_failover),
		TEST(test_split_brain),
		TEST(test_demoted_and_promoted_again),
		TEST(test_promoted_again_is_never_trusted),
		TEST(test_the_old_master_again),
	};

	quiet_log();
	return cmocka_run_group_tests_name("redis_continuity", tests, NULL, NULL);
}

/* SPDX-License-Identifier: ISC */
/*
 * What the pool makes of its connections, against real servers: which run of
 * Redis it is on and what every command carries of that, which servers it does
 * not live on, overflow, replacement of old connections, and publishes that
 * wait for replicas.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "keepsock/alloc.h"
#include "keepsock/log.h"
#include "keepsock/redis_scripts.h"
#include "redis_server.h"
#include "redis_settle.h"
#include "redis_wait.h"
#include "src/redis/redis_info.h"
#include "src/redis/redis_pool.h"

#define MANY     200
#define DONE_KEY "keepsock.done.a.0"

struct fixture {
	struct event_base *base;
	struct redis_server *server;
	struct redis_endpoint endpoint;
	struct redis_pool_options options;
	struct redis_pool *pool;
	bool available;
	unsigned state_changes;
	struct redis_server *replica;
};

struct answer {
	unsigned answers;
	enum redis_result code;
	uint64_t count;
	bool duplicate;
	char error[128];
	struct fixture *again; /* not NULL: call again from the callback */
};

static int setup(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));

	f->base = event_base_new();
	f->server = redis_server_start(NULL);
	f->endpoint =
		(struct redis_endpoint){.host = "127.0.0.1", .port = redis_server_port(f->server)};
	*state = f;
	return f->base ? 0 : -1;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	redis_pool_destroy(f->pool);
	event_base_loop(f->base, EVLOOP_NONBLOCK);
	event_base_free(f->base);
	redis_server_free(f->server);
	if (f->replica)
		redis_server_free(f->replica);
	free(f);
	return 0;
}

static void on_state(void *ctx, bool available)
{
	struct fixture *f = ctx;

	f->available = available;
	f->state_changes++;
	assert_int_equal(redis_pool_run_id(f->pool)[0] != '\0', available);
}

static struct redis_pool_stats stats_of(const struct fixture *f)
{
	struct redis_pool_stats stats;

	redis_pool_stats(f->pool, &stats);
	return stats;
}

static void create_pool(struct fixture *f)
{
	f->pool = redis_pool_create(f->base, &f->endpoint, &f->options, on_state, f);
}

static void create_ready_pool(struct fixture *f)
{
	create_pool(f);
	WAIT_FOR(f->base, stats_of(f).connected == stats_of(f).size);
	WAIT_FOR(f->base, f->available);
}

static void on_count(void *ctx, const struct redis_count_result *result)
{
	struct answer *answer = ctx;

	answer->answers++;
	answer->code = result->outcome.code;
	answer->count = result->count;
}

/* -- the run ------------------------------------------------------------- */

/* What the server itself says; static. */
static const char *run_of_server(const struct fixture *f)
{
	static char run[REDIS_RUN_MAX + 1];
	redisReply *reply = redis_server_command(f->server, "INFO");
	const char *id = strstr(reply->str, "\nrun_id:");
	const char *replication = strstr(reply->str, "\nmaster_replid:");

	assert_non_null(id);
	assert_non_null(replication);
	snprintf(run, sizeof(run), "%.20s%.20s", id + strlen("\nrun_id:"),
		 replication + strlen("\nmaster_replid:"));
	freeReplyObject(reply);
	return run;
}

/* Removes three words of a hash, the middle one being the run id the command carries. */
static void remove_with_run(struct fixture *f, struct answer *answer)
{
	struct redis_request *request =
		redis_request_new_count(REDIS_SCRIPT_done_remove, 1, on_count, answer);

	*answer = (struct answer){0};
	redis_request_add(request, SLICE(DONE_KEY));
	redis_request_add(request, SLICE("before"));
	redis_request_add_run(request);
	redis_request_add(request, SLICE("behind"));
	redis_pool_submit(f->pool, 0, request);
}

static void fill_hash(struct fixture *f)
{
	redis_server_do(f->server, "HSET " DONE_KEY " before 1 %s 1 behind 1 other 1",
			run_of_server(f));
}

static void test_each_command_carries_the_run_it_reaches(void **state)
{
	struct fixture *f = *state;
	struct answer answer;

	/* Called before there is a connection, on a ready one, and sent again as text. */
	fill_hash(f);
	create_pool(f);
	assert_string_equal(redis_pool_run_id(f->pool), "");
	remove_with_run(f, &answer);
	WAIT_FOR(f->base, answer.answers == 1);
	assert_int_equal(answer.code, REDIS_RESULT_OK);
	assert_int_equal(answer.count, 3);
	for (unsigned forgotten = 0; forgotten < 2; forgotten++) {
		fill_hash(f);
		if (forgotten)
			redis_server_do(f->server, "SCRIPT FLUSH");
		remove_with_run(f, &answer);
		WAIT_FOR(f->base, answer.answers == 1);
		assert_int_equal(answer.code, REDIS_RESULT_OK);
		assert_int_equal(answer.count, 3);
	}
	WAIT_FOR(f->base, f->available);
	assert_string_equal(redis_pool_run_id(f->pool), run_of_server(f));
}

static void test_a_restart_is_another_run(void **state)
{
	struct fixture *f = *state;
	char before[REDIS_RUN_MAX + 1];
	struct answer answer;

	f->options.reconnect_max_delay_ms = 20;
	create_ready_pool(f);
	snprintf(before, sizeof(before), "%s", redis_pool_run_id(f->pool));
	redis_server_kill(f->server);
	WAIT_FOR(f->base, !f->available);
	assert_string_equal(redis_pool_run_id(f->pool), "");
	redis_server_restart(f->server);
	WAIT_FOR(f->base, stats_of(f).connected == stats_of(f).size);
	assert_string_not_equal(redis_pool_run_id(f->pool), before);
	fill_hash(f);
	remove_with_run(f, &answer);
	WAIT_FOR(f->base, answer.answers == 1);
	assert_int_equal(answer.count, 3);
}

static void test_another_server_is_another_run(void **state)
{
	struct fixture *f = *state;
	struct redis_server *other = redis_server_start(NULL);
	char before[REDIS_RUN_MAX + 1];
	unsigned changes;

	create_ready_pool(f);
	snprintf(before, sizeof(before), "%s", redis_pool_run_id(f->pool));
	changes = f->state_changes;
	f->endpoint.port = redis_server_port(other);
	redis_pool_set_endpoint(f->pool, &f->endpoint);
	WAIT_FOR(f->base, f->state_changes > changes && f->available);
	assert_string_not_equal(redis_pool_run_id(f->pool), before);
	redis_pool_destroy(f->pool);
	f->pool = NULL;
	redis_server_free(other);
}

/* -- servers it does not live on ----------------------------------------- */

static void test_info(void **state)
{
	static const struct {
		const char *text;
		const char *run;     /* NULL: refused */
		const char *problem; /* part of why */
	} cases[] = {
		{"# Server\r\nredis_mode:standalone\r\nrun_id:0af\r\nrole:master\r\n", "0af", NULL},
		{"run_id:0af", "0af", NULL},
		{"run_id:0af\n", "0af", NULL},
		{"run_id:0123456789abcdef0123XX\r\nmaster_replid:fedcba9876543210fedcXX\r\n",
		 "0123456789abcdef0123fedcba9876543210fedc", NULL},
		{"run_id:0af\r\nmaster_replid:f f\r\n", NULL, "run_id"},
		{"a_run_id:1\r\nrun_id_b:2\r\nrun_id:3\r\n", "3", NULL},
		{"run_id:0af\r\ncluster_enabled:0\r\n", "0af", NULL},
		{"run_id:0af\r\n# Cluster\r\ncluster_enabled:1\r\n", NULL, "cluster_enabled:1"},
		{"redis_mode:cluster\r\nrun_id:0af\r\n", NULL, "cluster_enabled:1"},
		{"redis_mode:sentinel\r\nrun_id:0af\r\n", NULL, "Sentinel"},
		{"run_id:0af\r\nrole:slave\r\n", NULL, "replica"},
		{"", NULL, "run_id"},
		{"\n\n:\r\n", NULL, "run_id"},
		{"run_id:\r\n", NULL, "run_id"},
		{"run_id", NULL, "run_id"},
		{"run_id:a b\r\n", NULL, "run_id"},
		{"run_id:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n",
		 NULL, "run_id"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char run[REDIS_RUN_MAX + 1];
		const char *problem = redis_info_read(slice_str(cases[i].text), run);

		assert_string_equal(run, cases[i].run ? cases[i].run : "");
		if (cases[i].run)
			assert_null(problem);
		else
			assert_non_null(strstr(problem, cases[i].problem));
	}
}

static void test_a_replica_is_refused_until_it_is_master(void **state)
{
	struct fixture *f = *state;
	struct answer answer;

	redis_server_do(f->server, "REPLICAOF 127.0.0.1 1");
	f->options.reconnect_max_delay_ms = 20;
	create_pool(f);
	remove_with_run(f, &answer);
	WAIT_FOR(f->base, answer.answers == 1);
	assert_int_equal(answer.code, REDIS_RESULT_UNAVAILABLE);
	assert_non_null(strstr(stats_of(f).last_error, "replica"));
	redis_server_do(f->server, "REPLICAOF NO ONE");
	WAIT_FOR(f->base, f->available);
}

static void test_a_user_without_info_is_told(void **state)
{
	struct fixture *f = *state;

	redis_server_do(f->server, "ACL SETUSER worker on >secret ~* &* +@all -info");
	f->endpoint.user = "worker";
	f->endpoint.password = "secret";
	f->options.reconnect_max_delay_ms = 20;
	create_pool(f);
	WAIT_FOR(f->base, strstr(stats_of(f).last_error, "INFO: NOPERM") != NULL);
	redis_server_do(f->server, "ACL SETUSER worker +info");
	WAIT_FOR(f->base, f->available);
}

/* -- overflow ------------------------------------------------------------ */

static struct answer answers[MANY];

static void start_calls(struct fixture *f, uint64_t affinity)
{
	struct slice client = SLICE("nobody");

	memset(answers, 0, sizeof(answers));
	for (unsigned i = 0; i < MANY; i++)
		redis_done_remove(f->pool, affinity, SLICE(DONE_KEY), &client, 1, on_count,
				  &answers[i]);
}

static unsigned count_answers(enum redis_result code)
{
	unsigned n = 0;

	for (unsigned i = 0; i < MANY; i++) {
		assert_true(answers[i].answers <= 1);
		n += answers[i].answers == 1 && answers[i].code == code;
	}
	return n;
}

static unsigned count_lines_with(const char *text, const char *what)
{
	unsigned n = 0;

	while ((text = strstr(text, what))) {
		n++;
		text += strlen(what);
	}
	return n;
}

/* Connections of the pool that the server has, by the last command they sent. */
static unsigned clients_with(const struct fixture *f, const char *command)
{
	redisReply *reply = redis_server_command(f->server, "CLIENT LIST TYPE normal");
	unsigned n = count_lines_with(reply->str, command);

	freeReplyObject(reply);
	return n;
}

static void test_overflow_opens_when_busy_and_closes_when_idle(void **state)
{
	struct fixture *f = *state;

	f->options.size = 1;
	f->options.max_overflow = 2;
	f->options.command_timeout_ms = 1000;
	create_ready_pool(f);
	/* Calls that must keep their order stay where they are. */
	start_calls(f, 7);
	WAIT_FOR(f->base, count_answers(REDIS_RESULT_OK) == MANY);
	assert_int_equal(stats_of(f).overflow, 0);

	start_calls(f, REDIS_ANY);
	assert_int_equal(stats_of(f).overflow, 1);
	WAIT_FOR(f->base, count_answers(REDIS_RESULT_OK) == MANY);
	WAIT_FOR(f->base, clients_with(f, "cmd=script|load") == 1);
	while (stats_of(f).overflow < 2 || clients_with(f, "cmd=evalsha") < 3) {
		start_calls(f, REDIS_ANY);
		WAIT_FOR(f->base, count_answers(REDIS_RESULT_OK) == MANY);
	}
	assert_int_equal(stats_of(f).overflow, 2);
	assert_int_equal(stats_of(f).connected, 1);
	WAIT_FOR(f->base, stats_of(f).overflow == 0);
	assert_int_equal(f->state_changes, 1);
	assert_string_equal(stats_of(f).last_error, "");
}

static void test_overflow_that_fails_harms_nobody(void **state)
{
	struct fixture *f = *state;

	f->options.max_overflow = 4;
	create_ready_pool(f);
	redis_server_do(f->server, "CONFIG SET requirepass another");
	start_calls(f, REDIS_ANY);
	assert_int_equal(stats_of(f).overflow, 1);
	WAIT_FOR(f->base, count_answers(REDIS_RESULT_OK) == MANY);
	WAIT_FOR(f->base, stats_of(f).overflow == 0);
	assert_non_null(strstr(stats_of(f).last_error, "NOAUTH"));
	/* Nor is it tried with every call. */
	start_calls(f, REDIS_ANY);
	assert_int_equal(stats_of(f).overflow, 0);
	WAIT_FOR(f->base, count_answers(REDIS_RESULT_OK) == MANY);
	assert_int_equal(f->state_changes, 1);
}

/* -- old connections ----------------------------------------------------- */

static void test_old_connections_are_replaced(void **state)
{
	struct fixture *f = *state;

	f->options.recycle_ms = 1;
	f->options.command_timeout_ms = 300;
	create_ready_pool(f);
	while (stats_of(f).recycled < 4) {
		start_calls(f, stats_of(f).sent);
		WAIT_FOR(f->base, count_answers(REDIS_RESULT_OK) == MANY);
	}
	/* Nobody noticed. */
	assert_int_equal(f->state_changes, 1);
	assert_int_equal(stats_of(f).connected, 2);
	assert_int_equal(stats_of(f).reconnects, 0);
	assert_string_equal(stats_of(f).last_error, "");
}

static void test_an_old_connection_stays_while_there_is_no_new_one(void **state)
{
	struct fixture *f = *state;

	f->options.size = 1;
	f->options.recycle_ms = 1;
	f->options.command_timeout_ms = 300;
	f->options.reconnect_max_delay_ms = 20;
	create_ready_pool(f);
	redis_server_do(f->server, "CONFIG SET requirepass another");
	WAIT_FOR(f->base, strstr(stats_of(f).last_error, "NOAUTH") != NULL);
	start_calls(f, 0);
	WAIT_FOR(f->base, count_answers(REDIS_RESULT_OK) == MANY);
	assert_int_equal(stats_of(f).recycled, 0);
	assert_int_equal(f->state_changes, 1);
}

static void on_count_again(void *ctx, const struct redis_count_result *result)
{
	struct answer *answer = ctx;
	struct slice client = SLICE("nobody");

	on_count(ctx, result);
	assert_int_equal(result->outcome.code, REDIS_RESULT_OK);
	if (answer->again)
		redis_done_remove(answer->again->pool, 0, SLICE(DONE_KEY), &client, 1,
				  on_count_again, answer);
}

static void test_an_old_connection_is_replaced_between_commands_only(void **state)
{
	struct fixture *f = *state;
	struct answer chain = {.again = f};
	struct redis_count_result first = {.outcome = {REDIS_RESULT_OK, ""}};

	f->options.size = 1;
	f->options.recycle_ms = 1;
	f->options.command_timeout_ms = 500;
	create_ready_pool(f);
	/* There is always a command under way, also when the new connection is ready. */
	on_count_again(&chain, &first);
	WAIT_FOR(f->base, clients_with(f, "cmd=script|load") == 1);
	WAIT_FOR(f->base, stats_of(f).answered > 0 && clients_with(f, "cmd=ping") == 1);
	assert_int_equal(stats_of(f).recycled, 0);
	chain.again = NULL;
	WAIT_FOR(f->base, stats_of(f).recycled == 1);
	assert_int_equal(f->state_changes, 1);
}

/* -- replicas ------------------------------------------------------------ */

static void on_published(void *ctx, const struct redis_publish_result *result)
{
	struct answer *answer = ctx;

	answer->answers++;
	answer->code = result->outcome.code;
	answer->duplicate = result->duplicate;
	snprintf(answer->error, sizeof(answer->error), "%s", result->outcome.error);
}

/* number 0: not a client's command. */
static void start_publish(struct fixture *f, struct answer *answer, uint64_t number)
{
	struct redis_publish_channel channel = {.channel = SLICE("x"),
						.history_size = 1000,
						.history_ttl_ms = 60000,
						.meta_ttl_ms = 60000};
	struct redis_publish message = {.kind = REDIS_MESSAGE_PUBLICATION,
					.body = SLICE("2 0 0\n{}"),
					.epoch = "ABCDEFGH",
					.channels = &channel,
					.n_channels = 1};

	if (number > 0) {
		message.client = SLICE("c");
		message.done_key = SLICE(DONE_KEY);
		message.number = number;
	}
	*answer = (struct answer){0};
	redis_publish(f->pool, number, &message, on_published, answer);
}

static void create_settled_pool(struct fixture *f)
{
	create_ready_pool(f);
	settle_run(f->base, f->pool);
}

static enum redis_result publish(struct fixture *f, struct answer *answer, uint64_t number)
{
	start_publish(f, answer, number);
	WAIT_FOR(f->base, answer->answers == 1);
	return answer->code;
}

/* A replica that had stopped may be slow once more. */
static void publish_until_confirmed(struct fixture *f, struct answer *answer, uint64_t number)
{
	while (publish(f, answer, number) == REDIS_RESULT_TIMEOUT)
		;
	assert_int_equal(answer->code, REDIS_RESULT_OK);
}

static void wait_for_replica(const struct fixture *f)
{
	long long confirmed = 0;

	while (confirmed == 0) {
		redisReply *reply = redis_server_command(f->server, "WAIT 1 1000");

		confirmed = reply->integer;
		freeReplyObject(reply);
	}
}

static int setup_with_replica(void **state)
{
	struct fixture *f;

	if (setup(state) != 0)
		return -1;
	f = *state;
	f->replica = redis_server_start(NULL);
	redis_server_do(f->server, "CONFIG SET repl-diskless-sync-delay 0");
	redis_server_do(f->replica, "REPLICAOF 127.0.0.1 %d", (int)redis_server_port(f->server));
	wait_for_replica(f);
	f->options.min_replicas = 1;
	/* Long enough for a busy machine; tests of failure shorten it. */
	f->options.min_replicas_timeout_ms = 10000;
	f->options.command_timeout_ms = 30000;
	return 0;
}

static long long stream_length(const struct redis_server *server)
{
	redisReply *reply = redis_server_command(server, "XLEN keepsock.stream.x");
	long long n = reply->integer;

	freeReplyObject(reply);
	return n;
}

static unsigned count_waits(const struct fixture *f)
{
	redisReply *reply = redis_server_command(f->server, "INFO commandstats");
	const char *line = strstr(reply->str, "cmdstat_wait:calls=");
	unsigned n = line ? (unsigned)strtoul(line + strlen("cmdstat_wait:calls="), NULL, 10) : 0;

	freeReplyObject(reply);
	return n;
}

static void test_a_publish_succeeds_when_replicas_have_it(void **state)
{
	struct fixture *f = *state;
	struct answer answer;

	create_settled_pool(f);
	assert_int_equal(stats_of(f).size, 3);
	assert_int_equal(publish(f, &answer, 0), REDIS_RESULT_OK);
	assert_int_equal(stream_length(f->replica), 1);
	/* Scripts forgotten: sent again, confirmed too. */
	redis_server_do(f->server, "SCRIPT FLUSH");
	assert_int_equal(publish(f, &answer, 0), REDIS_RESULT_OK);
	assert_int_equal(stream_length(f->replica), 2);
	assert_int_equal(stats_of(f).unreplicated, 0);
}

static void test_too_few_replicas_are_no_success(void **state)
{
	struct fixture *f = *state;
	struct answer answer, other = {0};
	struct slice client = SLICE("nobody");

	f->options.min_replicas_timeout_ms = 300;
	create_settled_pool(f);
	redis_server_pause(f->replica);
	start_publish(f, &answer, 0);
	/* Nothing else waits for that. */
	redis_done_remove(f->pool, 0, SLICE(DONE_KEY), &client, 1, on_count, &other);
	WAIT_FOR(f->base, other.answers == 1);
	assert_int_equal(other.code, REDIS_RESULT_OK);
	WAIT_FOR(f->base, answer.answers == 1);
	assert_int_equal(answer.code, REDIS_RESULT_TIMEOUT);
	assert_non_null(strstr(answer.error, "fewer replicas"));
	assert_int_equal(stream_length(f->server), 1);
	assert_int_equal(stats_of(f).unreplicated, 1);
	assert_true(redis_pool_available(f->pool));
	redis_server_resume(f->replica);
	publish_until_confirmed(f, &answer, 0);
	assert_int_equal(stats_of(f).reconnects, 0);
}

/* What a repetition finds done may still be on no replica. */
static void test_a_repetition_is_no_shortcut(void **state)
{
	struct fixture *f = *state;
	struct answer answer;

	f->options.min_replicas_timeout_ms = 300;
	create_settled_pool(f);
	redis_server_pause(f->replica);
	assert_int_equal(publish(f, &answer, 1), REDIS_RESULT_TIMEOUT);
	/* By another connection, which has written nothing itself. */
	redis_pool_set_endpoint(f->pool, &f->endpoint);
	WAIT_FOR(f->base, stats_of(f).connected == 3);
	assert_int_equal(publish(f, &answer, 1), REDIS_RESULT_TIMEOUT);
	assert_int_equal(stream_length(f->server), 1);
	redis_server_resume(f->replica);
	publish_until_confirmed(f, &answer, 1);
	assert_true(answer.duplicate);
	assert_int_equal(stream_length(f->replica), 1);
}

static void test_one_wait_confirms_a_batch(void **state)
{
	struct fixture *f = *state;
	unsigned before;

	create_settled_pool(f);
	before = count_waits(f);
	for (unsigned i = 0; i < MANY / 2; i++)
		start_publish(f, &answers[i], 0);
	event_base_loop(f->base, EVLOOP_NONBLOCK);
	/* Those that come while it is under way are the next batch. */
	for (unsigned i = MANY / 2; i < MANY; i++)
		start_publish(f, &answers[i], 0);
	WAIT_FOR(f->base, count_answers(REDIS_RESULT_OK) == MANY);
	assert_int_equal(stream_length(f->replica), MANY);
	assert_in_range(count_waits(f) - before, 1, 2);
}

static void test_waiting_publishes_are_answered_when_redis_dies(void **state)
{
	struct fixture *f = *state;

	create_settled_pool(f);
	redis_server_pause(f->replica);
	for (unsigned i = 0; i < MANY / 2; i++)
		start_publish(f, &answers[i], 0);
	WAIT_FOR(f->base, stream_length(f->server) == MANY / 2);
	for (unsigned i = MANY / 2; i < MANY; i++)
		start_publish(f, &answers[i], 0);
	assert_int_equal(stats_of(f).waiting, MANY);
	redis_server_kill(f->server);
	WAIT_FOR(f->base, count_answers(REDIS_RESULT_UNAVAILABLE) == MANY);
	assert_int_equal(stats_of(f).waiting, 0);
	redis_server_resume(f->replica);
}

static void test_destroying_answers_what_waits_for_replicas(void **state)
{
	struct fixture *f = *state;

	create_settled_pool(f);
	redis_server_pause(f->replica);
	for (unsigned i = 0; i < MANY; i++)
		start_publish(f, &answers[i], 0);
	WAIT_FOR(f->base, stream_length(f->server) == MANY);
	redis_pool_destroy(f->pool);
	f->pool = NULL;
	assert_int_equal(count_answers(REDIS_RESULT_UNAVAILABLE), MANY);
	redis_server_resume(f->replica);
}

static void test_a_user_who_may_not_wait_gets_no_success(void **state)
{
	struct fixture *f = *state;
	struct answer answer;

	redis_server_do(f->server, "ACL SETUSER worker on >secret ~* &* +@all -wait");
	f->endpoint.user = "worker";
	f->endpoint.password = "secret";
	create_settled_pool(f);
	assert_int_equal(publish(f, &answer, 0), REDIS_RESULT_UNAVAILABLE);
	assert_non_null(strstr(stats_of(f).last_error, "NOPERM"));
	redis_server_do(f->server, "ACL SETUSER worker +wait");
	assert_int_equal(publish(f, &answer, 0), REDIS_RESULT_OK);
}

int main(void)
{
#define TEST(name)         cmocka_unit_test_setup_teardown(name, setup, teardown)
#define REPLICA_TEST(name) cmocka_unit_test_setup_teardown(name, setup_with_replica, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_each_command_carries_the_run_it_reaches),
		TEST(test_a_restart_is_another_run),
		TEST(test_another_server_is_another_run),
		cmocka_unit_test(test_info),
		TEST(test_a_replica_is_refused_until_it_is_master),
		TEST(test_a_user_without_info_is_told),
		TEST(test_overflow_opens_when_busy_and_closes_when_idle),
		TEST(test_overflow_that_fails_harms_nobody),
		TEST(test_old_connections_are_replaced),
		TEST(test_an_old_connection_stays_while_there_is_no_new_one),
		TEST(test_an_old_connection_is_replaced_between_commands_only),
		REPLICA_TEST(test_a_publish_succeeds_when_replicas_have_it),
		REPLICA_TEST(test_too_few_replicas_are_no_success),
		REPLICA_TEST(test_a_repetition_is_no_shortcut),
		REPLICA_TEST(test_one_wait_confirms_a_batch),
		REPLICA_TEST(test_waiting_publishes_are_answered_when_redis_dies),
		REPLICA_TEST(test_destroying_answers_what_waits_for_replicas),
		REPLICA_TEST(test_a_user_who_may_not_wait_gets_no_success),
	};

	/* The errors that are tested for are not news. */
	if (log_set_target("file:/dev/null") != 0)
		return 1;
	return cmocka_run_group_tests_name("redis_pool", tests, NULL, NULL);
}

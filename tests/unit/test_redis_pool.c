/* SPDX-License-Identifier: ISC */
/*
 * What the pool makes of its connections, against real servers: which run of
 * Redis it is on and what every command carries of that, and which servers it
 * does not live on.
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
#include "redis_wait.h"
#include "src/redis/redis_info.h"
#include "src/redis/redis_pool.h"

#define DONE_KEY "keepsock.done.a.0"

struct fixture {
	struct event_base *base;
	struct redis_server *server;
	struct redis_endpoint endpoint;
	struct redis_pool_options options;
	struct redis_pool *pool;
	bool available;
	unsigned state_changes;
};

struct answer {
	unsigned answers;
	enum redis_result code;
	uint64_t count;
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
	WAIT_FOR(f->base, f->available);
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

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_each_command_carries_the_run_it_reaches),
		TEST(test_a_restart_is_another_run),
		TEST(test_another_server_is_another_run),
		cmocka_unit_test(test_info),
		TEST(test_a_replica_is_refused_until_it_is_master),
		TEST(test_a_user_without_info_is_told),
	};

	/* The errors that are tested for are not news. */
	if (log_set_target("file:/dev/null") != 0)
		return 1;
	return cmocka_run_group_tests_name("redis_pool", tests, NULL, NULL);
}

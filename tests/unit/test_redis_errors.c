/* SPDX-License-Identifier: ISC */
/*
 * A real redis-server that refuses, forgets scripts, holds foreign data, or does not
 * keep up: what calls are told, and how much may wait.
 */
#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/log.h"
#include "redis_calls.h"
#include "redis_settle.h"
#include "src/redis/redis_connection.h"

/* -- scripts and errors -------------------------------------------------- */

static void test_scripts_forgotten(void **state)
{
	struct fixture *f = *state;

	create_ready_pool(f);
	for (unsigned round = 0; round < 3; round++) {
		start_calls(f, MANY);
		WAIT_FOR(f->base, count_answers(f) >= 10);
		redis_server_do(f->server, "SCRIPT FLUSH");
		WAIT_FOR(f->base, count_answers(f) == MANY);
		assert_answered_once(f, MANY);
		assert_int_equal(count_code(f, REDIS_RESULT_OK), MANY);
	}
	assert_int_equal(stats_of(f).errors, 0);
	assert_int_equal(stats_of(f).reconnects, 0);
}

static void on_published(void *ctx, const struct redis_publish_result *result)
{
	struct call *call = ctx;

	call->answers++;
	call->code = result->outcome.code;
	assert_int_equal(result->n_channels, result->outcome.code == REDIS_RESULT_OK ? 1 : 0);
}

static void publish(struct fixture *f, struct call *call, const char *channel_name)
{
	struct redis_publish_channel channel = {.channel = slice_str(channel_name),
						.history_size = 10,
						.history_ttl_ms = 60000,
						.meta_ttl_ms = 60000};
	struct redis_publish message = {.kind = REDIS_MESSAGE_PUBLICATION,
					.body = SLICE("2 0 0\n{}"),
					.epoch = "ABCDEFGH",
					.channels = &channel,
					.n_channels = 1};

	*call = (struct call){.fixture = f};
	redis_publish(f->pool, 1, &message, on_published, call);
	WAIT_FOR(f->base, call->answers == 1);
}

static void test_server_refuses_for_now(void **state)
{
	struct fixture *f = *state;
	struct call call;
	redisReply *reply;

	create_ready_pool(f);
	settle_run(f->base, f->pool);
	redis_server_do(f->server, "CONFIG SET maxmemory 1");
	publish(f, &call, "x");
	assert_int_equal(call.code, REDIS_RESULT_UNAVAILABLE);
	assert_non_null(strstr(stats_of(f).last_error, "OOM"));
	redis_server_do(f->server, "CONFIG SET maxmemory 0");

	redis_server_do(f->server, "CONFIG SET min-replicas-to-write 1");
	publish(f, &call, "x");
	assert_int_equal(call.code, REDIS_RESULT_UNAVAILABLE);
	assert_non_null(strstr(stats_of(f).last_error, "NOREPLICAS"));
	redis_server_do(f->server, "CONFIG SET min-replicas-to-write 0");

	redis_server_do(f->server, "CONFIG SET replica-serve-stale-data no");
	redis_server_do(f->server, "REPLICAOF 127.0.0.1 1");
	publish(f, &call, "x");
	assert_int_equal(call.code, REDIS_RESULT_UNAVAILABLE);
	redis_server_do(f->server, "CONFIG SET replica-serve-stale-data yes");
	publish(f, &call, "x");
	assert_int_equal(call.code, REDIS_RESULT_UNAVAILABLE);
	assert_non_null(strstr(stats_of(f).last_error, "READONLY"));
	/* It still answers, but is not our Redis any more. */
	WAIT_FOR(f->base, !f->available);
	WAIT_FOR(f->base, strstr(stats_of(f).last_error, "not a master") != NULL);
	redis_server_do(f->server, "REPLICAOF NO ONE");
	WAIT_FOR(f->base, stats_of(f).connected == 2);

	/* Nothing of all this has left a trace. */
	reply = redis_server_command(f->server, "EXISTS keepsock.meta.x keepsock.stream.x");
	assert_int_equal(reply->integer, 0);
	freeReplyObject(reply);
	assert_int_equal(stats_of(f).errors, 4);
	settle_run(f->base, f->pool);
	publish(f, &call, "x");
	assert_int_equal(call.code, REDIS_RESULT_OK);
}

static void test_a_run_that_nobody_has_settled(void **state)
{
	struct fixture *f = *state;
	struct call call;
	uint64_t refused;

	create_ready_pool(f);
	publish(f, &call, "x");
	assert_int_equal(call.code, REDIS_RESULT_UNAVAILABLE);
	refused = stats_of(f).unavailable;
	assert_int_equal(refused, 1);
	/* That is no error of anybody's, and what concerns no channel does not wait for it. */
	assert_int_equal(stats_of(f).errors, 0);
	start_calls(f, 1);
	WAIT_FOR(f->base, count_answers(f) == 1);
	assert_int_equal(f->calls[0].code, REDIS_RESULT_OK);
	settle_run(f->base, f->pool);
	publish(f, &call, "x");
	assert_int_equal(call.code, REDIS_RESULT_OK);
}

static void test_foreign_data_in_our_keys(void **state)
{
	struct fixture *f = *state;
	struct call call;

	create_ready_pool(f);
	settle_run(f->base, f->pool);
	redis_server_do(f->server, "SET keepsock.meta.x 1");
	publish(f, &call, "x");
	assert_int_equal(call.code, REDIS_RESULT_ERROR);
	assert_non_null(strstr(stats_of(f).last_error, "WRONGTYPE"));
	publish(f, &call, "y");
	assert_int_equal(call.code, REDIS_RESULT_OK);
}

static void test_classify(void **state)
{
	static const struct {
		const char *text;
		enum redis_result result;
	} cases[] = {
		{"LOADING Redis is loading the dataset in memory", REDIS_RESULT_UNAVAILABLE},
		{"BUSY Redis is busy running a script.", REDIS_RESULT_UNAVAILABLE},
		{"MASTERDOWN Link with MASTER is down", REDIS_RESULT_UNAVAILABLE},
		{"READONLY You can't write against a read only replica.", REDIS_RESULT_UNAVAILABLE},
		{"MISCONF Redis is configured to save RDB snapshots", REDIS_RESULT_UNAVAILABLE},
		{"ERR Error running script (call to f_0): @user_script:10: @user_script: 10: "
		 "-OOM command not allowed",
		 REDIS_RESULT_UNAVAILABLE},
		{"ERR Error running script (call to f_0): @user_script:10: WRONGTYPE Operation",
		 REDIS_RESULT_ERROR},
		{"WRONGTYPE Operation against a key", REDIS_RESULT_ERROR},
		{"ERR value is not an integer: -OOM ", REDIS_RESULT_ERROR},
		{"NOSCRIPT No matching script", REDIS_RESULT_ERROR},
		{"", REDIS_RESULT_ERROR},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(redis_connection_classify(cases[i].text), cases[i].result);
	assert_string_equal(redis_result_name(REDIS_RESULT_TIMEOUT), "timeout");
}

/* -- bounds -------------------------------------------------------------- */

static void test_waiting_is_bounded(void **state)
{
	struct fixture *f = *state;

	f->options.size = 1;
	f->options.waiting_limit = 10;
	create_ready_pool(f);
	start_calls(f, 50);
	assert_int_equal(count_answers(f), 0);
	assert_int_equal(stats_of(f).sent, 10);
	WAIT_FOR(f->base, count_answers(f) == 50);
	assert_answered_once(f, 50);
	for (unsigned i = 0; i < 50; i++)
		assert_int_equal(f->calls[i].code,
				 i < 10 ? REDIS_RESULT_OK : REDIS_RESULT_UNAVAILABLE);
	/* There is room again. */
	start_calls(f, 10);
	WAIT_FOR(f->base, count_answers(f) == 10);
	assert_int_equal(count_code(f, REDIS_RESULT_OK), 10);
}

static void test_waiting_bytes_are_bounded(void **state)
{
	struct fixture *f = *state;

	f->options.size = 1;
	f->options.waiting_bytes_limit = 100;
	create_ready_pool(f);
	/* One alone passes whatever its size. */
	start_calls(f, 5);
	WAIT_FOR(f->base, count_answers(f) == 5);
	assert_answered_once(f, 5);
	assert_int_equal(f->calls[0].code, REDIS_RESULT_OK);
	assert_int_equal(f->calls[4].code, REDIS_RESULT_UNAVAILABLE);
}

/* More than socket buffers hold, while Redis does not read: nothing is lost or mixed up. */
static void test_large_commands(void **state)
{
	struct fixture *f = *state;
	size_t len = 1024 * 1024;
	char *info = xmalloc(len);
	struct redis_presence_member member = {.channel = SLICE("big"),
					       .client = SLICE("c"),
					       .user = SLICE("u"),
					       .info = {info, len}};
	redisReply *reply;

	memset(info, 'x', len);
	f->options.size = 1;
	f->options.waiting_bytes_limit = 64 * 1024 * 1024;
	create_ready_pool(f);
	settle_run(f->base, f->pool);
	redis_server_pause(f->server);
	memset(f->calls, 0, sizeof(f->calls));
	for (unsigned i = 0; i < 20; i++)
		redis_presence_refresh(f->pool, 0, 60000, 1, &member, 1, on_answer, &f->calls[i]);
	event_base_loop(f->base, EVLOOP_NONBLOCK);
	redis_server_resume(f->server);
	WAIT_FOR(f->base, count_answers(f) == 20);
	assert_answered_once(f, 20);
	assert_int_equal(count_code(f, REDIS_RESULT_OK), 20);
	reply = redis_server_command(f->server, "HSTRLEN keepsock.presence.big c");
	assert_int_equal(reply->integer, (long long)len + 5);
	freeReplyObject(reply);
	free(info);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_scripts_forgotten),
		TEST(test_server_refuses_for_now),
		TEST(test_a_run_that_nobody_has_settled),
		TEST(test_foreign_data_in_our_keys),
		cmocka_unit_test(test_classify),
		TEST(test_waiting_is_bounded),
		TEST(test_waiting_bytes_are_bounded),
		TEST(test_large_commands),
	};

	/* The errors that are tested for are not news. */
	if (log_set_target("file:/dev/null") != 0)
		return 1;
	return cmocka_run_group_tests_name("redis_errors", tests, NULL, NULL);
}

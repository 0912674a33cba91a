/* SPDX-License-Identifier: ISC */
/*
 * The command connections against a real redis-server that dies, hangs,
 * restarts, refuses and forgets: every call is answered exactly once, with the
 * right result, and never from inside the call.
 */
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "keepsock/alloc.h"
#include "keepsock/log.h"
#include "keepsock/redis_keys.h"
#include "keepsock/redis_scripts.h"
#include "redis_server.h"
#include "redis_wait.h"
#include "src/redis/redis_connection.h"

#define MANY 300

/* One call and what came of it. */
struct call {
	unsigned answers;
	enum redis_result code;
	bool inside; /* the call that makes it has not returned */
	bool answered_inside;
	struct fixture *fixture;
};

struct fixture {
	struct event_base *base;
	struct redis_server *server;
	struct redis_endpoint endpoint;
	struct redis_pool_options options;
	struct redis_pool *pool;
	bool available;
	unsigned state_changes;
	struct call calls[MANY];
	unsigned again_left; /* calls to make from callbacks */
};

static int setup_server(void **state, const char *password)
{
	struct fixture *f = xcalloc(1, sizeof(*f));

	f->base = event_base_new();
	f->server = redis_server_start(password);
	f->endpoint = (struct redis_endpoint){
		.host = "127.0.0.1", .port = redis_server_port(f->server), .password = password};
	*state = f;
	return f->base ? 0 : -1;
}

static int setup(void **state)
{
	return setup_server(state, NULL);
}

static int setup_with_password(void **state)
{
	return setup_server(state, "correct-horse");
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	redis_pool_destroy(f->pool);
	/* A last turn for what libevent's resolver still has to give back. */
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
	assert_true(redis_pool_available(f->pool) == available);
}

static void create_pool(struct fixture *f)
{
	f->pool = redis_pool_create(f->base, &f->endpoint, &f->options, on_state, f);
}

static void create_ready_pool(struct fixture *f)
{
	unsigned size = f->options.size ? f->options.size : 2;
	struct redis_pool_stats stats = {0};

	create_pool(f);
	WAIT_FOR(f->base, (redis_pool_stats(f->pool, &stats), stats.connected == size));
	/* State changes are told a turn later. */
	WAIT_FOR(f->base, f->available);
}

static void on_answer(void *ctx, const struct redis_count_result *result)
{
	struct call *call = ctx;

	call->answers++;
	call->code = result->outcome.code;
	call->answered_inside |= call->inside;
	assert_non_null(result->outcome.error);
}

static void start_call_then(struct fixture *f, struct call *call, uint64_t affinity,
			    redis_count_callback callback)
{
	struct slice client = SLICE("nobody");

	call->fixture = f;
	call->inside = true;
	redis_done_remove(f->pool, affinity, SLICE("keepsock.done.a.0"), &client, 1, callback,
			  call);
	call->inside = false;
}

static void start_call(struct fixture *f, struct call *call, uint64_t affinity)
{
	start_call_then(f, call, affinity, on_answer);
}

static void start_calls(struct fixture *f, unsigned n)
{
	memset(f->calls, 0, sizeof(f->calls));
	for (unsigned i = 0; i < n; i++)
		start_call(f, &f->calls[i], i);
}

static unsigned count_answers(const struct fixture *f)
{
	unsigned answers = 0;

	for (size_t i = 0; i < MANY; i++)
		answers += f->calls[i].answers;
	return answers;
}

static unsigned count_code(const struct fixture *f, enum redis_result code)
{
	unsigned n = 0;

	for (size_t i = 0; i < MANY; i++)
		n += f->calls[i].answers > 0 && f->calls[i].code == code;
	return n;
}

static void assert_answered_once(const struct fixture *f, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(f->calls[i].answers, 1);
		assert_false(f->calls[i].answered_inside);
	}
}

static struct redis_pool_stats stats_of(const struct fixture *f)
{
	struct redis_pool_stats stats;

	redis_pool_stats(f->pool, &stats);
	return stats;
}

/* Retries until a call works: how a caller sees Redis come back. */
static void wait_until_working(struct fixture *f)
{
	struct call call = {.code = REDIS_RESULT_ERROR};

	WAIT_FOR(f->base, f->available);
	do {
		call.answers = 0;
		start_call(f, &call, 0);
		WAIT_FOR(f->base, call.answers == 1);
	} while (call.code != REDIS_RESULT_OK);
}

/* -- connecting ---------------------------------------------------------- */

static void test_connects_and_answers(void **state)
{
	struct fixture *f = *state;
	struct redis_pool_stats stats;

	create_ready_pool(f);
	assert_int_equal(f->state_changes, 1);
	start_calls(f, MANY);
	WAIT_FOR(f->base, count_answers(f) == MANY);
	assert_answered_once(f, MANY);
	assert_int_equal(count_code(f, REDIS_RESULT_OK), MANY);
	stats = stats_of(f);
	assert_int_equal(stats.size, 2);
	assert_int_equal(stats.connected, 2);
	assert_int_equal(stats.sent, MANY);
	assert_int_equal(stats.answered, MANY);
	assert_int_equal(stats.waiting, 0);
	assert_int_equal(stats.errors + stats.timeouts + stats.unavailable + stats.reconnects, 0);
	assert_true(stats.latency_us_sum > 0);
	assert_string_equal(stats.last_error, "");
}

static void test_calls_wait_for_first_connection(void **state)
{
	struct fixture *f = *state;

	create_pool(f);
	start_calls(f, MANY);
	assert_int_equal(stats_of(f).waiting, MANY);
	WAIT_FOR(f->base, count_answers(f) == MANY);
	assert_answered_once(f, MANY);
	assert_int_equal(count_code(f, REDIS_RESULT_OK), MANY);
}

static void test_resolves_names(void **state)
{
	struct fixture *f = *state;

	f->endpoint.host = "localhost";
	create_ready_pool(f);
	start_calls(f, 1);
	WAIT_FOR(f->base, count_answers(f) == 1);
	assert_int_equal(f->calls[0].code, REDIS_RESULT_OK);
}

static void test_destroyed_while_resolving(void **state)
{
	struct fixture *f = *state;

	f->endpoint.host = "no-such-host.invalid";
	create_pool(f);
	start_calls(f, 3);
	event_base_loop(f->base, EVLOOP_NONBLOCK);
	redis_pool_destroy(f->pool);
	f->pool = NULL;
	assert_int_equal(count_code(f, REDIS_RESULT_UNAVAILABLE), 3);
	assert_answered_once(f, 3);
}

static void test_nobody_listens(void **state)
{
	struct fixture *f = *state;

	redis_server_kill(f->server);
	create_pool(f);
	start_calls(f, MANY);
	WAIT_FOR(f->base, count_answers(f) == MANY);
	assert_answered_once(f, MANY);
	assert_int_equal(count_code(f, REDIS_RESULT_UNAVAILABLE), MANY);
	assert_int_equal(f->state_changes, 0);
	assert_string_not_equal(stats_of(f).last_error, "");
	/* From now on calls fail without waiting for the next attempt. */
	start_calls(f, 2);
	assert_int_equal(count_answers(f), 0);
	event_base_loop(f->base, EVLOOP_ONCE);
	assert_int_equal(count_code(f, REDIS_RESULT_UNAVAILABLE), 2);
	redis_server_restart(f->server);
	wait_until_working(f);
}

static void test_password(void **state)
{
	struct fixture *f = *state;

	create_ready_pool(f);
	start_calls(f, 1);
	WAIT_FOR(f->base, count_answers(f) == 1);
	assert_int_equal(f->calls[0].code, REDIS_RESULT_OK);
}

static void test_user_and_database(void **state)
{
	struct fixture *f = *state;
	redisReply *reply;

	redis_server_do(f->server, "ACL SETUSER worker on >secret ~* &* +@all");
	f->endpoint.user = "worker";
	f->endpoint.password = "secret";
	f->endpoint.db = 3;
	create_ready_pool(f);
	reply = redis_server_command(f->server, "CLIENT LIST TYPE normal");
	assert_non_null(strstr(reply->str, "user=worker"));
	assert_non_null(strstr(reply->str, "db=3"));
	freeReplyObject(reply);
}

static void test_wrong_password(void **state)
{
	struct fixture *f = *state;
	struct redis_endpoint wrong = f->endpoint;

	wrong.password = "wrong";
	f->pool = redis_pool_create(f->base, &wrong, &f->options, on_state, f);
	start_calls(f, 10);
	WAIT_FOR(f->base, count_answers(f) == 10);
	assert_answered_once(f, 10);
	assert_int_equal(count_code(f, REDIS_RESULT_UNAVAILABLE), 10);
	assert_non_null(strstr(stats_of(f).last_error, "WRONGPASS"));
	assert_null(strstr(stats_of(f).last_error, "wrong\""));
	assert_false(redis_pool_available(f->pool));
	/* None at all is refused as well; the right one is taken. */
	wrong.password = NULL;
	redis_pool_set_endpoint(f->pool, &wrong);
	WAIT_FOR(f->base, strstr(stats_of(f).last_error, "NOAUTH") != NULL);
	redis_pool_set_endpoint(f->pool, &f->endpoint);
	wait_until_working(f);
}

static void test_set_endpoint(void **state)
{
	struct fixture *f = *state;
	struct redis_server *other = redis_server_start(NULL);
	struct redis_endpoint endpoint = {.host = "127.0.0.1", .port = redis_server_port(other)};
	redisReply *reply;

	create_ready_pool(f);
	start_calls(f, 20);
	redis_pool_set_endpoint(f->pool, &endpoint);
	assert_int_equal(count_answers(f), 0);
	WAIT_FOR(f->base, count_answers(f) == 20);
	assert_answered_once(f, 20);
	assert_int_equal(count_code(f, REDIS_RESULT_UNAVAILABLE), 20);
	start_calls(f, 20);
	WAIT_FOR(f->base, count_answers(f) == 20);
	assert_int_equal(count_code(f, REDIS_RESULT_OK), 20);
	reply = redis_server_command(other, "CLIENT LIST TYPE normal");
	assert_non_null(strstr(reply->str, "cmd=evalsha"));
	freeReplyObject(reply);
	redis_pool_destroy(f->pool);
	f->pool = NULL;
	redis_server_free(other);
}

/* -- loss ---------------------------------------------------------------- */

static void test_killed_with_calls_in_flight(void **state)
{
	struct fixture *f = *state;

	create_ready_pool(f);
	/* Stopped, so that what was sent stays unanswered until the kill. */
	redis_server_pause(f->server);
	start_calls(f, MANY);
	event_base_loop(f->base, EVLOOP_NONBLOCK);
	redis_server_kill(f->server);
	WAIT_FOR(f->base, count_answers(f) == MANY);
	assert_answered_once(f, MANY);
	assert_int_equal(count_code(f, REDIS_RESULT_UNAVAILABLE), MANY);
	WAIT_FOR(f->base, !f->available);
	assert_false(redis_pool_available(f->pool));
	redis_server_restart(f->server);
	wait_until_working(f);
	assert_true(stats_of(f).reconnects >= 1);
	assert_true(stats_of(f).unavailable >= MANY);
}

/* Kills and restarts again and again under calls; each is answered once whatever it gets. */
static void test_many_restarts(void **state)
{
	struct fixture *f = *state;

	f->options.reconnect_max_delay_ms = 20;
	create_ready_pool(f);
	for (unsigned round = 0; round < 5; round++) {
		start_calls(f, MANY);
		/* Some are answered before, some not. */
		WAIT_FOR(f->base, count_answers(f) >= round * 20);
		redis_server_kill(f->server);
		WAIT_FOR(f->base, count_answers(f) == MANY);
		assert_answered_once(f, MANY);
		assert_int_equal(count_code(f, REDIS_RESULT_OK) +
					 count_code(f, REDIS_RESULT_UNAVAILABLE),
				 MANY);
		redis_server_restart(f->server);
		wait_until_working(f);
	}
	assert_int_equal(stats_of(f).waiting, 0);
}

static void test_hanging_server_times_out(void **state)
{
	struct fixture *f = *state;
	struct call late = {0};

	f->options.command_timeout_ms = 500;
	f->options.connect_timeout_ms = 500;
	create_ready_pool(f);
	redis_server_pause(f->server);
	start_calls(f, 40);
	WAIT_FOR(f->base, count_answers(f) == 40);
	assert_answered_once(f, 40);
	/* With the first overdue one the connection is given up, and all others with it. */
	assert_true(count_code(f, REDIS_RESULT_TIMEOUT) >= 1);
	assert_int_equal(
		count_code(f, REDIS_RESULT_TIMEOUT) + count_code(f, REDIS_RESULT_UNAVAILABLE), 40);
	assert_int_equal(stats_of(f).timeouts, count_code(f, REDIS_RESULT_TIMEOUT));
	WAIT_FOR(f->base, !f->available);
	/* It accepts connections and answers nothing: still away, and known to be. */
	start_call(f, &late, 0);
	WAIT_FOR(f->base, late.answers == 1);
	assert_int_equal(late.code, REDIS_RESULT_UNAVAILABLE);
	WAIT_FOR(f->base, strstr(stats_of(f).last_error, "greeting: timed out") != NULL);
	redis_server_resume(f->server);
	wait_until_working(f);
}

static void test_idle_connection_notices_a_hang(void **state)
{
	struct fixture *f = *state;

	f->options.command_timeout_ms = 100;
	f->options.connect_timeout_ms = 100;
	create_ready_pool(f);
	redis_server_pause(f->server);
	WAIT_FOR(f->base, !f->available);
	assert_int_equal(stats_of(f).sent, 0);
	assert_int_equal(stats_of(f).timeouts, 0);
	redis_server_resume(f->server);
	wait_until_working(f);
}

static void test_connection_killed_by_operator(void **state)
{
	struct fixture *f = *state;

	create_ready_pool(f);
	redis_server_do(f->server, "CLIENT KILL TYPE normal SKIPME yes");
	WAIT_FOR(f->base, stats_of(f).reconnects == 2);
	wait_until_working(f);
}

static void test_no_connections_left_on_server(void **state)
{
	struct fixture *f = *state;

	redis_server_do(f->server, "CONFIG SET maxclients 1");
	create_pool(f);
	WAIT_FOR(f->base, strstr(stats_of(f).last_error, "max number of clients") != NULL);
	redis_server_kill(f->server);
	redis_server_restart(f->server);
	wait_until_working(f);
}

/* A socket that listens on a port of its own, which becomes the endpoint. */
static int listen_instead(struct fixture *f)
{
	struct sockaddr_in address;
	socklen_t len = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	assert_true(listener >= 0);
	assert_int_equal(listen(listener, 5), 0); /* binds to a free port */
	assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &len), 0);
	f->endpoint.port = ntohs(address.sin_port);
	return listener;
}

static void write_all(int fd, const char *text)
{
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

/* Something that is no Redis must not harm the worker. */
static void test_peer_is_not_redis(void **state)
{
	static const char *const greetings[] = {
		"HTTP/1.1 400 Bad Request\r\n\r\n",
		"+OK\r\n+OK\r\n",
		":1\r\n",
		"*-5\r\n",
		"$99999999999999999999\r\n",
		"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n",
	};
	struct fixture *f = *state;
	int listener = listen_instead(f);

	f->options.size = 1;
	create_pool(f);
	for (size_t i = 0; i < sizeof(greetings) / sizeof(greetings[0]); i++) {
		struct call call = {0};
		int peer;

		redis_pool_set_endpoint(f->pool, &f->endpoint);
		start_call(f, &call, 0);
		event_base_loop(f->base, EVLOOP_ONCE);
		peer = accept(listener, NULL, NULL);
		assert_true(peer >= 0);
		write_all(peer, greetings[i]);
		WAIT_FOR(f->base, call.answers == 1);
		assert_int_equal(call.code, REDIS_RESULT_UNAVAILABLE);
		close(peer);
	}
	close(listener);
}

/* A Redis that is nobody's: replies that fit no command. */
static void test_replies_nobody_asked_for(void **state)
{
	static const char *const lies[] = {
		"+OK\r\n",                  /* wrong type, then nothing asked for */
		":-7\r\n",                  /* a count below 0 */
		"*0\r\n:1\r\n:1\r\n:1\r\n", /* more replies than commands */
	};
	struct fixture *f = *state;
	int listener = listen_instead(f);

	f->options.size = 1;
	create_pool(f);
	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		struct call call = {0};
		int peer;

		redis_pool_set_endpoint(f->pool, &f->endpoint);
		event_base_loop(f->base, EVLOOP_ONCE);
		peer = accept(listener, NULL, NULL);
		assert_true(peer >= 0);
		write_all(peer, "$25\r\nrole:master\r\nrun_id:abc\r\n\r\n");
		for (int script = 0; script < REDIS_SCRIPT_COUNT; script++)
			write_all(peer, "$40\r\n0123456789012345678901234567890123456789\r\n");
		WAIT_FOR(f->base, redis_pool_available(f->pool));
		start_call(f, &call, 0);
		write_all(peer, lies[i]);
		WAIT_FOR(f->base, call.answers == 1);
		assert_int_equal(call.code, REDIS_RESULT_ERROR);
		write_all(peer, "+OK\r\n");
		WAIT_FOR(f->base, !redis_pool_available(f->pool));
		close(peer);
	}
	close(listener);
}

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

static void publish(struct fixture *f, struct call *call, const char *channel_name);

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
	reply = redis_server_command(f->server, "DBSIZE");
	assert_int_equal(reply->integer, 0);
	freeReplyObject(reply);
	assert_int_equal(stats_of(f).errors, 4);
	publish(f, &call, "x");
	assert_int_equal(call.code, REDIS_RESULT_OK);
}

static void test_foreign_data_in_our_keys(void **state)
{
	struct fixture *f = *state;
	struct call call;

	create_ready_pool(f);
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

/* -- callbacks that act -------------------------------------------------- */

static void test_destroy_answers_everything(void **state)
{
	struct fixture *f = *state;

	create_ready_pool(f);
	start_calls(f, MANY);
	redis_pool_destroy(f->pool);
	f->pool = NULL;
	assert_answered_once(f, MANY);
	assert_int_equal(count_code(f, REDIS_RESULT_UNAVAILABLE), MANY);
	event_base_loop(f->base, EVLOOP_NONBLOCK);
	assert_answered_once(f, MANY);
}

static void destroy_on_answer(void *ctx, const struct redis_count_result *result)
{
	struct call *call = ctx;
	struct fixture *f = call->fixture;

	on_answer(ctx, result);
	redis_pool_destroy(f->pool);
	f->pool = NULL;
	/* All others have been answered by now. */
	assert_int_equal(count_answers(f), MANY);
}

static void test_destroy_from_callback(void **state)
{
	struct fixture *f = *state;

	create_ready_pool(f);
	start_calls(f, MANY / 2);
	start_call_then(f, &f->calls[MANY / 2], 0, destroy_on_answer);
	for (unsigned i = MANY / 2 + 1; i < MANY; i++)
		start_call(f, &f->calls[i], i);
	WAIT_FOR(f->base, f->pool == NULL);
	assert_answered_once(f, MANY);
	assert_int_equal(f->calls[MANY / 2].code, REDIS_RESULT_OK);
}

static void test_destroy_from_failing_callback(void **state)
{
	struct fixture *f = *state;

	redis_server_kill(f->server);
	create_pool(f);
	memset(f->calls, 0, sizeof(f->calls));
	start_call_then(f, &f->calls[0], 0, destroy_on_answer);
	for (unsigned i = 1; i < MANY; i++)
		start_call(f, &f->calls[i], i);
	WAIT_FOR(f->base, f->pool == NULL);
	assert_answered_once(f, MANY);
	assert_int_equal(count_code(f, REDIS_RESULT_UNAVAILABLE), MANY);
}

static void again_on_answer(void *ctx, const struct redis_count_result *result)
{
	struct call *call = ctx;
	struct fixture *f = call->fixture;

	on_answer(ctx, result);
	if (f->again_left > 0) {
		f->again_left--;
		start_call_then(f, call, 0, again_on_answer);
	}
}

static void test_call_from_callback(void **state)
{
	struct fixture *f = *state;

	create_ready_pool(f);
	f->again_left = 50;
	start_call_then(f, &f->calls[0], 0, again_on_answer);
	WAIT_FOR(f->base, f->calls[0].answers == 51);
	assert_int_equal(f->calls[0].code, REDIS_RESULT_OK);
	assert_false(f->calls[0].answered_inside);
	/* While Redis is away, and while the pool is being destroyed. */
	redis_server_kill(f->server);
	WAIT_FOR(f->base, !f->available);
	f->again_left = 50;
	start_call_then(f, &f->calls[1], 0, again_on_answer);
	event_base_loop(f->base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	assert_true(f->calls[1].answers <= 2); /* a turn of the loop each */
	WAIT_FOR(f->base, f->calls[1].answers == 51);
	f->again_left = 50;
	start_call_then(f, &f->calls[2], 0, again_on_answer);
	redis_pool_destroy(f->pool);
	f->pool = NULL;
	assert_int_equal(f->calls[2].answers, 51);
}

static void switch_on_answer(void *ctx, const struct redis_count_result *result)
{
	struct call *call = ctx;

	on_answer(ctx, result);
	redis_pool_set_endpoint(call->fixture->pool, &call->fixture->endpoint);
}

static void test_set_endpoint_from_callback(void **state)
{
	struct fixture *f = *state;

	create_ready_pool(f);
	start_call_then(f, &f->calls[0], 0, switch_on_answer);
	for (unsigned i = 1; i < MANY; i++)
		start_call(f, &f->calls[i], 0);
	WAIT_FOR(f->base, count_answers(f) == MANY);
	assert_answered_once(f, MANY);
	assert_int_equal(f->calls[0].code, REDIS_RESULT_OK);
	assert_int_equal(f->calls[MANY - 1].code, REDIS_RESULT_UNAVAILABLE);
	wait_until_working(f);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_connects_and_answers),
		TEST(test_calls_wait_for_first_connection),
		TEST(test_resolves_names),
		TEST(test_destroyed_while_resolving),
		TEST(test_nobody_listens),
		cmocka_unit_test_setup_teardown(test_password, setup_with_password, teardown),
		TEST(test_user_and_database),
		cmocka_unit_test_setup_teardown(test_wrong_password, setup_with_password, teardown),
		TEST(test_set_endpoint),
		TEST(test_killed_with_calls_in_flight),
		TEST(test_many_restarts),
		TEST(test_hanging_server_times_out),
		TEST(test_idle_connection_notices_a_hang),
		TEST(test_connection_killed_by_operator),
		TEST(test_no_connections_left_on_server),
		TEST(test_peer_is_not_redis),
		TEST(test_replies_nobody_asked_for),
		TEST(test_scripts_forgotten),
		TEST(test_server_refuses_for_now),
		TEST(test_foreign_data_in_our_keys),
		cmocka_unit_test(test_classify),
		TEST(test_waiting_is_bounded),
		TEST(test_waiting_bytes_are_bounded),
		TEST(test_large_commands),
		TEST(test_destroy_answers_everything),
		TEST(test_destroy_from_callback),
		TEST(test_destroy_from_failing_callback),
		TEST(test_call_from_callback),
		TEST(test_set_endpoint_from_callback),
	};

	/* The errors that are tested for are not news. */
	if (log_set_target("file:/dev/null") != 0)
		return 1;
	return cmocka_run_group_tests_name("redis_command", tests, NULL, NULL);
}

/* SPDX-License-Identifier: ISC */
/*
 * Command connections to a real redis-server that dies, hangs and restarts, and to
 * what is none: every call is answered exactly once, with the right result.
 */
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "keepsock/log.h"
#include "redis_calls.h"
#include "redis_wait.h"
#include "src/redis/redis_connection.h"

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
	assert_true(redis_pool_takes(f->pool, 0));
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
	assert_false(redis_pool_takes(f->pool, 0));
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
	};

	/* The errors that are tested for are not news. */
	if (log_set_target("file:/dev/null") != 0)
		return 1;
	return cmocka_run_group_tests_name("redis_connect", tests, NULL, NULL);
}

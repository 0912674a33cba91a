/* SPDX-License-Identifier: ISC */
/*
 * Where a lost node's clients came from, as a real Redis has it: all of them,
 * whether their workers have been purged or not, nobody else's, and nothing that a
 * client made up.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <event2/event.h>

#include <cmocka.h>

#include "keepsock/alloc.h"
#include "keepsock/ipc_messages.h"
#include "keepsock/log.h"
#include "redis_server.h"
#include "redis_wait.h"
#include "supervisor/crowd.h"

#define PEERS_MAX 4096

struct fixture {
	struct event_base *base;
	struct redis_server *redis;
	struct ipc_redis place;
	struct crowd *crowd;
	bool done;
	uint64_t told;
	char error[160];
	size_t count;
	int families[PEERS_MAX];
	struct vip_peer peers[PEERS_MAX];
};

static int set_up(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));

	log_set_level(LOG_LEVEL_ERROR);
	f->base = event_base_new();
	f->redis = redis_server_start("pw");
	f->place = ipc_redis_unknown("", "pw", 2);
	free(f->place.host);
	f->place.host = xstrdup("127.0.0.1");
	f->place.port = redis_server_port(f->redis);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	crowd_end(f->crowd);
	ipc_redis_free(&f->place);
	redis_server_free(f->redis);
	event_base_free(f->base);
	free(f);
	return 0;
}

static void on_peers(void *ctx, int family, const struct vip_peer *peers, size_t count)
{
	struct fixture *f = ctx;

	for (size_t i = 0; i < count && f->count < PEERS_MAX; i++) {
		f->families[f->count] = family;
		f->peers[f->count++] = peers[i];
	}
}

static void on_done(void *ctx, uint64_t told, const char *error)
{
	struct fixture *f = ctx;

	assert_false(f->done);
	f->crowd = NULL;
	f->done = true;
	f->told = told;
	snprintf(f->error, sizeof(f->error), "%s", error ? error : "");
}

static void start_reading(struct fixture *f, const char *node)
{
	const struct crowd_options options = {
		.base = f->base,
		.redis = &f->place,
		.node = node,
		.timeout_ms = 10000,
		.on_peers = on_peers,
		.on_done = on_done,
		.ctx = f,
	};

	f->crowd = crowd_read(&options);
}

static void read_crowd(struct fixture *f, const char *node)
{
	start_reading(f, node);
	WAIT_FOR(f->base, f->done);
}

/* As db 2, of which redis_server_do() knows nothing. */
static void put(redisContext *context, const char *key, const char *field, const char *value)
{
	redisReply *reply = redisCommand(context, "HSET %s %s %s", key, field, value);

	assert_non_null(reply);
	assert_int_equal(reply->type, REDIS_REPLY_INTEGER);
	freeReplyObject(reply);
}

static redisContext *connect_db(struct fixture *f)
{
	redisContext *context = redis_server_connect(f->redis);

	freeReplyObject(redisCommand(context, "SELECT 2"));
	return context;
}

static void put_session(redisContext *context, const char *key, const char *client,
			const char *user, const char *place, unsigned port)
{
	char *value = xasprintf("{\"user\":\"%s\",\"name\":\"\",\"peer\":\"%s\",\"local_port\":%u,"
				"\"connected_at\":1,\"subscriptions\":{}}",
				user, place, port);

	put(context, key, client, value);
	free(value);
}

/* How many came from that address and port. */
static unsigned times(const struct fixture *f, const char *address, uint16_t port, uint16_t local)
{
	int family = strchr(address, ':') ? AF_INET6 : AF_INET;
	uint8_t bytes[16] = {0};
	unsigned found = 0;

	assert_int_equal(inet_pton(family, address, bytes), 1);
	for (size_t i = 0; i < f->count; i++)
		found += f->families[i] == family && f->peers[i].port == port &&
			 f->peers[i].local_port == local &&
			 memcmp(f->peers[i].address, bytes, sizeof(bytes)) == 0;
	return found;
}

static void test_nobody(void **state)
{
	struct fixture *f = *state;

	read_crowd(f, "a");
	assert_string_equal(f->error, "");
	assert_int_equal(f->told, 0);
}

static void test_everybody(void **state)
{
	struct fixture *f = *state;
	redisContext *context = connect_db(f);
	char client[24], place[40];

	put(context, "keepsock.workers", "a.0.00000001", "1 1");
	put(context, "keepsock.workers", "a.b.0.00000002", "1 1");
	put(context, "keepsock.workers", "b.0.00000003", "1 1");
	put(context, "keepsock.lost", "a.1.00000004", "1");
	put(context, "keepsock.lost", "b.1.00000005", "1");
	for (unsigned i = 0; i < 1500; i++) {
		snprintf(client, sizeof(client), "c%u", i);
		snprintf(place, sizeof(place), "10.0.%u.%u:4000", i / 200, i % 200);
		put_session(context,
			    i % 2 ? "keepsock.sessions.a.0.00000001"
				  : "keepsock.lost_sessions.a.1.00000004",
			    client, "u", place, 8000);
	}
	put_session(context, "keepsock.sessions.a.0.00000001", "six", "u", "[2001:db8::5]:5", 443);
	/* Somebody else's. */
	put_session(context, "keepsock.sessions.a.b.0.00000002", "x", "u", "9.9.9.1:1", 1);
	put_session(context, "keepsock.sessions.b.0.00000003", "x", "u", "9.9.9.2:1", 1);
	put_session(context, "keepsock.lost_sessions.b.1.00000005", "x", "u", "9.9.9.3:1", 1);
	redisFree(context);
	read_crowd(f, "a");
	assert_string_equal(f->error, "");
	assert_int_equal(f->told, f->count);
	for (unsigned i = 0; i < 1500; i++) {
		snprintf(place, sizeof(place), "10.0.%u.%u", i / 200, i % 200);
		assert_true(times(f, place, 4000, 8000) >= 1);
	}
	assert_true(times(f, "2001:db8::5", 5, 443) >= 1);
	for (size_t i = 0; i < f->count; i++)
		assert_int_not_equal(f->peers[i].address[0], 9);
}

static void test_entries_that_are_none(void **state)
{
	static const char key[] = "keepsock.sessions.a.0.00000001";
	struct fixture *f = *state;
	redisContext *context = connect_db(f);

	put(context, "keepsock.workers", "a.0.00000001", "1 1");
	put(context, key, "empty", "");
	put(context, key, "old", "{\"user\":\"\",\"peer\":\"6.6.6.1:1\",\"connected_at\":1}");
	put(context, key, "text", "\"peer\"");
	put_session(context, key, "address", "u", "6.6.6.300:1", 80);
	put_session(context, key, "port", "u", "6.6.6.2:0", 80);
	put_session(context, key, "many", "u", "6.6.6.3:1", 65536);
	put_session(context, key, "none", "u", "6.6.6.4:1", 0);
	/* A user who calls himself that, as JSON writes it. */
	put_session(context, key, "liar", "\\\"peer\\\":\\\"6.6.6.5:1\\\",\\\"local_port\\\":1",
		    "10.0.0.1:1", 80);
	redisFree(context);
	read_crowd(f, "a");
	assert_string_equal(f->error, "");
	assert_int_equal(f->told, 1);
	assert_int_equal(times(f, "10.0.0.1", 1, 80), 1);
}

static void test_a_wrong_type_is_an_error(void **state)
{
	struct fixture *f = *state;
	redisContext *context = connect_db(f);

	put(context, "keepsock.workers", "a.0.00000001", "1 1");
	freeReplyObject(redisCommand(context, "SET keepsock.sessions.a.0.00000001 x"));
	redisFree(context);
	read_crowd(f, "a");
	assert_non_null(strstr(f->error, "WRONGTYPE"));
}

static void test_redis_is_away(void **state)
{
	struct fixture *f = *state;

	redis_server_kill(f->redis);
	read_crowd(f, "a");
	assert_true(f->error[0] != '\0');
	assert_int_equal(f->told, 0);
}

static void test_redis_comes_back(void **state)
{
	struct fixture *f = *state;
	redisContext *context = connect_db(f);

	put(context, "keepsock.workers", "a.0.00000001", "1 1");
	put_session(context, "keepsock.sessions.a.0.00000001", "c", "u", "10.0.0.1:1", 80);
	redisFree(context);
	redis_server_pause(f->redis);
	start_reading(f, "a");
	redis_server_kill(f->redis);
	redis_server_restart(f->redis);
	WAIT_FOR(f->base, f->done);
	assert_string_equal(f->error, "");
	assert_int_equal(times(f, "10.0.0.1", 1, 80), 1);
}

/* Given up while the answer is on its way: nothing comes any more. */
static void test_given_up(void **state)
{
	struct fixture *f = *state;

	start_reading(f, "a");
	assert_true(event_base_loop(f->base, EVLOOP_ONCE) >= 0);
	crowd_end(f->crowd);
	f->crowd = NULL;
	assert_true(event_base_loop(f->base, EVLOOP_NONBLOCK) >= 0);
	assert_false(f->done);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_nobody, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_everybody, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_entries_that_are_none, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_wrong_type_is_an_error, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_redis_is_away, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_redis_comes_back, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_given_up, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

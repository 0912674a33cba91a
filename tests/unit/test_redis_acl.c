/* SPDX-License-Identifier: ISC */
/*
 * Every call as the ACL user that docs/redis.md gives keepsock: nothing it does
 * needs more, also where an argument is left out.
 */
#include <stdio.h>

#include "redis_fixture.h"

/* Anything that is told an outcome and nothing else. */
struct told {
	unsigned answers;
	enum redis_result code;
	char error[160];
};

static void note(struct told *told, const struct redis_outcome *outcome)
{
	told->answers++;
	told->code = outcome->code;
	snprintf(told->error, sizeof(told->error), "%s", outcome->error);
}

#define CALLBACK(name, type)                                          \
	static void told_##name(void *ctx, const struct type *result) \
	{                                                             \
		note(ctx, &result->outcome);                          \
	}
CALLBACK(publish, redis_publish_result)
CALLBACK(subscribe, redis_subscribe_result)
CALLBACK(history, redis_history_result)
CALLBACK(count, redis_count_result)
CALLBACK(presence, redis_presence_result)
CALLBACK(presence_stats, redis_presence_stats_result)
CALLBACK(continuity, redis_continuity_result)
CALLBACK(heartbeat, redis_heartbeat_result)
CALLBACK(purge, redis_purge_result)
CALLBACK(workers, redis_workers_result)
CALLBACK(sessions, redis_sessions_result)
CALLBACK(user_subscriptions, redis_user_subscriptions_result)

#define EXPECT_OK(call)                                                                         \
	do {                                                                                    \
		struct told told = {0};                                                         \
		call;                                                                           \
		WAIT_FOR(f->base, told.answers == 1);                                           \
		if (told.code != REDIS_RESULT_OK)                                               \
			fail_msg("%s: %s %s", #call, redis_result_name(told.code), told.error); \
	} while (0)

static int setup_user(void **state)
{
	struct redis_endpoint endpoint = {
		.host = "127.0.0.1", .user = "worker", .password = "PASSWORD"};
	struct fixture *f;

	setup_alone(state);
	f = *state;
	redis_server_do(f->server,
			"ACL SETUSER worker on >PASSWORD resetkeys ~keepsock.* resetchannels "
			"&keepsock.* -@all +@read +@write +@pubsub +@scripting +@connection "
			"-@dangerous +info +role +time +wait");
	endpoint.port = redis_server_port(f->server);
	redis_pool_set_endpoint(f->pool, &endpoint);
	wait_for_connections(f);
	return 0;
}

static void test_publishing(void **state)
{
	struct fixture *f = *state;
	struct redis_publish message = message_for(f, "{}", &news, 1);

	settle(f);
	EXPECT_OK(redis_publish(f->pool, 1, &message, told_publish, &told));
	message.client = SLICE("c");
	message.number = 1;
	message.done_key = SLICE(DONE_KEY);
	message.idempotency_key = SLICE("k");
	message.idempotency_ttl_ms = HOUR_MS;
	message.version = 1;
	EXPECT_OK(redis_publish(f->pool, 1, &message, told_publish, &told));
	EXPECT_OK(redis_done_remove(f->pool, 1, SLICE(DONE_KEY), &message.client, 1, told_count,
				    &told));
	EXPECT_OK(redis_control_publish(f->pool, 1, SLICE(REDIS_CONTROL_CHANNEL), SLICE("{}"),
					told_count, &told));
}

static void test_reading(void **state)
{
	struct fixture *f = *state;
	const struct redis_subscribe subscribe = {
		.channel = SLICE("news"), .history = true, .epoch = "ABCDEFGH"};
	const struct redis_history history = {
		.channel = SLICE("news"), .epoch = "ABCDEFGH", .limit = -1};

	settle(f);
	EXPECT_OK(redis_subscribe_read(f->pool, 1, &subscribe, told_subscribe, &told));
	EXPECT_OK(redis_history(f->pool, 1, &history, told_history, &told));
	EXPECT_OK(redis_history_remove(f->pool, 1, (struct redis_fence){0}, SLICE("news"),
				       told_count, &told));
}

static void test_members(void **state)
{
	struct fixture *f = *state;
	struct redis_presence_member member = {
		.channel = SLICE("news"), .client = SLICE("c"), .join_leave = true};
	const struct redis_subscribe subscribe = {
		.channel = SLICE("news"), .presence = &member, .presence_ttl_ms = HOUR_MS};

	settle(f);
	for (unsigned i = 0; i < 2; i++) {
		EXPECT_OK(redis_subscribe_read(f->pool, 1, &subscribe, told_subscribe, &told));
		EXPECT_OK(redis_presence_refresh(f->pool, 1, HOUR_MS, NOW, &member, 1, told_count,
						 &told));
		EXPECT_OK(redis_presence_get(f->pool, 1, SLICE("news"), NOW + HOUR_MS,
					     told_presence, &told));
		EXPECT_OK(redis_presence_stats(f->pool, 1, SLICE("news"), NOW, told_presence_stats,
					       &told));
		EXPECT_OK(redis_presence_remove(f->pool, 1, &member, 1, told_count, &told));
		member.worker = SLICE(WORKER);
	}
}

static void test_workers(void **state)
{
	struct fixture *f = *state;
	const struct redis_continuity report = {.worker = SLICE(WORKER)};
	const struct redis_heartbeat heartbeat = {
		.worker = SLICE(WORKER), .node_timeout_ms = 1000, .probe_interval_ms = 1000};
	const struct redis_purge purge = {.worker = SLICE(WORKER), .dead = true};
	const struct redis_presence_member member = {.channel = SLICE("news"),
						     .client = SLICE("c"),
						     .worker = SLICE(WORKER),
						     .join_leave = true};

	EXPECT_OK(redis_continuity(f->pool, 1, &report, told_continuity, &told));
	EXPECT_OK(redis_heartbeat(f->pool, 1, &heartbeat, told_heartbeat, &told));
	EXPECT_OK(redis_workers_read(f->pool, 1, told_workers, &told));
	for (unsigned i = 0; i < 2; i++) {
		EXPECT_OK(redis_presence_refresh(f->pool, 1, HOUR_MS, NOW, &member, 1, told_count,
						 &told));
		/* The second time there is something to merge with. */
		redis_server_do(f->server, "SADD keepsock.purged." WORKER " x");
		EXPECT_OK(redis_purge(f->pool, 1, &purge, told_purge, &told));
	}
	/* A run to be judged, with somebody to wait for. */
	redis_server_do(f->server, "HSET keepsock.workers b.0.1 %s", "1 1");
	redis_server_do(f->server, "HSET keepsock.run id another");
	EXPECT_OK(redis_continuity(f->pool, 1, &report, told_continuity, &told));
	redis_server_do(f->server, "HSET keepsock.run deadline 1");
	EXPECT_OK(redis_continuity(f->pool, 1, &report, told_continuity, &told));
}

static void test_registry(void **state)
{
	struct fixture *f = *state;
	const struct redis_session sessions[] = {{SLICE("c"), SLICE("{}")},
						 {SLICE("d"), SLICE("")}};
	const struct redis_user_subscription subscription = {SLICE("news"), SLICE("{}")};

	settle(f);
	EXPECT_OK(redis_sessions_write(f->pool, 1, SLICE(WORKER), sessions, 2, told_count, &told));
	EXPECT_OK(redis_sessions_read(f->pool, 1, SLICE(WORKER), 0, told_sessions, &told));
	EXPECT_OK(redis_user_subscription_set(f->pool, 1, (struct redis_fence){0}, SLICE("ann"),
					      &subscription, HOUR_MS, 1, told_count, &told));
	EXPECT_OK(redis_user_subscription_get(f->pool, 1, SLICE("ann"), HOUR_MS,
					      told_user_subscriptions, &told));
	EXPECT_OK(redis_user_subscription_remove(f->pool, 1, (struct redis_fence){0}, SLICE("ann"),
						 SLICE(""), told_count, &told));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_user, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_publishing), TEST(test_reading),  TEST(test_members),
		TEST(test_workers),    TEST(test_registry),
	};

	quiet_log();
	return cmocka_run_group_tests_name("redis_acl", tests, NULL, NULL);
}

/* SPDX-License-Identifier: ISC */
/*
 * When a subscription connection counts as deaf: the test plays Redis, which
 * answers heartbeats and delivers their probes, or not, and moves the clock.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "keepsock/alloc.h"
#include "keepsock/redis_continuity.h"
#include "worker/continuity.h"
#include "worker/heartbeat.h"
#include "worker/loop_watch.h"
#include "worker/presence_upkeep.h"
#include "worker/purge.h"
#include "worker/redis_subscription.h"
#include "worker/sessions.h"

#define SECOND 1000u

static struct {
	struct worker w;
	struct redis_shard shard;
	struct shard_record record;
	redis_heartbeat_callback answer; /* NULL = no heartbeat is under way */
	unsigned restarts;
} * stage;

/* ---- what the heartbeat calls ---- */

void redis_heartbeat(struct redis_pool *pool, uint64_t affinity,
		     const struct redis_heartbeat *heartbeat, redis_heartbeat_callback callback,
		     void *ctx)
{
	(void)pool;
	(void)affinity;
	(void)heartbeat;
	assert_null(stage->answer);
	assert_ptr_equal(ctx, &stage->shard);
	stage->answer = callback;
}

bool redis_subscription_available(const struct redis_subscription *subscription)
{
	(void)subscription;
	return true;
}

void redis_subscription_restart(struct redis_subscription *subscription, const char *reason)
{
	(void)subscription;
	(void)reason;
	stage->restarts++;
	heartbeat_start(&stage->shard);
}

bool redis_pool_available(const struct redis_pool *pool)
{
	(void)pool;
	return false;
}

void loop_watch_begin(struct worker *w, enum loop_activity activity)
{
	(void)w;
	(void)activity;
}

bool purge_silent(struct redis_shard *shard, struct slice worker)
{
	(void)shard;
	(void)worker;
	return false;
}

void purge_predecessors(struct redis_shard *shard)
{
	(void)shard;
}

void continuity_ask(struct redis_shard *shard)
{
	(void)shard;
}

void continuity_renewed(struct redis_shard *shard, struct slice generation)
{
	(void)shard;
	(void)generation;
}

void presence_upkeep_all(struct redis_shard *shard)
{
	(void)shard;
}

void sessions_register_all(struct worker *w)
{
	(void)w;
}

/* ---- the stage ---- */

static int set_stage(void **state)
{
	(void)state;
	stage = xcalloc(1, sizeof(*stage));
	stage->w.settings.redis.probe_interval = SECOND;
	stage->w.settings.redis.probe_timeout = 5 * SECOND;
	stage->w.settings.cluster.node_timeout = 10 * SECOND;
	stage->w.now_ms = 100 * SECOND;
	stage->w.worker_name = "a.0.1";
	stage->w.shards = &stage->shard;
	stage->w.shard_count = 1;
	stage->shard.worker = &stage->w;
	stage->shard.record = &stage->record;
	heartbeat_start(&stage->shard);
	return 0;
}

static int strike_stage(void **state)
{
	(void)state;
	free(stage);
	return 0;
}

static void answer(enum redis_result code)
{
	const struct redis_heartbeat_result result = {.outcome = {code, NULL}, .registered = true};
	redis_heartbeat_callback callback = stage->answer;

	assert_non_null(callback);
	stage->answer = NULL;
	callback(&stage->shard, &result);
}

enum probe { HEARD, UNHEARD };

/* So many seconds of heartbeats with this outcome. */
static void beat_for(unsigned seconds, enum redis_result code, enum probe probe)
{
	for (unsigned i = 0; i < seconds; i++) {
		stage->w.now_ms += SECOND;
		if (!stage->answer)
			heartbeat_tick(&stage->w);
		answer(code);
		if (probe == HEARD)
			heartbeat_on_probe(&stage->shard);
	}
}

/* Seconds of unheard probes until the connection is made anew. */
static unsigned seconds_until_deaf(void)
{
	unsigned before = stage->restarts, seconds = 0;

	while (stage->restarts == before) {
		beat_for(1, REDIS_RESULT_OK, UNHEARD);
		assert_true(++seconds < 60);
	}
	return seconds;
}

/* ---- the tests ---- */

static void test_what_is_heard_is_trusted(void **state)
{
	(void)state;
	beat_for(60, REDIS_RESULT_OK, HEARD);
	assert_int_equal(stage->restarts, 0);
	assert_false(heartbeat_probe_overdue(&stage->shard));
}

/* Commands work all the time: only the time-out tells. */
static void test_deaf_from_one_moment_on(void **state)
{
	(void)state;
	beat_for(10, REDIS_RESULT_OK, HEARD);
	assert_int_equal(seconds_until_deaf(), 6);
	assert_true(heartbeat_probe_overdue(&stage->shard));
	beat_for(1, REDIS_RESULT_OK, HEARD);
	assert_false(heartbeat_probe_overdue(&stage->shard));
}

/* The time of the cut counts, so that three heartbeats after it are enough. */
static void test_deaf_since_a_cut(void **state)
{
	(void)state;
	beat_for(10, REDIS_RESULT_OK, HEARD);
	beat_for(8, REDIS_RESULT_UNAVAILABLE, UNHEARD);
	assert_int_equal(stage->restarts, 0);
	assert_int_equal(seconds_until_deaf(), 3);
}

static void test_a_short_cut_is_no_reason(void **state)
{
	(void)state;
	beat_for(10, REDIS_RESULT_OK, HEARD);
	beat_for(2, REDIS_RESULT_UNAVAILABLE, UNHEARD);
	assert_int_equal(seconds_until_deaf(), 4);
}

/* What came meanwhile is still to be read. */
static void test_a_worker_that_was_asleep(void **state)
{
	(void)state;
	beat_for(10, REDIS_RESULT_OK, HEARD);
	stage->w.now_ms += 60 * SECOND;
	beat_for(1, REDIS_RESULT_OK, UNHEARD);
	beat_for(10, REDIS_RESULT_OK, HEARD);
	assert_int_equal(stage->restarts, 0);
}

/* Between a heartbeat and its probe: the next answer may be read before both probes. */
static void test_a_worker_that_fell_asleep_in_between(void **state)
{
	(void)state;
	beat_for(10, REDIS_RESULT_OK, HEARD);
	beat_for(1, REDIS_RESULT_OK, UNHEARD);
	stage->w.now_ms += 60 * SECOND;
	beat_for(10, REDIS_RESULT_OK, HEARD);
	assert_int_equal(stage->restarts, 0);
}

/* Where commands hardly work either, a new connection would do no better. */
static void test_heartbeats_in_between_that_fail(void **state)
{
	(void)state;
	beat_for(10, REDIS_RESULT_OK, HEARD);
	for (unsigned i = 0; i < 10; i++) {
		beat_for(2, REDIS_RESULT_OK, UNHEARD);
		beat_for(1, REDIS_RESULT_UNAVAILABLE, UNHEARD);
	}
	assert_int_equal(stage->restarts, 0);
}

/* Probes come less often than heartbeats: two of them have to be missing. */
static void test_probes_that_are_rare(void **state)
{
	(void)state;
	stage->w.settings.redis.probe_interval = 4 * SECOND;
	stage->w.settings.redis.probe_timeout = 12 * SECOND;
	beat_for(10, REDIS_RESULT_OK, HEARD);
	beat_for(20, REDIS_RESULT_UNAVAILABLE, UNHEARD);
	assert_int_equal(seconds_until_deaf(), 9);
}

/* A new connection gets all the time again. */
static void test_deaf_once_more(void **state)
{
	(void)state;
	assert_int_equal(seconds_until_deaf(), 6);
	assert_int_equal(seconds_until_deaf(), 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_what_is_heard_is_trusted, set_stage,
						strike_stage),
		cmocka_unit_test_setup_teardown(test_deaf_from_one_moment_on, set_stage,
						strike_stage),
		cmocka_unit_test_setup_teardown(test_deaf_since_a_cut, set_stage, strike_stage),
		cmocka_unit_test_setup_teardown(test_a_short_cut_is_no_reason, set_stage,
						strike_stage),
		cmocka_unit_test_setup_teardown(test_a_worker_that_was_asleep, set_stage,
						strike_stage),
		cmocka_unit_test_setup_teardown(test_a_worker_that_fell_asleep_in_between,
						set_stage, strike_stage),
		cmocka_unit_test_setup_teardown(test_heartbeats_in_between_that_fail, set_stage,
						strike_stage),
		cmocka_unit_test_setup_teardown(test_probes_that_are_rare, set_stage, strike_stage),
		cmocka_unit_test_setup_teardown(test_deaf_once_more, set_stage, strike_stage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

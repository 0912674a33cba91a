/* SPDX-License-Identifier: ISC */
/*
 * Settling a run of Redis, see continuity.h. Run by the worker, a shard at a
 * time. It decides only whether a subscription connection may go on; what was
 * missed is found by those who know positions.
 */
#include "worker/continuity.h"

#include <stdlib.h>
#include <string.h>

#include "keepsock/log.h"
#include "keepsock/node_events.h"
#include "keepsock/redis_continuity.h"
#include "worker/heartbeat.h"
#include "worker/loop_watch.h"
#include "worker/redis_subscription.h"
#include "worker/role.h"

#define ASK_AGAIN_MS 100u
#define WAIT_MAX_MS  10000u /* nothing is answered meanwhile */

static bool same_run(const struct redis_shard *shard)
{
	return strcmp(redis_pool_run_id(shard->pool),
		      redis_subscription_redis_run(shard->subscription)) == 0;
}

static struct slice own_run(const struct redis_shard *shard)
{
	return slice_str(shard->record->run);
}

static struct slice own_generation(const struct redis_shard *shard)
{
	return slice_str(shard->record->generation);
}

/* Sequences of a run that is not settled for us say nothing about the one that was. */
static void watch_sequences(struct redis_shard *shard)
{
	bool settled = slice_equal(slice_str(redis_pool_run_id(shard->pool)), own_run(shard));

	redis_pool_watch_sequence(shard->pool, settled ? &shard->record->max_seen : NULL);
}

/* The words of a text of at most `max` bytes, padded with zeros, in a commit. */
static void commit_text(struct arena_commit *commit, char *to, struct slice text, size_t max)
{
	uint64_t words[ARENA_RUN_MAX / 8] = {0};

	memcpy(words, text.data, text.len < max ? text.len : max - 1);
	for (size_t i = 0; i < max / 8; i++)
		arena_commit_add(commit, (uint64_t *)(void *)to + i, words[i]);
}

static void keep(struct redis_shard *shard, struct slice run, struct slice generation)
{
	struct arena_commit commit;

	arena_commit_begin(&commit, shard->worker->arena);
	commit_text(&commit, shard->record->run, run, sizeof(shard->record->run));
	commit_text(&commit, shard->record->generation, generation,
		    sizeof(shard->record->generation));
	arena_commit_apply(&commit);
	watch_sequences(shard);
}

static void tell(const struct redis_shard *shard, const struct redis_continuity_result *result)
{
	bool renewed = result->state == REDIS_CONTINUITY_RENEWED;

	log_at(renewed ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO,
	       "redis_continuity shard=%u state=%s run=%.*s start=%llu max_seen=%llu why=%s",
	       shard->index, redis_continuity_state_name(result->state), SLICE_ARG(result->run),
	       (unsigned long long)result->start, (unsigned long long)shard->record->max_seen,
	       renewed ? log_value(result->why) : "");
	node_event_add(renewed ? NODE_EVENT_CONTINUITY_RENEWED : NODE_EVENT_CONTINUITY_KEPT,
		       "shard %u: %.*s", shard->index, renewed ? (int)result->why.len : 0,
		       result->why.data);
	if (renewed)
		metric_add(METRIC_redis_continuity_renewed_total, 1);
}

static void on_settled(struct redis_shard *shard, const struct redis_continuity_result *result)
{
	bool first = own_run(shard).len == 0;
	bool other_run = !first && !slice_equal(own_run(shard), result->run);
	bool renewed = result->state == REDIS_CONTINUITY_RENEWED;

	if (other_run || renewed)
		tell(shard, result);
	keep(shard, result->run, result->generation);
	if (!first && !result->registered)
		heartbeat_register_again(shard);
	if (redis_subscription_settling(shard->subscription)) {
		if (same_run(shard))
			redis_subscription_settled(shard->subscription);
	} else if (other_run || renewed) {
		redis_subscription_restart(shard->subscription, "redis continuity was judged anew");
	}
}

static void ask_again(struct redis_shard *shard)
{
	static const struct timeval soon = {0, ASK_AGAIN_MS * 1000};

	event_add(shard->ask_again, &soon);
}

static void on_judgement(void *ctx, const struct redis_continuity_result *result)
{
	struct redis_shard *shard = ctx;

	loop_watch_begin(shard->worker, LOOP_REDIS_REPLY);
	shard->asked = false;
	if (result->outcome.code == REDIS_RESULT_OK && result->state != REDIS_CONTINUITY_PENDING) {
		on_settled(shard, result);
		return;
	}
	if (result->outcome.code == REDIS_RESULT_ERROR)
		log_error("redis_continuity_failed shard=%u error=%s", shard->index,
			  log_value_str(result->outcome.error));
	/* Where Redis is away, its coming back asks again. */
	if (redis_pool_available(shard->pool))
		ask_again(shard);
}

/* Others report when their next attempt to connect is due. */
static uint64_t wait_for_others(const struct worker *w)
{
	uint64_t longest = (uint64_t)w->settings.redis.reconnect_max_delay +
			   (uint64_t)w->settings.redis.connect_timeout / 2;

	if (longest < REDIS_CONTINUITY_WAIT_MS)
		longest = REDIS_CONTINUITY_WAIT_MS;
	return longest < WAIT_MAX_MS ? longest : WAIT_MAX_MS;
}

void continuity_ask(struct redis_shard *shard)
{
	const struct redis_continuity report = {
		.worker = slice_str(shard->worker->worker_name),
		.own_run = own_run(shard),
		.own_generation = own_generation(shard),
		.max_seen = shard->record->max_seen,
		.wait_ms = wait_for_others(shard->worker),
		.role_epoch = role_epoch(shard->worker),
	};
	bool settling = redis_subscription_settling(shard->subscription);

	if (shard->asked || !redis_pool_available(shard->pool) || (settling && !same_run(shard)))
		return;
	shard->asked = true;
	event_del(shard->ask_again);
	redis_continuity(shard->pool, shard->index, &report, on_judgement, shard);
}

static void on_ask_again(evutil_socket_t fd, short what, void *arg)
{
	struct redis_shard *shard = arg;

	(void)fd;
	(void)what;
	loop_watch_begin(shard->worker, LOOP_REDIS_REPLY);
	continuity_ask(shard);
}

void continuity_open(struct redis_shard *shard)
{
	shard->ask_again = evtimer_new(shard->worker->base, on_ask_again, shard);
	if (!shard->ask_again)
		abort();
}

void continuity_close(struct redis_shard *shard)
{
	event_free(shard->ask_again);
	shard->ask_again = NULL;
}

void continuity_pool_changed(struct redis_shard *shard)
{
	struct redis_subscription *subscription = shard->subscription;

	watch_sequences(shard);
	if (!redis_pool_available(shard->pool))
		return;
	if (redis_subscription_available(subscription) && !same_run(shard))
		redis_subscription_restart(subscription, "another run of redis answers commands");
	else if (redis_subscription_settling(subscription))
		continuity_ask(shard);
}

void continuity_renewed(struct redis_shard *shard, struct slice generation)
{
	if (generation.len == 0 || slice_equal(generation, own_generation(shard)))
		return;
	/* The judgement says why, and what to do. */
	continuity_ask(shard);
}

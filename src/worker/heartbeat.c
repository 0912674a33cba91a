/* SPDX-License-Identifier: ISC */
/*
 * Heartbeats and the delivery probe, see heartbeat.h. Run by the worker. It
 * watches and draws conclusions: a dead worker is purged, a deaf subscription
 * connection made anew. It never waits for anything.
 */
#include "worker/heartbeat.h"

#include <string.h>

#include "keepsock/log.h"
#include "keepsock/node_events.h"
#include "keepsock/redis_continuity.h"
#include "worker/continuity.h"
#include "worker/loop_watch.h"
#include "worker/presence_upkeep.h"
#include "worker/purge.h"
#include "worker/redis_subscription.h"
#include "worker/sessions.h"

#define INTERVAL_MAX_MS  1000u
#define AFTER_VERDICT_MS 100u /* next heartbeat after one that told of the dead */
/* A connection is deaf only if so many heartbeats in a row were answered meanwhile: a worker that
 * was itself asleep has yet to read what came, and a Redis that was away to send it. */
#define BEATS_UNHEARD_MIN 3u

static uint64_t interval(const struct worker *w)
{
	uint64_t probe = (uint64_t)w->settings.redis.probe_interval;
	uint64_t often = (uint64_t)w->settings.cluster.node_timeout / 4;

	/* Half a timeout without any heartbeat says that Redis was away, and gives grace. */
	if (often > INTERVAL_MAX_MS)
		often = INTERVAL_MAX_MS;
	return probe < often ? probe : often;
}

/* --- the probe --- */

uint64_t heartbeat_probe_age(const struct redis_shard *shard)
{
	const struct worker *w = shard->worker;

	return shard->probe_heard_ms && w->now_ms > shard->probe_heard_ms
		       ? w->now_ms - shard->probe_heard_ms
		       : 0;
}

/* Nothing speaks against a new connection until it could have heard one, but for those that come
 * after one that was deaf. */
bool heartbeat_probe_overdue(const struct redis_shard *shard)
{
	const struct worker *w = shard->worker;
	uint64_t timeout = (uint64_t)w->settings.redis.probe_timeout;

	return heartbeat_probe_age(shard) > timeout &&
	       (shard->probe_lost || w->now_ms > shard->listening_ms + timeout);
}

void heartbeat_on_probe(struct redis_shard *shard)
{
	shard->probe_heard_ms = shard->worker->now_ms;
	shard->beats_unheard = 0;
	if (!shard->probe_lost)
		return;
	shard->probe_lost = false;
	log_info("redis_probe shard=%u state=lost->heard", shard->index);
	node_event_add(NODE_EVENT_PROBE_BACK, "shard %u", shard->index);
}

/* So long heartbeats must be answered before their probes count as not delivered. */
static uint64_t delivery_patience(const struct worker *w)
{
	uint64_t probes = 2 * (uint64_t)w->settings.redis.probe_interval;
	uint64_t timeout = (uint64_t)w->settings.redis.probe_timeout;

	return probes < timeout ? probes : timeout;
}

/*
 * Redis answered: did it deliver as well? After a cut in the network commands work
 * again at once, over new connections; the subscription's, on which nothing is sent,
 * only when TCP of the other side tries again, and that may be as long as the cut
 * was. So the time of the cut counts, and of the time after it a few heartbeats.
 */
static void watch_probe(struct redis_shard *shard)
{
	struct worker *w = shard->worker;
	uint64_t heard = shard->probe_heard_ms > shard->listening_ms ? shard->probe_heard_ms
								     : shard->listening_ms;
	uint64_t unheard = w->now_ms - heard;

	if (shard->beats_unheard++ == 0)
		shard->unheard_since_ms = w->now_ms;
	if (shard->beats_unheard < BEATS_UNHEARD_MIN ||
	    w->now_ms - shard->unheard_since_ms < delivery_patience(w) ||
	    unheard <= (uint64_t)w->settings.redis.probe_timeout)
		return;
	shard->beats_unheard = 0;
	shard->probe_lost = true;
	metric_add(METRIC_redis_probes_lost_total, 1);
	log_warning("redis_probe shard=%u state=heard->lost unheard_ms=%llu action=resubscribe",
		    shard->index, (unsigned long long)unheard);
	node_event_add(NODE_EVENT_PROBE_LOST, "shard %u: nothing heard for %llu ms", shard->index,
		       (unsigned long long)unheard);
	redis_subscription_restart(shard->subscription, "the delivery probe is not heard");
}

/* --- the heartbeat --- */

void heartbeat_register_again(struct redis_shard *shard)
{
	log_warning("worker_forgotten shard=%u action=register_again", shard->index);
	node_event_add(NODE_EVENT_PURGED_OURSELVES, "shard %u", shard->index);
	presence_upkeep_all(shard);
	/* The registry is on the first one. */
	if (shard->index == 0)
		sessions_register_all(shard->worker);
}

/* Its siblings' timeouts end a moment after that of the first worker of a dead node. */
static void beat_soon(struct redis_shard *shard)
{
	uint64_t soon = shard->worker->now_ms + AFTER_VERDICT_MS;

	if (shard->beat_at_ms > soon)
		shard->beat_at_ms = soon;
}

static void on_heartbeat(void *ctx, const struct redis_heartbeat_result *result)
{
	struct redis_shard *shard = ctx;

	loop_watch_begin(shard->worker, LOOP_REDIS_REPLY);
	shard->beating = false;
	if (!redis_subscription_available(shard->subscription))
		return;
	if (result->outcome.code != REDIS_RESULT_OK) {
		shard->beats_unheard = 0;
		/* Refused, it may be because of a judgement that is due. */
		if (redis_pool_available(shard->pool))
			continuity_ask(shard);
		return;
	}
	if (!result->registered)
		heartbeat_register_again(shard);
	for (size_t i = 0; i < result->n_silent; i++) {
		if (purge_silent(shard, result->silent[i]))
			beat_soon(shard);
	}
	purge_predecessors(shard);
	continuity_renewed(shard, result->generation);
	watch_probe(shard);
}

static void beat(struct redis_shard *shard)
{
	struct worker *w = shard->worker;
	const struct redis_heartbeat heartbeat = {
		.worker = slice_str(w->worker_name),
		.max_seen = shard->record->max_seen,
		.node_timeout_ms = (uint64_t)w->settings.cluster.node_timeout,
		.probe_interval_ms = (uint64_t)w->settings.redis.probe_interval,
	};

	shard->beating = true;
	/* A node's workers beat together, so that their timeouts end together. */
	shard->beat_at_ms = (w->now_ms / interval(w) + 1) * interval(w);
	redis_heartbeat(shard->pool, shard->index, &heartbeat, on_heartbeat, shard);
}

void heartbeat_tick(struct worker *w)
{
	/* Who said farewell is not to be registered any more. */
	if (w->farewell != FAREWELL_NONE)
		return;
	for (unsigned i = 0; i < w->shard_count; i++) {
		struct redis_shard *shard = &w->shards[i];

		if (!shard->beating && w->now_ms >= shard->beat_at_ms &&
		    redis_subscription_available(shard->subscription))
			beat(shard);
	}
}

void heartbeat_start(struct redis_shard *shard)
{
	shard->listening_ms = shard->worker->now_ms;
	if (!shard->probe_heard_ms)
		shard->probe_heard_ms = shard->worker->now_ms;
	shard->beats_unheard = 0;
	if (!shard->beating)
		beat(shard);
}

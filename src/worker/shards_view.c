/* SPDX-License-Identifier: ISC */
/*
 * What is told of the worker's Redis shards: readiness, metrics, `show redis`.
 * Run by the worker; it changes nothing.
 */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "worker/redis_subscription.h"
#include "worker/shards.h"

/* Without "shard N: ". NULL: nothing is wrong with it. */
static const char *shard_problem(const struct redis_shard *shard)
{
	struct redis_pool_stats stats;

	if (redis_subscription_settling(shard->subscription))
		return "redis was restarted and its continuity is not settled";
	if (!redis_subscription_available(shard->subscription))
		return "redis subscription connection is down";
	/* A client's commands always take the same connection: one that is missing is missed. */
	redis_pool_stats(shard->pool, &stats);
	if (stats.connected < stats.size)
		return "redis command connections are down";
	return NULL;
}

const char *shards_not_ready_reason(const struct worker *w)
{
	static char reason[120];

	for (unsigned i = 0; i < w->shard_count; i++) {
		const char *problem = shard_problem(&w->shards[i]);

		if (!problem)
			continue;
		if (w->shard_count == 1)
			return problem;
		snprintf(reason, sizeof(reason), "shard %u: %s", i, problem);
		return reason;
	}
	return NULL;
}

void shards_update_metrics(struct worker *w)
{
	uint64_t connected = 0, subscribed = 0;

	for (unsigned i = 0; i < w->shard_count; i++) {
		struct redis_shard *shard = &w->shards[i];
		struct redis_pool_stats now, *seen = &shard->seen;

		redis_pool_stats(shard->pool, &now);
		metric_add(METRIC_redis_commands_total, now.sent - seen->sent);
		metric_add(METRIC_redis_command_errors_total,
			   now.errors + now.unavailable - seen->errors - seen->unavailable);
		metric_add(METRIC_redis_command_timeouts_total, now.timeouts - seen->timeouts);
		connected += now.connected;
		subscribed += redis_subscription_available(shard->subscription);
		*seen = now;
	}
	metric_set(METRIC_redis_command_connections, connected);
	metric_set(METRIC_redis_subscription_connected, subscribed);
}

static json_t *shard_row(const struct redis_shard *shard)
{
	const struct ipc_redis *redis = &shard->worker->start.shards[shard->index];
	const char *problem = shard_problem(shard);
	struct redis_pool_stats stats;
	struct redis_subscription_view view;

	redis_pool_stats(shard->pool, &stats);
	redis_subscription_view(shard->subscription, &view);
	return json_pack(
		"{s:i, s:s, s:i, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:i, s:i, s:i, "
		"s:I, s:I, s:I, s:I, s:I, s:s, s:s}",
		"shard", (int)shard->index, "host", redis->host, "port", (int)redis->port, "state",
		problem ? problem : "ok", "subscription", view.state, "run", shard->record->run,
		"messages", (json_int_t)view.messages, "last_sequence",
		(json_int_t)view.last_sequence, "max_seen", (json_int_t)shard->record->max_seen,
		"resubscribes", (json_int_t)view.reconnects, "audits_failed",
		(json_int_t)view.audits_failed, "pool", (int)stats.size, "connected",
		(int)stats.connected, "waiting", (int)stats.waiting, "sent", (json_int_t)stats.sent,
		"errors", (json_int_t)stats.errors, "timeouts", (json_int_t)stats.timeouts,
		"reconnects", (json_int_t)stats.reconnects, "mean_latency_us",
		(json_int_t)(stats.answered ? stats.latency_us_sum / stats.answered : 0),
		"pool_error", stats.last_error, "subscription_error", view.last_error);
}

struct json_t *shards_show(const struct worker *w)
{
	json_t *rows = json_array();

	for (unsigned i = 0; i < w->shard_count; i++)
		json_array_append_new(rows, shard_row(&w->shards[i]));
	return json_pack("{s:b, s:o}", "ok", 1, "rows", rows);
}

/* SPDX-License-Identifier: ISC */
/*
 * What is told of the worker's Redis shards: readiness, metrics, `show redis`.
 * Run by the worker; it changes nothing.
 */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "worker/heartbeat.h"
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
	if (heartbeat_probe_overdue(shard))
		return "the delivery probe is not heard";
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
	uint64_t connected = 0, overflow = 0, subscribed = 0, probe_age = 0;

	for (unsigned i = 0; i < w->shard_count; i++) {
		struct redis_shard *shard = &w->shards[i];
		struct redis_pool_stats now, *seen = &shard->seen;

		redis_pool_stats(shard->pool, &now);
		metric_add(METRIC_redis_commands_total, now.sent - seen->sent);
		metric_add(METRIC_redis_command_errors_total,
			   now.errors + now.unavailable - seen->errors - seen->unavailable);
		metric_add(METRIC_redis_command_timeouts_total, now.timeouts - seen->timeouts);
		metric_add(METRIC_redis_connections_recycled_total, now.recycled - seen->recycled);
		metric_add(METRIC_redis_unreplicated_total, now.unreplicated - seen->unreplicated);
		connected += now.connected;
		overflow += now.overflow;
		subscribed += redis_subscription_available(shard->subscription);
		if (heartbeat_probe_age(shard) > probe_age)
			probe_age = heartbeat_probe_age(shard);
		*seen = now;
	}
	metric_set(METRIC_redis_command_connections, connected);
	metric_set(METRIC_redis_overflow_connections, overflow);
	metric_set(METRIC_redis_probe_age_milliseconds, probe_age);
	metric_set(METRIC_redis_subscription_connected, subscribed);
}

static void set_number(json_t *row, const char *name, uint64_t value)
{
	json_object_set_new(row, name, json_integer((json_int_t)value));
}

static void set_text(json_t *row, const char *name, const char *text)
{
	json_object_set_new(row, name, json_string(text));
}

static void describe_subscription(json_t *row, const struct redis_shard *shard)
{
	struct redis_subscription_view view;

	redis_subscription_view(shard->subscription, &view);
	set_text(row, "subscription", view.state);
	set_number(row, "messages", view.messages);
	set_number(row, "last_sequence", view.last_sequence);
	set_number(row, "resubscribes", view.reconnects);
	set_number(row, "audits_failed", view.audits_failed);
	set_text(row, "subscription_error", view.last_error);
}

static void describe_pool(json_t *row, const struct redis_shard *shard)
{
	struct redis_pool_stats stats;

	redis_pool_stats(shard->pool, &stats);
	set_number(row, "pool", stats.size);
	set_number(row, "connected", stats.connected);
	set_number(row, "overflow", stats.overflow);
	set_number(row, "waiting", stats.waiting);
	set_number(row, "sent", stats.sent);
	set_number(row, "errors", stats.errors);
	set_number(row, "timeouts", stats.timeouts);
	set_number(row, "reconnects", stats.reconnects);
	set_number(row, "recycled", stats.recycled);
	set_number(row, "unreplicated", stats.unreplicated);
	set_number(row, "mean_latency_us",
		   stats.answered ? stats.latency_us_sum / stats.answered : 0);
	set_text(row, "pool_error", stats.last_error);
}

static json_t *shard_row(const struct redis_shard *shard)
{
	const struct ipc_redis *redis = &shard->worker->start.shards[shard->index];
	const char *problem = shard_problem(shard);
	json_t *row = json_object();

	set_number(row, "shard", shard->index);
	set_text(row, "host", redis->host);
	set_number(row, "port", redis->port);
	set_text(row, "state", problem ? problem : "ok");
	set_text(row, "run", shard->record->run);
	set_text(row, "generation", shard->record->generation);
	set_number(row, "max_seen", shard->record->max_seen);
	set_number(row, "probe_age_ms", heartbeat_probe_age(shard));
	describe_subscription(row, shard);
	describe_pool(row, shard);
	return row;
}

struct json_t *shards_show(const struct worker *w)
{
	json_t *rows = json_array();

	for (unsigned i = 0; i < w->shard_count; i++)
		json_array_append_new(rows, shard_row(&w->shards[i]));
	return json_pack("{s:b, s:o}", "ok", 1, "rows", rows);
}

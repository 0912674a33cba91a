/* SPDX-License-Identifier: ISC */
/*
 * The worker's Redis shards, see shards.h. Run by the worker. It knows which
 * shard a channel belongs to and whether that is there; what travels over the
 * connections is the business of others.
 */
#include "worker/shards.h"

#include <stdlib.h>

#include "keepsock/alloc.h"
#include "keepsock/redis_shard.h"
#include "worker/continuity.h"
#include "worker/redis_subscription.h"

_Static_assert(ARENA_SHARDS_MAX == REDIS_SHARDS_MAX, "each shard has its record in the arena");

/* --- opening and closing --- */

static struct redis_endpoint shard_endpoint(const struct worker *w, unsigned index)
{
	const struct ipc_redis *redis = &w->start.shards[index];

	return (struct redis_endpoint){redis->host, redis->port, redis->user, redis->password,
				       redis->db};
}

static void on_pool_state(void *ctx, bool available)
{
	struct redis_shard *shard = ctx;

	(void)available;
	loop_watch_begin(shard->worker, LOOP_REDIS_REPLY);
	continuity_pool_changed(shard);
}

static void shard_open(struct worker *w, struct redis_shard *shard, unsigned index)
{
	const struct redis_endpoint endpoint = shard_endpoint(w, index);
	const struct redis_pool_options options = {
		.size = (unsigned)w->settings.redis.pool_size,
		.command_timeout_ms = (unsigned)w->settings.redis.command_timeout,
		.connect_timeout_ms = (unsigned)w->settings.redis.connect_timeout,
		.reconnect_max_delay_ms = (unsigned)w->settings.redis.reconnect_max_delay,
		.max_overflow = (unsigned)w->settings.redis.pool_max_overflow,
		.recycle_ms = (uint64_t)w->settings.redis.pool_recycle,
		.min_replicas = (unsigned)w->settings.redis.min_replicas,
		.min_replicas_timeout_ms = (unsigned)w->settings.redis.min_replicas_timeout,
	};

	shard->worker = w;
	shard->index = index;
	shard->record = &w->arena->header->shards[index];
	continuity_open(shard);
	shard->pool = redis_pool_create(w->base, &endpoint, &options, on_pool_state, shard);
	shard->subscription = redis_subscription_create(shard);
}

void shards_open(struct worker *w)
{
	w->shard_count = w->start.shard_count;
	w->shards = xcalloc(w->shard_count, sizeof(*w->shards));
	for (unsigned i = 0; i < w->shard_count; i++)
		shard_open(w, &w->shards[i], i);
}

void shards_close(struct worker *w)
{
	for (unsigned i = 0; i < w->shard_count; i++) {
		redis_pool_destroy(w->shards[i].pool);
		w->shards[i].pool = NULL;
	}
	for (unsigned i = 0; i < w->shard_count; i++) {
		redis_subscription_free(w->shards[i].subscription);
		continuity_close(&w->shards[i]);
	}
	free(w->shards);
	w->shards = NULL;
	w->shard_count = 0;
}

void shards_set_endpoint(struct worker *w, unsigned index)
{
	const struct redis_endpoint endpoint = shard_endpoint(w, index);

	redis_pool_set_endpoint(w->shards[index].pool, &endpoint);
	redis_subscription_set_endpoint(w->shards[index].subscription);
}

/* --- which one --- */

struct redis_shard *worker_shard(const struct worker *w, struct slice channel)
{
	return &w->shards[redis_shard_of(channel, w->shard_count)];
}

struct redis_shard *worker_channel_shard(const struct worker *w, struct channel *channel)
{
	if (!channel->shard)
		channel->shard = (uint16_t)(worker_shard(w, hub_name(&w->hub, channel))->index + 1);
	return &w->shards[channel->shard - 1];
}

struct redis_pool *worker_pool(const struct worker *w, struct slice channel)
{
	return worker_shard(w, channel)->pool;
}

struct redis_subscription *worker_subscription(const struct worker *w, struct slice channel)
{
	return worker_shard(w, channel)->subscription;
}

struct redis_pool *worker_control_pool(const struct worker *w)
{
	return w->shards[0].pool;
}

bool worker_channel_available(const struct worker *w, struct slice channel)
{
	return redis_subscription_available(worker_subscription(w, channel));
}

void worker_remember(struct connection *c, struct slice channel)
{
	c->remembered |= (uint64_t)1 << worker_shard(c->worker, channel)->index;
}

void worker_channel_review(struct worker *w, struct channel *channel)
{
	if (w->shards)
		redis_subscription_review(worker_channel_shard(w, channel)->subscription, channel);
}

/* --- all of them --- */

bool shards_subscribed(const struct worker *w)
{
	for (unsigned i = 0; i < w->shard_count; i++) {
		if (!redis_subscription_available(w->shards[i].subscription))
			return false;
	}
	return true;
}

void shards_settle(struct worker *w)
{
	for (unsigned i = 0; i < w->shard_count; i++)
		redis_subscription_settle(w->shards[i].subscription);
	metric_set(METRIC_channels, w->hub.channel_count);
}

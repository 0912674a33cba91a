/* SPDX-License-Identifier: ISC */
/*
 * Presence of this worker's subscribers in Redis after they joined: prolonged as
 * long as they are here, removed when they leave. Run by the worker; nobody
 * waits for it, the entries' time to live ends what could not be removed.
 */
#include "worker/presence_upkeep.h"

#include "keepsock/clock.h"
#include "keepsock/log.h"
#include "keepsock/random.h"
#include "keepsock/redis_scripts.h"
#include "worker/shards.h"

/* Connections whose members are written again in one tick. */
#define AGAIN_PER_TICK 500u

/* --- leaving --- */

static void on_presence_removed(void *ctx, const struct redis_count_result *result)
{
	(void)ctx;
	/* Redis away: the entry's time to live ends it. */
	if (result->outcome.code == REDIS_RESULT_ERROR)
		log_warning("presence_remove_failed error=%s",
			    log_value_str(result->outcome.error));
}

void presence_leave(struct worker *w, const struct passport_id *client, struct slice channel)
{
	const struct passport owner = {.id = *client};
	char id[37];
	const struct redis_presence_member member = {
		.channel = channel,
		.client = connection_id(&owner, id),
		.worker = slice_str(w->worker_name),
	};

	redis_presence_remove(worker_pool(w, channel), connection_affinity(&owner), &member, 1,
			      on_presence_removed, NULL);
}

/* --- staying --- */

static void on_presence_refreshed(void *ctx, const struct redis_count_result *result)
{
	(void)ctx;
	(void)result; /* away: the next round comes before the time to live ends twice */
}

/* Members of one call: one shard, one time to live. */
struct batch {
	struct redis_shard *shard;
	uint64_t affinity, ttl_ms;
	struct redis_presence_member members[64];
	size_t info_end[64]; /* of a member's info in `infos` */
	struct buffer infos;
	size_t count;
};

static void batch_send(struct batch *batch)
{
	size_t start = 0;

	for (size_t i = 0; i < batch->count; i++) {
		batch->members[i].info =
			slice_from(batch->infos.data + start, batch->info_end[i] - start);
		start = batch->info_end[i];
	}
	if (batch->count > 0)
		redis_presence_refresh(batch->shard->pool, batch->affinity, batch->ttl_ms,
				       clock_wall_ms(), batch->members, batch->count,
				       on_presence_refreshed, NULL);
	batch->count = 0;
	buffer_reset(&batch->infos);
}

static void batch_add(struct batch *batch, const struct passport *passport, struct slice client,
		      const struct subscription_record *subscription)
{
	struct worker *w = batch->shard->worker;
	const struct channel *channel = hub_channel_at(&w->hub, subscription->channel);
	uint64_t ttl_ms = (uint64_t)worker_options_of(w, channel)->presence_ttl;

	if (batch->count == sizeof(batch->members) / sizeof(batch->members[0]) ||
	    batch->ttl_ms != ttl_ms)
		batch_send(batch);
	batch->ttl_ms = ttl_ms;
	batch->members[batch->count] = (struct redis_presence_member){
		.channel = hub_name(&w->hub, channel),
		.client = client,
		.user = passport_user(w->arena, passport),
		.worker = slice_str(w->worker_name),
		.join_leave = (subscription->flags & SUBSCRIPTION_ANNOUNCED) != 0,
	};
	client_info_encode(&batch->infos, passport_user(w->arena, passport), client,
			   passport_info(w->arena, passport),
			   subscription_info(w->arena, subscription));
	batch->info_end[batch->count++] = batch->infos.len;
}

/* Those of the connection's subscriptions whose channels belong to one shard. */
static void refresh_in_shard(struct connection *c, struct redis_shard *shard)
{
	struct worker *w = c->worker;
	const struct passport *passport = connection_passport(c);
	struct batch batch = {.shard = shard, .affinity = connection_affinity(passport)};
	arena_ref ref = passport->subscriptions;
	char id[37];
	struct slice client = connection_id(passport, id);

	while (ref) {
		const struct subscription_record *subscription = arena_at(w->arena, ref);
		struct channel *channel = hub_channel_at(&w->hub, subscription->channel);

		if ((subscription->flags & (SUBSCRIPTION_PRESENCE | SUBSCRIPTION_ANNOUNCED)) &&
		    worker_channel_shard(w, channel) == shard)
			batch_add(&batch, passport, client, subscription);
		ref = subscription->next;
	}
	batch_send(&batch);
	buffer_free(&batch.infos);
}

static bool is_subscriber(const struct passport *passport)
{
	return passport->magic == PASSPORT_MAGIC && passport->state == PASSPORT_STATE_CONNECTED &&
	       passport->subscriptions;
}

/* On one shard, or on all of them (NULL). */
static void refresh_presence(struct connection *c, struct redis_shard *only)
{
	struct worker *w = c->worker;

	for (unsigned i = 0; i < w->shard_count; i++) {
		if (!only || only == &w->shards[i])
			refresh_in_shard(c, &w->shards[i]);
	}
}

void presence_upkeep_all(struct redis_shard *shard)
{
	shard->presence_walk = true;
	shard->presence_cursor = 0;
}

static void walk_again(struct redis_shard *shard)
{
	struct worker *w = shard->worker;
	unsigned budget = AGAIN_PER_TICK;

	while (shard->presence_walk && budget > 0) {
		shard->presence_cursor =
			arena_record_next(w->arena, ARENA_PASSPORT, shard->presence_cursor);
		if (!shard->presence_cursor) {
			shard->presence_walk = false;
		} else if (is_subscriber(arena_at(w->arena, shard->presence_cursor))) {
			refresh_presence(connection_at(w, shard->presence_cursor), shard);
			budget--;
		}
	}
}

void presence_upkeep_tick(struct worker *w)
{
	uint64_t ticks =
		(uint64_t)w->settings.client.presence_update_interval / TIMER_WHEEL_TICK_MS;
	uint64_t budget;

	for (unsigned i = 0; i < w->shard_count; i++)
		walk_again(&w->shards[i]);
	/* Free slots count too: the walk goes over records. */
	w->presence_credit +=
		(double)arena_records(w->arena, ARENA_PASSPORT) / (double)(ticks ? ticks : 1);
	for (budget = (uint64_t)w->presence_credit; budget > 0; budget--) {
		w->presence_credit -= 1;
		w->presence_cursor =
			arena_record_next(w->arena, ARENA_PASSPORT, w->presence_cursor);
		if (!w->presence_cursor)
			continue;
		if (is_subscriber(arena_at(w->arena, w->presence_cursor)))
			refresh_presence(connection_at(w, w->presence_cursor), NULL);
	}
}

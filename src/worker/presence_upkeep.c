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

/* Those of the connection's subscriptions whose channels belong to one shard. */
static void refresh_in_shard(struct connection *c, struct redis_shard *shard, const char *id,
			     struct slice info)
{
	struct worker *w = c->worker;
	const struct passport *passport = connection_passport(c);
	struct redis_presence_member members[64];
	arena_ref ref = passport->subscriptions;
	size_t n = 0;

	while (ref) {
		const struct subscription_record *subscription = arena_at(w->arena, ref);
		struct channel *channel = hub_channel_at(&w->hub, subscription->channel);

		if ((subscription->flags & SUBSCRIPTION_PRESENCE) &&
		    worker_channel_shard(w, channel) == shard)
			members[n++] = (struct redis_presence_member){
				.channel = hub_name(&w->hub, channel),
				.client = slice_from(id, UUID_TEXT_LEN),
				.user = passport_user(w->arena, passport),
				.info = info,
			};
		ref = subscription->next;
		if (n > 0 && (n == sizeof(members) / sizeof(members[0]) || !ref)) {
			redis_presence_refresh(shard->pool, connection_affinity(passport),
					       (uint64_t)w->settings.channel.presence_ttl,
					       clock_wall_ms(), members, n, on_presence_refreshed,
					       NULL);
			n = 0;
		}
	}
}

static void refresh_presence(struct connection *c)
{
	struct worker *w = c->worker;
	const struct passport *passport = connection_passport(c);
	struct buffer info = {0};
	char id[37];

	client_info_encode(&info, passport_user(w->arena, passport), connection_id(passport, id),
			   passport_info(w->arena, passport), SLICE(""));
	for (unsigned i = 0; i < w->shard_count; i++)
		refresh_in_shard(c, &w->shards[i], id, buffer_slice(&info));
	buffer_free(&info);
}

void presence_upkeep_tick(struct worker *w)
{
	uint64_t ticks =
		(uint64_t)w->settings.client.presence_update_interval / TIMER_WHEEL_TICK_MS;
	uint64_t budget;

	if (!w->settings.channel.presence)
		return;
	/* Free slots count too: the walk goes over records. */
	w->presence_credit +=
		(double)arena_records(w->arena, ARENA_PASSPORT) / (double)(ticks ? ticks : 1);
	for (budget = (uint64_t)w->presence_credit; budget > 0; budget--) {
		const struct passport *passport;

		w->presence_credit -= 1;
		w->presence_cursor =
			arena_record_next(w->arena, ARENA_PASSPORT, w->presence_cursor);
		if (!w->presence_cursor)
			continue;
		passport = arena_at(w->arena, w->presence_cursor);
		if (passport->magic == PASSPORT_MAGIC &&
		    passport->state == PASSPORT_STATE_CONNECTED && passport->subscriptions)
			refresh_presence(connection_at(w, w->presence_cursor));
	}
}

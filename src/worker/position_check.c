/* SPDX-License-Identifier: ISC */
/*
 * Does what was served here reach as far as what Redis has? Looks at each
 * channel with history once per client.position_check_delay without
 * publications. Run by the worker. It only finds out; who missed something is
 * told by lost_subscribers_announce().
 */
#include "worker/position_check.h"

#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/clock.h"
#include "keepsock/log.h"
#include "keepsock/random.h"
#include "keepsock/redis_scripts.h"
#include "worker/lost_subscribers.h"
#include "worker/redis_subscription.h"
#include "worker/shards.h"

struct position_check {
	struct worker *worker;
	char name[256];
	size_t name_length;
	uint64_t run;
};

static void on_position(void *ctx, const struct redis_subscribe_result *result)
{
	struct position_check *check = ctx;
	struct worker *w = check->worker;
	struct channel *channel = hub_find(&w->hub, slice_from(check->name, check->name_length));
	const struct redis_subscription *subscription =
		channel ? worker_channel_shard(w, channel)->subscription : NULL;
	const struct channel_record *record;
	bool same, usable = channel && result->outcome.code == REDIS_RESULT_OK &&
			    check->run == redis_subscription_run(subscription);

	free(check);
	if (!usable)
		return;
	record = hub_record(&w->hub, channel);
	if (record->state != CHANNEL_JOINED || !record->positioned || channel->catching_up)
		return;
	same = slice_equal(hub_epoch(record), result->epoch);
	if (same && result->top == record->offset) {
		channel->check_top = 0;
		return;
	}
	/* Older than what was served here meanwhile: it says nothing. */
	if (result->sequence < record->last_sequence)
		return;
	/* What differs may be on its way to us. However late we are: it is called lost only once
	 * the subscription connection has served everything up to the moment of Redis's answer. */
	if (channel->check_top && redis_subscription_served(subscription) < channel->check_sequence)
		return;
	/* New, or another difference than the one that was suspected. */
	if (channel->check_top == 0 ||
	    (same && record->offset >= channel->check_top - 1 && result->top >= record->offset)) {
		channel->check_top = result->top + 1;
		channel->check_sequence = result->sequence;
		return;
	}
	log_warning("channel_position_lost channel=%s own=%llu redis=%llu",
		    log_value(hub_name(&w->hub, channel)), (unsigned long long)record->offset,
		    (unsigned long long)result->top);
	channel->check_top = 0;
	lost_subscribers_announce(w, channel);
}

static void check_position(struct worker *w, struct channel *channel)
{
	struct position_check *check = xcalloc(1, sizeof(*check));
	struct redis_shard *shard = worker_channel_shard(w, channel);
	struct slice name = hub_name(&w->hub, channel);
	char epoch[REDIS_EPOCH_LENGTH + 1];
	const struct redis_subscribe position = {
		.channel = name,
		.history = true,
		.epoch = epoch,
		.meta_ttl_ms = (uint64_t)worker_options_of(w, channel)->history_meta_ttl,
		.now_ms = clock_wall_ms(),
	};

	check->worker = w;
	check->run = redis_subscription_run(shard->subscription);
	check->name_length = name.len;
	memcpy(check->name, name.data, name.len);
	redis_epoch_generate(epoch);
	redis_subscribe_read(shard->pool, channel->hash, &position, on_position, check);
}

static bool any_history(const struct settings *s)
{
	bool any = s->channel.history_size > 0;

	for (size_t i = 0; i < s->namespace_count; i++)
		any = any || s->namespaces[i].options.history_size > 0;
	return any;
}

void position_check_tick(struct worker *w)
{
	uint64_t delay = (uint64_t)w->settings.client.position_check_delay;
	struct channel *channel = NULL;

	if (w->now_ms < w->position_check_at || !any_history(&w->settings))
		return;
	w->position_check_at = w->now_ms + 1000;
	while ((channel = hub_next(&w->hub, channel))) {
		const struct channel_record *record = hub_record(&w->hub, channel);
		/* A suspicion is looked into at the next walk. */
		uint64_t wait = channel->check_top ? 1000 : delay;

		if (record->state != CHANNEL_JOINED || !record->positioned || !record->history ||
		    channel->catching_up || w->now_ms < channel->checked_at + wait)
			continue;
		channel->checked_at = w->now_ms;
		check_position(w, channel);
	}
}

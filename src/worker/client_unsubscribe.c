/* SPDX-License-Identifier: ISC */
/*
 * The ends of subscriptions: the client's own wish, its disconnect, or a reason
 * of ours that it is told. Run by the worker. Nothing here waits for Redis: that
 * it hears of it is for later.
 */
#include "worker/fanout.h"
#include "worker/internal.h"
#include "worker/presence_upkeep.h"
#include "worker/sessions.h"
#include "worker/subscribing.h"

/* In the open draft; the caller commits and then settles. */
static void remove_subscription(struct connection *c, arena_ref ref)
{
	struct worker *w = c->worker;
	const struct subscription_record *subscription = arena_at(w->arena, ref);

	w->removed_channel = hub_channel_at(&w->hub, subscription->channel);
	w->removed_presence =
		(subscription->flags & (SUBSCRIPTION_PRESENCE | SUBSCRIPTION_ANNOUNCED)) != 0;
	hub_subscription_remove(&w->hub, &w->draft, ref,
				fanout_serving(w->fanout, w->removed_channel));
}

void client_unsubscribe_settle(struct connection *c)
{
	struct worker *w = c->worker;
	struct channel *channel = w->removed_channel;

	if (!channel)
		return;
	w->removed_channel = NULL;
	hub_subscription_counted(&w->hub, -1);
	metric_subtract(METRIC_subscriptions, 1);
	sessions_changed(c);
	if (w->removed_presence)
		presence_leave(w, &connection_passport(c)->id, hub_name(&w->hub, channel));
	subscribing_settle_channel(w, channel);
}

enum command_outcome client_unsubscribe(struct connection *c, const struct client_command *command)
{
	struct worker *w = c->worker;
	const struct client_reply reply = {.id = command->id, .method = CLIENT_METHOD_UNSUBSCRIBE};
	struct channel *channel = hub_find(&w->hub, command->channel);
	arena_ref ref = channel ? hub_subscription_find(&w->hub, &w->draft.now, channel) : 0;

	if (ref)
		remove_subscription(c, ref);
	client_session_append_reply(c, &reply);
	return COMMAND_DONE;
}

void client_unsubscribe_all(struct connection *c)
{
	struct worker *w = c->worker;
	const struct passport *passport = connection_passport(c);

	while (passport->subscriptions) {
		passport_draft_begin(&w->draft, c->passport);
		remove_subscription(c, passport->subscriptions);
		passport_draft_commit(&w->draft);
		client_unsubscribe_settle(c);
	}
}

void client_unsubscribe_moved(struct connection *c)
{
	struct worker *w = c->worker;
	const struct passport *passport = connection_passport(c);

	while (passport->subscriptions) {
		passport_draft_begin(&w->draft, c->passport);
		remove_subscription(c, passport->subscriptions);
		passport_draft_commit(&w->draft);
		w->removed_presence = false;
		client_unsubscribe_settle(c);
	}
}

void client_unsubscribe_push(struct connection *c, arena_ref subscription, uint32_t code)
{
	struct worker *w = c->worker;
	const struct subscription_record *record = arena_at(w->arena, subscription);
	const struct client_push push = {
		.kind = CLIENT_PUSH_UNSUBSCRIBE,
		.channel = hub_name(&w->hub, hub_channel_at(&w->hub, record->channel)),
		.end = {.code = code},
	};

	connection_draft(c);
	client_session_append_push(c, &push);
	remove_subscription(c, subscription);
	if (!connection_commit(c))
		return;
	client_unsubscribe_settle(c);
	if (connection_check_queue(c))
		connection_flush(c);
}

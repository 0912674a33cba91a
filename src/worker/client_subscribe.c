/* SPDX-License-Identifier: ISC */
/*
 * Subscribing and unsubscribing. A subscribe waits for two things: that this
 * worker hears the channel (SUBSCRIBE confirmed), and one script that reads
 * history, position, presence and the shard sequence S in one step. Messages
 * that come meanwhile are held; those above S follow the reply in the same
 * commit. Run by the worker; a fan-out never waits for any of it.
 */
#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/channel_name.h"
#include "keepsock/clock.h"
#include "keepsock/log.h"
#include "keepsock/random.h"
#include "keepsock/redis_scripts.h"
#include "keepsock/websocket.h"
#include "worker/fanout.h"
#include "worker/internal.h"
#include "worker/presence_upkeep.h"
#include "worker/redis_subscription.h"
#include "worker/shards.h"

struct subscribe_pending {
	struct pending base;
	struct subscribe_pending *next, **link; /* of all in the worker */
	struct subscribe_pending *next_waiter;  /* for the same channel to be joined */
	struct channel *channel;
	uint64_t deadline; /* boottime ms; while the channel is being joined */
	uint64_t run;      /* of the subscription connection, when Redis was asked */
	uint32_t id;
	uint32_t flags; /* enum subscription_flags */
	struct passport_id client;
	bool recover;
	bool reject_unrecovered;
	uint64_t since_offset;
	char since_epoch[REDIS_EPOCH_MAX];
	size_t since_epoch_length;
};

static struct subscribe_pending *pending_create(struct connection *c,
						const struct client_command *command,
						struct channel *channel)
{
	struct worker *w = c->worker;
	struct subscribe_pending *pending = xcalloc(1, sizeof(*pending));

	pending->base.worker = w;
	pending->base.connection = c;
	pending->channel = channel;
	pending->client = connection_passport(c)->id;
	pending->id = command->id;
	pending->deadline = w->now_ms + (uint64_t)w->settings.redis.command_timeout;
	pending->next = w->subscribing;
	pending->link = &w->subscribing;
	if (pending->next)
		pending->next->link = &pending->next;
	w->subscribing = pending;
	channel->waiting++;
	c->pending = &pending->base;
	return pending;
}

/* Somebody fewer needs the channel. */
static void channel_settle(struct worker *w, struct channel *channel)
{
	if (channel->waiting == 0 && !channel->catching_up)
		hub_held_free(channel);
	worker_channel_review(w, channel);
}

/* Takes the pending out of its lists; what it held of the channel is given back by the caller. */
static struct channel *pending_detach(struct subscribe_pending *pending)
{
	*pending->link = pending->next;
	if (pending->next)
		pending->next->link = pending->link;
	pending->channel->waiting--;
	return pending->channel;
}

static void answer_error(struct subscribe_pending *pending, uint32_t code)
{
	struct worker *w = pending->base.worker;
	struct channel *channel = pending_detach(pending);
	struct connection *c = client_command_answered(&pending->base);
	const struct client_command command = {.id = pending->id,
					       .method = CLIENT_METHOD_SUBSCRIBE};

	if (c)
		client_session_append_error(c, &command, code);
	client_command_resume(c, &pending->base);
	channel_settle(w, channel);
}

/* --- the command --- */

static uint32_t subscribe_refusal(struct worker *w, const struct passport *passport,
				  const struct client_command *command)
{
	enum channel_verdict verdict =
		channel_name_check(command->channel, (size_t)w->settings.client.channel_max_length);
	struct channel *channel;

	if (verdict == CHANNEL_TOO_LONG)
		return CLIENT_ERROR_BAD_REQUEST;
	channel = hub_find(&w->hub, command->channel);
	if (channel && hub_subscription_find(&w->hub, passport, channel))
		return CLIENT_ERROR_ALREADY_SUBSCRIBED;
	if (passport->subscription_count >= (uint64_t)w->settings.client.channel_limit)
		return CLIENT_ERROR_LIMIT_EXCEEDED;
	if (command->tf.len > 0)
		return CLIENT_ERROR_BAD_REQUEST;
	if (command->type == 4)
		return CLIENT_ERROR_NOT_AVAILABLE;
	if (command->type != 0)
		return CLIENT_ERROR_PERMISSION_DENIED;
	if (verdict != CHANNEL_OK)
		return channel_verdict_error(verdict);
	/* No key is configured that could have signed a token. */
	if (command->token.len > 0)
		return CLIENT_ERROR_PERMISSION_DENIED;
	if (!w->settings.client.insecure && !w->settings.channel.allow_subscribe_for_client)
		return CLIENT_ERROR_PERMISSION_DENIED;
	return 0;
}

static uint32_t subscription_flags(const struct worker *w, const struct client_command *command)
{
	bool history = w->settings.channel.history_size > 0;
	bool may = history &&
		   (w->settings.client.insecure || w->settings.channel.allow_history_for_client);
	uint32_t flags = 0;

	if (w->settings.channel.force_recovery || (may && command->recoverable))
		flags |= SUBSCRIPTION_RECOVERABLE | SUBSCRIPTION_POSITIONED;
	if (w->settings.channel.force_positioning || (may && command->positioned))
		flags |= SUBSCRIPTION_POSITIONED;
	if (w->settings.channel.presence)
		flags |= SUBSCRIPTION_PRESENCE;
	return flags;
}

static void subscribe_read(struct subscribe_pending *pending);

enum command_outcome client_subscribe(struct connection *c, const struct client_command *command,
				      uint16_t *close_code)
{
	struct worker *w = c->worker;
	uint32_t code = subscribe_refusal(w, &w->draft.now, command);
	struct subscribe_pending *pending;
	struct channel *channel;

	if (command->delta.len > 0 && !slice_is(command->delta, "fossil")) {
		*close_code = CLIENT_DISCONNECT_BAD_REQUEST;
		return COMMAND_REFUSED;
	}
	if (!code && !worker_channel_available(w, command->channel))
		code = CLIENT_ERROR_INTERNAL;
	channel = code ? NULL : hub_get(&w->hub, command->channel);
	if (!channel) {
		client_session_append_error(c, command, code ? code : CLIENT_ERROR_INTERNAL);
		return COMMAND_DONE;
	}
	pending = pending_create(c, command, channel);
	pending->flags = subscription_flags(w, command);
	pending->recover = command->recover && (pending->flags & SUBSCRIPTION_RECOVERABLE);
	pending->reject_unrecovered = (command->flag & CLIENT_FLAG_REJECT_UNRECOVERED) != 0;
	pending->since_offset = command->offset;
	/* An epoch longer than any of ours is not ours: one that can't match stands for it. */
	if (command->epoch.len > sizeof(pending->since_epoch)) {
		pending->since_epoch[0] = '_';
		pending->since_epoch_length = 1;
	} else if (command->epoch.len > 0) {
		memcpy(pending->since_epoch, command->epoch.data, command->epoch.len);
		pending->since_epoch_length = command->epoch.len;
	}
	if (hub_record(&w->hub, channel)->state == CHANNEL_JOINED && !channel->catching_up) {
		subscribe_read(pending);
		return COMMAND_WAITS;
	}
	pending->next_waiter = channel->waiters;
	channel->waiters = pending;
	worker_channel_review(w, channel);
	return COMMAND_WAITS;
}

void client_subscribe_joined(struct worker *w, struct channel *channel, bool available)
{
	struct subscribe_pending *pending = channel->waiters;

	channel->waiters = NULL;
	while (pending) {
		struct subscribe_pending *next = pending->next_waiter;

		pending->deadline = 0;
		if (available)
			subscribe_read(pending);
		else
			answer_error(pending, CLIENT_ERROR_INTERNAL);
		pending = next;
	}
	if (available)
		channel_settle(w, channel);
}

static void remove_waiter(struct subscribe_pending *pending)
{
	struct subscribe_pending *at = pending->channel->waiters;

	if (at == pending) {
		pending->channel->waiters = pending->next_waiter;
		return;
	}
	while (at && at->next_waiter != pending)
		at = at->next_waiter;
	if (at)
		at->next_waiter = pending->next_waiter;
}

void client_subscribe_expire(struct worker *w)
{
	struct subscribe_pending *pending = w->subscribing;

	while (pending) {
		struct subscribe_pending *next = pending->next;

		if (pending->deadline && pending->deadline <= w->now_ms) {
			remove_waiter(pending);
			answer_error(pending, CLIENT_ERROR_INTERNAL);
			/* Answering may have changed the list anywhere. */
			next = w->subscribing;
		}
		pending = next;
	}
}

/* --- the script --- */

static void on_subscribe_read(void *ctx, const struct redis_subscribe_result *result);

static void subscribe_read(struct subscribe_pending *pending)
{
	struct worker *w = pending->base.worker;
	struct connection *c = pending->base.connection;
	char id[37], epoch[REDIS_EPOCH_LENGTH + 1];
	struct redis_presence_member member = {0};
	struct redis_subscribe subscribe = {
		.channel = hub_name(&w->hub, pending->channel),
		.history = w->settings.channel.history_size > 0,
		.epoch = epoch,
		.meta_ttl_ms = (uint64_t)w->settings.channel.history_meta_ttl,
		.recover = pending->recover,
		.since_offset = pending->since_offset,
		.since_epoch = slice_from(pending->since_epoch, pending->since_epoch_length),
		.limit = (uint32_t)w->settings.channel.recovery_max_publication_limit,
		.presence_ttl_ms = (uint64_t)w->settings.channel.presence_ttl,
		.now_ms = clock_wall_ms(),
	};
	struct buffer info = {0};
	const struct passport *passport;

	if (!c) {
		answer_error(pending, CLIENT_ERROR_INTERNAL);
		return;
	}
	pending->deadline = 0;
	pending->run =
		redis_subscription_run(worker_channel_shard(w, pending->channel)->subscription);
	passport = connection_passport(c);
	if (pending->flags & SUBSCRIPTION_PRESENCE) {
		member.client = connection_id(passport, id);
		member.user = passport_user(w->arena, passport);
		client_info_encode(&info, member.user, member.client,
				   passport_info(w->arena, passport), SLICE(""));
		member.info = buffer_slice(&info);
		subscribe.presence = &member;
	}
	redis_epoch_generate(epoch);
	redis_subscribe_read(worker_channel_shard(w, pending->channel)->pool,
			     connection_affinity(passport), &subscribe, on_subscribe_read, pending);
	buffer_free(&info);
}

/* What the reply says about recovery. */
static void judge_recovery(const struct subscribe_pending *pending,
			   const struct redis_subscribe_result *result,
			   struct client_subscribe_result *reply)
{
	struct slice since = slice_from(pending->since_epoch, pending->since_epoch_length);
	bool same_epoch = since.len == 0 || slice_equal(since, result->epoch);
	size_t n = result->n_publications;

	reply->positioned = (pending->flags & SUBSCRIPTION_POSITIONED) != 0;
	reply->recoverable = (pending->flags & SUBSCRIPTION_RECOVERABLE) != 0;
	if (reply->positioned) {
		reply->epoch = result->epoch;
		reply->offset = result->top;
	}
	if (!pending->recover)
		return;
	reply->was_recovering = true;
	if (!same_epoch || result->truncated)
		return;
	if (n == 0)
		reply->recovered = result->top == pending->since_offset;
	else
		reply->recovered = result->publications[0].offset == pending->since_offset + 1 &&
				   result->publications[n - 1].offset == result->top;
	if (reply->recovered)
		reply->offset = pending->since_offset;
}

/*
 * Where the worker stands in the channel once this subscriber is in. A channel
 * without a position takes the script's, moved on by what is held above it.
 * False: the held messages do not follow on it.
 */
static bool held_position(const struct channel *channel,
			  const struct redis_subscribe_result *result, uint64_t *sequence,
			  uint64_t *offset)
{
	*sequence = result->sequence;
	*offset = result->top;
	return hub_held_position(channel, result->epoch, sequence, offset);
}

static void append_held(struct worker *w, const struct channel *channel, uint64_t above,
			uint32_t flags)
{
	const struct held_message *held = NULL;

	while ((held = hub_held_next(channel, held, above))) {
		if (channel_message_wanted(held->kind, flags))
			queue_append(&w->draft, &w->draft.now.out, held->frame, held->length);
	}
}

/* Reply, held messages, record, array entry and position: one commit. False: refused. */
static bool append_subscription(struct connection *c, struct subscribe_pending *pending,
				const struct redis_subscribe_result *result)
{
	struct worker *w = c->worker;
	struct channel *channel = pending->channel;
	struct channel_record *record = hub_record(&w->hub, channel);
	const struct client_command command = {.id = pending->id,
					       .method = CLIENT_METHOD_SUBSCRIBE};
	struct client_reply reply = {.id = pending->id, .method = CLIENT_METHOD_SUBSCRIBE};
	struct publication *publications = NULL;
	uint64_t sequence, offset;

	judge_recovery(pending, result, &reply.subscribe);
	if (reply.subscribe.was_recovering && !reply.subscribe.recovered &&
	    pending->reject_unrecovered) {
		client_session_append_error(c, &command, CLIENT_ERROR_UNRECOVERABLE_POSITION);
		return false;
	}
	if (!held_position(channel, result, &sequence, &offset)) {
		client_session_append_error(c, &command, CLIENT_ERROR_INTERNAL);
		return false;
	}
	if (reply.subscribe.recovered) {
		publications = client_publications(result->publications, result->n_publications);
		reply.subscribe.publications = publications;
		reply.subscribe.n_publications = result->n_publications;
	}
	client_session_append_reply(c, &reply);
	free(publications);
	append_held(w, channel, result->sequence, pending->flags);
	if (w->draft.failed ||
	    !hub_subscription_add(&w->hub, &w->draft, channel, sequence, pending->flags))
		return false;
	if (!record->positioned) {
		hub_position_set(&w->hub, &w->draft.commit, channel, result->epoch, offset,
				 sequence);
		channel->checked_at = w->now_ms;
	}
	hub_subscription_counted(&w->hub, 1);
	metric_add(METRIC_subscriptions, 1);
	return true;
}

/*
 * Scripts of several subscribers may be answered in another order than Redis ran
 * them. The first answer gave the channel its position; one that is older, and
 * that no held message carries as far, misses what will not be served any more.
 */
static bool is_overtaken(const struct worker *w, const struct channel *channel,
			 const struct redis_subscribe_result *result)
{
	const struct channel_record *record = hub_record(&w->hub, channel);
	uint64_t sequence, offset;

	return record->positioned && held_position(channel, result, &sequence, &offset) &&
	       hub_is_served(sequence, record->last_sequence);
}

static void on_subscribe_read(void *ctx, const struct redis_subscribe_result *result)
{
	struct subscribe_pending *pending = ctx;
	struct worker *w = pending->base.worker;
	struct channel *channel = pending->channel;
	const struct client_command command = {.id = pending->id,
					       .method = CLIENT_METHOD_SUBSCRIBE};
	bool joined =
		hub_record(&w->hub, channel)->state == CHANNEL_JOINED && !channel->catching_up &&
		!channel->held_overflow &&
		pending->run == redis_subscription_run(
					worker_channel_shard(w, pending->channel)->subscription);
	bool subscribed = false;
	struct connection *c;

	if (pending->base.connection && result->outcome.code == REDIS_RESULT_OK && joined &&
	    is_overtaken(w, channel, result)) {
		subscribe_read(pending);
		return;
	}
	c = client_command_answered(&pending->base);
	if (c && result->outcome.code == REDIS_RESULT_OK && joined) {
		subscribed = append_subscription(c, pending, result);
	} else if (c) {
		if (result->outcome.code == REDIS_RESULT_ERROR)
			log_error("redis_command_failed method=subscribe error=%s",
				  log_value_str(result->outcome.error));
		client_session_append_error(c, &command, CLIENT_ERROR_INTERNAL);
	}
	/* The script has made a member of whoever left or was refused meanwhile. */
	if (!subscribed && (pending->flags & SUBSCRIPTION_PRESENCE))
		presence_leave(w, &pending->client, hub_name(&w->hub, channel));
	pending_detach(pending);
	client_command_resume(c, &pending->base);
	channel_settle(w, channel);
}

/* --- leaving --- */

/* In the open draft; the caller commits and then settles. */
static void remove_subscription(struct connection *c, arena_ref ref)
{
	struct worker *w = c->worker;
	const struct subscription_record *subscription = arena_at(w->arena, ref);

	w->removed_channel = hub_channel_at(&w->hub, subscription->channel);
	w->removed_presence = (subscription->flags & SUBSCRIPTION_PRESENCE) != 0;
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
	if (w->removed_presence)
		presence_leave(w, &connection_passport(c)->id, hub_name(&w->hub, channel));
	channel_settle(w, channel);
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
	buffer_reset(&w->payload);
	client_session_codec(&w->draft.now)->encode_push(&w->payload, &push);
	connection_append_frame(c, WEBSOCKET_TEXT, buffer_slice(&w->payload));
	remove_subscription(c, subscription);
	if (!connection_commit(c))
		return;
	client_unsubscribe_settle(c);
	if (connection_check_queue(c))
		connection_flush(c);
}

void client_subscribe_insufficient(struct worker *w, struct channel *channel)
{
	/* The channel must not go away under the walk. */
	channel->waiting++;
	for (uint32_t i = hub_record(&w->hub, channel)->count; i-- > 0;) {
		struct subscriber entry = *hub_subscriber(&w->hub, channel, i);
		const struct subscription_record *subscription;

		if (!entry.passport)
			continue;
		subscription = arena_at(w->arena, entry.subscription);
		if (subscription->flags & SUBSCRIPTION_POSITIONED)
			client_unsubscribe_push(connection_at(w, entry.passport),
						entry.subscription,
						CLIENT_UNSUBSCRIBE_INSUFFICIENT_STATE);
	}
	channel->waiting--;
	channel_settle(w, channel);
}

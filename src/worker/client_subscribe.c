/* SPDX-License-Identifier: ISC */
/*
 * The subscribe command: who may, what the subscription is to have, and the one
 * commit of reply, messages held meanwhile and record. Run by the worker.
 */
#include <stdlib.h>

#include "keepsock/alloc.h"
#include "keepsock/channel_name.h"
#include "worker/internal.h"
#include "worker/subscribing.h"

/* The command under way, until its subscription is ready. */
struct subscribe_command {
	struct pending base;
	struct client_command command; /* id and method only: the slices are gone by then */
	bool reject_unrecovered;
};

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

static void on_ready(struct subscribing *s, bool ok);

static bool start(struct connection *c, const struct client_command *command)
{
	struct worker *w = c->worker;
	const struct passport *passport = connection_passport(c);
	struct subscribe_command *waiting = xcalloc(1, sizeof(*waiting));
	struct subscribing_request request = {
		.channel = command->channel,
		.options = &w->settings.channel,
		.flags = subscription_flags(w, command),
		.user = passport_user(w->arena, passport),
		.conn_info = passport_info(w->arena, passport),
		.since_offset = command->offset,
		.since_epoch = command->epoch,
		.deadline = w->now_ms + (uint64_t)w->settings.redis.command_timeout,
		.ready = on_ready,
		.owner = waiting,
	};

	request.recover = command->recover && (request.flags & SUBSCRIPTION_RECOVERABLE);
	if (!subscribing_start(c, &request)) {
		free(waiting);
		return false;
	}
	waiting->base.worker = w;
	waiting->base.connection = c;
	waiting->command.id = command->id;
	waiting->command.method = command->method;
	waiting->reject_unrecovered = (command->flag & CLIENT_FLAG_REJECT_UNRECOVERED) != 0;
	c->pending = &waiting->base;
	return true;
}

enum command_outcome client_subscribe(struct connection *c, const struct client_command *command,
				      uint16_t *close_code)
{
	uint32_t code;

	if (command->delta.len > 0 && !slice_is(command->delta, "fossil")) {
		*close_code = CLIENT_DISCONNECT_BAD_REQUEST;
		return COMMAND_REFUSED;
	}
	code = subscribe_refusal(c->worker, &c->worker->draft.now, command);
	if (!code && start(c, command))
		return COMMAND_WAITS;
	client_session_append_error(c, command, code ? code : CLIENT_ERROR_INTERNAL);
	return COMMAND_DONE;
}

/* In the open draft. False: the answer is an error. */
static bool append_answer(struct connection *c, const struct subscribe_command *waiting,
			  struct subscribing *s)
{
	const struct client_reply reply = {
		.id = waiting->command.id,
		.method = CLIENT_METHOD_SUBSCRIBE,
		.subscribe = s->result,
	};

	if (s->result.was_recovering && !s->result.recovered && waiting->reject_unrecovered) {
		client_session_append_error(c, &waiting->command,
					    CLIENT_ERROR_UNRECOVERABLE_POSITION);
		return false;
	}
	client_session_append_reply(c, &reply);
	subscribing_append_held(s);
	return subscribing_append_record(s);
}

static void on_ready(struct subscribing *s, bool ok)
{
	struct subscribe_command *waiting = s->owner;
	struct connection *c = client_command_answered(&waiting->base);
	bool subscribed = false;

	if (c && ok)
		subscribed = append_answer(c, waiting, s);
	else if (c)
		client_session_append_error(c, &waiting->command, CLIENT_ERROR_INTERNAL);
	if (c && client_session_finish(c)) {
		if (subscribed)
			subscribing_committed(s);
		subscribing_end(s);
		client_session_continue(c);
	} else {
		subscribing_end(s);
	}
	free(waiting);
}

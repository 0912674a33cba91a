/* SPDX-License-Identifier: ISC */
/*
 * The subscribe command: who may, what the subscription is to have, and the one
 * commit of reply, messages held meanwhile and record. Run by the worker.
 */
#include "worker/client_subscribe.h"

#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/channel_name.h"
#include "keepsock/channel_permission.h"
#include "keepsock/log.h"
#include "worker/client_expiry.h"

/* The command under way, until its subscription is ready. */
struct subscribe_command {
	struct pending base;
	struct client_command command; /* id and method only: the slices are gone by then */
	bool reject_unrecovered;
};

/* What a token adds to the request. */
struct subscribe_grant {
	struct slice info, data;
	uint64_t expires_at;
	struct token_override override;
};

uint64_t client_deadline(const struct worker *w)
{
	uint64_t limit = (uint64_t)w->settings.redis.command_timeout;

	return w->now_ms + (limit < CLIENT_WAIT_MAX_MS ? limit : CLIENT_WAIT_MAX_MS);
}

/* --- what a subscription has --- */

static bool overridden(int8_t value, bool otherwise)
{
	return value < 0 ? otherwise : value != 0;
}

/* Positioned and recoverable. */
static uint32_t position_flags(const struct worker *w, const struct channel_options *options,
			       struct slice user, const struct token_override *override,
			       const struct client_command *wishes)
{
	bool positioned = overridden(override->force_positioning, options->force_positioning);
	bool recoverable = overridden(override->force_recovery, options->force_recovery);

	if (!channel_has_history(options))
		return 0;
	if (wishes) {
		bool may = channel_right_granted(&w->settings, options, CHANNEL_RIGHT_HISTORY, user,
						 true);

		positioned |= wishes->positioned && (may || options->allow_positioning);
		recoverable |= wishes->recoverable && (may || options->allow_recovery);
	}
	if (recoverable)
		return SUBSCRIPTION_POSITIONED | SUBSCRIPTION_RECOVERABLE;
	return positioned ? SUBSCRIPTION_POSITIONED : 0;
}

uint32_t client_subscription_flags(const struct worker *w, const struct channel_options *options,
				   struct slice user, const struct token_override *override,
				   const struct client_command *wishes)
{
	uint32_t flags = position_flags(w, options, user, override, wishes);
	bool announced = overridden(override->join_leave, options->join_leave);

	if (overridden(override->presence, options->presence))
		flags |= SUBSCRIPTION_PRESENCE;
	if (announced)
		flags |= SUBSCRIPTION_ANNOUNCED;
	if (overridden(override->force_push_join_leave, options->force_push_join_leave) ||
	    (wishes && wishes->join_leave && announced &&
	     channel_right_granted(&w->settings, options, CHANNEL_RIGHT_PRESENCE, user, true)))
		flags |= SUBSCRIPTION_JOIN_LEAVE;
	if (!wishes)
		flags |= SUBSCRIPTION_SERVER_SIDE;
	return flags;
}

void client_request_recovery(struct subscribing_request *request, bool wanted,
			     struct slice since_epoch, uint64_t since_offset)
{
	const struct channel_options *options = request->options;

	request->cache = strcmp(options->force_recovery_mode, "cache") == 0;
	request->recover = (request->flags & SUBSCRIPTION_RECOVERABLE) &&
			   (wanted || (request->cache && options->auto_cache_recover));
	if (!wanted)
		return;
	request->since_epoch = since_epoch;
	request->since_offset = since_offset;
}

/* --- who may --- */

/* The error that needs no token to be looked at, 0 if none; *options otherwise. */
static uint32_t refusal(struct worker *w, const struct passport *passport,
			const struct client_command *command,
			const struct channel_options **options)
{
	enum channel_verdict verdict = channel_check(&w->settings, command->channel, options);
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
	return verdict == CHANNEL_PRIVATE ? 0 : channel_verdict_error(verdict);
}

/* Takes what a good token grants; otherwise the error, or *close_code. */
static uint32_t take_token(struct connection *c, const struct client_command *command,
			   struct subscription_token *token, struct subscribe_grant *grant,
			   uint16_t *close_code)
{
	uint64_t now_s = wall_seconds();

	switch (token_verify_subscription(c->worker->subscription_tokens, command->token, now_s,
					  token)) {
	case TOKEN_EXPIRED: return CLIENT_ERROR_TOKEN_EXPIRED;
	case TOKEN_INVALID: return CLIENT_ERROR_PERMISSION_DENIED;
	case TOKEN_OK: break;
	}
	if (!client_token_fits(c, command->channel, token)) {
		*close_code = CLIENT_DISCONNECT_INVALID_TOKEN;
		return 0;
	}
	if (token->expires_at && token->expires_at <= now_s)
		return CLIENT_ERROR_EXPIRED;
	grant->info = token->info;
	grant->data = token->data;
	grant->expires_at = token->expires_at;
	grant->override = token->override;
	return 0;
}

/* --- the command --- */

static void on_ready(struct subscribing *s, bool ok);

static bool start(struct connection *c, const struct client_command *command,
		  const struct channel_options *options, const struct subscribe_grant *grant)
{
	struct worker *w = c->worker;
	const struct passport *passport = connection_passport(c);
	struct subscribe_command *waiting = xcalloc(1, sizeof(*waiting));
	struct subscribing_request request = {
		.channel = command->channel,
		.options = options,
		.expires_at = grant->expires_at,
		.user = passport_user(w->arena, passport),
		.conn_info = passport_info(w->arena, passport),
		.info = grant->info,
		.data = grant->data,
		.deadline = client_deadline(w),
		.ready = on_ready,
		.owner = waiting,
	};

	request.flags =
		client_subscription_flags(w, options, request.user, &grant->override, command);
	client_request_recovery(&request, command->recover, command->epoch, command->offset);
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

/* COMMAND_WAITS, COMMAND_REFUSED, or COMMAND_DONE with the error that is to be answered. */
static enum command_outcome begin(struct connection *c, const struct client_command *command,
				  struct subscription_token *token, uint32_t *error,
				  uint16_t *close_code)
{
	struct worker *w = c->worker;
	struct subscribe_grant grant = {.override = TOKEN_OVERRIDE_NONE};
	const struct channel_options *options = NULL;
	struct slice user = passport_user(w->arena, connection_passport(c));

	*error = refusal(w, &w->draft.now, command, &options);
	if (*error)
		return COMMAND_DONE;
	switch (channel_subscribe_way(&w->settings, options, command->channel, user,
				      command->token.len > 0)) {
	case CHANNEL_SUBSCRIBE_ALLOWED: break;
	case CHANNEL_SUBSCRIBE_REFUSED:
		*error = CLIENT_ERROR_PERMISSION_DENIED;
		return COMMAND_DONE;
	case CHANNEL_SUBSCRIBE_TOKEN:
		*close_code = 0;
		*error = take_token(c, command, token, &grant, close_code);
		if (*close_code)
			return COMMAND_REFUSED;
		if (*error)
			return COMMAND_DONE;
		break;
	}
	if (start(c, command, options, &grant))
		return COMMAND_WAITS;
	*error = CLIENT_ERROR_INTERNAL;
	return COMMAND_DONE;
}

enum command_outcome client_subscribe(struct connection *c, const struct client_command *command,
				      uint16_t *close_code)
{
	struct subscription_token token = {0};
	enum command_outcome outcome;
	uint32_t error = 0;

	if (command->delta.len > 0 && !slice_is(command->delta, "fossil")) {
		*close_code = CLIENT_DISCONNECT_BAD_REQUEST;
		return COMMAND_REFUSED;
	}
	outcome = begin(c, command, &token, &error, close_code);
	if (outcome == COMMAND_DONE)
		client_session_append_error(c, command, error);
	subscription_token_free(&token);
	return outcome;
}

/* In the open draft. False: the answer is an error. */
static bool append_answer(struct connection *c, const struct subscribe_command *waiting,
			  struct subscribing *s)
{
	struct client_reply reply = {
		.id = waiting->command.id,
		.method = CLIENT_METHOD_SUBSCRIBE,
		.subscribe = s->result,
	};

	/* The server subscribed the client to it meanwhile. */
	if (hub_subscription_find(&c->worker->hub, connection_passport(c), s->channel)) {
		client_session_append_error(c, &waiting->command, CLIENT_ERROR_ALREADY_SUBSCRIBED);
		return false;
	}
	if (s->result.was_recovering && !s->result.recovered && waiting->reject_unrecovered) {
		client_session_append_error(c, &waiting->command,
					    CLIENT_ERROR_UNRECOVERABLE_POSITION);
		return false;
	}
	if (s->expires_at) {
		reply.subscribe.expires = true;
		reply.subscribe.ttl = client_ttl(s->expires_at, wall_seconds());
	}
	client_session_append_reply(c, &reply);
	subscribing_append_held(s);
	if (!subscribing_append_record(s))
		c->worker->draft.failed = true;
	return true;
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

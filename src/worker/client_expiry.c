/* SPDX-License-Identifier: ISC */
/*
 * Expiry, see client_expiry.h. Run by the worker. The passport and the
 * subscriptions hold absolute wall times; the heap only knows when to look.
 */
#include "worker/client_expiry.h"

#include "keepsock/clock.h"
#include "keepsock/log.h"
#include "keepsock/token.h"
#include "worker/subscribing.h"

#define TTL_MAX_S (365u * 86400u)

uint64_t wall_seconds(void)
{
	return clock_wall_ms() / 1000;
}

uint32_t client_ttl(uint64_t expires_at, uint64_t now_s)
{
	uint64_t left = expires_at > now_s ? expires_at - now_s : 0;

	return left < TTL_MAX_S ? (uint32_t)left : TTL_MAX_S;
}

/* --- the clock --- */

/* Milliseconds on the wall at which it is too late; saturated. */
static uint64_t too_late_ms(uint64_t expires_at, int64_t delay_ms)
{
	if (expires_at > (UINT64_MAX - (uint64_t)delay_ms) / 1000)
		return UINT64_MAX;
	return expires_at * 1000 + (uint64_t)delay_ms;
}

void client_expiry_note(struct connection *c, uint64_t expires_at)
{
	/* Beyond 2106 is never. */
	if (expires_at && expires_at < UINT32_MAX &&
	    (!c->sub_expires_at || expires_at < c->sub_expires_at)) {
		c->sub_expires_at = (uint32_t)expires_at;
		connection_arm(c);
	}
}

static uint64_t next_wall_ms(const struct connection *c)
{
	const struct worker *w = c->worker;
	const struct passport *passport = connection_passport(c);
	uint64_t next = UINT64_MAX, subscription = UINT64_MAX;

	if (passport->expires_at)
		next = too_late_ms(passport->expires_at, w->settings.client.expired_close_delay);
	if (c->sub_expires_at)
		subscription =
			too_late_ms(c->sub_expires_at, w->settings.client.expired_sub_close_delay);
	return next < subscription ? next : subscription;
}

void client_expiry_note_all(struct connection *c)
{
	const struct worker *w = c->worker;
	arena_ref ref = connection_passport(c)->subscriptions;

	while (ref) {
		const struct subscription_record *record = arena_at(w->arena, ref);

		client_expiry_note(c, record->expires_at);
		ref = record->next;
	}
}

uint64_t client_expiry_next(const struct connection *c)
{
	uint64_t next, now;

	if (!connection_passport(c)->expires_at && !c->sub_expires_at)
		return 0;
	next = next_wall_ms(c);
	now = clock_wall_ms();
	if (next == UINT64_MAX)
		return 0;
	if (next > now)
		return c->worker->now_ms + (next - now);
	/* Overdue stays overdue: counted from now, every command would put it off again. */
	return c->worker->now_ms > now - next ? c->worker->now_ms - (now - next) : 1;
}

/* The subscription that is over, if any; what is left is looked at when it is due. */
static arena_ref find_expired(struct connection *c, uint64_t now_ms)
{
	const struct worker *w = c->worker;
	arena_ref ref = connection_passport(c)->subscriptions;
	uint64_t next = 0;

	while (ref) {
		const struct subscription_record *record = arena_at(w->arena, ref);
		uint64_t end = record->expires_at;

		if (end && too_late_ms(end, w->settings.client.expired_sub_close_delay) <= now_ms)
			return ref;
		if (end && (!next || end < next))
			next = end;
		ref = record->next;
	}
	c->sub_expires_at = next < UINT32_MAX ? (uint32_t)next : 0;
	return 0;
}

bool client_expiry_check(struct connection *c)
{
	struct worker *w = c->worker;
	const struct passport *passport = connection_passport(c);
	uint64_t now_ms;
	arena_ref ref;

	if ((!passport->expires_at && !c->sub_expires_at) ||
	    passport->state != PASSPORT_STATE_CONNECTED)
		return true;
	now_ms = clock_wall_ms();
	if (passport->expires_at &&
	    too_late_ms(passport->expires_at, w->settings.client.expired_close_delay) <= now_ms) {
		connection_disconnect(c, CLIENT_DISCONNECT_EXPIRED, NULL);
		return false;
	}
	if (!c->sub_expires_at ||
	    too_late_ms(c->sub_expires_at, w->settings.client.expired_sub_close_delay) > now_ms)
		return true;
	while (c->fd >= 0 && passport->state == PASSPORT_STATE_CONNECTED &&
	       (ref = find_expired(c, now_ms))) {
		const struct subscription_record *record = arena_at(w->arena, ref);

		if (record->flags & SUBSCRIPTION_SERVER_SIDE)
			connection_disconnect(c, CLIENT_DISCONNECT_SUBSCRIPTION_EXPIRED, NULL);
		else
			client_unsubscribe_push(c, ref, CLIENT_UNSUBSCRIBE_EXPIRED);
	}
	return c->fd >= 0 && passport->state == PASSPORT_STATE_CONNECTED;
}

bool client_expiry_set(struct connection *c, uint64_t expires_at, struct slice info)
{
	struct worker *w = c->worker;
	struct passport *now = &w->draft.now;
	arena_ref identity;

	now->expires_at = expires_at;
	if (info.len == 0)
		return true;
	identity = passport_identity_make(w->arena, passport_user(w->arena, now),
					  passport_name(w->arena, now),
					  passport_version(w->arena, now), info);
	if (!identity)
		return false;
	passport_draft_own(&w->draft, identity);
	if (now->identity)
		passport_draft_release(&w->draft, now->identity);
	now->identity = identity;
	return true;
}

/* --- refresh --- */

static enum command_outcome refuse(uint16_t *close_code, uint16_t code)
{
	*close_code = code;
	return COMMAND_REFUSED;
}

uint64_t client_token_digest(const struct connection_token *token)
{
	uint64_t digest = token->n_subs ? 14695981039346656037u : 0;

	/* FNV-1a over the names, each with the zero byte that ends none of them. */
	for (size_t i = 0; i < token->n_subs; i++) {
		struct slice name = token->subs[i].channel;

		for (size_t at = 0; at <= name.len; at++)
			digest = (digest ^ (at < name.len ? (uint8_t)name.data[at] : 0)) *
				 1099511628211u;
	}
	return digest;
}

bool client_token_fits(struct connection *c, struct slice channel,
		       const struct subscription_token *token)
{
	const struct passport *passport = connection_passport(c);
	char id[37];

	return slice_equal(token->channel, channel) &&
	       slice_equal(token->user, passport_user(c->worker->arena, passport)) &&
	       (token->client.len == 0 || slice_equal(token->client, connection_id(passport, id)));
}

static enum command_outcome refresh_with(struct connection *c, const struct client_command *command,
					 const struct connection_token *token, uint16_t *close_code)
{
	struct client_reply reply = {.id = command->id, .method = CLIENT_METHOD_REFRESH};
	bool insecure = c->worker->settings.client.insecure;
	uint64_t now_s = wall_seconds();

	if (!slice_equal(token->user, passport_user(c->worker->arena, connection_passport(c))))
		return refuse(close_code, CLIENT_DISCONNECT_INVALID_TOKEN);
	if (token->expires_at && token->expires_at <= now_s)
		return refuse(close_code, CLIENT_DISCONNECT_EXPIRED);
	if (client_token_digest(token) != c->worker->draft.now.token_subs)
		return refuse(close_code, CLIENT_DISCONNECT_INSUFFICIENT_STATE);
	/* Insecure connections do not expire. */
	if (!client_expiry_set(c, insecure ? 0 : token->expires_at, token->info)) {
		c->worker->draft.failed = true;
		return COMMAND_DONE;
	}
	if (token->expires_at && !insecure) {
		reply.refresh.expires = true;
		reply.refresh.ttl = client_ttl(token->expires_at, now_s);
	}
	client_session_append_reply(c, &reply);
	return COMMAND_DONE;
}

enum command_outcome client_refresh(struct connection *c, const struct client_command *command,
				    uint16_t *close_code)
{
	struct worker *w = c->worker;
	enum command_outcome outcome = COMMAND_REFUSED;
	struct connection_token token;

	if (command->token.len == 0)
		return refuse(close_code, CLIENT_DISCONNECT_BAD_REQUEST);
	switch (token_verify_connection(w->connection_tokens, command->token, wall_seconds(),
					&token)) {
	case TOKEN_OK: outcome = refresh_with(c, command, &token, close_code); break;
	case TOKEN_INVALID: *close_code = CLIENT_DISCONNECT_INVALID_TOKEN; break;
	case TOKEN_EXPIRED: *close_code = CLIENT_DISCONNECT_EXPIRED; break;
	}
	connection_token_free(&token);
	return outcome;
}

/* --- sub_refresh --- */

/* In the open draft. */
static void set_subscription(struct connection *c, struct subscription_record *record,
			     const struct subscription_token *token)
{
	struct worker *w = c->worker;
	arena_ref info;

	arena_commit_add(&w->draft.commit, &record->expires_at, token->expires_at);
	if (token->info.len == 0)
		return;
	info = subscription_info_make(&w->draft, token->info);
	if (!info)
		return;
	if (record->info)
		passport_draft_release(&w->draft, record->info);
	/* {flags, info} are one word. */
	arena_commit_add(&w->draft.commit, &record->flags, (uint64_t)info << 32 | record->flags);
}

static enum command_outcome sub_refresh_with(struct connection *c,
					     const struct client_command *command, arena_ref ref,
					     const struct subscription_token *token,
					     uint16_t *close_code)
{
	struct worker *w = c->worker;
	struct client_reply reply = {.id = command->id, .method = CLIENT_METHOD_SUB_REFRESH};
	uint64_t now_s = wall_seconds();

	if (!client_token_fits(c, command->channel, token))
		return refuse(close_code, CLIENT_DISCONNECT_INVALID_TOKEN);
	if (token->expires_at && token->expires_at <= now_s)
		return refuse(close_code, CLIENT_DISCONNECT_SUBSCRIPTION_EXPIRED);
	set_subscription(c, arena_at(w->arena, ref), token);
	client_expiry_note(c, token->expires_at);
	if (token->expires_at) {
		reply.refresh.expires = true;
		reply.refresh.ttl = client_ttl(token->expires_at, now_s);
	}
	client_session_append_reply(c, &reply);
	return COMMAND_DONE;
}

enum command_outcome client_sub_refresh(struct connection *c, const struct client_command *command,
					uint16_t *close_code)
{
	struct worker *w = c->worker;
	struct channel *channel = hub_find(&w->hub, command->channel);
	arena_ref ref = channel ? hub_subscription_find(&w->hub, &w->draft.now, channel) : 0;
	enum command_outcome outcome = COMMAND_REFUSED;
	struct subscription_token token;
	uint32_t error = 0;

	if (!ref)
		error = CLIENT_ERROR_PERMISSION_DENIED;
	else if (((struct subscription_record *)arena_at(w->arena, ref))->flags &
		 SUBSCRIPTION_SERVER_SIDE)
		return refuse(close_code, CLIENT_DISCONNECT_BAD_REQUEST);
	else if (command->token.len == 0)
		error = CLIENT_ERROR_BAD_REQUEST;
	if (error) {
		client_session_append_error(c, command, error);
		return COMMAND_DONE;
	}
	switch (token_verify_subscription(w->subscription_tokens, command->token, wall_seconds(),
					  &token)) {
	case TOKEN_OK: outcome = sub_refresh_with(c, command, ref, &token, close_code); break;
	case TOKEN_INVALID: *close_code = CLIENT_DISCONNECT_INVALID_TOKEN; break;
	case TOKEN_EXPIRED: *close_code = CLIENT_DISCONNECT_SUBSCRIPTION_EXPIRED; break;
	}
	subscription_token_free(&token);
	return outcome;
}

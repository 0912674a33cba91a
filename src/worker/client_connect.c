/* SPDX-License-Identifier: ISC */
/*
 * The connect command, see client_connect.h. Run by the worker.
 *
 *	credentials -> the user's subscriptions in Redis (users other than "")
 *	            -> the list -> all of them in preparation -> the commits
 *
 * Until its last commit the command stays raw and the client is not connected: a
 * fan-out passes it over, and what comes meanwhile is held. The records of the
 * subscriptions are committed first, one after the other within one callback;
 * the last commit carries the reply, what was held, and the state that makes
 * all of it live. After a death in between, the command is executed again, and
 * begins by taking back what it finds (client_session.c).
 */
#include "worker/client_connect.h"

#include <jansson.h>
#include <stdlib.h>

#include "keepsock/alloc.h"
#include "keepsock/clock.h"
#include "keepsock/crash_points.h"
#include "keepsock/log.h"
#include "keepsock/random.h"
#include "keepsock/redis_registry.h"
#include "keepsock/token.h"
#include "worker/client_expiry.h"
#include "worker/client_subscribe.h"
#include "worker/sessions.h"
#include "worker/shards.h"
#include "worker/survey.h"
#include "worker/wanted_subscriptions.h"

#include "config.h"

#define CLIENT_NAME_MAX    16u
#define CLIENT_VERSION_MAX 64u

struct connecting {
	struct pending base;
	struct connecting *next, **link; /* of the worker; link NULL = not in it */
	uint32_t id;                     /* of the command */
	uint64_t deadline;
	struct buffer user, info, name, version; /* owned */
	struct buffer wishes;                    /* owned; the command's subs, raw */
	uint64_t expires_at;
	uint64_t token_subs;
	struct wanted_subscriptions subs;
	size_t fixed; /* of subs: they are the token's */
	size_t waiting;
	bool asking;    /* Redis, for the user's subscriptions */
	bool abandoned; /* answered already: whoever comes back frees it */
	bool changed;   /* the user's subscriptions did meanwhile */
};

/* How a connect ends that does not succeed; both 0: it goes on. */
struct refusal {
	uint32_t error;
	uint16_t close_code;
};

#define GOES_ON            ((struct refusal){0, 0})
#define REFUSED_WITH(code) ((struct refusal){.error = (code)})
#define DISCONNECTED(code) ((struct refusal){.close_code = (code)})

static bool is_refused(struct refusal refusal)
{
	return refusal.error || refusal.close_code;
}

/* --- who it is --- */

static struct refusal take_token(const struct worker *w, struct connecting *connecting,
				 const struct connection_token *token)
{
	uint16_t code;

	if (token->user.len == 0 && w->settings.client.disallow_anonymous_connection_tokens)
		return DISCONNECTED(CLIENT_DISCONNECT_PERMISSION_DENIED);
	buffer_append_slice(&connecting->user, token->user);
	buffer_append_slice(&connecting->info, token->info);
	connecting->expires_at = w->settings.client.insecure ? 0 : token->expires_at;
	connecting->token_subs = client_token_digest(token);
	code = wanted_subscriptions_of_token(w, &connecting->subs, token);
	connecting->fixed = connecting->subs.count;
	return DISCONNECTED(code);
}

static struct refusal credentials(const struct worker *w, struct connecting *connecting,
				  struct slice text)
{
	struct refusal refusal = GOES_ON;
	struct connection_token token;

	if (text.len == 0) {
		if (w->settings.client.insecure || w->settings.client.allow_anonymous)
			return GOES_ON;
		return DISCONNECTED(CLIENT_DISCONNECT_BAD_REQUEST);
	}
	switch (token_verify_connection(w->connection_tokens, text, wall_seconds(), &token)) {
	case TOKEN_OK: refusal = take_token(w, connecting, &token); break;
	case TOKEN_EXPIRED: refusal = REFUSED_WITH(CLIENT_ERROR_TOKEN_EXPIRED); break;
	case TOKEN_INVALID:
		log_info("connection_token_invalid reason=%s", log_value_str(token.reason));
		refusal = DISCONNECTED(CLIENT_DISCONNECT_INVALID_TOKEN);
		break;
	}
	connection_token_free(&token);
	return refusal;
}

/* --- the wait --- */

static struct slice cut(struct slice text, size_t max)
{
	return slice_from(text.data, text.len < max ? text.len : max);
}

static struct connecting *connecting_create(struct connection *c,
					    const struct client_command *command)
{
	struct connecting *connecting = xcalloc(1, sizeof(*connecting));

	connecting->base.worker = c->worker;
	connecting->base.connection = c;
	connecting->id = command->id;
	connecting->deadline = client_deadline(c->worker);
	buffer_append_slice(&connecting->name, cut(command->name, CLIENT_NAME_MAX));
	buffer_append_slice(&connecting->version, cut(command->version, CLIENT_VERSION_MAX));
	buffer_append_slice(&connecting->wishes, command->subs);
	return connecting;
}

static void list_add(struct connecting *connecting)
{
	struct worker *w = connecting->base.worker;

	connecting->next = w->connecting;
	connecting->link = &w->connecting;
	if (connecting->next)
		connecting->next->link = &connecting->next;
	w->connecting = connecting;
	connecting->base.connection->pending = &connecting->base;
}

static void list_remove(struct connecting *connecting)
{
	if (!connecting->link)
		return;
	*connecting->link = connecting->next;
	if (connecting->next)
		connecting->next->link = connecting->link;
	connecting->link = NULL;
}

/* Ends all preparations; the records of those that are committed stay. */
static void end_preparations(struct connecting *connecting)
{
	for (size_t i = 0; i < connecting->subs.count; i++) {
		struct wanted_subscription *wanted = &connecting->subs.items[i];

		if (wanted->subscribing)
			subscribing_end(wanted->subscribing);
		wanted->subscribing = NULL;
		wanted->bytes = 0;
	}
	connecting->waiting = 0;
}

static void connecting_free(struct connecting *connecting)
{
	struct buffer *const buffers[] = {&connecting->user, &connecting->info, &connecting->name,
					  &connecting->version, &connecting->wishes};

	for (size_t i = 0; i < sizeof(buffers) / sizeof(buffers[0]); i++)
		buffer_free(buffers[i]);
	wanted_subscriptions_free(&connecting->subs);
	free(connecting);
}

/* --- a refusal --- */

/* In the open draft: the error, after which only the peer's close is awaited. */
static void append_refusal(struct connection *c, uint32_t id, uint32_t error)
{
	struct worker *w = c->worker;
	const struct client_command command = {.id = id, .method = CLIENT_METHOD_CONNECT};

	client_session_append_error(c, &command, error);
	w->draft.now.state = PASSPORT_STATE_UNUSABLE;
	w->draft.now.deadline = w->now_ms + (uint64_t)w->settings.client.close_timeout;
}

/* Answers a connect that waits, and frees it as soon as nobody comes back to it. */
static void refuse(struct connecting *connecting, struct refusal refusal)
{
	struct connection *c = connecting->base.connection;
	uint32_t id = connecting->id;

	list_remove(connecting);
	end_preparations(connecting);
	connecting->base.connection = NULL;
	if (connecting->asking)
		connecting->abandoned = true;
	else
		connecting_free(connecting);
	if (!c)
		return;
	c->pending = NULL;
	if (refusal.close_code) {
		connection_disconnect(c, refusal.close_code, NULL);
		return;
	}
	connection_draft(c);
	append_refusal(c, id, refusal.error);
	if (client_session_finish(c))
		client_session_continue(c);
}

/* --- the commits --- */

static void start_pings(struct worker *w, struct passport *now)
{
	uint64_t interval = (uint64_t)w->settings.client.ping_interval;

	/* Spread, so that clients who came together are not pinged together. */
	now->ping_at = w->now_ms + interval / 2 + random_below((uint32_t)(interval / 2 + 1));
}

static void append_reply(struct connection *c, const struct connecting *connecting)
{
	struct worker *w = c->worker;
	const struct wanted_subscriptions *list = &connecting->subs;
	struct client_connect_sub *subs = xcalloc(list->count + 1, sizeof(*subs));
	struct client_reply reply = {.id = connecting->id, .method = CLIENT_METHOD_CONNECT};
	char id[37];

	for (size_t i = 0; i < list->count; i++) {
		subs[i].channel = list->items[i].subscription.channel;
		subs[i].result = list->items[i].subscribing->result;
	}
	reply.connect.client = connection_id(&w->draft.now, id);
	reply.connect.version = SLICE("keepsock " PACKAGE_VERSION);
	reply.connect.subs = subs;
	reply.connect.n_subs = list->count;
	if (connecting->expires_at) {
		reply.connect.expires = true;
		reply.connect.ttl = client_ttl(connecting->expires_at, wall_seconds());
	}
	if (!(w->draft.now.flags & PASSPORT_FRAME_PINGS)) {
		reply.connect.ping = (uint32_t)(w->settings.client.ping_interval / 1000);
		reply.connect.pong = true;
	}
	if (w->settings.client.connect_include_server_time)
		reply.connect.time = clock_wall_ms();
	client_session_append_reply(c, &reply);
	free(subs);
}

/* In the open draft: connected, the reply, and what was held for the subscriptions. */
static void append_connected(struct connection *c, const struct connecting *connecting)
{
	struct worker *w = c->worker;
	struct passport *now = &w->draft.now;
	arena_ref identity = passport_identity_make(
		w->arena, buffer_slice(&connecting->user), buffer_slice(&connecting->name),
		buffer_slice(&connecting->version), buffer_slice(&connecting->info));

	if (!identity) {
		w->draft.failed = true;
		return;
	}
	passport_draft_own(&w->draft, identity);
	now->identity = identity;
	now->state = PASSPORT_STATE_CONNECTED;
	sessions_changed(c);
	now->deadline = 0;
	now->expires_at = connecting->expires_at;
	now->token_subs = connecting->token_subs;
	start_pings(w, now);
	append_reply(c, connecting);
	for (size_t i = 0; i < connecting->subs.count; i++)
		subscribing_append_held(connecting->subs.items[i].subscribing);
}

/* The records, a commit each: nobody is served by them yet. False: the connection is gone. */
static bool commit_records(struct connection *c, struct connecting *connecting)
{
	for (size_t i = 0; i < connecting->subs.count; i++) {
		struct subscribing *s = connecting->subs.items[i].subscribing;

		connection_draft(c);
		if (!subscribing_append_record(s))
			c->worker->draft.failed = true;
		if (!connection_commit(c))
			return false;
		subscribing_committed(s);
	}
	return true;
}

struct announcement {
	struct worker *worker;
	struct passport_id id;
};

static void on_announced(void *ctx, json_t *answers, bool complete, const char *error)
{
	struct announcement *announcement = ctx;
	struct connection *c = connection_find(announcement->worker, &announcement->id);

	(void)answers;
	(void)complete; /* logged there */
	/* Redis was away: the next one to be announced ends this one all the same. */
	if (error && c)
		c->announced = true;
	free(announcement);
}

/* Where a user may have only one: whoever hears of this connection ends the older ones. */
static void announce(struct connection *c)
{
	struct worker *w = c->worker;
	const struct passport *passport = connection_passport(c);
	struct slice user = passport_user(w->arena, passport);
	struct announcement *announcement;
	char text[37];
	struct slice id = connection_id(passport, text);
	json_t *args;

	if (!w->settings.personal_channel.enabled ||
	    !w->settings.personal_channel.single_connection || user.len == 0)
		return;
	args = json_pack("{s:o, s:o}", "user", json_stringn(user.data, user.len), "client",
			 json_stringn(id.data, id.len));
	if (!args)
		abort();
	announcement = xcalloc(1, sizeof(*announcement));
	announcement->worker = w;
	announcement->id = passport->id;
	survey_ask(w->survey, "user_keep_newest", args, SURVEY_WHO_HEARS, on_announced,
		   announcement);
	json_decref(args);
}

static void connected(struct connecting *connecting)
{
	struct connection *c = connecting->base.connection;
	struct worker *w = connecting->base.worker;

	list_remove(connecting);
	connecting->base.connection = NULL;
	c->pending = NULL;
	if (commit_records(c, connecting)) {
		crash_point(CRASH_CONNECT_RECORDS);
		connection_draft(c);
		append_connected(c, connecting);
		if (client_session_finish(c))
			users_add(&w->users, c);
	}
	end_preparations(connecting);
	connecting_free(connecting);
	if (c->fd < 0 || connection_passport(c)->state != PASSPORT_STATE_CONNECTED)
		return;
	announce(c);
	client_session_continue(c);
}

/* --- the subscriptions --- */

static void ask(struct connecting *connecting);

static struct refusal limits(const struct connecting *connecting)
{
	const struct worker *w = connecting->base.worker;
	uint64_t limit = (uint64_t)w->settings.client.user_connection_limit;

	if (limit && connecting->user.len > 0 &&
	    users_count(&w->users, buffer_slice(&connecting->user)) >= limit)
		return DISCONNECTED(CLIENT_DISCONNECT_CONNECTION_LIMIT);
	if (connecting->expires_at && connecting->expires_at <= wall_seconds())
		return REFUSED_WITH(CLIENT_ERROR_EXPIRED);
	return GOES_ON;
}

/* All that was waited for is there. */
static void conclude(struct connecting *connecting)
{
	struct refusal refusal;

	if (connecting->changed) {
		end_preparations(connecting);
		ask(connecting);
		return;
	}
	for (size_t i = 0; i < connecting->subs.count; i++) {
		struct wanted_subscription *wanted = &connecting->subs.items[i];

		switch (subscribing_check(wanted->subscribing)) {
		case SUBSCRIBING_CURRENT: break;
		case SUBSCRIBING_OVERTAKEN:
			wanted->bytes = 0;
			connecting->waiting++;
			subscribing_repeat(wanted->subscribing);
			break;
		case SUBSCRIBING_VOID:
			refuse(connecting, REFUSED_WITH(CLIENT_ERROR_INTERNAL));
			return;
		}
	}
	if (connecting->waiting > 0)
		return;
	refusal = limits(connecting);
	if (is_refused(refusal))
		refuse(connecting, refusal);
	else
		connected(connecting);
}

/* More than a client may have queued is no recovery: it is told to read the history. */
static void keep(struct connecting *connecting, struct subscribing *s)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < connecting->subs.count; i++) {
		struct wanted_subscription *wanted = &connecting->subs.items[i];

		if (wanted->subscribing == s)
			wanted->bytes = subscribing_keep(s);
		bytes += wanted->bytes;
		if (wanted->subscribing == s &&
		    bytes > (uint64_t)connecting->base.worker->settings.client.queue_max_size / 2) {
			subscribing_forget_publications(s);
			wanted->bytes = 0;
		}
	}
}

static void on_ready(struct subscribing *s, bool ok)
{
	struct connecting *connecting = s->owner;

	if (!ok) {
		refuse(connecting, REFUSED_WITH(CLIENT_ERROR_INTERNAL));
		return;
	}
	keep(connecting, s);
	if (--connecting->waiting == 0)
		conclude(connecting);
}

/* Begins to prepare all of them. False: Redis is away, or the arena full. */
static bool prepare(struct connecting *connecting)
{
	struct connection *c = connecting->base.connection;
	const struct worker *w = connecting->base.worker;

	for (size_t i = 0; i < connecting->subs.count; i++) {
		struct wanted_subscription *wanted = &connecting->subs.items[i];
		const struct server_subscription *subscription = &wanted->subscription;
		struct subscribing_request request = {
			.channel = subscription->channel,
			.options = wanted->options,
			.expires_at = subscription->expires_at,
			.user = buffer_slice(&connecting->user),
			.conn_info = buffer_slice(&connecting->info),
			.info = subscription->info,
			.data = subscription->data,
			.deadline = connecting->deadline,
			.ready = on_ready,
			.owner = connecting,
		};

		request.flags = client_subscription_flags(w, request.options, request.user,
							  &subscription->override, NULL);
		client_request_recovery(&request, subscription->has_since,
					subscription->since_epoch, subscription->since_offset);
		wanted->subscribing = subscribing_start(c, &request);
		if (!wanted->subscribing)
			return false;
		connecting->waiting++;
	}
	return true;
}

/* The whole list, once it is known what is kept for the user (NULL: nothing). */
static struct refusal make_list(struct connecting *connecting,
				const struct redis_user_subscriptions_result *kept)
{
	const struct worker *w = connecting->base.worker;
	struct slice user = buffer_slice(&connecting->user);
	uint16_t code;

	wanted_subscriptions_cut(&connecting->subs, connecting->fixed);
	code = wanted_subscriptions_personal(w, &connecting->subs, user);
	if (!code && kept)
		code = wanted_subscriptions_kept(w, &connecting->subs, kept);
	if (!code)
		code = wanted_subscriptions_wishes(w, &connecting->subs,
						   buffer_slice(&connecting->wishes), user);
	return code ? DISCONNECTED(code) : limits(connecting);
}

static void on_user_subscriptions(void *ctx, const struct redis_user_subscriptions_result *result)
{
	struct connecting *connecting = ctx;
	struct refusal refusal = GOES_ON;

	connecting->asking = false;
	if (connecting->abandoned) {
		connecting_free(connecting);
		return;
	}
	worker_now(connecting->base.worker);
	if (result->outcome.code == REDIS_RESULT_ERROR)
		log_error("redis_command_failed method=connect error=%s",
			  log_value_str(result->outcome.error));
	if (!connecting->base.connection || result->outcome.code != REDIS_RESULT_OK)
		refusal = REFUSED_WITH(CLIENT_ERROR_INTERNAL);
	else
		refusal = make_list(connecting, result);
	if (!is_refused(refusal) && !prepare(connecting))
		refusal = REFUSED_WITH(CLIENT_ERROR_INTERNAL);
	if (is_refused(refusal))
		refuse(connecting, refusal);
	else if (connecting->waiting == 0)
		conclude(connecting);
}

static void ask(struct connecting *connecting)
{
	struct worker *w = connecting->base.worker;

	connecting->asking = true;
	connecting->changed = false;
	redis_user_subscription_get(
		worker_control_pool(w),
		connection_affinity(connection_passport(connecting->base.connection)),
		buffer_slice(&connecting->user),
		(uint64_t)w->settings.client.server_subscription_ttl, on_user_subscriptions,
		connecting);
}

/* --- the command --- */

enum command_outcome client_connect(struct connection *c, const struct client_command *command,
				    uint16_t *close_code)
{
	struct worker *w = c->worker;
	struct connecting *connecting;
	struct refusal refusal;
	bool waits = false;

	if (w->draft.now.state != PASSPORT_STATE_UNAUTHENTICATED)
		return COMMAND_REFUSED;
	connecting = connecting_create(c, command);
	refusal = credentials(w, connecting, command->token);
	if (!is_refused(refusal) && connecting->user.len > 0) {
		list_add(connecting);
		ask(connecting);
		return COMMAND_WAITS;
	}
	if (!is_refused(refusal))
		refusal = make_list(connecting, NULL);
	if (!is_refused(refusal) && connecting->subs.count > 0) {
		waits = prepare(connecting);
		if (!waits)
			refusal = REFUSED_WITH(CLIENT_ERROR_INTERNAL);
	}
	if (waits) {
		list_add(connecting);
		return COMMAND_WAITS;
	}
	end_preparations(connecting);
	if (refusal.error)
		append_refusal(c, command->id, refusal.error);
	else if (!refusal.close_code)
		append_connected(c, connecting);
	else
		*close_code = refusal.close_code;
	connecting_free(connecting);
	return refusal.close_code ? COMMAND_REFUSED : COMMAND_DONE;
}

void client_connect_tick(struct worker *w)
{
	struct connecting *connecting = w->connecting;

	while (connecting) {
		if (connecting->deadline > w->now_ms) {
			connecting = connecting->next;
			continue;
		}
		refuse(connecting, REFUSED_WITH(CLIENT_ERROR_INTERNAL));
		/* Answering may have changed the list anywhere. */
		connecting = w->connecting;
	}
}

/* --- what the server does meanwhile --- */

unsigned client_connect_each(struct worker *w, const struct user_target *target,
			     bool (*act)(struct connection *c, const void *arg), const void *arg)
{
	struct connecting *connecting = w->connecting;
	unsigned count = 0;

	if (target->user.len == 0)
		return 0;
	while (connecting) {
		struct connecting *next = connecting->next;
		struct connection *c = connecting->base.connection;

		if (c && slice_equal(buffer_slice(&connecting->user), target->user) &&
		    client_is_meant(c, target) && act(c, arg))
			count++;
		connecting = next;
	}
	return count;
}

void client_connect_changed(struct worker *w, const struct user_target *target)
{
	for (struct connecting *connecting = w->connecting; connecting;
	     connecting = connecting->next) {
		if (slice_equal(buffer_slice(&connecting->user), target->user))
			connecting->changed = true;
	}
}

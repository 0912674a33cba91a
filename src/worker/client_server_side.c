/* SPDX-License-Identifier: ISC */
/*
 * Works on the connections of a user, see client_server_side.h. Run by the
 * worker. Everything here ends in the same calls that serve a client's own
 * commands.
 */
#include "worker/client_server_side.h"

#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/channel_name.h"
#include "keepsock/log.h"
#include "keepsock/random.h"
#include "worker/client_connect.h"
#include "worker/client_expiry.h"
#include "worker/client_subscribe.h"
#include "worker/internal.h"
#include "worker/subscribing.h"

#define REASON_MAX 123u /* bytes of a close frame's reason, RFC 6455 §5.5 */
/* Subscriptions that Redis kept from being made are tried again this often, and so many at most. */
#define ATTEMPT_PAUSE_MS 1000u
#define ATTEMPTS_MAX     65536u

bool client_is_meant(struct connection *c, const struct user_target *target)
{
	char id[37];

	if (target->session.len > 0)
		return false;
	return target->client.len == 0 ||
	       slice_equal(target->client, connection_id(connection_passport(c), id));
}

/* Calls `act` for each connection; it may end the one it is called for. */
static unsigned each_connection(struct worker *w, const struct user_target *target,
				bool (*act)(struct connection *c, const void *arg), const void *arg)
{
	const struct user *user = users_find(&w->users, target->user);
	struct connection *next = user ? user->first : NULL;
	unsigned count = 0;

	while (next) {
		struct connection *c = next;

		next = users_next(&w->users, c);
		if (client_is_meant(c, target) && act(c, arg))
			count++;
	}
	return count;
}

/* --- unsubscribe --- */

/* What is being made for one connection, so that it can be tried again. */
struct server_side_attempt {
	struct server_side_attempt *next;
	uint64_t again_at;                 /* boottime ms */
	struct buffer user, json, channel; /* owned */
	char client[UUID_TEXT_LEN];
};

static void attempt_free(struct server_side_attempt *attempt)
{
	if (!attempt)
		return;
	buffer_free(&attempt->user);
	buffer_free(&attempt->json);
	buffer_free(&attempt->channel);
	free(attempt);
}

static void on_ready(struct subscribing *s, bool ok);

static bool unsubscribe_all(struct connection *c)
{
	const struct passport *passport = connection_passport(c);
	bool any = false;

	while (c->fd >= 0 && passport->state == PASSPORT_STATE_CONNECTED &&
	       passport->subscriptions) {
		client_unsubscribe_push(c, passport->subscriptions, CLIENT_UNSUBSCRIBE_SERVER);
		any = true;
	}
	return any;
}

/* Those of ours that are still in preparation; an empty name: all. */
static void forget_preparation(struct connection *c, struct slice channel_name)
{
	struct subscribing *s = c->subscribing;

	while (s) {
		struct subscribing *next = s->next_own;

		if (s->ready == on_ready &&
		    (channel_name.len == 0 || slice_equal(subscribing_channel(s), channel_name))) {
			attempt_free(s->owner);
			subscribing_end(s);
		}
		s = next;
	}
}

/* Those that are to be tried again. */
static void forget_attempts(struct worker *w, const struct user_target *target,
			    struct slice channel_name)
{
	struct server_side_attempt **link = &w->attempts;

	while (*link) {
		struct server_side_attempt *attempt = *link;
		struct slice client = slice_from(attempt->client, sizeof(attempt->client));

		if (!slice_equal(buffer_slice(&attempt->user), target->user) ||
		    (target->client.len > 0 && !slice_equal(target->client, client)) ||
		    (channel_name.len > 0 &&
		     !slice_equal(buffer_slice(&attempt->channel), channel_name))) {
			link = &attempt->next;
			continue;
		}
		*link = attempt->next;
		w->attempt_count--;
		attempt_free(attempt);
	}
}

static bool unsubscribe(struct connection *c, const void *arg)
{
	const struct slice *channel_name = arg;
	struct worker *w = c->worker;
	struct channel *channel;
	arena_ref subscription;

	forget_preparation(c, *channel_name);
	if (channel_name->len == 0)
		return unsubscribe_all(c);
	channel = hub_find(&w->hub, *channel_name);
	subscription =
		channel ? hub_subscription_find(&w->hub, connection_passport(c), channel) : 0;
	if (!subscription)
		return false;
	client_unsubscribe_push(c, subscription, CLIENT_UNSUBSCRIBE_SERVER);
	return true;
}

bool client_server_unsubscribe(struct connection *c, struct slice channel)
{
	return unsubscribe(c, &channel);
}

unsigned client_user_unsubscribe(struct worker *w, const struct user_target *target,
				 struct slice channel)
{
	client_connect_changed(w, target);
	forget_attempts(w, target, channel);
	return each_connection(w, target, unsubscribe, &channel);
}

/* --- disconnect --- */

struct disconnect {
	const struct slice *whitelist;
	size_t whitelist_count;
	uint16_t code;
	const char *reason; /* NULL: from the table of codes */
};

static bool disconnect(struct connection *c, const void *arg)
{
	const struct disconnect *how = arg;
	char text[37];
	struct slice id = connection_id(connection_passport(c), text);

	for (size_t i = 0; i < how->whitelist_count; i++) {
		if (slice_equal(how->whitelist[i], id))
			return false;
	}
	connection_disconnect(c, how->code, how->reason);
	return true;
}

unsigned client_user_disconnect(struct worker *w, const struct user_target *target,
				const struct slice *whitelist, size_t whitelist_count,
				uint16_t code, struct slice reason)
{
	char text[REASON_MAX + 1];
	struct disconnect how = {whitelist, whitelist_count, code, NULL};

	if (reason.len > 0 && reason.len <= REASON_MAX) {
		memcpy(text, reason.data, reason.len);
		text[reason.len] = '\0';
		how.reason = text;
	}
	return each_connection(w, target, disconnect, &how) +
	       client_connect_each(w, target, disconnect, &how);
}

static bool keep_newest(struct connection *c, const void *arg)
{
	const struct slice *newest = arg;
	char text[37];

	if (slice_equal(*newest, connection_id(connection_passport(c), text))) {
		c->announced = true;
		return false;
	}
	if (!c->announced)
		return false;
	connection_disconnect(c, CLIENT_DISCONNECT_FORCE_DISCONNECT, NULL);
	return true;
}

unsigned client_user_keep_newest(struct worker *w, struct slice user, struct slice client)
{
	const struct user_target target = {.user = user};

	return each_connection(w, &target, keep_newest, &client);
}

/* --- refresh --- */

struct refresh {
	bool expired;
	uint64_t expires_at;
	struct slice info;
};

static bool refresh(struct connection *c, const void *arg)
{
	const struct refresh *how = arg;
	struct worker *w = c->worker;
	uint64_t now_s = wall_seconds();
	struct client_push push = {.kind = CLIENT_PUSH_REFRESH};

	if (how->expired || (how->expires_at && how->expires_at <= now_s)) {
		connection_disconnect(c, CLIENT_DISCONNECT_EXPIRED, NULL);
		return true;
	}
	push.refresh.expires = how->expires_at > 0;
	push.refresh.ttl = client_ttl(how->expires_at, now_s);
	connection_draft(c);
	if (!client_expiry_set(c, how->expires_at, how->info))
		w->draft.failed = true;
	client_session_append_push(c, &push);
	if (!connection_commit(c))
		return true;
	connection_arm(c);
	if (connection_check_queue(c))
		connection_flush(c);
	return true;
}

unsigned client_user_refresh(struct worker *w, const struct user_target *target, bool expired,
			     uint64_t expire_at, struct slice info)
{
	const struct refresh how = {expired, expire_at, info};

	if (info.len > CLIENT_INFO_MAX)
		return 0;
	/* Who is connecting has brought what is newer. */
	return each_connection(w, target, refresh, &how);
}

/* --- subscribe --- */

static struct server_side_attempt *attempt_new(const struct connection *c,
					       const struct server_subscription *subscription)
{
	struct worker *w = c->worker;
	const struct passport *passport = connection_passport(c);
	struct server_side_attempt *attempt = xcalloc(1, sizeof(*attempt));
	char id[37];

	connection_id(passport, id);
	memcpy(attempt->client, id, sizeof(attempt->client));
	buffer_append_slice(&attempt->user, passport_user(w->arena, passport));
	buffer_append_slice(&attempt->channel, subscription->channel);
	server_subscription_encode(&attempt->json, subscription);
	return attempt;
}

static void attempt_later(struct worker *w, struct server_side_attempt *attempt)
{
	if (w->attempt_count >= ATTEMPTS_MAX) {
		log_warning("server_side_subscription_dropped channel=%s",
			    log_value(buffer_slice(&attempt->channel)));
		attempt_free(attempt);
		return;
	}
	attempt->again_at = w->now_ms + ATTEMPT_PAUSE_MS;
	attempt->next = w->attempts;
	w->attempts = attempt;
	w->attempt_count++;
}

static unsigned make(struct worker *w, const struct user_target *target,
		     const struct server_subscription *subscription);

void client_server_side_tick(struct worker *w)
{
	struct server_side_attempt *attempt = w->attempts;

	/* Failures come back to the list with a later time. */
	w->attempts = NULL;
	w->attempt_count = 0;
	while (attempt) {
		struct server_side_attempt *next = attempt->next;
		struct server_subscription subscription;
		struct buffer text = {0};
		const struct user_target target = {
			.user = buffer_slice(&attempt->user),
			.client = slice_from(attempt->client, sizeof(attempt->client)),
		};

		if (attempt->again_at > w->now_ms) {
			attempt->next = w->attempts;
			w->attempts = attempt;
			w->attempt_count++;
		} else {
			/* A connection that is gone is concerned no more. */
			if (server_subscription_decode(buffer_slice(&attempt->json), &text,
						       &subscription))
				make(w, &target, &subscription);
			attempt_free(attempt);
		}
		buffer_free(&text);
		attempt = next;
	}
}

void client_server_side_free(struct worker *w)
{
	while (w->attempts) {
		struct server_side_attempt *next = w->attempts->next;

		attempt_free(w->attempts);
		w->attempts = next;
	}
}

/* What was missed follows the push as publications: it has no place in it. */
static void append_recovered(struct connection *c, const struct subscribing *s)
{
	for (size_t i = 0; i < s->result.n_publications; i++) {
		const struct client_push push = {
			.kind = CLIENT_PUSH_PUBLICATION,
			.channel = subscribing_channel(s),
			.publication = s->result.publications[i],
		};

		client_session_append_push(c, &push);
	}
}

static void on_ready(struct subscribing *s, bool ok)
{
	struct worker *w = s->worker;
	struct connection *c = s->connection;
	struct client_push push = {
		.kind = CLIENT_PUSH_SUBSCRIBE,
		.channel = subscribing_channel(s),
		.subscribe = s->result,
	};

	if (!ok && c->fd >= 0 && connection_passport(c)->state == PASSPORT_STATE_CONNECTED)
		attempt_later(w, s->owner);
	else
		attempt_free(s->owner);
	if (!ok || connection_passport(c)->state != PASSPORT_STATE_CONNECTED ||
	    hub_subscription_find(&w->hub, connection_passport(c), s->channel)) {
		subscribing_end(s);
		return;
	}
	connection_draft(c);
	client_session_append_push(c, &push);
	append_recovered(c, s);
	subscribing_append_held(s);
	if (!subscribing_append_record(s))
		w->draft.failed = true;
	if (!connection_commit(c)) {
		subscribing_end(s);
		return;
	}
	subscribing_committed(s);
	subscribing_end(s);
	if (connection_check_queue(c))
		connection_flush(c);
}

/* In preparation already, or as many as the client may have. */
static bool has_enough(const struct connection *c, struct slice channel)
{
	const struct worker *w = c->worker;
	uint64_t count = connection_passport(c)->subscription_count;

	for (const struct subscribing *s = c->subscribing; s; s = s->next_own) {
		if (slice_equal(subscribing_channel(s), channel))
			return true;
		count++;
	}
	return count >= (uint64_t)w->settings.client.channel_limit;
}

struct subscribe {
	const struct server_subscription *subscription;
	const struct channel_options *options;
};

static bool subscribe(struct connection *c, const void *arg)
{
	const struct subscribe *how = arg;
	const struct server_subscription *subscription = how->subscription;
	struct worker *w = c->worker;
	const struct passport *passport = connection_passport(c);
	struct channel *channel = hub_find(&w->hub, subscription->channel);
	struct subscribing_request request = {
		.channel = subscription->channel,
		.options = how->options,
		.expires_at = subscription->expires_at,
		.user = passport_user(w->arena, passport),
		.conn_info = passport_info(w->arena, passport),
		.info = subscription->info,
		.data = subscription->data,
		.deadline = client_deadline(w),
		.ready = on_ready,
	};
	struct server_side_attempt *attempt;

	if ((channel && hub_subscription_find(&w->hub, passport, channel)) ||
	    has_enough(c, subscription->channel))
		return false;
	request.flags = client_subscription_flags(w, how->options, request.user,
						  &subscription->override, NULL);
	client_request_recovery(&request, subscription->has_since, subscription->since_epoch,
				subscription->since_offset);
	request.owner = attempt = attempt_new(c, subscription);
	if (!subscribing_start(c, &request))
		attempt_later(w, attempt);
	return true;
}

static unsigned make(struct worker *w, const struct user_target *target,
		     const struct server_subscription *subscription)
{
	struct subscribe how = {.subscription = subscription};
	enum channel_verdict verdict =
		channel_check(&w->settings, subscription->channel, &how.options);

	if ((verdict != CHANNEL_OK && verdict != CHANNEL_PRIVATE) ||
	    subscription->info.len > CLIENT_INFO_MAX ||
	    (subscription->expires_at && subscription->expires_at <= wall_seconds()))
		return 0;
	return each_connection(w, target, subscribe, &how);
}

unsigned client_user_subscribe(struct worker *w, const struct user_target *target,
			       const struct server_subscription *subscription)
{
	client_connect_changed(w, target);
	return make(w, target, subscription);
}

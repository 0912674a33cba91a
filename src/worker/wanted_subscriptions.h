/* SPDX-License-Identifier: ISC */
/*
 * The server-side subscriptions that a connecting client is to get: those of its
 * token, its personal channel, those made through the API, and those it wishes
 * for and may have. The first to name a channel decides what it gets there.
 */
#ifndef KEEPSOCK_WORKER_WANTED_SUBSCRIPTIONS_H
#define KEEPSOCK_WORKER_WANTED_SUBSCRIPTIONS_H

#include "keepsock/client_protocol.h"
#include "worker/client_server_side.h"
#include "worker/internal.h"

struct connection_token;
struct redis_user_subscriptions_result;
struct subscribing;

/* In one connect, whatever client.channel_limit says. */
#define WANTED_SUBSCRIPTIONS_MAX 1024u

struct wanted_subscription {
	struct server_subscription subscription;
	const struct channel_options *options;
	char *text;                      /* owned; what the slices point into */
	struct subscribing *subscribing; /* owned, once it has begun */
	size_t bytes;                    /* of the publications it recovered */
};

struct wanted_subscriptions {
	struct wanted_subscription *items; /* owned */
	size_t count, capacity;
};

void wanted_subscriptions_free(struct wanted_subscriptions *list);
/* Keeps the first `count` of them. What has begun is the caller's to end. */
void wanted_subscriptions_cut(struct wanted_subscriptions *list, size_t count);

/*
 * Each returns 0, or the code to disconnect with: CHANNEL_LIMIT, INVALID_TOKEN
 * for a token that names what can be no channel here, BAD_REQUEST for a wish in
 * an unknown namespace. What is wrong otherwise is left out.
 */
uint16_t wanted_subscriptions_of_token(const struct worker *w, struct wanted_subscriptions *list,
				       const struct connection_token *token);
uint16_t wanted_subscriptions_personal(const struct worker *w, struct wanted_subscriptions *list,
				       struct slice user);
uint16_t wanted_subscriptions_kept(const struct worker *w, struct wanted_subscriptions *list,
				   const struct redis_user_subscriptions_result *kept);
/* The connect command's subs: positions for what is in the list already, and wishes. */
uint16_t wanted_subscriptions_wishes(const struct worker *w, struct wanted_subscriptions *list,
				     struct slice subs, struct slice user);

#endif

/* SPDX-License-Identifier: ISC */
/*
 * What the server does to the connections of a user on this worker: the HTTP
 * API's subscribe, unsubscribe, disconnect and refresh act through these, on
 * every worker of every node (by survey). Run by the worker. Slices are read
 * before a call returns.
 */
#ifndef KEEPSOCK_WORKER_CLIENT_SERVER_SIDE_H
#define KEEPSOCK_WORKER_CLIENT_SERVER_SIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "keepsock/slice.h"
#include "keepsock/token.h"

struct buffer;
struct connection;
struct worker;

/* Longest chan_info, and info of a connection; longer ones are refused. */
#define CLIENT_INFO_MAX 16384u

/* Connections of a user; the user "" has none here. */
struct user_target {
	struct slice user;
	struct slice client;  /* only this client id; empty = all */
	struct slice session; /* only this session; WebSocket connections have none. empty = all */
};

/* A subscription that the server makes for a client. */
struct server_subscription {
	struct slice channel;
	struct slice info;   /* raw JSON: chan_info; may be empty */
	struct slice data;   /* raw JSON, handed to the client; may be empty */
	uint64_t expires_at; /* wall seconds, 0 = never */
	struct token_override override;
	bool has_since; /* recover from: */
	struct slice since_epoch;
	uint64_t since_offset;
};

/* Its client id and session are those of the target. */
bool client_is_meant(struct connection *c, const struct user_target *target);

/* As JSON text, for Redis and for messages between workers. */
void server_subscription_encode(struct buffer *out, const struct server_subscription *subscription);
/* False: it is none. text (reset first) and json have to outlive the result. */
bool server_subscription_decode(struct slice json, struct buffer *text,
				struct server_subscription *out);

/*
 * Each returns how many connections it concerned. Subscribing is only begun
 * then: its push follows when Redis has answered, and while Redis is away it is
 * tried again. A connection that is subscribed already, or to as many channels
 * as allowed, stays as it is.
 */
unsigned client_user_subscribe(struct worker *w, const struct user_target *target,
			       const struct server_subscription *subscription);
/* An empty channel: all of its subscriptions. The client is told with code 2000. */
unsigned client_user_unsubscribe(struct worker *w, const struct user_target *target,
				 struct slice channel);
/* The same for one connection, which is connected; false: it had no such subscription. */
bool client_server_unsubscribe(struct connection *c, struct slice channel);
/* Spares the client ids of the whitelist. An empty reason: that of PROTOCOL's table. */
unsigned client_user_disconnect(struct worker *w, const struct user_target *target,
				const struct slice *whitelist, size_t whitelist_count,
				uint16_t code, struct slice reason);
/*
 * Where a user may have one connection: this one was announced to all workers.
 * Disconnects (3503) those announced before; one whose announcement is still on
 * its way here is newer, since all hear them in one order.
 */
unsigned client_user_keep_newest(struct worker *w, struct slice user, struct slice client);
/*
 * Expired, or expire_at in the past: disconnects with 3005. Otherwise the
 * connections expire at expire_at (wall seconds, 0 = never) and carry info (raw
 * JSON, empty = as before).
 */
unsigned client_user_refresh(struct worker *w, const struct user_target *target, bool expired,
			     uint64_t expire_at, struct slice info);

/* Every tick: subscriptions that are to be tried again. */
void client_server_side_tick(struct worker *w);
void client_server_side_free(struct worker *w);

#endif

/* SPDX-License-Identifier: ISC */
/*
 * What ends by the clock on the wall: connections and subscriptions whose
 * tokens said so, and the commands refresh and sub_refresh that put the end off.
 */
#ifndef KEEPSOCK_WORKER_CLIENT_EXPIRY_H
#define KEEPSOCK_WORKER_CLIENT_EXPIRY_H

#include "worker/internal.h"

/* Unix time in seconds. */
uint64_t wall_seconds(void);
/* Seconds left of what expires then, at most 365 days; 0: it is over. */
uint32_t client_ttl(uint64_t expires_at, uint64_t now_s);

/* A subscription of the connection expires then (wall seconds, 0 = never). */
void client_expiry_note(struct connection *c, uint64_t expires_at);
/* The same of all of its subscriptions. */
void client_expiry_note_all(struct connection *c);
/* Boottime ms of the next look at what expires, 0 = nothing does. */
uint64_t client_expiry_next(const struct connection *c);
/* Ends what is over; false: the connection is not served any more. */
bool client_expiry_check(struct connection *c);

/*
 * In the open draft: the connection expires then, with other info unless that is
 * empty. False: the arena is full, or the info too long.
 */
bool client_expiry_set(struct connection *c, uint64_t expires_at, struct slice info);

struct connection_token;
struct subscription_token;
/* Of the channels that the token subscribes to; a refresh must not change them. 0: none. */
uint64_t client_token_digest(const struct connection_token *token);
/* It was made for this client and this channel. */
bool client_token_fits(struct connection *c, struct slice channel,
		       const struct subscription_token *token);

enum command_outcome client_refresh(struct connection *c, const struct client_command *command,
				    uint16_t *close_code);
enum command_outcome client_sub_refresh(struct connection *c, const struct client_command *command,
					uint16_t *close_code);

#endif

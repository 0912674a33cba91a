/* SPDX-License-Identifier: ISC */
/*
 * The worker's subscription connection to Redis: one TCP socket, read by our
 * own loop into a passport of its own kind, so that a successor can go on in
 * mid-reply (DESIGN §6). Which channels Redis thinks we hear is a function of
 * the bytes committed here.
 */
#ifndef KEEPSOCK_WORKER_REDIS_SUBSCRIPTION_H
#define KEEPSOCK_WORKER_REDIS_SUBSCRIPTION_H

#include "worker/internal.h"

/* Starts connecting at once. NULL when the arena is full. */
struct redis_subscription *redis_subscription_create(struct redis_shard *shard);
void redis_subscription_free(struct redis_subscription *subscription);
/*
 * Instead of connecting: goes on with the connection whose passport the shard's
 * record names, on the socket that was handed over (taken in any case; -1: none
 * was). False: it can't; what it was is forgotten, and a new one is made.
 */
bool redis_subscription_adopt(struct redis_subscription *subscription, int fd);
/* Before that: the batch under way is of a channel of this shard. */
void redis_subscription_adopt_fanout(struct redis_subscription *subscription,
				     struct channel *channel);
/* The run of Redis behind it is known and waits to be settled; then it may go on. */
bool redis_subscription_settling(const struct redis_subscription *subscription);
void redis_subscription_settled(struct redis_subscription *subscription);
/* As redis_pool_run_id(); "" while not known. */
const char *redis_subscription_redis_run(const struct redis_subscription *subscription);
/* Another server from now on. */
void redis_subscription_set_endpoint(struct redis_subscription *subscription);

/* Connected, signed in and hearing the control channels. */
bool redis_subscription_available(const struct redis_subscription *subscription);

/*
 * What the channel needs may have changed: at the end of this loop turn it is
 * joined, left or freed, as its subscribers and waiters demand. Safe at any
 * time, an open draft included.
 */
void redis_subscription_review(struct redis_subscription *subscription, struct channel *channel);
/* The loop turn's end. */
void redis_subscription_settle(struct redis_subscription *subscription);

/* Distinguishes successive connections. */
uint64_t redis_subscription_run(const struct redis_subscription *subscription);
/* Messages up to this sequence have come over the connection and been served; 0: none. */
uint64_t redis_subscription_served(const struct redis_subscription *subscription);
/* Gives the connection up and makes a new one. */
void redis_subscription_restart(struct redis_subscription *subscription, const char *why);
/* Fan-outs were added from elsewhere: runs them, then goes on with what Redis sent. */
void redis_subscription_work(struct redis_subscription *subscription);

/* Everything that was read is served, up to this sequence; false: not everything. */
bool redis_subscription_at_rest(const struct redis_subscription *subscription, uint64_t *sequence);
/* Nothing is read and served meanwhile. */
void redis_subscription_hold(struct redis_subscription *subscription, bool hold);

/* For the admin view. */
struct redis_subscription_view {
	const char *state;
	uint64_t reconnects, messages, audits_failed;
	uint64_t last_sequence;
	char last_error[160];
};
void redis_subscription_view(const struct redis_subscription *subscription,
			     struct redis_subscription_view *view);

#endif

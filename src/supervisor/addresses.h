/* SPDX-License-Identifier: ISC */
/*
 * The addresses that follow the primary (cluster.vip), as one: taken, renewed and
 * given up together. Runs in the supervisor; vip.h has what happens to each.
 */
#ifndef KEEPSOCK_SUPERVISOR_ADDRESSES_H
#define KEEPSOCK_SUPERVISOR_ADDRESSES_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "keepsock/vip.h"

struct addresses;
struct buffer;
struct event_base;
struct settings;

struct addresses_options {
	struct event_base *base;
	const struct settings *settings;
	void (*on_change)(void *ctx); /* ready or problem has changed; from the event loop */
	void *ctx;
};

/* NULL with error. Without cluster.vip there is nothing to do, and all of it succeeds. */
struct addresses *addresses_create(const struct addresses_options *options, struct buffer *error);

/* What is held runs out by itself, or our successor takes it over. NULL is fine. */
void addresses_free(struct addresses *addresses);

/* Until when they may be ours (boottime): by the lease, without its guard. */
void addresses_take(struct addresses *addresses, uint64_t held_until_ms);
void addresses_renew(struct addresses *addresses, uint64_t held_until_ms);

/*
 * Resets the connections on them, until end_ms (boottime) at most, so that clients know
 * before the address goes; only for whoever holds the lease.
 */
void addresses_disconnect(struct addresses *addresses, uint64_t end_ms);

/* At once; safe at any time. */
void addresses_drop(struct addresses *addresses);

/* All of them are held. */
bool addresses_ready(const struct addresses *addresses);

/* All of them were there already when they were taken, so no client has missed anything. */
bool addresses_were_there(const struct addresses *addresses);

/* Since addresses_take(): why one was refused or lost; "" = none was. */
const char *addresses_problem(const struct addresses *addresses);

/*
 * Wakes clients of that family that were connected to one of them and are not now,
 * cluster.tickle_rate a second.
 */
void addresses_tickle(struct addresses *addresses, int family, const struct vip_peer *peers,
		      size_t count);

/* How many have been sent a packet. */
uint64_t addresses_tickled(const struct addresses *addresses);

/* [{address, state, left_ms}]; the caller's. */
json_t *addresses_rows(const struct addresses *addresses, uint64_t now);

#endif

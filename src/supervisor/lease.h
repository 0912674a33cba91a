/* SPDX-License-Identifier: ISC */
/*
 * The primary's lease in Redis: looking at it, taking it, renewing it, giving it
 * back, and finding the server where it is. Runs in the supervisor. It decides
 * nothing: whether to take the lease is its owner's business; what it says about
 * a lease being held is true by CLOCK_BOOTTIME even if nobody calls it any more.
 *
 * A lease is held from the moment its last successful renewal was *sent*, for
 * lease_ttl - lease_guard. With Sentinels a renewal counts only when a majority of
 * them, asked after it, names the server that granted it.
 */
#ifndef KEEPSOCK_SUPERVISOR_LEASE_H
#define KEEPSOCK_SUPERVISOR_LEASE_H

#include <stdbool.h>
#include <stdint.h>

#include "keepsock/ipc_messages.h"

struct buffer;
struct event_base;
struct lease;
struct settings;

/* Longest name of a node. */
#define LEASE_NODE_MAX 32
/* Longest text of a lease, "<epoch> <node> <random>". */
#define LEASE_TEXT_MAX  80
#define LEASE_ERROR_MAX 160

struct lease_view {
	bool connected; /* Redis answers */
	bool settled; /* the lease seen there may be believed: a new run was watched long enough */
	bool free;    /* nobody had it when we looked last */
	bool acquiring;         /* lease_acquire() has no answer yet */
	bool holding;           /* taken and not given back: it is being renewed */
	bool fenced;            /* while holding: another has had it since, it is lost for good */
	uint64_t epoch;         /* while holding: of our lease */
	uint64_t held_until_ms; /* boottime; 0: not held. Never set back while holding */
	uint64_t redis_epoch;   /* the highest epoch that Redis knew when we looked last */
	uint64_t seen_ms;       /* boottime of that look; 0: never */
	/* Boottime at which what we saw runs out, or nobody can have it any more; 0: it is free or
	 * unknown. */
	uint64_t free_at_ms;
	char holder[LEASE_NODE_MAX + 1]; /* node that had it when we looked last, "": nobody */
	const char *text;  /* while holding: our lease; lives until it is given back */
	const char *place; /* "HOST:PORT" of Redis, "" = not known yet */
	const char *error; /* the last one, "" = none since it worked */
};

/*
 * Starts connecting to the first shard; NULL with error when the settings can't
 * be used. on_change comes from the event loop whenever the view may have changed.
 */
struct lease *lease_create(struct event_base *base, const struct settings *settings,
			   void (*on_change)(void *ctx), void *ctx, struct buffer *error);

/* Gives nothing back: a lease that is held runs out. NULL is fine. */
void lease_free(struct lease *lease);

void lease_get_view(const struct lease *lease, struct lease_view *view);

/* Looks at the lease now instead of at its next time. */
void lease_look(struct lease *lease);

/* One attempt, with an epoch above floor. False: it can't be made now. */
bool lease_acquire(struct lease *lease, uint64_t floor);

/*
 * Takes up the lease that our predecessor left, by its text. It is held once a
 * renewal has succeeded. False: there is no such lease in Redis.
 */
bool lease_resume(struct lease *lease, const char *text);

/* It is not ours any more from now on; Redis is told if it can be. */
void lease_release(struct lease *lease);

/* Where Redis is and how to sign in, for a connection of one's own; for ipc_redis_free(). */
struct ipc_redis lease_copy_redis(const struct lease *lease);

/* Appends to the stream of events; one that can't be sent now is dropped. */
void lease_add_event(struct lease *lease, const char *json);

/* Asks Redis for the last events; rows are its reply, lives until done returns; NULL: not to be
 * had. */
struct redisReply;
bool lease_read_events(struct lease *lease, unsigned count,
		       void (*done)(void *ctx, const struct redisReply *rows), void *ctx);

#endif

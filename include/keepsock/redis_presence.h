/* SPDX-License-Identifier: ISC */
/*
 * The typed calls about the members of channels. A member is a client whose
 * subscription is announced: by presence, by join and leave messages, or by
 * both. Used by workers. Rules of all calls: redis_scripts.h.
 *
 * A join is published by the script that adds a member, only if it was none; a
 * leave by the one that removes it, only if it was one. So whoever wants joins
 * and leaves without presence makes members all the same.
 *
 * With a worker's name the members are also in that worker's index, from which
 * redis_purge() (redis_registry.h) removes all of them should the worker die.
 * The index then decides who is new: a member whose entry only expired, while
 * Redis was away, joins no second time.
 */
#ifndef KEEPSOCK_REDIS_PRESENCE_H
#define KEEPSOCK_REDIS_PRESENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "keepsock/redis_outcome.h"
#include "keepsock/slice.h"

struct redis_presence_member {
	struct slice channel; /* not read where the call names the channel already */
	struct slice client;  /* no spaces in it */
	struct slice user;    /* may be empty; counted by presence_stats */
	struct slice info;    /* raw ClientInfo JSON, also that of the join and the leave */
	/* Whose client it is; empty: in no index. Of a call's members the first one's counts. */
	struct slice worker;
	bool join_leave; /* the join and, whoever causes it, the leave are published */
};

struct redis_presence_result {
	struct redis_outcome outcome;
	size_t n_members;
	const struct redis_presence_member *members; /* in no order; channel, worker are empty */
};

typedef void (*redis_presence_callback)(void *ctx, const struct redis_presence_result *result);

/* The members of a channel; those expired at now_ms (wall clock) are purged first. */
void redis_presence_get(struct redis_pool *pool, uint64_t affinity, struct slice channel,
			uint64_t now_ms, redis_presence_callback callback, void *ctx);

struct redis_presence_stats_result {
	struct redis_outcome outcome;
	uint64_t n_clients;
	uint64_t n_users; /* different ones; the empty user counts as one */
};

typedef void (*redis_presence_stats_callback)(void *ctx,
					      const struct redis_presence_stats_result *result);

void redis_presence_stats(struct redis_pool *pool, uint64_t affinity, struct slice channel,
			  uint64_t now_ms, redis_presence_stats_callback callback, void *ctx);

/* Adds the members or prolongs them to now_ms + ttl_ms; count = how many were none before. */
void redis_presence_refresh(struct redis_pool *pool, uint64_t affinity, uint64_t ttl_ms,
			    uint64_t now_ms, const struct redis_presence_member *members, size_t n,
			    redis_count_callback callback, void *ctx);

/*
 * Only channel, client and worker of a member are read; whether a leave is
 * published is for the entry to say. count = how many were present.
 */
void redis_presence_remove(struct redis_pool *pool, uint64_t affinity,
			   const struct redis_presence_member *members, size_t n,
			   redis_count_callback callback, void *ctx);

/*
 * The client's connection went from one worker to another, both by their names:
 * its members in these channels are now in the other's index. count = how many
 * moved.
 */
void redis_members_move(struct redis_pool *pool, uint64_t affinity, struct slice from,
			struct slice to, struct slice client, const struct slice *channels,
			size_t n, redis_count_callback callback, void *ctx);

#endif

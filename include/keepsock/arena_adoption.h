/* SPDX-License-Identifier: ISC */
/*
 * A worker's first step in the place of a dead one: what its arena holds is
 * checked, what is damaged is taken out, and everything that lives in the heap
 * is made anew (DESIGN §3 rule 9). What it costs:
 *
 *   a damaged passport     that connection: the passport is freed, its
 *                          subscriptions leave their channels
 *   a channel's array      its subscriptions become SUBSCRIPTION_UNPLACED: their
 *                          clients are to be told (2500), then the channel goes on
 *   a channel's name       the connections subscribed to it, as damaged passports
 *   the fan-out record     the batch under way and, as with an array, its channel
 *
 * A chunk that two claim is nobody's: both are damaged. Dying in the middle of
 * an adoption leaves an arena that can be adopted again.
 */
#ifndef KEEPSOCK_ARENA_ADOPTION_H
#define KEEPSOCK_ARENA_ADOPTION_H

#include "keepsock/arena.h"
#include "keepsock/buffer.h"
#include "keepsock/hub.h"

struct arena_adoption {
	uint64_t passports, passports_lost;
	uint64_t channels;
	uint64_t channels_unplaced; /* kept, but their subscribers are to be told */
	uint64_t channels_lost;     /* freed: nobody knows their names */
	uint64_t subscriptions;     /* of kept passports */
	uint64_t unplaced;          /* of those, SUBSCRIPTION_UNPLACED */
	uint64_t entries_dropped;   /* of subscriber arrays, without a subscription of their own */
	uint64_t chunks;            /* in use */
	uint64_t bytes;             /* in pages that hold something */
	uint64_t pages_lost;        /* had a class that is none of ours */
	uint64_t violations;        /* of the arena's invariants; the report tells the first 100 */
	uint64_t shards_lost; /* bit i: shard i's subscription connection has no passport now */
	bool fanout_lost;     /* the record of the fan-out under way */
	bool work_lost;       /* what the work slot named does not exist */
	/* What is subscribed in Redis may differ from what the channels say: every subscription
	 * connection has to be made anew. */
	bool states_lost;
	uint64_t duration_us;
	struct buffer report; /* a line per violation */
};

/*
 * For an arena from arena_adopt(): checks and repairs it, rebuilds its heap half
 * and makes *hub for it, all channels with nobody waiting and nothing held.
 * Afterwards every passport in use (passport_next()) and every channel in use
 * (hub_next()) is whole. Channels without subscribers are kept as their records
 * say: the caller reviews all of them. The fan-out under way keeps its channel's
 * tombstones; all others are closed up.
 */
void hub_adopt(struct hub *hub, struct arena *arena, struct arena_adoption *adoption);
void arena_adoption_free(struct arena_adoption *adoption);

#endif

/* SPDX-License-Identifier: ISC */
/*
 * The walk over everything that an arena holds: it marks what belongs to whom,
 * checks it, and judges every passport and channel. arena_check() reports what
 * it finds, hub_adopt() acts on it. Nothing outside src/channels includes this,
 * but for its tests.
 *
 * It changes nothing and trusts nothing it reads: every reference is checked
 * before it is followed, every chain is bounded by the marks themselves.
 */
#ifndef KEEPSOCK_CHANNELS_ARENA_WALK_H
#define KEEPSOCK_CHANNELS_ARENA_WALK_H

#include "channels/hub_private.h"
#include "keepsock/arena_check.h"

/* Of a chunk: what it is part of. */
enum walk_mark {
	MARK_NONE,
	MARK_NAME,         /* a channel's name */
	MARK_PIECE,        /* a passport's: of a queue, its identity, a subscription's info */
	MARK_SUBSCRIPTION, /* a passport lists it */
	MARK_BLOCK,        /* of a channel's subscriber array */
	MARK_FRAME,        /* of the fan-out under way */
	MARKS = 0x0f,
	/* Flags. */
	MARK_DISPUTED = 0x40, /* two claim it, and nobody can tell who is right */
	MARK_MISPLACED = 0x80 /* a subscription: an entry names it that it does not name */
};

/* Of a passport or channel in use; no mark looks like one. */
enum walk_verdict {
	VERDICT_NONE,
	VERDICT_SOUND = 0x10,
	VERDICT_DAMAGED = 0x20, /* a channel whose name can be relied on, and nothing else */
	VERDICT_LOST = 0x30
};

#define WALK_OWNER_HEADER 1u /* as an owner: the fan-out record; no record has this ref */

/* A subscription that its channel's array does not have where it says. */
struct walk_misfit {
	arena_ref channel, subscription, passport;
	bool own_fault; /* as far as can be told */
};

struct arena_walk {
	const struct arena *arena;
	struct buffer *report;
	struct arena_census census;
	uint64_t refs;
	uint8_t *marks; /* owned; by ref: a chunk's marks, or a record's verdict */
	/* Owned; by ref: of a chunk: whose it is; of a channel: how many SUBSCRIPTION_UNPLACED. */
	uint32_t *owners;
	arena_ref *names; /* owned; the channels by their names, an open hash table */
	uint64_t name_slots;
	struct walk_misfit *misfits; /* owned */
	size_t misfit_count, misfit_capacity;

	/* What is being walked. */
	arena_ref subject;
	uint64_t faults;      /* violations of its own */
	arena_ref *conflicts; /* owned; chunks that it claims and another has */
	size_t conflict_count, conflict_capacity;

	/* What was found. */
	bool fanout_damaged;
	uint64_t shards_damaged; /* bit i: shard i's record */
};

/* Walks and judges everything; the report gets a line per violation, the first 100. */
void arena_walk_run(struct arena_walk *walk, const struct arena *arena, struct buffer *report);
void arena_walk_free(struct arena_walk *walk);

static inline enum walk_verdict arena_walk_verdict(const struct arena_walk *walk, arena_ref record)
{
	return walk->marks[record];
}

/* True for a place in a sound channel's array that a sound passport's subscription has. */
bool arena_walk_entry_kept(const struct arena_walk *walk, arena_ref channel, uint32_t index,
			   struct subscriber entry);

/* --- between the files of the walk --- */
__attribute__((format(printf, 2, 3))) void walk_violation(struct arena_walk *walk, const char *fmt,
							  ...);
/* From here on violations and claims are this record's. */
void walk_begin(struct arena_walk *walk, arena_ref subject);
/* True: nothing was wrong with it. Chunks that it claimed and another has cost the other as well,
 * unless the fault is clearly here. */
bool walk_end(struct arena_walk *walk, enum walk_verdict cost);
void walk_judge(struct arena_walk *walk, arena_ref record, enum walk_verdict verdict);

enum walk_claim { CLAIM_NO_CHUNK, CLAIM_DISPUTED, CLAIM_OWN };

/* Disputed: it is a chunk that may be looked at, but not followed. */
enum walk_claim walk_claim(struct arena_walk *walk, arena_ref ref, enum walk_mark mark,
			   const char *who);
bool walk_record_in_use(const struct arena_walk *walk, arena_ref ref, enum arena_class class,
			uint32_t magic);
/* The subscription of an entry, NULL when no passport lists it. */
const struct subscription_record *walk_entry_subscription(const struct arena_walk *walk,
							  struct subscriber entry);

void walk_passport(struct arena_walk *walk, arena_ref ref);
bool walk_state_sane(const struct channel_record *record);
/* Name and state; before any passport is walked. */
void walk_channel(struct arena_walk *walk, arena_ref ref);
/* Its array's blocks; once all passports were walked. */
void walk_channel_blocks(struct arena_walk *walk, arena_ref ref);
void walk_channel_entries(struct arena_walk *walk, arena_ref ref);
/* Whether all subscriptions of a sound passport are where they say; after all entries. */
void walk_places(struct arena_walk *walk, arena_ref passport);
void walk_judge_misfits(struct arena_walk *walk);
void walk_header(struct arena_walk *walk);

#endif

/* SPDX-License-Identifier: ISC */
/*
 * The hub: which channels this worker has, in what state their Redis
 * subscription is, and who subscribes to them here. Channel records and
 * subscriber arrays live in the arena; the name index, held messages and waiting
 * subscribers in the heap. Run by the worker. It knows neither sockets nor
 * Redis: it only says what follows from a change.
 */
#ifndef KEEPSOCK_HUB_H
#define KEEPSOCK_HUB_H

#include "keepsock/arena.h"
#include "keepsock/channel_record.h"
#include "keepsock/passport.h"
#include "keepsock/slice.h"

/* Whom a message is for. Stored in the arena: do not renumber. */
enum channel_message_kind {
	CHANNEL_MESSAGE_PUBLICATION = 0, /* every subscriber */
	CHANNEL_MESSAGE_JOIN_LEAVE = 1,  /* those with SUBSCRIPTION_JOIN_LEAVE */
};

static inline bool channel_message_wanted(enum channel_message_kind kind,
					  uint32_t subscription_flags)
{
	return kind == CHANNEL_MESSAGE_PUBLICATION ||
	       (subscription_flags & SUBSCRIPTION_JOIN_LEAVE) != 0;
}

/* A message kept for subscribers whose own state is still being read. */
struct held_message {
	struct held_message *next;
	enum channel_message_kind kind;
	uint64_t sequence;
	uint64_t offset; /* 0 without history */
	size_t epoch_length;
	char epoch[CHANNEL_EPOCH_MAX];
	size_t length;
	char frame[]; /* as sent to subscribers */
};

/* Heap half of a channel. */
struct channel {
	uint32_t magic;
	arena_ref ref;
	struct channel *next_in_bucket;
	uint32_t hash;
	uint16_t shard;              /* the worker's: 1 + index of its Redis, 0 = not asked yet */
	uint32_t waiting;            /* subscribers in preparation */
	uint64_t max_start_sequence; /* no subscription here starts later */
	struct held_message *held_first, *held_last;
	size_t held_bytes;
	void *waiters;      /* the worker's list of pending subscribe commands */
	bool catching_up;   /* messages are held until history was read (after a reconnect) */
	bool held_overflow; /* more came than could be held: whoever waits is refused */
	bool in_review;     /* in the subscription connection's list of channels to look at */
	struct channel *next_review;
	bool lost;          /* some subscriptions are SUBSCRIPTION_LOST: not to be freed */
	uint32_t lost_left; /* entries to look at for those */
	struct channel *next_lost;
	uint32_t move_round; /* of the move under way in which it was announced, 0 = in none */
	uint32_t group;      /* number of its group in the delivery under way, 0 = none */
	arena_ref *blocks;   /* refs of the subscriber array's blocks; owned */
	uint32_t blocks_capacity;
	uint64_t check_top;      /* position check: 1 + the top that must be served once ... */
	uint64_t check_sequence; /* ... the shard's messages up to this one have been */
	uint64_t checked_at;     /* boottime ms of the last check or publication */
};

struct hub {
	struct arena *arena;
	struct channel **buckets; /* owned */
	uint32_t bucket_count;
	uint32_t channel_count;      /* records in use */
	uint64_t subscription_count; /* of all channels */
};

void hub_init(struct hub *hub, struct arena *arena);
void hub_free(struct hub *hub);

struct channel *hub_find(const struct hub *hub, struct slice name);
/*
 * Finds or creates (state absent: the caller sends SUBSCRIBE). NULL when the
 * arena is full.
 */
struct channel *hub_get(struct hub *hub, struct slice name);
/* Frees an absent channel without subscribers, waiters and unconfirmed requests. */
void hub_release(struct hub *hub, struct channel *channel);

static inline struct channel_record *hub_record(const struct hub *hub,
						const struct channel *channel)
{
	return arena_at(hub->arena, channel->ref);
}

struct slice hub_name(const struct hub *hub, const struct channel *channel);
struct slice hub_epoch(const struct channel_record *record);
uint32_t hub_subscribers(const struct hub *hub, const struct channel *channel);

/* The heap half of a record. */
struct channel *hub_channel_at(const struct hub *hub, arena_ref ref);
/* Walks all channels in use; previous NULL = start. */
struct channel *hub_next(const struct hub *hub, const struct channel *previous);

/* Entry i of the subscriber array, i < record->count. */
struct subscriber *hub_subscriber(const struct hub *hub, const struct channel *channel,
				  uint32_t index);

/* The connection's subscription to a channel, 0 if none. */
arena_ref hub_subscription_find(const struct hub *hub, const struct passport *passport,
				const struct channel *channel);

/*
 * Adds a subscription within a draft of the connection's passport: record, array
 * entry and counts go with its commit. 0 (and draft->failed) when the arena is
 * full. At most one hub change per draft.
 */
arena_ref hub_subscription_add(struct hub *hub, struct passport_draft *draft,
			       struct channel *channel, uint64_t start_sequence, uint32_t flags);

/*
 * Takes a subscription out within a draft of its connection's passport. While
 * `fanning_out` the array entry only becomes a tombstone.
 */
void hub_subscription_remove(struct hub *hub, struct passport_draft *draft, arena_ref subscription,
			     bool fanning_out);
/* To be called once the draft with an add (+1) or a remove (-1) is committed. */
void hub_subscription_counted(struct hub *hub, int change);

/* Closes the gaps that tombstones left, after a fan-out. */
void hub_compact(struct hub *hub, struct channel *channel);

/* Adds the words in which `now` differs from the channel's record. */
void hub_record_change(struct hub *hub, struct arena_commit *commit, struct channel *channel,
		       const struct channel_record *now);
/* Adds the words of a new position (epoch kept when empty) to a commit. */
void hub_position_set(struct hub *hub, struct arena_commit *commit, struct channel *channel,
		      struct slice epoch, uint64_t offset, uint64_t sequence);

/* The channel's sequences, and those its subscriptions start at, are of a counter that is gone. */
void hub_sequences_reset(struct hub *hub, struct channel *channel);

/*
 * The one rule of who gets which message: whoever stands at a shard sequence (a
 * subscription where it starts, a channel where it was served last, an answer
 * of Redis where its script ran) gets the messages above it.
 */
static inline bool hub_is_served(uint64_t stands_at, uint64_t sequence)
{
	return sequence > stands_at;
}

/* Keeps a frame for waiting subscribers. False when `limit` bytes are held already. */
bool hub_hold(struct channel *channel, const struct held_message *like, struct slice frame,
	      size_t limit);
void hub_held_free(struct channel *channel);
/* The held messages for whoever stands at a sequence, in order; previous NULL = start, NULL = end.
 */
const struct held_message *hub_held_next(const struct channel *channel,
					 const struct held_message *previous, uint64_t stands_at);
/*
 * Moves {sequence, offset} on to where those messages lead. False: they do not
 * follow on that offset of that epoch, something was missed.
 */
bool hub_held_position(const struct channel *channel, struct slice epoch, uint64_t *sequence,
		       uint64_t *offset);

#endif

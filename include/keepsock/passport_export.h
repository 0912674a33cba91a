/* SPDX-License-Identifier: ISC */
/*
 * A connection's passport as one piece of bytes: with its queues, identity and
 * subscriptions, by the names of their channels. By it a connection changes the
 * arena: on the same host, since times are those of CLOCK_BOOTTIME. Run by
 * workers. Of a TLS connection it has the keys: whoever holds the bytes wipes
 * them. A program of a later layout reads those of an older one, not the other
 * way round.
 */
#ifndef KEEPSOCK_PASSPORT_EXPORT_H
#define KEEPSOCK_PASSPORT_EXPORT_H

#include "keepsock/buffer.h"
#include "keepsock/hub.h"
#include "keepsock/passport.h"

/* Where an exported subscription stands: its client has everything up to there, and nothing more.
 */
struct passport_export_position {
	uint64_t sequence; /* of the channel's shard */
	uint64_t offset;   /* 0 without history */
	struct slice epoch;
	bool history;
};

/* Tells where a subscription stands. */
typedef struct passport_export_position passport_export_where(void *context,
							      const struct channel *channel);

/* Appends the passport; nothing is changed. Its own `move` is not exported. */
void passport_export(struct buffer *out, const struct hub *hub, arena_ref passport,
		     passport_export_where *where, void *context);

/* An export that was read; slices point into it. */
struct passport_import {
	struct passport passport; /* of today's layout; its references mean nothing */
	struct slice identity, in, messages, out;
	bool encrypted;          /* the next three are its TLS connection's */
	struct passport_tls tls; /* of today's layout; keys: see passport_import_wipe() */
	struct slice certificate, ciphertext;
	struct slice subscriptions; /* of them the ones not given out yet */
	uint32_t subscription_count;
	const struct arena_layout *layout;
};

struct passport_import_subscription {
	struct subscription_record record; /* of today's layout; its references mean nothing */
	struct slice channel, info;
	struct passport_export_position position;
};

/* NULL, or what is wrong with it. Every length is checked, contents are not. */
const char *passport_import_read(struct slice bytes, struct passport_import *import);
/* Overwrites the keys in it. */
void passport_import_wipe(struct passport_import *import);
/* The next subscription; false at the end. */
bool passport_import_next(struct passport_import *import,
			  struct passport_import_subscription *subscription);

/*
 * A passport of its own for it, without subscriptions, `move` as told; 0 when the arena is full.
 */
arena_ref passport_import_make(struct passport_draft *draft, const struct passport_import *import,
			       uint64_t move);

enum passport_import_verdict {
	PASSPORT_IMPORT_DONE,
	PASSPORT_IMPORT_FULL,      /* the arena is */
	PASSPORT_IMPORT_OVERTAKEN, /* what came since it was exported is not all held here */
	PASSPORT_IMPORT_GAP        /* it does not follow on what is held here */
};

/*
 * Adds a subscription with everything that the channel holds above its position,
 * in one commit: from then on it is as one that was always here. The channel is
 * heard since before the position, and held messages since then.
 */
enum passport_import_verdict passport_import_subscribe(
	struct hub *hub, struct passport_draft *draft, arena_ref passport, struct channel *channel,
	const struct passport_import_subscription *subscription);

#endif

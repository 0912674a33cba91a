/* SPDX-License-Identifier: ISC */
/*
 * What two workers of a node say to each other while connections move from the
 * one (the source) to the other (the destination), over a pair that the master
 * made. Plain structs; both check version and length.
 *
 *	source                                              destination
 *	BEGIN ──► CHANNELS ──► ... CHANNELS_END ──►
 *	                                                    hears them all, keeps what comes
 *	                                              ◄──── HEARD, or REFUSED
 *	a message of its own went round by Redis: it
 *	has served everything that came before HEARD
 *	OFFER ──► (some at a time)                    ◄──── ANSWER (for each)
 *	END (nothing more of these) ──►
 *	  CHANNELS ... for another round, or
 *	BYE ──►                                       ◄──── SETTLED: Redis knows of all of them
 */
#ifndef KEEPSOCK_WORKER_MOVE_MESSAGES_H
#define KEEPSOCK_WORKER_MOVE_MESSAGES_H

#include <stdint.h>

#include "keepsock/arena.h"

#define MOVE_PROTOCOL_VERSION 1u

enum move_type {
	MOVE_BEGIN = 1,    /* struct move_begin */
	MOVE_CHANNELS,     /* names, each with its length (u16) in front */
	MOVE_CHANNELS_END, /* struct move_channels_end */
	MOVE_OFFER,        /* struct move_offer, and the export if it is short; fds: the socket,
			      then a memfd with the export if it is long */
	MOVE_END,          /* nothing */
	MOVE_BYE,          /* nothing */
	MOVE_HEARD,        /* nothing */
	MOVE_REFUSED,      /* text, why: this round is over */
	MOVE_ANSWER,       /* struct move_answer */
	MOVE_SETTLED,      /* nothing */
};

struct move_begin {
	uint32_t version;
	uint32_t shards;
	char worker_name[ARENA_NAME_MAX]; /* of the source, as Redis knows it */
};

/* Sequences are to be compared: both have to be on the same runs of Redis. */
struct move_channels_end {
	uint32_t channels; /* in all messages of this round */
	uint32_t reserved;
	char run[ARENA_SHARDS_MAX][ARENA_RUN_MAX];
};

struct move_offer {
	uint64_t number;  /* node_moves.h */
	uint64_t control; /* sequence of the first shard up to which commands were executed */
	uint64_t length;  /* of the export */
};

struct move_answer {
	uint64_t number;
	uint32_t taken; /* 0: it stays, or comes again in another round */
	uint32_t reserved;
};

#endif

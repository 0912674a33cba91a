/* SPDX-License-Identifier: ISC */
/*
 * Fan-out: what one loop turn brought for a channel, sent to its subscribers
 * (DESIGN §3 rule 6, §6).
 */
#ifndef KEEPSOCK_WORKER_FANOUT_H
#define KEEPSOCK_WORKER_FANOUT_H

#include "worker/internal.h"

/* One message of a batch: where its bytes lie in the batch's frame. */
struct fanout_message {
	uint64_t sequence;
	uint64_t offset; /* 0 without history */
	size_t start, length;
};

struct fanout *fanout_create(struct worker *w);
void fanout_free(struct fanout *fanout);

/* The caller's; copied. */
struct fanout_batch {
	struct channel *channel;
	enum channel_message_kind kind;        /* of all its messages */
	const struct fanout_message *messages; /* at least one, in order */
	size_t count;
	struct slice frames; /* their WebSocket frames, behind each other */
	struct slice epoch;  /* of its publications, empty without history */
};

/*
 * One batch is under way at a time: true if `who` may begin the next one now.
 * Otherwise it asks again until it may; nobody else begins two in between.
 */
bool fanout_take_turn(struct fanout *fanout, const void *who);

/*
 * Begins a batch: commits the record. False when the arena is full: nothing is
 * delivered, the caller tells the subscribers.
 */
bool fanout_begin(struct fanout *fanout, const struct fanout_batch *batch);
/*
 * Serves subscribers until the loop's slice is spent (loop_watch.h), at least
 * one; true when the batch is done and its end is committed.
 */
bool fanout_run(struct fanout *fanout);
/* Between two batches: buffers that are larger than `kept` bytes are given back. True: some were.
 */
bool fanout_trim(struct fanout *fanout, size_t kept);
/* A batch of this channel is under way. */
bool fanout_serving(const struct fanout *fanout, const struct channel *channel);

/* --- a batch that a predecessor had begun --- */

/* Bytes that a subscriber gets. */
size_t fanout_frame_length(const struct worker *w, const struct passport *passport);
/*
 * The cursor's subscriber is settled: `sent` bytes of its frame had gone out, the
 * rest is queued. 0: it is served as if nothing had been tried. False: the arena
 * is full, nothing changed.
 */
bool fanout_adopt_sent(struct worker *w, arena_ref passport, uint64_t sent);
/*
 * The channel of the batch under way, which fanout_run() goes on with behind the
 * settled cursor; NULL: there is none. Not *whole: what the record says of its
 * messages makes no sense, the batch can only be skipped.
 */
struct channel *fanout_adopt(struct fanout *fanout, bool *whole);
/* Nobody else is served: the next fanout_run() ends it. */
void fanout_skip(struct fanout *fanout);

#endif

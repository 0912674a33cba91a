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
/* A batch of this channel is under way. */
bool fanout_serving(const struct fanout *fanout, const struct channel *channel);

#endif

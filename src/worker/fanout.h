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

/*
 * Begins a batch: commits the record. messages (at least one) in order, with
 * their WebSocket frames behind each other in `frames`; both are copied.
 * False when the arena is full: nothing is delivered, the caller tells the
 * subscribers.
 */
bool fanout_begin(struct fanout *fanout, struct channel *channel,
		  const struct fanout_message *messages, size_t count, struct slice frames,
		  struct slice epoch);
/*
 * Serves up to `budget` subscribers; true when the batch is done and its end is
 * committed.
 */
bool fanout_run(struct fanout *fanout, unsigned budget);
/* A batch of this channel is under way. */
bool fanout_serving(const struct fanout *fanout, const struct channel *channel);

#endif

/* SPDX-License-Identifier: ISC */
/*
 * Moving connections from one worker slot to another, as the master sees it: it
 * makes the channel between the two workers, tells both, and hears how it ended.
 * One move at a time. What a move is, src/worker/move.h says.
 */
#ifndef KEEPSOCK_SLOT_MOVE_H
#define KEEPSOCK_SLOT_MOVE_H

#include <stdbool.h>
#include <stdint.h>

#include "keepsock/ipc_messages.h"

struct ipc_message;
struct master;
struct worker_slot;

/* why_not: "" when all that was ordered has moved, or why not. Called once, never from within the
 * beginning. */
typedef void slot_move_done(void *ctx, const struct ipc_moved *moved, const char *why_not);

/* Under way; part of the master. */
struct slot_move {
	uint64_t id; /* 0 = none is */
	uint32_t from, to;
	slot_move_done *done;
	void *ctx;
};

/* NULL: it began. Otherwise why not; done is not called then. */
const char *slot_move_begin(struct worker_slot *from, struct worker_slot *to,
			    const struct ipc_move_out *order, slot_move_done *done, void *ctx);
bool slot_move_under_way(const struct master *master);

/* --- for worker_slot.c --- */
void slot_move_on_moved(struct worker_slot *slot, struct ipc_message *message);
/* Its worker is not there any more. */
void slot_move_on_worker_gone(struct worker_slot *slot);

#endif

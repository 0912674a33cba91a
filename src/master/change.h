/* SPDX-License-Identifier: ISC */
/*
 * A change of the whole node: each slot's worker is taken over from by one that
 * is started with what the master has by then (settings, listeners, program),
 * one slot after another. It is done everywhere or nowhere: when a slot fails,
 * those before it are taken back. One change at a time. Used by the master only.
 */
#ifndef KEEPSOCK_MASTER_CHANGE_H
#define KEEPSOCK_MASTER_CHANGE_H

#include <stdbool.h>

#include "keepsock/keeper_messages.h"

struct change;
struct master;
struct worker_slot;

struct change_plan {
	enum takeover_reason reason;
	bool replace_keepers; /* once all workers are new */
	/* A slot failed: what the master has is to be what it was before. NULL: nothing can be. */
	void (*revert)(void *ctx);
	/* Told once, from the loop. error: NULL = done; otherwise nothing was changed, or it says
	 * what was. Another change may be started from it. */
	void (*done)(void *ctx, const char *error);
	void *ctx;
};

/* NULL, or why no change can be started now. */
const char *change_obstacle(const struct master *master);

/* Begins; there is no obstacle. */
void change_start(struct master *master, const struct change_plan *plan);

/* Forgets it, done() is not called: the node stops. NULL is fine. */
void change_drop(struct master *master);

/* A slot's worker serves: it may be the one that is waited for. */
void change_on_slot_ready(struct worker_slot *slot);

#endif

/* SPDX-License-Identifier: ISC */
/*
 * The arena's invariants, checked from outside by marking what is reachable
 * (DESIGN §3 rule 9): one owner per chunk, every reference valid, every passport
 * and channel whole, both ends of a subscription agreeing. Used on what a dead
 * worker left; it changes nothing.
 */
#ifndef KEEPSOCK_ARENA_CHECK_H
#define KEEPSOCK_ARENA_CHECK_H

#include "keepsock/arena.h"
#include "keepsock/buffer.h"

struct arena_census {
	uint64_t passports, channels, subscriptions, chunks;
	uint64_t violations;
};

/* Appends a line per violation (the first 100) to report. */
struct arena_census arena_check(const struct arena *arena, struct buffer *report);

#endif

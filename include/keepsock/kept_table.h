/* SPDX-License-Identifier: ISC */
/*
 * What a keeper holds for its worker, and a worker that is about to take over
 * has been handed: descriptors by the passport they belong to and its
 * generation. The table owns the descriptors; it never reads or writes one.
 */
#ifndef KEEPSOCK_KEPT_TABLE_H
#define KEEPSOCK_KEPT_TABLE_H

#include <stdbool.h>
#include <stddef.h>

#include "keepsock/keeper_messages.h"

struct kept {
	struct keeper_item item;
	int fd; /* the table's */
};

struct kept_slot;

/* All zero = empty. */
struct kept_table {
	struct kept_slot *slots; /* owned; open addressing, a power of two of them */
	size_t capacity;
	size_t count;
};

enum kept_outcome {
	KEPT_ADDED,
	KEPT_REPLACED, /* the slot's earlier user is closed */
	KEPT_REFUSED,  /* no passport, not newer than what is held, or out of bounds: closed */
};

/* What there is of each for every client is bounded. */
#define KEPT_GENERATION_MAX (((uint64_t)1 << 48) - 1) /* arenas count from 1, in steps of 1 */
#define KEPT_KIND_MAX       UINT16_MAX

/* Takes fd over in any case. */
enum kept_outcome kept_table_put(struct kept_table *table, const struct keeper_item *item, int fd);

/* Closes it if it is held with that very generation; false when it is not. */
bool kept_table_remove(struct kept_table *table, uint32_t ref, uint64_t generation);

/* What is held of that passport; false if nothing is. */
bool kept_table_find(const struct kept_table *table, uint32_t ref, struct kept *kept);

/*
 * The next one at or behind *cursor (0 = start), which moves on; false at the
 * end. The table must not change between two calls of one walk.
 */
bool kept_table_next(const struct kept_table *table, size_t *cursor, struct kept *kept);

/* Forgets all of them: the descriptors are somebody else's now. */
void kept_table_forget(struct kept_table *table);

/* Closes all; `end` shuts the connections down first, so that their peers learn of it. */
void kept_table_clear(struct kept_table *table, bool end);

#endif

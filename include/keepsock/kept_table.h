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
	struct keeper_item item; /* ref 0: the slot is empty */
	int fd;                  /* owned */
};

/* All zero = empty. */
struct kept_table {
	struct kept *slots; /* owned; open addressing, a power of two of them */
	size_t capacity;
	size_t count;
};

enum kept_outcome {
	KEPT_ADDED,
	KEPT_REPLACED, /* the slot's earlier user is closed */
	KEPT_REFUSED,  /* no passport, or not newer than what is held: closed */
};

/* Takes fd over in any case. */
enum kept_outcome kept_table_put(struct kept_table *table, const struct keeper_item *item, int fd);

/* Closes it if it is held with that very generation; false when it is not. */
bool kept_table_remove(struct kept_table *table, uint32_t ref, uint64_t generation);

/* What is held of that passport, NULL if nothing is. Valid until the table changes. */
const struct kept *kept_table_find(const struct kept_table *table, uint32_t ref);

/*
 * The next one at or behind *cursor (0 = start), which moves on; NULL at the
 * end. The table must not change between two calls of one walk.
 */
const struct kept *kept_table_next(const struct kept_table *table, size_t *cursor);

/* Forgets all of them: the descriptors are somebody else's now. */
void kept_table_forget(struct kept_table *table);

/* Closes all; `end` shuts the connections down first, so that their peers learn of it. */
void kept_table_clear(struct kept_table *table, bool end);

#endif

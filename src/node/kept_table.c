/* SPDX-License-Identifier: ISC */
/*
 * The table of kept descriptors: linear probing, removal by moving followers
 * back, so there are no tombstones and a walk sees every entry once. Its size is
 * bounded by the process's descriptors. Run by keepers and by workers that take
 * over.
 */
#include "keepsock/kept_table.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "keepsock/alloc.h"

#define CAPACITY_FIRST 64u

/* Fibonacci hashing: refs of passports are multiples of four, neighbours mostly. */
static size_t home_of(const struct kept_table *table, uint32_t ref)
{
	return (size_t)((uint64_t)ref * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (table->capacity - 1);
}

static size_t next_slot(const struct kept_table *table, size_t at)
{
	return (at + 1) & (table->capacity - 1);
}

/* Where the passport is, or the empty slot where it would be. The table is never full. */
static struct kept *find(const struct kept_table *table, uint32_t ref)
{
	size_t at = home_of(table, ref);

	while (table->slots[at].item.ref != 0 && table->slots[at].item.ref != ref)
		at = next_slot(table, at);
	return &table->slots[at];
}

static void grow(struct kept_table *table)
{
	struct kept_table bigger = {
		.capacity = table->capacity ? table->capacity * 2 : CAPACITY_FIRST,
		.count = table->count,
	};

	bigger.slots = xcalloc(bigger.capacity, sizeof(*bigger.slots));
	for (size_t i = 0; i < table->capacity; i++) {
		if (table->slots[i].item.ref != 0)
			*find(&bigger, table->slots[i].item.ref) = table->slots[i];
	}
	free(table->slots);
	*table = bigger;
}

enum kept_outcome kept_table_put(struct kept_table *table, const struct keeper_item *item, int fd)
{
	struct kept *kept;
	bool taken;

	if (table->count * 4 >= table->capacity * 3)
		grow(table);
	kept = find(table, item->ref);
	taken = kept->item.ref != 0;
	if (item->ref == 0 || (taken && item->generation <= kept->item.generation)) {
		close(fd);
		return KEPT_REFUSED;
	}
	if (taken)
		close(kept->fd);
	else
		table->count++;
	*kept = (struct kept){*item, fd};
	return taken ? KEPT_REPLACED : KEPT_ADDED;
}

/* Whether an entry whose home is `home` may stay behind a hole: it is not reached over it. */
static bool stays(size_t home, size_t hole, size_t at)
{
	return hole <= at ? home > hole && home <= at : home > hole || home <= at;
}

static void fill_hole(struct kept_table *table, size_t hole)
{
	size_t at = next_slot(table, hole);

	while (table->slots[at].item.ref != 0) {
		if (!stays(home_of(table, table->slots[at].item.ref), hole, at)) {
			table->slots[hole] = table->slots[at];
			hole = at;
		}
		at = next_slot(table, at);
	}
	table->slots[hole] = (struct kept){.fd = -1};
}

bool kept_table_remove(struct kept_table *table, uint32_t ref, uint64_t generation)
{
	struct kept *kept;

	if (ref == 0 || table->count == 0)
		return false;
	kept = find(table, ref);
	if (kept->item.ref == 0 || kept->item.generation != generation)
		return false;
	close(kept->fd);
	table->count--;
	fill_hole(table, (size_t)(kept - table->slots));
	return true;
}

const struct kept *kept_table_find(const struct kept_table *table, uint32_t ref)
{
	const struct kept *kept = ref == 0 || table->count == 0 ? NULL : find(table, ref);

	return kept && kept->item.ref == ref ? kept : NULL;
}

const struct kept *kept_table_next(const struct kept_table *table, size_t *cursor)
{
	while (*cursor < table->capacity) {
		const struct kept *kept = &table->slots[(*cursor)++];

		if (kept->item.ref != 0)
			return kept;
	}
	return NULL;
}

void kept_table_forget(struct kept_table *table)
{
	free(table->slots);
	*table = (struct kept_table){0};
}

void kept_table_clear(struct kept_table *table, bool end)
{
	const struct kept *kept;
	size_t cursor = 0;

	while ((kept = kept_table_next(table, &cursor))) {
		if (end)
			(void)shutdown(kept->fd, SHUT_RDWR);
		close(kept->fd);
	}
	kept_table_forget(table);
}

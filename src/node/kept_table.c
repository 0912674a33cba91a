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
#include "keepsock/arena.h"

#define CAPACITY_FIRST 64u

/* There are one to three for each client, so they are packed. */
struct kept_slot {
	arena_ref ref; /* 0: empty */
	int fd;        /* owned */
	uint64_t generation : 48;
	uint64_t kind : 16;
};

_Static_assert(sizeof(struct kept_slot) == 16, "packed");
_Static_assert(KEEPER_KIND(KEEPER_KIND_REDIS, ARENA_SHARDS_MAX - 1) <= KEPT_KIND_MAX, "any kind");

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
static struct kept_slot *find(const struct kept_table *table, uint32_t ref)
{
	size_t at = home_of(table, ref);

	while (table->slots[at].ref != 0 && table->slots[at].ref != ref)
		at = next_slot(table, at);
	return &table->slots[at];
}

static struct kept unpack(const struct kept_slot *slot)
{
	return (struct kept){{slot->ref, (uint32_t)slot->kind, slot->generation}, slot->fd};
}

static void grow(struct kept_table *table)
{
	struct kept_table bigger = {
		.capacity = table->capacity ? table->capacity * 2 : CAPACITY_FIRST,
		.count = table->count,
	};

	bigger.slots = xcalloc(bigger.capacity, sizeof(*bigger.slots));
	for (size_t i = 0; i < table->capacity; i++) {
		if (table->slots[i].ref != 0)
			*find(&bigger, table->slots[i].ref) = table->slots[i];
	}
	free(table->slots);
	*table = bigger;
}

enum kept_outcome kept_table_put(struct kept_table *table, const struct keeper_item *item, int fd)
{
	struct kept_slot *slot;
	bool taken;

	if (table->count * 4 >= table->capacity * 3)
		grow(table);
	slot = find(table, item->ref);
	taken = slot->ref != 0;
	if (item->ref == 0 || item->generation > KEPT_GENERATION_MAX ||
	    item->kind > KEPT_KIND_MAX || (taken && item->generation <= slot->generation)) {
		close(fd);
		return KEPT_REFUSED;
	}
	if (taken)
		close(slot->fd);
	else
		table->count++;
	*slot = (struct kept_slot){
		.ref = item->ref,
		.fd = fd,
		.generation = item->generation & KEPT_GENERATION_MAX,
		.kind = item->kind & KEPT_KIND_MAX,
	};
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

	while (table->slots[at].ref != 0) {
		if (!stays(home_of(table, table->slots[at].ref), hole, at)) {
			table->slots[hole] = table->slots[at];
			hole = at;
		}
		at = next_slot(table, at);
	}
	table->slots[hole] = (struct kept_slot){.fd = -1};
}

bool kept_table_remove(struct kept_table *table, uint32_t ref, uint64_t generation)
{
	struct kept_slot *slot;

	if (ref == 0 || table->count == 0)
		return false;
	slot = find(table, ref);
	if (slot->ref == 0 || slot->generation != generation)
		return false;
	close(slot->fd);
	table->count--;
	fill_hole(table, (size_t)(slot - table->slots));
	return true;
}

bool kept_table_find(const struct kept_table *table, uint32_t ref, struct kept *kept)
{
	const struct kept_slot *slot = ref == 0 || table->count == 0 ? NULL : find(table, ref);

	if (!slot || slot->ref != ref)
		return false;
	*kept = unpack(slot);
	return true;
}

bool kept_table_next(const struct kept_table *table, size_t *cursor, struct kept *kept)
{
	while (*cursor < table->capacity) {
		const struct kept_slot *slot = &table->slots[(*cursor)++];

		if (slot->ref != 0) {
			*kept = unpack(slot);
			return true;
		}
	}
	return false;
}

void kept_table_forget(struct kept_table *table)
{
	free(table->slots);
	*table = (struct kept_table){0};
}

void kept_table_clear(struct kept_table *table, bool end)
{
	struct kept kept;
	size_t cursor = 0;

	while (kept_table_next(table, &cursor, &kept)) {
		if (end)
			(void)shutdown(kept.fd, SHUT_RDWR);
		close(kept.fd);
	}
	kept_table_forget(table);
}

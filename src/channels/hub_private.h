/* SPDX-License-Identifier: ISC */
/*
 * What the hub shares with the walk over an arena and with its adoption. Nothing
 * outside src/channels includes this.
 */
#ifndef KEEPSOCK_CHANNELS_HUB_PRIVATE_H
#define KEEPSOCK_CHANNELS_HUB_PRIVATE_H

#include "keepsock/hub.h"

/* Entries of a subscriber array's block: only the first one of an array may be smaller. */
#define PAGE_ENTRIES ((ARENA_PAGE_SIZE - sizeof(struct arena_chunk)) / sizeof(struct subscriber))

/* FNV-1a: names are short and the table is not reachable with chosen collisions beyond a bound by
 * channel_limit; a chain costs its length. */
static inline uint32_t hub_hash_name(struct slice name)
{
	uint32_t hash = 2166136261u;

	for (size_t i = 0; i < name.len; i++)
		hash = (hash ^ (uint8_t)name.data[i]) * 16777619u;
	return hash;
}

/* Makes the heap half of a record in use, with its blocks, and puts it into the index. */
struct channel *hub_enlist(struct hub *hub, arena_ref ref);

#endif

/* SPDX-License-Identifier: ISC */
/*
 * The map from channel names to shards: a 64-bit hash of the name, then "jump"
 * consistent hashing (Lamping and Veach, 2014, arXiv:1406.2294), which needs
 * no table. Runs in workers. Integers only, so that every build agrees.
 */
#include <stdint.h>

#include "keepsock/redis_shard.h"

/* FNV-1a: https://www.rfc-editor.org/rfc/rfc9923 */
#define FNV_OFFSET UINT64_C(0xcbf29ce484222325)
#define FNV_PRIME  UINT64_C(0x00000100000001b3)

/* The generator of the paper. */
#define JUMP_FACTOR UINT64_C(2862933555777941757)

static uint64_t hash_name(struct slice name)
{
	uint64_t hash = FNV_OFFSET;

	for (size_t i = 0; i < name.len; i++)
		hash = (hash ^ (uint8_t)name.data[i]) * FNV_PRIME;
	/* The last bytes of a name hardly reach FNV's upper bits, which the jump looks at. */
	hash = (hash ^ (hash >> 33)) * UINT64_C(0xff51afd7ed558ccd);
	return hash ^ (hash >> 33);
}

unsigned redis_shard_of(struct slice channel, unsigned shard_count)
{
	uint64_t key, next = 0;
	unsigned shard = 0;

	if (shard_count <= 1)
		return 0;
	key = hash_name(channel);
	/* From the shard it would be on with fewer of them to the next one it jumps to. */
	while (next < shard_count) {
		shard = (unsigned)next;
		key = key * JUMP_FACTOR + 1;
		next = ((next + 1) << 31) / ((key >> 33) + 1);
	}
	return shard;
}

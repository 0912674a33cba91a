/* SPDX-License-Identifier: ISC */
/*
 * Which of several Redis servers (shards) a channel lives on. Every process of
 * every node must give the same answer, so the function is part of the layout
 * in Redis: changing it moves channels away from their history. Used by
 * workers; the limit by everyone.
 */
#ifndef KEEPSOCK_REDIS_SHARD_H
#define KEEPSOCK_REDIS_SHARD_H

#include "keepsock/slice.h"

#define REDIS_SHARDS_MAX 64u

/*
 * 0 .. shard_count - 1 (shard_count from 1). Consistent: with one shard more
 * at the end, 1/(n+1) of the channels move, all of them to the new one.
 */
unsigned redis_shard_of(struct slice channel, unsigned shard_count);

#endif

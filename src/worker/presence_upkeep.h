/* SPDX-License-Identifier: ISC */
/*
 * Presence of this worker's subscribers in Redis: kept alive while they stay,
 * taken away when they leave. Joining happens in the subscribe script.
 */
#ifndef KEEPSOCK_WORKER_PRESENCE_UPKEEP_H
#define KEEPSOCK_WORKER_PRESENCE_UPKEEP_H

#include "worker/internal.h"

/* Every tick: an interval's worth of ticks covers every connection once. */
void presence_upkeep_tick(struct worker *w);
/* Redis has lost this worker's members: all of a shard are written again, some each tick. */
void presence_upkeep_all(struct redis_shard *shard);
/* The client is no member of the channel any more. */
void presence_leave(struct worker *w, const struct passport_id *client, struct slice channel);

#endif

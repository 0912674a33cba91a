/* SPDX-License-Identifier: ISC */
/*
 * Continuity of a Redis shard: before anything is heard over a new subscription
 * connection, the run of Redis behind it has to be the one the command
 * connections are on, and settled as the continuation of what was seen before.
 */
#ifndef KEEPSOCK_WORKER_CONTINUITY_H
#define KEEPSOCK_WORKER_CONTINUITY_H

#include "worker/shards.h"

/* The subscription connection knows its run and waits (redis_subscription_settling()). */
void continuity_settle(struct redis_shard *shard);
/* The command connections came, went, or reached another run. */
void continuity_pool_changed(struct redis_shard *shard);

#endif

/* SPDX-License-Identifier: ISC */
/*
 * Continuity of a Redis shard: before anything is heard over a new subscription
 * connection, the run of Redis behind it has to be the one the command
 * connections are on, and settled: either it continues what was seen before,
 * or everybody's positions are void. The judgement itself is a script's.
 */
#ifndef KEEPSOCK_WORKER_CONTINUITY_H
#define KEEPSOCK_WORKER_CONTINUITY_H

#include "worker/shards.h"

/*
 * Reports what this worker has seen and asks for the judgement, again and again
 * until it is there. For a subscription connection that waits for it
 * (redis_subscription_settling()), and for one that is up when Redis refuses
 * calls because of it.
 */
void continuity_ask(struct redis_shard *shard);
/* The command connections came, went, or reached another run. */
void continuity_pool_changed(struct redis_shard *shard);
/* The generation that Redis has now is another one: positions are void. */
void continuity_renewed(struct redis_shard *shard, struct slice generation);

void continuity_open(struct redis_shard *shard);
void continuity_close(struct redis_shard *shard);

#endif

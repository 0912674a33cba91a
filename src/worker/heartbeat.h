/* SPDX-License-Identifier: ISC */
/*
 * A worker's heartbeat on each Redis shard: says that it lives, hears who does
 * not, and sees to the delivery probe (publish, Redis, every worker).
 */
#ifndef KEEPSOCK_WORKER_HEARTBEAT_H
#define KEEPSOCK_WORKER_HEARTBEAT_H

#include "worker/shards.h"

/* Every tick; a shard's heartbeat goes out when it is due. */
void heartbeat_tick(struct worker *w);
/* The subscription connection is up: the first heartbeat is due at once. */
void heartbeat_start(struct redis_shard *shard);
/* A probe came over the subscription connection. */
void heartbeat_on_probe(struct redis_shard *shard);
/* Redis has forgotten this worker: what it keeps there is written again. */
void heartbeat_register_again(struct redis_shard *shard);

/* Milliseconds since a probe was heard. */
uint64_t heartbeat_probe_age(const struct redis_shard *shard);
/* It is so old that deliveries can't be trusted. */
bool heartbeat_probe_overdue(const struct redis_shard *shard);

#endif

/* SPDX-License-Identifier: ISC */
/*
 * Removing what dead workers left in Redis: their members, with the leaves they
 * owe, their sessions and remembered commands.
 */
#ifndef KEEPSOCK_WORKER_PURGE_H
#define KEEPSOCK_WORKER_PURGE_H

#include "worker/shards.h"

/* A worker that Redis calls silent; it looks again before it pronounces it dead. False: the name
 * is ours or nobody's, and nothing is done. */
bool purge_silent(struct redis_shard *shard, struct slice name);

/*
 * Workers that had this one's slot, or a slot that this node has no more, are
 * dead for sure: asks for them until they were purged once.
 */
void purge_predecessors(struct redis_shard *shard);

/* Told once: NULL error, or why not all of it was done. */
typedef void (*purge_callback)(void *ctx, const char *error, uint64_t workers, uint64_t members);

/* All workers of a node, on all shards, on somebody's word that it is dead. */
void purge_node(struct worker *w, struct slice node, purge_callback callback, void *ctx);
/* This worker itself, which is about to leave and has no clients any more. */
void purge_self(struct worker *w, purge_callback callback, void *ctx);

#endif

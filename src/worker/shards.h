/* SPDX-License-Identifier: ISC */
/*
 * The worker's Redis shards: for each independent Redis a command pool and a
 * subscription connection. A channel belongs to one of them for good, by its
 * name; what belongs to no channel (surveys, control) lives on the first.
 */
#ifndef KEEPSOCK_WORKER_SHARDS_H
#define KEEPSOCK_WORKER_SHARDS_H

#include "worker/internal.h"

struct redis_purge_run;

struct redis_shard {
	struct worker *worker;
	unsigned index;
	struct shard_record *record;             /* in the arena */
	struct redis_pool *pool;                 /* owned */
	struct redis_subscription *subscription; /* owned */
	struct event *ask_again;                 /* owned; for the judgement of continuity */
	bool asked;                              /* ... it is due */
	bool beating;                            /* the answer to a heartbeat is due */
	bool probe_lost;                         /* not heard since the connection was made anew */
	bool predecessors_asked;
	uint64_t beat_at_ms;            /* boottime of the next heartbeat */
	uint64_t probe_heard_ms;        /* boottime; 0 = never */
	uint64_t listening_ms;          /* boottime: the subscription connection is live since */
	unsigned beats_unheard;         /* heartbeats answered in a row since both */
	uint64_t unheard_since_ms;      /* boottime of the first of them */
	struct redis_purge_run *purges; /* under way */
	/* Presence is written again: the passport it goes on with, where it ends. */
	bool presence_walk;
	arena_ref presence_cursor;
	struct redis_pool_stats seen; /* counted in the metrics already */
};

/* Starts connecting to all of them. */
void shards_open(struct worker *w);
void shards_close(struct worker *w);
/* Another server for one of them from now on; w->start holds it already. */
void shards_set_endpoint(struct worker *w, unsigned index);

/* The shard of a channel; never NULL. */
struct redis_shard *worker_shard(const struct worker *w, struct slice channel);
/* The same for a channel that has subscribers here: without hashing its name again. */
struct redis_shard *worker_channel_shard(const struct worker *w, struct channel *channel);
/* Shorthand for parts of it. */
struct redis_pool *worker_pool(const struct worker *w, struct slice channel);
struct redis_subscription *worker_subscription(const struct worker *w, struct slice channel);
/* The pool for what belongs to no channel: control messages, registry. */
struct redis_pool *worker_control_pool(const struct worker *w);
/* The subscription connection of the channel's shard is up: it can be subscribed to. */
bool worker_channel_available(const struct worker *w, struct slice channel);

/* The channel's shard is about to be told a command number of this client. */
void worker_remember(struct connection *c, struct slice channel);

/* See redis_subscription_review(): looked at when the loop turn ends. */
void worker_channel_review(struct worker *w, struct channel *channel);

/* The loop turn's end: joins, leaves and frees channels. */
void shards_settle(struct worker *w);
/* The subscription connections of all shards are up. */
bool shards_subscribed(const struct worker *w);
/* NULL: every shard is there; otherwise the reason why the worker is not ready, valid until the
 * next call. */
const char *shards_not_ready_reason(const struct worker *w);
/* The rows of `show redis`, one per shard: {ok, rows}. */
struct json_t *shards_show(const struct worker *w);
/* Adds what happened since the last call to the metrics. */
void shards_update_metrics(struct worker *w);

#endif

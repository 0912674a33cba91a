/* SPDX-License-Identifier: ISC */
/*
 * The pool as its connections and the typed calls see it. Inside the Redis
 * room only.
 */
#ifndef KEEPSOCK_REDIS_POOL_H
#define KEEPSOCK_REDIS_POOL_H

#include <event2/event.h>

#include "keepsock/redis_resolve.h"
#include "redis_connection.h"
#include "redis_request.h"

#define REDIS_POOL_MAGIC 0x4c4f4f50u /* "POOL" */

struct redis_pool {
	uint32_t magic;
	struct event_base *base; /* the caller's */
	struct evdns_base *dns;  /* owned; NULL until a name has to be resolved */
	struct redis_pool_options options;
	char *host; /* this and the next two owned */
	char *user;
	char *password;
	uint16_t port;
	int db;
	redis_state_callback on_state;
	void *ctx;
	bool reported;                        /* what on_state was told last, */
	char reported_run[REDIS_RUN_MAX + 1]; /* and for which run */
	char run[REDIS_RUN_MAX + 1];          /* of the last connection that became ready */
	struct redis_connection *connections; /* owned: the slots', overflow, one replacement */
	unsigned n_connections;
	/* Owned: what calls with an affinity use, options.size of them; then, with
	 * min_replicas, the one of publishes. */
	struct redis_connection **slots;
	unsigned n_slots;
	uint64_t spare_after_ms; /* boottime: none beyond the slots is opened before */
	char sha[REDIS_SCRIPT_COUNT][REDIS_SHA_LENGTH + 1];
	uint64_t *highest_sequence; /* the owner's; NULL */
	struct redis_queue failed;  /* to be answered without Redis */
	struct event *deferred;     /* owned; a loop turn for failed and on_state */
	struct redis_pool_stats stats;
	unsigned depth; /* of redis_pool_enter() */
	bool destroyed; /* to be freed when depth is 0 again */
};

/* Takes the request; it will be finished. */
void redis_pool_submit(struct redis_pool *pool, uint64_t affinity, struct redis_request *request);

/* The same for a publish, whose success may have to wait for min_replicas. */
void redis_pool_submit_publish(struct redis_pool *pool, uint64_t affinity,
			       struct redis_request *request);

/* Takes the request and finishes it in a later turn of the loop; text is a constant. */
void redis_pool_fail(struct redis_pool *pool, struct redis_request *request, enum redis_result code,
		     const char *text);

/* A connection became ready or stopped being so. */
void redis_pool_on_ready_change(struct redis_pool *pool);

/* This one became ready: others that are on another run of Redis are dropped. */
void redis_pool_on_ready(struct redis_pool *pool, const struct redis_connection *newest);

/* Drops all ready connections; calls fail until one of them is ready again. */
void redis_pool_lose_ready(struct redis_pool *pool, const char *reason);

/* -- redis_pool_spare.c -- */

unsigned redis_pool_count_overflow(const struct redis_pool *pool);

/* For a call with REDIS_ANY; opens overflow when even that one is busy. */
struct redis_connection *redis_pool_least_busy(struct redis_pool *pool);

/* Boottime at which a connection made now is old; UINT64_MAX = never. */
uint64_t redis_pool_recycle_at(const struct redis_pool *pool, uint64_t now_ms);

/* A connection that is no slot's was lost, or could not be made. */
void redis_pool_on_spare_lost(struct redis_pool *pool);

/* A connection was ready for command_timeout_ms more; true: it is closed now. */
bool redis_pool_on_ready_phase_end(struct redis_pool *pool, struct redis_connection *c,
				   uint64_t now_ms);

/* Puts a replacement that is ready in its place if the old one is idle. */
void redis_pool_try_replacing(struct redis_pool *pool);

/* -- redis_pool.c -- */

/* Around every event handler: a callback in between may destroy the pool. */
void redis_pool_enter(struct redis_pool *pool);
void redis_pool_leave(struct redis_pool *pool);

/* Remembers it for the stats. */
void redis_pool_note_error(struct redis_pool *pool, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

#endif

/* SPDX-License-Identifier: ISC */
/*
 * A worker's command connections to its Redis: connecting, signing in,
 * loading the scripts, reconnecting, time limits and bounded queues. The calls
 * that travel over them are in redis_scripts.h. It never blocks (names are
 * resolved by libevent too), and never repeats a command by itself whose
 * outcome is unknown.
 *
 * What every caller may rely on:
 * - A callback fires exactly once, from the event loop, never before the call
 *   that was given it has returned. redis_pool_destroy() alone fires the ones
 *   still due before it returns.
 * - Once Redis is known to be away, everything waiting is answered UNAVAILABLE
 *   in that loop turn, and so is each new call in the turn after it was made.
 *   Only during the very first connection attempt, and the first one after a
 *   loss, do calls wait for it.
 * - A callback may make calls, change the endpoint and destroy the pool.
 */
#ifndef KEEPSOCK_REDIS_COMMAND_H
#define KEEPSOCK_REDIS_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct event_base;
struct redis_pool;

/*
 * X(name, text)
 *   OK           done
 *   UNAVAILABLE  no connection, the connection broke, a queue is full, or Redis refuses for
 *                now (LOADING, BUSY, READONLY, OOM, ...). If the command had been sent its
 *                outcome is unknown: error 100
 *   TIMEOUT      no answer within command_timeout_ms; the outcome is unknown: error 100
 *   FENCED       this node has been replaced as the primary, or is none; nothing was done:
 *                error 100
 *   REFUSED      the client's command number is lower than its last one; nothing was done
 *   ERROR        a bug or foreign data in our keys; the text says more, for the log
 */
#define REDIS_RESULTS(X)              \
	X(OK, "ok")                   \
	X(UNAVAILABLE, "unavailable") \
	X(TIMEOUT, "timeout")         \
	X(FENCED, "fenced")           \
	X(REFUSED, "refused")         \
	X(ERROR, "error")

enum redis_result {
#define X(name, text) REDIS_RESULT_##name,
	REDIS_RESULTS(X)
#undef X
};

const char *redis_result_name(enum redis_result result);

/* All strings are copied by whoever is given an endpoint. */
struct redis_endpoint {
	const char *host; /* name, IPv4 or IPv6 address (no brackets) */
	uint16_t port;
	const char *user;     /* NULL or "": the default user */
	const char *password; /* NULL or "": do not sign in */
	int db;
};

/* 0 in any member means its default. */
struct redis_pool_options {
	unsigned size;                   /* connections; default 2 */
	unsigned command_timeout_ms;     /* default 3000 */
	unsigned connect_timeout_ms;     /* resolving, connecting and signing in; default 1000 */
	unsigned reconnect_max_delay_ms; /* default 2000 */
	unsigned waiting_limit;          /* unanswered commands per connection; default 4096 */
	size_t waiting_bytes_limit;      /* their size, together; default 16 MiB */
	/* Connections beyond size, opened while all are busy, for calls with REDIS_ANY; 0: none. */
	unsigned max_overflow;
	/* A connection older than this is replaced, without a gap, once it is idle; 0: never. */
	uint64_t recycle_ms;
	/*
	 * A publish succeeds only when this many replicas have confirmed it (WAIT); else it gets
	 * TIMEOUT after min_replicas_timeout_ms (default 1000), or command_timeout_ms if that is
	 * less. Publishes have a connection of their own then. 0: none.
	 */
	unsigned min_replicas;
	unsigned min_replicas_timeout_ms;
};

/* As affinity of a call that needs no order: it takes the connection with the least to do. */
#define REDIS_ANY UINT64_MAX

/*
 * Told from the loop whenever redis_pool_available() or, while it is, the
 * answer of redis_pool_run_id() has changed; not told about a change that has
 * already been undone.
 */
typedef void (*redis_state_callback)(void *ctx, bool available);

/* Starts connecting at once. on_state may be NULL. */
struct redis_pool *redis_pool_create(struct event_base *base, const struct redis_endpoint *endpoint,
				     const struct redis_pool_options *options,
				     redis_state_callback on_state, void *ctx);

/* Answers what is still waiting with UNAVAILABLE, then frees the pool. NULL is fine. */
void redis_pool_destroy(struct redis_pool *pool);

/* Drops all connections (what waits gets UNAVAILABLE) and connects to the new place. */
void redis_pool_set_endpoint(struct redis_pool *pool, const struct redis_endpoint *endpoint);

/*
 * At least one connection is signed in and answering, with min_replicas the one for publishes
 * too.
 */
bool redis_pool_available(const struct redis_pool *pool);

/* False: calls with this affinity are refused at once, as their connection is known to be away. */
bool redis_pool_takes(const struct redis_pool *pool, uint64_t affinity);

/* Longest run id there can be. */
#define REDIS_RUN_MAX 64

/*
 * Names one life as a master of the server behind the ready connections, made
 * of the ids it gave itself (INFO); "" while the pool is not available. All ready connections are
 * on the same run: when one reaches another run, the others are dropped. Valid until the loop goes
 * on.
 */
const char *redis_pool_run_id(const struct redis_pool *pool);

/*
 * The highest shard sequence that replies tell is kept in *highest from now on,
 * before their callbacks run; it is never lowered here. NULL: nowhere, as at
 * the start.
 */
void redis_pool_watch_sequence(struct redis_pool *pool, uint64_t *highest);

/* Counters are over the pool's life. */
struct redis_pool_stats {
	unsigned size;           /* connections; the one for publishes included */
	unsigned connected;      /* ... of them ready now */
	unsigned overflow;       /* more connections, open now */
	unsigned waiting;        /* commands without an answer now */
	uint64_t sent;           /* commands given to a connection */
	uint64_t answered;       /* ... and answered by Redis, errors included */
	uint64_t errors;         /* error replies and unusable replies */
	uint64_t timeouts;       /* commands that got TIMEOUT */
	uint64_t unavailable;    /* commands that got UNAVAILABLE */
	uint64_t reconnects;     /* connections made again after a loss */
	uint64_t recycled;       /* connections replaced for their age */
	uint64_t unreplicated;   /* publishes in Redis that too few replicas confirmed in time */
	uint64_t latency_us_sum; /* call to answer, over answered */
	char last_error[160];    /* the last connection or command error; "" = none yet */
};

void redis_pool_stats(const struct redis_pool *pool, struct redis_pool_stats *stats);

#endif

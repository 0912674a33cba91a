/* SPDX-License-Identifier: ISC */
/*
 * The typed calls with which workers agree whether a Redis still has what they
 * saw there, and who of them lives. Used by workers, per shard. Rules of all
 * calls: redis_scripts.h; the thinking behind it: scripts/continuity.lua.
 *
 * A worker that reaches a run (redis_pool_run_id()) for the first time reports
 * with redis_continuity(), again and again while the state is PENDING. Until
 * the run is settled every other call that concerns channels is UNAVAILABLE;
 * so it is when the run is another one than the worker believes, and then the
 * worker reports again. Only then it subscribes: what it hears from a server
 * of another run is none of its messages.
 */
#ifndef KEEPSOCK_REDIS_CONTINUITY_H
#define KEEPSOCK_REDIS_CONTINUITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "keepsock/redis_outcome.h"
#include "keepsock/slice.h"

#define REDIS_GENERATION_LENGTH  6
#define REDIS_CONTINUITY_WAIT_MS 2000

/*
 * X(name, text)
 *   PENDING  not all workers have reported: report again, soon (100 ms)
 *   KEPT     positions of the generation the worker knows are good
 *   RENEWED  they are void: no offset, no epoch, no sequence known before counts
 */
#define REDIS_CONTINUITY_STATES(X) \
	X(PENDING, "pending")      \
	X(KEPT, "kept")            \
	X(RENEWED, "renewed")

enum redis_continuity_state {
#define X(name, text) REDIS_CONTINUITY_##name,
	REDIS_CONTINUITY_STATES(X)
#undef X
};

const char *redis_continuity_state_name(enum redis_continuity_state state);

struct redis_continuity {
	struct slice worker;  /* its name */
	struct slice own_run; /* the last run that was settled for this worker; empty: none */
	struct slice own_generation; /* the one it knows since then; empty: none */
	/* The highest sequence received, or read in an answer, up to now, on any run: whatever
	 * can have reached a client or is still going to. */
	uint64_t max_seen;
	uint64_t wait_ms;    /* for other workers; 0: REDIS_CONTINUITY_WAIT_MS */
	uint64_t role_epoch; /* of a primary: raises the one that is kept; 0: none */
};

struct redis_continuity_result {
	struct redis_outcome outcome;
	enum redis_continuity_state state;
	uint64_t start; /* sequence at the start of the run */
	/* The rest is empty while PENDING. */
	struct slice run;        /* what the report was about: own_run from now on */
	struct slice generation; /* ends every epoch: "<8 letters>-<generation>" */
	bool registered;         /* the worker was, before this call: see redis_heartbeat_result */
	struct slice why;        /* text: the last reason to renew, in this run or before */
};

typedef void (*redis_continuity_callback)(void *ctx, const struct redis_continuity_result *result);

/* Reports and asks. Settled, it also registers the worker: from then on it owes heartbeats. */
void redis_continuity(struct redis_pool *pool, uint64_t affinity,
		      const struct redis_continuity *report, redis_continuity_callback callback,
		      void *ctx);

/* -- who lives ----------------------------------------------------------- */

struct redis_heartbeat {
	struct slice worker;
	uint64_t max_seen;        /* as in struct redis_continuity */
	uint64_t node_timeout_ms; /* 0: nobody counts as silent */
	/* One probe per half to whole interval goes out, whoever sends it; 0: none. */
	uint64_t probe_interval_ms;
};

struct redis_heartbeat_result {
	struct redis_outcome outcome;
	uint64_t sequence;
	/* May differ from the one known: a worker that came back late has had it renewed. */
	struct slice generation;
	/* False: the worker has been purged (it is registered again now), and its members and
	 * sessions are to be written again at once. */
	bool registered;
	bool probed;
	size_t n_silent;
	const struct slice *silent; /* for redis_purge() */
};

typedef void (*redis_heartbeat_callback)(void *ctx, const struct redis_heartbeat_result *result);

/* Once a second; the keys of the worker live for an hour after its last one. */
void redis_heartbeat(struct redis_pool *pool, uint64_t affinity,
		     const struct redis_heartbeat *heartbeat, redis_heartbeat_callback callback,
		     void *ctx);

struct redis_purge {
	struct slice worker;
	bool dead; /* the caller knows; false: only if it is silent for longer than the timeout */
	uint64_t node_timeout_ms; /* read unless dead */
};

struct redis_purge_result {
	struct redis_outcome outcome;
	bool begun;       /* this call pronounced it dead */
	uint64_t removed; /* members */
	uint64_t left;    /* call again (with dead false) until 0 */
};

typedef void (*redis_purge_callback)(void *ctx, const struct redis_purge_result *result);

/*
 * Takes a dead worker's registration, sessions and remembered commands away
 * and up to 200 of its members, each with its leave. Any number of workers may
 * call it at the same time. A worker that stops calls it for itself.
 */
void redis_purge(struct redis_pool *pool, uint64_t affinity, const struct redis_purge *purge,
		 redis_purge_callback callback, void *ctx);

struct redis_worker_entry {
	struct slice name;
	uint64_t silent_ms; /* since its last heartbeat */
	uint64_t max_seen;
};

struct redis_workers_result {
	struct redis_outcome outcome;
	size_t n_workers;
	const struct redis_worker_entry *workers; /* in no order */
};

typedef void (*redis_workers_callback)(void *ctx, const struct redis_workers_result *result);

void redis_workers_read(struct redis_pool *pool, uint64_t affinity, redis_workers_callback callback,
			void *ctx);

#endif

/* SPDX-License-Identifier: ISC */
/*
 * The node's private redis-server on 127.0.0.1: started with a generated
 * password and a free port, watched, restarted under the same port and
 * password, stopped when the node is. It outlives a master that dies, and is
 * adopted by the next one. Its data (append-only file) lives in STATE_DIR/redis
 * and outlives all of them.
 */
#ifndef KEEPSOCK_EMBEDDED_REDIS_H
#define KEEPSOCK_EMBEDDED_REDIS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct buffer;
struct embedded_redis;
struct event_base;
struct ipc_redis;

enum embedded_redis_event {
	EMBEDDED_REDIS_READY,  /* answers PING; its endpoint may differ from last time */
	EMBEDDED_REDIS_LOST,   /* died; a restart is under way */
	EMBEDDED_REDIS_FAILED, /* never came up: the node can't start; detail says why */
	EMBEDDED_REDIS_ENDED,  /* after embedded_redis_stop() */
};

/* detail: one or more lines for people, "" when there is nothing to say. */
typedef void embedded_redis_event_fn(void *ctx, enum embedded_redis_event event,
				     const char *detail);

struct embedded_redis_options {
	const char *binary;
	const char *state_dir; /* both exist */
	const char *run_dir;
	bool node_runs;  /* there are workers that used one: a failure is not the node's end */
	bool only_adopt; /* when none runs, none is started */
	embedded_redis_event_fn *on_event;
	void *ctx;
};

/*
 * Adopts the one that a dead master started, or starts one; the outcome comes as
 * an event. NULL when it can't even be tried, with error; or when none runs and
 * none is to be started, without.
 */
struct embedded_redis *embedded_redis_start(struct event_base *base,
					    const struct embedded_redis_options *options,
					    struct buffer *error);

/* Where it is; belongs to it, and changes only before an EMBEDDED_REDIS_READY. */
const struct ipc_redis *embedded_redis_endpoint(const struct embedded_redis *redis);

/* "starting", "ready", ... */
const char *embedded_redis_state(const struct embedded_redis *redis);
pid_t embedded_redis_pid(const struct embedded_redis *redis); /* 0 = not running */
uint64_t embedded_redis_restarts(const struct embedded_redis *redis);

/*
 * Asks it to end; EMBEDDED_REDIS_ENDED follows, by force after some seconds.
 * A second call uses force at once.
 */
void embedded_redis_stop(struct embedded_redis *redis);

/* NULL is fine. One that still runs is left to the next master. */
void embedded_redis_free(struct embedded_redis *redis);

#endif

/* SPDX-License-Identifier: ISC */
/*
 * The node's private redis-server on 127.0.0.1: started with a generated
 * password and a free port, watched, restarted under the same port and
 * password, stopped with the master. Its data (append-only file) lives in
 * STATE_DIR/redis and outlives all of them.
 */
#ifndef KEEPSOCK_EMBEDDED_REDIS_H
#define KEEPSOCK_EMBEDDED_REDIS_H

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

/*
 * Starts it; the outcome comes as an event. state_dir and run_dir exist.
 * NULL with error when it can't even be tried.
 */
struct embedded_redis *embedded_redis_start(struct event_base *base, const char *binary,
					    const char *state_dir, const char *run_dir,
					    embedded_redis_event_fn *on_event, void *ctx,
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

/* NULL is fine. Kills it if it still runs. */
void embedded_redis_free(struct embedded_redis *redis);

#endif

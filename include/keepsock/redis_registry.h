/* SPDX-License-Identifier: ISC */
/*
 * The typed calls of the registry: which sessions each worker has, and the
 * subscriptions that users get whenever they connect. Used by workers, on the
 * first shard. What is written is the caller's JSON, opaque here. Rules of all
 * calls: redis_scripts.h.
 */
#ifndef KEEPSOCK_REDIS_REGISTRY_H
#define KEEPSOCK_REDIS_REGISTRY_H

#include <stddef.h>
#include <stdint.h>

#include "keepsock/redis_outcome.h"
#include "keepsock/redis_scripts.h"
#include "keepsock/slice.h"

/* -- sessions ------------------------------------------------------------ */

struct redis_session {
	struct slice client;
	struct slice json; /* to write: empty forgets the session */
};

/* Writes and forgets sessions of a worker; count = how many it has now. */
void redis_sessions_write(struct redis_pool *pool, uint64_t affinity, struct slice worker,
			  const struct redis_session *sessions, size_t n,
			  redis_count_callback callback, void *ctx);

struct redis_sessions_result {
	struct redis_outcome outcome;
	uint64_t cursor; /* for the next call; 0: the walk is over */
	size_t n_sessions;
	const struct redis_session *sessions;
};

typedef void (*redis_sessions_callback)(void *ctx, const struct redis_sessions_result *result);

/*
 * Some hundred of a worker's sessions, from cursor 0 on. Over a walk a session
 * may come twice; one that was there all the time comes at least once.
 */
void redis_sessions_read(struct redis_pool *pool, uint64_t affinity, struct slice worker,
			 uint64_t cursor, redis_sessions_callback callback, void *ctx);

/* -- what a worker has there --------------------------------------------- */

/* Of the keys that go by a worker's name (redis_keys.h). */
enum redis_worker_key {
	REDIS_WORKER_MEMBERS,  /* "<client> <channel>" */
	REDIS_WORKER_DONE,     /* clients */
	REDIS_WORKER_SESSIONS, /* clients */
};

struct redis_names_result {
	struct redis_outcome outcome;
	uint64_t cursor; /* for the next call; 0: the walk is over */
	size_t n_names;
	const struct slice *names;
};

typedef void (*redis_names_callback)(void *ctx, const struct redis_names_result *result);

/* Some hundred of the names in one of them, from cursor 0 on; as with redis_sessions_read(). */
void redis_names_read(struct redis_pool *pool, uint64_t affinity, struct slice worker,
		      enum redis_worker_key key, uint64_t cursor, redis_names_callback callback,
		      void *ctx);

/* -- subscriptions of users ---------------------------------------------- */

struct redis_user_subscription {
	struct slice channel;
	struct slice json;
};

/*
 * Adds or replaces one. All of the user's live for ttl_ms from now. REFUSED:
 * the user has `limit` of them already; else count = how many there are now.
 */
void redis_user_subscription_set(struct redis_pool *pool, uint64_t affinity,
				 struct redis_fence fence, struct slice user,
				 const struct redis_user_subscription *subscription,
				 uint64_t ttl_ms, uint64_t limit, redis_count_callback callback,
				 void *ctx);

/* An empty channel: all of them. count = how many there were. */
void redis_user_subscription_remove(struct redis_pool *pool, uint64_t affinity,
				    struct redis_fence fence, struct slice user,
				    struct slice channel, redis_count_callback callback, void *ctx);

struct redis_user_subscriptions_result {
	struct redis_outcome outcome;
	size_t n_subscriptions;
	const struct redis_user_subscription *subscriptions; /* in no order */
};

typedef void (*redis_user_subscriptions_callback)(
	void *ctx, const struct redis_user_subscriptions_result *result);

/* For a user who connects: all of them, which live for ttl_ms from now. */
void redis_user_subscription_get(struct redis_pool *pool, uint64_t affinity, struct slice user,
				 uint64_t ttl_ms, redis_user_subscriptions_callback callback,
				 void *ctx);

#endif

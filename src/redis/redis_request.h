/* SPDX-License-Identifier: ISC */
/*
 * One script call on its way: its arguments as RESP, and whom to answer. Inside
 * the Redis room only; a request is owned by exactly one queue at a time.
 */
#ifndef KEEPSOCK_REDIS_REQUEST_H
#define KEEPSOCK_REDIS_REQUEST_H

#include <hiredis/hiredis.h>

#include "keepsock/redis_continuity.h"
#include "keepsock/redis_registry.h"
#include "keepsock/redis_scripts.h"

/* X(name): scripts/<name>.lua. Each is loaded whenever a connection is made. */
#define REDIS_SCRIPTS(X)            \
	X(publish)                  \
	X(subscribe)                \
	X(history)                  \
	X(history_remove)           \
	X(presence_get)             \
	X(presence_stats)           \
	X(presence_refresh)         \
	X(presence_remove)          \
	X(done_remove)              \
	X(members_move)             \
	X(control)                  \
	X(continuity)               \
	X(heartbeat)                \
	X(purge)                    \
	X(role)                     \
	X(workers)                  \
	X(sessions_write)           \
	X(sessions_read)            \
	X(names_read)               \
	X(user_subscription_set)    \
	X(user_subscription_remove) \
	X(user_subscriptions)

enum redis_script {
#define X(name) REDIS_SCRIPT_##name,
	REDIS_SCRIPTS(X)
#undef X
		REDIS_SCRIPT_COUNT
};

#define REDIS_SHA_LENGTH 40

const char *redis_script_name(enum redis_script script);
struct slice redis_script_text(enum redis_script script);

struct redis_request;

/*
 * Turns the answer into a typed result and calls the caller back, exactly once
 * per request. reply is NULL unless code is OK; error is never NULL. False: the
 * reply was unusable and the caller got ERROR.
 */
typedef bool (*redis_finish)(struct redis_request *request, enum redis_result code,
			     const char *error, const redisReply *reply);

/* Commands of our own: nobody hears of their answers. */
enum redis_internal {
	REDIS_INTERNAL_PING,
	REDIS_INTERNAL_WAIT,
};

#define REDIS_REQUEST_MAGIC 0x51455252u /* "RREQ" */

struct redis_request {
	uint32_t magic;
	struct redis_request *next; /* in its queue */
	redis_finish finish;        /* NULL: a command of our own, which is: */
	enum redis_internal internal;
	union {
		redis_publish_callback publish;
		redis_subscribe_callback subscribe;
		redis_history_callback history;
		redis_presence_callback presence;
		redis_presence_stats_callback presence_stats;
		redis_count_callback count;
		redis_continuity_callback continuity;
		redis_heartbeat_callback heartbeat;
		redis_purge_callback purge;
		redis_workers_callback workers;
		redis_sessions_callback sessions;
		redis_names_callback names;
		redis_user_subscriptions_callback user_subscriptions;
	} callback;
	void *ctx; /* the caller's */
	struct redis_pool *pool;
	uint64_t expected; /* channels of a publish, limit of a read */
	bool has_limit;    /* a read: expected is a limit */
	bool has_epoch;    /* a read: the channel keeps history */
	enum redis_script script;
	bool by_text;       /* sent with EVAL because Redis had forgotten the script */
	unsigned words;     /* RESP elements in tail */
	struct buffer tail; /* numkeys, keys and arguments, without the run id; own: all of it */
	bool has_run;       /* one argument is the run id of the connection it leaves on */
	size_t run_at;      /* where in tail it belongs */
	redisReply *reply;  /* owned: the answer while replicas are waited for */
	uint64_t started_ns;
	uint64_t deadline_ms;      /* boottime */
	enum redis_result failure; /* in the queue of failed ones: what to answer */
	const char *failure_text;  /* a constant */
};

struct redis_request *redis_request_new(enum redis_script script, unsigned n_keys,
					redis_finish finish, void *ctx);
/* For scripts whose reply is one number. */
struct redis_request *redis_request_new_count(enum redis_script script, unsigned n_keys,
					      redis_count_callback callback, void *ctx);
/* A command of our own of n words. */
struct redis_request *redis_request_new_internal(enum redis_internal internal,
						 const struct slice *words, size_t n);
void redis_request_free(struct redis_request *request);

/* All keys first, then all arguments, in the order the script's head states. */
void redis_request_add(struct redis_request *request, struct slice word);
void redis_request_add_u64(struct redis_request *request, uint64_t value);
/* A key made of one name by a function of redis_keys.h. */
void redis_request_add_key(struct redis_request *request, struct slice name,
			   void (*append)(struct buffer *, struct slice));

/*
 * The next word is the run id (redis_pool_run_id()) of the server that gets the
 * command, whichever connection that turns out to be. Once per request.
 */
void redis_request_add_run(struct redis_request *request);

/* Appends the command as it goes on the wire; sha is the script's, run the connection's. */
void redis_request_append_to(const struct redis_request *request, const char *sha, const char *run,
			     struct buffer *out);

/* Appends one RESP command made of n words. */
void redis_append_command(struct buffer *out, const struct slice *words, size_t n);

/* To be called with each shard sequence in a reply, before the caller's callback. */
void redis_request_saw_sequence(const struct redis_request *request, uint64_t sequence);

struct redis_queue {
	struct redis_request *first;
	struct redis_request *last;
	unsigned count; /* without those of our own */
	size_t bytes;   /* their tails, together */
};

void redis_queue_push(struct redis_queue *queue, struct redis_request *request);

/* NULL when empty. */
struct redis_request *redis_queue_pop(struct redis_queue *queue);

#endif

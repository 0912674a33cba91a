/* SPDX-License-Identifier: ISC */
/*
 * The typed calls of the Redis room: one function per Lua script, each script
 * one atomic step in Redis. Used by workers. Here: publishing, subscribing and
 * history; members are in redis_presence.h. Arguments are copied before a
 * call returns; a result and every slice in it live until the callback
 * returns. Callback rules: redis_command.h. Keys: redis_keys.h.
 *
 * affinity picks the connection: calls of one client use one value (a hash of
 * its id) and so reach Redis in the order they were made. Whoever refreshes
 * presence must use the affinity of the call that removes it. A callback may be
 * NULL where nobody wants the answer.
 */
#ifndef KEEPSOCK_REDIS_SCRIPTS_H
#define KEEPSOCK_REDIS_SCRIPTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "keepsock/redis_envelope.h"
#include "keepsock/redis_outcome.h"
#include "keepsock/redis_presence.h"
#include "keepsock/slice.h"

/* -- the fence ----------------------------------------------------------- */

/*
 * Who publishes, subscribes, or removes what was, as of the call. A script that carries an epoch
 * above the one the server keeps raises it; one below gives FENCED.
 */
struct redis_fence {
	uint64_t epoch;     /* of the node's role; 0: it has none */
	const char *closed; /* a constant: this node is no primary, FENCED without asking; NULL */
};

/* Highest epoch there is: exact as a number in a script. */
#define REDIS_ROLE_EPOCH_MAX ((UINT64_C(1) << 53) - 1)

/*
 * Raises the server's epoch to this one before any script does; 0 only asks.
 * count = the epoch it keeps now; FENCED: a higher one.
 */
void redis_role_raise(struct redis_pool *pool, uint64_t epoch, redis_count_callback callback,
		      void *ctx);

/* -- publish ------------------------------------------------------------- */

struct redis_publish_channel {
	struct slice channel;
	uint32_t history_size; /* 0, or history_ttl_ms 0: keep no history */
	uint64_t history_ttl_ms;
	uint64_t meta_ttl_ms; /* 0: never expires */
};

struct redis_publish {
	struct redis_fence fence;
	enum redis_message_kind kind; /* history is kept of PUBLICATION only */
	struct slice body;            /* by redis_envelope_append_body() */
	const char *epoch;            /* by redis_epoch_generate(); for channels without one */
	const struct redis_publish_channel *channels;
	size_t n_channels; /* from 1 */
	/* Empty client: the command is not remembered, number and done_key are not read. */
	struct slice client;
	uint64_t number;       /* of the client's mutating commands, rising, from 1 */
	struct slice done_key; /* by redis_key_done() */
	/*
	 * The caller's own name for this publish, to repeat it safely; empty: none. Each
	 * channel publishes under a key once and gives that result for idempotency_ttl_ms.
	 */
	struct slice idempotency_key;
	uint64_t idempotency_ttl_ms;
	/*
	 * 0: none. A channel with history publishes nothing whose version is not above the
	 * last one it was given. With version_epoch only versions of one epoch are compared.
	 */
	uint64_t version;
	struct slice version_epoch;
};

struct redis_published {
	uint64_t sequence;  /* 0 when suppressed */
	bool suppressed;    /* nothing was published here, by idempotency key or version */
	uint64_t offset;    /* 0 without history; suppressed by version: the top */
	struct slice epoch; /* empty without history */
};

struct redis_publish_result {
	struct redis_outcome outcome;
	bool duplicate;    /* {client, number} had been done: this is what it gave then */
	size_t n_channels; /* as in the call, in its order; 0 unless OK */
	const struct redis_published *channels;
};

typedef void (*redis_publish_callback)(void *ctx, const struct redis_publish_result *result);

/*
 * All channels in one atomic step: shard sequence, offset, stream, pub/sub and
 * the memory of {client, number}. A number equal to the stored one gives the
 * stored result and publishes nothing; a lower one gives REFUSED.
 */
void redis_publish(struct redis_pool *pool, uint64_t affinity, const struct redis_publish *publish,
		   redis_publish_callback callback, void *ctx);

/* -- subscribe, history -------------------------------------------------- */

struct redis_publication {
	uint64_t offset;
	struct redis_body body;
};

struct redis_subscribe {
	struct redis_fence fence;
	struct slice channel;
	/* History: epoch and top offset are read, the epoch made if there is none. */
	bool history;
	const char *epoch;    /* by redis_epoch_generate() */
	uint64_t meta_ttl_ms; /* refreshed; 0: never expires */
	/* Recovery, with history only: publications after since_offset, limit at most. */
	bool recover;
	uint64_t since_offset;
	struct slice since_epoch; /* when not empty and another than the channel's: none are read */
	uint32_t limit;
	/* With history only, instead of recover: the newest publication, if there is one. */
	bool latest;
	/* The member is added, or refreshed, in the same step; its join is above sequence. */
	const struct redis_presence_member *presence; /* NULL: none */
	uint64_t presence_ttl_ms;
	uint64_t now_ms; /* wall clock */
};

struct redis_subscribe_result {
	struct redis_outcome outcome;
	uint64_t sequence;  /* the shard sequence at this step: messages above it are newer */
	struct slice epoch; /* empty without history */
	uint64_t top;       /* offset of the newest publication, 0 = none yet */
	bool truncated;     /* there were more than limit; these are the oldest */
	bool joined;        /* the member was not present before */
	size_t n_publications;
	const struct redis_publication *publications; /* by rising offset */
};

typedef void (*redis_subscribe_callback)(void *ctx, const struct redis_subscribe_result *result);

/* What a subscribe needs from Redis, in one atomic step; call it after SUBSCRIBE was confirmed. */
void redis_subscribe_read(struct redis_pool *pool, uint64_t affinity,
			  const struct redis_subscribe *subscribe,
			  redis_subscribe_callback callback, void *ctx);

struct redis_history {
	struct slice channel;
	const char *epoch;    /* by redis_epoch_generate(); for a channel without one */
	uint64_t meta_ttl_ms; /* refreshed; 0: never expires */
	int64_t limit;        /* 0: only epoch and top; below 0: all */
	bool reverse;         /* by falling offset */
	/* Forward: offsets above since_offset; reverse: below it. */
	bool has_since;
	uint64_t since_offset;
	struct slice since_epoch; /* when not empty and another than the channel's: none are read */
};

struct redis_history_result {
	struct redis_outcome outcome;
	struct slice epoch;
	uint64_t top;
	bool truncated; /* there were more than limit (never set when limit is 0) */
	size_t n_publications;
	const struct redis_publication *publications;
};

typedef void (*redis_history_callback)(void *ctx, const struct redis_history_result *result);

void redis_history(struct redis_pool *pool, uint64_t affinity, const struct redis_history *history,
		   redis_history_callback callback, void *ctx);

/* Drops a channel's publications; epoch and offset go on. count = 1 when there were any. */
void redis_history_remove(struct redis_pool *pool, uint64_t affinity, struct redis_fence fence,
			  struct slice channel, redis_count_callback callback, void *ctx);

/* -- bookkeeping --------------------------------------------------------- */

/* Forgets closed clients' last commands; count = how many were known. */
void redis_done_remove(struct redis_pool *pool, uint64_t affinity, struct slice done_key,
		       const struct slice *clients, size_t n, redis_count_callback callback,
		       void *ctx);

/*
 * Publishes payload as a CONTROL message (body: data = payload) on a pub/sub
 * name: REDIS_CONTROL_CHANNEL or one by redis_key_reply(). It takes a shard
 * sequence. count = connections that received it.
 */
void redis_control_publish(struct redis_pool *pool, uint64_t affinity, struct slice pubsub_name,
			   struct slice payload, redis_count_callback callback, void *ctx);

#endif

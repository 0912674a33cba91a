/* SPDX-License-Identifier: ISC */
/*
 * The one table of keepsock's layout in Redis: every key and pub/sub channel
 * there begins with "keepsock." and is built here and nowhere else. Workers
 * and the Redis room use it; nobody may touch a key that has no line below.
 */
#ifndef KEEPSOCK_REDIS_KEYS_H
#define KEEPSOCK_REDIS_KEYS_H

#include <stdbool.h>

#include "keepsock/buffer.h"
#include "keepsock/slice.h"

/* STRING: the shard sequence, one counter over all messages of this Redis. */
#define REDIS_KEY_SEQUENCE "keepsock.sequence"

/* HASH: which run of this Redis its data belongs to, see continuity.lua. */
#define REDIS_KEY_RUN "keepsock.run"
/* SET: the workers that have yet to report while a run is pending. */
#define REDIS_KEY_EXPECTED "keepsock.expected"
/* HASH: worker -> "<Redis ms of its last heartbeat> <highest sequence it had seen>". */
#define REDIS_KEY_WORKERS "keepsock.workers"
/* SET: workers whose purge has begun and not ended. */
#define REDIS_KEY_PURGING "keepsock.purging"
/* HASH with a TTL: worker whose lost sessions are kept -> Redis ms of its purge. */
#define REDIS_KEY_LOST "keepsock.lost"

/* STRING "<epoch> <node> <random>" with a TTL: the primary's lease, of the supervisors. */
#define REDIS_KEY_LEASE "keepsock.lease"
/* STRING: the highest epoch ever given to a primary. */
#define REDIS_KEY_LEASE_EPOCH "keepsock.lease_epoch"
/* STREAM, field event = JSON: what happened to the supervisors' states, the last thousand or so. */
#define REDIS_KEY_CLUSTER_EVENTS "keepsock.cluster_events"

/*
 * Keys of a channel, prefix + channel name.
 * X(name, prefix)
 *   stream           STREAM  id <offset>-0, field d = the body (redis_envelope.h)
 *   meta             HASH    e = epoch, s = top offset, v and ve = last version and its epoch;
 *                            outlives the stream
 *   presence         HASH    client -> "<1: join_leave, or 0> <len user> <user><info>"
 *   presence_expire  ZSET    client -> wall clock ms from which the entry is dead
 *   channel          pub/sub the channel's publications, joins and leaves
 */
#define REDIS_CHANNEL_KEYS(X)                           \
	X(stream, "keepsock.stream.")                   \
	X(meta, "keepsock.meta.")                       \
	X(presence, "keepsock.presence.")               \
	X(presence_expire, "keepsock.presence_expire.") \
	X(channel, "keepsock.channel.")

/*
 * Keys of a worker, prefix + its name "<node>.<slot>.<incarnation>", the last one 8 random
 * hexadecimal digits of each worker process.
 * X(name, prefix)
 *   done     HASH client -> its last mutating command and the result, see publish.lua
 *   members  SET  "<client> <channel>" of all its presence entries
 *   purged   SET  those of them that its purge has yet to remove
 *   sessions HASH client -> JSON, see redis_registry.h
 *   lost_sessions HASH with a TTL: what its sessions were when it was purged
 */
#define REDIS_WORKER_KEYS(X)              \
	X(done, "keepsock.done.")         \
	X(members, "keepsock.members.")   \
	X(purged, "keepsock.purged.")     \
	X(sessions, "keepsock.sessions.") \
	X(lost_sessions, "keepsock.lost_sessions.")

#define REDIS_WORKER_NAME_MAX 63

/*
 * Keys of a worker slot, prefix + node + "." + slot.
 * X(name, prefix)
 *   reply  pub/sub answers to the surveys this slot sent
 */
#define REDIS_SLOT_KEYS(X) X(reply, "keepsock.reply.")

/*
 * STRING "<offset> <epoch or ->": what a publish with an idempotency key gave, for as long as
 * the publisher wanted. The length keeps {a.b, c} and {a, b.c} apart.
 */
static inline void redis_key_result(struct buffer *out, struct slice channel, struct slice key)
{
	buffer_append_str(out, "keepsock.result.");
	buffer_append_u64(out, channel.len);
	buffer_append_char(out, '.');
	buffer_append_slice(out, channel);
	buffer_append_char(out, '.');
	buffer_append_slice(out, key);
}

/* HASH: channel -> JSON, the subscriptions that a user's connections begin with. */
static inline void redis_key_user_subscriptions(struct buffer *out, struct slice user)
{
	buffer_append_str(out, "keepsock.user_subscriptions.");
	buffer_append_slice(out, user);
}

/* pub/sub: what every worker of every node hears. */
#define REDIS_CONTROL_CHANNEL "keepsock.control"

/* pub/sub: the delivery probe, a CONTROL message whose data is its sender's name. */
#define REDIS_PROBE_CHANNEL "keepsock.probe"

/* pub/sub: the delivery probe of each shard, heard by every worker. */
#define REDIS_PROBE_CHANNEL "keepsock.probe"

/* redis_key_stream(out, channel) and so on: each appends the whole name to out. */
#define X(name, prefix)                                                               \
	static inline void redis_key_##name(struct buffer *out, struct slice channel) \
	{                                                                             \
		buffer_append(out, prefix, sizeof(prefix) - 1);                       \
		buffer_append_slice(out, channel);                                    \
	}
REDIS_CHANNEL_KEYS(X)
#undef X

/* redis_key_done(out, worker) and so on. */
#define X(name, prefix)                                                              \
	static inline void redis_key_##name(struct buffer *out, struct slice worker) \
	{                                                                            \
		buffer_append(out, prefix, sizeof(prefix) - 1);                      \
		buffer_append_slice(out, worker);                                    \
	}
REDIS_WORKER_KEYS(X)
#undef X

/* redis_key_reply(out, node, slot). */
#define X(name, prefix)                                                                           \
	static inline void redis_key_##name(struct buffer *out, struct slice node, unsigned slot) \
	{                                                                                         \
		buffer_append(out, prefix, sizeof(prefix) - 1);                                   \
		buffer_append_slice(out, node);                                                   \
		buffer_append(out, ".", 1);                                                       \
		buffer_append_u64(out, slot);                                                     \
	}
REDIS_SLOT_KEYS(X)
#undef X

/* The channel name inside a pub/sub name "keepsock.channel.<name>"; false for any other. */
static inline bool redis_key_parse_channel(struct slice pubsub_name, struct slice *channel)
{
	static const char prefix[] = "keepsock.channel.";
	size_t len = sizeof(prefix) - 1;

	if (pubsub_name.len <= len || memcmp(pubsub_name.data, prefix, len) != 0)
		return false;
	*channel = slice_from(pubsub_name.data + len, pubsub_name.len - len);
	return true;
}

#endif

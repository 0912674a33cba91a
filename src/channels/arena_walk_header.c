/* SPDX-License-Identifier: ISC */
/*
 * The walk over the arena's header: the fan-out under way, the shards and the
 * work slot, see arena_walk.h.
 */
#include <string.h>

#include "channels/arena_walk.h"

static void walk_frame(struct arena_walk *walk, arena_ref ref, uint64_t expected)
{
	uint64_t length = 0;

	while (ref) {
		const struct arena_chunk *chunk;

		if (walk_claim(walk, ref, MARK_FRAME, "fanout") != CLAIM_OWN)
			return;
		chunk = arena_chunk_at(walk->arena, ref);
		if (chunk->used > arena_chunk_capacity(walk->arena, ref)) {
			walk_violation(walk, "fanout: chunk %u holds more than it can", ref);
			return;
		}
		length += chunk->used;
		ref = chunk->next;
	}
	if (length != expected)
		walk_violation(walk, "fanout: the frame has %llu bytes instead of %llu",
			       (unsigned long long)length, (unsigned long long)expected);
}

/* References in the header are as wide as words: none is cut to one that looks good. */
static bool names_record(const struct arena_walk *walk, uint64_t ref, enum arena_class class,
			 uint32_t magic)
{
	return ref < walk->refs && walk_record_in_use(walk, (arena_ref)ref, class, magic);
}

static void walk_frames(struct arena_walk *walk, const struct fanout_record *fanout)
{
	if (fanout->frame >= walk->refs || fanout->deflated >= walk->refs ||
	    fanout->sequences >= walk->refs) {
		walk_violation(walk, "fanout: a frame outside the arena");
		return;
	}
	walk_frame(walk, (arena_ref)fanout->frame, fanout->frame_length);
	if ((fanout->messages > 1) != (fanout->sequences != 0))
		walk_violation(walk, "fanout: %llu messages without their sequences",
			       (unsigned long long)fanout->messages);
	else if (fanout->sequences)
		walk_frame(walk, (arena_ref)fanout->sequences, fanout->messages * sizeof(uint64_t));
	if (!fanout->deflated)
		return;
	walk_frame(walk, (arena_ref)fanout->deflated, fanout->deflated_length);
	if (fanout->deflated_window < 8 || fanout->deflated_window > 15)
		walk_violation(walk, "fanout: a window of %llu bits",
			       (unsigned long long)fanout->deflated_window);
}

static void walk_fanout(struct arena_walk *walk)
{
	const struct fanout_record *fanout = &walk->arena->header->fanout;
	uint64_t cursor = atomic_load(&fanout->cursor);
	const struct channel_record *channel;

	if (!fanout->batch) {
		if (fanout->frame || fanout->deflated || fanout->sequences)
			walk_violation(walk, "fanout: no batch, but a frame");
		return;
	}
	if (fanout->batch != fanout->last_batch)
		walk_violation(walk, "fanout: the batch under way is not the last one begun");
	walk_frames(walk, fanout);
	if (!names_record(walk, fanout->channel, ARENA_CHANNEL, CHANNEL_MAGIC)) {
		walk_violation(walk, "fanout: no channel");
		return;
	}
	channel = arena_at(walk->arena, (arena_ref)fanout->channel);
	if (fanout->kind > CHANNEL_MESSAGE_JOIN_LEAVE)
		walk_violation(walk, "fanout: a kind of messages that is none of ours");
	if (fanout->end > channel->count)
		walk_violation(walk, "fanout: its end is beyond the array");
	if (cursor != FANOUT_NONE && FANOUT_INDEX(cursor) >= fanout->end)
		walk_violation(walk, "fanout: the cursor is beyond the end");
}

static void walk_shard(struct arena_walk *walk, unsigned index)
{
	const struct shard_record *shards = walk->arena->header->shards;
	uint64_t redis = shards[index].passport;

	if (!memchr(shards[index].run, '\0', sizeof(shards[index].run)) ||
	    !memchr(shards[index].generation, '\0', sizeof(shards[index].generation)))
		walk_violation(walk, "shard %u: its run has no end", index);
	if (!redis)
		return;
	if (!names_record(walk, redis, ARENA_PASSPORT, PASSPORT_MAGIC) ||
	    ((const struct passport *)arena_at(walk->arena, (arena_ref)redis))->kind !=
		    PASSPORT_REDIS)
		walk_violation(walk, "shard %u: the subscription connection has no passport",
			       index);
	for (unsigned other = 0; other < index; other++) {
		if (shards[other].passport == redis)
			walk_violation(walk, "shard %u: its passport is shard %u's too", index,
				       other);
	}
}

static void walk_work(struct arena_walk *walk)
{
	const struct work_slot *work = &walk->arena->header->work;
	uint64_t syscall = atomic_load(&work->syscall);
	uint64_t serving = atomic_load(&work->serving);

	if (syscall && !walk_record_in_use(walk, WORK_REF(syscall), ARENA_PASSPORT, PASSPORT_MAGIC))
		walk_violation(walk, "work: a syscall on no connection");
	if (WORK_KIND(serving) == WORK_SERVING_CONNECTION &&
	    !walk_record_in_use(walk, WORK_REF(serving), ARENA_PASSPORT, PASSPORT_MAGIC))
		walk_violation(walk, "work: serving no connection");
	if (WORK_KIND(serving) == WORK_SERVING_BATCH &&
	    !walk_record_in_use(walk, WORK_REF(serving), ARENA_CHANNEL, CHANNEL_MAGIC))
		walk_violation(walk, "work: serving no channel");
	if (WORK_KIND(serving) > WORK_SERVING_BATCH || WORK_KIND(syscall) > WORK_SYSCALL_WRITE)
		walk_violation(walk, "work: of a kind that is none of ours");
}

void walk_header(struct arena_walk *walk)
{
	walk_begin(walk, WALK_OWNER_HEADER);
	walk_fanout(walk);
	walk->fanout_damaged = !walk_end(walk, VERDICT_NONE);
	for (unsigned shard = 0; shard < ARENA_SHARDS_MAX; shard++) {
		walk_begin(walk, WALK_OWNER_HEADER);
		walk_shard(walk, shard);
		if (!walk_end(walk, VERDICT_NONE))
			walk->shards_damaged |= (uint64_t)1 << shard;
	}
	walk_work(walk);
	if (!memchr(walk->arena->header->worker_name, '\0', ARENA_NAME_MAX))
		walk_violation(walk, "header: the worker's name has no end");
}

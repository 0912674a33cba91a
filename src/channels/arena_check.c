/* SPDX-License-Identifier: ISC */
/*
 * The walk over an arena that marks and checks, see arena_check.h. It trusts
 * nothing it reads: every reference is checked before it is followed, every
 * chain is bounded by the marks themselves.
 */
#include "keepsock/arena_check.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/hub.h"
#include "keepsock/passport.h"

#define REPORTED_MAX 100u
/* Entries of a subscriber array's block: only the first one of an array may be smaller. */
#define PAGE_ENTRIES ((ARENA_PAGE_SIZE - sizeof(struct arena_chunk)) / sizeof(struct subscriber))

struct check {
	const struct arena *arena;
	struct buffer *report;
	struct arena_census census;
	uint8_t *marks; /* per ref: enum mark */
	uint64_t refs;
};

enum mark {
	MARK_NONE,
	MARK_OWNED,        /* somebody's chunk */
	MARK_SUBSCRIPTION, /* a chunk that a passport lists as its subscription */
	MARK_SOUND,        /* a channel whose subscriber array can be walked */
};

__attribute__((format(printf, 2, 3))) static void violation(struct check *check, const char *fmt,
							    ...)
{
	char line[256];
	va_list args;

	if (check->census.violations++ >= REPORTED_MAX)
		return;
	va_start(args, fmt);
	vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	buffer_append_str(check->report, line);
	buffer_append_char(check->report, '\n');
}

static bool record_aligned(const struct check *check, arena_ref ref)
{
	size_t size = arena_class_size(arena_class_of(check->arena, ref));

	return size > 0 && (size_t)ref * ARENA_REF_SIZE % ARENA_PAGE_SIZE % size == 0;
}

/* Claims a chunk for `who`; false: it is no chunk, or somebody else's. */
static bool own_chunk(struct check *check, arena_ref ref, const char *who, arena_ref owner)
{
	if (ref >= check->refs || ref == 0) {
		violation(check, "%s %u: reference %u is outside the arena", who, owner, ref);
		return false;
	}
	if (arena_class_of(check->arena, ref) < ARENA_CHUNK_64 || !record_aligned(check, ref)) {
		violation(check, "%s %u: reference %u is no chunk", who, owner, ref);
		return false;
	}
	if (check->marks[ref]) {
		violation(check, "%s %u: chunk %u has two owners", who, owner, ref);
		return false;
	}
	check->marks[ref] = MARK_OWNED;
	check->census.chunks++;
	return true;
}

static bool record_in_use(const struct check *check, arena_ref ref, enum arena_class class,
			  uint32_t magic)
{
	if (ref == 0 || ref >= check->refs || arena_class_of(check->arena, ref) != class ||
	    !record_aligned(check, ref))
		return false;
	return *(const uint32_t *)arena_at(check->arena, ref) == magic;
}

/* --- queues --- */

static void check_queue(struct check *check, const struct stream_queue *queue, const char *name,
			arena_ref owner)
{
	arena_ref ref = queue->head;
	uint64_t base = 0, limit = 0;

	if (queue->done >= queue->end) {
		if (queue->head || queue->tail)
			violation(check, "%s %u: an empty queue holds chunks", name, owner);
		return;
	}
	if (!queue->head || !queue->tail) {
		violation(check, "%s %u: a queue of %llu bytes has no chunks", name, owner,
			  (unsigned long long)(queue->end - queue->done));
		return;
	}
	for (bool first = true;; first = false) {
		const struct arena_chunk *chunk;

		if (!own_chunk(check, ref, name, owner))
			return;
		chunk = arena_chunk_at(check->arena, ref);
		base = chunk->base;
		if (first && (queue->done < base ||
			      queue->done >= base + arena_chunk_capacity(check->arena, ref)))
			violation(check, "%s %u: the first chunk does not hold the front", name,
				  owner);
		if (!first && base != limit)
			violation(check, "%s %u: chunk %u does not follow", name, owner, ref);
		limit = base + arena_chunk_capacity(check->arena, ref);
		if (ref == queue->tail)
			break;
		ref = chunk->next;
	}
	if (queue->end <= base || queue->end > limit)
		violation(check, "%s %u: the last chunk does not hold the end", name, owner);
}

/* Messages: complete ones, then at most one incomplete one, which the passport names. */
static void check_messages(struct check *check, const struct passport *passport, arena_ref owner)
{
	const struct stream_queue *queue = &passport->messages;
	uint64_t at = queue->done;

	while (at < queue->end) {
		uint64_t word, length;

		if (at % 8 != 0 || queue->end - at < sizeof(word)) {
			violation(check, "messages %u: an entry is cut at %llu", owner,
				  (unsigned long long)at);
			return;
		}
		queue_copy(check->arena, queue, at, sizeof(word), &word);
		if (word == 0) {
			if (passport->partial_message != at)
				violation(check, "messages %u: an incomplete message nobody knows",
					  owner);
			return;
		}
		length = sizeof(word) + MESSAGE_PADDED(MESSAGE_LENGTH(word));
		if (length > queue->end - at) {
			violation(check, "messages %u: the last entry exceeds the queue", owner);
			return;
		}
		at += length;
	}
	if (passport->command_index > 0 && queue->done >= queue->end)
		violation(check, "messages %u: %u commands consumed of no message", owner,
			  passport->command_index);
}

/* --- passports --- */

static void check_identity(struct check *check, const struct passport *passport, arena_ref owner)
{
	const struct passport_identity *identity;
	size_t capacity;

	if (!passport->identity || !own_chunk(check, passport->identity, "identity", owner))
		return;
	identity = (const void *)arena_chunk_at(check->arena, passport->identity)->data;
	capacity = arena_chunk_capacity(check->arena, passport->identity);
	if (sizeof(*identity) + identity->data_length > capacity ||
	    (uint64_t)identity->user_length + identity->name_length + identity->version_length +
			    identity->info_length !=
		    identity->data_length)
		violation(check, "identity %u: lengths do not fit", owner);
}

/* Of a sound channel, and within its count. */
static struct subscriber entry_at(const struct check *check, const struct channel_record *record,
				  uint32_t index)
{
	arena_ref block = record->subscribers;
	const struct subscriber *entries;

	for (uint32_t i = index / PAGE_ENTRIES; i > 0; i--)
		block = arena_chunk_at(check->arena, block)->next;
	entries = (const void *)arena_chunk_at(check->arena, block)->data;
	return entries[index % PAGE_ENTRIES];
}

static void check_subscription(struct check *check, arena_ref ref, arena_ref owner,
			       arena_ref previous)
{
	const struct subscription_record *subscription = arena_at(check->arena, ref);
	const struct channel_record *channel;
	struct subscriber entry;

	check->census.subscriptions++;
	if (subscription->info && own_chunk(check, subscription->info, "subscription info", ref) &&
	    arena_chunk_at(check->arena, subscription->info)->used >
		    arena_chunk_capacity(check->arena, subscription->info))
		violation(check, "subscription %u: an info longer than its chunk", ref);
	if (subscription->passport != owner)
		violation(check, "subscription %u: belongs to %u, listed by %u", ref,
			  subscription->passport, owner);
	if (subscription->previous != previous)
		violation(check, "subscription %u: its list is not linked both ways", ref);
	if (!record_in_use(check, subscription->channel, ARENA_CHANNEL, CHANNEL_MAGIC)) {
		violation(check, "subscription %u: no channel", ref);
		return;
	}
	/* What is wrong with the array is told with its channel. */
	if (check->marks[subscription->channel] != MARK_SOUND)
		return;
	channel = arena_at(check->arena, subscription->channel);
	if (subscription->position >= channel->count) {
		violation(check, "subscription %u: beyond its channel's array", ref);
		return;
	}
	entry = entry_at(check, channel, subscription->position);
	if (entry.passport != owner || entry.subscription != ref)
		violation(check, "subscription %u: its channel's entry names another", ref);
}

static void check_passport(struct check *check, arena_ref ref)
{
	const struct passport *passport = arena_at(check->arena, ref);
	arena_ref subscription = passport->subscriptions, previous = 0;
	uint32_t count = 0;

	check->census.passports++;
	if (passport->version != PASSPORT_VERSION || passport->state == PASSPORT_STATE_FREE ||
	    passport->state >= PASSPORT_STATE_COUNT ||
	    (passport->kind != PASSPORT_CLIENT && passport->kind != PASSPORT_REDIS))
		violation(check, "passport %u: version, kind or state is none of ours", ref);
	if (passport->generation == 0 || passport->generation > check->arena->header->generation)
		violation(check, "passport %u: a generation that was never given", ref);
	check_queue(check, &passport->in, "in", ref);
	check_queue(check, &passport->messages, "messages", ref);
	check_queue(check, &passport->out, "out", ref);
	if (check->census.violations == 0)
		check_messages(check, passport, ref);
	check_identity(check, passport, ref);
	while (subscription) {
		if (!own_chunk(check, subscription, "subscriptions", ref))
			return;
		check->marks[subscription] = MARK_SUBSCRIPTION;
		check_subscription(check, subscription, ref, previous);
		count++;
		previous = subscription;
		subscription =
			((const struct subscription_record *)arena_at(check->arena, subscription))
				->next;
	}
	if (count != passport->subscription_count)
		violation(check, "passport %u: counts %u subscriptions, has %u", ref,
			  passport->subscription_count, count);
}

/* --- channels --- */

static bool check_blocks(struct check *check, const struct channel_record *record, arena_ref ref)
{
	arena_ref block = record->subscribers;
	uint64_t room = 0;

	for (uint32_t i = 0; i < record->blocks; i++) {
		if (!own_chunk(check, block, "subscribers", ref))
			return false;
		if (record->blocks > 1 && arena_class_of(check->arena, block) != ARENA_CHUNK_64K) {
			violation(check, "channel %u: a small block in a long array", ref);
			return false;
		}
		room += arena_chunk_capacity(check->arena, block) / sizeof(struct subscriber);
		block = arena_chunk_at(check->arena, block)->next;
	}
	if (record->count > room) {
		violation(check, "channel %u: more subscribers than its array holds", ref);
		return false;
	}
	return true;
}

static void check_channel(struct check *check, arena_ref ref)
{
	const struct channel_record *record = arena_at(check->arena, ref);

	check->census.channels++;
	if (record->state > CHANNEL_LEAVING || record->epoch_length > CHANNEL_EPOCH_MAX)
		violation(check, "channel %u: state or epoch is none of ours", ref);
	if (own_chunk(check, record->name, "name", ref) &&
	    record->name_length > arena_chunk_capacity(check->arena, record->name))
		violation(check, "channel %u: a name longer than its chunk", ref);
	if (check_blocks(check, record, ref))
		check->marks[ref] = MARK_SOUND;
}

static void check_entry(struct check *check, struct subscriber entry, arena_ref channel,
			uint32_t index)
{
	const struct subscription_record *subscription;

	if (!record_in_use(check, entry.passport, ARENA_PASSPORT, PASSPORT_MAGIC)) {
		violation(check, "channel %u: subscriber %u is no passport", channel, index);
		return;
	}
	if (entry.subscription >= check->refs ||
	    check->marks[entry.subscription] != MARK_SUBSCRIPTION) {
		violation(check, "channel %u: subscriber %u has no record", channel, index);
		return;
	}
	subscription = arena_at(check->arena, entry.subscription);
	if (subscription->channel != channel || subscription->position != index ||
	    subscription->passport != entry.passport)
		violation(check, "channel %u: subscriber %u's record names another place", channel,
			  index);
}

/* Once all passports told which subscriptions there are. */
static void check_entries(struct check *check, arena_ref ref)
{
	const struct channel_record *record = arena_at(check->arena, ref);
	uint32_t tombstones = 0;

	for (uint32_t i = 0; i < record->count; i++) {
		struct subscriber entry = entry_at(check, record, i);

		if (!entry.passport && !entry.subscription)
			tombstones++;
		else
			check_entry(check, entry, ref, i);
	}
	if (tombstones != record->tombstones)
		violation(check, "channel %u: counts %u tombstones, has %u", ref,
			  record->tombstones, tombstones);
}

/* --- the fan-out under way, the header --- */

static void check_frame(struct check *check, arena_ref ref, uint64_t expected)
{
	uint64_t length = 0;

	while (ref) {
		const struct arena_chunk *chunk;

		if (!own_chunk(check, ref, "fanout", 0))
			return;
		chunk = arena_chunk_at(check->arena, ref);
		if (chunk->used > arena_chunk_capacity(check->arena, ref)) {
			violation(check, "fanout: chunk %u holds more than it can", ref);
			return;
		}
		length += chunk->used;
		ref = chunk->next;
	}
	if (length != expected)
		violation(check, "fanout: the frame has %llu bytes instead of %llu",
			  (unsigned long long)length, (unsigned long long)expected);
}

static void check_fanout(struct check *check)
{
	const struct fanout_record *fanout = &check->arena->header->fanout;
	uint64_t cursor = atomic_load(&fanout->cursor);
	const struct channel_record *channel;

	if (!fanout->batch) {
		if (fanout->frame || fanout->deflated)
			violation(check, "fanout: no batch, but a frame");
		return;
	}
	if (fanout->batch != fanout->last_batch)
		violation(check, "fanout: the batch under way is not the last one begun");
	check_frame(check, (arena_ref)fanout->frame, fanout->frame_length);
	if (fanout->deflated) {
		check_frame(check, (arena_ref)fanout->deflated, fanout->deflated_length);
		if (fanout->deflated_window < 8 || fanout->deflated_window > 15)
			violation(check, "fanout: a window of %llu bits",
				  (unsigned long long)fanout->deflated_window);
	}
	if (!record_in_use(check, (arena_ref)fanout->channel, ARENA_CHANNEL, CHANNEL_MAGIC)) {
		violation(check, "fanout: no channel");
		return;
	}
	channel = arena_at(check->arena, (arena_ref)fanout->channel);
	if (fanout->kind > CHANNEL_MESSAGE_JOIN_LEAVE)
		violation(check, "fanout: a kind of messages that is none of ours");
	if (fanout->end > channel->count)
		violation(check, "fanout: its end is beyond the array");
	if (cursor != FANOUT_NONE && FANOUT_INDEX(cursor) >= fanout->end)
		violation(check, "fanout: the cursor is beyond the end");
}

static void check_shard(struct check *check, unsigned index)
{
	const struct shard_record *shards = check->arena->header->shards;
	uint64_t redis = shards[index].passport;

	if (!memchr(shards[index].run, '\0', sizeof(shards[index].run)) ||
	    !memchr(shards[index].generation, '\0', sizeof(shards[index].generation)))
		violation(check, "shard %u: its run has no end", index);
	if (!redis)
		return;
	if (redis >= check->refs ||
	    !record_in_use(check, (arena_ref)redis, ARENA_PASSPORT, PASSPORT_MAGIC) ||
	    ((const struct passport *)arena_at(check->arena, (arena_ref)redis))->kind !=
		    PASSPORT_REDIS)
		violation(check, "shard %u: the subscription connection has no passport", index);
	for (unsigned other = 0; other < index; other++) {
		if (shards[other].passport == redis)
			violation(check, "shard %u: its passport is shard %u's too", index, other);
	}
}

static void check_work(struct check *check)
{
	const struct work_slot *work = &check->arena->header->work;
	uint64_t syscall = atomic_load(&work->syscall);
	uint64_t serving = atomic_load(&work->serving);
	if (syscall && !record_in_use(check, WORK_REF(syscall), ARENA_PASSPORT, PASSPORT_MAGIC))
		violation(check, "work: a syscall on no connection");
	if (WORK_KIND(serving) == WORK_SERVING_CONNECTION &&
	    !record_in_use(check, WORK_REF(serving), ARENA_PASSPORT, PASSPORT_MAGIC))
		violation(check, "work: serving no connection");
	if (WORK_KIND(serving) == WORK_SERVING_BATCH &&
	    !record_in_use(check, WORK_REF(serving), ARENA_CHANNEL, CHANNEL_MAGIC))
		violation(check, "work: serving no channel");
}

struct arena_census arena_check(const struct arena *arena, struct buffer *report)
{
	struct check check = {
		.arena = arena,
		.report = report,
		.refs = arena->size / ARENA_REF_SIZE,
	};
	const struct arena_header *header = arena->header;
	arena_ref ref = 0;

	check.marks = xcalloc(check.refs, 1);
	for (uint32_t page = 0; page < header->page_count; page++) {
		uint8_t class = atomic_load(&header->page_class[page]);

		if (class >= ARENA_CLASSES ||
		    (page < arena->first_page) != (class == ARENA_RESERVED))
			violation(&check, "page %u: class %u is none of ours", page, class);
	}
	while ((ref = arena_record_next(arena, ARENA_CHANNEL, ref))) {
		if (((const struct channel_record *)arena_at(arena, ref))->magic == CHANNEL_MAGIC)
			check_channel(&check, ref);
	}
	while ((ref = arena_record_next(arena, ARENA_PASSPORT, ref))) {
		if (((const struct passport *)arena_at(arena, ref))->magic == PASSPORT_MAGIC)
			check_passport(&check, ref);
	}
	while ((ref = arena_record_next(arena, ARENA_CHANNEL, ref))) {
		if (check.marks[ref] == MARK_SOUND)
			check_entries(&check, ref);
	}
	check_fanout(&check);
	for (unsigned shard = 0; shard < ARENA_SHARDS_MAX; shard++)
		check_shard(&check, shard);
	check_work(&check);
	free(check.marks);
	return check.census;
}

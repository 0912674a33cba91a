/* SPDX-License-Identifier: ISC */
/*
 * Channels and their subscribers, see hub.h. Run by the worker. Every change of
 * a reachable word goes through a commit; the index and the counts kept in the
 * heap can all be rebuilt from the arena.
 */
#include "keepsock/hub.h"

#include <stdlib.h>
#include <string.h>

#include "channels/hub_private.h"
#include "keepsock/alloc.h"

#define CHANNEL_HEAP_MAGIC  0x6b6e6843u
#define BUCKETS_FIRST       1024u
#define BLOCK_ENTRIES_FIRST 6u /* what a 64-byte chunk holds */

void hub_init(struct hub *hub, struct arena *arena)
{
	memset(hub, 0, sizeof(*hub));
	hub->arena = arena;
	hub->bucket_count = BUCKETS_FIRST;
	hub->buckets = xcalloc(hub->bucket_count, sizeof(*hub->buckets));
}

void hub_free(struct hub *hub)
{
	struct channel *channel = NULL;

	while ((channel = hub_next(hub, channel))) {
		hub_held_free(channel);
		free(channel->blocks);
		channel->blocks = NULL;
	}
	free(hub->buckets);
	memset(hub, 0, sizeof(*hub));
}

struct slice hub_name(const struct hub *hub, const struct channel *channel)
{
	const struct channel_record *record = hub_record(hub, channel);

	return slice_from(arena_chunk_at(hub->arena, record->name)->data, record->name_length);
}

struct slice hub_epoch(const struct channel_record *record)
{
	return slice_from(record->epoch, record->epoch_length);
}

uint32_t hub_subscribers(const struct hub *hub, const struct channel *channel)
{
	const struct channel_record *record = hub_record(hub, channel);

	return record->count - record->tombstones + (uint32_t)record->unplaced;
}

struct channel *hub_channel_at(const struct hub *hub, arena_ref ref)
{
	return arena_companion(hub->arena, ref, sizeof(struct channel));
}

struct channel *hub_next(const struct hub *hub, const struct channel *previous)
{
	arena_ref ref = previous ? previous->ref : 0;

	while ((ref = arena_record_next(hub->arena, ARENA_CHANNEL, ref))) {
		const struct channel_record *record = arena_at(hub->arena, ref);

		if (record->magic == CHANNEL_MAGIC)
			return hub_channel_at(hub, ref);
	}
	return NULL;
}

struct channel *hub_find(const struct hub *hub, struct slice name)
{
	uint32_t hash = hub_hash_name(name);
	struct channel *channel = hub->buckets[hash & (hub->bucket_count - 1)];

	while (channel && (channel->hash != hash || !slice_equal(hub_name(hub, channel), name)))
		channel = channel->next_in_bucket;
	return channel;
}

static void grow_buckets(struct hub *hub)
{
	uint32_t count = hub->bucket_count * 2;
	struct channel **buckets = xcalloc(count, sizeof(*buckets));

	for (uint32_t i = 0; i < hub->bucket_count; i++) {
		struct channel *channel = hub->buckets[i];

		while (channel) {
			struct channel *next = channel->next_in_bucket;

			channel->next_in_bucket = buckets[channel->hash & (count - 1)];
			buckets[channel->hash & (count - 1)] = channel;
			channel = next;
		}
	}
	free(hub->buckets);
	hub->buckets = buckets;
	hub->bucket_count = count;
}

static void remember_block(struct channel *channel, uint32_t index, arena_ref block)
{
	if (index >= channel->blocks_capacity) {
		channel->blocks_capacity =
			channel->blocks_capacity ? channel->blocks_capacity * 2 : 4;
		channel->blocks =
			xrealloc(channel->blocks, channel->blocks_capacity * sizeof(arena_ref));
	}
	channel->blocks[index] = block;
}

struct channel *hub_enlist(struct hub *hub, arena_ref ref)
{
	const struct channel_record *record = arena_at(hub->arena, ref);
	struct channel *channel = hub_channel_at(hub, ref), **bucket;
	arena_ref block = record->subscribers;

	memset(channel, 0, sizeof(*channel));
	channel->magic = CHANNEL_HEAP_MAGIC;
	channel->ref = ref;
	channel->hash = hub_hash_name(hub_name(hub, channel));
	for (uint32_t i = 0; i < record->blocks; i++) {
		remember_block(channel, i, block);
		block = arena_chunk_at(hub->arena, block)->next;
	}
	if (hub->channel_count++ >= hub->bucket_count)
		grow_buckets(hub);
	bucket = &hub->buckets[channel->hash & (hub->bucket_count - 1)];
	channel->next_in_bucket = *bucket;
	*bucket = channel;
	return channel;
}

struct channel *hub_get(struct hub *hub, struct slice name)
{
	struct channel *channel = hub_find(hub, name);
	struct channel_record *record, fresh = {.magic = CHANNEL_MAGIC};
	arena_ref ref, name_ref;

	if (channel)
		return channel;
	ref = arena_record_alloc(hub->arena, ARENA_CHANNEL);
	name_ref = ref ? arena_chunk_alloc(hub->arena, name.len) : 0;
	if (!name_ref) {
		if (ref)
			arena_record_free(hub->arena, ref);
		return NULL;
	}
	memcpy(arena_chunk_at(hub->arena, name_ref)->data, name.data, name.len);
	arena_chunk_at(hub->arena, name_ref)->used = (uint32_t)name.len;
	fresh.name = name_ref;
	fresh.name_length = (uint16_t)name.len;
	record = arena_at(hub->arena, ref);
	/* The first word (magic, lengths) is the commit: until then the record is nobody's. */
	memcpy((uint8_t *)record + 8, (const uint8_t *)&fresh + 8, sizeof(fresh) - 8);
	arena_store(record, *(const uint64_t *)(const void *)&fresh);
	return hub_enlist(hub, ref);
}

void hub_release(struct hub *hub, struct channel *channel)
{
	struct channel_record *record = hub_record(hub, channel);
	struct channel **link = &hub->buckets[channel->hash & (hub->bucket_count - 1)];
	arena_ref name = record->name, ref = channel->ref;

	if (record->count || record->unplaced || record->unconfirmed || channel->waiting)
		abort();
	while (*link != channel)
		link = &(*link)->next_in_bucket;
	*link = channel->next_in_bucket;
	hub->channel_count--;
	hub_held_free(channel);
	arena_store(record, 0);
	for (uint32_t i = 0; i < record->blocks; i++)
		arena_chunk_free(hub->arena, channel->blocks[i]);
	free(channel->blocks);
	memset(channel, 0, sizeof(*channel));
	arena_chunk_free(hub->arena, name);
	arena_record_free(hub->arena, ref);
}

/* --- subscriber arrays --- */

/*
 * Blocks: the first grows by doubling until it is a whole page; behind it come
 * whole pages. So only block 0 is ever moved.
 */
static uint32_t block_entries(const struct hub *hub, arena_ref block)
{
	return (uint32_t)(arena_chunk_capacity(hub->arena, block) / sizeof(struct subscriber));
}

struct subscriber *hub_subscriber(const struct hub *hub, const struct channel *channel,
				  uint32_t index)
{
	arena_ref block = channel->blocks[index / PAGE_ENTRIES];

	return (struct subscriber *)(void *)arena_chunk_at(hub->arena, block)->data +
	       index % PAGE_ENTRIES;
}

static uint64_t subscriber_word(struct subscriber entry)
{
	uint64_t word;

	memcpy(&word, &entry, sizeof(word));
	return word;
}

/* Makes room for one more entry: a commit of its own, nothing else changes with it. */
static bool reserve_entry(struct hub *hub, struct channel *channel)
{
	struct channel_record *record = hub_record(hub, channel);
	struct channel_record now = *record;
	arena_ref old = record->blocks == 1 ? channel->blocks[0] : 0;
	uint32_t room = old ? block_entries(hub, old) : record->blocks * (uint32_t)PAGE_ENTRIES;
	struct arena_commit commit;
	arena_ref block;

	if (record->count < room)
		return true;
	if (old && room < PAGE_ENTRIES) {
		block = arena_chunk_alloc(hub->arena, (size_t)room * 2 * sizeof(struct subscriber));
		if (!block)
			return false;
		memcpy(arena_chunk_at(hub->arena, block)->data,
		       arena_chunk_at(hub->arena, old)->data,
		       record->count * sizeof(struct subscriber));
		now.subscribers = block;
	} else {
		block = arena_chunk_alloc(hub->arena,
					  (record->blocks ? PAGE_ENTRIES : BLOCK_ENTRIES_FIRST) *
						  sizeof(struct subscriber));
		if (!block)
			return false;
		if (record->blocks)
			arena_chunk_at(hub->arena, channel->blocks[record->blocks - 1])->next =
				block;
		else
			now.subscribers = block;
		old = 0;
		now.blocks++;
	}
	arena_commit_begin(&commit, hub->arena);
	arena_commit_add(&commit, &record->subscribers,
			 *(const uint64_t *)(const void *)&now.subscribers);
	arena_commit_apply(&commit);
	remember_block(channel, record->blocks - 1, block);
	if (old)
		arena_chunk_free(hub->arena, old);
	return true;
}

arena_ref hub_subscription_find(const struct hub *hub, const struct passport *passport,
				const struct channel *channel)
{
	arena_ref ref = passport->subscriptions;

	while (ref) {
		const struct subscription_record *subscription = arena_at(hub->arena, ref);

		if (subscription->channel == channel->ref)
			return ref;
		ref = subscription->next;
	}
	return 0;
}

/* {count, tombstones} are one word. */
static void commit_count(struct arena_commit *commit, struct channel_record *record, uint32_t count,
			 uint32_t tombstones)
{
	arena_commit_add(commit, &record->count, (uint64_t)tombstones << 32 | count);
}

arena_ref hub_subscription_add(struct hub *hub, struct passport_draft *draft,
			       struct channel *channel, uint64_t start_sequence, uint32_t flags)
{
	struct channel_record *record = hub_record(hub, channel);
	arena_ref passport = arena_ref_of(hub->arena, draft->live);
	struct subscription_record *subscription;
	arena_ref ref;

	if (!reserve_entry(hub, channel)) {
		draft->failed = true;
		return 0;
	}
	ref = passport_draft_chunk(draft, sizeof(*subscription) - sizeof(struct arena_chunk));
	if (!ref)
		return 0;
	subscription = arena_at(hub->arena, ref);
	*subscription = (struct subscription_record){
		.next = draft->now.subscriptions,
		.passport = passport,
		.channel = channel->ref,
		.position = record->count,
		.start_sequence = start_sequence,
		.flags = flags,
	};
	if (draft->now.subscriptions) {
		struct subscription_record *first = arena_at(hub->arena, draft->now.subscriptions);

		arena_commit_add(&draft->commit, &first->previous, ref);
	}
	/* The entry lies behind the committed count: nobody reads it before the commit. */
	*hub_subscriber(hub, channel, record->count) = (struct subscriber){passport, ref};
	commit_count(&draft->commit, record, record->count + 1, record->tombstones);
	draft->now.subscriptions = ref;
	draft->now.subscription_count++;
	if (start_sequence > channel->max_start_sequence)
		channel->max_start_sequence = start_sequence;
	return ref;
}

/* Takes entry `index` out of the array: the last one fills its place, or a tombstone does. */
static void remove_entry(struct hub *hub, struct arena_commit *commit, struct channel *channel,
			 uint32_t index, bool tombstone)
{
	struct channel_record *record = hub_record(hub, channel);
	struct subscriber *entry = hub_subscriber(hub, channel, index);
	struct subscriber last = *hub_subscriber(hub, channel, record->count - 1);

	if (tombstone) {
		arena_commit_add(commit, entry, 0);
		commit_count(commit, record, record->count, record->tombstones + 1);
		return;
	}
	if (index != record->count - 1) {
		arena_commit_add(commit, entry, subscriber_word(last));
		if (last.subscription) {
			struct subscription_record *moved = arena_at(hub->arena, last.subscription);

			/* {channel, position} are one word. */
			arena_commit_add(commit, &moved->channel,
					 (uint64_t)index << 32 | moved->channel);
		}
	}
	commit_count(commit, record, record->count - 1, record->tombstones);
}

void hub_subscription_remove(struct hub *hub, struct passport_draft *draft, arena_ref subscription,
			     bool fanning_out)
{
	struct subscription_record *record = arena_at(hub->arena, subscription);
	struct channel *channel = hub_channel_at(hub, record->channel);

	if (record->previous) {
		struct subscription_record *previous = arena_at(hub->arena, record->previous);

		/* {next, passport} are one word. */
		arena_commit_add(&draft->commit, &previous->next,
				 (uint64_t)previous->passport << 32 | record->next);
	} else {
		draft->now.subscriptions = record->next;
	}
	if (record->next) {
		struct subscription_record *next = arena_at(hub->arena, record->next);

		arena_commit_add(&draft->commit, &next->previous, record->previous);
	}
	draft->now.subscription_count--;
	/* Tombstones of an earlier fan-out may still stand: then the last entry could be one, and
	 * moving it is as good as moving any. */
	if (record->position == SUBSCRIPTION_UNPLACED)
		arena_commit_add(&draft->commit, &hub_record(hub, channel)->unplaced,
				 hub_record(hub, channel)->unplaced - 1);
	else
		remove_entry(hub, &draft->commit, channel, record->position, fanning_out);
	if (record->info)
		passport_draft_release(draft, record->info);
	passport_draft_release(draft, subscription);
}

void hub_subscription_counted(struct hub *hub, int change)
{
	hub->subscription_count = (uint64_t)((int64_t)hub->subscription_count + change);
}

void hub_compact(struct hub *hub, struct channel *channel)
{
	struct channel_record *record = hub_record(hub, channel);
	struct arena_commit commit;

	for (uint32_t i = record->count; i-- > 0 && record->tombstones > 0;) {
		if (hub_subscriber(hub, channel, i)->passport)
			continue;
		arena_commit_begin(&commit, hub->arena);
		remove_entry(hub, &commit, channel, i, false);
		commit_count(&commit, record, record->count - 1, record->tombstones - 1);
		arena_commit_apply(&commit);
	}
}

/* --- positions --- */

void hub_record_change(struct hub *hub, struct arena_commit *commit, struct channel *channel,
		       const struct channel_record *now)
{
	uint64_t *live = (uint64_t *)(void *)hub_record(hub, channel);
	const uint64_t *word = (const uint64_t *)(const void *)now;

	for (size_t i = 0; i < sizeof(*now) / sizeof(*word); i++) {
		if (live[i] != word[i])
			arena_commit_add(commit, &live[i], word[i]);
	}
}

void hub_position_set(struct hub *hub, struct arena_commit *commit, struct channel *channel,
		      struct slice epoch, uint64_t offset, uint64_t sequence)
{
	struct channel_record *record = hub_record(hub, channel);
	struct channel_record now = *record;

	if (epoch.len > 0 && epoch.len <= CHANNEL_EPOCH_MAX &&
	    !slice_equal(epoch, hub_epoch(record))) {
		memset(now.epoch, 0, sizeof(now.epoch));
		memcpy(now.epoch, epoch.data, epoch.len);
		now.epoch_length = (uint8_t)epoch.len;
		now.history = 1;
	}
	now.offset = offset;
	now.last_sequence = sequence;
	now.positioned = 1;
	hub_record_change(hub, commit, channel, &now);
}

void hub_sequences_reset(struct hub *hub, struct channel *channel)
{
	struct channel_record *record = hub_record(hub, channel);

	for (uint32_t i = 0; i < record->count; i++) {
		const struct subscriber *entry = hub_subscriber(hub, channel, i);

		if (entry->subscription)
			arena_store(&((struct subscription_record *)arena_at(hub->arena,
									     entry->subscription))
					     ->start_sequence,
				    0);
	}
	arena_store(&record->last_sequence, 0);
	channel->max_start_sequence = 0;
	channel->check_top = 0;
}

/* --- held messages --- */

bool hub_hold(struct channel *channel, const struct held_message *like, struct slice frame,
	      size_t limit)
{
	struct held_message *held;

	if (channel->held_bytes + frame.len > limit) {
		channel->held_overflow = true;
		return false;
	}
	held = xmalloc(sizeof(*held) + frame.len);
	*held = *like;
	held->next = NULL;
	held->length = frame.len;
	memcpy(held->frame, frame.data, frame.len);
	if (channel->held_last)
		channel->held_last->next = held;
	else
		channel->held_first = held;
	channel->held_last = held;
	channel->held_bytes += frame.len;
	return true;
}

void hub_held_free(struct channel *channel)
{
	while (channel->held_first) {
		struct held_message *next = channel->held_first->next;

		free(channel->held_first);
		channel->held_first = next;
	}
	channel->held_last = NULL;
	channel->held_bytes = 0;
	channel->held_overflow = false;
}

const struct held_message *hub_held_next(const struct channel *channel,
					 const struct held_message *previous, uint64_t stands_at)
{
	const struct held_message *held = previous ? previous->next : channel->held_first;

	while (held && !hub_is_served(stands_at, held->sequence))
		held = held->next;
	return held;
}

bool hub_held_position(const struct channel *channel, struct slice epoch, uint64_t *sequence,
		       uint64_t *offset)
{
	const struct held_message *held = NULL;
	uint64_t stands_at = *sequence;

	while ((held = hub_held_next(channel, held, stands_at))) {
		if (held->offset &&
		    (held->offset != *offset + 1 ||
		     !slice_equal(slice_from(held->epoch, held->epoch_length), epoch)))
			return false;
		if (held->offset)
			*offset = held->offset;
		*sequence = held->sequence;
	}
	return true;
}

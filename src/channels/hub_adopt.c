/* SPDX-License-Identifier: ISC */
/*
 * Adoption: acts on what the walk over a dead worker's arena found, see
 * arena_adoption.h. Run by the worker that follows. Its writes are single stores
 * and commits in such an order that the walk of another adoption, should this
 * one die in the middle, finds the same again.
 */
#include "keepsock/arena_adoption.h"

#include <string.h>

#include "channels/arena_walk.h"
#include "keepsock/clock.h"

struct adopting {
	struct hub *hub;
	struct arena *arena;
	struct arena_adoption *found;
	struct arena_walk walk;
};

static bool passport_in_use(const struct adopting *a, uint64_t ref)
{
	return ref < a->walk.refs &&
	       walk_record_in_use(&a->walk, (arena_ref)ref, ARENA_PASSPORT, PASSPORT_MAGIC);
}

static bool channel_in_use(const struct adopting *a, uint64_t ref)
{
	return ref < a->walk.refs &&
	       walk_record_in_use(&a->walk, (arena_ref)ref, ARENA_CHANNEL, CHANNEL_MAGIC);
}

static arena_ref next_channel(const struct adopting *a, arena_ref previous)
{
	arena_ref ref = previous;

	while ((ref = arena_record_next(a->arena, ARENA_CHANNEL, ref))) {
		if (channel_in_use(a, ref))
			return ref;
	}
	return 0;
}

/* --- the header --- */

/* Nobody can tell whom a damaged fan-out served: its channel is damaged, too. */
static void judge_fanout(struct adopting *a)
{
	const struct fanout_record *fanout = &a->arena->header->fanout;

	if (!a->walk.fanout_damaged &&
	    (!fanout->batch ||
	     arena_walk_verdict(&a->walk, (arena_ref)fanout->channel) == VERDICT_SOUND))
		return;
	if (channel_in_use(a, fanout->channel))
		walk_judge(&a->walk, (arena_ref)fanout->channel, VERDICT_DAMAGED);
	a->found->fanout_lost = true;
}

/* Once its channel was settled: until then it says what is to be done. */
static void drop_fanout(struct adopting *a)
{
	struct fanout_record *fanout = &a->arena->header->fanout;
	struct work_slot *work = &a->arena->header->work;
	struct arena_commit commit;

	arena_commit_begin(&commit, a->arena);
	arena_commit_add(&commit, &fanout->batch, 0);
	arena_commit_add(&commit, &fanout->frame, 0);
	arena_commit_add(&commit, &fanout->deflated, 0);
	arena_commit_add(&commit, &fanout->sequences, 0);
	if (WORK_KIND(atomic_load(&work->serving)) == WORK_SERVING_BATCH)
		arena_commit_add(&commit, &work->serving, 0);
	arena_commit_apply(&commit);
}

/* A shard that does not know its run can't go on with its connection. */
static void judge_shards(struct adopting *a)
{
	for (unsigned i = 0; i < ARENA_SHARDS_MAX; i++) {
		struct shard_record *shard = &a->arena->header->shards[i];

		if (!(a->walk.shards_damaged >> i & 1))
			continue;
		if (passport_in_use(a, shard->passport) &&
		    ((const struct passport *)arena_at(a->arena, (arena_ref)shard->passport))
				    ->kind == PASSPORT_REDIS)
			walk_judge(&a->walk, (arena_ref)shard->passport, VERDICT_LOST);
		if (!memchr(shard->run, '\0', sizeof(shard->run)))
			arena_store(shard->run, 0);
		if (!memchr(shard->generation, '\0', sizeof(shard->generation)))
			arena_store(shard->generation, 0);
	}
}

/* Whatever the header names has to be there. */
static void settle_header(struct adopting *a)
{
	struct arena_header *header = a->arena->header;
	uint64_t syscall = atomic_load(&header->work.syscall);
	uint64_t serving = atomic_load(&header->work.serving);

	for (unsigned i = 0; i < ARENA_SHARDS_MAX; i++) {
		uint64_t ref = header->shards[i].passport;

		if (!ref || (passport_in_use(a, ref) &&
			     ((const struct passport *)arena_at(a->arena, (arena_ref)ref))->kind ==
				     PASSPORT_REDIS))
			continue;
		arena_store(&header->shards[i].passport, 0);
		a->found->shards_lost |= (uint64_t)1 << i;
		a->found->states_lost = true;
	}
	if (syscall &&
	    (WORK_KIND(syscall) > WORK_SYSCALL_WRITE || !passport_in_use(a, WORK_REF(syscall)))) {
		arena_store(&header->work.syscall, 0);
		a->found->work_lost = true;
	}
	if ((WORK_KIND(serving) == WORK_SERVING_CONNECTION &&
	     !passport_in_use(a, WORK_REF(serving))) ||
	    (WORK_KIND(serving) == WORK_SERVING_BATCH && !channel_in_use(a, WORK_REF(serving))) ||
	    WORK_KIND(serving) > WORK_SERVING_BATCH) {
		arena_store(&header->work.serving, 0);
		a->found->work_lost = true;
	}
}

/* --- passports and channels --- */

/* The magic goes first: entries that name nobody's subscription are found again at any time. */
static void drop_passports(struct adopting *a)
{
	arena_ref ref = 0;

	while ((ref = passport_next(a->arena, ref))) {
		struct passport *passport = arena_at(a->arena, ref);

		if (arena_walk_verdict(&a->walk, ref) == VERDICT_SOUND) {
			a->found->passports++;
			continue;
		}
		a->found->passports_lost++;
		a->found->states_lost |= passport->kind == PASSPORT_REDIS;
		arena_store(passport, 0);
	}
}

/* Only its name is left, and what Redis was asked for if that makes sense. */
static void reset_channel(struct adopting *a, arena_ref ref)
{
	struct channel_record *record = arena_at(a->arena, ref);
	struct channel_record now = {
		.magic = CHANNEL_MAGIC,
		.name = record->name,
		.name_length = record->name_length,
		.reserved_link = record->reserved_link,
	};
	const uint64_t *word = (const uint64_t *)(const void *)&now;
	struct arena_commit commit;

	if (walk_state_sane(record)) {
		now.state = record->state;
		now.unconfirmed = record->unconfirmed;
	} else {
		a->found->states_lost = true;
	}
	arena_commit_begin(&commit, a->arena);
	for (size_t i = 0; i < sizeof(now) / sizeof(*word); i++)
		arena_commit_add(&commit, (uint64_t *)(void *)record + i, word[i]);
	arena_commit_apply(&commit);
}

static void settle_channels(struct adopting *a)
{
	arena_ref ref = 0;

	while ((ref = next_channel(a, ref))) {
		struct channel_record *record = arena_at(a->arena, ref);

		/* Nobody subscribes to it any more: that would have cost the passport. */
		if (arena_walk_verdict(&a->walk, ref) == VERDICT_LOST) {
			arena_store(record, 0);
			a->found->channels_lost++;
			a->found->states_lost = true;
			continue;
		}
		if (arena_walk_verdict(&a->walk, ref) == VERDICT_DAMAGED)
			reset_channel(a, ref);
		else if (record->unplaced)
			arena_store(&record->unplaced, 0); /* counted anew below */
		(void)hub_enlist(a->hub, ref);
		a->found->channels++;
	}
}

static void unplace(struct adopting *a, struct subscription_record *subscription)
{
	struct channel_record *record = arena_at(a->arena, subscription->channel);
	struct arena_commit commit;

	arena_commit_begin(&commit, a->arena);
	/* {channel, position} are one word. */
	arena_commit_add(&commit, &subscription->channel,
			 (uint64_t)SUBSCRIPTION_UNPLACED << 32 | subscription->channel);
	arena_commit_add(&commit, &record->unplaced, record->unplaced + 1);
	arena_commit_apply(&commit);
	a->found->channels_unplaced += record->unplaced == 1;
	a->found->unplaced++;
}

static void settle_subscriptions(struct adopting *a)
{
	arena_ref passport = 0;

	while ((passport = passport_next(a->arena, passport))) {
		arena_ref ref = ((struct passport *)arena_at(a->arena, passport))->subscriptions;

		while (ref) {
			struct subscription_record *subscription = arena_at(a->arena, ref);
			struct channel *channel = hub_channel_at(a->hub, subscription->channel);

			if (subscription->position == SUBSCRIPTION_UNPLACED ||
			    arena_walk_verdict(&a->walk, channel->ref) == VERDICT_DAMAGED)
				unplace(a, subscription);
			else if (subscription->start_sequence > channel->max_start_sequence)
				channel->max_start_sequence = subscription->start_sequence;
			a->hub->subscription_count++;
			ref = subscription->next;
		}
	}
}

/* Entries without a subscription of their own become tombstones, which are counted anew. */
static void settle_entries(struct adopting *a)
{
	struct channel *channel = NULL;

	while ((channel = hub_next(a->hub, channel))) {
		struct channel_record *record = hub_record(a->hub, channel);
		uint32_t tombstones = 0;

		for (uint32_t i = 0; i < record->count; i++) {
			struct subscriber *entry = hub_subscriber(a->hub, channel, i);

			if ((entry->passport || entry->subscription) &&
			    !arena_walk_entry_kept(&a->walk, channel->ref, i, *entry)) {
				arena_store(entry, 0);
				a->found->entries_dropped++;
			}
			tombstones += !entry->passport;
		}
		if (tombstones != record->tombstones)
			/* {count, tombstones} are one word. */
			arena_store(&record->count, (uint64_t)tombstones << 32 | record->count);
	}
}

/* The fan-out under way counts by places. */
static void close_up(struct adopting *a)
{
	const struct fanout_record *fanout = &a->arena->header->fanout;
	struct channel *channel = NULL;

	while ((channel = hub_next(a->hub, channel))) {
		if (hub_record(a->hub, channel)->tombstones > 0 &&
		    !(fanout->batch && fanout->channel == channel->ref))
			hub_compact(a->hub, channel);
	}
}

/* --- what is in use --- */

static bool chunk_in_use(const struct adopting *a, arena_ref ref)
{
	arena_ref owner = a->walk.owners[ref];

	if (owner == 0)
		return false;
	if (owner == WALK_OWNER_HEADER)
		return a->arena->header->fanout.batch != 0;
	if (arena_class_of(a->arena, owner) == ARENA_PASSPORT)
		return passport_in_use(a, owner);
	return channel_in_use(a, owner) && ((a->walk.marks[ref] & MARKS) == MARK_NAME ||
					    arena_walk_verdict(&a->walk, owner) == VERDICT_SOUND);
}

static bool in_use(void *context, arena_ref ref)
{
	struct adopting *a = context;
	bool used;

	switch (arena_class_of(a->arena, ref)) {
	case ARENA_PASSPORT: return passport_in_use(a, ref);
	case ARENA_CHANNEL: return channel_in_use(a, ref);
	default: break;
	}
	used = chunk_in_use(a, ref);
	a->found->chunks += used;
	return used;
}

void hub_adopt(struct hub *hub, struct arena *arena, struct arena_adoption *adoption)
{
	struct adopting a = {.hub = hub, .arena = arena, .found = adoption};
	uint64_t started = clock_boottime_ns();

	memset(adoption, 0, sizeof(*adoption));
	hub_init(hub, arena);
	arena_walk_run(&a.walk, arena, &adoption->report);

	judge_fanout(&a);
	judge_shards(&a);
	drop_passports(&a);
	settle_channels(&a);
	settle_subscriptions(&a);
	settle_entries(&a);
	if (adoption->fanout_lost)
		drop_fanout(&a);
	settle_header(&a);
	arena_rebuild(arena, in_use, &a);
	close_up(&a);

	adoption->subscriptions = hub->subscription_count;
	adoption->violations = a.walk.census.violations;
	adoption->pages_lost = arena->pages_lost;
	adoption->bytes = arena_bytes_used(arena);
	arena_walk_free(&a.walk);
	adoption->duration_us = (clock_boottime_ns() - started) / 1000;
}

void arena_adoption_free(struct arena_adoption *adoption)
{
	buffer_free(&adoption->report);
	memset(adoption, 0, sizeof(*adoption));
}

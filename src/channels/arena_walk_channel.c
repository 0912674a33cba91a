/* SPDX-License-Identifier: ISC */
/*
 * The walk over channels: names, subscriber arrays, and whether these and the
 * subscriptions agree, see arena_walk.h.
 */
#include <stdlib.h>

#include "channels/arena_walk.h"
#include "keepsock/alloc.h"

/* --- names --- */

static struct slice name_of(const struct arena_walk *walk, arena_ref ref)
{
	const struct channel_record *record = arena_at(walk->arena, ref);

	return slice_from(arena_chunk_at(walk->arena, record->name)->data, record->name_length);
}

/* False: another channel has that name. */
static bool take_name(struct arena_walk *walk, arena_ref ref)
{
	struct slice name = name_of(walk, ref);
	uint64_t slot = hub_hash_name(name) & (walk->name_slots - 1);

	for (; walk->names[slot]; slot = (slot + 1) & (walk->name_slots - 1)) {
		if (slice_equal(name_of(walk, walk->names[slot]), name))
			return false;
	}
	walk->names[slot] = ref;
	return true;
}

static void walk_name(struct arena_walk *walk, const struct channel_record *record)
{
	enum walk_claim claim = walk_claim(walk, record->name, MARK_NAME, "name");
	arena_ref ref = walk->subject;

	if (claim == CLAIM_NO_CHUNK)
		return;
	if (record->name_length > arena_chunk_capacity(walk->arena, record->name))
		walk_violation(walk, "channel %u: a name longer than its chunk", ref);
	else if (record->name_length != arena_chunk_at(walk->arena, record->name)->used)
		walk_violation(walk, "channel %u: a name of another length", ref);
	else if (claim == CLAIM_OWN && !take_name(walk, ref))
		walk_violation(walk, "channel %u: another one has its name", ref);
}

/* Something is outstanding exactly in those states that wait for it. */
bool walk_state_sane(const struct channel_record *record)
{
	return record->state <= CHANNEL_LEAVING &&
	       (record->unconfirmed > 0) ==
		       (record->state == CHANNEL_JOINING || record->state == CHANNEL_LEAVING);
}

void walk_channel(struct arena_walk *walk, arena_ref ref)
{
	const struct channel_record *record = arena_at(walk->arena, ref);

	walk_begin(walk, ref);
	walk->census.channels++;
	walk_name(walk, record);
	if (!walk_end(walk, VERDICT_LOST))
		return;
	if (!walk_state_sane(record))
		walk_violation(walk, "channel %u: a state it can't have come to", ref);
	if (record->epoch_length > CHANNEL_EPOCH_MAX)
		walk_violation(walk, "channel %u: an epoch that is too long", ref);
	(void)walk_end(walk, VERDICT_DAMAGED);
}

/* --- subscriber arrays --- */

static void claim_blocks(struct arena_walk *walk, const struct channel_record *record)
{
	arena_ref block = record->subscribers, ref = walk->subject;
	uint64_t room = 0;

	for (uint32_t i = 0; i < record->blocks; i++) {
		if (walk_claim(walk, block, MARK_BLOCK, "subscribers") != CLAIM_OWN)
			return;
		if (record->blocks > 1 && arena_class_of(walk->arena, block) != ARENA_CHUNK_64K) {
			walk_violation(walk, "channel %u: a small block in a long array", ref);
			return;
		}
		room += arena_chunk_capacity(walk->arena, block) / sizeof(struct subscriber);
		block = arena_chunk_at(walk->arena, block)->next;
	}
	if (record->count > room)
		walk_violation(walk, "channel %u: more subscribers than its array holds", ref);
}

void walk_channel_blocks(struct arena_walk *walk, arena_ref ref)
{
	if (arena_walk_verdict(walk, ref) == VERDICT_LOST)
		return;
	walk_begin(walk, ref);
	claim_blocks(walk, arena_at(walk->arena, ref));
	(void)walk_end(walk, VERDICT_DAMAGED);
}

const struct subscription_record *walk_entry_subscription(const struct arena_walk *walk,
							  struct subscriber entry)
{
	if (entry.subscription >= walk->refs ||
	    (walk->marks[entry.subscription] & MARKS) != MARK_SUBSCRIPTION)
		return NULL;
	return arena_at(walk->arena, entry.subscription);
}

static void walk_entry(struct arena_walk *walk, struct subscriber entry, arena_ref channel,
		       uint32_t index)
{
	const struct subscription_record *subscription = walk_entry_subscription(walk, entry);

	if (!walk_record_in_use(walk, entry.passport, ARENA_PASSPORT, PASSPORT_MAGIC)) {
		walk_violation(walk, "channel %u: subscriber %u is no passport", channel, index);
	} else if (!subscription) {
		walk_violation(walk, "channel %u: subscriber %u has no record", channel, index);
	} else if (subscription->channel != channel || subscription->position != index ||
		   subscription->passport != entry.passport) {
		walk_violation(walk, "channel %u: subscriber %u's record names another place",
			       channel, index);
		walk->marks[entry.subscription] |= MARK_MISPLACED;
	}
}

/* What nobody misses of the array is no reason to give up the channel. */
void walk_channel_entries(struct arena_walk *walk, arena_ref ref)
{
	const struct channel_record *record = arena_at(walk->arena, ref);
	arena_ref block = record->subscribers;
	const struct subscriber *entries = NULL;
	uint32_t tombstones = 0;

	if (arena_walk_verdict(walk, ref) != VERDICT_SOUND)
		return;
	for (uint32_t i = 0; i < record->count; i++) {
		if (i % PAGE_ENTRIES == 0) {
			entries = (const void *)arena_chunk_at(walk->arena, block)->data;
			block = arena_chunk_at(walk->arena, block)->next;
		}
		if (!entries[i % PAGE_ENTRIES].passport && !entries[i % PAGE_ENTRIES].subscription)
			tombstones++;
		else
			walk_entry(walk, entries[i % PAGE_ENTRIES], ref, i);
	}
	if (tombstones != record->tombstones)
		walk_violation(walk, "channel %u: counts %u tombstones, has %u", ref,
			       record->tombstones, tombstones);
	if (walk->owners[ref] != record->unplaced)
		walk_violation(walk, "channel %u: counts %llu without a place, has %u", ref,
			       (unsigned long long)record->unplaced, walk->owners[ref]);
}

/* --- whether both ends agree --- */

/* Of a sound channel, and within its count. */
static struct subscriber entry_at(const struct arena_walk *walk,
				  const struct channel_record *record, uint32_t index)
{
	arena_ref block = record->subscribers;
	const struct subscriber *entries;

	for (uint32_t i = index / PAGE_ENTRIES; i > 0; i--)
		block = arena_chunk_at(walk->arena, block)->next;
	entries = (const void *)arena_chunk_at(walk->arena, block)->data;
	return entries[index % PAGE_ENTRIES];
}

static void add_misfit(struct arena_walk *walk, arena_ref subscription, bool own_fault)
{
	const struct subscription_record *record = arena_at(walk->arena, subscription);

	if (walk->misfit_count == walk->misfit_capacity) {
		walk->misfit_capacity = walk->misfit_capacity * 2 + 8;
		walk->misfits =
			xrealloc(walk->misfits, walk->misfit_capacity * sizeof(*walk->misfits));
	}
	walk->misfits[walk->misfit_count++] = (struct walk_misfit){
		record->channel,
		subscription,
		walk->owners[subscription],
		own_fault || (walk->marks[subscription] & MARK_MISPLACED),
	};
}

static void walk_place(struct arena_walk *walk, arena_ref ref)
{
	const struct subscription_record *subscription = arena_at(walk->arena, ref), *other;
	const struct channel_record *channel = arena_at(walk->arena, subscription->channel);
	struct subscriber entry;

	/* What is wrong with the array was told with its channel. */
	if (arena_walk_verdict(walk, subscription->channel) != VERDICT_SOUND)
		return;
	if (subscription->position >= channel->count) {
		walk_violation(walk, "subscription %u: beyond its channel's array", ref);
		add_misfit(walk, ref, false);
		return;
	}
	entry = entry_at(walk, channel, subscription->position);
	if (entry.passport == walk->owners[ref] && entry.subscription == ref)
		return;
	walk_violation(walk, "subscription %u: its channel's entry names another", ref);
	other = entry.subscription == ref ? NULL : walk_entry_subscription(walk, entry);
	add_misfit(walk, ref,
		   other && other->channel == subscription->channel &&
			   other->position == subscription->position);
}

void walk_places(struct arena_walk *walk, arena_ref passport)
{
	arena_ref ref = ((const struct passport *)arena_at(walk->arena, passport))->subscriptions;

	/* Only of a sound one it is known that the list can be followed. */
	if (arena_walk_verdict(walk, passport) != VERDICT_SOUND)
		return;
	while (ref) {
		const struct subscription_record *subscription = arena_at(walk->arena, ref);

		if (subscription->position != SUBSCRIPTION_UNPLACED)
			walk_place(walk, ref);
		ref = subscription->next;
	}
}

static int by_channel(const void *a, const void *b)
{
	const struct walk_misfit *left = a, *right = b;

	return (left->channel > right->channel) - (left->channel < right->channel);
}

/*
 * A single subscription that says another place than the one it has is itself
 * damaged. Otherwise it is the array: several don't go wrong by themselves, and
 * one that the array has nowhere is missing there.
 */
void walk_judge_misfits(struct arena_walk *walk)
{
	const struct walk_misfit *misfits = walk->misfits;
	size_t count = walk->misfit_count;

	if (count == 0)
		return;
	qsort(walk->misfits, count, sizeof(*walk->misfits), by_channel);
	for (size_t i = 0; i < count; i++) {
		bool alone = (i == 0 || misfits[i - 1].channel != misfits[i].channel) &&
			     (i + 1 == count || misfits[i + 1].channel != misfits[i].channel);

		if (alone && misfits[i].own_fault)
			walk_judge(walk, misfits[i].passport, VERDICT_LOST);
		else
			walk_judge(walk, misfits[i].channel, VERDICT_DAMAGED);
	}
}

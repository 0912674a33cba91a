/* SPDX-License-Identifier: ISC */
/*
 * The walk's order, claims and verdicts, see arena_walk.h. Run by the crash
 * checker and by a worker that adopts an arena.
 */
#include "channels/arena_walk.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"

#define REPORTED_MAX 100u

static void report_line(struct arena_walk *walk, const char *fmt, va_list args)
{
	char line[256];

	if (walk->census.violations++ >= REPORTED_MAX)
		return;
	vsnprintf(line, sizeof(line), fmt, args);
	buffer_append_str(walk->report, line);
	buffer_append_char(walk->report, '\n');
}

void walk_violation(struct arena_walk *walk, const char *fmt, ...)
{
	va_list args;

	walk->faults++;
	va_start(args, fmt);
	report_line(walk, fmt, args);
	va_end(args);
}

/* --- claims --- */

__attribute__((format(printf, 2, 3))) static void report_conflict(struct arena_walk *walk,
								  const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	report_line(walk, fmt, args);
	va_end(args);
}

static void remember_conflict(struct arena_walk *walk, arena_ref ref)
{
	if (walk->conflict_count == walk->conflict_capacity) {
		walk->conflict_capacity = walk->conflict_capacity * 2 + 8;
		walk->conflicts = xrealloc(walk->conflicts,
					   walk->conflict_capacity * sizeof(*walk->conflicts));
	}
	walk->conflicts[walk->conflict_count++] = ref;
}

static bool owner_lost(const struct arena_walk *walk, arena_ref owner)
{
	return owner != WALK_OWNER_HEADER && walk->marks[owner] == VERDICT_LOST;
}

enum walk_claim walk_claim(struct arena_walk *walk, arena_ref ref, enum walk_mark mark,
			   const char *who)
{
	enum arena_class class;

	if (ref == 0 || ref >= walk->refs) {
		walk_violation(walk, "%s %u: reference %u is outside the arena", who, walk->subject,
			       ref);
		return CLAIM_NO_CHUNK;
	}
	class = arena_class_of(walk->arena, ref);
	if (class < ARENA_CHUNK_64 || class >= ARENA_CLASSES ||
	    !arena_ref_valid(walk->arena, ref, class)) {
		walk_violation(walk, "%s %u: reference %u is no chunk", who, walk->subject, ref);
		return CLAIM_NO_CHUNK;
	}
	if (walk->owners[ref] == walk->subject) {
		walk_violation(walk, "%s %u: chunk %u has two owners, both are this one", who,
			       walk->subject, ref);
		return CLAIM_NO_CHUNK;
	}
	if (walk->owners[ref] &&
	    (!owner_lost(walk, walk->owners[ref]) || (walk->marks[ref] & MARK_DISPUTED))) {
		report_conflict(walk, "%s %u: chunk %u has two owners, the other is %u", who,
				walk->subject, ref, walk->owners[ref]);
		remember_conflict(walk, ref);
		return CLAIM_DISPUTED;
	}
	walk->census.chunks += walk->owners[ref] == 0;
	walk->owners[ref] = walk->subject;
	walk->marks[ref] = (uint8_t)mark;
	return CLAIM_OWN;
}

bool walk_record_in_use(const struct arena_walk *walk, arena_ref ref, enum arena_class class,
			uint32_t magic)
{
	return ref < walk->refs && arena_ref_valid(walk->arena, ref, class) &&
	       *(const uint32_t *)arena_at(walk->arena, ref) == magic;
}

/* --- verdicts --- */

void walk_judge(struct arena_walk *walk, arena_ref record, enum walk_verdict verdict)
{
	if (record != WALK_OWNER_HEADER && walk->marks[record] < verdict)
		walk->marks[record] = (uint8_t)verdict;
}

void walk_begin(struct arena_walk *walk, arena_ref subject)
{
	walk->subject = subject;
	walk->faults = 0;
	walk->conflict_count = 0;
	walk_judge(walk, subject, VERDICT_SOUND);
}

/* Who came first has the better claim if it is of a kind that is walked earlier: names tell by
 * their length, and passports by more, whether they are what they are taken for. */
static bool same_kind(const struct arena_walk *walk, arena_ref owner)
{
	return owner != WALK_OWNER_HEADER && walk->subject != WALK_OWNER_HEADER &&
	       arena_class_of(walk->arena, owner) == arena_class_of(walk->arena, walk->subject);
}

bool walk_end(struct arena_walk *walk, enum walk_verdict cost)
{
	for (size_t i = 0; i < walk->conflict_count && walk->faults == 0; i++) {
		arena_ref ref = walk->conflicts[i], owner = walk->owners[ref];

		if (!same_kind(walk, owner) ||
		    ((walk->marks[ref] & MARKS) == MARK_NAME && cost == VERDICT_DAMAGED))
			continue;
		walk->marks[ref] |= MARK_DISPUTED;
		walk_judge(walk, owner, cost);
	}
	if (walk->faults == 0 && walk->conflict_count == 0)
		return true;
	walk_judge(walk, walk->subject, cost);
	return false;
}

bool arena_walk_entry_kept(const struct arena_walk *walk, arena_ref channel, uint32_t index,
			   struct subscriber entry)
{
	const struct subscription_record *subscription = walk_entry_subscription(walk, entry);

	return subscription && entry.passport == walk->owners[entry.subscription] &&
	       arena_walk_verdict(walk, entry.passport) == VERDICT_SOUND &&
	       subscription->channel == channel && subscription->position == index;
}

/* --- the whole --- */

static void walk_classes(struct arena_walk *walk)
{
	const struct arena *arena = walk->arena;

	for (uint32_t page = 0; page < arena->header->page_count; page++) {
		uint8_t class = atomic_load(&arena->header->page_class[page]);

		if (class >= ARENA_CLASSES ||
		    (page < arena->first_page) != (class == ARENA_RESERVED))
			walk_violation(walk, "page %u: class %u is none of ours", page, class);
	}
}

static void walk_each(struct arena_walk *walk, enum arena_class class, uint32_t magic,
		      void (*visit)(struct arena_walk *, arena_ref))
{
	arena_ref ref = 0;

	while ((ref = arena_record_next(walk->arena, class, ref))) {
		if (*(const uint32_t *)arena_at(walk->arena, ref) == magic)
			visit(walk, ref);
	}
}

static void make_name_table(struct arena_walk *walk)
{
	uint64_t channels = 0;
	arena_ref ref = 0;

	while ((ref = arena_record_next(walk->arena, ARENA_CHANNEL, ref)))
		channels++;
	walk->name_slots = 16;
	while (walk->name_slots < channels * 2)
		walk->name_slots *= 2;
	walk->names = xcalloc(walk->name_slots, sizeof(*walk->names));
}

void arena_walk_run(struct arena_walk *walk, const struct arena *arena, struct buffer *report)
{
	memset(walk, 0, sizeof(*walk));
	walk->arena = arena;
	walk->report = report;
	walk->refs = arena->size / ARENA_REF_SIZE;
	/* Only what is in use is ever touched of these. */
	walk->marks = xcalloc(walk->refs, sizeof(*walk->marks));
	walk->owners = xcalloc(walk->refs, sizeof(*walk->owners));
	make_name_table(walk);

	walk_classes(walk);
	walk_each(walk, ARENA_CHANNEL, CHANNEL_MAGIC, walk_channel);
	walk_each(walk, ARENA_PASSPORT, PASSPORT_MAGIC, walk_passport);
	walk_each(walk, ARENA_CHANNEL, CHANNEL_MAGIC, walk_channel_blocks);
	walk_each(walk, ARENA_CHANNEL, CHANNEL_MAGIC, walk_channel_entries);
	walk_each(walk, ARENA_PASSPORT, PASSPORT_MAGIC, walk_places);
	walk_judge_misfits(walk);
	walk_header(walk);
}

void arena_walk_free(struct arena_walk *walk)
{
	free(walk->marks);
	free(walk->owners);
	free(walk->names);
	free(walk->misfits);
	free(walk->conflicts);
	memset(walk, 0, sizeof(*walk));
}

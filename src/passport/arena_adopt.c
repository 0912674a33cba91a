/* SPDX-License-Identifier: ISC */
/*
 * Taking over an arena: everything in the heap half of struct arena is made
 * anew from what is reachable. Run by a worker that follows another one, or takes
 * over from it; the ownership word says from when on. Must never change a word
 * before it is sure that the arena is one it can use and its own, and
 * never free what somebody may still reach: that is for the caller to say.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "keepsock/alloc.h"
#include "keepsock/arena_layout.h"
#include "passport/arena_pages.h"

/* --- adopting --- */

/* The classes decide how pages are read: one that is none of ours makes a page unreadable. */
static void check_classes(struct arena *arena)
{
	for (uint32_t page = 0; page < arena->header->page_count; page++) {
		uint8_t class = atomic_load(&arena->header->page_class[page]);

		if (page < arena->first_page) {
			if (class != ARENA_RESERVED)
				arena_set_class(arena, page, ARENA_RESERVED);
		} else if (class == ARENA_RESERVED || class >= ARENA_CLASSES) {
			arena_set_class(arena, page, ARENA_FREE);
		} else {
			continue;
		}
		arena->pages_lost += class != ARENA_RESERVED || page >= arena->first_page;
	}
}

static bool become_owner(struct arena *arena)
{
	uint64_t owner = atomic_load(&arena->header->owner);

	return atomic_compare_exchange_strong(&arena->header->owner, &owner,
					      WORK_WORD(ARENA_OWNER_RUNNING, getpid()));
}

/* Those that were prepared are passports'; the page may hold something else by now. */
static void forget_misplaced_companions(struct arena *arena)
{
	for (uint32_t page = 0; page < arena->header->page_count; page++) {
		if (!arena->pages[page].companions ||
		    atomic_load(&arena->header->page_class[page]) == ARENA_PASSPORT)
			continue;
		free(arena->pages[page].companions);
		arena->pages[page].companions = NULL;
	}
}

/* For its owner: nothing but its commit, classes and name were made sure of yet. */
static void make_ours(struct arena *arena)
{
	(void)arena_redo(arena); /* seen to be sane */
	check_classes(arena);
	if (!memchr(arena->header->worker_name, '\0', ARENA_NAME_MAX))
		arena->header->worker_name[0] = '\0';
	if (!arena->pages)
		arena->pages = xcalloc(arena->header->page_count, sizeof(*arena->pages));
	forget_misplaced_companions(arena);
	/* Full, until it is known what is free. */
	arena->backed_end = arena->header->page_count;
}

struct arena *arena_adopt(int fd, const char **error)
{
	struct arena *arena = arena_map_existing(fd, MAP_SHARED, error);

	if (!arena)
		return NULL;
	if (!arena_redo_sane(arena))
		*error = ARENA_REDO_DAMAGED;
	else if (!become_owner(arena))
		*error = "another process is taking the arena over";
	if (*error) {
		arena_destroy(arena);
		return NULL;
	}
	make_ours(arena);
	return arena;
}

/* --- taking it from one that runs --- */

/* Only what has bytes: most of an arena never had any, and would get memory by being touched. */
void arena_prefault(struct arena *arena)
{
	off_t at = 0;

	while ((at = lseek(arena->fd, at, SEEK_DATA)) >= 0) {
		off_t end = lseek(arena->fd, at, SEEK_HOLE);

		if (end < 0)
			return;
		/* Advice only: what is not mapped in now is when it is used. */
		(void)madvise((uint8_t *)arena->header + at, (size_t)(end - at),
			      MADV_POPULATE_READ);
		at = end;
	}
}

struct arena *arena_prepare(int fd, const char **error)
{
	struct arena *arena = arena_map_any_layout(fd, error);

	if (!arena)
		return NULL;
	/* Whoever is not the owner can't write it, by mistake either. */
	if (mprotect(arena->header, arena->size, PROT_READ) < 0) {
		*error = strerror(errno);
		arena_destroy(arena);
		return NULL;
	}
	arena_prefault(arena);
	return arena;
}

void arena_prepare_companion(struct arena *arena, arena_ref ref, size_t size)
{
	/* Where things are in another layout is not known. */
	if (arena->outdated || !arena_ref_valid(arena, ref, ARENA_PASSPORT))
		return;
	if (!arena->pages)
		arena->pages = xcalloc(arena->header->page_count, sizeof(*arena->pages));
	/* Written once, so that it is there. */
	memset(arena_companion(arena, ref, size), 0, size);
}

static bool swap_owner(struct arena *arena, uint64_t from, enum arena_owner_state to)
{
	return atomic_compare_exchange_strong(&arena->header->owner, &from,
					      WORK_WORD(to, getpid()));
}

bool arena_freeze(struct arena *arena)
{
	return swap_owner(arena, WORK_WORD(ARENA_OWNER_RUNNING, getpid()), ARENA_OWNER_FROZEN);
}

bool arena_thaw(struct arena *arena)
{
	return swap_owner(arena, WORK_WORD(ARENA_OWNER_FROZEN, getpid()), ARENA_OWNER_RUNNING);
}

/* In place of one that is not looked into any more. */
static void replace(struct arena *arena, struct arena *other)
{
	struct arena old = *arena;

	*arena = *other;
	*other = old;
	arena_destroy(other);
	atomic_store(&arena->header->owner, WORK_WORD(ARENA_OWNER_RUNNING, getpid()));
	arena->converted = true;
}

/* The old one is given up for what was made of it: whoever finds its word knows that it was taken,
 * and makes the same of it should we die before ours is known. */
static enum arena_taken take_converted(struct arena *arena, uint64_t owner)
{
	struct arena *other;
	const char *error;
	int converted;

	if (arena_convert(arena->fd, &converted, &error) != ARENA_CONVERSION_DONE)
		return ARENA_UNCONVERTED;
	other = arena_map_existing(converted, MAP_SHARED, &error);
	close(converted);
	if (!other)
		return ARENA_UNCONVERTED;
	if (mprotect(arena->header, ARENA_PAGE_SIZE, PROT_READ | PROT_WRITE) < 0 ||
	    !swap_owner(arena, owner, ARENA_OWNER_RUNNING)) {
		arena_destroy(other);
		return ARENA_LOST;
	}
	replace(arena, other);
	make_ours(arena);
	return ARENA_TAKEN;
}

enum arena_taken arena_take(struct arena *arena)
{
	uint64_t owner = atomic_load(&arena->header->owner);

	if (WORK_KIND(owner) != ARENA_OWNER_FROZEN || WORK_REF(owner) == (uint32_t)getpid())
		return ARENA_LOST;
	if (arena->outdated)
		return take_converted(arena, owner);
	if (!arena_redo_sane(arena))
		return ARENA_DAMAGED;
	if (mprotect(arena->header, arena->size, PROT_READ | PROT_WRITE) < 0 ||
	    !swap_owner(arena, owner, ARENA_OWNER_RUNNING))
		return ARENA_LOST;
	make_ours(arena);
	return ARENA_TAKEN;
}

/* --- the heap half --- */

static void forget_lists(struct arena *arena)
{
	for (unsigned class = 0; class < ARENA_CLASSES; class ++)
		arena->partial[class] = arena->class_pages[class] = 0;
	arena->free_pages = arena->free_page_count = arena->pages_used = 0;
}

/* False: nothing on the page is in use. */
static bool rebuild_page(struct arena *arena, uint32_t page, enum arena_class class,
			 bool (*in_use)(void *context, arena_ref ref), void *context)
{
	uint32_t step = (uint32_t)(arena_class_size(class) / ARENA_REF_SIZE);
	uint32_t count = ARENA_PAGE_SIZE / (step * ARENA_REF_SIZE);
	struct arena_page *p = &arena->pages[page];

	p->free_head = p->free_count = p->next = p->previous = 0;
	p->backed = true;
	for (uint32_t i = count; i-- > 0;) {
		arena_ref ref = page_ref(page) + i * step;

		if (in_use(context, ref))
			continue;
		*arena_free_link(arena, ref) = p->free_head;
		p->free_head = ref;
		p->free_count++;
	}
	if (p->free_count == count)
		return false;
	if (p->free_count > 0)
		arena_page_push(arena, &arena->partial[class], page);
	arena->pages_used++;
	arena->class_pages[class]++;
	return true;
}

/* Some free pages keep the memory that they may have; of the others it is given back, in runs. */
static void rebuild_free_pages(struct arena *arena)
{
	uint32_t kept = 0, run = 0;

	for (uint32_t page = arena->first_page; page < arena->backed_end; page++) {
		bool free_page = atomic_load(&arena->header->page_class[page]) == ARENA_FREE;

		if (free_page && kept < FREE_PAGES_KEPT) {
			kept++;
			continue;
		}
		if (free_page)
			run++;
		else if (run > 0)
			(void)arena_pages_punch(arena, page - run, run);
		if (!free_page)
			run = 0;
	}
	/* Where the kernel refuses, memory is wasted and nothing else. */
	(void)arena_pages_punch(arena, arena->backed_end,
				arena->header->page_count - arena->backed_end);
	for (uint32_t page = arena->backed_end; page-- > arena->first_page;) {
		if (atomic_load(&arena->header->page_class[page]) != ARENA_FREE)
			continue;
		/* Whether it is backed is not known: it will be asked for when it is taken. */
		arena_companions_free(&arena->pages[page]);
		arena->pages[page] = (struct arena_page){0};
		arena_page_push(arena, &arena->free_pages, page);
		arena->free_page_count++;
	}
}

void arena_rebuild(struct arena *arena, bool (*in_use)(void *context, arena_ref ref), void *context)
{
	uint32_t page = arena->header->page_count;

	forget_lists(arena);
	arena->backed_end = arena->first_page;
	/* From behind, so that the lists begin with the first pages. */
	while (page-- > arena->first_page) {
		enum arena_class class = arena_class_of(arena, page_ref(page));

		if (class == ARENA_FREE)
			continue;
		if (!rebuild_page(arena, page, class, in_use, context))
			arena_set_class(arena, page, ARENA_FREE);
		else if (page >= arena->backed_end)
			arena->backed_end = page + 1;
	}
	rebuild_free_pages(arena);
}

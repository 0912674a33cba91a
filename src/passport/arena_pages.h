/* SPDX-License-Identifier: ISC */
/*
 * What arena.c, which allocates, arena_adopt.c, which makes the heap half of an
 * existing arena, and arena_convert.c share. Nothing outside src/passport includes this.
 */
#ifndef KEEPSOCK_PASSPORT_ARENA_PAGES_H
#define KEEPSOCK_PASSPORT_ARENA_PAGES_H

#include "keepsock/arena.h"

#define ARENA_SIZE_MIN (64u * ARENA_PAGE_SIZE)

/* Why an arena is refused. */
#define ARENA_REDO_DAMAGED "the commit under way is damaged"
#define ARENA_NOT_ONE      "not an arena"
#define ARENA_TOO_SHORT    "too short for an arena"
#define ARENA_SIZE_DIFFERS "the arena's size does not match its header"
#define ARENA_TOO_NEW                                                                \
	"the arena's layout is newer than this program: only the version that made " \
	"it, or a later one, can take it over"
#define ARENA_TOO_OLD "the arena's layout is older than any that this program can take over"

/* Free pages kept backed for reuse; more are punched out of the file. */
#define FREE_PAGES_KEPT 64u

struct arena_page {
	arena_ref free_head; /* free records of this page, linked through their bytes 16..19 */
	uint32_t free_count;
	uint32_t next, previous; /* in the class's partial list, or in the list of free pages */
	bool backed;
	void *companions; /* owned */
	size_t companions_size;
};

void arena_companions_free(struct arena_page *page);

static inline uint32_t page_of(arena_ref ref)
{
	return ref / (ARENA_PAGE_SIZE / ARENA_REF_SIZE);
}

static inline arena_ref page_ref(uint32_t page)
{
	return page * (ARENA_PAGE_SIZE / ARENA_REF_SIZE);
}

static inline uint32_t *arena_free_link(struct arena *arena, arena_ref ref)
{
	return (uint32_t *)((uint8_t *)arena_at(arena, ref) + 16);
}

/* What is wrong with a header, NULL if nothing is; any_layout: an older one is none. */
const char *arena_header_problem(const struct arena_header *header, size_t size, bool any_layout);
/* Maps a duplicate of the fd (MAP_SHARED or MAP_PRIVATE) after checking the header; changes
 * nothing. */
struct arena *arena_map_existing(int fd, int sharing, const char **error);
/* Shared; of an older layout it is not to be looked into. */
struct arena *arena_map_any_layout(int fd, const char **error);
/* False: the pairs of the commit under way make no sense. */
bool arena_redo_sane(const struct arena *arena);

/* The first one behind a header of that size with its classes, and the scratch. */
uint32_t arena_first_page(size_t header_size, uint32_t page_count);
void arena_set_class(struct arena *arena, uint32_t page, enum arena_class class);
/* Puts a page in front of a list. */
void arena_page_push(struct arena *arena, uint32_t *head, uint32_t page);
/* Has pages backed by memory; false with errno: there is none. */
bool arena_pages_back(struct arena *arena, uint32_t first, uint32_t count);
/* Gives their memory back; false: the kernel keeps it. */
bool arena_pages_punch(struct arena *arena, uint32_t first, uint32_t count);

#endif

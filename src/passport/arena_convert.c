/* SPDX-License-Identifier: ISC */
/*
 * Converts an arena of an older layout, see arena_layout.h. Run by a worker that
 * takes it over. Must never write the old one: it is mapped privately, so that
 * even the commit under way is completed only in what we see of it. Trusts
 * nothing but the classes of pages: what is damaged is as damaged afterwards,
 * for the adoption to find.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keepsock/alloc.h"
#include "keepsock/arena_layout.h"
#include "keepsock/channel_record.h"
#include "keepsock/passport.h"
#include "passport/arena_pages.h"

struct conversion {
	const struct arena_layout *old;
	uint8_t *from; /* the old arena, a private view; owned */
	size_t size;
	uint32_t pages;       /* of the old one */
	const uint8_t *class; /* of its pages */
	uint32_t first_page;  /* of the old one; that of the new one is not behind it */
	struct arena *to;     /* owned */
	uint8_t *listed;      /* owned; a bit for each reference: that chunk is converted */
};

/* --- a record --- */

void arena_convert_record(const struct arena_layout *old, enum arena_record record,
			  const void *old_record, void *new_record)
{
	const struct arena_record_layout *now = &arena_layout_today.records[record];
	const uint8_t *from = old_record;
	uint8_t *to = new_record;

	memset(to, 0, now->size);
	for (uint32_t i = 0; i < now->field_count; i++) {
		const struct arena_field *field = &now->fields[i];
		const struct arena_field *was = arena_layout_field(old, record, field->name);
		uint32_t count;

		if (!was)
			continue;
		count = was->count < field->count ? was->count : field->count;
		for (uint32_t n = 0; n < count; n++) {
			const uint8_t *element = from + was->offset + n * (was->size / was->count);
			uint32_t step = field->size / field->count;

			if (field->record != ARENA_RECORD_NONE)
				arena_convert_record(old, field->record, element,
						     to + field->offset + n * step);
			else
				/* Numbers may have become wider, with zeros behind. */
				memcpy(to + field->offset + n * step, element,
				       was->size / was->count < step ? was->size / was->count
								     : step);
		}
	}
}

/* A field of a record of the old layout, which has it. */
static const void *old_field(const struct arena_layout *old, enum arena_record record,
			     const uint8_t *from, const char *name)
{
	return from + arena_layout_field(old, record, name)->offset;
}

static uint32_t old_number(const struct arena_layout *old, enum arena_record record,
			   const uint8_t *from, const char *name)
{
	uint32_t number;

	memcpy(&number, old_field(old, record, from, name), sizeof(number));
	return number;
}

/* --- the old arena --- */

/* The same as arena_redo(), where the old layout has it. */
static bool complete_commit(struct conversion *c)
{
	const struct arena_layout *old = c->old;
	uint8_t *work = c->from + arena_layout_field(old, ARENA_RECORD_HEADER, "work")->offset;
	const struct arena_field *pairs = arena_layout_field(old, ARENA_RECORD_WORK, "redo");
	uint64_t *count =
		(uint64_t *)(void *)(work + arena_layout_field(old, ARENA_RECORD_WORK, "redo_count")
						    ->offset);
	const struct work_redo *redo = (const void *)(work + pairs->offset);

	if (*count > pairs->count)
		return false;
	for (uint64_t i = 0; i < *count; i++) {
		if (redo[i].offset % 8 != 0 || redo[i].offset > c->size - 8)
			return false;
	}
	for (uint64_t i = 0, n = *count; i < n; i++)
		*(uint64_t *)(void *)(c->from + redo[i].offset) = redo[i].value;
	*count = 0;
	return true;
}

static uint32_t first_page(const struct arena_layout *layout, uint32_t pages)
{
	return arena_first_page(layout->records[ARENA_RECORD_HEADER].size, pages);
}

/* The old arena, as its dead owner left it, with the commit under way completed. */
static const char *open_old(struct conversion *c)
{
	const struct arena_header *header = (const void *)c->from;
	const char *problem = arena_header_problem(header, c->size, true);

	if (problem)
		return problem;
	c->old = arena_layout_of(header->layout_version);
	c->pages = header->page_count;
	c->class = c->from + c->old->records[ARENA_RECORD_HEADER].size;
	c->first_page = first_page(c->old, c->pages);
	return complete_commit(c) ? NULL : ARENA_REDO_DAMAGED;
}

/* --- the new arena --- */

/*
 * A longer header may need a page that is in use; then the arena ends some pages
 * earlier, whose classes need not be kept.
 */
static uint32_t pages_that_fit(const struct conversion *c)
{
	uint32_t pages = c->pages;

	while (first_page(&arena_layout_today, pages) > c->first_page) {
		uint8_t last = c->class[pages - 1];

		if (last != ARENA_FREE || (size_t)pages * ARENA_PAGE_SIZE <= ARENA_SIZE_MIN)
			return 0;
		pages--;
	}
	return pages;
}

static bool used(const struct conversion *c, uint32_t page)
{
	return c->class[page] > ARENA_RESERVED && c->class[page] < ARENA_CLASSES;
}

static bool copy_run(struct conversion *c, uint32_t first, uint32_t end)
{
	size_t at = (size_t)first * ARENA_PAGE_SIZE,
	       length = (size_t)(end - first) * ARENA_PAGE_SIZE;

	if (!arena_pages_back(c->to, first, end - first))
		return false;
	memcpy((uint8_t *)c->to->header + at, c->from + at, length);
	return true;
}

/* Everything in use at its place, unconverted; the classes of all pages, good or bad. */
static const char *copy_pages(struct conversion *c)
{
	uint32_t page = c->first_page, pages = c->to->header->page_count;

	while (page < pages) {
		uint32_t end = page;

		while (end < pages && used(c, end))
			end++;
		if (end > page && !copy_run(c, page, end))
			return strerror(errno);
		page = end + (end == page);
	}
	for (page = c->first_page; page < pages; page++)
		arena_set_class(c->to, page, c->class[page]);
	return NULL;
}

static void convert_header(struct conversion *c)
{
	struct arena_header *to = c->to->header;
	uint32_t pages = to->page_count;

	arena_convert_record(c->old, ARENA_RECORD_HEADER, c->from, (uint8_t *)to);
	to->page_count = pages;
	to->layout_version = ARENA_LAYOUT_VERSION;
}

/* --- records in pages --- */

static uint8_t *to_at(const struct conversion *c, arena_ref ref)
{
	return (uint8_t *)c->to->header + (size_t)ref * ARENA_REF_SIZE;
}

static const uint8_t *from_at(const struct conversion *c, arena_ref ref)
{
	return c->from + (size_t)ref * ARENA_REF_SIZE;
}

/* Whether it can be one: of this passport, and not met before. */
static bool may_be_converted(struct conversion *c, arena_ref passport, arena_ref ref)
{
	uint8_t bit = (uint8_t)(1u << ref % 8);

	if (!arena_ref_valid(c->to, ref, ARENA_CHUNK_64) || (c->listed[ref / 8] & bit) ||
	    old_number(c->old, ARENA_RECORD_SUBSCRIPTION, from_at(c, ref), "passport") != passport)
		return false;
	c->listed[ref / 8] |= bit;
	return true;
}

static void convert_subscriptions(struct conversion *c, arena_ref passport)
{
	arena_ref ref =
		old_number(c->old, ARENA_RECORD_PASSPORT, from_at(c, passport), "subscriptions");

	while (ref && may_be_converted(c, passport, ref)) {
		arena_convert_record(c->old, ARENA_RECORD_SUBSCRIPTION, from_at(c, ref),
				     to_at(c, ref));
		ref = old_number(c->old, ARENA_RECORD_SUBSCRIPTION, from_at(c, ref), "next");
	}
}

static bool is_chunk_for_tls(const struct conversion *c, arena_ref ref)
{
	enum arena_class class = arena_class_of(c->to, ref);

	return class >= ARENA_CHUNK_256 && class < ARENA_CLASSES &&
	       arena_ref_valid(c->to, ref, class);
}

static void convert_tls(struct conversion *c, arena_ref passport)
{
	arena_ref ref;

	/* Before layout 5 there was none. */
	if (!arena_layout_field(c->old, ARENA_RECORD_PASSPORT, "tls"))
		return;
	ref = old_number(c->old, ARENA_RECORD_PASSPORT, from_at(c, passport), "tls");
	if (!ref || !is_chunk_for_tls(c, ref) || (c->listed[ref / 8] & 1u << ref % 8))
		return;
	c->listed[ref / 8] |= (uint8_t)(1u << ref % 8);
	arena_convert_record(c->old, ARENA_RECORD_TLS, from_at(c, ref), to_at(c, ref));
}

static void convert_page(struct conversion *c, uint32_t page, enum arena_record record,
			 uint32_t magic)
{
	uint32_t step = arena_layout_today.records[record].size / ARENA_REF_SIZE;

	for (arena_ref ref = page_ref(page); ref < page_ref(page + 1); ref += step) {
		if (old_number(c->old, record, from_at(c, ref), "magic") != magic)
			continue;
		arena_convert_record(c->old, record, from_at(c, ref), to_at(c, ref));
		if (record != ARENA_RECORD_PASSPORT)
			continue;
		convert_subscriptions(c, ref);
		convert_tls(c, ref);
	}
}

static void convert_pages(struct conversion *c)
{
	for (uint32_t page = c->first_page; page < c->to->header->page_count; page++) {
		if (c->class[page] == ARENA_PASSPORT)
			convert_page(c, page, ARENA_RECORD_PASSPORT, PASSPORT_MAGIC);
		else if (c->class[page] == ARENA_CHANNEL)
			convert_page(c, page, ARENA_RECORD_CHANNEL, CHANNEL_MAGIC);
	}
}

static const char *convert(struct conversion *c)
{
	const char *error = open_old(c);
	uint32_t pages = error ? 0 : pages_that_fit(c);

	if (error)
		return error;
	if (!pages)
		return "the arena is too full for the longer header of this program's layout";
	c->to = arena_create((uint64_t)pages * ARENA_PAGE_SIZE, &error);
	if (!c->to)
		return error;
	/* What was read last may not be committed. */
	memcpy(c->to->scratch,
	       c->from + (size_t)c->first_page * ARENA_PAGE_SIZE - ARENA_READ_SCRATCH,
	       ARENA_READ_SCRATCH);
	error = copy_pages(c);
	if (error)
		return error;
	c->listed = xcalloc(1, c->size / ARENA_REF_SIZE / 8 + 1);
	convert_pages(c);
	convert_header(c);
	return NULL;
}

static const char *map_old(struct conversion *c, int fd)
{
	struct stat st;
	void *map;

	if (fstat(fd, &st) < 0)
		return strerror(errno);
	if ((uint64_t)st.st_size < ARENA_SIZE_MIN)
		return ARENA_TOO_SHORT;
	map = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE,
		   fd, 0);
	if (map == MAP_FAILED)
		return strerror(errno);
	/* Client data stays out of core dumps. Advice only. */
	(void)madvise(map, (size_t)st.st_size, MADV_DONTDUMP);
	c->from = map;
	c->size = (size_t)st.st_size;
	return NULL;
}

static enum arena_conversion finish(struct conversion *c, int *converted, const char **error)
{
	enum arena_conversion result = ARENA_CONVERSION_REFUSED;

	if (!*error) {
		*converted = fcntl(c->to->fd, F_DUPFD_CLOEXEC, 3);
		if (*converted < 0)
			*error = strerror(errno);
		else
			result = ARENA_CONVERSION_DONE;
	}
	free(c->listed);
	arena_destroy(c->to);
	munmap(c->from, c->size);
	return result;
}

enum arena_conversion arena_convert(int fd, int *converted, const char **error)
{
	struct conversion c = {0};

	*converted = -1;
	*error = map_old(&c, fd);
	if (*error)
		return ARENA_CONVERSION_REFUSED;
	if (((const struct arena_header *)(const void *)c.from)->layout_version ==
	    ARENA_LAYOUT_VERSION) {
		munmap(c.from, c.size);
		return ARENA_CONVERSION_NEEDLESS;
	}
	*error = convert(&c);
	return finish(&c, converted, error);
}

/* SPDX-License-Identifier: ISC */
/*
 * The arena's pages, free lists and commit. Run by the worker that owns the
 * slot; read by the crash checker. Must never hand out memory that is not
 * backed (a full machine then costs an allocation failure, not a SIGBUS), and
 * never write a reachable word outside arena_commit_apply().
 */
#include "keepsock/arena.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keepsock/alloc.h"
#include "keepsock/arena_layout.h"
#include "keepsock/crash_points.h"
#include "passport/arena_pages.h"

/* A sanitizer sees what becomes of the heap, and of nothing else. */
#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define COMPANIONS_IN_HEAP 1
#endif
#endif
#if !defined(COMPANIONS_IN_HEAP) && defined(__SANITIZE_ADDRESS__)
#define COMPANIONS_IN_HEAP 1
#endif

static const uint32_t class_sizes[ARENA_CLASSES] = {
	[ARENA_PASSPORT] = 256,    [ARENA_CHANNEL] = 128,     [ARENA_CHUNK_64] = 64,
	[ARENA_CHUNK_128] = 128,   [ARENA_CHUNK_256] = 256,   [ARENA_CHUNK_512] = 512,
	[ARENA_CHUNK_1K] = 1024,   [ARENA_CHUNK_2K] = 2048,   [ARENA_CHUNK_4K] = 4096,
	[ARENA_CHUNK_8K] = 8192,   [ARENA_CHUNK_16K] = 16384, [ARENA_CHUNK_32K] = 32768,
	[ARENA_CHUNK_64K] = 65536,
};

size_t arena_class_size(enum arena_class class)
{
	return class < ARENA_CLASSES ? class_sizes[class] : 0;
}

enum arena_class arena_class_of(const struct arena *arena, arena_ref ref)
{
	uint32_t page = page_of(ref);

	if (page >= arena->header->page_count)
		return ARENA_FREE;
	return atomic_load_explicit(&arena->header->page_class[page], memory_order_acquire);
}

size_t arena_chunk_capacity(const struct arena *arena, arena_ref ref)
{
	return class_sizes[arena_class_of(arena, ref)] - sizeof(struct arena_chunk);
}

bool arena_ref_valid(const struct arena *arena, arena_ref ref, enum arena_class class)
{
	return page_of(ref) >= arena->first_page && arena_class_of(arena, ref) == class &&
	       class_sizes[class] > 0 &&
	       (size_t)(ref - page_ref(page_of(ref))) * ARENA_REF_SIZE % class_sizes[class] == 0;
}

uint32_t arena_first_page(size_t header_size, uint32_t page_count)
{
	size_t pages = (header_size + page_count + ARENA_PAGE_SIZE - 1) / ARENA_PAGE_SIZE;

	return (uint32_t)(pages + ARENA_READ_SCRATCH / ARENA_PAGE_SIZE);
}

void arena_set_class(struct arena *arena, uint32_t page, enum arena_class class)
{
	atomic_store_explicit(&arena->header->page_class[page], (uint8_t) class,
			      memory_order_release);
}

static struct arena *arena_map(int fd, size_t size, int sharing, const char **error)
{
	struct arena *arena = xcalloc(1, sizeof(*arena));
	void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, sharing | MAP_NORESERVE, fd, 0);

	if (map == MAP_FAILED) {
		*error = strerror(errno);
		free(arena);
		return NULL;
	}
	/* Client data stays out of core dumps. Advice only: an old kernel may refuse. */
	(void)madvise(map, size, MADV_DONTDUMP);
	arena->header = map;
	arena->size = size;
	arena->fd = fd;
	return arena;
}

static void arena_locate(struct arena *arena, uint32_t page_count)
{
	arena->first_page = arena_first_page(sizeof(struct arena_header), page_count);
	arena->scratch = (uint8_t *)arena->header + (size_t)arena->first_page * ARENA_PAGE_SIZE -
			 ARENA_READ_SCRATCH;
}

struct arena *arena_create(uint64_t cap, const char **error)
{
	uint32_t page_count = (uint32_t)(cap / ARENA_PAGE_SIZE);
	size_t size = (size_t)page_count * ARENA_PAGE_SIZE;
	struct arena *arena = NULL;
	int fd;

	if (size < ARENA_SIZE_MIN) {
		*error = "an arena needs at least 4 MiB";
		return NULL;
	}
	fd = memfd_create("keepsock-arena", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 || ftruncate(fd, (off_t)size) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0 ||
	    fallocate(fd, 0, 0,
		      (off_t)arena_first_page(sizeof(struct arena_header), page_count) *
			      ARENA_PAGE_SIZE) < 0) {
		*error = strerror(errno);
		if (fd >= 0)
			close(fd);
		return NULL;
	}
	arena = arena_map(fd, size, MAP_SHARED, error);
	if (!arena) {
		close(fd);
		return NULL;
	}
	arena_locate(arena, page_count);
	arena->pages = xcalloc(page_count, sizeof(*arena->pages));
	arena->backed_end = arena->first_page;
	for (uint32_t page = 0; page < arena->first_page; page++)
		arena_set_class(arena, page, ARENA_RESERVED);
	arena->header->page_count = page_count;
	arena->header->layout_version = ARENA_LAYOUT_VERSION;
	atomic_store(&arena->header->owner, WORK_WORD(ARENA_OWNER_RUNNING, getpid()));
	/* The magic last: a half-made arena is nobody's. */
	arena_store(&arena->header->magic, ARENA_MAGIC);
	return arena;
}

const char *arena_header_problem(const struct arena_header *header, size_t size, bool any_layout)
{
	/* What is looked at is where it is in every layout. */
	if (header->magic != ARENA_MAGIC)
		return ARENA_NOT_ONE;
	if (header->layout_version > ARENA_LAYOUT_VERSION)
		return ARENA_TOO_NEW;
	if (!arena_layout_of(header->layout_version))
		return ARENA_TOO_OLD;
	if (header->layout_version < ARENA_LAYOUT_VERSION && !any_layout)
		return "the arena's layout is an older one, and it was not converted";
	if ((uint64_t)header->page_count * ARENA_PAGE_SIZE != size)
		return ARENA_SIZE_DIFFERS;
	return NULL;
}

uint32_t arena_version(int fd)
{
	/* What every layout begins with. */
	struct {
		uint64_t magic;
		uint32_t layout_version;
	} start;

	if (pread(fd, &start, sizeof(start), 0) != (ssize_t)sizeof(start) ||
	    start.magic != ARENA_MAGIC)
		return 0;
	return start.layout_version;
}

static struct arena *map_existing(int fd, int sharing, bool any_layout, const char **error)
{
	struct stat st;
	struct arena *arena;
	int own;

	if (fstat(fd, &st) < 0) {
		*error = strerror(errno);
		return NULL;
	}
	if ((uint64_t)st.st_size < ARENA_SIZE_MIN) {
		*error = ARENA_TOO_SHORT;
		return NULL;
	}
	own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (own < 0) {
		*error = strerror(errno);
		return NULL;
	}
	arena = arena_map(own, (size_t)st.st_size, sharing, error);
	if (!arena) {
		close(own);
		return NULL;
	}
	*error = arena_header_problem(arena->header, arena->size, any_layout);
	if (*error) {
		arena_destroy(arena);
		return NULL;
	}
	arena->outdated = arena->header->layout_version < ARENA_LAYOUT_VERSION;
	if (!arena->outdated)
		arena_locate(arena, arena->header->page_count);
	return arena;
}

struct arena *arena_map_existing(int fd, int sharing, const char **error)
{
	return map_existing(fd, sharing, false, error);
}

struct arena *arena_map_any_layout(int fd, const char **error)
{
	return map_existing(fd, MAP_SHARED, true, error);
}

struct arena *arena_attach(int fd, const char **error)
{
	struct arena *arena = arena_map_existing(fd, MAP_PRIVATE, error);

	if (arena && !arena_redo(arena)) {
		*error = ARENA_REDO_DAMAGED;
		arena_destroy(arena);
		return NULL;
	}
	return arena;
}

void arena_destroy(struct arena *arena)
{
	if (!arena)
		return;
	if (arena->pages) {
		for (uint32_t page = 0; page < arena->header->page_count; page++)
			arena_companions_free(&arena->pages[page]);
		free(arena->pages);
	}
	munmap(arena->header, arena->size);
	close(arena->fd);
	free(arena);
}

void arena_page_push(struct arena *arena, uint32_t *head, uint32_t page)
{
	arena->pages[page].previous = 0;
	arena->pages[page].next = *head;
	if (*head)
		arena->pages[*head].previous = page;
	*head = page;
}

static void list_remove(struct arena *arena, uint32_t *head, uint32_t page)
{
	struct arena_page *p = &arena->pages[page];

	if (p->previous)
		arena->pages[p->previous].next = p->next;
	else
		*head = p->next;
	if (p->next)
		arena->pages[p->next].previous = p->previous;
	p->next = p->previous = 0;
}

bool arena_pages_back(struct arena *arena, uint32_t first, uint32_t count)
{
	int result;

	do {
		result = fallocate(arena->fd, 0, (off_t)first * ARENA_PAGE_SIZE,
				   (off_t)count * ARENA_PAGE_SIZE);
	} while (result < 0 && errno == EINTR);
	return result == 0;
}

bool arena_pages_punch(struct arena *arena, uint32_t first, uint32_t count)
{
	return fallocate(arena->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			 (off_t)first * ARENA_PAGE_SIZE, (off_t)count * ARENA_PAGE_SIZE) == 0;
}

/* A free page that is backed by memory, or 0 when the cap is reached or memory is out. */
static uint32_t take_page(struct arena *arena)
{
	uint32_t page = arena->free_pages;
	uint32_t step;

	if (page) {
		list_remove(arena, &arena->free_pages, page);
		arena->free_page_count--;
		if (!arena->pages[page].backed && !arena_pages_back(arena, page, 1)) {
			arena_page_push(arena, &arena->free_pages, page);
			arena->free_page_count++;
			return 0;
		}
		arena->pages[page].backed = true;
		return page;
	}
	step = arena->header->page_count - arena->backed_end;
	if (step > ARENA_GROW_PAGES)
		step = ARENA_GROW_PAGES;
	if (step == 0 || !arena_pages_back(arena, arena->backed_end, step))
		return 0;
	for (uint32_t i = step; i-- > 1;) {
		arena->pages[arena->backed_end + i].backed = true;
		arena_page_push(arena, &arena->free_pages, arena->backed_end + i);
		arena->free_page_count++;
	}
	page = arena->backed_end;
	arena->pages[page].backed = true;
	arena->backed_end += step;
	return page;
}

static bool page_assign(struct arena *arena, enum arena_class class)
{
	uint32_t page = take_page(arena);
	uint32_t step = class_sizes[class] / ARENA_REF_SIZE;
	uint32_t count = ARENA_PAGE_SIZE / class_sizes[class];
	struct arena_page *p;

	if (!page)
		return false;
	p = &arena->pages[page];
	/* Records tell by their own bytes whether they are in use: a page starts as all free. */
	if (class == ARENA_PASSPORT || class == ARENA_CHANNEL)
		memset(arena_at(arena, page_ref(page)), 0, ARENA_PAGE_SIZE);
	p->free_head = 0;
	for (uint32_t i = count; i-- > 0;) {
		arena_ref ref = page_ref(page) + i * step;

		*arena_free_link(arena, ref) = p->free_head;
		p->free_head = ref;
	}
	p->free_count = count;
	arena_set_class(arena, page, class);
	arena_page_push(arena, &arena->partial[class], page);
	arena->pages_used++;
	arena->class_pages[class]++;
	return true;
}

static void page_release(struct arena *arena, uint32_t page, enum arena_class class)
{
	struct arena_page *p = &arena->pages[page];

	list_remove(arena, &arena->partial[class], page);
	arena_set_class(arena, page, ARENA_FREE);
	arena_companions_free(p);
	p->free_head = 0;
	p->free_count = 0;
	arena->pages_used--;
	arena->class_pages[class]--;
	if (arena->free_page_count >= FREE_PAGES_KEPT && arena_pages_punch(arena, page, 1))
		p->backed = false;
	arena_page_push(arena, &arena->free_pages, page);
	arena->free_page_count++;
}

arena_ref arena_record_alloc(struct arena *arena, enum arena_class class)
{
	struct arena_page *p;
	uint32_t page;
	arena_ref ref;

	if (!arena->partial[class] && !page_assign(arena, class))
		return 0;
	page = arena->partial[class];
	p = &arena->pages[page];
	ref = p->free_head;
	p->free_head = *arena_free_link(arena, ref);
	if (--p->free_count == 0)
		list_remove(arena, &arena->partial[class], page);
	return ref;
}

void arena_record_free(struct arena *arena, arena_ref ref)
{
	uint32_t page = page_of(ref);
	enum arena_class class = arena_class_of(arena, ref);
	struct arena_page *p = &arena->pages[page];

	if (class <= ARENA_RESERVED || class >= ARENA_CLASSES)
		abort(); /* a broken invariant of ours, never a peer's doing */
	*arena_free_link(arena, ref) = p->free_head;
	p->free_head = ref;
	if (p->free_count++ == 0)
		arena_page_push(arena, &arena->partial[class], page);
	/* One empty page of each class stays: it is wanted again soon. */
	if (p->free_count == ARENA_PAGE_SIZE / class_sizes[class] &&
	    !(arena->partial[class] == page && p->next == 0))
		page_release(arena, page, class);
}

arena_ref arena_chunk_alloc(struct arena *arena, size_t payload)
{
	enum arena_class class = ARENA_CHUNK_64;
	arena_ref ref;

	while (class < ARENA_CHUNK_64K && class_sizes[class] - sizeof(struct arena_chunk) < payload)
		class ++;
	ref = arena_record_alloc(arena, class);
	if (ref) {
		struct arena_chunk *chunk = arena_chunk_at(arena, ref);

		chunk->next = 0;
		chunk->used = 0;
		chunk->base = 0;
	}
	return ref;
}

void arena_chunk_free(struct arena *arena, arena_ref ref)
{
	arena_record_free(arena, ref);
}

/*
 * They live as long as connections do, so pages of their own: in the heap they
 * would hold what was freed between them, handshakes above all.
 */
static void companions_make(struct arena_page *page, size_t size)
{
#ifdef COMPANIONS_IN_HEAP
	page->companions = xcalloc(1, size);
#else
	page->companions =
		mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page->companions == MAP_FAILED)
		page->companions = xcalloc(1, size);
	else
		page->companions_size = size;
#endif
}

void arena_companions_free(struct arena_page *page)
{
	if (page->companions_size > 0)
		munmap(page->companions, page->companions_size);
	else
		free(page->companions);
	page->companions = NULL;
	page->companions_size = 0;
}

void *arena_companion(struct arena *arena, arena_ref ref, size_t size)
{
	uint32_t page = page_of(ref);
	struct arena_page *p = &arena->pages[page];
	uint32_t record_size = class_sizes[arena_class_of(arena, ref)];
	uint32_t index = (ref - page_ref(page)) * ARENA_REF_SIZE / record_size;

	if (!p->companions)
		companions_make(p, ARENA_PAGE_SIZE / record_size * size);
	return (uint8_t *)p->companions + index * size;
}

arena_ref arena_record_next(const struct arena *arena, enum arena_class class, arena_ref previous)
{
	uint32_t step = class_sizes[class] / ARENA_REF_SIZE;
	uint32_t page = previous ? page_of(previous) : arena->first_page;

	/* A walk may have paused, and its page have become something else since. */
	if (previous && arena_class_of(arena, previous) == class &&
	    page_of(previous + step) == page)
		return previous + step;
	if (previous)
		page++;
	for (; page < arena->header->page_count; page++) {
		if (arena_class_of(arena, page_ref(page)) == class)
			return page_ref(page);
	}
	return 0;
}

uint64_t arena_records(const struct arena *arena, enum arena_class class)
{
	return (uint64_t)arena->class_pages[class] * (ARENA_PAGE_SIZE / class_sizes[class]);
}

uint64_t arena_bytes_used(const struct arena *arena)
{
	return (uint64_t)(arena->first_page + arena->pages_used) * ARENA_PAGE_SIZE;
}

uint64_t arena_bytes_cap(const struct arena *arena)
{
	return arena->size;
}

void arena_commit_add(struct arena_commit *commit, void *word, uint64_t value)
{
	uint64_t offset = (uint64_t)((uint8_t *)word - (uint8_t *)commit->arena->header);

	for (unsigned i = 0; i < commit->count; i++) {
		if (commit->words[i].offset == offset) {
			commit->words[i].value = value;
			return;
		}
	}
	if (*(uint64_t *)word == value)
		return;
	if (offset % 8 != 0 || commit->count == ARENA_REDO_MAX)
		abort(); /* a broken invariant of ours */
	commit->words[commit->count++] = (struct work_redo){offset, value};
}

static void apply_word(struct arena *arena, const struct work_redo *redo)
{
	arena_store((uint8_t *)arena->header + redo->offset, redo->value);
}

bool arena_redo_sane(const struct arena *arena)
{
	const struct work_slot *work = &arena->header->work;
	uint64_t count = atomic_load_explicit(&work->redo_count, memory_order_acquire);

	if (count > ARENA_REDO_MAX)
		return false;
	for (uint64_t i = 0; i < count; i++) {
		if (work->redo[i].offset % 8 != 0 || work->redo[i].offset > arena->size - 8)
			return false;
	}
	return true;
}

bool arena_redo(struct arena *arena)
{
	struct work_slot *work = &arena->header->work;
	uint64_t count = atomic_load_explicit(&work->redo_count, memory_order_acquire);

	if (!arena_redo_sane(arena))
		return false;
	for (uint64_t i = 0; i < count; i++)
		apply_word(arena, &work->redo[i]);
	atomic_store_explicit(&work->redo_count, 0, memory_order_release);
	return true;
}

void arena_commit_apply(struct arena_commit *commit)
{
	struct arena *arena = commit->arena;
	struct work_slot *work = &arena->header->work;

	if (commit->count == 1) {
		apply_word(arena, &commit->words[0]);
	} else if (commit->count > 1) {
		memcpy(work->redo, commit->words, commit->count * sizeof(commit->words[0]));
		crash_point(CRASH_COMMIT_BEFORE);
		atomic_store_explicit(&work->redo_count, commit->count, memory_order_release);
		crash_point(CRASH_COMMIT_STORED);
		for (unsigned i = 0; i < commit->count; i++) {
			apply_word(arena, &commit->words[i]);
			if (i == 0)
				crash_point(CRASH_COMMIT_HALF);
		}
		atomic_store_explicit(&work->redo_count, 0, memory_order_release);
	}
	commit->count = 0;
	/* The compiler may not move the next commit's pairs, or a write into space that this commit
	 * made unreachable, in front of it. The processor keeps stores in order where a death can
	 * tell. */
	atomic_signal_fence(memory_order_seq_cst);
}

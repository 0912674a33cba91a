/* SPDX-License-Identifier: ISC */
/*
 * The arena: pages and their classes, growth up to the cap, who has it. Its
 * commit: test_arena_commit.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "arena_world.h"

#define PAGES_KEPT 64u /* free pages that stay backed */

static uint64_t bytes_backed(const struct arena *arena)
{
	struct stat st;

	assert_int_equal(fstat(arena->fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

/* --- creating --- */

static void test_header_of_a_new_arena(void **state)
{
	struct arena *arena = ((struct world *)*state)->arena;
	const struct arena_header *header = arena->header;
	uint64_t owner = atomic_load(&header->owner);

	assert_int_equal(header->magic, ARENA_MAGIC);
	assert_int_equal(header->layout_version, ARENA_LAYOUT_VERSION);
	assert_int_equal(header->page_count, 4 * MIB / ARENA_PAGE_SIZE);
	assert_int_equal(owner >> 32, ARENA_OWNER_RUNNING);
	assert_int_equal((uint32_t)owner, getpid());
	assert_int_equal(atomic_load(&header->fault), 0);
	assert_int_equal(header->work.redo_count, 0);
	assert_int_equal(arena_bytes_cap(arena), 4 * MIB);
	for (uint32_t page = 0; page < header->page_count; page++)
		assert_int_equal(atomic_load(&header->page_class[page]),
				 page < arena->first_page ? ARENA_RESERVED : ARENA_FREE);
	/* The scratch lies between header and first page. */
	assert_true(arena->scratch + ARENA_READ_SCRATCH ==
		    (uint8_t *)header + (size_t)arena->first_page * ARENA_PAGE_SIZE);
}

static void test_file_can_neither_shrink_nor_grow(void **state)
{
	struct arena *arena = ((struct world *)*state)->arena;

	assert_int_equal(ftruncate(arena->fd, 2 * MIB), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(ftruncate(arena->fd, 8 * MIB), -1);
	assert_int_equal(fcntl(arena->fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	assert_int_equal(fcntl(arena->fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
}

static void test_too_small_a_cap_is_refused(void **state)
{
	const char *error = NULL;

	(void)state;
	assert_null(arena_create(4 * MIB - 1, &error));
	assert_non_null(error);
	assert_null(arena_create(0, &error));
}

static void test_cap_is_rounded_down_to_pages(void **state)
{
	const char *error = NULL;
	struct arena *arena = arena_create(4 * MIB + ARENA_PAGE_SIZE + 1, &error);

	(void)state;
	assert_non_null(arena);
	assert_int_equal(arena_bytes_cap(arena), 4 * MIB + ARENA_PAGE_SIZE);
	arena_destroy(arena);
}

/* --- classes --- */

static void test_chunk_gets_the_smallest_class_that_holds_it(void **state)
{
	struct arena *arena = ((struct world *)*state)->arena;
	const size_t overhead = sizeof(struct arena_chunk);

	for (enum arena_class class = ARENA_CHUNK_64; class <= ARENA_CHUNK_64K; class ++) {
		size_t size = arena_class_size(class);
		arena_ref largest = arena_chunk_alloc(arena, size - overhead);
		arena_ref next = arena_chunk_alloc(arena, size - overhead + 1);

		assert_int_equal(arena_class_of(arena, largest), class);
		assert_int_equal(arena_chunk_capacity(arena, largest), size - overhead);
		assert_int_equal((size_t)largest * ARENA_REF_SIZE % size, 0);
		assert_int_equal(arena_class_of(arena, next),
				 class < ARENA_CHUNK_64K ? class + 1 : ARENA_CHUNK_64K);
	}
	assert_int_equal(arena_class_of(arena, arena_chunk_alloc(arena, 0)), ARENA_CHUNK_64);
	assert_int_equal(arena_class_of(arena, arena_chunk_alloc(arena, 100 * MIB)),
			 ARENA_CHUNK_64K);
}

static void test_new_chunk_is_blank(void **state)
{
	struct arena *arena = ((struct world *)*state)->arena;

	for (int round = 0; round < 3; round++) {
		arena_ref ref = arena_chunk_alloc(arena, 100);
		struct arena_chunk *chunk = arena_chunk_at(arena, ref);

		assert_int_equal(chunk->next, 0);
		assert_int_equal(chunk->used, 0);
		assert_int_equal(chunk->base, 0);
		memset(chunk, 0xff, 128);
		arena_chunk_free(arena, ref);
	}
}

static void test_refs_and_addresses_convert(void **state)
{
	struct arena *arena = ((struct world *)*state)->arena;
	arena_ref ref = arena_chunk_alloc(arena, 3000);

	assert_int_equal(arena_ref_of(arena, arena_at(arena, ref)), ref);
	assert_ptr_equal(arena_at(arena, ref), arena_chunk_at(arena, ref));
}

static void test_record_pages_start_as_zeros(void **state)
{
	struct world *world = *state;
	struct arena *arena = world->arena;
	static const uint8_t zeros[256];
	arena_ref list = 0;

	/* Dirty every page first. */
	list = world_exhaust(world, 60000);
	for (arena_ref ref = list; ref; ref = arena_chunk_at(arena, ref)->next)
		memset(arena_chunk_at(arena, ref)->data, 0xff, arena_chunk_capacity(arena, ref));
	world_release(world, list);
	for (int i = 0; i < 600; i++) {
		arena_ref ref = arena_record_alloc(arena, ARENA_PASSPORT);
		arena_ref channel = arena_record_alloc(arena, ARENA_CHANNEL);

		/* The free list's link is in bytes 16 to 19: what tells of use is elsewhere. */
		assert_memory_equal(arena_at(arena, ref), zeros, 16);
		assert_memory_equal((uint8_t *)arena_at(arena, ref) + 20, zeros, 236);
		assert_memory_equal(arena_at(arena, channel), zeros, 16);
		assert_memory_equal((uint8_t *)arena_at(arena, channel) + 20, zeros, 108);
	}
}

static void test_records_are_walked_in_order(void **state)
{
	struct arena *arena = ((struct world *)*state)->arena;
	arena_ref ref = 0, previous = 0;
	uint64_t walked = 0;

	assert_int_equal(arena_record_next(arena, ARENA_PASSPORT, 0), 0);
	for (int i = 0; i < 300; i++) {
		assert_int_not_equal(arena_record_alloc(arena, ARENA_PASSPORT), 0);
		assert_int_not_equal(arena_chunk_alloc(arena, 2000), 0);
	}
	while ((ref = arena_record_next(arena, ARENA_PASSPORT, previous))) {
		assert_true(ref > previous);
		assert_int_equal(arena_class_of(arena, ref), ARENA_PASSPORT);
		previous = ref;
		walked++;
	}
	assert_int_equal(walked, 512); /* two pages of 256 */
	assert_int_equal(walked, arena_records(arena, ARENA_PASSPORT));
	assert_int_equal(arena_records(arena, ARENA_CHANNEL), 0);
}

/* Walks that pause between two steps: presence, sessions. */
static void test_a_walk_goes_on_where_its_page_was_given_back(void **state)
{
	struct arena *arena = ((struct world *)*state)->arena;
	arena_ref refs[3 * 256], last = 0;

	for (size_t i = 0; i < 3 * 256; i++)
		assert_int_not_equal(arena_record_alloc(arena, ARENA_PASSPORT), 0);
	for (size_t i = 0; i < 3 * 256; i++)
		refs[i] = last = arena_record_next(arena, ARENA_PASSPORT, last);
	/* The only page with room would be kept. */
	arena_record_free(arena, refs[767]);
	for (size_t i = 256; i < 512; i++)
		arena_record_free(arena, refs[i]);
	assert_int_equal(arena_class_of(arena, refs[300]), ARENA_FREE);
	assert_int_equal(arena_record_next(arena, ARENA_PASSPORT, refs[300]), refs[512]);
	/* Another class has the page now. */
	do
		last = arena_chunk_alloc(arena, 60000);
	while (last && arena_class_of(arena, refs[300]) == ARENA_FREE);
	assert_int_not_equal(arena_class_of(arena, refs[300]), ARENA_FREE);
	assert_int_equal(arena_record_next(arena, ARENA_PASSPORT, refs[300]), refs[512]);
}

static void test_companions_belong_to_their_record(void **state)
{
	struct arena *arena = ((struct world *)*state)->arena;
	arena_ref refs[300];

	for (uint32_t i = 0; i < 300; i++) {
		uint32_t *companion;

		refs[i] = arena_record_alloc(arena, ARENA_PASSPORT);
		companion = arena_companion(arena, refs[i], 24);
		assert_int_equal(*companion, 0);
		*companion = i + 1;
	}
	for (uint32_t i = 0; i < 300; i++) {
		assert_int_equal(*(uint32_t *)arena_companion(arena, refs[i], 24), i + 1);
		arena_record_free(arena, refs[i]);
	}
}

/* --- allocating and freeing --- */

struct held {
	arena_ref ref;
	uint32_t length;
	uint8_t fill;
};

static void fill(struct arena *arena, const struct held *held)
{
	memset(arena_chunk_at(arena, held->ref)->data, held->fill, held->length);
}

static void assert_filled(struct arena *arena, const struct held *held)
{
	const uint8_t *data = arena_chunk_at(arena, held->ref)->data;

	for (uint32_t i = 0; i < held->length; i++) {
		if (data[i] != held->fill)
			fail_msg("chunk %u was overwritten at %u", held->ref, i);
	}
}

/* Chunks of random sizes, each filled with its own byte: none ever touches another. */
static void test_chunks_never_overlap(void **state)
{
	enum { COUNT = 400 };
	struct arena *arena = ((struct world *)*state)->arena;
	struct held held[COUNT] = {0};

	srandom(20260102);
	for (int step = 0; step < 20000; step++) {
		struct held *one = &held[random() % COUNT];

		if (one->ref) {
			assert_filled(arena, one);
			arena_chunk_free(arena, one->ref);
			one->ref = 0;
			continue;
		}
		one->ref = arena_chunk_alloc(arena, (size_t)random() % (1u << random() % 15));
		if (!one->ref)
			continue;
		one->length = (uint32_t)arena_chunk_capacity(arena, one->ref);
		one->fill = (uint8_t)random();
		fill(arena, one);
	}
	for (int i = 0; i < COUNT; i++) {
		if (held[i].ref)
			assert_filled(arena, &held[i]);
	}
}

static void test_freed_space_is_used_again(void **state)
{
	struct arena *arena = ((struct world *)*state)->arena;
	uint64_t used = 0;

	for (int i = 0; i < 100000; i++) {
		arena_ref small = arena_chunk_alloc(arena, 40);
		arena_ref large = arena_chunk_alloc(arena, 60000);

		assert_int_not_equal(small, 0);
		assert_int_not_equal(large, 0);
		arena_chunk_free(arena, large);
		arena_chunk_free(arena, small);
		if (i == 0)
			used = arena_bytes_used(arena);
		assert_int_equal(arena_bytes_used(arena), used);
	}
}

static void test_empty_pages_serve_other_classes(void **state)
{
	struct world *world = *state;
	arena_ref list = world_exhaust(world, 48);
	unsigned large = 0;

	assert_int_equal(arena_chunk_alloc(world->arena, 60000), 0);
	world_release(world, list);
	list = world_exhaust(world, 60000);
	for (arena_ref ref = list; ref; ref = arena_chunk_at(world->arena, ref)->next)
		large++;
	/* All but the page that a class keeps. */
	assert_int_equal(large, world->arena->header->page_count - world->arena->first_page - 1);
	world_release(world, list);
}

static void test_full_arena_says_so_and_recovers(void **state)
{
	struct world *world = *state;
	arena_ref list = world_exhaust(world, 60000);

	assert_int_equal(arena_bytes_used(world->arena), arena_bytes_cap(world->arena));
	assert_int_equal(arena_chunk_alloc(world->arena, 1), 0);
	assert_int_equal(arena_record_alloc(world->arena, ARENA_PASSPORT), 0);
	/* A class keeps one empty page: it takes two for another class to get one. */
	for (int i = 0; i < 2; i++) {
		arena_ref first = list;

		list = arena_chunk_at(world->arena, first)->next;
		arena_chunk_free(world->arena, first);
	}
	assert_int_not_equal(arena_chunk_alloc(world->arena, 1), 0);
	assert_int_equal(arena_record_alloc(world->arena, ARENA_PASSPORT), 0);
	world_release(world, list);
}

/* --- growth --- */

static void test_memory_is_backed_a_step_at_a_time(void **state)
{
	struct world *world = world_new(16 * MIB);
	uint64_t start = bytes_backed(world->arena);

	(void)state;
	assert_true(start < MIB);
	assert_int_not_equal(arena_chunk_alloc(world->arena, 1), 0);
	assert_int_equal(bytes_backed(world->arena), start + MIB);
	for (int i = 0; i < 15; i++)
		assert_int_not_equal(arena_chunk_alloc(world->arena, 60000), 0);
	assert_int_equal(bytes_backed(world->arena), start + MIB);
	assert_int_not_equal(arena_chunk_alloc(world->arena, 60000), 0);
	assert_int_equal(bytes_backed(world->arena), start + 2 * MIB);
	world_free(world);
}

static void test_free_memory_goes_back_and_comes_again(void **state)
{
	struct world *world = world_new(32 * MIB);

	(void)state;
	for (int round = 0; round < 3; round++) {
		arena_ref list = world_exhaust(world, 60000);

		assert_true(bytes_backed(world->arena) >= 31 * MIB);
		for (arena_ref ref = list; ref; ref = arena_chunk_at(world->arena, ref)->next)
			memset(arena_chunk_at(world->arena, ref)->data, 0x5a, 60000);
		world_release(world, list);
		assert_true(bytes_backed(world->arena) <=
			    (PAGES_KEPT + 8) * (uint64_t)ARENA_PAGE_SIZE);
		/* The last page of a class stays with it. */
		assert_int_equal(arena_bytes_used(world->arena),
				 (uint64_t)(world->arena->first_page + 1) * ARENA_PAGE_SIZE);
	}
	world_free(world);
}

static void free_an_unused_page(void *context)
{
	arena_record_free(context, 63 * (ARENA_PAGE_SIZE / ARENA_REF_SIZE));
}

static void free_the_header(void *context)
{
	arena_record_free(context, 0);
}

static void test_freeing_what_is_none_is_a_broken_invariant(void **state)
{
	struct arena *arena = ((struct world *)*state)->arena;

	assert_true(world_aborts(free_an_unused_page, arena));
	assert_true(world_aborts(free_the_header, arena));
}

/* --- attaching --- */

static void assert_refused(int fd, const char *expected)
{
	const char *error = NULL;

	assert_null(arena_attach(fd, &error));
	assert_string_equal(error, expected);
}

/* --- the ownership word --- */

/* What a forked process sees of an arena: its exit status. */
static int in_another_process(int (*body)(struct arena *arena), struct arena *arena)
{
	pid_t child = fork();
	int status;

	assert_true(child >= 0);
	if (child == 0)
		_exit(body(arena));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static int take_it(struct arena *arena)
{
	const char *error = NULL;
	struct arena *mine = arena_prepare(arena->fd, &error);

	return mine ? (int)arena_take(mine) : 100;
}

static int prepare_and_write(struct arena *arena)
{
	const char *error = NULL;
	struct arena *mine = arena_prepare(arena->fd, &error);
	struct sigaction action = {.sa_handler = SIG_DFL};

	if (!mine)
		return 1;
	sigaction(SIGSEGV, &action, NULL);
	mine->header->generation = 4711;
	return 0;
}

static void test_who_has_the_arena(void **state)
{
	const char *error = NULL;
	struct arena *arena = arena_create(8 * MIB, &error);

	(void)state;
	assert_non_null(arena);
	/* Only its owner freezes it, once, and only it thaws it. */
	assert_false(arena_thaw(arena));
	assert_int_equal(in_another_process(take_it, arena), ARENA_LOST);
	assert_true(arena_freeze(arena));
	assert_false(arena_freeze(arena));
	assert_int_equal(arena_take(arena), ARENA_LOST);
	assert_true(arena_thaw(arena));
	assert_int_equal(in_another_process(take_it, arena), ARENA_LOST);
	/* Another one takes it from the frozen owner, and that has lost it. */
	assert_true(arena_freeze(arena));
	assert_int_equal(in_another_process(take_it, arena), ARENA_TAKEN);
	assert_false(arena_thaw(arena));
	assert_false(arena_freeze(arena));
	arena_destroy(arena);
}

static void test_a_frozen_arena_is_taken_whole(void **state)
{
	const char *error = NULL;
	struct arena *arena = arena_create(8 * MIB, &error), *mine;

	(void)state;
	assert_non_null(arena);
	/* A commit that makes no sense: nothing is changed, the owner may have it back. */
	assert_true(arena_freeze(arena));
	arena->header->work.redo_count = ARENA_REDO_MAX + 1;
	assert_int_equal(in_another_process(take_it, arena), ARENA_DAMAGED);
	arena->header->work.redo_count = 0;
	assert_true(arena_thaw(arena));
	/* One that was under way is completed by who takes it. */
	arena->header->work.redo[0] =
		(struct work_redo){offsetof(struct arena_header, generation), 9};
	arena->header->work.redo_count = 1;
	mine = arena_prepare(arena->fd, &error);
	assert_non_null(mine);
	assert_true(arena_freeze(arena));
	assert_int_equal(in_another_process(take_it, arena), ARENA_TAKEN);
	assert_int_equal(mine->header->generation, 9);
	assert_int_equal(mine->header->work.redo_count, 0);
	assert_false(arena_thaw(arena));
	arena_destroy(mine);
	arena_destroy(arena);
}

/* Until it is taken it can't be written, by mistake either. */
static void test_a_prepared_arena_is_read_only(void **state)
{
	const char *error = NULL;
	struct arena *arena = arena_create(8 * MIB, &error);
	pid_t child;
	int status;

	(void)state;
	assert_non_null(arena);
	child = fork();
	assert_true(child >= 0);
	if (child == 0)
		_exit(prepare_and_write(arena));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
	assert_true(arena->header->generation != 4711);
	arena_destroy(arena);
}

static void test_attaching_refuses_what_is_no_arena(void **state)
{
	struct arena *arena = ((struct world *)*state)->arena;
	struct arena_header *header = arena->header;
	int fd = memfd_create("not-an-arena", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_refused(fd, "too short for an arena");
	assert_int_equal(ftruncate(fd, 4 * MIB), 0);
	assert_refused(fd, "not an arena");
	assert_int_equal(arena_version(fd), 0);
	close(fd);
	assert_refused(fd, strerror(EBADF));
	assert_int_equal(arena_version(fd), 0);

	assert_int_equal(arena_version(arena->fd), ARENA_LAYOUT_VERSION);
	header->layout_version++;
	assert_int_equal(arena_version(arena->fd), ARENA_LAYOUT_VERSION + 1);
	assert_refused(arena->fd, "the arena's layout is newer than this program: only the version "
				  "that made it, or a later one, can take it over");
	header->layout_version -= 2;
	assert_refused(arena->fd, "the arena's layout is an older one, and it was not converted");
	header->layout_version++;
	header->page_count--;
	assert_refused(arena->fd, "the arena's size does not match its header");
	header->page_count++;
	atomic_store(&header->work.redo_count, 1000);
	assert_refused(arena->fd, "the commit under way is damaged");
	atomic_store(&header->work.redo_count, 0);
	header->magic = 0;
	assert_refused(arena->fd, "not an arena");
	header->magic = ARENA_MAGIC;
}

#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, world_setup, world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_WORLD(test_header_of_a_new_arena),
		IN_WORLD(test_file_can_neither_shrink_nor_grow),
		cmocka_unit_test(test_too_small_a_cap_is_refused),
		cmocka_unit_test(test_cap_is_rounded_down_to_pages),
		IN_WORLD(test_chunk_gets_the_smallest_class_that_holds_it),
		IN_WORLD(test_new_chunk_is_blank),
		IN_WORLD(test_refs_and_addresses_convert),
		IN_WORLD(test_record_pages_start_as_zeros),
		IN_WORLD(test_records_are_walked_in_order),
		IN_WORLD(test_a_walk_goes_on_where_its_page_was_given_back),
		IN_WORLD(test_companions_belong_to_their_record),
		IN_WORLD(test_chunks_never_overlap),
		IN_WORLD(test_freed_space_is_used_again),
		IN_WORLD(test_empty_pages_serve_other_classes),
		IN_WORLD(test_full_arena_says_so_and_recovers),
		IN_WORLD(test_freeing_what_is_none_is_a_broken_invariant),
		cmocka_unit_test(test_memory_is_backed_a_step_at_a_time),
		cmocka_unit_test(test_free_memory_goes_back_and_comes_again),
		cmocka_unit_test(test_who_has_the_arena),
		cmocka_unit_test(test_a_frozen_arena_is_taken_whole),
		cmocka_unit_test(test_a_prepared_arena_is_read_only),
		IN_WORLD(test_attaching_refuses_what_is_no_arena),
	};

	return cmocka_run_group_tests_name("arena", tests, NULL, NULL);
}

/* SPDX-License-Identifier: ISC */
/*
 * The arena's commit, and its redo after an interruption at any point.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "arena_world.h"
#include "keepsock/crash_points.h"

/* --- the commit --- */

/* Some words that a commit may change. */
static uint64_t *words_of(struct arena *arena)
{
	struct arena_chunk *chunk = arena_chunk_at(arena, arena_chunk_alloc(arena, 2000));

	memset(chunk->data, 0, 2000);
	return (uint64_t *)(void *)chunk->data;
}

static void test_commit_of_one_word_needs_no_redo(void **state)
{
	struct arena *arena = ((struct world *)*state)->arena;
	uint64_t *words = words_of(arena);
	struct work_redo before = arena->header->work.redo[0];
	struct arena_commit commit;

	arena_commit_begin(&commit, arena);
	arena_commit_add(&commit, &words[3], 42);
	assert_int_equal(words[3], 0);
	arena_commit_apply(&commit);
	assert_int_equal(words[3], 42);
	assert_memory_equal(&arena->header->work.redo[0], &before, sizeof(before));
}

static void test_commit_of_many_words(void **state)
{
	struct arena *arena = ((struct world *)*state)->arena;
	uint64_t *words = words_of(arena);
	struct arena_commit commit;

	for (unsigned count = 0; count <= ARENA_REDO_MAX; count++) {
		arena_commit_begin(&commit, arena);
		for (unsigned i = 0; i < count; i++)
			arena_commit_add(&commit, &words[i * 2], count * 100 + i + 1);
		arena_commit_apply(&commit);
		for (unsigned i = 0; i < count; i++) {
			assert_int_equal(words[i * 2], count * 100 + i + 1);
			assert_int_equal(words[i * 2 + 1], 0);
		}
		assert_int_equal(atomic_load(&arena->header->work.redo_count), 0);
		assert_int_equal(commit.count, 0);
	}
}

static void test_commit_keeps_the_later_value_and_leaves_out_what_stays(void **state)
{
	struct arena *arena = ((struct world *)*state)->arena;
	uint64_t *words = words_of(arena);
	struct arena_commit commit;

	words[0] = 7;
	arena_commit_begin(&commit, arena);
	arena_commit_add(&commit, &words[0], 7);
	assert_int_equal(commit.count, 0);
	arena_commit_add(&commit, &words[1], 1);
	arena_commit_add(&commit, &words[2], 2);
	arena_commit_add(&commit, &words[1], 3);
	assert_int_equal(commit.count, 2);
	/* Back to what it is: still named, and so still right. */
	arena_commit_add(&commit, &words[2], 0);
	arena_commit_apply(&commit);
	assert_int_equal(words[0], 7);
	assert_int_equal(words[1], 3);
	assert_int_equal(words[2], 0);
}

static void commit_too_many(void *context)
{
	struct arena *arena = world_new(4 * MIB)->arena;
	uint64_t *words = words_of(arena);
	struct arena_commit commit;

	(void)context;
	arena_commit_begin(&commit, arena);
	for (unsigned i = 0; i <= ARENA_REDO_MAX; i++)
		arena_commit_add(&commit, &words[i], 1);
}

static void commit_half_a_word(void *context)
{
	struct arena *arena = world_new(4 * MIB)->arena;
	uint32_t *halves = (uint32_t *)(void *)words_of(arena);
	struct arena_commit commit;

	(void)context;
	arena_commit_begin(&commit, arena);
	arena_commit_add(&commit, (char *)halves + 8, 1);
	arena_commit_add(&commit, (char *)halves + 4, 1);
}

static void test_impossible_commits_are_broken_invariants(void **state)
{
	(void)state;
	assert_true(world_aborts(commit_too_many, NULL));
#ifndef __SANITIZE_ADDRESS__ /* UBSan sees the unaligned word first */
	assert_true(world_aborts(commit_half_a_word, NULL));
#else
	(void)commit_half_a_word;
#endif
}

/* --- redo --- */

static uint64_t offset_of(struct arena *arena, const void *p)
{
	return (uint64_t)((const uint8_t *)p - (const uint8_t *)arena->header);
}

static void test_redo_completes_what_was_stored(void **state)
{
	struct arena *arena = ((struct world *)*state)->arena;
	struct work_slot *work = &arena->header->work;
	uint64_t *words = words_of(arena);

	for (unsigned i = 0; i < 5; i++)
		work->redo[i] = (struct work_redo){offset_of(arena, &words[i]), i + 10};
	words[0] = 10; /* this one was applied before the death */
	atomic_store(&work->redo_count, 5);
	for (int again = 0; again < 2; again++) {
		assert_true(arena_redo(arena));
		for (unsigned i = 0; i < 5; i++)
			assert_int_equal(words[i], i + 10);
		assert_int_equal(atomic_load(&work->redo_count), 0);
		words[0] = 10;
		atomic_store(&work->redo_count, 5);
	}
}

static void test_pairs_without_a_count_mean_nothing(void **state)
{
	struct arena *arena = ((struct world *)*state)->arena;
	uint64_t *words = words_of(arena);

	arena->header->work.redo[0] = (struct work_redo){offset_of(arena, &words[0]), 5};
	assert_true(arena_redo(arena));
	assert_int_equal(words[0], 0);
}

static void test_redo_refuses_pairs_that_make_no_sense(void **state)
{
	struct arena *arena = ((struct world *)*state)->arena;
	struct work_slot *work = &arena->header->work;
	uint64_t *words = words_of(arena);
	const uint64_t bad_offsets[] = {
		offset_of(arena, words) + 4,
		arena_bytes_cap(arena),
		arena_bytes_cap(arena) - 4,
		UINT64_MAX - 7,
		UINT64_MAX,
	};

	work->redo[0] = (struct work_redo){offset_of(arena, &words[0]), 5};
	for (size_t i = 0; i < sizeof(bad_offsets) / sizeof(bad_offsets[0]); i++) {
		work->redo[1] = (struct work_redo){bad_offsets[i], 5};
		atomic_store(&work->redo_count, 2);
		assert_false(arena_redo(arena));
		assert_int_equal(words[0], 0);
	}
	atomic_store(&work->redo_count, ARENA_REDO_MAX + 1);
	assert_false(arena_redo(arena));
	atomic_store(&work->redo_count, 0);
}

static void test_attaching_completes_the_commit_in_a_private_view(void **state)
{
	struct arena *arena = ((struct world *)*state)->arena;
	struct work_slot *work = &arena->header->work;
	uint64_t *words = words_of(arena);
	const char *error = NULL;
	struct arena *view;

	work->redo[0] = (struct work_redo){offset_of(arena, &words[0]), 5};
	work->redo[1] = (struct work_redo){offset_of(arena, &words[1]), 6};
	atomic_store(&work->redo_count, 2);
	view = arena_attach(arena->fd, &error);
	assert_non_null(view);
	assert_int_equal(((uint64_t *)arena_at(view, arena_ref_of(arena, words - 2)))[2], 5);
	assert_int_equal(((uint64_t *)arena_at(view, arena_ref_of(arena, words - 2)))[3], 6);
	assert_int_equal(view->first_page, arena->first_page);
	arena_destroy(view);
	/* The owner's arena is as it was. */
	assert_int_equal(words[0], 0);
	assert_int_equal(atomic_load(&work->redo_count), 2);
	atomic_store(&work->redo_count, 0);
}

#ifdef KEEPSOCK_CRASH_POINTS
/* Two words by a process that dies at the named point. */
static void commit_until(struct arena *arena, uint64_t *words, const char *point)
{
	pid_t child = fork();
	int status = 0;

	if (child == 0) {
		struct arena_commit commit;

		if (!crash_point_arm(point, 1))
			_exit(1);
		arena_commit_begin(&commit, arena);
		for (unsigned i = 0; i < 3; i++)
			arena_commit_add(&commit, &words[i], i + 1);
		arena_commit_apply(&commit);
		_exit(2);
	}
	assert_true(child > 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void test_a_death_leaves_all_of_a_commit_or_nothing(void **state)
{
	static const struct {
		const char *point;
		uint64_t first, rest; /* what the words are before the redo */
		bool committed;
	} cases[] = {
		{"commit-before", 0, 0, false},
		{"commit-stored", 0, 0, true},
		{"commit-half", 1, 0, true},
	};
	struct arena *arena = ((struct world *)*state)->arena;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t *words = words_of(arena);

		commit_until(arena, words, cases[i].point);
		assert_int_equal(words[0], cases[i].first);
		assert_int_equal(words[1], cases[i].rest);
		assert_true(arena_redo(arena));
		for (unsigned word = 0; word < 3; word++)
			assert_int_equal(words[word], cases[i].committed ? word + 1 : 0);
	}
}
#else
static void test_a_death_leaves_all_of_a_commit_or_nothing(void **state)
{
	(void)state;
	skip(); /* crash points are in test builds */
}
#endif

#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, world_setup, world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_WORLD(test_commit_of_one_word_needs_no_redo),
		IN_WORLD(test_commit_of_many_words),
		IN_WORLD(test_commit_keeps_the_later_value_and_leaves_out_what_stays),
		cmocka_unit_test(test_impossible_commits_are_broken_invariants),
		IN_WORLD(test_redo_completes_what_was_stored),
		IN_WORLD(test_pairs_without_a_count_mean_nothing),
		IN_WORLD(test_redo_refuses_pairs_that_make_no_sense),
		IN_WORLD(test_attaching_completes_the_commit_in_a_private_view),
		IN_WORLD(test_a_death_leaves_all_of_a_commit_or_nothing),
	};

	return cmocka_run_group_tests_name("arena_commit", tests, NULL, NULL);
}

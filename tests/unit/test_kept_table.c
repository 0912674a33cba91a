/* SPDX-License-Identifier: ISC */
/*
 * The keeper's table: generations decide, every descriptor is closed exactly
 * once, and the table agrees with a plain list whatever the order of changes.
 */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "keepsock/kept_table.h"

#define REFS 200u

static struct kept_table table;
static size_t fds_before;

static size_t count_open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	size_t count = 0;

	assert_non_null(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

static int set_up(void **state)
{
	(void)state;
	table = (struct kept_table){0};
	fds_before = count_open_fds();
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	kept_table_clear(&table, false);
	assert_int_equal(count_open_fds(), fds_before);
	return 0;
}

static int some_fd(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static enum kept_outcome put(uint32_t ref, uint64_t generation)
{
	const struct keeper_item item = {ref, KEEPER_KIND_CLIENT, generation};

	return kept_table_put(&table, &item, some_fd());
}

static void assert_kept(size_t count)
{
	assert_int_equal(table.count, count);
	assert_int_equal(count_open_fds(), fds_before + count);
}

static void test_the_generation_decides(void **state)
{
	(void)state;
	assert_int_equal(put(8, 5), KEPT_ADDED);
	assert_int_equal(put(8, 5), KEPT_REFUSED);
	assert_int_equal(put(8, 4), KEPT_REFUSED);
	assert_kept(1);
	assert_int_equal(put(8, 6), KEPT_REPLACED);
	assert_kept(1);
	assert_false(kept_table_remove(&table, 8, 5));
	assert_false(kept_table_remove(&table, 12, 6));
	assert_kept(1);
	assert_true(kept_table_remove(&table, 8, 6));
	assert_false(kept_table_remove(&table, 8, 6));
	assert_kept(0);
}

/* What is kept comes back as it was put, up to the bounds; beyond them it is refused. */
static void test_items_have_bounds(void **state)
{
	const struct keeper_item largest = {UINT32_MAX, KEPT_KIND_MAX, KEPT_GENERATION_MAX};
	struct keeper_item item = {4, KEEPER_KIND(KEEPER_KIND_REDIS, 63), 1};
	struct kept kept;

	(void)state;
	assert_int_equal(kept_table_put(&table, &item, some_fd()), KEPT_ADDED);
	assert_true(kept_table_find(&table, 4, &kept));
	assert_memory_equal(&kept.item, &item, sizeof(item));
	assert_int_equal(kept_table_put(&table, &largest, some_fd()), KEPT_ADDED);
	assert_true(kept_table_find(&table, UINT32_MAX, &kept));
	assert_memory_equal(&kept.item, &largest, sizeof(largest));
	item.generation = KEPT_GENERATION_MAX + 1;
	assert_int_equal(kept_table_put(&table, &item, some_fd()), KEPT_REFUSED);
	/* What fits into the slot of it is another one's. */
	item.generation = KEPT_GENERATION_MAX + 2;
	assert_false(kept_table_remove(&table, 4, item.generation));
	item.generation = 2;
	item.kind = KEPT_KIND_MAX + 1;
	assert_int_equal(kept_table_put(&table, &item, some_fd()), KEPT_REFUSED);
	assert_kept(2);
	assert_true(kept_table_remove(&table, 4, 1));
	assert_true(kept_table_remove(&table, UINT32_MAX, KEPT_GENERATION_MAX));
	assert_false(kept_table_find(&table, 4, &kept));
	assert_kept(0);
}

static void test_no_passport_is_refused(void **state)
{
	(void)state;
	assert_int_equal(put(0, 1), KEPT_REFUSED);
	assert_false(kept_table_remove(&table, 0, 1));
	assert_kept(0);
}

static void test_an_empty_table_has_nothing(void **state)
{
	struct kept kept;
	size_t cursor = 0;

	(void)state;
	assert_false(kept_table_remove(&table, 4, 1));
	assert_false(kept_table_find(&table, 4, &kept));
	assert_false(kept_table_next(&table, &cursor, &kept));
}

/* The walk must see each entry of the list once, and nothing else. */
static void assert_agrees(const uint64_t *generations)
{
	bool seen[REFS] = {false};
	size_t cursor = 0, expected = 0;
	struct kept kept;

	while (kept_table_next(&table, &cursor, &kept)) {
		uint32_t i = kept.item.ref / 4 - 1;

		assert_true(i < REFS);
		assert_false(seen[i]);
		assert_true(kept.item.generation == generations[i]);
		assert_true(fcntl(kept.fd, F_GETFD) >= 0);
		seen[i] = true;
	}
	for (size_t i = 0; i < REFS; i++) {
		assert_int_equal(seen[i], generations[i] != 0);
		expected += seen[i];
	}
	assert_kept(expected);
}

/* Refs as passports have them: multiples of four, so that homes collide. */
static void test_it_agrees_with_a_list(void **state)
{
	uint64_t generations[REFS] = {0};
	uint64_t generation = 0;

	(void)state;
	srandom(4711);
	for (int round = 0; round < 20000; round++) {
		uint32_t i = (uint32_t)random() % REFS;
		uint32_t ref = (i + 1) * 4;

		if (random() % 5 < 2) {
			bool held = generations[i] != 0;

			assert_int_equal(kept_table_remove(&table, ref, generations[i]), held);
			generations[i] = 0;
		} else {
			enum kept_outcome outcome = put(ref, ++generation);

			assert_int_equal(outcome, generations[i] ? KEPT_REPLACED : KEPT_ADDED);
			generations[i] = generation;
		}
		if (round % 500 == 0)
			assert_agrees(generations);
	}
	assert_agrees(generations);
}

/* With a duplicate elsewhere, only a shutdown tells the peer. */
static void test_ending_is_told_to_the_peers(void **state)
{
	const struct keeper_item item = {4, KEEPER_KIND_CLIENT, 1};
	char byte;

	(void)state;
	for (int end = 0; end < 2; end++) {
		int pair[2];

		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
		kept_table_put(&table, &item, fcntl(pair[0], F_DUPFD_CLOEXEC, 3));
		kept_table_clear(&table, end == 1);
		assert_int_equal(table.count, 0);
		assert_int_equal(recv(pair[1], &byte, 1, MSG_DONTWAIT), end == 1 ? 0 : -1);
		close(pair[0]);
		close(pair[1]);
	}
}

int main(void)
{
#define WITH_TABLE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		WITH_TABLE(test_the_generation_decides),
		WITH_TABLE(test_items_have_bounds),
		WITH_TABLE(test_no_passport_is_refused),
		WITH_TABLE(test_an_empty_table_has_nothing),
		WITH_TABLE(test_it_agrees_with_a_list),
		WITH_TABLE(test_ending_is_told_to_the_peers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

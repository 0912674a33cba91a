/* SPDX-License-Identifier: ISC */
/*
 * The map from channels to shards: values pinned for ever, an even spread, and
 * that a new shard takes its channels from all others and moves no other one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "keepsock/redis_shard.h"

#define CHANNELS 64000u

static unsigned shard_of_number(unsigned number, unsigned shard_count)
{
	char name[32];
	int len = snprintf(name, sizeof(name), "chat:room-%u", number);

	return redis_shard_of(slice_from(name, (size_t)len), shard_count);
}

/* Changing one of these loses the history of every installation with several shards. */
static void test_the_map_never_changes(void **state)
{
	static const struct {
		const char *channel;
		unsigned of_2, of_3, of_64;
	} pinned[] = {
		{"", 1, 1, 44},        {"a", 1, 2, 16},
		{"b", 0, 2, 5},        {"news", 1, 1, 9},
		{"chat:1", 0, 2, 10},  {"chat:2", 1, 1, 61},
		{"$secret", 1, 2, 62}, {"#42", 0, 0, 27},
		{"index", 1, 1, 18},   {"a much longer name of a channel, to be sure", 0, 0, 41},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(pinned) / sizeof(pinned[0]); i++) {
		struct slice channel = slice_str(pinned[i].channel);

		assert_int_equal(redis_shard_of(channel, 1), 0);
		assert_int_equal(redis_shard_of(channel, 2), pinned[i].of_2);
		assert_int_equal(redis_shard_of(channel, 3), pinned[i].of_3);
		assert_int_equal(redis_shard_of(channel, 64), pinned[i].of_64);
	}
	/* Any bytes are a name. */
	assert_true(redis_shard_of(slice_from("\xff\0\n", 3), 64) < 64);
}

static void test_channels_spread_evenly(void **state)
{
	static const unsigned counts[] = {2, 3, 7, 64};

	(void)state;
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		unsigned n = counts[i], hits[REDIS_SHARDS_MAX] = {0};

		for (unsigned number = 0; number < CHANNELS; number++)
			hits[shard_of_number(number, n)]++;
		for (unsigned shard = 0; shard < n; shard++) {
			assert_in_range(hits[shard], CHANNELS / n * 8 / 10, CHANNELS / n * 12 / 10);
		}
	}
}

static void test_a_new_shard_moves_only_what_it_takes(void **state)
{
	(void)state;
	for (unsigned n = 1; n < REDIS_SHARDS_MAX; n++) {
		unsigned moved = 0;

		for (unsigned number = 0; number < 2000; number++) {
			unsigned before = shard_of_number(number, n);
			unsigned after = shard_of_number(number, n + 1);

			assert_true(after == before || after == n);
			moved += after != before;
		}
		assert_true(moved > 0);
		assert_true(moved < 2 * 2000 / (n + 1) + 20);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_map_never_changes),
		cmocka_unit_test(test_channels_spread_evenly),
		cmocka_unit_test(test_a_new_shard_moves_only_what_it_takes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

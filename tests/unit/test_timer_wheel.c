/* SPDX-License-Identifier: ISC */
/*
 * The timer wheel: nothing fires early within the horizon, everything fires,
 * and the owner may change its mind at any time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "worker/timer_wheel.h"

#define TICK    TIMER_WHEEL_TICK_MS
#define START   (1000 * TICK)
#define HORIZON ((TIMER_WHEEL_SLOTS - 1) * TICK)

static struct timer_wheel wheel;

static int start_wheel(void **state)
{
	(void)state;
	timer_wheel_init(&wheel, START);
	return 0;
}

static void test_fires_at_its_time_and_once(void **state)
{
	struct timer_entry entry = {0};

	(void)state;
	timer_wheel_set(&wheel, &entry, START + 10 * TICK);
	assert_null(timer_wheel_due(&wheel, START + 10 * TICK - 1));
	assert_ptr_equal(timer_wheel_due(&wheel, START + 10 * TICK), &entry);
	assert_null(timer_wheel_due(&wheel, START + 10 * TICK));
	assert_null(timer_wheel_due(&wheel, START + 3 * HORIZON));
}

static void test_is_never_early_within_the_horizon(void **state)
{
	(void)state;
	for (uint64_t after = 1; after < 5 * TICK; after++) {
		struct timer_entry entry = {0};

		timer_wheel_init(&wheel, START);
		timer_wheel_set(&wheel, &entry, START + after);
		assert_null(timer_wheel_due(&wheel, START + after - 1));
		assert_ptr_equal(timer_wheel_due(&wheel, START + after + TICK - 1), &entry);
	}
}

static void test_what_is_past_fires_with_the_next_tick(void **state)
{
	struct timer_entry entry = {0};

	(void)state;
	timer_wheel_set(&wheel, &entry, 1);
	assert_null(timer_wheel_due(&wheel, START));
	assert_ptr_equal(timer_wheel_due(&wheel, START + TICK), &entry);
}

static void test_zero_disarms(void **state)
{
	struct timer_entry entry = {0};

	(void)state;
	timer_wheel_set(&wheel, &entry, 0);
	timer_wheel_set(&wheel, &entry, START + TICK);
	timer_wheel_set(&wheel, &entry, 0);
	assert_null(timer_wheel_due(&wheel, START + 2 * HORIZON));
}

static void test_setting_again_moves_it(void **state)
{
	struct timer_entry entry = {0};

	(void)state;
	timer_wheel_set(&wheel, &entry, START + 2 * TICK);
	timer_wheel_set(&wheel, &entry, START + 20 * TICK);
	assert_null(timer_wheel_due(&wheel, START + 19 * TICK));
	assert_ptr_equal(timer_wheel_due(&wheel, START + 20 * TICK), &entry);
}

static void test_beyond_the_horizon_comes_around_early(void **state)
{
	struct timer_entry entry = {0};
	uint64_t when = START + 5 * HORIZON, now = START;
	int rounds = 0;

	(void)state;
	timer_wheel_set(&wheel, &entry, when);
	while (now < when) {
		now += TICK;
		if (timer_wheel_due(&wheel, now)) {
			rounds++;
			if (now < when)
				timer_wheel_set(&wheel, &entry, when);
		}
	}
	assert_in_range(rounds, 5, 7);
	assert_null(entry.link);
}

static void test_after_a_long_pause_all_fire(void **state)
{
	struct timer_entry entries[TIMER_WHEEL_SLOTS] = {0};
	unsigned fired = 0;

	(void)state;
	for (unsigned i = 0; i < TIMER_WHEEL_SLOTS; i++)
		timer_wheel_set(&wheel, &entries[i], START + (i + 1) * TICK);
	while (timer_wheel_due(&wheel, START + 10 * HORIZON))
		fired++;
	assert_int_equal(fired, TIMER_WHEEL_SLOTS);
}

static void test_neighbours_survive_a_removal(void **state)
{
	struct timer_entry entries[3] = {0};

	(void)state;
	for (int removed = 0; removed < 3; removed++) {
		timer_wheel_init(&wheel, START);
		for (int i = 0; i < 3; i++)
			timer_wheel_set(&wheel, &entries[i], START + TICK);
		timer_wheel_set(&wheel, &entries[removed], 0);
		for (int left = 2; left > 0; left--) {
			struct timer_entry *due = timer_wheel_due(&wheel, START + TICK);

			assert_non_null(due);
			assert_ptr_not_equal(due, &entries[removed]);
		}
		assert_null(timer_wheel_due(&wheel, START + TICK));
	}
}

/* Random times and changes against a plain array of times. */
static void test_against_a_model(void **state)
{
	enum { COUNT = 200 };
	struct timer_entry entries[COUNT] = {0};
	uint64_t when[COUNT] = {0}, now = START;

	(void)state;
	srandom(20260101);
	for (int step = 0; step < 20000; step++) {
		struct timer_entry *due;
		int i = (int)(random() % COUNT);

		when[i] = random() % 4 ? now + 1 + (uint64_t)random() % (HORIZON - TICK) : 0;
		timer_wheel_set(&wheel, &entries[i], when[i]);
		now += (uint64_t)random() % TICK;
		while ((due = timer_wheel_due(&wheel, now))) {
			i = (int)(due - entries);
			assert_int_not_equal(when[i], 0);
			assert_true(when[i] <= now);
			when[i] = 0;
		}
		for (i = 0; i < COUNT; i++)
			assert_true(when[i] == 0 || when[i] + TICK > now);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_fires_at_its_time_and_once, start_wheel),
		cmocka_unit_test_setup(test_is_never_early_within_the_horizon, start_wheel),
		cmocka_unit_test_setup(test_what_is_past_fires_with_the_next_tick, start_wheel),
		cmocka_unit_test_setup(test_zero_disarms, start_wheel),
		cmocka_unit_test_setup(test_setting_again_moves_it, start_wheel),
		cmocka_unit_test_setup(test_beyond_the_horizon_comes_around_early, start_wheel),
		cmocka_unit_test_setup(test_after_a_long_pause_all_fire, start_wheel),
		cmocka_unit_test_setup(test_neighbours_survive_a_removal, start_wheel),
		cmocka_unit_test_setup(test_against_a_model, start_wheel),
	};

	return cmocka_run_group_tests_name("timer wheel", tests, NULL, NULL);
}

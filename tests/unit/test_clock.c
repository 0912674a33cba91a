/* SPDX-License-Identifier: ISC */
/* The clocks: they go forward, agree with each other and with the kernel's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "keepsock/clock.h"

static void test_boottime_goes_forward(void **state)
{
	uint64_t last = clock_boottime_ns();

	(void)state;
	for (int i = 0; i < 10000; i++) {
		uint64_t now = clock_boottime_ns();

		assert_true(now >= last);
		last = now;
	}
}

static void test_milliseconds_are_nanoseconds_divided(void **state)
{
	uint64_t before = clock_boottime_ns() / 1000000;
	uint64_t ms = clock_boottime_ms();
	uint64_t after = clock_boottime_ns() / 1000000;

	(void)state;
	assert_true(before <= ms && ms <= after);
}

static void test_wall_clock_is_unix_time(void **state)
{
	uint64_t before, wall;
	struct timespec now;

	(void)state;
	/* time() is taken from a coarser clock, so bracket with the precise one. */
	assert_int_equal(clock_gettime(CLOCK_REALTIME, &now), 0);
	before = (uint64_t)now.tv_sec;
	wall = clock_wall_ms() / 1000;
	assert_int_equal(clock_gettime(CLOCK_REALTIME, &now), 0);
	assert_true(before <= wall && wall <= (uint64_t)now.tv_sec);
}

static void test_wall_time_as_text(void **state)
{
	char text[CLOCK_TEXT_SIZE];

	(void)state;
	clock_wall_text(0, text);
	assert_string_equal(text, "1970-01-01T00:00:00.000Z");
	clock_wall_text(UINT64_C(1709210096007), text);
	assert_string_equal(text, "2024-02-29T12:34:56.007Z");
	/* No calendar has it, and nothing may overflow. */
	clock_wall_text(UINT64_MAX, text);
	assert_true(strlen(text) < CLOCK_TEXT_SIZE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_boottime_goes_forward),
		cmocka_unit_test(test_milliseconds_are_nanoseconds_divided),
		cmocka_unit_test(test_wall_clock_is_unix_time),
		cmocka_unit_test(test_wall_time_as_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

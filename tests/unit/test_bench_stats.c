/* SPDX-License-Identifier: ISC */
/*
 * The statistics of keepsock-bench against values computed by hand, and the
 * histogram against exact percentiles.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bench/stats.h"

static void test_median(void **state)
{
	double odd[] = {9, 1, 5};
	double even[] = {4, 1, 3, 2};
	double one[] = {7};

	(void)state;
	assert_true(stats_median(odd, 3) == 5);
	assert_true(stats_median(even, 4) == 2.5);
	assert_true(stats_median(one, 1) == 7);
	assert_true(stats_median(NULL, 0) == 0);
	/* It leaves the values sorted: callers take the extremes from the ends. */
	assert_true(odd[0] == 1 && odd[2] == 9);
}

static void test_empty_histogram(void **state)
{
	static struct histogram h;

	(void)state;
	histogram_reset(&h);
	assert_int_equal(histogram_percentile(&h, 50), 0);
	assert_int_equal(histogram_percentile(&h, 100), 0);
}

/* Below 64 every value has a bucket of its own. */
static void test_small_values_are_exact(void **state)
{
	static struct histogram h;

	(void)state;
	histogram_reset(&h);
	for (uint64_t v = 1; v <= 50; v++)
		histogram_add(&h, v);
	assert_int_equal(h.count, 50);
	assert_int_equal(histogram_percentile(&h, 0), 1);
	assert_int_equal(histogram_percentile(&h, 2), 1);
	assert_int_equal(histogram_percentile(&h, 2.1), 2);
	assert_int_equal(histogram_percentile(&h, 50), 25);
	assert_int_equal(histogram_percentile(&h, 99), 50);
	assert_int_equal(histogram_percentile(&h, 100), 50);
}

static void test_one_outlier(void **state)
{
	static struct histogram h;

	(void)state;
	histogram_reset(&h);
	for (int i = 0; i < 99; i++)
		histogram_add(&h, 10);
	histogram_add(&h, 1000000007);
	assert_int_equal(histogram_percentile(&h, 99), 10);
	assert_int_equal(histogram_percentile(&h, 99.5), 1000000007);
	assert_int_equal(histogram_percentile(&h, 100), 1000000007);
}

/* Over the whole range: never below the value, at most 1/32 above. */
static void test_bucket_error(void **state)
{
	static struct histogram h;

	(void)state;
	for (unsigned bit = 0; bit < 64; bit++) {
		uint64_t power = UINT64_C(1) << bit;
		uint64_t values[] = {power - 1, power, power + power / 3, power + (power - 1)};

		for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
			uint64_t told;

			histogram_reset(&h);
			histogram_add(&h, values[i]);
			histogram_add(&h, UINT64_MAX); /* so that the maximum hides nothing */
			told = histogram_percentile(&h, 50);
			assert_true(told >= values[i]);
			assert_true(told - values[i] <= values[i] / 32);
		}
	}
}

static void test_uniform_values(void **state)
{
	static const double percents[] = {1, 10, 50, 90, 99, 99.9};
	static struct histogram h;

	(void)state;
	histogram_reset(&h);
	for (uint64_t v = 1; v <= 100000; v++)
		histogram_add(&h, v);
	for (size_t i = 0; i < sizeof(percents) / sizeof(percents[0]); i++) {
		uint64_t exact = (uint64_t)(percents[i] * 1000);
		uint64_t told = histogram_percentile(&h, percents[i]);

		assert_true(told >= exact);
		assert_true(told - exact <= exact / 32 + 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_median),
		cmocka_unit_test(test_empty_histogram),
		cmocka_unit_test(test_small_values_are_exact),
		cmocka_unit_test(test_one_outlier),
		cmocka_unit_test(test_bucket_error),
		cmocka_unit_test(test_uniform_values),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: ISC */
/*
 * The statistics of keepsock-bench: exact medians, and a log-linear histogram
 * whose memory does not depend on how many latencies were recorded.
 */
#include "stats.h"

#include <stdlib.h>

static int compare_doubles(const void *a, const void *b)
{
	double left = *(const double *)a;
	double right = *(const double *)b;

	return (left > right) - (left < right);
}

double stats_median(double *values, size_t count)
{
	if (count == 0)
		return 0;
	qsort(values, count, sizeof(*values), compare_doubles);
	if (count % 2 == 1)
		return values[count / 2];
	return (values[count / 2 - 1] + values[count / 2]) / 2;
}

void histogram_reset(struct histogram *h)
{
	*h = (struct histogram){0};
}

/* How far a value is shifted right so that 32 <= result < 64; 0 below 64. */
static unsigned bucket_shift(uint64_t value)
{
	return value < 2 * HISTOGRAM_SUBBUCKETS ? 0 : 63 - 5 - (unsigned)__builtin_clzll(value);
}

static size_t bucket_of(uint64_t value)
{
	unsigned shift = bucket_shift(value);

	return (size_t)shift * HISTOGRAM_SUBBUCKETS + (size_t)(value >> shift);
}

/* The largest value that lands in the bucket. */
static uint64_t bucket_end(size_t bucket)
{
	unsigned shift;

	if (bucket < 2 * HISTOGRAM_SUBBUCKETS)
		return bucket;
	shift = (unsigned)(bucket / HISTOGRAM_SUBBUCKETS) - 1;
	return ((uint64_t)(bucket - (size_t)shift * HISTOGRAM_SUBBUCKETS + 1) << shift) - 1;
}

void histogram_add(struct histogram *h, uint64_t value)
{
	h->buckets[bucket_of(value)]++;
	h->count++;
	if (value > h->max)
		h->max = value;
}

uint64_t histogram_percentile(const struct histogram *h, double percent)
{
	double exact = (double)h->count * percent / 100.0;
	uint64_t rank = (uint64_t)exact;
	uint64_t seen = 0;

	rank += (double)rank < exact || rank == 0;
	for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
		seen += h->buckets[i];
		if (seen >= rank) {
			uint64_t end = bucket_end(i);

			return end < h->max ? end : h->max;
		}
	}
	return h->max;
}

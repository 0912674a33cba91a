/* SPDX-License-Identifier: ISC */
/*
 * Figures of a run: the median of a few rounds, exactly, and percentiles of
 * millions of latencies from a histogram of fixed size. Pure computation.
 */
#ifndef KEEPSOCK_BENCH_STATS_H
#define KEEPSOCK_BENCH_STATS_H

#include <stddef.h>
#include <stdint.h>

/* Sorts values. The mean of the middle two for an even count; 0 for none. */
double stats_median(double *values, size_t count);

/*
 * Buckets grow with the value: each power of two is cut into 32, so a figure
 * read back is at most 1/32 above the recorded one. Zeroed is empty.
 */
#define HISTOGRAM_SUBBUCKETS 32
#define HISTOGRAM_BUCKETS    ((64 - 5 + 1) * HISTOGRAM_SUBBUCKETS)

struct histogram {
	uint64_t count;
	uint64_t max;
	uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_reset(struct histogram *h);
void histogram_add(struct histogram *h, uint64_t value);

/*
 * The smallest value that at least percent % of the recorded ones do not exceed
 * (nearest rank), rounded up to its bucket's end; 100 is the maximum, exactly.
 * 0 when nothing was recorded.
 */
uint64_t histogram_percentile(const struct histogram *h, double percent);

#endif

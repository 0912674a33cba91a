/* SPDX-License-Identifier: ISC */
/*
 * Measuring: what a stretch of work cost in time and CPU, here and in the
 * server, and the rounds of such stretches that the figures are medians of.
 */
#ifndef KEEPSOCK_BENCH_MEASURE_H
#define KEEPSOCK_BENCH_MEASURE_H

#include <stdint.h>

#include "bench.h"
#include "stats.h"

/* Nanoseconds; readings between start and stop, differences after it. */
struct meter {
	uint64_t elapsed;
	uint64_t own_cpu;
	uint64_t server_cpu; /* 0 without --server-pid */
};

/* 0, or -1 with the loop failed: a --server-pid is gone. */
int meter_start(struct meter *meter, struct bench *bench);
int meter_stop(struct meter *meter, struct bench *bench);

struct rounds {
	struct bench *bench;
	const char *unit; /* "messages": what the figures count */
	int (*run)(void *ctx, uint64_t messages);
	void *ctx;
	uint64_t units_per_message;
	struct histogram *latency; /* filled by run; emptied after the warm-up */
};

/* The warm-up, the rounds, and their figures into the report. 0, or -1: failed. */
int rounds_measure(const struct rounds *rounds);

/* p50, p90, p99 and maximum in microseconds, as PREFIX_us_p50 and so on. */
void report_latency(struct report *report, const char *prefix, const struct histogram *latency);

#endif

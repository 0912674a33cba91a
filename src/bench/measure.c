/* SPDX-License-Identifier: ISC */
/*
 * Rounds of measured work. CPU time is read at both ends of a round, when
 * nothing is under way, so every cost of the round and none of another is in it.
 */
#include "measure.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "keepsock/alloc.h"
#include "keepsock/clock.h"

static int read_all(struct meter *now, struct bench *bench)
{
	if (usage_cpu_ns(&bench->options->server_pids, &now->server_cpu) != 0) {
		loop_fail(&bench->loop, "--server-pid: reading its CPU time: %s", strerror(errno));
		return -1;
	}
	now->own_cpu = usage_own_cpu_ns();
	now->elapsed = clock_boottime_ns();
	return 0;
}

int meter_start(struct meter *meter, struct bench *bench)
{
	return read_all(meter, bench);
}

int meter_stop(struct meter *meter, struct bench *bench)
{
	struct meter now;

	if (read_all(&now, bench) != 0)
		return -1;
	meter->elapsed = now.elapsed - meter->elapsed;
	meter->own_cpu = now.own_cpu - meter->own_cpu;
	meter->server_cpu = now.server_cpu - meter->server_cpu;
	return 0;
}

/* One figure of every round. */
struct series {
	double *values; /* owned */
	size_t count;
};

static void series_report(struct series *series, struct report *report, const char *name,
			  int decimals)
{
	char key[96];

	report_figure(report, name, stats_median(series->values, series->count), decimals);
	if (series->count < 2)
		return;
	/* The median sorted them. */
	snprintf(key, sizeof(key), "%s_min", name);
	report_figure(report, key, series->values[0], decimals);
	snprintf(key, sizeof(key), "%s_max", name);
	report_figure(report, key, series->values[series->count - 1], decimals);
}

void report_latency(struct report *report, const char *prefix, const struct histogram *latency)
{
	static const struct {
		const char *suffix;
		double percent;
	} figures[] = {{"p50", 50}, {"p90", 90}, {"p99", 99}, {"max", 100}};
	char key[96];

	for (size_t i = 0; i < sizeof(figures) / sizeof(figures[0]); i++) {
		snprintf(key, sizeof(key), "%s_us_%s", prefix, figures[i].suffix);
		report_figure(report, key,
			      (double)histogram_percentile(latency, figures[i].percent) / 1000, 1);
	}
}

enum { PER_SECOND, SERVER_CPU, OWN_CPU, SERIES_COUNT };

static int run_rounds(const struct rounds *rounds, struct series series[SERIES_COUNT])
{
	const struct bench_options *options = rounds->bench->options;
	double units = (double)options->messages * (double)rounds->units_per_message;

	for (uint64_t i = 0; i < options->rounds; i++) {
		struct meter meter;

		if (meter_start(&meter, rounds->bench) != 0 ||
		    rounds->run(rounds->ctx, options->messages) != 0 ||
		    meter_stop(&meter, rounds->bench) != 0)
			return -1;
		series[PER_SECOND].values[i] = units * 1e9 / (double)meter.elapsed;
		/* ns per unit = s per 10^9 units, so a thousandth of it is s per million. */
		series[SERVER_CPU].values[i] = (double)meter.server_cpu / units / 1000;
		series[OWN_CPU].values[i] = 100.0 * (double)meter.own_cpu / (double)meter.elapsed;
	}
	return 0;
}

int rounds_measure(const struct rounds *rounds)
{
	const struct bench_options *options = rounds->bench->options;
	struct report *report = &rounds->bench->report;
	struct series series[SERIES_COUNT];
	char key[96];
	int result;

	if (options->warm_up > 0 && rounds->run(rounds->ctx, options->warm_up) != 0)
		return -1;
	histogram_reset(rounds->latency);
	for (size_t i = 0; i < SERIES_COUNT; i++)
		series[i] =
			(struct series){xcalloc(options->rounds, sizeof(double)), options->rounds};
	result = run_rounds(rounds, series);
	if (result == 0) {
		report_count(report, "rounds", options->rounds);
		snprintf(key, sizeof(key), "%s_per_second", rounds->unit);
		series_report(&series[PER_SECOND], report, key, 0);
		snprintf(key, sizeof(key), "server_cpu_seconds_per_million_%s", rounds->unit);
		if (options->server_pids.count > 0)
			series_report(&series[SERVER_CPU], report, key, 4);
		report_figure(report, "own_cpu_percent",
			      stats_median(series[OWN_CPU].values, series[OWN_CPU].count), 0);
	}
	for (size_t i = 0; i < SERIES_COUNT; i++)
		free(series[i].values);
	return result;
}

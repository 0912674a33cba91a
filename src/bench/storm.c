/* SPDX-License-Identifier: ISC */
/*
 * keepsock-bench storm: how fast the server takes new connections. They stay
 * open until the end, so only opening is measured.
 */
#include "bench.h"
#include "crowd.h"
#include "measure.h"

int bench_storm(struct bench *bench)
{
	const struct bench_options *options = bench->options;
	const struct session_handler handler = {.role = "connection",
						.raw = options->raw,
						.socket_io = options->socket_io,
						.recover = options->recover,
						.channel = options->channel};
	size_t count = (size_t)options->connections;
	struct crowd crowd = {0};
	struct meter meter;
	int result = meter_start(&meter, bench);

	if (result != 0)
		return result;
	result = crowd_open(&crowd, &bench->loop, &bench->target, &handler, NULL, count,
			    (size_t)options->in_flight, options->rate);
	if (result == 0)
		result = meter_stop(&meter, bench);
	if (result == 0) {
		report_figure(&bench->report, "connections_per_second",
			      (double)count * 1e9 / (double)meter.elapsed, 0);
		if (options->server_pids.count > 0)
			report_figure(&bench->report, "server_cpu_us_per_connection",
				      (double)meter.server_cpu / (double)count / 1000, 2);
		report_figure(&bench->report, "own_cpu_percent",
			      100.0 * (double)meter.own_cpu / (double)meter.elapsed, 0);
		report_latency(&bench->report, "open", crowd.latency);
	}
	crowd_close(&crowd);
	return result;
}

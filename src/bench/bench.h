/* SPDX-License-Identifier: ISC */
/*
 * One run of keepsock-bench, and the commands. A command returns 0, or -1 with
 * the loop failed; what it found out is in the report.
 */
#ifndef KEEPSOCK_BENCH_BENCH_H
#define KEEPSOCK_BENCH_BENCH_H

#include "loop.h"
#include "options.h"
#include "report.h"
#include "target.h"

struct bench {
	const struct bench_options *options; /* borrowed */
	struct loop loop;
	struct target target; /* of --url */
	struct report report;
};

int bench_echo(struct bench *bench);
int bench_fanout(struct bench *bench);
int bench_idle(struct bench *bench);
int bench_storm(struct bench *bench);

/* Handshakes under way where --in-flight means something else. */
#define BENCH_OPENING_LIMIT 100

#endif

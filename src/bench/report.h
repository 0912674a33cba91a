/* SPDX-License-Identifier: ISC */
/*
 * The result of a run: a list of named figures, printed as text for people or
 * as one JSON object for scripts. Both come from the same list.
 */
#ifndef KEEPSOCK_BENCH_REPORT_H
#define KEEPSOCK_BENCH_REPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "keepsock/buffer.h"

/* Zeroed is empty. */
struct report {
	struct buffer text;
	struct buffer json;
};

void report_free(struct report *report);

/* name: a JSON key in snake_case; the text shows it with spaces. */
void report_text(struct report *report, const char *name, const char *value);
void report_count(struct report *report, const char *name, uint64_t value);
void report_figure(struct report *report, const char *name, double value, int decimals);

/* To stdout. 0, or -1 with errno. */
int report_print(const struct report *report, bool json);

#endif

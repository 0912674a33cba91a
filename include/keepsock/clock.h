/* SPDX-License-Identifier: ISC */
/*
 * The two clocks of keepsock. Deadlines and everything in the arena use
 * CLOCK_BOOTTIME: it never jumps, counts suspended time, and means the same in
 * every process of the host. Wall time is only for what leaves the host:
 * expiry stamps, logs.
 */
#ifndef KEEPSOCK_CLOCK_H
#define KEEPSOCK_CLOCK_H

#include <stdint.h>

uint64_t clock_boottime_ms(void);
uint64_t clock_boottime_ns(void);

/* Milliseconds since 1970-01-01T00:00:00Z. */
uint64_t clock_wall_ms(void);

#define CLOCK_TEXT_SIZE 80 /* for any struct tm, as compilers reckon */

/* "2026-01-31T12:00:00.123Z", by RFC 3339; of the year 1900 for what no calendar has. */
void clock_wall_text(uint64_t wall_ms, char text[CLOCK_TEXT_SIZE]);

#endif

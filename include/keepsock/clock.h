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

#endif

/* SPDX-License-Identifier: ISC */
/*
 * One timer per connection at 40 bytes: a wheel of 128 ms ticks. Times beyond
 * the wheel's horizon come around early and are put in again by their owner.
 */
#ifndef KEEPSOCK_WORKER_TIMER_WHEEL_H
#define KEEPSOCK_WORKER_TIMER_WHEEL_H

#include <stdint.h>

#define TIMER_WHEEL_TICK_MS 128u
#define TIMER_WHEEL_SLOTS   1024u

struct timer_entry {
	struct timer_entry *next, **link; /* link NULL = not armed */
};

struct timer_wheel {
	struct timer_entry *slots[TIMER_WHEEL_SLOTS];
	uint64_t tick; /* the last one served */
};

void timer_wheel_init(struct timer_wheel *wheel, uint64_t now_ms);
/* Arms (again) for a time; 0 disarms. Fires at or after `when_ms`, or earlier if that is beyond the
 * horizon: the owner looks at its clock and arms again. */
void timer_wheel_set(struct timer_wheel *wheel, struct timer_entry *entry, uint64_t when_ms);
/* Takes out one entry that is due; NULL when there is none. */
struct timer_entry *timer_wheel_due(struct timer_wheel *wheel, uint64_t now_ms);

#endif

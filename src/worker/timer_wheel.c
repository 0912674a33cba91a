/* SPDX-License-Identifier: ISC */
/*
 * The timer wheel of a worker's connections, see timer_wheel.h. It knows
 * entries only; who they belong to and whether they are really due is the
 * owner's business.
 */
#include "worker/timer_wheel.h"

#include <stddef.h>
#include <string.h>

void timer_wheel_init(struct timer_wheel *wheel, uint64_t now_ms)
{
	memset(wheel, 0, sizeof(*wheel));
	wheel->tick = now_ms / TIMER_WHEEL_TICK_MS;
}

static void unlink_entry(struct timer_entry *entry)
{
	if (!entry->link)
		return;
	*entry->link = entry->next;
	if (entry->next)
		entry->next->link = entry->link;
	entry->link = NULL;
	entry->next = NULL;
}

void timer_wheel_set(struct timer_wheel *wheel, struct timer_entry *entry, uint64_t when_ms)
{
	uint64_t tick = (when_ms + TIMER_WHEEL_TICK_MS - 1) / TIMER_WHEEL_TICK_MS;
	struct timer_entry **slot;

	unlink_entry(entry);
	if (when_ms == 0)
		return;
	if (tick <= wheel->tick)
		tick = wheel->tick + 1;
	if (tick > wheel->tick + TIMER_WHEEL_SLOTS - 1)
		tick = wheel->tick + TIMER_WHEEL_SLOTS - 1;
	slot = &wheel->slots[tick % TIMER_WHEEL_SLOTS];
	entry->next = *slot;
	entry->link = slot;
	if (*slot)
		(*slot)->link = &entry->next;
	*slot = entry;
}

struct timer_entry *timer_wheel_due(struct timer_wheel *wheel, uint64_t now_ms)
{
	uint64_t now = now_ms / TIMER_WHEEL_TICK_MS;

	for (;;) {
		struct timer_entry *entry = wheel->slots[wheel->tick % TIMER_WHEEL_SLOTS];

		if (entry) {
			unlink_entry(entry);
			return entry;
		}
		if (wheel->tick >= now)
			return NULL;
		wheel->tick++;
	}
}

/* SPDX-License-Identifier: ISC */
/*
 * The rings of node events in the node page: writing this process's, reading
 * all. Runs in master and workers. A writer killed in the middle leaves a
 * record that readers skip; nobody ever waits for one.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keepsock/clock.h"
#include "keepsock/node_events.h"
#include "keepsock/node_page.h"

_Static_assert(NODE_EVENTS_MAX == (NODE_WORKERS_MAX + 1) * NODE_EVENTS_KEPT,
	       "room for the events of every process");

static const char *const names[NODE_EVENT_COUNT] = {[NODE_EVENT_NONE] = "none",
#define EVENT(symbol, name) [NODE_EVENT_##symbol] = name,
						    NODE_EVENTS_TABLE(EVENT)
#undef EVENT
};

const char *node_event_name(enum node_event kind)
{
	return names[kind];
}

static void write_record(struct node_event_record *record, uint64_t number, enum node_event kind,
			 const char text[NODE_EVENT_TEXT_MAX])
{
	uint64_t word;

	atomic_store_explicit(&record->number, 0, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
	atomic_store_explicit(&record->at_ms, clock_wall_ms(), memory_order_relaxed);
	atomic_store_explicit(&record->kind, kind, memory_order_relaxed);
	for (size_t i = 0; i < NODE_EVENT_TEXT_MAX / 8; i++) {
		memcpy(&word, text + i * 8, sizeof(word));
		atomic_store_explicit(&record->text[i], word, memory_order_relaxed);
	}
	atomic_store_explicit(&record->number, number, memory_order_release);
}

void node_event_add(enum node_event kind, const char *fmt, ...)
{
	struct node_event_ring *ring = node_page_own_events;
	char text[NODE_EVENT_TEXT_MAX + 1] = "";
	uint64_t number;
	va_list args;

	if (!ring)
		return;
	va_start(args, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	number = atomic_load_explicit(&ring->count, memory_order_relaxed) + 1;
	write_record(&ring->records[(number - 1) % NODE_EVENTS_KEPT], number, kind, text);
	atomic_store_explicit(&ring->count, number, memory_order_release);
}

/* False: it is empty, or being written. */
static bool read_record(const struct node_event_record *record, struct node_event_view *view)
{
	uint64_t kind, word;

	view->number = atomic_load_explicit(&record->number, memory_order_acquire);
	view->at_ms = atomic_load_explicit(&record->at_ms, memory_order_relaxed);
	kind = atomic_load_explicit(&record->kind, memory_order_relaxed);
	for (size_t i = 0; i < NODE_EVENT_TEXT_MAX / 8; i++) {
		word = atomic_load_explicit(&record->text[i], memory_order_relaxed);
		memcpy(view->text + i * 8, &word, sizeof(word));
	}
	view->text[NODE_EVENT_TEXT_MAX] = '\0';
	atomic_thread_fence(memory_order_acquire);
	view->kind = kind < NODE_EVENT_COUNT ? (enum node_event)kind : NODE_EVENT_NONE;
	return view->number != 0 &&
	       view->number == atomic_load_explicit(&record->number, memory_order_relaxed);
}

static int compare_views(const void *a, const void *b)
{
	const struct node_event_view *left = a, *right = b;

	if (left->at_ms != right->at_ms)
		return left->at_ms < right->at_ms ? -1 : 1;
	if (left->slot != right->slot)
		return left->slot < right->slot ? -1 : 1;
	return (left->number > right->number) - (left->number < right->number);
}

size_t node_events_read(const struct node_page *page, struct node_event_view *views)
{
	size_t count = 0;

	for (uint32_t slot = 0; slot <= NODE_SLOT_MASTER; slot++) {
		const struct node_event_ring *ring = &page->slot[slot].events;

		for (size_t i = 0; i < NODE_EVENTS_KEPT; i++) {
			views[count].slot = slot;
			count += read_record(&ring->records[i], &views[count]);
		}
	}
	if (count > 0)
		qsort(views, count, sizeof(*views), compare_views);
	return count;
}

/* SPDX-License-Identifier: ISC */
/*
 * The metrics table at run time: names, help, and the node's values put
 * together from the slots of the node page. Runs in workers (/metrics) and the
 * master (`show metrics`). Reads other processes' counters, writes none.
 */
#include <inttypes.h>

#include "keepsock/buffer.h"
#include "keepsock/clock.h"
#include "keepsock/metrics.h"
#include "keepsock/node_page.h"

struct metric_definition {
	const char *name;
	const char *help;
	enum metric_kind kind;
};

static const struct metric_definition definitions[METRIC_COUNT] = {
#define METRIC(metric, metric_kind, metric_help) \
	[METRIC_##metric] = {#metric, metric_help, METRIC_KIND_##metric_kind},
	METRICS_TABLE(METRIC)
#undef METRIC
};

static struct counters before_claim;
struct counters *metrics_own = &before_claim;
struct node_event_ring *node_page_own_events;
static _Atomic uint64_t *own_loop_due_ms;

const char *metric_name(enum metric metric)
{
	return definitions[metric].name;
}

const char *metric_help(enum metric metric)
{
	return definitions[metric].help;
}

enum metric_kind metric_kind(enum metric metric)
{
	return definitions[metric].kind;
}

void node_page_claim_slot(struct node_page *page, uint32_t slot)
{
	struct counters *from = metrics_own;

	metrics_own = page ? &page->slot[slot].counters : &before_claim;
	node_page_own_events = page ? &page->slot[slot].events : NULL;
	own_loop_due_ms = page ? &page->slot[slot].loop_due_ms : NULL;
	if (!page || from != &before_claim)
		return;
	for (int i = 0; i < METRIC_COUNT; i++)
		metric_add((enum metric)i, atomic_exchange(&from->value[i], 0));
}

void node_page_set_loop_due(uint64_t boottime_ms)
{
	if (own_loop_due_ms)
		atomic_store_explicit(own_loop_due_ms, boottime_ms, memory_order_relaxed);
}

/* What a loop writes itself it writes when it is not late any more. */
static uint64_t loop_overdue_microseconds(const struct node_slot *slot)
{
	uint64_t due_ms = atomic_load_explicit(&slot->loop_due_ms, memory_order_relaxed);
	uint64_t now_ms = clock_boottime_ms();

	return due_ms > 0 && now_ms > due_ms ? (now_ms - due_ms) * 1000 : 0;
}

uint64_t metrics_slot_value(const struct node_page *page, uint32_t slot, enum metric metric)
{
	uint64_t value = node_page_get(page, slot, metric), overdue;

	if (metric != METRIC_loop_lag_microseconds)
		return value;
	overdue = loop_overdue_microseconds(&page->slot[slot]);
	return overdue > value ? overdue : value;
}

uint64_t metrics_node_value(const struct node_page *page, enum metric metric)
{
	enum metric_kind kind = metric_kind(metric);
	uint64_t value = metrics_slot_value(page, 0, metric);

	for (uint32_t slot = 1; slot < page->workers; slot++) {
		uint64_t next = metrics_slot_value(page, slot, metric);

		if (kind == METRIC_KIND_GAUGE_WORST)
			value = next > value ? next : value;
		else if (kind == METRIC_KIND_GAUGE_LEAST)
			value = next < value ? next : value;
		else
			value += next;
	}
	if (kind == METRIC_KIND_COUNTER || kind == METRIC_KIND_GAUGE)
		value += node_page_get(page, NODE_SLOT_MASTER, metric);
	return value;
}

void metrics_write_prometheus(struct buffer *out, const struct node_page *page)
{
	for (int i = 0; i < METRIC_COUNT; i++) {
		enum metric metric = (enum metric)i;
		const char *name = metric_name(metric);

		buffer_printf(out, "# HELP keepsock_%s %s\n", name, metric_help(metric));
		buffer_printf(out, "# TYPE keepsock_%s %s\n", name,
			      metric_kind(metric) == METRIC_KIND_COUNTER ? "counter" : "gauge");
		buffer_printf(out, "keepsock_%s %" PRIu64 "\n", name,
			      metrics_node_value(page, metric));
	}
}

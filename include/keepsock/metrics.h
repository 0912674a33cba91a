/* SPDX-License-Identifier: ISC */
/*
 * Metrics of a process: an array of 64-bit counters, one writer, many readers.
 * The array is a page of the node page (node_page.h) once the process has
 * claimed its slot, and private memory before that, so metric_add() may be
 * called at any time. Used by master and workers; no function here allocates,
 * blocks or fails, except the text writer, which appends to a buffer.
 */
#ifndef KEEPSOCK_METRICS_H
#define KEEPSOCK_METRICS_H

#include "keepsock/metrics_table.h"

#include <stdatomic.h>
#include <stdint.h>

struct buffer;
struct node_page;

enum metric_kind {
	METRIC_KIND_COUNTER,
	METRIC_KIND_GAUGE,
	METRIC_KIND_GAUGE_WORST,
	METRIC_KIND_GAUGE_LEAST,
};

/* clang-format off */
enum metric {
#define METRIC(name, kind, help) METRIC_##name,
	METRICS_TABLE(METRIC)
#undef METRIC
	METRIC_COUNT
};
/* clang-format on */

struct counters {
	_Atomic uint64_t value[METRIC_COUNT];
};

/* The counters this process writes: never NULL. Set by node_page_claim_slot(). */
extern struct counters *metrics_own;

/*
 * One writer per slot, so a load and a store suffice: no locked instruction on
 * the message path, and readers never see a torn value.
 */
static inline void metric_add(enum metric metric, uint64_t n)
{
	_Atomic uint64_t *value = &metrics_own->value[metric];

	atomic_store_explicit(value, atomic_load_explicit(value, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

/* For gauges only: counters never go down. */
static inline void metric_subtract(enum metric metric, uint64_t n)
{
	metric_add(metric, -n);
}

static inline void metric_set(enum metric metric, uint64_t n)
{
	atomic_store_explicit(&metrics_own->value[metric], n, memory_order_relaxed);
}

static inline uint64_t metric_get(enum metric metric)
{
	return atomic_load_explicit(&metrics_own->value[metric], memory_order_relaxed);
}

const char *metric_name(enum metric metric); /* without the prefix keepsock_ */
const char *metric_help(enum metric metric);
enum metric_kind metric_kind(enum metric metric);

/* The value of one slot. The lag of an event loop that stands still goes on growing. */
uint64_t metrics_slot_value(const struct node_page *page, uint32_t slot, enum metric metric);
/* The node's value of one metric: its workers and the master put together as its kind says. */
uint64_t metrics_node_value(const struct node_page *page, enum metric metric);

/* Appends every metric of the node in Prometheus text format 0.0.4. */
void metrics_write_prometheus(struct buffer *out, const struct node_page *page);
#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

#endif

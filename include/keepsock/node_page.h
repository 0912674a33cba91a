/* SPDX-License-Identifier: ISC */
/*
 * The node page: one sealed memfd made by the master and mapped by every
 * worker. It carries counters, the last events and users' connections per worker slot, and what is
 * limited node-wide, so both outlive a worker, and the node's role. Each process writes its own
 * slot only; the master also writes the slot of a worker that is dead. Everything in it
 * is an atomic word, nothing in it is a pointer, nobody ever waits on it.
 */
#ifndef KEEPSOCK_NODE_PAGE_H
#define KEEPSOCK_NODE_PAGE_H

#include "keepsock/metrics.h"
#include "keepsock/node_events.h"
#include "keepsock/node_moves.h"
#include "keepsock/node_role.h"
#include "keepsock/node_users.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define NODE_WORKERS_MAX 64
/* The master counts in a slot of its own, after the workers'. */
#define NODE_SLOT_MASTER NODE_WORKERS_MAX
#define NODE_PAGE_MAGIC  UINT64_C(0x6b736e6f64653036) /* "ksnode06": changes with the layout */

struct node_slot {
	_Alignas(64) struct counters counters;
	struct node_event_ring events;
	struct node_users users;
	_Atomic uint64_t loop_due_ms; /* boottime of its event loop's next tick; 0 = none */
};

struct node_page {
	uint64_t magic;
	uint64_t size; /* sizeof(struct node_page) of whoever made it */
	_Atomic uint32_t workers;
	uint32_t metrics; /* METRIC_COUNT of whoever made it */
	/* Earliest time, boottime in ns, that the connection rate is all used up to. */
	_Alignas(64) _Atomic uint64_t connection_rate_time;
	struct node_moves moves;
	_Alignas(64) struct node_role_words role;
	struct node_slot slot[NODE_WORKERS_MAX + 1];
};

/*
 * Makes the page for `workers` (1..NODE_WORKERS_MAX) slots and maps it; *fd gets
 * the memfd (close-on-exec, owned by the caller). NULL with errno set on failure.
 */
struct node_page *node_page_create(uint32_t workers, int *fd);

/* There are so many slots in use from now on. For the master. */
void node_page_set_workers(struct node_page *page, uint32_t workers);

/*
 * Maps the page behind fd, which stays the caller's. NULL with errno set;
 * EPROTO when the page was made by a build with another layout.
 */
struct node_page *node_page_map(int fd);
void node_page_unmap(struct node_page *page);

/*
 * This process counts in that slot from now on; what it counted before is
 * added to it. page NULL: back to private memory.
 */
void node_page_claim_slot(struct node_page *page, uint32_t slot);
/* This process's ring of events, NULL before it claimed a slot. For node_events.c. */
extern struct node_event_ring *node_page_own_events;
/* When the next tick of this process's event loop is due; without a slot nobody is told. */
void node_page_set_loop_due(uint64_t boottime_ms);

/* Sets a dead worker's gauges to 0, forgets its users and its loop; its counters go on from where
 * they are. */
void node_page_reset_gauges(struct node_page *page, uint32_t slot);

/* A worker is dead; the next one, which may run already, says so itself once it is ready. */
void node_page_set_not_ready(struct node_page *page, uint32_t slot);

uint64_t node_page_get(const struct node_page *page, uint32_t slot, enum metric metric);

/*
 * Counts one more client connection of this process (METRIC_client_connections)
 * unless the node then has more than `limit` of them; 0 = no limit. A refusal
 * changes nothing. Exact: two workers at the limit may both be refused, but
 * the limit is never exceeded. Release with metric_subtract().
 */
bool node_page_admit_connection(struct node_page *page, uint64_t limit);

/*
 * Takes one from the node-wide rate of new connections, per_second of them
 * with a burst of as many; 0 = no limit. now_ns is clock_boottime_ns().
 */
bool node_page_take_connection_rate(struct node_page *page, uint64_t per_second, uint64_t now_ns);

#endif

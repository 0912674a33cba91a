/* SPDX-License-Identifier: ISC */
/*
 * A worker's place in the node: the process that fills it now, the channel to
 * it, and what outlives it (its number, its listeners, its counters, its
 * arena). The master has one per worker.
 */
#ifndef KEEPSOCK_WORKER_SLOT_H
#define KEEPSOCK_WORKER_SLOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "keepsock/child.h"

struct event;
struct master;

enum worker_state {
	WORKER_DOWN,     /* never started, or stopped for good */
	WORKER_STARTING, /* the process runs, IPC_READY is awaited */
	WORKER_READY,
	WORKER_WAITING, /* dead, its successor starts after a pause */
	WORKER_STOPPING,
};

struct worker_slot {
	uint32_t magic;
	uint32_t number;
	struct master *master;
	enum worker_state state;
	uint64_t state_since_ms;
	struct child child;
	int ipc_fd; /* our end, non-blocking; -1 = none */
	struct event *ipc_event;
	struct event *restart_timer;
	uint32_t restart_delay_ms;
	uint64_t restarts;
	int arena_fd;      /* deposited by the worker; -1 = none */
	int left_arena_fd; /* what the last dead worker left (test builds only); -1 = none */
	pid_t left_pid;    /* whose it was */
};

const char *worker_state_name(enum worker_state state);

/* Makes an empty slot; nothing is started. */
void worker_slot_init(struct worker_slot *slot, struct master *master, uint32_t number);

/* Starts a worker in it; on failure it is tried again later, and logged. */
void worker_slot_start(struct worker_slot *slot);

/* Asks the worker to end (by force: kills it); a slot without one is down at once. */
void worker_slot_stop(struct worker_slot *slot, bool force);

/* Kills what runs and releases everything. */
void worker_slot_free(struct worker_slot *slot);

/* Sends a message; false (and logged) when the worker can't take it. */
bool worker_slot_send(struct worker_slot *slot, uint32_t type, uint64_t id, const void *payload,
		      size_t len);

#endif

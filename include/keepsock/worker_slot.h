/* SPDX-License-Identifier: ISC */
/*
 * A worker's place in the node, as the master sees it: the keeper that starts
 * its workers, the worker that fills it now, the channels to both, and what
 * outlives them (number, listeners, counters). The master has one per worker.
 */
#ifndef KEEPSOCK_WORKER_SLOT_H
#define KEEPSOCK_WORKER_SLOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "keepsock/child.h"
#include "keepsock/keeper_messages.h"

struct event;
struct ipc_message;
struct master;
struct orphan;
struct worker_slot;

enum worker_state {
	WORKER_DOWN,     /* never started, or stopped for good */
	WORKER_STARTING, /* the keeper was told to start it, IPC_READY is awaited */
	WORKER_READY,
	WORKER_WAITING, /* dead, its successor is about to start */
	WORKER_STOPPING,
};

#define WORKER_SLOT_MAGIC      UINT32_C(0x574f524b) /* "WORK" */
#define WORKER_LAST_DEATH_TEXT 96

/* How a takeover ended, `reason` why if not well. Called once for each. */
typedef void slot_takeover_fn(struct worker_slot *slot, const struct keeper_taken_over *end,
			      const char *reason, void *ctx);

/* The worker that is about to take over. */
struct next_worker {
	pid_t pid;  /* 0 = none that we know of */
	int pidfd;  /* owned */
	int ipc_fd; /* owned; our end, not read before it is the slot's worker */
	uint64_t order;
	bool exited;
	struct event *exit_event; /* owned */
	struct event *limit;      /* owned; when the keeper is gone */
};

struct worker_slot {
	uint32_t magic;
	uint32_t number;
	struct master *master;
	enum worker_state state;
	uint64_t state_since_ms;
	bool forced; /* stopping without grace */

	/* The keeper. */
	struct child keeper;
	int keeper_fd; /* our end, non-blocking; -1 = none */
	struct event *keeper_event;
	struct event *keeper_timer; /* for the next attempt to start one */
	uint32_t keeper_delay_ms;
	uint64_t keeper_restarts;
	bool keeper_retired;  /* it ends because it shall */
	uint64_t order;       /* number of the last one it was sent */
	bool is_protected;    /* as it told */
	uint32_t descriptors; /* that it keeps, as it told */

	/* The worker. */
	pid_t pid;             /* 0 = none that we know of */
	int pidfd;             /* owned; -1 */
	int ipc_fd;            /* our end, non-blocking; -1 = none */
	uint64_t certificates; /* generation of those it was given last; 0 = older ones */
	struct event *ipc_event;
	struct event *exit_event;    /* NULL once it has exited */
	bool exited;                 /* seen by us; the keeper is about to say so */
	struct event *silence_timer; /* ... and is hung if it does not */
	int exit_status;             /* of one that we inherited and reaped; KEEPER_NO_STATUS */
	uint64_t started_ms;
	uint64_t worker_order; /* number of the order it was started with */
	uint64_t restarts;
	char last_death[WORKER_LAST_DEATH_TEXT]; /* "" = none died yet */

	/* A takeover. */
	uint64_t takeovers; /* number of the last one */
	uint64_t takeover;  /* of the one under way; 0 = none */
	enum takeover_reason takeover_reason;
	slot_takeover_fn *takeover_done;
	void *takeover_ctx;
	struct next_worker next;
	struct leaver *leavers; /* owned; workers that were taken over from, until they have left */
	bool undecided;         /* the keeper died: one of the two workers is about to leave */

	int left_arena_fd; /* what the last dead worker left (test builds only); -1 = none */
	pid_t left_pid;    /* whose it was */
};

const char *worker_state_name(enum worker_state state);

/* Makes an empty slot; nothing is started. */
void worker_slot_init(struct worker_slot *slot, struct master *master, uint32_t number);

/*
 * Starts a keeper, and by it a worker; on failure it is tried again later, and
 * logged. One that was started before is told again what it works with.
 */
void worker_slot_start(struct worker_slot *slot);

/* Asks the worker to end (by force: kills it); a slot without one is down at once. */
void worker_slot_stop(struct worker_slot *slot, bool force);

/* Goes on with the keeper, or the worker without one, that a dead master left; takes over what it
 * needs of it. */
void worker_slot_adopt(struct worker_slot *slot, struct orphan *orphan);

/* Releases everything. What still runs is left to the next master. */
void worker_slot_free(struct worker_slot *slot);

/* Sends the worker a message; false (and logged) when it can't take it. */
bool worker_slot_send(struct worker_slot *slot, uint32_t type, uint64_t id, const void *payload,
		      size_t len);

/* The role or the drain in the node page has changed, and with it the primary's listeners. */
void worker_slot_tell_role(struct worker_slot *slot);

/* What starting workers are told has changed: those that the keeper starts later are told so. */
void worker_slot_update(struct worker_slot *slot);
/* Worker and keeper log at this level from now on. */
void worker_slot_set_log_level(struct worker_slot *slot, const char *name);

/* --- slot_takeover.c --- */
/*
 * Has the next worker, of the settings and the program as they are now, take
 * over; done(ctx) is called with the outcome unless this returns false: nobody
 * could be told, or one is under way, or the slot has no worker that serves.
 */
bool slot_takeover_start(struct worker_slot *slot, enum takeover_reason reason, uint32_t limit_ms,
			 slot_takeover_fn *done, void *ctx);
/* The keeper started it; takes over its channel and its pidfd. */
void slot_takeover_on_worker(struct worker_slot *slot, const struct keeper_worker *worker,
			     int channel, int pidfd);
void slot_takeover_on_end(struct worker_slot *slot, const struct keeper_taken_over *end,
			  const char *reason);
/* The keeper died. True: it is started again once it is known whose slot it is. */
bool slot_takeover_on_keeper_gone(struct worker_slot *slot);
/* The slot's worker is gone. True: another one is the slot's now. */
bool slot_takeover_on_old_exit(struct worker_slot *slot);
/* Forgets what was under way. */
void slot_takeover_free(struct worker_slot *slot);

/* --- between worker_slot.c and slot_keeper.c --- */
void slot_keeper_start(struct worker_slot *slot);
void slot_keeper_stop(struct worker_slot *slot);
void slot_keeper_init(struct worker_slot *slot);
void slot_keeper_free(struct worker_slot *slot);
/* Its channel, on which a keeper that runs has been asked already, is taken over. */
void slot_keeper_adopt(struct worker_slot *slot, struct orphan *orphan);
/* Ends the keeper, whose time is over: the next one is started at once, and it counts as no death.
 */
void slot_keeper_retire(struct worker_slot *slot);
void slot_keeper_kill(struct worker_slot *slot, const char *reason);
/* Tells the keeper something without descriptors; false (and logged) when it can't be. */
bool slot_keeper_send(struct worker_slot *slot, uint32_t type, const void *payload, size_t len);

/* The keeper started a worker; takes over its channel and its pidfd. */
void worker_slot_on_started(struct worker_slot *slot, const struct keeper_worker *worker,
			    int channel, int pidfd);
/* A worker died; `left_arena` (-1 = none) is taken over. */
void worker_slot_on_death(struct worker_slot *slot, const struct keeper_death *death,
			  int left_arena);
/* The keeper is gone: what it had not told any more is found out. */
void worker_slot_on_keeper_gone(struct worker_slot *slot);

#endif

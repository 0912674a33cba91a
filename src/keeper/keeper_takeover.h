/* SPDX-License-Identifier: ISC */
/*
 * A takeover as the keeper drives it: the next worker is started beside the one
 * that runs, is handed everything, and gets the arena once the other one is
 * frozen. Part of the keeper room. The keeper decides nothing about ownership:
 * it asks the two, and hears how it ended.
 *
 *            protected         READY           FROZEN         all handed over
 *   WAITING ──────────► PREPARING ──► FREEZING ──────► HANDING ─────────────► SWAPPING
 *      │                    │             │               │                   │  ▲  │
 *      └──── not done ◄─────┴─────────────┴───────────────┘      limit, death │  │  │ COMMITTED
 *            (limit, death, refusal: new is killed, old is thawed)            ▼  │  ▼
 *                                          not done ◄── THAWED ─────── THAWING  │  done
 *                                          it lost, and exits ─────────────└────┘
 *
 * The death of whoever may have the arena ends it in the crash path.
 */
#ifndef KEEPSOCK_KEEPER_KEEPER_TAKEOVER_H
#define KEEPSOCK_KEEPER_KEEPER_TAKEOVER_H

#include <stdbool.h>
#include <stddef.h>

#include "keepsock/child.h"
#include "keepsock/keeper_messages.h"

struct event;
struct ipc_message;
struct keeper;

enum takeover_step {
	STEP_NONE,
	STEP_WAITING,   /* until the slot is protected */
	STEP_PREPARING, /* the next worker takes what is kept */
	STEP_FREEZING,  /* the old one was asked to freeze */
	STEP_HANDING,   /* it is frozen; the rest goes to the next one */
	STEP_SWAPPING,  /* the next one was told to take the arena */
	STEP_THAWING,   /* the old one was asked whether it can have it back */
};

/* What was deposited or released, in this order, and is to be told to the next worker. */
struct change_log {
	struct keeper_item *items; /* owned */
	size_t count, capacity;
	size_t told;
};

/* A worker that was told to leave, or killed: reaped when it is gone. */
struct leaver {
	struct keeper *keeper;
	struct leaver *next;
	struct child child;  /* if it is ours */
	int pidfd;           /* if it is not; owned, -1 */
	struct event *exit;  /* ... watched; owned */
	struct event *limit; /* then it is killed; owned */
};

struct takeover {
	enum takeover_step step;
	uint64_t step_since_us;
	struct keeper_takeover order;
	uint64_t began_us, prepared_us;
	uint64_t frozen_ns;
	struct event *limit; /* of the step; owned */
	struct change_log changes;

	/* The next worker; pid 0: it is dead, or there is none. */
	struct child child;
	int fd;              /* owned; our end of its channel, -1 */
	struct event *event; /* owned */
	int master_end;      /* owned; until the master has it; -1 */
	int link;            /* owned; between the two, of the one that is frozen; -1 */
	uint64_t worker_order;
	int32_t new_status; /* of one that died after it was told to take the arena */
	bool other_master;  /* the one that knew of it is gone, and another one is there */
	bool old_gone;      /* it died, or lost and left, after that */
	int32_t old_status;

	/* What the master is to be told. */
	struct keeper_taken_over end;
	char reason[KEEPER_REASON_MAX + 1];
};

/* --- keeper_changes.c --- */
/* Everything that is kept now is to be told. */
void keeper_changes_begin(struct keeper *keeper);
void keeper_changes_forget(struct keeper *keeper);
/* Something was deposited or released. */
void keeper_changes_note(struct keeper *keeper, const struct keeper_item *item);
/*
 * Sends the next worker its next batch. 1: sent; 0: there is nothing left to
 * send; -1 with errno, and to be tried again.
 */
int keeper_changes_send(struct keeper *keeper);

/* --- keeper_takeover.c --- */
void keeper_takeover_init(struct keeper *keeper);
void keeper_takeover_free(struct keeper *keeper);
/* The master wants one. */
void keeper_takeover_begin(struct keeper *keeper, const struct keeper_takeover *order);
/* Whether the slot is protected has changed. */
void keeper_takeover_proceed(struct keeper *keeper);
/* The node stops, or the worker deposits everything anew: not now. Too late after the commit. */
void keeper_takeover_cancel(struct keeper *keeper, const char *reason);
/* Another master is there, which knows nothing of it. */
void keeper_takeover_on_other_master(struct keeper *keeper);
/* FROZEN or THAWED of the worker that runs; what is wrong with it, or NULL. */
const char *keeper_takeover_on_old(struct keeper *keeper, struct ipc_message *message,
				   struct slice payload);
/*
 * The worker that ran died with that status. True: the arena may be another's by
 * now, nothing else is to be done about it. Else *status is that of whoever had
 * the arena.
 */
bool keeper_takeover_on_old_death(struct keeper *keeper, int32_t *status);
/* Sends what of `due` is for the next worker; what is left of it. */
unsigned keeper_takeover_send(struct keeper *keeper, unsigned due);
/* Reads one message of the next worker; false when there is no other one now, or never again. */
bool keeper_takeover_read(struct keeper *keeper);
void keeper_takeover_send_leave(struct keeper *keeper);
/* These: 0, or -1 with errno. */
int keeper_takeover_send_thaw(struct keeper *keeper);
int keeper_takeover_send_freeze(struct keeper *keeper);
int keeper_takeover_send_next_worker(struct keeper *keeper);
int keeper_takeover_send_end(struct keeper *keeper);

#endif

/* SPDX-License-Identifier: ISC */
/*
 * Changes of the node, see change.h. Runs in the master's loop.
 *
 *             slot ready: order, TAKEOVER          TAKEN_OVER: done, next slot
 *   WAITING ─────────────────────────────► ASKED ─────────────────────────────► WAITING
 *      │  ▲                                  │
 *      │  ├── its worker or keeper died ─────┤
 *      │  └── it deposits everything anew ───┤
 *      │ too long                            │ not done, or that too often
 *      ▼                                     ▼
 *   revert(), and the same with ROLLBACK for the slots that were changed
 *
 * A slot that is WAITING and whose worker was started with the newest order is
 * done as well: a worker that died in the middle is followed by such a one.
 * After the last slot the keepers are replaced, if that was asked for, one after
 * another, each when the one before protects its worker again.
 */
#include "master/change.h"

#include <event2/event.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/clock.h"
#include "keepsock/log.h"
#include "keepsock/magic.h"
#include "keepsock/master.h"
#include "keepsock/worker_slot.h"

#define CHANGE_MAGIC UINT32_C(0x43484e47) /* "CHNG" */

/* For everything before the commit: start, settings, arena, descriptors. */
#define PREPARE_LIMIT_MS 20000u
/* A keeper that says nothing for so long beyond that hangs. */
#define ANSWER_GRACE_MS 40000u
/* A worker that was just started, or replaced, is ready by then. */
#define READY_LIMIT_MS 20000u
/* How often a slot that is waited for is looked at. */
#define LOOK_MS 50u
/* A worker, or its keeper, may die in the middle; then it is tried again. */
#define DEATHS_MAX 3u
/*
 * More closed than may wait for a busy keeper: the worker deposits everything anew, which ends a
 * takeover. Another one is asked for, so often, and for as long as one may take to prepare.
 */
#define ANEW_MAX 5u

enum change_phase {
	CHANGE_WAITING,
	CHANGE_ASKED,
	CHANGE_KEEPERS, /* the slot's keeper is being replaced */
};

struct change {
	uint32_t magic;
	enum change_phase phase;
	struct master *master;
	struct change_plan plan;
	bool back; /* rolling back */
	uint32_t slot;
	unsigned deaths;        /* of this slot's worker or keeper, while it was taken over from */
	unsigned anew;          /* takeovers of this slot that ended since it deposits anew */
	uint64_t anew_since_ms; /* the first of them ended */
	uint64_t since_ms;      /* it waits, or was asked */
	uint64_t *orders;       /* of each slot the last one before the change; owned */
	bool *changed;          /* slots that run with what is new; owned */
	struct event *timer;    /* looks, and ends waiting */
	struct buffer error;    /* why it is undone; empty = it is not */
	pid_t replaced_keeper;  /* that is to be gone */
};

const char *change_obstacle(const struct master *master)
{
	if (master->change || master->is_changing)
		return "another reload or upgrade is under way";
	if (master->phase == MASTER_STARTING)
		return "the node is still starting";
	if (master->phase == MASTER_STOPPING)
		return "the node is stopping";
	return NULL;
}

static struct worker_slot *slot_of(const struct change *change)
{
	return &change->master->workers[change->slot];
}

static void look_after(struct change *change, uint32_t ms)
{
	struct timeval time = {.tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000};

	if (evtimer_add(change->timer, &time) < 0)
		log_fatal("change_timer_failed");
}

static void enter(struct change *change, enum change_phase phase)
{
	change->phase = phase;
	change->since_ms = clock_boottime_ms();
}

/* Looked at from the loop: nobody is surprised by it in the middle of something else. */
static void begin_slot(struct change *change, uint32_t slot)
{
	change->slot = slot;
	change->deaths = change->anew = 0;
	enter(change, CHANGE_WAITING);
	look_after(change, 0);
}

static void free_change(struct change *change)
{
	struct master *master = change->master;

	/* Whoever is being taken over from is not ours to hear of any more. */
	for (uint32_t i = 0; i < master->worker_count; i++) {
		if (master->workers[i].takeover_ctx == change)
			master->workers[i].takeover_done = NULL;
	}
	master->change = NULL;
	event_free(change->timer);
	buffer_free(&change->error);
	free(change->orders);
	free(change->changed);
	change->magic = 0;
	free(change);
}

void change_drop(struct master *master)
{
	if (master->change)
		free_change(master->change);
}

/* Off the master first: whoever is told may begin another one. */
static void finish(struct change *change)
{
	struct change_plan plan = change->plan;
	struct buffer error = change->error;

	change->error = (struct buffer){0};
	if (error.len)
		log_error("change_undone reason=%s error=%s", takeover_reason_name(plan.reason),
			  log_value(buffer_slice(&error)));
	else
		log_info("change_done reason=%s", takeover_reason_name(plan.reason));
	free_change(change);
	plan.done(plan.ctx, error.len ? buffer_cstr(&error) : NULL);
	buffer_free(&error);
}

/* ---- failure ---- */

static void note_orders(struct change *change)
{
	for (uint32_t i = 0; i < change->master->worker_count; i++)
		change->orders[i] = change->master->workers[i].order;
}

/* All are told what they had before; those that have changed already are taken back. */
static void roll_back(struct change *change)
{
	change->back = true;
	change->plan.revert(change->plan.ctx);
	note_orders(change);
	for (uint32_t i = 0; i < change->master->worker_count; i++)
		(void)worker_slot_update(&change->master->workers[i]);
	begin_slot(change, 0);
}

static enum takeover_reason reason_of(const struct change *change)
{
	return change->back ? TAKEOVER_ROLLBACK : change->plan.reason;
}

static void fail_slot(struct change *change, const char *reason)
{
	buffer_printf(&change->error, "%s %u%s: %s", change->back ? "; worker" : "worker",
		      change->slot, change->back ? " stays changed" : "", reason);
	log_error("change_failed slot=%u reason=%s error=%s", change->slot,
		  takeover_reason_name(reason_of(change)), log_value_str(reason));
	if (change->back)
		begin_slot(change, change->slot + 1);
	else if (change->plan.revert)
		roll_back(change);
	else
		finish(change);
}

/* ---- one slot ---- */

/* Nothing can be ordered before it is known where Redis is. */
static bool is_ready(const struct worker_slot *slot)
{
	return slot->master->shard_count > 0 && slot->state == WORKER_READY &&
	       slot->keeper_fd >= 0 && slot->is_protected && slot->takeover == 0;
}

/* Its worker was started with what is new. */
static bool is_changed(const struct change *change)
{
	const struct worker_slot *slot = slot_of(change);

	return slot->state == WORKER_READY && slot->worker_order > change->orders[change->slot];
}

static void next_slot(struct change *change)
{
	change->changed[change->slot] = !change->back;
	begin_slot(change, change->slot + 1);
}

/* The slot is protected, and asked again, once all of that has arrived. */
static void on_deposits_anew(struct change *change)
{
	uint64_t now = clock_boottime_ms();

	if (change->anew++ == 0)
		change->anew_since_ms = now;
	if (change->anew >= ANEW_MAX || now - change->anew_since_ms >= PREPARE_LIMIT_MS) {
		fail_slot(change, KEEPER_REASON_ANEW " again and again");
		return;
	}
	log_warning("takeover_again slot=%u times=%u reason=%s", change->slot, change->anew,
		    log_value_str(KEEPER_REASON_ANEW));
	look_after(change, LOOK_MS);
}

/* Whether a keeper that died meanwhile had done it shows when the slot is ready again. */
static void on_taken_over(struct worker_slot *slot, const struct keeper_taken_over *end,
			  const char *reason, void *ctx)
{
	struct change *change = ctx;
	bool goes_on = end->outcome == TAKEOVER_NOT_DONE && slot->keeper_fd >= 0;

	MAGIC_CHECK(change, CHANGE_MAGIC);
	enter(change, CHANGE_WAITING);
	if (goes_on && strcmp(reason, KEEPER_REASON_ANEW) == 0) {
		on_deposits_anew(change);
	} else if (goes_on) {
		fail_slot(change, *reason ? reason : "it was not taken over from");
	} else {
		change->deaths += end->outcome != TAKEOVER_DONE;
		look_after(change, 0);
	}
}

static void ask(struct change *change)
{
	struct worker_slot *slot = slot_of(change);

	/* A keeper that can't be told is about to be replaced. */
	if (!slot_takeover_start(slot, reason_of(change), PREPARE_LIMIT_MS, on_taken_over,
				 change)) {
		look_after(change, LOOK_MS);
		return;
	}
	enter(change, CHANGE_ASKED);
	look_after(change, PREPARE_LIMIT_MS + ANSWER_GRACE_MS);
}

static void look_at_slot(struct change *change)
{
	struct worker_slot *slot = slot_of(change);

	if (is_changed(change))
		next_slot(change);
	else if (is_ready(slot) && change->deaths < DEATHS_MAX)
		ask(change);
	else if (is_ready(slot))
		fail_slot(change, "worker or keeper die again and again");
	else if (clock_boottime_ms() - change->since_ms > READY_LIMIT_MS)
		fail_slot(change, "it is not ready, or not protected");
	else
		look_after(change, LOOK_MS);
}

/* ---- keepers ---- */

/* Each new one is one that the master started with its program of today. */
static void look_at_keeper(struct change *change)
{
	struct worker_slot *slot = slot_of(change);

	if (change->replaced_keeper == 0) {
		change->replaced_keeper = slot->keeper.pid;
		slot_keeper_retire(slot);
	} else if (is_ready(slot) && slot->keeper.pid != change->replaced_keeper) {
		change->replaced_keeper = 0;
		change->slot++;
		enter(change, CHANGE_KEEPERS);
	} else if (clock_boottime_ms() - change->since_ms > READY_LIMIT_MS) {
		/* It serves: an unprotected worker is for the operator to see. */
		log_error("keeper_not_replaced slot=%u", change->slot);
		change->replaced_keeper = 0;
		change->slot++;
		enter(change, CHANGE_KEEPERS);
	}
	look_after(change, LOOK_MS);
}

static void begin_keepers(struct change *change)
{
	change->slot = 0;
	change->replaced_keeper = 0;
	enter(change, CHANGE_KEEPERS);
	look_after(change, 0);
}

/* ---- the loop ---- */

/* Slots that were never changed need not be changed back. */
static void skip_unchanged(struct change *change)
{
	while (change->back && change->slot < change->master->worker_count &&
	       !change->changed[change->slot])
		change->slot++;
}

static void look(struct change *change)
{
	struct master *master = change->master;

	if (change->phase == CHANGE_ASKED) {
		/* Its end tells how the takeover did. */
		slot_keeper_kill(slot_of(change), "it does not tell how a takeover ended");
		look_after(change, PREPARE_LIMIT_MS + ANSWER_GRACE_MS);
		return;
	}
	skip_unchanged(change);
	if (change->slot < master->worker_count) {
		if (change->phase == CHANGE_KEEPERS)
			look_at_keeper(change);
		else
			look_at_slot(change);
	} else if (change->phase == CHANGE_WAITING && change->plan.replace_keepers &&
		   !change->back) {
		begin_keepers(change);
	} else {
		finish(change);
	}
}

static void on_time(evutil_socket_t fd, short what, void *ctx)
{
	struct change *change = ctx;

	(void)fd;
	(void)what;
	MAGIC_CHECK(change, CHANGE_MAGIC);
	look(change);
}

void change_start(struct master *master, const struct change_plan *plan)
{
	struct change *change = xcalloc(1, sizeof(*change));

	*change = (struct change){
		.magic = CHANGE_MAGIC,
		.master = master,
		.plan = *plan,
		.orders = xcalloc(master->worker_count, sizeof(*change->orders)),
		.changed = xcalloc(master->worker_count, sizeof(*change->changed)),
		.timer = evtimer_new(master->base, on_time, change),
	};
	if (!change->timer)
		log_fatal("change_timer_failed");
	master->change = change;
	note_orders(change);
	log_info("change reason=%s", takeover_reason_name(plan->reason));
	begin_slot(change, 0);
}

void change_on_slot_ready(struct worker_slot *slot)
{
	struct change *change = slot->master->change;

	if (change && change->phase == CHANGE_WAITING)
		look_after(change, 0);
}

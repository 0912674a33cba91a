/* SPDX-License-Identifier: ISC */
/*
 * A takeover of a slot, as the master sees it: it has its keeper do one, knows
 * both workers meanwhile, and hears who is the slot's. Runs in the master. Must
 * never conclude anything from time alone: a keeper that dies leaves two workers
 * of which one leaves by itself, whichever has lost.
 */
#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "keepsock/inquiry.h"
#include "keepsock/keeper_messages.h"
#include "keepsock/log.h"
#include "keepsock/magic.h"
#include "keepsock/master.h"
#include "keepsock/worker_slot.h"
#include "master/takeovers.h"

/* Without a keeper: until one of the two has left. */
#define UNDECIDED_LIMIT_S 10

static void forget_next(struct worker_slot *slot)
{
	struct next_worker *next = &slot->next;

	if (next->exit_event)
		event_free(next->exit_event);
	if (next->limit)
		event_free(next->limit);
	if (next->pid) {
		if (next->pidfd >= 0)
			close(next->pidfd);
		if (next->ipc_fd >= 0)
			close(next->ipc_fd);
	}
	*next = (struct next_worker){.pidfd = -1, .ipc_fd = -1};
}

/* It is the slot's worker from now on. */
static void promote(struct worker_slot *slot)
{
	struct next_worker next = slot->next;
	const struct keeper_worker worker = {
		.pid = (int32_t)next.pid,
		.flags = KEEPER_WORKER_TAKES_OVER,
		.restarts = slot->restarts,
		.order = next.order,
	};

	slot->next.pidfd = slot->next.ipc_fd = -1;
	forget_next(slot);
	/* What the old one was asked it won't answer any more. */
	worker_slot_on_started(slot, &worker, next.ipc_fd, next.pidfd);
	inquiry_on_worker_death(slot->master, slot->number);
}

static void finish(struct worker_slot *slot, const struct keeper_taken_over *end,
		   const char *reason)
{
	slot_takeover_fn *done = slot->takeover_done;
	void *ctx = slot->takeover_ctx;

	slot->takeover = 0;
	slot->takeover_done = NULL;
	slot->takeover_ctx = NULL;
	log_info("takeover slot=%u outcome=%s old=%" PRId32 " new=%" PRId32 " connections=%" PRIu32
		 " lost=%" PRIu32 " prepare_us=%" PRIu64 " freeze_us=%" PRIu64 " reason=%s",
		 slot->number, log_value_str(takeover_outcome_name(end->outcome)), end->old_pid,
		 end->new_pid, end->connections, end->lost, end->prepare_us, end->freeze_us,
		 log_value_str(reason));
	takeovers_note(slot, end, reason);
	if (done)
		done(slot, end, reason, ctx);
}

/* The keeper that drove it is gone; whoever is left is the slot's. */
static void settle_without_keeper(struct worker_slot *slot, enum takeover_outcome outcome)
{
	const struct keeper_taken_over end = {
		.number = slot->takeover,
		.outcome = (uint32_t)outcome,
		.old_pid = (int32_t)slot->pid,
		.new_pid = (int32_t)slot->next.pid,
	};

	if (outcome == TAKEOVER_DONE)
		promote(slot);
	else
		forget_next(slot);
	slot->undecided = false;
	if (slot->takeover)
		finish(slot, &end, "the keeper died");
	if (slot->state != WORKER_STOPPING)
		slot_keeper_start(slot);
}

/* ---- the next worker ---- */

static void on_next_exit(evutil_socket_t fd, short what, void *ctx)
{
	struct worker_slot *slot = ctx;

	(void)fd;
	(void)what;
	MAGIC_CHECK(slot, WORKER_SLOT_MAGIC);
	/* Its keeper, if there is one, has more to say about it. */
	slot->next.exited = true;
	if (slot->undecided)
		settle_without_keeper(slot, TAKEOVER_NOT_DONE);
}

void slot_takeover_on_worker(struct worker_slot *slot, const struct keeper_worker *worker,
			     int channel, int pidfd)
{
	struct next_worker *next = &slot->next;

	forget_next(slot);
	*next = (struct next_worker){
		.pid = worker->pid,
		.pidfd = pidfd,
		.ipc_fd = channel,
		.order = worker->order,
	};
	next->exit_event = event_new(slot->master->base, pidfd, EV_READ, on_next_exit, slot);
	if (!next->exit_event || event_add(next->exit_event, NULL) < 0)
		log_fatal("worker_event_failed");
}

void slot_takeover_on_end(struct worker_slot *slot, const struct keeper_taken_over *end,
			  const char *reason)
{
	if (end->outcome == TAKEOVER_DONE && slot->next.pid == end->new_pid)
		promote(slot);
	else
		forget_next(slot);
	/* Of one that another master began. */
	if (slot->takeover != end->number)
		slot->takeover_done = NULL;
	finish(slot, end, reason);
}

/* ---- when the keeper dies meanwhile ---- */

static void on_undecided(evutil_socket_t fd, short what, void *ctx)
{
	struct worker_slot *slot = ctx;

	(void)fd;
	(void)what;
	MAGIC_CHECK(slot, WORKER_SLOT_MAGIC);
	/* One of them hangs, and it is not the one that serves. */
	log_error("takeover_undecided slot=%u action=kill pid=%d", slot->number,
		  (int)slot->next.pid);
	if (pidfd_send_signal(slot->next.pidfd, SIGKILL, NULL, 0) < 0 && errno != ESRCH)
		log_error("worker_signal_failed slot=%u error=%s", slot->number, strerror(errno));
}

bool slot_takeover_on_keeper_gone(struct worker_slot *slot)
{
	static const struct timeval limit = {.tv_sec = UNDECIDED_LIMIT_S};
	const struct keeper_taken_over end = {
		.number = slot->takeover,
		.outcome = TAKEOVER_NOT_DONE,
		.old_pid = (int32_t)slot->pid,
	};

	if (!slot->next.pid || slot->next.exited) {
		forget_next(slot);
		if (slot->takeover)
			finish(slot, &end, "the keeper died");
		return false;
	}
	slot->undecided = true;
	slot->next.limit = evtimer_new(slot->master->base, on_undecided, slot);
	if (!slot->next.limit || evtimer_add(slot->next.limit, &limit) < 0)
		log_fatal("worker_timer_failed");
	return true;
}

bool slot_takeover_on_old_exit(struct worker_slot *slot)
{
	if (!slot->undecided)
		return false;
	settle_without_keeper(slot, TAKEOVER_DONE);
	return true;
}

/* ---- the beginning ---- */

bool slot_takeover_start(struct worker_slot *slot, enum takeover_reason reason, uint32_t limit_ms,
			 slot_takeover_fn *done, void *ctx)
{
	const struct keeper_takeover order = {
		.number = slot->takeovers + 1,
		.reason = (uint32_t)reason,
		.limit_ms = limit_ms,
	};

	if (slot->takeover || slot->state != WORKER_READY)
		return false;
	/* What it starts with is of now. */
	worker_slot_update(slot);
	if (!slot_keeper_send(slot, KEEPER_TAKEOVER, &order, sizeof(order)))
		return false;
	slot->takeovers = slot->takeover = order.number;
	slot->takeover_reason = reason;
	slot->takeover_done = done;
	slot->takeover_ctx = ctx;
	takeovers_begin(slot);
	return true;
}

void slot_takeover_free(struct worker_slot *slot)
{
	slot->takeover_done = NULL;
	forget_next(slot);
}

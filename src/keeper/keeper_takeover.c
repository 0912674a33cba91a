/* SPDX-License-Identifier: ISC */
/*
 * Drives a takeover, see keeper_takeover.h. Run by the keeper. Limits only make
 * it ask the old worker to go on, or kill the next one where that can't have the
 * arena; after the commit was sent nothing is concluded but from what the two
 * say, or from their deaths.
 */
#include "keeper/keeper_takeover.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "keeper/keeper.h"
#include "keepsock/alloc.h"
#include "keepsock/arena.h"
#include "keepsock/clock.h"
#include "keepsock/crash_points.h"
#include "keepsock/log.h"
#include "keepsock/magic.h"

/* From being asked to freeze until frozen; a loop turn takes milliseconds. */
#define FREEZE_LIMIT_MS 3000u
/* For handing over what was deposited meanwhile. Clients wait. */
#define HAND_LIMIT_MS 2000u
/* Until the next one serves; then the old one is asked whether it can have the arena back. */
#define SWAP_LIMIT_MS 5000u
/* Until the old one has answered that; then it hangs. */
#define THAW_LIMIT_MS 2000u
/* Until the next one serves when it is the only one left. */
#define LAST_LIMIT_MS 20000u
/* For a worker to be gone, what it still finishes included; then it is killed. */
#define LEAVE_LIMIT_MS 20000u
/* Messages read in a row before other events get their turn. */
#define MESSAGES_PER_TURN 16

static const char *const step_names[] = {
	[STEP_NONE] = "none",         [STEP_WAITING] = "waiting", [STEP_PREPARING] = "preparing",
	[STEP_FREEZING] = "freezing", [STEP_HANDING] = "handing", [STEP_SWAPPING] = "swapping",
	[STEP_THAWING] = "thawing",
};

static uint64_t now_us(void)
{
	return clock_boottime_ns() / 1000;
}

/* limit_ms 0: the one that runs goes on. */
static void change_step(struct keeper *keeper, enum takeover_step to, uint32_t limit_ms,
			const char *reason)
{
	struct takeover *takeover = &keeper->takeover;
	const struct timeval limit = {.tv_sec = limit_ms / 1000,
				      .tv_usec = (suseconds_t)(limit_ms % 1000) * 1000};
	uint64_t now = now_us();

	log_info("takeover number=%" PRIu64 " change=%s->%s reason=%s us=%" PRIu64
		 " old=%d new=%d kept=%zu",
		 takeover->order.number, step_names[takeover->step], step_names[to],
		 log_value_str(reason), now - takeover->step_since_us, (int)keeper->worker,
		 (int)takeover->child.pid, keeper->kept.count);
	takeover->step = to;
	takeover->step_since_us = now;
	if (limit_ms > 0 && evtimer_add(takeover->limit, &limit) < 0)
		log_fatal("keeper_timer_failed");
	if (to == STEP_NONE)
		evtimer_del(takeover->limit);
}

/* ---- those that leave ---- */

static void free_leaver(struct leaver *leaver)
{
	struct leaver **link = &leaver->keeper->leavers;

	while (*link != leaver)
		link = &(*link)->next;
	*link = leaver->next;
	keeper_free_event(&leaver->exit);
	keeper_free_event(&leaver->limit);
	keeper_free_event(&leaver->child.exit_event);
	if (child_running(&leaver->child))
		keeper_close_fd(&leaver->child.pidfd);
	keeper_close_fd(&leaver->pidfd);
	free(leaver);
}

static void on_left(struct child *child, int status, void *ctx)
{
	struct buffer text = {0};

	child_describe_exit(&text, status);
	log_info("worker_left pid=%d reason=%s", (int)child->last_pid,
		 log_value_str(buffer_cstr(&text)));
	buffer_free(&text);
	free_leaver(ctx);
}

static void on_foreigner_left(evutil_socket_t fd, short what, void *ctx)
{
	(void)fd;
	(void)what;
	log_info("worker_left");
	free_leaver(ctx);
}

static void on_leave_limit(evutil_socket_t fd, short what, void *ctx)
{
	struct leaver *leaver = ctx;

	(void)fd;
	(void)what;
	log_error("worker_killed reason=%s", log_value_str("it did not leave"));
	child_signal(&leaver->child, SIGKILL);
	if (leaver->pidfd >= 0 && pidfd_send_signal(leaver->pidfd, SIGKILL, NULL, 0) < 0 &&
	    errno != ESRCH)
		log_error("worker_signal_failed error=%s", log_value_str(strerror(errno)));
}

static struct leaver *add_leaver(struct keeper *keeper)
{
	static const struct timeval limit = {.tv_sec = LEAVE_LIMIT_MS / 1000};
	struct leaver *leaver = xcalloc(1, sizeof(*leaver));

	*leaver = (struct leaver){.keeper = keeper, .next = keeper->leavers, .pidfd = -1};
	keeper->leavers = leaver;
	leaver->limit = evtimer_new(keeper->base, on_leave_limit, leaver);
	if (!leaver->limit || evtimer_add(leaver->limit, &limit) < 0)
		log_fatal("keeper_timer_failed");
	return leaver;
}

/* The worker that ran until now. */
static void see_off_old(struct keeper *keeper)
{
	struct leaver *leaver = add_leaver(keeper);

	if (child_running(&keeper->child)) {
		child_move(&leaver->child, &keeper->child, on_left, leaver);
		return;
	}
	keeper_free_event(&keeper->worker_exit);
	leaver->pidfd = keeper->worker_pidfd;
	keeper->worker_pidfd = -1;
	leaver->exit = event_new(keeper->base, leaver->pidfd, EV_READ, on_foreigner_left, leaver);
	if (!leaver->exit || event_add(leaver->exit, NULL) < 0)
		log_fatal("keeper_events_failed");
}

static void forget_new(struct keeper *keeper)
{
	struct takeover *takeover = &keeper->takeover;

	keeper_free_event(&takeover->event);
	keeper_close_fd(&takeover->fd);
	keeper_close_fd(&takeover->master_end);
	keeper_close_fd(&takeover->link);
	keeper->due &= ~(unsigned)(DUE_NEXT_START | DUE_NEXT_BATCH | DUE_NEXT_WORKER);
}

/* For one that can't have the arena, or that is of no use with it. */
static void kill_new(struct keeper *keeper)
{
	struct takeover *takeover = &keeper->takeover;
	struct leaver *leaver;

	forget_new(keeper);
	if (!child_running(&takeover->child))
		return;
	child_signal(&takeover->child, SIGKILL);
	leaver = add_leaver(keeper);
	child_move(&leaver->child, &takeover->child, on_left, leaver);
}

/* ---- how it ends ---- */

static void finish(struct keeper *keeper, enum takeover_outcome outcome, const char *reason)
{
	struct takeover *takeover = &keeper->takeover;

	change_step(keeper, STEP_NONE, 0, reason);
	takeover->end.outcome = (uint32_t)outcome;
	(void)snprintf(takeover->reason, sizeof(takeover->reason), "%s", reason);
	keeper_changes_forget(keeper);
	/* The next one is to be prepared before the master hears of it, and not told of this. */
	keeper->due &= ~(unsigned)(DUE_FREEZE | DUE_NEXT_START | DUE_NEXT_BATCH);
	keeper_send_due(keeper, DUE_TAKEN_OVER);
}

/* Nobody was told to take the arena: the next worker can go, and the old one goes on. */
static void give_up(struct keeper *keeper, enum takeover_outcome outcome, const char *reason)
{
	bool freezing = keeper->takeover.step >= STEP_FREEZING;

	log_warning("takeover_given_up reason=%s", log_value_str(reason));
	kill_new(keeper);
	if (freezing && outcome == TAKEOVER_NOT_DONE)
		keeper_send_due(keeper, DUE_THAW);
	finish(keeper, outcome, reason);
}

/* Somebody was, and the old one is asked whether it was done. */
static void ask_back(struct keeper *keeper, const char *reason)
{
	struct takeover *takeover = &keeper->takeover;

	(void)snprintf(takeover->reason, sizeof(takeover->reason), "%s", reason);
	change_step(keeper, STEP_THAWING, THAW_LIMIT_MS, reason);
	keeper_send_due(keeper, DUE_THAW);
}

static bool is_uncommitted(enum takeover_step step)
{
	return step >= STEP_WAITING && step <= STEP_HANDING;
}

void keeper_takeover_cancel(struct keeper *keeper, const char *reason)
{
	if (is_uncommitted(keeper->takeover.step))
		give_up(keeper, TAKEOVER_NOT_DONE, reason);
}

/* ---- deaths ---- */

/* Both are gone: whoever had the arena has died. */
static void on_both_gone(struct keeper *keeper)
{
	log_error("takeover_lost_both old=%d", (int)keeper->worker);
	kill_new(keeper);
	finish(keeper, TAKEOVER_WORKER_DIED, "the worker that had the arena died");
}

/* By the arena's own word; the fields before the layout's are where they always were. */
static bool new_had_the_arena(const struct keeper *keeper)
{
	uint64_t owner = 0;

	return pread(keeper->arena_fd, &owner, sizeof(owner),
		     offsetof(struct arena_header, owner)) == (ssize_t)sizeof(owner) &&
	       (pid_t)(uint32_t)owner == keeper->takeover.end.new_pid;
}

bool keeper_takeover_on_old_death(struct keeper *keeper, int32_t *status)
{
	struct takeover *takeover = &keeper->takeover;

	if (takeover->step == STEP_NONE)
		return false;
	if (is_uncommitted(takeover->step)) {
		give_up(keeper, TAKEOVER_WORKER_DIED, "the worker died");
		return false;
	}
	if (child_running(&takeover->child)) {
		takeover->old_gone = true;
		takeover->old_status = *status;
		change_step(keeper, STEP_SWAPPING, LAST_LIMIT_MS, "the old worker is gone");
		return true;
	}
	if (new_had_the_arena(keeper))
		*status = takeover->new_status;
	on_both_gone(keeper);
	return false;
}

static void on_new_exit(struct child *child, int status, void *ctx)
{
	struct keeper *keeper = ctx;
	struct takeover *takeover = &keeper->takeover;
	struct buffer text = {0};
	char reason[KEEPER_REASON_MAX];

	MAGIC_CHECK(keeper, KEEPER_MAGIC);
	child_describe_exit(&text, status);
	(void)snprintf(reason, sizeof(reason), "the new worker died: %s", buffer_cstr(&text));
	buffer_free(&text);
	log_warning("takeover_new_died pid=%d reason=%s", (int)child->last_pid,
		    log_value_str(reason));
	/* Its last words may be why, or that it had adopted. */
	while (takeover->fd >= 0 && keeper_takeover_read(keeper))
		;
	if (is_uncommitted(takeover->step)) {
		give_up(keeper, TAKEOVER_NOT_DONE, reason);
		return;
	}
	/* It was the slot's worker, for a moment. */
	if (takeover->step == STEP_NONE) {
		keeper_worker_on_death(keeper, status);
		return;
	}
	takeover->new_status = status;
	forget_new(keeper);
	if (takeover->old_gone) {
		status = new_had_the_arena(keeper) ? status : takeover->old_status;
		on_both_gone(keeper);
		keeper_worker_on_death(keeper, status);
	} else if (takeover->step != STEP_THAWING) {
		ask_back(keeper, reason);
	}
}

/* ---- limits ---- */

static void kill_old(struct keeper *keeper)
{
	keeper_worker_kill(keeper, "it does not answer");
}

static void on_limit(evutil_socket_t fd, short what, void *ctx)
{
	struct keeper *keeper = ctx;
	struct takeover *takeover = &keeper->takeover;

	(void)fd;
	(void)what;
	MAGIC_CHECK(keeper, KEEPER_MAGIC);
	switch (takeover->step) {
	case STEP_NONE: break;
	case STEP_WAITING:
		give_up(keeper, TAKEOVER_NOT_DONE, "the slot did not become protected in time");
		break;
	case STEP_PREPARING:
		give_up(keeper, TAKEOVER_NOT_DONE, "the new worker was not ready in time");
		break;
	case STEP_FREEZING:
		give_up(keeper, TAKEOVER_NOT_DONE, "the worker did not freeze in time");
		break;
	case STEP_HANDING:
		give_up(keeper, TAKEOVER_NOT_DONE, "the rest could not be handed over in time");
		break;
	case STEP_SWAPPING:
		if (takeover->old_gone)
			child_signal(&takeover->child, SIGKILL);
		else
			ask_back(keeper, "the new worker did not serve in time");
		break;
	/* It may be the owner, but serves nobody. */
	case STEP_THAWING: kill_old(keeper); break;
	}
}

/* ---- the steps ---- */

static void freeze_old(struct keeper *keeper)
{
	struct takeover *takeover = &keeper->takeover;

	crash_point(CRASH_KEEPER_FREEZE);
	takeover->prepared_us = now_us();
	takeover->end.prepare_us = takeover->prepared_us - takeover->began_us;
	change_step(keeper, STEP_FREEZING, FREEZE_LIMIT_MS, "the new worker is ready");
	keeper_send_due(keeper, DUE_FREEZE);
}

static const char *on_frozen(struct keeper *keeper, struct ipc_message *message,
			     struct slice payload)
{
	struct takeover *takeover = &keeper->takeover;
	struct keeper_frozen frozen;

	if (!keeper_payload_take(payload, &frozen, sizeof(frozen)))
		return "a freeze that is cut off";
	/* Of one that was given up. */
	if (takeover->step != STEP_FREEZING || frozen.takeover != takeover->order.number)
		return NULL;
	if (frozen.descriptors != keeper->kept.count) {
		give_up(keeper, TAKEOVER_NOT_DONE, "what is deposited and what is kept differ");
		return NULL;
	}
	if (message->nfds > 0) {
		takeover->link = message->fds[0];
		message->fds[0] = -1;
	}
	takeover->frozen_ns = frozen.at_ns;
	change_step(keeper, STEP_HANDING, HAND_LIMIT_MS, "the old worker is frozen");
	crash_point(CRASH_KEEPER_COMMIT);
	keeper_send_due(keeper, DUE_NEXT_BATCH);
	return NULL;
}

static const char *on_thawed(struct keeper *keeper, struct slice payload)
{
	struct takeover *takeover = &keeper->takeover;
	struct keeper_turn turn;
	char reason[KEEPER_REASON_MAX + 1];

	if (!keeper_payload_take(payload, &turn, sizeof(turn)))
		return "a thaw that is cut off";
	if (takeover->step != STEP_THAWING || turn.takeover != takeover->order.number)
		return NULL;
	/* It has the arena again, so the next one can't. */
	(void)snprintf(reason, sizeof(reason), "%s", takeover->reason);
	kill_new(keeper);
	finish(keeper, TAKEOVER_NOT_DONE, reason);
	return NULL;
}

const char *keeper_takeover_on_old(struct keeper *keeper, struct ipc_message *message,
				   struct slice payload)
{
	return message->type == KEEPER_FROZEN ? on_frozen(keeper, message, payload)
					      : on_thawed(keeper, payload);
}

/* The way to the master: what it has not taken yet is taken as any other worker's. */
static void move_master_channel(struct keeper *keeper)
{
	struct takeover *takeover = &keeper->takeover;

	keeper_close_fd(&keeper->master_end);
	keeper_close_fd(&keeper->worker_end);
	keeper->due &= ~(unsigned)(DUE_NEXT_WORKER | DUE_WORKER | DUE_CHANNEL);
	keeper->master_end = takeover->master_end;
	takeover->master_end = -1;
	keeper->needs_channel = keeper->master_end < 0 && takeover->other_master;
	keeper_worker_connect_master(keeper);
}

/* The new one is the slot's worker from now on. */
static void become(struct keeper *keeper)
{
	struct takeover *takeover = &keeper->takeover;
	int fd = takeover->fd;

	if (!takeover->old_gone) {
		keeper_takeover_send_leave(keeper);
		see_off_old(keeper);
	}
	keeper->due &= ~(unsigned)(DUE_AGAIN | DUE_FREEZE | DUE_THAW);
	keeper_free_event(&takeover->event);
	takeover->fd = -1;
	keeper_worker_attach(keeper, fd);
	keeper->worker = takeover->end.new_pid;
	/* One that served and died at once is about to be told of. */
	if (child_running(&takeover->child))
		child_move(&keeper->child, &takeover->child, keeper_worker_on_exit, keeper);
	keeper->worker_order = takeover->worker_order;
	keeper->alive_since_ms = clock_boottime_ms();
	keeper->failed_adoptions = 0;
	keeper->is_protected = false;
	keeper_change_phase(keeper, PHASE_ATTACHED, "it took over");
	move_master_channel(keeper);
}

void keeper_takeover_on_other_master(struct keeper *keeper)
{
	keeper_takeover_cancel(keeper, "another master is there");
	keeper->takeover.other_master = true;
}

static const char *on_committed(struct keeper *keeper, struct slice payload)
{
	struct takeover *takeover = &keeper->takeover;
	struct keeper_committed committed;

	if (!keeper_payload_take(payload, &committed, sizeof(committed)) ||
	    committed.takeover != takeover->order.number)
		return "a commit of something else";
	takeover->end.connections = committed.connections;
	takeover->end.late = committed.late;
	takeover->end.lost = committed.lost;
	takeover->end.freeze_us = (committed.at_ns - takeover->frozen_ns) / 1000;
	log_info("taken_over worker=%d connections=%u lost=%u freeze_us=%" PRIu64,
		 (int)takeover->child.pid, committed.connections, committed.lost,
		 takeover->end.freeze_us);
	crash_point(CRASH_KEEPER_LEAVE);
	become(keeper);
	finish(keeper, TAKEOVER_DONE, "");
	return NULL;
}

static const char *on_refused(struct keeper *keeper, struct slice text)
{
	char reason[KEEPER_REASON_MAX];

	(void)snprintf(reason, sizeof(reason), "the new worker refused: %.*s", SLICE_ARG(text));
	if (is_uncommitted(keeper->takeover.step))
		give_up(keeper, TAKEOVER_NOT_DONE, reason);
	else
		ask_back(keeper, reason);
	return NULL;
}

/* What the next worker says. */
static const char *take(struct keeper *keeper, struct ipc_message *message, struct slice payload)
{
	enum takeover_step step = keeper->takeover.step;
	uint32_t type = message->type;
	struct keeper_turn turn;

	if (type == KEEPER_NEXT && (step == STEP_PREPARING || step == STEP_HANDING)) {
		keeper_send_due(keeper, DUE_NEXT_BATCH);
		return NULL;
	}
	if (type == KEEPER_READY && step == STEP_PREPARING) {
		if (!keeper_payload_take(payload, &turn, sizeof(turn)) ||
		    turn.takeover != keeper->takeover.order.number)
			return "ready for something else";
		freeze_old(keeper);
		return NULL;
	}
	if (type == KEEPER_ADOPT_REFUSED && (is_uncommitted(step) || step == STEP_SWAPPING))
		return on_refused(keeper, payload);
	/* It was converted: the swap is done, and whoever follows goes on with this one. */
	if (type == KEEPER_ARENA && (step == STEP_SWAPPING || step == STEP_THAWING))
		return keeper_on_arena(keeper, message);
	if (type == KEEPER_COMMITTED && (step == STEP_SWAPPING || step == STEP_THAWING))
		return on_committed(keeper, payload);
	return "a message out of turn";
}

static void on_new_message(struct keeper *keeper, struct ipc_message *message)
{
	struct slice payload = {0};
	const char *problem;

	if (!keeper_type_allowed(message->type, WORKER_TO_KEEPER))
		problem = "a message that workers may not send";
	else if (ipc_message_payload(message, &payload) < 0)
		problem = strerror(errno);
	else
		problem = take(keeper, message, payload);
	if (!problem)
		return;
	log_error("worker_bad_message message=%s reason=%s", keeper_type_name(message->type),
		  log_value_str(problem));
	child_signal(&keeper->takeover.child, SIGKILL);
}

bool keeper_takeover_read(struct keeper *keeper)
{
	struct takeover *takeover = &keeper->takeover;
	int result = ipc_receive(takeover->fd, keeper->message);

	if (result > 0) {
		on_new_message(keeper, keeper->message);
		ipc_message_close_fds(keeper->message);
		return true;
	}
	if (result < 0 && errno == EAGAIN)
		return false;
	/* Dead, or about to be. */
	if (result < 0)
		child_signal(&takeover->child, SIGKILL);
	keeper_free_event(&takeover->event);
	keeper_close_fd(&takeover->fd);
	return false;
}

static void on_new_readable(evutil_socket_t fd, short what, void *ctx)
{
	struct keeper *keeper = ctx;

	(void)fd;
	(void)what;
	MAGIC_CHECK(keeper, KEEPER_MAGIC);
	for (int i = 0;
	     i < MESSAGES_PER_TURN && keeper->takeover.fd >= 0 && keeper_takeover_read(keeper); i++)
		;
}

/* ---- the beginning ---- */

static void prepare(struct keeper *keeper)
{
	struct takeover *takeover = &keeper->takeover;
	uint64_t spent_ms = (now_us() - takeover->began_us) / 1000;
	struct buffer error = {0};

	takeover->end.old_pid = (int32_t)keeper->worker;
	if (keeper_worker_launch(keeper, &takeover->child, on_new_exit, &takeover->fd,
				 &takeover->master_end, &error) < 0) {
		give_up(keeper, TAKEOVER_NOT_DONE, buffer_cstr(&error));
		buffer_free(&error);
		return;
	}
	takeover->worker_order = keeper->order;
	takeover->end.new_pid = (int32_t)takeover->child.pid;
	takeover->event = event_new(keeper->base, takeover->fd, EV_READ | EV_PERSIST,
				    on_new_readable, keeper);
	if (!takeover->event || event_add(takeover->event, NULL) < 0)
		log_fatal("keeper_events_failed");
	keeper_changes_begin(keeper);
	change_step(keeper, STEP_PREPARING,
		    takeover->order.limit_ms > spent_ms
			    ? (uint32_t)(takeover->order.limit_ms - spent_ms)
			    : 1,
		    takeover_reason_name(takeover->order.reason));
	keeper_send_due(keeper, DUE_NEXT_START | DUE_NEXT_WORKER);
}

void keeper_takeover_proceed(struct keeper *keeper)
{
	if (keeper->takeover.step == STEP_WAITING && keeper->is_protected &&
	    keeper->phase == PHASE_ATTACHED && keeper->worker_fd >= 0 && keeper->order)
		prepare(keeper);
}

/* One that can't even begin is told as any other. */
static void refuse(struct keeper *keeper, const struct keeper_takeover *order, const char *reason)
{
	const struct keeper_taken_over end = {
		.number = order->number,
		.outcome = TAKEOVER_NOT_DONE,
		.old_pid = (int32_t)keeper->worker,
	};
	struct buffer payload = {0};

	log_warning("takeover_refused number=%" PRIu64 " reason=%s", order->number,
		    log_value_str(reason));
	keeper_taken_over_encode(&payload, &end, reason);
	if (ipc_send(keeper->master_fd, KEEPER_TAKEN_OVER, 0, payload.data, payload.len, NULL, 0) <
	    0)
		log_error("keeper_send_failed message=TAKEN_OVER error=%s",
			  log_value_str(strerror(errno)));
	buffer_free(&payload);
}

void keeper_takeover_begin(struct keeper *keeper, const struct keeper_takeover *order)
{
	struct takeover *takeover = &keeper->takeover;

	if (takeover->step != STEP_NONE || (keeper->due & DUE_TAKEN_OVER)) {
		refuse(keeper, order, "another takeover is under way");
		return;
	}
	if (keeper->stopping) {
		refuse(keeper, order, "the node stops");
		return;
	}
	takeover->order = *order;
	takeover->began_us = takeover->step_since_us = now_us();
	takeover->end = (struct keeper_taken_over){
		.number = order->number,
		.old_pid = (int32_t)keeper->worker,
	};
	takeover->reason[0] = '\0';
	takeover->old_gone = takeover->other_master = false;
	change_step(keeper, STEP_WAITING, order->limit_ms, takeover_reason_name(order->reason));
	keeper_takeover_proceed(keeper);
}

/* ---- sending ---- */

static int send_turn(int fd, const struct keeper *keeper, uint32_t type)
{
	const struct keeper_turn turn = {.takeover = keeper->takeover.order.number};

	return ipc_send(fd, type, 0, &turn, sizeof(turn), NULL, 0);
}

static int send_commit(struct keeper *keeper)
{
	struct takeover *takeover = &keeper->takeover;
	const struct keeper_turn turn = {.takeover = takeover->order.number};
	int result = ipc_send(takeover->fd, KEEPER_COMMIT, 0, &turn, sizeof(turn), &takeover->link,
			      takeover->link >= 0);

	if (result == 0)
		keeper_close_fd(&takeover->link);
	return result;
}

int keeper_takeover_send_freeze(struct keeper *keeper)
{
	return send_turn(keeper->worker_fd, keeper, KEEPER_FREEZE);
}

int keeper_takeover_send_thaw(struct keeper *keeper)
{
	return send_turn(keeper->worker_fd, keeper, KEEPER_THAW);
}

/* Should it not arrive: the end of the channel says the same. */
void keeper_takeover_send_leave(struct keeper *keeper)
{
	if (keeper->worker_fd >= 0)
		(void)send_turn(keeper->worker_fd, keeper, KEEPER_LEAVE);
}

/* All it was handed so far, or the word to take the arena. */
static int send_end_of_batches(struct keeper *keeper)
{
	struct takeover *takeover = &keeper->takeover;
	const struct keeper_hand_over_end end = {
		.descriptors = (uint32_t)keeper->kept.count,
		.pid = (int32_t)keeper->worker,
		.status = KEEPER_NO_STATUS,
	};

	if (takeover->step == STEP_PREPARING)
		return ipc_send(takeover->fd, KEEPER_HAND_OVER_END, 0, &end, sizeof(end), NULL, 0);
	if (send_commit(keeper) < 0)
		return -1;
	change_step(keeper, STEP_SWAPPING, SWAP_LIMIT_MS, "everything is handed over");
	crash_point(CRASH_KEEPER_COMMITTED);
	return 0;
}

static int send_batch(struct keeper *keeper)
{
	int result = keeper_changes_send(keeper);

	return result == 0 ? send_end_of_batches(keeper) : result;
}

unsigned keeper_takeover_send(struct keeper *keeper, unsigned due)
{
	struct takeover *takeover = &keeper->takeover;

	while (due && takeover->fd >= 0) {
		unsigned bit = due & -due;
		int result = bit == DUE_NEXT_START ? keeper_worker_send_start(keeper, takeover->fd,
									      KEEPER_START_TAKEOVER)
						   : send_batch(keeper);

		if (result < 0 && keeper_may_be_sent_later(errno))
			return due;
		/* A dead one's end is gone: its death is about to be told. */
		if (result < 0 && errno != EPIPE && errno != ECONNRESET)
			child_signal(&takeover->child, SIGKILL);
		due &= ~bit;
	}
	return 0;
}

int keeper_takeover_send_next_worker(struct keeper *keeper)
{
	struct takeover *takeover = &keeper->takeover;
	const struct keeper_worker worker = {
		.pid = (int32_t)takeover->child.pid,
		.flags = KEEPER_WORKER_TAKES_OVER,
		.restarts = keeper->restarts,
		.order = takeover->worker_order,
	};
	const int fds[] = {
		[KEEPER_FD_WORKER_CHANNEL] = takeover->master_end,
		[KEEPER_FD_WORKER_PIDFD] = takeover->child.pidfd,
	};

	if (ipc_send(keeper->master_fd, KEEPER_WORKER, 0, &worker, sizeof(worker), fds, 2) < 0)
		return -1;
	keeper_close_fd(&takeover->master_end);
	return 0;
}

int keeper_takeover_send_end(struct keeper *keeper)
{
	const struct takeover *takeover = &keeper->takeover;
	struct buffer payload = {0};
	int result;

	keeper_taken_over_encode(&payload, &takeover->end, takeover->reason);
	result = ipc_send(keeper->master_fd, KEEPER_TAKEN_OVER, 0, payload.data, payload.len, NULL,
			  0);
	buffer_free(&payload);
	return result;
}

/* ---- life ---- */

void keeper_takeover_init(struct keeper *keeper)
{
	struct takeover *takeover = &keeper->takeover;

	takeover->fd = takeover->master_end = takeover->link = -1;
	takeover->limit = evtimer_new(keeper->base, on_limit, keeper);
	if (!takeover->limit)
		log_fatal("keeper_timer_failed");
}

/* Who leaves goes on leaving without us. */
void keeper_takeover_free(struct keeper *keeper)
{
	kill_new(keeper);
	while (keeper->leavers)
		free_leaver(keeper->leavers);
	keeper_changes_forget(keeper);
	keeper_free_event(&keeper->takeover.limit);
}

/* SPDX-License-Identifier: ISC */
/*
 * The workers as the master knows them: talking to them, hearing of their end.
 * Runs in the master. Starting and replacing them is their keepers' work
 * (slot_keeper.c).
 *
 *            start            IPC_READY
 *   DOWN ───────────► STARTING ───────► READY
 *    ▲                 ▲    │ died        │ died
 *    │ died   KEEPER_  │    ▼             │
 *    │         WORKER  └─ WAITING ◄───────┘
 *    └── STOPPING ◄── worker_slot_stop ── STARTING, READY, WAITING
 *
 * A worker that breaks the rules of the channel is killed: it is our own
 * binary, so that is a fault like any other.
 */
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "config.h"
#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/clock.h"
#include "keepsock/inquiry.h"
#include "keepsock/ipc.h"
#include "keepsock/keeper_messages.h"
#include "keepsock/log.h"
#include "keepsock/magic.h"
#include "keepsock/master.h"
#include "keepsock/node_page.h"
#include "keepsock/slot_move.h"
#include "keepsock/worker_slot.h"
#include "master/certificates.h"
#include "master/change.h"
#include "master/orphans.h"

/* A keeper that has not noticed its worker's death by then hangs, and would never replace it. */
#define KEEPER_SILENCE_MS          3000
#define KEEPER_TAKEOVER_SILENCE_MS 30000
/* Messages read in a row before other events get their turn. */
#define MESSAGES_PER_TURN 16

static const char *const state_names[] = {
	[WORKER_DOWN] = "down",       [WORKER_STARTING] = "starting", [WORKER_READY] = "ready",
	[WORKER_WAITING] = "waiting", [WORKER_STOPPING] = "stopping",
};

const char *worker_state_name(enum worker_state state)
{
	return state_names[state];
}

static void change_state(struct worker_slot *slot, enum worker_state to, const char *reason)
{
	uint64_t now = clock_boottime_ms();

	log_info("worker slot=%u change=%s->%s reason=%s ms=%" PRIu64 " pid=%d", slot->number,
		 state_names[slot->state], state_names[to], log_value_str(reason),
		 now - slot->state_since_ms, (int)slot->pid);
	slot->state = to;
	slot->state_since_ms = now;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void free_event(struct event **event)
{
	if (*event)
		event_free(*event);
	*event = NULL;
}

static void close_channel(struct worker_slot *slot)
{
	free_event(&slot->ipc_event);
	close_fd(&slot->ipc_fd);
}

static void send_kill(struct worker_slot *slot, int pidfd)
{
	/* ESRCH: it is dead and about to be reaped. */
	if (pidfd >= 0 && pidfd_send_signal(pidfd, SIGKILL, NULL, 0) < 0 && errno != ESRCH)
		log_error("worker_signal_failed slot=%u error=%s", slot->number, strerror(errno));
}

static void kill_worker(struct worker_slot *slot, const char *reason)
{
	log_error("worker_killed slot=%u pid=%d reason=%s", slot->number, (int)slot->pid,
		  log_value_str(reason));
	send_kill(slot, slot->pidfd);
}

bool worker_slot_send(struct worker_slot *slot, uint32_t type, uint64_t id, const void *payload,
		      size_t len)
{
	if (slot->ipc_fd < 0)
		return false;
	if (ipc_send_blob(slot->ipc_fd, type, id, payload, len) == 0)
		return true;
	log_warning("worker_send_failed slot=%u message=%s error=%s", slot->number,
		    ipc_type_name(type), strerror(errno));
	return false;
}

void worker_slot_tell_role(struct worker_slot *slot)
{
	const struct listeners *listeners = &slot->master->listeners;

	if (slot->ipc_fd >= 0 && ipc_send(slot->ipc_fd, IPC_ROLE, 0, NULL, 0, listeners->primary,
					  listeners->primary_count) < 0)
		log_warning("worker_send_failed slot=%u message=%s error=%s", slot->number,
			    ipc_type_name(IPC_ROLE), strerror(errno));
}

/* ---- what the worker says ---- */

static void on_ready_message(struct worker_slot *slot, struct ipc_message *message)
{
	(void)message;
	if (slot->state != WORKER_STARTING)
		return;
	change_state(slot, WORKER_READY, "it accepts clients");
	master_on_worker_change(slot->master);
	change_on_slot_ready(slot);
}

static void on_reply_message(struct worker_slot *slot, struct ipc_message *message)
{
	struct slice payload;

	if (ipc_message_payload(message, &payload) == 0)
		inquiry_on_reply(slot->master, slot->number, message->id, payload);
	else
		log_error("bad_reply slot=%u error=%s", slot->number, strerror(errno));
}

static void dispatch(struct worker_slot *slot, struct ipc_message *message)
{
	static void (*const handlers[IPC_TYPE_COUNT])(struct worker_slot *,
						      struct ipc_message *) = {
		[IPC_READY] = on_ready_message,
		[IPC_REPLY] = on_reply_message,
		[IPC_MOVED] = slot_move_on_moved,
	};

	if (!ipc_type_allowed(message->type, WORKER_TO_MASTER)) {
		log_error("worker_bad_message slot=%u message=%s", slot->number,
			  ipc_type_name(message->type));
		kill_worker(slot, "a message that workers may not send");
		return;
	}
	handlers[message->type](slot, message);
}

/* One message; false when there is no other one now, or never again. */
static bool read_message(struct worker_slot *slot)
{
	struct ipc_message *message = slot->master->message;
	int result = ipc_receive(slot->ipc_fd, message);

	if (result > 0) {
		dispatch(slot, message);
		ipc_message_close_fds(message);
		return true;
	}
	if (result < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return false;
	/* Gone, or about to be: without its channel a worker is of no use. */
	if (result < 0)
		kill_worker(slot, strerror(errno));
	else
		send_kill(slot, slot->pidfd);
	close_channel(slot);
	return false;
}

static void on_channel_readable(evutil_socket_t fd, short what, void *ctx)
{
	struct worker_slot *slot = ctx;

	(void)fd;
	(void)what;
	MAGIC_CHECK(slot, WORKER_SLOT_MAGIC);
	for (int i = 0; i < MESSAGES_PER_TURN && slot->ipc_fd >= 0 && read_message(slot); i++)
		;
}

/* ---- its end ---- */

/* A worker whose keeper died is our child; the status of another one is not ours to have. */
static void reap(struct worker_slot *slot)
{
	siginfo_t info;

	memset(&info, 0, sizeof(info));
	if (slot->pidfd < 0 || waitid(P_PIDFD, (id_t)slot->pidfd, &info, WEXITED | WNOHANG) < 0 ||
	    info.si_pid == 0)
		return;
	slot->exit_status = info.si_code == CLD_EXITED ? W_EXITCODE(info.si_status, 0)
						       : W_EXITCODE(0, info.si_status);
}

/* What it still had to say is read first: its last words may be an answer. */
static void forget_worker(struct worker_slot *slot)
{
	while (slot->ipc_fd >= 0 && read_message(slot))
		;
	close_channel(slot);
	reap(slot);
	free_event(&slot->exit_event);
	evtimer_del(slot->silence_timer);
	close_fd(&slot->pidfd);
	slot_move_on_worker_gone(slot);
	slot->pid = 0;
	slot->exited = false;
}

/* All are gone: nothing more to wait for. */
static void settle_stop(struct worker_slot *slot, const char *reason)
{
	if (slot->state != WORKER_STOPPING || child_running(&slot->keeper) || slot->pid ||
	    slot->leavers)
		return;
	node_page_reset_gauges(slot->master->page, slot->number);
	change_state(slot, WORKER_DOWN, reason);
	master_on_worker_change(slot->master);
}

/* A worker that was taken over from and is about to leave; its pidfd is owned. */
struct leaver {
	struct leaver *next;
	struct worker_slot *slot;
	int pidfd;
	struct event *event;
};

/* Of one whose keeper died, we are the parent; the status of another one is not ours to have. */
static void forget_leaver(struct leaver *leaver)
{
	struct leaver **at = &leaver->slot->leavers;
	siginfo_t info;

	while (*at != leaver)
		at = &(*at)->next;
	*at = leaver->next;
	(void)waitid(P_PIDFD, (id_t)leaver->pidfd, &info, WEXITED | WNOHANG);
	event_free(leaver->event);
	close(leaver->pidfd);
	free(leaver);
}

static void on_leaver_exit(evutil_socket_t fd, short what, void *ctx)
{
	struct leaver *leaver = ctx;
	struct worker_slot *slot = leaver->slot;

	(void)fd;
	(void)what;
	forget_leaver(leaver);
	settle_stop(slot, "stop");
}

static void kill_leavers(struct worker_slot *slot)
{
	for (struct leaver *leaver = slot->leavers; leaver; leaver = leaver->next) {
		log_error("worker_killed slot=%u reason=%s", slot->number,
			  log_value_str("it was taken over from and did not leave in time"));
		send_kill(slot, leaver->pidfd);
	}
}

static void watch_leaver(struct worker_slot *slot)
{
	struct leaver *leaver = xcalloc(1, sizeof(*leaver));

	leaver->pidfd = fcntl(slot->pidfd, F_DUPFD_CLOEXEC, 0);
	if (leaver->pidfd >= 0)
		leaver->event = event_new(slot->master->base, leaver->pidfd, EV_READ,
					  on_leaver_exit, leaver);
	if (!leaver->event || event_add(leaver->event, NULL) < 0)
		log_fatal("worker_event_failed");
	leaver->slot = slot;
	leaver->next = slot->leavers;
	slot->leavers = leaver;
}

/* Keeps what the dead worker left where a test can ask for it. */
static void take_left_arena(struct worker_slot *slot, pid_t pid, int fd)
{
	close_fd(&slot->left_arena_fd);
	slot->left_arena_fd = fd;
	slot->left_pid = pid;
}

static void note_death(struct worker_slot *slot, const struct keeper_death *death)
{
	struct buffer reason = {0};

	keeper_describe_death(&reason, death->status, death->fault);
	(void)snprintf(slot->last_death, sizeof(slot->last_death), "%s", buffer_cstr(&reason));
	buffer_free(&reason);
	if (slot->state == WORKER_STOPPING)
		return;
	log_error("worker_died slot=%u reason=%s lived_ms=%" PRIu64 " restart_in_ms=%u kept=%u",
		  slot->number, log_value_str(slot->last_death), death->lived_ms, death->next_in_ms,
		  death->descriptors);
	node_event_add(NODE_EVENT_WORKER_DIED, "worker %u: %s", slot->number, slot->last_death);
	metric_add(METRIC_worker_restarts_total, 1);
	slot->restarts++;
	change_state(slot, WORKER_WAITING, slot->last_death);
}

void worker_slot_on_death(struct worker_slot *slot, const struct keeper_death *told, int left_arena)
{
	struct keeper_death death = *told;

	if (left_arena >= 0)
		take_left_arena(slot, death.pid, left_arena);
	slot->exit_status = KEEPER_NO_STATUS;
	if (slot->pid == death.pid)
		forget_worker(slot);
	if (death.status == KEEPER_NO_STATUS)
		death.status = slot->exit_status;
	/* Its other gauges are told by its successor, which may run already. */
	node_page_set_not_ready(slot->master->page, slot->number);
	note_death(slot, &death);
	inquiry_on_worker_death(slot->master, slot->number);
	if (slot->state == WORKER_STOPPING)
		settle_stop(slot, slot->last_death);
	else
		master_on_worker_change(slot->master);
}

/* It died while there was no keeper to say so. */
static void on_unwatched_death(struct worker_slot *slot)
{
	const struct keeper_death death = {
		.pid = slot->pid,
		.status = KEEPER_NO_STATUS,
		.lived_ms = clock_boottime_ms() - slot->started_ms,
	};

	worker_slot_on_death(slot, &death, -1);
}

static void on_worker_exit(evutil_socket_t fd, short what, void *ctx)
{
	struct worker_slot *slot = ctx;
	struct timeval patience = {.tv_sec = KEEPER_SILENCE_MS / 1000};

	(void)fd;
	(void)what;
	MAGIC_CHECK(slot, WORKER_SLOT_MAGIC);
	free_event(&slot->exit_event);
	slot->exited = true;
	/* It may wait for the next one, which may have the arena. */
	if (slot->next.pid)
		patience.tv_sec = KEEPER_TAKEOVER_SILENCE_MS / 1000;
	if (slot_takeover_on_old_exit(slot))
		return;
	if (!child_running(&slot->keeper))
		on_unwatched_death(slot);
	else if (evtimer_add(slot->silence_timer, &patience) < 0)
		log_fatal("worker_timer_failed");
}

static void on_silence(evutil_socket_t fd, short what, void *ctx)
{
	struct worker_slot *slot = ctx;

	(void)fd;
	(void)what;
	MAGIC_CHECK(slot, WORKER_SLOT_MAGIC);
	slot_keeper_kill(slot, "it does not tell of its worker's death");
}

void worker_slot_on_keeper_gone(struct worker_slot *slot)
{
	if (slot->pid && slot->exited && !slot_takeover_on_old_exit(slot))
		on_unwatched_death(slot);
	settle_stop(slot, "stop");
}

/* ---- starting and stopping ---- */

/* What changed since the order that the worker was started with. */
static void tell_news(struct worker_slot *slot, uint64_t order)
{
	struct master *master = slot->master;
	const char *level = log_level_name(log_get_level());

	if (order < slot->order) {
		master_redis_tell(slot);
		worker_slot_tell_role(slot);
	}
	certificates_on_worker(slot, order >= slot->order);
	if (master->log_level_changed)
		(void)worker_slot_send(slot, IPC_LOG_LEVEL, 0, level, strlen(level));
	if (slot->state == WORKER_STOPPING && !slot->forced)
		(void)worker_slot_send(slot, IPC_STOP, 0, NULL, 0);
}

static void watch_exit(struct worker_slot *slot)
{
	slot->exit_event =
		event_new(slot->master->base, slot->pidfd, EV_READ, on_worker_exit, slot);
	if (!slot->exit_event || event_add(slot->exit_event, NULL) < 0)
		log_fatal("worker_event_failed");
}

void worker_slot_on_started(struct worker_slot *slot, const struct keeper_worker *worker,
			    int channel, int pidfd)
{
	/* One that was found without a keeper is the one that its next keeper tells of. */
	if (slot->pid && slot->pid != worker->pid && !slot->exited)
		watch_leaver(slot);
	if (slot->pid)
		forget_worker(slot);
	slot->pid = worker->pid;
	slot->pidfd = pidfd;
	slot->ipc_fd = channel;
	slot->started_ms = clock_boottime_ms();
	slot->worker_order = worker->order;
	slot->restarts = worker->restarts;
	slot->ipc_event = event_new(slot->master->base, channel, EV_READ | EV_PERSIST,
				    on_channel_readable, slot);
	watch_exit(slot);
	if (!slot->ipc_event || event_add(slot->ipc_event, NULL) < 0 ||
	    fcntl(channel, F_SETFL, O_NONBLOCK) < 0)
		log_fatal("worker_event_failed");
	if (slot->state == WORKER_WAITING)
		change_state(slot, WORKER_STARTING, "replacement");
	else
		log_info("worker_process slot=%u pid=%d", slot->number, (int)slot->pid);
	tell_news(slot, worker->order);
	if (slot->state == WORKER_STOPPING && slot->forced)
		send_kill(slot, slot->pidfd);
	/* The next one gets what has changed by then, keys among it. */
	if (worker->restarts > 0)
		worker_slot_update(slot);
}

/* A slot that runs has its keeper, which is told what workers are started with; or it gets the next
 * one, which is told as it starts, when its pause is over and it is known whose worker that is. */
void worker_slot_start(struct worker_slot *slot)
{
	if (slot->state == WORKER_DOWN) {
		change_state(slot, WORKER_STARTING, "start");
		slot_keeper_start(slot);
	} else if (slot->keeper_fd >= 0) {
		worker_slot_update(slot);
		master_redis_tell(slot);
	}
}

void worker_slot_adopt(struct worker_slot *slot, struct orphan *orphan)
{
	change_state(slot, WORKER_STARTING, "adopted");
	if (orphan->keeper) {
		slot_keeper_adopt(slot, orphan);
		return;
	}
	slot->pid = orphan->worker;
	slot->pidfd = orphan->worker_pidfd;
	orphan->worker_pidfd = -1;
	slot->started_ms = clock_boottime_ms();
	watch_exit(slot);
	slot_keeper_start(slot);
}

void worker_slot_init(struct worker_slot *slot, struct master *master, uint32_t number)
{
	*slot = (struct worker_slot){
		.magic = WORKER_SLOT_MAGIC,
		.number = number,
		.master = master,
		.state_since_ms = clock_boottime_ms(),
		.keeper_fd = -1,
		.pidfd = -1,
		.ipc_fd = -1,
		.left_arena_fd = -1,
		/* No earlier master's numbers come again. */
		.takeovers = clock_boottime_ns(),
		.next = {.pidfd = -1, .ipc_fd = -1},
		.exit_status = KEEPER_NO_STATUS,
	};
	slot->silence_timer = evtimer_new(master->base, on_silence, slot);
	if (!slot->silence_timer)
		log_fatal("worker_timer_failed");
	slot_keeper_init(slot);
}

void worker_slot_stop(struct worker_slot *slot, bool force)
{
	slot->forced = slot->forced || force;
	if (slot->state == WORKER_DOWN)
		return;
	if (slot->state != WORKER_STOPPING)
		change_state(slot, WORKER_STOPPING, "stop");
	slot_keeper_stop(slot);
	if (slot->pid &&
	    (force || (slot->ipc_fd >= 0 && !worker_slot_send(slot, IPC_STOP, 0, NULL, 0))))
		kill_worker(slot, "it did not stop in time");
	if (force)
		kill_leavers(slot);
	settle_stop(slot, "stop");
}

void worker_slot_set_log_level(struct worker_slot *slot, const char *name)
{
	if (slot->ipc_fd >= 0)
		(void)worker_slot_send(slot, IPC_LOG_LEVEL, 0, name, strlen(name));
	if (slot->keeper_fd >= 0)
		(void)slot_keeper_send(slot, KEEPER_LOG_LEVEL, name, strlen(name));
}

void worker_slot_free(struct worker_slot *slot)
{
	MAGIC_CHECK(slot, WORKER_SLOT_MAGIC);
	if (slot->pid || child_running(&slot->keeper))
		log_warning("left_running slot=%u worker=%d keeper=%d", slot->number,
			    (int)slot->pid, (int)slot->keeper.pid);
	while (slot->leavers)
		forget_leaver(slot->leavers);
	slot_keeper_free(slot);
	slot_takeover_free(slot);
	close_channel(slot);
	free_event(&slot->exit_event);
	free_event(&slot->silence_timer);
	close_fd(&slot->pidfd);
	close_fd(&slot->left_arena_fd);
	slot->magic = 0;
}

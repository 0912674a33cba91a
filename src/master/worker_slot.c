/* SPDX-License-Identifier: ISC */
/*
 * Starting, talking to and replacing workers. Runs in the master.
 *
 *            start            IPC_READY
 *   DOWN ───────────► STARTING ───────► READY
 *    ▲                 ▲    │ died        │ died
 *    │ died    restart │    ▼             │
 *    │           timer └─ WAITING ◄───────┘
 *    └── STOPPING ◄── worker_slot_stop ── STARTING, READY
 *
 * A worker that breaks the rules of the channel is killed: it is our own
 * binary, so that is a fault like any other, and its successor starts clean.
 */
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config.h"
#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/clock.h"
#include "keepsock/inquiry.h"
#include "keepsock/ipc.h"
#include "keepsock/log.h"
#include "keepsock/magic.h"
#include "keepsock/master.h"
#include "keepsock/node_check.h"
#include "keepsock/node_page.h"
#include "keepsock/secret.h"
#include "keepsock/worker_slot.h"

#define WORKER_SLOT_MAGIC UINT32_C(0x574f524b) /* "WORK" */
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
		 now - slot->state_since_ms, (int)slot->child.pid);
	slot->state = to;
	slot->state_since_ms = now;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void close_channel(struct worker_slot *slot)
{
	if (slot->ipc_event)
		event_free(slot->ipc_event);
	slot->ipc_event = NULL;
	close_fd(&slot->ipc_fd);
}

static void kill_worker(struct worker_slot *slot, const char *reason)
{
	log_error("worker_killed slot=%u pid=%d reason=%s", slot->number, (int)slot->child.pid,
		  log_value_str(reason));
	child_signal(&slot->child, SIGKILL);
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

/* ---- what the worker says ---- */

static void on_ready_message(struct worker_slot *slot, struct ipc_message *message)
{
	(void)message;
	if (slot->state != WORKER_STARTING)
		return;
	change_state(slot, WORKER_READY, "it accepts clients");
	master_on_worker_change(slot->master);
}

/* The place where the keeper will take the arena over; until then the master holds it. */
static void on_deposit_message(struct worker_slot *slot, struct ipc_message *message)
{
	if (message->nfds != 1) {
		kill_worker(slot, "an arena deposit without its descriptor");
		return;
	}
	close_fd(&slot->arena_fd);
	slot->arena_fd = message->fds[0];
	message->fds[0] = -1;
	log_debug("arena_deposited slot=%u", slot->number);
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
		[IPC_DEPOSIT_ARENA] = on_deposit_message,
		[IPC_REPLY] = on_reply_message,
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
		child_signal(&slot->child, SIGKILL);
	close_channel(slot);
	return false;
}

static void on_channel_readable(evutil_socket_t fd, short what, void *ctx)
{
	struct worker_slot *slot = ctx;

	(void)fd;
	(void)what;
	MAGIC_CHECK(slot, WORKER_SLOT_MAGIC);
	for (int i = 0; i < MESSAGES_PER_TURN && read_message(slot); i++)
		;
}

/* ---- death and replacement ---- */

/* Keeps what the dead worker left where a test can ask for it, else lets it go. */
static void settle_arena(struct worker_slot *slot, pid_t pid)
{
#ifdef KEEPSOCK_CRASH_POINTS
	if (slot->arena_fd >= 0) {
		close_fd(&slot->left_arena_fd);
		slot->left_arena_fd = slot->arena_fd;
		slot->left_pid = pid;
		slot->arena_fd = -1;
	}
#else
	(void)pid;
#endif
	close_fd(&slot->arena_fd);
}

/* Milliseconds; 0 = now. */
static void schedule_start(struct worker_slot *slot, uint32_t delay)
{
	struct timeval time = {.tv_sec = delay / 1000, .tv_usec = (delay % 1000) * 1000};

	if (evtimer_add(slot->restart_timer, &time) < 0)
		log_fatal("worker_timer_failed");
}

static void on_death(struct worker_slot *slot, const char *reason)
{
	uint64_t lived_ms = child_age_ms(&slot->child);
	bool expected = slot->state == WORKER_STOPPING;
	uint32_t delay;

	node_page_reset_gauges(slot->master->page, slot->number);
	if (expected || !master_replaces_workers(slot->master)) {
		change_state(slot, WORKER_DOWN, reason);
	} else {
		delay = child_restart_delay(&slot->restart_delay_ms, lived_ms);
		log_error("worker_died slot=%u reason=%s lived_ms=%" PRIu64 " restart_in_ms=%u",
			  slot->number, log_value_str(reason), lived_ms, delay);
		node_event_add(NODE_EVENT_WORKER_DIED, "worker %u: %s", slot->number, reason);
		metric_add(METRIC_worker_restarts_total, 1);
		slot->restarts++;
		change_state(slot, WORKER_WAITING, reason);
		schedule_start(slot, delay);
	}
	inquiry_on_worker_death(slot->master, slot->number);
	master_on_worker_change(slot->master);
}

/* What it still had to say is read first: its last words may be an answer or a deposit. */
static void on_child_exit(struct child *child, int status, void *ctx)
{
	struct worker_slot *slot = ctx;
	struct buffer reason = {0};

	MAGIC_CHECK(slot, WORKER_SLOT_MAGIC);
	while (slot->ipc_fd >= 0 && read_message(slot))
		;
	close_channel(slot);
	settle_arena(slot, child->last_pid);
	child_describe_exit(&reason, status);
	on_death(slot, buffer_cstr(&reason));
	buffer_free(&reason);
}

/* ---- starting ---- */

/* Keys that were changed reach the workers as they are replaced; unreadable ones never do. */
static void refresh_token_keys(struct master *master)
{
	struct ipc_keys token, subscription;
	struct buffer error = {0};

	if (node_read_token_keys(&master->settings, &token, &subscription, &error) < 0) {
		log_error("token_keys_unreadable error=%s text=%s",
			  log_value_str(buffer_cstr(&error)),
			  log_value_str("the worker gets those that were read before"));
	} else {
		if (!ipc_keys_equal(&token, &master->token_keys) ||
		    !ipc_keys_equal(&subscription, &master->subscription_token_keys))
			log_warning("token_keys_changed text=%s",
				    log_value_str("workers that run already keep the old ones"));
		ipc_keys_free(&master->token_keys);
		ipc_keys_free(&master->subscription_token_keys);
		master->token_keys = token;
		master->subscription_token_keys = subscription;
	}
	buffer_free(&error);
}

static bool send_start(struct worker_slot *slot)
{
	struct master *master = slot->master;
	struct buffer text = {0};
	struct ipc_start start = {
		.slot = slot->number,
		.slots = master->worker_count,
		.node = master->settings.node.name,
		.role = (char *)"single",
		.config_name = (char *)master->config_name,
		.run_dir = master->settings.node.run_dir,
		.restart_count = slot->restarts,
		.listeners = (uint32_t)master->listeners.count,
		.shard_count = master->shard_count,
		.api_key = master->api_key,
	};
	int fds[IPC_START_FD_LISTENERS + SETTINGS_LISTENERS_MAX];
	int result = -1;

	refresh_token_keys(master);
	start.token_keys = master->token_keys;
	start.subscription_token_keys = master->subscription_token_keys;
	memcpy(start.shards, master->shards, sizeof(start.shards));
	fds[IPC_START_FD_NODE_PAGE] = master->page_fd;
	fds[IPC_START_FD_SETTINGS] = master->settings_fd;
	memcpy(fds + IPC_START_FD_LISTENERS, listeners_of_slot(&master->listeners, slot->number),
	       master->listeners.count * sizeof(int));
	if (ipc_start_encode(&text, &start) < 0)
		errno = EILSEQ;
	else
		result = ipc_send(slot->ipc_fd, IPC_START, 0, text.data, text.len, fds,
				  IPC_START_FD_LISTENERS + master->listeners.count);
	if (result < 0)
		log_error("worker_send_failed slot=%u message=START error=%s", slot->number,
			  strerror(errno));
	if (text.data)
		secret_wipe(text.data, text.cap);
	buffer_free(&text);
	return result == 0;
}

/* Takes over our end of the pair. */
static bool open_channel(struct worker_slot *slot, int fd)
{
	const char *level = log_level_name(log_get_level());

	slot->ipc_fd = fd;
	slot->ipc_event =
		event_new(slot->master->base, fd, EV_READ | EV_PERSIST, on_channel_readable, slot);
	if (!slot->ipc_event || event_add(slot->ipc_event, NULL) < 0)
		log_fatal("worker_event_failed");
	if (!send_start(slot))
		return false;
	return !slot->master->log_level_changed ||
	       worker_slot_send(slot, IPC_LOG_LEVEL, 0, level, strlen(level));
}

static int start_process(struct worker_slot *slot, int worker_end, struct buffer *error)
{
	char name[] = "keepsockd", role[] = "--role=worker";
	char *argv[] = {name, role, NULL};
	struct child_spec spec = {
		.path = "/proc/self/exe",
		.argv = argv,
		.ipc_fd = worker_end,
		.output_fd = -1,
	};

	return child_start(&slot->child, slot->master->base, &spec, on_child_exit, slot, error);
}

static void retry_later(struct worker_slot *slot, const char *error)
{
	uint32_t delay = child_restart_delay(&slot->restart_delay_ms, 0);

	log_error("worker_start_failed slot=%u error=%s retry_in_ms=%u", slot->number,
		  log_value_str(error), delay);
	schedule_start(slot, delay);
}

void worker_slot_start(struct worker_slot *slot)
{
	struct buffer error = {0};
	int ends[2];

	if (ipc_pair(ends) < 0) {
		retry_later(slot, strerror(errno));
		return;
	}
	if (fcntl(ends[0], F_SETFL, O_NONBLOCK) < 0 || start_process(slot, ends[1], &error) < 0) {
		retry_later(slot, error.len ? buffer_cstr(&error) : strerror(errno));
		close(ends[0]);
	} else {
		change_state(slot, WORKER_STARTING, slot->restarts ? "replacement" : "start");
		if (!open_channel(slot, ends[0]))
			kill_worker(slot, "it could not be told what to do");
	}
	close(ends[1]);
	buffer_free(&error);
}

static void on_restart_time(evutil_socket_t fd, short what, void *ctx)
{
	struct worker_slot *slot = ctx;

	(void)fd;
	(void)what;
	MAGIC_CHECK(slot, WORKER_SLOT_MAGIC);
	worker_slot_start(slot);
}

void worker_slot_init(struct worker_slot *slot, struct master *master, uint32_t number)
{
	*slot = (struct worker_slot){
		.magic = WORKER_SLOT_MAGIC,
		.number = number,
		.master = master,
		.state_since_ms = clock_boottime_ms(),
		.ipc_fd = -1,
		.arena_fd = -1,
		.left_arena_fd = -1,
	};
	slot->restart_timer = evtimer_new(master->base, on_restart_time, slot);
	if (!slot->restart_timer)
		log_fatal("worker_timer_failed");
}

void worker_slot_stop(struct worker_slot *slot, bool force)
{
	evtimer_del(slot->restart_timer);
	if (!child_running(&slot->child)) {
		if (slot->state != WORKER_DOWN)
			change_state(slot, WORKER_DOWN, "stop");
		return;
	}
	if (slot->state != WORKER_STOPPING)
		change_state(slot, WORKER_STOPPING, "stop");
	if (force || !worker_slot_send(slot, IPC_STOP, 0, NULL, 0))
		kill_worker(slot, "it did not stop in time");
}

void worker_slot_free(struct worker_slot *slot)
{
	MAGIC_CHECK(slot, WORKER_SLOT_MAGIC);
	close_channel(slot);
	child_end(&slot->child);
	event_free(slot->restart_timer);
	close_fd(&slot->arena_fd);
	close_fd(&slot->left_arena_fd);
	slot->magic = 0;
}

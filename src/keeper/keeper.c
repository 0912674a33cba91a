/* SPDX-License-Identifier: ISC */
/*
 * The keeper process: one per worker slot. It holds a duplicate of everything a
 * successor of its worker needs, starts the next worker when one dies, and
 * hands it over. It touches no byte of a client, knows no protocol but its own
 * (keeper_messages.h), and decides nothing about connections.
 *
 *            order, restart timer          ADOPTED, ADOPT_REFUSED
 *   IDLE ───────────────────────► OFFERED ───────────────────────► ATTACHED
 *    ▲ ▲    (nothing kept: straight to ATTACHED)                    ▲    │
 *    │ └────── died ───────────────┴──── died ──────────────────────┼────┘
 *    └──────── died ─── ABSENT ──────────────── HELLO ──────────────┘
 */
#include "keepsock/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config.h"
#include "keeper/keeper.h"
#include "keepsock/alloc.h"
#include "keepsock/arena.h"
#include "keepsock/clock.h"
#include "keepsock/crash_points.h"
#include "keepsock/log.h"
#include "keepsock/magic.h"
#include "keepsock/node_processes.h"
#include "keepsock/process_title.h"
#include "keepsock/secret.h"

/* The peer's queue is full, or too many descriptors are in flight: it reads some meanwhile. */
#define RETRY_MS 5
/* What changes often is told at most so often. */
#define STATUS_MS 100
/* What is larger has pages of its own, so that tables that were outgrown leave nothing behind. */
#define OWN_PAGES_MIN (16 * 1024)

static const char *const phase_names[] = {"idle", "absent", "offered", "attached"};

void keeper_close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void keeper_free_event(struct event **event)
{
	if (*event)
		event_free(*event);
	*event = NULL;
}

void keeper_change_phase(struct keeper *keeper, enum keeper_phase to, const char *reason)
{
	uint64_t now = clock_boottime_ms();

	log_info("keeper change=%s->%s reason=%s ms=%" PRIu64 " worker=%d kept=%zu",
		 phase_names[keeper->phase], phase_names[to], log_value_str(reason),
		 now - keeper->phase_since_ms, (int)keeper->worker, keeper->kept.count);
	keeper->phase = to;
	keeper->phase_since_ms = now;
}

/* ---- sending ---- */

static int send_death(struct keeper *keeper)
{
	return ipc_send(keeper->master_fd, KEEPER_DEATH, 0, &keeper->last_death,
			sizeof(keeper->last_death), &keeper->left_arena, keeper->left_arena >= 0);
}

/* Whoever comes for a dead master knows nothing but what it hears from us. */
static int send_state(struct keeper *keeper)
{
	const struct keeper_state state = {
		.version = KEEPER_PROTOCOL_VERSION,
		.slot = keeper->slot,
		.order = keeper->order,
		.restarts = keeper->restarts,
		.worker = keeper->worker,
		.layout = keeper->arena_fd >= 0 ? arena_version(keeper->arena_fd) : 0,
	};

	return ipc_send(keeper->master_fd, KEEPER_STATE, 0, &state, sizeof(state),
			keeper->order_fds, keeper->order_fd_count);
}

/* The worker's channel to the master waits here until that takes it. */
static int send_worker(struct keeper *keeper)
{
	const struct keeper_worker worker = {
		.pid = keeper->worker,
		.flags = keeper->phase == PHASE_OFFERED ? KEEPER_WORKER_ADOPTS : 0,
		.restarts = keeper->restarts,
		.order = keeper->worker_order,
	};
	const int fds[] = {
		[KEEPER_FD_WORKER_CHANNEL] = keeper->master_end,
		[KEEPER_FD_WORKER_PIDFD] = keeper_worker_pidfd(keeper),
	};

	return ipc_send(keeper->master_fd, KEEPER_WORKER, 0, &worker, sizeof(worker), fds, 2);
}

static int send_status(struct keeper *keeper)
{
	const struct keeper_status status = {
		.worker = keeper->worker,
		.is_protected = keeper->is_protected,
		.descriptors = (uint32_t)keeper->kept.count,
	};

	return ipc_send(keeper->master_fd, KEEPER_STATUS, 0, &status, sizeof(status), NULL, 0);
}

/* Sends what of `due` is for the master, in this order; what is left of it. */
static unsigned send_to_master(struct keeper *keeper, unsigned due)
{
	if (due & DUE_STATE) {
		if (send_state(keeper) < 0)
			return due;
		due &= ~(unsigned)DUE_STATE;
	}
	if (due & DUE_NEXT_WORKER) {
		if (keeper_takeover_send_next_worker(keeper) < 0)
			return due;
		due &= ~(unsigned)DUE_NEXT_WORKER;
	}
	if (due & DUE_TAKEN_OVER) {
		if (keeper_takeover_send_end(keeper) < 0)
			return due;
		due &= ~(unsigned)DUE_TAKEN_OVER;
	}
	if (due & DUE_DEATH) {
		if (send_death(keeper) < 0)
			return due;
		keeper_close_fd(&keeper->left_arena);
		due &= ~(unsigned)DUE_DEATH;
	}
	if (due & DUE_WORKER) {
		if (send_worker(keeper) < 0)
			return due;
		keeper_close_fd(&keeper->master_end);
		due &= ~(unsigned)DUE_WORKER;
	}
	if ((due & DUE_STATUS) && send_status(keeper) < 0)
		return due;
	return due & ~(unsigned)DUE_STATUS;
}

void keeper_send_due(struct keeper *keeper, unsigned due)
{
	const unsigned for_worker =
		DUE_START | DUE_BATCH | DUE_AGAIN | DUE_CHANNEL | DUE_FREEZE | DUE_THAW;
	const unsigned for_next = DUE_NEXT_START | DUE_NEXT_BATCH;
	const unsigned for_master =
		DUE_STATE | DUE_NEXT_WORKER | DUE_TAKEN_OVER | DUE_DEATH | DUE_WORKER | DUE_STATUS;
	struct timeval again = {.tv_usec = RETRY_MS * 1000};
	unsigned left;

	keeper->due |= due;
	left = keeper_worker_send(keeper, keeper->due & for_worker) |
	       keeper_takeover_send(keeper, keeper->due & for_next);
	keeper->due = left | (keeper->due & for_master);
	/* What is for a master waits until there is one. */
	if (keeper->master_fd >= 0)
		keeper->due = left | send_to_master(keeper, keeper->due & for_master);
	else
		keeper->due &= ~(unsigned)DUE_STATUS;
	left = keeper->master_fd >= 0 ? keeper->due : keeper->due & ~for_master;
	if (left && evtimer_add(keeper->retry, &again) < 0)
		log_fatal("keeper_timer_failed");
}

static void on_retry(evutil_socket_t fd, short what, void *ctx)
{
	struct keeper *keeper = ctx;

	(void)fd;
	(void)what;
	MAGIC_CHECK(keeper, KEEPER_MAGIC);
	keeper_send_due(keeper, 0);
}

static void on_status_time(evutil_socket_t fd, short what, void *ctx)
{
	struct keeper *keeper = ctx;

	(void)fd;
	(void)what;
	MAGIC_CHECK(keeper, KEEPER_MAGIC);
	keeper_send_due(keeper, DUE_STATUS);
}

void keeper_status_changed(struct keeper *keeper)
{
	static const struct timeval soon = {.tv_usec = STATUS_MS * 1000};

	if (!evtimer_pending(keeper->status_timer, NULL) &&
	    evtimer_add(keeper->status_timer, &soon) < 0)
		log_fatal("keeper_timer_failed");
}

/* ---- what the master says ---- */

static void forget_order(struct keeper *keeper)
{
	for (size_t i = 0; i < keeper->order_fd_count; i++)
		keeper_close_fd(&keeper->order_fds[i]);
	keeper->order_fd_count = 0;
	if (keeper->order_payload.data)
		secret_wipe(keeper->order_payload.data, keeper->order_payload.cap);
	buffer_free(&keeper->order_payload);
}

static void on_order(struct keeper *keeper, struct ipc_message *message, struct slice payload)
{
	bool first = keeper->order == 0;
	struct keeper_order order;

	if (!keeper_payload_take_head(payload, &order, sizeof(order), &payload) ||
	    order.number == 0 || message->nfds <= KEEPER_ORDER_FD_START ||
	    message->nfds > KEEPER_ORDER_FDS_MAX) {
		log_error("keeper_order_malformed bytes=%zu fds=%zu", payload.len, message->nfds);
		return;
	}
	forget_order(keeper);
	keeper->order = order.number;
	buffer_append_slice(&keeper->order_payload, payload);
	memcpy(keeper->order_fds, message->fds, message->nfds * sizeof(int));
	keeper->order_fd_count = message->nfds;
	message->nfds = 0;
	if (first && keeper->phase == PHASE_IDLE && !keeper->stopping)
		keeper_worker_start(keeper);
}

static void on_log_level(struct slice name)
{
	char text[16] = "";
	enum log_level level;

	if (name.len < sizeof(text))
		memcpy(text, name.data, name.len);
	if (log_level_parse(text, &level))
		log_set_level(level);
}

static void on_takeover(struct keeper *keeper, struct slice payload)
{
	struct keeper_takeover order;

	if (keeper_takeover_decode(payload, &order))
		keeper_takeover_begin(keeper, &order);
	else
		log_error("keeper_takeover_malformed bytes=%zu", payload.len);
}

#ifdef KEEPSOCK_CRASH_POINTS
static void on_crash_point(struct keeper *keeper, struct slice payload)
{
	struct keeper_crash_point point;

	if (!keeper_payload_take(payload, &point, sizeof(point)) ||
	    !keeper_crash_point_valid(&point))
		log_error("keeper_crash_point_malformed bytes=%zu", payload.len);
	else if (point.target == KEEPER_CRASH_NEXT_WORKER)
		keeper->crash_point = point;
	else
		(void)crash_point_arm_signal(point.name, point.hits, (int)point.signal);
}

static void on_adoption(struct keeper *keeper, struct slice payload)
{
	keeper->never_adopt = payload.len == 1 && payload.data[0] == 0;
}
#endif

static void on_stop(struct keeper *keeper)
{
	keeper->stopping = true;
	keeper_takeover_cancel(keeper, "the node stops");
	evtimer_del(keeper->restart);
	if (!keeper->worker)
		keeper_end(keeper);
}

static void on_master_message(struct keeper *keeper, struct ipc_message *message)
{
	struct slice payload = {0};

	if (!keeper_type_allowed(message->type, MASTER_TO_KEEPER) ||
	    ipc_message_payload(message, &payload) < 0) {
		log_error("keeper_message_refused type=%s", keeper_type_name(message->type));
		return;
	}
	switch (message->type) {
	case KEEPER_ORDER: on_order(keeper, message, payload); break;
	case KEEPER_LOG_LEVEL: on_log_level(payload); break;
	case KEEPER_STOP: on_stop(keeper); break;
	case KEEPER_TAKEOVER: on_takeover(keeper, payload); break;
#ifdef KEEPSOCK_CRASH_POINTS
	case KEEPER_ADOPTION: on_adoption(keeper, payload); break;
	case KEEPER_CRASH_POINT: on_crash_point(keeper, payload); break;
#endif
	default: log_error("keeper_message_unexpected type=%s", keeper_type_name(message->type));
	}
	/* It may hold secrets, and is not used again soon. */
	secret_wipe(message->data, message->len);
}

/* It died, or gave up; its worker is served as before, and the next master comes by the socket. */
static void forget_master(struct keeper *keeper)
{
	log_warning("master_gone worker=%d", (int)keeper->worker);
	keeper_free_event(&keeper->master_event);
	keeper_close_fd(&keeper->master_fd);
}

static void on_master_readable(evutil_socket_t fd, short what, void *ctx)
{
	struct keeper *keeper = ctx;
	int result;

	(void)what;
	MAGIC_CHECK(keeper, KEEPER_MAGIC);
	result = ipc_receive(fd, keeper->message);
	if (result > 0) {
		on_master_message(keeper, keeper->message);
		ipc_message_close_fds(keeper->message);
	} else if (result == 0) {
		forget_master(keeper);
	} else if (errno != EAGAIN) {
		log_error("keeper_receive_failed error=%s", log_value_str(strerror(errno)));
	}
}

static void watch_master(struct keeper *keeper)
{
	keeper->master_event = event_new(keeper->base, keeper->master_fd, EV_READ | EV_PERSIST,
					 on_master_readable, keeper);
	if (!keeper->master_event || event_add(keeper->master_event, NULL) < 0 ||
	    fcntl(keeper->master_fd, F_SETFL, O_NONBLOCK) < 0)
		log_fatal("keeper_events_failed");
}

/* Whether the other end of a channel was closed. */
static bool is_gone(int fd)
{
	struct pollfd poller = {.fd = fd};

	return poll(&poller, 1, 0) == 1 && (poller.revents & (POLLHUP | POLLERR));
}

bool keeper_master_attach(struct keeper *keeper, int fd)
{
	if (keeper->master_fd >= 0 && !is_gone(keeper->master_fd))
		return false;
	if (keeper->master_fd >= 0)
		forget_master(keeper);
	keeper->master_fd = fd;
	watch_master(keeper);
	/* Whatever the dead one was about to do: this one decides anew. */
	keeper->stopping = false;
	keeper_takeover_on_other_master(keeper);
	keeper->needs_channel = keeper->worker != 0 && keeper->master_end < 0;
	log_info("master_attached worker=%d kept=%zu", (int)keeper->worker, keeper->kept.count);
	keeper->due |= DUE_STATE | DUE_STATUS;
	keeper_worker_connect_master(keeper);
	keeper_send_due(keeper, 0);
	return true;
}

/* ---- life ---- */

void keeper_end(struct keeper *keeper)
{
	/* The last words may still be due: their reader is asked once more. */
	keeper_send_due(keeper, 0);
	if (event_base_loopexit(keeper->base, NULL) < 0)
		log_fatal("loop_exit_failed");
}

static void take_setup(struct keeper *keeper, struct keeper_setup *setup,
		       struct keeper_setup_text *text)
{
	struct ipc_message *message = keeper->message;
	struct slice payload;

	if (ipc_receive(keeper->master_fd, message) != 1 || message->type != KEEPER_SETUP ||
	    ipc_message_payload(message, &payload) < 0 ||
	    !keeper_setup_decode(payload, setup, text) ||
	    message->nfds != (setup->worker ? 1u : 0u))
		log_fatal("keeper_setup_missing");
	keeper->slot = setup->slot;
	keeper->restarts = setup->restarts;
	log_init("keeper", (int)setup->slot);
	if (log_set_target(text->log_target) < 0)
		log_warning("log_target_failed error=%s", log_value_str(strerror(errno)));
	log_set_format((enum log_format)setup->log_format);
	log_set_level((enum log_level)setup->log_level);
	process_title_set_name("keepsockd");
	process_title_set("keepsockd: keeper %" PRIu32 " of %s (%s)", setup->slot, text->node,
			  text->config_name);
}

/*
 * False: the master that started it is dead already. The next one may be looking
 * for the worker in the socket's place, which is therefore not taken from it.
 */
static bool keeper_open(struct keeper *keeper)
{
	struct keeper_setup_text text;
	struct keeper_setup setup;

	take_setup(keeper, &setup, &text);
	keeper_worker_init(keeper);
	keeper_takeover_init(keeper);
	keeper->retry = evtimer_new(keeper->base, on_retry, keeper);
	keeper->status_timer = evtimer_new(keeper->base, on_status_time, keeper);
	if (!keeper->retry || !keeper->status_timer)
		log_fatal("keeper_events_failed");
	watch_master(keeper);
	keeper->run_dir = xstrdup(text.run_dir);
	if (node_processes_join(keeper->run_dir, NODE_PROCESS_KEEPER) < 0)
		log_warning("processes_not_joined error=%s", log_value_str(strerror(errno)));
	if (is_gone(keeper->master_fd)) {
		log_info("keeper_not_needed pid=%d", (int)getpid());
		return false;
	}
	if (keeper_visitors_listen(keeper) < 0)
		log_fatal("keeper_socket_failed error=%s", log_value_str(strerror(errno)));
	log_info("keeper_started pid=%d worker=%" PRId32, (int)getpid(), setup.worker);
	if (setup.worker)
		keeper_worker_watch(keeper, setup.worker, keeper->message->fds[0]);
	keeper->needs_channel = setup.worker && (setup.flags & KEEPER_SETUP_CHANNEL);
	return true;
}

static void keeper_free(struct keeper *keeper)
{
	keeper_visitors_free(keeper);
	keeper_takeover_free(keeper);
	keeper_worker_free(keeper);
	kept_table_clear(&keeper->kept, false);
	keeper_close_fd(&keeper->arena_fd);
	forget_order(keeper);
	keeper_free_event(&keeper->retry);
	keeper_free_event(&keeper->status_timer);
	keeper_free_event(&keeper->master_event);
	event_base_free(keeper->base);
	free(keeper->run_dir);
	free(keeper->message);
	keeper->magic = 0;
	/* The channel to the master stays open until the process is gone. */
}

int keeper_main(int ipc_fd, int argc, char **argv)
{
	struct keeper *keeper = xcalloc(1, sizeof(*keeper));

	(void)argc;
	(void)argv;
	/* The master decides when we stop. */
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	(void)mallopt(M_MMAP_THRESHOLD, OWN_PAGES_MIN);
	*keeper = (struct keeper){
		.magic = KEEPER_MAGIC,
		.phase_since_ms = clock_boottime_ms(),
		.base = event_base_new(),
		.message = xmalloc(sizeof(*keeper->message)),
		.master_fd = ipc_fd,
		.worker_pidfd = -1,
		.worker_fd = -1,
		.master_end = -1,
		.worker_end = -1,
		.left_arena = -1,
		.arena_fd = -1,
		.listen_fd = -1,
	};
	if (!keeper->base)
		log_fatal("event_base_failed");
	if (keeper_open(keeper) && event_base_dispatch(keeper->base) < 0)
		log_fatal("event_loop_failed");
	log_info("keeper_stopped kept=%zu", keeper->kept.count);
	keeper_free(keeper);
	free(keeper);
	libevent_global_shutdown();
	return EXIT_SUCCESS;
}

/* SPDX-License-Identifier: ISC */
/*
 * The worker's life: starting it with what the master ordered, its channel, its
 * death, and when the next one starts. Run by the keeper.
 *
 * A worker that dies is replaced at once; one that lived less than a second
 * since it had adopted (or was started fresh), after a growing pause. One that
 * breaks the rules of the channel is killed: it is our own binary, so that is a
 * fault like any other.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config.h"
#include "keeper/keeper.h"
#include "keepsock/arena.h"
#include "keepsock/clock.h"
#include "keepsock/log.h"
#include "keepsock/magic.h"
#include "keepsock/secret.h"

/* Successors that died before they had adopted; then what is kept is given up. */
#define FAILED_ADOPTIONS_MAX 3u
/* Messages read in a row before other events get their turn. */
#define MESSAGES_PER_TURN 16

/* ---- the channel ---- */

static void close_channel(struct keeper *keeper)
{
	keeper_free_event(&keeper->worker_event);
	keeper_close_fd(&keeper->worker_fd);
}

void keeper_worker_kill(struct keeper *keeper, const char *reason)
{
	log_error("worker_killed pid=%d reason=%s", (int)keeper->worker, log_value_str(reason));
	if (child_running(&keeper->child))
		child_signal(&keeper->child, SIGKILL);
	else if (keeper->worker_pidfd >= 0 &&
		 pidfd_send_signal(keeper->worker_pidfd, SIGKILL, NULL, 0) < 0 && errno != ESRCH)
		log_error("worker_signal_failed error=%s", log_value_str(strerror(errno)));
}

/* One message; false when there is no other one now, or never again. */
static bool read_message(struct keeper *keeper)
{
	int result = ipc_receive(keeper->worker_fd, keeper->message);

	if (result > 0) {
		keeper_on_worker_message(keeper, keeper->message);
		ipc_message_close_fds(keeper->message);
		return true;
	}
	if (result < 0 && errno == EAGAIN)
		return false;
	if (result < 0 && errno == EMFILE) {
		/* Some of what it deposited could not be taken: the counts will tell. */
		log_error("deposit_lost error=%s", log_value_str(strerror(errno)));
		keeper_set_protected(keeper, false);
		return true;
	}
	if (result < 0)
		keeper_worker_kill(keeper, strerror(errno));
	/* Dead or about to be; or it gave the channel up, and comes back as a visitor. */
	close_channel(keeper);
	keeper_set_protected(keeper, false);
	return false;
}

static void on_channel_readable(evutil_socket_t fd, short what, void *ctx)
{
	struct keeper *keeper = ctx;

	(void)fd;
	(void)what;
	MAGIC_CHECK(keeper, KEEPER_MAGIC);
	for (int i = 0; i < MESSAGES_PER_TURN && keeper->worker_fd >= 0 && read_message(keeper);
	     i++)
		;
}

void keeper_worker_attach(struct keeper *keeper, int fd)
{
	close_channel(keeper);
	keeper->worker_fd = fd;
	keeper->worker_event =
		event_new(keeper->base, fd, EV_READ | EV_PERSIST, on_channel_readable, keeper);
	if (!keeper->worker_event || event_add(keeper->worker_event, NULL) < 0)
		log_fatal("keeper_events_failed");
}

int keeper_worker_send_start(struct keeper *keeper, int fd, uint32_t flags)
{
	const struct keeper_start start = {
		.version = KEEPER_PROTOCOL_VERSION,
		.flags = flags,
		.restarts = keeper->restarts,
		.takeover = flags & KEEPER_START_TAKEOVER ? keeper->takeover.order.number : 0,
		.crash_point = keeper->crash_point,
	};
	int fds[1 + KEEPER_ORDER_FDS_MAX];
	struct buffer payload = {0};
	size_t count = 0;
	int result, saved;

	if (flags)
		fds[count++] = keeper->arena_fd;
	for (size_t i = KEEPER_ORDER_FD_START; i < keeper->order_fd_count; i++)
		fds[count++] = keeper->order_fds[i];
	buffer_append(&payload, &start, sizeof(start));
	buffer_append_slice(&payload, buffer_slice(&keeper->order_payload));
	result = ipc_send(fd, KEEPER_START, 0, payload.data, payload.len, fds, count);
	saved = errno;
	if (result == 0)
		keeper->crash_point = (struct keeper_crash_point){0};
	secret_wipe(payload.data, payload.cap);
	buffer_free(&payload);
	errno = saved;
	return result;
}

static int send_channel(struct keeper *keeper)
{
	int result =
		ipc_send(keeper->worker_fd, KEEPER_CHANNEL, 0, NULL, 0, &keeper->worker_end, 1);

	if (result == 0)
		keeper_close_fd(&keeper->worker_end);
	return result;
}

bool keeper_may_be_sent_later(int error)
{
	return error == EAGAIN || error == ETOOMANYREFS || error == ENOMEM || error == ENOBUFS;
}

static int send_one(struct keeper *keeper, unsigned bit)
{
	switch (bit) {
	case DUE_START:
		return keeper_worker_send_start(keeper, keeper->worker_fd,
						keeper->phase == PHASE_OFFERED ? KEEPER_START_ADOPT
									       : 0);
	case DUE_BATCH: return keeper_hand_over(keeper);
	case DUE_CHANNEL: return send_channel(keeper);
	case DUE_FREEZE: return keeper_takeover_send_freeze(keeper);
	case DUE_THAW: return keeper_takeover_send_thaw(keeper);
	default: return ipc_send(keeper->worker_fd, KEEPER_DEPOSIT_AGAIN, 0, NULL, 0, NULL, 0);
	}
}

unsigned keeper_worker_send(struct keeper *keeper, unsigned due)
{
	while (due && keeper->worker_fd >= 0) {
		unsigned bit = due & -due;
		int result = send_one(keeper, bit);

		if (result < 0 && keeper_may_be_sent_later(errno))
			return due;
		/* A dead worker's end is gone: its death is about to be told. */
		if (result < 0 && errno != EPIPE && errno != ECONNRESET)
			keeper_worker_kill(keeper, strerror(errno));
		due &= ~bit;
	}
	return 0;
}

/* ---- its channel to the master ---- */

int keeper_worker_pidfd(const struct keeper *keeper)
{
	return child_running(&keeper->child) ? keeper->child.pidfd : keeper->worker_pidfd;
}

/* One that still waits for the master is as good as new. Until it runs on its arena, a worker
 * listens to nothing but what it is handed. */
void keeper_worker_connect_master(struct keeper *keeper)
{
	int ends[2];

	if (keeper->master_end >= 0) {
		keeper_send_due(keeper, DUE_WORKER | DUE_STATUS);
		return;
	}
	if (!keeper->needs_channel || keeper->phase != PHASE_ATTACHED || keeper->worker_fd < 0)
		return;
	if (ipc_pair(ends) < 0) {
		log_error("worker_channel_failed error=%s", log_value_str(strerror(errno)));
		return;
	}
	keeper->needs_channel = false;
	keeper->master_end = ends[0];
	keeper_close_fd(&keeper->worker_end);
	keeper->worker_end = ends[1];
	keeper_send_due(keeper, DUE_CHANNEL | DUE_WORKER | DUE_STATUS);
}

/* ---- death ---- */

/* What its signal handler wrote, 0 = nothing. */
static uint32_t read_fault(const struct keeper *keeper)
{
	uint64_t fault = 0;

	if (keeper->arena_fd < 0 ||
	    pread(keeper->arena_fd, &fault, sizeof(fault), offsetof(struct arena_header, fault)) !=
		    (ssize_t)sizeof(fault) ||
	    fault >= NSIG)
		return 0;
	return (uint32_t)fault;
}

#ifdef KEEPSOCK_CRASH_POINTS
static bool copy_range(int from, int to, off_t at, off_t end)
{
	off_t to_at = at;

	while (at < end) {
		ssize_t copied = copy_file_range(from, &at, to, &to_at, (size_t)(end - at), 0);

		if (copied == 0 || (copied < 0 && errno != EINTR))
			return false;
	}
	return true;
}

/* Only what has bytes: most of an arena never had any. */
static bool copy_file(int from, int to)
{
	struct stat status;
	off_t at = 0;

	if (fstat(from, &status) < 0 || ftruncate(to, status.st_size) < 0)
		return false;
	while ((at = lseek(from, at, SEEK_DATA)) >= 0) {
		off_t end = lseek(from, at, SEEK_HOLE);

		if (end < 0 || !copy_range(from, to, at, end))
			return false;
		at = end;
	}
	return errno == ENXIO;
}

/* The next worker may go on with the arena itself; a test wants to see what this one left. */
static void keep_copy(struct keeper *keeper)
{
	keeper_close_fd(&keeper->left_arena);
	if (keeper->arena_fd < 0)
		return;
	keeper->left_arena = memfd_create("keepsock-left-arena", MFD_CLOEXEC);
	if (keeper->left_arena >= 0 && !copy_file(keeper->arena_fd, keeper->left_arena)) {
		log_warning("arena_copy_failed error=%s", log_value_str(strerror(errno)));
		keeper_close_fd(&keeper->left_arena);
	}
}
#else
static void keep_copy(struct keeper *keeper)
{
	(void)keeper;
}
#endif

/* Milliseconds; 0 = now. */
static void schedule_start(struct keeper *keeper, uint32_t delay)
{
	struct timeval time = {.tv_sec = delay / 1000, .tv_usec = (delay % 1000) * 1000};

	if (delay == 0)
		keeper_worker_start(keeper);
	else if (evtimer_add(keeper->restart, &time) < 0)
		log_fatal("keeper_timer_failed");
}

static void count_failed_adoption(struct keeper *keeper)
{
	if (keeper->phase == PHASE_OFFERED)
		keeper->failed_adoptions++;
	else
		keeper->failed_adoptions = 0;
	if (keeper->never_adopt)
		keeper_give_up_kept(keeper, "a test wants it so");
	if (keeper->failed_adoptions >= FAILED_ADOPTIONS_MAX) {
		keeper_give_up_kept(keeper, "its successors died before they had adopted");
		keeper->failed_adoptions = 0;
	}
}

/* What it had still deposited. */
static void hear_last_words(struct keeper *keeper)
{
	while (keeper->worker_fd >= 0 && read_message(keeper))
		;
	close_channel(keeper);
}

void keeper_worker_on_death(struct keeper *keeper, int32_t status)
{
	uint64_t lived_ms =
		keeper->alive_since_ms ? clock_boottime_ms() - keeper->alive_since_ms : 0;
	uint32_t delay = KEEPER_NO_START;
	struct buffer reason = {0};

	hear_last_words(keeper);
	/* A master that has not taken its channel yet won't want it any more. */
	keeper_close_fd(&keeper->master_end);
	keeper_close_fd(&keeper->worker_end);
	keeper->needs_channel = false;
	keeper->due &= ~(unsigned)(DUE_START | DUE_BATCH | DUE_AGAIN | DUE_CHANNEL | DUE_WORKER |
				   DUE_FREEZE | DUE_THAW);
	if (!keeper->stopping)
		delay = child_restart_delay(&keeper->restart_delay_ms, lived_ms);
	keep_copy(keeper);
	keeper->last_death = (struct keeper_death){
		.pid = keeper->worker,
		.status = status,
		.fault = read_fault(keeper),
		.next_in_ms = delay,
		.lived_ms = lived_ms,
		.descriptors = (uint32_t)keeper->kept.count,
	};
	keeper_describe_death(&reason, status, keeper->last_death.fault);
	count_failed_adoption(keeper);
	keeper->is_protected = false;
	keeper_change_phase(keeper, PHASE_IDLE, buffer_cstr(&reason));
	keeper->worker = 0;
	buffer_free(&reason);
	keeper_send_due(keeper, DUE_DEATH | DUE_STATUS);
	if (keeper->stopping) {
		keeper_end(keeper);
		return;
	}
	keeper->restarts++;
	schedule_start(keeper, delay);
}

static void on_exit_of_worker(struct keeper *keeper, int32_t status)
{
	hear_last_words(keeper);
	if (!keeper_takeover_on_old_death(keeper, &status))
		keeper_worker_on_death(keeper, status);
}

void keeper_worker_on_exit(struct child *child, int status, void *ctx)
{
	struct keeper *keeper = ctx;

	(void)child;
	MAGIC_CHECK(keeper, KEEPER_MAGIC);
	on_exit_of_worker(keeper, status);
}

/* One that another keeper started; whoever inherited it reaps it. */
static void on_foreign_exit(evutil_socket_t fd, short what, void *ctx)
{
	struct keeper *keeper = ctx;

	(void)fd;
	(void)what;
	MAGIC_CHECK(keeper, KEEPER_MAGIC);
	keeper_free_event(&keeper->worker_exit);
	keeper_close_fd(&keeper->worker_pidfd);
	on_exit_of_worker(keeper, KEEPER_NO_STATUS);
}

/* ---- start ---- */

static void on_restart_time(evutil_socket_t fd, short what, void *ctx)
{
	struct keeper *keeper = ctx;

	(void)fd;
	(void)what;
	MAGIC_CHECK(keeper, KEEPER_MAGIC);
	keeper_worker_start(keeper);
}

void keeper_worker_init(struct keeper *keeper)
{
	keeper->restart = evtimer_new(keeper->base, on_restart_time, keeper);
	if (!keeper->restart)
		log_fatal("keeper_timer_failed");
}

static int start_process(struct keeper *keeper, struct child *child,
			 void (*on_exit)(struct child *child, int status, void *ctx),
			 int keeper_channel, int master_channel, struct buffer *error)
{
	char name[] = "keepsockd", role[] = "--role=worker";
	char *argv[] = {name, role, NULL};
	struct child_spec spec = {
		.program_fd = keeper->order_fds[KEEPER_ORDER_FD_PROGRAM],
		.argv = argv,
		.channels = {keeper_channel, master_channel},
		.output_fd = -1,
		.outlives_us = true,
	};

	return child_start(child, keeper->base, &spec, on_exit, keeper, error);
}

static void retry_later(struct keeper *keeper, const char *error)
{
	uint32_t delay = child_restart_delay(&keeper->restart_delay_ms, 0);

	log_error("worker_start_failed error=%s retry_in_ms=%u", log_value_str(error), delay);
	schedule_start(keeper, delay);
}

/* It runs; what it is to be told is due. Takes over our ends of both channels. */
static void on_started(struct keeper *keeper, int channel, int master_end)
{
	bool adopt = keeper->arena_fd >= 0;

	keeper->worker = keeper->child.pid;
	keeper->worker_order = keeper->order;
	keeper->master_end = master_end;
	keeper->hand_over_cursor = 0;
	keeper->handed_over = 0;
	keeper->alive_since_ms = adopt ? 0 : clock_boottime_ms();
	keeper_worker_attach(keeper, channel);
	keeper_change_phase(keeper, adopt ? PHASE_OFFERED : PHASE_ATTACHED,
			    keeper->restarts ? "replacement" : "start");
	keeper_send_due(keeper, DUE_START | DUE_WORKER | DUE_STATUS);
}

static int make_channels(int keeper_pair[2], int master_pair[2])
{
	if (ipc_pair(keeper_pair) < 0)
		return -1;
	if (ipc_pair(master_pair) == 0) {
		if (fcntl(keeper_pair[0], F_SETFL, O_NONBLOCK) == 0)
			return 0;
		keeper_close_fd(&master_pair[0]);
		keeper_close_fd(&master_pair[1]);
	}
	keeper_close_fd(&keeper_pair[0]);
	keeper_close_fd(&keeper_pair[1]);
	return -1;
}

int keeper_worker_launch(struct keeper *keeper, struct child *child,
			 void (*on_exit)(struct child *child, int status, void *ctx), int *channel,
			 int *master_end, struct buffer *error)
{
	int keeper_pair[2], master_pair[2];
	int result;

	if (make_channels(keeper_pair, master_pair) < 0) {
		buffer_append_str(error, strerror(errno));
		return -1;
	}
	result = start_process(keeper, child, on_exit, keeper_pair[1], master_pair[1], error);
	close(keeper_pair[1]);
	close(master_pair[1]);
	if (result < 0) {
		close(keeper_pair[0]);
		close(master_pair[0]);
		return -1;
	}
	*channel = keeper_pair[0];
	*master_end = master_pair[0];
	return 0;
}

void keeper_worker_start(struct keeper *keeper)
{
	struct buffer error = {0};
	int channel, master_end;

	/* The start that was due is this one. */
	evtimer_del(keeper->restart);
	/* The worker that was there died before the master could say what the next one gets. */
	if (!keeper->order)
		return;
	if (keeper_worker_launch(keeper, &keeper->child, keeper_worker_on_exit, &channel,
				 &master_end, &error) < 0)
		retry_later(keeper, buffer_cstr(&error));
	else
		on_started(keeper, channel, master_end);
	buffer_free(&error);
}

void keeper_worker_watch(struct keeper *keeper, pid_t pid, int pidfd)
{
	keeper->worker = pid;
	keeper->worker_pidfd = pidfd;
	keeper->alive_since_ms = clock_boottime_ms();
	keeper->worker_exit = event_new(keeper->base, pidfd, EV_READ, on_foreign_exit, keeper);
	if (!keeper->worker_exit || event_add(keeper->worker_exit, NULL) < 0)
		log_fatal("keeper_events_failed");
	keeper_change_phase(keeper, PHASE_ABSENT, "its keeper was replaced");
}

/* A worker that is ours and still runs goes on without us. */
void keeper_worker_free(struct keeper *keeper)
{
	close_channel(keeper);
	keeper_close_fd(&keeper->master_end);
	keeper_close_fd(&keeper->worker_end);
	keeper_close_fd(&keeper->left_arena);
	keeper_free_event(&keeper->child.exit_event);
	if (child_running(&keeper->child))
		keeper_close_fd(&keeper->child.pidfd);
	keeper_free_event(&keeper->worker_exit);
	keeper_close_fd(&keeper->worker_pidfd);
	keeper_free_event(&keeper->restart);
}

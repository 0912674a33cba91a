/* SPDX-License-Identifier: ISC */
/*
 * Finding what a dead master left, see orphans.h. Runs in the master's start,
 * before its loop, and waits: for keepers that are expected to answer at once,
 * and for workers that try to reach a keeper twice a second.
 */
#include "master/orphans.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "keepsock/alloc.h"
#include "keepsock/arena.h"
#include "keepsock/buffer.h"
#include "keepsock/clock.h"
#include "keepsock/ipc.h"
#include "keepsock/ipc_messages.h"
#include "keepsock/keeper_messages.h"
#include "keepsock/keeper_socket.h"
#include "keepsock/log.h"

/* A keeper that lives answers in its next loop turn. */
#define ANSWER_MS 3000
/* Its visitors have few places: somebody else may have had ours. */
#define ATTEMPTS 5
/* A worker without keeper tries at least twice a second. */
#define WORKERS_MS 1500
#define KILLED_MS  2000

enum finding { FOUND, NOBODY, KILLED, REFUSED };

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void clear(struct orphan *orphan)
{
	*orphan = (struct orphan){
		.keeper_pidfd = -1,
		.channel = -1,
		.worker_pidfd = -1,
		.program_fd = -1,
		.page_fd = -1,
		.settings_fd = -1,
		.tls_fd = -1,
	};
}

static void close_all(struct orphan *orphan)
{
	close_fd(&orphan->keeper_pidfd);
	close_fd(&orphan->channel);
	close_fd(&orphan->worker_pidfd);
	close_fd(&orphan->program_fd);
	close_fd(&orphan->page_fd);
	close_fd(&orphan->settings_fd);
	close_fd(&orphan->tls_fd);
	for (size_t i = 0; i < orphan->listener_count; i++)
		close_fd(&orphan->listeners[i]);
	clear(orphan);
}

/* Takes over the descriptors of ipc_start; false when there are too few or too many. */
static bool take_start_fds(struct orphan *orphan, int *fds, size_t count)
{
	if (count < IPC_START_FD_LISTENERS ||
	    count > IPC_START_FD_LISTENERS + IPC_START_LISTENERS_MAX)
		return false;
	orphan->page_fd = fds[IPC_START_FD_NODE_PAGE];
	orphan->settings_fd = fds[IPC_START_FD_SETTINGS];
	orphan->tls_fd = fds[IPC_START_FD_TLS];
	orphan->listener_count = count - IPC_START_FD_LISTENERS;
	memcpy(orphan->listeners, fds + IPC_START_FD_LISTENERS,
	       orphan->listener_count * sizeof(int));
	for (size_t i = 0; i < count; i++)
		fds[i] = -1;
	return true;
}

/* ---- keepers ---- */

static bool is_readable(int fd, int timeout_ms)
{
	struct pollfd poller = {.fd = fd, .events = POLLIN};
	int result;

	do {
		result = poll(&poller, 1, timeout_ms);
	} while (result < 0 && errno == EINTR);
	return result == 1;
}

/* It hangs, or knows nothing: its worker tells us as much. */
static enum finding kill_keeper(struct orphan *orphan, uint32_t slot, const char *reason)
{
	log_error("keeper_killed slot=%u pid=%d reason=%s", slot, (int)orphan->keeper,
		  log_value_str(reason));
	if (pidfd_send_signal(orphan->keeper_pidfd, SIGKILL, NULL, 0) < 0 && errno != ESRCH)
		log_error("keeper_signal_failed slot=%u error=%s", slot, strerror(errno));
	if (!is_readable(orphan->keeper_pidfd, KILLED_MS))
		log_error("keeper_lives_on slot=%u pid=%d", slot, (int)orphan->keeper);
	close_all(orphan);
	return KILLED;
}

/* FOUND; KILLED: it knew nothing, like one that is dead. */
static enum finding take_state(struct orphan *orphan, uint32_t slot, struct ipc_message *message)
{
	struct keeper_state state;
	struct slice payload;

	if (message->type != KEEPER_STATE || ipc_message_payload(message, &payload) < 0 ||
	    !keeper_payload_take(payload, &state, sizeof(state)) || state.slot != slot)
		return kill_keeper(orphan, slot, "it does not say what it has");
	if (state.order == 0 || message->nfds <= KEEPER_ORDER_FD_START)
		return kill_keeper(orphan, slot, "it was never told what to do");
	orphan->program_fd = message->fds[KEEPER_ORDER_FD_PROGRAM];
	message->fds[KEEPER_ORDER_FD_PROGRAM] = -1;
	if (!take_start_fds(orphan, message->fds + KEEPER_ORDER_FD_START,
			    message->nfds - KEEPER_ORDER_FD_START))
		return kill_keeper(orphan, slot, "it has not what it should have");
	orphan->order = state.order;
	orphan->restarts = state.restarts;
	orphan->layout = state.layout;
	return FOUND;
}

static enum finding ask(struct orphan *orphan, uint32_t slot, struct ipc_message *message)
{
	const struct keeper_hello hello = {.version = KEEPER_PROTOCOL_VERSION, .slot = slot};
	enum finding finding = REFUSED;
	int result;

	if (ipc_send(orphan->channel, KEEPER_MASTER, 0, &hello, sizeof(hello), NULL, 0) < 0)
		return REFUSED;
	if (!is_readable(orphan->channel, ANSWER_MS))
		return kill_keeper(orphan, slot, "it does not answer");
	result = ipc_receive(orphan->channel, message);
	if (result <= 0)
		return REFUSED;
	finding = take_state(orphan, slot, message);
	ipc_message_close_fds(message);
	return finding;
}

static enum finding find_keeper_once(struct orphan *orphan, const char *run_dir, uint32_t slot,
				     struct ipc_message *message)
{
	enum finding finding;

	orphan->channel = keeper_socket_connect(run_dir, slot);
	if (orphan->channel < 0)
		return NOBODY;
	orphan->keeper = keeper_socket_peer(orphan->channel);
	if (orphan->keeper > 0)
		orphan->keeper_pidfd = pidfd_open(orphan->keeper, 0);
	/* It may be gone already. */
	finding = orphan->keeper_pidfd < 0 ? NOBODY : ask(orphan, slot, message);
	if (finding != FOUND)
		close_all(orphan);
	return finding;
}

static enum finding find_keeper(struct orphan *orphan, const char *run_dir, uint32_t slot,
				struct ipc_message *message)
{
	enum finding finding = REFUSED;

	for (int i = 0; i < ATTEMPTS && finding == REFUSED; i++)
		finding = find_keeper_once(orphan, run_dir, slot, message);
	return finding;
}

/* ---- workers without keeper ---- */

/* The next message, if it is of that type. */
static bool receive(int fd, uint32_t type, struct ipc_message *message)
{
	if (!is_readable(fd, ANSWER_MS) || ipc_receive(fd, message) != 1)
		return false;
	if (message->type == type)
		return true;
	ipc_message_close_fds(message);
	return false;
}

/* It follows at once. */
static uint32_t receive_layout(int peer, struct ipc_message *message)
{
	uint32_t layout = 0;

	if (!receive(peer, KEEPER_ARENA, message))
		return 0;
	if (message->nfds == 1)
		layout = arena_version(message->fds[0]);
	ipc_message_close_fds(message);
	return layout;
}

/* Its first words; they, and what follows, are said again to its next keeper. */
static void take_worker(struct orphan *orphan, int listen_fd, struct ipc_message *message)
{
	pid_t pid = 0;
	int peer = keeper_socket_accept(listen_fd, &pid);

	if (peer < 0)
		return;
	if (receive(peer, KEEPER_HELLO, message) && receive(peer, KEEPER_ORIGIN, message)) {
		if (take_start_fds(orphan, message->fds, message->nfds)) {
			orphan->worker = pid;
			orphan->worker_pidfd = pidfd_open(pid, 0);
		}
		ipc_message_close_fds(message);
		orphan->layout = receive_layout(peer, message);
	}
	close(peer);
	if (orphan->worker_pidfd < 0)
		close_all(orphan);
}

/* Slots whose keeper is dead, and the sockets at which we wait in its place. */
struct waiting {
	uint32_t slot[NODE_WORKERS_MAX];
	struct pollfd poller[NODE_WORKERS_MAX];
	size_t count;
};

static void wait_at(struct waiting *waiting, const char *run_dir, uint32_t slot)
{
	int fd = keeper_socket_listen(run_dir, slot);

	if (fd < 0) {
		log_warning("keeper_socket_failed slot=%u error=%s", slot, strerror(errno));
		return;
	}
	waiting->slot[waiting->count] = slot;
	waiting->poller[waiting->count++] = (struct pollfd){.fd = fd, .events = POLLIN};
}

/* The socket goes as well, except where a worker is: should our start fail, it tells the next one.
 */
static void stop_waiting(struct waiting *waiting, size_t at, bool found, const char *run_dir)
{
	close_fd(&waiting->poller[at].fd);
	if (!found)
		keeper_socket_remove(run_dir, waiting->slot[at]);
	waiting->count--;
	waiting->slot[at] = waiting->slot[waiting->count];
	waiting->poller[at] = waiting->poller[waiting->count];
}

static void wait_for_workers(struct orphans *orphans, struct waiting *waiting, const char *run_dir,
			     struct ipc_message *message)
{
	uint64_t end = clock_boottime_ms() + WORKERS_MS;
	uint64_t now;

	while (waiting->count > 0 && (now = clock_boottime_ms()) < end) {
		if (poll(waiting->poller, waiting->count, (int)(end - now)) <= 0)
			continue;
		for (size_t i = waiting->count; i-- > 0;) {
			struct orphan *orphan = &orphans->slot[waiting->slot[i]];

			if (!waiting->poller[i].revents)
				continue;
			take_worker(orphan, waiting->poller[i].fd, message);
			if (orphan->worker)
				stop_waiting(waiting, i, true, run_dir);
		}
	}
}

/*
 * Nobody came there. The dead master may have started a keeper that had no socket
 * yet when we looked, has put its own in the place of ours since, and has the worker.
 */
static enum finding look_again(struct orphans *orphans, struct waiting *waiting,
			       const char *run_dir, struct ipc_message *message)
{
	uint32_t slot = waiting->slot[0];
	enum finding finding;

	close_fd(&waiting->poller[0].fd);
	finding = find_keeper(&orphans->slot[slot], run_dir, slot, message);
	stop_waiting(waiting, 0, finding != NOBODY, run_dir);
	return finding;
}

/* ---- both ---- */

static void say_refused(struct buffer *error, uint32_t slot, const char *run_dir)
{
	buffer_printf(error,
		      "keeper %u of an older keepsockd in %s can't be adopted: it has a master, "
		      "or speaks another version; end it first",
		      slot, run_dir);
}

/* 0, or -1 with error. Those whose keeper is dead are waited for by then. */
static int find_keepers(struct orphans *orphans, struct waiting *waiting, const char *run_dir,
			struct ipc_message *message, struct buffer *error)
{
	uint32_t slots[NODE_WORKERS_MAX];
	size_t count = keeper_socket_list(run_dir, slots, NODE_WORKERS_MAX);

	for (size_t i = 0; i < count; i++) {
		switch (find_keeper(&orphans->slot[slots[i]], run_dir, slots[i], message)) {
		case FOUND: break;
		case KILLED:
		case NOBODY: wait_at(waiting, run_dir, slots[i]); break;
		case REFUSED: say_refused(error, slots[i], run_dir); return -1;
		}
	}
	return 0;
}

/* 0, or -1 with error. */
static int find_workers(struct orphans *orphans, struct waiting *waiting, const char *run_dir,
			struct ipc_message *message, struct buffer *error)
{
	while (waiting->count > 0) {
		wait_for_workers(orphans, waiting, run_dir, message);
		for (size_t left = waiting->count; left > 0; left--) {
			uint32_t slot = waiting->slot[0];

			switch (look_again(orphans, waiting, run_dir, message)) {
			case FOUND:
			case NOBODY: break;
			case KILLED: wait_at(waiting, run_dir, slot); break;
			case REFUSED: say_refused(error, slot, run_dir); return -1;
			}
		}
	}
	return 0;
}

static void count_slots(struct orphans *orphans)
{
	unsigned keepers = 0, workers = 0;

	for (uint32_t i = 0; i < NODE_WORKERS_MAX; i++) {
		if (!orphan_exists(&orphans->slot[i]))
			continue;
		orphans->slots = i + 1;
		keepers += orphans->slot[i].keeper != 0;
		workers += orphans->slot[i].worker != 0;
	}
	if (orphans->slots > 0)
		log_warning("orphans_found keepers=%u workers_without_keeper=%u", keepers, workers);
}

int orphans_find(struct orphans *orphans, const char *run_dir, struct buffer *error)
{
	struct ipc_message *message = xmalloc(sizeof(*message));
	struct waiting waiting = {.count = 0};
	int result;

	orphans->slots = 0;
	for (size_t i = 0; i < NODE_WORKERS_MAX; i++)
		clear(&orphans->slot[i]);
	result = find_keepers(orphans, &waiting, run_dir, message, error);
	if (result == 0)
		result = find_workers(orphans, &waiting, run_dir, message, error);
	while (waiting.count > 0)
		stop_waiting(&waiting, 0, true, run_dir);
	free(message);
	if (result < 0)
		orphans_free(orphans);
	else
		count_slots(orphans);
	return result;
}

bool orphans_fit(const struct orphans *orphans, struct buffer *error)
{
	for (uint32_t i = 0; i < orphans->slots; i++) {
		if (orphans->slot[i].layout <= ARENA_LAYOUT_VERSION)
			continue;
		buffer_printf(error,
			      "worker %u, which runs without a master, has an arena of layout %u, "
			      "and this program knows none beyond %u: start the one that ran "
			      "before, or a later one, or end the node with --stop",
			      i, orphans->slot[i].layout, ARENA_LAYOUT_VERSION);
		return false;
	}
	return true;
}

void orphans_free(struct orphans *orphans)
{
	for (size_t i = 0; i < NODE_WORKERS_MAX; i++)
		close_all(&orphans->slot[i]);
}

struct listener_member *orphans_listeners(const struct orphans *orphans, size_t *count)
{
	struct listener_member *members =
		xcalloc(NODE_WORKERS_MAX * IPC_START_LISTENERS_MAX, sizeof(*members));

	*count = 0;
	for (uint32_t slot = 0; slot < orphans->slots; slot++) {
		const struct orphan *orphan = &orphans->slot[slot];

		for (size_t i = 0; i < orphan->listener_count; i++)
			members[(*count)++] = (struct listener_member){slot, orphan->listeners[i]};
	}
	return members;
}

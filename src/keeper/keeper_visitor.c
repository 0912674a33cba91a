/* SPDX-License-Identifier: ISC */
/*
 * The keeper's socket: a worker whose keeper was replaced comes by it, and a
 * master that goes on for a dead one. Run by the keeper. A visitor becomes the
 * worker's channel when its first message is a valid HELLO and the kernel says
 * that it is the process we watch; it becomes the master's when it says MASTER
 * and there is no master that lives. Whoever may connect is of our own uid.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "keeper/keeper.h"
#include "keepsock/keeper_socket.h"
#include "keepsock/log.h"
#include "keepsock/magic.h"

static void forget_visitor(struct visitor *visitor)
{
	if (!visitor->keeper)
		return;
	keeper_free_event(&visitor->event);
	keeper_close_fd(&visitor->fd);
	visitor->keeper = NULL;
}

/* The place is free again; its descriptor is the caller's. */
static int let_in(struct visitor *visitor)
{
	int fd = visitor->fd;

	visitor->fd = -1;
	forget_visitor(visitor);
	return fd;
}

/* Its HELLO is the channel's first message, so it is read as all others are. */
static void on_worker(struct keeper *keeper, struct visitor *visitor)
{
	keeper_worker_attach(keeper, let_in(visitor));
	if (keeper->phase == PHASE_ABSENT)
		keeper_change_phase(keeper, PHASE_ATTACHED, "it came by the socket");
	keeper_on_worker_message(keeper, keeper->message);
}

static bool is_our_worker(const struct keeper *keeper, const struct visitor *visitor)
{
	return keeper->message->type == KEEPER_HELLO && keeper->worker &&
	       visitor->pid == keeper->worker && keeper->phase != PHASE_OFFERED;
}

static bool is_master(struct keeper *keeper)
{
	struct keeper_hello hello;
	struct slice payload;

	return keeper->message->type == KEEPER_MASTER &&
	       ipc_message_payload(keeper->message, &payload) == 0 &&
	       keeper_payload_take(payload, &hello, sizeof(hello)) &&
	       hello.version == KEEPER_PROTOCOL_VERSION && hello.slot == keeper->slot;
}

static void refuse(struct visitor *visitor)
{
	log_warning("visitor_refused pid=%d worker=%d", (int)visitor->pid,
		    (int)visitor->keeper->worker);
	forget_visitor(visitor);
}

static void on_visitor_readable(evutil_socket_t fd, short what, void *ctx)
{
	struct visitor *visitor = ctx;
	struct keeper *keeper = visitor->keeper;
	int result;

	(void)what;
	MAGIC_CHECK(keeper, KEEPER_MAGIC);
	result = ipc_receive(fd, keeper->message);
	if (result < 0 && errno == EAGAIN)
		return;
	if (result == 1 && is_our_worker(keeper, visitor)) {
		on_worker(keeper, visitor);
	} else if (result == 1 && is_master(keeper) && keeper_master_attach(keeper, fd)) {
		(void)let_in(visitor);
	} else {
		/* Whoever sees the end of the channel may count on it that nothing is kept. */
		if (result == 1)
			ipc_message_close_fds(keeper->message);
		refuse(visitor);
		return;
	}
	ipc_message_close_fds(keeper->message);
}

static void on_visitor(evutil_socket_t fd, short what, void *ctx)
{
	struct keeper *keeper = ctx;
	struct visitor *visitor;
	pid_t pid;
	int peer;

	(void)what;
	MAGIC_CHECK(keeper, KEEPER_MAGIC);
	peer = keeper_socket_accept(fd, &pid);
	if (peer < 0) {
		if (errno != EAGAIN)
			log_warning("visitor_refused error=%s", log_value_str(strerror(errno)));
		return;
	}
	visitor = &keeper->visitors[keeper->next_visitor++ % KEEPER_VISITORS_MAX];
	forget_visitor(visitor);
	*visitor = (struct visitor){.keeper = keeper, .pid = pid, .fd = peer};
	visitor->event =
		event_new(keeper->base, peer, EV_READ | EV_PERSIST, on_visitor_readable, visitor);
	if (!visitor->event || event_add(visitor->event, NULL) < 0)
		log_fatal("keeper_events_failed");
}

int keeper_visitors_listen(struct keeper *keeper)
{
	keeper->listen_fd = keeper_socket_listen(keeper->run_dir, keeper->slot);
	if (keeper->listen_fd < 0)
		return -1;
	keeper->listen_event = event_new(keeper->base, keeper->listen_fd, EV_READ | EV_PERSIST,
					 on_visitor, keeper);
	if (!keeper->listen_event || event_add(keeper->listen_event, NULL) < 0)
		log_fatal("keeper_events_failed");
	return 0;
}

/* Its name goes too: who finds one looks for what is behind it. */
void keeper_visitors_free(struct keeper *keeper)
{
	for (size_t i = 0; i < KEEPER_VISITORS_MAX; i++)
		forget_visitor(&keeper->visitors[i]);
	if (keeper->listen_fd < 0)
		return;
	keeper_free_event(&keeper->listen_event);
	keeper_close_fd(&keeper->listen_fd);
	keeper_socket_remove(keeper->run_dir, keeper->slot);
}

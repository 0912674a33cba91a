/* SPDX-License-Identifier: ISC */
/*
 * The keeper's socket: a worker whose keeper was replaced comes by it. Run by
 * the keeper. One visitor at a time, the latest; it becomes the worker's channel
 * when its first message is a valid HELLO and the kernel says that it is the
 * process we watch.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "keeper/keeper.h"
#include "keepsock/keeper_socket.h"
#include "keepsock/log.h"
#include "keepsock/magic.h"

static void forget_visitor(struct keeper *keeper)
{
	keeper_free_event(&keeper->visitor_event);
	keeper_close_fd(&keeper->visitor_fd);
}

/* Its HELLO is the channel's first message, so it is read as all others are. */
static void let_in(struct keeper *keeper)
{
	int fd = keeper->visitor_fd;

	keeper_free_event(&keeper->visitor_event);
	keeper->visitor_fd = -1;
	keeper_worker_attach(keeper, fd);
	if (keeper->phase == PHASE_ABSENT)
		keeper_change_phase(keeper, PHASE_ATTACHED, "it came by the socket");
}

static void on_visitor_readable(evutil_socket_t fd, short what, void *ctx)
{
	struct keeper *keeper = ctx;
	int result;

	(void)what;
	MAGIC_CHECK(keeper, KEEPER_MAGIC);
	result = ipc_receive(fd, keeper->message);
	if (result < 0 && errno == EAGAIN)
		return;
	if (result == 1 && keeper->message->type == KEEPER_HELLO && keeper->worker &&
	    keeper->visitor == keeper->worker && keeper->phase != PHASE_OFFERED) {
		let_in(keeper);
		keeper_on_worker_message(keeper, keeper->message);
	} else {
		log_warning("visitor_refused pid=%d worker=%d", (int)keeper->visitor,
			    (int)keeper->worker);
		forget_visitor(keeper);
	}
	if (result == 1)
		ipc_message_close_fds(keeper->message);
}

static void on_visitor(evutil_socket_t fd, short what, void *ctx)
{
	struct keeper *keeper = ctx;
	pid_t pid;
	int visitor;

	(void)what;
	MAGIC_CHECK(keeper, KEEPER_MAGIC);
	visitor = keeper_socket_accept(fd, &pid);
	if (visitor < 0) {
		if (errno != EAGAIN)
			log_warning("visitor_refused error=%s", log_value_str(strerror(errno)));
		return;
	}
	forget_visitor(keeper);
	keeper->visitor = pid;
	keeper->visitor_fd = visitor;
	keeper->visitor_event =
		event_new(keeper->base, visitor, EV_READ | EV_PERSIST, on_visitor_readable, keeper);
	if (!keeper->visitor_event || event_add(keeper->visitor_event, NULL) < 0)
		log_fatal("keeper_events_failed");
}

int keeper_visitors_listen(struct keeper *keeper, const char *run_dir)
{
	keeper->listen_fd = keeper_socket_listen(run_dir, keeper->slot);
	if (keeper->listen_fd < 0)
		return -1;
	keeper->listen_event = event_new(keeper->base, keeper->listen_fd, EV_READ | EV_PERSIST,
					 on_visitor, keeper);
	if (!keeper->listen_event || event_add(keeper->listen_event, NULL) < 0)
		log_fatal("keeper_events_failed");
	return 0;
}

void keeper_visitors_free(struct keeper *keeper)
{
	forget_visitor(keeper);
	keeper_free_event(&keeper->listen_event);
	keeper_close_fd(&keeper->listen_fd);
}

/* SPDX-License-Identifier: ISC */
/*
 * The poller, see poller.h. Run by the worker. Level-triggered: what a round
 * leaves ready makes the set readable again in the loop's next turn, so other
 * events are not starved.
 */
#include "worker/poller.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "keepsock/alloc.h"
#include "keepsock/log.h"

struct poller {
	int fd;              /* owned; the set */
	struct event *event; /* owned; the set is readable */
	poller_callback callback;
	poller_round_end round_end; /* NULL: nobody wants to know */
	void *ctx;
};

static short ready_for(uint32_t events)
{
	if (events & (EPOLLERR | EPOLLHUP))
		return EV_READ | EV_WRITE;
	return (short)((events & EPOLLIN ? EV_READ : 0) | (events & EPOLLOUT ? EV_WRITE : 0));
}

static void on_ready(evutil_socket_t fd, short what, void *arg)
{
	struct poller *poller = arg;
	struct epoll_event events[POLLER_ROUND_MAX];
	int count = epoll_wait((int)fd, events, POLLER_ROUND_MAX, 0);

	(void)what;
	if (count < 0 && errno != EINTR)
		log_fatal("poller_failed error=%s", log_value_str(strerror(errno)));
	for (int i = 0; i < count; i++)
		poller->callback(poller->ctx, events[i].data.u32, ready_for(events[i].events));
	if (poller->round_end)
		poller->round_end(poller->ctx);
}

struct poller *poller_create(struct event_base *base, poller_callback callback,
			     poller_round_end round_end, void *ctx)
{
	int fd = epoll_create1(EPOLL_CLOEXEC);
	struct poller *poller;

	if (fd < 0)
		return NULL;
	poller = xcalloc(1, sizeof(*poller));
	poller->fd = fd;
	poller->callback = callback;
	poller->round_end = round_end;
	poller->ctx = ctx;
	poller->event = event_new(base, fd, EV_READ | EV_PERSIST, on_ready, poller);
	if (!poller->event || event_add(poller->event, NULL) < 0) {
		poller_free(poller);
		errno = ENOMEM;
		return NULL;
	}
	return poller;
}

void poller_free(struct poller *poller)
{
	if (!poller)
		return;
	if (poller->event)
		event_free(poller->event);
	close(poller->fd);
	free(poller);
}

bool poller_watch(struct poller *poller, int fd, arena_ref ref, short before, short now)
{
	struct epoll_event event = {
		.events = (now & EV_READ ? EPOLLIN : 0u) | (now & EV_WRITE ? EPOLLOUT : 0u),
	};

	event.data.u32 = ref;
	if (before == now)
		return true;
	/* With no interest the kernel would still report errors: such a socket leaves the set. */
	if (now == 0)
		return epoll_ctl(poller->fd, EPOLL_CTL_DEL, fd, NULL) == 0;
	return epoll_ctl(poller->fd, before ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event) == 0;
}

/* SPDX-License-Identifier: ISC */
/*
 * keepsock-bench's event loop. One turn: the command's step, one epoll_wait, the
 * callbacks. It never blocks elsewhere and knows nothing of WebSocket.
 */
#include "loop.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "keepsock/alloc.h"
#include "keepsock/clock.h"

#define LOOP_BATCH 256

int loop_init(struct loop *loop, uint64_t patience_ms)
{
	*loop = (struct loop){.patience_ms = patience_ms};
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0)
		return -1;
	loop->scratch = xmalloc(LOOP_SCRATCH_SIZE);
	return 0;
}

void loop_free(struct loop *loop)
{
	close(loop->epoll_fd);
	free(loop->scratch);
	buffer_free(&loop->error);
}

static int loop_control(struct loop *loop, int op, struct loop_watch *watch, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = watch};

	if (epoll_ctl(loop->epoll_fd, op, watch->fd, &event) == 0)
		return 0;
	loop_fail(loop, "epoll_ctl: %s", strerror(errno));
	return -1;
}

int loop_watch(struct loop *loop, struct loop_watch *watch, uint32_t events)
{
	watch->magic = LOOP_WATCH_MAGIC;
	return loop_control(loop, EPOLL_CTL_ADD, watch, events);
}

int loop_rewatch(struct loop *loop, struct loop_watch *watch, uint32_t events)
{
	return loop_control(loop, EPOLL_CTL_MOD, watch, events);
}

void loop_unwatch(struct loop *loop, struct loop_watch *watch)
{
	(void)loop; /* closing the only descriptor of a socket takes it out of the epoll set */
	if (watch->fd >= 0)
		close(watch->fd);
	watch->fd = -1;
}

void loop_fail(struct loop *loop, const char *fmt, ...)
{
	char text[512];
	va_list args;

	if (loop_failed(loop))
		return;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	buffer_append_str(&loop->error, text);
}

bool loop_failed(const struct loop *loop)
{
	return loop->error.len > 0;
}

/* One wait and its callbacks. */
static void loop_turn(struct loop *loop, int wait_ms)
{
	struct epoll_event events[LOOP_BATCH];
	int count = epoll_wait(loop->epoll_fd, events, LOOP_BATCH, wait_ms);

	if (count < 0 && errno != EINTR)
		loop_fail(loop, "epoll_wait: %s", strerror(errno));
	for (int i = 0; i < count && !loop_failed(loop); i++) {
		struct loop_watch *watch = events[i].data.ptr;

		assert(watch->magic == LOOP_WATCH_MAGIC);
		if (watch->fd >= 0)
			watch->on_ready(watch, events[i].events);
	}
}

static int shorter_wait(int wait_ms, uint64_t limit_ms)
{
	return limit_ms < (uint64_t)wait_ms ? (int)limit_ms : wait_ms;
}

int loop_run(struct loop *loop, int (*step)(void *ctx), void *ctx, const char *waiting_for)
{
	uint64_t seen = loop->progress;
	uint64_t deadline = clock_boottime_ms() + loop->patience_ms;

	while (!loop_failed(loop)) {
		int wait_ms = step(ctx);
		uint64_t now;

		if (wait_ms == LOOP_DONE)
			return loop_failed(loop) ? -1 : 0;
		now = clock_boottime_ms();
		if (loop->progress != seen) {
			seen = loop->progress;
			deadline = now + loop->patience_ms;
		} else if (now >= deadline) {
			loop_fail(loop, "nothing arrived for %llu s while waiting for %s",
				  (unsigned long long)(loop->patience_ms / 1000), waiting_for);
			break;
		}
		loop_turn(loop, shorter_wait(wait_ms, deadline - now));
	}
	return -1;
}

int loop_pause(struct loop *loop, uint64_t ms)
{
	uint64_t end = clock_boottime_ms() + ms;

	while (!loop_failed(loop)) {
		uint64_t now = clock_boottime_ms();

		if (now >= end)
			return 0;
		loop_turn(loop, shorter_wait(LOOP_NO_WAKE, end - now));
	}
	return -1;
}

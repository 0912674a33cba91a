/* SPDX-License-Identifier: ISC */
/*
 * A command to the node, see node_admin.h. Runs in the supervisor; a node that
 * hangs costs the time limit of its call.
 */
#include "supervisor/node_admin.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "keepsock/alloc.h"
#include "keepsock/log.h"
#include "keepsock/magic.h"

#define NODE_CALL_MAGIC UINT32_C(0x4c4c434e) /* "NCLL" */
#define ANSWER_MAX      ((size_t)256 * 1024)

struct node_call {
	uint32_t magic;
	struct bufferevent *stream; /* NULL: it could not be connected */
	struct event *timer;
	pid_t peer;
	int error; /* of connecting */
	node_answer_fn *done;
	void *ctx;
};

void node_call_cancel(struct node_call *call)
{
	if (!call)
		return;
	MAGIC_CHECK(call, NODE_CALL_MAGIC);
	if (call->stream)
		bufferevent_free(call->stream);
	event_free(call->timer);
	call->magic = 0;
	free(call);
}

static void finish(struct node_call *call, const json_t *answer, const char *error)
{
	node_answer_fn *done = call->done;
	void *ctx = call->ctx;

	done(ctx, answer, error);
	node_call_cancel(call);
}

static void fail(struct node_call *call, const char *error)
{
	finish(call, NULL, error);
}

/* "OK\n{...}\n" or "ERROR reason\n", complete. */
static void take_answer(struct node_call *call)
{
	struct evbuffer *input = bufferevent_get_input(call->stream);
	size_t len;
	char *first = evbuffer_readln(input, &len, EVBUFFER_EOL_LF);
	json_t *answer = NULL;

	if (first && strcmp(first, "OK") == 0) {
		len = evbuffer_get_length(input);
		answer = json_loadb((const char *)evbuffer_pullup(input, -1), len,
				    JSON_DISABLE_EOF_CHECK, NULL);
	}
	if (answer)
		finish(call, answer, NULL);
	else if (first && strncmp(first, "ERROR ", 6) == 0)
		fail(call, first + 6);
	else
		fail(call, "unusable answer of the admin socket");
	json_decref(answer);
	free(first);
}

static void on_call_read(struct bufferevent *stream, void *ctx)
{
	struct node_call *call = ctx;

	MAGIC_CHECK(call, NODE_CALL_MAGIC);
	if (evbuffer_get_length(bufferevent_get_input(stream)) >= ANSWER_MAX)
		fail(call, "the answer is too long");
}

static void on_call_event(struct bufferevent *stream, short what, void *ctx)
{
	struct node_call *call = ctx;

	(void)stream;
	MAGIC_CHECK(call, NODE_CALL_MAGIC);
	if (what & BEV_EVENT_EOF)
		take_answer(call);
	else if (what & BEV_EVENT_ERROR)
		fail(call, strerror(errno));
}

static void on_call_timer(evutil_socket_t fd, short what, void *ctx)
{
	struct node_call *call = ctx;

	(void)fd;
	(void)what;
	MAGIC_CHECK(call, NODE_CALL_MAGIC);
	fail(call, call->stream ? "no answer in time" : strerror(call->error));
}

/* 0, or errno. */
static int open_stream(struct node_call *call, struct event_base *base, const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct ucred peer;
	socklen_t len = sizeof(peer);
	int error = 0;
	int fd;

	if (strlen(path) >= sizeof(address.sun_path))
		return ENAMETOOLONG;
	memcpy(address.sun_path, path, strlen(path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return errno;
	/* A Unix socket connects at once or not at all (EAGAIN: its queue is full). */
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
	    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		error = errno;
	if (error == 0)
		call->stream = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (!call->stream) {
		close(fd);
		return error ? error : ENOMEM;
	}
	call->peer = peer.pid;
	return 0;
}

struct node_call *node_call_start(struct event_base *base, const char *socket, const char *command,
				  int64_t timeout_ms, node_answer_fn *done, void *ctx)
{
	struct node_call *call = xcalloc(1, sizeof(*call));
	char *line = xasprintf("%s --json\n", command);
	struct timeval limit = {0};

	call->magic = NODE_CALL_MAGIC;
	call->done = done;
	call->ctx = ctx;
	call->timer = evtimer_new(base, on_call_timer, call);
	call->error = open_stream(call, base, socket);
	if (call->stream) {
		bufferevent_setcb(call->stream, on_call_read, NULL, on_call_event, call);
		if (bufferevent_enable(call->stream, EV_READ | EV_WRITE) < 0 ||
		    bufferevent_write(call->stream, line, strlen(line)) < 0)
			abort(); /* only out of memory */
		limit = (struct timeval){(time_t)(timeout_ms / 1000),
					 (suseconds_t)(timeout_ms % 1000 * 1000)};
	}
	if (!call->timer || evtimer_add(call->timer, &limit) != 0)
		abort(); /* only out of memory */
	free(line);
	return call;
}

pid_t node_call_peer(const struct node_call *call)
{
	return call->peer;
}

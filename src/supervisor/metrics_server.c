/* SPDX-License-Identifier: ISC */
/*
 * The listener of /metrics, see metrics_server.h. As much of HTTP/1.1 as a scraper
 * speaks: one GET without a body, and the connection closes after the answer. Not
 * libevent's evhttp: up to 2.1 it has no limit of connections, and each one here
 * takes a descriptor that the lease or a peer may need.
 */
#include "supervisor/metrics_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/log.h"
#include "keepsock/magic.h"
#include "keepsock/settings.h"

#define SERVER_MAGIC    UINT32_C(0x5653544d) /* "MTSV" */
#define VISITOR_MAGIC   UINT32_C(0x5356544d) /* "MTVS" */
#define VISITORS_MAX    16
#define HEAD_MAX        ((size_t)8 * 1024)
#define VISIT_SECONDS   5
#define LISTEN_BACKLOG  16
#define RETRY_ACCEPT_MS 200

struct visitor {
	uint32_t magic;
	struct metrics_server *server;
	struct bufferevent *stream; /* NULL = this place is free */
	struct event *timer;        /* ends a visit that takes too long */
	bool answered;
};

struct metrics_server {
	uint32_t magic;
	struct metrics_server_options options;
	struct evconnlistener *listener;
	struct event *retry; /* accepts again, after an error or when the house was full */
	struct visitor visitors[VISITORS_MAX];
};

static void end_visit(struct visitor *visitor)
{
	if (!visitor->stream)
		return;
	bufferevent_free(visitor->stream);
	event_free(visitor->timer);
	visitor->stream = NULL;
	visitor->timer = NULL;
	/* There is room again. */
	if (evconnlistener_enable(visitor->server->listener) < 0)
		log_warning("metrics_listener_stopped");
}

static void answer(struct visitor *visitor, const char *status, const char *more,
		   const struct buffer *body)
{
	struct buffer head = {0};

	visitor->answered = true;
	buffer_printf(&head,
		      "HTTP/1.1 %s\r\n%sContent-Type: text/plain; version=0.0.4\r\n"
		      "Content-Length: %zu\r\nConnection: close\r\n\r\n",
		      status, more, body->len);
	if (bufferevent_disable(visitor->stream, EV_READ) < 0 ||
	    bufferevent_write(visitor->stream, head.data, head.len) < 0 ||
	    (body->len > 0 && bufferevent_write(visitor->stream, body->data, body->len) < 0))
		abort(); /* only out of memory */
	buffer_free(&head);
}

/* The request line, "GET /metrics HTTP/1.1" or with a query. */
static void serve(struct visitor *visitor, const char *line)
{
	struct metrics_server_options *options = &visitor->server->options;
	const char *path = strchr(line, ' ');
	size_t length = path ? strcspn(path + 1, " ?") : 0;
	struct buffer body = {0};

	if (!path || !strstr(path + 1, " HTTP/1.")) {
		answer(visitor, "400 Bad Request", "", &body);
	} else if (strncmp(line, "GET ", 4) != 0) {
		answer(visitor, "405 Method Not Allowed", "Allow: GET\r\n", &body);
	} else if (length != strlen("/metrics") || strncmp(path + 1, "/metrics", length) != 0) {
		answer(visitor, "404 Not Found", "", &body);
	} else {
		options->write(options->ctx, &body);
		answer(visitor, "200 OK", "", &body);
	}
	buffer_free(&body);
}

static void on_visitor_read(struct bufferevent *stream, void *ctx)
{
	struct visitor *visitor = ctx;
	struct evbuffer *input = bufferevent_get_input(stream);
	struct buffer none = {0};
	char *line;

	MAGIC_CHECK(visitor, VISITOR_MAGIC);
	if (visitor->answered)
		return;
	if (evbuffer_search(input, "\r\n\r\n", 4, NULL).pos < 0) {
		if (evbuffer_get_length(input) >= HEAD_MAX)
			answer(visitor, "431 Request Header Fields Too Large", "", &none);
		return;
	}
	line = evbuffer_readln(input, NULL, EVBUFFER_EOL_CRLF_STRICT);
	serve(visitor, line ? line : "");
	free(line);
}

/* All of the answer is out. */
static void on_visitor_written(struct bufferevent *stream, void *ctx)
{
	struct visitor *visitor = ctx;

	(void)stream;
	MAGIC_CHECK(visitor, VISITOR_MAGIC);
	if (visitor->answered)
		end_visit(visitor);
}

static void on_visitor_event(struct bufferevent *stream, short what, void *ctx)
{
	struct visitor *visitor = ctx;

	(void)stream;
	MAGIC_CHECK(visitor, VISITOR_MAGIC);
	if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR))
		end_visit(visitor);
}

static void on_visit_time(evutil_socket_t fd, short what, void *ctx)
{
	struct visitor *visitor = ctx;

	(void)fd;
	(void)what;
	MAGIC_CHECK(visitor, VISITOR_MAGIC);
	end_visit(visitor);
}

static struct visitor *find_place(struct metrics_server *server)
{
	for (size_t i = 0; i < VISITORS_MAX; i++) {
		if (!server->visitors[i].stream)
			return &server->visitors[i];
	}
	return NULL;
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *peer,
		      int len, void *ctx)
{
	static const struct timeval limit = {VISIT_SECONDS, 0};
	struct metrics_server *server = ctx;
	struct visitor *visitor;

	(void)peer;
	(void)len;
	MAGIC_CHECK(server, SERVER_MAGIC);
	visitor = find_place(server);
	if (!visitor) {
		close(fd);
		return;
	}
	visitor->answered = false;
	visitor->stream = bufferevent_socket_new(server->options.base, fd, BEV_OPT_CLOSE_ON_FREE);
	visitor->timer = evtimer_new(server->options.base, on_visit_time, visitor);
	if (!visitor->stream || !visitor->timer || evtimer_add(visitor->timer, &limit) != 0)
		abort(); /* only out of memory */
	bufferevent_setwatermark(visitor->stream, EV_READ, 0, HEAD_MAX);
	bufferevent_setcb(visitor->stream, on_visitor_read, on_visitor_written, on_visitor_event,
			  visitor);
	if (bufferevent_enable(visitor->stream, EV_READ | EV_WRITE) < 0)
		abort(); /* only out of memory */
	/* Who comes while the house is full waits in the kernel's queue. */
	if (!find_place(server) && evconnlistener_disable(listener) < 0)
		log_warning("metrics_listener_not_paused");
}

static void on_accept_error(struct evconnlistener *listener, void *ctx)
{
	static const struct timeval delay = {0, RETRY_ACCEPT_MS * 1000};
	struct metrics_server *server = ctx;

	MAGIC_CHECK(server, SERVER_MAGIC);
	log_warning("metrics_accept_failed error=%s",
		    log_value_str(evutil_socket_error_to_string(EVUTIL_SOCKET_ERROR())));
	if (evconnlistener_disable(listener) < 0 || evtimer_add(server->retry, &delay) != 0)
		abort(); /* only out of memory */
}

static void on_retry(evutil_socket_t fd, short what, void *ctx)
{
	struct metrics_server *server = ctx;

	(void)fd;
	(void)what;
	MAGIC_CHECK(server, SERVER_MAGIC);
	if (find_place(server) && evconnlistener_enable(server->listener) < 0)
		log_warning("metrics_listener_stopped");
}

/* Its length, 0: it is none. */
static int make_place(const char *text, struct sockaddr_storage *out)
{
	struct settings_host_port place;
	char joined[128];
	int len = (int)sizeof(*out);
	bool made = false;

	memset(out, 0, sizeof(*out));
	if (settings_address_port_parse(text, &place) == NULL) {
		snprintf(joined, sizeof(joined), strchr(place.host, ':') ? "[%s]:%u" : "%s:%u",
			 place.host, place.port);
		made = evutil_parse_sockaddr_port(joined, (struct sockaddr *)out, &len) == 0;
		free(place.host);
	}
	return made ? len : 0;
}

struct metrics_server *metrics_server_open(const struct metrics_server_options *options,
					   struct buffer *error)
{
	struct metrics_server *server = xcalloc(1, sizeof(*server));
	struct sockaddr_storage place;
	int len = make_place(options->place, &place);

	server->magic = SERVER_MAGIC;
	server->options = *options;
	for (size_t i = 0; i < VISITORS_MAX; i++)
		server->visitors[i] = (struct visitor){.magic = VISITOR_MAGIC, .server = server};
	server->retry = evtimer_new(options->base, on_retry, server);
	if (!server->retry)
		abort(); /* only out of memory */
	if (len > 0)
		server->listener = evconnlistener_new_bind(
			options->base, on_accept, server,
			LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE,
			LISTEN_BACKLOG, (struct sockaddr *)&place, len);
	if (server->listener) {
		evconnlistener_set_error_cb(server->listener, on_accept_error);
		return server;
	}
	buffer_printf(error, "cluster.metrics_listen %s: %s", options->place, strerror(errno));
	metrics_server_close(server);
	return NULL;
}

void metrics_server_close(struct metrics_server *server)
{
	if (!server)
		return;
	MAGIC_CHECK(server, SERVER_MAGIC);
	for (size_t i = 0; i < VISITORS_MAX; i++)
		end_visit(&server->visitors[i]);
	if (server->listener)
		evconnlistener_free(server->listener);
	event_free(server->retry);
	server->magic = 0;
	free(server);
}

/* SPDX-License-Identifier: ISC */
/*
 * A single connection for questions to Sentinels and Redis, see redis_link.h.
 * Runs in the master and the supervisor. It never blocks, holds a bounded amount of what a peer
 * sends, and never logs what it signs in with.
 */
#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/log.h"
#include "keepsock/magic.h"
#include "keepsock/redis_link.h"
#include "keepsock/redis_resolve.h"
#include "keepsock/secret.h"

#define REDIS_LINK_MAGIC UINT32_C(0x4b4e4c52) /* "RLNK" */
#define READ_SIZE        4096
#define REPLY_MAX        ((size_t)256 * 1024) /* bytes before an answer is complete */
#define WORDS_MAX        12

struct redis_link {
	uint32_t magic;
	struct event_base *base; /* the caller's, as the next and the options' strings are */
	struct evdns_base **dns;
	struct redis_link_options options;
	struct redis_link_callbacks callbacks;
	void *ctx;
	struct redis_resolution *resolution; /* not owned: forgotten, it frees itself */
	struct evutil_addrinfo *addresses;   /* this and all below owned */
	const struct evutil_addrinfo *next_address;
	int fd;
	struct event *read;
	struct event *write;
	struct event *timer; /* the time limit of what is under way */
	redisReader *reader;
	struct buffer output;
	size_t written;
	size_t unread;    /* bytes fed to the reader since its last reply */
	unsigned waiting; /* answers */
	bool started;
	bool signing_in;
	bool ready;
	bool inside; /* one of its own callbacks or handlers: not to be freed now */
	bool closed;
};

static void free_event(struct event **event)
{
	if (*event)
		event_free(*event);
	*event = NULL;
}

static void drop_socket(struct redis_link *link)
{
	free_event(&link->read);
	free_event(&link->write);
	if (link->fd >= 0)
		close(link->fd);
	link->fd = -1;
}

static void free_link(struct redis_link *link)
{
	if (link->output.data)
		secret_wipe(link->output.data, link->output.cap);
	buffer_free(&link->output);
	link->magic = 0;
	free(link);
}

/* Lets go of everything but the struct. */
static void shut(struct redis_link *link)
{
	link->closed = true;
	if (link->resolution)
		redis_resolution_forget(link->resolution);
	link->resolution = NULL;
	if (link->addresses)
		evutil_freeaddrinfo(link->addresses);
	link->addresses = NULL;
	drop_socket(link);
	free_event(&link->timer);
	if (link->reader)
		redisReaderFree(link->reader);
	link->reader = NULL;
}

void redis_link_close(struct redis_link *link)
{
	if (!link)
		return;
	MAGIC_CHECK(link, REDIS_LINK_MAGIC);
	if (!link->closed)
		shut(link);
	if (!link->inside)
		free_link(link);
}

/* Every handler is between these two; the link may be gone after the second. */
static bool enter(struct redis_link *link)
{
	bool outermost = !link->inside;

	MAGIC_CHECK(link, REDIS_LINK_MAGIC);
	link->inside = true;
	return outermost;
}

static void leave(struct redis_link *link, bool outermost)
{
	if (!outermost)
		return;
	link->inside = false;
	if (link->closed)
		free_link(link);
}

static void lose(struct redis_link *link, const char *reason)
{
	if (link->closed)
		return;
	shut(link);
	link->callbacks.on_lost(link->ctx, reason);
}

static void lose_errno(struct redis_link *link, const char *what, int error)
{
	char reason[160];

	snprintf(reason, sizeof(reason), "%s: %s", what, strerror(error));
	lose(link, reason);
}

static void set_timer(struct redis_link *link)
{
	struct timeval limit = {(time_t)(link->options.timeout_ms / 1000),
				(suseconds_t)(link->options.timeout_ms % 1000 * 1000)};

	if (evtimer_add(link->timer, &limit) != 0)
		abort(); /* only out of memory */
}

/* -- writing ------------------------------------------------------------- */

static void write_output(struct redis_link *link)
{
	while (link->written < link->output.len) {
		ssize_t n = send(link->fd, link->output.data + link->written,
				 link->output.len - link->written, MSG_NOSIGNAL);

		if (n >= 0) {
			link->written += (size_t)n;
		} else if (errno == EAGAIN) {
			if (event_add(link->write, NULL) != 0)
				lose(link, "write: the event could not be added");
			return;
		} else if (errno != EINTR) {
			lose_errno(link, "write", errno);
			return;
		}
	}
	if (link->output.data)
		secret_wipe(link->output.data, link->output.len);
	buffer_reset(&link->output);
	link->written = 0;
}

/* The bytes leave from the loop, so that nobody is called back from inside a call. */
static void append_command(struct redis_link *link, const char *const *words, size_t n)
{
	size_t lengths[WORDS_MAX];
	char *text;
	int len;

	if (n > WORDS_MAX)
		abort();
	for (size_t i = 0; i < n; i++)
		lengths[i] = strlen(words[i]);
	/* hiredis 0.14 declares the words without their second const. */
	len = redisFormatCommandArgv(&text, (int)n, (const char **)(uintptr_t)words, lengths);
	if (len < 0)
		abort(); /* only out of memory */
	buffer_append(&link->output, text, (size_t)len);
	secret_wipe(text, (size_t)len);
	free(text);
	link->waiting++;
	set_timer(link);
	event_active(link->write, EV_WRITE, 1);
}

void redis_link_send(struct redis_link *link, const char *const *words, size_t n)
{
	MAGIC_CHECK(link, REDIS_LINK_MAGIC);
	if (!link->closed && link->ready)
		append_command(link, words, n);
}

unsigned redis_link_waiting(const struct redis_link *link)
{
	return link->waiting;
}

/* -- reading ------------------------------------------------------------- */

static void become_ready(struct redis_link *link)
{
	link->ready = true;
	evtimer_del(link->timer);
	link->callbacks.on_ready(link->ctx);
}

static void on_signed_in(struct redis_link *link, const redisReply *reply)
{
	char reason[160];

	link->signing_in = false;
	if (reply->type != REDIS_REPLY_ERROR) {
		become_ready(link);
		return;
	}
	snprintf(reason, sizeof(reason), "AUTH: %s", reply->str);
	lose(link, reason);
}

/* What comes unasked once SUBSCRIBE was sent. */
static bool is_push(const redisReply *reply)
{
	return reply->type == REDIS_REPLY_ARRAY && reply->elements == 3 &&
	       reply->element[0]->type == REDIS_REPLY_STRING &&
	       strcmp(reply->element[0]->str, "message") == 0;
}

static void on_reply(struct redis_link *link, const redisReply *reply)
{
	if (!is_push(reply)) {
		if (link->waiting == 0) {
			lose(link, "a reply nobody asked for");
			return;
		}
		if (--link->waiting == 0)
			evtimer_del(link->timer);
		else
			set_timer(link);
	}
	if (link->signing_in)
		on_signed_in(link, reply);
	else
		link->callbacks.on_reply(link->ctx, reply);
}

static void read_replies(struct redis_link *link)
{
	while (!link->closed) {
		void *reply = NULL;

		if (redisReaderGetReply(link->reader, &reply) != REDIS_OK) {
			char reason[160]; /* the reader, and so its text, goes first */

			snprintf(reason, sizeof(reason), "protocol: %s", link->reader->errstr);
			lose(link, reason);
			return;
		}
		if (!reply)
			return;
		link->unread = 0;
		on_reply(link, reply);
		freeReplyObject(reply);
	}
}

static void on_read(evutil_socket_t fd, short what, void *ctx)
{
	struct redis_link *link = ctx;
	char bytes[READ_SIZE];
	ssize_t n = recv(fd, bytes, sizeof(bytes), 0);
	bool outermost;

	(void)what;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	outermost = enter(link);
	if (n > 0)
		link->unread += (size_t)n;
	if (n < 0)
		lose_errno(link, "read", errno);
	else if (n == 0)
		lose(link, "closed by the other side");
	else if (link->unread > REPLY_MAX)
		lose(link, "the answer is too long");
	else if (redisReaderFeed(link->reader, bytes, (size_t)n) != REDIS_OK)
		lose(link, "the reader is out of memory");
	else
		read_replies(link);
	leave(link, outermost);
}

/* -- connecting ---------------------------------------------------------- */

static void connect_next(struct redis_link *link, int error);

static void sign_in(struct redis_link *link)
{
	const char *words[] = {"AUTH", link->options.user, link->options.password};
	size_t skip = link->options.user[0] == '\0';

	if (link->options.password[0] == '\0') {
		become_ready(link);
		return;
	}
	words[skip] = "AUTH";
	link->signing_in = true;
	append_command(link, words + skip, 3 - skip);
}

static void on_connected(struct redis_link *link)
{
	int error = 0, one = 1;
	socklen_t len = sizeof(error);

	if (getsockopt(link->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
		error = errno;
	if (error != 0) {
		connect_next(link, error);
		return;
	}
	/* A link that only listens must notice a host that is gone. */
	if (setsockopt(link->fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one)) != 0)
		log_debug("redis_link_keepalive error=%s", strerror(errno));
	link->reader = redisReaderCreate();
	if (!link->reader || event_add(link->read, NULL) != 0)
		lose(link, "out of memory");
	else
		sign_in(link);
}

static void on_write(evutil_socket_t fd, short what, void *ctx)
{
	struct redis_link *link = ctx;
	bool outermost = enter(link);

	(void)fd;
	(void)what;
	if (!link->reader)
		on_connected(link);
	else
		write_output(link);
	leave(link, outermost);
}

/* 0 when under way, else errno. */
static int connect_address(struct redis_link *link, const struct evutil_addrinfo *address)
{
	drop_socket(link);
	link->fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (link->fd < 0)
		return errno;
	if (connect(link->fd, address->ai_addr, (socklen_t)address->ai_addrlen) != 0 &&
	    errno != EINPROGRESS)
		return errno;
	link->read = event_new(link->base, link->fd, EV_READ | EV_PERSIST, on_read, link);
	link->write = event_new(link->base, link->fd, EV_WRITE, on_write, link);
	if (!link->read || !link->write || event_add(link->write, NULL) != 0)
		return ENOMEM;
	return 0;
}

/* Tries the addresses that are left; error is why the one before failed. */
static void connect_next(struct redis_link *link, int error)
{
	while (link->next_address) {
		const struct evutil_addrinfo *address = link->next_address;

		link->next_address = address->ai_next;
		error = connect_address(link, address);
		if (error == 0)
			return;
	}
	lose_errno(link, "connect", error);
}

static void on_resolved(void *ctx, const char *error, struct evutil_addrinfo *addresses)
{
	struct redis_link *link = ctx;
	bool outermost = enter(link);
	char reason[160];

	link->resolution = NULL;
	link->addresses = addresses;
	link->next_address = addresses;
	if (error) {
		snprintf(reason, sizeof(reason), "resolve: %s", error);
		lose(link, reason);
	} else {
		connect_next(link, EADDRNOTAVAIL);
	}
	leave(link, outermost);
}

static void start(struct redis_link *link)
{
	const struct redis_link_options *options = &link->options;
	struct redis_resolution *resolution;

	link->started = true;
	set_timer(link);
	resolution = redis_resolve(link->base, link->dns, options->host, options->port, on_resolved,
				   link);
	/* NULL: on_resolved() has already been here. */
	if (resolution)
		link->resolution = resolution;
}

static void on_timer(evutil_socket_t fd, short what, void *ctx)
{
	struct redis_link *link = ctx;
	bool outermost = enter(link);

	(void)fd;
	(void)what;
	if (!link->started)
		start(link);
	else
		lose(link, link->ready ? "no answer in time" : "no connection in time");
	leave(link, outermost);
}

struct redis_link *redis_link_open(struct event_base *base, struct evdns_base **dns,
				   const struct redis_link_options *options,
				   const struct redis_link_callbacks *callbacks, void *ctx)
{
	static const struct timeval at_once = {0, 0};
	struct redis_link *link = xcalloc(1, sizeof(*link));

	link->magic = REDIS_LINK_MAGIC;
	link->base = base;
	link->dns = dns;
	link->options = *options;
	link->callbacks = *callbacks;
	link->ctx = ctx;
	link->fd = -1;
	link->timer = evtimer_new(base, on_timer, link);
	/* It starts from the loop: nobody is called back from inside this call. */
	if (!link->timer || evtimer_add(link->timer, &at_once) != 0)
		abort(); /* only out of memory */
	return link;
}

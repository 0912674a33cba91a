/* SPDX-License-Identifier: ISC */
/*
 * The checks through a listener, see check_http.h. Runs in the supervisor; what
 * the node sends is bounded, and anything but the expected answer is a failure
 * with a reason.
 */
#include "supervisor/check_http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <jansson.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/magic.h"
#include "keepsock/random.h"
#include "keepsock/websocket.h"
#include "supervisor/check_place.h"

#define CHECK_HTTP_MAGIC UINT32_C(0x50544843) /* "CHTP" */
#define ANSWER_MAX       ((size_t)16 * 1024)
#define ECHO_BYTES       16
#define ERROR_MAX        160

struct check_http {
	uint32_t magic;
	struct event_base *base;
	struct bufferevent *stream;
	struct event *timer;
	bool echo;
	bool upgraded;
	char accept[29];               /* what the upgrade has to answer */
	char text[2 * ECHO_BYTES + 1]; /* what has to come back */
	check_done_fn *done;
	void *ctx;
};

void check_http_cancel(struct check_http *check)
{
	if (!check)
		return;
	MAGIC_CHECK(check, CHECK_HTTP_MAGIC);
	if (check->stream)
		bufferevent_free(check->stream);
	event_free(check->timer);
	check->magic = 0;
	free(check);
}

static void end(struct check_http *check, const char *error, bool standby)
{
	check_done_fn *done = check->done;
	void *ctx = check->ctx;

	check_http_cancel(check);
	done(ctx, error, standby);
}

static void finish(struct check_http *check, const char *error)
{
	end(check, error, false);
}

/* ---- /ready ---- */

static unsigned status_of(const char *text, size_t len)
{
	if (len < 12 || strncmp(text, "HTTP/1.1 ", 9) != 0)
		return 0;
	return (unsigned)strtoul(text + 9, NULL, 10);
}

/* A standby is not ready for clients and healthy all the same; it says so. */
static void judge_ready(struct check_http *check)
{
	struct evbuffer *input = bufferevent_get_input(check->stream);
	size_t len = evbuffer_get_length(input);
	const char *text = len ? (const char *)evbuffer_pullup(input, -1) : "";
	const char *body = len ? memmem(text, len, "\r\n\r\n", 4) : NULL;
	unsigned status = status_of(text, len);
	char error[ERROR_MAX];
	const char *reason;
	json_t *object;

	if (!body || status == 0) {
		finish(check, "/ready: no answer in HTTP");
		return;
	}
	if (status == 200) {
		finish(check, NULL);
		return;
	}
	body += 4;
	object = json_loadb(body, len - (size_t)(body - text), JSON_DISABLE_EOF_CHECK, NULL);
	reason = json_string_value(json_object_get(object, "reason"));
	snprintf(error, sizeof(error), "/ready: %u %s", status, reason ? reason : "");
	if (status == 503 && reason && strncmp(reason, "standby", 7) == 0)
		end(check, NULL, true);
	else
		finish(check, error);
	json_decref(object);
}

/* ---- /echo ---- */

static void send_echo(struct check_http *check)
{
	struct buffer frame = {0};
	unsigned char mask[4];

	random_bytes(mask, sizeof(mask));
	websocket_write_masked_frame(&frame, WEBSOCKET_TEXT, true, slice_str(check->text), mask);
	if (bufferevent_write(check->stream, frame.data, frame.len) < 0)
		abort(); /* only out of memory */
	buffer_free(&frame);
}

/* The head is complete: it must be the upgrade to our key. */
static bool take_upgrade(struct check_http *check, const char *head, size_t len)
{
	char error[ERROR_MAX];
	unsigned status = status_of(head, len);

	if (status == 101 && memmem(head, len, check->accept, strlen(check->accept))) {
		check->upgraded = true;
		send_echo(check);
		return true;
	}
	snprintf(error, sizeof(error), "/echo: %u instead of the upgrade", status);
	finish(check, error);
	return false;
}

static void judge_frame(struct check_http *check)
{
	struct evbuffer *input = bufferevent_get_input(check->stream);
	size_t len = evbuffer_get_length(input);
	struct websocket_server_frame frame;
	enum websocket_event event;

	if (len == 0)
		return;
	event = websocket_parse_server_frame(slice_from(evbuffer_pullup(input, -1), len), &frame);
	if (event == WEBSOCKET_NEED_MORE)
		return;
	if (event == WEBSOCKET_DATA && slice_is(frame.payload, check->text))
		finish(check, NULL);
	else
		finish(check, "/echo: something else came back");
}

static void read_echo(struct check_http *check)
{
	struct evbuffer *input = bufferevent_get_input(check->stream);
	struct evbuffer_ptr end = evbuffer_search(input, "\r\n\r\n", 4, NULL);
	size_t len = evbuffer_get_length(input);

	if (!check->upgraded) {
		if (end.pos < 0)
			return;
		len = (size_t)end.pos + 4;
		if (!take_upgrade(check, (const char *)evbuffer_pullup(input, (ssize_t)len), len))
			return;
		evbuffer_drain(input, len);
	}
	judge_frame(check);
}

/* ---- both ---- */

static void on_check_read(struct bufferevent *stream, void *ctx)
{
	struct check_http *check = ctx;

	MAGIC_CHECK(check, CHECK_HTTP_MAGIC);
	if (evbuffer_get_length(bufferevent_get_input(stream)) >= ANSWER_MAX)
		finish(check, "the answer is too long");
	else if (check->echo)
		read_echo(check);
}

static const char *why_broken(struct bufferevent *stream)
{
	bool tls = bufferevent_openssl_get_ssl(stream) != NULL;
	unsigned long code = tls ? bufferevent_get_openssl_error(stream) : 0;
	const char *reason = code ? ERR_reason_error_string(code) : NULL;

	if (code)
		return reason ? reason : "TLS failed";
	return evutil_socket_error_to_string(EVUTIL_SOCKET_ERROR());
}

static void on_check_event(struct bufferevent *stream, short what, void *ctx)
{
	struct check_http *check = ctx;
	char error[ERROR_MAX];

	MAGIC_CHECK(check, CHECK_HTTP_MAGIC);
	if (what & BEV_EVENT_CONNECTED)
		return;
	if ((what & BEV_EVENT_EOF) && !check->echo) {
		judge_ready(check);
		return;
	}
	snprintf(error, sizeof(error), "%s: %s", check->echo ? "/echo" : "/ready",
		 what & BEV_EVENT_EOF ? "closed by the node" : why_broken(stream));
	finish(check, error);
}

static void on_check_timer(evutil_socket_t fd, short what, void *ctx)
{
	struct check_http *check = ctx;

	(void)fd;
	(void)what;
	MAGIC_CHECK(check, CHECK_HTTP_MAGIC);
	finish(check, !check->stream ? "no connection could be made"
		      : check->echo  ? "/echo: no answer in time"
				     : "/ready: no answer in time");
}

/* A listener on every address is asked on the loopback one. */
static int make_address(const char *text, uint16_t port, struct sockaddr_storage *out)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)out;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;

	memset(out, 0, sizeof(*out));
	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
		if (v4->sin_addr.s_addr == htonl(INADDR_ANY))
			v4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		return (int)sizeof(*v4);
	}
	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons(port);
	if (inet_pton(AF_INET6, text, &v6->sin6_addr) != 1)
		return 0;
	if (IN6_IS_ADDR_UNSPECIFIED(&v6->sin6_addr))
		v6->sin6_addr = in6addr_loopback;
	return (int)sizeof(*v6);
}

static void append_upgrade(struct check_http *check, struct buffer *out)
{
	unsigned char bytes[ECHO_BYTES];
	unsigned char key[4 * ((ECHO_BYTES + 2) / 3) + 1];

	random_bytes(bytes, sizeof(bytes));
	EVP_EncodeBlock(key, bytes, sizeof(bytes));
	for (size_t i = 0; i < sizeof(bytes); i++)
		snprintf(check->text + 2 * i, 3, "%02x", bytes[i]);
	if (!websocket_accept_key(slice_str((const char *)key), check->accept))
		abort(); /* no SHA-1: the node could not serve either */
	buffer_printf(out,
		      "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: %s\r\n"
		      "Sec-WebSocket-Version: 13\r\n\r\n",
		      (const char *)key);
}

/* Plain, or a TLS client's. */
static struct bufferevent *make_stream(struct event_base *base, SSL_CTX *tls)
{
	const int options = BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS;
	struct bufferevent *stream;
	SSL *ssl;

	if (!tls)
		return bufferevent_socket_new(base, -1, options);
	ssl = SSL_new(tls);
	stream = ssl ? bufferevent_openssl_socket_new(base, -1, ssl, BUFFEREVENT_SSL_CONNECTING,
						      options)
		     : NULL;
	/* The answer tells where it ends; how the connection does is not judged. */
	if (stream)
		bufferevent_openssl_set_allow_dirty_shutdown(stream, 1);
	return stream;
}

static struct check_http *start(struct event_base *base, const struct check_place *target,
				int64_t timeout_ms, bool echo, check_done_fn *done, void *ctx)
{
	struct check_http *check = xcalloc(1, sizeof(*check));
	struct timeval limit = {(time_t)(timeout_ms / 1000),
				(suseconds_t)(timeout_ms % 1000 * 1000)};
	struct sockaddr_storage place;
	struct buffer request = {0};
	const char *address = target->address;
	int len = make_address(address, target->port, &place);

	*check = (struct check_http){
		.magic = CHECK_HTTP_MAGIC, .base = base, .echo = echo, .done = done, .ctx = ctx};
	buffer_printf(&request,
		      "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: keepsock-supervisor\r\n",
		      echo ? "/echo" : "/ready", strchr(address, ':') ? "localhost" : address);
	if (echo)
		append_upgrade(check, &request);
	else
		buffer_append_str(&request, "Connection: close\r\n\r\n");
	/* What fails at once is told by the timer: done is never called from in here. */
	check->stream = make_stream(base, target->tls);
	check->timer = evtimer_new(base, on_check_timer, check);
	if (!check->stream || !check->timer)
		abort(); /* only out of memory */
	bufferevent_setcb(check->stream, on_check_read, NULL, on_check_event, check);
	if (len == 0 || bufferevent_write(check->stream, request.data, request.len) < 0 ||
	    bufferevent_enable(check->stream, EV_READ | EV_WRITE) < 0 ||
	    bufferevent_socket_connect(check->stream, (struct sockaddr *)&place, len) < 0) {
		bufferevent_free(check->stream);
		check->stream = NULL;
		limit = (struct timeval){0, 0};
	}
	if (evtimer_add(check->timer, &limit) != 0)
		abort(); /* only out of memory */
	buffer_free(&request);
	return check;
}

struct check_http *check_ready_start(struct event_base *base, const struct check_place *place,
				     int64_t timeout_ms, check_done_fn *done, void *ctx)
{
	return start(base, place, timeout_ms, false, done, ctx);
}

struct check_http *check_echo_start(struct event_base *base, const struct check_place *place,
				    int64_t timeout_ms, check_done_fn *done, void *ctx)
{
	return start(base, place, timeout_ms, true, done, ctx);
}

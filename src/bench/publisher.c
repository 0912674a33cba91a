/* SPDX-License-Identifier: ISC */
/*
 * Publishing for keepsock-bench. The HTTP API is asked one publication at a
 * time, because pipelined POSTs are not something clients rely on. A refused
 * publication fails the run.
 */
#include "publisher.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "http_reply.h"
#include "keepsock/json.h"

/* ---- the HTTP API ---- */

static struct publisher *publisher_of(struct loop_watch *watch)
{
	void *start = (char *)watch - offsetof(struct publisher, http);
	struct publisher *publisher = start;

	assert(publisher->magic == PUBLISHER_MAGIC);
	return publisher;
}

static void http_flush(struct publisher *publisher)
{
	while (publisher->output.len > 0) {
		ssize_t sent = send(publisher->http.fd, publisher->output.data,
				    publisher->output.len, MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0 && errno == EAGAIN)
			break;
		if (sent < 0) {
			loop_fail(publisher->loop, "publisher: %s", strerror(errno));
			return;
		}
		buffer_consume(&publisher->output, (size_t)sent);
	}
	(void)loop_rewatch(publisher->loop, &publisher->http,
			   publisher->output.len > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void http_post(struct publisher *publisher, struct slice body)
{
	struct buffer *out = &publisher->output;

	buffer_printf(out, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n",
		      publisher->target.path, publisher->target.authority);
	if (publisher->key.len > 0)
		buffer_printf(out, "X-API-Key: %s\r\n", buffer_cstr(&publisher->key));
	buffer_printf(out, "Content-Length: %zu\r\n\r\n", body.len);
	buffer_append_slice(out, body);
	publisher->asked = true;
	http_flush(publisher);
}

static void append_call(struct publisher *publisher, struct buffer *out, struct slice data)
{
	buffer_append_str(out, "{\"channel\":");
	json_append_string(out, slice_str(publisher->options->channel));
	buffer_append_str(out, ",\"data\":");
	buffer_append_slice(out, data);
	buffer_append_str(out, "}");
}

static void http_publish(struct publisher *publisher, struct slice data)
{
	struct buffer body = {0};

	if (publisher->is_batch) {
		buffer_append_str(&publisher->batch, publisher->batch.len > 0
							     ? ","
							     : "{\"parallel\":true,\"commands\":[");
		buffer_append_str(&publisher->batch, "{\"publish\":");
		append_call(publisher, &publisher->batch, data);
		buffer_append_str(&publisher->batch, "}");
		return;
	}
	append_call(publisher, &body, data);
	http_post(publisher, buffer_slice(&body));
	buffer_free(&body);
}

void publisher_flush(struct publisher *publisher)
{
	if (publisher->batch.len == 0 || publisher->asked)
		return;
	buffer_append_str(&publisher->batch, "]}");
	http_post(publisher, buffer_slice(&publisher->batch));
	buffer_reset(&publisher->batch);
}

/* {"replies":[{"publish":{…}},…]}: as many as were asked for, none an error. */
static bool all_published(const struct publisher *publisher, struct slice body)
{
	struct slice replies, reply, result;
	struct json_walk it;
	uint64_t count = 0;

	if (!json_object_find(body, "replies", &replies))
		return false;
	json_array_begin(&it, replies);
	while (json_array_next(&it, &reply))
		count += json_object_find(reply, "publish", &result);
	return json_walk_ok(&it) && count == publisher->unanswered;
}

/* The API answers 200 with {"result":…} or {"error":…}. */
static void check_answer(struct publisher *publisher, unsigned status, struct slice body)
{
	struct slice error;

	publisher->asked = false;
	if (status != 200)
		loop_fail(publisher->loop, "publishing was answered with HTTP %u: %.*s", status,
			  SLICE_ARG(body));
	else if (publisher->is_batch
			 ? !all_published(publisher, body)
			 : json_object_find(body, "error", &error) || !json_validate(body))
		loop_fail(publisher->loop, "publishing was refused: %.*s", SLICE_ARG(body));
	else
		publisher->unanswered -= publisher->is_batch ? publisher->unanswered : 1;
}

static void http_serve(struct publisher *publisher)
{
	struct http_reply reply;
	enum http_result result = http_reply_parse(buffer_slice(&publisher->input), &reply);
	size_t whole;

	if (result == HTTP_INCOMPLETE)
		return;
	if (result == HTTP_ERROR || reply.body_length < 0 ||
	    (uint64_t)reply.body_length > SIZE_MAX / 2) {
		loop_fail(publisher->loop, "publisher: the answer is not HTTP with a length");
		return;
	}
	whole = reply.head_length + (size_t)reply.body_length;
	if (publisher->input.len < whole)
		return;
	check_answer(
		publisher, reply.status,
		slice_from(publisher->input.data + reply.head_length, (size_t)reply.body_length));
	buffer_consume(&publisher->input, whole);
}

static void http_connected(struct publisher *publisher)
{
	int error = 0;
	socklen_t len = sizeof(error);

	if (getsockopt(publisher->http.fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
		error = errno;
	if (error != 0)
		loop_fail(publisher->loop, "publisher: connecting to %s: %s",
			  publisher->target.authority, strerror(error));
	else
		publisher->open = true;
	(void)loop_rewatch(publisher->loop, &publisher->http, EPOLLIN);
}

static void on_http_ready(struct loop_watch *watch, uint32_t events)
{
	struct publisher *publisher = publisher_of(watch);
	ssize_t got;

	if (!publisher->open) {
		http_connected(publisher);
		return;
	}
	if (events & EPOLLOUT)
		http_flush(publisher);
	if (!(events & (EPOLLIN | EPOLLERR | EPOLLHUP)))
		return;
	got = recv(watch->fd, publisher->loop->scratch, LOOP_SCRATCH_SIZE, 0);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0) {
		loop_fail(publisher->loop, "publisher: %s",
			  got == 0 ? "the server hung up" : strerror(errno));
		return;
	}
	publisher->loop->progress++;
	buffer_append(&publisher->input, publisher->loop->scratch, (size_t)got);
	http_serve(publisher);
}

static void http_open(struct publisher *publisher)
{
	publisher->http.on_ready = on_http_ready;
	publisher->http.fd = target_dial(&publisher->target, 0);
	if (publisher->http.fd < 0)
		loop_fail(publisher->loop, "publisher: connecting to %s: %s",
			  publisher->target.authority, strerror(errno));
	else
		(void)loop_watch(publisher->loop, &publisher->http, EPOLLOUT);
}

/* The key is the file's first line. */
static void read_key(struct publisher *publisher)
{
	const char *path = publisher->options->api_key_file;
	char line[512];
	FILE *file = fopen(path, "re");

	if (!file || !fgets(line, sizeof(line), file))
		loop_fail(publisher->loop, "%s: %s", path, file ? "no key in it" : strerror(errno));
	else
		buffer_append(&publisher->key, line, strcspn(line, "\r\n"));
	if (file)
		fclose(file);
}

/* ---- WebSocket ---- */

static void on_session_ready(struct session *session)
{
	struct publisher *publisher = session->owner;

	assert(publisher->magic == PUBLISHER_MAGIC);
	publisher->open = true;
}

static void on_session_published(struct session *session)
{
	struct publisher *publisher = session->owner;

	assert(publisher->magic == PUBLISHER_MAGIC);
	publisher->unanswered--;
}

/* ---- both ---- */

static bool ends_with(const char *text, const char *end)
{
	size_t text_length = strlen(text), length = strlen(end);

	return text_length >= length && strcmp(text + text_length - length, end) == 0;
}

static int opening_step(void *ctx)
{
	struct publisher *publisher = ctx;

	return publisher->open ? LOOP_DONE : LOOP_NO_WAKE;
}

int publisher_open(struct publisher *publisher, struct loop *loop,
		   const struct bench_options *options)
{
	const char *url = options->publish_url ? options->publish_url : options->url;
	struct buffer error = {0};

	*publisher = (struct publisher){
		.magic = PUBLISHER_MAGIC,
		.loop = loop,
		.options = options,
		.handler = {.role = "publisher",
			    .raw = options->raw,
			    .socket_io = options->socket_io,
			    .on_ready = on_session_ready,
			    .on_published = on_session_published},
		.http = {.fd = -1},
		.session = {.client = {.watch = {.fd = -1}}},
	};
	if (target_parse(&publisher->target, url, options, &error) != 0) {
		loop_fail(loop, "--publish-url: %s", buffer_cstr(&error));
		buffer_free(&error);
		return -1;
	}
	publisher->is_batch = publisher->target.http && ends_with(url, "/api/batch");
	if (options->api_key_file)
		read_key(publisher);
	if (publisher->target.http)
		http_open(publisher);
	else
		(void)session_open(&publisher->session, loop, &publisher->target,
				   &publisher->handler, publisher, 0);
	return loop_run(loop, opening_step, publisher, "the publisher to connect");
}

bool publisher_ready(const struct publisher *publisher)
{
	if (publisher->is_batch)
		return !publisher->asked;
	return !publisher->target.http || publisher->unanswered == 0;
}

void publisher_send(struct publisher *publisher, struct slice data)
{
	struct buffer frame = {0};

	if (publisher->options->raw) {
		ws_client_frame(&frame, data);
		ws_client_send(&publisher->session.client, buffer_slice(&frame));
		buffer_free(&frame);
		return;
	}
	publisher->unanswered++;
	if (publisher->target.http)
		http_publish(publisher, data);
	else
		session_publish(&publisher->session, publisher->options->channel, data);
}

void publisher_close(struct publisher *publisher)
{
	session_close(&publisher->session);
	if (publisher->http.fd >= 0)
		loop_unwatch(publisher->loop, &publisher->http);
	buffer_free(&publisher->key);
	buffer_free(&publisher->batch);
	buffer_free(&publisher->input);
	buffer_free(&publisher->output);
	target_free(&publisher->target);
}

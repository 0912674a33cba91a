/* SPDX-License-Identifier: ISC */
/*
 * HTTP requests of a connection, one at a time: a request stays raw in the input
 * queue until one commit carries its response and its consumption (DESIGN §3
 * rule 3); a pipelined one waits for that. Run by the worker.
 */
#include <stdlib.h>
#include <string.h>

#include "keepsock/crash_points.h"
#include "keepsock/log.h"
#include "worker/http_edge.h"
#include "worker/internal.h"
#include "worker/move.h"

/* Bytes of later requests that are read while one waits. */
#define READ_AHEAD_MAX (64u * 1024u)

/* The input queue as one piece: in place if it is one, else copied. */
static struct slice whole_input(struct connection *c)
{
	struct worker *w = c->worker;
	const struct passport *passport = connection_passport(c);
	size_t length = (size_t)queue_length(&passport->in);
	struct slice piece = queue_peek(w->arena, &passport->in, passport->in.done);

	if (piece.len == length)
		return piece;
	buffer_reset(&w->message);
	buffer_reserve(&w->message, length);
	queue_copy(w->arena, &passport->in, passport->in.done, length, w->message.data);
	w->message.len = length;
	return buffer_slice(&w->message);
}

/* Appends the response in w->frame; the open draft decides what else changes. */
static void append_response(struct connection *c, int status, const char *content_type,
			    struct slice body, bool keep_alive, const char *extra_headers)
{
	struct worker *w = c->worker;
	struct buffer headers = {0};

	buffer_append_str(&headers, extra_headers ? extra_headers : "");
	buffer_append_str(&headers, c->http_cors ? c->http_cors : "");
	http_edge_append_headers(c, &headers);
	free(c->http_cors);
	c->http_cors = NULL;
	buffer_reset(&w->frame);
	http_response_head(&w->frame, status, content_type, body.len, keep_alive,
			   buffer_cstr(&headers));
	buffer_free(&headers);
	passport_draft_output(&w->draft, w->frame.data, w->frame.len);
	if (!c->http_head_only)
		passport_draft_output(&w->draft, body.data, body.len);
	if (status >= 400)
		metric_add(METRIC_http_errors_total, 1);
}

/* Nothing can follow the request under way. */
static bool is_last(const struct connection *c, const struct passport *passport)
{
	return (passport->flags & PASSPORT_PEER_FIN) &&
	       queue_length(&passport->in) <= c->http_length;
}

void http_session_respond(struct connection *c, int status, const char *content_type,
			  struct slice body, const char *extra_headers)
{
	struct worker *w = c->worker;
	struct passport_draft *draft = connection_draft(c);
	bool keep_alive =
		c->http_keep_alive && !c->over_limit && !w->stopping && !is_last(c, &draft->now);

	append_response(c, status, content_type, body, keep_alive, extra_headers);
	queue_consume(draft, &draft->now.in, c->http_length);
	draft->now.command_number++;
	draft->now.flags &= ~(uint32_t)PASSPORT_CONTINUE_SENT;
	draft->now.deadline = w->now_ms + (uint64_t)w->settings.http.idle_timeout;
	if (!keep_alive)
		connection_drain(c);
	arena_commit_add(&draft->commit, &w->arena->header->work.serving, 0);
	if (!connection_commit(c))
		return;
	connection_arm(c);
	connection_flush(c);
	if (c->fd < 0 || !keep_alive)
		return;
	/* The next request, if there is one already, has the next loop turn: a long pipeline
	 * starves nobody. */
	connection_set_paused(c, connection_passport(c)->flags & PASSPORT_PEER_FIN);
	if (queue_length(&connection_passport(c)->in) > 0)
		connection_schedule(c);
}

void http_session_refuse(struct connection *c, int status)
{
	struct passport_draft *draft = connection_draft(c);
	const char *text = http_status_text(status);

	c->http_head_only = false;
	append_response(c, status, "text/plain; charset=utf-8", slice_str(text), false, NULL);
	draft->now.command_number++;
	connection_drain(c);
	metric_add(METRIC_http_requests_total, 1);
	arena_commit_add(&draft->commit, &c->worker->arena->header->work.serving, 0);
	if (!connection_commit(c))
		return;
	log_debug("http_refused status=%d peer_port=%u", status,
		  (unsigned)connection_passport(c)->peer_port);
	connection_arm(c);
	connection_flush(c);
}

/* The head or the body is not whole yet. */
static void wait_for_more(struct connection *c, const struct http_request *request)
{
	struct worker *w = c->worker;
	struct passport_draft *draft = connection_draft(c);

	arena_commit_add(&draft->commit, &w->arena->header->work.serving, 0);
	/* The rest will never come. */
	if (draft->now.flags & PASSPORT_PEER_FIN) {
		connection_drain(c);
		if (connection_commit(c))
			connection_flush(c);
		return;
	}
	/* The time runs from the request's first byte, and begins again for its body. */
	if (!(draft->now.flags & PASSPORT_REQUEST_BEGUN)) {
		draft->now.flags |= PASSPORT_REQUEST_BEGUN;
		draft->now.deadline = w->now_ms + (uint64_t)w->settings.http.header_timeout;
	}
	if (request && request->expect_continue && !(draft->now.flags & PASSPORT_CONTINUE_SENT)) {
		draft->now.flags |= PASSPORT_CONTINUE_SENT;
		passport_draft_output(draft, HTTP_CONTINUE, sizeof(HTTP_CONTINUE) - 1);
	}
	if (!connection_commit(c))
		return;
	connection_arm(c);
	connection_flush(c);
}

/*
 * While a request waits for Redis its connection is still read, so that a caller
 * who leaves is noticed at once; only not without end.
 */
static void read_ahead(struct connection *c)
{
	uint64_t ahead = queue_length(&connection_passport(c)->in) - c->http_length;

	connection_set_paused(c, ahead > READ_AHEAD_MAX);
}

static void serve(struct connection *c, const struct http_request *request, struct slice body)
{
	struct worker *w = c->worker;
	struct passport_draft *draft = connection_draft(c);

	draft->now.deadline = 0;
	draft->now.flags &= ~(uint32_t)PASSPORT_REQUEST_BEGUN;
	if (!connection_commit(c))
		return;
	connection_arm(c);
	metric_add(METRIC_http_requests_total, 1);
	crash_poison("request", body);
	c->http_keep_alive = request->keep_alive;
	c->http_head_only = request->method == HTTP_METHOD_HEAD;
	http_route(c, request, body);
	/* Whoever waits for Redis is not to blame for what else happens meanwhile. */
	arena_store(&w->arena->header->work.serving, 0);
	if (c->fd >= 0 && c->pending)
		read_ahead(c);
}

void http_session_process(struct connection *c)
{
	struct worker *w = c->worker;
	struct http_request request;
	struct slice input, body;
	size_t head_length = 0, body_length = 0;
	int status = 400;

	if (connection_passport(c)->state != PASSPORT_STATE_HTTP)
		return;
	if (c->pending) {
		read_ahead(c);
		return;
	}
	if (move_waits_for(c))
		return;
	input = whole_input(c);
	if (input.len == 0)
		return;
	connection_announce(c, connection_passport(c)->command_number + 1);
	switch (http_parse_head(input, (size_t)w->settings.http.head_size_limit, &request,
				&head_length, &status)) {
	case HTTP_ERROR: http_session_refuse(c, status); return;
	case HTTP_INCOMPLETE: wait_for_more(c, NULL); return;
	case HTTP_COMPLETE: break;
	}
	switch (http_parse_body(slice_from(input.data + head_length, input.len - head_length),
				&request, (size_t)w->settings.http.body_size_limit, &w->body, &body,
				&body_length, &status)) {
	case HTTP_ERROR: http_session_refuse(c, status); return;
	case HTTP_INCOMPLETE: wait_for_more(c, &request); return;
	case HTTP_COMPLETE: break;
	}
	c->http_length = head_length + body_length;
	serve(c, &request, body);
}

void http_session_fail(struct connection *c)
{
	if (c->fd >= 0 && connection_passport(c)->state == PASSPORT_STATE_HTTP)
		http_session_refuse(c, 500);
}

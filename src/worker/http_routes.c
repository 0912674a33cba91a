/* SPDX-License-Identifier: ISC */
/*
 * Which request goes where: WebSocket upgrades, health, metrics, the API, files.
 * Run by the worker. Liveness (/health) says only that this worker serves;
 * readiness (/ready) says whether it may take clients, and why not.
 */
#include <stdio.h>
#include <string.h>

#include "keepsock/log.h"
#include "keepsock/websocket.h"
#include "worker/compression.h"
#include "worker/http_api.h"
#include "worker/http_cors.h"
#include "worker/http_edge.h"
#include "worker/internal.h"
#include "worker/role.h"
#include "worker/shards.h"

#define TEXT "text/plain; charset=utf-8"
#define JSON "application/json"

const char *worker_unhealthy_reason(const struct worker *w)
{
	const char *reason;

	if (w->stopping)
		return "stopping";
	reason = shards_not_ready_reason(w);
	if (reason)
		return reason;
	if (arena_bytes_used(w->arena) >= arena_bytes_cap(w->arena) / 10 * 8)
		return "memory is nearly used up";
	return role_not_ready_reason(w);
}

void worker_update_readiness(struct worker *w)
{
	const char *reason = worker_unhealthy_reason(w);

	metric_set(METRIC_healthy, reason == NULL);
	metric_set(METRIC_ready, reason == NULL && role_refusal(w) == NULL);
}

static void respond_text(struct connection *c, int status, const char *text,
			 const char *extra_headers)
{
	http_session_respond(c, status, TEXT, slice_str(text), extra_headers);
}

static void method_not_allowed(struct connection *c)
{
	respond_text(c, 405, "method not allowed\n", "Allow: GET, HEAD\r\n");
}

static void serve_ready(struct connection *c)
{
	struct worker *w = c->worker;
	const char *reason = worker_unhealthy_reason(w);
	char body[160];

	/* A client may land on any worker: the node is ready when all of them are. */
	worker_update_readiness(w);
	if (!reason && metrics_node_value(w->page, METRIC_healthy) == 0)
		reason = "another worker is not ready";
	/* Last: whoever watches a standby learns by it that nothing else is wrong. */
	if (!reason)
		reason = role_refusal(w);
	if (!reason) {
		http_session_respond(c, 200, JSON, SLICE("{\"ready\":true}\n"),
				     "Cache-Control: no-store\r\n");
		return;
	}
	snprintf(body, sizeof(body), "{\"ready\":false,\"reason\":\"%s\"}\n", reason);
	http_session_respond(c, 503, JSON, slice_str(body),
			     "Retry-After: 1\r\nCache-Control: no-store\r\n");
}

static void serve_metrics(struct connection *c)
{
	struct worker *w = c->worker;

	buffer_reset(&w->body);
	metrics_write_prometheus(&w->body, w->page);
	http_session_respond(c, 200, METRICS_CONTENT_TYPE, buffer_slice(&w->body), NULL);
}

void http_refuse_for_role(struct connection *c, const char *reason)
{
	char body[80];

	snprintf(body, sizeof(body), "%s\n", reason);
	metric_add(METRIC_standby_refusals_total, 1);
	/* Who keeps connections would meet a node that was demoted for ever, not the primary. */
	c->http_keep_alive = false;
	respond_text(c, 503, body, "Retry-After: 1\r\nCache-Control: no-store\r\n");
}

/* --- WebSocket --- */

static bool query_is(const struct worker *w, const struct http_request *request, const char *name,
		     const char *value)
{
	struct buffer *text = (struct buffer *)&w->decode;

	buffer_reset(text);
	return http_query_get(request->query, name, text) && slice_is(buffer_slice(text), value);
}

static void refuse_upgrade(struct connection *c, int status)
{
	const char *extra = status == 426   ? WEBSOCKET_UPGRADE_REQUIRED_HEADERS
			    : status == 405 ? "Allow: GET\r\n"
					    : NULL;

	c->http_keep_alive = false;
	respond_text(c, status, http_status_text(status), extra);
}

/* The upgrade is one commit: 101, the new state, the request consumed. */
static void upgrade(struct connection *c, const struct http_request *request, const char *accept,
		    enum passport_state state)
{
	struct worker *w = c->worker;
	struct passport_draft *draft;
	bool frame_pings = query_is(w, request, "cf_ws_frame_ping_pong", "true");
	const char *protocol =
		state == PASSPORT_STATE_UNAUTHENTICATED &&
				websocket_protocol_offered(request, "centrifuge-json")
			? "centrifuge-json"
			: NULL;

	uint32_t compression;

	buffer_reset(&w->scratch);
	compression = compression_agree(w, request, &w->scratch);
	draft = connection_draft(c);
	buffer_reset(&w->frame);
	websocket_append_upgrade(&w->frame, accept, protocol, buffer_slice(&w->scratch));
	passport_draft_output(draft, w->frame.data, w->frame.len);
	queue_consume(draft, &draft->now.in, c->http_length);
	draft->now.state = (uint8_t)state;
	draft->now.flags =
		PASSPORT_ADMITTED | compression | (frame_pings ? PASSPORT_FRAME_PINGS : 0);
	/* Commands are counted from here, but not below what Redis knows of this connection. */
	draft->now.command_number =
		c->remembered ? (draft->now.command_number + 1) * HTTP_API_NUMBERS : 0;
	draft->now.deadline = state == PASSPORT_STATE_UNAUTHENTICATED
				      ? w->now_ms + (uint64_t)w->settings.client.stale_close_delay
				      : 0;
	arena_commit_add(&draft->commit, &w->arena->header->work.serving, 0);
	if (!connection_commit(c))
		return;
	metric_add(METRIC_websocket_upgrades_total, 1);
	if (compression)
		metric_add(METRIC_deflate_connections, 1);
	connection_arm(c);
	connection_flush(c);
	if (c->fd >= 0 && queue_length(&connection_passport(c)->in) > 0)
		connection_schedule(c);
}

static void serve_websocket(struct connection *c, const struct http_request *request,
			    enum passport_state state)
{
	struct worker *w = c->worker;
	char accept[29];
	int status = websocket_check_upgrade(request, accept);

	if (status) {
		refuse_upgrade(c, status);
		return;
	}
	if (!http_cors_origin_passes(w, request)) {
		refuse_upgrade(c, 403);
		return;
	}
	/* The JSON protocol is the only one so far: who insists on another is told at once. */
	if (state == PASSPORT_STATE_UNAUTHENTICATED &&
	    (query_is(w, request, "format", "protobuf") ||
	     query_is(w, request, "cf_protocol", "protobuf") ||
	     (websocket_protocol_offered(request, "centrifuge-protobuf") &&
	      !websocket_protocol_offered(request, "centrifuge-json")))) {
		c->http_keep_alive = false;
		respond_text(c, 400, "the protobuf protocol is not available, use JSON\n", NULL);
		return;
	}
	if (!connection_admit(c)) {
		c->http_keep_alive = false;
		respond_text(c, 503, "connection limit reached\n", "Retry-After: 5\r\n");
		return;
	}
	upgrade(c, request, accept, state);
}

/* --- routing --- */

static bool path_below(struct slice path, const char *prefix, struct slice *rest)
{
	size_t length = strlen(prefix);

	if (path.len < length || memcmp(path.data, prefix, length) != 0)
		return false;
	*rest = slice_from(path.data + length, path.len - length);
	return true;
}

static void serve_get(struct connection *c, struct slice path)
{
	if (slice_is(path, "/health"))
		http_session_respond(c, 200, JSON, SLICE("{}"), "Cache-Control: no-store\r\n");
	else if (slice_is(path, "/ready"))
		serve_ready(c);
	else
		serve_metrics(c);
}

/* False: there is no such endpoint. */
static bool serve_endpoint(struct connection *c, const struct http_request *request,
			   struct slice body)
{
	bool get = request->method == HTTP_METHOD_GET || request->method == HTTP_METHOD_HEAD;
	struct slice path = request->path, rest = SLICE("");
	bool api = slice_is(path, "/api") || path_below(path, "/api/", &rest);

	if (!api && !slice_is(path, "/health") && !slice_is(path, "/ready") &&
	    !slice_is(path, "/metrics"))
		return false;
	http_cors_prepare(c, request);
	if (http_cors_preflight(c, request, api ? "POST" : "GET, HEAD"))
		return true;
	if (api)
		http_api(c, request, rest, body);
	else if (get)
		serve_get(c, path);
	else
		method_not_allowed(c);
	return true;
}

void http_route(struct connection *c, const struct http_request *request, struct slice body)
{
	struct worker *w = c->worker;
	bool get = request->method == HTTP_METHOD_GET || request->method == HTTP_METHOD_HEAD;
	struct slice path = request->path, rest;
	const char *refusal;

	if (request->method == HTTP_METHOD_OTHER) {
		c->http_keep_alive = false;
		respond_text(c, 501, "method not implemented\n", NULL);
		return;
	}
	if (http_edge_serve(c, request))
		return;
	refusal = path_below(path, "/connection/", &rest) ? role_refusal(w) : NULL;
	if (refusal) {
		http_refuse_for_role(c, refusal);
		return;
	}
	if (slice_is(path, "/connection/websocket") || slice_is(path, "/connection/websocket/")) {
		serve_websocket(c, request, PASSPORT_STATE_UNAUTHENTICATED);
		return;
	}
	if (slice_is(path, "/echo") && w->settings.http.echo) {
		serve_websocket(c, request, PASSPORT_STATE_ECHO);
		return;
	}
	if (serve_endpoint(c, request, body))
		return;
	if (get && http_files_serve(c, request))
		return;
	respond_text(c, 404, "not found\n", NULL);
}

/* SPDX-License-Identifier: ISC */
/*
 * The server HTTP API: who may call, which method serves, and the form of
 * answers (wire compatible with Centrifugo's). Run by the worker. A call waits
 * for Redis without holding up its worker; nothing here blocks.
 */
#include "worker/http_api.h"

#include <stdlib.h>

#include "keepsock/alloc.h"
#include "keepsock/channel_name.h"
#include "keepsock/log.h"

#define TEXT "text/plain; charset=utf-8"
#define JSON "application/json"

static http_api_method_fn *const methods[HTTP_API_METHOD_COUNT] = {
	[HTTP_API_PUBLISH] = http_api_publish,
	[HTTP_API_BROADCAST] = http_api_broadcast,
	[HTTP_API_HISTORY] = http_api_history,
	[HTTP_API_PRESENCE] = http_api_presence,
	[HTTP_API_PRESENCE_STATS] = http_api_presence_stats,
	[HTTP_API_CHANNELS] = http_api_channels,
	[HTTP_API_INFO] = http_api_info,
};

/* --- answers --- */

void http_api_append_error(struct buffer *out, uint32_t code)
{
	buffer_append_str(out, "{\"code\":");
	buffer_append_u64(out, code);
	buffer_append_str(out, ",\"message\":");
	json_append_string(out, slice_str(client_error_message(code)));
	buffer_append_str(out, "}");
}

static void respond_error(struct connection *c, uint32_t code, bool transport_errors)
{
	struct buffer *out = &c->worker->payload;

	buffer_reset(out);
	if (transport_errors) {
		http_api_append_error(out, code);
		http_session_respond(c, http_api_error_status(code), JSON, buffer_slice(out), NULL);
		return;
	}
	buffer_append_str(out, "{\"error\":");
	http_api_append_error(out, code);
	buffer_append_str(out, "}");
	http_session_respond(c, 200, JSON, buffer_slice(out), NULL);
}

void *http_api_call_new(size_t size, struct connection *c, const struct http_api_request *request)
{
	struct http_api_call *call = xcalloc(1, size);

	call->base.worker = c->worker;
	call->base.connection = c;
	call->method = request->method;
	call->transport_errors = request->transport_errors;
	c->pending = &call->base;
	return call;
}

/* The connection to answer, which no longer waits; NULL if it left meanwhile. */
static struct connection *take_connection(struct http_api_call *call)
{
	struct connection *c = call->base.connection;

	if (c) {
		worker_now(c->worker);
		c->pending = NULL;
	}
	return c;
}

void http_api_call_fail(struct http_api_call *call, uint32_t code)
{
	struct connection *c = take_connection(call);
	bool transport_errors = call->transport_errors;

	free(call);
	if (c)
		respond_error(c, code, transport_errors);
}

bool http_api_call_goes_on(struct http_api_call *call, const struct redis_outcome *outcome)
{
	if (outcome->code == REDIS_RESULT_OK) {
		if (call->base.connection)
			return true;
		free(call);
		return false;
	}
	if (outcome->code == REDIS_RESULT_ERROR)
		log_error("redis_command_failed api_method=%s error=%s",
			  http_api_method_name(call->method), log_value_str(outcome->error));
	http_api_call_fail(call, CLIENT_ERROR_INTERNAL);
	return false;
}

struct buffer *http_api_result_begin(struct http_api_call *call)
{
	struct buffer *out = &call->base.worker->payload;

	buffer_reset(out);
	buffer_append_str(out, "{\"result\":");
	return out;
}

void http_api_result_end(struct http_api_call *call)
{
	struct connection *c = take_connection(call);
	struct buffer *out = &call->base.worker->payload;

	free(call);
	buffer_append_str(out, "}");
	if (c)
		http_session_respond(c, 200, JSON, buffer_slice(out), NULL);
}

/* --- calls --- */

uint32_t http_api_channel_error(const struct worker *w, struct slice name)
{
	enum channel_verdict verdict =
		channel_name_check(name, (size_t)w->settings.client.channel_max_length);

	/* The API needs no token for a private channel. */
	return verdict == CHANNEL_PRIVATE ? 0 : channel_verdict_error(verdict);
}

static void call_method(struct connection *c, const struct http_request *http,
			enum http_api_method method, struct slice body)
{
	struct http_api_request request;
	uint32_t code;

	if (!http_api_request_parse(method, body, &request)) {
		http_api_request_free(&request);
		http_session_respond(c, 400, TEXT, SLICE("the body is not the JSON of a request\n"),
				     NULL);
		return;
	}
	request.transport_errors = http_api_wants_transport_errors(http);
	code = methods[method](c, &request);
	if (code)
		respond_error(c, code, request.transport_errors);
	http_api_request_free(&request);
}

void http_api(struct connection *c, const struct http_request *request, struct slice path,
	      struct slice body)
{
	struct worker *w = c->worker;
	enum http_api_method method = http_api_method_find(path);

	if (!w->settings.http_api.insecure &&
	    !http_api_key_matches(request, slice_str(w->start.api_key)))
		http_session_respond(c, 401, NULL, SLICE(""), "WWW-Authenticate: apikey\r\n");
	else if (request->method != HTTP_METHOD_POST)
		http_session_respond(c, 405, TEXT, SLICE("method not allowed\n"),
				     "Allow: POST\r\n");
	else if (method == HTTP_API_UNKNOWN)
		http_session_respond(c, 404, TEXT, SLICE("the API has no such method\n"), NULL);
	else
		call_method(c, request, method, body);
}

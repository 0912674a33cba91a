/* SPDX-License-Identifier: ISC */
/*
 * The server HTTP API: who may call, which method serves, and what is wrong
 * with a request as a whole (wire compatible with Centrifugo's). Run by the
 * worker. A call waits for Redis without holding up its worker; nothing here
 * blocks.
 */
#include "worker/http_api.h"

#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/channel_name.h"
#include "worker/role.h"

#define TEXT "text/plain; charset=utf-8"

/* Map and shared-poll channels: known to callers, not to keepsock. */
static uint32_t not_available(struct http_api_exchange *exchange,
			      const struct http_api_request *request)
{
	(void)exchange;
	(void)request;
	return CLIENT_ERROR_NOT_AVAILABLE;
}

http_api_method_fn *const http_api_methods[HTTP_API_METHOD_COUNT] = {
	[HTTP_API_PUBLISH] = http_api_publish,
	[HTTP_API_BROADCAST] = http_api_broadcast,
	[HTTP_API_SUBSCRIBE] = http_api_subscribe,
	[HTTP_API_UNSUBSCRIBE] = http_api_unsubscribe,
	[HTTP_API_DISCONNECT] = http_api_disconnect,
	[HTTP_API_HISTORY] = http_api_history,
	[HTTP_API_HISTORY_REMOVE] = http_api_history_remove,
	[HTTP_API_PRESENCE] = http_api_presence,
	[HTTP_API_PRESENCE_STATS] = http_api_presence_stats,
	[HTTP_API_INFO] = http_api_info,
	[HTTP_API_RPC] = http_api_rpc,
	[HTTP_API_REFRESH] = http_api_refresh,
	[HTTP_API_CHANNELS] = http_api_channels,
	[HTTP_API_MAP_PUBLISH] = not_available,
	[HTTP_API_MAP_REMOVE] = not_available,
	[HTTP_API_MAP_READ_STATE] = not_available,
	[HTTP_API_MAP_READ_STREAM] = not_available,
	[HTTP_API_MAP_STATS] = not_available,
	[HTTP_API_MAP_CLEAR] = not_available,
	[HTTP_API_SHARED_POLL_PUBLISH] = not_available,
};

uint32_t http_api_channel_error(const struct worker *w, struct slice name,
				const struct channel_options **options)
{
	const struct channel_options *found = NULL;
	enum channel_verdict verdict = channel_check(&w->settings, name, &found);

	if (options)
		*options = found;
	/* The API needs no token for a private channel. */
	return verdict == CHANNEL_PRIVATE ? 0 : channel_verdict_error(verdict);
}

/* Nobody's handler can be called: there are no proxies to an application. */
uint32_t http_api_rpc(struct http_api_exchange *exchange, const struct http_api_request *request)
{
	(void)exchange;
	return request->rpc_method.len > 0 ? CLIENT_ERROR_METHOD_NOT_FOUND
					   : CLIENT_ERROR_BAD_REQUEST;
}

static bool parse_single(enum http_api_method method, struct slice body,
			 struct http_api_commands *commands)
{
	struct http_api_request request;
	bool fine = http_api_request_parse(method, body, &request);

	http_api_request_free(&request);
	*commands = (struct http_api_commands){.count = 1};
	commands->items = xcalloc(1, sizeof(*commands->items));
	commands->items[0] = (struct http_api_command){.method = method, .params = body};
	return fine;
}

/* More commands than one request may have. */
static void refuse_many(struct connection *c, bool transport_errors)
{
	struct buffer *out = &c->worker->payload;
	uint32_t code = CLIENT_ERROR_BAD_REQUEST;

	buffer_reset(out);
	buffer_append_str(out, transport_errors ? "" : "{\"error\":");
	http_api_append_error(out, code);
	buffer_append_str(out, transport_errors ? "" : "}");
	http_session_respond(c, transport_errors ? http_api_error_status(code) : 200,
			     "application/json", buffer_slice(out), NULL);
}

/* One that a standby must leave to the primary. */
static bool has_change(const struct http_api_commands *commands)
{
	static const bool changes[HTTP_API_METHOD_COUNT] = {
		[HTTP_API_PUBLISH] = true,        [HTTP_API_BROADCAST] = true,
		[HTTP_API_SUBSCRIBE] = true,      [HTTP_API_UNSUBSCRIBE] = true,
		[HTTP_API_DISCONNECT] = true,     [HTTP_API_REFRESH] = true,
		[HTTP_API_HISTORY_REMOVE] = true,
	};

	for (size_t i = 0; i < commands->count; i++) {
		if (changes[commands->items[i].method])
			return true;
	}
	return false;
}

static void serve(struct connection *c, const struct http_request *http, enum http_api_form form,
		  enum http_api_method method, struct slice body)
{
	bool transport_errors = strcmp(c->worker->settings.http_api.error_mode, "transport") == 0 ||
				http_api_wants_transport_errors(http);
	struct http_api_commands commands;
	bool fine;

	switch (form) {
	case HTTP_API_BATCH: fine = http_api_batch_parse(body, &commands); break;
	case HTTP_API_LEGACY: fine = http_api_legacy_parse(body, &commands); break;
	default: fine = parse_single(method, body, &commands); break;
	}
	if (fine && !role_serves(c->worker) && has_change(&commands))
		http_refuse_for_role(c, role_refusal(c->worker));
	else if (!fine)
		http_session_respond(c, 400, TEXT, SLICE("the body is not the JSON of a request\n"),
				     NULL);
	else if (commands.count > HTTP_API_COMMANDS_MAX)
		refuse_many(c, transport_errors);
	else
		http_api_exchange_start(c, form, transport_errors, &commands, body);
	http_api_commands_free(&commands);
}

void http_api(struct connection *c, const struct http_request *request, struct slice path,
	      struct slice body)
{
	struct worker *w = c->worker;
	enum http_api_method method = http_api_method_find(path);
	enum http_api_form form = path.len == 0             ? HTTP_API_LEGACY
				  : slice_is(path, "batch") ? HTTP_API_BATCH
							    : HTTP_API_SINGLE;

	if (!w->settings.http_api.insecure &&
	    !http_api_key_matches(request, slice_str(w->start.api_key)))
		http_session_respond(c, 401, NULL, SLICE(""), "WWW-Authenticate: apikey\r\n");
	else if (request->method != HTTP_METHOD_POST)
		http_session_respond(c, 405, TEXT, SLICE("method not allowed\n"),
				     "Allow: POST\r\n");
	else if (form == HTTP_API_SINGLE && method == HTTP_API_UNKNOWN)
		http_session_respond(c, 404, TEXT, SLICE("the API has no such method\n"), NULL);
	else
		serve(c, request, form, method, body);
}

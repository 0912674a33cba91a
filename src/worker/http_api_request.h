/* SPDX-License-Identifier: ISC */
/*
 * What a call of the server HTTP API says: who may make it, which method it is
 * and what its JSON asks for. Knows neither connections nor Redis, so it can be
 * tested alone. Run by the worker. Payloads stay raw slices, byte for byte.
 */
#ifndef KEEPSOCK_WORKER_HTTP_API_REQUEST_H
#define KEEPSOCK_WORKER_HTTP_API_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "keepsock/buffer.h"
#include "keepsock/http.h"
#include "keepsock/slice.h"

/* X(symbol, name): the part of the path behind /api/ */
#define HTTP_API_METHODS(X)                 \
	X(PUBLISH, "publish")               \
	X(BROADCAST, "broadcast")           \
	X(HISTORY, "history")               \
	X(PRESENCE, "presence")             \
	X(PRESENCE_STATS, "presence_stats") \
	X(CHANNELS, "channels")             \
	X(INFO, "info")

enum http_api_method {
	HTTP_API_UNKNOWN,
#define X(symbol, name) HTTP_API_##symbol,
	HTTP_API_METHODS(X)
#undef X
		HTTP_API_METHOD_COUNT
};

/* Channels of one broadcast; more are error 107. */
#define HTTP_API_CHANNELS_MAX 1024u

/* Absent fields are zero. Slices point into the body or into `text`. */
struct http_api_request {
	enum http_api_method method;
	struct slice channel;
	struct slice
		*channels; /* owned; at most HTTP_API_CHANNELS_MAX + 1, so that more can be told */
	size_t n_channels;
	struct slice data; /* raw JSON; empty if absent, null, or b64data that holds no JSON */
	struct slice tags; /* raw object of strings, empty if there are none */
	bool skip_history;
	bool unavailable; /* asks for what keepsock does not do (idempotency, versions, deltas) */
	int32_t limit;
	bool reverse;
	bool has_since;
	uint64_t since_offset;
	struct slice since_epoch;
	struct slice pattern;
	bool transport_errors; /* the caller wants errors as HTTP statuses */
	struct buffer text;    /* decoded strings; owned */
};

enum http_api_method http_api_method_find(struct slice name);
const char *http_api_method_name(enum http_api_method method);

/*
 * Whether the request carries the key: X-API-Key wins if present, then
 * "Authorization: apikey KEY", then the query's api_key. An empty key opens to
 * nobody.
 */
bool http_api_key_matches(const struct http_request *http, struct slice key);

/* The header X-Centrifugo-Error-Mode: transport. */
bool http_api_wants_transport_errors(const struct http_request *http);

/* The HTTP status of an API error for whoever wants transport errors. */
int http_api_error_status(uint32_t code);

/*
 * Reads a body; unknown fields are ignored, of duplicates the last counts.
 * False: no JSON object, or a field of the wrong type. In both cases free it.
 */
bool http_api_request_parse(enum http_api_method method, struct slice body,
			    struct http_api_request *request);
void http_api_request_free(struct http_api_request *request);

#endif

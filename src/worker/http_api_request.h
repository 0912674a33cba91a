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
#include "keepsock/token.h"

/*
 * X(symbol, name): the part of the path behind /api/. In the order of precedence:
 * of several methods in one command of a batch the first counts.
 */
#define HTTP_API_METHODS(X)                        \
	X(PUBLISH, "publish")                      \
	X(BROADCAST, "broadcast")                  \
	X(SUBSCRIBE, "subscribe")                  \
	X(UNSUBSCRIBE, "unsubscribe")              \
	X(DISCONNECT, "disconnect")                \
	X(HISTORY, "history")                      \
	X(HISTORY_REMOVE, "history_remove")        \
	X(PRESENCE, "presence")                    \
	X(PRESENCE_STATS, "presence_stats")        \
	X(INFO, "info")                            \
	X(RPC, "rpc")                              \
	X(REFRESH, "refresh")                      \
	X(CHANNELS, "channels")                    \
	/* Not available: channels are streams. */ \
	X(MAP_PUBLISH, "map_publish")              \
	X(MAP_REMOVE, "map_remove")                \
	X(MAP_READ_STATE, "map_read_state")        \
	X(MAP_READ_STREAM, "map_read_stream")      \
	X(MAP_STATS, "map_stats")                  \
	X(MAP_CLEAR, "map_clear")                  \
	X(SHARED_POLL_PUBLISH, "shared_poll_publish")

enum http_api_method {
	HTTP_API_UNKNOWN,
#define X(symbol, name) HTTP_API_##symbol,
	HTTP_API_METHODS(X)
#undef X
		HTTP_API_METHOD_COUNT
};

/* Channels of one broadcast; more are error 107. */
#define HTTP_API_CHANNELS_MAX 1024u
/* Clients that one disconnect may spare; more are error 107. */
#define HTTP_API_WHITELIST_MAX 1024u
/* Commands of one batch; more are error 107. */
#define HTTP_API_COMMANDS_MAX 1000u

struct http_api_names {
	struct slice *items; /* owned; at most one beyond the limit, so that more can be told */
	size_t count;
};

/* Absent fields are zero. Slices point into the body or into `text`. */
struct http_api_request {
	enum http_api_method method;
	struct slice channel;
	struct http_api_names channels;
	struct slice data; /* raw JSON; empty if absent or null */
	struct slice info; /* the same */
	struct slice tags; /* raw object of strings, empty if there are none */
	bool undecodable;  /* b64data or b64info is no base64, or holds no JSON: error 107 */
	bool skip_history;
	struct slice idempotency_key;
	uint64_t version;
	struct slice version_epoch;
	bool delta; /* wanted, and not available */
	int32_t limit;
	bool reverse;
	bool has_since; /* since, or recover_since */
	uint64_t since_offset;
	struct slice since_epoch;
	struct slice pattern;
	struct slice user;
	struct slice client;
	struct slice session;
	struct http_api_names whitelist;
	uint32_t disconnect_code; /* 0: none given */
	struct slice disconnect_reason;
	bool expired;
	uint64_t expire_at; /* wall seconds, 0 = never */
	struct token_override override;
	struct slice rpc_method;
	struct buffer text; /* decoded strings; owned */
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
/* Its text, which for 104 and 113 is another than to clients; never NULL. */
const char *http_api_error_message(uint32_t code);

/*
 * Reads a body; unknown fields are ignored, of duplicates the last counts.
 * False: no JSON object, or a field of the wrong type. In both cases free it.
 */
bool http_api_request_parse(enum http_api_method method, struct slice body,
			    struct http_api_request *request);
void http_api_request_free(struct http_api_request *request);

#endif

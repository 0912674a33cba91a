/* SPDX-License-Identifier: ISC */
/*
 * Reading calls of the server HTTP API, see http_api_request.h. Run by the
 * worker. One table of fields says which method takes which; a field of the
 * wrong type makes the whole body bad, as a broken one does.
 */
#include "worker/http_api_request.h"

#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/base64.h"
#include "keepsock/client_protocol.h"
#include "keepsock/json.h"
#include "keepsock/secret.h"

static const char *const method_names[HTTP_API_METHOD_COUNT] = {[HTTP_API_UNKNOWN] = "unknown",
#define X(symbol, name) [HTTP_API_##symbol] = name,
								HTTP_API_METHODS(X)
#undef X
};

enum http_api_method http_api_method_find(struct slice name)
{
	for (int i = HTTP_API_UNKNOWN + 1; i < HTTP_API_METHOD_COUNT; i++)
		if (slice_is(name, method_names[i]))
			return (enum http_api_method)i;
	return HTTP_API_UNKNOWN;
}

const char *http_api_method_name(enum http_api_method method)
{
	return method_names[method];
}

/* --- headers --- */

/* The key of "apikey KEY", the scheme in any case (RFC 9110 §11.1). */
static bool authorization_key(struct slice value, struct slice *key)
{
	static const struct slice scheme = {"apikey", 6};

	if (value.len <= scheme.len || value.data[scheme.len] != ' ' ||
	    !http_equal_nocase(slice_from(value.data, scheme.len), scheme))
		return false;
	*key = slice_from(value.data + scheme.len, value.len - scheme.len);
	while (key->len > 0 && key->data[0] == ' ')
		*key = slice_from(key->data + 1, key->len - 1);
	return true;
}

bool http_api_key_matches(const struct http_request *http, struct slice key)
{
	struct buffer query = {0};
	struct slice given = {0};
	size_t headers = http_header_count(http, "X-API-Key");
	bool matches = false;

	if (key.len == 0 || headers > 1)
		return false;
	if (headers == 1 && http_header_find(http, "X-API-Key", &given))
		return secret_equal(given, key);
	if (http_header_find(http, "Authorization", &given) && authorization_key(given, &given))
		return secret_equal(given, key);
	if (http_query_get(http->query, "api_key", &query))
		matches = secret_equal(buffer_slice(&query), key);
	if (query.len > 0)
		secret_wipe(query.data, query.len);
	buffer_free(&query);
	return matches;
}

bool http_api_wants_transport_errors(const struct http_request *http)
{
	struct slice mode;

	return http_header_find(http, "X-Centrifugo-Error-Mode", &mode) &&
	       http_equal_nocase(mode, SLICE("transport"));
}

int http_api_error_status(uint32_t code)
{
	switch (code) {
	case CLIENT_ERROR_UNKNOWN_CHANNEL:
	case CLIENT_ERROR_METHOD_NOT_FOUND: return 404;
	case CLIENT_ERROR_BAD_REQUEST:
	case CLIENT_ERROR_NOT_AVAILABLE: return 400;
	case CLIENT_ERROR_UNRECOVERABLE_POSITION: return 416;
	case CLIENT_ERROR_CONCURRENT_PAGINATION: return 409;
	default: return 500;
	}
}

/* --- fields --- */

/* The text's memory was reserved for all strings of the body: slices into it stay. */
static bool take_string(struct http_api_request *request, struct slice raw, struct slice *out)
{
	size_t before = request->text.len;

	if (!json_string_decode(raw, &request->text))
		return false;
	*out = slice_from(request->text.data + before, request->text.len - before);
	return true;
}

static bool take_channel(struct http_api_request *request, struct slice raw)
{
	return take_string(request, raw, &request->channel);
}

static bool take_channels(struct http_api_request *request, struct slice raw)
{
	struct json_walk it;
	struct slice value, name;
	size_t capacity = 0;

	free(request->channels);
	request->channels = NULL;
	request->n_channels = 0;
	json_array_begin(&it, raw);
	while (json_array_next(&it, &value)) {
		if (!take_string(request, value, &name))
			return false;
		if (request->n_channels > HTTP_API_CHANNELS_MAX)
			continue;
		if (request->n_channels == capacity) {
			capacity = capacity ? capacity * 2 : 16;
			request->channels =
				xrealloc(request->channels, capacity * sizeof(*request->channels));
		}
		request->channels[request->n_channels++] = name;
	}
	return json_walk_ok(&it);
}

static bool take_data(struct http_api_request *request, struct slice raw)
{
	request->data = raw;
	return true;
}

/* Wins over data. What it holds becomes JSON to subscribers, so it has to be JSON. */
static bool take_b64data(struct http_api_request *request, struct slice raw)
{
	struct slice encoded;
	size_t before;

	if (!take_string(request, raw, &encoded))
		return false;
	if (encoded.len == 0)
		return true;
	before = request->text.len;
	request->data = slice_from(NULL, 0);
	if (base64_decode(encoded, &request->text))
		request->data = slice_from(request->text.data + before, request->text.len - before);
	if (!json_validate(request->data))
		request->data = slice_from(NULL, 0);
	return true;
}

static bool take_tags(struct http_api_request *request, struct slice raw)
{
	struct json_walk it;
	struct slice key, value;
	bool any = false;

	json_object_begin(&it, raw);
	while (json_object_next(&it, &key, &value)) {
		if (json_kind_of(value) != JSON_KIND_STRING)
			return false;
		any = true;
	}
	request->tags = any ? raw : slice_from(NULL, 0);
	return json_walk_ok(&it);
}

static bool take_skip_history(struct http_api_request *request, struct slice raw)
{
	return json_get_bool(raw, &request->skip_history);
}

static bool take_unavailable_text(struct http_api_request *request, struct slice raw)
{
	struct slice text;

	if (!take_string(request, raw, &text))
		return false;
	request->unavailable |= text.len > 0;
	return true;
}

static bool take_unavailable_number(struct http_api_request *request, struct slice raw)
{
	uint64_t number;

	if (!json_get_u64(raw, &number))
		return false;
	request->unavailable |= number > 0;
	return true;
}

static bool take_unavailable_bool(struct http_api_request *request, struct slice raw)
{
	bool wanted;

	if (!json_get_bool(raw, &wanted))
		return false;
	request->unavailable |= wanted;
	return true;
}

static bool take_limit(struct http_api_request *request, struct slice raw)
{
	return json_get_i32(raw, &request->limit);
}

static bool take_reverse(struct http_api_request *request, struct slice raw)
{
	return json_get_bool(raw, &request->reverse);
}

static bool take_since(struct http_api_request *request, struct slice raw)
{
	struct json_walk it;
	struct slice key, value;

	request->has_since = true;
	json_object_begin(&it, raw);
	while (json_object_next(&it, &key, &value)) {
		if (json_kind_of(value) == JSON_KIND_NULL)
			continue;
		if (json_string_is(key, "offset") && !json_get_u64(value, &request->since_offset))
			return false;
		if (json_string_is(key, "epoch") &&
		    !take_string(request, value, &request->since_epoch))
			return false;
	}
	return json_walk_ok(&it);
}

static bool take_pattern(struct http_api_request *request, struct slice raw)
{
	return take_string(request, raw, &request->pattern);
}

#define METHOD(symbol)   (1u << HTTP_API_##symbol)
#define METHODS_TO_WRITE (METHOD(PUBLISH) | METHOD(BROADCAST))
#define METHODS_ON_CHANNEL \
	(METHOD(PUBLISH) | METHOD(HISTORY) | METHOD(PRESENCE) | METHOD(PRESENCE_STATS))

static const struct field {
	const char *name;
	unsigned methods;
	bool (*take)(struct http_api_request *request, struct slice raw); /* false: wrong type */
} fields[] = {
	{"channel", METHODS_ON_CHANNEL, take_channel},
	{"channels", METHOD(BROADCAST), take_channels},
	{"data", METHODS_TO_WRITE, take_data},
	{"tags", METHODS_TO_WRITE, take_tags},
	{"skip_history", METHODS_TO_WRITE, take_skip_history},
	{"idempotency_key", METHODS_TO_WRITE, take_unavailable_text},
	{"version", METHODS_TO_WRITE, take_unavailable_number},
	{"version_epoch", METHODS_TO_WRITE, take_unavailable_text},
	{"delta", METHODS_TO_WRITE, take_unavailable_bool},
	{"limit", METHOD(HISTORY), take_limit},
	{"reverse", METHOD(HISTORY), take_reverse},
	{"since", METHOD(HISTORY), take_since},
	{"pattern", METHOD(CHANNELS), take_pattern},
};

static bool take_field(struct http_api_request *request, struct slice key, struct slice value,
		       struct slice *b64data)
{
	if (json_kind_of(value) == JSON_KIND_NULL)
		return true;
	/* Kept for the end: it wins over data, wherever that stands. */
	if (json_string_is(key, "b64data")) {
		*b64data = value;
		return true;
	}
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		if (fields[i].methods & 1u << request->method &&
		    json_string_is(key, fields[i].name))
			return fields[i].take(request, value);
	return true;
}

bool http_api_request_parse(enum http_api_method method, struct slice body,
			    struct http_api_request *request)
{
	struct slice key, value, b64data = {0};
	struct json_walk it;

	*request = (struct http_api_request){.method = method};
	/* No string decodes to more bytes than it has; base64 is decoded once more. */
	buffer_reserve(&request->text, body.len * 2 + 1);
	json_object_begin(&it, body);
	while (json_object_next(&it, &key, &value))
		if (!take_field(request, key, value, &b64data))
			return false;
	if (!json_walk_ok(&it))
		return false;
	if (b64data.len > 0 && METHODS_TO_WRITE & 1u << method)
		return take_b64data(request, b64data);
	return true;
}

void http_api_request_free(struct http_api_request *request)
{
	free(request->channels);
	buffer_free(&request->text);
	*request = (struct http_api_request){0};
}

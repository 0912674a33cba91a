/* SPDX-License-Identifier: ISC */
/*
 * Calls of the server HTTP API but for their bodies (http_api_fields.c): the
 * methods' names, the key, and the form of errors. Run by the worker. Keys are
 * compared in constant time and never logged.
 */
#include "worker/http_api_request.h"

#include "keepsock/client_protocol.h"
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

const char *http_api_error_message(uint32_t code)
{
	if (code == CLIENT_ERROR_METHOD_NOT_FOUND)
		return "not found";
	if (code == CLIENT_ERROR_CONCURRENT_PAGINATION)
		return "conflict";
	return client_error_message(code);
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

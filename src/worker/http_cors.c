/* SPDX-License-Identifier: ISC */
/*
 * The CORS headers, see http_cors.h. Run by the worker. They tell a browser what
 * its page may read; they protect nothing here, keys and tokens do.
 */
#include "worker/http_cors.h"

#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/origin.h"

/* Longer wishes are not echoed: nobody needs that many headers. */
#define REQUEST_HEADERS_MAX 1024u
/* Seconds a browser may remember a preflight. */
#define MAX_AGE "300"

static bool is_preflight(const struct http_request *request)
{
	return request->method == HTTP_METHOD_OPTIONS && http_header_count(request, "Origin") > 0 &&
	       http_header_count(request, "Access-Control-Request-Method") == 1;
}

bool http_cors_origin_passes(const struct worker *w, const struct http_request *request)
{
	const struct settings_list *origins = &w->settings.websocket.allowed_origins;
	struct slice origin;

	if (!http_header_find(request, "Origin", &origin))
		return true;
	return http_header_count(request, "Origin") == 1 &&
	       origin_allowed(origin, request->host, origins->items, origins->count);
}

/* A list of header names and nothing that could mean anything else. */
static bool is_name_list(struct slice list)
{
	static const char others[] = "!#$%&'*+-.^_`|~, \t";

	for (size_t i = 0; i < list.len; i++) {
		char c = list.data[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		      memchr(others, c, sizeof(others) - 1)))
			return false;
	}
	return list.len > 0 && list.len <= REQUEST_HEADERS_MAX;
}

void http_cors_prepare(struct connection *c, const struct http_request *request)
{
	struct buffer headers = {0};
	struct slice origin, names;

	free(c->http_cors);
	c->http_cors = NULL;
	if (!http_header_find(request, "Origin", &origin))
		return;
	/* A cache must not give one page's answer to another. */
	buffer_append_str(&headers, "Vary: Origin\r\n");
	if (http_cors_origin_passes(c->worker, request)) {
		buffer_append_str(&headers, "Access-Control-Allow-Origin: ");
		buffer_append_slice(&headers, origin);
		buffer_append_str(&headers, "\r\nAccess-Control-Allow-Credentials: true\r\n");
		if (http_header_find(request, "Access-Control-Request-Headers", &names) &&
		    is_name_list(names)) {
			buffer_append_str(&headers, "Access-Control-Allow-Headers: ");
			buffer_append_slice(&headers, names);
			buffer_append_str(&headers, "\r\n");
		}
	}
	c->http_cors = xstrndup(headers.data, headers.len);
	buffer_free(&headers);
}

bool http_cors_preflight(struct connection *c, const struct http_request *request,
			 const char *methods)
{
	struct buffer headers = {0};

	if (!is_preflight(request))
		return false;
	if (!http_cors_origin_passes(c->worker, request)) {
		http_session_respond(c, 403, "text/plain; charset=utf-8",
				     SLICE("this origin is not allowed\n"), NULL);
		return true;
	}
	buffer_printf(&headers,
		      "Access-Control-Allow-Methods: %s\r\nAccess-Control-Max-Age: " MAX_AGE "\r\n",
		      methods);
	http_session_respond(c, 204, NULL, SLICE(""), buffer_cstr(&headers));
	buffer_free(&headers);
	return true;
}

/* SPDX-License-Identifier: ISC */
/*
 * Fuzz target for HTTP requests: head, body and target decoding. Besides memory
 * errors it looks for outcomes that depend on how the bytes were cut into reads,
 * and runs what looks at a request before it becomes a WebSocket.
 */
#include "fuzz.h"
#include "keepsock/deflate.h"
#include "keepsock/http.h"
#include "keepsock/origin.h"
#include "keepsock/websocket.h"

#define HEAD_LIMIT 4096
#define BODY_LIMIT 4096

static void require_inside(struct slice part, struct slice whole)
{
	require(part.data >= whole.data && part.data + part.len <= whole.data + whole.len);
}

static void check_request(const struct http_request *request, struct slice head)
{
	require(request->header_count <= HTTP_HEADER_LIMIT);
	require(request->minor_version == 0 || request->minor_version == 1);
	require(!request->chunked || request->content_length < 0);
	require_inside(request->method_name, head);
	require_inside(request->target, head);
	require(request->path.len > 0);
	for (size_t i = 0; i < request->header_count; i++) {
		require_inside(request->headers[i].name, head);
		require_inside(request->headers[i].value, head);
		require(request->headers[i].name.len > 0);
	}
}

static void check_upgrade(const struct http_request *request)
{
	static char pattern[] = "https://*.example.org";
	char *const patterns[] = {pattern};
	struct deflate_agreement agreement;
	struct slice origin, host;
	char accept[29];
	int status = websocket_check_upgrade(request, accept);

	require(status == 0 || status == 400 || status == 405 || status == 426);
	require(status != 0 || strlen(accept) == sizeof(accept) - 1);
	websocket_protocol_offered(request, "centrifuge-json");
	deflate_negotiate(request, &agreement);
	if (http_header_find(request, "Origin", &origin) &&
	    http_header_find(request, "Host", &host))
		origin_allowed(origin, host, patterns, 1);
}

/* A prefix gives the outcome of the whole or none yet. */
static void check_head_prefix(struct slice input, size_t len, enum http_result whole,
			      size_t whole_consumed, int whole_status)
{
	struct http_request request;
	size_t consumed = 0;
	int status = 0;
	enum http_result result = http_parse_head(slice_from(input.data, len), HEAD_LIMIT, &request,
						  &consumed, &status);

	if (result == HTTP_INCOMPLETE)
		return;
	require(result == whole);
	require(result == HTTP_ERROR ? status == whole_status : consumed == whole_consumed);
}

static void check_target(const struct http_request *request)
{
	struct buffer out = {0};

	if (http_path_decode(request->path, &out)) {
		require(out.data[0] == '/');
		require(memchr(out.data, '\0', out.len) == NULL);
		buffer_append_str(&out, "/");
		require(memmem(out.data, out.len, "/../", 4) == NULL);
	}
	buffer_reset(&out);
	http_query_get(request->query, "a", &out);
	buffer_free(&out);
}

/* The chunked decoder in reads of step bytes against the body at once. */
static void check_chunked(struct slice input, size_t step, enum http_result whole,
			  struct slice whole_body, size_t whole_consumed, int whole_status)
{
	struct http_chunked state = {0};
	struct buffer out = {0};
	enum http_result result = HTTP_INCOMPLETE;
	size_t total = 0, consumed;

	while (result == HTTP_INCOMPLETE && total < input.len) {
		size_t left = input.len - total;

		result = http_chunked_feed(
			&state, slice_from(input.data + total, left < step ? left : step),
			&consumed, &out, BODY_LIMIT);
		total += consumed;
	}
	require(result == whole);
	if (result == HTTP_ERROR)
		require(state.status == whole_status);
	if (result == HTTP_COMPLETE)
		require(slice_equal(buffer_slice(&out), whole_body) && total == whole_consumed);
	require(out.len <= BODY_LIMIT);
	buffer_free(&out);
}

static void check_body(struct slice input, const struct http_request *request, size_t step)
{
	struct buffer decoded = {0};
	struct slice body = SLICE("");
	size_t consumed = 0;
	int status = 0;
	enum http_result result =
		http_parse_body(input, request, BODY_LIMIT, &decoded, &body, &consumed, &status);

	if (result == HTTP_COMPLETE)
		require(body.len <= BODY_LIMIT && consumed <= input.len);
	if (request->chunked)
		check_chunked(input, step, result, body, consumed, status);
	buffer_free(&decoded);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice input = slice_from(data, size);
	struct http_request request;
	size_t consumed = 0, step = size > 0 ? data[size - 1] % 16 + 1 : 1;
	int status = 0;
	enum http_result result = http_parse_head(input, HEAD_LIMIT, &request, &consumed, &status);

	for (size_t len = 0; len < size; len += step)
		check_head_prefix(input, len, result, consumed, status);
	if (result == HTTP_ERROR)
		require(status >= 400 && status < 600);
	if (result != HTTP_COMPLETE)
		return 0;
	require(consumed <= size && consumed <= HEAD_LIMIT);
	check_request(&request, slice_from(data, consumed));
	check_target(&request);
	check_upgrade(&request);
	check_body(slice_from(data + consumed, size - consumed), &request, step);
	return 0;
}

/* SPDX-License-Identifier: ISC */
/*
 * HTTP request heads: what is accepted and what it means, what is refused with
 * which status, and the same outcome for every prefix and cut of the bytes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "keepsock/buffer.h"
#include "keepsock/http.h"

#define LIMIT        16384
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct head_case {
	struct slice head;
	int status; /* 0: accepted */
};

#define HOST   "Host: h\r\n"
#define GET    "GET / HTTP/1.1\r\n"
#define BYTE32 "abcdefghijklmnopqrstuvwxyzabcdef"

static const struct head_case cases[] = {
	/* request line */
	{SLICE("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"), 0},
	{SLICE("\r\nGET / HTTP/1.1\r\nHost: example.com\r\n\r\n"), 0},
	{SLICE("\r\n\r\nGET / HTTP/1.1\r\nHost: example.com\r\n\r\n"), 400},
	{SLICE("\nGET / HTTP/1.1\r\nHost: example.com\r\n\r\n"), 400},
	{SLICE(" GET / HTTP/1.1\r\n" HOST "\r\n"), 400},
	{SLICE("GET  / HTTP/1.1\r\n" HOST "\r\n"), 400},
	{SLICE("GET\t/ HTTP/1.1\r\n" HOST "\r\n"), 400},
	{SLICE("GET /  HTTP/1.1\r\n" HOST "\r\n"), 400},
	{SLICE("GET / HTTP/1.1 \r\n" HOST "\r\n"), 400},
	{SLICE("GET / HTTP/1.1\n" HOST "\r\n"), 400},
	{SLICE("GET / HTTP/1.1\r" HOST "\r\n"), 400},
	{SLICE("GET /\r\n\r\n"), 400},
	{SLICE("GET\r\n\r\n"), 400},
	{SLICE("\x16\x03\x01\x02\x00\x01"), 400},
	{SLICE("SSH-2.0-client\r\n"), 400},
	{SLICE("G\x00T / HTTP/1.1\r\n" HOST "\r\n"), 400},
	{SLICE("G(T / HTTP/1.1\r\n" HOST "\r\n"), 400},
	{SLICE("M-S!#$%&'*+.^_`|~1 / HTTP/1.1\r\n" HOST "\r\n"), 0},
	{SLICE("get / HTTP/1.1\r\n" HOST "\r\n"), 0},
	{SLICE(BYTE32 " / HTTP/1.1\r\n" HOST "\r\n"), 0},
	{SLICE(BYTE32 "g / HTTP/1.1\r\n" HOST "\r\n"), 501},
	{SLICE("GET / HTTP/1.0\r\n\r\n"), 0},
	{SLICE("GET / HTTP/1.2\r\n" HOST "\r\n"), 505},
	{SLICE("GET / HTTP/2.0\r\n" HOST "\r\n"), 505},
	{SLICE("GET / HTTP/0.9\r\n" HOST "\r\n"), 505},
	{SLICE("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 505},
	{SLICE("GET / HTTP/1.10\r\n" HOST "\r\n"), 400},
	{SLICE("GET / HTTP/11\r\n" HOST "\r\n"), 400},
	{SLICE("GET / HTTP/1\r\n" HOST "\r\n"), 400},
	{SLICE("GET / HTTP/a.1\r\n" HOST "\r\n"), 400},
	{SLICE("GET / HTTP/1.a\r\n" HOST "\r\n"), 400},
	{SLICE("GET / http/1.1\r\n" HOST "\r\n"), 400},
	{SLICE("GET / HTTPS/1.1\r\n" HOST "\r\n"), 400},

	/* target */
	{SLICE("GET /a?b=c&d={\"x\" HTTP/1.1\r\n" HOST "\r\n"), 400},
	{SLICE("GET /a?b={[|\\^`]} HTTP/1.1\r\n" HOST "\r\n"), 0},
	{SLICE("GET /a#b HTTP/1.1\r\n" HOST "\r\n"), 400},
	{SLICE("GET /<a> HTTP/1.1\r\n" HOST "\r\n"), 400},
	{SLICE("GET /\x7f HTTP/1.1\r\n" HOST "\r\n"), 400},
	{SLICE("GET /\xc3\xa9 HTTP/1.1\r\n" HOST "\r\n"), 400},
	{SLICE("GET a HTTP/1.1\r\n" HOST "\r\n"), 400},
	{SLICE("GET ?a HTTP/1.1\r\n" HOST "\r\n"), 400},
	{SLICE("OPTIONS * HTTP/1.1\r\n" HOST "\r\n"), 0},
	{SLICE("GET * HTTP/1.1\r\n" HOST "\r\n"), 400},
	{SLICE("OPTIONS *a HTTP/1.1\r\n" HOST "\r\n"), 400},
	{SLICE("GET http://example.com/a HTTP/1.1\r\n" HOST "\r\n"), 0},
	{SLICE("GET HTTPS://[::1]:8000 HTTP/1.1\r\n" HOST "\r\n"), 0},
	{SLICE("GET http://example.com/a HTTP/1.1\r\n\r\n"), 400},
	{SLICE("GET http:///a HTTP/1.1\r\n" HOST "\r\n"), 400},
	{SLICE("GET http:// HTTP/1.1\r\n" HOST "\r\n"), 400},
	{SLICE("GET http://user@example.com/ HTTP/1.1\r\n" HOST "\r\n"), 400},
	{SLICE("GET http://a:b/ HTTP/1.1\r\n" HOST "\r\n"), 400},
	{SLICE("GET ftp://example.com/ HTTP/1.1\r\n" HOST "\r\n"), 400},
	{SLICE("CONNECT example.com:443 HTTP/1.1\r\n" HOST "\r\n"), 501},

	/* fields */
	{SLICE(GET HOST "\r\n"), 0},
	{SLICE(GET HOST "X:\r\n\r\n"), 0},
	{SLICE(GET HOST "X: \t \r\n\r\n"), 0},
	{SLICE(GET HOST "X:a\tb\xff c\r\n\r\n"), 0},
	{SLICE(GET HOST "!#$%&'*+-.^_`|~09AZaz: 1\r\n\r\n"), 0},
	{SLICE(GET "Host : h\r\n\r\n"), 400},
	{SLICE(GET " Host: h\r\n\r\n"), 400},
	{SLICE(GET HOST "X\r\n\r\n"), 400},
	{SLICE(GET HOST ": x\r\n\r\n"), 400},
	{SLICE(GET HOST "X(: x\r\n\r\n"), 400},
	{SLICE(GET HOST "X\xc3\xa9: x\r\n\r\n"), 400},
	{SLICE(GET HOST "X: a\r\n b\r\n\r\n"), 400},
	{SLICE(GET HOST "X: a\r\n\tb\r\n\r\n"), 400},
	{SLICE(GET HOST "X: a\nY: b\r\n\r\n"), 400},
	{SLICE(GET HOST "X: a\rY: b\r\n\r\n"), 400},
	{SLICE(GET HOST "X: a\x00"
			"b\r\n\r\n"),
	 400},
	{SLICE(GET HOST "X: a\x1f"
			"b\r\n\r\n"),
	 400},
	{SLICE(GET HOST "X: abcdefgh\x7fijklmnop\r\n\r\n"), 400},
	{SLICE(GET HOST "X: abcdefgh\x01ijklmnop\r\n\r\n"), 400},
	{SLICE(GET HOST "\n"), 400},
	{SLICE(GET HOST "\rX: a\r\n\r\n"), 400},

	/* Host */
	{SLICE(GET "\r\n"), 400},
	{SLICE("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"), 400},
	{SLICE(GET "Host: a\r\nHost: a\r\n\r\n"), 400},
	{SLICE(GET "Host: a\r\nhOST: b\r\n\r\n"), 400},
	{SLICE(GET "Host: a, b\r\n\r\n"), 400},
	{SLICE(GET "Host: a b\r\n\r\n"), 400},
	{SLICE(GET "Host: a/b\r\n\r\n"), 400},
	{SLICE(GET "Host: u@a\r\n\r\n"), 400},
	{SLICE(GET "Host: a:b\r\n\r\n"), 400},
	{SLICE(GET "Host: a:123456\r\n\r\n"), 400},
	{SLICE(GET "Host: :80\r\n\r\n"), 400},
	{SLICE(GET "Host: a:1:2\r\n\r\n"), 400},
	{SLICE(GET "Host: [::1\r\n\r\n"), 400},
	{SLICE(GET "Host: []\r\n\r\n"), 400},
	{SLICE(GET "Host: [::1]a\r\n\r\n"), 400},
	{SLICE(GET "Host: [g::1]\r\n\r\n"), 400},
	{SLICE(GET "Host: [:]\r\n\r\n"), 400},
	{SLICE(GET "Host: [::g]\r\n\r\n"), 400},
	{SLICE(GET "Host: a%4\r\n\r\n"), 400},
	{SLICE(GET "Host: a%g4\r\n\r\n"), 400},
	{SLICE(GET "Host: a%20%02:80\r\n\r\n"), 0},
	{SLICE(GET "Host: a%4g\r\n\r\n"), 400},
	{SLICE(GET "Host: a%41\r\n\r\n"), 0},
	{SLICE(GET "Host: [::ffff:1.2.3.4]:8000\r\n\r\n"), 0},
	{SLICE(GET "Host: a_b.c-d~e:\r\n\r\n"), 0},
	{SLICE(GET "Host:\r\n\r\n"), 0},

	/* length and coding: nothing two parsers could see differently */
	{SLICE(GET HOST "Content-Length: 0\r\n\r\n"), 0},
	{SLICE(GET HOST "Content-Length: 9223372036854775807\r\n\r\n"), 0},
	{SLICE(GET HOST "Content-Length: 9223372036854775808\r\n\r\n"), 413},
	{SLICE(GET HOST "Content-Length: 99999999999999999999\r\n\r\n"), 413},
	{SLICE(GET HOST "Content-Length: 99999999999999999999x\r\n\r\n"), 400},
	{SLICE(GET HOST "Content-Length:\r\n\r\n"), 400},
	{SLICE(GET HOST "Content-Length: +1\r\n\r\n"), 400},
	{SLICE(GET HOST "Content-Length: -1\r\n\r\n"), 400},
	{SLICE(GET HOST "Content-Length: 1 1\r\n\r\n"), 400},
	{SLICE(GET HOST "Content-Length: 1,1\r\n\r\n"), 400},
	{SLICE(GET HOST "Content-Length: 0x1\r\n\r\n"), 400},
	{SLICE(GET HOST "Content-Length: 1\r\nContent-Length: 2\r\n\r\n"), 400},
	{SLICE(GET HOST "Content-Length: 0\r\nContent-Length: 0\r\n\r\n"), 400},
	{SLICE(GET HOST "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400},
	{SLICE(GET HOST "Content-Length: 1\r\ncontent-length: 1\r\n\r\n"), 400},
	{SLICE(GET HOST "Transfer-Encoding: chunked\r\n\r\n"), 0},
	{SLICE(GET HOST "transfer-encoding: Chunked\r\n\r\n"), 0},
	{SLICE(GET HOST "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n"), 400},
	{SLICE(GET HOST "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"), 400},
	{SLICE(GET HOST "Content-Length: 1\r\nTransfer-Encoding: identity\r\n\r\n"), 400},
	{SLICE(GET HOST "Transfer-Encoding: gzip, chunked\r\n\r\n"), 501},
	{SLICE(GET HOST "Transfer-Encoding: chunked, chunked\r\n\r\n"), 501},
	{SLICE(GET HOST "Transfer-Encoding: identity\r\n\r\n"), 501},
	{SLICE(GET HOST "Transfer-Encoding: xchunked\r\n\r\n"), 501},
	{SLICE(GET HOST "Transfer-Encoding: \"chunked\"\r\n\r\n"), 501},
	{SLICE(GET HOST "Transfer-Encoding: chunked;a=b\r\n\r\n"), 501},
	{SLICE(GET HOST "Transfer-Encoding: \x0b"
			"chunked\r\n\r\n"),
	 400},
	{SLICE(GET HOST "Transfer-Encoding : chunked\r\n\r\n"), 400},
	{SLICE(GET HOST "Transfer-Encoding:\r\n chunked\r\n\r\n"), 400},
	{SLICE(GET HOST "Transfer-Encoding:\r\n\r\n"), 501},
	{SLICE(GET HOST "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"), 501},
	{SLICE(GET HOST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"), 501},
	{SLICE("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400},

	/* Expect */
	{SLICE(GET HOST "Expect: 100-Continue\r\nContent-Length: 1\r\n\r\n"), 0},
	{SLICE(GET HOST "Expect: something\r\n\r\n"), 417},
};

/* Parses the first len bytes from a block of exactly that size. */
static enum http_result parse_prefix(struct slice head, size_t len, size_t *consumed, int *status)
{
	struct http_request request;
	enum http_result result;
	char *copy = malloc(len > 0 ? len : 1);

	assert_non_null(copy);
	memcpy(copy, head.data, len);
	result = http_parse_head(slice_from(copy, len), LIMIT, &request, consumed, status);
	assert_memory_equal(copy, head.data, len);
	free(copy);
	return result;
}

static void check_case(const struct head_case *c)
{
	bool failed = false;

	for (size_t len = 0; len <= c->head.len; len++) {
		size_t consumed = 0;
		int status = 0;
		enum http_result result = parse_prefix(c->head, len, &consumed, &status);

		if (result == HTTP_ERROR)
			failed = true;
		if ((result == HTTP_ERROR) != failed || status != (failed ? c->status : 0) ||
		    (result == HTTP_COMPLETE && (c->status != 0 || consumed != c->head.len)) ||
		    (len == c->head.len && result == HTTP_INCOMPLETE))
			fail_msg("result %d, status %d at %zu bytes of: %.*s", (int)result, status,
				 len, SLICE_ARG(c->head));
	}
	assert_int_equal(failed, c->status != 0);
}

static void test_every_case_at_every_prefix(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < COUNT(cases); i++)
		check_case(&cases[i]);
}

static struct http_request parse_ok(const char *head)
{
	struct http_request request;
	size_t consumed;
	int status = 0;

	if (http_parse_head(slice_str(head), LIMIT, &request, &consumed, &status) != HTTP_COMPLETE)
		fail_msg("status %d for: %s", status, head);
	return request;
}

static void assert_slice(struct slice actual, const char *expected)
{
	if (!slice_is(actual, expected))
		fail_msg("\"%.*s\" is not \"%s\"", SLICE_ARG(actual), expected);
}

static void test_request_line_parts(void **unused)
{
	struct http_request r =
		parse_ok("POST /a/b?c=d?e HTTP/1.1\r\nHost: Example.com:80\r\n\r\n");

	(void)unused;
	assert_int_equal(r.method, HTTP_METHOD_POST);
	assert_slice(r.method_name, "POST");
	assert_slice(r.target, "/a/b?c=d?e");
	assert_slice(r.path, "/a/b");
	assert_slice(r.query, "c=d?e");
	assert_slice(r.host, "Example.com:80");
	assert_int_equal(r.minor_version, 1);
	assert_int_equal(r.content_length, -1);
	assert_false(r.chunked);
	r = parse_ok("OPTIONS * HTTP/1.1\r\n" HOST "\r\n");
	assert_slice(r.path, "*");
	assert_slice(r.query, "");
	r = parse_ok("GET /? HTTP/1.0\r\n\r\n");
	assert_slice(r.path, "/");
	assert_slice(r.query, "");
	assert_slice(r.host, "");
	assert_int_equal(r.minor_version, 0);
}

static void test_methods(void **unused)
{
	static const struct {
		const char *head;
		enum http_method method;
	} methods[] = {
		{"GET / HTTP/1.0\r\n\r\n", HTTP_METHOD_GET},
		{"HEAD / HTTP/1.0\r\n\r\n", HTTP_METHOD_HEAD},
		{"POST / HTTP/1.0\r\n\r\n", HTTP_METHOD_POST},
		{"PUT / HTTP/1.0\r\n\r\n", HTTP_METHOD_PUT},
		{"DELETE / HTTP/1.0\r\n\r\n", HTTP_METHOD_DELETE},
		{"OPTIONS / HTTP/1.0\r\n\r\n", HTTP_METHOD_OPTIONS},
		{"PATCH / HTTP/1.0\r\n\r\n", HTTP_METHOD_PATCH},
		{"TRACE / HTTP/1.0\r\n\r\n", HTTP_METHOD_TRACE},
		{"get / HTTP/1.0\r\n\r\n", HTTP_METHOD_OTHER},
		{"GETS / HTTP/1.0\r\n\r\n", HTTP_METHOD_OTHER},
	};

	(void)unused;
	for (size_t i = 0; i < COUNT(methods); i++)
		assert_int_equal(parse_ok(methods[i].head).method, methods[i].method);
}

static void test_absolute_target_replaces_host(void **unused)
{
	struct http_request r =
		parse_ok("GET http://real.example:8000/a?b HTTP/1.1\r\nHost: other\r\n\r\n");

	(void)unused;
	assert_slice(r.host, "real.example:8000");
	assert_slice(r.path, "/a");
	assert_slice(r.query, "b");
	r = parse_ok("GET http://real.example?b HTTP/1.1\r\nHost: other\r\n\r\n");
	assert_slice(r.path, "/");
	assert_slice(r.query, "b");
}

static void test_field_lookup(void **unused)
{
	struct http_request r = parse_ok(GET HOST "X-One:  a b \t\r\n"
						  "X-List: a ,, b\t,\r\nx-list: C\r\n\r\n");
	struct slice value;

	(void)unused;
	assert_int_equal(r.header_count, 4);
	assert_true(http_header_find(&r, "x-one", &value));
	assert_slice(value, "a b");
	assert_true(http_header_find(&r, "X-LIST", NULL));
	assert_false(http_header_find(&r, "X-On", &value));
	assert_int_equal(http_header_count(&r, "X-List"), 2);
	assert_int_equal(http_header_count(&r, "X-None"), 0);
	assert_true(http_header_has_token(&r, "X-List", "A"));
	assert_true(http_header_has_token(&r, "X-List", "b"));
	assert_true(http_header_has_token(&r, "X-List", "c"));
	assert_false(http_header_has_token(&r, "X-List", "a b"));
	assert_false(http_header_has_token(&r, "X-List", ""));
	assert_false(http_header_has_token(&r, "X-One", "a"));
}

static void test_connection_semantics(void **unused)
{
	static const struct {
		const char *head;
		bool keep_alive;
	} table[] = {
		{GET HOST "\r\n", true},
		{GET HOST "Connection: close\r\n\r\n", false},
		{GET HOST "Connection: keep-alive, CLOSE\r\n\r\n", false},
		{GET HOST "Connection: keep-alive\r\nConnection: close\r\n\r\n", false},
		{GET HOST "Connection: closed\r\n\r\n", true},
		{GET HOST "Connection:\r\n\r\n", true},
		{"GET / HTTP/1.0\r\n\r\n", false},
		{"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true},
		{"GET / HTTP/1.0\r\nConnection: keep-alive,close\r\n\r\n", false},
	};

	(void)unused;
	for (size_t i = 0; i < COUNT(table); i++)
		assert_int_equal(parse_ok(table[i].head).keep_alive, table[i].keep_alive);
}

static void test_upgrade_is_recognised(void **unused)
{
	static const struct {
		const char *head;
		bool upgrade;
	} table[] = {
		{GET HOST "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", true},
		{GET HOST "Connection: keep-alive, upgrade\r\nUpgrade: WebSocket\r\n\r\n", true},
		{GET HOST "Upgrade: h2c, websocket\r\nConnection: Upgrade\r\n\r\n", true},
		{GET HOST "Upgrade: websocket\r\n\r\n", false},
		{GET HOST "Connection: Upgrade\r\n\r\n", false},
		{GET HOST "Connection: Upgrade\r\nUpgrade: websockets\r\n\r\n", false},
		{"GET / HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", false},
	};

	(void)unused;
	for (size_t i = 0; i < COUNT(table); i++)
		assert_int_equal(parse_ok(table[i].head).upgrade_websocket, table[i].upgrade);
}

static void test_expectation_needs_a_body_to_wait_for(void **unused)
{
	(void)unused;
	assert_true(parse_ok(GET HOST "Expect: 100-continue\r\nContent-Length: 1\r\n\r\n")
			    .expect_continue);
	assert_true(parse_ok(GET HOST "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n")
			    .expect_continue);
	assert_false(parse_ok(GET HOST "Expect: 100-continue\r\n\r\n").expect_continue);
	assert_false(parse_ok("GET / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n")
			     .expect_continue);
}

static void test_pipelined_head_ends_where_the_next_begins(void **unused)
{
	const char *two = GET HOST "\r\n" GET HOST "\r\n";
	struct http_request r;
	size_t consumed;
	int status;

	(void)unused;
	assert_int_equal(http_parse_head(slice_str(two), LIMIT, &r, &consumed, &status),
			 HTTP_COMPLETE);
	assert_int_equal(consumed, strlen(two) / 2);
}

/* Appends n bytes and tells what parsing everything so far gives. */
static int status_after(struct buffer *b, char byte, size_t n, size_t limit)
{
	struct http_request r;
	size_t consumed;
	int status = 0;

	memset(buffer_reserve(b, n), byte, n);
	b->len += n;
	switch (http_parse_head(buffer_slice(b), limit, &r, &consumed, &status)) {
	case HTTP_COMPLETE: return 200;
	case HTTP_INCOMPLETE: return 0;
	case HTTP_ERROR: break;
	}
	return status;
}

static void test_target_too_long_is_414(void **unused)
{
	struct buffer b = {0};

	(void)unused;
	buffer_append_str(&b, "GET /");
	assert_int_equal(status_after(&b, 'a', HTTP_TARGET_LIMIT - 1, LIMIT), 0);
	assert_int_equal(status_after(&b, 'a', 1, LIMIT), 414);
	buffer_reset(&b);
	buffer_append_str(&b, "GET /");
	assert_int_equal(status_after(&b, 'a', 94, 100), 0);
	assert_int_equal(status_after(&b, 'a', 1, 100), 414);
	buffer_free(&b);
}

static void test_head_too_large_is_431(void **unused)
{
	struct buffer b = {0};

	(void)unused;
	buffer_append_str(&b, GET HOST "X: ");
	assert_int_equal(status_after(&b, 'a', LIMIT - 1 - b.len, LIMIT), 0);
	assert_int_equal(status_after(&b, 'a', 1, LIMIT), 431);
	assert_int_equal(status_after(&b, 'a', 1, LIMIT), 431);
	buffer_reset(&b);
	buffer_append_str(&b, GET HOST);
	assert_int_equal(status_after(&b, 'X', LIMIT - b.len, LIMIT), 431);
	buffer_reset(&b);
	/* A head of exactly the limit is complete, one byte less of it refused. */
	buffer_append_str(&b, GET HOST "\r\n");
	assert_int_equal(status_after(&b, 'x', 0, b.len), 200);
	assert_int_equal(status_after(&b, 'x', 0, b.len - 1), 431);
	buffer_free(&b);
}

static void test_too_many_fields_is_431(void **unused)
{
	struct buffer b = {0};

	(void)unused;
	buffer_append_str(&b, GET HOST);
	for (int i = 1; i < HTTP_HEADER_LIMIT; i++)
		buffer_append_str(&b, "X: y\r\n");
	assert_int_equal(status_after(&b, 'x', 0, LIMIT), 0);
	buffer_append_str(&b, "\r\n");
	assert_int_equal(status_after(&b, 'x', 0, LIMIT), 200);
	b.len -= 2;
	assert_int_equal(status_after(&b, 'X', 1, LIMIT), 431);
	buffer_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_case_at_every_prefix),
		cmocka_unit_test(test_request_line_parts),
		cmocka_unit_test(test_methods),
		cmocka_unit_test(test_absolute_target_replaces_host),
		cmocka_unit_test(test_field_lookup),
		cmocka_unit_test(test_connection_semantics),
		cmocka_unit_test(test_upgrade_is_recognised),
		cmocka_unit_test(test_expectation_needs_a_body_to_wait_for),
		cmocka_unit_test(test_pipelined_head_ends_where_the_next_begins),
		cmocka_unit_test(test_target_too_long_is_414),
		cmocka_unit_test(test_head_too_large_is_431),
		cmocka_unit_test(test_too_many_fields_is_431),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

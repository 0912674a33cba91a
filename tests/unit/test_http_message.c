/* SPDX-License-Identifier: ISC */
/*
 * HTTP beyond the head: bodies by length and in chunks, cut at every place;
 * query parameters; paths that must not leave a directory; responses.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "keepsock/buffer.h"
#include "keepsock/http.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define LIMIT        32

struct chunked_case {
	struct slice wire;
	const char *body; /* NULL: refused */
	int status;
};

static const struct chunked_case chunked_cases[] = {
	{SLICE("0\r\n\r\n"), "", 0},
	{SLICE("5\r\nhello\r\n0\r\n\r\n"), "hello", 0},
	{SLICE("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"), "hello world", 0},
	{SLICE("0005\r\nhello\r\n000\r\n\r\n"), "hello", 0},
	{SLICE("a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n"), "01234567890123456789", 0},
	{SLICE("2\r\n\r\n\r\n0\r\n\r\n"), "\r\n", 0},
	{SLICE("1;a=b\r\nx\r\n0;c=\"d\"\r\n\r\n"), "x", 0},
	{SLICE("1 ; a\r\nx\r\n0\r\n\r\n"), "x", 0},
	{SLICE("0\r\nA: b\r\nC:\r\n\r\n"), "", 0},
	{SLICE("20\r\n01234567890123456789012345678901\r\n0\r\n\r\n"),
	 "01234567890123456789012345678901", 0},
	{SLICE("21\r\n"), NULL, 413},
	{SLICE("1\r\nx\r\n20\r\n"), NULL, 413},
	{SLICE("ffffffffffffffff\r\n"), NULL, 413},
	{SLICE("00000000000000001\r\n"), NULL, 400},
	{SLICE("\r\n"), NULL, 400},
	{SLICE(";a\r\n"), NULL, 400},
	{SLICE(" 1\r\n"), NULL, 400},
	{SLICE("1 \r\nx\r\n"), NULL, 400},
	{SLICE("+1\r\n"), NULL, 400},
	{SLICE("-1\r\n"), NULL, 400},
	{SLICE("0x1\r\n"), NULL, 400},
	{SLICE("g\r\n"), NULL, 400},
	{SLICE("1\nx\r\n"), NULL, 400},
	{SLICE("1\rx\r\n"), NULL, 400},
	{SLICE("1;a\nx\r\n"), NULL, 400},
	{SLICE("1;\x00\r\n"), NULL, 400},
	{SLICE("1\r\nx\n"), NULL, 400},
	{SLICE("1\r\nxy\r\n"), NULL, 400},
	{SLICE("1\r\nx\r0"), NULL, 400},
	{SLICE("0\r\n\n"), NULL, 400},
	{SLICE("0\r\n\rx"), NULL, 400},
	{SLICE("0\r\n a: b\r\n\r\n"), NULL, 400},
	{SLICE("0\r\na : b\r\n\r\n"), NULL, 400},
	{SLICE("0\r\na\r\n\r\n"), NULL, 400},
	{SLICE("0\r\na: b\n\r\n"), NULL, 400},
	{SLICE("0\r\na: b\r\n c\r\n\r\n"), NULL, 400},
};

/* Feeds [from, to) from a block of exactly that size. */
static enum http_result feed(struct http_chunked *state, struct slice wire, size_t from, size_t to,
			     struct buffer *out)
{
	size_t len = to - from, consumed = 0;
	char *copy = malloc(len > 0 ? len : 1);
	enum http_result result;

	assert_non_null(copy);
	memcpy(copy, wire.data + from, len);
	result = http_chunked_feed(state, slice_from(copy, len), &consumed, out, LIMIT);
	if (result == HTTP_INCOMPLETE)
		assert_int_equal(consumed, len);
	free(copy);
	return result;
}

static void check_chunked(const struct chunked_case *c, struct http_chunked *state,
			  enum http_result result, const struct buffer *out)
{
	if (c->body == NULL) {
		assert_int_equal(result, HTTP_ERROR);
		assert_int_equal(state->status, c->status);
		return;
	}
	assert_int_equal(result, HTTP_COMPLETE);
	assert_true(slice_is(buffer_slice(out), c->body));
	assert_int_equal(state->length, strlen(c->body));
}

static void test_chunked_at_every_cut(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < COUNT(chunked_cases); i++) {
		const struct chunked_case *c = &chunked_cases[i];

		for (size_t cut = 0; cut <= c->wire.len; cut++) {
			struct http_chunked state = {0};
			struct buffer out = {0};
			enum http_result result = feed(&state, c->wire, 0, cut, &out);

			if (result == HTTP_INCOMPLETE)
				result = feed(&state, c->wire, cut, c->wire.len, &out);
			check_chunked(c, &state, result, &out);
			buffer_free(&out);
		}
	}
}

static void test_chunked_byte_by_byte(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < COUNT(chunked_cases); i++) {
		const struct chunked_case *c = &chunked_cases[i];
		struct http_chunked state = {0};
		struct buffer out = {0};
		enum http_result result = HTTP_INCOMPLETE;

		for (size_t at = 0; at < c->wire.len && result == HTTP_INCOMPLETE; at++)
			result = feed(&state, c->wire, at, at + 1, &out);
		check_chunked(c, &state, result, &out);
		buffer_free(&out);
	}
}

static void test_chunked_ends_and_stays_ended(void **unused)
{
	struct http_chunked state = {0};
	struct buffer out = {0};
	struct slice wire = SLICE("1\r\nx\r\n0\r\n\r\nGET /");
	size_t consumed;

	(void)unused;
	assert_int_equal(http_chunked_feed(&state, wire, &consumed, &out, LIMIT), HTTP_COMPLETE);
	assert_int_equal(consumed, wire.len - 5);
	assert_int_equal(http_chunked_feed(&state, wire, &consumed, &out, LIMIT), HTTP_COMPLETE);
	assert_int_equal(consumed, 0);
	state = (struct http_chunked){0};
	assert_int_equal(http_chunked_feed(&state, SLICE("x"), &consumed, &out, LIMIT), HTTP_ERROR);
	assert_int_equal(http_chunked_feed(&state, wire, &consumed, &out, LIMIT), HTTP_ERROR);
	/* A state out of a damaged passport. */
	state = (struct http_chunked){.state = 200};
	assert_int_equal(http_chunked_feed(&state, wire, &consumed, &out, LIMIT), HTTP_ERROR);
	buffer_free(&out);
}

/* Feeds the same bytes again and again until the decoder has enough of them. */
static size_t bytes_until_refused(const char *start, const char *again, size_t most)
{
	struct http_chunked state = {0};
	struct buffer out = {0};
	size_t consumed, total = 0;
	struct slice in = slice_str(start);

	while (total < most &&
	       http_chunked_feed(&state, in, &consumed, &out, 1 << 20) != HTTP_ERROR) {
		total += consumed;
		in = slice_str(again);
	}
	buffer_free(&out);
	return total;
}

static void test_chunked_overhead_is_bounded(void **unused)
{
	(void)unused;
	assert_in_range(bytes_until_refused("1;", "aaaa", 1 << 20), 16000, 17000);
	assert_in_range(bytes_until_refused("0\r\n", "a: b\r\n", 1 << 20), 16000, 17000);
	assert_in_range(bytes_until_refused("", "1;aaaaaaaa\r\nx\r\n", 1 << 20), 16000, 64000);
	/* The smallest honest chunks are no abuse. */
	assert_true(bytes_until_refused("", "1\r\nx\r\n", 1 << 20) >= 1 << 20);
}

static enum http_result body_of(const char *head, struct slice input, size_t limit,
				struct slice *body, size_t *consumed, int *status)
{
	static struct buffer decoded;
	struct http_request request;
	enum http_result result;
	struct buffer b = {0};
	size_t head_length;

	buffer_append_str(&b, head);
	assert_int_equal(http_parse_head(buffer_slice(&b), 1024, &request, &head_length, status),
			 HTTP_COMPLETE);
	buffer_free(&b);
	buffer_free(&decoded);
	*status = 0;
	result = http_parse_body(input, &request, limit, &decoded, body, consumed, status);
	if (result != HTTP_COMPLETE)
		buffer_free(&decoded);
	return result;
}

static void test_body_by_length(void **unused)
{
	const char *head = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n";
	struct slice input = SLICE("helloGET"), body;
	size_t consumed;
	int status;

	(void)unused;
	assert_int_equal(body_of(head, input, 5, &body, &consumed, &status), HTTP_COMPLETE);
	assert_true(slice_is(body, "hello"));
	assert_ptr_equal(body.data, input.data);
	assert_int_equal(consumed, 5);
	input.len = 5;
	assert_int_equal(body_of(head, input, 5, &body, &consumed, &status), HTTP_COMPLETE);
	input.len = 4;
	assert_int_equal(body_of(head, input, 5, &body, &consumed, &status), HTTP_INCOMPLETE);
	assert_int_equal(body_of(head, input, 4, &body, &consumed, &status), HTTP_ERROR);
	assert_int_equal(status, 413);
}

static void test_body_absent(void **unused)
{
	struct slice body;
	size_t consumed;
	int status;

	(void)unused;
	assert_int_equal(body_of("GET / HTTP/1.1\r\nHost: h\r\n\r\n", SLICE("GET /"), 0, &body,
				 &consumed, &status),
			 HTTP_COMPLETE);
	assert_int_equal(body.len, 0);
	assert_int_equal(consumed, 0);
}

static void test_body_in_chunks(void **unused)
{
	const char *head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
	struct slice input = SLICE("3\r\nabc\r\n1\r\nd\r\n0\r\n\r\nGET"), body;
	size_t consumed;
	int status;

	(void)unused;
	assert_int_equal(body_of(head, input, 3, &body, &consumed, &status), HTTP_ERROR);
	assert_int_equal(status, 413);
	for (size_t len = 0; len < input.len - 3; len++)
		assert_int_equal(
			body_of(head, slice_from(input.data, len), 4, &body, &consumed, &status),
			HTTP_INCOMPLETE);
	assert_int_equal(body_of(head, input, 4, &body, &consumed, &status), HTTP_COMPLETE);
	assert_true(slice_is(body, "abcd"));
	assert_int_equal(consumed, input.len - 3);
	/* Gives the decoded body's memory back. */
	assert_int_equal(body_of(head, SLICE(""), 4, &body, &consumed, &status), HTTP_INCOMPLETE);
}

static void test_query_parameters(void **unused)
{
	static const struct {
		const char *query, *name, *value;
	} table[] = {
		{"a=1&b=2", "a", "1"}, {"a=1&b=2", "b", "2"},
		{"a=1&a=2", "a", "1"}, {"a", "a", ""},
		{"a=", "a", ""},       {"&&a=1", "a", "1"},
		{"a=b=c", "a", "b=c"}, {"a=%41+b%2B", "a", "A b+"},
		{"%61=x", "a", "x"},   {"aa=1&a=2", "a", "2"},
		{"", "a", NULL},       {"b=1", "a", NULL},
		{"ab=1", "a", NULL},   {"A=1", "a", NULL},
		{"a%00=1", "a", NULL}, {"a=%4", "a", NULL},
		{"a=%", "a", NULL},    {"a=x%g1", "a", NULL},
		{"a=%1g", "a", NULL},  {"%=1", "a", NULL},
	};

	(void)unused;
	for (size_t i = 0; i < COUNT(table); i++) {
		struct buffer out = {0};

		buffer_append_str(&out, "kept ");
		assert_int_equal(http_query_get(slice_str(table[i].query), table[i].name, &out),
				 table[i].value != NULL);
		assert_memory_equal(out.data, "kept ", 5);
		assert_true(slice_is(slice_from(out.data + 5, out.len - 5),
				     table[i].value != NULL ? table[i].value : ""));
		buffer_free(&out);
	}
}

static void test_paths(void **unused)
{
	static const struct {
		const char *path, *decoded;
	} table[] = {
		{"/", "/"},
		{"/a/b.html", "/a/b.html"},
		{"/a%20b+c", "/a b+c"},
		{"/%c3%A9", "/\xc3\xa9"},
		{"/..a/a../...", "/..a/a../..."},
		{"/./a", "/./a"},
		{"", NULL},
		{"a", NULL},
		{"*", NULL},
		{"/..", NULL},
		{"/../a", NULL},
		{"/a/../b", NULL},
		{"/a/..", NULL},
		{"/%2e%2e/a", NULL},
		{"/.%2E/a", NULL},
		{"/a%2f..%2fb", NULL},
		{"/a%2F..", NULL},
		{"%2e%2e/a", NULL},
		{"/a%00.html", NULL},
		{"/a%0ab", NULL},
		{"/a%7f", NULL},
		{"/a%", NULL},
		{"/a%4", NULL},
		{"/a%zz", NULL},
	};

	(void)unused;
	for (size_t i = 0; i < COUNT(table); i++) {
		struct buffer out = {0};

		buffer_append_str(&out, "/root");
		if (http_path_decode(slice_str(table[i].path), &out) != (table[i].decoded != NULL))
			fail_msg("%s", table[i].path);
		assert_memory_equal(out.data, "/root", 5);
		assert_true(slice_is(slice_from(out.data + 5, out.len - 5),
				     table[i].decoded != NULL ? table[i].decoded : ""));
		buffer_free(&out);
	}
	/* Decoding happens once: what it uncovers is not decoded again. */
	struct buffer out = {0};

	assert_true(http_path_decode(SLICE("/%252e%252e/"), &out));
	assert_true(slice_is(buffer_slice(&out), "/%2e%2e/"));
	buffer_free(&out);
}

/* Splits off one line; the text must be there and end in CRLF. */
static struct slice next_line(struct slice *text)
{
	const char *end = memmem(text->data, text->len, "\r\n", 2);
	struct slice line;

	assert_non_null(end);
	line = slice_from(text->data, (size_t)(end - text->data));
	*text = slice_from(end + 2, text->len - line.len - 2);
	return line;
}

static void assert_date(struct slice line)
{
	/* Date: Sun, 06 Nov 1994 08:49:37 GMT */
	static const char form[] = "Date: Aaa, 00 Aaa 0000 00:00:00 GMT";

	assert_int_equal(line.len, sizeof(form) - 1);
	for (size_t i = 0; i < line.len; i++) {
		if (form[i] == '0')
			assert_in_range(line.data[i], '0', '9');
		else if (i > 5 && i < 20 && (form[i] == 'A' || form[i] == 'a'))
			assert_in_range(line.data[i] | 0x20, 'a', 'z');
		else
			assert_int_equal(line.data[i], form[i]);
	}
}

static void test_response(void **unused)
{
	struct buffer out = {0};
	struct slice rest;

	(void)unused;
	http_response(&out, 200, "text/plain", SLICE("body\n"), true, "X-One: 1\r\nX-Two: 2\r\n");
	rest = buffer_slice(&out);
	assert_true(slice_is(next_line(&rest), "HTTP/1.1 200 OK"));
	assert_date(next_line(&rest));
	assert_true(slice_is(rest, "Content-Type: text/plain\r\nContent-Length: 5\r\n"
				   "Connection: keep-alive\r\nX-One: 1\r\nX-Two: 2\r\n\r\nbody\n"));
	buffer_reset(&out);
	http_response(&out, 503, NULL, SLICE(""), false, NULL);
	rest = buffer_slice(&out);
	assert_true(slice_is(next_line(&rest), "HTTP/1.1 503 Service Unavailable"));
	assert_date(next_line(&rest));
	assert_true(slice_is(rest, "Content-Length: 0\r\nConnection: close\r\n\r\n"));
	buffer_free(&out);
}

static void test_response_without_body(void **unused)
{
	struct buffer out = {0};
	struct slice rest;

	(void)unused;
	http_response_head(&out, 200, "text/html", 1234, true, NULL);
	rest = buffer_slice(&out);
	next_line(&rest);
	next_line(&rest);
	assert_true(slice_is(rest, "Content-Type: text/html\r\nContent-Length: 1234\r\n"
				   "Connection: keep-alive\r\n\r\n"));
	buffer_reset(&out);
	http_response(&out, 204, NULL, SLICE("ignored"), true, NULL);
	rest = buffer_slice(&out);
	next_line(&rest);
	next_line(&rest);
	assert_true(slice_is(rest, "Connection: keep-alive\r\n\r\n"));
	buffer_free(&out);
}

static void test_every_status_of_the_parser_has_a_text(void **unused)
{
	static const int statuses[] = {400, 405, 413, 414, 417, 426, 431, 500, 501, 503, 505};

	(void)unused;
	for (size_t i = 0; i < COUNT(statuses); i++)
		assert_string_not_equal(http_status_text(statuses[i]), "Unknown");
	assert_string_equal(http_status_text(799), "Unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_chunked_at_every_cut),
		cmocka_unit_test(test_chunked_byte_by_byte),
		cmocka_unit_test(test_chunked_ends_and_stays_ended),
		cmocka_unit_test(test_chunked_overhead_is_bounded),
		cmocka_unit_test(test_body_by_length),
		cmocka_unit_test(test_body_absent),
		cmocka_unit_test(test_body_in_chunks),
		cmocka_unit_test(test_query_parameters),
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_response),
		cmocka_unit_test(test_response_without_body),
		cmocka_unit_test(test_every_status_of_the_parser_has_a_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

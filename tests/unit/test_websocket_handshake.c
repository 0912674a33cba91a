/* SPDX-License-Identifier: ISC */
/*
 * The opening handshake (RFC 6455 §4), what a server writes, and the client's
 * half that keepsock-bench uses, each checked against the other.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "keepsock/buffer.h"
#include "keepsock/http.h"
#include "keepsock/utf8.h"
#include "keepsock/websocket.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define KEY          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define VERSION      "Sec-WebSocket-Version: 13\r\n"
#define UPGRADE      "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
#define GET          "GET /chat HTTP/1.1\r\nHost: server.example.com\r\n"

static struct http_request parse(const char *head)
{
	struct http_request request;
	size_t consumed;
	int status;

	assert_int_equal(http_parse_head(slice_str(head), 4096, &request, &consumed, &status),
			 HTTP_COMPLETE);
	return request;
}

static void test_accept_key(void **unused)
{
	char accept[29];

	(void)unused;
	/* The example of §1.3. */
	assert_true(websocket_accept_key(SLICE("dGhlIHNhbXBsZSBub25jZQ=="), accept));
	assert_string_equal(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
	assert_false(websocket_accept_key(SLICE("short"), accept));
}

static void test_upgrade_requests(void **unused)
{
	static const struct {
		const char *head;
		int status;
	} table[] = {
		{GET UPGRADE KEY VERSION "\r\n", 0},
		{GET UPGRADE KEY VERSION "Origin: http://example.com\r\n\r\n", 0},
		{GET UPGRADE KEY VERSION "Content-Length: 0\r\n\r\n", 0},
		{"GET / HTTP/1.1\r\nhost: a\r\nupgrade: WEBSOCKET\r\nconnection: UPGRADE\r\n"
		 "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\nsec-websocket-version: 13\r\n\r\n",
		 0},
		/* §4.1 1, 2: GET of at least HTTP/1.1. */
		{"POST / HTTP/1.1\r\nHost: a\r\n" UPGRADE KEY VERSION "\r\n", 405},
		{"HEAD / HTTP/1.1\r\nHost: a\r\n" UPGRADE KEY VERSION "\r\n", 405},
		{"GET / HTTP/1.0\r\nHost: a\r\n" UPGRADE KEY VERSION "\r\n", 426},
		/* 5, 6: Upgrade and Connection. */
		{GET KEY VERSION "\r\n", 426},
		{GET "Upgrade: websocket\r\n" KEY VERSION "\r\n", 426},
		{GET "Connection: Upgrade\r\n" KEY VERSION "\r\n", 426},
		{GET "Connection: Upgrade\r\nUpgrade: h2c\r\n" KEY VERSION "\r\n", 426},
		/* 7: a key of 16 bytes, once. */
		{GET UPGRADE VERSION "\r\n", 400},
		{GET UPGRADE KEY KEY VERSION "\r\n", 400},
		{GET UPGRADE VERSION "Sec-WebSocket-Key:\r\n\r\n", 400},
		{GET UPGRADE VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j\r\n\r\n", 400},
		{GET UPGRADE VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=\r\n\r\n", 400},
		{GET UPGRADE VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQAB\r\n\r\n", 400},
		{GET UPGRADE VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQA=\r\n\r\n", 400},
		{GET UPGRADE VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25-ZQ==\r\n\r\n", 400},
		{GET UPGRADE VERSION "Sec-WebSocket-Key: dGhlIHNhbXBs@SBub25jZQ==\r\n\r\n", 400},
		/* 9: version 13, once. */
		{GET UPGRADE KEY "\r\n", 426},
		{GET UPGRADE KEY "Sec-WebSocket-Version: 8\r\n\r\n", 426},
		{GET UPGRADE KEY "Sec-WebSocket-Version: 130\r\n\r\n", 426},
		{GET UPGRADE KEY "Sec-WebSocket-Version: 13, 8\r\n\r\n", 426},
		{GET UPGRADE KEY VERSION VERSION "\r\n", 400},
		/* A body would be taken for frames; two origins for either. */
		{GET UPGRADE KEY VERSION "Content-Length: 1\r\n\r\n", 400},
		{GET UPGRADE KEY VERSION "Transfer-Encoding: chunked\r\n\r\n", 400},
		{GET UPGRADE KEY VERSION "Origin: http://a\r\nOrigin: http://b\r\n\r\n", 400},
	};

	(void)unused;
	for (size_t i = 0; i < COUNT(table); i++) {
		struct http_request request = parse(table[i].head);
		char accept[29];

		if (websocket_check_upgrade(&request, accept) != table[i].status)
			fail_msg("not %d: %s", table[i].status, table[i].head);
		if (table[i].status == 0)
			assert_int_equal(strlen(accept), 28);
	}
}

static void test_upgrade_response(void **unused)
{
	struct buffer out = {0};

	(void)unused;
	websocket_append_upgrade(&out, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", NULL, SLICE(""));
	assert_string_equal(buffer_cstr(&out),
			    "HTTP/1.1 101 Switching Protocols\r\n"
			    "Upgrade: websocket\r\nConnection: Upgrade\r\n"
			    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n");
	buffer_reset(&out);
	websocket_append_upgrade(&out, "k", "chat", SLICE("x; y=1"));
	assert_non_null(strstr(buffer_cstr(&out), "\r\nSec-WebSocket-Protocol: chat\r\n"
						  "Sec-WebSocket-Extensions: x; y=1\r\n\r\n"));
	buffer_free(&out);
}

static void test_sub_protocols(void **unused)
{
	struct http_request request = parse(GET "Sec-WebSocket-Protocol: chat, superchat\r\n"
						"sec-websocket-protocol: other\r\n\r\n");

	(void)unused;
	assert_true(websocket_protocol_offered(&request, "chat"));
	assert_true(websocket_protocol_offered(&request, "superchat"));
	assert_true(websocket_protocol_offered(&request, "other"));
	assert_false(websocket_protocol_offered(&request, "Chat"));
	assert_false(websocket_protocol_offered(&request, "super"));
	request = parse(GET "\r\n");
	assert_false(websocket_protocol_offered(&request, "chat"));
}

static void test_server_headers(void **unused)
{
	static const struct {
		uint64_t length;
		struct slice header;
	} table[] = {
		{0, SLICE("\x81\x00")},
		{125, SLICE("\x81\x7d")},
		{126, SLICE("\x81\x7e\x00\x7e")},
		{65535, SLICE("\x81\x7e\xff\xff")},
		{65536, SLICE("\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00")},
		{UINT64_C(0x0102030405060708), SLICE("\x81\x7f\x01\x02\x03\x04\x05\x06\x07\x08")},
	};

	(void)unused;
	for (size_t i = 0; i < COUNT(table); i++) {
		uint8_t header[10];
		size_t len = websocket_write_header(header, WEBSOCKET_TEXT, table[i].length);
		struct websocket_server_frame frame;
		enum websocket_event event =
			websocket_parse_server_frame(slice_from(header, len), &frame);

		assert_true(slice_equal(slice_from(header, len), table[i].header));
		assert_int_equal(event,
				 table[i].length == 0 ? WEBSOCKET_DATA : WEBSOCKET_NEED_MORE);
		assert_int_equal(frame.header_length, len);
		assert_int_equal(frame.payload_length, table[i].length);
	}
}

static void test_server_frame_comes_back_at_the_client(void **unused)
{
	static const char payload[70000] = "payload";
	static const size_t lengths[] = {0, 1, 125, 126, 65535, 65536, sizeof(payload)};
	struct buffer out = {0};

	(void)unused;
	for (size_t i = 0; i < COUNT(lengths); i++) {
		struct websocket_server_frame frame;

		buffer_reset(&out);
		websocket_append_frame(&out, WEBSOCKET_BINARY, slice_from(payload, lengths[i]));
		buffer_append_str(&out, "next");
		assert_int_equal(websocket_parse_server_frame(buffer_slice(&out), &frame),
				 WEBSOCKET_DATA);
		assert_int_equal(frame.opcode, WEBSOCKET_BINARY);
		assert_true(frame.fin);
		assert_true(slice_equal(frame.payload, slice_from(payload, lengths[i])));
		assert_int_equal(frame.consumed, out.len - 4);
	}
	buffer_free(&out);
}

static void test_client_waits_for_the_whole_frame(void **unused)
{
	struct slice stream = SLICE("\x89\x02hi");
	struct websocket_server_frame frame;

	(void)unused;
	for (size_t len = 0; len < stream.len; len++) {
		assert_int_equal(websocket_parse_server_frame(slice_from(stream.data, len), &frame),
				 WEBSOCKET_NEED_MORE);
		assert_int_equal(frame.header_length, len < 2 ? 0 : 2);
	}
	assert_int_equal(websocket_parse_server_frame(stream, &frame), WEBSOCKET_CONTROL);
	assert_int_equal(frame.opcode, WEBSOCKET_PING);
	assert_true(slice_is(frame.payload, "hi"));
}

static void test_client_refuses_what_no_server_may_send(void **unused)
{
	static const struct slice bad[] = {
		SLICE("\x81\x80"),
		SLICE("\xc1"),
		SLICE("\x83"),
		SLICE("\x8b"),
		SLICE("\x09"),
		SLICE("\x89\x7e"),
		SLICE("\x81\x7e\x00\x7d"),
		SLICE("\x89\x7f"),
		SLICE("\x81\x7f\x00\x00\x00\x00\x00\x00\xff\xff"),
		SLICE("\x81\x7f\x80\x00\x00\x00\x00\x00\x00\x00"),
	};
	struct websocket_server_frame frame;

	(void)unused;
	for (size_t i = 0; i < COUNT(bad); i++)
		assert_int_equal(websocket_parse_server_frame(bad[i], &frame), WEBSOCKET_ERROR);
}

static struct slice close_frame(struct buffer *out, uint16_t code, const char *reason)
{
	struct websocket_server_frame frame;

	buffer_reset(out);
	websocket_append_close(out, code, reason);
	assert_int_equal(websocket_parse_server_frame(buffer_slice(out), &frame),
			 WEBSOCKET_CONTROL);
	assert_int_equal(frame.opcode, WEBSOCKET_CLOSE);
	assert_int_equal(frame.consumed, out->len);
	return frame.payload;
}

static void test_close_frames(void **unused)
{
	struct buffer out = {0};

	(void)unused;
	assert_true(slice_equal(close_frame(&out, 1002, "why"), SLICE("\x03\xeawhy")));
	assert_true(slice_equal(close_frame(&out, 3501, NULL), SLICE("\x0d\xad")));
	assert_true(slice_equal(close_frame(&out, 1000, ""), SLICE("\x03\xe8")));
	/* What must not be on the wire becomes a close without a code. */
	assert_int_equal(close_frame(&out, WEBSOCKET_CLOSE_NO_STATUS, "why").len, 0);
	assert_int_equal(close_frame(&out, 1006, "why").len, 0);
	assert_int_equal(close_frame(&out, 0, NULL).len, 0);
	buffer_free(&out);
}

static void test_long_close_reason_is_cut_between_characters(void **unused)
{
	struct buffer out = {0}, reason = {0};

	(void)unused;
	for (size_t shift = 0; shift < 8; shift++) {
		struct slice payload;

		buffer_reset(&reason);
		for (size_t i = 0; i < shift; i++)
			buffer_append_str(&reason, "a");
		for (size_t i = 0; i < 40; i++)
			buffer_append_str(&reason, "\xf0\x9f\x98\x80");
		payload = close_frame(&out, 1000, buffer_cstr(&reason));
		assert_in_range(payload.len, 2 + 120, WEBSOCKET_CONTROL_LIMIT);
		assert_true(utf8_valid(payload.data + 2, payload.len - 2));
		assert_memory_equal(payload.data + 2, reason.data, payload.len - 2);
	}
	buffer_free(&out);
	buffer_free(&reason);
}

static void test_mask_is_exact_at_every_length_and_phase(void **unused)
{
	static const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};

	(void)unused;
	for (size_t len = 0; len < 70; len++) {
		uint8_t *in = malloc(len + 1), *out = malloc(len + 1);

		assert_non_null(in);
		assert_non_null(out);
		for (size_t i = 0; i < len; i++)
			in[i] = (uint8_t)(i * 7);
		for (unsigned phase = 0; phase < 4; phase++) {
			out[len] = 0x55;
			assert_int_equal(websocket_mask(out, in, len, mask, phase),
					 (phase + len) % 4);
			for (size_t i = 0; i < len; i++)
				assert_int_equal(out[i], (uint8_t)(i * 7) ^ mask[(phase + i) % 4]);
			assert_int_equal(out[len], 0x55);
		}
		websocket_mask(out, in, len, mask, 0);
		websocket_mask(out, out, len, mask, 0);
		assert_memory_equal(in, out, len);
		free(in);
		free(out);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_accept_key),
		cmocka_unit_test(test_upgrade_requests),
		cmocka_unit_test(test_upgrade_response),
		cmocka_unit_test(test_sub_protocols),
		cmocka_unit_test(test_server_headers),
		cmocka_unit_test(test_server_frame_comes_back_at_the_client),
		cmocka_unit_test(test_client_waits_for_the_whole_frame),
		cmocka_unit_test(test_client_refuses_what_no_server_may_send),
		cmocka_unit_test(test_close_frames),
		cmocka_unit_test(test_long_close_reason_is_cut_between_characters),
		cmocka_unit_test(test_mask_is_exact_at_every_length_and_phase),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

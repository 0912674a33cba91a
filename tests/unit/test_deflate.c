/* SPDX-License-Identifier: ISC */
/*
 * permessage-deflate: the examples of RFC 7692, what must be refused, the
 * bounds, and the negotiation. zlib itself, used directly, is the peer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#define ZLIB_CONST
#include <zlib.h>

#include "keepsock/buffer.h"
#include "keepsock/deflate.h"
#include "keepsock/http.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define LIMIT        65536u

static int setup(void **state)
{
	*state = deflate_create(1);
	return *state ? 0 : -1;
}

static int teardown(void **state)
{
	deflate_free(*state);
	return 0;
}

/* Decompresses behind something that must stay as it is. */
static enum inflate_verdict decompress(struct deflate *deflate, struct slice payload, size_t limit,
				       struct buffer *out)
{
	enum inflate_verdict verdict;
	struct buffer behind = {0};
	/* Exactly as long as promised, so that a sanitizer sees a byte more. */
	char *exact = malloc(payload.len > 0 ? payload.len : 1);

	assert_non_null(exact);
	memcpy(exact, payload.data, payload.len);
	buffer_append_str(&behind, "before");
	verdict = deflate_decompress(deflate, slice_from(exact, payload.len), limit, &behind);
	assert_memory_equal(behind.data, "before", 6);
	if (verdict != INFLATE_OK)
		assert_int_equal(behind.len, 6);
	buffer_reset(out);
	buffer_append(out, behind.data + 6, behind.len - 6);
	buffer_free(&behind);
	free(exact);
	return verdict;
}

/* ---- decompression ---- */

static void test_examples_of_the_rfc(void **state)
{
	static const struct {
		struct slice payload, message;
	} table[] = {
		/* §7.2.3.1 one block; §7.2.3.3 not compressed; §7.2.3.4 a final block; §7.2.3.5 two
		 * blocks; §7.2.3.6 empty. */
		{SLICE("\xf2\x48\xcd\xc9\xc9\x07\x00"), SLICE("Hello")},
		{SLICE("\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00"), SLICE("Hello")},
		{SLICE("\xf3\x48\xcd\xc9\xc9\x07\x00\x00"), SLICE("Hello")},
		{SLICE("\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"), SLICE("Hello")},
		{SLICE("\x00"), SLICE("")},
		/* Nothing at all, and a final block without a flush behind it: zlib's users send
		   it. */
		{SLICE(""), SLICE("")},
		{SLICE("\xf3\x48\xcd\xc9\xc9\x07\x00"), SLICE("Hello")},
		/* Final blocks one after the other. */
		{SLICE("\xf3\x48\xcd\xc9\xc9\x07\x00\xf3\x48\xcd\xc9\xc9\x07\x00\x00"),
		 SLICE("HelloHello")},
	};
	struct buffer out = {0};

	for (size_t i = 0; i < COUNT(table); i++) {
		assert_int_equal(decompress(*state, table[i].payload, 100, &out), INFLATE_OK);
		assert_true(slice_equal(buffer_slice(&out), table[i].message));
	}
	buffer_free(&out);
}

static void test_no_message_refers_to_the_one_before(void **state)
{
	struct buffer out = {0};

	/* §7.2.3.2: the second "Hello" of a sender with context takeover. */
	assert_int_equal(decompress(*state, SLICE("\xf2\x48\xcd\xc9\xc9\x07\x00"), 100, &out),
			 INFLATE_OK);
	assert_int_equal(decompress(*state, SLICE("\xf2\x00\x11\x00\x00"), 100, &out),
			 INFLATE_INVALID);
	buffer_free(&out);
}

/* A JSON-like text of about `length` bytes. */
static void make_text(struct buffer *text, size_t length, uint32_t seed)
{
	buffer_reset(text);
	while (text->len < length) {
		seed = seed * 1103515245u + 12345u;
		buffer_printf(text, "{\"id\":%u,\"channel\":\"news:%u\"}", seed >> 8, seed % 7);
	}
	text->len = length;
}

static void test_cut_messages_are_refused(void **state)
{
	struct buffer text = {0}, payload = {0}, out = {0};

	make_text(&text, 700, 1);
	assert_true(deflate_compress(*state, buffer_slice(&text), &payload));
	for (size_t length = 1; length < payload.len; length++)
		assert_int_equal(decompress(*state, slice_from(payload.data, length), LIMIT, &out),
				 INFLATE_INVALID);
	assert_int_equal(decompress(*state, buffer_slice(&payload), LIMIT, &out), INFLATE_OK);
	assert_true(slice_equal(buffer_slice(&out), buffer_slice(&text)));
	buffer_free(&text);
	buffer_free(&payload);
	buffer_free(&out);
}

static void test_what_is_not_deflate_is_refused(void **state)
{
	static const struct slice table[] = {
		SLICE("\xff"),                         /* block type 3 */
		SLICE("\x07"),                         /* the same */
		SLICE("Hello"),                        /* not compressed */
		SLICE("\x00\x05\x00\xfa\xfe\x48\x00"), /* lengths that contradict each other */
		SLICE("\xf2\x48\xcd\xc9\xc9\x07"),     /* the header of the flush is missing */
		SLICE("\xf3\x48\xcd\xc9\xc9\x07\x00\xff"),
	};
	struct buffer out = {0};

	for (size_t i = 0; i < COUNT(table); i++)
		assert_int_equal(decompress(*state, table[i], 100, &out), INFLATE_INVALID);
	buffer_free(&out);
}

static void test_noise_is_bounded(void **state)
{
	struct buffer out = {0};
	uint32_t seed = 7;
	char noise[200];

	for (int round = 0; round < 20000; round++) {
		for (size_t i = 0; i < sizeof(noise); i++) {
			seed = seed * 1103515245u + 12345u;
			noise[i] = (char)(seed >> 16);
		}
		decompress(*state, slice_from(noise, seed % sizeof(noise)), 1000, &out);
		assert_in_range(out.len, 0, 1000);
	}
	buffer_free(&out);
}

static void test_bombs(void **state)
{
	const size_t length = 64u << 20;
	struct buffer zeros = {0}, payload = {0}, out = {0};

	memset(buffer_reserve(&zeros, length), 0, length);
	zeros.len = length;
	assert_true(deflate_compress(*state, buffer_slice(&zeros), &payload));
	/* One for a thousand; a KiB more than allowed is never made. */
	assert_in_range(payload.len, 1, length / 200);
	for (size_t limit = 0; limit < 100000; limit = limit * 3 + 1) {
		assert_int_equal(deflate_decompress(*state, buffer_slice(&payload), limit, &out),
				 INFLATE_TOO_BIG);
		assert_int_equal(out.len, 0);
		assert_in_range(out.cap, 0, 2 * limit + 4096);
	}
	buffer_free(&zeros);
	buffer_free(&payload);
	buffer_free(&out);
}

static void test_the_limit_is_exact(void **state)
{
	struct buffer text = {0}, payload = {0}, out = {0};

	for (size_t length = 200; length < 10000; length += 1399) {
		make_text(&text, length, (uint32_t)length);
		buffer_reset(&payload);
		assert_true(deflate_compress(*state, buffer_slice(&text), &payload));
		assert_int_equal(decompress(*state, buffer_slice(&payload), length, &out),
				 INFLATE_OK);
		assert_int_equal(out.len, length);
		assert_int_equal(decompress(*state, buffer_slice(&payload), length - 1, &out),
				 INFLATE_TOO_BIG);
	}
	buffer_free(&text);
	buffer_free(&payload);
	buffer_free(&out);
}

/* ---- compression ---- */

/* What a peer with this window reads of our payload; -1: it can't. */
static long read_with_window(struct slice payload, unsigned window_bits, char *out, size_t room)
{
	z_stream z = {0};
	int result;

	assert_int_equal(inflateInit2(&z, -(int)window_bits), Z_OK);
	z.next_out = (Bytef *)out;
	z.avail_out = (uInt)room;
	z.next_in = (const Bytef *)payload.data;
	z.avail_in = (uInt)payload.len;
	/* Byte by byte, so that it can't look back into its output instead of its window. */
	do {
		uInt left = z.avail_out;

		z.avail_out = left > 0 ? 1 : 0;
		result = inflate(&z, Z_SYNC_FLUSH);
		z.avail_out = left - (z.avail_out == 0 ? 1 : 0);
	} while (result == Z_OK && z.avail_out > 0 && (z.avail_in > 0 || z.avail_out < room));
	inflateEnd(&z);
	return result == Z_OK || result == Z_BUF_ERROR ? (long)(room - z.avail_out) : -1;
}

static void test_the_smallest_window_reads_a_short_message(void **state)
{
	struct buffer text = {0}, payload = {0};
	char *out = malloc(LIMIT + 1);

	assert_non_null(out);
	for (size_t length = 130; length <= LIMIT; length = length * 5 / 4) {
		unsigned bits = deflate_window_bits_for(length);

		make_text(&text, length, 3);
		/* The end repeats the beginning: as far back as anything can refer. */
		memcpy(text.data + length - 60, text.data, 60);
		buffer_reset(&payload);
		assert_true(deflate_compress(*state, buffer_slice(&text), &payload));
		assert_int_equal(read_with_window(buffer_slice(&payload), bits, out, length + 1),
				 length);
		assert_memory_equal(out, text.data, length);
	}
	buffer_free(&text);
	buffer_free(&payload);
	free(out);
}

static void test_window_bits_for_a_length(void **unused)
{
	(void)unused;
	assert_int_equal(deflate_window_bits_for(0), 8);
	assert_int_equal(deflate_window_bits_for(256), 8);
	assert_int_equal(deflate_window_bits_for(257), 9);
	assert_int_equal(deflate_window_bits_for(16384), 14);
	assert_int_equal(deflate_window_bits_for(16385), 15);
	assert_int_equal(deflate_window_bits_for(1u << 30), 15);
}

static void test_what_would_not_be_shorter_is_left(void **state)
{
	struct buffer out = {0};
	char noise[2000];
	uint32_t seed = 1;

	buffer_append_str(&out, "before");
	for (size_t i = 0; i < sizeof(noise); i++) {
		seed = seed * 1103515245u + 12345u;
		noise[i] = (char)(seed >> 16);
	}
	for (size_t length = 0; length < sizeof(noise); length += 37)
		assert_false(deflate_compress(*state, slice_from(noise, length), &out));
	assert_false(deflate_compress(*state, SLICE("{}"), &out));
	assert_true(slice_is(buffer_slice(&out), "before"));
	/* And nothing of a refused one is left in the next. */
	assert_true(deflate_compress(*state, SLICE("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"), &out));
	buffer_consume(&out, 6);
	assert_int_equal(read_with_window(buffer_slice(&out), 8, noise, 100), 32);
	assert_memory_equal(noise, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 32);
	buffer_free(&out);
}

static void test_the_longest_payload_of_a_message(void **state)
{
	/* Nothing but fixed codes, all of 9 bits: as bad as a fair sender can be. */
	char message[4000], payload[8000];
	struct buffer out = {0};
	z_stream z = {0};
	size_t length;

	memset(message, '\xf0', sizeof(message));
	for (size_t i = 0; i < sizeof(message); i++)
		message[i] = (char)(144 + i * 7 % 112);
	assert_int_equal(deflateInit2(&z, 1, Z_DEFLATED, -15, 8, Z_FIXED), Z_OK);
	deflateParams(&z, 1, Z_FIXED);
	z.next_in = (const Bytef *)message;
	z.avail_in = sizeof(message);
	z.next_out = (Bytef *)payload;
	z.avail_out = sizeof(payload);
	assert_int_equal(deflate(&z, Z_SYNC_FLUSH), Z_OK);
	length = sizeof(payload) - z.avail_out - 4;
	deflateEnd(&z);
	assert_in_range(length, 1, deflate_payload_limit(sizeof(message)));
	assert_int_equal(decompress(*state, slice_from(payload, length), sizeof(message), &out),
			 INFLATE_OK);
	assert_memory_equal(out.data, message, sizeof(message));
	buffer_free(&out);
}

/* ---- negotiation ---- */

#define HEAD                                                                         \
	"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" \
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
#define OFFER "Sec-WebSocket-Extensions: "
#define BOTH  "permessage-deflate; server_no_context_takeover; client_no_context_takeover"

/* The answer to these header lines, "" for none. */
static void assert_answer(const char *lines, const char *expected)
{
	struct deflate_agreement agreement;
	struct buffer head = {0}, answer = {0};
	struct http_request request;
	size_t consumed;
	int status;

	buffer_printf(&head, HEAD "%s\r\n", lines);
	assert_int_equal(http_parse_head(buffer_slice(&head), 4096, &request, &consumed, &status),
			 HTTP_COMPLETE);
	if (deflate_negotiate(&request, &agreement)) {
		assert_in_range(agreement.server_window_bits, 8, 15);
		deflate_append_agreement(&answer, &agreement);
	}
	if (strcmp(buffer_cstr(&answer), expected) != 0)
		fail_msg("%s gives \"%s\", not \"%s\"", lines, buffer_cstr(&answer), expected);
	buffer_free(&head);
	buffer_free(&answer);
}

static void test_acceptable_offers(void **unused)
{
	(void)unused;
	assert_answer(OFFER "permessage-deflate\r\n", BOTH);
	/* As browsers and the usual libraries ask. */
	assert_answer(OFFER "permessage-deflate; client_max_window_bits\r\n", BOTH);
	assert_answer(OFFER "permessage-deflate; server_no_context_takeover; "
			    "client_no_context_takeover\r\n",
		      BOTH);
	assert_answer("sec-websocket-extensions:permessage-deflate;client_max_window_bits=10\r\n",
		      BOTH);
	assert_answer(OFFER "permessage-deflate ; server_max_window_bits = 10\r\n",
		      BOTH "; server_max_window_bits=10");
	assert_answer(OFFER "permessage-deflate; server_max_window_bits=\"8\"\r\n",
		      BOTH "; server_max_window_bits=8");
	assert_answer(OFFER "permessage-deflate; server_max_window_bits=15\r\n",
		      BOTH "; server_max_window_bits=15");
	/* Among others, and the first that will do. */
	assert_answer(OFFER "x-webkit-deflate-frame, foo; bar=\"1\", permessage-deflate\r\n", BOTH);
	assert_answer(OFFER "permessage-deflate; unknown, permessage-deflate; "
			    "server_max_window_bits=9, permessage-deflate\r\n",
		      BOTH "; server_max_window_bits=9");
	assert_answer(OFFER "foo\r\n" OFFER "permessage-deflate; server_max_window_bits=11\r\n",
		      BOTH "; server_max_window_bits=11");
}

static void test_unacceptable_offers(void **unused)
{
	static const char *const lines[] = {
		"",
		OFFER "\r\n",
		OFFER "permessage-bzip2\r\n",
		OFFER "x-permessage-deflate\r\n",
		OFFER "permessage-deflate;\r\n",
		OFFER "permessage-deflate; unknown\r\n",
		OFFER "permessage-deflate; server_no_context_takeover=1\r\n",
		OFFER "permessage-deflate; client_no_context_takeover=\r\n",
		OFFER "permessage-deflate; server_max_window_bits\r\n",
		OFFER "permessage-deflate; server_max_window_bits=\r\n",
		OFFER "permessage-deflate; server_max_window_bits=7\r\n",
		OFFER "permessage-deflate; server_max_window_bits=16\r\n",
		OFFER "permessage-deflate; server_max_window_bits=010\r\n",
		OFFER "permessage-deflate; server_max_window_bits=+9\r\n",
		OFFER "permessage-deflate; server_max_window_bits=1\"0\"\r\n",
		OFFER "permessage-deflate; client_max_window_bits=\r\n",
		OFFER "permessage-deflate; client_max_window_bits=abc\r\n",
		OFFER "permessage-deflate; client_max_window_bits=16\r\n",
		OFFER "permessage-deflate; client_max_window_bits; client_max_window_bits\r\n",
		OFFER "permessage-deflate; server_no_context_takeover; "
		      "server_no_context_takeover\r\n",
	};

	(void)unused;
	for (size_t i = 0; i < COUNT(lines); i++)
		assert_answer(lines[i], "");
}

int main(void)
{
#define WITH_STREAMS(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		WITH_STREAMS(test_examples_of_the_rfc),
		WITH_STREAMS(test_no_message_refers_to_the_one_before),
		WITH_STREAMS(test_cut_messages_are_refused),
		WITH_STREAMS(test_what_is_not_deflate_is_refused),
		WITH_STREAMS(test_noise_is_bounded),
		WITH_STREAMS(test_bombs),
		WITH_STREAMS(test_the_limit_is_exact),
		WITH_STREAMS(test_the_smallest_window_reads_a_short_message),
		cmocka_unit_test(test_window_bits_for_a_length),
		WITH_STREAMS(test_what_would_not_be_shorter_is_left),
		WITH_STREAMS(test_the_longest_payload_of_a_message),
		cmocka_unit_test(test_acceptable_offers),
		cmocka_unit_test(test_unacceptable_offers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

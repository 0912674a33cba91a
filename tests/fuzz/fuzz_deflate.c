/* SPDX-License-Identifier: ISC */
/*
 * Fuzz target for permessage-deflate. The first byte chooses the limit or the
 * level, the rest is
 *
 *	0..7f	the payload of a compressed message: bounded, no more bytes than
 *		allowed, and nothing of it left for the next message
 *	80..ff	a message: what we compress of it is shorter and comes back the same
 *
 * and, in both cases, an offer in Sec-WebSocket-Extensions.
 */
#include "fuzz.h"
#include "keepsock/deflate.h"
#include "keepsock/http.h"

#define LIMIT_UNIT 97u /* no power of two: the limit cuts blocks anywhere */

/* "Hello" of RFC 7692 §7.2.3.1. */
static const struct slice hello = {"\xf2\x48\xcd\xc9\xc9\x07\x00", 7};

/* One message after another, from a clean state each time. */
static void check_next_message(struct deflate *streams)
{
	struct buffer out = {0};

	require(deflate_decompress(streams, hello, 5, &out) == INFLATE_OK);
	require(slice_is(buffer_slice(&out), "Hello"));
	buffer_free(&out);
}

static void check_decompress(struct deflate *streams, struct slice payload, size_t limit)
{
	struct buffer out = {0}, again = {0};
	enum inflate_verdict verdict;

	buffer_append_str(&out, "before");
	verdict = deflate_decompress(streams, payload, limit, &out);
	require(memcmp(out.data, "before", 6) == 0);
	require(verdict == INFLATE_OK ? out.len <= limit + 6 : out.len == 6);
	check_next_message(streams);
	require(deflate_decompress(streams, payload, limit, &again) == verdict);
	require(slice_equal(buffer_slice(&again), slice_from(out.data + 6, out.len - 6)));
	if (verdict == INFLATE_OK && again.len > 0) {
		size_t length = again.len;

		/* Exactly as much as comes out is enough; one byte less is not. */
		buffer_reset(&again);
		require(deflate_decompress(streams, payload, length, &again) == INFLATE_OK);
		require(deflate_decompress(streams, payload, length - 1, &again) ==
			INFLATE_TOO_BIG);
		require(again.len == length);
	}
	buffer_free(&out);
	buffer_free(&again);
}

static void check_round_trip(struct deflate *streams, struct slice message)
{
	struct buffer payload = {0}, back = {0};

	buffer_append_str(&payload, "before");
	if (deflate_compress(streams, message, &payload)) {
		struct slice compressed = slice_from(payload.data + 6, payload.len - 6);

		require(compressed.len < message.len);
		require(deflate_decompress(streams, compressed, message.len, &back) == INFLATE_OK);
		require(slice_equal(buffer_slice(&back), message));
	} else {
		require(payload.len == 6);
	}
	check_next_message(streams);
	buffer_free(&payload);
	buffer_free(&back);
}

static void check_agreement(struct slice value)
{
	struct buffer head = {0}, answer = {0};
	struct http_request request;
	struct deflate_agreement agreement;
	size_t consumed;
	int status;

	buffer_append_str(&head, "GET / HTTP/1.1\r\nHost: h\r\nSec-WebSocket-Extensions: ");
	buffer_append_slice(&head, value);
	buffer_append_str(&head, "\r\n\r\n");
	if (http_parse_head(buffer_slice(&head), 16384, &request, &consumed, &status) ==
		    HTTP_COMPLETE &&
	    deflate_negotiate(&request, &agreement)) {
		require(agreement.server_window_bits >= DEFLATE_WINDOW_BITS_MIN &&
			agreement.server_window_bits <= DEFLATE_WINDOW_BITS_MAX);
		require(agreement.server_window_named ||
			agreement.server_window_bits == DEFLATE_WINDOW_BITS_MAX);
		deflate_append_agreement(&answer, &agreement);
		require(answer.len > 18 && memcmp(answer.data, "permessage-deflate", 18) == 0);
	}
	buffer_free(&head);
	buffer_free(&answer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice choice = take_input(&data, &size, 1), input;
	uint8_t number = choice.len > 0 ? (uint8_t)choice.data[0] : 0;
	struct deflate *streams = deflate_create(number & 0x80 ? number % 9 + 1 : 1);

	require(streams != NULL);
	input = exact_copy(data, size);
	if (number & 0x80)
		check_round_trip(streams, input);
	else
		check_decompress(streams, input, number * LIMIT_UNIT);
	check_agreement(input);
	free((void *)input.data);
	deflate_free(streams);
	return 0;
}

/* SPDX-License-Identifier: ISC */
/*
 * Fuzz target for the WebSocket frame reader and the client's frame parser. The
 * stream is read at once and again in reads of other sizes: messages, control
 * frames and the error must be the same, and every state one that may exist.
 * Build and run by hand, from the top of the tree:
 *   clang -g -O1 -std=gnu11 -D_GNU_SOURCE -Iinclude \
 *       -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined \
 *       tests/fuzz/fuzz_websocket.c src/net/websocket_[mrw]*.c src/net/utf8.c \
 *       src/base/{buffer,alloc,log,clock}.c \
 *       -o fuzz_websocket && ./fuzz_websocket -max_total_time=60 NEW_CORPUS \
 *       tests/fuzz/corpus/websocket
 */
#include <stdlib.h>

#include "keepsock/buffer.h"
#include "keepsock/utf8.h"
#include "keepsock/websocket.h"

#define MESSAGE_LIMIT 1024

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct run {
	struct websocket_reader reader;
	struct buffer message;
	struct buffer log; /* what came out, in a form that compares as bytes */
	bool failed;
};

static void require(bool condition)
{
	if (!condition)
		abort();
}

static void log_payload(struct buffer *log, char kind, unsigned code, struct slice payload)
{
	buffer_printf(log, "%c%u:%zu:", kind, code, payload.len);
	buffer_append_slice(log, payload);
}

static void on_piece(struct run *run, const struct websocket_piece *piece)
{
	if (piece->event == WEBSOCKET_ERROR) {
		buffer_printf(&run->log, "E%u:%s", (unsigned)piece->close_code, piece->reason);
		run->failed = true;
		return;
	}
	if (piece->event == WEBSOCKET_CONTROL) {
		require(piece->payload.len <= WEBSOCKET_CONTROL_LIMIT);
		log_payload(&run->log, 'C', piece->opcode, piece->payload);
		return;
	}
	require(!piece->message_start || run->message.len == 0);
	buffer_append_slice(&run->message, piece->payload);
	require(run->message.len <= MESSAGE_LIMIT);
	if (!piece->message_complete)
		return;
	if (piece->opcode == WEBSOCKET_TEXT)
		require(utf8_valid(run->message.data, run->message.len));
	log_payload(&run->log, 'M', piece->opcode, buffer_slice(&run->message));
	buffer_reset(&run->message);
}

/* Reads from at until the reader wants more than len bytes; returns the new position. */
static size_t read_available(struct run *run, const uint8_t *data, size_t at, size_t len)
{
	const struct websocket_limits limits = {.message_size = MESSAGE_LIMIT};
	struct websocket_piece piece;
	uint8_t *out = malloc(len - at + 1);

	require(out != NULL);
	do {
		websocket_read(&run->reader, &limits, data + at, len - at, out, &piece);
		require(websocket_reader_valid(&run->reader));
		require(piece.consumed <= len - at);
		if (piece.event == WEBSOCKET_DATA || piece.event == WEBSOCKET_CONTROL)
			require(piece.consumed > 0);
		if (piece.event != WEBSOCKET_NEED_MORE)
			on_piece(run, &piece);
		at += piece.consumed;
	} while (piece.event == WEBSOCKET_DATA || piece.event == WEBSOCKET_CONTROL);
	free(out);
	return at;
}

static struct buffer run_stream(const uint8_t *data, size_t size, size_t step)
{
	struct run run = {0};
	size_t at = 0;

	for (size_t len = step; !run.failed; len += step) {
		at = read_available(&run, data, at, len < size ? len : size);
		if (len >= size)
			break;
	}
	buffer_free(&run.message);
	return run.log;
}

static void check_client_parser(struct slice input)
{
	struct websocket_server_frame frame;
	enum websocket_event event = websocket_parse_server_frame(input, &frame);

	if (event != WEBSOCKET_DATA && event != WEBSOCKET_CONTROL)
		return;
	require(frame.consumed <= input.len && frame.payload.len == frame.payload_length);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t step = size > 0 ? data[size - 1] % 24 + 1 : 1;
	struct buffer whole = run_stream(data, size, size + 1);
	struct buffer cut = run_stream(data, size, step);

	require(slice_equal(buffer_slice(&whole), buffer_slice(&cut)));
	buffer_free(&whole);
	buffer_free(&cut);
	check_client_parser(slice_from(data, size));
	return 0;
}

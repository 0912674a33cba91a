/* SPDX-License-Identifier: ISC */
/*
 * Fuzz target for the WebSocket frame reader and the client's frame parser. The
 * stream is read at once and again in reads of other sizes: messages, control
 * frames and the error must be the same, and every state one that may exist. The
 * last byte chooses the size of the reads and whether messages may be compressed.
 */
#include "fuzz.h"
#include "keepsock/deflate.h"
#include "keepsock/utf8.h"
#include "keepsock/websocket.h"

#define MESSAGE_LIMIT 1024

struct run {
	struct websocket_limits limits;
	struct websocket_reader reader;
	struct buffer message;
	struct buffer log; /* what came out, in a form that compares as bytes */
	bool compressed;   /* the message that began */
	bool failed;
};

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
	require(!piece->compressed || run->limits.deflate);
	require(piece->message_start || piece->compressed == run->compressed);
	run->compressed = piece->compressed;
	buffer_append_slice(&run->message, piece->payload);
	require(run->message.len <=
		(piece->compressed ? deflate_payload_limit(MESSAGE_LIMIT) : MESSAGE_LIMIT));
	if (!piece->message_complete)
		return;
	if (piece->opcode == WEBSOCKET_TEXT && !piece->compressed)
		require(utf8_valid(run->message.data, run->message.len));
	log_payload(&run->log, piece->compressed ? 'Z' : 'M', piece->opcode,
		    buffer_slice(&run->message));
	buffer_reset(&run->message);
}

/* Reads from at until the reader wants more than len bytes; returns the new position. */
static size_t read_available(struct run *run, const uint8_t *data, size_t at, size_t len)
{
	struct websocket_piece piece;
	uint8_t *out = malloc(len - at + 1);

	require(out != NULL);
	do {
		websocket_read(&run->reader, &run->limits, data + at, len - at, out, &piece);
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

static struct buffer run_stream(const uint8_t *data, size_t size, size_t step, bool deflate)
{
	struct run run = {.limits = {.message_size = MESSAGE_LIMIT, .deflate = deflate}};
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
	bool deflate = size > 0 && (data[size - 1] & 0x80) != 0;
	struct buffer whole = run_stream(data, size, size + 1, deflate);
	struct buffer cut = run_stream(data, size, step, deflate);

	require(slice_equal(buffer_slice(&whole), buffer_slice(&cut)));
	buffer_free(&whole);
	buffer_free(&cut);
	check_client_parser(slice_from(data, size));
	return 0;
}

/* SPDX-License-Identifier: ISC */
/*
 * Writes WebSocket frames: the server's, unmasked and never fragmented, for
 * workers; the client's, and the parser of what a server sent, for
 * keepsock-bench and tests. Payloads are copied as they are.
 */
#include "keepsock/websocket.h"

#include "keepsock/buffer.h"

#define FIN_BIT      0x80
#define MASK_BIT     0x80
#define RSV_BITS     0x70
#define OPCODE_BITS  0x0f
#define CONTROL_BIT  0x08
#define LENGTH_BITS  0x7f
#define REASON_LIMIT (WEBSOCKET_CONTROL_LIMIT - 2)

/* The second byte with its extended length; returns how many bytes that took. */
static size_t write_length(uint8_t *out, uint64_t length, uint8_t mask_bit)
{
	size_t extended = length <= WEBSOCKET_CONTROL_LIMIT ? 0 : length <= UINT16_MAX ? 2 : 8;

	out[0] = mask_bit | (uint8_t)(extended == 0 ? length : extended == 2 ? 126 : 127);
	for (size_t i = 0; i < extended; i++)
		out[1 + i] = (uint8_t)(length >> 8 * (extended - 1 - i));
	return 1 + extended;
}

size_t websocket_write_header(uint8_t out[10], unsigned opcode, uint64_t payload_len)
{
	out[0] = (uint8_t)(FIN_BIT | opcode);
	return 1 + write_length(out + 1, payload_len, 0);
}

void websocket_append_frame(struct buffer *out, unsigned opcode, struct slice payload)
{
	uint8_t header[10];
	size_t header_length = websocket_write_header(header, opcode, payload.len);

	buffer_reserve(out, header_length + payload.len);
	buffer_append(out, header, header_length);
	buffer_append_slice(out, payload);
}

/* The reason up to its limit, without the beginning of a character that no longer fits. */
static struct slice cut_reason(const char *reason)
{
	struct slice text = slice_str(reason);

	if (text.len <= REASON_LIMIT)
		return text;
	text.len = REASON_LIMIT;
	while (text.len > 0 && ((uint8_t)reason[text.len] & 0xc0) == 0x80)
		text.len--;
	return text;
}

void websocket_append_close(struct buffer *out, uint16_t code, const char *reason)
{
	char payload[WEBSOCKET_CONTROL_LIMIT];
	struct slice text = reason != NULL ? cut_reason(reason) : SLICE("");

	if (!websocket_close_code_valid(code)) {
		websocket_append_frame(out, WEBSOCKET_CLOSE, SLICE(""));
		return;
	}
	payload[0] = (char)(code >> 8);
	payload[1] = (char)code;
	memcpy(payload + 2, text.data, text.len);
	websocket_append_frame(out, WEBSOCKET_CLOSE, slice_from(payload, 2 + text.len));
}

void websocket_write_masked_frame(struct buffer *out, enum websocket_opcode opcode, bool fin,
				  struct slice payload, const uint8_t mask[4])
{
	uint8_t *frame = (uint8_t *)buffer_reserve(out, 14 + payload.len);
	size_t header_length;

	frame[0] = (uint8_t)((fin ? FIN_BIT : 0) | opcode);
	header_length = 1 + write_length(frame + 1, payload.len, MASK_BIT);
	memcpy(frame + header_length, mask, 4);
	header_length += 4;
	websocket_mask(frame + header_length, (const uint8_t *)payload.data, payload.len, mask, 0);
	out->len += header_length + payload.len;
}

/* Sets opcode, lengths and FIN from a header as a server writes it. */
static enum websocket_event parse_server_header(const uint8_t *in, size_t len,
						struct websocket_server_frame *frame)
{
	uint8_t opcode = len > 0 ? in[0] & OPCODE_BITS : 0;
	uint64_t length = len > 1 ? in[1] & LENGTH_BITS : 0;
	size_t extended = length == 127 ? 8 : length == 126 ? 2 : 0;
	bool is_control = opcode & CONTROL_BIT;

	if (len > 0 &&
	    ((in[0] & RSV_BITS) || opcode > WEBSOCKET_PONG ||
	     (!is_control && opcode > WEBSOCKET_BINARY) || (is_control && !(in[0] & FIN_BIT))))
		return WEBSOCKET_ERROR;
	if (len > 1 && ((in[1] & MASK_BIT) || (is_control && extended > 0)))
		return WEBSOCKET_ERROR;
	if (len < 2 + extended)
		return WEBSOCKET_NEED_MORE;
	if (extended > 0) {
		length = 0;
		for (size_t i = 0; i < extended; i++)
			length = length << 8 | in[2 + i];
		if (length <= (extended == 2 ? WEBSOCKET_CONTROL_LIMIT : UINT16_MAX) ||
		    length > INT64_MAX)
			return WEBSOCKET_ERROR;
	}
	frame->opcode = opcode;
	frame->fin = in[0] & FIN_BIT;
	frame->header_length = 2 + extended;
	frame->payload_length = length;
	return is_control ? WEBSOCKET_CONTROL : WEBSOCKET_DATA;
}

uint64_t websocket_frame_length(struct slice input)
{
	const uint8_t *in = (const uint8_t *)input.data;
	uint64_t length = input.len > 1 ? in[1] & LENGTH_BITS : 0;
	size_t extended = length == 127 ? 8 : length == 126 ? 2 : 0;

	if (input.len < 2 + extended)
		return 0;
	if (extended > 0) {
		length = 0;
		for (size_t i = 0; i < extended; i++)
			length = length << 8 | in[2 + i];
	}
	return 2 + extended + length;
}

enum websocket_event websocket_parse_server_frame(struct slice input,
						  struct websocket_server_frame *frame)
{
	enum websocket_event event;

	*frame = (struct websocket_server_frame){0};
	event = parse_server_header((const uint8_t *)input.data, input.len, frame);
	if (event != WEBSOCKET_DATA && event != WEBSOCKET_CONTROL)
		return event;
	if (input.len - frame->header_length < frame->payload_length)
		return WEBSOCKET_NEED_MORE;
	frame->payload =
		slice_from(input.data + frame->header_length, (size_t)frame->payload_length);
	frame->consumed = frame->header_length + frame->payload.len;
	return event;
}

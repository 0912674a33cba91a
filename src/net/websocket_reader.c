/* SPDX-License-Identifier: ISC */
/*
 * Reads the frames a client sends (RFC 6455 §5–§8). Runs in workers. Its state
 * is part of a connection's passport and moves only together with consumed
 * bytes; the input stays as the client sent it, because a successor may have to
 * read it again. Errors are judged byte by byte in the order of arrival.
 */
#include "keepsock/websocket.h"

#include "keepsock/deflate.h"
#include "keepsock/utf8.h"

#define FIN_BIT            0x80
#define RSV_BITS           0x70
#define RSV1_BIT           0x40
#define OPCODE_BITS        0x0f
#define MASK_BIT           0x80
#define LENGTH_BITS        0x7f
#define CONTROL_BIT        0x08
#define LENGTH_16          126
#define LENGTH_64          127
#define HEADER_LENGTH_BASE 6 /* two bytes and the mask */

struct frame_header {
	uint8_t opcode;
	bool fin, compressed;
	uint64_t payload_length;
	const uint8_t *mask;
	size_t length;
};

static enum websocket_event fail(struct websocket_piece *piece, uint16_t code, const char *reason)
{
	piece->event = WEBSOCKET_ERROR;
	piece->close_code = code;
	piece->reason = reason;
	return WEBSOCKET_ERROR;
}

static enum websocket_event fail_protocol(struct websocket_piece *piece, const char *reason)
{
	return fail(piece, WEBSOCKET_CLOSE_PROTOCOL_ERROR, reason);
}

/* What the first byte shows: §5.2 FIN, RSV, opcode; §5.4 order of fragments; §5.5 control frames.
 */
static const char *check_first_byte(const struct websocket_reader *reader,
				    const struct websocket_limits *limits, uint8_t byte)
{
	uint8_t opcode = byte & OPCODE_BITS;
	bool in_message = reader->message_opcode != 0;

	if (byte & (limits->deflate ? RSV_BITS & ~RSV1_BIT : RSV_BITS))
		return "reserved bits without a negotiated extension";
	/* RFC 7692 §6.1: the first frame says it for its message. */
	if ((byte & RSV1_BIT) && opcode != WEBSOCKET_TEXT && opcode != WEBSOCKET_BINARY)
		return "compressed bit on a frame that does not begin a message";
	if (opcode & CONTROL_BIT) {
		if (opcode > WEBSOCKET_PONG)
			return "unknown control frame";
		return byte & FIN_BIT ? NULL : "fragmented control frame";
	}
	if (opcode > WEBSOCKET_BINARY)
		return "unknown data frame";
	if (opcode == WEBSOCKET_CONTINUATION && !in_message)
		return "continuation without a message";
	if (opcode != WEBSOCKET_CONTINUATION && in_message)
		return "new message inside a message";
	return NULL;
}

static const char *check_second_byte(uint8_t first, uint8_t byte)
{
	if (!(byte & MASK_BIT))
		return "frame is not masked";
	if ((first & CONTROL_BIT) && (byte & LENGTH_BITS) > WEBSOCKET_CONTROL_LIMIT)
		return "control frame is too long";
	return NULL;
}

/* Reads the extended length, n bytes of network order; NULL or what is wrong with it. */
static const char *read_extended_length(const uint8_t *in, size_t n, uint64_t *length)
{
	*length = 0;
	for (size_t i = 0; i < n; i++)
		*length = *length << 8 | in[i];
	if (n == 8 && in[0] & 0x80)
		return "frame length has its top bit set";
	if (*length <= (n == 2 ? WEBSOCKET_CONTROL_LIMIT : UINT16_MAX))
		return "frame length is not in its shortest form";
	return NULL;
}

static bool is_too_big(const struct websocket_reader *reader, const struct websocket_limits *limits,
		       const struct frame_header *header)
{
	uint64_t limit = header->compressed || reader->compressed
				 ? deflate_payload_limit(limits->message_size)
				 : limits->message_size;

	return reader->message_length > limit ||
	       header->payload_length > limit - reader->message_length;
}

/*
 * Reads a header. DATA: it is whole and may stand here; NEED_MORE, ERROR as for
 * websocket_read(). Whatever is wrong shows as soon as its bytes are there.
 */
static enum websocket_event read_header(const struct websocket_reader *reader,
					const struct websocket_limits *limits, const uint8_t *in,
					size_t len, struct frame_header *header,
					struct websocket_piece *piece)
{
	const char *wrong;
	size_t extended;

	if (len < 1)
		return WEBSOCKET_NEED_MORE;
	if ((wrong = check_first_byte(reader, limits, in[0])) != NULL)
		return fail_protocol(piece, wrong);
	if (len < 2)
		return WEBSOCKET_NEED_MORE;
	if ((wrong = check_second_byte(in[0], in[1])) != NULL)
		return fail_protocol(piece, wrong);
	header->opcode = in[0] & OPCODE_BITS;
	header->fin = in[0] & FIN_BIT;
	header->compressed = in[0] & RSV1_BIT;
	header->payload_length = in[1] & LENGTH_BITS;
	extended = header->payload_length == LENGTH_64   ? 8
		   : header->payload_length == LENGTH_16 ? 2
							 : 0;
	if (len < 2 + extended)
		return WEBSOCKET_NEED_MORE;
	if (extended > 0 &&
	    (wrong = read_extended_length(in + 2, extended, &header->payload_length)) != NULL)
		return fail_protocol(piece, wrong);
	if (!(header->opcode & CONTROL_BIT) && is_too_big(reader, limits, header))
		return fail(piece, WEBSOCKET_CLOSE_TOO_BIG, "message is too big");
	header->length = HEADER_LENGTH_BASE + extended;
	header->mask = in + 2 + extended;
	return len < header->length ? WEBSOCKET_NEED_MORE : WEBSOCKET_DATA;
}

bool websocket_close_code_valid(uint16_t code)
{
	if (code >= 1000 && code <= 1014)
		return code != 1004 && code != 1005 && code != 1006;
	return code >= 3000 && code <= 4999;
}

/* §5.5.1: nothing, or a code with a reason in UTF-8. */
static enum websocket_event check_close(struct websocket_piece *piece)
{
	const uint8_t *payload = (const uint8_t *)piece->payload.data;
	uint16_t code;

	if (piece->payload.len == 0) {
		piece->close_code = WEBSOCKET_CLOSE_NO_STATUS;
		return WEBSOCKET_CONTROL;
	}
	if (piece->payload.len == 1)
		return fail_protocol(piece, "close frame with half a code");
	code = (uint16_t)(payload[0] << 8 | payload[1]);
	if (!websocket_close_code_valid(code))
		return fail_protocol(piece, "close frame with an invalid code");
	if (!utf8_valid(payload + 2, piece->payload.len - 2))
		return fail(piece, WEBSOCKET_CLOSE_INVALID_DATA, "close reason is not UTF-8");
	piece->close_code = code;
	return WEBSOCKET_CONTROL;
}

/* A control frame waits until it is whole; it leaves the reader as it is. */
static enum websocket_event read_control(const struct frame_header *header, const uint8_t *in,
					 size_t len, uint8_t *out, struct websocket_piece *piece)
{
	size_t payload_length = (size_t)header->payload_length;

	if (len - header->length < payload_length)
		return WEBSOCKET_NEED_MORE;
	websocket_mask(out, in + header->length, payload_length, header->mask, 0);
	piece->opcode = header->opcode;
	piece->payload = slice_from(out, payload_length);
	if (header->opcode == WEBSOCKET_CLOSE && check_close(piece) == WEBSOCKET_ERROR)
		return WEBSOCKET_ERROR;
	piece->consumed = header->length + payload_length;
	return WEBSOCKET_CONTROL;
}

static void start_frame(struct websocket_reader *reader, const struct frame_header *header)
{
	if (header->opcode != WEBSOCKET_CONTINUATION) {
		reader->message_opcode = header->opcode;
		reader->compressed = header->compressed;
	}
	reader->frame_opcode = header->opcode;
	reader->fin = header->fin;
	reader->payload_remaining = header->payload_length;
	reader->message_length += header->payload_length;
	memcpy(reader->mask, header->mask, sizeof(reader->mask));
	reader->mask_phase = 0;
}

/* Takes what there is of the current data frame's payload, after skip bytes of header. */
static enum websocket_event read_payload(struct websocket_reader *reader, const uint8_t *in,
					 size_t len, size_t skip, uint8_t *out,
					 struct websocket_piece *piece)
{
	size_t take = len - skip;
	uint32_t utf8 = reader->utf8_state;
	bool is_text = reader->message_opcode == WEBSOCKET_TEXT && !reader->compressed;

	if (take > reader->payload_remaining)
		take = (size_t)reader->payload_remaining;
	reader->mask_phase =
		(uint8_t)websocket_mask(out, in + skip, take, reader->mask, reader->mask_phase);
	reader->payload_remaining -= take;
	piece->opcode = reader->message_opcode;
	piece->compressed = reader->compressed;
	piece->payload = slice_from(out, take);
	piece->message_complete = reader->fin && reader->payload_remaining == 0;
	if (is_text && !utf8_feed(&utf8, out, take))
		return fail(piece, WEBSOCKET_CLOSE_INVALID_DATA, "text is not UTF-8");
	if (is_text && piece->message_complete && !utf8_complete(utf8))
		return fail(piece, WEBSOCKET_CLOSE_INVALID_DATA, "text ends inside a character");
	reader->utf8_state = (uint8_t)utf8;
	piece->consumed = skip + take;
	/* Nothing of a message's past is left behind it, so the reader is zero again. */
	if (piece->message_complete)
		*reader = (struct websocket_reader){0};
	return WEBSOCKET_DATA;
}

/* The reader is a copy here: it counts only when the piece is good. */
static enum websocket_event read_piece(struct websocket_reader *reader,
				       const struct websocket_limits *limits, const uint8_t *in,
				       size_t len, uint8_t *out, struct websocket_piece *piece)
{
	struct frame_header header;
	enum websocket_event event;

	if (reader->payload_remaining > 0)
		return len > 0 ? read_payload(reader, in, len, 0, out, piece) : WEBSOCKET_NEED_MORE;
	event = read_header(reader, limits, in, len, &header, piece);
	if (event != WEBSOCKET_DATA)
		return event;
	if (header.opcode & CONTROL_BIT)
		return read_control(&header, in, len, out, piece);
	piece->message_start = reader->message_opcode == 0;
	start_frame(reader, &header);
	return read_payload(reader, in, len, header.length, out, piece);
}

enum websocket_event websocket_read(struct websocket_reader *reader,
				    const struct websocket_limits *limits, const uint8_t *in,
				    size_t len, uint8_t *out, struct websocket_piece *piece)
{
	struct websocket_reader next = *reader;

	*piece = (struct websocket_piece){.payload = slice_from(out, 0)};
	piece->event = read_piece(&next, limits, in, len, out, piece);
	if (piece->event == WEBSOCKET_ERROR) {
		piece->payload.len = 0;
		piece->message_start = piece->message_complete = piece->compressed = false;
	} else if (piece->event != WEBSOCKET_NEED_MORE) {
		*reader = next;
	}
	return piece->event;
}

bool websocket_reader_valid(const struct websocket_reader *reader)
{
	static const struct websocket_reader start;
	uint32_t utf8 = reader->utf8_state;

	if (reader->message_opcode == 0)
		return memcmp(reader, &start, sizeof(start)) == 0;
	if (reader->message_opcode > WEBSOCKET_BINARY || reader->fin > 1 ||
	    reader->compressed > 1 || reader->mask_phase > 3 ||
	    reader->payload_remaining > reader->message_length ||
	    memcmp(reader->reserved, start.reserved, sizeof(start.reserved)) != 0)
		return false;
	/* The first frame of a message has its opcode, the others are continuations. */
	if (reader->frame_opcode != reader->message_opcode &&
	    reader->frame_opcode != WEBSOCKET_CONTINUATION)
		return false;
	/* A message whose last frame has come to its end is over. */
	if (reader->fin && reader->payload_remaining == 0)
		return false;
	return utf8_feed(&utf8, NULL, 0) &&
	       (utf8 == UTF8_START ||
		(reader->message_opcode == WEBSOCKET_TEXT && !reader->compressed));
}

/* SPDX-License-Identifier: ISC */
/*
 * WebSocket (RFC 6455): the handshake, a frame reader, frame writers. The
 * server half runs in workers; the client half serves keepsock-bench and tests.
 * The reader's whole state is a small POD without pointers, because it lives in
 * a passport; it never modifies its input and never allocates.
 */
#ifndef KEEPSOCK_WEBSOCKET_H
#define KEEPSOCK_WEBSOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "keepsock/slice.h"

struct buffer;
struct http_request;

enum websocket_opcode {
	WEBSOCKET_CONTINUATION = 0x0,
	WEBSOCKET_TEXT = 0x1,
	WEBSOCKET_BINARY = 0x2,
	WEBSOCKET_CLOSE = 0x8,
	WEBSOCKET_PING = 0x9,
	WEBSOCKET_PONG = 0xa,
};

/* Close codes this server sends or reports itself (RFC 6455 §7.4.1). */
enum websocket_close_code {
	WEBSOCKET_CLOSE_NORMAL = 1000,
	WEBSOCKET_CLOSE_GOING_AWAY = 1001,
	WEBSOCKET_CLOSE_PROTOCOL_ERROR = 1002,
	WEBSOCKET_CLOSE_NO_STATUS = 1005, /* "no code was given": never on the wire */
	WEBSOCKET_CLOSE_INVALID_DATA = 1007,
	WEBSOCKET_CLOSE_TOO_BIG = 1009,
	WEBSOCKET_CLOSE_INTERNAL_ERROR = 1011,
};

#define WEBSOCKET_CONTROL_LIMIT 125 /* payload bytes of a control frame (§5.5) */

/* ---- handshake (§4) ---- */

/* What a 426 answer must carry, as extra headers (§4.4, RFC 9110 §15.5.22). */
#define WEBSOCKET_UPGRADE_REQUIRED_HEADERS "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"

/*
 * Checks an upgrade request and computes the accept value, NUL-terminated.
 * 0, or the status to answer: 405 not GET, 426 not an upgrade to WebSocket
 * version 13, 400 key, body or repeated fields wrong, 500 no SHA-1 available.
 */
int websocket_check_upgrade(const struct http_request *request, char accept[29]);

/* Sec-WebSocket-Accept for a Sec-WebSocket-Key (§4.2.2). False: no SHA-1 available. */
bool websocket_accept_key(struct slice key, char accept[29]);

/* Appends the 101 response. protocol: the chosen sub-protocol, NULL for none; extensions: the value
 * of Sec-WebSocket-Extensions, empty for none. */
void websocket_append_upgrade(struct buffer *out, const char *accept, const char *protocol,
			      struct slice extensions);

/* True when the client offered this sub-protocol (Sec-WebSocket-Protocol, case matters). */
bool websocket_protocol_offered(const struct http_request *request, const char *protocol);

/* ---- reading what a client sends (§5) ---- */

/* All zero is its start. Between two reads it tells everything about the bytes consumed so far. */
struct websocket_reader {
	uint64_t payload_remaining; /* bytes of the current data frame still to come */
	uint64_t message_length;    /* payload of the current message, announced so far */
	uint8_t mask[4];
	uint8_t mask_phase;     /* 0..3: index of the mask byte for the next payload byte */
	uint8_t message_opcode; /* of the unfinished message; 0 when between messages */
	uint8_t frame_opcode;   /* of the current data frame */
	uint8_t fin;            /* the current data frame ends its message */
	uint8_t utf8_state;     /* of a message that is not compressed */
	uint8_t compressed;     /* the unfinished message is */
	uint8_t reserved[6];
};
_Static_assert(sizeof(struct websocket_reader) == 32, "the reader's size is part of the passport");

struct websocket_limits {
	uint64_t message_size; /* payload bytes a message may have, once decompressed */
	bool deflate;          /* permessage-deflate was negotiated: RSV1 may be set */
};

enum websocket_event {
	WEBSOCKET_NEED_MORE, /* nothing was consumed; call again with more behind the same bytes */
	WEBSOCKET_DATA,      /* a piece of a data message, maybe empty */
	WEBSOCKET_CONTROL,   /* a complete control frame */
	WEBSOCKET_ERROR,     /* close the connection with close_code and reason */
};

struct websocket_piece {
	enum websocket_event event;
	size_t consumed;              /* bytes of input this piece used up; 0 on NEED_MORE, ERROR */
	enum websocket_opcode opcode; /* DATA: TEXT or BINARY (of the message); CONTROL: its own */
	bool compressed;              /* DATA: of the message, RFC 7692 §6.1 */
	struct slice payload;         /* unmasked, in the caller's out; still compressed */
	bool message_start;           /* DATA: the first piece of a message */
	bool message_complete;        /* DATA: the last one; both may be true */
	uint16_t close_code;          /* ERROR: 1002, 1007, 1009; CLOSE: the peer's, or 1005 */
	const char *reason;           /* ERROR: plain words, static; else NULL */
};

/*
 * Consumes at most one frame header with the payload that is there, or one
 * whole control frame; call it until NEED_MORE. The unmasked payload is written
 * to out, which has room for len bytes and does not overlap in. A header is
 * consumed only when complete, together with no payload if none is there yet.
 * On NEED_MORE and ERROR the reader is unchanged, so reading again gives the
 * same; how the stream was cut into reads never changes the messages or the
 * error found. A data frame's bytes are given out as they come, text checked;
 * a compressed message's text and size once decompressed are its caller's to
 * check. Returns piece->event.
 */
enum websocket_event websocket_read(struct websocket_reader *reader,
				    const struct websocket_limits *limits, const uint8_t *in,
				    size_t len, uint8_t *out, struct websocket_piece *piece);

/* True for a state websocket_read can leave behind: the check of an adopted passport. */
bool websocket_reader_valid(const struct websocket_reader *reader);

/* True when a close frame may carry this code on the wire (§7.4, IANA registry). */
bool websocket_close_code_valid(uint16_t code);

/*
 * Masks or unmasks (the same, §5.3) len bytes from in to out, which are equal
 * or do not overlap. phase: index of the mask byte for the first one; returns
 * that for the byte behind the last.
 */
unsigned websocket_mask(uint8_t *out, const uint8_t *in, size_t len, const uint8_t mask[4],
			unsigned phase);

/* ---- writing what a server sends: unmasked, unfragmented ---- */

/* In place of an opcode: the same, and the payload is compressed (RFC 7692 §6.1). */
#define WEBSOCKET_COMPRESSED(opcode) ((unsigned)(opcode) | 0x40u)

/*
 * Writes a frame header for payload_len bytes; returns its length, 2, 4 or 10.
 * opcode: enum websocket_opcode, or WEBSOCKET_COMPRESSED() of one.
 */
size_t websocket_write_header(uint8_t out[10], unsigned opcode, uint64_t payload_len);

/* Appends a whole frame. A control frame's payload is at most WEBSOCKET_CONTROL_LIMIT bytes. */
void websocket_append_frame(struct buffer *out, unsigned opcode, struct slice payload);

/*
 * Appends a close frame. reason (NULL: none) is cut to 123 bytes at a character
 * boundary; a code that must not be sent (1005, the echo of an empty close)
 * gives a close frame without payload.
 */
void websocket_append_close(struct buffer *out, uint16_t code, const char *reason);

/* ---- the client's half, for keepsock-bench and tests ---- */

/* Appends one masked frame as a client sends it. */
void websocket_write_masked_frame(struct buffer *out, enum websocket_opcode opcode, bool fin,
				  struct slice payload, const uint8_t mask[4]);

struct websocket_server_frame {
	enum websocket_opcode opcode;
	bool fin;
	size_t header_length;    /* 0 while the header is incomplete */
	uint64_t payload_length; /* known once header_length is */
	struct slice payload;    /* in input */
	size_t consumed;         /* the whole frame's length */
};

/*
 * Parses one frame a server sent. DATA or CONTROL: the frame is whole.
 * NEED_MORE: header_length and payload_length tell what is known already.
 * ERROR: not what a server may send (masked, RSV bits, broken length or opcode).
 */
enum websocket_event websocket_parse_server_frame(struct slice input,
						  struct websocket_server_frame *frame);

/* Bytes of the whole unmasked frame that begins the input, whatever it holds; 0: its header is not
 * whole. */
uint64_t websocket_frame_length(struct slice input);

#endif

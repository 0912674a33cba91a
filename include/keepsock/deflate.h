/* SPDX-License-Identifier: ISC */
/*
 * permessage-deflate (RFC 7692) for workers, without context takeover in either
 * direction: every message is compressed for itself, so that one compressed
 * broadcast serves all, and no state lives between messages.
 */
#ifndef KEEPSOCK_DEFLATE_H
#define KEEPSOCK_DEFLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "keepsock/slice.h"

struct buffer;
struct http_request;

/* ---- negotiation (§5, §7.1) ---- */

#define DEFLATE_WINDOW_BITS_MIN 8
#define DEFLATE_WINDOW_BITS_MAX 15

struct deflate_agreement {
	uint8_t server_window_bits; /* 8..15: the peer looks back no further into what we send */
	bool server_window_named;   /* the offer named it, so the answer must */
};

/*
 * Takes the first acceptable offer of the request's Sec-WebSocket-Extensions.
 * False: there is none. An offer with a parameter that is unknown, repeated or
 * has a wrong value is passed over.
 */
bool deflate_negotiate(const struct http_request *request, struct deflate_agreement *agreement);

/* Appends the value of the answer's Sec-WebSocket-Extensions. */
void deflate_append_agreement(struct buffer *out, const struct deflate_agreement *agreement);

/*
 * Without context takeover nothing refers back further than its message is
 * long: this smallest window reads a message of so many bytes, whatever window
 * it was written with. Above DEFLATE_WINDOW_BITS_MAX never.
 */
static inline unsigned deflate_window_bits_for(size_t length)
{
	unsigned bits = DEFLATE_WINDOW_BITS_MIN;

	while (bits < DEFLATE_WINDOW_BITS_MAX && length > (size_t)1 << bits)
		bits++;
	return bits;
}

/* ---- messages (§7.2) ---- */

/* One compressor and one decompressor; some 200 KiB. Remembers no message. */
struct deflate;

/* level: 1 (fast) to 9. NULL when zlib refuses. */
struct deflate *deflate_create(int level);
void deflate_free(struct deflate *streams);

/* Appends the payload of a compressed message; false: that would be no shorter, *out is as before.
 */
bool deflate_compress(struct deflate *streams, struct slice message, struct buffer *out);

enum inflate_verdict {
	INFLATE_OK,
	INFLATE_TOO_BIG, /* more than `limit` bytes came out: 1009 */
	INFLATE_INVALID, /* no DEFLATE data, or cut: 1007 */
};

/*
 * Decompresses the payload of a complete message, appended to out. Work and
 * memory are bounded by payload and limit; unless OK, *out is as before.
 */
enum inflate_verdict deflate_decompress(struct deflate *streams, struct slice payload, size_t limit,
					struct buffer *out);

/* Payload bytes a message of so many may have on the wire: 9 bits a byte at the worst, and blocks.
 */
static inline uint64_t deflate_payload_limit(uint64_t message_size)
{
	return message_size + message_size / 8 + 64;
}

#endif

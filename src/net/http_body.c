/* SPDX-License-Identifier: ISC */
/*
 * Request bodies: the chunked coding as a machine over single bytes whose state
 * fits a passport, and the whole body at once (RFC 9112 §6, §7). Runs in
 * workers. Chunk extensions and trailer fields are checked and dropped; it must
 * never hand out more than the caller's limit.
 */
#include "keepsock/hex.h"
#include "keepsock/http.h"

#include "http_chars.h"
#include "keepsock/buffer.h"

/* What comes next. Stored in passports: the numbers stay. */
enum chunked_state {
	CHUNKED_SIZE = 0,          /* a digit of the size, or its end */
	CHUNKED_BLANK = 1,         /* blanks before an extension */
	CHUNKED_EXTENSION = 2,     /* an extension, to the CR */
	CHUNKED_SIZE_LF = 3,       /* the LF behind the size */
	CHUNKED_DATA = 4,          /* remaining bytes of data */
	CHUNKED_DATA_CR = 5,       /* the CR behind the data */
	CHUNKED_DATA_LF = 6,       /* and its LF */
	CHUNKED_TRAILER = 7,       /* a trailer field's first byte, or the final CR */
	CHUNKED_TRAILER_NAME = 8,  /* the rest of its name */
	CHUNKED_TRAILER_VALUE = 9, /* its value */
	CHUNKED_TRAILER_LF = 10,   /* the LF behind the value */
	CHUNKED_FINAL_LF = 11,     /* the LF that ends the body */
	CHUNKED_DONE = 12,
	CHUNKED_FAILED = 13,
};

#define SIZE_DIGITS_MAX 16
#define OVERHEAD_BASE   16384
#define OVERHEAD_FACTOR 8

static int fail(struct http_chunked *chunked, int status)
{
	chunked->state = CHUNKED_FAILED;
	chunked->status = (uint16_t)status;
	return CHUNKED_FAILED;
}

static int on_size_end(struct http_chunked *chunked, char c)
{
	if (chunked->digits == 0)
		return fail(chunked, 400);
	if (c == '\r')
		return CHUNKED_SIZE_LF;
	if (c == ';')
		return CHUNKED_EXTENSION;
	return http_char_is_blank(c) ? CHUNKED_BLANK : fail(chunked, 400);
}

static int on_size(struct http_chunked *chunked, char c, size_t limit)
{
	int value = hex_value(c);

	if (value < 0)
		return on_size_end(chunked, c);
	if (chunked->digits == SIZE_DIGITS_MAX)
		return fail(chunked, 400);
	chunked->digits++;
	chunked->remaining = chunked->remaining << 4 | (unsigned)value;
	if (chunked->length > limit || chunked->remaining > limit - chunked->length)
		return fail(chunked, 413);
	return CHUNKED_SIZE;
}

static int on_trailer(struct http_chunked *chunked, char c)
{
	if (c == '\r')
		return CHUNKED_FINAL_LF;
	return http_char_is(c, HTTP_CHAR_TOKEN) ? CHUNKED_TRAILER_NAME : fail(chunked, 400);
}

static int on_trailer_name(struct http_chunked *chunked, char c)
{
	if (c == ':')
		return CHUNKED_TRAILER_VALUE;
	return http_char_is(c, HTTP_CHAR_TOKEN) ? CHUNKED_TRAILER_NAME : fail(chunked, 400);
}

/* Text up to a CR: an extension or a trailer's value. */
static int on_text(struct http_chunked *chunked, char c, int next)
{
	if (c == '\r')
		return next;
	return http_char_is(c, HTTP_CHAR_FIELD) ? chunked->state : fail(chunked, 400);
}

static int on_exactly(struct http_chunked *chunked, char c, char wanted, int next)
{
	return c == wanted ? next : fail(chunked, 400);
}

/* One byte of framing; returns the next state. */
static int on_framing(struct http_chunked *chunked, char c, size_t limit)
{
	switch ((enum chunked_state)chunked->state) {
	case CHUNKED_SIZE: return on_size(chunked, c, limit);
	case CHUNKED_BLANK:
		if (http_char_is_blank(c))
			return CHUNKED_BLANK;
		return on_exactly(chunked, c, ';', CHUNKED_EXTENSION);
	case CHUNKED_EXTENSION: return on_text(chunked, c, CHUNKED_SIZE_LF);
	case CHUNKED_SIZE_LF:
		return on_exactly(chunked, c, '\n',
				  chunked->remaining > 0 ? CHUNKED_DATA : CHUNKED_TRAILER);
	case CHUNKED_DATA_CR: return on_exactly(chunked, c, '\r', CHUNKED_DATA_LF);
	case CHUNKED_DATA_LF:
		chunked->digits = 0;
		return on_exactly(chunked, c, '\n', CHUNKED_SIZE);
	case CHUNKED_TRAILER: return on_trailer(chunked, c);
	case CHUNKED_TRAILER_NAME: return on_trailer_name(chunked, c);
	case CHUNKED_TRAILER_VALUE: return on_text(chunked, c, CHUNKED_TRAILER_LF);
	case CHUNKED_TRAILER_LF: return on_exactly(chunked, c, '\n', CHUNKED_TRAILER);
	case CHUNKED_FINAL_LF: return on_exactly(chunked, c, '\n', CHUNKED_DONE);
	case CHUNKED_DATA:
	case CHUNKED_DONE:
	case CHUNKED_FAILED: break;
	}
	return fail(chunked, 400);
}

/* Takes what there is of the current chunk's data; returns how much that was. */
static size_t on_data(struct http_chunked *chunked, struct slice in, struct buffer *out)
{
	size_t len = in.len < chunked->remaining ? in.len : (size_t)chunked->remaining;

	buffer_append(out, in.data, len);
	chunked->remaining -= len;
	chunked->length += len;
	if (chunked->remaining == 0)
		chunked->state = CHUNKED_DATA_CR;
	return len;
}

enum http_result http_chunked_feed(struct http_chunked *chunked, struct slice in, size_t *consumed,
				   struct buffer *out, size_t limit)
{
	size_t i = 0;

	while (i < in.len && chunked->state != CHUNKED_DONE && chunked->state != CHUNKED_FAILED) {
		if (chunked->state == CHUNKED_DATA) {
			i += on_data(chunked, slice_from(in.data + i, in.len - i), out);
			continue;
		}
		chunked->state = (uint8_t)on_framing(chunked, in.data[i++], limit);
		if (++chunked->overhead > OVERHEAD_BASE + OVERHEAD_FACTOR * chunked->length &&
		    chunked->state != CHUNKED_FAILED)
			fail(chunked, 400);
	}
	*consumed = i;
	if (chunked->state == CHUNKED_FAILED)
		return HTTP_ERROR;
	return chunked->state == CHUNKED_DONE ? HTTP_COMPLETE : HTTP_INCOMPLETE;
}

static enum http_result parse_chunked_body(struct slice input, size_t limit, struct buffer *decoded,
					   struct slice *body, size_t *consumed, int *status)
{
	struct http_chunked chunked = {0};
	enum http_result result;

	buffer_reset(decoded);
	result = http_chunked_feed(&chunked, input, consumed, decoded, limit);
	if (result == HTTP_ERROR)
		*status = chunked.status;
	else
		*body = buffer_slice(decoded);
	return result;
}

enum http_result http_parse_body(struct slice input, const struct http_request *request,
				 size_t limit, struct buffer *decoded, struct slice *body,
				 size_t *consumed, int *status)
{
	uint64_t length = request->content_length > 0 ? (uint64_t)request->content_length : 0;

	if (request->chunked)
		return parse_chunked_body(input, limit, decoded, body, consumed, status);
	if (length > limit) {
		*status = 413;
		return HTTP_ERROR;
	}
	if (length > input.len)
		return HTTP_INCOMPLETE;
	*body = slice_from(input.data, (size_t)length);
	*consumed = (size_t)length;
	return HTTP_COMPLETE;
}

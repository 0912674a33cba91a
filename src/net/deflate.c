/* SPDX-License-Identifier: ISC */
/*
 * Compresses and decompresses whole WebSocket messages, see deflate.h. Runs in
 * workers; one of it per worker. Whatever a peer sends, it never produces more
 * than it was allowed and keeps nothing of it.
 */
#include "keepsock/deflate.h"

#include <stdlib.h>

#define ZLIB_CONST
#include <zlib.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"

/* A bigger one costs its clearing with each message and gains nothing on ours (measured). */
#define MEMORY_LEVEL 6
/* What a flush ends with; it stays off the wire (§7.2.1). */
#define TAIL        "\x00\x00\xff\xff"
#define TAIL_LENGTH 4
/* Output is asked for in steps, so that a small message with a large limit stays small. */
#define STEP_MIN 1024u
/* Of z_stream.data_type, as inflate() leaves it. */
#define UNUSED_BITS    0x3f
#define BETWEEN_BLOCKS 0x80

struct deflate {
	z_stream out, in;
};

struct deflate *deflate_create(int level)
{
	struct deflate *streams = xcalloc(1, sizeof(*streams));

	if (deflateInit2(&streams->out, level, Z_DEFLATED, -DEFLATE_WINDOW_BITS_MAX, MEMORY_LEVEL,
			 Z_DEFAULT_STRATEGY) != Z_OK) {
		free(streams);
		return NULL;
	}
	if (inflateInit2(&streams->in, -DEFLATE_WINDOW_BITS_MAX) != Z_OK) {
		deflateEnd(&streams->out);
		free(streams);
		return NULL;
	}
	return streams;
}

void deflate_free(struct deflate *streams)
{
	if (!streams)
		return;
	deflateEnd(&streams->out);
	inflateEnd(&streams->in);
	free(streams);
}

bool deflate_compress(struct deflate *streams, struct slice message, struct buffer *out)
{
	/* Room for what would still be worth it, the tail and one byte that must stay free: a
	 * flush that fills its output may be unfinished. */
	size_t room = message.len + TAIL_LENGTH, length;
	z_stream *z = &streams->out;

	if (message.len > UINT32_MAX - TAIL_LENGTH || deflateReset(z) != Z_OK)
		return false;
	z->next_in = (const Bytef *)message.data;
	z->avail_in = (uInt)message.len;
	z->next_out = (Bytef *)buffer_reserve(out, room);
	z->avail_out = (uInt)room;
	if (deflate(z, Z_SYNC_FLUSH) != Z_OK || z->avail_in > 0 || z->avail_out == 0)
		return false;
	length = room - z->avail_out;
	if (length < TAIL_LENGTH ||
	    memcmp(out->data + out->len + length - TAIL_LENGTH, TAIL, TAIL_LENGTH) != 0)
		return false;
	out->len += length - TAIL_LENGTH;
	return true;
}

/*
 * Runs the decompressor over the input it has, up to `limit` bytes behind
 * `start` in out. OK: all of it was used, or the last block was read.
 */
static enum inflate_verdict run(z_stream *z, struct buffer *out, size_t start, size_t limit,
				bool *ended)
{
	for (;;) {
		size_t done = out->len - start;
		/* One byte more than allowed tells too much from just enough. */
		size_t room = limit + 1 - done, step = done > STEP_MIN ? done : STEP_MIN;
		int result;

		if (room > step)
			room = step;
		z->next_out = (Bytef *)buffer_reserve(out, room);
		z->avail_out = (uInt)room;
		result = inflate(z, Z_SYNC_FLUSH);
		out->len += room - z->avail_out;
		if (out->len - start > limit)
			return INFLATE_TOO_BIG;
		*ended = result == Z_STREAM_END;
		if (*ended)
			return INFLATE_OK;
		/* Z_BUF_ERROR: nothing left to do. */
		if (result != Z_OK && result != Z_BUF_ERROR)
			return INFLATE_INVALID;
		if (z->avail_in == 0 && z->avail_out > 0)
			return INFLATE_OK;
	}
}

/* A sender may end a message with a final block instead of a flush, and begin anew (§7.2.3.4). */
static enum inflate_verdict decompress(z_stream *z, struct slice payload, size_t limit,
				       struct buffer *out)
{
	size_t start = out->len;
	enum inflate_verdict verdict;
	bool ended = true;

	z->next_in = (const Bytef *)payload.data;
	z->avail_in = (uInt)payload.len;
	while (z->avail_in > 0) {
		if (ended && inflateReset(z) != Z_OK)
			return INFLATE_INVALID;
		verdict = run(z, out, start, limit, &ended);
		if (verdict != INFLATE_OK)
			return verdict;
	}
	if (ended)
		return INFLATE_OK;
	z->next_in = (const Bytef *)TAIL;
	z->avail_in = TAIL_LENGTH;
	verdict = run(z, out, start, limit, &ended);
	if (verdict != INFLATE_OK)
		return verdict;
	/* Only between two blocks a message is whole. */
	if (ended || z->avail_in > 0 || !(z->data_type & BETWEEN_BLOCKS) ||
	    (z->data_type & UNUSED_BITS))
		return INFLATE_INVALID;
	return INFLATE_OK;
}

enum inflate_verdict deflate_decompress(struct deflate *streams, struct slice payload, size_t limit,
					struct buffer *out)
{
	size_t start = out->len;
	enum inflate_verdict verdict;

	if (payload.len > UINT32_MAX || limit >= UINT32_MAX)
		return INFLATE_TOO_BIG;
	verdict = decompress(&streams->in, payload, limit, out);
	if (verdict != INFLATE_OK)
		out->len = start;
	return verdict;
}

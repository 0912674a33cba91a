/* SPDX-License-Identifier: ISC */
/*
 * A growable byte buffer on the heap, for building replies, requests and
 * text. It owns its memory; pointers and slices into it die with the next
 * append. Not for what a successor process needs: that lives in the arena.
 */
#ifndef KEEPSOCK_BUFFER_H
#define KEEPSOCK_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "keepsock/slice.h"

struct buffer {
	char *data; /* owned; NULL until the first byte */
	size_t len;
	size_t cap;
};

/* Equivalent to zeroing; allocates nothing. */
void buffer_init(struct buffer *b);

/* Gives the memory back and leaves an empty, usable buffer. */
void buffer_free(struct buffer *b);

/* Room for at least extra bytes past len. The caller writes there and adds to len itself. */
char *buffer_reserve(struct buffer *b, size_t extra);

/* data may lie in b itself. */
void buffer_append(struct buffer *b, const void *data, size_t len);
void buffer_append_slice(struct buffer *b, struct slice s);
void buffer_append_str(struct buffer *b, const char *text);
void buffer_append_char(struct buffer *b, char c);

/* Decimal digits. */
void buffer_append_u64(struct buffer *b, uint64_t value);
void buffer_append_i64(struct buffer *b, int64_t value);

void buffer_printf(struct buffer *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Drops the first len bytes (len <= b->len) and moves the rest to the front. */
void buffer_consume(struct buffer *b, size_t len);

/* The contents as a C string: a terminator is kept behind len, not counted in it. */
const char *buffer_cstr(struct buffer *b);

/* Empties it and keeps the memory. */
static inline void buffer_reset(struct buffer *b)
{
	b->len = 0;
}

/* Empties it and keeps the memory if that is no more than `kept` bytes. True: it was more. */
bool buffer_trim(struct buffer *b, size_t kept);

static inline struct slice buffer_slice(const struct buffer *b)
{
	return slice_from(b->data, b->len);
}

#endif

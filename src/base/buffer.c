/* SPDX-License-Identifier: ISC */
/*
 * The growable byte buffer. Runs in every process. Growth doubles, so that
 * appending byte by byte stays linear; memory is given back by buffer_free()
 * and buffer_trim() only.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"

#define FIRST_CAP 64

void buffer_init(struct buffer *b)
{
	*b = (struct buffer){NULL, 0, 0};
}

void buffer_free(struct buffer *b)
{
	free(b->data);
	buffer_init(b);
}

bool buffer_trim(struct buffer *b, size_t kept)
{
	bool more = b->cap > kept;

	buffer_reset(b);
	if (more)
		buffer_free(b);
	return more;
}

char *buffer_reserve(struct buffer *b, size_t extra)
{
	size_t need;
	size_t cap = b->cap ? b->cap : FIRST_CAP;

	if (__builtin_add_overflow(b->len, extra, &need) || need > SIZE_MAX / 2)
		abort();
	if (!b->data || need > b->cap) {
		while (cap < need)
			cap *= 2;
		b->data = xrealloc(b->data, cap);
		b->cap = cap;
	}
	return b->data + b->len;
}

void buffer_append(struct buffer *b, const void *data, size_t len)
{
	const char *from = data;
	size_t inside = 0;
	bool own;

	if (len == 0)
		return;
	/* A piece of the buffer itself moves when the buffer grows. */
	own = b->data && from >= b->data && from < b->data + b->cap;
	if (own)
		inside = (size_t)(from - b->data);
	buffer_reserve(b, len);
	if (own)
		from = b->data + inside;
	memmove(b->data + b->len, from, len);
	b->len += len;
}

void buffer_append_slice(struct buffer *b, struct slice s)
{
	buffer_append(b, s.data, s.len);
}

void buffer_append_str(struct buffer *b, const char *text)
{
	buffer_append(b, text, strlen(text));
}

void buffer_append_char(struct buffer *b, char c)
{
	*buffer_reserve(b, 1) = c;
	b->len++;
}

void buffer_append_u64(struct buffer *b, uint64_t value)
{
	char digits[20];
	size_t at = sizeof(digits);

	do {
		digits[--at] = (char)('0' + value % 10);
		value /= 10;
	} while (value);
	buffer_append(b, digits + at, sizeof(digits) - at);
}

void buffer_append_i64(struct buffer *b, int64_t value)
{
	uint64_t magnitude = (uint64_t)value;

	if (value < 0) {
		buffer_append_char(b, '-');
		magnitude = 0 - magnitude; /* unsigned, so INT64_MIN is fine too */
	}
	buffer_append_u64(b, magnitude);
}

void buffer_printf(struct buffer *b, const char *fmt, ...)
{
	va_list args, again;
	int len;

	va_start(args, fmt);
	va_copy(again, args);
	len = vsnprintf(NULL, 0, fmt, args);
	va_end(args);
	if (len < 0)
		abort(); /* a broken format string, not a peer's doing */
	buffer_reserve(b, (size_t)len + 1);
	if (vsnprintf(b->data + b->len, (size_t)len + 1, fmt, again) != len)
		abort();
	va_end(again);
	b->len += (size_t)len;
}

void buffer_consume(struct buffer *b, size_t len)
{
	if (len == 0)
		return;
	if (len > b->len)
		abort();
	memmove(b->data, b->data + len, b->len - len);
	b->len -= len;
}

const char *buffer_cstr(struct buffer *b)
{
	*buffer_reserve(b, 1) = '\0';
	return b->data;
}

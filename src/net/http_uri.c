/* SPDX-License-Identifier: ISC */
/*
 * Percent-decoding of request targets (RFC 3986 §2.1): query parameters and
 * paths of static files. Runs in workers. It decodes exactly once, and a path
 * it lets through can't leave the directory it is looked up in.
 */
#include "keepsock/hex.h"
#include "keepsock/http.h"

#include "http_chars.h"
#include "keepsock/buffer.h"

/* Takes one possibly escaped byte off the front of *s; -1 for a broken escape. */
static int take_decoded(struct slice *s, bool plus_is_space)
{
	unsigned char c = (unsigned char)s->data[0];
	size_t len = 1;

	if (c == '%') {
		int high = s->len >= 3 ? hex_value(s->data[1]) : -1;
		int low = s->len >= 3 ? hex_value(s->data[2]) : -1;

		if (high < 0 || low < 0)
			return -1;
		c = (unsigned char)(high << 4 | low);
		len = 3;
	} else if (c == '+' && plus_is_space) {
		c = ' ';
	}
	*s = slice_from(s->data + len, s->len - len);
	return c;
}

static bool decoded_equals(struct slice encoded, const char *text)
{
	while (encoded.len > 0) {
		int c = take_decoded(&encoded, true);

		/* A NUL in the parameter must not pass for the end of text. */
		if (c <= 0 || c != (unsigned char)*text++)
			return false;
	}
	return *text == '\0';
}

/* Cuts off what precedes the next separator; the rest is without it. */
static struct slice take_until(struct slice *rest, char separator)
{
	const char *mark = rest->len > 0 ? memchr(rest->data, separator, rest->len) : NULL;
	struct slice part = *rest;

	if (mark == NULL) {
		rest->len = 0;
		return part;
	}
	part.len = (size_t)(mark - part.data);
	*rest = slice_from(mark + 1, rest->len - part.len - 1);
	return part;
}

static bool append_decoded(struct buffer *out, struct slice encoded, bool plus_is_space)
{
	size_t before = out->len;

	while (encoded.len > 0) {
		int c = take_decoded(&encoded, plus_is_space);
		char byte = (char)c;

		if (c < 0) {
			out->len = before;
			return false;
		}
		buffer_append(out, &byte, 1);
	}
	return true;
}

bool http_query_get(struct slice query, const char *name, struct buffer *out)
{
	while (query.len > 0) {
		struct slice value = take_until(&query, '&');
		struct slice key = take_until(&value, '=');

		if (decoded_equals(key, name))
			return append_decoded(out, value, true);
	}
	return false;
}

static bool segment_is_parent(const char *start, const char *end)
{
	return end - start == 2 && start[0] == '.' && start[1] == '.';
}

/* After decoding, so that no way of writing ".." or '/' gets past. */
static bool path_is_safe(const char *path, size_t len)
{
	const char *end = path + len, *segment = path;

	if (len == 0 || path[0] != '/')
		return false;
	for (const char *p = path; p < end; p++) {
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return false;
		if (*p != '/')
			continue;
		if (segment_is_parent(segment, p))
			return false;
		segment = p + 1;
	}
	return !segment_is_parent(segment, end);
}

bool http_path_decode(struct slice path, struct buffer *out)
{
	size_t before = out->len;

	if (!append_decoded(out, path, false))
		return false;
	if (out->len == before || !path_is_safe(out->data + before, out->len - before)) {
		out->len = before;
		return false;
	}
	return true;
}

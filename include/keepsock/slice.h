/* SPDX-License-Identifier: ISC */
/*
 * A view of bytes that somebody else owns. Every parser in keepsock takes and
 * gives slices, so payloads pass from socket to socket without a copy; nobody
 * may write through one.
 */
#ifndef KEEPSOCK_SLICE_H
#define KEEPSOCK_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct slice {
	const char *data;
	size_t len;
};

#define SLICE(literal) ((struct slice){(literal), sizeof(literal) - 1})
/* For printf("%.*s"). */
#define SLICE_ARG(s) (int)(s).len, (s).data

static inline struct slice slice_from(const void *data, size_t len)
{
	return (struct slice){data, len};
}

static inline struct slice slice_str(const char *text)
{
	return (struct slice){text, strlen(text)};
}

static inline bool slice_equal(struct slice a, struct slice b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static inline bool slice_is(struct slice a, const char *text)
{
	return slice_equal(a, slice_str(text));
}

#endif

/* SPDX-License-Identifier: ISC */
/*
 * Which bytes may stand where in an HTTP message (RFC 9110 §5.5, §5.6.2; RFC
 * 3986). Private to src/net; tables only, no parsing.
 */
#ifndef KEEPSOCK_NET_HTTP_CHARS_H
#define KEEPSOCK_NET_HTTP_CHARS_H

#include <stdbool.h>
#include <stdint.h>

enum http_char_class {
	HTTP_CHAR_TOKEN = 1,  /* methods, field names, list elements */
	HTTP_CHAR_TARGET = 2, /* a request target: visible ASCII without " # < > */
	HTTP_CHAR_FIELD = 4,  /* a field value: visible, SP, HTAB, 0x80 and up */
	HTTP_CHAR_HOST = 8,   /* a registered name: unreserved and sub-delims */
	HTTP_CHAR_DIGIT = 16,
};

extern const uint8_t http_char_classes[256];

static inline bool http_char_is(char c, enum http_char_class set)
{
	return (http_char_classes[(uint8_t)c] & set) != 0;
}

static inline bool http_char_is_blank(char c)
{
	return c == ' ' || c == '\t';
}

#endif

/* SPDX-License-Identifier: ISC */
/*
 * The byte classes of HTTP as one table, so that the parser tests a byte with
 * one load. Used by workers; constant data, nothing else may live here.
 */
#include "http_chars.h"

#define FIELD   HTTP_CHAR_FIELD
#define VISIBLE (HTTP_CHAR_FIELD | HTTP_CHAR_TARGET)
#define ALPHA   (VISIBLE | HTTP_CHAR_TOKEN | HTTP_CHAR_HOST)
#define DIGIT   (ALPHA | HTTP_CHAR_DIGIT)
#define TOKEN   (VISIBLE | HTTP_CHAR_TOKEN)
#define HOST    (VISIBLE | HTTP_CHAR_HOST)

/* clang-format off */
const uint8_t http_char_classes[256] = {
	['\t'] = FIELD,
	[' '] = FIELD,
	['!'] = ALPHA,
	['"'] = FIELD,
	['#'] = FIELD | HTTP_CHAR_TOKEN,
	['$'] = ALPHA,
	['%'] = TOKEN,
	['&'] = ALPHA,
	['\''] = ALPHA,
	['('] = HOST, [')'] = HOST,
	['*'] = ALPHA, ['+'] = ALPHA,
	[','] = HOST,
	['-'] = ALPHA, ['.'] = ALPHA,
	['/'] = VISIBLE,
	['0' ... '9'] = DIGIT,
	[':'] = VISIBLE,
	[';'] = HOST,
	['<'] = FIELD,
	['='] = HOST,
	['>'] = FIELD,
	['?'] = VISIBLE, ['@'] = VISIBLE,
	['A' ... 'Z'] = ALPHA,
	['['] = VISIBLE, ['\\'] = VISIBLE, [']'] = VISIBLE,
	['^'] = TOKEN,
	['_'] = ALPHA,
	['`'] = TOKEN,
	['a' ... 'z'] = ALPHA,
	['{'] = VISIBLE,
	['|'] = TOKEN,
	['}'] = VISIBLE,
	['~'] = ALPHA,
	[0x80 ... 0xff] = FIELD,
};
/* clang-format on */

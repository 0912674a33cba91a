/* SPDX-License-Identifier: ISC */
/*
 * Reading base64. Runs in workers, on bytes from anybody: it must never accept
 * two spellings of the same bytes.
 */
#include "keepsock/base64.h"

/* What the last two characters of the alphabet are; the others are common to both. */
struct alphabet {
	char value_62;
	char value_63;
};

static int value_of(const struct alphabet *alphabet, char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == alphabet->value_62 ? 62 : c == alphabet->value_63 ? 63 : -1;
}

/* Up to four characters without padding, two at least; len characters make len - 1 bytes. */
static bool decode_group(const struct alphabet *alphabet, const char *text, size_t len, char *bytes)
{
	uint32_t bits = 0;

	for (size_t i = 0; i < len; i++) {
		int value = value_of(alphabet, text[i]);

		if (value < 0)
			return false;
		bits |= (uint32_t)value << (18 - 6 * i);
	}
	for (size_t i = 0; i < 3; i++)
		bytes[i] = (char)(bits >> (16 - 8 * i));
	return (bits & ((1u << 8 * (4 - len)) - 1)) == 0;
}

static bool decode(const struct alphabet *alphabet, struct slice text, struct buffer *out)
{
	size_t before = out->len;

	if (text.len % 4 == 1)
		return false;
	buffer_reserve(out, text.len / 4 * 3 + 3);
	for (size_t i = 0; i < text.len; i += 4) {
		size_t len = text.len - i < 4 ? text.len - i : 4;
		char bytes[3];

		if (!decode_group(alphabet, text.data + i, len, bytes)) {
			out->len = before;
			return false;
		}
		buffer_append(out, bytes, len - 1);
	}
	return true;
}

bool base64_decode(struct slice text, struct buffer *out)
{
	static const struct alphabet standard = {'+', '/'};

	if (text.len % 4 != 0)
		return false;
	for (int i = 0; i < 2 && text.len > 0 && text.data[text.len - 1] == '='; i++)
		text.len--;
	return decode(&standard, text, out);
}

bool base64url_decode(struct slice text, struct buffer *out)
{
	static const struct alphabet url = {'-', '_'};

	return decode(&url, text, out);
}

/* SPDX-License-Identifier: ISC */
/*
 * The JSON scanner (RFC 8259). One pass, no recursion, no allocation: nesting is
 * a bit per level, characters are told apart by a table, and runs of ordinary
 * characters in strings are skipped eight at a time. Runs in the workers on
 * bytes from anybody; it must never read past the end nor accept bad UTF-8.
 */
#include "json_scan.h"

/* What a byte means inside a string. */
enum string_class {
	STRING_PLAIN,
	STRING_CONTROL,
	STRING_QUOTE,
	STRING_ESCAPE,
	STRING_MULTIBYTE,
};

static const uint8_t string_classes[256] = {
	[0x00 ... 0x1f] = STRING_CONTROL,
	['"'] = STRING_QUOTE,
	['\\'] = STRING_ESCAPE,
	[0x80 ... 0xff] = STRING_MULTIBYTE,
};

#define EVERY_BYTE(b) (0x0101010101010101ULL * (b))

/*
 * True if one of the eight bytes is not STRING_PLAIN: each subtraction carries into
 * the top bit of a byte that is too small (a borrow only spreads upwards from one
 * that has been found already).
 */
static inline bool word_has_special(uint64_t word)
{
	uint64_t quote = word ^ EVERY_BYTE('"');
	uint64_t escape = word ^ EVERY_BYTE('\\');
	uint64_t found = word;             /* at or above 0x80 */
	found |= word - EVERY_BYTE(0x20);  /* below 0x20 */
	found |= quote - EVERY_BYTE(0x01); /* equal */
	found |= escape - EVERY_BYTE(0x01);
	return (found & EVERY_BYTE(0x80)) != 0;
}

static inline const char *skip_plain(const char *p, const char *end)
{
	while (end - p >= 8) {
		uint64_t word;
		memcpy(&word, p, sizeof word);
		if (word_has_special(word))
			break;
		p += 8;
	}
	while (p < end && string_classes[(uint8_t)*p] == STRING_PLAIN)
		p++;
	return p;
}

size_t json_utf8_length(const char *p, const char *end)
{
	const uint8_t *u = (const uint8_t *)p;
	size_t left = (size_t)(end - p);
	size_t len;
	uint8_t low = 0x80, high = 0xbf; /* range of the second byte */

	if (left == 0)
		return 0;
	if (u[0] < 0x80)
		return 1;
	if (u[0] < 0xc2 || u[0] > 0xf4)
		return 0;
	if (u[0] < 0xe0) {
		len = 2;
	} else if (u[0] < 0xf0) {
		len = 3;
		if (u[0] == 0xe0)
			low = 0xa0; /* shorter form exists */
		else if (u[0] == 0xed)
			high = 0x9f; /* surrogates */
	} else {
		len = 4;
		if (u[0] == 0xf0)
			low = 0x90;
		else if (u[0] == 0xf4)
			high = 0x8f; /* above U+10FFFF */
	}
	if (left < len || u[1] < low || u[1] > high)
		return 0;
	for (size_t i = 2; i < len; i++)
		if ((u[i] & 0xc0) != 0x80)
			return 0;
	return len;
}

/* The value of four hexadecimal digits, -1 if they are not. */
static int hex4(const char *p, const char *end)
{
	int value = 0;

	if (end - p < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		int digit;
		if (p[i] >= '0' && p[i] <= '9')
			digit = p[i] - '0';
		else if ((p[i] | 0x20) >= 'a' && (p[i] | 0x20) <= 'f')
			digit = (p[i] | 0x20) - 'a' + 10;
		else
			return -1;
		value = value << 4 | digit;
	}
	return value;
}

/*
 * Reads the code point of the \u escape at p (or of a surrogate pair of two) and
 * moves p behind it; -1 if malformed. A surrogate that stands alone is valid by
 * the grammar, and JSON.stringify() writes it for a text cut inside a character:
 * it counts as U+FFFD, as in Go's decoder.
 */
static int32_t read_unicode_escape(const char **p, const char *end)
{
	int32_t high = hex4(*p + 2, end);
	int32_t low;

	if (high < 0)
		return -1;
	*p += 6;
	if (high < 0xd800 || high > 0xdfff)
		return high;
	if (high > 0xdbff || end - *p < 6 || (*p)[0] != '\\' || (*p)[1] != 'u')
		return 0xfffd;
	low = hex4(*p + 2, end);
	if (low < 0xdc00 || low > 0xdfff)
		return 0xfffd;
	*p += 6;
	return 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
}

/* Behind the escape at p, NULL if malformed. */
static const char *skip_escape(const char *p, const char *end)
{
	if (end - p < 2)
		return NULL;
	switch (p[1]) {
	case '"':
	case '\\':
	case '/':
	case 'b':
	case 'f':
	case 'n':
	case 'r':
	case 't': return p + 2;
	case 'u': return read_unicode_escape(&p, end) < 0 ? NULL : p;
	default: return NULL;
	}
}

bool json_scan_string(struct json_cursor *c, struct slice *raw, bool *escaped)
{
	const char *start = c->at;
	const char *p = start;
	size_t len;

	*escaped = false;
	if (p == c->end || *p != '"')
		return false;
	p++;
	for (;;) {
		p = skip_plain(p, c->end);
		if (p == c->end)
			return false;
		switch ((enum string_class)string_classes[(uint8_t)*p]) {
		case STRING_QUOTE:
			c->at = p + 1;
			*raw = slice_from(start, (size_t)(c->at - start));
			return true;
		case STRING_ESCAPE:
			*escaped = true;
			p = skip_escape(p, c->end);
			if (p == NULL)
				return false;
			break;
		case STRING_MULTIBYTE:
			len = json_utf8_length(p, c->end);
			if (len == 0)
				return false;
			p += len;
			break;
		case STRING_PLAIN:
		case STRING_CONTROL: return false;
		}
	}
}

bool json_scan_key(struct json_cursor *c, struct slice *raw, bool *escaped)
{
	json_skip_space(c);
	return json_scan_string(c, raw, escaped) && json_expect(c, ':');
}

static char *put_utf8(char *out, uint32_t code)
{
	if (code < 0x80) {
		*out++ = (char)code;
	} else if (code < 0x800) {
		*out++ = (char)(0xc0 | code >> 6);
		*out++ = (char)(0x80 | (code & 0x3f));
	} else if (code < 0x10000) {
		*out++ = (char)(0xe0 | code >> 12);
		*out++ = (char)(0x80 | (code >> 6 & 0x3f));
		*out++ = (char)(0x80 | (code & 0x3f));
	} else {
		*out++ = (char)(0xf0 | code >> 18);
		*out++ = (char)(0x80 | (code >> 12 & 0x3f));
		*out++ = (char)(0x80 | (code >> 6 & 0x3f));
		*out++ = (char)(0x80 | (code & 0x3f));
	}
	return out;
}

/* What the character behind a backslash stands for. */
static char simple_escape(char ch)
{
	switch (ch) {
	case 'b': return '\b';
	case 'f': return '\f';
	case 'n': return '\n';
	case 'r': return '\r';
	case 't': return '\t';
	default: return ch;
	}
}

size_t json_unescape(struct slice raw, char *out)
{
	const char *p = raw.data + 1;
	const char *end = raw.data + raw.len - 1;
	char *start = out;

	while (p < end) {
		const char *escape = memchr(p, '\\', (size_t)(end - p));
		size_t plain = (size_t)((escape != NULL ? escape : end) - p);
		memcpy(out, p, plain);
		out += plain;
		p += plain;
		if (p == end)
			break;
		if (p[1] == 'u') {
			out = put_utf8(out, (uint32_t)read_unicode_escape(&p, end));
		} else {
			*out++ = simple_escape(p[1]);
			p += 2;
		}
	}
	return (size_t)(out - start);
}

static inline bool is_digit(const struct json_cursor *c)
{
	return c->at < c->end && *c->at >= '0' && *c->at <= '9';
}

/* One digit at least. */
static bool scan_digits(struct json_cursor *c)
{
	if (!is_digit(c))
		return false;
	while (is_digit(c))
		c->at++;
	return true;
}

static bool scan_number(struct json_cursor *c)
{
	if (*c->at == '-')
		c->at++;
	if (c->at < c->end && *c->at == '0')
		c->at++;
	else if (!scan_digits(c))
		return false;
	if (c->at < c->end && *c->at == '.') {
		c->at++;
		if (!scan_digits(c))
			return false;
	}
	if (c->at < c->end && (*c->at == 'e' || *c->at == 'E')) {
		c->at++;
		if (c->at < c->end && (*c->at == '+' || *c->at == '-'))
			c->at++;
		return scan_digits(c);
	}
	return true;
}

static bool scan_word(struct json_cursor *c, struct slice word)
{
	if ((size_t)(c->end - c->at) < word.len || memcmp(c->at, word.data, word.len) != 0)
		return false;
	c->at += word.len;
	return true;
}

static bool scan_scalar(struct json_cursor *c)
{
	struct slice raw;
	bool escaped;

	if (c->at == c->end)
		return false;
	switch (*c->at) {
	case '"': return json_scan_string(c, &raw, &escaped);
	case 't': return scan_word(c, SLICE("true"));
	case 'f': return scan_word(c, SLICE("false"));
	case 'n': return scan_word(c, SLICE("null"));
	default: return scan_number(c);
	}
}

bool json_enter(struct json_cursor *c, char bracket)
{
	if (c->depth >= JSON_DEPTH_MAX || !json_expect(c, bracket))
		return false;
	c->depth++;
	return true;
}

enum json_step json_next_item(struct json_cursor *c, char closing, bool *first)
{
	char ch = json_peek(c);

	if (ch == closing) {
		c->at++;
		c->depth--;
		return JSON_STEP_END;
	}
	if (*first) {
		*first = false;
		return JSON_STEP_ITEM;
	}
	if (ch != ',')
		return JSON_STEP_FAILED;
	c->at++;
	return JSON_STEP_ITEM;
}

/* The containers that json_scan_value() is in: one bit each, 1 = object, innermost lowest. */
struct nesting {
	uint64_t objects;
	unsigned open;
};

/*
 * Goes to the next value inside the innermost container, leaving those that end
 * here. False on an error; true with open = 0 once all have ended.
 */
static bool scan_to_next_value(struct json_cursor *c, struct nesting *n, bool first)
{
	while (n->open > 0) {
		bool object = (n->objects & 1) != 0;
		struct slice key;
		bool escaped;

		switch (json_next_item(c, object ? '}' : ']', &first)) {
		case JSON_STEP_FAILED: return false;
		case JSON_STEP_ITEM: return !object || json_scan_key(c, &key, &escaped);
		case JSON_STEP_END:
			n->objects >>= 1;
			n->open--;
			first = false;
			break;
		}
	}
	return true;
}

bool json_scan_value(struct json_cursor *c, struct slice *raw)
{
	struct nesting n = {0, 0};

	json_skip_space(c);
	const char *start = c->at;
	do {
		char ch = json_peek(c);
		bool opens = ch == '{' || ch == '[';
		if (opens) {
			if (!json_enter(c, ch))
				return false;
			n.objects = n.objects << 1 | (ch == '{');
			n.open++;
		} else if (!scan_scalar(c)) {
			return false;
		}
		if (!scan_to_next_value(c, &n, opens))
			return false;
	} while (n.open > 0);
	*raw = slice_from(start, (size_t)(c->at - start));
	return true;
}

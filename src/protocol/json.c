/* SPDX-License-Identifier: ISC */
/*
 * JSON for the rest of keepsock: walks over objects and arrays, scalars, and the
 * string writer. A thin layer on the scanner; payload bytes are only looked at,
 * or appended to the caller's buffer.
 */
#include "json_scan.h"

bool json_validate(struct slice text)
{
	struct json_cursor c = json_cursor_over(text, 0);
	struct slice raw;

	return json_scan_value(&c, &raw) && json_at_end(&c);
}

enum json_kind json_kind_of(struct slice raw)
{
	struct json_cursor c = json_cursor_over(raw, 0);

	switch (json_peek(&c)) {
	case '{': return JSON_KIND_OBJECT;
	case '[': return JSON_KIND_ARRAY;
	case '"': return JSON_KIND_STRING;
	case 't':
	case 'f': return JSON_KIND_BOOL;
	case 'n': return JSON_KIND_NULL;
	case '-':
	case '0' ... '9': return JSON_KIND_NUMBER;
	default: return JSON_KIND_INVALID;
	}
}

static void walk_begin(struct json_walk *it, struct slice raw, char bracket)
{
	struct json_cursor c = json_cursor_over(raw, 0);
	bool ok = json_enter(&c, bracket);

	*it = (struct json_walk){c.at, c.end, ok ? JSON_WALK_FIRST : JSON_WALK_FAILED};
}

/* One step of a walk; key is NULL for an array. */
static bool walk_next(struct json_walk *it, char closing, struct slice *key, struct slice *value)
{
	struct json_cursor c = {it->at, it->end, 1};
	bool first = it->state == JSON_WALK_FIRST;
	bool escaped;

	if (it->state == JSON_WALK_DONE || it->state == JSON_WALK_FAILED)
		return false;
	it->state = JSON_WALK_FAILED;
	switch (json_next_item(&c, closing, &first)) {
	case JSON_STEP_FAILED: return false;
	case JSON_STEP_END:
		if (json_at_end(&c))
			it->state = JSON_WALK_DONE;
		return false;
	case JSON_STEP_ITEM: break;
	}
	if ((key != NULL && !json_scan_key(&c, key, &escaped)) || !json_scan_value(&c, value))
		return false;
	it->at = c.at;
	it->state = JSON_WALK_NEXT;
	return true;
}

void json_object_begin(struct json_walk *it, struct slice raw)
{
	walk_begin(it, raw, '{');
}

bool json_object_next(struct json_walk *it, struct slice *key, struct slice *value)
{
	return walk_next(it, '}', key, value);
}

void json_array_begin(struct json_walk *it, struct slice raw)
{
	walk_begin(it, raw, '[');
}

bool json_array_next(struct json_walk *it, struct slice *value)
{
	return walk_next(it, ']', NULL, value);
}

bool json_walk_ok(const struct json_walk *it)
{
	return it->state == JSON_WALK_DONE;
}

bool json_values_next(struct slice *rest, struct slice *value)
{
	struct json_cursor c = json_cursor_over(*rest, 0);

	json_skip_space(&c);
	*rest = slice_from(c.at, (size_t)(c.end - c.at));
	if (rest->len == 0 || !json_scan_value(&c, value))
		return false;
	*rest = slice_from(c.at, (size_t)(c.end - c.at));
	return true;
}

bool json_object_find(struct slice raw, const char *name, struct slice *value)
{
	struct json_walk it;
	struct slice key, item, found = {NULL, 0};

	json_object_begin(&it, raw);
	while (json_object_next(&it, &key, &item))
		if (json_string_is(key, name) && json_kind_of(item) != JSON_KIND_NULL)
			found = item;
	if (!json_walk_ok(&it) || found.len == 0)
		return false;
	*value = found;
	return true;
}

bool json_string_is(struct slice raw, const char *text)
{
	size_t len = strlen(text);
	char decoded[256];

	if (raw.len < 2 || raw.data[0] != '"')
		return false;
	if (memchr(raw.data, '\\', raw.len) == NULL)
		return raw.len - 2 == len && memcmp(raw.data + 1, text, len) == 0;
	/* An escape makes at most six bytes of one; longer texts cannot be equal. */
	if (raw.len - 2 > 6 * len || raw.len > sizeof decoded)
		return false;
	return json_unescape(raw, decoded) == len && memcmp(decoded, text, len) == 0;
}

bool json_string_decode(struct slice raw, struct buffer *out)
{
	struct json_cursor c = json_cursor_over(raw, 0);
	struct slice text;
	bool escaped;

	if (!json_scan_string(&c, &text, &escaped) || c.at != c.end)
		return false;
	if (escaped)
		out->len += json_unescape(raw, buffer_reserve(out, raw.len));
	else
		buffer_append(out, raw.data + 1, raw.len - 2);
	return true;
}

/* Digits without sign, fraction, exponent or superfluous zeros. */
static bool parse_digits(struct slice raw, uint64_t *out)
{
	uint64_t value = 0;

	if (raw.len == 0 || (raw.len > 1 && raw.data[0] == '0'))
		return false;
	for (size_t i = 0; i < raw.len; i++) {
		if (raw.data[i] < '0' || raw.data[i] > '9' ||
		    __builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(raw.data[i] - '0'), &value))
			return false;
	}
	*out = value;
	return true;
}

bool json_get_u64(struct slice raw, uint64_t *out)
{
	return parse_digits(raw, out);
}

bool json_get_u32(struct slice raw, uint32_t *out)
{
	uint64_t value;

	if (!parse_digits(raw, &value) || value > UINT32_MAX)
		return false;
	*out = (uint32_t)value;
	return true;
}

bool json_get_i64(struct slice raw, int64_t *out)
{
	bool negative = raw.len > 0 && raw.data[0] == '-';
	uint64_t value;

	if (negative)
		raw = slice_from(raw.data + 1, raw.len - 1);
	if (!parse_digits(raw, &value) || value > (uint64_t)INT64_MAX + negative)
		return false;
	*out = negative ? (int64_t)(0 - value) : (int64_t)value;
	return true;
}

bool json_get_i32(struct slice raw, int32_t *out)
{
	int64_t value;

	if (!json_get_i64(raw, &value) || value < INT32_MIN || value > INT32_MAX)
		return false;
	*out = (int32_t)value;
	return true;
}

bool json_get_bool(struct slice raw, bool *out)
{
	if (!slice_is(raw, "true") && !slice_is(raw, "false"))
		return false;
	*out = raw.data[0] == 't';
	return true;
}

/* Appends what must not stand in a string as it is. */
static void append_escaped(struct buffer *out, char ch)
{
	static const char hex[] = "0123456789abcdef";
	char unicode[6] = {'\\', 'u', '0', '0', hex[(uint8_t)ch >> 4], hex[ch & 15]};

	switch (ch) {
	case '"': buffer_append(out, "\\\"", 2); break;
	case '\\': buffer_append(out, "\\\\", 2); break;
	case '\n': buffer_append(out, "\\n", 2); break;
	case '\r': buffer_append(out, "\\r", 2); break;
	case '\t': buffer_append(out, "\\t", 2); break;
	default: buffer_append(out, unicode, sizeof unicode); break;
	}
}

void json_append_string(struct buffer *out, struct slice text)
{
	const char *p = text.data;
	const char *end = text.len > 0 ? p + text.len : p;

	buffer_append(out, "\"", 1);
	while (p < end) {
		const char *start = p;
		size_t len = 1;

		while (p < end && (uint8_t)*p >= 0x20 && *p != '"' && *p != '\\') {
			len = json_utf8_length(p, end);
			if (len == 0)
				break;
			p += len;
		}
		buffer_append(out, start, (size_t)(p - start));
		if (p == end)
			break;
		if (len == 0)
			buffer_append(out, "\xef\xbf\xbd", 3); /* U+FFFD for an ill-formed byte */
		else
			append_escaped(out, *p);
		p++;
	}
	buffer_append(out, "\"", 1);
}

void json_append_raw(struct buffer *out, struct slice raw)
{
	size_t start = out->len;
	char *feed;

	if (raw.len == 0)
		return;
	buffer_append_slice(out, raw);
	while ((feed = memchr(out->data + start, '\n', out->len - start)) != NULL) {
		*feed = ' ';
		start = (size_t)(feed + 1 - out->data);
	}
}

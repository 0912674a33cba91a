/* SPDX-License-Identifier: ISC */
/*
 * Strict JSON (RFC 8259) on slices: a scanner that validates while it walks, and
 * a writer of strings. Runs in the workers, on every client command. It never
 * allocates (only the caller's buffers grow), never copies a payload, and never
 * accepts what another strict parser would refuse: one value, number grammar,
 * escapes, well-formed UTF-8, no raw control characters.
 */
#ifndef KEEPSOCK_JSON_H
#define KEEPSOCK_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include "keepsock/buffer.h"
#include "keepsock/slice.h"

/* Values nested deeper than this are invalid. */
#define JSON_DEPTH_MAX 64

enum json_kind {
	JSON_KIND_INVALID,
	JSON_KIND_NULL,
	JSON_KIND_BOOL,
	JSON_KIND_NUMBER,
	JSON_KIND_STRING,
	JSON_KIND_ARRAY,
	JSON_KIND_OBJECT,
};

/* True if text is exactly one JSON value, white space around it allowed. */
bool json_validate(struct slice text);

/* What raw starts with, by its first character after white space; validates nothing. */
enum json_kind json_kind_of(struct slice raw);

/*
 * A walk over the members of one object or the elements of one array:
 *
 *	json_object_begin(&it, raw);
 *	while (json_object_next(&it, &key, &value))
 *		...
 *	if (!json_walk_ok(&it))
 *		the text was not one valid object
 *
 * Every member is validated before it is given out, and the whole text has been
 * validated once the walk ended well: no json_validate() is needed before it.
 * Keys and values are raw slices of the text (strings with their quotes).
 */
struct json_walk {
	const char *at;
	const char *end;
	enum json_walk_state {
		JSON_WALK_FIRST,
		JSON_WALK_NEXT,
		JSON_WALK_DONE,
		JSON_WALK_FAILED
	} state;
};

void json_object_begin(struct json_walk *it, struct slice raw);
bool json_object_next(struct json_walk *it, struct slice *key, struct slice *value);
void json_array_begin(struct json_walk *it, struct slice raw);
bool json_array_next(struct json_walk *it, struct slice *value);
bool json_walk_ok(const struct json_walk *it);

/*
 * Cuts the next value off *rest, a text of values with white space or nothing
 * between them. False at the end, where *rest is empty, and at anything that is
 * no value, where *rest begins with it.
 */
bool json_values_next(struct slice *rest, struct slice *value);

/*
 * Finds the member called name (plain ASCII) in an object; with duplicates the
 * last one. A member whose value is null counts as absent. False if absent or
 * if raw is not a valid object.
 */
bool json_object_find(struct slice raw, const char *name, struct slice *value);

/*
 * True if raw is a string (with quotes) that decodes to text; looks through
 * escapes. raw must have been validated; text is at most 40 bytes.
 */
bool json_string_is(struct slice raw, const char *text);

/*
 * Appends what a raw string (with quotes) decodes to. Never more bytes than the
 * raw string has. False, with out unchanged, if raw is not one valid string.
 */
bool json_string_decode(struct slice raw, struct buffer *out);

/* Raw scalars. False, with out unchanged, on another type, a fraction, an exponent or overflow. */
bool json_get_u64(struct slice raw, uint64_t *out);
bool json_get_u32(struct slice raw, uint32_t *out);
bool json_get_i64(struct slice raw, int64_t *out);
bool json_get_i32(struct slice raw, int32_t *out);
bool json_get_bool(struct slice raw, bool *out);

/*
 * Appends text as a JSON string with its quotes. Ill-formed UTF-8 becomes U+FFFD,
 * so the result is always valid.
 */
void json_append_string(struct buffer *out, struct slice text);

/*
 * Appends a valid raw value byte for byte, except that line feeds (only possible
 * between tokens) become spaces: a line feed separates messages on the wire.
 */
void json_append_raw(struct buffer *out, struct slice raw);

#endif

/* SPDX-License-Identifier: ISC */
/*
 * The scanner under json.h: a cursor that validates each byte once as it passes.
 * Private to the protocol room: the command decoder drives it directly, so that
 * a command is read in a single pass. It never writes and never allocates.
 */
#ifndef KEEPSOCK_JSON_SCAN_H
#define KEEPSOCK_JSON_SCAN_H

#include "keepsock/json.h"

struct json_cursor {
	const char *at;
	const char *end;
	unsigned depth; /* containers entered and not left */
};

enum json_step {
	JSON_STEP_FAILED,
	JSON_STEP_ITEM, /* a member or element follows */
	JSON_STEP_END,  /* the container was closed */
};

/* At the start of text; one that is empty may be without data. */
static inline struct json_cursor json_cursor_over(struct slice text, unsigned depth)
{
	if (text.len == 0)
		text.data = "";
	return (struct json_cursor){text.data, text.data + text.len, depth};
}

static inline void json_skip_space(struct json_cursor *c)
{
	while (c->at < c->end &&
	       (*c->at == ' ' || *c->at == '\n' || *c->at == '\t' || *c->at == '\r'))
		c->at++;
}

/* The next byte that is no white space; 0 at the end (a NUL byte is never valid there). */
static inline char json_peek(struct json_cursor *c)
{
	json_skip_space(c);
	return c->at < c->end ? *c->at : '\0';
}

/* Skips white space and consumes ch; false if something else stands there. */
static inline bool json_expect(struct json_cursor *c, char ch)
{
	if (json_peek(c) != ch || c->at == c->end)
		return false;
	c->at++;
	return true;
}

/* True if nothing but white space is left. */
static inline bool json_at_end(struct json_cursor *c)
{
	json_skip_space(c);
	return c->at == c->end;
}

/* Consumes an opening bracket; false also if that is too deep. */
bool json_enter(struct json_cursor *c, char bracket);

/* Before each item: consumes the comma or the closing bracket. *first starts true. */
enum json_step json_next_item(struct json_cursor *c, char closing, bool *first);

/* One value of any type; raw gets its text without surrounding white space. */
bool json_scan_value(struct json_cursor *c, struct slice *raw);

/* One string; raw gets its text with the quotes, escaped whether it has escapes. */
bool json_scan_string(struct json_cursor *c, struct slice *raw, bool *escaped);

/* A member's name and the colon behind it. */
bool json_scan_key(struct json_cursor *c, struct slice *raw, bool *escaped);

/* Decodes a scanned string (with quotes) to out, which has room for raw.len; returns the length. */
size_t json_unescape(struct slice raw, char *out);

/* Length of the well-formed UTF-8 sequence at p (RFC 3629), 0 if there is none. */
size_t json_utf8_length(const char *p, const char *end);

#endif

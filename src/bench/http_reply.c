/* SPDX-License-Identifier: ISC */
/*
 * Parser of response heads. It trusts the server it was told to load further
 * than a browser may: unknown fields are skipped, transfer codings are not known.
 */
#include "http_reply.h"

static bool starts_with(struct slice text, struct slice prefix)
{
	return text.len >= prefix.len && memcmp(text.data, prefix.data, prefix.len) == 0;
}

/* Cuts the next line off the front of *text, without its CRLF. */
static struct slice next_line(struct slice *text)
{
	const char *end = memmem(text->data, text->len, "\r\n", 2);
	struct slice line = slice_from(text->data, end ? (size_t)(end - text->data) : text->len);

	*text = slice_from(line.data + line.len, text->len - line.len);
	if (end)
		*text = slice_from(text->data + 2, text->len - 2);
	return line;
}

static struct slice trim(struct slice s)
{
	while (s.len > 0 && (s.data[0] == ' ' || s.data[0] == '\t'))
		s = slice_from(s.data + 1, s.len - 1);
	while (s.len > 0 && (s.data[s.len - 1] == ' ' || s.data[s.len - 1] == '\t'))
		s.len--;
	return s;
}

static bool parse_decimal(struct slice digits, int64_t *value)
{
	*value = 0;
	for (size_t i = 0; i < digits.len; i++) {
		if (digits.data[i] < '0' || digits.data[i] > '9' || *value > INT64_MAX / 10 - 9)
			return false;
		*value = *value * 10 + (digits.data[i] - '0');
	}
	return digits.len > 0;
}

/* "HTTP/1.1 101 Switching Protocols" */
static bool parse_status_line(struct slice line, unsigned *status)
{
	int64_t value;

	if (line.len < 12 || !starts_with(line, SLICE("HTTP/1.")) || line.data[8] != ' ' ||
	    !parse_decimal(slice_from(line.data + 9, 3), &value))
		return false;
	*status = (unsigned)value;
	return true;
}

static bool take_header(struct http_reply *reply, struct slice line)
{
	const char *colon = memchr(line.data, ':', line.len);
	struct slice name, value;

	if (!colon)
		return false;
	name = slice_from(line.data, (size_t)(colon - line.data));
	value = trim(slice_from(colon + 1, line.len - name.len - 1));
	if (http_equal_nocase(name, SLICE("content-length")))
		return parse_decimal(value, &reply->body_length);
	if (http_equal_nocase(name, SLICE("sec-websocket-accept")))
		reply->accept = value;
	else if (http_equal_nocase(name, SLICE("location")))
		reply->location = value;
	return true;
}

enum http_result http_reply_parse(struct slice input, struct http_reply *reply)
{
	const char *end = memmem(input.data, input.len, "\r\n\r\n", 4);
	struct slice head, line;

	*reply = (struct http_reply){.body_length = -1};
	if (!end)
		return input.len > HTTP_REPLY_HEAD_LIMIT ? HTTP_ERROR : HTTP_INCOMPLETE;
	reply->head_length = (size_t)(end - input.data) + 4;
	head = slice_from(input.data, reply->head_length - 2);
	line = next_line(&head);
	if (!parse_status_line(line, &reply->status))
		return HTTP_ERROR;
	while (head.len > 0) {
		line = next_line(&head);
		if (!take_header(reply, line))
			return HTTP_ERROR;
	}
	return HTTP_COMPLETE;
}

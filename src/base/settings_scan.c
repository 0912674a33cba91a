/* SPDX-License-Identifier: ISC */
/*
 * A look at the text before libconfig parses it, for what it would do
 * silently. It takes a comment that never ends for the rest of the file:
 * refused. It wraps numbers beyond 32 bits unless they end in L (4294967297
 * would be 1): the L is added. And it would read other files at @include, each
 * worker anew, while master and workers must see the same text: refused. Lines
 * stay where they are; everything else is left to libconfig.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "settings_private.h"

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Length of the comment at p, 0 when there is none; *closed is false when it never ends. */
static size_t comment_length(const char *p, bool *closed)
{
	const char *end;

	if (*p == '#' || (p[0] == '/' && p[1] == '/'))
		return strcspn(p, "\n");
	if (p[0] != '/' || p[1] != '*')
		return 0;
	end = strstr(p + 2, "*/");
	*closed = end != NULL;
	return end ? (size_t)(end + 2 - p) : strlen(p);
}

/* Length of the string at p, quotes included; *closed is false when it never ends. */
static size_t string_length(const char *p, bool *closed)
{
	size_t len = 1;

	while (p[len] && p[len] != '"')
		len += p[len] == '\\' && p[len + 1] ? 2 : 1;
	*closed = p[len] == '"';
	return *closed ? len + 1 : len;
}

/* Length of what libconfig takes for a name, or for true and false, at p. */
static size_t name_length(const char *p)
{
	size_t len = 1;

	while (is_letter(p[len]) || is_digit(p[len]) || p[len] == '_' || p[len] == '-' ||
	       p[len] == '*')
		len++;
	return len;
}

static bool starts_number(const char *p)
{
	return is_digit(*p) || ((*p == '-' || *p == '+') && is_digit(p[1]));
}

/* Copies the number at p, made 64 bits wide when it must be; false when even that is too few. */
static bool copy_number(const char *p, struct buffer *out, size_t *len)
{
	bool whole;
	char *end;
	long long value;

	*len = 1;
	while (is_digit(p[*len]) || is_letter(p[*len]) || p[*len] == '.')
		(*len)++;
	/* libconfig knows no octal numbers. */
	errno = 0;
	value = strtoll(p, &end, p[1] == 'x' || p[1] == 'X' ? 16 : 10);
	buffer_append(out, p, *len);
	whole = end == p + *len;
	if (errno == ERANGE)
		return !whole && *end != 'L';
	if (whole && (value < INT32_MIN || value > INT32_MAX))
		buffer_append_char(out, 'L');
	return true;
}

/* Length of whatever else is at p, which libconfig gets as it is; 0 for what is not supported. */
static size_t other_length(const char *p, bool *closed)
{
	if (*p == '"')
		return string_length(p, closed);
	if (strncmp(p, "@include", 8) == 0)
		return 0;
	return is_letter(*p) ? name_length(p) : 1;
}

const char *settings_scan(const char *text, struct buffer *out, int *line)
{
	*line = 1;
	while (*text) {
		bool closed = true;
		size_t len = comment_length(text, &closed);

		if (len == 0 && starts_number(text)) {
			if (!copy_number(text, out, &len))
				return "this number is too big, make it smaller";
			text += len;
			continue;
		}
		if (len == 0)
			len = other_length(text, &closed);
		if (len == 0)
			return "@include is not supported, put all settings into one file";
		if (!closed)
			return *text == '"' ? "this string never ends, close it with a double quote"
					    : "this comment never ends, close it with */";
		for (size_t i = 0; i < len; i++)
			*line += text[i] == '\n';
		buffer_append(out, text, len);
		text += len;
	}
	/* libconfig wants a newline behind a comment in the last line. */
	if (out->len > 0 && out->data[out->len - 1] != '\n')
		buffer_append_char(out, '\n');
	return NULL;
}

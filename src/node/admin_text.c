/* SPDX-License-Identifier: ISC */
/*
 * Tables and lists for people. Runs in the master and the supervisor, on rows that workers
 * collected; pure functions from JSON to text.
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "keepsock/admin_text.h"
#include "keepsock/alloc.h"
#include "keepsock/buffer.h"

#define COLUMN_GAP 2

/* Appends text with everything a terminal could act upon escaped. */
static void append_harmless(struct buffer *out, const char *text)
{
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;
		bool c1 = c == 0xc2 && (unsigned char)text[1] >= 0x80 &&
			  (unsigned char)text[1] < 0xa0;

		if (c < ' ' || c == 0x7f) {
			buffer_printf(out, "\\x%02x", c);
		} else if (c1) {
			/* The C1 controls, two bytes in UTF-8. */
			buffer_printf(out, "\\x%02x", (unsigned char)text[1]);
			text++;
		} else {
			buffer_append_char(out, (char)c);
		}
	}
}

static void append_cell(struct buffer *out, const json_t *value)
{
	char *text;

	if (!value || json_is_null(value) ||
	    (json_is_string(value) && json_string_length(value) == 0)) {
		buffer_append_char(out, '-');
	} else if (json_is_string(value)) {
		append_harmless(out, json_string_value(value));
	} else if (json_is_boolean(value)) {
		buffer_append_str(out, json_is_true(value) ? "yes" : "no");
	} else {
		text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
		append_harmless(out, text ? text : "?");
		free(text);
	}
}

/* Columns on the screen: one for each UTF-8 character. */
static size_t width(struct slice text)
{
	size_t columns = 0;

	for (size_t i = 0; i < text.len; i++)
		columns += ((unsigned char)text.data[i] & 0xc0) != 0x80;
	return columns;
}

static void append_spaces(struct buffer *out, size_t count)
{
	while (count-- > 0)
		buffer_append_char(out, ' ');
}

static size_t cell_width(const json_t *value)
{
	struct buffer text = {0};
	size_t columns;

	append_cell(&text, value);
	columns = width(buffer_slice(&text));
	buffer_free(&text);
	return columns;
}

struct column {
	const char *key; /* the first row's */
	size_t width;
	bool numeric;
};

static size_t make_columns(const json_t *rows, struct column **out)
{
	json_t *first = json_array_get(rows, 0);
	struct column *columns = xcalloc(json_object_size(first) + 1, sizeof(*columns));
	size_t count = 0;
	const char *key;
	json_t *value;

	json_object_foreach(first, key, value)
	{
		struct column *column = &columns[count++];

		column->key = key;
		column->width = strlen(key);
		column->numeric = true;
		for (size_t i = 0; i < json_array_size(rows); i++) {
			json_t *cell = json_object_get(json_array_get(rows, i), key);
			size_t wide = cell_width(cell);

			column->width = wide > column->width ? wide : column->width;
			column->numeric = column->numeric &&
					  (!cell || json_is_null(cell) || json_is_number(cell));
		}
	}
	*out = columns;
	return count;
}

/* One padded cell; the last one of a line gets no spaces behind it. */
static void append_padded(struct buffer *out, struct slice text, const struct column *column,
			  bool last)
{
	size_t used = width(text);
	size_t padding = column->width > used ? column->width - used : 0;

	if (column->numeric)
		append_spaces(out, padding);
	buffer_append_slice(out, text);
	if (last)
		buffer_append_char(out, '\n');
	else
		append_spaces(out, (column->numeric ? 0 : padding) + COLUMN_GAP);
}

void admin_text_rows(struct buffer *out, const json_t *rows)
{
	struct buffer cell = {0};
	struct column *columns;
	size_t count;

	if (json_array_size(rows) == 0) {
		buffer_append_str(out, "(none)\n");
		return;
	}
	count = make_columns(rows, &columns);
	for (size_t c = 0; c < count; c++)
		append_padded(out, slice_str(columns[c].key), &columns[c], c + 1 == count);
	for (size_t i = 0; i < json_array_size(rows); i++) {
		for (size_t c = 0; c < count; c++) {
			buffer_reset(&cell);
			append_cell(&cell,
				    json_object_get(json_array_get(rows, i), columns[c].key));
			append_padded(out, buffer_slice(&cell), &columns[c], c + 1 == count);
		}
	}
	free(columns);
	buffer_free(&cell);
}

void admin_text_object(struct buffer *out, const json_t *object)
{
	json_t *members = (json_t *)(uintptr_t)object; /* the iterator wants it so */
	size_t widest = 0;
	const char *key;
	json_t *value;

	json_object_foreach(members, key, value) widest =
		strlen(key) > widest ? strlen(key) : widest;
	json_object_foreach(members, key, value)
	{
		buffer_append_str(out, key);
		append_spaces(out, widest - strlen(key) + COLUMN_GAP);
		append_cell(out, value);
		buffer_append_char(out, '\n');
	}
}

void admin_text_line(struct buffer *out, const json_t *object)
{
	json_t *members = (json_t *)(uintptr_t)object; /* as above */
	const char *separator = "";
	const char *key;
	json_t *value;

	json_object_foreach(members, key, value)
	{
		buffer_printf(out, "%s%s=", separator, key);
		append_cell(out, value);
		separator = " ";
	}
	buffer_append_char(out, '\n');
}

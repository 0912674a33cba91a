/* SPDX-License-Identifier: ISC */
/*
 * One value of one setting: from libconfig's tree into struct settings, back to
 * text, compared, freed. Runs wherever settings are parsed; it knows types,
 * never individual settings.
 */
#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/secret.h"
#include "settings_private.h"

struct unit {
	const char *name;
	int64_t factor;
};

static const struct unit duration_units[] = {
	{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000},
};

static const struct unit size_units[] = {
	{"", 1},
	{"KiB", SETTINGS_KIB},
	{"MiB", SETTINGS_MIB},
	{"GiB", SETTINGS_GIB},
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void *field(const struct setting_row *row, void *base)
{
	return (char *)base + row->offset;
}

static const void *field_const(const struct setting_row *row, const void *base)
{
	return (const char *)base + row->offset;
}

/* "25s", "64KiB": digits and a unit of the table; a bare 0 needs none. */
static bool parse_with_unit(const char *text, const struct unit *units, size_t count,
			    int64_t *value)
{
	int64_t number = 0;
	const char *p = text;

	for (; *p >= '0' && *p <= '9'; p++) {
		if (__builtin_mul_overflow(number, 10, &number) ||
		    __builtin_add_overflow(number, *p - '0', &number))
			return false;
	}
	if (p == text)
		return false;
	if (number == 0 && *p == '\0') {
		*value = 0;
		return true;
	}
	for (size_t i = 0; i < count; i++) {
		if (strcmp(p, units[i].name) == 0)
			return !__builtin_mul_overflow(number, units[i].factor, value);
	}
	return false;
}

static bool parse_number_text(const struct setting_row *row, const char *text, int64_t *value)
{
	if (row->type == SETTING_DURATION_MS)
		return parse_with_unit(text, duration_units, COUNT(duration_units), value);
	return parse_with_unit(text, size_units, COUNT(size_units), value);
}

bool setting_type_is_list(const struct setting_row *row)
{
	return row->type == SETTING_STRING_LIST || row->type == SETTING_URL_LIST;
}

bool setting_type_is_text(const struct setting_row *row)
{
	return row->type == SETTING_STRING || row->type == SETTING_PATH ||
	       row->type == SETTING_PROGRAM || row->type == SETTING_TARGET ||
	       row->type == SETTING_URL;
}

const char *setting_type_name(const struct setting_row *row)
{
	static const char *const names[] = {
		[SETTING_BOOL] = "boolean",
		[SETTING_INT] = "integer",
		[SETTING_SIZE] = "size",
		[SETTING_DURATION_MS] = "duration",
		[SETTING_STRING] = "string",
		[SETTING_PATH] = "path",
		[SETTING_PROGRAM] = "program",
		[SETTING_TARGET] = "log target",
		[SETTING_URL] = "URL",
		[SETTING_STRING_LIST] = "list of strings",
		[SETTING_URL_LIST] = "list of URLs",
	};

	return names[row->type];
}

/* ---- reading ---- */

static bool read_number(const struct setting_row *row, const config_setting_t *from, int64_t *value)
{
	int type = config_setting_type(from);

	if (type == CONFIG_TYPE_INT || type == CONFIG_TYPE_INT64) {
		*value = config_setting_get_int64(from);
		return true;
	}
	return type == CONFIG_TYPE_STRING && row->type != SETTING_INT &&
	       parse_number_text(row, config_setting_get_string(from), value);
}

static bool set_number(const struct setting_row *row, const config_setting_t *from, void *base,
		       struct buffer *why)
{
	int64_t value;

	if (!read_number(row, from, &value)) {
		buffer_append_str(why, row->type == SETTING_INT ? "must be a whole number"
				       : row->type == SETTING_SIZE
					       ? "must be a number of bytes or a string such "
						 "as \"64KiB\""
					       : "must be a number of milliseconds or a "
						 "string such as \"25s\"");
		return false;
	}
	if (value < row->min || value > row->max) {
		buffer_append_str(why, "must be from ");
		setting_format_number(row, row->min, why);
		buffer_append_str(why, " to ");
		setting_format_number(row, row->max, why);
		buffer_append_str(why, ", not ");
		setting_format_number(row, value, why);
		return false;
	}
	*(int64_t *)field(row, base) = value;
	return true;
}

static bool has_control_characters(const char *text)
{
	for (; *text; text++) {
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			return true;
	}
	return false;
}

/* text as it goes into the struct: paths are completed. The caller owns the result. */
static char *resolve_text(const struct setting_row *row, const char *text, const char *directory)
{
	static const char file_prefix[] = "file:";
	const char *path = text;

	if (row->type == SETTING_TARGET) {
		if (strncmp(text, file_prefix, sizeof(file_prefix) - 1) != 0)
			return xstrdup(text);
		path += sizeof(file_prefix) - 1;
	} else if (row->type != SETTING_PATH &&
		   !(row->type == SETTING_PROGRAM && strchr(text, '/'))) {
		return xstrdup(text);
	}
	if (*path == '\0' || *path == '/')
		return xstrdup(text);
	return xasprintf("%.*s%s%s", (int)(path - text), text, directory, path);
}

static void free_text(const struct setting_row *row, char *text)
{
	if (text && (row->type == SETTING_URL || row->type == SETTING_URL_LIST))
		secret_wipe(text, strlen(text)); /* it may hold a password */
	free(text);
}

static bool set_text(const struct setting_row *row, const config_setting_t *from,
		     const char *directory, void *base, struct buffer *why)
{
	const char *text, *problem;
	char *value, **place = field(row, base);
	int64_t len;

	if (config_setting_type(from) != CONFIG_TYPE_STRING) {
		buffer_append_str(why, "must be a string in double quotes");
		return false;
	}
	text = config_setting_get_string(from);
	problem = has_control_characters(text) ? "must not hold control characters" : NULL;
	value = resolve_text(row, text, directory);
	len = (int64_t)strlen(value);
	if (!problem && len == 0 && row->min > 0)
		problem = "must not be empty";
	if (!problem && (len < row->min || len > row->max)) {
		buffer_printf(why, "must be %lld to %lld bytes long, not %lld", (long long)row->min,
			      (long long)row->max, (long long)len);
		free_text(row, value);
		return false;
	}
	if (!problem && row->check)
		problem = row->check(value);
	if (problem) {
		buffer_append_str(why, problem);
		free_text(row, value);
		return false;
	}
	free_text(row, *place);
	*place = value;
	return true;
}

static void free_list(const struct setting_row *row, struct settings_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		free_text(row, list->items[i]);
	free(list->items);
	*list = (struct settings_list){NULL, 0};
}

/* NULL, or what an element of the list must be. */
static const char *check_element(const struct setting_row *row, const char *text)
{
	if (!text || *text == '\0' || has_control_characters(text))
		return "must hold nothing but non-empty strings";
	return row->check ? row->check(text) : NULL;
}

static bool set_list(const struct setting_row *row, const config_setting_t *from, void *base,
		     struct buffer *why)
{
	struct settings_list list = {NULL, 0};
	int count = config_setting_length(from);

	if (!config_setting_is_array(from) && !config_setting_is_list(from)) {
		buffer_append_str(why, "must be a list of strings such as [\"a\", \"b\"]");
		return false;
	}
	if (count < row->min || count > row->max) {
		buffer_printf(why, "must have %lld to %lld elements, not %d", (long long)row->min,
			      (long long)row->max, count);
		return false;
	}
	if (count > 0)
		list.items = xcalloc((size_t)count, sizeof(*list.items));
	for (int i = 0; i < count; i++) {
		const char *text = config_setting_get_string_elem(from, i);
		const char *problem = check_element(row, text);

		if (problem) {
			buffer_append_str(why, problem);
			free_list(row, &list);
			return false;
		}
		list.items[list.count++] = xstrdup(text);
	}
	free_list(row, field(row, base));
	*(struct settings_list *)field(row, base) = list;
	return true;
}

bool setting_read(const struct setting_row *row, const config_setting_t *from,
		  const char *directory, void *base, struct buffer *why)
{
	switch (row->type) {
	case SETTING_BOOL:
		if (config_setting_type(from) != CONFIG_TYPE_BOOL) {
			buffer_append_str(why, "must be true or false");
			return false;
		}
		*(bool *)field(row, base) = config_setting_get_bool(from) != 0;
		return true;
	case SETTING_INT:
	case SETTING_SIZE:
	case SETTING_DURATION_MS: return set_number(row, from, base, why);
	case SETTING_STRING_LIST:
	case SETTING_URL_LIST: return set_list(row, from, base, why);
	default: return set_text(row, from, directory, base, why);
	}
}

void setting_set_default(const struct setting_row *row, void *base)
{
	void *place = field(row, base);

	switch (row->type) {
	case SETTING_BOOL: *(bool *)place = strcmp(row->default_text, "true") == 0; break;
	case SETTING_INT:
	case SETTING_SIZE:
	case SETTING_DURATION_MS:
		if (!parse_number_text(row, row->default_text, place))
			abort(); /* a wrong row of the table, seen by the first test */
		break;
	case SETTING_STRING_LIST:
	case SETTING_URL_LIST:
		*(struct settings_list *)place = (struct settings_list){NULL, 0};
		break;
	default: *(char **)place = xstrdup(row->default_text); break;
	}
}

/* ---- the rest of a value's life ---- */

void setting_free(const struct setting_row *row, void *base)
{
	if (setting_type_is_list(row)) {
		free_list(row, field(row, base));
	} else if (setting_type_is_text(row)) {
		char **place = field(row, base);

		free_text(row, *place);
		*place = NULL;
	}
}

static bool lists_equal(const struct settings_list *a, const struct settings_list *b)
{
	if (a->count != b->count)
		return false;
	for (size_t i = 0; i < a->count; i++) {
		if (strcmp(a->items[i], b->items[i]) != 0)
			return false;
	}
	return true;
}

bool setting_equal(const struct setting_row *row, const void *a, const void *b)
{
	const void *left = field_const(row, a), *right = field_const(row, b);

	if (row->type == SETTING_BOOL)
		return *(const bool *)left == *(const bool *)right;
	if (setting_type_is_list(row))
		return lists_equal(left, right);
	if (setting_type_is_text(row))
		return strcmp(*(char *const *)left, *(char *const *)right) == 0;
	return *(const int64_t *)left == *(const int64_t *)right;
}

/* ---- as text ---- */

/* Minutes are left out: "75s" and "60s" read better side by side than "75s" and "1m". */
static void format_duration(int64_t value, struct buffer *out)
{
	static const struct unit units[] = {
		{"d", 86400000}, {"h", 3600000}, {"s", 1000}, {"ms", 1}};

	for (size_t i = 0; i < COUNT(units); i++) {
		if (value != 0 && value % units[i].factor == 0) {
			buffer_append_i64(out, value / units[i].factor);
			buffer_append_str(out, units[i].name);
			return;
		}
	}
	buffer_append_str(out, "0");
}

void setting_format_number(const struct setting_row *row, int64_t value, struct buffer *out)
{
	if (row->type == SETTING_DURATION_MS)
		format_duration(value, out);
	else
		buffer_append_i64(out, value);
}

/* scheme://user:PASSWORD@rest, the password replaced. */
static void format_url(const char *url, struct buffer *out)
{
	const char *start = strstr(url, "://");
	const char *at = strrchr(url, '@');
	const char *colon = start ? strchr(start + 3, ':') : NULL;

	if (!start || !at || !colon || colon > at) {
		buffer_append_str(out, url);
		return;
	}
	buffer_append(out, url, (size_t)(colon - url) + 1);
	buffer_append_str(out, "***");
	buffer_append_str(out, at);
}

static void format_list(const struct setting_row *row, const struct settings_list *list,
			struct buffer *out)
{
	buffer_append_char(out, '[');
	for (size_t i = 0; i < list->count; i++) {
		buffer_append_str(out, i > 0 ? ", \"" : "\"");
		if (row->type == SETTING_URL_LIST)
			format_url(list->items[i], out);
		else
			buffer_append_str(out, list->items[i]);
		buffer_append_char(out, '"');
	}
	buffer_append_char(out, ']');
}

void setting_format(const struct setting_row *row, const void *base, struct buffer *out)
{
	const void *place = field_const(row, base);

	switch (row->type) {
	case SETTING_BOOL: buffer_append_str(out, *(const bool *)place ? "true" : "false"); break;
	case SETTING_INT:
	case SETTING_SIZE:
	case SETTING_DURATION_MS: setting_format_number(row, *(const int64_t *)place, out); break;
	case SETTING_STRING_LIST:
	case SETTING_URL_LIST: format_list(row, place, out); break;
	case SETTING_URL: format_url(*(char *const *)place, out); break;
	default: buffer_append_str(out, *(char *const *)place); break;
	}
}

/* SPDX-License-Identifier: ISC */
/*
 * What the parts of the settings module share: settings_table.h as an array of
 * rows, and the functions that read, write and free one value of a row's type.
 */
#ifndef KEEPSOCK_SETTINGS_PRIVATE_H
#define KEEPSOCK_SETTINGS_PRIVATE_H

#include <libconfig.h>

#include "keepsock/settings.h"

enum setting_type {
	SETTING_BOOL,
	SETTING_INT,
	SETTING_SIZE,
	SETTING_DURATION_MS,
	SETTING_STRING,
	SETTING_PATH,
	SETTING_PROGRAM,
	SETTING_TARGET,
	SETTING_URL,
	SETTING_STRING_LIST,
};

/* NULL, or what the value must be ("must be ..."). */
typedef const char *setting_check_fn(const char *value);

struct setting_row {
	const char *group;
	const char *name;
	enum setting_type type;
	size_t offset; /* in struct settings, or in struct settings_listener */
	const char *default_text;
	int64_t min;
	int64_t max;
	setting_check_fn *check; /* strings only; may be NULL */
	bool reloadable;
	const char *doc;
};

struct setting_group_row {
	const char *name;
	const char *doc;
};

extern const struct setting_row setting_rows[];
extern const size_t setting_row_count;
extern const struct setting_row setting_listener_rows[];
extern const size_t setting_listener_row_count;
extern const struct setting_group_row setting_group_rows[];
extern const size_t setting_group_row_count;

/* settings_value.c: one value at base + row->offset. */

/* Takes it from a parsed file; directory ends in a slash or is "". False with the reason ("must be
 * ...") appended to why. */
bool setting_read(const struct setting_row *row, const config_setting_t *from,
		  const char *directory, void *base, struct buffer *why);
void setting_set_default(const struct setting_row *row, void *base);
void setting_free(const struct setting_row *row, void *base);
bool setting_equal(const struct setting_row *row, const void *a, const void *b);
/* As text, passwords hidden. */
void setting_format(const struct setting_row *row, const void *base, struct buffer *out);
/* A number of the row's type, as in the file. */
void setting_format_number(const struct setting_row *row, int64_t value, struct buffer *out);
const char *setting_type_name(const struct setting_row *row);
bool setting_type_is_text(const struct setting_row *row);

/* settings_scan.c */

/*
 * Appends to out the text as libconfig shall see it. NULL, or what is wrong
 * with it at *line.
 */
const char *settings_scan(const char *text, struct buffer *out, int *line);

/* settings_check.c */

setting_check_fn check_host_label, check_log_level, check_log_target, check_log_format,
	check_redis_server, check_file_mode, check_ip_address;

/*
 * NULL, or a sentence about two settings that contradict each other, with the
 * offsets of both in struct settings.
 */
const char *settings_find_contradiction(const struct settings *s, size_t offsets[2]);

#endif

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
	SETTING_URL_LIST,
};

/* NULL, or what the value must be ("must be ..."). */
typedef const char *setting_check_fn(const char *value);

struct setting_row {
	const char *group;
	const char *name;
	enum setting_type type;
	size_t offset; /* in the struct of the row's group */
	const char *default_text;
	int64_t min;
	int64_t max;
	setting_check_fn *check; /* strings, or each of a list; may be NULL */
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
extern const struct setting_row setting_tls_rows[];
extern const size_t setting_tls_row_count;
extern const struct setting_row setting_certificate_rows[];
extern const size_t setting_certificate_row_count;
/* NAMESPACE_SETTING rows, then CHANNEL_SETTING rows; setting_rows has the latter too. */
extern const struct setting_row setting_namespace_rows[];
extern const size_t setting_namespace_row_count;
extern const struct setting_group_row setting_group_rows[];
extern const size_t setting_group_row_count;

/* settings.c: one run of the parser, and what reads groups and lists alike. */

struct settings_parser {
	const char *display_name;
	char *directory; /* owned; with its slash, "" = the current one */
	struct settings *out;
	struct buffer *error;
	int *lines; /* of each of setting_rows; 0: not in the file */
};

/* Appends "FILE:LINE: text" to the error; always false, for `return settings_fail(...)`. */
bool settings_fail(struct settings_parser *p, int line, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
int settings_line_of(const config_setting_t *setting);

/* NULL when no row of this group has this name. */
const struct setting_row *settings_find_row(const struct setting_row *rows, size_t count,
					    const char *group, const char *name);

/* One value into base + row->offset. */
bool settings_read_row(struct settings_parser *p, const struct setting_row *row,
		       const config_setting_t *from, void *base);

/*
 * settings_lists.c: the lists `listeners` and `namespaces`. One element's settings
 * go into base, and each one's line into lines, which has as many elements as rows;
 * a child named `except` (may be NULL) is somebody else's.
 */
bool settings_read_element(struct settings_parser *p, const struct setting_row *rows, size_t count,
			   const config_setting_t *from, const char *except, void *base,
			   int *lines);
bool settings_read_listeners(struct settings_parser *p, const config_setting_t *from);
bool settings_read_namespaces(struct settings_parser *p, const config_setting_t *from);
/* What is there when the file has no listeners. */
void settings_add_default_listener(struct settings *s);
void settings_free_lists(struct settings *s);

/* settings_tls.c: the group `tls` of a listener. */
void settings_tls_set_defaults(struct settings_tls *tls);
bool settings_read_tls(struct settings_parser *p, const config_setting_t *from,
		       struct settings_tls *tls);
void settings_tls_free(struct settings_tls *tls);

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
bool setting_type_is_list(const struct setting_row *row);

/* settings_scan.c */

/*
 * Appends to out the text as libconfig shall see it. NULL, or what is wrong
 * with it at *line.
 */
const char *settings_scan(const char *text, struct buffer *out, int *line);

/* settings_check.c */

setting_check_fn check_host_label, check_listener_when, check_log_level, check_log_target,
	check_log_format, check_redis_server, check_redis_shard, check_file_mode, check_ip_address,
	check_regex, check_recovery_mode, check_claim_name, check_error_mode, check_namespace_name,
	check_cluster_peer, check_address_port, check_vip, check_absolute_path, check_tls_version,
	check_client_verify;

/* settings_whole.c */

/*
 * NULL, or a sentence about two settings that contradict each other, with the
 * offsets of both in struct settings. Namespaces are not looked at.
 */
const char *settings_find_contradiction(const struct settings *s, size_t offsets[2]);

/*
 * The same for the options of a namespace of s, or s->channel itself; offsets
 * are in struct channel_options.
 */
const char *settings_find_channel_contradiction(const struct settings *s,
						const struct channel_options *options,
						size_t offsets[2]);

/*
 * settings_cluster.c: whether the timings of the group cluster keep two primaries
 * apart; false with the arithmetic appended to why, and the two settings to change.
 */
bool settings_check_timing(const struct settings *s, struct buffer *why, size_t offsets[2]);
/* "", or what is wrong with the names of the peers. */
const char *settings_find_peer_problem(const struct settings *s);
/* "", or what is wrong with listeners that only the primary opens. */
const char *settings_find_listener_problem(const struct settings *s);

/* settings_redis_url.c: whether two of the URLs mean one Redis server. */
bool redis_shards_collide(const struct settings_list *shards);

/* settings_channel.c: the compiled form of channel_regex, which check_regex accepted. */
void channel_options_compile(struct channel_options *options);
void channel_options_free(struct channel_options *options); /* only that */

#endif

/* SPDX-License-Identifier: ISC */
/*
 * From the text of keepsock.conf to struct settings. Runs in the master (and
 * in `keepsockd -t`) and again in each worker, on the same text. It opens no
 * file and applies nothing; every error names file and line and leaves nothing
 * allocated.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "settings_private.h"

#define RELOADABLE true
#define FIXED      false

const struct setting_row setting_rows[] = {
#define SETTING(group, name, type, default_text, min, max, check, change, doc) \
	{#group,                                                               \
	 #name,                                                                \
	 SETTING_##type,                                                       \
	 offsetof(struct settings, group.name),                                \
	 default_text,                                                         \
	 min,                                                                  \
	 max,                                                                  \
	 check,                                                                \
	 change,                                                               \
	 doc},
#define CHANNEL_SETTING(name, type, default_text, min, max, check, change, doc) \
	{"channel",                                                             \
	 #name,                                                                 \
	 SETTING_##type,                                                        \
	 offsetof(struct settings, channel.name),                               \
	 default_text,                                                          \
	 min,                                                                   \
	 max,                                                                   \
	 check,                                                                 \
	 change,                                                                \
	 doc},
#include "keepsock/settings_table.h"
};
const size_t setting_row_count = sizeof(setting_rows) / sizeof(setting_rows[0]);

const struct setting_row setting_listener_rows[] = {
#define LISTENER_SETTING(name, type, default_text, min, max, check, change, doc) \
	{"listeners",                                                            \
	 #name,                                                                  \
	 SETTING_##type,                                                         \
	 offsetof(struct settings_listener, name),                               \
	 default_text,                                                           \
	 min,                                                                    \
	 max,                                                                    \
	 check,                                                                  \
	 change,                                                                 \
	 doc},
#include "keepsock/settings_table.h"
};
const size_t setting_listener_row_count =
	sizeof(setting_listener_rows) / sizeof(setting_listener_rows[0]);

const struct setting_row setting_tls_rows[] = {
#define TLS_SETTING(name, type, default_text, min, max, check, change, doc) \
	{"listeners.tls",                                                   \
	 #name,                                                             \
	 SETTING_##type,                                                    \
	 offsetof(struct settings_tls, name),                               \
	 default_text,                                                      \
	 min,                                                               \
	 max,                                                               \
	 check,                                                             \
	 change,                                                            \
	 doc},
#include "keepsock/settings_table.h"
};
const size_t setting_tls_row_count = sizeof(setting_tls_rows) / sizeof(setting_tls_rows[0]);

const struct setting_row setting_certificate_rows[] = {
#define CERTIFICATE_SETTING(name, type, default_text, min, max, check, change, doc) \
	{"listeners.tls.certificates",                                              \
	 #name,                                                                     \
	 SETTING_##type,                                                            \
	 offsetof(struct settings_certificate, name),                               \
	 default_text,                                                              \
	 min,                                                                       \
	 max,                                                                       \
	 check,                                                                     \
	 change,                                                                    \
	 doc},
#include "keepsock/settings_table.h"
};
const size_t setting_certificate_row_count =
	sizeof(setting_certificate_rows) / sizeof(setting_certificate_rows[0]);

const struct setting_row setting_namespace_rows[] = {
#define NAMESPACE_SETTING(name, type, default_text, min, max, check, change, doc) \
	{"namespaces",                                                            \
	 #name,                                                                   \
	 SETTING_##type,                                                          \
	 offsetof(struct settings_namespace, name),                               \
	 default_text,                                                            \
	 min,                                                                     \
	 max,                                                                     \
	 check,                                                                   \
	 change,                                                                  \
	 doc},
#include "keepsock/settings_table.h"
#define CHANNEL_SETTING(name, type, default_text, min, max, check, change, doc) \
	{"namespaces",                                                          \
	 #name,                                                                 \
	 SETTING_##type,                                                        \
	 offsetof(struct settings_namespace, options.name),                     \
	 default_text,                                                          \
	 min,                                                                   \
	 max,                                                                   \
	 check,                                                                 \
	 change,                                                                \
	 doc},
#include "keepsock/settings_table.h"
};
const size_t setting_namespace_row_count =
	sizeof(setting_namespace_rows) / sizeof(setting_namespace_rows[0]);

const struct setting_group_row setting_group_rows[] = {
#define SETTINGS_GROUP(group, doc)  {#group, doc},
#define SETTINGS_CHANNEL_GROUP(doc) {"channel", doc},
#include "keepsock/settings_table.h"
};
const size_t setting_group_row_count = sizeof(setting_group_rows) / sizeof(setting_group_rows[0]);

bool settings_fail(struct settings_parser *p, int line, const char *fmt, ...)
{
	va_list args;
	char *text;

	va_start(args, fmt);
	if (vasprintf(&text, fmt, args) < 0)
		abort();
	va_end(args);
	buffer_printf(p->error, "%s:%d: %s", p->display_name, line, text);
	free(text);
	return false;
}

int settings_line_of(const config_setting_t *setting)
{
	return (int)config_setting_source_line(setting);
}

bool settings_read_row(struct settings_parser *p, const struct setting_row *row,
		       const config_setting_t *from, void *base)
{
	struct buffer why;
	bool ok;

	buffer_init(&why);
	ok = setting_read(row, from, p->directory, base, &why);
	if (!ok)
		settings_fail(p, settings_line_of(from), "%s.%s %s", row->group, row->name,
			      buffer_cstr(&why));
	buffer_free(&why);
	return ok;
}

const struct setting_row *settings_find_row(const struct setting_row *rows, size_t count,
					    const char *group, const char *name)
{
	for (size_t i = 0; i < count; i++) {
		if (strcmp(rows[i].group, group) == 0 && strcmp(rows[i].name, name) == 0)
			return &rows[i];
	}
	return NULL;
}

/* ---- groups ---- */

static bool group_is_known(const char *name)
{
	for (size_t i = 0; i < setting_group_row_count; i++) {
		if (strcmp(setting_group_rows[i].name, name) == 0)
			return true;
	}
	return false;
}

static bool read_group(struct settings_parser *p, const config_setting_t *group)
{
	const char *group_name = config_setting_name(group);

	if (!group_is_known(group_name))
		return settings_fail(p, settings_line_of(group),
				     "unknown setting %s, correct or remove it", group_name);
	if (!config_setting_is_group(group))
		return settings_fail(p, settings_line_of(group), "%s must be a group: %s: { ... };",
				     group_name, group_name);
	for (int i = 0; i < config_setting_length(group); i++) {
		const config_setting_t *child = config_setting_get_elem(group, (unsigned int)i);
		const char *name = config_setting_name(child);
		const struct setting_row *row =
			settings_find_row(setting_rows, setting_row_count, group_name, name);

		if (!row)
			return settings_fail(p, settings_line_of(child),
					     "unknown setting %s.%s, correct or remove it",
					     group_name, name);
		if (!settings_read_row(p, row, child, p->out))
			return false;
		p->lines[row - setting_rows] = settings_line_of(child);
	}
	return true;
}

/* Namespaces come last: they are checked against other settings. */
static bool read_root(struct settings_parser *p, const config_setting_t *root)
{
	const config_setting_t *namespaces = config_setting_get_member(root, "namespaces");

	for (int i = 0; i < config_setting_length(root); i++) {
		const config_setting_t *child = config_setting_get_elem(root, (unsigned int)i);
		bool ok;

		if (child == namespaces)
			continue;
		ok = strcmp(config_setting_name(child), "listeners") == 0
			     ? settings_read_listeners(p, child)
			     : read_group(p, child);
		if (!ok)
			return false;
	}
	return !namespaces || settings_read_namespaces(p, namespaces);
}

/* ---- the whole ---- */

static bool read_text(struct settings_parser *p, const char *text, config_t *config)
{
	struct buffer scanned;
	const char *problem;
	int line;
	bool ok;

	buffer_init(&scanned);
	problem = settings_scan(text, &scanned, &line);
	if (problem)
		ok = settings_fail(p, line, "%s", problem);
	else if (config_read_string(config, buffer_cstr(&scanned)) != CONFIG_TRUE)
		ok = settings_fail(p, config_error_line(config),
				   "%s, correct this line or the one before",
				   config_error_text(config));
	else
		ok = read_root(p, config_root_setting(config));
	buffer_free(&scanned);
	return ok;
}

/* The last of the lines of the two settings, 0 when neither is in the file. */
static int later_line(const struct settings_parser *p, const size_t offsets[2])
{
	int line = 0;

	for (size_t i = 0; i < setting_row_count; i++) {
		if ((setting_rows[i].offset == offsets[0] ||
		     setting_rows[i].offset == offsets[1]) &&
		    p->lines[i] > line)
			line = p->lines[i];
	}
	return line;
}

static bool check_timing(struct settings_parser *p)
{
	struct buffer why = {0};
	size_t offsets[2];
	bool ok = settings_check_timing(p->out, &why, offsets);

	if (!ok)
		settings_fail(p, later_line(p, offsets), "%s", buffer_cstr(&why));
	buffer_free(&why);
	return ok;
}

static bool check_whole(struct settings_parser *p)
{
	size_t offsets[2];
	const char *problem = settings_find_contradiction(p->out, offsets);

	if (problem)
		return settings_fail(p, later_line(p, offsets), "%s", problem);
	if (!check_timing(p))
		return false;
	problem = settings_find_channel_contradiction(p->out, &p->out->channel, offsets);
	if (!problem)
		return true;
	offsets[0] += offsetof(struct settings, channel);
	offsets[1] += offsetof(struct settings, channel);
	return settings_fail(p, later_line(p, offsets), "channel: %s", problem);
}

/* Settings whose default depends on another one. */
static void fill_derived(struct settings *s)
{
	if (s->listener_count == 0)
		settings_add_default_listener(s);
	if (*s->admin.socket == '\0') {
		free(s->admin.socket);
		s->admin.socket = xasprintf("%s/admin.sock", s->node.run_dir);
	}
	if (*s->cluster.socket == '\0') {
		free(s->cluster.socket);
		s->cluster.socket = xasprintf("%s/supervisor.sock", s->node.run_dir);
	}
}

static const char *find_fixed_change(const struct settings *from, const struct settings *to,
				     size_t *row)
{
	static char name[128];

	for (size_t i = 0; i < setting_row_count; i++) {
		if (setting_rows[i].reloadable || setting_equal(&setting_rows[i], from, to))
			continue;
		snprintf(name, sizeof(name), "%s.%s", setting_rows[i].group, setting_rows[i].name);
		*row = i;
		return name;
	}
	return NULL;
}

/* A setting that is not in the file has no line, but may have changed by that. */
static bool check_unchanged(struct settings_parser *p, const struct settings *from)
{
	size_t row;
	const char *name = from ? find_fixed_change(from, p->out, &row) : NULL;

	if (!name)
		return true;
	return settings_fail(p, p->lines[row],
			     "%s can't be changed while the node runs: stop and start it", name);
}

/* from: the settings in force, NULL = none. */
static int parse(const char *text, const char *display_name, const struct settings *from,
		 struct settings *out, struct buffer *error)
{
	const char *slash = strrchr(display_name, '/');
	int lines[sizeof(setting_rows) / sizeof(setting_rows[0])] = {0};
	struct settings_parser p = {
		.display_name = display_name, .out = out, .error = error, .lines = lines};
	config_t config;
	bool ok;

	memset(out, 0, sizeof(*out));
	for (size_t i = 0; i < setting_row_count; i++)
		setting_set_default(&setting_rows[i], out);
	p.directory = xstrndup(display_name, slash ? (size_t)(slash - display_name) + 1 : 0);

	config_init(&config);
	ok = read_text(&p, text, &config) && check_whole(&p);
	config_destroy(&config);
	free(p.directory);
	if (ok)
		fill_derived(out);
	if (!ok || !check_unchanged(&p, from)) {
		settings_free(out);
		return -1;
	}
	channel_options_compile(&out->channel);
	return 0;
}

int settings_parse(const char *text, const char *display_name, struct settings *out,
		   struct buffer *error)
{
	return parse(text, display_name, NULL, out, error);
}

int settings_parse_change(const char *text, const char *display_name, const struct settings *from,
			  struct settings *out, struct buffer *error)
{
	return parse(text, display_name, from, out, error);
}

void settings_free(struct settings *s)
{
	for (size_t i = 0; i < setting_row_count; i++)
		setting_free(&setting_rows[i], s);
	channel_options_free(&s->channel);
	settings_free_lists(s);
	memset(s, 0, sizeof(*s));
}

const char *settings_find_fixed_change(const struct settings *from, const struct settings *to)
{
	size_t row;

	return find_fixed_change(from, to, &row);
}

/* SPDX-License-Identifier: ISC */
/*
 * The settings as text: what `show config` tells, and the generated documents,
 * which must be the checked-in ones and valid themselves.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "keepsock/settings.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void parse(const char *text, struct settings *s)
{
	struct buffer error;

	buffer_init(&error);
	if (settings_parse(text, "keepsock.conf", s, &error) != 0)
		fail_msg("refused: %s", buffer_cstr(&error));
	buffer_free(&error);
}

/* ---- show config ---- */

struct wanted {
	const char *name;
	const char *type;
	const char *value;
	const char *default_value;
	bool reloadable;
	bool found;
};

struct wanted_list {
	struct wanted *items;
	size_t count;
	size_t rows;
};

static void on_setting(void *ctx, const char *name, const char *type, const char *value,
		       const char *default_value, bool reloadable, const char *doc)
{
	struct wanted_list *list = ctx;

	list->rows++;
	assert_true(strlen(doc) > 0);
	for (size_t i = 0; i < list->count; i++) {
		struct wanted *w = &list->items[i];

		if (strcmp(w->name, name) != 0)
			continue;
		assert_string_equal(type, w->type);
		assert_string_equal(value, w->value);
		assert_string_equal(default_value, w->default_value);
		assert_int_equal(reloadable, w->reloadable);
		w->found = true;
	}
}

static void test_each_setting_as_text(void **state)
{
	struct wanted wanted[] = {
		{"node.name", "string", "b", "a", false, false},
		{"client.insecure", "boolean", "true", "false", true, false},
		{"client.ping_interval", "duration", "2h", "25s", true, false},
		{"client.pong_timeout", "duration", "1500ms", "8s", true, false},
		{"channel.history_ttl", "duration", "0", "0", true, false},
		{"memory.arena_size", "size", "33554432", "1073741824", true, false},
		{"websocket.allowed_origins", "list of strings", "[\"x\", \"y\"]", "[]", true,
		 false},
		{"redis.server", "URL", "redis://me:***@h:1/2", "embedded", true, false},
		{"admin.socket", "path", "/run/keepsock/admin.sock", "", true, false},
		{"redis.shards", "list of URLs", "[\"redis://:***@h\", \"redis://i\"]", "[]", true,
		 false},
		{"namespaces.chat.presence", "boolean", "true", "false", true, false},
		{"namespaces.chat.history_meta_ttl", "duration", "30d", "30d", true, false},
		{"listeners[0].port", "integer", "8000", "8000", true, false},
		{"listeners[1].address", "string", "::1", "0.0.0.0", true, false},
	};
	struct wanted_list list = {wanted, COUNT(wanted), 0};
	struct settings s;

	(void)state;
	parse("node: { name = \"b\"; };\n"
	      "client: { insecure = true; ping_interval = 7200000; pong_timeout = 1500; };\n"
	      "memory: { arena_size = \"32MiB\"; };\n"
	      "websocket: { allowed_origins = [\"x\", \"y\"]; };\n"
	      "redis: { server = \"redis://me:se@cr:et@h:1/2\"; "
	      "shards = [\"redis://:secret@h\", \"redis://i\"]; };\n"
	      "namespaces = ( { name = \"chat\"; presence = true; } );\n"
	      "listeners = ( {}, { address = \"::1\"; } );\n",
	      &s);
	settings_each(&s, on_setting, &list);
	for (size_t i = 0; i < list.count; i++) {
		if (!wanted[i].found)
			fail_msg("%s was not shown", wanted[i].name);
	}
	assert_true(list.rows > 50);
	settings_free(&s);
}

static void on_default_setting(void *ctx, const char *name, const char *type, const char *value,
			       const char *default_value, bool reloadable, const char *doc)
{
	(void)ctx;
	(void)type;
	(void)reloadable;
	(void)doc;
	/* The defaults that are made from another setting. */
	if (strcmp(name, "admin.socket") != 0 && strcmp(name, "cluster.socket") != 0)
		assert_string_equal(value, default_value);
}

static void test_defaults_are_shown_as_they_are_written(void **state)
{
	struct settings s;

	(void)state;
	parse("", &s);
	settings_each(&s, on_default_setting, NULL);
	settings_free(&s);
}

/* ---- the generated documents ---- */

static char *read_source_file(const char *name)
{
	const char *srcdir = getenv("srcdir");
	char path[4096];
	struct buffer content;
	FILE *file;
	size_t got;

	snprintf(path, sizeof(path), "%s/%s", srcdir ? srcdir : ".", name);
	file = fopen(path, "r");
	if (!file)
		fail_msg("can't open %s", path);
	buffer_init(&content);
	do {
		got = fread(buffer_reserve(&content, 4096), 1, 4096, file);
		content.len += got;
	} while (got > 0);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(buffer_cstr(&content)[content.len], 0);
	return content.data;
}

static char *generate(bool (*write)(FILE *out))
{
	char *text = NULL;
	size_t len;
	FILE *stream = open_memstream(&text, &len);

	assert_non_null(stream);
	assert_true(write(stream));
	assert_int_equal(fclose(stream), 0);
	return text;
}

static void assert_up_to_date(bool (*write)(FILE *out), const char *name)
{
	char *generated = generate(write), *checked_in = read_source_file(name);

	if (strcmp(generated, checked_in) != 0)
		fail_msg("%s differs from the settings table: run `make docs`", name);
	free(generated);
	free(checked_in);
}

static void test_checked_in_documents_are_up_to_date(void **state)
{
	(void)state;
	assert_up_to_date(settings_write_man, "docs/keepsock.conf.5.md");
	assert_up_to_date(settings_write_example, "etc/keepsock.conf");
}

static void assert_same_settings(const char *text)
{
	struct settings defaults, s;
	struct wanted_list none = {NULL, 0, 0};

	parse("", &defaults);
	parse(text, &s);
	assert_null(settings_find_fixed_change(&defaults, &s));
	assert_int_equal(s.listener_count, 1);
	settings_each(&s, on_default_setting, NULL);
	settings_each(&s, on_setting, &none);
	assert_true(none.rows > 50);
	settings_free(&defaults);
	settings_free(&s);
}

static void test_example_is_valid_as_it_is_and_uncommented(void **state)
{
	char *text = generate(settings_write_example);
	struct buffer uncommented;
	size_t settings = 0;

	(void)state;
	assert_same_settings(text);

	/* "#name = value;" is a setting, "# words" is a comment. */
	buffer_init(&uncommented);
	for (const char *p = text; *p; p++) {
		if (*p == '#' && p[1] != ' ' && (p[-1] == '\t' || p[-1] == '\n'))
			settings++;
		else
			buffer_append_char(&uncommented, *p);
	}
	assert_true(settings > 50);
	assert_same_settings(buffer_cstr(&uncommented));
	buffer_free(&uncommented);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_setting_as_text),
		cmocka_unit_test(test_defaults_are_shown_as_they_are_written),
		cmocka_unit_test(test_checked_in_documents_are_up_to_date),
		cmocka_unit_test(test_example_is_valid_as_it_is_and_uncommented),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

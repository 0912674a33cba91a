/* SPDX-License-Identifier: ISC */
/*
 * For tests of the settings: a text that has to be accepted, and one that has to
 * be refused with exactly one message. After cmocka.h.
 */
#ifndef KEEPSOCK_TESTS_SETTINGS_TEXT_H
#define KEEPSOCK_TESTS_SETTINGS_TEXT_H

#include <string.h>

#include "keepsock/settings.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static inline void parse_as(const char *text, const char *name, struct settings *s)
{
	struct buffer error;

	buffer_init(&error);
	if (settings_parse(text, name, s, &error) != 0)
		fail_msg("refused: %s", buffer_cstr(&error));
	assert_int_equal(error.len, 0);
	buffer_free(&error);
}

static inline void parse(const char *text, struct settings *s)
{
	parse_as(text, "keepsock.conf", s);
}

static inline void assert_error(const char *text, const char *expected)
{
	static const struct settings empty;
	struct settings s;
	struct buffer error;

	buffer_init(&error);
	if (settings_parse(text, "dir/k.conf", &s, &error) != -1)
		fail_msg("accepted: %s", text);
	assert_string_equal(buffer_cstr(&error), expected);
	assert_memory_equal(&s, &empty, sizeof(s));
	buffer_free(&error);
}

struct bad_file {
	const char *text;
	const char *error;
};

static inline void assert_errors(const struct bad_file *files, size_t count)
{
	for (size_t i = 0; i < count; i++)
		assert_error(files[i].text, files[i].error);
}

#endif

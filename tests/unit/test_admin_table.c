/* SPDX-License-Identifier: ISC */
/*
 * The admin command table: every row is complete, request lines are taken
 * apart as the rows say, and the manual page shows what the table holds.
 */
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "keepsock/admin_commands.h"
#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/text_file.h"
#include "supervisor/supervisor_commands.h"

static const struct admin_command supervisor_rows[] = {
#define COMMAND(name, arguments, privilege, handler, help) \
	{name, arguments, ADMIN_PRIVILEGE_##privilege, help},
	SUPERVISOR_COMMANDS_TABLE(COMMAND)
#undef COMMAND
};
#define SUPERVISOR_ROWS (sizeof(supervisor_rows) / sizeof(supervisor_rows[0]))

static void test_every_row_is_complete(void **state)
{
	(void)state;
	assert_true(admin_command_count() > 0);
	for (size_t i = 0; i < admin_command_count(); i++) {
		const struct admin_command *command = admin_command_at(i);
		size_t length = strlen(command->help);

		assert_true(command->name[0] != '\0');
		assert_non_null(command->arguments);
		assert_true(command->privilege >= ADMIN_PRIVILEGE_VIEW &&
			    command->privilege <= ADMIN_PRIVILEGE_ADMIN);
		assert_true(length > 0 && command->help[length - 1] == '.');
		assert_true(isupper((unsigned char)command->help[0]));
	}
}

/* The supervisor's are in the same form, and none hides another. */
static void test_the_supervisors_rows(void **state)
{
	(void)state;
	for (size_t i = 0; i < SUPERVISOR_ROWS; i++) {
		const struct admin_command *command = &supervisor_rows[i];
		char *line = xasprintf("%s %s --json", command->name, command->arguments);
		bool looks = strncmp(command->name, "show ", 5) == 0 ||
			     strcmp(command->name, "status") == 0 ||
			     strcmp(command->name, "help") == 0 ||
			     strcmp(command->name, "monitor") == 0;
		struct admin_call call;
		struct buffer error = {0};

		assert_int_equal(looks, command->privilege == ADMIN_PRIVILEGE_VIEW);
		assert_int_equal(command->help[strlen(command->help) - 1], '.');
		assert_int_equal(
			admin_call_parse_in(supervisor_rows, SUPERVISOR_ROWS, line, &call, &error),
			0);
		assert_ptr_equal(call.command, command);
		assert_true(call.json);
		buffer_free(&error);
		free(line);
	}
}

/* What shows may be seen by everybody; what changes something may not. */
static void test_only_looking_is_free(void **state)
{
	(void)state;
	for (size_t i = 0; i < admin_command_count(); i++) {
		const struct admin_command *command = admin_command_at(i);
		bool looks = strncmp(command->name, "show ", 5) == 0 ||
			     strcmp(command->name, "status") == 0 ||
			     strcmp(command->name, "role") == 0 ||
			     strcmp(command->name, "help") == 0;

		assert_int_equal(looks, command->privilege == ADMIN_PRIVILEGE_VIEW);
	}
}

/* Otherwise the first of the two would hide the other. */
static void test_no_name_begins_another(void **state)
{
	(void)state;
	for (size_t i = 0; i < admin_command_count(); i++) {
		for (size_t j = 0; j < admin_command_count(); j++) {
			const char *name = admin_command_at(i)->name;
			size_t length = strlen(name);
			const char *other = admin_command_at(j)->name;

			assert_true(i == j || strncmp(name, other, length) != 0 ||
				    (other[length] != ' ' && other[length] != '\0'));
		}
	}
}

/* The rest-of-line argument comes last, and nothing required follows something optional. */
static void test_arguments_can_be_parsed(void **state)
{
	(void)state;
	for (size_t i = 0; i < admin_command_count(); i++) {
		const char *at = admin_command_at(i)->arguments;
		bool optional = false;
		size_t count = 0;

		while (*at) {
			size_t length = strcspn(at, " ");

			assert_true(length > 0);
			assert_true(!optional || at[0] == '[');
			optional = at[0] == '[';
			assert_int_equal(optional, at[length - 1] == ']');
			if (memmem(at, length, "...", 3))
				assert_int_equal(at[length], '\0');
			at += length;
			at += *at == ' ';
			count++;
		}
		assert_true(count <= ADMIN_WORDS_MAX);
	}
}

/* A line that names each command, with something for every argument. */
static void test_every_command_is_found(void **state)
{
	(void)state;
	for (size_t i = 0; i < admin_command_count(); i++) {
		const struct admin_command *command = admin_command_at(i);
		char *line = xasprintf("%s %s", command->name, command->arguments);
		struct admin_call call;
		struct buffer error = {0};

		assert_int_equal(admin_call_parse(line, &call, &error), 0);
		assert_ptr_equal(call.command, command);
		assert_int_equal(call.index, i);
		assert_false(call.json);
		buffer_free(&error);
		free(line);
	}
}

struct parse_case {
	const char *line;
	const char *command; /* NULL = an error */
	bool json;
	const char *arguments[ADMIN_WORDS_MAX];
};

static const struct parse_case cases[] = {
	{"status", "status", false, {NULL}},
	{"  status \t\r", "status", false, {NULL}},
	{"status --json", "status", true, {NULL}},
	{"status  --json  ", "status", true, {NULL}},
	{"show workers", "show workers", false, {NULL}},
	{"show \t workers", "show workers", false, {NULL}},
	{"show connection  x ", "show connection", false, {"x"}},
	{"show connection --json", NULL, true, {NULL}},
	{"show connection x --json", "show connection", true, {"x"}},
	{"disconnect x", "disconnect", false, {"x"}},
	{"disconnect x 3000", "disconnect", false, {"x", "3000"}},
	{"disconnect x 3000 all  the rest ", "disconnect", false, {"x", "3000", "all  the rest"}},
	{"disconnect x 3000 bye --json", "disconnect", true, {"x", "3000", "bye"}},
	{"publish a {\"b\": [1, 2]}", "publish", false, {"a", "{\"b\": [1, 2]}"}},
	{"publish a \"x--json\"", "publish", false, {"a", "\"x--json\""}},
	{"publish a", NULL, false, {NULL}},
	{"publish a --json", NULL, true, {NULL}},
	{"publish", NULL, false, {NULL}},
	{"log level debug", "log level", false, {"debug"}},
	{"log level", NULL, false, {NULL}},
	{"log level debug now", NULL, false, {NULL}},
	{"status now", NULL, false, {NULL}},
	{"statu", NULL, false, {NULL}},
	{"statusx", NULL, false, {NULL}},
	{"show", NULL, false, {NULL}},
	{"show workersx", NULL, false, {NULL}},
	{"STATUS", NULL, false, {NULL}},
	{"", NULL, false, {NULL}},
	{"   ", NULL, false, {NULL}},
	{"--json", NULL, true, {NULL}},
};

static void check_case(const struct parse_case *expected)
{
	char *line = xstrdup(expected->line);
	struct admin_call call;
	struct buffer error = {0};
	int result = admin_call_parse(line, &call, &error);

	assert_int_equal(result, expected->command ? 0 : -1);
	assert_int_equal(call.json, expected->json);
	assert_int_equal(error.len > 0, result < 0);
	for (size_t i = 0; result == 0 && i < ADMIN_WORDS_MAX; i++) {
		assert_int_equal(i < call.argument_count, expected->arguments[i] != NULL);
		if (expected->arguments[i])
			assert_string_equal(call.arguments[i], expected->arguments[i]);
		else
			assert_null(call.arguments[i]);
	}
	if (expected->command)
		assert_string_equal(call.command->name, expected->command);
	buffer_free(&error);
	free(line);
}

static void test_lines_are_taken_apart(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		check_case(&cases[i]);
}

static void test_a_usage_error_says_what_is_expected(void **state)
{
	char line[] = "disconnect";
	struct admin_call call;
	struct buffer error = {0};

	(void)state;
	assert_int_equal(admin_call_parse(line, &call, &error), -1);
	assert_string_equal(buffer_cstr(&error), "usage: disconnect CLIENT_ID [CODE] [REASON...]");
	buffer_free(&error);
}

/* To repair: make docs. */
static void test_manual_page_shows_the_table(void **state)
{
	static const char start_mark[] = "include/keepsock/admin_commands.h. -->\n\n";
	static const char end_mark[] = "<!-- End of what is generated. -->";
	const char *srcdir = getenv("srcdir");
	char *path = xasprintf("%s/docs/keepsockctl.1.md", srcdir ? srcdir : ".");
	struct buffer page = {0}, section = {0}, error = {0};
	char *start, *end;

	(void)state;
	assert_int_equal(text_file_read(path, SIZE_MAX, &page, &error), 0);
	admin_commands_write_man(&section);
	buffer_append_str(&section, SUPERVISOR_COMMANDS_HEADING);
	admin_rows_write_man(&section, supervisor_rows, SUPERVISOR_ROWS);
	start = strstr(buffer_cstr(&page), start_mark);
	assert_non_null(start);
	start += strlen(start_mark);
	end = strstr(start, end_mark);
	assert_non_null(end);
	*end = '\0';
	assert_string_equal(start, buffer_cstr(&section));
	buffer_free(&page);
	buffer_free(&section);
	free(path);
}

static void test_usage_names_every_command(void **state)
{
	struct buffer usage = {0};

	(void)state;
	admin_commands_write_usage(&usage);
	for (size_t i = 0; i < admin_command_count(); i++)
		assert_non_null(strstr(buffer_cstr(&usage), admin_command_at(i)->name));
	buffer_free(&usage);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_row_is_complete),
		cmocka_unit_test(test_the_supervisors_rows),
		cmocka_unit_test(test_only_looking_is_free),
		cmocka_unit_test(test_no_name_begins_another),
		cmocka_unit_test(test_arguments_can_be_parsed),
		cmocka_unit_test(test_every_command_is_found),
		cmocka_unit_test(test_lines_are_taken_apart),
		cmocka_unit_test(test_a_usage_error_says_what_is_expected),
		cmocka_unit_test(test_manual_page_shows_the_table),
		cmocka_unit_test(test_usage_names_every_command),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

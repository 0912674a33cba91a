/* SPDX-License-Identifier: ISC */
/*
 * The command table at run time: taking a request line apart by it, and
 * writing it as help and manual page. Runs in the master and keepsockctl. It
 * executes nothing and knows no privileges but the table's.
 */
#include <string.h>

#include "keepsock/admin_commands.h"
#include "keepsock/buffer.h"

static const struct admin_command commands[] = {
#define COMMAND(name, arguments, privilege, handler, help) \
	{name, arguments, ADMIN_PRIVILEGE_##privilege, help},
	ADMIN_COMMANDS_TABLE(COMMAND)
#ifdef KEEPSOCK_CRASH_POINTS
		ADMIN_TEST_COMMANDS_TABLE(COMMAND)
#endif
#undef COMMAND
};

#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

/* The commands that every build has come first; only they are documented. */
#define COMMAND(name, arguments, privilege, handler, help) +1
enum { DOCUMENTED_COUNT = 0 ADMIN_COMMANDS_TABLE(COMMAND) };
#undef COMMAND

size_t admin_command_count(void)
{
	return COMMAND_COUNT;
}

const struct admin_command *admin_command_at(size_t index)
{
	return &commands[index];
}

const char *admin_privilege_name(enum admin_privilege privilege)
{
	static const char *const names[] = {"view", "operate", "admin"};

	return names[privilege];
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static char *skip_blanks(char *at)
{
	while (is_blank(*at))
		at++;
	return at;
}

/* Cuts the next word off; NULL when there is none. */
static char *next_word(char **rest)
{
	char *word = skip_blanks(*rest);
	char *end = word;

	while (*end && !is_blank(*end))
		end++;
	*rest = *end ? end + 1 : end;
	*end = '\0';
	return *word ? word : NULL;
}

static void trim_end(char *line)
{
	size_t length = strlen(line);

	while (length > 0 && (is_blank(line[length - 1]) || line[length - 1] == '\r'))
		line[--length] = '\0';
}

/* A last word --json is not an argument. */
static bool take_json_flag(char *line)
{
	static const char flag[] = "--json";
	size_t flag_length = sizeof(flag) - 1;
	size_t length;

	trim_end(line);
	length = strlen(line);
	if (length < flag_length || strcmp(line + length - flag_length, flag) != 0)
		return false;
	if (length > flag_length && !is_blank(line[length - flag_length - 1]))
		return false;
	line[length - flag_length] = '\0';
	trim_end(line);
	return true;
}

/* Whether the line begins with the words of name; *rest is what follows them. */
static bool match_name(char *line, const char *name, char **rest)
{
	char *at = skip_blanks(line);

	for (; *name; name++) {
		if (*name == ' ') {
			if (!is_blank(*at))
				return false;
			at = skip_blanks(at);
		} else if (*at++ != *name) {
			return false;
		}
	}
	*rest = at;
	return *at == '\0' || is_blank(*at);
}

static int fail_usage(const struct admin_command *command, struct buffer *error)
{
	buffer_printf(error, "usage: %s%s%s", command->name, command->arguments[0] ? " " : "",
		      command->arguments);
	return -1;
}

static bool ends_in_dots(const char *start, size_t length)
{
	if (length > 0 && start[length - 1] == ']')
		length--;
	return length > 3 && memcmp(start + length - 3, "...", 3) == 0;
}

/* Fills the arguments one by one as the table's description names them. */
static int parse_arguments(char *rest, struct admin_call *call, struct buffer *error)
{
	const char *described = call->command->arguments;

	while (*described) {
		size_t length = strcspn(described, " ");
		char *word;

		if (ends_in_dots(described, length)) {
			word = skip_blanks(rest);
			rest = word + strlen(word);
			word = *word ? word : NULL;
		} else {
			word = next_word(&rest);
		}
		if (!word && described[0] != '[')
			return fail_usage(call->command, error);
		if (word)
			call->arguments[call->argument_count++] = word;
		described += length;
		described += *described == ' ';
	}
	if (*skip_blanks(rest))
		return fail_usage(call->command, error);
	return 0;
}

int admin_call_parse(char *line, struct admin_call *call, struct buffer *error)
{
	return admin_call_parse_in(commands, COMMAND_COUNT, line, call, error);
}

int admin_call_parse_in(const struct admin_command *rows, size_t count, char *line,
			struct admin_call *call, struct buffer *error)
{
	char *rest = NULL;

	memset(call, 0, sizeof(*call));
	call->json = take_json_flag(line);
	for (size_t i = 0; i < count && !call->command; i++) {
		if (match_name(line, rows[i].name, &rest)) {
			call->command = &rows[i];
			call->index = i;
		}
	}
	if (call->command)
		return parse_arguments(rest, call, error);
	line = skip_blanks(line);
	if (*line)
		buffer_printf(error, "unknown command: %.60s (see help)", line);
	else
		buffer_append_str(error, "no command given (see help)");
	return -1;
}

void admin_rows_write_man(struct buffer *out, const struct admin_command *rows, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct admin_command *command = &rows[i];

		buffer_printf(out, "`%s%s%s` (%s)\n:   %s\n\n", command->name,
			      command->arguments[0] ? " " : "", command->arguments,
			      admin_privilege_name(command->privilege), command->help);
	}
}

void admin_rows_write_usage(struct buffer *out, const struct admin_command *rows, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct admin_command *command = &rows[i];

		buffer_printf(out, "  %s%s%s\n      %s\n", command->name,
			      command->arguments[0] ? " " : "", command->arguments, command->help);
	}
}

void admin_commands_write_man(struct buffer *out)
{
	admin_rows_write_man(out, commands, DOCUMENTED_COUNT);
}

void admin_commands_write_usage(struct buffer *out)
{
	admin_rows_write_usage(out, commands, COMMAND_COUNT);
}

/* SPDX-License-Identifier: ISC */
/*
 * The command line of keepsock-bench, parsed by getopt_long from one table, and
 * the texts written from the same table.
 */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "options_table.h"

struct command_row {
	enum bench_command command;
	const char *name;
	uint64_t connections, messages, warm_up, size, in_flight;
	const char *doc;
};

static const struct command_row commands[] = {
#define X(NAME, name, connections, messages, warm_up, size, in_flight, doc) \
	{BENCH_##NAME, #name, connections, messages, warm_up, size, in_flight, doc},
	BENCH_COMMAND_TABLE(X)
#undef X
};

enum option_type { OPTION_TEXT, OPTION_COUNT, OPTION_FLAG, OPTION_PID };

struct option_row {
	const char *name;
	size_t offset; /* of the member in struct bench_options */
	enum option_type type;
	const char *argument;
	int64_t fallback;
	uint64_t min, max;
	unsigned commands;
	const char *doc;
};

static const struct option_row rows[] = {
#define X(name, member, TYPE, argument, fallback, min, max, commands, doc) \
	{name,                                                             \
	 offsetof(struct bench_options, member),                           \
	 OPTION_##TYPE,                                                    \
	 argument,                                                         \
	 fallback,                                                         \
	 min,                                                              \
	 max,                                                              \
	 commands,                                                         \
	 doc},
	BENCH_OPTION_TABLE(X)
#undef X
};

#define ROW_COUNT     (sizeof(rows) / sizeof(rows[0]))
#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

/* getopt_long's values: a row's index from here on, so that they are no characters. */
#define ROW_BASE 1000

static const struct command_row *command_find(const char *name)
{
	for (size_t i = 0; i < COMMAND_COUNT; i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

const char *options_command_name(enum bench_command command)
{
	for (size_t i = 0; i < COMMAND_COUNT; i++)
		if (commands[i].command == command)
			return commands[i].name;
	return "unknown";
}

/* ---- parsing ---- */

static uint64_t *count_member(struct bench_options *options, const struct option_row *row)
{
	return (uint64_t *)((char *)options + row->offset);
}

static bool parse_digits(const char *text, uint64_t *value)
{
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	*value = strtoull(text, &end, 10);
	return errno == 0 && *end == '\0';
}

static enum options_result apply_count(struct bench_options *options, const struct option_row *row,
				       const char *text, struct buffer *error)
{
	uint64_t value;

	if (!parse_digits(text, &value) || value < row->min || value > row->max) {
		buffer_printf(error, "--%s %s: give a number from %llu to %llu", row->name, text,
			      (unsigned long long)row->min, (unsigned long long)row->max);
		return OPTIONS_ERROR;
	}
	*count_member(options, row) = value;
	return OPTIONS_RUN;
}

static enum options_result apply_pid(struct bench_options *options, const char *text,
				     struct buffer *error)
{
	struct usage_pids *pids = &options->server_pids;
	uint64_t value;

	if (!parse_digits(text, &value) || value == 0 || value > INT_MAX) {
		buffer_printf(error, "--server-pid %s: give a process id", text);
		return OPTIONS_ERROR;
	}
	if (pids->count == USAGE_PIDS_MAX) {
		buffer_printf(error, "--server-pid: at most %d processes", USAGE_PIDS_MAX);
		return OPTIONS_ERROR;
	}
	pids->pids[pids->count++] = (pid_t)value;
	return OPTIONS_RUN;
}

static enum options_result apply_row(struct bench_options *options, const struct option_row *row,
				     const char *text, struct buffer *error)
{
	void *member = (char *)options + row->offset;

	if (!(row->commands & options->command)) {
		buffer_printf(error, "--%s means nothing to %s; see keepsock-bench --help",
			      row->name, options_command_name(options->command));
		return OPTIONS_ERROR;
	}
	switch (row->type) {
	case OPTION_TEXT: *(const char **)member = text; return OPTIONS_RUN;
	case OPTION_FLAG: *(bool *)member = true; return OPTIONS_RUN;
	case OPTION_COUNT: return apply_count(options, row, text, error);
	case OPTION_PID: return apply_pid(options, text, error);
	}
	return OPTIONS_ERROR;
}

static void set_defaults(struct bench_options *options, const struct command_row *command)
{
	*options = (struct bench_options){
		.command = command->command,
		.connections = command->connections,
		.messages = command->messages,
		.warm_up = command->warm_up,
		.size = command->size,
		.in_flight = command->in_flight,
	};
	for (size_t i = 0; i < ROW_COUNT; i++)
		if (rows[i].type == OPTION_COUNT && rows[i].fallback != PER_COMMAND)
			*count_member(options, &rows[i]) = (uint64_t)rows[i].fallback;
}

/* What no single option shows. */
static enum options_result check_together(struct bench_options *options, struct buffer *error)
{
	bool api = options->publish_url && strncmp(options->publish_url, "http", 4) == 0;

	if (!options->url)
		buffer_append_str(error,
				  "--url is missing, for example --url ws://127.0.0.1:8000/");
	else if (options->raw && options->channel)
		buffer_append_str(error, "--raw knows no channels: leave out --channel");
	else if (options->raw && api)
		buffer_append_str(error, "--raw publishes over a ws:// --publish-url, not http://");
	else if (options->api_key_file && !api)
		buffer_append_str(error, "--api-key-file needs an http:// --publish-url");
	else if (options->raw && options->socket_io)
		buffer_append_str(error, "--raw and --socket-io are two protocols: choose one");
	else if (options->socket_io && (options->channel || api))
		buffer_append_str(error, "--socket-io knows no channels and no http:// publishing");
	else if (options->recover && !options->channel)
		buffer_append_str(error, "--recover needs a --channel to recover");
	else if (options->command == BENCH_FANOUT && !options->raw && !options->channel)
		options->channel = "bench";
	return error->len > 0 ? OPTIONS_ERROR : OPTIONS_RUN;
}

static enum options_result parse_rest(int argc, char **argv, struct bench_options *options,
				      struct buffer *error)
{
	struct option longs[ROW_COUNT + 2] = {{"help", no_argument, NULL, 'h'}};
	enum options_result result = OPTIONS_RUN;

	for (size_t i = 0; i < ROW_COUNT; i++)
		longs[i + 1] = (struct option){
			rows[i].name, rows[i].type == OPTION_FLAG ? no_argument : required_argument,
			NULL, ROW_BASE + (int)i};
	opterr = 0;
	optind = 0; /* GNU: starts over, so that this may be called again */
	while (result == OPTIONS_RUN) {
		int c = getopt_long(argc, argv, ":h", longs, NULL);

		if (c == -1)
			break;
		if (c == 'h')
			return OPTIONS_HELP;
		if (c >= ROW_BASE) {
			result = apply_row(options, &rows[c - ROW_BASE], optarg, error);
			continue;
		}
		buffer_printf(error, "%s: %s; see keepsock-bench --help", argv[optind - 1],
			      c == ':' ? "its value is missing" : "no such option");
		return OPTIONS_ERROR;
	}
	if (result == OPTIONS_RUN && optind < argc) {
		buffer_printf(error, "%s: not expected here; see keepsock-bench --help",
			      argv[optind]);
		return OPTIONS_ERROR;
	}
	return result;
}

enum options_result options_parse(int argc, char **argv, struct bench_options *options,
				  struct buffer *error)
{
	const char *word = argc > 1 ? argv[1] : "--help";
	const struct command_row *command = command_find(word);
	enum options_result result;

	if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
		return OPTIONS_HELP;
	if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0)
		return OPTIONS_VERSION;
	if (strcmp(word, "--print-man") == 0)
		return OPTIONS_MAN;
	if (!command) {
		buffer_printf(error, "%s: no such command; see keepsock-bench --help", word);
		return OPTIONS_ERROR;
	}
	set_defaults(options, command);
	result = parse_rest(argc - 1, argv + 1, options, error);
	return result == OPTIONS_RUN ? check_together(options, error) : result;
}

/* ---- texts ---- */

#define TEXT_WIDTH 80

/* Appends text broken at blanks, each line behind indent blanks. */
static void append_wrapped(struct buffer *out, const char *text, size_t indent)
{
	size_t column = 0;

	while (*text) {
		size_t word = strcspn(text, " ");

		if (column > 0 && column + 1 + word > TEXT_WIDTH) {
			buffer_append_char(out, '\n');
			column = 0;
		}
		if (column == 0) {
			buffer_printf(out, "%*s", (int)indent, "");
			column = indent;
		} else {
			buffer_append_char(out, ' ');
			column++;
		}
		buffer_append(out, text, word);
		column += word;
		text += word + (text[word] == ' ');
	}
	buffer_append_char(out, '\n');
}

/* "Known to echo, fanout. Default 1." for a row, whatever of it applies. */
static void append_scope(struct buffer *out, const struct option_row *row)
{
	const char *between = " For ";

	if (row->commands != ON_ALL) {
		for (size_t i = 0; i < COMMAND_COUNT; i++)
			if (row->commands & commands[i].command) {
				buffer_printf(out, "%s%s", between, commands[i].name);
				between = ", ";
			}
		buffer_append_char(out, '.');
	}
	if (row->type == OPTION_COUNT && row->fallback == PER_COMMAND)
		buffer_append_str(out, " The default is the command's.");
	else if (row->type == OPTION_COUNT)
		buffer_printf(out, " Default %llu.", (unsigned long long)row->fallback);
}

/* "Defaults: --connections 200 --messages …" of a command. */
static void append_defaults(struct buffer *out, const struct command_row *command)
{
	buffer_printf(out, " Defaults: --connections %llu",
		      (unsigned long long)command->connections);
	if (command->messages > 0)
		buffer_printf(out, " --messages %llu --warm-up %llu --size %llu",
			      (unsigned long long)command->messages,
			      (unsigned long long)command->warm_up,
			      (unsigned long long)command->size);
	buffer_printf(out, " --in-flight %llu.", (unsigned long long)command->in_flight);
}

void options_append_help(struct buffer *out)
{
	struct buffer doc = {0};

	buffer_append_str(out, "Usage: keepsock-bench COMMAND --url URL [OPTION]...\n"
			       "       keepsock-bench --help | --version\n\n"
			       "Load generator for keepsockd and other WebSocket servers.\n\n"
			       "Commands:\n");
	for (size_t i = 0; i < COMMAND_COUNT; i++) {
		buffer_reset(&doc);
		buffer_append_str(&doc, commands[i].doc);
		append_defaults(&doc, &commands[i]);
		buffer_printf(out, "  %s\n", commands[i].name);
		append_wrapped(out, buffer_cstr(&doc), 6);
	}
	buffer_append_str(out, "\nOptions:\n");
	for (size_t i = 0; i < ROW_COUNT; i++) {
		buffer_reset(&doc);
		buffer_append_str(&doc, rows[i].doc);
		append_scope(&doc, &rows[i]);
		buffer_printf(out, "  --%s%s%s\n", rows[i].name, *rows[i].argument ? " " : "",
			      rows[i].argument);
		append_wrapped(out, buffer_cstr(&doc), 6);
	}
	buffer_append_str(out, "\nExit status: 0 done, 1 the run failed, 2 wrong usage.\n");
	buffer_free(&doc);
}

/* One entry of a definition list. */
static void append_man_entry(struct buffer *out, struct buffer *doc)
{
	struct buffer wrapped = {0};

	append_wrapped(&wrapped, buffer_cstr(doc), 4);
	buffer_append_str(out, ":   ");
	buffer_append(out, wrapped.data + 4, wrapped.len - 4);
	buffer_append_char(out, '\n');
	buffer_free(&wrapped);
}

static const char man_top[] =
	"% KEEPSOCK-BENCH(1)\n\n"
	"<!-- Written by keepsock-bench --print-man from src/bench/options_table.h. -->\n\n"
	"# NAME\n\nkeepsock-bench - load generator for keepsockd and other WebSocket servers\n\n"
	"# SYNOPSIS\n\n**keepsock-bench** *COMMAND* **--url** *URL* [*OPTION*]...\n\n"
	"# DESCRIPTION\n\n"
	"Opens WebSocket connections from one thread, makes them work, checks every byte\n"
	"that comes back and prints what it saw: messages per second, latencies and, with\n"
	"**--server-pid**, the server's CPU seconds per million messages and its memory per\n"
	"connection. Without **--raw** it speaks the client protocol (JSON).\n\n"
	"Pin server and load generator to different cores (**taskset**(1)) and compare CPU\n"
	"seconds of the server: messages per second depend on who of the two is slower,\n"
	"and *own cpu percent* near 100 says that it is the load generator.\n\n"
	"# COMMANDS\n\n";

static const char man_bottom[] =
	"# RESULT\n\n"
	"Names are those of **--json**; the text shows them with blanks. Latencies are in\n"
	"microseconds, from the write to the read, at most 3 % too high. Where there were\n"
	"several rounds, figures are medians over them, **_min** and **_max** the extremes.\n"
	"Memory is the growth while the connections were opened, divided by their number:\n"
	"**server_memory** is what the processes wrote themselves (Pss_Anon and Pss_Shmem in\n"
	"**proc_pid_smaps**(5); a page several of them share counts once), without the pages\n"
	"of programs and libraries that **server_rss** includes.\n\n"
	"# EXIT STATUS\n\n"
	"0 done; 1 the run failed, the reason is on stderr (a connection refused or lost, a\n"
	"message missing, twice, changed or out of order, silence beyond **--timeout**); 2\n"
	"wrong usage.\n\n"
	"# EXAMPLES\n\n"
	"    keepsock-bench echo --url ws://127.0.0.1:8000/echo --in-flight 16\n\n"
	"    keepsock-bench fanout --url ws://127.0.0.1:8000/connection/websocket \\\n"
	"        --publish-url http://127.0.0.1:8000/api/publish \\\n"
	"        --api-key-file var/demo/api-key --connections 5000 --messages 200\n\n"
	"    keepsock-bench idle --url ws://127.0.0.1:8000/connection/websocket \\\n"
	"        --channel news --connections 50000 --server-pid PID\n\n"
	"# SEE ALSO\n\n**keepsock.conf**(5)\n";

void options_append_man(struct buffer *out)
{
	struct buffer doc = {0};

	buffer_append_str(out, man_top);
	for (size_t i = 0; i < COMMAND_COUNT; i++) {
		buffer_reset(&doc);
		buffer_append_str(&doc, commands[i].doc);
		append_defaults(&doc, &commands[i]);
		buffer_printf(out, "**%s**\n", commands[i].name);
		append_man_entry(out, &doc);
	}
	buffer_append_str(out, "# OPTIONS\n\n");
	for (size_t i = 0; i < ROW_COUNT; i++) {
		buffer_reset(&doc);
		buffer_append_str(&doc, rows[i].doc);
		append_scope(&doc, &rows[i]);
		buffer_printf(out, *rows[i].argument ? "**--%s** *%s*\n" : "**--%s**\n",
			      rows[i].name, rows[i].argument);
		append_man_entry(out, &doc);
	}
	buffer_append_str(out, man_bottom);
	buffer_free(&doc);
}

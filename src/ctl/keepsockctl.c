/* SPDX-License-Identifier: ISC */
/*
 * keepsockctl: sends one command to the admin socket of a node or of a
 * supervisor and prints the answer. It knows the commands only to list them; the
 * other side judges. Exit
 * status: 0 done, 1 refused or not reached (the reason on stderr), 2 misused.
 */
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "config.h"
#include "keepsock/admin_commands.h"
#include "keepsock/buffer.h"
#include "supervisor/supervisor_commands.h"

#define DEFAULT_SOCKET "/run/keepsock/admin.sock"
#define EXIT_USAGE     2
/* The node itself waits at most some seconds for its workers; a reload takes them one by one. */
#define ANSWER_TIMEOUT_S 600

enum option_code { OPTION_JSON = 256, OPTION_PRINT_COMMANDS_MAN };

struct options {
	const char *socket;
	bool json;
};

static const struct admin_command supervisor_commands[] = {
#define COMMAND(name, arguments, privilege, handler, help) \
	{name, arguments, ADMIN_PRIVILEGE_##privilege, help},
	SUPERVISOR_COMMANDS_TABLE(COMMAND)
#undef COMMAND
};
#define SUPERVISOR_COMMAND_COUNT (sizeof(supervisor_commands) / sizeof(supervisor_commands[0]))

static void print_usage(FILE *out)
{
	struct buffer commands = {0};

	admin_commands_write_usage(&commands);
	buffer_append_str(&commands, "\ncommands of a supervisor:\n");
	admin_rows_write_usage(&commands, supervisor_commands, SUPERVISOR_COMMAND_COUNT);
	fprintf(out,
		"usage: keepsockctl [-s SOCKET] COMMAND [ARGUMENTS] [--json]\n"
		"  -s SOCKET  admin socket; else $KEEPSOCK_ADMIN_SOCKET, else %s\n"
		"  --json     answer as JSON\n"
		"  -V, -h     print the version, or this, and exit\n"
		"\ncommands:\n%.*s",
		DEFAULT_SOCKET, (int)commands.len, commands.data);
	buffer_free(&commands);
}

_Noreturn static void exit_printed(void)
{
	if (fflush(stdout) != 0) {
		fprintf(stderr, "keepsockctl: cannot write: %s\n", strerror(errno));
		exit(EXIT_FAILURE);
	}
	exit(EXIT_SUCCESS);
}

/* The section of keepsockctl(1) that is made from the command table. */
static void print_commands_man(void)
{
	struct buffer text = {0};

	admin_commands_write_man(&text);
	buffer_append_str(&text, SUPERVISOR_COMMANDS_HEADING);
	admin_rows_write_man(&text, supervisor_commands, SUPERVISOR_COMMAND_COUNT);
	fwrite(text.data, 1, text.len, stdout);
	buffer_free(&text);
}

static void take_option(int code, struct options *options)
{
	switch (code) {
	case 's': options->socket = optarg; break;
	case OPTION_JSON: options->json = true; break;
	case 'V': printf("keepsockctl %s\n", PACKAGE_VERSION); exit_printed();
	case 'h': print_usage(stdout); exit_printed();
	case OPTION_PRINT_COMMANDS_MAN: print_commands_man(); exit_printed();
	default: print_usage(stderr); exit(EXIT_USAGE);
	}
}

/* Stops at the command: what follows it is the node's to read. */
static struct options parse_options(int argc, char **argv)
{
	static const struct option long_options[] = {
		{"socket", required_argument, NULL, 's'},
		{"json", no_argument, NULL, OPTION_JSON},
		{"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'},
		{"print-commands-man", no_argument, NULL, OPTION_PRINT_COMMANDS_MAN},
		{NULL, 0, NULL, 0},
	};
	struct options options = {.socket = getenv("KEEPSOCK_ADMIN_SOCKET")};
	int code;

	if (!options.socket || options.socket[0] == '\0')
		options.socket = DEFAULT_SOCKET;
	while ((code = getopt_long(argc, argv, "+s:Vh", long_options, NULL)) != -1)
		take_option(code, &options);
	if (optind == argc) {
		print_usage(stderr);
		exit(EXIT_USAGE);
	}
	return options;
}

/* A request is one line: a line break within an argument becomes a space. */
static void append_request(struct buffer *line, char **words, bool json)
{
	for (; *words; words++) {
		for (const char *c = *words; *c; c++)
			buffer_append_char(line, *c == '\n' || *c == '\r' ? ' ' : *c);
		buffer_append_char(line, ' ');
	}
	buffer_append_str(line, json ? "--json\n" : "\n");
}

static int open_connection(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct timeval timeout = {.tv_sec = ANSWER_TIMEOUT_S};
	int fd;

	if (strlen(path) >= sizeof(address.sun_path)) {
		fprintf(stderr, "keepsockctl: %s is too long for a socket's path\n", path);
		return -1;
	}
	memcpy(address.sun_path, path, strlen(path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) == 0 &&
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) == 0 &&
	    connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	fprintf(stderr, "keepsockctl: cannot connect to %s: %s\n", path, strerror(errno));
	if (errno == ENOENT || errno == ECONNREFUSED)
		fprintf(stderr,
			"keepsockctl: is keepsockd (or keepsock-supervisor) running, and is this "
			"its socket (-s)?\n");
	if (fd >= 0)
		close(fd);
	return -1;
}

/* A node that answers before it has read everything has a reason; the answer tells it. */
static void send_request(int fd, const struct buffer *line)
{
	size_t sent = 0;

	while (sent < line->len) {
		ssize_t n = send(fd, line->data + sent, line->len - sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return;
		sent += (size_t)n;
	}
}

static int receive_answer(int fd, struct buffer *answer)
{
	for (;;) {
		char *room = buffer_reserve(answer, 65536);
		ssize_t got = recv(fd, room, 65536, 0);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			fprintf(stderr, "keepsockctl: no answer: %s\n",
				errno == EAGAIN ? "the node takes too long" : strerror(errno));
			return -1;
		}
		if (got == 0)
			return 0;
		answer->len += (size_t)got;
	}
}

/* Prints the body, or the refusal; the exit status. */
static int print_answer(struct buffer *answer)
{
	static const char error_mark[] = "ERROR ";
	char *text = answer->data;
	char *newline = answer->len ? memchr(text, '\n', answer->len) : NULL;

	if (!newline) {
		fprintf(stderr, "keepsockctl: the node closed the connection without an answer\n");
		return EXIT_FAILURE;
	}
	*newline = '\0';
	if (strncmp(text, error_mark, strlen(error_mark)) == 0) {
		fprintf(stderr, "keepsockctl: %s\n", text + strlen(error_mark));
		return EXIT_FAILURE;
	}
	if (strcmp(text, "OK") != 0) {
		fprintf(stderr, "keepsockctl: that is no keepsock admin socket\n");
		return EXIT_FAILURE;
	}
	fwrite(newline + 1, 1, answer->len - (size_t)(newline + 1 - text), stdout);
	if (fflush(stdout) != 0) {
		fprintf(stderr, "keepsockctl: cannot write: %s\n", strerror(errno));
		return EXIT_FAILURE;
	}
	return EXIT_SUCCESS;
}

/*
 * For a command whose answer goes on until we are interrupted: prints it as it
 * comes. Once it has begun there is no limit to how long it may be silent.
 */
static int follow_answer(int fd, struct buffer *answer)
{
	struct timeval forever = {0, 0};
	char text[4096];
	ssize_t got = 1;

	while (got > 0 && (answer->len == 0 || !memchr(answer->data, '\n', answer->len))) {
		got = recv(fd, text, sizeof(text), 0);
		if (got > 0)
			buffer_append(answer, text, (size_t)got);
	}
	if (print_answer(answer) != EXIT_SUCCESS)
		return EXIT_FAILURE;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &forever, sizeof(forever)) < 0)
		return EXIT_FAILURE;
	while ((got = recv(fd, text, sizeof(text), 0)) > 0) {
		fwrite(text, 1, (size_t)got, stdout);
		if (fflush(stdout) != 0)
			return EXIT_FAILURE;
	}
	fputs("keepsockctl: the other side closed the connection\n", stderr);
	return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
	struct options options = parse_options(argc, argv);
	struct buffer line = {0}, answer = {0};
	int status = EXIT_FAILURE;
	int fd = open_connection(options.socket);

	if (fd >= 0) {
		append_request(&line, argv + optind, options.json);
		send_request(fd, &line);
		if (strcmp(argv[optind], "monitor") == 0)
			status = follow_answer(fd, &answer);
		else if (receive_answer(fd, &answer) == 0)
			status = print_answer(&answer);
		close(fd);
	}
	buffer_free(&line);
	buffer_free(&answer);
	return status;
}

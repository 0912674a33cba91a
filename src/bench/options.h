/* SPDX-License-Identifier: ISC */
/*
 * What the user asked keepsock-bench to do, and the help texts that tell what
 * can be asked. See options_table.h for the one table behind all of it.
 */
#ifndef KEEPSOCK_BENCH_OPTIONS_H
#define KEEPSOCK_BENCH_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "keepsock/buffer.h"
#include "usage.h"

/* Bits, because an option names the commands that know it. */
enum bench_command {
	BENCH_ECHO = 1,
	BENCH_FANOUT = 2,
	BENCH_IDLE = 4,
	BENCH_STORM = 8,
};

/* Texts are borrowed from argv, NULL when not given. */
struct bench_options {
	enum bench_command command;
	const char *url;
	const char *publish_url;
	const char *api_key_file;
	const char *channel;
	const char *ciphersuites;
	bool raw;
	bool socket_io;
	bool recover;
	bool json;
	bool allow_remote;
	uint64_t connections;
	uint64_t publishers;
	uint64_t messages;
	uint64_t warm_up;
	uint64_t size;
	uint64_t in_flight;
	uint64_t rate;
	uint64_t rounds;
	uint64_t hold;
	uint64_t settle;
	uint64_t timeout;
	struct usage_pids server_pids;
};

enum options_result {
	OPTIONS_RUN,
	OPTIONS_HELP,
	OPTIONS_MAN, /* --print-man: the build checks the man page with it */
	OPTIONS_VERSION,
	OPTIONS_ERROR, /* *error says what is wrong and what to do */
};

enum options_result options_parse(int argc, char **argv, struct bench_options *options,
				  struct buffer *error);

const char *options_command_name(enum bench_command command);

void options_append_help(struct buffer *out);
void options_append_man(struct buffer *out);

#endif

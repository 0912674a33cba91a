/* SPDX-License-Identifier: ISC */
/*
 * keepsock-bench: the load generator that comes with keepsock, for its own
 * benchmarks and for users. One process, one thread; it never touches anything
 * but the URLs it was given and the /proc entries of the processes it was told.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "bench.h"
#include "config.h"

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

static int print_text(void (*append)(struct buffer *))
{
	struct buffer text = {0};
	int result;

	append(&text);
	fwrite(text.data, 1, text.len, stdout);
	result = fflush(stdout) == 0 ? EXIT_DONE : EXIT_FAILED;
	buffer_free(&text);
	return result;
}

static int run_command(struct bench *bench)
{
	const struct bench_options *options = bench->options;

	report_text(&bench->report, "command", options_command_name(options->command));
	report_text(&bench->report, "url", options->url);
	report_count(&bench->report, "connections", options->connections);
	if (options->command & (BENCH_ECHO | BENCH_FANOUT)) {
		report_count(&bench->report, "messages", options->messages);
		report_count(&bench->report, "size", options->size);
	}
	report_count(&bench->report, "in_flight", options->in_flight);
	switch (options->command) {
	case BENCH_ECHO: return bench_echo(bench);
	case BENCH_FANOUT: return bench_fanout(bench);
	case BENCH_IDLE: return bench_idle(bench);
	case BENCH_STORM: return bench_storm(bench);
	}
	return -1;
}

static int run(const struct bench_options *options)
{
	struct bench bench = {.options = options};
	struct buffer error = {0};
	int status = EXIT_FAILED;

	if (target_parse(&bench.target, options->url, options, &error) != 0 || bench.target.http) {
		fprintf(stderr, "keepsock-bench: --url %s\n",
			error.len > 0 ? buffer_cstr(&error) : "wants ws:// or wss://, not http://");
		buffer_free(&error);
		target_free(&bench.target);
		return EXIT_USAGE;
	}
	if (loop_init(&bench.loop, options->timeout * 1000) != 0) {
		fprintf(stderr, "keepsock-bench: epoll_create1: %s\n", strerror(errno));
		target_free(&bench.target);
		return EXIT_FAILED;
	}
	if (run_command(&bench) != 0)
		fprintf(stderr, "keepsock-bench: %s\n", buffer_cstr(&bench.loop.error));
	else if (report_print(&bench.report, options->json) != 0)
		fprintf(stderr, "keepsock-bench: writing the result: %s\n", strerror(errno));
	else
		status = EXIT_DONE;
	report_free(&bench.report);
	loop_free(&bench.loop);
	target_free(&bench.target);
	return status;
}

int main(int argc, char **argv)
{
	struct bench_options options;
	struct buffer error = {0};

	switch (options_parse(argc, argv, &options, &error)) {
	case OPTIONS_HELP: return print_text(options_append_help);
	case OPTIONS_MAN: return print_text(options_append_man);
	case OPTIONS_VERSION: puts("keepsock-bench " PACKAGE_VERSION); return EXIT_DONE;
	case OPTIONS_ERROR:
		fprintf(stderr, "keepsock-bench: %s\n", buffer_cstr(&error));
		buffer_free(&error);
		return EXIT_USAGE;
	case OPTIONS_RUN: break;
	}
	/* OpenSSL writes without MSG_NOSIGNAL. */
	signal(SIGPIPE, SIG_IGN);
	return run(&options);
}

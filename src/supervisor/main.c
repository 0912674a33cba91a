/* SPDX-License-Identifier: ISC */
/*
 * keepsock-supervisor's entry: options, configuration, checks, run. It reads the
 * node's own configuration file and uses a few settings of it.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "config.h"
#include "keepsock/buffer.h"
#include "keepsock/process_title.h"
#include "keepsock/text_file.h"
#include "supervisor/supervisor.h"

#define CONFIG_SIZE_MAX ((size_t)1024 * 1024)
#define EXIT_USAGE      2

struct options {
	const char *config_path;
	bool test_only;
};

static void print_usage(FILE *out)
{
	fputs("usage: keepsock-supervisor -c FILE [-t]\n"
	      "  -c FILE  configuration of the node\n"
	      "  -t       check the configuration, show what its timings amount to, and exit\n"
	      "  -V       print the version and exit\n"
	      "  -h       print this and exit\n",
	      out);
}

static struct options parse_options(int argc, char **argv)
{
	struct options options = {0};
	int code;

	while ((code = getopt(argc, argv, "c:tVh")) != -1) {
		switch (code) {
		case 'c': options.config_path = optarg; break;
		case 't': options.test_only = true; break;
		case 'V':
			printf("keepsock-supervisor %s\n", PACKAGE_VERSION);
			exit(fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
		case 'h': print_usage(stdout); exit(EXIT_SUCCESS);
		default: print_usage(stderr); exit(EXIT_USAGE);
		}
	}
	if (optind < argc || !options.config_path) {
		print_usage(stderr);
		exit(EXIT_USAGE);
	}
	return options;
}

static int load_config(const char *path, struct settings *settings, struct buffer *error)
{
	struct buffer text = {0};
	int result = text_file_read(path, CONFIG_SIZE_MAX, &text, error);

	if (result == 0)
		result = settings_parse(buffer_cstr(&text), path, settings, error);
	buffer_free(&text);
	return result;
}

static int print_timing(const char *path, const struct settings *settings)
{
	struct settings_timing timing = settings_timing_of(settings);

	printf("%s: configuration is valid\n"
	       "a lease is held for cluster.lease_ttl %" PRId64 " - cluster.lease_guard %" PRId64
	       " = %" PRId64 " ms after its renewal was sent\n"
	       "worst case from a node's fault to the standby's promotion: %" PRId64 " ms\n"
	       "worst case from the loss of a host to the standby's promotion: %" PRId64 " ms\n",
	       path, settings->cluster.lease_ttl, settings->cluster.lease_guard, timing.hold,
	       timing.node_fault, timing.host_lost);
	return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
	struct options options;
	struct supervisor_options supervisor = {0};
	struct buffer error = {0};
	int status = EXIT_FAILURE;

	/* First of all: nobody attaches to a process that holds secrets. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0) {
		fprintf(stderr, "keepsock-supervisor: prctl: %s\n", strerror(errno));
		return EXIT_FAILURE;
	}
	process_title_init(argc, argv);
	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR || signal(SIGCHLD, SIG_DFL) == SIG_ERR) {
		fprintf(stderr, "keepsock-supervisor: signal: %s\n", strerror(errno));
		return EXIT_FAILURE;
	}
	options = parse_options(argc, argv);
	supervisor.config_name = options.config_path;
	if (load_config(options.config_path, &supervisor.settings, &error) < 0)
		fprintf(stderr, "keepsock-supervisor: %s\n", buffer_cstr(&error));
	else if (supervisor_check_files(&supervisor.settings, &error) < 0)
		fprintf(stderr, "keepsock-supervisor: %s: %s\n", options.config_path,
			buffer_cstr(&error));
	else if (options.test_only)
		status = print_timing(options.config_path, &supervisor.settings);
	else
		status = supervisor_run(&supervisor);
	settings_free(&supervisor.settings);
	buffer_free(&error);
	return status;
}

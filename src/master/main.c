/* SPDX-License-Identifier: ISC */
/*
 * keepsockd's entry: options, configuration, and the role to run. One binary,
 * several roles; the master is what people start, it starts the keepers, they
 * start the workers; what these need they get through their descriptor 3.
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "config.h"
#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/keeper.h"
#include "keepsock/master.h"
#include "keepsock/node_check.h"
#include "keepsock/node_processes.h"
#include "keepsock/privileges.h"
#include "keepsock/process_title.h"
#include "keepsock/sealed_text.h"
#include "keepsock/settings.h"
#include "keepsock/tls_memory.h"
#include "keepsock/worker.h"
#include "master/certificates.h"
#include "master/config_file.h"
#include "master/resume.h"
#include "master/self_check.h"

#define ROLE_IPC_FD 3
#define EXIT_USAGE  2
/* Killed processes that have much memory to give back. */
#define KILL_LIMIT_MS 10000

enum option_code {
	OPTION_ROLE = 256,
	OPTION_STOP,
	OPTION_KILL,
	OPTION_RESUME,
	OPTION_PRINT_CONFIG_MAN,
	OPTION_PRINT_DEFAULT_CONFIG,
};

struct options {
	const char *config_path; /* NULL = defaults */
	const char *role;        /* NULL = master */
	bool test_only;
	bool stop;
	bool kill;
	int resume_fd; /* -1: it is a start */
};

static void print_usage(FILE *out)
{
	fputs("usage: keepsockd [-c FILE] [-t | --stop | --kill]\n"
	      "  -c FILE                 configuration; without it the defaults are used\n"
	      "  -t                      check the configuration and exit\n"
	      "  --stop                  stop the node of this configuration, also when its master "
	      "is\n"
	      "                          dead; returns when nothing of it runs any more\n"
	      "  --kill                  the same at once: clients are not told, hung processes "
	      "end "
	      "too\n"
	      "  -V                      print the version and exit\n"
	      "  -h                      print this and exit\n"
	      "  --print-default-config  print the commented default configuration and exit\n"
	      "  --print-config-man      print the manual page keepsock.conf(5) and exit\n",
	      out);
}

/* For options that print something: a full disk is a failure too. */
_Noreturn static void exit_printed(bool printed)
{
	if (!printed || fflush(stdout) != 0) {
		fprintf(stderr, "keepsockd: cannot write: %s\n", strerror(errno));
		exit(EXIT_FAILURE);
	}
	exit(EXIT_SUCCESS);
}

_Noreturn static void exit_usage(void)
{
	print_usage(stderr);
	exit(EXIT_USAGE);
}

static void take_option(int code, struct options *options)
{
	switch (code) {
	case 'c': options->config_path = optarg; break;
	case 't': options->test_only = true; break;
	case 'V': exit_printed(printf("keepsockd %s\n", PACKAGE_VERSION) > 0);
	case 'h': print_usage(stdout); exit_printed(true);
	case OPTION_ROLE: options->role = optarg; break;
	case OPTION_STOP: options->stop = true; break;
	case OPTION_KILL: options->kill = true; break;
	case OPTION_RESUME: options->resume_fd = (int)strtol(optarg, NULL, 10); break;
	case OPTION_PRINT_CONFIG_MAN: exit_printed(settings_write_man(stdout));
	case OPTION_PRINT_DEFAULT_CONFIG: exit_printed(settings_write_example(stdout));
	default: exit_usage();
	}
}

static struct options parse_options(int argc, char **argv)
{
	static const struct option long_options[] = {
		{"config", required_argument, NULL, 'c'},
		{"test", no_argument, NULL, 't'},
		{"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'},
		{"role", required_argument, NULL, OPTION_ROLE}, /* internal, not in the usage */
		{"stop", no_argument, NULL, OPTION_STOP},
		{"kill", no_argument, NULL, OPTION_KILL},
		{"resume", required_argument, NULL, OPTION_RESUME}, /* internal as well */
		{"print-config-man", no_argument, NULL, OPTION_PRINT_CONFIG_MAN},
		{"print-default-config", no_argument, NULL, OPTION_PRINT_DEFAULT_CONFIG},
		{NULL, 0, NULL, 0},
	};
	struct options options = {.resume_fd = -1};
	int code;

	while ((code = getopt_long(argc, argv, "c:tVh", long_options, NULL)) != -1)
		take_option(code, &options);
	if (optind < argc)
		exit_usage();
	return options;
}

static int run_role(const char *role, int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(int ipc_fd, int argc, char **argv);
	} roles[] = {
		{"keeper", keeper_main},
		{"worker", worker_main},
		{"check", self_check_main},
	};

	for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++) {
		if (strcmp(role, roles[i].name) == 0)
			return roles[i].run(ROLE_IPC_FD, argc, argv);
	}
	fprintf(stderr, "keepsockd: there is no role %s\n", role);
	return EXIT_USAGE;
}

/* Reads and parses it; 0, or -1 with error. */
static int load_config(const char *path, struct buffer *text, struct settings *settings,
		       struct buffer *error)
{
	if (path && config_file_read(path, text, error) < 0)
		return -1;
	return settings_parse(buffer_cstr(text), path ? path : "defaults", settings, error);
}

static void print_warning(void *ctx, const char *text)
{
	fprintf(stderr, "%s: warning: %s\n", (const char *)ctx, text);
}

/* keepsockd -t */
static int test_config(struct master_options *options)
{
	struct buffer error = {0};
	int result = node_check_files(&options->settings, &error);
	struct buffer line = {0};
	int certificates = certificates_check(&options->settings, options->config_name, &line);

	node_warnings(&options->settings, options->open_file_limit, print_warning,
		      (void *)(uintptr_t)options->config_name);
	if (result < 0)
		fprintf(stderr, "%s: %s\n", options->config_name, buffer_cstr(&error));
	if (certificates < 0)
		fprintf(stderr, "%s\n", buffer_cstr(&line));
	if (result == 0 && certificates == 0)
		printf("%s: configuration is valid\n", options->config_name);
	buffer_free(&error);
	buffer_free(&line);
	settings_free(&options->settings);
	return result == 0 && certificates == 0 && fflush(stdout) == 0 ? EXIT_SUCCESS
								       : EXIT_FAILURE;
}

/* The text that is in force, whatever the file says by now. */
static int resume_config(struct resume *resume, struct buffer *text, struct settings *settings,
			 struct buffer *error)
{
	if (sealed_text_read(resume->settings_fd, text) < 0) {
		buffer_printf(error, "the configuration in force is unreadable: %s",
			      strerror(errno));
		return -1;
	}
	return settings_parse(buffer_cstr(text), resume->config_name, settings, error);
}

/* Another program was this master until now, and has left us what it is not found by others. */
static int resume_master(int fd, const char *program_path)
{
	struct buffer text = {0}, error = {0};
	struct resume resume;
	struct master_options master = {
		.open_file_limit = privileges_raise_descriptor_limit(),
		.program_path = program_path,
		.resume = &resume,
	};
	int status = EXIT_FAILURE;

	if (resume_read(fd, &resume) < 0) {
		fprintf(stderr, "keepsockd: --resume is for keepsockd's own use\n");
	} else {
		master.config_name = resume.config_name;
		if (resume_config(&resume, &text, &master.settings, &error) < 0) {
			fprintf(stderr, "keepsockd: %s\n", buffer_cstr(&error));
			master_go_back(&resume, buffer_cstr(&error));
		} else {
			master.config_text = buffer_slice(&text);
			status = master_run(&master);
		}
	}
	resume_free(&resume);
	buffer_free(&text);
	buffer_free(&error);
	return status;
}

/* keepsockd --kill: nobody is asked, so whoever hangs can't be in the way. */
static int kill_node(struct settings *settings)
{
	struct buffer error = {0};
	int result = node_processes_end(settings->node.run_dir, KILL_LIMIT_MS, &error);

	if (result < 0)
		fprintf(stderr, "keepsockd: %s\n", buffer_cstr(&error));
	buffer_free(&error);
	settings_free(settings);
	return result == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int run_master(const struct options *options, const char *program_path)
{
	struct buffer text = {0}, error = {0};
	struct master_options master = {
		.config_name = options->config_path ? options->config_path : "defaults",
		.open_file_limit = privileges_raise_descriptor_limit(),
		.only_stop = options->stop,
		.program_path = program_path,
	};
	int status;

	if (load_config(options->config_path, &text, &master.settings, &error) < 0) {
		fprintf(stderr, "keepsockd: %s\n", buffer_cstr(&error));
		status = EXIT_FAILURE;
	} else if (options->test_only) {
		status = test_config(&master);
	} else if (options->kill) {
		status = kill_node(&master.settings);
	} else {
		master.config_text = buffer_slice(&text);
		status = master_run(&master);
	}
	buffer_free(&text);
	buffer_free(&error);
	return status;
}

/* Where we were executed from, which may be another file by the time of an upgrade. */
static char *find_program(void)
{
	char path[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - 1);

	return xstrndup(path, length > 0 ? (size_t)length : 0);
}

int main(int argc, char **argv)
{
	struct options options;
	char *program_path;
	int status;

	/* First of all: nobody attaches to a process that holds keys and clients' bytes. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0) {
		fprintf(stderr, "keepsockd: prctl: %s\n", strerror(errno));
		return EXIT_FAILURE;
	}
	if (!tls_memory_prepare()) {
		fprintf(stderr, "keepsockd: OpenSSL was used too early\n");
		return EXIT_FAILURE;
	}
	process_title_init(argc, argv);
	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR || signal(SIGCHLD, SIG_DFL) == SIG_ERR) {
		fprintf(stderr, "keepsockd: signal: %s\n", strerror(errno));
		return EXIT_FAILURE;
	}
	options = parse_options(argc, argv);
	if (options.role)
		return run_role(options.role, argc, argv);
	program_path = find_program();
	status = options.resume_fd >= 0 ? resume_master(options.resume_fd, program_path)
					: run_master(&options, program_path);
	free(program_path);
	return status;
}

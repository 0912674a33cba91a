/* SPDX-License-Identifier: ISC */
/*
 * The command line of keepsock-bench: defaults, bounds, what is refused and how
 * it is told, the loopback rule, and the man page that comes from the table.
 */
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "bench/options.h"
#include "bench/target.h"

#define WORDS_MAX 16

/* Parses "keepsock-bench WORD…"; the error's text is left in *error. */
static enum options_result parse(struct bench_options *options, struct buffer *error,
				 const char *const *words)
{
	char *argv[WORDS_MAX + 2] = {(char[]){"keepsock-bench"}};
	int argc = 1;

	for (; words[argc - 1]; argc++)
		argv[argc] = (char *)(uintptr_t)words[argc - 1];
	buffer_reset(error);
	return options_parse(argc, argv, options, error);
}

#define PARSE(...) parse(&options, &error, (const char *const[]){__VA_ARGS__, NULL})

static void test_defaults(void **state)
{
	struct bench_options options;
	struct buffer error = {0};

	(void)state;
	assert_int_equal(PARSE("echo", "--url", "ws://127.0.0.1:1/"), OPTIONS_RUN);
	assert_int_equal(options.command, BENCH_ECHO);
	assert_string_equal(options.url, "ws://127.0.0.1:1/");
	assert_int_equal(options.connections, 200);
	assert_int_equal(options.size, 20);
	assert_int_equal(options.in_flight, 1);
	assert_int_equal(options.rounds, 1);
	assert_int_equal(options.timeout, 30);
	assert_false(options.allow_remote);
	assert_null(options.channel);

	assert_int_equal(PARSE("fanout", "--url", "ws://127.0.0.1:1/"), OPTIONS_RUN);
	assert_int_equal(options.connections, 1000);
	assert_string_equal(options.channel, "bench");
	assert_int_equal(PARSE("idle", "--url", "ws://127.0.0.1:1/"), OPTIONS_RUN);
	assert_null(options.channel);
	buffer_free(&error);
}

static void test_values(void **state)
{
	struct bench_options options;
	struct buffer error = {0};

	(void)state;
	assert_int_equal(PARSE("fanout", "--url=ws://[::1]:1/", "--connections", "5", "--rate=7",
			       "--channel", "news", "--server-pid", "11", "--server-pid=12",
			       "--json"),
			 OPTIONS_RUN);
	assert_int_equal(options.connections, 5);
	assert_int_equal(options.rate, 7);
	assert_string_equal(options.channel, "news");
	assert_int_equal(options.server_pids.count, 2);
	assert_int_equal(options.server_pids.pids[1], 12);
	assert_true(options.json);
	buffer_free(&error);
}

static void test_refusals(void **state)
{
	/* clang-format off */
	static const struct {
		const char *words[8];
		const char *error;
	} cases[] = {
		{{"ehco"}, "ehco: no such command"},
		{{"echo"}, "--url is missing"},
		{{"echo", "--url"}, "--url: its value is missing"},
		{{"echo", "--url", "u", "--connections", "0"}, "--connections 0: give a number from 1"},
		{{"echo", "--url", "u", "--connections", "-1"}, "--connections -1: give"},
		{{"echo", "--url", "u", "--connections", "5x"}, "--connections 5x: give"},
		{{"echo", "--url", "u", "--connections", ""}, "--connections : give"},
		{{"echo", "--url", "u", "--messages", "99999999999999999999"}, "give a number"},
		{{"echo", "--url", "u", "--server-pid", "0"}, "give a process id"},
		{{"echo", "--url", "u", "--nothing"}, "--nothing: no such option"},
		{{"echo", "--url", "u", "word"}, "word: not expected here"},
		{{"echo", "--url", "u", "--channel", "c"}, "--channel means nothing to echo"},
		{{"idle", "--url", "u", "--raw", "--channel", "c"}, "--raw knows no channels"},
		{{"fanout", "--url", "u", "--raw", "--publish-url", "http://h/"}, "not http://"},
		{{"fanout", "--url", "u", "--api-key-file", "f"}, "needs an http://"},
	};
	/* clang-format on */
	struct bench_options options;
	struct buffer error = {0};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(parse(&options, &error, cases[i].words), OPTIONS_ERROR);
		if (!strstr(buffer_cstr(&error), cases[i].error))
			fail_msg("\"%s\" lacks \"%s\"", buffer_cstr(&error), cases[i].error);
	}
	buffer_free(&error);
}

static void test_help(void **state)
{
	struct bench_options options;
	struct buffer error = {0};
	struct buffer help = {0};

	(void)state;
	assert_int_equal(PARSE("--help"), OPTIONS_HELP);
	assert_int_equal(PARSE("storm", "-h"), OPTIONS_HELP);
	assert_int_equal(PARSE("--version"), OPTIONS_VERSION);
	assert_int_equal(PARSE("--print-man"), OPTIONS_MAN);
	options_append_help(&help);
	assert_non_null(strstr(buffer_cstr(&help), "  --server-pid PID\n"));
	assert_non_null(strstr(buffer_cstr(&help), "  storm\n"));
	buffer_free(&help);
	buffer_free(&error);
}

/* The checked-in page is what the table gives; "keepsock-bench --print-man" renews it. */
static void test_man_page_is_current(void **state)
{
	const char *srcdir = getenv("srcdir");
	char path[4096];
	char chunk[4096];
	struct buffer page = {0};
	struct buffer wanted = {0};
	size_t got;
	FILE *file;

	(void)state;
	snprintf(path, sizeof(path), "%s/docs/keepsock-bench.1.md", srcdir ? srcdir : ".");
	file = fopen(path, "re");
	assert_non_null(file);
	while ((got = fread(chunk, 1, sizeof(chunk), file)) > 0)
		buffer_append(&page, chunk, got);
	fclose(file);
	options_append_man(&wanted);
	assert_string_equal(buffer_cstr(&page), buffer_cstr(&wanted));
	buffer_free(&page);
	buffer_free(&wanted);
}

static const struct bench_options local = {0}, remote = {.allow_remote = true};

static void test_targets(void **state)
{
	struct target target;
	struct buffer error = {0};

	(void)state;
	assert_int_equal(target_parse(&target, "ws://127.0.0.1:8000/a?b=c", &local, &error), 0);
	assert_string_equal(target.authority, "127.0.0.1:8000");
	assert_string_equal(target.path, "/a?b=c");
	assert_false(target.http);
	assert_true(target.spread);
	target_free(&target);
	assert_int_equal(target_parse(&target, "http://[::1]:80", &local, &error), 0);
	assert_string_equal(target.authority, "[::1]:80");
	assert_string_equal(target.path, "/");
	assert_true(target.http);
	assert_false(target.spread);
	target_free(&target);
	assert_int_equal(target_parse(&target, "ws://127.9.9.9?q", &local, &error), 0);
	assert_string_equal(target.path, "/?q");
	assert_null(target.tls);
	target_free(&target);
	assert_int_equal(target_parse(&target, "wss://127.0.0.1/a", &local, &error), 0);
	assert_string_equal(target.host, "127.0.0.1");
	assert_string_equal(target.authority, "127.0.0.1");
	assert_int_equal(ntohs(((struct sockaddr_in *)&target.address)->sin_port), 443);
	assert_non_null(target.tls);
	target_free(&target);
	assert_int_equal(error.len, 0);
	buffer_free(&error);
}

static void test_refused_targets(void **state)
{
	/* clang-format off */
	static const struct {
		const char *url;
		const char *error;
	} cases[] = {
		{"ws://192.0.2.1:80/", "--allow-remote"},
		{"ws://[2001:db8::1]:80/", "--allow-remote"},
		{"https://127.0.0.1/", "give a URL"},
		{"wss://127.0.0.1:/", "no host"},
		{"wss://192.0.2.1/", "--allow-remote"},
		{"127.0.0.1:80", "give a URL"},
		{"ws://127.0.0.1/ x", "give a URL"},
		{"ws:///path", "no host"},
		{"ws://:80/", "no host"},
		{"ws://[::1/", "no host"},
		{"ws://127.0.0.1:/", "no host"},
	};
	/* clang-format on */
	struct target target;
	struct buffer error = {0};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		buffer_reset(&error);
		assert_int_equal(target_parse(&target, cases[i].url, &local, &error), -1);
		if (!strstr(buffer_cstr(&error), cases[i].error))
			fail_msg("%s: \"%s\" lacks \"%s\"", cases[i].url, buffer_cstr(&error),
				 cases[i].error);
	}
	assert_int_equal(target_parse(&target, "ws://192.0.2.1:80/", &remote, &error), 0);
	assert_false(target.spread);
	target_free(&target);
	buffer_reset(&error);
	assert_int_equal(target_parse(&target, "wss://127.0.0.1/",
				      &(struct bench_options){.ciphersuites = "none"}, &error),
			 -1);
	assert_non_null(strstr(buffer_cstr(&error), "--ciphersuites none"));
	buffer_free(&error);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_help),
		cmocka_unit_test(test_man_page_is_current),
		cmocka_unit_test(test_targets),
		cmocka_unit_test(test_refused_targets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

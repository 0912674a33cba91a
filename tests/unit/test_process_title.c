/* SPDX-License-Identifier: ISC */
/*
 * The process title as the kernel shows it; arguments and environment survive.
 * The order of the tests matters: a process has one command line.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "keepsock/process_title.h"

static char **arguments;
static char *path_before;

static void read_proc(const char *path, char *out, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len;

	assert_true(fd >= 0);
	len = read(fd, out, size - 1);
	assert_true(len >= 0);
	out[len] = '\0';
	close(fd);
}

static void test_title_before_init_is_harmless(void **state)
{
	char shown[4096];

	(void)state;
	process_title_set("too early");
	read_proc("/proc/self/cmdline", shown, sizeof(shown));
	assert_string_not_equal(shown, "too early");
}

static void test_title_is_shown(void **state)
{
	char shown[4096];

	(void)state;
	process_title_init(1, arguments);
	process_title_set("keepsockd: worker %d of %s", 3, "a");
	read_proc("/proc/self/cmdline", shown, sizeof(shown));
	assert_string_equal(shown, "keepsockd: worker 3 of a");
	process_title_set("short");
	read_proc("/proc/self/cmdline", shown, sizeof(shown));
	assert_string_equal(shown, "short");
}

static void test_arguments_and_environment_survive(void **state)
{
	(void)state;
	assert_non_null(strstr(arguments[0], "test_process_title"));
	assert_non_null(path_before);
	assert_string_equal(getenv("PATH"), path_before);
}

static void test_long_title_is_cut(void **state)
{
	char shown[262144];
	char title[20001];

	(void)state;
	memset(title, 'x', sizeof(title) - 1);
	title[sizeof(title) - 1] = '\0';
	process_title_set("%s", title);
	read_proc("/proc/self/cmdline", shown, sizeof(shown));
	assert_true(strlen(shown) > 0 && strlen(shown) <= sizeof(title) - 1);
	assert_int_equal(strspn(shown, "x"), strlen(shown));
	assert_string_equal(getenv("PATH"), path_before);
}

static void test_name(void **state)
{
	char shown[64];

	(void)state;
	process_title_set_name("ks-worker-3-of-many");
	read_proc("/proc/self/comm", shown, sizeof(shown));
	assert_string_equal(shown, "ks-worker-3-of-\n");
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_title_before_init_is_harmless),
		cmocka_unit_test(test_title_is_shown),
		cmocka_unit_test(test_arguments_and_environment_survive),
		cmocka_unit_test(test_long_title_is_cut),
		cmocka_unit_test(test_name),
	};

	if (argc < 1 || !getenv("PATH"))
		return 1;
	arguments = argv;
	path_before = strdup(getenv("PATH"));
	return cmocka_run_group_tests(tests, NULL, NULL);
}

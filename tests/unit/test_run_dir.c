/* SPDX-License-Identifier: ISC */
/*
 * Run directories: made, checked, and locked by one process at a time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/run_dir.h"

static char base[] = "test_run_dir.XXXXXX";
static char *directory; /* base/d */
static struct buffer error;

static int make_base(void **state)
{
	(void)state;
	memcpy(base + strlen(base) - 6, "XXXXXX", 6);
	if (!mkdtemp(base))
		return -1;
	directory = xasprintf("%s/d", base);
	return 0;
}

static int drop_base(void **state)
{
	char *lock = xasprintf("%s/lock", directory);

	(void)state;
	(void)unlink(lock); /* not every test made it */
	(void)rmdir(directory);
	free(lock);
	free(directory);
	buffer_free(&error);
	return rmdir(base);
}

static void prepare(void)
{
	assert_int_equal(run_dir_prepare(directory, geteuid(), getegid(), &error), 0);
}

static void test_a_missing_directory_is_made_private(void **state)
{
	struct stat status;

	(void)state;
	prepare();
	assert_int_equal(stat(directory, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0700);
	assert_int_equal(run_dir_check(directory, &error), 0);
	/* Again: it stays as it is. */
	assert_int_equal(chmod(directory, 0755), 0);
	prepare();
	assert_int_equal(stat(directory, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0755);
	assert_int_equal(run_dir_check(directory, &error), 0);
}

static void test_a_missing_parent_is_an_error(void **state)
{
	char *deep = xasprintf("%s/no/d", base);

	(void)state;
	assert_int_equal(run_dir_prepare(deep, geteuid(), getegid(), &error), -1);
	assert_non_null(strstr(buffer_cstr(&error), "parent"));
	free(deep);
}

static void test_others_may_not_write_to_it(void **state)
{
	static const mode_t modes[] = {0770, 0722, 01777};

	(void)state;
	prepare();
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		buffer_reset(&error);
		assert_int_equal(chmod(directory, modes[i]), 0);
		assert_int_equal(run_dir_check(directory, &error), -1);
		assert_non_null(strstr(buffer_cstr(&error), "chmod"));
	}
}

static void test_it_must_be_ours_and_a_directory(void **state)
{
	(void)state;
	assert_int_equal(run_dir_check(directory, &error), -1);
	assert_int_equal(run_dir_check("/dev/null", &error), -1);
	if (geteuid() != 0)
		return; /* only root can give a directory away to see what happens */
	prepare();
	assert_int_equal(chown(directory, 12345, 12345), 0);
	buffer_reset(&error);
	assert_int_equal(run_dir_check(directory, &error), -1);
	assert_non_null(strstr(buffer_cstr(&error), "12345"));
}

static void test_root_makes_it_for_the_service_user(void **state)
{
	struct stat status;

	(void)state;
	if (geteuid() != 0)
		skip();
	assert_int_equal(run_dir_prepare(directory, 12345, 54321, &error), 0);
	assert_int_equal(stat(directory, &status), 0);
	assert_int_equal(status.st_uid, 12345);
	assert_int_equal(status.st_gid, 54321);
}

/* Tries to lock in another process; true when it was refused with our pid in the reason. */
static bool another_is_refused(void)
{
	pid_t master = getpid();
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		struct buffer why = {0};
		char number[32];

		snprintf(number, sizeof(number), "(pid %ld)", (long)master);
		_exit(run_dir_lock(directory, &why) < 0 && strstr(buffer_cstr(&why), number) ? 0
											     : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void test_one_process_has_the_lock(void **state)
{
	int fd;

	(void)state;
	prepare();
	fd = run_dir_lock(directory, &error);
	assert_true(fd >= 0);
	assert_true(another_is_refused());
	close(fd);
	assert_false(another_is_refused());
	/* The other one's death has freed it again. */
	fd = run_dir_lock(directory, &error);
	assert_true(fd >= 0);
	close(fd);
}

static void test_a_lock_needs_its_directory(void **state)
{
	(void)state;
	assert_int_equal(run_dir_lock(directory, &error), -1);
	assert_true(error.len > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_missing_directory_is_made_private, make_base,
						drop_base),
		cmocka_unit_test_setup_teardown(test_a_missing_parent_is_an_error, make_base,
						drop_base),
		cmocka_unit_test_setup_teardown(test_others_may_not_write_to_it, make_base,
						drop_base),
		cmocka_unit_test_setup_teardown(test_it_must_be_ours_and_a_directory, make_base,
						drop_base),
		cmocka_unit_test_setup_teardown(test_root_makes_it_for_the_service_user, make_base,
						drop_base),
		cmocka_unit_test_setup_teardown(test_one_process_has_the_lock, make_base,
						drop_base),
		cmocka_unit_test_setup_teardown(test_a_lock_needs_its_directory, make_base,
						drop_base),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

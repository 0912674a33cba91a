/* SPDX-License-Identifier: ISC */
/*
 * The list of a node's processes: all of them are found and killed, stopped ones
 * too, in the order that lets none be started again; nobody else is.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
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

#include "keepsock/buffer.h"
#include "keepsock/node_processes.h"

#define PATIENCE_MS 10000

static char run_dir[64], list[80];

static int set_up(void **state)
{
	(void)state;
	snprintf(run_dir, sizeof(run_dir), "/tmp/keepsock-test-XXXXXX");
	if (!mkdtemp(run_dir))
		return -1;
	snprintf(list, sizeof(list), "%s/processes", run_dir);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	unlink(list);
	return rmdir(run_dir);
}

/* A process that joins as the kind, says so, and stays. */
static pid_t start(int kind)
{
	int told[2];
	char byte = 0;
	pid_t pid;

	assert_int_equal(pipe2(told, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (kind >= 0 && node_processes_join(run_dir, (enum node_process)kind) < 0)
			_exit(1);
		if (write(told[1], "j", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(told[1]);
	assert_int_equal(read(told[0], &byte, 1), 1);
	close(told[0]);
	return pid;
}

static void expect_killed(pid_t pid)
{
	int status = 0;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void test_nobody(void **state)
{
	struct buffer error = {0};

	(void)state;
	assert_int_equal(node_processes_kill(run_dir, &error), 0);
	assert_int_equal(node_processes_end(run_dir, PATIENCE_MS, &error), 0);
	assert_int_equal(node_processes_kill("/nonexistent/run", &error), 0);
	assert_string_equal(buffer_cstr(&error), "");
	buffer_free(&error);
}

static void test_all_of_them(void **state)
{
	struct buffer error = {0};
	pid_t pids[7];
	pid_t stranger = start(-1);

	(void)state;
	for (int i = 0; i < 7; i++)
		pids[i] = start(i == 0 ? NODE_PROCESS_MASTER
				       : (i % 2 ? NODE_PROCESS_KEEPER : NODE_PROCESS_WORKER));
	assert_int_equal(kill(pids[0], SIGSTOP), 0);
	assert_int_equal(kill(pids[2], SIGSTOP), 0);
	assert_int_equal(node_processes_kill(run_dir, &error), 7);
	for (int i = 0; i < 7; i++)
		expect_killed(pids[i]);
	assert_int_equal(node_processes_end(run_dir, PATIENCE_MS, &error), 0);
	assert_int_equal(node_processes_kill(run_dir, &error), 0);
	assert_int_equal(waitpid(stranger, NULL, WNOHANG), 0);
	assert_int_equal(kill(stranger, SIGKILL), 0);
	expect_killed(stranger);
	buffer_free(&error);
}

/* One that ended by itself is on no list, whatever its pid is used for later. */
static void test_who_ended_is_forgotten(void **state)
{
	struct buffer error = {0};
	pid_t pid = start(NODE_PROCESS_WORKER);

	(void)state;
	assert_int_equal(kill(pid, SIGTERM), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(node_processes_kill(run_dir, &error), 0);
	buffer_free(&error);
}

static void test_an_unreaped_one_has_ended(void **state)
{
	struct buffer error = {0};
	pid_t pid = start(NODE_PROCESS_WORKER);

	(void)state;
	/* A child that nobody has waited for has ended all the same: its locks are gone. */
	assert_int_equal(node_processes_end(run_dir, PATIENCE_MS, &error), 0);
	expect_killed(pid);
	buffer_free(&error);
}

static void test_what_is_not_a_list(void **state)
{
	struct buffer error = {0};

	(void)state;
	assert_int_equal(symlink("/etc/passwd", list), 0);
	assert_int_equal(node_processes_kill(run_dir, &error), -1);
	assert_int_equal(node_processes_join(run_dir, NODE_PROCESS_WORKER), -1);
	assert_int_equal(unlink(list), 0);
	assert_int_equal(mkfifo(list, 0600), 0);
	buffer_free(&error);
	assert_int_equal(node_processes_kill(run_dir, &error), -1);
	assert_non_null(strstr(buffer_cstr(&error), "not a file"));
	buffer_free(&error);
}

/* root would kill whoever holds a lock there, were it not for the owner. */
static void test_strangers_are_spared(void **state)
{
	struct buffer error = {0};
	pid_t pid;

	(void)state;
	if (geteuid() != 0)
		skip();
	pid = start(NODE_PROCESS_WORKER);
	assert_int_equal(chown(list, 65534, 65534), 0);
	assert_int_equal(node_processes_kill(run_dir, &error), -1);
	assert_non_null(strstr(buffer_cstr(&error), "not the user's"));
	assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
	assert_int_equal(kill(pid, SIGKILL), 0);
	expect_killed(pid);
	buffer_free(&error);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_nobody, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_all_of_them, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_who_ended_is_forgotten, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_an_unreaped_one_has_ended, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_what_is_not_a_list, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_strangers_are_spared, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: ISC */
/*
 * Child processes: what they inherit, how their end is reported, and that a
 * failure to start is told with its reason.
 */
#include <event2/event.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "keepsock/buffer.h"
#include "keepsock/child.h"

struct run {
	struct event_base *base;
	struct child child;
	int ended; /* how often its end was reported */
	int status;
	struct buffer output;
};

static void on_exit_of_child(struct child *child, int status, void *ctx)
{
	struct run *run = ctx;

	assert_ptr_equal(child, &run->child);
	assert_false(child_running(child));
	assert_true(child->last_pid > 0);
	run->ended++;
	run->status = status;
	event_base_loopbreak(run->base);
}

static int make_run(void **state)
{
	struct run *run = calloc(1, sizeof(*run));

	if (run)
		run->base = event_base_new();
	*state = run;
	return run && run->base ? 0 : -1;
}

static int drop_run(void **state)
{
	struct run *run = *state;

	child_end(&run->child);
	buffer_free(&run->output);
	event_base_free(run->base);
	free(run);
	return 0;
}

static void read_output(struct run *run, int fd)
{
	char *room = buffer_reserve(&run->output, 65536);
	ssize_t got = pread(fd, room, 65536, 0);

	assert_true(got >= 0);
	run->output.len = (size_t)got;
}

/* Runs a shell command to its end, with its output collected. */
static void run_shell(struct run *run, const char *command, int ipc_fd)
{
	char *argv[] = {(char *)"sh", (char *)"-c", (char *)(uintptr_t)command, NULL};
	int output = memfd_create("output", MFD_CLOEXEC);
	struct child_spec spec = {.path = "sh",
				  .argv = argv,
				  .program_fd = -1,
				  .channels = {ipc_fd, -1},
				  .output_fd = output};
	struct buffer error = {0};

	assert_true(output >= 0);
	assert_int_equal(child_start(&run->child, run->base, &spec, on_exit_of_child, run, &error),
			 0);
	assert_true(child_running(&run->child));
	event_base_dispatch(run->base);
	assert_int_equal(run->ended, 1);
	read_output(run, output);
	close(output);
}

static void test_the_exit_status_is_reported(void **state)
{
	struct run *run = *state;

	run_shell(run, "exit 7", -1);
	assert_true(WIFEXITED(run->status));
	assert_int_equal(WEXITSTATUS(run->status), 7);
	child_describe_exit(&run->output, run->status);
	assert_string_equal(buffer_cstr(&run->output), "exit status 7");
}

static void test_the_signal_is_reported(void **state)
{
	struct run *run = *state;

	run_shell(run, "kill -TERM $$", -1);
	assert_true(WIFSIGNALED(run->status));
	assert_int_equal(WTERMSIG(run->status), SIGTERM);
	child_describe_exit(&run->output, run->status);
	assert_string_equal(buffer_cstr(&run->output), "signal 15 (Terminated)");
}

static void test_descriptor_3_is_the_channel(void **state)
{
	struct run *run = *state;
	int ends[2];
	char text[16];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	run_shell(run, "echo hello >&3", ends[1]);
	assert_int_equal(read(ends[0], text, sizeof(text)), 6);
	assert_memory_equal(text, "hello\n", 6);
	close(ends[0]);
	close(ends[1]);
}

/* As a keeper starts a worker. */
static void test_two_channels_and_a_program_by_its_descriptor(void **state)
{
	struct run *run = *state;
	char *argv[] = {(char *)"sh", (char *)"-c",
			(char *)"echo three >&3; echo four >&4; ls /proc/$$/fd", NULL};
	int output = memfd_create("output", MFD_CLOEXEC);
	int third = memfd_create("third", MFD_CLOEXEC),
	    fourth = memfd_create("fourth", MFD_CLOEXEC);
	int shell = open("/bin/sh", O_PATH | O_CLOEXEC);
	struct child_spec spec = {
		.program_fd = shell,
		.argv = argv,
		.channels = {third, fourth},
		.output_fd = output,
	};
	struct buffer error = {0};
	char text[16] = "";

	assert_true(output >= 0 && third >= 0 && fourth >= 0 && shell >= 0);
	assert_int_equal(child_start(&run->child, run->base, &spec, on_exit_of_child, run, &error),
			 0);
	event_base_dispatch(run->base);
	assert_int_equal(run->ended, 1);
	read_output(run, output);
	assert_string_equal(buffer_cstr(&run->output), "0\n1\n2\n3\n4\n");
	assert_int_equal(pread(third, text, sizeof(text), 0), 6);
	assert_memory_equal(text, "three\n", 6);
	assert_int_equal(pread(fourth, text, sizeof(text), 0), 5);
	assert_memory_equal(text, "four\n", 5);
	close(output);
	close(third);
	close(fourth);
	close(shell);
}

/* Starts one from a process that ends at once; its pid. */
static pid_t start_orphan(struct run *run, bool outlives_us)
{
	char *argv[] = {(char *)"sleep", (char *)"1000", NULL};
	struct child_spec spec = {
		.path = "sleep",
		.program_fd = -1,
		.argv = argv,
		.channels = {-1, -1},
		.output_fd = -1,
		.outlives_us = outlives_us,
	};
	struct buffer error = {0};
	int pipe_fds[2];
	pid_t parent, orphan = 0;

	assert_int_equal(pipe(pipe_fds), 0);
	parent = fork();
	assert_true(parent >= 0);
	if (parent == 0) {
		if (child_start(&run->child, run->base, &spec, on_exit_of_child, run, &error) < 0 ||
		    write(pipe_fds[1], &run->child.pid, sizeof(pid_t)) < 0)
			_exit(1);
		_exit(0);
	}
	assert_int_equal(waitpid(parent, NULL, 0), parent);
	assert_int_equal(read(pipe_fds[0], &orphan, sizeof(orphan)), sizeof(orphan));
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	return orphan;
}

static void test_a_child_outlives_us_only_if_it_is_meant_to(void **state)
{
	struct run *run = *state;
	pid_t orphan;
	int status;

	/* What our children leave becomes ours, so that its end can be seen. */
	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
	orphan = start_orphan(run, false);
	assert_int_equal(waitpid(orphan, &status, 0), orphan);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGKILL);
	orphan = start_orphan(run, true);
	assert_int_equal(waitpid(orphan, &status, WNOHANG), 0);
	assert_int_equal(kill(orphan, SIGTERM), 0);
	assert_int_equal(waitpid(orphan, &status, 0), orphan);
	assert_int_equal(WTERMSIG(status), SIGTERM);
	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0), 0);
}

/* Also what somebody forgot to mark close-on-exec, and whatever number the channel has here. */
static void test_nothing_else_is_inherited(void **state)
{
	struct run *run = *state;
	int leak = memfd_create("leak", 0);
	int channel;

	assert_true(leak >= 0);
	channel = fcntl(leak, F_DUPFD_CLOEXEC, 100);
	assert_true(channel >= 100);
	run_shell(run, "ls /proc/$$/fd; true", channel);
	assert_string_equal(buffer_cstr(&run->output), "0\n1\n2\n3\n");
	run->ended = 0;
	run_shell(run, "ls /proc/$$/fd; true", -1);
	assert_string_equal(buffer_cstr(&run->output), "0\n1\n2\n");
	close(leak);
	close(channel);
}

static void test_signals_start_afresh_in_a_group_of_its_own(void **state)
{
	struct run *run = *state;
	char pid_and_group[64];
	const char *ignored;

	signal(SIGPIPE, SIG_IGN);
	run_shell(run, "grep -E '^Sig(Ign|Blk)' /proc/self/status; cut -d' ' -f1,5 /proc/$$/stat",
		  -1);
	signal(SIGPIPE, SIG_DFL);
	assert_non_null(strstr(buffer_cstr(&run->output), "SigBlk:\t0000000000000000\n"));
	/* The C library keeps signals 32 and 33 to itself: only a parent can have them ignored. */
	ignored = strstr(buffer_cstr(&run->output), "SigIgn:\t");
	assert_non_null(ignored);
	assert_int_equal(strtoull(ignored + 8, NULL, 16) & ~UINT64_C(0x180000000), 0);
	snprintf(pid_and_group, sizeof(pid_and_group), "\n%d %d\n", (int)run->child.last_pid,
		 (int)run->child.last_pid);
	assert_non_null(strstr(buffer_cstr(&run->output), pid_and_group));
}

static void test_a_program_that_is_missing(void **state)
{
	struct run *run = *state;
	char *argv[] = {(char *)"x", NULL};
	struct child_spec spec = {.path = "/no/such/program",
				  .argv = argv,
				  .program_fd = -1,
				  .channels = {-1, -1},
				  .output_fd = -1};
	struct buffer error = {0};

	assert_int_equal(child_start(&run->child, run->base, &spec, on_exit_of_child, run, &error),
			 -1);
	assert_string_equal(buffer_cstr(&error),
			    "cannot execute /no/such/program: No such file or directory");
	assert_false(child_running(&run->child));
	child_signal(&run->child, SIGKILL);
	assert_int_equal(run->ended, 0);
	buffer_free(&error);
}

static void test_a_child_can_be_ended_without_a_report(void **state)
{
	struct run *run = *state;
	char *argv[] = {(char *)"sleep", (char *)"1000", NULL};
	struct child_spec spec = {.path = "sleep",
				  .argv = argv,
				  .program_fd = -1,
				  .channels = {-1, -1},
				  .output_fd = -1};
	struct buffer error = {0};
	pid_t pid;

	assert_int_equal(child_start(&run->child, run->base, &spec, on_exit_of_child, run, &error),
			 0);
	pid = run->child.pid;
	child_end(&run->child);
	assert_false(child_running(&run->child));
	assert_int_equal(kill(pid, 0), -1);
	assert_int_equal(run->ended, 0);
	buffer_free(&error);
}

static void test_restart_delays(void **state)
{
	uint32_t delay = 0;
	static const uint32_t expected[] = {100, 200, 400, 800, 1600, 3200, 5000, 5000};

	(void)state;
	assert_int_equal(child_restart_delay(&delay, 1000), 0);
	for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++)
		assert_int_equal(child_restart_delay(&delay, 999), expected[i]);
	assert_int_equal(child_restart_delay(&delay, 5000), 0);
	assert_int_equal(child_restart_delay(&delay, 0), 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_the_exit_status_is_reported, make_run,
						drop_run),
		cmocka_unit_test_setup_teardown(test_the_signal_is_reported, make_run, drop_run),
		cmocka_unit_test_setup_teardown(test_descriptor_3_is_the_channel, make_run,
						drop_run),
		cmocka_unit_test_setup_teardown(test_nothing_else_is_inherited, make_run, drop_run),
		cmocka_unit_test_setup_teardown(test_signals_start_afresh_in_a_group_of_its_own,
						make_run, drop_run),
		cmocka_unit_test_setup_teardown(test_a_program_that_is_missing, make_run, drop_run),
		cmocka_unit_test_setup_teardown(test_a_child_can_be_ended_without_a_report,
						make_run, drop_run),
		cmocka_unit_test_setup_teardown(test_two_channels_and_a_program_by_its_descriptor,
						make_run, drop_run),
		cmocka_unit_test_setup_teardown(test_a_child_outlives_us_only_if_it_is_meant_to,
						make_run, drop_run),
		cmocka_unit_test(test_restart_delays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

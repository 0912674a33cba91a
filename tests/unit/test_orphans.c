/* SPDX-License-Identifier: ISC */
/*
 * What a master finds of a slot whose keeper was started by the dead master in
 * the last moment: it has no socket yet when the master looks, and then puts its
 * own in the place of the master's. Keeper and worker are processes of this test.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "keepsock/buffer.h"
#include "keepsock/ipc.h"
#include "keepsock/keeper_messages.h"
#include "keepsock/keeper_socket.h"
#include "master/orphans.h"

#define SLOT     3u
#define ORDER    9u
#define RESTARTS 5u
/* Seconds: when the dead keeper's socket was made, which tells it from the master's. */
#define LONG_AGO 1000000000

struct test {
	char run_dir[64], socket[96];
	int file; /* any descriptor to send */
	pid_t keeper, worker;
	struct orphans orphans;
	struct ipc_message message;
};

static int set_up(void **state)
{
	const struct timespec times[2] = {{.tv_sec = LONG_AGO}, {.tv_sec = LONG_AGO}};
	struct test *t = calloc(1, sizeof(*t));

	if (!t)
		return -1;
	snprintf(t->run_dir, sizeof(t->run_dir), "/tmp/keepsock-test-XXXXXX");
	if (!mkdtemp(t->run_dir))
		return -1;
	snprintf(t->socket, sizeof(t->socket), "%s/keeper-%u.sock", t->run_dir, SLOT);
	t->file = memfd_create("file", MFD_CLOEXEC);
	close(keeper_socket_listen(t->run_dir, SLOT));
	if (t->file < 0 || utimensat(AT_FDCWD, t->socket, times, 0) < 0)
		return -1;
	*state = t;
	return 0;
}

static void end_process(pid_t pid)
{
	if (pid > 0 && kill(pid, SIGKILL) == 0)
		waitpid(pid, NULL, 0);
}

static int tear_down(void **state)
{
	struct test *t = *state;
	int result;

	end_process(t->keeper);
	end_process(t->worker);
	orphans_free(&t->orphans);
	close(t->file);
	unlink(t->socket);
	result = rmdir(t->run_dir);
	free(t);
	return result;
}

/* Until the master listens in the dead keeper's place. */
static void wait_for_the_master(const struct test *t)
{
	struct stat status;

	do {
		usleep(1000);
	} while (stat(t->socket, &status) < 0 || status.st_mtim.tv_sec == LONG_AGO);
}

/* The next message of that channel, which does not block. */
static bool receive(struct test *t, int fd)
{
	int result;

	while ((result = ipc_receive(fd, &t->message)) < 0)
		usleep(1000);
	return result == 1;
}

_Noreturn static void be_late_keeper(struct test *t, uint64_t order)
{
	const struct keeper_state what = {
		.version = KEEPER_PROTOCOL_VERSION,
		.slot = SLOT,
		.order = order,
		.restarts = RESTARTS,
	};
	const int fds[] = {t->file, t->file, t->file, t->file};
	int listening, master;
	pid_t peer;

	wait_for_the_master(t);
	listening = keeper_socket_listen(t->run_dir, SLOT);
	do {
		usleep(1000);
		master = keeper_socket_accept(listening, &peer);
	} while (master < 0);
	if (receive(t, master) && t->message.type == KEEPER_MASTER &&
	    ipc_send(master, KEEPER_STATE, 0, &what, sizeof(what), fds, order ? 4 : 0) == 0)
		pause();
	_exit(1);
}

static void say_who(struct test *t, int fd)
{
	const struct keeper_hello hello = {KEEPER_PROTOCOL_VERSION, SLOT};
	const int fds[] = {t->file, t->file, t->file};

	if (ipc_send(fd, KEEPER_HELLO, 0, &hello, sizeof(hello), NULL, 0) < 0 ||
	    ipc_send(fd, KEEPER_ORIGIN, 0, NULL, 0, fds, 3) < 0 ||
	    ipc_send(fd, KEEPER_ARENA, 0, NULL, 0, fds, 1) < 0)
		_exit(1);
}

/* It goes by the keeper's end, which closes its end of the pipe. */
_Noreturn static void be_worker(struct test *t, int keeper_lives)
{
	char byte;
	int fd;

	if (read(keeper_lives, &byte, 1) != 0)
		_exit(1);
	do {
		usleep(1000);
		fd = keeper_socket_connect(t->run_dir, SLOT);
	} while (fd < 0);
	say_who(t, fd);
	pause();
	_exit(1);
}

static void start_both(struct test *t, uint64_t order)
{
	int lives[2];

	assert_int_equal(pipe(lives), 0);
	t->keeper = fork();
	assert_true(t->keeper >= 0);
	if (t->keeper == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		be_late_keeper(t, order);
	}
	close(lives[1]);
	t->worker = fork();
	assert_true(t->worker >= 0);
	if (t->worker == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		be_worker(t, lives[0]);
	}
	close(lives[0]);
}

static void test_a_keeper_that_comes_late_is_found(void **state)
{
	struct buffer error = {0};
	struct test *t = *state;
	const struct orphan *orphan = &t->orphans.slot[SLOT];

	start_both(t, ORDER);
	assert_int_equal(orphans_find(&t->orphans, t->run_dir, &error), 0);
	assert_int_equal(t->orphans.slots, SLOT + 1);
	assert_int_equal(orphan->keeper, t->keeper);
	assert_int_equal(orphan->worker, 0);
	assert_int_equal(orphan->order, ORDER);
	assert_int_equal(orphan->restarts, RESTARTS);
	/* Who comes next finds it, too. */
	assert_int_equal(access(t->socket, F_OK), 0);
}

/* Nobody has told it what to start: it is of no use, and its worker comes to us. */
static void test_a_late_keeper_that_knows_nothing_is_killed(void **state)
{
	struct buffer error = {0};
	struct test *t = *state;
	const struct orphan *orphan = &t->orphans.slot[SLOT];
	int status;

	start_both(t, 0);
	assert_int_equal(orphans_find(&t->orphans, t->run_dir, &error), 0);
	assert_int_equal(t->orphans.slots, SLOT + 1);
	assert_int_equal(orphan->keeper, 0);
	assert_int_equal(orphan->worker, t->worker);
	assert_true(orphan->page_fd >= 0);
	assert_int_equal(waitpid(t->keeper, &status, 0), t->keeper);
	t->keeper = 0;
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_keeper_that_comes_late_is_found, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(test_a_late_keeper_that_knows_nothing_is_killed,
						set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

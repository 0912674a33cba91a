/* SPDX-License-Identifier: ISC */
/*
 * The keeper's socket: where it is, who may use it, and that a dead keeper's is
 * replaced.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "keepsock/keeper_socket.h"

/* Longer than the path of a socket may be. */
#define LONG_NAME                                                      \
	"a-directory-whose-name-alone-is-longer-than-the-path-of-any-" \
	"socket-may-be-as-struct-sockaddr-un-has-room-for-108-bytes"

static char top[64], run_dir[256];

static int set_up(void **state)
{
	(void)state;
	snprintf(top, sizeof(top), "/tmp/keepsock-test-XXXXXX");
	if (!mkdtemp(top))
		return -1;
	snprintf(run_dir, sizeof(run_dir), "%s/%s", top, LONG_NAME);
	return mkdir(run_dir, 0755);
}

static int tear_down(void **state)
{
	char path[320];

	(void)state;
	snprintf(path, sizeof(path), "%s/keeper-3.sock", run_dir);
	unlink(path);
	rmdir(run_dir);
	return rmdir(top);
}

static void test_they_meet(void **state)
{
	int listening = keeper_socket_listen(run_dir, 3);
	int connected, accepted;
	struct stat status;
	char path[320], byte;
	pid_t peer = 0;

	(void)state;
	assert_true(listening >= 0);
	snprintf(path, sizeof(path), "%s/keeper-3.sock", run_dir);
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0600);
	assert_int_equal(keeper_socket_accept(listening, &peer), -1);
	assert_int_equal(errno, EAGAIN);
	connected = keeper_socket_connect(run_dir, 3);
	assert_true(connected >= 0);
	accepted = keeper_socket_accept(listening, &peer);
	assert_true(accepted >= 0);
	assert_int_equal(peer, getpid());
	assert_true(fcntl(accepted, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(accepted, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(send(connected, "x", 1, 0), 1);
	assert_int_equal(recv(accepted, &byte, 1, 0), 1);
	close(accepted);
	close(connected);
	close(listening);
}

static void test_a_dead_keepers_socket_is_replaced(void **state)
{
	int first = keeper_socket_listen(run_dir, 3);
	int second, connected, accepted;
	pid_t peer;

	(void)state;
	assert_true(first >= 0);
	close(first);
	assert_int_equal(keeper_socket_connect(run_dir, 3), -1);
	assert_int_equal(errno, ECONNREFUSED);
	second = keeper_socket_listen(run_dir, 3);
	assert_true(second >= 0);
	connected = keeper_socket_connect(run_dir, 3);
	assert_true(connected >= 0);
	accepted = keeper_socket_accept(second, &peer);
	assert_true(accepted >= 0);
	close(accepted);
	close(connected);
	close(second);
}

static void test_nobody_is_there(void **state)
{
	(void)state;
	assert_int_equal(keeper_socket_connect(run_dir, 3), -1);
	assert_int_equal(errno, ENOENT);
	assert_int_equal(keeper_socket_connect("/no/such/directory", 3), -1);
	assert_int_equal(errno, ENOENT);
	assert_int_equal(keeper_socket_listen("/no/such/directory", 3), -1);
	assert_int_equal(errno, ENOENT);
}

/* Whatever the mode of the socket is: only root can try it. */
static void test_another_user_is_refused(void **state)
{
	int listening, connected, status;
	char path[320];
	pid_t child, peer;

	(void)state;
	if (geteuid() != 0)
		skip();
	listening = keeper_socket_listen(run_dir, 3);
	assert_true(listening >= 0);
	snprintf(path, sizeof(path), "%s/keeper-3.sock", run_dir);
	assert_int_equal(chmod(path, 0666), 0);
	assert_int_equal(chmod(top, 0755), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		if (setresuid(65534, 65534, 65534) < 0)
			_exit(2);
		connected = keeper_socket_connect(run_dir, 3);
		_exit(connected >= 0 ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_int_equal(keeper_socket_accept(listening, &peer), -1);
	assert_int_equal(errno, EPERM);
	close(listening);
}

int main(void)
{
#define WITH_DIRECTORY(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		WITH_DIRECTORY(test_they_meet),
		WITH_DIRECTORY(test_a_dead_keepers_socket_is_replaced),
		WITH_DIRECTORY(test_nobody_is_there),
		WITH_DIRECTORY(test_another_user_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: ISC */
/* What systemd would receive: on a path, on an abstract name, or not at all. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "keepsock/sd_notify.h"

/* A datagram socket bound like systemd's; name as in $NOTIFY_SOCKET. */
static int listen_at(const char *name)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_true(strlen(name) < sizeof(address.sun_path));
	memcpy(address.sun_path, name, strlen(name));
	if (name[0] == '@')
		address.sun_path[0] = '\0';
	assert_int_equal(bind(fd, (struct sockaddr *)&address,
			      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name))),
			 0);
	return fd;
}

static void assert_arrives_at(const char *name)
{
	char received[64] = "";
	int fd = listen_at(name);

	assert_int_equal(setenv("NOTIFY_SOCKET", name, 1), 0);
	assert_int_equal(sd_notify_send("READY=1\nSTATUS=serving"), 1);
	assert_int_equal(recv(fd, received, sizeof(received) - 1, MSG_DONTWAIT), 22);
	assert_string_equal(received, "READY=1\nSTATUS=serving");
	close(fd);
}

static void test_socket_at_a_path(void **state)
{
	char directory[] = P_tmpdir "/keepsock-test-XXXXXX";
	char path[64];

	(void)state;
	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/notify", directory);
	assert_arrives_at(path);
	unlink(path);
	rmdir(directory);
}

static void test_abstract_socket(void **state)
{
	char name[64];

	(void)state;
	snprintf(name, sizeof(name), "@keepsock-test-%ld", (long)getpid());
	assert_arrives_at(name);
}

static void test_without_systemd(void **state)
{
	(void)state;
	assert_int_equal(unsetenv("NOTIFY_SOCKET"), 0);
	assert_int_equal(sd_notify_send("READY=1"), 0);
	assert_int_equal(setenv("NOTIFY_SOCKET", "", 1), 0);
	assert_int_equal(sd_notify_send("READY=1"), 0);
}

static void test_bad_names(void **state)
{
	char longest[200];

	(void)state;
	memset(longest, 'x', sizeof(longest) - 1);
	longest[0] = '/';
	longest[sizeof(longest) - 1] = '\0';
	assert_int_equal(setenv("NOTIFY_SOCKET", longest, 1), 0);
	assert_int_equal(sd_notify_send("READY=1"), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(setenv("NOTIFY_SOCKET", "relative", 1), 0);
	assert_int_equal(sd_notify_send("READY=1"), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(setenv("NOTIFY_SOCKET", "/nonexistent/notify", 1), 0);
	assert_int_equal(sd_notify_send("READY=1"), -1);
	assert_int_equal(errno, ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_socket_at_a_path),
		cmocka_unit_test(test_abstract_socket),
		cmocka_unit_test(test_without_systemd),
		cmocka_unit_test(test_bad_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

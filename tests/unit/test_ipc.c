/* SPDX-License-Identifier: ISC */
/*
 * Messages between processes: payloads and descriptors arrive whole, limits
 * hold, malformed messages are refused, and no descriptor leaks anywhere.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cmocka.h>

#include "keepsock/ipc.h"

static int ends[2];
static struct ipc_message message;
static size_t fds_before;

static size_t count_open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	size_t count = 0;

	assert_non_null(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

static int set_up(void **state)
{
	(void)state;
	fds_before = count_open_fds();
	return ipc_pair(ends);
}

static int tear_down(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2; i++) {
		if (ends[i] >= 0)
			close(ends[i]);
	}
	assert_int_equal(count_open_fds(), fds_before);
	return 0;
}

static void assert_payload(const void *expected, size_t len)
{
	struct slice payload;

	assert_int_equal(ipc_message_payload(&message, &payload), 0);
	assert_int_equal(payload.len, len);
	if (len > 0)
		assert_memory_equal(payload.data, expected, len);
}

static void test_messages_keep_their_boundaries(void **state)
{
	(void)state;
	assert_int_equal(ipc_send(ends[0], 7, UINT64_MAX, "hello", 5, NULL, 0), 0);
	assert_int_equal(ipc_send(ends[0], 8, 0, NULL, 0, NULL, 0), 0);

	assert_int_equal(ipc_receive(ends[1], &message), 1);
	assert_int_equal(message.type, 7);
	assert_true(message.id == UINT64_MAX);
	assert_payload("hello", 5);
	ipc_message_close_fds(&message);

	assert_int_equal(ipc_receive(ends[1], &message), 1);
	assert_int_equal(message.type, 8);
	assert_payload("", 0);
	ipc_message_close_fds(&message);
}

static void test_largest_payload_and_one_byte_more(void **state)
{
	char *payload = calloc(1, IPC_PAYLOAD_MAX + 1);

	(void)state;
	assert_non_null(payload);
	payload[IPC_PAYLOAD_MAX - 1] = 'z';
	assert_int_equal(ipc_send(ends[0], 1, 1, payload, IPC_PAYLOAD_MAX, NULL, 0), 0);
	assert_int_equal(ipc_receive(ends[1], &message), 1);
	assert_payload(payload, IPC_PAYLOAD_MAX);
	ipc_message_close_fds(&message);

	assert_int_equal(ipc_send(ends[0], 1, 1, payload, IPC_PAYLOAD_MAX + 1, NULL, 0), -1);
	assert_int_equal(errno, EMSGSIZE);
	free(payload);
}

static void test_descriptors_arrive_close_on_exec(void **state)
{
	int fds[IPC_FDS_MAX + 1];
	char text[4] = "";

	(void)state;
	for (size_t i = 0; i <= IPC_FDS_MAX; i++)
		fds[i] = ends[0];
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_int_equal(write(fds[1], "yes", 3), 3);
	assert_int_equal(ipc_send(ends[0], 1, 1, "x", 1, fds, IPC_FDS_MAX), 0);
	close(fds[1]);

	assert_int_equal(ipc_receive(ends[1], &message), 1);
	assert_int_equal(message.nfds, IPC_FDS_MAX);
	assert_int_equal(read(message.fds[0], text, 3), 3);
	assert_string_equal(text, "yes");
	assert_int_equal(fcntl(message.fds[0], F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	close(fds[0]);

	/* A kept descriptor survives, all others are closed. */
	fds[0] = message.fds[0];
	message.fds[0] = -1;
	ipc_message_close_fds(&message);
	assert_true(fcntl(fds[0], F_GETFD) >= 0);
	close(fds[0]);
}

static void test_too_many_descriptors_are_refused(void **state)
{
	int fds[IPC_FDS_MAX + 1];

	(void)state;
	for (size_t i = 0; i <= IPC_FDS_MAX; i++)
		fds[i] = ends[0];
	assert_int_equal(ipc_send(ends[0], 1, 1, "x", 1, fds, IPC_FDS_MAX + 1), -1);
	assert_int_equal(errno, EMSGSIZE);
}

static void test_blob(void **state)
{
	size_t len = 3 * 1024 * 1024 + 17;
	char *payload = malloc(len);

	(void)state;
	assert_non_null(payload);
	for (size_t i = 0; i < len; i++)
		payload[i] = (char)(i * 31 >> 3);
	assert_int_equal(ipc_send_blob(ends[0], 5, 6, payload, len), 0);
	assert_int_equal(ipc_receive(ends[1], &message), 1);
	assert_int_equal(message.type, 5);
	assert_int_equal(message.id, 6);
	assert_int_equal(message.nfds, 0);
	assert_payload(payload, len);
	assert_payload(payload, len); /* the second time from memory */
	ipc_message_close_fds(&message);

	/* A short one needs no memfd, an endless one is refused. */
	assert_int_equal(ipc_send_blob(ends[0], 5, 6, payload, IPC_INLINE_MAX), 0);
	assert_int_equal(ipc_receive(ends[1], &message), 1);
	assert_int_equal(message.blob_fd, -1);
	assert_payload(payload, IPC_INLINE_MAX);
	ipc_message_close_fds(&message);
	assert_int_equal(ipc_send_blob(ends[0], 5, 6, payload, IPC_BLOB_MAX + 1), -1);
	assert_int_equal(errno, EMSGSIZE);
	free(payload);
}

static void test_blob_that_was_never_read_is_released(void **state)
{
	char *payload = calloc(1, IPC_INLINE_MAX + 1);

	(void)state;
	assert_non_null(payload);
	assert_int_equal(ipc_send_blob(ends[0], 5, 6, payload, IPC_INLINE_MAX + 1), 0);
	assert_int_equal(ipc_receive(ends[1], &message), 1);
	ipc_message_close_fds(&message);
	free(payload);
}

static void test_peer_gone(void **state)
{
	(void)state;
	close(ends[0]);
	ends[0] = -1;
	assert_int_equal(ipc_receive(ends[1], &message), 0);
	assert_int_equal(ipc_send(ends[1], 1, 1, "x", 1, NULL, 0), -1);
	assert_int_equal(errno, EPIPE);
}

static void test_peer_gone_with_our_message_unread(void **state)
{
	(void)state;
	assert_int_equal(ipc_send(ends[1], 1, 1, "x", 1, NULL, 0), 0);
	close(ends[0]);
	ends[0] = -1;
	assert_int_equal(ipc_receive(ends[1], &message), 0);
}

static void test_last_words_are_heard_before_the_end(void **state)
{
	(void)state;
	assert_int_equal(ipc_send(ends[0], 9, 1, "bye", 3, NULL, 0), 0);
	close(ends[0]);
	ends[0] = -1;
	assert_int_equal(ipc_receive(ends[1], &message), 1);
	assert_payload("bye", 3);
	ipc_message_close_fds(&message);
	assert_int_equal(ipc_receive(ends[1], &message), 0);
}

/* The kernel tells of the message it threw away before it gives out what came. */
static void test_last_words_of_a_peer_that_had_not_listened(void **state)
{
	(void)state;
	assert_int_equal(ipc_send(ends[0], 1, 1, "a", 1, NULL, 0), 0);
	assert_int_equal(ipc_send(ends[0], 2, 2, "b", 1, NULL, 0), 0);
	assert_int_equal(ipc_send(ends[1], 3, 3, "unread", 6, NULL, 0), 0);
	close(ends[0]);
	ends[0] = -1;
	for (uint32_t type = 1; type <= 2; type++) {
		assert_int_equal(ipc_receive(ends[1], &message), 1);
		assert_int_equal(message.type, type);
		ipc_message_close_fds(&message);
	}
	assert_int_equal(ipc_receive(ends[1], &message), 0);
}

static void test_nothing_there_without_blocking(void **state)
{
	(void)state;
	assert_int_equal(fcntl(ends[1], F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(ipc_receive(ends[1], &message), -1);
	assert_int_equal(errno, EAGAIN);
}

static void test_full_socket_without_blocking(void **state)
{
	char payload[1024] = "";
	int result;

	(void)state;
	assert_int_equal(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
	do {
		result = ipc_send(ends[0], 1, 1, payload, sizeof(payload), NULL, 0);
	} while (result == 0);
	assert_int_equal(errno, EAGAIN);
}

/* Sends what ipc_send() never would. */
static void send_raw(const void *data, size_t len, const int *fds, size_t nfds)
{
	char control[CMSG_SPACE(sizeof(int) * 4)] __attribute__((aligned(8))) = "";
	struct iovec part = {(void *)(uintptr_t)data, len};
	struct msghdr msg = {.msg_iov = &part, .msg_iovlen = 1};

	if (nfds > 0) {
		struct cmsghdr *cmsg;

		msg.msg_control = control;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * nfds);
		cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(int) * nfds);
		memcpy(CMSG_DATA(cmsg), fds, sizeof(int) * nfds);
	}
	assert_int_equal(sendmsg(ends[0], &msg, 0), len);
}

static void assert_malformed(void)
{
	assert_int_equal(ipc_receive(ends[1], &message), -1);
	assert_int_equal(errno, EBADMSG);
	assert_int_equal(message.nfds, 0);
	assert_int_equal(message.blob_fd, -1);
}

static void test_malformed_messages(void **state)
{
	struct {
		struct ipc_header header;
		char payload[4];
	} bad = {{1, 5, 1}, "abc"};
	size_t whole = IPC_PAYLOAD_MAX + sizeof(struct ipc_header) + 1;
	char *big = calloc(1, whole);
	int fds[2] = {ends[0], ends[1]};

	(void)state;
	assert_non_null(big);
	send_raw("x", 1, fds, 1); /* shorter than a header, and its descriptor is not leaked */
	assert_malformed();
	send_raw(&bad, sizeof(bad), NULL, 0); /* a length that is not true */
	assert_malformed();
	bad.header.length = 3;
	send_raw(&bad, sizeof(bad), fds, 2);
	assert_malformed();
	bad.header.length = 0x80000000u | 100000; /* a blob without a memfd */
	send_raw(&bad, sizeof(bad.header), NULL, 0);
	assert_malformed();
	send_raw(&bad, sizeof(bad.header), fds, 2); /* with two */
	assert_malformed();
	send_raw(&bad, sizeof(bad), fds, 1); /* with an inline payload too */
	assert_malformed();
	bad.header.length = 0xffffffffu; /* beyond IPC_BLOB_MAX */
	send_raw(&bad, sizeof(bad.header), fds, 1);
	assert_malformed();
	send_raw(big, whole, NULL, 0); /* truncated on the way in */
	assert_malformed();
	free(big);
}

static void test_blob_that_is_no_file_of_that_size(void **state)
{
	struct ipc_header header = {1, 0x80000000u | 100000, 1};
	struct slice payload;

	(void)state;
	send_raw(&header, sizeof(header), &ends[1], 1);
	assert_int_equal(ipc_receive(ends[1], &message), 1);
	assert_int_equal(ipc_message_payload(&message, &payload), -1);
	assert_int_equal(errno, EBADMSG);
	ipc_message_close_fds(&message);
}

static void test_lost_descriptors_are_an_error(void **state)
{
	struct rlimit limit, tight;
	int fds[3] = {ends[0], ends[0], ends[0]};
	int probe, result, error;

	(void)state;
	assert_int_equal(ipc_send(ends[0], 1, 1, "x", 1, fds, 3), 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	probe = dup(ends[0]); /* the lowest free number: room for one more */
	assert_true(probe >= 0);
	close(probe);
	tight = limit;
	tight.rlim_cur = (rlim_t)probe + 1;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
	result = ipc_receive(ends[1], &message);
	error = errno;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(result, -1);
	assert_int_equal(error, EMFILE);
}

int main(void)
{
#define WITH_PAIR(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		WITH_PAIR(test_messages_keep_their_boundaries),
		WITH_PAIR(test_largest_payload_and_one_byte_more),
		WITH_PAIR(test_descriptors_arrive_close_on_exec),
		WITH_PAIR(test_too_many_descriptors_are_refused),
		WITH_PAIR(test_blob),
		WITH_PAIR(test_blob_that_was_never_read_is_released),
		WITH_PAIR(test_peer_gone),
		WITH_PAIR(test_peer_gone_with_our_message_unread),
		WITH_PAIR(test_last_words_are_heard_before_the_end),
		WITH_PAIR(test_last_words_of_a_peer_that_had_not_listened),
		WITH_PAIR(test_nothing_there_without_blocking),
		WITH_PAIR(test_full_socket_without_blocking),
		WITH_PAIR(test_malformed_messages),
		WITH_PAIR(test_blob_that_is_no_file_of_that_size),
		WITH_PAIR(test_lost_descriptors_are_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

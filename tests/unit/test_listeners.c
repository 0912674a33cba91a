/* SPDX-License-Identifier: ISC */
/*
 * Listening sockets: a member for each worker, and no silent sharing of a port
 * with another server.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/listeners.h"
#include "keepsock/log.h"
#include "keepsock/settings.h"

#define SLOTS 3

static struct sockaddr_in loopback(uint16_t port)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
}

/* A bound socket that shares its port with whoever asks for that too. */
static int bind_shared(uint16_t port)
{
	struct sockaddr_in address = loopback(port);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int on = 1;

	assert_true(fd >= 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)), 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static uint16_t port_of(int fd)
{
	struct sockaddr_in address;
	socklen_t length = sizeof(address);

	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
	return ntohs(address.sin_port);
}

static uint16_t free_port(void)
{
	int fd = bind_shared(0);
	uint16_t port = port_of(fd);

	close(fd);
	return port;
}

static void parse(struct settings *settings, const char *format, unsigned a, unsigned b)
	__attribute__((format(printf, 2, 0)));

static void parse(struct settings *settings, const char *format, unsigned a, unsigned b)
{
	struct buffer text = {0}, error = {0};

	buffer_printf(&text, format, a, b);
	assert_int_equal(settings_parse(buffer_cstr(&text), "test", settings, &error), 0);
	buffer_free(&text);
	buffer_free(&error);
}

static void connect_to(uint16_t port)
{
	struct sockaddr_in address = loopback(port);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
}

static void test_each_slot_has_a_member_for_each_address(void **state)
{
	struct listeners listeners;
	struct settings settings;
	struct buffer error = {0};
	unsigned ports[2] = {free_port(), free_port()};

	(void)state;
	parse(&settings,
	      "listeners = ({ address = \"127.0.0.1\"; port = %u; },"
	      "             { address = \"127.0.0.1\"; port = %u; });",
	      ports[0], ports[1]);
	assert_int_equal(listeners_open(&listeners, &settings, SLOTS, NULL, 0, &error), 0);
	assert_int_equal(listeners.count, 2);
	for (uint32_t slot = 0; slot < SLOTS; slot++) {
		for (size_t i = 0; i < 2; i++) {
			int fd = listeners_of_slot(&listeners, slot)[i];

			assert_int_equal(port_of(fd), ports[i]);
			assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
			assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
		}
	}
	listeners_close(&listeners);
	listeners_close(&listeners);
	settings_free(&settings);
}

/* Sooner or later each member gets a connection: all of them listen. */
static void test_all_members_are_served(void **state)
{
	struct pollfd members[SLOTS];
	struct listeners listeners;
	struct settings settings;
	struct buffer error = {0};
	unsigned port = free_port();
	bool seen[SLOTS] = {false};
	int count = 0;

	(void)state;
	parse(&settings, "listeners = ({ address = \"127.0.0.1\"; port = %u; });%.0u", port, 0);
	assert_int_equal(listeners_open(&listeners, &settings, SLOTS, NULL, 0, &error), 0);
	for (uint32_t slot = 0; slot < SLOTS; slot++)
		members[slot] = (struct pollfd){listeners_of_slot(&listeners, slot)[0], POLLIN, 0};
	while (count < SLOTS) {
		connect_to((uint16_t)port);
		assert_true(poll(members, SLOTS, -1) > 0);
		for (int i = 0; i < SLOTS; i++) {
			if (!(members[i].revents & POLLIN))
				continue;
			close(accept(members[i].fd, NULL, NULL));
			count += !seen[i];
			seen[i] = true;
		}
	}
	listeners_close(&listeners);
	settings_free(&settings);
}

static void test_a_port_that_another_has_is_refused(void **state)
{
	struct listeners listeners;
	struct settings settings;
	struct buffer error = {0};
	int other = bind_shared(0);

	(void)state;
	assert_int_equal(listen(other, 1), 0);
	parse(&settings, "listeners = ({ address = \"127.0.0.1\"; port = %u; });%.0u",
	      port_of(other), 0);
	assert_int_equal(listeners_open(&listeners, &settings, SLOTS, NULL, 0, &error), -1);
	assert_non_null(strstr(buffer_cstr(&error), "another process has it"));
	assert_null(listeners.fds);
	close(other);
	buffer_free(&error);
	settings_free(&settings);
}

static void test_an_address_this_host_does_not_have(void **state)
{
	struct listeners listeners;
	struct settings settings;
	struct buffer error = {0};

	(void)state;
	/* From the block for documentation (RFC 5737). */
	parse(&settings, "listeners = ({ address = \"192.0.2.1\"; port = %u; });%.0u", free_port(),
	      0);
	assert_int_equal(listeners_open(&listeners, &settings, 1, NULL, 0, &error), -1);
	assert_non_null(strstr(buffer_cstr(&error), "192.0.2.1"));
	buffer_free(&error);
	settings_free(&settings);
}

/* Connections that wait in its queue are not lost when the descriptor gets another owner. */
static void test_what_is_open_is_taken_over(void **state)
{
	struct listeners before, after;
	struct listener_member have[SLOTS];
	struct settings settings;
	struct buffer error = {0};
	unsigned ports[2] = {free_port(), free_port()};
	struct pollfd poller;

	(void)state;
	parse(&settings, "listeners = ({ address = \"127.0.0.1\"; port = %u; });%.0u", ports[0], 0);
	assert_int_equal(listeners_open(&before, &settings, 1, NULL, 0, &error), 0);
	connect_to((uint16_t)ports[0]);
	settings_free(&settings);
	parse(&settings,
	      "listeners = ({ address = \"127.0.0.1\"; port = %u; },"
	      "             { address = \"127.0.0.1\"; port = %u; });",
	      ports[1], ports[0]);
	have[0] = (struct listener_member){0, listeners_of_slot(&before, 0)[0]};
	assert_int_equal(listeners_open(&after, &settings, SLOTS, have, 1, &error), 0);
	listeners_close(&before);
	for (uint32_t slot = 0; slot < SLOTS; slot++) {
		for (size_t i = 0; i < 2; i++)
			assert_int_equal(port_of(listeners_of_slot(&after, slot)[i]), ports[1 - i]);
	}
	poller = (struct pollfd){listeners_of_slot(&after, 0)[1], POLLIN, 0};
	assert_int_equal(poll(&poller, 1, -1), 1);
	close(accept(poller.fd, NULL, NULL));
	listeners_close(&after);
	settings_free(&settings);
}

static bool is_served(unsigned port)
{
	struct sockaddr_in address = loopback((uint16_t)port);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool served;

	assert_true(fd >= 0);
	served = connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
	close(fd);
	return served;
}

/* One node after the other, whoever still has a duplicate of the first one's socket. */
static void test_the_primary_has_its_address_alone(void **state)
{
	struct listeners first, second;
	struct listener_member have;
	struct settings settings;
	struct buffer error = {0};
	unsigned ports[2] = {free_port(), free_port()};
	int left;

	(void)state;
	parse(&settings,
	      "listeners = ({ address = \"127.0.0.1\"; port = %u; when = \"primary\"; },"
	      "             { address = \"127.0.0.1\"; port = %u; });",
	      ports[0], ports[1]);
	assert_int_equal(listeners_open(&first, &settings, 2, NULL, 0, &error), 0);
	assert_int_equal(first.count, 1);
	assert_int_equal(port_of(listeners_of_slot(&first, 1)[0]), ports[1]);
	assert_false(is_served(ports[0]));
	assert_int_equal(listeners_open_primary(&first, &settings, NULL, 0, &error), 0);
	assert_int_equal(listeners_open_primary(&first, &settings, NULL, 0, &error), 0);
	assert_int_equal(first.primary_count, 1);
	assert_int_equal(port_of(first.primary[0]), ports[0]);
	assert_true(is_served(ports[0]));

	memset(&second, 0, sizeof(second));
	assert_int_equal(listeners_open_primary(&second, &settings, NULL, 0, &error), -1);
	assert_non_null(strstr(buffer_cstr(&error), "another process has it"));
	assert_int_equal(second.primary_count, 0);
	left = dup(first.primary[0]);
	listeners_close_primary(&first);
	assert_false(is_served(ports[0]));
	assert_int_equal(listeners_open_primary(&second, &settings, NULL, 0, &error), 0);
	assert_true(is_served(ports[0]));
	close(left);

	/* The next master of that node takes it over. */
	have = (struct listener_member){1, second.primary[0]};
	assert_int_equal(listeners_open_primary(&first, &settings, &have, 1, &error), 0);
	listeners_close(&second);
	assert_true(is_served(ports[0]));
	listeners_close(&first);
	buffer_free(&error);
	settings_free(&settings);
}

/* Two addresses, of which the second configuration has one, and another one. */
static void test_what_is_removed_is_shut_for_everybody(void **state)
{
	struct listeners before, after;
	struct listener_member have[SLOTS * 2];
	struct settings settings;
	struct buffer error = {0};
	unsigned ports[3] = {free_port(), free_port(), free_port()};
	int left[SLOTS];

	(void)state;
	parse(&settings,
	      "listeners = ({ address = \"127.0.0.1\"; port = %u; },"
	      "             { address = \"127.0.0.1\"; port = %u; });",
	      ports[0], ports[1]);
	assert_int_equal(listeners_open(&before, &settings, SLOTS, NULL, 0, &error), 0);
	settings_free(&settings);
	for (uint32_t slot = 0; slot < SLOTS; slot++) {
		const int *fds = listeners_of_slot(&before, slot);

		have[slot * 2] = (struct listener_member){slot, fds[0]};
		have[slot * 2 + 1] = (struct listener_member){slot, fds[1]};
		left[slot] = dup(fds[0]);
	}
	parse(&settings,
	      "listeners = ({ address = \"127.0.0.1\"; port = %u; },"
	      "             { address = \"127.0.0.1\"; port = %u; });",
	      ports[2], ports[1]);
	assert_int_equal(listeners_open(&after, &settings, SLOTS, have, SLOTS * 2, &error), 0);
	assert_true(is_served(ports[0]));
	listeners_shut_removed(&before, &after);
	listeners_close(&before);
	assert_false(is_served(ports[0]));
	for (int i = 0; i < 20; i++)
		assert_true(is_served(ports[1]) && is_served(ports[2]));
	for (uint32_t slot = 0; slot < SLOTS; slot++)
		close(left[slot]);
	listeners_close(&after);
	settings_free(&settings);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_slot_has_a_member_for_each_address),
		cmocka_unit_test(test_all_members_are_served),
		cmocka_unit_test(test_a_port_that_another_has_is_refused),
		cmocka_unit_test(test_what_is_open_is_taken_over),
		cmocka_unit_test(test_an_address_this_host_does_not_have),
		cmocka_unit_test(test_the_primary_has_its_address_alone),
		cmocka_unit_test(test_what_is_removed_is_shut_for_everybody),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

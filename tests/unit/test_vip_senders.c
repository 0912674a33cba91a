/* SPDX-License-Identifier: ISC */
/*
 * What is sent in the VIP's name: only after asking whether it is ours, no
 * faster and no more than told, and again when the kernel had no room. The
 * sockets are the test's; the loop and the clock are real.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <event2/event.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "keepsock/buffer.h"
#include "keepsock/clock.h"
#include "supervisor/vip_announce.h"
#include "supervisor/vip_tickle.h"

static struct {
	unsigned may; /* how often to say yes */
	unsigned asked;
	unsigned sent;
	unsigned errors; /* the next sends fail with `error` */
	int error;
	unsigned done;
	uint64_t done_sent, done_failed;
	unsigned short hardware;
} world;

static struct event_base *base;
static struct vip_spec spec;

int __wrap_socket(int family, int type, int protocol);
int __wrap_close(int fd);
int __wrap_setsockopt(int fd, int level, int option, const void *value, socklen_t len);
ssize_t __wrap_sendto(int fd, const void *data, size_t len, int flags, const struct sockaddr *to,
		      socklen_t to_len);
int __wrap_ioctl(int fd, unsigned long what, struct ifreq *request);
char *__wrap_if_indextoname(unsigned index, char *name);
int __real_close(int fd);

int __wrap_socket(int family, int type, int protocol)
{
	(void)family;
	(void)type;
	(void)protocol;
	return 100000;
}

int __wrap_close(int fd)
{
	return fd == 100000 ? 0 : __real_close(fd);
}

int __wrap_setsockopt(int fd, int level, int option, const void *value, socklen_t len)
{
	(void)value;
	(void)len;
	assert_int_equal(fd, 100000);
	assert_int_equal(level, IPPROTO_IP);
	assert_int_equal(option, IP_HDRINCL);
	return 0;
}

ssize_t __wrap_sendto(int fd, const void *data, size_t len, int flags, const struct sockaddr *to,
		      socklen_t to_len)
{
	(void)data;
	(void)flags;
	(void)to;
	assert_int_equal(fd, 100000);
	assert_true(to_len > 0);
	if (world.errors > 0) {
		world.errors--;
		errno = world.error;
		return -1;
	}
	world.sent++;
	return (ssize_t)len;
}

int __wrap_ioctl(int fd, unsigned long what, struct ifreq *request)
{
	(void)fd;
	assert_int_equal(what, SIOCGIFHWADDR);
	request->ifr_hwaddr.sa_family = world.hardware;
	return 0;
}

char *__wrap_if_indextoname(unsigned index, char *name)
{
	assert_int_equal(index, 5);
	return strcpy(name, "eth0");
}

static bool may_send(void *ctx)
{
	(void)ctx;
	world.asked++;
	if (world.may == 0)
		return false;
	world.may--;
	return true;
}

static void on_done(void *ctx, uint64_t sent, uint64_t failed)
{
	(void)ctx;
	world.done++;
	world.done_sent = sent;
	world.done_failed = failed;
}

static int begin(void **state)
{
	(void)state;
	memset(&world, 0, sizeof(world));
	world.may = UINT32_MAX;
	world.hardware = ARPHRD_ETHER;
	spec = (struct vip_spec){
		.address = {.family = AF_INET, .address = {10, 0, 0, 5}, .prefix = 32},
		.interface = "eth0",
		.announce_ms = 40,
		.announce_every_ms = 10,
		.tickles_per_second = 100000,
		.tickles_max = 100};
	base = event_base_new();
	return base ? 0 : -1;
}

static struct vip_tickler *tickler(void)
{
	struct buffer error = {0};
	struct vip_tickler *made = vip_tickler_open(base, &spec, may_send, on_done, NULL, &error);

	assert_non_null(made);
	return made;
}

static struct vip_announcer *announcer(void)
{
	struct buffer error = {0};
	struct vip_announcer *made = vip_announcer_open(base, &spec, may_send, NULL, &error);

	assert_non_null(made);
	return made;
}

static void end(struct vip_tickler *tickling, struct vip_announcer *announcing)
{
	if (tickling)
		vip_tickler_close(tickling);
	if (announcing)
		vip_announcer_close(announcing);
	event_base_free(base);
}

static void add(struct vip_tickler *tickling, size_t count, size_t taken)
{
	struct vip_peer *peers = calloc(count, sizeof(*peers));

	assert_non_null(peers);
	assert_int_equal(vip_tickler_add(tickling, peers, count), taken);
	free(peers);
}

static void test_no_more_than_there_is_room_for(void **state)
{
	struct vip_tickler *tickling = tickler();

	(void)state;
	add(tickling, 60, 60);
	add(tickling, 60, 40);
	add(tickling, 1, 0);
	event_base_dispatch(base);
	assert_int_equal(world.sent, 100);
	assert_int_equal(world.asked, 100);
	assert_int_equal(world.done, 1);
	assert_int_equal(world.done_sent, 100);
	assert_int_equal(world.done_failed, 0);
	add(tickling, 30, 30);
	event_base_dispatch(base);
	assert_int_equal(world.done, 2);
	assert_int_equal(world.done_sent, 30);
	end(tickling, NULL);
}

static void test_the_rate_is_kept(void **state)
{
	struct vip_tickler *tickling = tickler();
	uint64_t started = clock_boottime_ms();

	(void)state;
	spec.tickles_per_second = 200;
	add(tickling, 20, 20);
	event_base_dispatch(base);
	/* 50 ms may be made up for: ten packets, and the first one is free. */
	assert_true(clock_boottime_ms() - started >= (20 - 10 - 1) * 5);
	assert_int_equal(world.sent, 20);
	end(tickling, NULL);
}

static void test_no_room_means_later(void **state)
{
	static const int errors[] = {EAGAIN, ENOBUFS, EPERM, EINTR};

	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		struct vip_tickler *tickling;

		begin(state);
		tickling = tickler();
		world.errors = 3;
		world.error = errors[i];
		add(tickling, 5, 5);
		event_base_dispatch(base);
		assert_int_equal(world.done_sent, 5);
		assert_int_equal(world.done_failed, 0);
		end(tickling, NULL);
	}
}

static void test_unreachable_peers_are_counted(void **state)
{
	struct vip_tickler *tickling = tickler();

	(void)state;
	world.errors = 2;
	world.error = EHOSTUNREACH;
	add(tickling, 5, 5);
	event_base_dispatch(base);
	assert_int_equal(world.done_sent, 3);
	assert_int_equal(world.done_failed, 2);
	end(tickling, NULL);
}

static void test_tickles_stop_when_it_is_not_ours(void **state)
{
	struct vip_tickler *tickling = tickler();

	(void)state;
	world.may = 7;
	add(tickling, 50, 50);
	event_base_dispatch(base);
	assert_int_equal(world.sent, 7);
	assert_int_equal(world.done, 1);
	assert_int_equal(world.done_sent, 7);
	assert_int_equal(world.done_failed, 43);
	end(tickling, NULL);
}

static void test_announced_for_a_time(void **state)
{
	struct vip_announcer *announcing = announcer();

	(void)state;
	vip_announcer_start(announcing, 5);
	assert_int_equal(world.sent, 2); /* both forms, at once */
	event_base_dispatch(base);
	assert_in_range(world.sent, 4, 10);
	assert_int_equal(world.asked, world.sent);
	end(NULL, announcing);
}

static void test_announced_only_while_it_is_ours(void **state)
{
	struct vip_announcer *announcing = announcer();

	(void)state;
	world.may = 1;
	vip_announcer_start(announcing, 5);
	event_base_dispatch(base);
	assert_int_equal(world.sent, 1);
	assert_true(world.asked >= 2);
	end(NULL, announcing);
}

static void test_announcing_goes_on_after_an_error(void **state)
{
	struct vip_announcer *announcing = announcer();

	(void)state;
	world.errors = 1;
	world.error = ENETDOWN;
	vip_announcer_start(announcing, 5);
	assert_int_equal(world.sent, 0);
	event_base_dispatch(base);
	assert_true(world.sent >= 2);
	end(NULL, announcing);
}

static void test_links_without_hardware_addresses(void **state)
{
	struct vip_announcer *announcing = announcer();

	(void)state;
	world.hardware = ARPHRD_NONE;
	vip_announcer_start(announcing, 5);
	event_base_dispatch(base);
	assert_int_equal(world.sent, 0);
	end(NULL, announcing);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_no_more_than_there_is_room_for, begin),
		cmocka_unit_test_setup(test_the_rate_is_kept, begin),
		cmocka_unit_test(test_no_room_means_later),
		cmocka_unit_test_setup(test_unreachable_peers_are_counted, begin),
		cmocka_unit_test_setup(test_tickles_stop_when_it_is_not_ours, begin),
		cmocka_unit_test_setup(test_announced_for_a_time, begin),
		cmocka_unit_test_setup(test_announced_only_while_it_is_ours, begin),
		cmocka_unit_test_setup(test_announcing_goes_on_after_an_error, begin),
		cmocka_unit_test_setup(test_links_without_hardware_addresses, begin),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

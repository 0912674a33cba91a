/* SPDX-License-Identifier: ISC */
/*
 * Sweeping connections off the VIP, with a kernel that the test plays: it keeps
 * what it can't destroy, lets some be missed, fails; and the address is called
 * clean only after a look that found nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <event2/event.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "keepsock/buffer.h"
#include "keepsock/log.h"
#include "supervisor/netlink.h"
#include "supervisor/vip_sockets.h"

#define SOCKETS 100

struct fake {
	bool alive;
	bool mapped;  /* an IPv4 connection of an IPv6 socket */
	bool foreign; /* on another address, past the kernel's filter */
	uint8_t timer;
	uint8_t state;   /* 0: established */
	unsigned misses; /* looks in which it is not shown */
	int refusal;     /* what destroying it answers */
};

static struct {
	struct fake sockets[SOCKETS];
	uint8_t family; /* of the dump under way */
	unsigned looks, dump_failures, destroyed_foreign;
	bool clean;
	unsigned silent; /* clients that were not told */
} kernel;

static struct event_base *base;
static const struct settings_vip address = {
	.family = AF_INET, .address = {10, 0, 0, 5}, .prefix = 32};

int __wrap_netlink_open(struct netlink *netlink, int protocol);
void __wrap_netlink_close(struct netlink *netlink);
int __wrap_netlink_dump(struct netlink *netlink, struct netlink_request *request);
int __wrap_netlink_dump_next(struct netlink *netlink, netlink_message on_message, void *ctx);
int __wrap_netlink_ask(struct netlink *netlink, struct netlink_request *request);
int __wrap_netlink_ask_for(struct netlink *netlink, struct netlink_request *request,
			   netlink_message on_message, void *ctx);

int __wrap_netlink_open(struct netlink *netlink, int protocol)
{
	assert_int_equal(protocol, NETLINK_SOCK_DIAG);
	netlink->fd = 1000;
	return 0;
}

void __wrap_netlink_close(struct netlink *netlink)
{
	netlink->fd = -1;
}

int __wrap_netlink_dump(struct netlink *netlink, struct netlink_request *request)
{
	struct inet_diag_req_v2 header;

	(void)netlink;
	memcpy(&header, NLMSG_DATA(&request->header), sizeof(header));
	assert_int_equal(header.sdiag_protocol, IPPROTO_TCP);
	assert_false(header.idiag_states & 1u << TCP_LISTEN);
	assert_true(header.idiag_states & 1u << TCP_ESTABLISHED);
	kernel.family = header.sdiag_family;
	kernel.looks++;
	return 0;
}

static void show(unsigned i, netlink_message on_message, void *ctx)
{
	struct fake *fake = &kernel.sockets[i];
	struct inet_diag_msg message = {.idiag_family = kernel.family,
					.idiag_state = TCP_ESTABLISHED,
					.idiag_timer = fake->timer,
					.id.idiag_sport = htons(8000),
					.id.idiag_dport = htons((uint16_t)(20000 + i))};
	uint8_t target[16] = {[10] = 0xff, [11] = 0xff, [12] = 10, [15] = 9};
	uint8_t source[16] = {[10] = 0xff, [11] = 0xff, [12] = 10, [15] = 5};
	struct netlink_request buffer;

	if (fake->foreign)
		source[15] = 6;
	memcpy(message.id.idiag_src, fake->mapped ? source : source + 12, fake->mapped ? 16 : 4);
	memcpy(message.id.idiag_dst, fake->mapped ? target : target + 12, fake->mapped ? 16 : 4);
	if (fake->state)
		message.idiag_state = fake->state;
	message.id.idiag_cookie[0] = i;
	netlink_request_init(&buffer, SOCK_DIAG_BY_FAMILY, 0, &message, sizeof(message));
	on_message(&buffer.header, ctx);
}

int __wrap_netlink_dump_next(struct netlink *netlink, netlink_message on_message, void *ctx)
{
	(void)netlink;
	if (kernel.dump_failures > 0) {
		kernel.dump_failures--;
		return -ENOMEM;
	}
	for (unsigned i = 0; i < SOCKETS; i++) {
		struct fake *fake = &kernel.sockets[i];

		if (!fake->alive || fake->mapped != (kernel.family == AF_INET6))
			continue;
		if (fake->misses > 0)
			fake->misses--;
		else
			show(i, on_message, ctx);
	}
	return 0;
}

int __wrap_netlink_ask(struct netlink *netlink, struct netlink_request *request)
{
	struct inet_diag_req_v2 header;
	struct fake *fake;

	(void)netlink;
	assert_int_equal(request->header.nlmsg_type, SOCK_DESTROY);
	memcpy(&header, NLMSG_DATA(&request->header), sizeof(header));
	fake = &kernel.sockets[header.id.idiag_cookie[0]];
	if (fake->foreign)
		kernel.destroyed_foreign++;
	if (fake->refusal == 0)
		fake->alive = false;
	return fake->refusal;
}

/* The first one, if it is there: whoever asks has its client's address. */
int __wrap_netlink_ask_for(struct netlink *netlink, struct netlink_request *request,
			   netlink_message on_message, void *ctx)
{
	const uint8_t source[4] = {10, 0, 0, 5}, target[4] = {10, 0, 0, 9};
	struct inet_diag_req_v2 header;

	(void)netlink;
	assert_int_equal(request->header.nlmsg_type, SOCK_DIAG_BY_FAMILY);
	memcpy(&header, NLMSG_DATA(&request->header), sizeof(header));
	assert_memory_equal(header.id.idiag_src, source, sizeof(source));
	assert_memory_equal(header.id.idiag_dst, target, sizeof(target));
	assert_int_equal(ntohs(header.id.idiag_sport), 8000);
	assert_int_equal(ntohs(header.id.idiag_dport), 20000);
	assert_int_equal(header.id.idiag_cookie[0], INET_DIAG_NOCOOKIE);
	if (!kernel.sockets[0].alive)
		return -ENOENT;
	kernel.family = AF_INET;
	show(0, on_message, ctx);
	return 0;
}

static void on_clean(void *ctx)
{
	(void)ctx;
	assert_false(kernel.clean);
	kernel.clean = true;
	event_base_loopbreak(base);
}

static void on_silent(void *ctx, const struct vip_peer *client)
{
	const uint8_t from[4] = {10, 0, 0, 9};

	(void)ctx;
	assert_memory_equal(client->address, from, sizeof(from));
	assert_in_range(client->port, 20000, 20000 + SOCKETS - 1);
	assert_int_equal(client->local_port, 8000);
	kernel.silent++;
}

static struct vip_sweep *begin(void)
{
	struct buffer error = {0};
	static const struct vip_sweep_handlers handlers = {on_clean, on_silent};
	struct vip_sweep *sweep = vip_sweep_open(base, &address, &handlers, NULL, &error);

	assert_non_null(sweep);
	buffer_free(&error);
	return sweep;
}

static void end(struct vip_sweep *sweep)
{
	vip_sweep_close(sweep);
	event_base_free(base);
}

static int reset(void **state)
{
	(void)state;
	memset(&kernel, 0, sizeof(kernel));
	base = event_base_new();
	return base ? 0 : -1;
}

/* Until it is clean, or for so many turns of the loop. */
static void turn(int turns)
{
	while (turns-- > 0 && !kernel.clean)
		event_base_loop(base, EVLOOP_ONCE);
}

static void test_nothing_there(void **state)
{
	struct vip_sweep *sweep = begin();

	(void)state;
	vip_sweep_start(sweep);
	turn(1);
	assert_true(kernel.clean);
	assert_int_equal(kernel.looks, 2); /* both families */
	assert_int_equal(vip_sweep_destroyed(sweep), 0);
	end(sweep);
}

static void test_all_are_destroyed(void **state)
{
	struct vip_sweep *sweep = begin();

	(void)state;
	for (unsigned i = 0; i < SOCKETS; i++)
		kernel.sockets[i] =
			(struct fake){.alive = true, .mapped = i % 2, .misses = i % 5 ? 0 : 1};
	vip_sweep_start(sweep);
	kernel.sockets[9].state = TCP_LAST_ACK;
	turn(1000);
	assert_true(kernel.clean);
	assert_int_equal(vip_sweep_destroyed(sweep), SOCKETS);
	assert_int_equal(kernel.silent, SOCKETS - 1); /* one knew that it was over */
	for (unsigned i = 0; i < SOCKETS; i++)
		assert_false(kernel.sockets[i].alive);
	end(sweep);
}

static void test_what_stays_is_no_clean_address(void **state)
{
	struct vip_sweep *sweep = begin();
	struct buffer reason = {0};

	(void)state;
	kernel.sockets[3] = (struct fake){.alive = true, .refusal = -EOPNOTSUPP};
	kernel.sockets[4] = (struct fake){.alive = true};
	vip_sweep_start(sweep);
	turn(4);
	assert_false(kernel.clean);
	assert_false(kernel.sockets[4].alive);
	vip_sweep_explain(sweep, &reason);
	assert_string_equal(buffer_cstr(&reason),
			    "1 connections were left: Operation not supported");
	buffer_free(&reason);
	/* It ends by itself: gone, and the kernel says so when it is destroyed. */
	kernel.sockets[3].refusal = 0;
	turn(1000);
	assert_true(kernel.clean);
	end(sweep);
}

static void test_a_failed_look_proves_nothing(void **state)
{
	struct vip_sweep *sweep = begin();
	struct buffer reason = {0};

	(void)state;
	kernel.dump_failures = 3;
	vip_sweep_start(sweep);
	turn(1);
	assert_false(kernel.clean);
	vip_sweep_explain(sweep, &reason);
	assert_string_equal(buffer_cstr(&reason),
			    "0 connections were left: Cannot allocate memory");
	buffer_free(&reason);
	turn(1000);
	assert_true(kernel.clean);
	assert_int_equal(kernel.dump_failures, 0);
	end(sweep);
}

static void test_remainders_do_not_count(void **state)
{
	struct vip_sweep *sweep = begin();

	(void)state;
	kernel.sockets[0] = (struct fake){.alive = true, .timer = 3, .refusal = -EOPNOTSUPP};
	vip_sweep_start(sweep);
	turn(1);
	assert_true(kernel.clean);
	end(sweep);
}

static void test_other_addresses_are_left_alone(void **state)
{
	struct vip_sweep *sweep = begin();

	(void)state;
	kernel.sockets[0] = (struct fake){.alive = true, .foreign = true};
	kernel.sockets[1] = (struct fake){.alive = true, .foreign = true, .mapped = true};
	vip_sweep_start(sweep);
	turn(1);
	assert_true(kernel.clean);
	assert_int_equal(kernel.destroyed_foreign, 0);
	end(sweep);
}

static void test_stopped_and_started_again(void **state)
{
	struct vip_sweep *sweep = begin();

	(void)state;
	kernel.sockets[0] = (struct fake){.alive = true, .refusal = -EOPNOTSUPP};
	vip_sweep_start(sweep);
	turn(1);
	vip_sweep_stop(sweep);
	kernel.sockets[0].alive = false;
	assert_int_equal(event_base_loop(base, EVLOOP_NONBLOCK), 1); /* nothing is scheduled */
	assert_false(kernel.clean);
	vip_sweep_start(sweep);
	turn(1);
	assert_true(kernel.clean);
	end(sweep);
}

static void test_at_once(void **state)
{
	struct vip_sweep *sweep = begin();

	(void)state;
	for (unsigned i = 0; i < SOCKETS; i++)
		kernel.sockets[i] =
			(struct fake){.alive = true, .mapped = i % 2, .misses = i % 5 ? 0 : 1};
	kernel.sockets[7].foreign = true;
	kernel.sockets[8].refusal = -EOPNOTSUPP;
	assert_int_equal(vip_sweep_now(sweep, UINT64_MAX), SOCKETS - 2);
	for (unsigned i = 0; i < SOCKETS; i++)
		assert_int_equal(kernel.sockets[i].alive, i == 7 || i == 8);
	assert_int_equal(kernel.destroyed_foreign, 0);
	assert_int_equal(kernel.silent, 0); /* they are told by the kernel */
	assert_int_equal(event_base_loop(base, EVLOOP_NONBLOCK), 1); /* nothing follows */
	kernel.dump_failures = 1;
	assert_int_equal(vip_sweep_now(sweep, UINT64_MAX), 0);
	assert_false(kernel.clean);
	end(sweep);
}

static void test_who_is_connected(void **state)
{
	const struct vip_peer client = {
		.address = {10, 0, 0, 9}, .port = 20000, .local_port = 8000};
	struct vip_sweep *sweep = begin();

	(void)state;
	assert_false(vip_sweep_finds(sweep, &client));
	kernel.sockets[0] = (struct fake){.alive = true};
	assert_true(vip_sweep_finds(sweep, &client));
	kernel.sockets[0].state = TCP_LISTEN;
	assert_false(vip_sweep_finds(sweep, &client));
	kernel.sockets[0].state = TCP_TIME_WAIT;
	assert_false(vip_sweep_finds(sweep, &client));
	end(sweep);
}

static void test_not_at_once_beyond_its_time(void **state)
{
	struct vip_sweep *sweep = begin();

	(void)state;
	kernel.sockets[0] = (struct fake){.alive = true};
	assert_int_equal(vip_sweep_now(sweep, 1), 0);
	assert_true(kernel.sockets[0].alive);
	end(sweep);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_nothing_there, reset),
		cmocka_unit_test_setup(test_all_are_destroyed, reset),
		cmocka_unit_test_setup(test_what_stays_is_no_clean_address, reset),
		cmocka_unit_test_setup(test_a_failed_look_proves_nothing, reset),
		cmocka_unit_test_setup(test_remainders_do_not_count, reset),
		cmocka_unit_test_setup(test_other_addresses_are_left_alone, reset),
		cmocka_unit_test_setup(test_stopped_and_started_again, reset),
		cmocka_unit_test_setup(test_at_once, reset),
		cmocka_unit_test_setup(test_who_is_connected, reset),
		cmocka_unit_test_setup(test_not_at_once_beyond_its_time, reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: ISC */
/*
 * The lifetime's arithmetic, and setting it while the process is stopped at the
 * worst moments. The clock and the kernel are the test's: a call to the kernel
 * may take as long as the test says, and the kernel's address ends by the clock.
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

#include "keepsock/buffer.h"
#include "keepsock/clock.h"
#include "supervisor/vip_address.h"
#include "supervisor/vip_hold.h"

#define MS    UINT64_C(1000000)
#define S     UINT64_C(1000000000)
#define CALLS 8

static struct {
	uint64_t now;
	uint64_t before[CALLS]; /* each call's time until the kernel acts, and after that */
	uint64_t after[CALLS];
	int code;
	unsigned calls;
	uint64_t end; /* when the kernel removes the address; 0 = it is not there */
	bool created; /* a call has set it when it was not there */
	uint32_t last;
} world;

uint64_t clock_boottime_ns(void)
{
	return world.now;
}

static void pass(uint64_t time)
{
	world.now += time;
	if (world.end && world.now >= world.end)
		world.end = 0;
}

int vip_address_set(struct netlink *netlink, const struct settings_vip *address, unsigned interface,
		    uint32_t lifetime_s, bool create)
{
	unsigned call = world.calls++;

	(void)netlink;
	(void)address;
	(void)interface;
	assert_in_range(call, 0, CALLS - 1);
	assert_in_range(lifetime_s, 1, UINT32_MAX - 1);
	pass(world.before[call]);
	if (world.code == 0) {
		if (create && world.end)
			return -EEXIST;
		if (!create && !world.end)
			world.created = true;
		world.end = world.now + lifetime_s * S;
		world.last = lifetime_s;
	}
	pass(world.after[call]);
	return world.code;
}

int vip_address_delete(struct netlink *netlink, const struct settings_vip *address,
		       unsigned interface)
{
	(void)netlink;
	(void)address;
	(void)interface;
	world.end = 0;
	return 0;
}

void netlink_explain(const struct netlink *netlink, int code, struct buffer *error)
{
	(void)netlink;
	buffer_append_str(error, strerror(-code));
}

static int begin(void **state)
{
	static struct vip_hold hold;
	static struct netlink netlink;
	static struct settings_vip address;

	memset(&world, 0, sizeof(world));
	world.now = 1000 * S;
	hold = (struct vip_hold){.netlink = &netlink, .address = &address, .interface = 1};
	*state = &hold;
	return 0;
}

static void test_lifetimes(void **state)
{
	const uint64_t now = 77 * S + 5;
	const struct {
		uint64_t left;
		uint32_t lifetime;
	} cases[] = {
		{0, 0},         {1, 0},     {S, 0},         {2 * S - 1, 0}, {2 * S, 1},
		{3 * S - 1, 1}, {3 * S, 2}, {4 * S - 1, 2}, {4 * S, 3},     {60 * S, 59},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(vip_hold_lifetime(now + cases[i].left, now), cases[i].lifetime);
	assert_int_equal(vip_hold_lifetime(now - 1, now), 0);
	assert_int_equal(vip_hold_lifetime(0, now), 0);
	assert_int_equal(vip_hold_lifetime(UINT64_MAX, 0), VIP_FOREVER - 1);
}

static bool set(struct vip_hold *hold, enum vip_hold_way way, uint64_t until, const char *reason)
{
	struct buffer error = {0};
	bool done = vip_hold_set(hold, way, until, &error);

	assert_int_equal(done, reason == NULL);
	if (reason)
		assert_string_equal(buffer_cstr(&error), reason);
	buffer_free(&error);
	return done;
}

static void test_set_and_renew(void **state)
{
	struct vip_hold *hold = *state;

	set(hold, VIP_HOLD_NEW, world.now + 4 * S, NULL);
	assert_int_equal(world.last, 3);
	assert_true(hold->expires_ns <= world.end && hold->expires_ns + 200 * MS > world.end);
	for (int i = 0; i < 20; i++) {
		pass(500 * MS);
		world.calls = 0;
		set(hold, VIP_HOLD_RENEW, world.now + 4 * S, NULL);
	}
	assert_false(world.created);
	assert_int_equal(vip_hold_end(hold), 0);
	assert_int_equal(world.end, 0);
	assert_int_equal(hold->expires_ns, 0);
}

static void test_too_late_to_renew(void **state)
{
	struct vip_hold *hold = *state;

	set(hold, VIP_HOLD_NEW, world.now + 4 * S, NULL);
	pass(3 * S);
	set(hold, VIP_HOLD_RENEW, world.now + 4 * S, "it ran out before it was renewed");
	assert_int_equal(world.calls, 1);
	assert_false(world.created);
}

static void test_too_little_is_left(void **state)
{
	struct vip_hold *hold = *state;

	set(hold, VIP_HOLD_NEW, world.now + 2 * S - 1, "less than a second and the guard is left");
	assert_int_equal(world.calls, 0);
	set(hold, VIP_HOLD_NEW, world.now + 2 * S, NULL);
	set(hold, VIP_HOLD_RENEW, world.now + 2 * S - 1,
	    "less than a second and the guard is left");
}

/* The call re-creates the address; that is found, and the caller deletes it. */
static void test_stopped_before_the_kernel_renews(void **state)
{
	struct vip_hold *hold = *state;

	set(hold, VIP_HOLD_NEW, world.now + 4 * S, NULL);
	world.before[1] = 10 * S;
	set(hold, VIP_HOLD_RENEW, world.now + 60 * S, "it ran out while it was renewed");
	assert_true(world.created);
}

/* The same when only the answer is late: nobody can tell the two apart. */
static void test_stopped_after_the_kernel_renewed(void **state)
{
	struct vip_hold *hold = *state;

	set(hold, VIP_HOLD_NEW, world.now + 4 * S, NULL);
	world.after[1] = 10 * S;
	set(hold, VIP_HOLD_RENEW, world.now + 60 * S, "it ran out while it was renewed");
}

/* A pause that the address survives: what was computed before it is too long, and is shortened. */
static void test_a_pause_shortens_it(void **state)
{
	struct vip_hold *hold = *state;
	uint64_t until = world.now + 5 * S;

	world.before[0] = 1200 * MS;
	set(hold, VIP_HOLD_NEW, until, NULL);
	assert_int_equal(world.calls, 2);
	assert_int_equal(world.last, 2);
	assert_true(world.end + VIP_GUARD_NS <= until);
	assert_false(world.created);
}

/* A pause after which nothing is left ends in a failure, not in a lifetime. */
static void test_a_pause_uses_it_up(void **state)
{
	struct vip_hold *hold = *state;

	world.before[0] = 2500 * MS;
	set(hold, VIP_HOLD_NEW, world.now + 4 * S, "less than a second and the guard is left");
}

static void test_a_refusal_is_told(void **state)
{
	struct vip_hold *hold = *state;

	world.code = -ENODEV;
	set(hold, VIP_HOLD_NEW, world.now + 4 * S, strerror(ENODEV));
	assert_int_equal(hold->expires_ns, 0);
}

static void test_an_adopted_one_is_not_created(void **state)
{
	struct vip_hold *hold = *state;

	world.end = world.now + 700 * MS;
	set(hold, VIP_HOLD_ADOPT, world.now + 4 * S, NULL);
	assert_false(world.created);
	assert_int_equal(world.last, 3);
}

/* Random pauses everywhere: success means that the end is in time and nothing was re-created. */
static void test_random_pauses(void **state)
{
	unsigned renewed = 0, failed = 0;

	srandom(6);
	for (int run = 0; run < 20000; run++) {
		struct vip_hold *hold;
		uint64_t until;
		struct buffer error = {0};

		begin(state);
		hold = *state;
		set(hold, VIP_HOLD_NEW, world.now + 4 * S, NULL);
		pass((uint64_t)random() % (2 * S));
		until = world.now + 3 * S + (uint64_t)random() % S;
		for (int i = 1; i < CALLS; i++) {
			world.before[i] = random() % 3 ? 0 : (uint64_t)random() % (2 * S);
			world.after[i] = random() % 3 ? 0 : (uint64_t)random() % (2 * S);
		}
		if (vip_hold_set(hold, VIP_HOLD_RENEW, until, &error)) {
			renewed++;
			assert_false(world.created);
			assert_true(world.end + VIP_GUARD_NS <= until);
			assert_true(hold->expires_ns <= world.end);
		} else {
			failed++;
		}
		buffer_free(&error);
	}
	assert_true(renewed > 1000 && failed > 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_lifetimes, begin),
		cmocka_unit_test_setup(test_set_and_renew, begin),
		cmocka_unit_test_setup(test_too_late_to_renew, begin),
		cmocka_unit_test_setup(test_too_little_is_left, begin),
		cmocka_unit_test_setup(test_stopped_before_the_kernel_renews, begin),
		cmocka_unit_test_setup(test_stopped_after_the_kernel_renewed, begin),
		cmocka_unit_test_setup(test_a_pause_shortens_it, begin),
		cmocka_unit_test_setup(test_a_pause_uses_it_up, begin),
		cmocka_unit_test_setup(test_a_refusal_is_told, begin),
		cmocka_unit_test_setup(test_an_adopted_one_is_not_created, begin),
		cmocka_unit_test_setup(test_random_pauses, begin),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

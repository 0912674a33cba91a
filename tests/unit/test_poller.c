/* SPDX-License-Identifier: ISC */
/* The poller: what it reports, for whom, and that it forgets who was removed. */
#include "worker/poller.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define SOCKETS 300

struct world {
	struct event_base *base;
	struct poller *poller;
	int ours[SOCKETS], theirs[SOCKETS];
	short seen[SOCKETS + 1]; /* by reference, from 1 */
	unsigned calls, rounds;
};

static void on_ready(void *ctx, arena_ref ref, short what)
{
	struct world *world = ctx;

	assert_in_range(ref, 1, SOCKETS);
	world->seen[ref] |= what;
	world->calls++;
}

static void on_round_end(void *ctx)
{
	struct world *world = ctx;

	/* Behind all of them, whose calls another round would add to. */
	assert_true(world->calls > 0);
	world->rounds++;
}

static void turn(struct world *world)
{
	memset(world->seen, 0, sizeof(world->seen));
	world->calls = world->rounds = 0;
	event_base_loop(world->base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
}

static int setup(void **state)
{
	static struct world world;

	memset(&world, 0, sizeof(world));
	world.base = event_base_new();
	world.poller = poller_create(world.base, on_ready, on_round_end, &world);
	assert_non_null(world.poller);
	for (int i = 0; i < SOCKETS; i++) {
		int pair[2];

		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
		world.ours[i] = pair[0];
		world.theirs[i] = pair[1];
	}
	*state = &world;
	return 0;
}

static int teardown(void **state)
{
	struct world *world = *state;

	for (int i = 0; i < SOCKETS; i++) {
		close(world->ours[i]);
		close(world->theirs[i]);
	}
	poller_free(world->poller);
	event_base_free(world->base);
	return 0;
}

static void reports_what_is_asked_for(void **state)
{
	struct world *world = *state;

	assert_true(poller_watch(world->poller, world->ours[0], 1, 0, EV_READ));
	turn(world);
	assert_int_equal(world->calls, 0);
	assert_int_equal(world->rounds, 0);
	assert_int_equal(write(world->theirs[0], "x", 1), 1);
	turn(world);
	assert_int_equal(world->seen[1], EV_READ);
	assert_int_equal(world->rounds, 1);
	/* Level-triggered: unread input is told again. */
	turn(world);
	assert_int_equal(world->seen[1], EV_READ);
	assert_true(poller_watch(world->poller, world->ours[0], 1, EV_READ, EV_READ | EV_WRITE));
	turn(world);
	assert_int_equal(world->seen[1], EV_READ | EV_WRITE);
	assert_true(poller_watch(world->poller, world->ours[0], 1, EV_READ | EV_WRITE, EV_WRITE));
	turn(world);
	assert_int_equal(world->seen[1], EV_WRITE);
}

static void unwatched_means_silent(void **state)
{
	struct world *world = *state;

	assert_true(poller_watch(world->poller, world->ours[0], 1, 0, EV_READ));
	assert_true(poller_watch(world->poller, world->ours[0], 1, EV_READ, 0));
	assert_int_equal(write(world->theirs[0], "x", 1), 1);
	shutdown(world->theirs[0], SHUT_RDWR);
	turn(world);
	assert_int_equal(world->calls, 0);
	assert_true(poller_watch(world->poller, world->ours[0], 1, 0, EV_READ));
	turn(world);
	assert_int_equal(world->calls, 1);
}

static void hang_up_is_both(void **state)
{
	struct world *world = *state;

	assert_true(poller_watch(world->poller, world->ours[0], 1, 0, EV_READ));
	close(world->theirs[0]);
	world->theirs[0] = dup(world->ours[1]);
	turn(world);
	assert_int_equal(world->seen[1], EV_READ | EV_WRITE);
}

static void more_than_a_round(void **state)
{
	struct world *world = *state;
	unsigned served = 0;

	for (unsigned i = 0; i < SOCKETS; i++) {
		assert_true(poller_watch(world->poller, world->ours[i], i + 1, 0, EV_READ));
		assert_int_equal(write(world->theirs[i], "x", 1), 1);
	}
	/* Each turn serves some; who is served reads, so the others get their turn. */
	for (unsigned turns = 0; served < SOCKETS && turns < SOCKETS; turns++) {
		turn(world);
		for (unsigned i = 0; i < SOCKETS; i++) {
			char byte;

			if (!world->seen[i + 1])
				continue;
			assert_int_equal(read(world->ours[i], &byte, 1), 1);
			served++;
		}
	}
	assert_int_equal(served, SOCKETS);
	turn(world);
	assert_int_equal(world->calls, 0);
}

static void a_bad_descriptor_is_an_error(void **state)
{
	struct world *world = *state;

	assert_false(poller_watch(world->poller, -1, 1, 0, EV_READ));
	assert_false(poller_watch(world->poller, world->ours[0], 1, EV_READ, EV_WRITE));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(reports_what_is_asked_for, setup, teardown),
		cmocka_unit_test_setup_teardown(unwatched_means_silent, setup, teardown),
		cmocka_unit_test_setup_teardown(hang_up_is_both, setup, teardown),
		cmocka_unit_test_setup_teardown(more_than_a_round, setup, teardown),
		cmocka_unit_test_setup_teardown(a_bad_descriptor_is_an_error, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

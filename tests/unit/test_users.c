/* SPDX-License-Identifier: ISC */
/* The index of users: who is found, counted and walked while connections come and go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "keepsock/alloc.h"
#include "worker/connection.h"
#include "worker/users.h"

#define MANY 1000

struct world {
	struct arena *arena;
	struct users users;
	struct connection *connections[MANY];
};

static int set_up(void **state)
{
	struct world *world = xcalloc(1, sizeof(*world));
	const char *error = NULL;

	world->arena = arena_create(16u << 20, &error);
	assert_non_null(world->arena);
	users_init(&world->users, world->arena, NULL, 0);
	*state = world;
	return 0;
}

static int tear_down(void **state)
{
	struct world *world = *state;

	users_free(&world->users);
	arena_destroy(world->arena);
	free(world);
	return 0;
}

static struct connection *come(struct world *world, unsigned index, const char *name)
{
	struct connection *c;
	arena_ref passport;
	struct passport fresh = {.kind = PASSPORT_CLIENT, .state = PASSPORT_STATE_CONNECTED};

	fresh.identity = passport_identity_make(world->arena, slice_str(name), SLICE("sdk"),
						SLICE("1"), SLICE("{}"));
	assert_int_not_equal(fresh.identity, 0);
	passport = passport_create(world->arena, &fresh);
	c = arena_companion(world->arena, passport, sizeof(*c));
	c->passport = passport;
	world->connections[index] = c;
	users_add(&world->users, c);
	return c;
}

static unsigned walk(const struct world *world, const char *name)
{
	const struct user *user = users_find(&world->users, slice_str(name));
	unsigned count = 0;

	for (const struct connection *c = user ? user->first : NULL; c;
	     c = users_next(&world->users, c))
		count++;
	assert_int_equal(count, users_count(&world->users, slice_str(name)));
	return count;
}

static void test_several_connections(void **state)
{
	struct world *world = *state;
	struct connection *first = come(world, 0, "ann");
	struct connection *second = come(world, 1, "ann");
	struct connection *third = come(world, 2, "ann");

	come(world, 3, "bob");
	assert_int_equal(walk(world, "ann"), 3);
	assert_int_equal(walk(world, "bob"), 1);
	assert_int_equal(walk(world, "an"), 0);
	assert_int_equal(world->users.count, 2);
	users_remove(&world->users, second);
	assert_int_equal(walk(world, "ann"), 2);
	users_remove(&world->users, third);
	users_remove(&world->users, first);
	assert_int_equal(walk(world, "ann"), 0);
	assert_int_equal(world->users.count, 1);
}

static void test_add_and_remove_twice(void **state)
{
	struct world *world = *state;
	struct connection *c = come(world, 0, "ann");

	users_add(&world->users, c);
	assert_int_equal(walk(world, "ann"), 1);
	users_remove(&world->users, c);
	users_remove(&world->users, c);
	assert_int_equal(walk(world, "ann"), 0);
	users_add(&world->users, c);
	assert_int_equal(walk(world, "ann"), 1);
}

static void test_nobody_is_not_indexed(void **state)
{
	struct world *world = *state;
	struct connection *c = come(world, 0, "");

	assert_null(users_find(&world->users, SLICE("")));
	assert_int_equal(users_count(&world->users, SLICE("")), 0);
	assert_int_equal(world->users.count, 0);
	users_remove(&world->users, c);
}

/* More users than the first table has buckets; each leaves in another order than it came. */
static void test_many(void **state)
{
	struct world *world = *state;
	char name[16];

	for (unsigned i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "user-%u", i % (MANY / 2));
		come(world, i, name);
	}
	assert_int_equal(world->users.count, MANY / 2);
	assert_true(world->users.bucket_count >= MANY / 4);
	for (unsigned i = 0; i < MANY / 2; i++) {
		snprintf(name, sizeof(name), "user-%u", i);
		assert_int_equal(walk(world, name), 2);
	}
	for (unsigned i = 0; i < MANY; i++) {
		unsigned at = i * 7 % MANY;

		snprintf(name, sizeof(name), "user-%u", at % (MANY / 2));
		users_remove(&world->users, world->connections[at]);
		assert_true(walk(world, name) < 2);
	}
	assert_int_equal(world->users.count, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_several_connections, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_add_and_remove_twice, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_nobody_is_not_indexed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_many, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

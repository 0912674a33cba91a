/* SPDX-License-Identifier: ISC */
/* Users' connections in the node page: the sum over slots, and entries given up and taken again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "keepsock/node_page.h"

static int page_fd;

static int make_page(void **state)
{
	*state = node_page_create(3, &page_fd);
	return *state ? 0 : -1;
}

static int drop_page(void **state)
{
	node_page_unmap(*state);
	return close(page_fd);
}

static void test_other_slots_are_added_up(void **state)
{
	struct node_page *page = *state;
	uint64_t ann = node_users_hash(SLICE("ann")), bob = node_users_hash(SLICE("bob"));

	node_users_set(page, 0, ann, 2);
	node_users_set(page, 1, ann, 3);
	node_users_set(page, 2, ann, 4);
	node_users_set(page, 1, bob, 1);
	assert_int_equal(node_users_elsewhere(page, 0, ann), 7);
	assert_int_equal(node_users_elsewhere(page, 2, ann), 5);
	assert_int_equal(node_users_elsewhere(page, 1, bob), 0);
	node_users_set(page, 1, ann, 0);
	assert_int_equal(node_users_elsewhere(page, 0, ann), 4);
	node_page_reset_gauges(page, 2);
	assert_int_equal(node_users_elsewhere(page, 0, ann), 0);
	assert_int_equal(node_users_elsewhere(page, 0, bob), 1);
}

static void test_counts_are_bounded(void **state)
{
	struct node_page *page = *state;
	uint64_t ann = node_users_hash(SLICE("ann"));

	node_users_set(page, 1, ann, 1000000);
	assert_int_equal(node_users_elsewhere(page, 0, ann), 65535);
	node_users_set(page, 1, ann, 1);
	assert_int_equal(node_users_elsewhere(page, 0, ann), 1);
}

static uint64_t number_hash(int number)
{
	char name[32];

	snprintf(name, sizeof(name), "user-%d", number);
	return node_users_hash(slice_str(name));
}

/* Half full: everybody has an entry, and going and coming leaves nobody behind. */
static void test_many_users(void **state)
{
	struct node_page *page = *state;
	const int count = NODE_USERS_MAX / 2;

	for (int i = 0; i < count; i++)
		node_users_set(page, 1, number_hash(i), 1 + (uint32_t)i % 5);
	for (int i = 0; i < count; i++)
		assert_int_equal(node_users_elsewhere(page, 0, number_hash(i)), 1 + i % 5);
	for (int i = 0; i < count; i += 2)
		node_users_set(page, 1, number_hash(i), 0);
	for (int i = 0; i < count; i++)
		assert_int_equal(node_users_elsewhere(page, 0, number_hash(i)),
				 i % 2 ? 1 + i % 5 : 0);
	for (int i = 0; i < count; i++)
		node_users_set(page, 1, number_hash(i), 9);
	for (int i = 0; i < count; i++)
		assert_int_equal(node_users_elsewhere(page, 0, number_hash(i)), 9);
}

/* Beyond what fits nothing breaks and nobody else's number changes. */
static void test_too_many_users(void **state)
{
	struct node_page *page = *state;

	for (int i = 0; i < (int)NODE_USERS_MAX * 2; i++)
		node_users_set(page, 1, number_hash(i), 3);
	for (int i = 0; i < (int)NODE_USERS_MAX * 2; i++) {
		uint64_t count = node_users_elsewhere(page, 0, number_hash(i));

		assert_true(count == 3 || count == 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_other_slots_are_added_up, make_page,
						drop_page),
		cmocka_unit_test_setup_teardown(test_counts_are_bounded, make_page, drop_page),
		cmocka_unit_test_setup_teardown(test_many_users, make_page, drop_page),
		cmocka_unit_test_setup_teardown(test_too_many_users, make_page, drop_page),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

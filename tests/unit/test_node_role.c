/* SPDX-License-Identifier: ISC */
/*
 * The role in the node page: one word for role and epoch, seen by every process,
 * what a change takes with it, and the rate of accepts after a promotion.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "keepsock/node_page.h"
#include "keepsock/node_role.h"

#define MS UINT64_C(1000000)

static int page_fd;

static int make_page(void **state)
{
	*state = node_page_create(2, &page_fd);
	return *state ? 0 : -1;
}

static int drop_page(void **state)
{
	node_page_unmap(*state);
	return close(page_fd);
}

static void assert_role(const struct node_page *page, enum node_role role, uint64_t epoch)
{
	struct node_role_view view = node_role_get(page);

	assert_int_equal(view.role, role);
	assert_int_equal(view.epoch, epoch);
}

static void test_every_process_sees_it(void **state)
{
	struct node_page *page = *state;
	struct node_page *other = node_page_map(page_fd);

	assert_non_null(other);
	assert_role(page, NODE_STANDALONE, 0);
	node_role_set(page, NODE_PRIMARY, NODE_ROLE_EPOCH_MAX, 1234);
	assert_role(other, NODE_PRIMARY, NODE_ROLE_EPOCH_MAX);
	assert_int_equal(node_role_since(other), 1234);
	node_role_set(page, NODE_STANDBY, 5, 1300);
	assert_role(other, NODE_STANDBY, 5);
	node_page_unmap(other);
	assert_string_equal(node_role_name(NODE_STANDALONE), "standalone");
	assert_string_equal(node_role_name(NODE_STANDBY), "standby");
	assert_string_equal(node_role_name(NODE_PRIMARY), "primary");
}

static void test_a_promotion_ends_a_drain(void **state)
{
	struct node_page *page = *state;

	assert_int_equal(node_drain_until(page), 0);
	node_drain_set(page, 99);
	node_role_set(page, NODE_STANDBY, 1, 1);
	assert_int_equal(node_drain_until(page), 99);
	node_role_set(page, NODE_PRIMARY, 2, 2);
	assert_int_equal(node_drain_until(page), 0);
}

/* Late news of an epoch that is over change nothing. */
static void test_fenced_is_one_epoch_of_a_primary(void **state)
{
	struct node_page *page = *state;

	assert_false(node_role_set_fenced(page, 0));
	assert_false(node_role_is_fenced(page));
	node_role_set(page, NODE_PRIMARY, 3, 1);
	assert_false(node_role_is_fenced(page));
	assert_true(node_role_set_fenced(page, 3));
	assert_false(node_role_set_fenced(page, 3));
	assert_true(node_role_is_fenced(page));
	node_role_set(page, NODE_STANDBY, 3, 2);
	assert_false(node_role_is_fenced(page));
	node_role_set(page, NODE_PRIMARY, 4, 3);
	assert_false(node_role_is_fenced(page));
}

static unsigned accept_all(struct node_page *page, uint64_t rate, uint64_t now)
{
	unsigned count = 0;

	while (node_role_may_accept(page, rate, now)) {
		node_role_count_accept(page, rate, now);
		count++;
	}
	return count;
}

static void test_accepts_are_paced(void **state)
{
	struct node_page *page = *state;
	uint64_t now = 5000 * MS;
	unsigned total;

	/* A tenth of a second's worth at once, then as many as time brings. */
	assert_in_range(accept_all(page, 1000, now), 100, 101);
	assert_int_equal(accept_all(page, 1000, now), 0);
	assert_in_range(accept_all(page, 1000, now + 10 * MS), 9, 11);
	total = 0;
	for (unsigned i = 1; i <= 100; i++)
		total += accept_all(page, 1000, now + 10 * MS + i * 10 * MS);
	assert_in_range(total, 999, 1001);
}

static void test_a_rate_below_the_burst_still_lets_in(void **state)
{
	struct node_page *page = *state;
	uint64_t now = 5000 * MS;

	assert_int_equal(accept_all(page, 2, now), 1);
	assert_int_equal(accept_all(page, 2, now + 400 * MS), 0);
	assert_int_equal(accept_all(page, 2, now + 500 * MS), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_page, drop_page)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_every_process_sees_it),
		TEST(test_a_promotion_ends_a_drain),
		TEST(test_fenced_is_one_epoch_of_a_primary),
		TEST(test_accepts_are_paced),
		TEST(test_a_rate_below_the_burst_still_lets_in),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

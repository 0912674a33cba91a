/* SPDX-License-Identifier: ISC */
/*
 * The node page: one memory in several processes, counters that outlive a
 * worker, and limits that hold for the node as a whole.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "keepsock/node_page.h"

#define SECOND UINT64_C(1000000000)

static int page_fd;

static int make_page(void **state)
{
	*state = node_page_create(4, &page_fd);
	return *state ? 0 : -1;
}

static int drop_page(void **state)
{
	node_page_claim_slot(NULL, 0);
	node_page_unmap(*state);
	return close(page_fd);
}

static void test_workers_must_be_in_bounds(void **state)
{
	int fd;

	(void)state;
	assert_null(node_page_create(0, &fd));
	assert_int_equal(errno, EINVAL);
	assert_null(node_page_create(NODE_WORKERS_MAX + 1, &fd));
	assert_int_equal(errno, EINVAL);
}

static void test_two_mappings_are_one_memory(void **state)
{
	struct node_page *page = *state;
	struct node_page *other = node_page_map(page_fd);

	assert_non_null(other);
	assert_int_equal(other->workers, 4);
	node_page_claim_slot(other, 2);
	metric_add(METRIC_commands_total, 5);
	assert_int_equal(node_page_get(page, 2, METRIC_commands_total), 5);
	node_page_claim_slot(NULL, 0);
	node_page_unmap(other);
}

static void test_the_size_is_sealed(void **state)
{
	(void)state;
	assert_int_equal(ftruncate(page_fd, 0), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(ftruncate(page_fd, (off_t)sizeof(struct node_page) * 2), -1);
}

static void test_another_layout_is_refused(void **state)
{
	struct node_page *page = *state;
	int other = memfd_create("test", MFD_CLOEXEC);

	assert_true(other >= 0);
	assert_null(node_page_map(other));
	assert_int_equal(errno, EPROTO);
	assert_int_equal(ftruncate(other, (off_t)sizeof(struct node_page)), 0);
	assert_null(node_page_map(other));
	assert_int_equal(errno, EPROTO);
	close(other);
	page->metrics++;
	assert_null(node_page_map(page_fd));
	page->metrics--;
	page->workers = NODE_WORKERS_MAX + 1;
	assert_null(node_page_map(page_fd));
	assert_null(node_page_map(-1));
	assert_int_equal(errno, EBADF);
}

static void test_counts_before_the_claim_are_kept(void **state)
{
	struct node_page *page = *state;

	metric_add(METRIC_commands_total, 3);
	node_page_claim_slot(page, 1);
	assert_int_equal(node_page_get(page, 1, METRIC_commands_total), 3);
	assert_int_equal(metric_get(METRIC_commands_total), 3);
	node_page_claim_slot(NULL, 0);
	assert_int_equal(metric_get(METRIC_commands_total), 0);
}

static void test_a_successor_counts_on(void **state)
{
	struct node_page *page = *state;

	node_page_claim_slot(page, 1);
	metric_add(METRIC_commands_total, 3);
	metric_set(METRIC_channels, 7);
	node_page_claim_slot(NULL, 0);
	node_page_reset_gauges(page, 1);
	node_page_claim_slot(page, 1);
	assert_int_equal(metric_get(METRIC_commands_total), 3);
	assert_int_equal(metric_get(METRIC_channels), 0);
	metric_add(METRIC_commands_total, 1);
	assert_int_equal(node_page_get(page, 1, METRIC_commands_total), 4);
}

static void test_the_connection_limit_holds_for_the_node(void **state)
{
	struct node_page *page = *state;

	node_page_claim_slot(page, 0);
	assert_true(node_page_admit_connection(page, 2));
	node_page_claim_slot(page, 1);
	assert_true(node_page_admit_connection(page, 2));
	assert_false(node_page_admit_connection(page, 2));
	node_page_claim_slot(page, 3);
	assert_false(node_page_admit_connection(page, 2));
	assert_int_equal(metrics_node_value(page, METRIC_client_connections), 2);
	assert_true(node_page_admit_connection(page, 0));
	metric_subtract(METRIC_client_connections, 1);
	node_page_reset_gauges(page, 1);
	assert_true(node_page_admit_connection(page, 2));
	assert_int_equal(metrics_node_value(page, METRIC_client_connections), 2);
}

/* Takes as many as it gets; its exit status tells how many. */
static pid_t fork_taker(struct node_page *page, uint32_t slot, uint64_t limit)
{
	pid_t pid = fork();
	int got = 0;

	if (pid != 0)
		return pid;
	node_page_claim_slot(page, slot);
	for (int i = 0; i < 20000; i++)
		got += node_page_admit_connection(page, limit);
	_exit(got);
}

static void test_the_limit_is_never_exceeded_in_a_race(void **state)
{
	struct node_page *page = *state;
	pid_t pids[4];
	int total = 0;

	for (uint32_t slot = 0; slot < 4; slot++)
		pids[slot] = fork_taker(page, slot, 100);
	for (int i = 0; i < 4; i++) {
		int status;

		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_true(WIFEXITED(status));
		total += WEXITSTATUS(status);
	}
	assert_true(total <= 100);
	assert_int_equal(metrics_node_value(page, METRIC_client_connections), (uint64_t)total);
	/* Some were refused only because others asked at the same time; now there is room. */
	node_page_claim_slot(page, 0);
	while (total < 100) {
		assert_true(node_page_admit_connection(page, 100));
		total++;
	}
	assert_false(node_page_admit_connection(page, 100));
}

static void test_the_connection_rate(void **state)
{
	struct node_page *page = *state;
	uint64_t now = 50 * SECOND;
	int got = 0;

	assert_true(node_page_take_connection_rate(page, 0, now));
	for (int i = 0; i < 100; i++)
		got += node_page_take_connection_rate(page, 10, now);
	assert_int_equal(got, 10);
	/* A tenth of a second later there is one more, and only one. */
	now += SECOND / 10;
	assert_true(node_page_take_connection_rate(page, 10, now));
	assert_false(node_page_take_connection_rate(page, 10, now));
	/* What was not used is not saved beyond one second's worth. */
	now += 100 * SECOND;
	got = 0;
	for (int i = 0; i < 100; i++)
		got += node_page_take_connection_rate(page, 10, now);
	assert_int_equal(got, 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_workers_must_be_in_bounds),
		cmocka_unit_test_setup_teardown(test_two_mappings_are_one_memory, make_page,
						drop_page),
		cmocka_unit_test_setup_teardown(test_the_size_is_sealed, make_page, drop_page),
		cmocka_unit_test_setup_teardown(test_another_layout_is_refused, make_page,
						drop_page),
		cmocka_unit_test_setup_teardown(test_counts_before_the_claim_are_kept, make_page,
						drop_page),
		cmocka_unit_test_setup_teardown(test_a_successor_counts_on, make_page, drop_page),
		cmocka_unit_test_setup_teardown(test_the_connection_limit_holds_for_the_node,
						make_page, drop_page),
		cmocka_unit_test_setup_teardown(test_the_limit_is_never_exceeded_in_a_race,
						make_page, drop_page),
		cmocka_unit_test_setup_teardown(test_the_connection_rate, make_page, drop_page),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

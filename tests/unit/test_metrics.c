/* SPDX-License-Identifier: ISC */
/*
 * The metrics table and the Prometheus text made from it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/clock.h"
#include "keepsock/metrics.h"
#include "keepsock/node_page.h"

static int page_fd;

static int make_page(void **state)
{
	*state = node_page_create(3, &page_fd);
	return *state ? 0 : -1;
}

static int drop_page(void **state)
{
	node_page_claim_slot(NULL, 0);
	node_page_unmap(*state);
	return close(page_fd);
}

static void set_in_slot(struct node_page *page, uint32_t slot, enum metric metric, uint64_t value)
{
	node_page_claim_slot(page, slot);
	metric_set(metric, value);
	node_page_claim_slot(NULL, 0);
}

/* Prometheus names: letters, digits, underscores; counters and only they end in _total. */
static void test_every_metric_is_well_named(void **state)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789_";

	(void)state;
	for (int i = 0; i < METRIC_COUNT; i++) {
		const char *name = metric_name((enum metric)i);
		const char *help = metric_help((enum metric)i);
		const char *ending = strstr(name, "_total");
		bool is_counter = metric_kind((enum metric)i) == METRIC_KIND_COUNTER;

		assert_int_equal(strspn(name, allowed), strlen(name));
		assert_int_equal(is_counter, ending && strcmp(ending, "_total") == 0);
		assert_true(strlen(help) > 0 && help[strlen(help) - 1] == '.');
		assert_null(strpbrk(help, "\n\\"));
	}
}

static void test_counting(void **state)
{
	uint64_t before = metric_get(METRIC_commands_total);

	(void)state;
	metric_add(METRIC_commands_total, 2);
	metric_add(METRIC_commands_total, 3);
	assert_int_equal(metric_get(METRIC_commands_total), before + 5);
	metric_set(METRIC_channels, 7);
	metric_subtract(METRIC_channels, 3);
	assert_int_equal(metric_get(METRIC_channels), 4);
	metric_set(METRIC_commands_total, 0);
	metric_set(METRIC_channels, 0);
}

static void test_the_node_sums_counters_and_gauges(void **state)
{
	struct node_page *page = *state;

	set_in_slot(page, 0, METRIC_commands_total, 1);
	set_in_slot(page, 2, METRIC_commands_total, 10);
	set_in_slot(page, NODE_SLOT_MASTER, METRIC_commands_total, 100);
	assert_int_equal(metrics_node_value(page, METRIC_commands_total), 111);
	set_in_slot(page, 1, METRIC_channels, 5);
	set_in_slot(page, 2, METRIC_channels, 6);
	assert_int_equal(metrics_node_value(page, METRIC_channels), 11);
}

static void test_the_node_shows_the_worst_lag(void **state)
{
	struct node_page *page = *state;

	set_in_slot(page, 0, METRIC_loop_lag_microseconds, 10);
	set_in_slot(page, 1, METRIC_loop_lag_microseconds, 300);
	set_in_slot(page, 2, METRIC_loop_lag_microseconds, 20);
	set_in_slot(page, NODE_SLOT_MASTER, METRIC_loop_lag_microseconds, 9999);
	assert_int_equal(metrics_node_value(page, METRIC_loop_lag_microseconds), 300);
}

/* It says nothing of that itself. */
static void test_a_loop_that_stands_still_is_late(void **state)
{
	struct node_page *page = *state;
	uint64_t now_ms = clock_boottime_ms();

	set_in_slot(page, 0, METRIC_loop_lag_microseconds, 300);
	node_page_claim_slot(page, 1);
	node_page_set_loop_due(now_ms - 5000);
	assert_true(metrics_slot_value(page, 1, METRIC_loop_lag_microseconds) >= 5000000);
	assert_int_equal(metrics_slot_value(page, 0, METRIC_loop_lag_microseconds), 300);
	assert_true(metrics_node_value(page, METRIC_loop_lag_microseconds) >= 5000000);
	assert_true(metrics_node_value(page, METRIC_loop_lag_microseconds) < 600000000);

	node_page_set_loop_due(now_ms + 60000);
	assert_int_equal(metrics_node_value(page, METRIC_loop_lag_microseconds), 300);
	node_page_set_loop_due(now_ms - 5000);
	node_page_reset_gauges(page, 1);
	assert_int_equal(metrics_node_value(page, METRIC_loop_lag_microseconds), 300);
	node_page_claim_slot(NULL, 0);
	node_page_set_loop_due(now_ms - 5000);
	assert_int_equal(metrics_node_value(page, METRIC_loop_lag_microseconds), 300);
}

static void test_the_node_is_ready_when_all_workers_are(void **state)
{
	struct node_page *page = *state;

	set_in_slot(page, 0, METRIC_ready, 1);
	set_in_slot(page, 1, METRIC_ready, 1);
	assert_int_equal(metrics_node_value(page, METRIC_ready), 0);
	set_in_slot(page, 2, METRIC_ready, 1);
	assert_int_equal(metrics_node_value(page, METRIC_ready), 1);
}

static void test_prometheus_text_holds_every_metric(void **state)
{
	struct node_page *page = *state;
	struct buffer text = {0};

	set_in_slot(page, 0, METRIC_bytes_sent_total, UINT64_MAX);
	metrics_write_prometheus(&text, page);
	for (int i = 0; i < METRIC_COUNT; i++) {
		enum metric metric = (enum metric)i;
		const char *name = metric_name(metric);
		bool is_counter = metric_kind(metric) == METRIC_KIND_COUNTER;
		char *lines = xasprintf(
			"# HELP keepsock_%s %s\n# TYPE keepsock_%s %s\nkeepsock_%s ", name,
			metric_help(metric), name, is_counter ? "counter" : "gauge", name);

		assert_non_null(strstr(buffer_cstr(&text), lines));
		free(lines);
	}
	assert_non_null(
		strstr(buffer_cstr(&text), "\nkeepsock_bytes_sent_total 18446744073709551615\n"));
	assert_int_equal(text.data[text.len - 1], '\n');
	buffer_free(&text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_metric_is_well_named),
		cmocka_unit_test(test_counting),
		cmocka_unit_test_setup_teardown(test_the_node_sums_counters_and_gauges, make_page,
						drop_page),
		cmocka_unit_test_setup_teardown(test_the_node_shows_the_worst_lag, make_page,
						drop_page),
		cmocka_unit_test_setup_teardown(test_a_loop_that_stands_still_is_late, make_page,
						drop_page),
		cmocka_unit_test_setup_teardown(test_the_node_is_ready_when_all_workers_are,
						make_page, drop_page),
		cmocka_unit_test_setup_teardown(test_prometheus_text_holds_every_metric, make_page,
						drop_page),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

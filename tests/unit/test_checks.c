/* SPDX-License-Identifier: ISC */
/*
 * The verdict on the node's event loops: the test plays the master, which tells
 * how late they are, or says nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <event2/event.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/clock.h"
#include "keepsock/settings.h"
#include "supervisor/check_http.h"
#include "supervisor/check_place.h"
#include "supervisor/checks.h"
#include "supervisor/node_admin.h"
#include "supervisor/program.h"

#define LIMIT_MS 1000
#define FALL     3
#define RISE     2

struct scene {
	struct event_base *base;
	struct settings settings;
	struct checks *checks;
	node_answer_fn *answer; /* of the call under way, NULL = none is */
	void *ctx;
	unsigned changes;
};

static struct scene *scene;

/* ---- what the checks call ---- */

struct node_call *node_call_start(struct event_base *base, const char *socket, const char *command,
				  int64_t timeout_ms, node_answer_fn *done, void *ctx)
{
	(void)base;
	(void)socket;
	(void)timeout_ms;
	assert_string_equal(command, "show metrics");
	assert_null(scene->answer);
	scene->answer = done;
	scene->ctx = ctx;
	return NULL;
}

void node_call_cancel(struct node_call *call)
{
	(void)call;
}

/* There is no listener. */
int check_places_find(const struct settings *settings, struct check_places *places,
		      struct buffer *error)
{
	(void)settings;
	(void)error;
	*places = (struct check_places){0};
	return 0;
}

void check_places_free(struct check_places *places)
{
	(void)places;
}

struct check_http *check_ready_start(struct event_base *base, const struct check_place *place,
				     int64_t timeout_ms, check_done_fn *done, void *ctx)
{
	(void)base;
	(void)place;
	(void)timeout_ms;
	(void)done;
	(void)ctx;
	fail_msg("there is nobody to ask");
	return NULL;
}

struct check_http *check_echo_start(struct event_base *base, const struct check_place *place,
				    int64_t timeout_ms, check_done_fn *done, void *ctx)
{
	return check_ready_start(base, place, timeout_ms, done, ctx);
}

void check_http_cancel(struct check_http *check)
{
	(void)check;
}

int program_find_user(const struct settings *settings, struct program_user *user,
		      struct buffer *error)
{
	(void)settings;
	(void)error;
	*user = (struct program_user){0};
	return 0;
}

struct program *program_start(struct event_base *base, const struct program_user *user,
			      char *const argv[], int64_t timeout_ms, program_done_fn *done,
			      void *ctx, struct buffer *error)
{
	(void)base;
	(void)user;
	(void)argv;
	(void)timeout_ms;
	(void)done;
	(void)ctx;
	(void)error;
	fail_msg("there is no script");
	return NULL;
}

void program_end(struct program *program)
{
	(void)program;
}

/* ---- the stage ---- */

static bool no(void *ctx)
{
	(void)ctx;
	return false;
}

static void count_change(void *ctx)
{
	(void)ctx;
	scene->changes++;
}

static int setup(void **state)
{
	struct checks_options options = {.redis_is_there = no,
					 .is_starting = no,
					 .is_primary = no,
					 .on_change = count_change};
	struct buffer error = {0};

	(void)state;
	scene = xcalloc(1, sizeof(*scene));
	scene->base = event_base_new();
	assert_non_null(scene->base);
	scene->settings.cluster.check_interval = 1;
	scene->settings.cluster.check_timeout = 60000;
	scene->settings.cluster.check_loop_lag = LIMIT_MS;
	scene->settings.cluster.check_fall = FALL;
	scene->settings.cluster.check_rise = RISE;
	options.base = scene->base;
	options.settings = &scene->settings;
	scene->checks = checks_create(&options, &error);
	assert_non_null(scene->checks);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	checks_free(scene->checks);
	event_base_free(scene->base);
	free(scene);
	return 0;
}

/* One round of checks, in which the loops are so late; negative: the master says nothing. */
static void check_with(int lag_ms)
{
	node_answer_fn *answer;
	json_t *metrics;

	while (!scene->answer)
		assert_int_equal(event_base_loop(scene->base, EVLOOP_ONCE), 0);
	metrics = json_pack("{s:I}", "loop_lag_microseconds", (json_int_t)lag_ms * 1000);
	assert_non_null(metrics);
	answer = scene->answer;
	scene->answer = NULL;
	answer(scene->ctx, lag_ms < 0 ? NULL : metrics, lag_ms < 0 ? "it says nothing" : NULL);
	json_decref(metrics);
}

static void check_times(unsigned times, int lag_ms)
{
	for (unsigned i = 0; i < times; i++)
		check_with(lag_ms);
}

static bool is_bad(void)
{
	const char *why;

	return checks_bad(scene->checks, &why);
}

static bool hangs(void)
{
	const char *why;

	return checks_hang(scene->checks, &why);
}

/* ---- the tests ---- */

static void test_loops_in_time(void **state)
{
	(void)state;
	check_times(RISE, 3);
	assert_true(scene->changes > 0);
	check_times(10, LIMIT_MS);
	assert_false(is_bad());
	assert_false(hangs());
}

/* The master shows it for a second, so that several checks see it. */
static void test_late_once_counts_once(void **state)
{
	(void)state;
	check_times(RISE, 3);
	check_times(10, LIMIT_MS + 200);
	assert_false(is_bad());
	check_with(3);
	check_times(10, LIMIT_MS + 200);
	assert_false(is_bad());
	assert_false(hangs());
}

static void test_late_again_and_again(void **state)
{
	(void)state;
	check_times(RISE, 3);
	for (unsigned i = 1; i < FALL; i++) {
		check_times(2, LIMIT_MS + 200 + (int)i);
		assert_false(is_bad());
	}
	check_with(LIMIT_MS + 100);
	assert_true(is_bad());
	check_times(RISE, 3);
	assert_false(is_bad());
}

/* It is later at each look. */
static void test_one_that_stands_still(void **state)
{
	(void)state;
	check_times(RISE, 3);
	for (unsigned i = 0; i < FALL; i++) {
		assert_false(is_bad());
		assert_false(hangs());
		check_with(LIMIT_MS + 500 * (int)(i + 1));
	}
	assert_true(is_bad());
	assert_true(hangs());
}

/* Both of us were: what it shows of that time doesn't count later, either. */
static void test_late_while_held_up(void **state)
{
	(void)state;
	check_times(RISE, 3);
	checks_excuse(scene->checks, UINT64_MAX);
	check_times(2, 5 * LIMIT_MS);
	checks_excuse(scene->checks, 0);
	check_times(10, 5 * LIMIT_MS);
	assert_false(is_bad());
}

static void test_a_master_that_says_nothing(void **state)
{
	(void)state;
	check_times(RISE, 3);
	check_times(FALL - 1, -1);
	assert_false(is_bad());
	assert_false(hangs());
	check_with(-1);
	assert_true(is_bad());
	assert_true(hangs());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_loops_in_time, setup, teardown),
		cmocka_unit_test_setup_teardown(test_late_once_counts_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_late_again_and_again, setup, teardown),
		cmocka_unit_test_setup_teardown(test_one_that_stands_still, setup, teardown),
		cmocka_unit_test_setup_teardown(test_late_while_held_up, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_master_that_says_nothing, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

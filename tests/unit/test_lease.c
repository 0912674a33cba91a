/* SPDX-License-Identifier: ISC */
/*
 * The primary's lease on a real Redis: one holder at a time, epochs that rise
 * whatever becomes of Redis's data, a holder's right to make its lease again, and
 * nobody else's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include <cmocka.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/clock.h"
#include "keepsock/log.h"
#include "keepsock/settings.h"
#include "redis_server.h"
#include "redis_wait.h"
#include "supervisor/epoch_file.h"
#include "supervisor/lease.h"

struct side {
	struct settings settings;
	struct lease *lease;
};

struct fixture {
	struct event_base *base;
	struct redis_server *redis;
	struct side sides[2];
};

static void on_change(void *ctx)
{
	(void)ctx;
}

static void open_side(struct fixture *f, int number, const char *ttl)
{
	struct side *side = &f->sides[number];
	struct buffer error = {0};
	char *text = xasprintf("node: { name = \"%c\"; };\n"
			       "redis: { server = \"redis://:pw@127.0.0.1:%u/2\"; };\n"
			       "cluster: { lease_ttl = \"%s\"; lease_renew = 50; };",
			       'a' + number, redis_server_port(f->redis), ttl);

	if (settings_parse(text, "k.conf", &side->settings, &error) < 0)
		fail_msg("%s", buffer_cstr(&error));
	side->lease = lease_create(f->base, &side->settings, on_change, NULL, &error);
	assert_non_null(side->lease);
	buffer_free(&error);
	free(text);
}

static void close_side(struct side *side)
{
	lease_free(side->lease);
	settings_free(&side->settings);
	memset(side, 0, sizeof(*side));
}

static int set_up(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));

	log_set_level(LOG_LEVEL_ERROR);
	f->base = event_base_new();
	f->redis = redis_server_start("pw");
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < 2; i++) {
		if (f->sides[i].lease)
			close_side(&f->sides[i]);
	}
	redis_server_free(f->redis);
	event_base_free(f->base);
	free(f);
	return 0;
}

static struct lease_view view(const struct fixture *f, int number)
{
	struct lease_view v;

	lease_get_view(f->sides[number].lease, &v);
	return v;
}

static bool holds(const struct fixture *f, int number)
{
	struct lease_view v = view(f, number);

	return v.holding && !v.fenced && clock_boottime_ms() < v.held_until_ms;
}

/* One attempt, and its answer. */
static void acquire(struct fixture *f, int number, uint64_t floor)
{
	WAIT_FOR(f->base, view(f, number).connected);
	assert_true(lease_acquire(f->sides[number].lease, floor));
	WAIT_FOR(f->base, !view(f, number).acquiring);
}

static void test_one_holder_at_a_time(void **state)
{
	struct fixture *f = *state;
	uint64_t first;

	open_side(f, 0, "10s");
	open_side(f, 1, "10s");
	WAIT_FOR(f->base, view(f, 0).connected && view(f, 0).free);
	acquire(f, 0, 0);
	assert_true(holds(f, 0));
	assert_int_equal(view(f, 0).epoch, 1);
	acquire(f, 1, 0);
	assert_false(view(f, 1).holding);
	assert_string_equal(view(f, 1).holder, "a");
	/* It is renewed, and never before it was sent. */
	first = view(f, 0).held_until_ms;
	WAIT_FOR(f->base, view(f, 0).held_until_ms > first);
	assert_true(view(f, 0).held_until_ms <= clock_boottime_ms() + 9000);
	lease_release(f->sides[0].lease);
	assert_false(view(f, 0).holding);
	WAIT_FOR(f->base, view(f, 1).free);
	acquire(f, 1, 0);
	assert_true(holds(f, 1));
	assert_int_equal(view(f, 1).epoch, 2);
}

static void test_an_epoch_is_above_what_anybody_knows(void **state)
{
	struct fixture *f = *state;

	open_side(f, 0, "10s");
	acquire(f, 0, 41);
	assert_int_equal(view(f, 0).epoch, 42);
	lease_release(f->sides[0].lease);
	WAIT_FOR(f->base, view(f, 0).free);
	acquire(f, 0, 7); /* Redis knows better */
	assert_int_equal(view(f, 0).epoch, 43);
}

static void test_a_lease_of_the_dead_runs_out(void **state)
{
	struct fixture *f = *state;

	open_side(f, 0, "1200ms");
	open_side(f, 1, "1200ms");
	acquire(f, 0, 0);
	WAIT_FOR(f->base, strcmp(view(f, 1).holder, "a") == 0);
	assert_true(view(f, 1).free_at_ms > 0);
	close_side(&f->sides[0]);
	WAIT_FOR(f->base, view(f, 1).free);
	acquire(f, 1, 0);
	assert_int_equal(view(f, 1).epoch, 2);
}

static void test_a_successor_takes_it_up(void **state)
{
	struct fixture *f = *state;
	char *text;

	open_side(f, 0, "20s");
	acquire(f, 0, 0);
	text = xstrdup(view(f, 0).text);
	close_side(&f->sides[0]);
	open_side(f, 0, "20s");
	WAIT_FOR(f->base, view(f, 0).seen_ms > 0);
	assert_false(lease_resume(f->sides[0].lease, "1 a 0123456789abcdef"));
	assert_true(lease_resume(f->sides[0].lease, text));
	WAIT_FOR(f->base, holds(f, 0));
	assert_int_equal(view(f, 0).epoch, 1);
	free(text);
}

/* ---- a Redis whose clock is set back ---- */

/* What that does to a key that has still to end. */
static void prolong(struct fixture *f)
{
	redis_server_do(f->redis, "EVAL %s 0",
			"redis.call('SELECT', 2) redis.call('PEXPIRE', 'keepsock.lease', 3600000)");
}

static void open_with_a_dead_holder(struct fixture *f)
{
	open_side(f, 0, "2500ms");
	open_side(f, 1, "2500ms");
	while (!view(f, 0).holding)
		acquire(f, 0, 0);
	WAIT_FOR(f->base, strcmp(view(f, 1).holder, "a") == 0);
	close_side(&f->sides[0]);
	prolong(f);
}

static void test_a_dead_holder_is_not_waited_for_by_redis_clock(void **state)
{
	struct fixture *f = *state;
	uint64_t began = clock_boottime_ms();

	open_with_a_dead_holder(f);
	WAIT_FOR(f->base, view(f, 1).free_at_ms > began + 3500);
	/* Not sooner than without Redis: nobody else may have it any more. */
	acquire(f, 1, 0);
	assert_true(!view(f, 1).holding || clock_boottime_ms() >= began + 3500);
	while (!view(f, 1).holding) {
		WAIT_FOR(f->base, clock_boottime_ms() >= view(f, 1).free_at_ms);
		acquire(f, 1, 0);
	}
	assert_int_equal(view(f, 1).epoch, 2);
	/* Whoever had it, and lived, would be fenced. */
	assert_int_equal(view(f, 1).redis_epoch, 2);
}

static void test_a_lease_that_is_renewed_is_never_overdue(void **state)
{
	struct fixture *f = *state;
	uint64_t end = clock_boottime_ms() + 6000;

	open_with_a_dead_holder(f);
	while (clock_boottime_ms() < end) {
		uint64_t seen = view(f, 1).seen_ms, now = clock_boottime_ms();

		prolong(f);
		WAIT_FOR(f->base, view(f, 1).seen_ms > seen + 100);
		assert_true(view(f, 1).free_at_ms >= now + 3500);
	}
}

/* ---- a Redis that lost something ---- */

static void restart_without(struct fixture *f, const char *data)
{
	redis_server_kill(f->redis);
	redis_server_put_data(f->redis, data);
	redis_server_restart(f->redis);
}

static void test_the_holder_makes_it_again_where_redis_lost_it(void **state)
{
	struct fixture *f = *state;

	open_side(f, 0, "20s");
	acquire(f, 0, 9);
	restart_without(f, NULL);
	WAIT_FOR(f->base, !view(f, 0).connected);
	WAIT_FOR(f->base, view(f, 0).connected && strcmp(view(f, 0).holder, "a") == 0);
	assert_int_equal(view(f, 0).redis_epoch, 10);
	open_side(f, 1, "20s");
	WAIT_FOR(f->base, view(f, 1).connected);
	assert_string_equal(view(f, 1).holder, "a");
	/* Nobody else may believe a run that new. */
	assert_false(view(f, 1).settled);
	assert_true(holds(f, 0));
}

static void test_an_old_lease_that_comes_back_gives_way(void **state)
{
	struct fixture *f = *state;

	open_side(f, 0, "60s");
	open_side(f, 1, "60s");
	acquire(f, 0, 0);
	redis_server_keep_data(f->redis, "before");
	lease_release(f->sides[0].lease);
	WAIT_FOR(f->base, view(f, 1).connected && view(f, 1).free);
	acquire(f, 1, 0);
	assert_int_equal(view(f, 1).epoch, 2);
	restart_without(f, "before");
	/* There a's lease of epoch 1 still is. */
	WAIT_FOR(f->base, view(f, 1).connected && strcmp(view(f, 1).holder, "b") == 0);
	assert_true(holds(f, 1));
	assert_int_equal(view(f, 1).redis_epoch, 2);
}

static void test_a_holder_is_fenced_by_a_higher_epoch(void **state)
{
	struct fixture *f = *state;

	open_side(f, 0, "20s");
	acquire(f, 0, 0);
	/* Another has had it in the meantime, and given it back. */
	redis_server_do(f->redis, "EVAL %s 0",
			"redis.call('SELECT', 2) redis.call('DEL', 'keepsock.lease') "
			"redis.call('SET', 'keepsock.lease_epoch', '2')");
	WAIT_FOR(f->base, view(f, 0).fenced);
	assert_int_equal(view(f, 0).held_until_ms, 0);
}

static void test_a_redis_that_hangs_renews_nothing(void **state)
{
	struct fixture *f = *state;
	uint64_t until;

	open_side(f, 0, "1500ms");
	acquire(f, 0, 0);
	redis_server_pause(f->redis);
	until = view(f, 0).held_until_ms;
	WAIT_FOR(f->base, !view(f, 0).connected);
	WAIT_FOR(f->base, !holds(f, 0));
	/* What was under way when it stopped may have been the last one. */
	assert_true(view(f, 0).held_until_ms <= until + 200);
	redis_server_resume(f->redis);
	WAIT_FOR(f->base, view(f, 0).connected);
}

/* Taken by a call that was given up: it was never made use of, so it goes back, and its epoch too.
 */
static void test_an_answer_that_never_came_costs_an_epoch(void **state)
{
	struct fixture *f = *state;

	open_side(f, 0, "2500ms");
	WAIT_FOR(f->base, view(f, 0).connected && view(f, 0).free);
	redis_server_pause(f->redis);
	if (!lease_acquire(f->sides[0].lease, 0))
		fail_msg("it was away already");
	WAIT_FOR(f->base, !view(f, 0).acquiring);
	assert_false(view(f, 0).holding);
	redis_server_resume(f->redis);
	WAIT_FOR(f->base, view(f, 0).redis_epoch == 1 && view(f, 0).free);
	while (!view(f, 0).holding)
		acquire(f, 0, 0);
	assert_true(view(f, 0).epoch >= 2);
}

static void test_foreign_data_is_no_lease(void **state)
{
	struct fixture *f = *state;

	open_side(f, 0, "5s");
	redis_server_do(f->redis, "EVAL %s 0",
			"redis.call('SELECT', 2) redis.call('LPUSH', 'keepsock.lease', 'x')");
	WAIT_FOR(f->base, view(f, 0).error[0] != '\0');
	assert_false(view(f, 0).connected);
	redis_server_do(f->redis, "EVAL %s 0",
			"redis.call('SELECT', 2) redis.call('DEL', 'keepsock.lease')");
	WAIT_FOR(f->base, view(f, 0).connected);
}

/* ---- the files ---- */

static void test_files_remember(void **state)
{
	char directory[] = "/tmp/keepsock-epoch-XXXXXX";
	struct buffer error = {0};
	uint64_t epoch = 5;
	char *text;

	(void)state;
	assert_non_null(mkdtemp(directory));
	assert_int_equal(epoch_file_read(directory, &epoch, &error), 0);
	assert_int_equal(epoch, 0);
	assert_int_equal(epoch_file_write(directory, 123456789012, &error), 0);
	assert_int_equal(epoch_file_read(directory, &epoch, &error), 0);
	assert_int_equal(epoch, 123456789012);
	text = lease_file_read(directory);
	assert_string_equal(text, "");
	free(text);
	assert_int_equal(lease_file_write(directory, "3 a 0011", &error), 0);
	text = lease_file_read(directory);
	assert_string_equal(text, "3 a 0011");
	free(text);
	assert_int_equal(lease_file_write(directory, "", &error), 0);
	text = lease_file_read(directory);
	assert_string_equal(text, "");
	free(text);
	assert_int_equal(error.len, 0);
	for (size_t i = 0; i < 2; i++) {
		static const char *const names[] = {"epoch", "lease"};
		char *path = xasprintf("%s/%s", directory, names[i]);

		assert_int_equal(remove(path), 0);
		free(path);
	}
	assert_int_equal(remove(directory), 0);
}

static void test_a_broken_epoch_file_is_no_zero(void **state)
{
	static const char *const broken[] = {"",   "x\n",     "-1\n",
					     "12", "12 13\n", "99999999999999999999\n"};
	char directory[] = "/tmp/keepsock-epoch-XXXXXX";
	char *path;

	(void)state;
	assert_non_null(mkdtemp(directory));
	path = xasprintf("%s/epoch", directory);
	for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
		FILE *file = fopen(path, "w");
		struct buffer error = {0};
		uint64_t epoch;

		assert_non_null(file);
		assert_true(fputs(broken[i], file) >= 0);
		assert_int_equal(fclose(file), 0);
		assert_int_equal(epoch_file_read(directory, &epoch, &error), -1);
		assert_non_null(strstr(buffer_cstr(&error), "holds no epoch"));
		buffer_free(&error);
	}
	assert_int_equal(remove(path), 0);
	assert_int_equal(remove(directory), 0);
	free(path);
}

#define WITH_REDIS(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_REDIS(test_one_holder_at_a_time),
		WITH_REDIS(test_an_epoch_is_above_what_anybody_knows),
		WITH_REDIS(test_a_lease_of_the_dead_runs_out),
		WITH_REDIS(test_a_successor_takes_it_up),
		WITH_REDIS(test_a_dead_holder_is_not_waited_for_by_redis_clock),
		WITH_REDIS(test_a_lease_that_is_renewed_is_never_overdue),
		WITH_REDIS(test_the_holder_makes_it_again_where_redis_lost_it),
		WITH_REDIS(test_an_old_lease_that_comes_back_gives_way),
		WITH_REDIS(test_a_holder_is_fenced_by_a_higher_epoch),
		WITH_REDIS(test_a_redis_that_hangs_renews_nothing),
		WITH_REDIS(test_an_answer_that_never_came_costs_an_epoch),
		WITH_REDIS(test_foreign_data_is_no_lease),
		cmocka_unit_test(test_files_remember),
		cmocka_unit_test(test_a_broken_epoch_file_is_no_zero),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: ISC */
/*
 * The event loop's watch with a clock that the tests move: how long a slice is,
 * when a late loop is worth a warning, and who is named.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "arena_world.h"
#include "keepsock/alloc.h"
#include "keepsock/log.h"
#include "keepsock/metrics.h"
#include "worker/internal.h"
#include "worker/loop_watch.h"

#define MS         1000000u
#define INTERVAL   128u
#define WARN_AFTER 250

static uint64_t now_ns;

uint64_t __wrap_clock_boottime_ns(void);

/* The linker puts it in place of the real one (--wrap). */
uint64_t __wrap_clock_boottime_ns(void)
{
	return now_ns;
}

struct slice connection_id(const struct passport *passport, char out[37])
{
	assert_int_equal(passport->magic, PASSPORT_MAGIC);
	memcpy(out, "the-client", sizeof("the-client"));
	return slice_str(out);
}

struct scene {
	struct world *world;
	struct worker w;
	int log; /* the log file, opened for reading */
};

static int setup(void **state)
{
	struct scene *scene = xcalloc(1, sizeof(*scene));
	char path[] = "/tmp/keepsock-loop-watch-XXXXXX", target[64];

	scene->world = world_new(4 * MIB);
	scene->w.arena = scene->world->arena;
	scene->w.settings.node.loop_lag_warning = WARN_AFTER;
	scene->log = mkstemp(path);
	assert_true(scene->log >= 0);
	snprintf(target, sizeof(target), "file:%s", path);
	assert_int_equal(log_set_target(target), 0);
	unlink(path);
	now_ns = 1000u * (uint64_t)MS;
	loop_watch_start(&scene->w, INTERVAL);
	*state = scene;
	return 0;
}

static int teardown(void **state)
{
	struct scene *scene = *state;

	log_set_target("stderr");
	close(scene->log);
	world_free(scene->world);
	free(scene);
	return 0;
}

static void pass(uint64_t ms)
{
	now_ns += ms * MS;
}

/* Something that takes its time within the loop turn. */
static void act(struct scene *scene, enum loop_activity activity, uint64_t ms)
{
	loop_watch_begin(&scene->w, activity);
	assert_int_equal(scene->w.now_ms, now_ns / MS);
	pass(ms);
}

static void tick(struct scene *scene)
{
	loop_watch_begin(&scene->w, LOOP_TICK);
	loop_watch_tick(&scene->w, INTERVAL);
	loop_watch_idle(&scene->w);
}

/* The line of the only warning so far, "" for none; each is read once. */
static const char *warning(struct scene *scene)
{
	static char text[2048];
	ssize_t length = read(scene->log, text, sizeof(text) - 1);
	char *line;

	assert_true(length >= 0);
	text[length] = '\0';
	line = strstr(text, "loop_lag");
	if (!line)
		return "";
	assert_null(strstr(line + 1, "loop_lag ms"));
	return line;
}

static void assert_has(const char *line, const char *part)
{
	if (!strstr(line, part))
		fail_msg("\"%s\" does not have %s", line, part);
}

static void test_a_punctual_loop_says_nothing(void **state)
{
	struct scene *scene = *state;

	for (int i = 0; i < 20; i++) {
		act(scene, LOOP_CLIENT, 20);
		loop_watch_idle(&scene->w);
		pass(INTERVAL - 20);
		tick(scene);
	}
	assert_string_equal(warning(scene), "");
	assert_int_equal(metric_get(METRIC_loop_lag_microseconds), 0);
}

static void test_the_warning_begins_at_the_setting(void **state)
{
	struct scene *scene = *state;
	uint64_t before = metric_get(METRIC_loop_lag_warnings_total);

	act(scene, LOOP_CLIENT, INTERVAL + WARN_AFTER - 1);
	tick(scene);
	assert_string_equal(warning(scene), "");
	act(scene, LOOP_CLIENT, INTERVAL + WARN_AFTER);
	tick(scene);
	assert_has(warning(scene), "loop_lag ms=250 cause=client cause_ms=378");
	assert_int_equal(metric_get(METRIC_loop_lag_warnings_total), before + 1);
	/* Said once. */
	pass(INTERVAL);
	tick(scene);
	assert_string_equal(warning(scene), "");
}

static void test_the_first_tick_may_be_late_too(void **state)
{
	struct scene *scene = *state;

	pass(INTERVAL + 700);
	tick(scene);
	assert_has(warning(scene), "loop_lag ms=700 cause=outside");
}

static void test_the_client_is_named(void **state)
{
	struct scene *scene = *state;
	arena_ref client = world_passport(scene->world);
	const char *line;

	act(scene, LOOP_ACCEPT, 30);
	act(scene, LOOP_CLIENT, 0);
	loop_watch_subject(&scene->w, WORK_WORD(WORK_SERVING_CONNECTION, client));
	pass(500);
	act(scene, LOOP_DELIVERY, 40);
	tick(scene);
	line = warning(scene);
	assert_has(line, "cause=client cause_ms=500 longest=client longest_ms=500 "
			 "longest_for=the-client");
}

static void test_the_channel_is_named(void **state)
{
	struct scene *scene = *state;
	struct channel *channel = hub_get(&scene->world->hub, SLICE("the news"));

	scene->w.hub = scene->world->hub;
	/* Many that are short count together, the longest one is told as well. */
	for (int i = 0; i < 60; i++)
		act(scene, LOOP_REDIS_REPLY, 7);
	act(scene, LOOP_DELIVERY, 0);
	loop_watch_subject(&scene->w, WORK_WORD(WORK_SERVING_BATCH, channel->ref));
	pass(100);
	tick(scene);
	assert_has(warning(scene), "cause=redis cause_ms=420 longest=delivery longest_ms=100 "
				   "longest_for=\"the news\"");
}

static void test_whoever_is_gone_is_not_named(void **state)
{
	struct scene *scene = *state;
	arena_ref client = world_passport(scene->world);

	act(scene, LOOP_CLIENT, 0);
	loop_watch_subject(&scene->w, WORK_WORD(WORK_SERVING_CONNECTION, client));
	pass(600);
	world_passport_free(scene->world, client);
	tick(scene);
	assert_has(warning(scene), "longest_ms=600 longest_for=\"\"");
}

static void test_time_that_went_elsewhere(void **state)
{
	struct scene *scene = *state;

	/* Stopped while it waited for events: nothing of the worker's was slow. */
	act(scene, LOOP_CLIENT, 50);
	loop_watch_idle(&scene->w);
	pass(INTERVAL + 900);
	tick(scene);
	assert_has(warning(scene), "loop_lag ms=950 cause=outside cause_ms=0");
}

static void test_the_metric_shows_the_worst_of_a_second(void **state)
{
	struct scene *scene = *state;

	pass(INTERVAL + 90);
	tick(scene);
	for (int i = 0; i < 8; i++) {
		pass(INTERVAL + 10);
		tick(scene);
	}
	assert_int_equal(metric_get(METRIC_loop_lag_microseconds), 90000);
	for (int i = 0; i < 8; i++) {
		pass(INTERVAL + 10);
		tick(scene);
	}
	assert_int_equal(metric_get(METRIC_loop_lag_microseconds), 10000);
}

/* ---- slices ---- */

static void test_a_slice_ends_by_the_clock(void **state)
{
	struct scene *scene = *state;
	unsigned calls = 0;

	/* Sends of 20 us. */
	while (!loop_slice_spent(&scene->w, 1)) {
		now_ns += 20000;
		calls++;
	}
	assert_in_range(calls, 250, 250 + 64);
	/* Others have their turn in the same turn of the loop: it stays spent. */
	for (calls = 0; !loop_slice_spent(&scene->w, 1); calls++)
		now_ns += 20000;
	assert_in_range(calls, 0, 64);
	/* And the next turn brings a new one. */
	loop_watch_idle(&scene->w);
	for (calls = 0; !loop_slice_spent(&scene->w, 1); calls++)
		now_ns += 20000;
	assert_in_range(calls, 250, 250 + 64);
}

static void test_costly_work_looks_at_the_clock_at_once(void **state)
{
	struct scene *scene = *state;

	assert_false(loop_slice_spent(&scene->w, 100));
	pass(6);
	assert_true(loop_slice_spent(&scene->w, 100));
	loop_watch_idle(&scene->w);
	assert_false(loop_slice_spent(&scene->w, 63));
	pass(6);
	assert_true(loop_slice_spent(&scene->w, 1));
}

int main(void)
{
#define IN_SCENE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		IN_SCENE(test_a_punctual_loop_says_nothing),
		IN_SCENE(test_the_warning_begins_at_the_setting),
		IN_SCENE(test_the_first_tick_may_be_late_too),
		IN_SCENE(test_the_client_is_named),
		IN_SCENE(test_the_channel_is_named),
		IN_SCENE(test_whoever_is_gone_is_not_named),
		IN_SCENE(test_time_that_went_elsewhere),
		IN_SCENE(test_the_metric_shows_the_worst_of_a_second),
		IN_SCENE(test_a_slice_ends_by_the_clock),
		IN_SCENE(test_costly_work_looks_at_the_clock_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

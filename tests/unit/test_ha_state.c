/* SPDX-License-Identifier: ISC */
/*
 * The supervisor's table of states, row by row and as a whole, and the counter
 * behind a check's verdict.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "supervisor/ha_state.h"
#include "supervisor/rise_fall.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Written down a second time: a changed row has to be meant. */
static const char *const rows[] = {
	"starting + node good -> standby: nothing",
	"starting + resumed -> promoting: promote",
	"starting + node bad -> fault: nothing",
	"starting + maintenance on -> maintenance: nothing",
	"standby + elected -> promoting: promote",
	"standby + node bad -> fault: nothing",
	"standby + maintenance on -> maintenance: nothing",
	"promoting + promoted -> primary: nothing",
	"promoting + refused -> demoting: step down",
	"promoting + node bad -> demoting: step down",
	"promoting + lease lost -> demoting: step down",
	"promoting + vip lost -> demoting: step down",
	"promoting + outvoted -> demoting: step down",
	"promoting + demote -> demoting: step down",
	"promoting + stop -> demoting: step down",
	"promoting + maintenance on -> demoting: step down",
	"primary + node bad -> demoting: step down",
	"primary + lease lost -> demoting: step down",
	"primary + vip lost -> demoting: step down",
	"primary + outvoted -> demoting: step down",
	"primary + demote -> demoting: hand over",
	"primary + stop -> demoting: hand over",
	"primary + maintenance on -> demoting: hand over",
	"demoting + demoted -> standby: nothing",
	"fault + node good -> standby: nothing",
	"fault + maintenance on -> maintenance: nothing",
	"maintenance + maintenance off -> starting: nothing",
};

static void test_every_row(void **state)
{
	(void)state;
	assert_int_equal(ha_transition_count, COUNT(rows));
	for (size_t i = 0; i < ha_transition_count; i++) {
		const struct ha_transition *row = &ha_transitions[i];
		char text[128];

		snprintf(text, sizeof(text), "%s + %s -> %s: %s", ha_state_name(row->from),
			 ha_event_name(row->event), ha_state_name(row->to),
			 ha_action_name(row->action));
		assert_string_equal(text, rows[i]);
		assert_true(strlen(row->reason) > 10);
		/* The only one of its kind. */
		assert_ptr_equal(ha_find_transition(row->from, row->event), row);
	}
}

static void test_events_without_a_row_mean_nothing(void **state)
{
	size_t found = 0;

	(void)state;
	for (int from = 0; from < HA_STATE_COUNT; from++) {
		for (int event = 0; event < HA_EVENT_COUNT; event++)
			found += ha_find_transition((enum ha_state)from, (enum ha_event)event) !=
				 NULL;
	}
	assert_int_equal(found, COUNT(rows));
}

static bool may_hold(enum ha_state state)
{
	return state == HA_PROMOTING || state == HA_PRIMARY || state == HA_DEMOTING;
}

/* The role is entered by promoting alone and left by demoting alone. */
static void test_no_way_around_promotion_and_demotion(void **state)
{
	(void)state;
	for (size_t i = 0; i < ha_transition_count; i++) {
		const struct ha_transition *row = &ha_transitions[i];

		assert_int_equal(!may_hold(row->from) && may_hold(row->to),
				 row->to == HA_PROMOTING);
		assert_int_equal(row->to == HA_PROMOTING, row->action == HA_DO_PROMOTE);
		assert_int_equal(may_hold(row->from) && !may_hold(row->to),
				 row->event == HA_ON_DEMOTED);
		assert_int_equal(row->to == HA_DEMOTING,
				 row->action == HA_DO_HAND_OVER || row->action == HA_DO_STEP_DOWN);
		if (row->to == HA_PRIMARY)
			assert_int_equal(row->from, HA_PROMOTING);
	}
}

/* Whoever holds the role gives it up for each of these. */
static void test_a_holder_heeds_every_alarm(void **state)
{
	static const enum ha_event alarms[] = {
		HA_ON_NODE_BAD, HA_ON_LEASE_LOST, HA_ON_VIP_LOST,       HA_ON_OUTVOTED,
		HA_ON_DEMOTE,   HA_ON_STOP,       HA_ON_MAINTENANCE_ON,
	};

	(void)state;
	for (size_t i = 0; i < COUNT(alarms); i++) {
		assert_int_equal(ha_find_transition(HA_PROMOTING, alarms[i])->to, HA_DEMOTING);
		assert_int_equal(ha_find_transition(HA_PRIMARY, alarms[i])->to, HA_DEMOTING);
	}
	/* A lost lease leaves no time for good order. */
	assert_int_equal(ha_find_transition(HA_PRIMARY, HA_ON_LEASE_LOST)->action, HA_DO_STEP_DOWN);
}

static void reach(enum ha_state from, bool reached[HA_STATE_COUNT])
{
	reached[from] = true;
	for (size_t i = 0; i < ha_transition_count; i++) {
		if (ha_transitions[i].from == from && !reached[ha_transitions[i].to])
			reach(ha_transitions[i].to, reached);
	}
}

static void test_every_state_is_reached_and_left(void **state)
{
	(void)state;
	for (int from = 0; from < HA_STATE_COUNT; from++) {
		bool reached[HA_STATE_COUNT] = {false};

		reach((enum ha_state)from, reached);
		for (int to = 0; to < HA_STATE_COUNT; to++)
			assert_true(reached[to]);
		assert_int_equal(ha_state_parse(ha_state_name((enum ha_state)from)), from);
	}
	assert_int_equal(ha_state_parse("primaries"), -1);
}

/* ---- rise and fall ---- */

static void add(struct rise_fall *r, const char *results, const char *verdicts)
{
	for (; *results; results++, verdicts++) {
		bool before = rise_fall_good(r);
		bool changed = rise_fall_add(r, *results == '+');

		assert_int_equal(rise_fall_good(r), *verdicts == 'G');
		assert_int_equal(changed, before != rise_fall_good(r));
		assert_true(r->count < r->rise + r->fall);
	}
}

static void test_rise_and_fall(void **state)
{
	struct rise_fall r = {.rise = 2, .fall = 3};

	(void)state;
	assert_false(rise_fall_good(&r));
	add(&r, "+", "b");
	add(&r, "-+", "bb"); /* in a row */
	add(&r, "+", "G");
	add(&r, "--+", "GGG");
	add(&r, "--", "GG");
	add(&r, "-", "b");
	add(&r, "+-+", "bbb");
	add(&r, "+", "G");
}

static void test_rise_and_fall_of_one(void **state)
{
	struct rise_fall r = {.rise = 1, .fall = 1};

	(void)state;
	add(&r, "+-+-", "GbGb");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_row),
		cmocka_unit_test(test_events_without_a_row_mean_nothing),
		cmocka_unit_test(test_no_way_around_promotion_and_demotion),
		cmocka_unit_test(test_a_holder_heeds_every_alarm),
		cmocka_unit_test(test_every_state_is_reached_and_left),
		cmocka_unit_test(test_rise_and_fall),
		cmocka_unit_test(test_rise_and_fall_of_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

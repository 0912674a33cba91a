/* SPDX-License-Identifier: ISC */
/*
 * The keeper's messages: who may send what, and that contents of a wrong length
 * or version are refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "keepsock/buffer.h"
#include "keepsock/keeper_messages.h"

static const struct keeper_setup sample = {
	.version = KEEPER_PROTOCOL_VERSION,
	.slot = 7,
	.log_level = 2,
	.log_format = 1,
	.restarts = 1ull << 40,
	.worker = 4711,
};
static const struct keeper_setup_text sample_text = {"a", "etc/\xc3\xa4.conf", "/run/keepsock", ""};

/* Pinned here by hand: a new type must be thought about on all sides. */
static void test_each_type_has_one_direction(void **state)
{
	static const struct {
		uint32_t type;
		enum keeper_direction direction;
	} expected[] = {
		{KEEPER_SETUP, MASTER_TO_KEEPER},         {KEEPER_ORDER, MASTER_TO_KEEPER},
		{KEEPER_LOG_LEVEL, MASTER_TO_KEEPER},     {KEEPER_STOP, MASTER_TO_KEEPER},
		{KEEPER_ADOPTION, MASTER_TO_KEEPER},      {KEEPER_WORKER, KEEPER_TO_MASTER},
		{KEEPER_TAKEOVER, MASTER_TO_KEEPER},      {KEEPER_CRASH_POINT, MASTER_TO_KEEPER},
		{KEEPER_TAKEN_OVER, KEEPER_TO_MASTER},    {KEEPER_READY, WORKER_TO_KEEPER},
		{KEEPER_FROZEN, WORKER_TO_KEEPER},        {KEEPER_THAWED, WORKER_TO_KEEPER},
		{KEEPER_COMMITTED, WORKER_TO_KEEPER},     {KEEPER_TAKEN_BACK, KEEPER_TO_WORKER},
		{KEEPER_FREEZE, KEEPER_TO_WORKER},        {KEEPER_THAW, KEEPER_TO_WORKER},
		{KEEPER_COMMIT, KEEPER_TO_WORKER},        {KEEPER_LEAVE, KEEPER_TO_WORKER},
		{KEEPER_DEATH, KEEPER_TO_MASTER},         {KEEPER_STATUS, KEEPER_TO_MASTER},
		{KEEPER_HELLO, WORKER_TO_KEEPER},         {KEEPER_ARENA, WORKER_TO_KEEPER},
		{KEEPER_DEPOSIT, WORKER_TO_KEEPER},       {KEEPER_RELEASE, WORKER_TO_KEEPER},
		{KEEPER_COUNT, WORKER_TO_KEEPER},         {KEEPER_NEXT, WORKER_TO_KEEPER},
		{KEEPER_ADOPTED, WORKER_TO_KEEPER},       {KEEPER_ADOPT_REFUSED, WORKER_TO_KEEPER},
		{KEEPER_START, KEEPER_TO_WORKER},         {KEEPER_HAND_OVER, KEEPER_TO_WORKER},
		{KEEPER_HAND_OVER_END, KEEPER_TO_WORKER}, {KEEPER_DEPOSIT_AGAIN, KEEPER_TO_WORKER},
		{KEEPER_MASTER, MASTER_TO_KEEPER},        {KEEPER_STATE, KEEPER_TO_MASTER},
		{KEEPER_CHANNEL, KEEPER_TO_WORKER},       {KEEPER_ORIGIN, WORKER_TO_KEEPER},
	};

	(void)state;
	assert_int_equal(sizeof(expected) / sizeof(expected[0]), KEEPER_TYPE_COUNT - 1);
	for (size_t i = 0; i < KEEPER_TYPE_COUNT - 1; i++) {
		for (int direction = MASTER_TO_KEEPER; direction <= KEEPER_TO_WORKER; direction++)
			assert_int_equal(keeper_type_allowed(expected[i].type,
							     (enum keeper_direction)direction),
					 direction == (int)expected[i].direction);
		assert_string_not_equal(keeper_type_name(expected[i].type), "unknown");
	}
}

static void test_unknown_types_are_refused(void **state)
{
	static const uint32_t types[] = {KEEPER_NONE, KEEPER_TYPE_COUNT, UINT32_MAX};

	(void)state;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		for (int direction = MASTER_TO_KEEPER; direction <= KEEPER_TO_WORKER; direction++)
			assert_false(
				keeper_type_allowed(types[i], (enum keeper_direction)direction));
		assert_string_equal(keeper_type_name(types[i]), "unknown");
	}
}

static void test_setup_survives_the_way(void **state)
{
	struct keeper_setup_text text;
	struct buffer payload = {0};
	struct keeper_setup setup;

	(void)state;
	keeper_setup_encode(&payload, &sample, &sample_text);
	assert_true(keeper_setup_decode(buffer_slice(&payload), &setup, &text));
	assert_memory_equal(&setup, &sample, sizeof(setup));
	assert_string_equal(text.node, sample_text.node);
	assert_string_equal(text.config_name, sample_text.config_name);
	assert_string_equal(text.run_dir, sample_text.run_dir);
	assert_string_equal(text.log_target, "");
	buffer_free(&payload);
}

static void test_a_bad_setup_is_refused(void **state)
{
	struct keeper_setup other = sample;
	struct keeper_setup_text text;
	struct buffer payload = {0};
	struct keeper_setup setup;

	(void)state;
	keeper_setup_encode(&payload, &sample, &sample_text);
	for (size_t length = 0; length < payload.len; length++)
		assert_false(keeper_setup_decode(slice_from(payload.data, length), &setup, &text));
	/* A fifth string. */
	buffer_append_char(&payload, '\0');
	assert_false(keeper_setup_decode(buffer_slice(&payload), &setup, &text));
	/* No end. */
	payload.data[payload.len - 1] = 'x';
	assert_false(keeper_setup_decode(buffer_slice(&payload), &setup, &text));
	buffer_reset(&payload);
	other.version++;
	keeper_setup_encode(&payload, &other, &sample_text);
	assert_false(keeper_setup_decode(buffer_slice(&payload), &setup, &text));
	buffer_free(&payload);
}

static void test_lengths_are_checked(void **state)
{
	struct keeper_count count = {12, 0}, out = {0};
	struct slice rest;

	(void)state;
	assert_true(keeper_payload_take(slice_from(&count, sizeof(count)), &out, sizeof(out)));
	assert_int_equal(out.descriptors, 12);
	assert_false(keeper_payload_take(slice_from(&count, sizeof(count) - 1), &out, sizeof(out)));
	assert_false(keeper_payload_take((struct slice){NULL, 0}, &out, sizeof(out)));
	assert_true(keeper_payload_take_head(slice_from(&count, sizeof(count)), &out.descriptors, 4,
					     &rest));
	assert_int_equal(rest.len, sizeof(count) - 4);
	assert_false(keeper_payload_take_head(slice_from(&count, 3), &out.descriptors, 4, &rest));
}

static void test_items(void **state)
{
	const struct keeper_item items[] = {{4, KEEPER_KIND_CLIENT, 9},
					    {8, KEEPER_KIND(KEEPER_KIND_REDIS, 63), 10}};
	struct slice payload = slice_from(items, sizeof(items));

	(void)state;
	assert_int_equal(sizeof(struct keeper_item), 16);
	assert_int_equal(keeper_items_count(payload), 2);
	assert_true(keeper_items_count(slice_from(items, sizeof(items) - 1)) == SIZE_MAX);
	assert_int_equal(keeper_items_count((struct slice){NULL, 0}), 0);
	assert_int_equal(keeper_items_at(payload, 1).ref, 8);
	assert_int_equal(KEEPER_KIND_OF(items[1].kind), KEEPER_KIND_REDIS);
	assert_int_equal(KEEPER_KIND_SHARD(items[1].kind), 63);
	assert_int_equal(KEEPER_KIND_OF(items[0].kind), KEEPER_KIND_CLIENT);
}

static void test_a_takeover_is_checked(void **state)
{
	const struct keeper_takeover good = {7, TAKEOVER_UPGRADE, 10000};
	struct keeper_takeover bad[] = {{0, TAKEOVER_RELOAD, 1},
					{1, 0, 1},
					{1, TAKEOVER_TEST + 1, 1},
					{1, TAKEOVER_TEST, 0}};
	struct keeper_takeover out;

	(void)state;
	assert_true(keeper_takeover_decode(slice_from(&good, sizeof(good)), &out));
	assert_memory_equal(&good, &out, sizeof(out));
	assert_false(keeper_takeover_decode(slice_from(&good, sizeof(good) - 1), &out));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(keeper_takeover_decode(slice_from(&bad[i], sizeof(bad[i])), &out));
}

static void test_the_end_of_a_takeover_survives_the_way(void **state)
{
	const struct keeper_taken_over good = {
		.number = 7,
		.outcome = TAKEOVER_NOT_DONE,
		.old_pid = 4711,
		.new_pid = 4712,
		.connections = 18000,
		.late = 1,
		.lost = 2,
		.prepare_us = 1ull << 40,
		.freeze_us = 50000,
	};
	struct keeper_taken_over out, other = good;
	char long_reason[KEEPER_REASON_MAX + 10];
	struct buffer payload = {0};
	struct slice reason;

	(void)state;
	keeper_taken_over_encode(&payload, &good, "it did not freeze");
	assert_true(keeper_taken_over_decode(buffer_slice(&payload), &out, &reason));
	assert_memory_equal(&good, &out, sizeof(out));
	assert_true(slice_is(reason, "it did not freeze"));
	for (size_t length = 0; length < sizeof(good); length++)
		assert_false(
			keeper_taken_over_decode(slice_from(payload.data, length), &out, &reason));
	buffer_reset(&payload);
	memset(long_reason, 'x', sizeof(long_reason));
	long_reason[sizeof(long_reason) - 1] = '\0';
	keeper_taken_over_encode(&payload, &good, long_reason);
	assert_true(keeper_taken_over_decode(buffer_slice(&payload), &out, &reason));
	assert_int_equal(reason.len, KEEPER_REASON_MAX);
	buffer_append_char(&payload, 'x');
	assert_false(keeper_taken_over_decode(buffer_slice(&payload), &out, &reason));
	buffer_reset(&payload);
	other.outcome = TAKEOVER_WORKER_DIED + 1;
	keeper_taken_over_encode(&payload, &other, "");
	assert_false(keeper_taken_over_decode(buffer_slice(&payload), &out, &reason));
	buffer_free(&payload);
}

static void test_names_of_takeovers(void **state)
{
	(void)state;
	assert_string_equal(takeover_reason_name(TAKEOVER_RELOAD), "reload");
	assert_string_equal(takeover_reason_name(TAKEOVER_TEST), "test");
	assert_string_equal(takeover_reason_name(0), "unknown");
	assert_string_equal(takeover_reason_name(TAKEOVER_TEST + 1), "unknown");
	assert_string_equal(takeover_outcome_name(TAKEOVER_DONE), "done");
	assert_string_equal(takeover_outcome_name(TAKEOVER_WORKER_DIED), "worker died");
	assert_string_equal(takeover_outcome_name(TAKEOVER_WORKER_DIED + 1), "unknown");
}

static void test_the_name_of_a_crash_point_ends(void **state)
{
	struct keeper_crash_point point = {"takeover-ready", 1, 9, KEEPER_CRASH_KEEPER, 0};

	(void)state;
	assert_true(keeper_crash_point_valid(&point));
	memset(point.name, 'x', sizeof(point.name));
	assert_false(keeper_crash_point_valid(&point));
}

static void test_causes_of_death(void **state)
{
	struct buffer text = {0};

	(void)state;
	keeper_describe_death(&text, 9, 11);
	assert_string_equal(buffer_cstr(&text), "signal 9 (Killed)");
	buffer_reset(&text);
	keeper_describe_death(&text, 3 << 8, 0);
	assert_string_equal(buffer_cstr(&text), "exit status 3");
	buffer_reset(&text);
	keeper_describe_death(&text, KEEPER_NO_STATUS, 11);
	assert_string_equal(buffer_cstr(&text), "signal 11 (Segmentation fault)");
	buffer_reset(&text);
	keeper_describe_death(&text, KEEPER_NO_STATUS, 0);
	assert_non_null(strstr(buffer_cstr(&text), "nobody waited for it"));
	buffer_free(&text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_type_has_one_direction),
		cmocka_unit_test(test_unknown_types_are_refused),
		cmocka_unit_test(test_setup_survives_the_way),
		cmocka_unit_test(test_a_bad_setup_is_refused),
		cmocka_unit_test(test_lengths_are_checked),
		cmocka_unit_test(test_items),
		cmocka_unit_test(test_a_takeover_is_checked),
		cmocka_unit_test(test_the_end_of_a_takeover_survives_the_way),
		cmocka_unit_test(test_names_of_takeovers),
		cmocka_unit_test(test_the_name_of_a_crash_point_ends),
		cmocka_unit_test(test_causes_of_death),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

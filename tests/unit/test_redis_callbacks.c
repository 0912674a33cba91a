/* SPDX-License-Identifier: ISC */
/*
 * Callbacks that call again, change the server or destroy the pool: all of it is
 * allowed, and every call is still answered exactly once.
 */
#include <stdlib.h>
#include <string.h>

#include "keepsock/log.h"
#include "redis_calls.h"
#include "redis_wait.h"

/* -- callbacks that act -------------------------------------------------- */

static void test_destroy_answers_everything(void **state)
{
	struct fixture *f = *state;

	create_ready_pool(f);
	start_calls(f, MANY);
	redis_pool_destroy(f->pool);
	f->pool = NULL;
	assert_answered_once(f, MANY);
	assert_int_equal(count_code(f, REDIS_RESULT_UNAVAILABLE), MANY);
	event_base_loop(f->base, EVLOOP_NONBLOCK);
	assert_answered_once(f, MANY);
}

static void destroy_on_answer(void *ctx, const struct redis_count_result *result)
{
	struct call *call = ctx;
	struct fixture *f = call->fixture;

	on_answer(ctx, result);
	redis_pool_destroy(f->pool);
	f->pool = NULL;
	/* All others have been answered by now. */
	assert_int_equal(count_answers(f), MANY);
}

static void test_destroy_from_callback(void **state)
{
	struct fixture *f = *state;

	create_ready_pool(f);
	start_calls(f, MANY / 2);
	start_call_then(f, &f->calls[MANY / 2], 0, destroy_on_answer);
	for (unsigned i = MANY / 2 + 1; i < MANY; i++)
		start_call(f, &f->calls[i], i);
	WAIT_FOR(f->base, f->pool == NULL);
	assert_answered_once(f, MANY);
	assert_int_equal(f->calls[MANY / 2].code, REDIS_RESULT_OK);
}

static void test_destroy_from_failing_callback(void **state)
{
	struct fixture *f = *state;

	redis_server_kill(f->server);
	create_pool(f);
	memset(f->calls, 0, sizeof(f->calls));
	start_call_then(f, &f->calls[0], 0, destroy_on_answer);
	for (unsigned i = 1; i < MANY; i++)
		start_call(f, &f->calls[i], i);
	WAIT_FOR(f->base, f->pool == NULL);
	assert_answered_once(f, MANY);
	assert_int_equal(count_code(f, REDIS_RESULT_UNAVAILABLE), MANY);
}

static void again_on_answer(void *ctx, const struct redis_count_result *result)
{
	struct call *call = ctx;
	struct fixture *f = call->fixture;

	on_answer(ctx, result);
	if (f->again_left > 0) {
		f->again_left--;
		start_call_then(f, call, 0, again_on_answer);
	}
}

static void test_call_from_callback(void **state)
{
	struct fixture *f = *state;

	create_ready_pool(f);
	f->again_left = 50;
	start_call_then(f, &f->calls[0], 0, again_on_answer);
	WAIT_FOR(f->base, f->calls[0].answers == 51);
	assert_int_equal(f->calls[0].code, REDIS_RESULT_OK);
	assert_false(f->calls[0].answered_inside);
	/* While Redis is away, and while the pool is being destroyed. */
	redis_server_kill(f->server);
	WAIT_FOR(f->base, !f->available);
	f->again_left = 50;
	start_call_then(f, &f->calls[1], 0, again_on_answer);
	event_base_loop(f->base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	assert_true(f->calls[1].answers <= 2); /* a turn of the loop each */
	WAIT_FOR(f->base, f->calls[1].answers == 51);
	f->again_left = 50;
	start_call_then(f, &f->calls[2], 0, again_on_answer);
	redis_pool_destroy(f->pool);
	f->pool = NULL;
	assert_int_equal(f->calls[2].answers, 51);
}

static void switch_on_answer(void *ctx, const struct redis_count_result *result)
{
	struct call *call = ctx;

	on_answer(ctx, result);
	redis_pool_set_endpoint(call->fixture->pool, &call->fixture->endpoint);
}

static void test_set_endpoint_from_callback(void **state)
{
	struct fixture *f = *state;

	create_ready_pool(f);
	start_call_then(f, &f->calls[0], 0, switch_on_answer);
	for (unsigned i = 1; i < MANY; i++)
		start_call(f, &f->calls[i], 0);
	WAIT_FOR(f->base, count_answers(f) == MANY);
	assert_answered_once(f, MANY);
	assert_int_equal(f->calls[0].code, REDIS_RESULT_OK);
	assert_int_equal(f->calls[MANY - 1].code, REDIS_RESULT_UNAVAILABLE);
	wait_until_working(f);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_destroy_answers_everything),    TEST(test_destroy_from_callback),
		TEST(test_destroy_from_failing_callback), TEST(test_call_from_callback),
		TEST(test_set_endpoint_from_callback),
	};

	/* The errors that are tested for are not news. */
	if (log_set_target("file:/dev/null") != 0)
		return 1;
	return cmocka_run_group_tests_name("redis_callbacks", tests, NULL, NULL);
}

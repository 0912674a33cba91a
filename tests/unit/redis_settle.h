/* SPDX-License-Identifier: ISC */
/*
 * Settles the run of Redis that a pool is on, as its only worker would, so that
 * calls that concern channels are answered.
 */
#ifndef KEEPSOCK_TESTS_REDIS_SETTLE_H
#define KEEPSOCK_TESTS_REDIS_SETTLE_H

#include "keepsock/redis_continuity.h"
#include "redis_wait.h"

struct settle_answer {
	unsigned answers;
	enum redis_result code;
	enum redis_continuity_state state;
};

static inline void settle_on_answer(void *ctx, const struct redis_continuity_result *result)
{
	struct settle_answer *answer = ctx;

	answer->answers++;
	answer->code = result->outcome.code;
	answer->state = result->state;
}

static inline void settle_run(struct event_base *base, struct redis_pool *pool)
{
	const struct redis_continuity report = {.worker = SLICE("a.0.00c0ffee")};
	struct settle_answer answer = {0};

	redis_continuity(pool, 0, &report, settle_on_answer, &answer);
	WAIT_FOR(base, answer.answers == 1);
	assert_int_equal(answer.code, REDIS_RESULT_OK);
	assert_int_equal(answer.state, REDIS_CONTINUITY_KEPT);
}

#endif

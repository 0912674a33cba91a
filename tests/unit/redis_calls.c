/* SPDX-License-Identifier: ISC */
/*
 * What the tests of command connections share, see redis_calls.h.
 */
#include "redis_calls.h"

#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "redis_wait.h"

static int setup_server(void **state, const char *password)
{
	struct fixture *f = xcalloc(1, sizeof(*f));

	f->base = event_base_new();
	f->server = redis_server_start(password);
	f->endpoint = (struct redis_endpoint){
		.host = "127.0.0.1", .port = redis_server_port(f->server), .password = password};
	*state = f;
	return f->base ? 0 : -1;
}

int setup(void **state)
{
	return setup_server(state, NULL);
}

int setup_with_password(void **state)
{
	return setup_server(state, "correct-horse");
}

int teardown(void **state)
{
	struct fixture *f = *state;

	redis_pool_destroy(f->pool);
	/* A last turn for what libevent's resolver still has to give back. */
	event_base_loop(f->base, EVLOOP_NONBLOCK);
	event_base_free(f->base);
	redis_server_free(f->server);
	free(f);
	return 0;
}

void on_state(void *ctx, bool available)
{
	struct fixture *f = ctx;

	f->available = available;
	f->state_changes++;
	assert_true(redis_pool_available(f->pool) == available);
}

void create_pool(struct fixture *f)
{
	f->pool = redis_pool_create(f->base, &f->endpoint, &f->options, on_state, f);
}

void create_ready_pool(struct fixture *f)
{
	unsigned size = f->options.size ? f->options.size : 2;
	struct redis_pool_stats stats = {0};

	create_pool(f);
	WAIT_FOR(f->base, (redis_pool_stats(f->pool, &stats), stats.connected == size));
	/* State changes are told a turn later. */
	WAIT_FOR(f->base, f->available);
}

void on_answer(void *ctx, const struct redis_count_result *result)
{
	struct call *call = ctx;

	call->answers++;
	call->code = result->outcome.code;
	call->answered_inside |= call->inside;
	assert_non_null(result->outcome.error);
}

void start_call_then(struct fixture *f, struct call *call, uint64_t affinity,
		     redis_count_callback callback)
{
	struct slice client = SLICE("nobody");

	call->fixture = f;
	call->inside = true;
	redis_done_remove(f->pool, affinity, SLICE("keepsock.done.a.0"), &client, 1, callback,
			  call);
	call->inside = false;
}

void start_call(struct fixture *f, struct call *call, uint64_t affinity)
{
	start_call_then(f, call, affinity, on_answer);
}

void start_calls(struct fixture *f, unsigned n)
{
	memset(f->calls, 0, sizeof(f->calls));
	for (unsigned i = 0; i < n; i++)
		start_call(f, &f->calls[i], i);
}

unsigned count_answers(const struct fixture *f)
{
	unsigned answers = 0;

	for (size_t i = 0; i < MANY; i++)
		answers += f->calls[i].answers;
	return answers;
}

unsigned count_code(const struct fixture *f, enum redis_result code)
{
	unsigned n = 0;

	for (size_t i = 0; i < MANY; i++)
		n += f->calls[i].answers > 0 && f->calls[i].code == code;
	return n;
}

void assert_answered_once(const struct fixture *f, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(f->calls[i].answers, 1);
		assert_false(f->calls[i].answered_inside);
	}
}

struct redis_pool_stats stats_of(const struct fixture *f)
{
	struct redis_pool_stats stats;

	redis_pool_stats(f->pool, &stats);
	return stats;
}

/* Retries until a call works: how a caller sees Redis come back. */
void wait_until_working(struct fixture *f)
{
	struct call call = {.code = REDIS_RESULT_ERROR};

	WAIT_FOR(f->base, f->available);
	do {
		call.answers = 0;
		start_call(f, &call, 0);
		WAIT_FOR(f->base, call.answers == 1);
	} while (call.code != REDIS_RESULT_OK);
}

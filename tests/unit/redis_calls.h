/* SPDX-License-Identifier: ISC */
/*
 * What the tests of command connections share: a server, a pool made when the
 * test wants it, and many calls of which each remembers how it was answered.
 */
#ifndef KEEPSOCK_TESTS_REDIS_CALLS_H
#define KEEPSOCK_TESTS_REDIS_CALLS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <event2/event.h>

#include "keepsock/redis_scripts.h"
#include "redis_server.h"

#define MANY 300

/* One call and what came of it. */
struct call {
	unsigned answers;
	enum redis_result code;
	bool inside; /* the call that makes it has not returned */
	bool answered_inside;
	struct fixture *fixture;
};

struct fixture {
	struct event_base *base;
	struct redis_server *server;
	struct redis_endpoint endpoint;
	struct redis_pool_options options;
	struct redis_pool *pool;
	bool available;
	unsigned state_changes;
	struct call calls[MANY];
	unsigned again_left; /* calls to make from callbacks */
};

int setup(void **state);
int setup_with_password(void **state);
int teardown(void **state);

void on_state(void *ctx, bool available);
void create_pool(struct fixture *f);
/* Waits until all connections are there. */
void create_ready_pool(struct fixture *f);

void on_answer(void *ctx, const struct redis_count_result *result);
void start_call_then(struct fixture *f, struct call *call, uint64_t affinity,
		     redis_count_callback callback);
void start_call(struct fixture *f, struct call *call, uint64_t affinity);
/* The first n of f->calls, after all were forgotten. */
void start_calls(struct fixture *f, unsigned n);

unsigned count_answers(const struct fixture *f);
unsigned count_code(const struct fixture *f, enum redis_result code);
/* The first n: once, and never from inside the call. */
void assert_answered_once(const struct fixture *f, unsigned n);
struct redis_pool_stats stats_of(const struct fixture *f);
/* Retries until a call works: how a caller sees Redis come back. */
void wait_until_working(struct fixture *f);

#endif

/* SPDX-License-Identifier: ISC */
/*
 * The lease where Sentinels say which server is the master: a renewal counts only
 * once a majority of them, asked after it, names the server that granted it. The
 * server is a real one, the Sentinels are played.
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
#include "sentinel_peer.h"
#include "supervisor/lease.h"

#define SENTINELS 3

struct fixture {
	struct event_base *base;
	struct redis_server *redis;
	struct sentinel_peers all;
	struct sentinel_peer sentinels[SENTINELS];
	struct settings settings;
	struct lease *lease;
};

static void on_change(void *ctx)
{
	(void)ctx;
}

static int set_up(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));
	struct buffer error = {0};
	char *text;

	log_set_level(LOG_LEVEL_ERROR);
	f->base = f->all.base = event_base_new();
	f->redis = redis_server_start(NULL);
	for (size_t i = 0; i < SENTINELS; i++) {
		sentinel_peer_start(&f->all, &f->sentinels[i]);
		f->sentinels[i].master = redis_server_port(f->redis);
		f->sentinels[i].epoch = 1;
	}
	text = xasprintf("redis: { server = \"sentinel://127.0.0.1:%u,127.0.0.1:%u,127.0.0.1:%u/"
			 "m\"; };\ncluster: { lease_ttl = \"4s\"; lease_renew = 50; };",
			 f->sentinels[0].port, f->sentinels[1].port, f->sentinels[2].port);
	if (settings_parse(text, "k.conf", &f->settings, &error) < 0)
		fail_msg("%s", buffer_cstr(&error));
	f->lease = lease_create(f->base, &f->settings, on_change, NULL, &error);
	assert_non_null(f->lease);
	buffer_free(&error);
	free(text);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	lease_free(f->lease);
	settings_free(&f->settings);
	sentinel_peers_end(&f->all);
	for (size_t i = 0; i < SENTINELS; i++)
		sentinel_peer_stop(&f->sentinels[i]);
	event_base_loop(f->base, EVLOOP_NONBLOCK);
	redis_server_free(f->redis);
	event_base_free(f->base);
	free(f);
	return 0;
}

static struct lease_view view(const struct fixture *f)
{
	struct lease_view v;

	lease_get_view(f->lease, &v);
	return v;
}

static bool holds(const struct fixture *f)
{
	return clock_boottime_ms() < view(f).held_until_ms;
}

/* It is granted by the server at least; what the Sentinels say of it is another matter. */
static void acquire(struct fixture *f)
{
	/* An answer that comes too late is none. */
	while (!view(f).holding) {
		bool asked = false;

		WAIT_FOR(f->base, asked || (asked = view(f).free && lease_acquire(f->lease, 0)));
		WAIT_FOR(f->base, !view(f).acquiring);
	}
}

/* The server has renewed it that often more. */
static void wait_for_renewals(struct fixture *f, unsigned count)
{
	while (count-- > 0) {
		uint64_t seen = view(f).seen_ms;

		WAIT_FOR(f->base, view(f).seen_ms > seen);
	}
}

/* Each Sentinel has been asked since, and what it had said before has been heard. */
static void wait_for_questions(struct fixture *f)
{
	unsigned before[SENTINELS];

	for (size_t i = 0; i < SENTINELS; i++)
		before[i] = f->sentinels[i].asked;
	for (size_t i = 0; i < SENTINELS; i++)
		WAIT_FOR(f->base, f->sentinels[i].asked > before[i]);
	wait_for_renewals(f, 2);
}

/* However often the server renews it. */
static void assert_not_prolonged(struct fixture *f)
{
	uint64_t until = view(f).held_until_ms;

	wait_for_renewals(f, 3);
	assert_int_equal(view(f).held_until_ms, until);
	WAIT_FOR(f->base, !holds(f));
	assert_true(view(f).holding && !view(f).fenced);
	assert_false(view(f).connected);
}

static void test_it_is_held_with_a_majority(void **state)
{
	struct fixture *f = *state;
	uint64_t until;

	acquire(f);
	WAIT_FOR(f->base, holds(f));
	f->sentinels[0].master = 0;
	wait_for_questions(f);
	/* Two of three. */
	until = view(f).held_until_ms;
	WAIT_FOR(f->base, view(f).held_until_ms > until);
	assert_true(view(f).held_until_ms <= clock_boottime_ms() + 3000);
}

static void test_a_grant_without_their_word_is_none(void **state)
{
	struct fixture *f = *state;

	WAIT_FOR(f->base, view(f).connected && view(f).free);
	for (size_t i = 0; i < SENTINELS; i++)
		f->sentinels[i].slow = true;
	acquire(f);
	/* Before it they all had named the server; that does not count. */
	assert_int_equal(view(f).held_until_ms, 0);
	for (size_t i = 0; i < SENTINELS; i++)
		f->sentinels[i].slow = false;
	WAIT_FOR(f->base, holds(f));
}

static void test_silence_prolongs_nothing(void **state)
{
	struct fixture *f = *state;

	acquire(f);
	WAIT_FOR(f->base, holds(f));
	for (size_t i = 1; i < SENTINELS; i++)
		f->sentinels[i].slow = true;
	for (size_t i = 1; i < SENTINELS; i++)
		WAIT_FOR(f->base, f->sentinels[i].owed > 0);
	wait_for_renewals(f, 2);
	assert_not_prolonged(f);
	for (size_t i = 1; i < SENTINELS; i++)
		f->sentinels[i].slow = false;
	WAIT_FOR(f->base, holds(f));
}

static void test_a_minority_prolongs_nothing(void **state)
{
	struct fixture *f = *state;

	acquire(f);
	WAIT_FOR(f->base, holds(f));
	f->sentinels[0].master = f->sentinels[1].master = 0;
	wait_for_questions(f);
	assert_not_prolonged(f);
	f->sentinels[1].master = redis_server_port(f->redis);
	WAIT_FOR(f->base, holds(f));
}

int main(void)
{
#define WITH_ALL(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		WITH_ALL(test_it_is_held_with_a_majority),
		WITH_ALL(test_a_grant_without_their_word_is_none),
		WITH_ALL(test_silence_prolongs_nothing),
		WITH_ALL(test_a_minority_prolongs_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

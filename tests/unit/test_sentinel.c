/* SPDX-License-Identifier: ISC */
/*
 * Following a master whose Sentinels are played by the test: whom it believes
 * when they disagree, that nobody's word is enough for a server that is no
 * master, and that peers which are no Sentinels do no harm.
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
#include "keepsock/log.h"
#include "keepsock/sentinel.h"
#include "keepsock/settings.h"
#include "redis_wait.h"
#include "sentinel_peer.h"

#define SENTINELS 3
#define SERVERS   2 /* the last peers */
#define PEERS     (SENTINELS + SERVERS)

struct fixture {
	struct event_base *base;
	struct sentinel_peers all;
	struct sentinel_peer peers[PEERS];
	struct settings_host_port places[SENTINELS];
	struct sentinel_options options;
	struct sentinel_watch *watch;
	unsigned changes;
	uint16_t master; /* what the watch told last */
};

/* -- the fixture --------------------------------------------------------- */

/* All Sentinels name the first server. */
static int setup(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));

	f->base = f->all.base = event_base_new();
	for (size_t i = 0; i < PEERS; i++)
		sentinel_peer_start(&f->all, &f->peers[i]);
	f->peers[SENTINELS].role = f->peers[SENTINELS + 1].role = "master";
	for (size_t i = 0; i < SENTINELS; i++) {
		f->peers[i].master = f->peers[SENTINELS].port;
		f->peers[i].epoch = 5;
		f->places[i] = (struct settings_host_port){(char *)"127.0.0.1", f->peers[i].port};
	}
	f->options = (struct sentinel_options){
		.master_name = "m",
		.sentinels = f->places,
		.sentinel_count = SENTINELS,
		.sentinel_password = "",
		.user = "",
		.password = "",
		.timeout_ms = 2000,
	};
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	sentinel_watch_free(f->watch);
	sentinel_peers_end(&f->all);
	for (size_t i = 0; i < PEERS; i++)
		sentinel_peer_stop(&f->peers[i]);
	event_base_loop(f->base, EVLOOP_NONBLOCK);
	event_base_free(f->base);
	free(f);
	return 0;
}

static void on_master(void *ctx, const struct sentinel_answer *master)
{
	struct fixture *f = ctx;

	assert_string_equal(master->host, "127.0.0.1");
	f->changes++;
	f->master = master->port;
}

static void watch(struct fixture *f)
{
	f->watch = sentinel_watch_create(f->base, &f->options, on_master, f);
}

static void watch_until_found(struct fixture *f)
{
	watch(f);
	WAIT_FOR(f->base, f->changes == 1);
	assert_int_equal(f->master, f->peers[SENTINELS].port);
}

static const char *error_of(const struct fixture *f, size_t sentinel)
{
	struct sentinel_view view;

	assert_true(sentinel_watch_view(f->watch, sentinel, &view));
	return view.error;
}

static bool is_heard(const struct fixture *f, size_t sentinel)
{
	struct sentinel_view view;

	assert_true(sentinel_watch_view(f->watch, sentinel, &view));
	return view.heard;
}

/* Each Sentinel has been asked so often more. */
static void wait_for_rounds(struct fixture *f, unsigned rounds)
{
	unsigned before[SENTINELS];

	for (size_t i = 0; i < SENTINELS; i++)
		before[i] = f->peers[i].asked;
	for (size_t i = 0; i < SENTINELS; i++)
		WAIT_FOR(f->base, f->peers[i].asked >= before[i] + rounds);
}

/* -- whom it believes ---------------------------------------------------- */

static void test_the_named_master_is_found_and_told_once(void **state)
{
	struct fixture *f = *state;
	struct sentinel_view view;

	watch(f);
	assert_string_equal(sentinel_watch_master(f->watch)->host, "");
	WAIT_FOR(f->base, f->changes == 1);
	for (size_t i = 0; i < SENTINELS; i++)
		WAIT_FOR(f->base, is_heard(f, i));
	wait_for_rounds(f, 2);
	assert_int_equal(f->changes, 1);
	assert_int_equal(sentinel_watch_master(f->watch)->port, f->peers[SENTINELS].port);
	assert_string_equal(sentinel_watch_name(f->watch), "m");
	assert_false(sentinel_watch_view(f->watch, SENTINELS, &view));
	for (size_t i = 0; i < SENTINELS; i++)
		assert_string_equal(error_of(f, i), "");
}

static void test_the_newest_configuration_counts(void **state)
{
	struct fixture *f = *state;

	/* Two have not heard of the change yet. */
	f->peers[0].master = f->peers[SENTINELS + 1].port;
	f->peers[0].epoch = 6;
	watch(f);
	WAIT_FOR(f->base, f->master == f->peers[SENTINELS + 1].port);
	wait_for_rounds(f, 2);
	assert_int_equal(f->master, f->peers[SENTINELS + 1].port);
}

static void test_one_that_was_cut_off_takes_nobody_back(void **state)
{
	struct fixture *f = *state;

	watch_until_found(f);
	/* Only it is left, and it knows an older master. */
	f->peers[0].master = f->peers[SENTINELS + 1].port;
	f->peers[0].epoch = 4;
	f->peers[1].master = f->peers[2].master = 0;
	wait_for_rounds(f, 3);
	assert_int_equal(f->changes, 1);
	/* When most say so, they were set up anew. */
	f->peers[1].master = f->peers[SENTINELS + 1].port;
	f->peers[1].epoch = 0;
	WAIT_FOR(f->base, f->changes == 2);
	assert_int_equal(f->master, f->peers[SENTINELS + 1].port);
}

static void test_a_server_that_is_no_master_is_not_used(void **state)
{
	struct fixture *f = *state;

	f->peers[SENTINELS].role = "slave";
	watch(f);
	WAIT_FOR(f->base, strstr(sentinel_watch_error(f->watch), "not a master") != NULL);
	wait_for_rounds(f, 2);
	assert_int_equal(f->changes, 0);
	f->peers[SENTINELS].role = "master";
	WAIT_FOR(f->base, f->changes == 1);
	assert_string_equal(sentinel_watch_error(f->watch), "");
}

/* Of others, of our own, and such as no Sentinel would make. */
static void test_announcements(void **state)
{
	static const char *const texts[] = {"other 127.0.0.1 1 127.0.0.1 2", "m", "", "mm 1 2 3 4",
					    "m 127.0.0.1 1 127.0.0.1 2"};
	struct fixture *f = *state;
	unsigned asked;

	watch_until_found(f);
	WAIT_FOR(f->base, f->peers[0].subscriber != NULL && is_heard(f, 0));
	for (size_t i = 0; i < SENTINELS; i++) {
		f->peers[i].master = f->peers[SENTINELS + 1].port;
		f->peers[i].epoch = 6;
	}
	asked = f->peers[1].asked;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		const char *words[] = {"message", "+switch-master", texts[i]};

		sentinel_peer_say_words(f->peers[0].subscriber, words, 3);
	}
	sentinel_peer_say(f->peers[0].subscriber, "*3\r\n$7\r\nmessage\r\n$1\r\nx\r\n:1\r\n");
	WAIT_FOR(f->base, f->changes == 2 && f->peers[1].asked > asked);
	assert_int_equal(f->master, f->peers[SENTINELS + 1].port);
	assert_true(is_heard(f, 0));
	/* An answer to no question ends the connection; the next one hears again. */
	sentinel_peer_say(f->peers[0].subscriber, ":1\r\n");
	WAIT_FOR(f->base, !is_heard(f, 0));
	WAIT_FOR(f->base, is_heard(f, 0));
}

static void test_passwords(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < SENTINELS; i++)
		f->peers[i].password = "of-sentinels";
	f->peers[2].password = "another";
	f->peers[SENTINELS].password = "of-servers";
	f->options.sentinel_password = "of-sentinels";
	f->options.password = "of-servers";
	watch_until_found(f);
	WAIT_FOR(f->base, strstr(error_of(f, 2), "AUTH: WRONGPASS") != NULL);
}

static void test_a_server_that_refuses_the_password_is_not_used(void **state)
{
	struct fixture *f = *state;

	f->peers[SENTINELS].password = "right";
	f->options.password = "wrong";
	watch(f);
	WAIT_FOR(f->base, strstr(sentinel_watch_error(f->watch), "AUTH: WRONGPASS") != NULL);
	assert_int_equal(f->changes, 0);
	f->peers[SENTINELS].password = "wrong";
	WAIT_FOR(f->base, f->changes == 1);
}

/* -- peers that are no Sentinels ----------------------------------------- */

static void test_unusable_answers_harm_nobody(void **state)
{
	static const char *const answers[] = {
		"HTTP/1.1 400 Bad Request\r\n\r\n",
		"+OK\r\n",
		":1\r\n",
		"*0\r\n",
		"*-1\r\n",
		"$-1\r\n",
		"*1\r\n$2\r\nip\r\n",
		"*2\r\n$2\r\nip\r\n:5\r\n",
		"*6\r\n$2\r\nip\r\n$1\r\nh\r\n$4\r\nport\r\n$5\r\n65536\r\n"
		"$12\r\nconfig-epoch\r\n$1\r\n9\r\n",
		"*6\r\n$2\r\nip\r\n$1\r\nh\r\n$4\r\nport\r\n$1\r\n0\r\n"
		"$12\r\nconfig-epoch\r\n$1\r\n9\r\n",
		"*6\r\n$2\r\nip\r\n$0\r\n\r\n$4\r\nport\r\n$1\r\n1\r\n"
		"$12\r\nconfig-epoch\r\n$1\r\n9\r\n",
		"*6\r\n$2\r\nip\r\n$1\r\nh\r\n$4\r\nport\r\n$2\r\n+1\r\n"
		"$12\r\nconfig-epoch\r\n$1\r\n9\r\n",
		"*6\r\n$2\r\nip\r\n$1\r\nh\r\n$4\r\nport\r\n$1\r\n1\r\n"
		"$12\r\nconfig-epoch\r\n$20\r\n99999999999999999999\r\n",
		"*4\r\n$2\r\nip\r\n$1\r\nh\r\n$4\r\nport\r\n$1\r\n1\r\n",
		"+a\r\n+b\r\n+c\r\n",
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		f->peers[0].raw = answers[i];
		f->changes = 0;
		watch_until_found(f);
		WAIT_FOR(f->base, error_of(f, 0)[0] != '\0');
		sentinel_watch_free(f->watch);
		f->watch = NULL;
	}
}

/* An answer that never ends is cut off. */
static void test_an_endless_answer(void **state)
{
	struct fixture *f = *state;
	size_t len = 1024 * 1024;
	char *endless = xmalloc(len);

	memset(endless, 'x', len);
	memcpy(endless, "$9999999\r\n", 10);
	endless[len - 1] = '\0';
	f->peers[0].raw = endless;
	watch_until_found(f);
	WAIT_FOR(f->base, strstr(error_of(f, 0), "too long") != NULL);
	sentinel_watch_free(f->watch);
	f->watch = NULL;
	free(endless);
	f->peers[0].raw = NULL;
}

static void test_dead_silent_and_unknown_ones(void **state)
{
	struct fixture *f = *state;

	sentinel_peer_stop(&f->peers[0]);
	f->peers[1].raw = "";
	f->options.timeout_ms = 200;
	watch_until_found(f);
	WAIT_FOR(f->base, strstr(error_of(f, 0), "connect") != NULL);
	WAIT_FOR(f->base, strstr(error_of(f, 1), "in time") != NULL);
	assert_string_equal(error_of(f, 2), "");
	/* The last one forgets its master: the one in use stays. */
	f->peers[2].master = 0;
	WAIT_FOR(f->base, strstr(error_of(f, 2), "No such master") != NULL);
	assert_int_equal(f->changes, 1);
	assert_int_equal(sentinel_watch_master(f->watch)->port, f->peers[SENTINELS].port);
}

static void test_a_name_that_does_not_resolve(void **state)
{
	struct fixture *f = *state;

	f->places[0].host = (char *)"no-such-host.invalid";
	watch_until_found(f);
	WAIT_FOR(f->base, strstr(error_of(f, 0), "resolve") != NULL ||
				  strstr(error_of(f, 0), "in time") != NULL);
}

/* -- votes, after each renewal of a lease -------------------------------- */

static size_t votes(const struct fixture *f)
{
	return sentinel_watch_votes(f->watch, "127.0.0.1", f->peers[SENTINELS].port);
}

static void note_answer(void *ctx)
{
	unsigned *answers = ctx;

	(*answers)++;
}

static void test_votes_are_of_this_round(void **state)
{
	struct fixture *f = *state;
	unsigned answers = 0;

	watch_until_found(f);
	wait_for_rounds(f, 1);
	sentinel_watch_on_answer(f->watch, note_answer, &answers);
	assert_int_equal(sentinel_watch_count(f->watch), SENTINELS);
	sentinel_watch_ask(f->watch);
	/* What they said before is no answer to this. */
	assert_int_equal(votes(f), 0);
	WAIT_FOR(f->base, votes(f) == SENTINELS);
	assert_true(answers >= SENTINELS);
	assert_int_equal(sentinel_watch_votes(f->watch, "127.0.0.1", f->peers[SENTINELS + 1].port),
			 0);
	assert_int_equal(sentinel_watch_votes(f->watch, "127.0.0.2", f->peers[SENTINELS].port), 0);
}

static void test_who_disagrees_or_is_gone_does_not_vote(void **state)
{
	struct fixture *f = *state;

	watch_until_found(f);
	f->peers[0].master = f->peers[SENTINELS + 1].port;
	f->peers[0].epoch = 4;
	f->peers[1].slow = true;
	sentinel_watch_ask(f->watch);
	WAIT_FOR(f->base, f->peers[1].owed > 0 && votes(f) == 1);
	/* The minority that it is now never grows, however long it is waited for. */
	wait_for_rounds(f, 1);
	assert_int_equal(votes(f), 1);
}

/* In every state it can be in. */
static void test_freed_at_any_time(void **state)
{
	struct fixture *f = *state;

	f->places[0].host = (char *)"no-such-host.invalid";
	for (unsigned turns = 0; turns < 25; turns++) {
		watch(f);
		for (unsigned i = 0; i < turns; i++)
			event_base_loop(f->base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
		sentinel_watch_free(f->watch);
		f->watch = NULL;
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_the_named_master_is_found_and_told_once),
		TEST(test_the_newest_configuration_counts),
		TEST(test_one_that_was_cut_off_takes_nobody_back),
		TEST(test_a_server_that_is_no_master_is_not_used),
		TEST(test_announcements),
		TEST(test_passwords),
		TEST(test_a_server_that_refuses_the_password_is_not_used),
		TEST(test_unusable_answers_harm_nobody),
		TEST(test_an_endless_answer),
		TEST(test_dead_silent_and_unknown_ones),
		TEST(test_a_name_that_does_not_resolve),
		TEST(test_votes_are_of_this_round),
		TEST(test_who_disagrees_or_is_gone_does_not_vote),
		TEST(test_freed_at_any_time),
	};

	/* The errors that are tested for are not news. */
	if (log_set_target("file:/dev/null") != 0)
		return 1;
	return cmocka_run_group_tests_name("sentinel", tests, NULL, NULL);
}

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

#include <arpa/inet.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <netinet/in.h>

#include <cmocka.h>

#include "keepsock/alloc.h"
#include "keepsock/log.h"
#include "keepsock/sentinel.h"
#include "keepsock/settings.h"
#include "redis_wait.h"

#define SENTINELS 3
#define SERVERS   2 /* the last peers */
#define PEERS     (SENTINELS + SERVERS)

struct fixture;

/* A peer of the watch: what it answers to which command. */
struct peer {
	struct fixture *fixture;
	struct evconnlistener *listener;
	uint16_t port;
	const char *role;     /* a server: "master" or "slave" */
	const char *raw;      /* instead of all answers */
	uint16_t master;      /* a Sentinel: the port it names, 0 = it knows no such master */
	unsigned epoch;       /* ... with this */
	const char *password; /* wanted, or NULL */
	unsigned asked;       /* SENTINEL MASTER and ROLE, how often */
	bool slow;            /* a Sentinel: it owes its answers */
	unsigned owed;
	struct bufferevent *subscriber;
};

struct fixture {
	struct event_base *base;
	struct peer peers[PEERS];
	struct settings_host_port places[SENTINELS];
	struct sentinel_options options;
	struct sentinel_watch *watch;
	struct bufferevent *connections[256];
	unsigned n_connections;
	unsigned changes;
	uint16_t master; /* what the watch told last */
};

/* -- peers --------------------------------------------------------------- */

static void say(struct bufferevent *connection, const char *text)
{
	assert_int_equal(bufferevent_write(connection, text, strlen(text)), 0);
}

static void say_words(struct bufferevent *connection, const char *const *words, size_t n)
{
	struct evbuffer *out = bufferevent_get_output(connection);

	evbuffer_add_printf(out, "*%zu\r\n", n);
	for (size_t i = 0; i < n; i++)
		evbuffer_add_printf(out, "$%zu\r\n%s\r\n", strlen(words[i]), words[i]);
}

static void tell_master(struct peer *peer, struct bufferevent *connection)
{
	char port[16], epoch[16];
	const char *words[] = {"name", "m", "ip", "127.0.0.1", "port", port, "config-epoch", epoch};

	if (peer->master == 0) {
		say(connection, "-ERR No such master with that name\r\n");
		return;
	}
	snprintf(port, sizeof(port), "%u", peer->master);
	snprintf(epoch, sizeof(epoch), "%u", peer->epoch);
	say_words(connection, words, 8);
}

static void answer_sentinel(struct peer *peer, struct bufferevent *connection)
{
	peer->asked++;
	if (peer->slow) {
		peer->owed++;
	} else {
		tell_master(peer, connection);
	}
}

static void answer(struct peer *peer, struct bufferevent *connection, const char *command,
		   const char *argument)
{
	static const char *const pong[] = {"pong", ""};
	const char *role[] = {peer->role};

	if (peer->raw) {
		say(connection, peer->raw);
	} else if (strcmp(command, "AUTH") == 0) {
		bool right = peer->password && strcmp(argument, peer->password) == 0;

		say(connection, right ? "+OK\r\n" : "-WRONGPASS invalid\r\n");
	} else if (strcmp(command, "SENTINEL") == 0) {
		answer_sentinel(peer, connection);
	} else if (strcmp(command, "SUBSCRIBE") == 0) {
		peer->subscriber = connection;
		say(connection, "*3\r\n$9\r\nsubscribe\r\n$14\r\n+switch-master\r\n:1\r\n");
	} else if (strcmp(command, "PING") == 0) {
		say_words(connection, pong, 2);
	} else if (strcmp(command, "ROLE") == 0 && peer->role) {
		peer->asked++;
		say_words(connection, role, 1);
	} else {
		say(connection, "-ERR unknown command\r\n");
	}
}

/* "*n", then "$len" and the word, n times; every command here arrives whole. */
static void on_command(struct bufferevent *connection, void *ctx)
{
	struct evbuffer *in = bufferevent_get_input(connection);
	char *head;

	while ((head = evbuffer_readln(in, NULL, EVBUFFER_EOL_CRLF_STRICT))) {
		unsigned long n = strtoul(head + 1, NULL, 10);
		char words[2][64] = {"", ""};

		free(head);
		for (unsigned long i = 0; i < n; i++) {
			char *length = evbuffer_readln(in, NULL, EVBUFFER_EOL_CRLF_STRICT);
			char *word = evbuffer_readln(in, NULL, EVBUFFER_EOL_CRLF_STRICT);

			assert_non_null(word);
			if (i < 2)
				snprintf(words[i], sizeof(words[i]), "%s", word);
			free(length);
			free(word);
		}
		answer(ctx, connection, words[0], words[1]);
	}
}

static void on_end(struct bufferevent *connection, short what, void *ctx)
{
	struct peer *peer = ctx;

	(void)what;
	if (peer->subscriber == connection)
		peer->subscriber = NULL;
	bufferevent_disable(connection, EV_READ | EV_WRITE);
}

static void on_connection(struct evconnlistener *listener, evutil_socket_t fd,
			  struct sockaddr *address, int len, void *ctx)
{
	struct peer *peer = ctx;
	struct fixture *f = peer->fixture;
	struct bufferevent *connection = bufferevent_socket_new(f->base, fd, BEV_OPT_CLOSE_ON_FREE);

	(void)listener;
	(void)address;
	(void)len;
	assert_true(f->n_connections < sizeof(f->connections) / sizeof(f->connections[0]));
	f->connections[f->n_connections++] = connection;
	bufferevent_setcb(connection, on_command, NULL, on_end, peer);
	bufferevent_enable(connection, EV_READ | EV_WRITE);
}

static void start_peer(struct fixture *f, struct peer *peer)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(address);

	peer->fixture = f;
	peer->listener =
		evconnlistener_new_bind(f->base, on_connection, peer, LEV_OPT_CLOSE_ON_FREE, -1,
					(struct sockaddr *)&address, sizeof(address));
	assert_non_null(peer->listener);
	assert_int_equal(getsockname(evconnlistener_get_fd(peer->listener),
				     (struct sockaddr *)&address, &len),
			 0);
	peer->port = ntohs(address.sin_port);
}

static void stop_peer(struct peer *peer)
{
	if (peer->listener)
		evconnlistener_free(peer->listener);
	peer->listener = NULL;
}

/* -- the fixture --------------------------------------------------------- */

/* All Sentinels name the first server. */
static int setup(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));

	f->base = event_base_new();
	for (size_t i = 0; i < PEERS; i++)
		start_peer(f, &f->peers[i]);
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
	for (unsigned i = 0; i < f->n_connections; i++)
		bufferevent_free(f->connections[i]);
	for (size_t i = 0; i < PEERS; i++)
		stop_peer(&f->peers[i]);
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

		say_words(f->peers[0].subscriber, words, 3);
	}
	say(f->peers[0].subscriber, "*3\r\n$7\r\nmessage\r\n$1\r\nx\r\n:1\r\n");
	WAIT_FOR(f->base, f->changes == 2 && f->peers[1].asked > asked);
	assert_int_equal(f->master, f->peers[SENTINELS + 1].port);
	assert_true(is_heard(f, 0));
	/* An answer to no question ends the connection; the next one hears again. */
	say(f->peers[0].subscriber, ":1\r\n");
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

	stop_peer(&f->peers[0]);
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

/* SPDX-License-Identifier: ISC */
/*
 * What supervisors say to each other: as text and back, nonsense refused, over a
 * link that only who has the secret gets.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/log.h"
#include "keepsock/settings.h"
#include "redis_wait.h"
#include "supervisor/peers.h"

/* ---- the text ---- */

static const struct peer_beat full = {
	.state = HA_DEMOTING,
	.holds = true,
	.good = true,
	.sees = true,
	.claim = true,
	.epoch = 7,
	.known = UINT64_C(1) << 53,
	.priority = 255,
	.want = 3,
	.grant = 4,
	.heir = "b",
};

static void assert_same(const struct peer_beat *a, const struct peer_beat *b)
{
#define X(kind, member, key) assert_true(a->member == b->member);
	PEER_BEAT(X)
#undef X
	assert_string_equal(a->heir, b->heir);
}

static void test_beats_travel(void **state)
{
	static const struct peer_beat empty = {0};
	const struct peer_beat *const beats[] = {&full, &empty};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct buffer text = {0};
		char name[PEER_NAME_MAX + 1];
		struct peer_beat beat;

		peer_beat_encode(&text, "node-1", beats[i]);
		assert_int_equal(text.data[text.len - 1], '\n');
		assert_true(text.len < PEER_MESSAGE_MAX);
		assert_true(peer_beat_decode(text.data, text.len - 1, name, &beat));
		assert_string_equal(name, "node-1");
		assert_same(&beat, beats[i]);
		buffer_free(&text);
	}
}

/* Each member missing, of another type, out of bounds. */
static void test_nonsense_is_refused(void **state)
{
	static const char *const changes[][2] = {
		{"\"v\":1", "\"v\":2"},
		{"\"v\":1,", ""},
		{"\"node\":\"a\"", "\"node\":\"\""},
		{"\"node\":\"a\"", "\"node\":5"},
		{"\"node\":\"a\"", "\"node\":\"a\\u0000b\""},
		{"\"node\":\"a\"", "\"node\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\""},
		{"\"state\":\"demoting\"", "\"state\":\"king\""},
		{"\"state\":\"demoting\"", "\"state\":1"},
		{"\"holds\":true", "\"holds\":1"},
		{"\"epoch\":7", "\"epoch\":-1"},
		{"\"epoch\":7", "\"epoch\":7.5"},
		{"\"epoch\":7", "\"epoch\":9007199254740993"},
		{"\"epoch\":7,", ""},
		{"\"heir\":\"b\"", "\"heir\":null"},
		{"\"heir\":\"b\"", "\"heir\":\"b\",\"heir\":\"c\""},
		{"{", "["},
	};
	struct buffer good = {0};

	(void)state;
	peer_beat_encode(&good, "a", &full);
	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		const char *found = strstr(buffer_cstr(&good), changes[i][0]);
		struct buffer bad = {0};
		char name[PEER_NAME_MAX + 1];
		struct peer_beat beat;

		assert_non_null(found);
		buffer_append(&bad, good.data, (size_t)(found - good.data));
		buffer_append_str(&bad, changes[i][1]);
		buffer_append_str(&bad, found + strlen(changes[i][0]));
		if (peer_beat_decode(bad.data, bad.len - 1, name, &beat))
			fail_msg("accepted: %s", buffer_cstr(&bad));
		buffer_free(&bad);
	}
	buffer_free(&good);
}

/* ---- the link ---- */

struct side {
	struct settings settings;
	struct peers *peers;
	struct peer_beat says;
	unsigned heard;
	unsigned lost;
};

struct pair {
	struct event_base *base;
	char directory[64];
	uint16_t ports[2];
	struct side sides[2];
};

static void on_ready(void *ctx, size_t index)
{
	struct side *side = ctx;

	peers_send(side->peers, index, &side->says);
}

static void on_beat(void *ctx, size_t index)
{
	struct side *side = ctx;

	(void)index;
	side->heard++;
}

static void on_lost(void *ctx, size_t index)
{
	struct side *side = ctx;

	(void)index;
	side->lost++;
}

static const struct peers_callbacks callbacks = {on_ready, on_beat, on_lost};

static uint16_t free_port(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
	close(fd);
	return ntohs(address.sin_port);
}

static void write_secret(const char *path, const char *secret)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_true(fputs(secret, file) >= 0);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(chmod(path, 0600), 0);
}

static void open_side(struct pair *pair, int number, const char *secret, const char *peer_name)
{
	struct side *side = &pair->sides[number];
	struct buffer error = {0};
	char *text, *path = xasprintf("%s/secret%d", pair->directory, number);

	write_secret(path, secret);
	text = xasprintf(
		"node: { name = \"%s\"; }; redis: { server = \"redis://127.0.0.1\"; };\n"
		"cluster: { peers = [\"%s=127.0.0.1:%u\"]; peer_listen = \"127.0.0.1:%u\"; "
		"secret_file = \"%s\"; lease_renew = 100; };",
		number == 0 ? "a" : "b", peer_name, pair->ports[1 - number], pair->ports[number],
		path);
	if (settings_parse(text, "k.conf", &side->settings, &error) < 0)
		fail_msg("%s", buffer_cstr(&error));
	side->peers = peers_create(pair->base, &side->settings, &callbacks, side, &error);
	if (!side->peers)
		fail_msg("%s", buffer_cstr(&error));
	buffer_free(&error);
	free(text);
	assert_int_equal(unlink(path), 0);
	free(path);
}

static void close_side(struct side *side)
{
	peers_free(side->peers);
	settings_free(&side->settings);
	memset(side, 0, sizeof(*side));
}

static int set_up(void **state)
{
	struct pair *pair = xcalloc(1, sizeof(*pair));

	log_set_level(LOG_LEVEL_ERROR);
	pair->base = event_base_new();
	snprintf(pair->directory, sizeof(pair->directory), "/tmp/keepsock-peers-XXXXXX");
	assert_non_null(mkdtemp(pair->directory));
	pair->ports[0] = free_port();
	pair->ports[1] = free_port();
	*state = pair;
	return 0;
}

static int tear_down(void **state)
{
	struct pair *pair = *state;

	for (int i = 0; i < 2; i++) {
		if (pair->sides[i].peers)
			close_side(&pair->sides[i]);
	}
	event_base_free(pair->base);
	assert_int_equal(rmdir(pair->directory), 0);
	free(pair);
	return 0;
}

static struct peer_view view_of(const struct side *side)
{
	struct peer_view view;

	peers_get_view(side->peers, 0, &view);
	return view;
}

static void test_both_hear_each_other(void **state)
{
	struct pair *pair = *state;
	struct peer_view view;

	open_side(pair, 0, "one-secret\n", "b");
	open_side(pair, 1, "one-secret\n", "a");
	pair->sides[1].says = full;
	WAIT_FOR(pair->base, pair->sides[0].heard > 0 && pair->sides[1].heard > 0);
	assert_true(view_of(&pair->sides[0]).connected);
	view = view_of(&pair->sides[0]);
	assert_same(&view.beat, &full);
	/* Again and again, in both directions. */
	peers_send(pair->sides[0].peers, 0, &full);
	peers_send(pair->sides[0].peers, 0, &full);
	WAIT_FOR(pair->base, pair->sides[1].heard >= 3);
}

static void test_silence_ends_it_and_it_comes_back(void **state)
{
	struct pair *pair = *state;

	open_side(pair, 0, "one-secret\n", "b");
	open_side(pair, 1, "one-secret\n", "a");
	WAIT_FOR(pair->base, pair->sides[0].lost > 0);
	pair->sides[0].heard = 0;
	WAIT_FOR(pair->base, pair->sides[0].heard > 0);
}

static void test_an_end_is_noticed(void **state)
{
	struct pair *pair = *state;

	open_side(pair, 0, "one-secret\n", "b");
	open_side(pair, 1, "one-secret\n", "a");
	WAIT_FOR(pair->base, pair->sides[0].heard > 0);
	close_side(&pair->sides[1]);
	WAIT_FOR(pair->base, pair->sides[0].lost > 0);
	assert_false(view_of(&pair->sides[0]).connected);
	open_side(pair, 1, "one-secret\n", "a");
	pair->sides[0].heard = 0;
	WAIT_FOR(pair->base, pair->sides[0].heard > 0);
}

static void test_another_secret_gets_no_word_through(void **state)
{
	struct pair *pair = *state;

	open_side(pair, 0, "one-secret\n", "b");
	open_side(pair, 1, "another-secret\n", "a");
	WAIT_FOR(pair->base, strstr(view_of(&pair->sides[0]).error, "TLS") != NULL);
	assert_int_equal(pair->sides[0].heard + pair->sides[1].heard, 0);
}

static void test_a_name_that_is_not_expected_is_refused(void **state)
{
	struct pair *pair = *state;

	open_side(pair, 0, "one-secret\n", "b");
	/* The same secret, but it knows no "a". */
	open_side(pair, 1, "one-secret\n", "0");
	WAIT_FOR(pair->base, view_of(&pair->sides[0]).error[0] != '\0');
	assert_int_equal(pair->sides[0].heard + pair->sides[1].heard, 0);
}

/* Whoever has not the secret holds a place for a while, and no more. */
static void test_strangers_keep_nobody_out(void **state)
{
	struct pair *pair = *state;
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fds[8];

	open_side(pair, 1, "one-secret\n", "a");
	address.sin_port = htons(pair->ports[1]);
	for (size_t i = 0; i < 8; i++) {
		fds[i] = socket(AF_INET, SOCK_STREAM, 0);
		assert_int_equal(connect(fds[i], (struct sockaddr *)&address, sizeof(address)), 0);
		assert_int_equal(write(fds[i], "GET / HTTP/1.1\r\n\r\n", i % 2 ? 18 : 3),
				 i % 2 ? 18 : 3);
	}
	open_side(pair, 0, "one-secret\n", "b");
	WAIT_FOR(pair->base, pair->sides[1].heard > 0);
	for (size_t i = 0; i < 8; i++)
		close(fds[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_beats_travel),
		cmocka_unit_test(test_nonsense_is_refused),
		cmocka_unit_test_setup_teardown(test_both_hear_each_other, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_silence_ends_it_and_it_comes_back, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(test_an_end_is_noticed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_another_secret_gets_no_word_through, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(test_a_name_that_is_not_expected_is_refused, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(test_strangers_keep_nobody_out, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

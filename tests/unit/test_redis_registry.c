/* SPDX-License-Identifier: ISC */
/*
 * Sessions of workers and subscriptions of users, as a real redis-server keeps
 * them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "redis_fixture.h"

/* -- sessions ------------------------------------------------------------ */

static void write_sessions(struct fixture *f, const struct redis_session *sessions, size_t n)
{
	unsigned before = f->answer.count;

	redis_sessions_write(f->pool, 1, SLICE(WORKER), sessions, n, on_count, &f->answer);
	finish(f, before);
}

struct walk {
	unsigned answers;
	enum redis_result code;
	uint64_t cursor;
	unsigned pages;
	unsigned seen[2000];
	char last[64];
};

static void on_sessions(void *ctx, const struct redis_sessions_result *result)
{
	struct walk *w = ctx;

	w->answers++;
	w->code = result->outcome.code;
	w->cursor = result->cursor;
	w->pages++;
	for (size_t i = 0; i < result->n_sessions; i++) {
		char client[16];

		snprintf(client, sizeof(client), "%.*s", SLICE_ARG(result->sessions[i].client));
		w->seen[strtoul(client + 1, NULL, 10) % 2000]++;
		snprintf(w->last, sizeof(w->last), "%.*s", SLICE_ARG(result->sessions[i].json));
	}
}

/* From the beginning to the end. */
static void walk_sessions(struct fixture *f, struct walk *w)
{
	*w = (struct walk){0};
	do {
		unsigned before = w->answers;

		redis_sessions_read(f->pool, 1, SLICE(WORKER), w->cursor, on_sessions, w);
		WAIT_FOR(f->base, w->answers == before + 1);
		assert_int_equal(w->code, REDIS_RESULT_OK);
	} while (w->cursor != 0);
}

static void test_sessions(void **state)
{
	struct fixture *f = *state;
	struct redis_session sessions[] = {{SLICE("c1"), SLICE("{\"user\":\"ann\"}")},
					   {SLICE("c2"), SLICE("{}")},
					   {SLICE("c3"), SLICE("")}};
	struct walk *w = xcalloc(1, sizeof(*w));

	walk_sessions(f, w);
	assert_int_equal(w->pages, 1);
	assert_string_equal(w->last, "");
	/* Forgetting what was never there is nothing. */
	write_sessions(f, sessions, 3);
	assert_int_equal(f->answer.code, REDIS_RESULT_OK);
	assert_int_equal(f->answer.number, 2);
	assert_in_range(integer_of(f, "PTTL keepsock.sessions." WORKER), 1, HOUR_MS);
	walk_sessions(f, w);
	assert_int_equal(w->seen[1], 1);
	assert_int_equal(w->seen[2], 1);
	assert_int_equal(w->seen[3], 0);
	sessions[1].json = SLICE("");
	sessions[0].json = SLICE("{\"user\":\"bob\"}");
	write_sessions(f, sessions, 2);
	assert_int_equal(f->answer.number, 1);
	walk_sessions(f, w);
	assert_int_equal(w->seen[2], 0);
	assert_string_equal(w->last, "{\"user\":\"bob\"}");
	free(w);
	/* The last one takes the key with it. */
	sessions[0].json = SLICE("");
	write_sessions(f, sessions, 1);
	assert_int_equal(f->answer.number, 0);
	assert_int_equal(count_keys(f, "keepsock.sessions.*"), 0);
}

static void test_many_sessions(void **state)
{
	struct fixture *f = *state;
	struct redis_session *sessions = xcalloc(2000, sizeof(*sessions));
	char(*names)[16] = xcalloc(2000, sizeof(*names));
	struct walk *w = xcalloc(1, sizeof(*w));

	for (unsigned i = 0; i < 2000; i++) {
		snprintf(names[i], sizeof(names[i]), "c%u", i);
		sessions[i] = (struct redis_session){slice_str(names[i]), SLICE("{}")};
	}
	write_sessions(f, sessions, 1000);
	write_sessions(f, sessions + 1000, 1000);
	assert_int_equal(f->answer.number, 2000);
	walk_sessions(f, w);
	assert_true(w->pages > 1); /* never all at once */
	for (unsigned i = 0; i < 2000; i++)
		assert_true(w->seen[i] >= 1);
	write_sessions(f, sessions, REDIS_BATCH_MAX + 1);
	assert_int_equal(f->answer.code, REDIS_RESULT_ERROR);
	write_sessions(f, sessions, 0);
	assert_int_equal(f->answer.code, REDIS_RESULT_ERROR);
	free(w);
	free(names);
	free(sessions);
}

/* -- what a worker has there --------------------------------------------- */

struct names {
	struct walk walk;
	char text[200]; /* of the last page, a space behind each */
};

static void on_names(void *ctx, const struct redis_names_result *result)
{
	struct names *n = ctx;

	n->walk.answers++;
	n->walk.code = result->outcome.code;
	n->walk.cursor = result->cursor;
	n->text[0] = '\0';
	for (size_t i = 0; i < result->n_names; i++) {
		size_t length = strlen(n->text);

		n->walk.seen[strtoul(result->names[i].data + 1, NULL, 10) % 2000]++;
		snprintf(n->text + length, sizeof(n->text) - length, "%.*s ",
			 SLICE_ARG(result->names[i]));
	}
}

static void read_names(struct fixture *f, struct names *n, enum redis_worker_key key)
{
	unsigned before = n->walk.answers;

	redis_names_read(f->pool, 1, SLICE(WORKER), key, n->walk.cursor, on_names, n);
	WAIT_FOR(f->base, n->walk.answers == before + 1);
}

static void test_names(void **state)
{
	struct fixture *f = *state;
	struct names *n = xcalloc(1, sizeof(*n));

	read_names(f, n, REDIS_WORKER_MEMBERS);
	assert_int_equal(n->walk.code, REDIS_RESULT_OK);
	assert_string_equal(n->text, "");
	redis_server_do(f->server, "SADD keepsock.members." WORKER " c1");
	redis_server_do(f->server, "HSET keepsock.done." WORKER " c2 1");
	redis_server_do(f->server, "HSET keepsock.sessions." WORKER " c3 {}");
	read_names(f, n, REDIS_WORKER_MEMBERS);
	assert_string_equal(n->text, "c1 ");
	read_names(f, n, REDIS_WORKER_DONE);
	assert_string_equal(n->text, "c2 ");
	read_names(f, n, REDIS_WORKER_SESSIONS);
	assert_string_equal(n->text, "c3 ");
	redis_server_do(f->server, "SET keepsock.members." WORKER " 1");
	redis_server_do(f->server, "DEL keepsock.members." WORKER);
	redis_server_do(f->server, "RPUSH keepsock.members." WORKER " 1");
	read_names(f, n, REDIS_WORKER_MEMBERS);
	assert_int_equal(n->walk.code, REDIS_RESULT_ERROR);
	free(n);
}

static void test_many_names(void **state)
{
	struct fixture *f = *state;
	struct names *n = xcalloc(1, sizeof(*n));
	unsigned pages = 0;

	for (unsigned i = 0; i < 2000; i += 100) {
		struct buffer command = {0};

		buffer_append_str(&command, "SADD keepsock.members." WORKER);
		for (unsigned j = i; j < i + 100; j++)
			buffer_printf(&command, " c%u", j);
		redis_server_do(f->server, buffer_cstr(&command));
		buffer_free(&command);
	}
	do {
		read_names(f, n, REDIS_WORKER_MEMBERS);
		pages++;
	} while (n->walk.cursor);
	assert_true(pages > 1);
	for (unsigned i = 0; i < 2000; i++)
		assert_true(n->walk.seen[i] > 0);
	free(n);
}

/* -- subscriptions of users ---------------------------------------------- */

static void set(struct fixture *f, const char *user, const char *channel, const char *json)
{
	const struct redis_user_subscription subscription = {slice_str(channel), slice_str(json)};
	unsigned before = f->answer.count;

	redis_user_subscription_set(f->pool, 1, (struct redis_fence){0}, slice_str(user),
				    &subscription, HOUR_MS, 3, on_count, &f->answer);
	finish(f, before);
}

static void forget(struct fixture *f, const char *user, const char *channel)
{
	unsigned before = f->answer.count;

	redis_user_subscription_remove(f->pool, 1, (struct redis_fence){0}, slice_str(user),
				       slice_str(channel), on_count, &f->answer);
	finish(f, before);
	assert_int_equal(f->answer.code, REDIS_RESULT_OK);
}

static void on_subscriptions(void *ctx, const struct redis_user_subscriptions_result *result)
{
	struct answer *a = ctx;

	start_answer(a, &result->outcome);
	a->n = result->n_subscriptions;
	for (size_t i = 0; i < a->n; i++)
		buffer_printf(&a->text, "<%.*s %.*s>", SLICE_ARG(result->subscriptions[i].channel),
			      SLICE_ARG(result->subscriptions[i].json));
}

static void get(struct fixture *f, const char *user)
{
	unsigned before = f->answer.count;

	redis_user_subscription_get(f->pool, 1, slice_str(user), 2 * HOUR_MS, on_subscriptions,
				    &f->answer);
	finish(f, before);
}

static void test_user_subscriptions(void **state)
{
	struct fixture *f = *state;

	get(f, "ann");
	assert_int_equal(f->answer.code, REDIS_RESULT_OK);
	assert_int_equal(f->answer.n, 0);
	set(f, "ann", "news", "{}");
	assert_int_equal(f->answer.number, 1);
	assert_in_range(integer_of(f, "PTTL keepsock.user_subscriptions.ann"), 1, HOUR_MS);
	set(f, "ann", "news", "{\"data\":1}");
	assert_int_equal(f->answer.number, 1);
	get(f, "ann");
	assert_string_equal(buffer_cstr(&f->answer.text), "<news {\"data\":1}>");
	assert_in_range(integer_of(f, "PTTL keepsock.user_subscriptions.ann"), HOUR_MS + 1,
			2 * HOUR_MS);
	set(f, "ann", "b c", "{}");
	set(f, "ann", "d", "{}");
	assert_int_equal(f->answer.number, 3);
	/* No more than that; but those she has can be replaced. */
	set(f, "ann", "e", "{}");
	assert_int_equal(f->answer.code, REDIS_RESULT_REFUSED);
	set(f, "ann", "d", "{\"data\":2}");
	assert_int_equal(f->answer.code, REDIS_RESULT_OK);
	set(f, "bob", "e", "{}");
	forget(f, "ann", "news");
	assert_int_equal(f->answer.number, 1);
	forget(f, "ann", "news");
	assert_int_equal(f->answer.number, 0);
	get(f, "ann");
	assert_int_equal(f->answer.n, 2);
	forget(f, "ann", "");
	assert_int_equal(f->answer.number, 2);
	get(f, "ann");
	assert_int_equal(f->answer.n, 0);
	get(f, "bob");
	assert_string_equal(buffer_cstr(&f->answer.text), "<e {}>");
}

static void test_foreign_data(void **state)
{
	struct fixture *f = *state;
	struct walk *w = xcalloc(1, sizeof(*w));

	redis_server_do(f->server, "SET keepsock.user_subscriptions.ann 1");
	get(f, "ann");
	assert_int_equal(f->answer.code, REDIS_RESULT_ERROR);
	assert_int_equal(f->answer.n, 0);
	set(f, "ann", "news", "{}");
	assert_int_equal(f->answer.code, REDIS_RESULT_ERROR);
	redis_server_do(f->server, "SET keepsock.sessions." WORKER " 1");
	redis_sessions_read(f->pool, 1, SLICE(WORKER), 0, on_sessions, w);
	WAIT_FOR(f->base, w->answers == 1);
	assert_int_equal(w->code, REDIS_RESULT_ERROR);
	assert_int_equal(w->cursor, 0);
	free(w);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_sessions),   TEST(test_many_sessions),      TEST(test_names),
		TEST(test_many_names), TEST(test_user_subscriptions), TEST(test_foreign_data),
	};

	quiet_log();
	return cmocka_run_group_tests_name("redis_registry", tests, NULL, NULL);
}

/* SPDX-License-Identifier: ISC */
/*
 * Members of channels in a real redis-server: who is there, who joins, who leaves.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "redis_fixture.h"

static const struct redis_presence_member ann = {.channel = {"room", 4},
						 .client = {"client-1", 8},
						 .user = {"ann", 3},
						 .info = {"{\"user\":\"ann\"}", 14}};
static const struct redis_presence_member bob = {.channel = {"room", 4},
						 .client = {"client-2", 8},
						 .user = {"bob", 3},
						 .info = {"{\"user\":\"bob\"}", 14}};

static void send_subscribe(struct fixture *f, const struct redis_subscribe *subscribe)
{
	unsigned before = f->answer.count;

	redis_subscribe_read(f->pool, 1, subscribe, on_subscribe, &f->answer);
	finish(f, before);
	assert_int_equal(f->answer.code, REDIS_RESULT_OK);
}

static void presence(struct fixture *f, uint64_t now)
{
	unsigned before = f->answer.count;

	redis_presence_get(f->pool, 1, SLICE("room"), now, on_presence, &f->answer);
	finish(f, before);
	assert_int_equal(f->answer.code, REDIS_RESULT_OK);
}

static void refresh(struct fixture *f, uint64_t now, const struct redis_presence_member *members,
		    size_t n)
{
	unsigned before = f->answer.count;

	redis_presence_refresh(f->pool, 1, 60000, now, members, n, on_count, &f->answer);
	finish(f, before);
	assert_int_equal(f->answer.code, REDIS_RESULT_OK);
}

static void presence_stats(struct fixture *f, uint64_t now)
{
	unsigned before = f->answer.count;

	redis_presence_stats(f->pool, 1, SLICE("room"), now, on_presence_stats, &f->answer);
	finish(f, before);
	assert_int_equal(f->answer.code, REDIS_RESULT_OK);
}

static void test_subscribe_adds_the_member(void **state)
{
	struct fixture *f = *state;
	struct redis_subscribe subscribe = {.channel = SLICE("room"),
					    .presence = &ann,
					    .presence_ttl_ms = 60000,
					    .now_ms = NOW};

	presence(f, NOW);
	assert_int_equal(f->answer.n, 0);
	send_subscribe(f, &subscribe);
	assert_true(f->answer.joined);
	presence(f, NOW);
	assert_int_equal(f->answer.n, 1);
	assert_string_equal(buffer_cstr(&f->answer.text), "<client-1 ann {\"user\":\"ann\"}>");
	/* Again within the TTL: it was there; after it: it had gone. */
	subscribe.now_ms = NOW + 59999;
	send_subscribe(f, &subscribe);
	assert_false(f->answer.joined);
	subscribe.now_ms += 60000;
	send_subscribe(f, &subscribe);
	assert_true(f->answer.joined);
	/* Redis itself drops both keys when nobody comes back. */
	assert_in_range(integer_of(f, "PTTL keepsock.presence.room"), 1, 60000);
	assert_in_range(integer_of(f, "PTTL keepsock.presence_expire.room"), 1, 60000);
}

static void test_presence_expires(void **state)
{
	struct fixture *f = *state;

	refresh(f, NOW, &ann, 1);
	assert_int_equal(f->answer.number, 1);
	refresh(f, NOW + 30000, &bob, 1);
	presence(f, NOW + 59999);
	assert_int_equal(f->answer.n, 2);
	presence(f, NOW + 60000);
	assert_string_equal(buffer_cstr(&f->answer.text), "<client-2 bob {\"user\":\"bob\"}>");
	/* Purged, not only hidden. */
	assert_int_equal(integer_of(f, "HLEN keepsock.presence.room"), 1);
	assert_int_equal(integer_of(f, "ZCARD keepsock.presence_expire.room"), 1);
	refresh(f, NOW + 80000, &bob, 1);
	assert_int_equal(f->answer.number, 0);
	presence_stats(f, NOW + 139999);
	assert_int_equal(f->answer.number, 1);
	presence_stats(f, NOW + 140000);
	assert_int_equal(f->answer.number, 0);
	assert_int_equal(count_keys(f, "keepsock.presence*"), 0);
}

static void test_presence_remove(void **state)
{
	struct fixture *f = *state;
	struct redis_presence_member members[] = {ann, bob, ann};
	unsigned before;

	members[2].channel = SLICE("elsewhere");
	refresh(f, NOW, members, 3);
	assert_int_equal(f->answer.number, 3);
	before = f->answer.count;
	members[1].client = SLICE("stranger");
	redis_presence_remove(f->pool, 1, members, 3, on_count, &f->answer);
	finish(f, before);
	assert_int_equal(f->answer.number, 2);
	presence(f, NOW);
	assert_string_equal(buffer_cstr(&f->answer.text), "<client-2 bob {\"user\":\"bob\"}>");
	assert_int_equal(integer_of(f, "EXISTS keepsock.presence.elsewhere"), 0);
}

static void test_presence_stats(void **state)
{
	struct fixture *f = *state;
	struct redis_presence_member members[] = {ann, bob, ann, ann, bob};

	members[2].client = SLICE("client-3");
	members[3].client = SLICE("client-4");
	members[3].user = SLICE(""); /* anonymous */
	members[4].client = SLICE("client-5");
	members[4].user = (struct slice){"1 a\0n\n", 6};
	refresh(f, NOW, members, 5);
	presence_stats(f, NOW);
	assert_int_equal(f->answer.number, 5);
	assert_int_equal(f->answer.users, 4);
	presence(f, NOW);
	assert_int_equal(f->answer.n, 5);
}

static void test_many_members_expire(void **state)
{
	struct fixture *f = *state;
	struct redis_presence_member *members = xcalloc(REDIS_BATCH_MAX, sizeof(*members));
	char(*names)[24] = xcalloc(REDIS_BATCH_MAX, sizeof(*names));

	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < REDIS_BATCH_MAX; i++) {
			snprintf(names[i], sizeof(names[i]), "%u-%u", round, i);
			members[i] = ann;
			members[i].client = slice_str(names[i]);
		}
		refresh(f, NOW, members, REDIS_BATCH_MAX);
		assert_int_equal(f->answer.number, REDIS_BATCH_MAX);
	}
	free(names);
	free(members);
	presence_stats(f, NOW);
	assert_int_equal(f->answer.number, 3 * REDIS_BATCH_MAX);
	assert_int_equal(f->answer.users, 1);
	presence(f, NOW + 60000);
	assert_int_equal(f->answer.n, 0);
	assert_int_equal(count_keys(f, "keepsock.presence*"), 0);
}

/* -- joins, leaves, and the index of a worker's members ------------------- */

static struct redis_presence_member announced(const struct redis_presence_member *who)
{
	struct redis_presence_member member = *who;

	member.worker = SLICE(WORKER);
	member.join_leave = true;
	return member;
}

static void assert_heard(redisContext *subscriber, enum redis_message_kind kind, uint64_t sequence,
			 struct slice info)
{
	struct redis_envelope envelope;
	struct slice name;
	redisReply *reply = next_message(subscriber, &name, &envelope);

	assert_true(slice_is(name, "keepsock.channel.room"));
	assert_int_equal(envelope.kind, kind);
	assert_int_equal(envelope.sequence, sequence);
	assert_int_equal(envelope.offset, 0);
	assert_int_equal(envelope.body.data.len, 0);
	assert_true(slice_equal(envelope.body.info, info));
	freeReplyObject(reply);
}

static void remove_members(struct fixture *f, const struct redis_presence_member *members, size_t n)
{
	unsigned before = f->answer.count;

	redis_presence_remove(f->pool, 1, members, n, on_count, &f->answer);
	finish(f, before);
	assert_int_equal(f->answer.code, REDIS_RESULT_OK);
}

static void test_join_and_leave(void **state)
{
	struct fixture *f = *state;
	redisContext *subscriber = subscribe_all(f);
	struct redis_presence_member member = announced(&ann);
	struct redis_subscribe subscribe = {.channel = SLICE("room"),
					    .presence = &member,
					    .presence_ttl_ms = 60000,
					    .now_ms = NOW};

	/* Its own join comes after its reply. */
	send_subscribe(f, &subscribe);
	assert_true(f->answer.joined);
	assert_int_equal(f->answer.sequence, 0);
	assert_heard(subscriber, REDIS_MESSAGE_JOIN, 1, ann.info);
	assert_int_equal(integer_of(f, "SCARD keepsock.members." WORKER), 1);
	/* Again: it is there already. */
	send_subscribe(f, &subscribe);
	assert_false(f->answer.joined);
	assert_int_equal(f->answer.sequence, 1);
	/* Leaving needs nothing but its name; a second time there is nobody to leave. */
	member = (struct redis_presence_member){
		.channel = ann.channel, .client = ann.client, .worker = SLICE(WORKER)};
	remove_members(f, &member, 1);
	assert_int_equal(f->answer.number, 1);
	assert_heard(subscriber, REDIS_MESSAGE_LEAVE, 2, ann.info);
	remove_members(f, &member, 1);
	assert_int_equal(f->answer.number, 0);
	assert_int_equal(count_keys(f, "keepsock.members.*"), 0);
	/* Bob comes and goes without a word. */
	refresh(f, NOW, &bob, 1);
	remove_members(f, &bob, 1);
	assert_string_equal(text_of(f, "GET keepsock.sequence"), "2");
	redisFree(subscriber);
}

/* Redis was away for longer than entries live: nobody left, so nobody joins again. */
static void test_expired_members_do_not_join_again(void **state)
{
	struct fixture *f = *state;
	redisContext *subscriber = subscribe_all(f);
	struct redis_presence_member members[] = {announced(&ann), announced(&bob)};

	refresh(f, NOW, members, 2);
	assert_int_equal(f->answer.number, 2);
	assert_heard(subscriber, REDIS_MESSAGE_JOIN, 1, ann.info);
	assert_heard(subscriber, REDIS_MESSAGE_JOIN, 2, bob.info);
	presence(f, NOW + 60000);
	assert_int_equal(f->answer.n, 0);
	refresh(f, NOW + 60000, members, 2);
	assert_int_equal(f->answer.number, 0);
	presence(f, NOW + 60000);
	assert_int_equal(f->answer.n, 2);
	assert_string_equal(text_of(f, "GET keepsock.sequence"), "2");
	redisFree(subscriber);
}

static void test_entries_say_who_wants_leaves(void **state)
{
	struct fixture *f = *state;
	struct redis_presence_member members[] = {announced(&ann), bob};

	members[0].user = SLICE("9 1 a");
	refresh(f, NOW, members, 2);
	presence(f, NOW);
	assert_int_equal(f->answer.n, 2);
	assert_non_null(
		strstr(buffer_cstr(&f->answer.text), "<client-1 9 1 a {\"user\":\"ann\"}>"));
	presence_stats(f, NOW);
	assert_int_equal(f->answer.users, 2);
	/* What another version of this program wrote is an error, not a member. */
	redis_server_do(f->server, "HSET keepsock.presence.room client-2 %s", "3 bob{}");
	redis_presence_get(f->pool, 1, SLICE("room"), NOW, on_presence, &f->answer);
	finish(f, f->answer.count);
	assert_int_equal(f->answer.code, REDIS_RESULT_ERROR);
	/* It can be removed all the same, in silence. */
	remove_members(f, &bob, 1);
	assert_int_equal(f->answer.number, 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_subscribe_adds_the_member),
		TEST(test_presence_expires),
		TEST(test_presence_remove),
		TEST(test_presence_stats),
		TEST(test_many_members_expire),
		TEST(test_join_and_leave),
		TEST(test_expired_members_do_not_join_again),
		TEST(test_entries_say_who_wants_leaves),
	};

	quiet_log();
	return cmocka_run_group_tests_name("redis_presence", tests, NULL, NULL);
}

/* SPDX-License-Identifier: ISC */
/*
 * Who lost continuity is told exactly once, however the telling is cut into
 * slices and whatever happens to the channel in between. The loop is libevent's,
 * connections and slices are the test's own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <event2/event.h>
#include <stdlib.h>

#include "arena_world.h"
#include "keepsock/alloc.h"
#include "worker/loop_watch.h"
#include "worker/lost_subscribers.h"
#include "worker/shards.h"

#define MEMBERS 60

struct scene {
	struct world *world;
	struct worker w;
	struct channel *channel;
	arena_ref members[MEMBERS];
	size_t count;
	unsigned told[MEMBERS], disconnected[MEMBERS];
	unsigned reviews;
	long slice, left; /* cost of a slice, and what is left of this one */
};

static struct scene *scene;

/* ---- what the module calls ---- */

bool loop_slice_spent(struct worker *w, unsigned cost)
{
	assert_ptr_equal(w, &scene->w);
	scene->left -= cost;
	return scene->left <= 0;
}

void loop_watch_begin(struct worker *w, enum loop_activity activity)
{
	assert_ptr_equal(w, &scene->w);
	assert_int_equal(activity, LOOP_DELIVERY);
	scene->left = scene->slice;
}

void loop_watch_subject(struct worker *w, uint64_t word)
{
	assert_ptr_equal(w, &scene->w);
	assert_int_equal(word, WORK_WORD(WORK_SERVING_BATCH, scene->channel->ref));
}

void worker_channel_review(struct worker *w, struct channel *channel)
{
	assert_ptr_equal(w, &scene->w);
	assert_ptr_equal(channel, scene->channel);
	assert_false(channel->lost);
	scene->reviews++;
}

struct connection *connection_at(struct worker *w, arena_ref passport)
{
	return arena_companion(w->arena, passport, sizeof(struct connection));
}

static size_t member_of(const struct connection *c)
{
	size_t i = 0;

	while (scene->members[i] != c->passport)
		i++;
	return i;
}

static void leave(size_t member)
{
	world_unsubscribe(scene->world, scene->members[member], scene->channel, false);
}

void client_unsubscribe_push(struct connection *c, arena_ref subscription, uint32_t code)
{
	assert_int_equal(code, CLIENT_UNSUBSCRIBE_INSUFFICIENT_STATE);
	assert_int_equal(subscription,
			 hub_subscription_find(&scene->world->hub,
					       world_passport_at(scene->world, c->passport),
					       scene->channel));
	scene->told[member_of(c)]++;
	leave(member_of(c));
}

void connection_disconnect(struct connection *c, uint16_t code, const char *reason)
{
	(void)reason;
	assert_int_equal(code, CLIENT_DISCONNECT_INSUFFICIENT_STATE);
	scene->disconnected[member_of(c)]++;
	leave(member_of(c));
}

/* ---- the scene ---- */

static int setup(void **state)
{
	(void)state;
	scene = xcalloc(1, sizeof(*scene));
	scene->world = world_new(4 * MIB);
	scene->w.arena = scene->world->arena;
	scene->w.base = event_base_new();
	assert_non_null(scene->w.base);
	scene->channel = hub_get(&scene->world->hub, SLICE("news"));
	scene->slice = 1000000;
	scene->w.hub = scene->world->hub;
	lost_subscribers_open(&scene->w);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	lost_subscribers_close(&scene->w);
	event_base_free(scene->w.base);
	world_free(scene->world);
	free(scene);
	return 0;
}

static void subscribe(size_t member, uint32_t flags)
{
	struct world *world = scene->world;

	passport_draft_begin(&world->draft, scene->members[member]);
	assert_int_not_equal(
		hub_subscription_add(&world->hub, &world->draft, scene->channel, 0, flags), 0);
	assert_true(passport_draft_commit(&world->draft));
	/* Its array's blocks may be others now. */
	scene->w.hub = world->hub;
}

static size_t join(uint32_t flags)
{
	size_t member = scene->count++;
	struct connection *c;

	assert_true(member < MEMBERS);
	scene->members[member] = world_passport(scene->world);
	c = connection_at(&scene->w, scene->members[member]);
	c->worker = &scene->w;
	c->passport = scene->members[member];
	subscribe(member, flags);
	return member;
}

/* One turn of the loop; false when there was nothing to do. */
static bool turn(void)
{
	bool did = event_base_get_num_events(scene->w.base, EVENT_BASE_COUNT_ADDED) > 0;

	assert_true(event_base_loop(scene->w.base, EVLOOP_ONCE | EVLOOP_NONBLOCK) >= 0);
	world_check(scene->world);
	return did;
}

static unsigned turns(void)
{
	unsigned n = 0;

	while (turn())
		assert_in_range(++n, 1, 1000);
	assert_null(scene->w.lost_first);
	assert_false(scene->channel->lost);
	return n;
}

/* ---- the tests ---- */

static void test_the_positioned_are_told(void **state)
{
	(void)state;
	join(SUBSCRIPTION_POSITIONED);
	join(0);
	join(SUBSCRIPTION_POSITIONED | SUBSCRIPTION_SERVER_SIDE);
	join(SUBSCRIPTION_SERVER_SIDE);
	join(SUBSCRIPTION_POSITIONED | SUBSCRIPTION_RECOVERABLE);
	lost_subscribers_announce(&scene->w, scene->channel);
	/* Nothing happens below whoever found the loss. */
	assert_int_equal(scene->told[0], 0);
	assert_true(scene->channel->lost);
	assert_int_equal(turns(), 1);
	for (size_t i = 0; i < 5; i++) {
		assert_int_equal(scene->told[i], i == 0 || i == 4);
		assert_int_equal(scene->disconnected[i], i == 2);
	}
	assert_int_equal(hub_subscribers(&scene->world->hub, scene->channel), 2);
	assert_int_equal(scene->reviews, 1);
}

static void test_nobody_to_tell(void **state)
{
	(void)state;
	lost_subscribers_announce(&scene->w, scene->channel);
	join(0);
	lost_subscribers_announce(&scene->w, scene->channel);
	assert_false(scene->channel->lost);
	assert_false(turn());
}

static void test_in_slices(void **state)
{
	(void)state;
	for (int i = 0; i < 50; i++)
		join(i % 5 ? SUBSCRIPTION_POSITIONED : 0);
	scene->slice = 20;
	lost_subscribers_announce(&scene->w, scene->channel);
	assert_in_range(turns(), 8, 12);
	for (size_t i = 0; i < 50; i++)
		assert_int_equal(scene->told[i], i % 5 != 0);
}

static void test_who_comes_back_is_not_told_again(void **state)
{
	(void)state;
	for (int i = 0; i < 20; i++)
		join(SUBSCRIPTION_POSITIONED);
	scene->slice = 1;
	lost_subscribers_announce(&scene->w, scene->channel);
	/* Each subscribes again at once, behind and between those that are still to be told. */
	for (unsigned n = 0; turn(); n++) {
		assert_in_range(n, 0, 100);
		for (size_t i = 0; i < 20; i++) {
			if (scene->told[i] == 1 &&
			    !hub_subscription_find(
				    &scene->world->hub,
				    world_passport_at(scene->world, scene->members[i]),
				    scene->channel))
				subscribe(i, SUBSCRIPTION_POSITIONED);
		}
	}
	for (size_t i = 0; i < 20; i++)
		assert_int_equal(scene->told[i], 1);
	assert_int_equal(hub_subscribers(&scene->world->hub, scene->channel), 20);
}

static void test_who_leaves_in_between(void **state)
{
	(void)state;
	for (int i = 0; i < 20; i++)
		join(SUBSCRIPTION_POSITIONED);
	scene->slice = 1;
	lost_subscribers_announce(&scene->w, scene->channel);
	assert_true(turn());
	/* The first ones: their places are taken by those behind. */
	for (size_t i = 0; i < 8; i++)
		leave(i);
	turns();
	for (size_t i = 0; i < 20; i++)
		assert_int_equal(scene->told[i], i >= 8);
}

static void test_everybody_leaves_in_between(void **state)
{
	(void)state;
	for (int i = 0; i < 5; i++)
		join(SUBSCRIPTION_POSITIONED);
	scene->slice = 1;
	lost_subscribers_announce(&scene->w, scene->channel);
	assert_true(turn());
	for (size_t i = 0; i < 4; i++)
		leave(i);
	/* Only its mark keeps the channel now; then it is looked at again. */
	assert_true(scene->channel->lost);
	assert_int_equal(scene->reviews, 0);
	turns();
	assert_int_equal(scene->reviews, 1);
}

static void test_lost_again_meanwhile(void **state)
{
	(void)state;
	for (int i = 0; i < 10; i++)
		join(SUBSCRIPTION_POSITIONED);
	scene->slice = 1;
	lost_subscribers_announce(&scene->w, scene->channel);
	assert_true(turn());
	/* Who came since the first loss is concerned by the second. */
	join(SUBSCRIPTION_POSITIONED);
	lost_subscribers_announce(&scene->w, scene->channel);
	turns();
	for (size_t i = 0; i < 11; i++)
		assert_int_equal(scene->told[i], 1);
}

/* Marks live in the arena; the list of channels that have some dies with the worker. */
static void test_a_successor_tells_the_rest(void **state)
{
	(void)state;
	for (size_t i = 0; i < MEMBERS; i++)
		join(i % 3 ? SUBSCRIPTION_POSITIONED : 0);
	lost_subscribers_adopt(&scene->w);
	assert_false(turn());
	scene->slice = 30;
	lost_subscribers_announce(&scene->w, scene->channel);
	assert_true(turn());
	assert_true(scene->channel->lost);

	lost_subscribers_close(&scene->w);
	scene->channel->lost = false;
	scene->channel->lost_left = 0;
	scene->w.lost_first = NULL;
	lost_subscribers_open(&scene->w);
	lost_subscribers_adopt(&scene->w);
	assert_true(turns() > 1);
	for (size_t i = 0; i < MEMBERS; i++)
		assert_int_equal(scene->told[i], i % 3 != 0);
}

int main(void)
{
#define IN_SCENE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		IN_SCENE(test_the_positioned_are_told),
		cmocka_unit_test_setup_teardown(test_a_successor_tells_the_rest, setup, teardown),
		IN_SCENE(test_nobody_to_tell),
		IN_SCENE(test_in_slices),
		IN_SCENE(test_who_comes_back_is_not_told_again),
		IN_SCENE(test_who_leaves_in_between),
		IN_SCENE(test_everybody_leaves_in_between),
		IN_SCENE(test_lost_again_meanwhile),
		IN_SCENE(test_a_successor_tells_the_rest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

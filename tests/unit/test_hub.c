/* SPDX-License-Identifier: ISC */
/*
 * The hub: channels and subscriber arrays in the arena, against a plain matrix
 * of who subscribes to what. The arena's invariants hold after every commit.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arena_world.h"
#include "keepsock/alloc.h"

/* Entries of a block that is a whole page. */
#define PAGE_ENTRIES 8190u

/* --- channels --- */

static void test_channels_are_found_by_name(void **state)
{
	struct world *world = *state;
	struct channel *a = hub_get(&world->hub, SLICE("news")), *b;

	assert_non_null(a);
	assert_ptr_equal(hub_get(&world->hub, SLICE("news")), a);
	assert_ptr_equal(hub_find(&world->hub, SLICE("news")), a);
	assert_null(hub_find(&world->hub, SLICE("new")));
	assert_null(hub_find(&world->hub, SLICE("newsy")));
	b = hub_get(&world->hub, SLICE("weather"));
	assert_ptr_not_equal(a, b);
	assert_true(slice_is(hub_name(&world->hub, a), "news"));
	assert_true(slice_is(hub_name(&world->hub, b), "weather"));
	assert_int_equal(world->hub.channel_count, 2);
	assert_int_equal(hub_record(&world->hub, a)->state, CHANNEL_ABSENT);
	assert_ptr_equal(hub_channel_at(&world->hub, a->ref), a);
	assert_int_equal(world_check(world).channels, 2);
}

static void test_released_channel_is_gone(void **state)
{
	struct world *world = *state;
	struct channel *a = hub_get(&world->hub, SLICE("a")), *b = hub_get(&world->hub, SLICE("b"));

	hub_release(&world->hub, a);
	assert_null(hub_find(&world->hub, SLICE("a")));
	assert_ptr_equal(hub_find(&world->hub, SLICE("b")), b);
	assert_int_equal(world->hub.channel_count, 1);
	assert_int_equal(world_check(world).channels, 1);
	hub_release(&world->hub, b);
	assert_null(hub_next(&world->hub, NULL));
	assert_int_equal(world_check(world).chunks, 0);
}

static void release_in_use(void *context)
{
	struct world *world = world_new(4 * MIB);
	struct channel *channel = hub_get(&world->hub, SLICE("a"));

	(void)context;
	world_subscribe(world, world_passport(world), channel);
	hub_release(&world->hub, channel);
}

static void test_channel_in_use_is_not_released(void **state)
{
	(void)state;
	assert_true(world_aborts(release_in_use, NULL));
}

/* More than the table has buckets at first: it grows and loses nobody. */
static void test_many_channels(void **state)
{
	enum { COUNT = 3000 };
	struct world *world = *state;
	struct channel *channel = NULL;
	char name[32];
	int walked = 0;

	for (int i = 0; i < COUNT; i++) {
		snprintf(name, sizeof(name), "channel-%d", i);
		assert_non_null(hub_get(&world->hub, slice_str(name)));
	}
	while ((channel = hub_next(&world->hub, channel)))
		walked++;
	assert_int_equal(walked, COUNT);
	for (int i = 0; i < COUNT; i++) {
		snprintf(name, sizeof(name), "channel-%d", i);
		channel = hub_find(&world->hub, slice_str(name));
		assert_non_null(channel);
		assert_true(slice_equal(hub_name(&world->hub, channel), slice_str(name)));
		if (i % 2)
			hub_release(&world->hub, channel);
	}
	assert_int_equal(world->hub.channel_count, COUNT / 2);
	assert_int_equal(world_check(world).channels, COUNT / 2);
}

static void test_full_arena_has_no_room_for_a_channel(void **state)
{
	struct world *world = *state;
	arena_ref list = world_exhaust(world, 100);

	assert_null(hub_get(&world->hub, SLICE("a")));
	world_release(world, list);
	assert_non_null(hub_get(&world->hub, SLICE("a")));
	/* A record, but no place for the name. */
	list = world_exhaust(world, 40);
	assert_null(hub_get(&world->hub, SLICE("b")));
	assert_int_equal(world->hub.channel_count, 1);
	world_release(world, list);
	assert_int_equal(world_check(world).channels, 1);
}

/* --- positions --- */

static void commit_position(struct world *world, struct channel *channel, struct slice epoch,
			    uint64_t offset, uint64_t sequence)
{
	struct arena_commit commit;

	arena_commit_begin(&commit, world->arena);
	hub_position_set(&world->hub, &commit, channel, epoch, offset, sequence);
	arena_commit_apply(&commit);
}

static void test_position_and_epoch(void **state)
{
	struct world *world = *state;
	struct channel *channel = hub_get(&world->hub, SLICE("a"));
	const struct channel_record *record = hub_record(&world->hub, channel);

	commit_position(world, channel, SLICE(""), 0, 5);
	assert_int_equal(record->positioned, 1);
	assert_int_equal(record->history, 0);
	assert_int_equal(record->last_sequence, 5);
	commit_position(world, channel, SLICE("abcdefgh"), 3, 9);
	assert_int_equal(record->history, 1);
	assert_int_equal(record->offset, 3);
	assert_true(slice_is(hub_epoch(record), "abcdefgh"));
	commit_position(world, channel, SLICE(""), 4, 10);
	assert_true(slice_is(hub_epoch(record), "abcdefgh"));
	commit_position(world, channel, SLICE("xy"), 1, 11);
	assert_true(slice_is(hub_epoch(record), "xy"));
	/* One longer than a record holds is not taken. */
	commit_position(world, channel, SLICE("0123456789012345678901234"), 2, 12);
	assert_true(slice_is(hub_epoch(record), "xy"));
	assert_int_equal(record->offset, 2);
	world_check(world);
}

static void test_sequences_are_forgotten_with_their_run(void **state)
{
	struct world *world = *state;
	struct channel *channel = hub_get(&world->hub, SLICE("a"));
	arena_ref passport = world_passport(world), ref;
	const struct subscription_record *subscription;

	passport_draft_begin(&world->draft, passport);
	ref = hub_subscription_add(&world->hub, &world->draft, channel, 77, 0);
	assert_true(passport_draft_commit(&world->draft));
	subscription = arena_at(world->arena, ref);
	commit_position(world, channel, SLICE("abc"), 3, 80);
	assert_int_equal(subscription->start_sequence, 77);
	assert_int_equal(channel->max_start_sequence, 77);
	hub_sequences_reset(&world->hub, channel);
	assert_int_equal(subscription->start_sequence, 0);
	assert_int_equal(channel->max_start_sequence, 0);
	assert_int_equal(hub_record(&world->hub, channel)->last_sequence, 0);
	assert_int_equal(hub_record(&world->hub, channel)->offset, 3);
	world_check(world);
}

/* --- held messages --- */

static void hold(struct channel *channel, uint64_t sequence, uint64_t offset, const char *epoch)
{
	struct held_message like = {.sequence = sequence, .offset = offset};

	like.epoch_length = strlen(epoch);
	memcpy(like.epoch, epoch, like.epoch_length);
	assert_true(hub_hold(channel, &like, SLICE("frame"), 1000));
}

static void test_everybody_is_served_above_the_own_sequence(void **state)
{
	struct world *world = *state;
	struct channel *channel = hub_get(&world->hub, SLICE("a"));
	uint64_t sequence = 6, offset = 1;

	assert_true(hub_is_served(6, 7));
	assert_false(hub_is_served(7, 7));
	assert_false(hub_is_served(8, 7));
	hold(channel, 5, 1, "abc");
	hold(channel, 7, 2, "abc");
	hold(channel, 8, 0, "");
	hold(channel, 9, 3, "abc");
	assert_int_equal(hub_held_next(channel, NULL, 6)->sequence, 7);
	assert_int_equal(hub_held_next(channel, hub_held_next(channel, NULL, 6), 6)->sequence, 8);
	assert_null(hub_held_next(channel, NULL, 9));
	assert_true(hub_held_position(channel, SLICE("abc"), &sequence, &offset));
	assert_int_equal(sequence, 9);
	assert_int_equal(offset, 3);
	/* Nothing above: nothing moves. */
	assert_true(hub_held_position(channel, SLICE("abc"), &sequence, &offset));
	assert_int_equal(sequence, 9);
	assert_int_equal(offset, 3);
	hub_held_free(channel);
}

static void test_held_messages_that_do_not_follow_are_told(void **state)
{
	struct world *world = *state;
	struct channel *channel = hub_get(&world->hub, SLICE("a"));
	uint64_t sequence = 5, offset = 1;

	hold(channel, 6, 3, "abc");
	assert_false(hub_held_position(channel, SLICE("abc"), &sequence, &offset));
	hub_held_free(channel);
	hold(channel, 6, 2, "abc-x");
	sequence = 5, offset = 1;
	assert_false(hub_held_position(channel, SLICE("abc"), &sequence, &offset));
	hub_held_free(channel);
}

static void test_held_messages_keep_their_order_and_their_limit(void **state)
{
	struct world *world = *state;
	struct channel *channel = hub_get(&world->hub, SLICE("a"));
	struct held_message like = {.sequence = 1};
	uint64_t expected = 1;

	for (; like.sequence <= 10; like.sequence++)
		assert_true(hub_hold(channel, &like, SLICE("0123456789"), 100));
	assert_false(channel->held_overflow);
	assert_false(hub_hold(channel, &like, SLICE("x"), 100));
	assert_true(channel->held_overflow);
	for (const struct held_message *held = channel->held_first; held; held = held->next) {
		assert_int_equal(held->sequence, expected++);
		assert_true(
			slice_equal(slice_from(held->frame, held->length), SLICE("0123456789")));
	}
	assert_int_equal(expected, 11);
	hub_held_free(channel);
	assert_null(channel->held_first);
	assert_int_equal(channel->held_bytes, 0);
	assert_false(channel->held_overflow);
	assert_true(hub_hold(channel, &like, SLICE("x"), 100));
}

/* --- subscriptions --- */

static void test_both_ends_know_a_subscription(void **state)
{
	struct world *world = *state;
	struct channel *channel = hub_get(&world->hub, SLICE("a"));
	arena_ref passport = world_passport(world);
	arena_ref ref = world_subscribe(world, passport, channel);
	const struct passport *live = world_passport_at(world, passport);
	const struct subscription_record *subscription = arena_at(world->arena, ref);

	assert_int_equal(live->subscriptions, ref);
	assert_int_equal(live->subscription_count, 1);
	assert_int_equal(subscription->passport, passport);
	assert_int_equal(subscription->channel, channel->ref);
	assert_int_equal(subscription->position, 0);
	assert_int_equal(hub_subscriber(&world->hub, channel, 0)->passport, passport);
	assert_int_equal(hub_subscriber(&world->hub, channel, 0)->subscription, ref);
	assert_int_equal(hub_subscribers(&world->hub, channel), 1);
	assert_int_equal(hub_subscription_find(&world->hub, live, channel), ref);
	assert_int_equal(world->hub.subscription_count, 1);
	world_check(world);
	world_unsubscribe(world, passport, channel, false);
	assert_int_equal(live->subscriptions, 0);
	assert_int_equal(live->subscription_count, 0);
	assert_int_equal(hub_subscribers(&world->hub, channel), 0);
	assert_int_equal(hub_record(&world->hub, channel)->count, 0);
	assert_int_equal(hub_subscription_find(&world->hub, live, channel), 0);
	world_check(world);
}

static void test_dropped_draft_subscribes_nobody(void **state)
{
	struct world *world = *state;
	struct channel *channel = hub_get(&world->hub, SLICE("a"));
	arena_ref passport = world_passport(world), first = world_passport(world);

	world_subscribe(world, first, channel);
	for (int i = 0; i < 20; i++) {
		passport_draft_begin(&world->draft, passport);
		assert_int_not_equal(
			hub_subscription_add(&world->hub, &world->draft, channel, 0, 0), 0);
		passport_draft_drop(&world->draft);
		assert_int_equal(hub_subscribers(&world->hub, channel), 1);
		assert_int_equal(world_passport_at(world, passport)->subscription_count, 0);
		world_check(world);
		passport_draft_begin(&world->draft, first);
		hub_subscription_remove(&world->hub, &world->draft,
					world_passport_at(world, first)->subscriptions, i % 2);
		passport_draft_drop(&world->draft);
		assert_int_equal(hub_subscribers(&world->hub, channel), 1);
		world_check(world);
	}
}

static void test_full_arena_subscribes_nobody(void **state)
{
	struct world *world = *state;
	struct channel *channel = hub_get(&world->hub, SLICE("a"));
	arena_ref passport = world_passport(world), list = world_exhaust(world, 40);

	passport_draft_begin(&world->draft, passport);
	assert_int_equal(hub_subscription_add(&world->hub, &world->draft, channel, 0, 0), 0);
	assert_true(world->draft.failed);
	assert_false(passport_draft_commit(&world->draft));
	/* Room for the array, none for the record. */
	arena_chunk_free(world->arena, list);
	passport_draft_begin(&world->draft, passport);
	assert_int_equal(hub_subscription_add(&world->hub, &world->draft, channel, 0, 0), 0);
	assert_false(passport_draft_commit(&world->draft));
	assert_int_equal(hub_subscribers(&world->hub, channel), 0);
	world_check(world);
}

/* The last entry fills the gap, and its own record learns of it. */
static void test_removal_moves_the_last_entry(void **state)
{
	struct world *world = *state;
	struct channel *channel = hub_get(&world->hub, SLICE("a"));
	arena_ref passports[5];

	for (int i = 0; i < 5; i++) {
		passports[i] = world_passport(world);
		world_subscribe(world, passports[i], channel);
	}
	world_unsubscribe(world, passports[1], channel, false);
	assert_int_equal(hub_record(&world->hub, channel)->count, 4);
	assert_int_equal(hub_subscriber(&world->hub, channel, 1)->passport, passports[4]);
	world_check(world);
	world_unsubscribe(world, passports[3], channel, false);
	assert_int_equal(hub_record(&world->hub, channel)->count, 3);
	world_check(world);
}

static void test_fan_out_leaves_tombstones_until_it_ends(void **state)
{
	struct world *world = *state;
	struct channel *channel = hub_get(&world->hub, SLICE("a"));
	struct channel_record *record = hub_record(&world->hub, channel);
	arena_ref passports[6];

	for (int i = 0; i < 6; i++) {
		passports[i] = world_passport(world);
		world_subscribe(world, passports[i], channel);
	}
	world_unsubscribe(world, passports[5], channel, true);
	world_unsubscribe(world, passports[0], channel, true);
	world_unsubscribe(world, passports[3], channel, true);
	assert_int_equal(record->count, 6);
	assert_int_equal(record->tombstones, 3);
	assert_int_equal(hub_subscribers(&world->hub, channel), 3);
	assert_int_equal(hub_subscriber(&world->hub, channel, 0)->passport, 0);
	assert_int_equal(hub_subscriber(&world->hub, channel, 1)->passport, passports[1]);
	world_check(world);
	/* Newcomers go behind it all. */
	world_subscribe(world, passports[0], channel);
	assert_int_equal(hub_subscriber(&world->hub, channel, 6)->passport, passports[0]);
	world_check(world);
	hub_compact(&world->hub, channel);
	assert_int_equal(record->count, 4);
	assert_int_equal(record->tombstones, 0);
	world_check(world);
}

static void test_only_tombstones_compact_to_nothing(void **state)
{
	struct world *world = *state;
	struct channel *channel = hub_get(&world->hub, SLICE("a"));

	for (int i = 0; i < 40; i++)
		world_subscribe(world, world_passport(world), channel);
	for (uint32_t i = 0; i < 40; i++)
		world_unsubscribe(world, hub_subscriber(&world->hub, channel, i)->passport, channel,
				  true);
	assert_int_equal(hub_subscribers(&world->hub, channel), 0);
	world_check(world);
	hub_compact(&world->hub, channel);
	assert_int_equal(hub_record(&world->hub, channel)->count, 0);
	hub_release(&world->hub, channel);
	assert_int_equal(world_check(world).chunks, 0);
}

/* Entries keep their index and their subscriber while the array grows over several pages. */
static void test_array_of_several_blocks(void **state)
{
	enum { COUNT = 2 * PAGE_ENTRIES + 100 };
	struct world *world = world_new(16 * MIB);
	struct channel *channel = hub_get(&world->hub, SLICE("a"));
	arena_ref *passports = xcalloc(COUNT, sizeof(*passports));

	(void)state;
	for (uint32_t i = 0; i < COUNT; i++) {
		passports[i] = world_passport(world);
		world_subscribe(world, passports[i], channel);
		if (i % 1000 == 0 || i + 1 == PAGE_ENTRIES || i == PAGE_ENTRIES)
			world_check(world);
	}
	assert_int_equal(hub_record(&world->hub, channel)->blocks, 3);
	for (uint32_t i = 0; i < COUNT; i++)
		assert_int_equal(hub_subscriber(&world->hub, channel, i)->passport, passports[i]);
	/* From the middle without, then with tombstones, over all the borders. */
	for (uint32_t i = 0; i < COUNT; i += 3)
		world_unsubscribe(world, passports[i], channel, false);
	world_check(world);
	for (uint32_t i = 1; i < COUNT; i += 3)
		world_unsubscribe(world, passports[i], channel, true);
	world_check(world);
	hub_compact(&world->hub, channel);
	assert_int_equal(hub_subscribers(&world->hub, channel), COUNT / 3);
	assert_int_equal(hub_record(&world->hub, channel)->count, COUNT / 3);
	assert_int_equal(world_check(world).subscriptions, COUNT / 3);
	for (uint32_t i = 2; i < COUNT; i += 3)
		world_unsubscribe(world, passports[i], channel, false);
	hub_release(&world->hub, channel);
	assert_int_equal(world_check(world).chunks, 0);
	free(passports);
	world_free(world);
}

/* --- everything at random against a matrix --- */

enum { PASSPORTS = 40, CHANNELS = 8 };

struct model {
	struct world *world;
	arena_ref passports[PASSPORTS];
	bool subscribed[PASSPORTS][CHANNELS];
	int fanning_out; /* index of the channel, -1 = none */
	struct subscriber at_start[PASSPORTS * 2];
	uint32_t end;
};

static struct slice model_name(int channel)
{
	static char name[16];

	snprintf(name, sizeof(name), "ch%d", channel);
	return slice_str(name);
}

static void model_toggle(struct model *model, int passport, int channel)
{
	struct world *world = model->world;
	struct channel *at = hub_get(&world->hub, model_name(channel));

	if (model->subscribed[passport][channel])
		world_unsubscribe(world, model->passports[passport], at,
				  channel == model->fanning_out);
	else if (hub_record(&world->hub, at)->count < PASSPORTS * 2)
		world_subscribe(world, model->passports[passport], at);
	else
		return;
	model->subscribed[passport][channel] = !model->subscribed[passport][channel];
}

static void model_replace_passport(struct model *model, int passport)
{
	for (int channel = 0; channel < CHANNELS; channel++) {
		if (model->subscribed[passport][channel])
			model_toggle(model, passport, channel);
	}
	world_passport_free(model->world, model->passports[passport]);
	model->passports[passport] = world_passport(model->world);
}

static void model_fan_out(struct model *model, int index)
{
	struct world *world = model->world;
	struct channel *channel;

	if (model->fanning_out >= 0) {
		hub_compact(&world->hub, hub_find(&world->hub, model_name(model->fanning_out)));
		model->fanning_out = -1;
		return;
	}
	model->fanning_out = index;
	channel = hub_get(&world->hub, model_name(index));
	model->end = hub_record(&world->hub, channel)->count;
	for (uint32_t i = 0; i < model->end; i++)
		model->at_start[i] = *hub_subscriber(&world->hub, channel, i);
}

static void model_release(struct model *model, int index)
{
	struct channel *channel = hub_find(&model->world->hub, model_name(index));

	if (channel && index != model->fanning_out &&
	    hub_record(&model->world->hub, channel)->count == 0)
		hub_release(&model->world->hub, channel);
}

/* During a fan-out nobody who was there at its start changes place. */
static void check_places(const struct model *model)
{
	struct channel *channel;

	if (model->fanning_out < 0)
		return;
	channel = hub_find(&model->world->hub, model_name(model->fanning_out));
	for (uint32_t i = 0; i < model->end; i++) {
		const struct subscriber *now = hub_subscriber(&model->world->hub, channel, i);

		assert_true(now->passport == 0 ||
			    (now->passport == model->at_start[i].passport &&
			     now->subscription == model->at_start[i].subscription));
	}
}

static void check_model(const struct model *model)
{
	struct world *world = model->world;
	uint64_t total = 0;

	world_check(world);
	check_places(model);
	for (int c = 0; c < CHANNELS; c++) {
		struct channel *channel = hub_find(&world->hub, model_name(c));
		uint32_t count = 0;

		for (int p = 0; p < PASSPORTS; p++) {
			const struct passport *passport =
				world_passport_at(world, model->passports[p]);
			bool found =
				channel && hub_subscription_find(&world->hub, passport, channel);

			assert_int_equal(found, model->subscribed[p][c]);
			count += model->subscribed[p][c];
		}
		if (channel)
			assert_int_equal(hub_subscribers(&world->hub, channel), count);
		total += count;
	}
	assert_int_equal(world->hub.subscription_count, total);
}

static void test_against_a_model(void **state)
{
	struct model model = {.world = *state, .fanning_out = -1};

	srandom(20260105);
	for (int i = 0; i < PASSPORTS; i++)
		model.passports[i] = world_passport(model.world);
	for (int step = 0; step < 6000; step++) {
		int passport = (int)(random() % PASSPORTS), channel = (int)(random() % CHANNELS);

		switch (random() % 20) {
		case 0: model_replace_passport(&model, passport); break;
		case 1: model_fan_out(&model, channel); break;
		case 2: model_release(&model, channel); break;
		default: model_toggle(&model, passport, channel); break;
		}
		check_model(&model);
	}
}

#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, world_setup, world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_WORLD(test_channels_are_found_by_name),
		IN_WORLD(test_released_channel_is_gone),
		cmocka_unit_test(test_channel_in_use_is_not_released),
		IN_WORLD(test_many_channels),
		IN_WORLD(test_full_arena_has_no_room_for_a_channel),
		IN_WORLD(test_position_and_epoch),
		IN_WORLD(test_sequences_are_forgotten_with_their_run),
		IN_WORLD(test_held_messages_keep_their_order_and_their_limit),
		IN_WORLD(test_everybody_is_served_above_the_own_sequence),
		IN_WORLD(test_held_messages_that_do_not_follow_are_told),
		IN_WORLD(test_both_ends_know_a_subscription),
		IN_WORLD(test_dropped_draft_subscribes_nobody),
		IN_WORLD(test_full_arena_subscribes_nobody),
		IN_WORLD(test_removal_moves_the_last_entry),
		IN_WORLD(test_fan_out_leaves_tombstones_until_it_ends),
		IN_WORLD(test_only_tombstones_compact_to_nothing),
		cmocka_unit_test(test_array_of_several_blocks),
		IN_WORLD(test_against_a_model),
	};

	return cmocka_run_group_tests_name("hub", tests, NULL, NULL);
}

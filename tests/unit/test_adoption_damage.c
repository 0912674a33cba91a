/* SPDX-License-Identifier: ISC */
/*
 * Adoption of damaged arenas: each kind of damage costs what it has to and no
 * more, and what is left is whole, whatever happens during the adoption.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arena_scene.h"
#include "keepsock/alloc.h"
#include "keepsock/crash_points.h"
#include "keepsock/websocket.h"

static struct arena_scene scene;

static int make_scene(void **state)
{
	(void)state;
	arena_scene_make(&scene);
	return 0;
}

static int drop_scene(void **state)
{
	(void)state;
	world_free(scene.world);
	return 0;
}

/* Subscriptions of the big channel: of those fans that did not leave, and of both clients. */
enum { BIG = SCENE_FANS - 10 + 2 };

static struct passport *client(struct arena *arena)
{
	return arena_at(arena, scene.client);
}

static struct passport *other(struct arena *arena)
{
	return arena_at(arena, scene.other);
}

static struct passport *redis(struct arena *arena)
{
	return arena_at(arena, scene.redis);
}

static struct channel_record *news(struct arena *arena)
{
	return arena_at(arena, scene.news);
}

static struct channel_record *big(struct arena *arena)
{
	return arena_at(arena, scene.big);
}

static struct subscription_record *subscription(struct arena *arena)
{
	return arena_at(arena, scene.subscription);
}

static struct subscriber *entries(struct arena *arena, const struct channel_record *record)
{
	return (struct subscriber *)(void *)arena_chunk_at(arena, record->subscribers)->data;
}

static struct arena_chunk *chunk(struct arena *arena, arena_ref ref)
{
	return arena_chunk_at(arena, ref);
}

static void set_class(struct arena *arena, arena_ref ref, unsigned class)
{
	atomic_store(&arena->header->page_class[ref / (ARENA_PAGE_SIZE / ARENA_REF_SIZE)],
		     (uint8_t) class);
}

/* --- what has to hold after any adoption --- */

static bool same_queue(const struct world *world, const struct stream_queue *old,
		       const struct stream_queue *new)
{
	size_t length = (size_t)queue_length(old);
	char *was = xmalloc(length), *is = xmalloc(length);
	bool same = queue_length(new) == length;

	if (same) {
		queue_copy(scene.world->arena, old, old->done, length, was);
		queue_copy(world->arena, new, new->done, length, is);
		same = memcmp(was, is, length) == 0;
	}
	free(was);
	free(is);
	return same;
}

/* One that nobody damaged has its own bytes, and nobody else's. */
static void assert_untouched(struct world *world, arena_ref ref)
{
	const struct passport *old = world_passport_at(scene.world, ref);
	const struct passport *new = world_passport_at(world, ref);

	assert_true(same_queue(world, &old->in, &new->in));
	assert_true(same_queue(world, &old->messages, &new->messages));
	assert_true(same_queue(world, &old->out, &new->out));
	assert_true(slice_equal(passport_user(scene.world->arena, old),
				passport_user(world->arena, new)));
}

static void assert_full_use(struct world *world)
{
	static const size_t payloads[] = {5000, 1000, 100, 40};
	arena_ref lists[4];

	for (size_t i = 0; i < 4; i++) {
		lists[i] = world_exhaust(world, payloads[i]);
		for (arena_ref ref = lists[i]; ref; ref = chunk(world->arena, ref)->next)
			memset(chunk(world->arena, ref)->data, 0xee,
			       arena_chunk_capacity(world->arena, ref));
	}
	world_check(world);
	for (size_t i = 0; i < 4; i++)
		world_release(world, lists[i]);
}

/* What the worker does with those whose channel was damaged, but for the push. */
static uint64_t tell_unplaced(struct world *world)
{
	arena_ref passport = 0;
	uint64_t told = 0;

	while ((passport = passport_next(world->arena, passport))) {
		arena_ref ref = world_passport_at(world, passport)->subscriptions;

		while (ref) {
			const struct subscription_record *record = arena_at(world->arena, ref);
			struct channel *channel = hub_channel_at(&world->hub, record->channel);
			arena_ref next = record->next;

			if (record->position == SUBSCRIPTION_UNPLACED) {
				assert_int_not_equal(hub_subscribers(&world->hub, channel), 0);
				world_unsubscribe(world, passport, channel, false);
				told++;
			}
			ref = next;
		}
	}
	return told;
}

/* The arena is whole and works, and the adoption told what is in it. */
static void assert_sound(struct world *world, const struct arena_adoption *adoption)
{
	struct arena_census census = world_check(world);
	int fd = world->arena->fd;
	struct world *again;

	assert_int_equal(census.passports, adoption->passports);
	assert_int_equal(census.channels, adoption->channels);
	assert_int_equal(census.chunks, adoption->chunks);
	assert_int_equal(census.subscriptions, adoption->subscriptions);
	assert_int_equal(world->hub.channel_count, adoption->channels);
	assert_full_use(world);
	assert_int_equal(tell_unplaced(world), adoption->unplaced);
	world_check(world);
	/* Nothing was left for another adoption to find. */
	again = world_adopt_whole(fd);
	assert_int_equal(again->hub.subscription_count,
			 adoption->subscriptions - adoption->unplaced);
	world_free(again);
}

/* --- each kind of damage --- */

/* What an adoption is to cost. */
struct cost {
	uint64_t passports, channels; /* lost */
	uint64_t told_channels, told; /* channels kept without their subscriptions */
	uint64_t entries;
	uint64_t shards; /* bits */
	uint64_t pages;
	bool fanout, work, states;
};

static void reader_in_message(struct arena *arena, arena_ref passport)
{
	struct websocket_reader reader = {.message_opcode = WEBSOCKET_TEXT,
					  .frame_opcode = WEBSOCKET_TEXT};

	memcpy(&((struct passport *)arena_at(arena, passport))->reader, &reader, sizeof(reader));
}

static void swap_entries(struct arena *arena, uint32_t a, uint32_t b)
{
	struct subscriber *list = entries(arena, big(arena)), kept = list[a];

	list[a] = list[b];
	list[b] = kept;
}

static void name_news_big(struct arena *arena)
{
	memcpy(chunk(arena, news(arena)->name)->data, "big", 3);
	chunk(arena, news(arena)->name)->used = news(arena)->name_length = 3;
}

/* Its connection, its entries in two channels, and the write that was announced on it. */
#define CLIENT_LOST .passports = 1, .entries = 2, .work = true

/* PLANT(name, damage to `a`, the arena, what it costs) */
#define PLANTS(PLANT)                                                                              \
	/* One passport is wrong. */                                                               \
	PLANT(ref_outside, client(a)->identity = UINT32_MAX, CLIENT_LOST)                          \
	PLANT(ref_to_a_record, client(a)->identity = scene.other, CLIENT_LOST)                     \
	PLANT(ref_into_a_chunk, client(a)->identity = client(a)->out.tail + 1, CLIENT_LOST)        \
	PLANT(ref_to_a_free_page, client(a)->identity = (a->header->page_count - 1) * 1024,        \
	      CLIENT_LOST)                                                                         \
	PLANT(ref_to_the_scratch, client(a)->identity = 1024, CLIENT_LOST)                         \
	PLANT(tls_to_nobodys_chunk, client(a)->tls = scene.no_frame, CLIENT_LOST)                  \
	PLANT(tls_without_version, passport_tls(a, client(a))->state.version = 0, CLIENT_LOST)     \
	PLANT(ciphertext_cut, passport_tls(a, client(a))->in.tail = 0, CLIENT_LOST)                \
	PLANT(ref_to_nobodys_chunk, client(a)->identity = scene.no_frame, CLIENT_LOST)             \
	PLANT(cut_chain, chunk(a, client(a)->out.head)->next = 0, CLIENT_LOST)                     \
	PLANT(truncated_queue, client(a)->out.tail = client(a)->out.head, CLIENT_LOST)             \
	PLANT(longer_queue, client(a)->out.end += 1000000, CLIENT_LOST)                            \
	PLANT(queue_in_a_circle, chunk(a, client(a)->out.head)->next = client(a)->out.head,        \
	      CLIENT_LOST)                                                                         \
	PLANT(subscriptions_in_a_circle,                                                           \
	      ((struct subscription_record *)arena_at(a, subscription(a)->next))->next =           \
		      scene.subscription,                                                          \
	      CLIENT_LOST)                                                                         \
	PLANT(list_cut_short, subscription(a)->next = 0, CLIENT_LOST)                              \
	PLANT(list_of_another, subscription(a)->next = other(a)->subscriptions, CLIENT_LOST)       \
	PLANT(subscription_of_another, subscription(a)->passport = scene.other, CLIENT_LOST)       \
	PLANT(back_link_wrong, subscription(a)->previous = scene.subscription, CLIENT_LOST)        \
	PLANT(subscription_without_channel, subscription(a)->channel = 0, CLIENT_LOST)             \
	PLANT(subscription_to_a_passport, subscription(a)->channel = scene.client, CLIENT_LOST)    \
	PLANT(subscription_to_another_channel, subscription(a)->channel = scene.news, CLIENT_LOST) \
	PLANT(place_of_another, subscription(a)->position = 3, CLIENT_LOST)                        \
	PLANT(place_beyond, subscription(a)->position = 1000000, CLIENT_LOST)                      \
	PLANT(info_outside, subscription(a)->info = 1, CLIENT_LOST)                                \
	PLANT(wrong_version, client(a)->version++, CLIENT_LOST)                                    \
	PLANT(no_such_state, client(a)->state = PASSPORT_STATE_COUNT, CLIENT_LOST)                 \
	PLANT(no_such_codec, client(a)->codec = 9, CLIENT_LOST)                                    \
	PLANT(future_generation, client(a)->generation = a->header->generation + 1, CLIENT_LOST)   \
	PLANT(no_generation, client(a)->generation = 0, CLIENT_LOST)                               \
	PLANT(too_many_counted, client(a)->subscription_count++, CLIENT_LOST)                      \
	PLANT(unknown_partial_message, client(a)->partial_message = 0, CLIENT_LOST)                \
	PLANT(message_absurdly_long, *queue_word(a, &client(a)->messages, 0) |= (1ull << 56) - 1,  \
	      CLIENT_LOST)                                                                         \
	PLANT(reader_elsewhere, reader_in_message(a, scene.fans_first), .passports = 1,            \
	      .entries = 1)                                                                        \
	PLANT(identity_too_long,                                                                   \
	      ((struct passport_identity *)(void *)chunk(a, client(a)->identity)->data)            \
		      ->info_length = 60000,                                                       \
	      CLIENT_LOST)                                                                         \
	/* Its claim is told from the owner's where it can be; where not, both are lost. */        \
	PLANT(identity_that_is_a_name, client(a)->identity = news(a)->name, CLIENT_LOST)           \
	PLANT(identity_that_is_a_queue, client(a)->identity = other(a)->in.head, CLIENT_LOST)      \
	PLANT(queue_of_names, client(a)->in.head = client(a)->in.tail = news(a)->name,             \
	      CLIENT_LOST)                                                                         \
	PLANT(identity_shared, client(a)->identity = other(a)->identity, .passports = 2,           \
	      .entries = 4, .work = true)                                                          \
	PLANT(queue_shared, client(a)->in = other(a)->in, .passports = 2, .entries = 4,            \
	      .work = true)                                                                        \
	/* Passports that are gone altogether. */                                                  \
	PLANT(magic_gone, client(a)->magic = 0, .entries = 2, .work = true)                        \
	PLANT(magic_wrong, other(a)->magic ^= 1, .entries = 2)                                     \
	PLANT(subscriptions_gone, client(a)->subscriptions = client(a)->subscription_count = 0,    \
	      .entries = 2)                                                                        \
	PLANT(redis_lost, redis(a)->version = 0, .passports = 1, .shards = 2, .states = true)      \
	PLANT(redis_gone, redis(a)->magic = 0, .shards = 2, .states = true)                        \
	PLANT(redis_is_a_client, a->header->shards[1].passport = scene.client, .shards = 2,        \
	      .states = true)                                                                      \
	PLANT(redis_far_outside, a->header->shards[1].passport |= 1ull << 40, .shards = 2,         \
	      .states = true)                                                                      \
	PLANT(redis_of_two_shards, a->header->shards[4].passport = scene.redis, .passports = 1,    \
	      .shards = 18, .states = true)                                                        \
	PLANT(run_endless, memset(a->header->shards[1].run, 'a', ARENA_RUN_MAX), .passports = 1,   \
	      .shards = 2, .states = true)                                                         \
	/* An array is wrong: its subscribers are told; the fan-out under way is in the big one.   \
	 */                                                                                        \
	PLANT(array_of_another, news(a)->subscribers = big(a)->subscribers, .told_channels = 2,    \
	      .told = BIG + 2, .fanout = true)                                                     \
	PLANT(array_outside, news(a)->subscribers = UINT32_MAX, .told_channels = 1, .told = 2)     \
	PLANT(array_gone, news(a)->blocks = 0, .told_channels = 1, .told = 2)                      \
	PLANT(array_that_is_a_queue, news(a)->subscribers = other(a)->in.head, .told_channels = 1, \
	      .told = 2)                                                                           \
	PLANT(array_too_small, news(a)->count = 100, .told_channels = 1, .told = 2)                \
	PLANT(array_shorter, news(a)->count = 1, .told_channels = 1, .told = 2)                    \
	PLANT(small_block, chunk(a, big(a)->subscribers)->next = scene.no_frame,                   \
	      .told_channels = 1, .told = BIG, .fanout = true)                                     \
	PLANT(blocks_missing, big(a)->blocks = 1, .told_channels = 1, .told = BIG, .fanout = true) \
	PLANT(blocks_absurd, big(a)->blocks = UINT32_MAX, .told_channels = 1, .told = BIG,         \
	      .fanout = true)                                                                      \
	PLANT(entry_is_a_chunk, entries(a, big(a))[5].passport = scene.frame, .told_channels = 1,  \
	      .told = BIG, .fanout = true)                                                         \
	PLANT(entry_outside, entries(a, big(a))[5].subscription = UINT32_MAX, .told_channels = 1,  \
	      .told = BIG, .fanout = true)                                                         \
	PLANT(entry_twice, entries(a, big(a))[5] = entries(a, big(a))[6], .told_channels = 1,      \
	      .told = BIG, .fanout = true)                                                         \
	PLANT(entries_swapped, swap_entries(a, 5, 6), .told_channels = 1, .told = BIG,             \
	      .fanout = true)                                                                      \
	PLANT(entry_forgotten, entries(a, big(a))[5] = (struct subscriber){0}, .told_channels = 1, \
	      .told = BIG, .fanout = true)                                                         \
	PLANT(array_of_rubbish, memset(entries(a, big(a)), 0xa5, 4096), .told_channels = 1,        \
	      .told = BIG, .fanout = true)                                                         \
	PLANT(epoch_too_long, news(a)->epoch_length = 200, .told_channels = 1, .told = 2)          \
	PLANT(no_such_channel_state, news(a)->state = 9, .told_channels = 1, .told = 2,            \
	      .states = true)                                                                      \
	PLANT(never_confirmed, news(a)->unconfirmed = 3, .told_channels = 1, .told = 2,            \
	      .states = true)                                                                      \
	/* Counts that nobody was hurt by are counted anew. */                                     \
	PLANT(tombstones_miscounted, big(a)->tombstones--)                                         \
	PLANT(unplaced_miscounted, news(a)->unplaced = 77)                                         \
	PLANT(tombstone_that_names_two, entries(a, big(a))[10] = entries(a, news(a))[0],           \
	      .entries = 1)                                                                        \
	/* A channel's name is wrong: nobody can be told. */                                       \
	PLANT(name_outside, news(a)->name = UINT32_MAX, .channels = 1, .passports = 2,             \
	      .entries = 2, .states = true, .work = true)                                          \
	PLANT(name_of_another, news(a)->name = big(a)->name, .channels = 1, .passports = 2,        \
	      .entries = 2, .states = true, .work = true)                                          \
	PLANT(name_too_long, news(a)->name_length = 1000, .channels = 1, .passports = 2,           \
	      .entries = 2, .states = true, .work = true)                                          \
	PLANT(channel_gone, news(a)->magic = 0, .passports = 2, .entries = 2, .work = true)        \
	PLANT(name_twice, name_news_big(a), .channels = 1, .passports = BIG, .entries = 2,         \
	      .states = true, .work = true, .fanout = true)                                        \
	/* The fan-out's record is wrong: its channel is told. */                                  \
	PLANT(frame_in_a_circle, chunk(a, scene.frame)->next = scene.frame, .told_channels = 1,    \
	      .told = BIG, .fanout = true)                                                         \
	PLANT(frame_that_is_an_identity, a->header->fanout.frame = other(a)->identity,             \
	      .told_channels = 1, .told = BIG, .fanout = true)                                     \
	PLANT(frame_far_outside, a->header->fanout.frame |= 1ull << 40, .told_channels = 1,        \
	      .told = BIG, .fanout = true)                                                         \
	PLANT(frame_shorter, a->header->fanout.frame_length--, .told_channels = 1, .told = BIG,    \
	      .fanout = true)                                                                      \
	PLANT(deflated_outside, a->header->fanout.deflated = 1, .told_channels = 1, .told = BIG,   \
	      .fanout = true)                                                                      \
	PLANT(frame_without_batch, a->header->fanout.batch = 0, .told_channels = 1, .told = BIG,   \
	      .fanout = true)                                                                      \
	PLANT(end_beyond, a->header->fanout.end = 1000000, .told_channels = 1, .told = BIG,        \
	      .fanout = true)                                                                      \
	PLANT(cursor_beyond, atomic_store(&a->header->fanout.cursor, (uint64_t)SCENE_END << 32),   \
	      .told_channels = 1, .told = BIG, .fanout = true)                                     \
	PLANT(batch_for_nobody, a->header->fanout.channel = scene.client, .fanout = true)          \
	/* The rest of the header. */                                                              \
	PLANT(syscall_on_nobody,                                                                   \
	      atomic_store(&a->header->work.syscall, WORK_WORD(WORK_SYSCALL_READ, scene.frame)),   \
	      .work = true)                                                                        \
	PLANT(serving_nobody,                                                                      \
	      atomic_store(&a->header->work.serving,                                               \
			   WORK_WORD(WORK_SERVING_CONNECTION, scene.big)),                         \
	      .work = true)                                                                        \
	PLANT(serving_nothing, atomic_store(&a->header->work.serving, WORK_WORD(77, scene.big)),   \
	      .work = true)                                                                        \
	PLANT(no_such_class, set_class(a, (a->header->page_count - 1) * 1024, ARENA_CLASSES),      \
	      .pages = 1)                                                                          \
	PLANT(reserved_page, set_class(a, (a->header->page_count - 1) * 1024, ARENA_RESERVED),     \
	      .pages = 1)                                                                          \
	PLANT(header_given_away, set_class(a, 0, ARENA_CHUNK_64), .pages = 1)                      \
	PLANT(scratch_given_away, set_class(a, 1024, ARENA_PASSPORT), .pages = 1)

static void assert_cost(const struct arena_adoption *adoption, const struct cost *cost)
{
	assert_int_equal(adoption->passports_lost, cost->passports);
	assert_int_equal(adoption->channels_lost, cost->channels);
	assert_int_equal(adoption->channels_unplaced, cost->told_channels);
	assert_int_equal(adoption->unplaced, cost->told);
	assert_int_equal(adoption->entries_dropped, cost->entries);
	assert_int_equal(adoption->shards_lost, cost->shards);
	assert_int_equal(adoption->pages_lost, cost->pages);
	assert_int_equal(adoption->fanout_lost, cost->fanout);
	assert_int_equal(adoption->work_lost, cost->work);
	assert_int_equal(adoption->states_lost, cost->states);
}

static void adopt_at_cost(int fd, const struct cost *cost)
{
	struct arena_adoption adoption;
	struct world *world = world_adopt(fd, &adoption);

	if (adoption.violations == 0 && cost->pages == 0)
		fail_msg("nothing was found");
	assert_cost(&adoption, cost);
	assert_sound(world, &adoption);
	/* Whoever is left of the two that have something has it all. */
	if (world_passport_at(world, scene.other)->magic == PASSPORT_MAGIC)
		assert_untouched(world, scene.other);
	world_free(world);
	arena_adoption_free(&adoption);
	close(fd);
}

#define PLANT(name, damage, ...)                           \
	static void test_cost_of_##name(void **state)      \
	{                                                  \
		const char *error = NULL;                  \
		const struct cost cost = {__VA_ARGS__};    \
		int fd = world_copy(scene.world);          \
		struct arena *a = arena_adopt(fd, &error); \
                                                           \
		(void)state;                               \
		assert_non_null(a);                        \
		damage;                                    \
		arena_destroy(a);                          \
		adopt_at_cost(fd, &cost);                  \
	}
PLANTS(PLANT)
#undef PLANT

/* A whole page of passports can't be read any more: they are gone, and leave nothing behind. */
static void test_lost_page_costs_what_was_on_it(void **state)
{
	int fd = world_copy(scene.world);
	struct arena_adoption adoption;
	const char *error = NULL;
	struct arena *a = arena_adopt(fd, &error);
	struct world *world;

	(void)state;
	set_class(a, scene.fans_first, ARENA_CLASSES + 3);
	arena_destroy(a);
	world = world_adopt(fd, &adoption);
	assert_int_equal(adoption.pages_lost, 1);
	assert_int_equal(adoption.passports, SCENE_FANS + 3 - 256);
	assert_int_equal(adoption.passports_lost, 0);
	/* The ten who left the big channel are among them. */
	assert_int_equal(adoption.entries_dropped, 256 - 10);
	assert_sound(world, &adoption);
	assert_untouched(world, scene.client);
	world_free(world);
	arena_adoption_free(&adoption);
	close(fd);
}

/* --- damage at random --- */

static void damage_word(struct arena *a, arena_ref at, unsigned words)
{
	uint32_t *word = (uint32_t *)arena_at(a, at) + (unsigned long)random() % words;

	if (random() % 2)
		*word = (uint32_t)random();
	else
		*word ^= 1u << random() % 32;
}

/* Whatever it is, what is left is whole. */
static void test_random_damage_leaves_a_whole_arena(void **state)
{
	const arena_ref places[] = {scene.client,       scene.other, scene.news, scene.big,
				    scene.subscription, scene.frame, scene.redis};
	uint64_t found = 0;

	(void)state;
	srandom(20260108);
	for (int round = 0; round < 80; round++) {
		int fd = world_copy(scene.world);
		struct arena_adoption adoption;
		const char *error = NULL;
		struct arena *a = arena_adopt(fd, &error);
		struct world *world;

		for (long i = random() % 3; i >= 0; i--) {
			arena_ref at =
				places[(size_t)random() % (sizeof(places) / sizeof(places[0]))];

			damage_word(a, at, at == scene.frame ? 4 : 16);
		}
		arena_destroy(a);
		world = world_adopt(fd, &adoption);
		found += adoption.violations > 0;
		assert_sound(world, &adoption);
		world_free(world);
		arena_adoption_free(&adoption);
		close(fd);
	}
	assert_true(found > 30);
}

/* A connection's damage is its own, and that of the one it was mixed up with. */
static void test_random_damage_of_a_connection_costs_no_other(void **state)
{
	const struct passport *passport = world_passport_at(scene.world, scene.client);
	const arena_ref places[] = {scene.client,      scene.subscription, passport->identity,
				    passport->in.head, passport->out.head, passport->messages.head};
	uint64_t lost = 0;

	(void)state;
	srandom(20260109);
	for (int round = 0; round < 80; round++) {
		arena_ref at = places[(size_t)random() % (sizeof(places) / sizeof(places[0]))];
		int fd = world_copy(scene.world);
		struct arena_adoption adoption;
		const char *error = NULL;
		struct arena *a = arena_adopt(fd, &error);
		struct world *world;

		damage_word(a, at, at == scene.client ? 64 : 4);
		arena_destroy(a);
		world = world_adopt(fd, &adoption);
		assert_true(adoption.passports_lost <= 2);
		assert_int_equal(adoption.channels, 2);
		assert_int_equal(adoption.unplaced, 0);
		lost += adoption.passports_lost;
		assert_sound(world, &adoption);
		if (world_passport_at(world, scene.other)->magic == PASSPORT_MAGIC)
			assert_untouched(world, scene.other);
		world_free(world);
		arena_adoption_free(&adoption);
		close(fd);
	}
	assert_true(lost > 15);
}

/* --- deaths during an adoption --- */

/* Some of everything: a passport, both kinds of channels, a shard and the fan-out. */
static void damage_much(struct arena *a)
{
	client(a)->identity = 1;
	entries(a, big(a))[5] = (struct subscriber){0};
	entries(a, big(a))[7] = (struct subscriber){0};
	news(a)->epoch_length = 99;
	redis(a)->version = 0;
}

static void adopt_and_die(int fd)
{
	static const char *const points[] = {"commit-before", "commit-stored", "commit-half"};
	bool armed = random() % 2;
	unsigned hits = 1 + (unsigned)random() % (BIG + 10);
	const char *point = points[random() % 3];
	pid_t child = fork();

	if (child == 0) {
		struct arena_adoption adoption;

#ifdef KEEPSOCK_CRASH_POINTS
		if (armed && !crash_point_arm(point, hits))
			_exit(1);
#else
		(void)point;
		(void)hits;
#endif
		world_adopt(fd, &adoption);
		_exit(0);
	}
	assert_true(child > 0);
	if (!armed) {
		usleep((unsigned)random() % 30000);
		kill(child, SIGKILL);
	}
	assert_int_equal(waitpid(child, NULL, 0), child);
}

static void test_adoption_is_taken_up_where_another_died(void **state)
{
	(void)state;
	srandom(20260110);
	for (int round = 0; round < 25; round++) {
		int fd = world_copy(scene.world);
		struct arena_adoption adoption;
		const char *error = NULL;
		struct arena *a = arena_adopt(fd, &error);
		struct world *world;

		damage_much(a);
		arena_destroy(a);
		for (long deaths = random() % 3; deaths >= 0; deaths--)
			adopt_and_die(fd);
		world = world_adopt(fd, &adoption);
		/* Nobody is lost but who was damaged, and everybody is told who has to be. */
		assert_int_equal(adoption.passports, SCENE_FANS + 3 - 2);
		assert_int_equal(adoption.channels, 2);
		assert_int_equal(adoption.unplaced, BIG - 1 + 1);
		assert_int_equal(adoption.subscriptions, BIG + 2 - 2);
		assert_int_equal(world->arena->header->fanout.batch, 0);
		assert_int_equal(world->arena->header->shards[1].passport, 0);
		assert_sound(world, &adoption);
		assert_untouched(world, scene.other);
		world_free(world);
		arena_adoption_free(&adoption);
		close(fd);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define PLANT(name, ...) cmocka_unit_test(test_cost_of_##name),
		PLANTS(PLANT)
#undef PLANT
			cmocka_unit_test(test_lost_page_costs_what_was_on_it),
		cmocka_unit_test(test_random_damage_leaves_a_whole_arena),
		cmocka_unit_test(test_random_damage_of_a_connection_costs_no_other),
		cmocka_unit_test(test_adoption_is_taken_up_where_another_died),
	};

	return cmocka_run_group_tests_name("adoption of damage", tests, make_scene, drop_scene);
}

/* SPDX-License-Identifier: ISC */
/*
 * The check of an arena: a scene with everything an arena can hold is clean, and
 * each kind of damage planted into a private view of it is told.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arena_scene.h"
#include "keepsock/alloc.h"
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

static void test_scene_is_clean(void **state)
{
	struct arena_census census = world_check(scene.world);

	(void)state;
	assert_int_equal(census.violations, 0);
	assert_int_equal(census.passports, SCENE_FANS + 3);
	assert_int_equal(census.channels, 2);
	assert_int_equal(census.subscriptions, SCENE_FANS - 10 + 4);
}

/* --- planting --- */

static struct passport *client(struct arena *view)
{
	return arena_at(view, scene.client);
}

static struct passport *other(struct arena *view)
{
	return arena_at(view, scene.other);
}

static struct channel_record *news(struct arena *view)
{
	return arena_at(view, scene.news);
}

static struct channel_record *big(struct arena *view)
{
	return arena_at(view, scene.big);
}

static struct subscription_record *subscription(struct arena *view)
{
	return arena_at(view, scene.subscription);
}

static struct subscriber *entries(struct arena *view, const struct channel_record *record)
{
	return (struct subscriber *)(void *)arena_chunk_at(view, record->subscribers)->data;
}

static struct passport_identity *identity(struct arena *view)
{
	return (void *)arena_chunk_at(view, client(view)->identity)->data;
}

static struct passport_tls *tls(struct arena *view)
{
	return passport_tls(view, client(view));
}

static struct passport_peer *certificate(struct arena *view)
{
	return (struct passport_peer *)passport_peer(view, client(view));
}

static uint64_t *first_message(struct arena *view)
{
	return queue_word(view, &client(view)->messages, 0);
}

static void shift_messages(struct arena *view, uint64_t by)
{
	struct stream_queue *queue = &client(view)->messages;

	for (arena_ref ref = queue->head;; ref = arena_chunk_at(view, ref)->next) {
		arena_chunk_at(view, ref)->base += by;
		if (ref == queue->tail)
			break;
	}
	queue->done += by;
}

static void reader_in_message(struct arena *view, arena_ref passport)
{
	struct websocket_reader reader = {.message_opcode = WEBSOCKET_TEXT,
					  .frame_opcode = WEBSOCKET_TEXT};

	memcpy(&((struct passport *)arena_at(view, passport))->reader, &reader, sizeof(reader));
}

/*
 * PLANT(name, what the report must say, damage). `view` is the arena; each runs
 * on a fresh view.
 */
#define PLANTS(PLANT)                                                                              \
	PLANT(ref_outside, "is outside the arena", client(view)->identity = UINT32_MAX)            \
	PLANT(ref_to_nothing_in_a_chain, "is outside the arena",                                   \
	      arena_chunk_at(view, client(view)->out.head)->next = 0)                              \
	PLANT(ref_to_a_record, "is no chunk", client(view)->identity = scene.other)                \
	PLANT(ref_into_a_chunk, "is no chunk",                                                     \
	      client(view)->identity = client(view)->out.tail + 1)                                 \
	PLANT(ref_to_a_free_page, "is no chunk",                                                   \
	      client(view)->identity = (view->header->page_count - 1) * 1024)                      \
	PLANT(ref_to_the_scratch, "is no chunk", client(view)->identity = 1024)                    \
	PLANT(tls_shared, "has two owners", client(view)->tls = other(view)->tls)                  \
	PLANT(tls_in_a_small_chunk, "does not fit into its chunk",                                 \
	      client(view)->tls = client(view)->identity)                                          \
	PLANT(certificate_too_long, "does not fit into its chunk",                                 \
	      certificate(view)->length[3] = 999)                                                  \
	PLANT(tls_of_no_version, "a record layer that can't be", tls(view)->state.version = 7)     \
	PLANT(tls_of_no_suite, "a record layer that can't be", tls(view)->state.suite = 0x1309)    \
	PLANT(tls_flags, "a record layer that can't be", tls(view)->state.flags = 0x80)            \
	PLANT(ciphertext_without_chunks, "has no chunks", tls(view)->in.head = 0)                  \
	PLANT(ciphertext_beyond_its_end, "does not hold the end", tls(view)->in.end += 5000)       \
	PLANT(identity_shared, "has two owners", client(view)->identity = other(view)->identity)   \
	PLANT(queue_shared, "has two owners", client(view)->in = other(view)->in)                  \
	PLANT(queue_in_a_circle, "has two owners",                                                 \
	      arena_chunk_at(view, client(view)->out.head)->next = client(view)->out.head)         \
	PLANT(subscriptions_in_a_circle, "has two owners",                                         \
	      ((struct subscription_record *)arena_at(view, subscription(view)->next))->next =     \
		      scene.subscription)                                                          \
	PLANT(frame_in_a_circle, "has two owners",                                                 \
	      arena_chunk_at(view, scene.frame)->next = scene.frame)                               \
	PLANT(name_shared, "has two owners", news(view)->name = big(view)->name;                   \
	      news(view)->name_length = big(view)->name_length)                                    \
	PLANT(name_of_another, "a name of another length", news(view)->name = big(view)->name)     \
	PLANT(name_twice, "another one has its name",                                              \
	      memcpy(arena_chunk_at(view, news(view)->name)->data, "big", 3);                      \
	      news(view)->name_length = 3; arena_chunk_at(view, news(view)->name)->used = 3)       \
	PLANT(outstanding_in_peace, "a state it can't have come to", news(view)->unconfirmed = 1)  \
	PLANT(nothing_outstanding, "a state it can't have come to",                                \
	      news(view)->state = CHANNEL_JOINING)                                                 \
	PLANT(unplaced_miscounted, "without a place, has", news(view)->unplaced = 1)               \
	PLANT(no_such_codec, "version, kind, state or codec",                                      \
	      client(view)->codec = PASSPORT_CODECS)                                               \
	PLANT(message_word_senseless, "neither begun nor complete", *first_message(view) = 5)      \
	PLANT(messages_at_odd_base, "do not lie in one piece", shift_messages(view, 4))            \
	PLANT(reader_senseless, "can't have come there",                                           \
	      ((struct passport *)arena_at(view, scene.fans_first))->reader.word[0] = 1)           \
	PLANT(reader_without_message, "in a message that nobody has",                              \
	      reader_in_message(view, scene.fans_first))                                           \
	PLANT(worker_name_endless, "the worker's name has no end",                                 \
	      memset(view->header->worker_name, 'a', ARENA_NAME_MAX))                              \
	PLANT(array_shared, "has two owners", news(view)->subscribers = big(view)->subscribers)    \
	PLANT(empty_queue_with_chunk, "an empty queue holds chunks",                               \
	      client(view)->in.done = client(view)->in.end)                                        \
	PLANT(empty_queue_with_tail, "an empty queue holds chunks",                                \
	      client(view)->in.done = client(view)->in.end + 1;                                    \
	      client(view)->in.head = 0)                                                           \
	PLANT(queue_without_head, "has no chunks", client(view)->out.head = 0)                     \
	PLANT(queue_without_tail, "has no chunks", client(view)->out.tail = 0)                     \
	PLANT(front_before_head, "does not hold the front",                                        \
	      arena_chunk_at(view, client(view)->in.head)->base = 1)                               \
	PLANT(front_behind_head, "does not hold the front", client(view)->out.done = 1000)         \
	PLANT(cut_queue, "does not follow",                                                        \
	      arena_chunk_at(view, arena_chunk_at(view, client(view)->out.head)->next)->base -= 8) \
	PLANT(end_behind_tail, "does not hold the end", client(view)->out.end += 1000000)          \
	PLANT(end_before_tail, "does not hold the end", client(view)->out.end = 30)                \
	PLANT(message_at_odd_place, "an entry is cut at", client(view)->messages.done = 1)         \
	PLANT(message_without_word, "an entry is cut at", client(view)->messages.end -= 9)         \
	PLANT(unknown_partial_message, "an incomplete message nobody knows",                       \
	      client(view)->partial_message = 0)                                                   \
	PLANT(message_too_long, "the last entry exceeds the queue", *first_message(view) += 5000)  \
	PLANT(message_absurdly_long, "the last entry exceeds the queue",                           \
	      *first_message(view) |= 0x00ffffffffffffff)                                          \
	PLANT(commands_of_no_message, "commands consumed of no message",                           \
	      ((struct passport *)arena_at(view, scene.fans_first))->command_index = 3)            \
	PLANT(identity_too_long, "lengths do not fit", identity(view)->data_length = 1000)         \
	PLANT(identity_does_not_add_up, "lengths do not fit", identity(view)->user_length++)       \
	PLANT(subscription_of_another, "listed by", subscription(view)->passport = scene.other)    \
	PLANT(back_link_wrong, "not linked both ways",                                             \
	      subscription(view)->previous = scene.subscription)                                   \
	PLANT(back_link_missing, "not linked both ways",                                           \
	      ((struct subscription_record *)arena_at(view, subscription(view)->next))->previous = \
		      0)                                                                           \
	PLANT(subscription_without_channel, "no channel", subscription(view)->channel = 0)         \
	PLANT(subscription_to_a_passport, "no channel",                                            \
	      subscription(view)->channel = scene.client)                                          \
	PLANT(subscription_beyond_array, "beyond its channel's array",                             \
	      subscription(view)->position = big(view)->count)                                     \
	PLANT(entry_of_another, "entry names another", subscription(view)->position = 3)           \
	PLANT(wrong_version, "version, kind, state or codec", client(view)->version++)             \
	PLANT(state_of_the_free, "version, kind, state or codec",                                  \
	      client(view)->state = PASSPORT_STATE_FREE)                                           \
	PLANT(no_such_state, "version, kind, state or codec",                                      \
	      client(view)->state = PASSPORT_STATE_COUNT)                                          \
	PLANT(no_such_kind, "version, kind, state or codec", client(view)->kind = 0)               \
	PLANT(no_generation, "generation that was never given", client(view)->generation = 0)      \
	PLANT(future_generation, "generation that was never given",                                \
	      client(view)->generation = view->header->generation + 1)                             \
	PLANT(too_many_counted, "subscriptions, has", client(view)->subscription_count++)          \
	PLANT(list_cut_short, "subscriptions, has", subscription(view)->next = 0)                  \
	PLANT(small_block, "a small block in a long array",                                        \
	      arena_chunk_at(view, big(view)->subscribers)->next = scene.no_frame)                 \
	PLANT(array_too_small, "more subscribers than its array holds", news(view)->count = 100)   \
	PLANT(blocks_missing, "more subscribers than its array holds", big(view)->blocks = 1)      \
	PLANT(no_such_channel_state, "a state it can't have come to",                              \
	      news(view)->state = CHANNEL_LEAVING + 1)                                             \
	PLANT(epoch_too_long, "an epoch that is too long",                                         \
	      news(view)->epoch_length = CHANNEL_EPOCH_MAX + 1)                                    \
	PLANT(name_too_long, "a name longer than its chunk", news(view)->name_length = 1000)       \
	PLANT(subscriber_freed, "is no passport", client(view)->magic = 0)                         \
	PLANT(subscriber_is_a_chunk, "is no passport",                                             \
	      entries(view, big(view))[5].passport = scene.frame)                                  \
	PLANT(subscriber_outside, "is no passport",                                                \
	      entries(view, big(view))[5].passport = UINT32_MAX)                                   \
	PLANT(subscription_freed, "has no record", client(view)->subscriptions = 0;                \
	      client(view)->subscription_count = 0)                                                \
	PLANT(subscription_outside, "has no record",                                               \
	      entries(view, big(view))[5].subscription = UINT32_MAX)                               \
	PLANT(entry_twice, "record names another place",                                           \
	      entries(view, big(view))[5] = entries(view, big(view))[6])                           \
	PLANT(tombstone_not_counted, "tombstones, has", big(view)->tombstones--)                   \
	PLANT(subscriber_forgotten, "tombstones, has",                                             \
	      entries(view, big(view))[5] = (struct subscriber){0})                                \
	PLANT(frame_without_batch, "no batch, but a frame", view->header->fanout.batch = 0)        \
	PLANT(deflated_without_batch, "no batch, but a frame",                                     \
	      view->header->fanout.batch = view->header->fanout.frame = 0)                         \
	PLANT(deflated_cut, "bytes instead of", view->header->fanout.deflated_length--)            \
	PLANT(deflated_shared, "two owners",                                                       \
	      view->header->fanout.deflated = view->header->fanout.frame)                          \
	PLANT(deflated_window, "a window of 7 bits", view->header->fanout.deflated_window = 7)     \
	PLANT(kind_of_messages, "a kind of messages", view->header->fanout.kind = 2)               \
	PLANT(batch_of_the_past, "not the last one begun", view->header->fanout.last_batch++)      \
	PLANT(frame_chunk_too_full, "holds more than it can",                                      \
	      arena_chunk_at(view, scene.frame)->used = 113)                                       \
	PLANT(frame_cut, "bytes instead of", view->header->fanout.frame_length++)                  \
	PLANT(frame_shared, "has two owners", view->header->fanout.frame = client(view)->identity) \
	PLANT(frame_is_no_identity, "lengths do not fit", client(view)->identity = scene.frame)    \
	PLANT(batch_without_channel, "fanout: no channel",                                         \
	      view->header->fanout.channel = scene.client)                                         \
	PLANT(end_beyond_array, "its end is beyond the array",                                     \
	      view->header->fanout.end = SCENE_FANS + 9)                                           \
	PLANT(cursor_beyond_end, "the cursor is beyond the end",                                   \
	      atomic_store(&view->header->fanout.cursor, (uint64_t)SCENE_END << 32))               \
	PLANT(settled_cursor_beyond_end, "the cursor is beyond the end",                           \
	      atomic_store(&view->header->fanout.cursor,                                           \
			   FANOUT_SETTLED | (uint64_t)SCENE_END << 32))                            \
	PLANT(redis_passport_outside, "the subscription connection has no passport",               \
	      view->header->shards[0].passport = UINT64_MAX)                                       \
	PLANT(redis_passport_freed, "the subscription connection has no passport",                 \
	      ((struct passport *)arena_at(view, scene.redis))->magic = 0)                         \
	PLANT(redis_passport_of_a_client, "the subscription connection has no passport",           \
	      view->header->shards[63].passport = scene.client)                                    \
	PLANT(redis_passport_shared, "its passport is shard 1's too",                              \
	      view->header->shards[2].passport = scene.redis)                                      \
	PLANT(run_without_end, "its run has no end",                                               \
	      memset(view->header->shards[5].run, 'a', ARENA_RUN_MAX))                             \
	PLANT(generation_without_end, "its run has no end",                                        \
	      memset(view->header->shards[6].generation, 'a', ARENA_GENERATION_MAX))               \
	PLANT(syscall_on_nobody, "a syscall on no connection",                                     \
	      atomic_store(&view->header->work.syscall,                                            \
			   WORK_WORD(WORK_SYSCALL_READ, scene.frame)))                             \
	PLANT(serving_nobody, "serving no connection",                                             \
	      atomic_store(&view->header->work.serving,                                            \
			   WORK_WORD(WORK_SERVING_CONNECTION, scene.big)))                         \
	PLANT(serving_no_channel, "serving no channel",                                            \
	      atomic_store(&view->header->work.serving,                                            \
			   WORK_WORD(WORK_SERVING_BATCH, scene.client)))                           \
	PLANT(no_such_class, "is none of ours",                                                    \
	      atomic_store(&view->header->page_class[view->header->page_count - 1],                \
			   ARENA_CLASSES))                                                         \
	PLANT(header_given_away, "is none of ours",                                                \
	      atomic_store(&view->header->page_class[0], ARENA_CHUNK_64))                          \
	PLANT(reserved_page, "is none of ours",                                                    \
	      atomic_store(&view->header->page_class[view->header->page_count - 1],                \
			   ARENA_RESERVED))

static struct arena *view_of_scene(void)
{
	const char *error = NULL;
	struct arena *view = arena_attach(scene.world->arena->fd, &error);

	if (!view)
		fail_msg("arena_attach: %s", error);
	return view;
}

static void assert_caught(struct arena *view, const char *expected)
{
	struct buffer report = {0};
	struct arena_census census = arena_check(view, &report);

	assert_true(census.violations > 0);
	if (!strstr(buffer_cstr(&report), expected))
		fail_msg("\"%s\" is not in the report:\n%s", expected, buffer_cstr(&report));
	buffer_free(&report);
	arena_destroy(view);
}

#define PLANT(name, expected, damage)                 \
	static void test_catches_##name(void **state) \
	{                                             \
		struct arena *view = view_of_scene(); \
                                                      \
		(void)state;                          \
		damage;                               \
		assert_caught(view, expected);        \
	}
PLANTS(PLANT)
#undef PLANT

/* --- the report --- */

static void test_report_is_bounded(void **state)
{
	struct arena *view = view_of_scene();
	struct buffer report = {0};
	struct arena_census census;
	size_t lines = 0;

	(void)state;
	view->header->generation = 0; /* nobody was ever given one */
	census = arena_check(view, &report);
	assert_int_equal(census.violations, SCENE_FANS + 3);
	for (size_t i = 0; i < report.len; i++)
		lines += report.data[i] == '\n';
	assert_int_equal(lines, 100);
	buffer_free(&report);
	arena_destroy(view);
}

/* Damage of any kind is told or passed over, but never followed out of the arena. */
static void test_random_damage_is_survived(void **state)
{
	const arena_ref places[] = {scene.client,       scene.other, scene.news, scene.big,
				    scene.subscription, scene.frame, scene.redis};
	uint64_t caught = 0;

	(void)state;
	srandom(20260106);
	for (int round = 0; round < 300; round++) {
		struct arena *view = view_of_scene();
		struct buffer report = {0};

		for (int i = (int)(random() % 3); i >= 0; i--) {
			arena_ref at =
				places[(size_t)random() % (sizeof(places) / sizeof(places[0]))];
			uint32_t *words = arena_at(view, at);
			uint32_t *word = &words[random() % (at == scene.frame ? 4 : 16)];

			if (random() % 2)
				*word = (uint32_t)random();
			else
				*word ^= 1u << random() % 32;
		}
		caught += arena_check(view, &report).violations > 0;
		buffer_free(&report);
		arena_destroy(view);
	}
	assert_true(caught > 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scene_is_clean),
#define PLANT(name, expected, damage) cmocka_unit_test(test_catches_##name),
		PLANTS(PLANT)
#undef PLANT
			cmocka_unit_test(test_report_is_bounded),
		cmocka_unit_test(test_random_damage_is_survived),
	};

	return cmocka_run_group_tests_name("arena check", tests, make_scene, drop_scene);
}

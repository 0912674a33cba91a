/* SPDX-License-Identifier: ISC */
/*
 * The scene, see arena_scene.h: made through the same commits as in a worker,
 * but for the fan-out, which is written as the worker's would be.
 */
#include "arena_scene.h"

#include <stddef.h>
#include <string.h>

#include "keepsock/websocket.h"

/* A whole message, then the first bytes of a fragmented one. */
static void append_messages(struct world *world, arena_ref passport)
{
	static const char text[600];
	const struct websocket_reader reader = {
		.message_opcode = WEBSOCKET_TEXT,
		.frame_opcode = WEBSOCKET_TEXT,
		.payload_remaining = 7,
		.message_length = 12,
	};
	uint64_t words[2] = {MESSAGE_WORD(WEBSOCKET_TEXT, sizeof(text)), 0};
	size_t queue = offsetof(struct passport, messages);

	world_append(world, passport, queue, &words[0], sizeof(words[0]));
	world_append(world, passport, queue, text, sizeof(text));
	world_passport_at(world, passport)->partial_message =
		world_passport_at(world, passport)->messages.end;
	world_append(world, passport, queue, &words[1], sizeof(words[1]));
	world_append(world, passport, queue, "begun", 5);
	memcpy(&world_passport_at(world, passport)->reader, &reader, sizeof(reader));
}

static void give_info(struct world *world, arena_ref subscription)
{
	arena_ref info = arena_chunk_alloc(world->arena, 9);

	memcpy(arena_chunk_at(world->arena, info)->data, "{\"a\":\"b\"}", 9);
	arena_chunk_at(world->arena, info)->used = 9;
	((struct subscription_record *)arena_at(world->arena, subscription))->info = info;
}

/* With a certificate, and half a record that has come. */
static arena_ref make_tls(struct world *world, arena_ref passport)
{
	static const struct passport_tls fresh = {
		.in = {.done = 300, .end = 300},
		.state = {.version = TLS_VERSION_1_3,
			  .suite = 0x1301,
			  .max_plaintext = TLS_PLAINTEXT_MAX,
			  .read = {.sequence = 5, .secret = "read", .key = "read", .iv = "read"},
			  .write = {.sequence = 6,
				    .secret = "write",
				    .key = "write",
				    .iv = "write"}},
	};
	const struct slice texts[PASSPORT_PEER_TEXTS] = {[PASSPORT_PEER_SUBJECT] = {"CN=anna", 7}};
	struct buffer peer = {0};
	arena_ref ref;

	passport_peer_append(&peer, &(struct passport_peer){.not_after = 1800000000}, texts);
	ref = passport_tls_make(world->arena, &fresh, buffer_slice(&peer));
	buffer_free(&peer);
	world_passport_at(world, passport)->tls = ref;
	passport_draft_begin(&world->draft, passport);
	queue_append(&world->draft, &passport_draft_tls(&world->draft)->in, "\x17\x03\x03\x01", 4);
	passport_draft_commit(&world->draft);
	return ref;
}

static arena_ref make_client(struct world *world, struct channel *news, struct channel *big,
			     char byte)
{
	static char bytes[70000];
	arena_ref ref = world_passport(world);

	memset(bytes, byte, sizeof(bytes));
	give_info(world, world_subscribe(world, ref, news));
	((struct subscription_record *)arena_at(world->arena, world_subscribe(world, ref, big)))
		->start_sequence = 77;
	world_append(world, ref, offsetof(struct passport, in), bytes, 100);
	world_append(world, ref, offsetof(struct passport, out), bytes, 50);
	world_append(world, ref, offsetof(struct passport, out), bytes, sizeof(bytes));
	append_messages(world, ref);
	(void)make_tls(world, ref);
	world_passport_at(world, ref)->identity = passport_identity_make(
		world->arena, SLICE("42"), SLICE("js"), SLICE("5"), SLICE("{}"));
	return ref;
}

static arena_ref begin_fan_out(struct world *world, struct channel *channel)
{
	struct fanout_record *record = &world->arena->header->fanout;
	arena_ref first = arena_chunk_alloc(world->arena, 100);
	arena_ref second = arena_chunk_alloc(world->arena, 100);
	arena_ref deflated = arena_chunk_alloc(world->arena, 100);

	arena_chunk_at(world->arena, first)->next = second;
	arena_chunk_at(world->arena, first)->used = 112;
	arena_chunk_at(world->arena, second)->used = 50;
	record->batch = record->last_batch = 7;
	record->channel = channel->ref;
	record->frame = first;
	record->frame_length = 162;
	arena_chunk_at(world->arena, deflated)->used = 80;
	record->deflated = deflated;
	record->deflated_length = 80;
	record->deflated_window = 8;
	record->end = SCENE_END;
	atomic_store(&record->cursor, (uint64_t)(SCENE_END - 1) << 32);
	return first;
}

static void join(struct world *world, struct channel *channel)
{
	struct channel_record now = *hub_record(&world->hub, channel);
	struct arena_commit commit;

	now.state = CHANNEL_JOINED;
	arena_commit_begin(&commit, world->arena);
	hub_record_change(&world->hub, &commit, channel, &now);
	arena_commit_apply(&commit);
	arena_commit_begin(&commit, world->arena);
	hub_position_set(&world->hub, &commit, channel, SLICE("abcdefgh"), 41, 99);
	arena_commit_apply(&commit);
}

void arena_scene_make(struct arena_scene *scene)
{
	struct world *world = world_new(16 * MIB);
	struct channel *news = hub_get(&world->hub, SLICE("news"));
	struct channel *big = hub_get(&world->hub, SLICE("big"));

	scene->world = world;
	scene->news = news->ref;
	scene->big = big->ref;
	scene->fans_first = world_passport(world);
	world_subscribe(world, scene->fans_first, big);
	for (int i = 1; i < SCENE_FANS; i++)
		world_subscribe(world, world_passport(world), big);
	join(world, news);
	join(world, big);
	scene->client = make_client(world, news, big, 'c');
	scene->other = make_client(world, news, big, 'o');
	scene->subscription = world_passport_at(world, scene->client)->subscriptions;
	scene->frame = begin_fan_out(world, big);
	for (uint32_t i = 10; i < 20; i++)
		world_unsubscribe(world, hub_subscriber(&world->hub, big, i)->passport, big, true);
	scene->redis = world_passport(world);
	world_passport_at(world, scene->redis)->kind = PASSPORT_REDIS;
	world_passport_at(world, scene->redis)->state = PASSPORT_STATE_REDIS;
	world->arena->header->shards[1].passport = scene->redis;
	atomic_store(&world->arena->header->work.serving,
		     WORK_WORD(WORK_SERVING_BATCH, scene->big));
	atomic_store(&world->arena->header->work.syscall,
		     WORK_WORD(WORK_SYSCALL_WRITE, scene->client));
	scene->no_frame = arena_chunk_alloc(world->arena, 100);
}

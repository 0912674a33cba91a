/* SPDX-License-Identifier: ISC */
/* Writing a golden arena, see golden_image.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include "arena_world.h"
#include "channels/arena_walk.h"
#include "golden_image.h"
#include "keepsock/arena_layout.h"
#include "keepsock/channel_record.h"

static void join(struct world *world, struct channel *channel, enum channel_state state,
		 uint64_t unconfirmed)
{
	struct channel_record now = *hub_record(&world->hub, channel);
	struct arena_commit commit;

	now.state = (uint8_t)state;
	now.unconfirmed = unconfirmed;
	arena_commit_begin(&commit, world->arena);
	hub_record_change(&world->hub, &commit, channel, &now);
	arena_commit_apply(&commit);
}

static void write_half_a_request(struct world *world)
{
	struct passport fresh = {.kind = PASSPORT_CLIENT,
				 .state = PASSPORT_STATE_HTTP,
				 .flags = PASSPORT_REQUEST_BEGUN,
				 .deadline = 5000};
	arena_ref ref = passport_create(world->arena, &fresh);

	world_append(world, ref, offsetof(struct passport, in), request, sizeof(request) - 1);
}

/* Half a record has come, another waits to be sent. */
static void write_tls_client(struct world *world)
{
	struct passport_tls tls = {.in = {.done = 900, .end = 900}, .state = record_layer};
	struct passport fresh = {.kind = PASSPORT_CLIENT,
				 .state = PASSPORT_STATE_HTTP,
				 .out = {.done = 1500},
				 .deadline = 6000};
	struct buffer peer = {0};
	arena_ref ref;

	passport_peer_append(&peer, &certificate, peer_texts);
	fresh.tls = passport_tls_make(world->arena, &tls, buffer_slice(&peer));
	buffer_free(&peer);
	ref = passport_create(world->arena, &fresh);
	world_append(world, ref, offsetof(struct passport, out), sealed, sizeof(sealed) - 1);
	passport_draft_begin(&world->draft, ref);
	queue_append(&world->draft, &passport_draft_tls(&world->draft)->in, ciphertext,
		     sizeof(ciphertext) - 1);
	passport_draft_commit(&world->draft);
}

/* A waiting message, half of another one, and output that the peer does not take. */
static arena_ref write_client(struct world *world, struct channel *news)
{
	static const uint64_t incomplete;
	static const char padding[8];
	uint64_t word = MESSAGE_WORD(WEBSOCKET_TEXT, sizeof(message) - 1);
	size_t queue = offsetof(struct passport, messages);
	arena_ref ref = world_passport(world), chunk;
	struct passport *passport = world_passport_at(world, ref);
	struct subscription_record *subscription;
	char output[3000];

	memset(output, 'o', sizeof(output));
	world_append(world, ref, offsetof(struct passport, out), output, sizeof(output));
	passport_draft_begin(&world->draft, ref);
	queue_consume(&world->draft, &world->draft.now.out, 1234);
	passport_draft_commit(&world->draft);
	world_append(world, ref, queue, &word, sizeof(word));
	world_append(world, ref, queue, message, sizeof(message) - 1);
	world_append(world, ref, queue, padding, -(sizeof(message) - 1) & 7);
	passport->partial_message = passport->messages.end;
	world_append(world, ref, queue, &incomplete, sizeof(incomplete));
	world_append(world, ref, queue, fragment, sizeof(fragment) - 1);
	memcpy(&passport->reader, &reader, sizeof(reader));
	memset(passport->id.bytes, 0xab, sizeof(passport->id.bytes));
	passport->command_number = 6;
	passport->identity = passport_identity_make(world->arena, SLICE("42"), SLICE("js"),
						    SLICE("5.1"), SLICE("{\"name\":\"anna\"}"));

	subscription = arena_at(world->arena, world_subscribe(world, ref, news));
	subscription->start_sequence = START_SEQUENCE;
	subscription->flags = SUBSCRIPTION_POSITIONED | SUBSCRIPTION_RECOVERABLE;
	chunk = arena_chunk_alloc(world->arena, sizeof(info) - 1);
	memcpy(arena_chunk_at(world->arena, chunk)->data, info, sizeof(info) - 1);
	arena_chunk_at(world->arena, chunk)->used = sizeof(info) - 1;
	subscription->info = chunk;
	return ref;
}

static void write_redis(struct world *world)
{
	struct shard_record *shard = &world->arena->header->shards[0];
	struct passport fresh = {.kind = PASSPORT_REDIS, .state = PASSPORT_STATE_REDIS};
	arena_ref ref = passport_create(world->arena, &fresh);

	world_append(world, ref, offsetof(struct passport, in), redis_input,
		     sizeof(redis_input) - 1);
	shard->passport = ref;
	shard->max_seen = 995;
	snprintf(shard->run, sizeof(shard->run), "0123456789abcdef");
	snprintf(shard->generation, sizeof(shard->generation), "3");
}

static void write_fanout(struct world *world, struct channel *channel)
{
	struct fanout_record *record = &world->arena->header->fanout;
	arena_ref chunk = arena_chunk_alloc(world->arena, sizeof(frame) - 1);
	arena_ref list = arena_chunk_alloc(world->arena, sizeof(sequences));

	memcpy(arena_chunk_at(world->arena, chunk)->data, frame, sizeof(frame) - 1);
	arena_chunk_at(world->arena, chunk)->used = sizeof(frame) - 1;
	memcpy(arena_chunk_at(world->arena, list)->data, sequences, sizeof(sequences));
	arena_chunk_at(world->arena, list)->used = sizeof(sequences);
	*record = (struct fanout_record){
		.batch = 12,
		.last_batch = 12,
		.channel = channel->ref,
		.frame = chunk,
		.frame_length = sizeof(frame) - 1,
		.end = SUBSCRIBERS,
		.first_sequence = 991,
		.last_sequence = 992,
		.last_offset = 43,
		.messages = 2,
		.sequences = list,
		.last_sequence_served = NEWS_SEQUENCE,
	};
	atomic_store(&record->cursor, (uint64_t)17 << 32 | 555);
}

/* Two words of the client, stored and not applied. */
static void write_commit_under_way(struct world *world, arena_ref client)
{
	struct passport *passport = world_passport_at(world, client);
	struct work_slot *work = &world->arena->header->work;
	char *start = (char *)world->arena->header;

	work->redo[0] =
		(struct work_redo){(uint64_t)((char *)&passport->command_number - start), 7};
	work->redo[1] = (struct work_redo){(uint64_t)((char *)&passport->ping_at - start), 123456};
	atomic_store(&work->redo_count, 2);
}

static struct world *write_world(void)
{
	struct world *world = world_new(4 * MIB);
	struct arena_header *header = world->arena->header;
	struct channel *news = hub_get(&world->hub, SLICE("news"));
	struct arena_commit commit;
	arena_ref client, fan;

	header->generation = GENERATION;
	snprintf(header->worker_name, sizeof(header->worker_name), "a.0.5eed5eed");
	join(world, news, CHANNEL_JOINED, 0);
	arena_commit_begin(&commit, world->arena);
	hub_position_set(&world->hub, &commit, news, SLICE("abcdefgh-3"), NEWS_OFFSET,
			 NEWS_SEQUENCE);
	arena_commit_apply(&commit);
	join(world, hub_get(&world->hub, SLICE("asked for")), CHANNEL_JOINING, 1);
	join(world, hub_get(&world->hub, SLICE("given up")), CHANNEL_LEAVING, 2);

	write_half_a_request(world);
	write_tls_client(world);
	client = write_client(world, news);
	for (int i = 1; i < SUBSCRIBERS; i++)
		world_subscribe(world, world_passport(world), news);
	write_redis(world);
	write_fanout(world, news);
	fan = hub_subscriber(&world->hub, news, 5)->passport;
	world_unsubscribe(world, fan, news, true);

	header->last_blamed =
		(struct blame_record){WORK_WORD(WORK_SERVING_CONNECTION, client), 6, 1};
	atomic_store(&header->work.serving, WORK_WORD(WORK_SERVING_BATCH, news->ref));
	atomic_store(&header->work.serving_item, 12);
	atomic_store(&header->owner, WORK_WORD(ARENA_OWNER_RUNNING, CHILD_PID));
	world_check(world);
	write_commit_under_way(world, client);
	return world;
}

/* What nothing reaches says nothing: as zeros it takes no space in the image. */
static void blank_what_is_free(struct world *world)
{
	struct buffer report = {0};
	struct arena_walk walk;

	arena_walk_run(&walk, world->arena, &report);
	for (enum arena_class class = ARENA_CHUNK_64; class < ARENA_CLASSES; class ++) {
		arena_ref ref = 0;

		while ((ref = arena_record_next(world->arena, class, ref))) {
			if (!walk.owners[ref])
				memset(arena_at(world->arena, ref), 0, arena_class_size(class));
		}
	}
	arena_walk_free(&walk);
	buffer_free(&report);
}

int golden_image_write(const char *path)
{
	struct world *world = write_world();
	gzFile file = gzopen(path, "wb9");
	bool ok;

	blank_what_is_free(world);
	ok = file && gzwrite(file, world->arena->header, (unsigned)world->arena->size) ==
			     (int)world->arena->size;
	ok = file && gzclose(file) == Z_OK && ok;
	world_free(world);
	if (!ok)
		perror(path);
	return ok ? 0 : 1;
}

static void freeze_record(unsigned r)
{
	const struct arena_record_layout *record = &arena_layout_today.records[r];

	printf("\nstatic const struct arena_field %s[] = {\n", record->name);
	for (uint32_t i = 0; i < record->field_count; i++) {
		const struct arena_field *f = &record->fields[i];

		printf("\t{\"%s\", %u, %u, %u, %u, %u},\n", f->name, f->offset, f->size, f->count,
		       f->record, f->since);
	}
	printf("};\n");
}

int golden_layout_print(void)
{
	unsigned version = ARENA_LAYOUT_VERSION;

	printf("/* SPDX-License-Identifier: ISC */\n"
	       "/*\n * Layout %u, frozen; made by `test_golden_arena --freeze`. Data only; must "
	       "never"
	       "\n * change, since programs that had it have been released.\n */\n"
	       "#include \"passport/arena_layouts.h\"\n",
	       version);
	for (unsigned r = 1; r < ARENA_RECORD_COUNT; r++)
		freeze_record(r);
	printf("\n#define FIELDS(record) (sizeof(record) / sizeof((record)[0])), record\n"
	       "\nconst struct arena_layout arena_layout_%u = {\n\t.version = %u,\n\t.records =\n"
	       "\t\t{\n",
	       version, version);
	for (unsigned r = 1; r < ARENA_RECORD_COUNT; r++) {
		const struct arena_record_layout *record = &arena_layout_today.records[r];

		printf("\t\t\t[%u] = {\"%s\", %u, FIELDS(%s)},\n", r, record->name, record->size,
		       record->name);
	}
	printf("\t\t},\n};\n");
	return 0;
}

/* SPDX-License-Identifier: ISC */
/*
 * Maps the arena that a dead worker left (descriptor number as the argument),
 * checks its invariants and prints what it holds as JSON, for test_crash.py to
 * compare with what clients saw. Exit status 0: printed, 1: not an arena.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keepsock/arena_check.h"
#include "keepsock/hub.h"
#include "keepsock/passport.h"
#include "keepsock/websocket.h"

static json_t *hex(const void *data, size_t length)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *bytes = data;
	char *text = malloc(length * 2 + 1);
	json_t *value;

	if (!text)
		abort();
	for (size_t i = 0; i < length; i++) {
		text[i * 2] = digits[bytes[i] >> 4];
		text[i * 2 + 1] = digits[bytes[i] & 15];
	}
	text[length * 2] = '\0';
	value = json_string(text);
	free(text);
	return value;
}

static json_t *queue_bytes(const struct arena *arena, const struct stream_queue *queue)
{
	size_t length = (size_t)queue_length(queue);
	uint8_t *flat = malloc(length + 1);
	json_t *value;

	if (!flat)
		abort();
	queue_copy(arena, queue, queue->done, length, flat);
	value = hex(flat, length);
	free(flat);
	return value;
}

static json_t *channel_name(const struct arena *arena, const struct channel_record *record)
{
	return json_stringn((const char *)arena_chunk_at(arena, record->name)->data,
			    record->name_length);
}

static json_t *subscriptions(const struct arena *arena, const struct passport *passport)
{
	json_t *list = json_array();

	for (arena_ref ref = passport->subscriptions; ref;) {
		const struct subscription_record *subscription = arena_at(arena, ref);

		json_array_append_new(
			list, json_pack("{s:o, s:i, s:I}", "channel",
					channel_name(arena, arena_at(arena, subscription->channel)),
					"position", (int)subscription->position, "start_sequence",
					(json_int_t)subscription->start_sequence));
		ref = subscription->next;
	}
	return list;
}

static json_t *passport_view(const struct arena *arena, arena_ref ref)
{
	const struct passport *passport = arena_at(arena, ref);
	struct websocket_reader reader;

	memcpy(&reader, &passport->reader, sizeof(reader));
	return json_pack(
		"{s:I, s:I, s:i, s:s, s:I, s:i, s:I, s:I, s:I, s:I, s:o, s:I, s:I, s:i, s:b, "
		"s:b, s:o}",
		"ref", (json_int_t)ref, "generation", (json_int_t)passport->generation, "kind",
		(int)passport->kind, "state", passport_state_name(passport->state), "accepted_at",
		(json_int_t)passport->accepted_at, "peer_port", (int)passport->peer_port, "in_done",
		(json_int_t)passport->in.done, "in_end", (json_int_t)queue_end(&passport->in),
		"out_done", (json_int_t)passport->out.done, "out_end",
		(json_int_t)queue_end(&passport->out), "out_queued",
		queue_bytes(arena, &passport->out), "command_number",
		(json_int_t)passport->command_number, "messages_waiting",
		(json_int_t)queue_length(&passport->messages), "close_code",
		(int)passport->close_code, "reader_valid", websocket_reader_valid(&reader) ? 1 : 0,
		"takes_deflated",
		passport_takes_deflated(&arena->header->fanout, passport->flags) ? 1 : 0,
		"subscriptions", subscriptions(arena, passport));
}

static json_t *channel_view(const struct arena *arena, arena_ref ref)
{
	const struct channel_record *record = arena_at(arena, ref);

	return json_pack("{s:I, s:o, s:i, s:I, s:I, s:I, s:I}", "ref", (json_int_t)ref, "name",
			 channel_name(arena, record), "state", (int)record->state, "offset",
			 (json_int_t)record->offset, "last_sequence",
			 (json_int_t)record->last_sequence, "count", (json_int_t)record->count,
			 "tombstones", (json_int_t)record->tombstones);
}

/* The bytes of a list of chunks that are `size` together. */
static json_t *frame_view(const struct arena *arena, arena_ref ref, uint64_t size)
{
	char *frame = malloc(size + 1);
	size_t length = 0;
	json_t *view;

	if (!frame)
		abort();
	while (ref) {
		const struct arena_chunk *chunk = arena_chunk_at(arena, ref);

		memcpy(frame + length, chunk->data, chunk->used);
		length += chunk->used;
		ref = chunk->next;
	}
	view = hex(frame, length);
	free(frame);
	return view;
}

static json_t *fanout_view(const struct arena *arena)
{
	const struct fanout_record *fanout = &arena->header->fanout;
	uint64_t cursor = atomic_load(&fanout->cursor);
	arena_ref frame = fanout->batch ? (arena_ref)fanout->frame : 0;
	arena_ref deflated = fanout->batch ? (arena_ref)fanout->deflated : 0;

	return json_pack("{s:I, s:I, s:b, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o}", "batch",
			 (json_int_t)fanout->batch, "channel", (json_int_t)fanout->channel, "begun",
			 cursor != FANOUT_NONE, "settled",
			 cursor != FANOUT_NONE && (cursor & FANOUT_SETTLED) != 0, "index",
			 (json_int_t)FANOUT_INDEX(cursor), "base", (json_int_t)(uint32_t)cursor,
			 "end", (json_int_t)fanout->end, "first_sequence",
			 (json_int_t)fanout->first_sequence, "last_sequence",
			 (json_int_t)fanout->last_sequence, "last_offset",
			 (json_int_t)fanout->last_offset, "frame",
			 frame_view(arena, frame, frame ? fanout->frame_length : 0), "deflated",
			 frame_view(arena, deflated, deflated ? fanout->deflated_length : 0));
}

static json_t *records(const struct arena *arena, enum arena_class class, uint32_t magic,
		       json_t *(*view)(const struct arena *, arena_ref))
{
	json_t *list = json_array();
	arena_ref ref = 0;

	while ((ref = arena_record_next(arena, class, ref))) {
		if (*(const uint32_t *)arena_at(arena, ref) == magic)
			json_array_append_new(list, view(arena, ref));
	}
	return list;
}

static json_t *redis_passports(const struct arena *arena)
{
	json_t *refs = json_array();

	for (unsigned i = 0; i < ARENA_SHARDS_MAX; i++) {
		if (arena->header->shards[i].passport)
			json_array_append_new(
				refs, json_integer((json_int_t)arena->header->shards[i].passport));
	}
	return refs;
}

static json_t *arena_view(const struct arena *arena)
{
	const struct work_slot *work = &arena->header->work;
	struct buffer report = {0};
	struct arena_census census = arena_check(arena, &report);
	uint64_t syscall = atomic_load(&work->syscall), serving = atomic_load(&work->serving);
	json_t *view = json_pack(
		"{s:s, s:I, s:I, s:I, s:I, s:I, s:o, s:i, s:I, s:I, s:i, s:I, s:I}", "report",
		buffer_cstr(&report), "pid",
		(json_int_t)(uint32_t)atomic_load(&arena->header->owner), "violations",
		(json_int_t)census.violations, "chunks", (json_int_t)census.chunks, "subscriptions",
		(json_int_t)census.subscriptions, "fault",
		(json_int_t)atomic_load(&arena->header->fault), "redis_passports",
		redis_passports(arena), "syscall", (int)WORK_KIND(syscall), "syscall_ref",
		(json_int_t)WORK_REF(syscall), "read_base", (json_int_t)work->read_base, "serving",
		(int)WORK_KIND(serving), "serving_ref", (json_int_t)WORK_REF(serving),
		"serving_item", (json_int_t)atomic_load(&work->serving_item));

	buffer_free(&report);
	/* What is damaged can't be shown any further. */
	if (census.violations == 0) {
		json_object_set_new(view, "passports",
				    records(arena, ARENA_PASSPORT, PASSPORT_MAGIC, passport_view));
		json_object_set_new(view, "channels",
				    records(arena, ARENA_CHANNEL, CHANNEL_MAGIC, channel_view));
		json_object_set_new(view, "fanout", fanout_view(arena));
	}
	return view;
}

int main(int argc, char **argv)
{
	const char *error = "usage: arena_checker DESCRIPTOR";
	struct arena *arena = NULL;
	json_t *view;

	if (argc == 2)
		arena = arena_attach((int)strtol(argv[1], NULL, 10), &error);
	if (!arena) {
		fprintf(stderr, "arena_checker: %s\n", error);
		return 1;
	}
	view = arena_view(arena);
	json_dumpf(view, stdout, JSON_COMPACT);
	json_decref(view);
	arena_destroy(arena);
	return 0;
}

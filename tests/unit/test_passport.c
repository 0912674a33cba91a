/* SPDX-License-Identifier: ISC */
/*
 * Passports: the field table is the layout, drafts change all or nothing and
 * lose no chunk, queues behave like the plain byte streams they stand for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include <cmocka.h>

#include "arena_world.h"
#include "keepsock/alloc.h"

/* --- the field table --- */

struct field {
	const char *name;
	size_t offset, size;
};

static const struct field fields[] = {
#define FIELD(type, name, since, show, doc) {#name, offsetof(struct passport, name), sizeof(type)},
	PASSPORT_FIELDS(FIELD, FIELD)
#undef FIELD
};

#define FIELD_COUNT (sizeof(fields) / sizeof(fields[0]))

static void test_field_table_covers_the_passport(void **state)
{
	size_t end = 0;

	(void)state;
	for (size_t i = 0; i < FIELD_COUNT; i++) {
		if (fields[i].offset != end)
			fail_msg("a hole in front of %s", fields[i].name);
		end += fields[i].size;
		for (size_t j = 0; j < i; j++)
			assert_string_not_equal(fields[i].name, fields[j].name);
	}
	assert_int_equal(end, sizeof(struct passport));
}

/* A commit is made of whole words: none may be torn between two fields' meanings by alignment. */
static void test_fields_are_naturally_aligned(void **state)
{
	(void)state;
	for (size_t i = 0; i < FIELD_COUNT; i++) {
		size_t alignment = fields[i].size < 8 ? fields[i].size : 8;

		assert_int_equal(fields[i].offset % alignment, 0);
	}
}

static void test_every_field_has_words(void **state)
{
	static const char *const docs[] = {
#define FIELD(type, name, since, show, doc) doc,
		PASSPORT_FIELDS(FIELD, FIELD)
#undef FIELD
	};

	(void)state;
	for (size_t i = 0; i < FIELD_COUNT; i++)
		assert_true(strlen(docs[i]) > 0);
}

static void test_states_have_names(void **state)
{
	(void)state;
	for (unsigned a = 0; a < PASSPORT_STATE_COUNT; a++) {
		assert_true(strlen(passport_state_name(a)) > 0);
		for (unsigned b = 0; b < a; b++)
			assert_string_not_equal(passport_state_name(a), passport_state_name(b));
	}
	assert_string_equal(passport_state_name(PASSPORT_STATE_FREE), "free");
	assert_string_equal(passport_state_name(PASSPORT_STATE_COUNT), "invalid");
	assert_string_equal(passport_state_name(255), "invalid");
}

/* --- identity --- */

static void test_identity_keeps_its_strings(void **state)
{
	struct world *world = *state;
	struct passport *passport = world_passport_at(world, world_passport(world));

	assert_int_equal(passport_user(world->arena, passport).len, 0);
	assert_int_equal(passport_name(world->arena, passport).len, 0);
	assert_int_equal(passport_info(world->arena, passport).len, 0);
	passport->identity = passport_identity_make(world->arena, SLICE("42"), SLICE("js"),
						    SLICE("5.3"), SLICE("{\"role\":\"guest\"}"));
	assert_int_not_equal(passport->identity, 0);
	assert_true(slice_is(passport_user(world->arena, passport), "42"));
	assert_true(slice_is(passport_name(world->arena, passport), "js"));
	assert_true(slice_is(passport_info(world->arena, passport), "{\"role\":\"guest\"}"));
	world_check(world);
}

static void test_identity_may_be_empty(void **state)
{
	struct world *world = *state;
	struct passport *passport = world_passport_at(world, world_passport(world));

	passport->identity =
		passport_identity_make(world->arena, SLICE(""), SLICE(""), SLICE(""), SLICE(""));
	assert_int_not_equal(passport->identity, 0);
	assert_int_equal(passport_user(world->arena, passport).len, 0);
	world_check(world);
}

static void test_identity_has_a_limit(void **state)
{
	struct world *world = *state;
	char *text = xcalloc(1, 20000);

	memset(text, 'x', 20000);
	assert_int_not_equal(passport_identity_make(world->arena, slice_from(text, 16000),
						    SLICE("js"), SLICE("5"), slice_from(text, 300)),
			     0);
	assert_int_equal(passport_identity_make(world->arena, slice_from(text, 16384), SLICE("js"),
						SLICE(""), SLICE("")),
			 0);
	free(text);
	world_exhaust(world, 100);
	assert_int_equal(
		passport_identity_make(world->arena, SLICE("42"), SLICE(""), SLICE(""), SLICE("")),
		0);
}

/* --- drafts --- */

static void test_commit_shows_all_changes_at_once(void **state)
{
	struct world *world = *state;
	arena_ref ref = world_passport(world);
	struct passport *live = world_passport_at(world, ref);
	uint64_t *elsewhere = &world->arena->header->fanout.last_batch;

	passport_draft_begin(&world->draft, ref);
	world->draft.now.command_number = 7;
	world->draft.now.state = PASSPORT_STATE_CLOSING;
	queue_append(&world->draft, &world->draft.now.out, "hello", 5);
	arena_commit_add(&world->draft.commit, elsewhere, 99);
	assert_int_equal(live->command_number, 0);
	assert_int_equal(live->state, PASSPORT_STATE_CONNECTED);
	assert_int_equal(queue_length(&live->out), 0);
	assert_true(passport_draft_commit(&world->draft));
	assert_int_equal(live->command_number, 7);
	assert_int_equal(live->state, PASSPORT_STATE_CLOSING);
	assert_int_equal(queue_length(&live->out), 5);
	assert_int_equal(*elsewhere, 99);
	world_check(world);
}

static void test_drop_changes_nothing_and_gives_everything_back(void **state)
{
	struct world *world = *state;
	arena_ref ref = world_passport(world);
	struct passport before = *world_passport_at(world, ref);
	static const char bytes[5000];
	uint64_t used = 0;

	for (int i = 0; i < 2000; i++) {
		passport_draft_begin(&world->draft, ref);
		world->draft.now.flags = 1;
		queue_append(&world->draft, &world->draft.now.in, bytes, sizeof(bytes));
		queue_consume(&world->draft, &world->draft.now.in, 4000);
		queue_append(&world->draft, &world->draft.now.out, bytes, 100);
		passport_draft_own(&world->draft, arena_chunk_alloc(world->arena, 10));
		assert_int_not_equal(passport_draft_chunk(&world->draft, 10), 0);
		passport_draft_drop(&world->draft);
		assert_memory_equal(world_passport_at(world, ref), &before, sizeof(before));
		if (i == 0)
			used = arena_bytes_used(world->arena);
		assert_int_equal(arena_bytes_used(world->arena), used);
	}
	world_check(world);
}

static void free_some(struct world *world, arena_ref *list, int count)
{
	while (count-- > 0) {
		arena_ref next = arena_chunk_at(world->arena, *list)->next;

		arena_chunk_free(world->arena, *list);
		*list = next;
	}
}

/* Room for the first chunks of what is appended, not for all of it. */
static void test_full_arena_fails_the_draft_and_gives_everything_back(void **state)
{
	struct world *world = *state;
	arena_ref ref = world_passport(world), spare;
	struct passport before;
	static const char bytes[400000];

	world_append(world, ref, offsetof(struct passport, out), "committed", 9);
	before = *world_passport_at(world, ref);
	spare = world_exhaust(world, 60000);
	free_some(world, &spare, 3);
	for (int i = 0; i < 100; i++) {
		passport_draft_begin(&world->draft, ref);
		queue_consume(&world->draft, &world->draft.now.out, 4);
		queue_append(&world->draft, &world->draft.now.out, bytes, sizeof(bytes));
		assert_true(world->draft.failed);
		queue_append(&world->draft, &world->draft.now.out, "more", 4);
		assert_false(passport_draft_commit(&world->draft));
		assert_memory_equal(world_passport_at(world, ref), &before, sizeof(before));
	}
	for (int i = 0; i < 3; i++)
		assert_int_not_equal(arena_chunk_alloc(world->arena, 60000), 0);
	assert_int_equal(arena_chunk_alloc(world->arena, 60000), 0);
	world_check(world);
}

static void begin_again(void *context)
{
	struct world *world = world_new(4 * MIB);
	arena_ref ref = world_passport(world);

	(void)context;
	passport_draft_begin(&world->draft, ref);
	passport_draft_begin(&world->draft, ref);
}

static void test_drafts_do_not_nest(void **state)
{
	(void)state;
	assert_true(world_aborts(begin_again, NULL));
}

static void test_released_chunks_are_free_after_the_commit_only(void **state)
{
	struct world *world = *state;
	arena_ref ref = world_passport(world), chunk;

	chunk = passport_identity_make(world->arena, SLICE("somebody"), SLICE(""), SLICE(""),
				       SLICE(""));
	world_passport_at(world, ref)->identity = chunk;
	passport_draft_begin(&world->draft, ref);
	passport_draft_release(&world->draft, chunk);
	world->draft.now.identity = 0;
	assert_int_not_equal(arena_chunk_alloc(world->arena, 20), chunk);
	passport_draft_drop(&world->draft);
	assert_true(
		slice_is(passport_user(world->arena, world_passport_at(world, ref)), "somebody"));
	passport_draft_begin(&world->draft, ref);
	passport_draft_release(&world->draft, chunk);
	world->draft.now.identity = 0;
	assert_true(passport_draft_commit(&world->draft));
	assert_int_equal(arena_chunk_alloc(world->arena, 20), chunk);
	world_check(world);
}

/* --- queues --- */

/* What a queue stands for: a stream, of which [done, end) is still here. */
struct stream {
	char *bytes;
	size_t end, done, capacity;
};

static void stream_append(struct stream *stream, const char *bytes, size_t length)
{
	if (stream->end + length > stream->capacity) {
		stream->capacity = (stream->end + length) * 2;
		stream->bytes = xrealloc(stream->bytes, stream->capacity);
	}
	memcpy(stream->bytes + stream->end, bytes, length);
	stream->end += length;
}

static void assert_same(const struct arena *arena, const struct stream_queue *queue,
			const struct stream *stream)
{
	size_t length = stream->end - stream->done, at = stream->done, total = 0;
	struct iovec pieces[3];
	char *flat = xmalloc(length + 1);
	int count = queue_pieces(arena, queue, pieces, 3);

	assert_int_equal(queue_length(queue), length);
	assert_int_equal(queue_end(queue), stream->end);
	queue_copy(arena, queue, stream->done, length, flat);
	assert_memory_equal(flat, stream->bytes + stream->done, length);
	free(flat);
	while (at < stream->end) {
		struct slice piece = queue_peek(arena, queue, at);

		assert_true(piece.len > 0);
		assert_memory_equal(piece.data, stream->bytes + at, piece.len);
		at += piece.len;
	}
	assert_int_equal(at, stream->end);
	assert_int_equal(queue_peek(arena, queue, at).len, 0);
	assert_int_equal(queue_peek(arena, queue, stream->done - 1).len, 0);
	for (int i = 0; i < count; i++) {
		assert_memory_equal(pieces[i].iov_base, stream->bytes + stream->done + total,
				    pieces[i].iov_len);
		total += pieces[i].iov_len;
	}
	assert_true(count == 3 || total == length);
}

static void assert_range_same(const struct arena *arena, const struct stream_queue *queue,
			      const struct stream *stream)
{
	size_t length = stream->end - stream->done, from, take;
	char *flat;

	if (length == 0)
		return;
	from = (size_t)random() % length;
	take = (size_t)random() % (length - from) + 1;
	flat = xmalloc(take);
	queue_copy(arena, queue, stream->done + from, take, flat);
	assert_memory_equal(flat, stream->bytes + stream->done + from, take);
	free(flat);
}

/* Several appends and takings in one draft, then committed or dropped. */
static void random_draft(struct world *world, arena_ref ref, struct stream *stream)
{
	struct stream_queue *queue = &world->draft.now.in;
	struct stream before = *stream;
	char bytes[9000];

	passport_draft_begin(&world->draft, ref);
	for (int i = (int)(random() % 4); i >= 0; i--) {
		size_t length = (size_t)random() % (1u << random() % 14);

		if (random() % 2) {
			for (size_t at = 0; at < length; at++)
				bytes[at] = (char)random();
			queue_append(&world->draft, queue, bytes, length);
			stream_append(stream, bytes, length);
		} else {
			queue_consume(&world->draft, queue, length);
			stream->done += length;
			if (stream->done > stream->end)
				stream->done = stream->end;
		}
		assert_same(world->arena, queue, stream);
	}
	if (random() % 4) {
		assert_true(passport_draft_commit(&world->draft));
	} else {
		passport_draft_drop(&world->draft);
		stream->end = before.end;
		stream->done = before.done;
	}
}

static void test_queue_against_a_plain_stream(void **state)
{
	struct world *world = *state;
	arena_ref ref = world_passport(world);
	struct passport *live = world_passport_at(world, ref);
	struct stream stream = {0};

	srandom(20260103);
	for (int step = 0; step < 3000; step++) {
		random_draft(world, ref, &stream);
		assert_same(world->arena, &live->in, &stream);
		assert_range_same(world->arena, &live->in, &stream);
		world_check(world);
	}
	passport_draft_begin(&world->draft, ref);
	queue_consume(&world->draft, &world->draft.now.in, UINT64_MAX);
	assert_true(passport_draft_commit(&world->draft));
	assert_int_equal(live->in.head, 0);
	assert_int_equal(live->in.tail, 0);
	free(stream.bytes);
}

static void test_queue_leaves_no_chunk_behind(void **state)
{
	struct world *world = *state;
	arena_ref ref = world_passport(world);
	struct stream stream = {0};
	uint64_t used = 0;

	srandom(20260104);
	for (int round = 0; round < 20; round++) {
		for (int step = 0; step < 100; step++)
			random_draft(world, ref, &stream);
		passport_draft_begin(&world->draft, ref);
		queue_consume(&world->draft, &world->draft.now.in, UINT64_MAX);
		assert_true(passport_draft_commit(&world->draft));
		stream.done = stream.end;
		assert_int_equal(world_check(world).chunks, 0);
		/* Each class keeps a page at most. */
		used = arena_bytes_used(world->arena);
		assert_true(used <=
			    (world->arena->first_page + ARENA_CLASSES) * (uint64_t)ARENA_PAGE_SIZE);
	}
	free(stream.bytes);
}

/* A fan-out sends past an empty queue: done is ahead of end, in one store. */
static void test_sending_past_the_queue(void **state)
{
	struct world *world = *state;
	arena_ref ref = world_passport(world);
	struct passport *live = world_passport_at(world, ref);
	char back[6] = {0};

	world_append(world, ref, offsetof(struct passport, out), "abc", 3);
	passport_draft_begin(&world->draft, ref);
	queue_consume(&world->draft, &world->draft.now.out, 3);
	assert_true(passport_draft_commit(&world->draft));
	arena_store(&live->out.done, live->out.done + 1000);
	assert_int_equal(queue_length(&live->out), 0);
	assert_int_equal(queue_end(&live->out), 1003);
	assert_int_equal(queue_peek(world->arena, &live->out, 1003).len, 0);
	assert_int_equal(queue_peek(world->arena, &live->out, 3).len, 0);
	world_check(world);
	world_append(world, ref, offsetof(struct passport, out), "defgh", 5);
	assert_int_equal(live->out.done, 1003);
	assert_int_equal(live->out.end, 1008);
	queue_copy(world->arena, &live->out, 1003, 5, back);
	assert_string_equal(back, "defgh");
	world_check(world);
}

static void take_written(struct world *world, arena_ref ref, uint64_t most)
{
	struct passport *live = world_passport_at(world, ref);
	struct work_slot *work = &world->arena->header->work;
	uint64_t before = live->out.done, length = queue_length(&live->out);

	if (length > most)
		length = most;
	arena_store(&work->syscall, WORK_WORD(WORK_SYSCALL_WRITE, ref));
	passport_commit_written(&world->draft, ref, length, &work->syscall);
	assert_int_equal(live->out.done, before + length);
	assert_int_equal(work->syscall, 0);
	assert_null(world->draft.live);
}

/* What was written leaves the queue together with its announcement: all of it, or a part. */
static void test_written_output_leaves_the_queue(void **state)
{
	struct world *world = *state;
	arena_ref ref = world_passport(world);
	struct passport *live = world_passport_at(world, ref);
	static const size_t lengths[] = {1, 48, 4000, 70000}, written[] = {1, 20, 70000};
	char *bytes = xcalloc(1, 70000);
	uint64_t end = 0;

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		for (size_t j = 0; j < sizeof(written) / sizeof(written[0]); j++) {
			world_append(world, ref, offsetof(struct passport, out), bytes, lengths[i]);
			end += lengths[i];
			take_written(world, ref, written[j]);
			assert_int_equal(live->out.end, end);
			if (queue_length(&live->out) > 0)
				take_written(world, ref, queue_length(&live->out));
			assert_int_equal(live->out.done, end);
			assert_int_equal(world_check(world).chunks, 0);
		}
	}
	free(bytes);
}

static void test_append_fills_the_last_chunk_without_touching_what_is_there(void **state)
{
	struct world *world = *state;
	arena_ref ref = world_passport(world);
	struct passport *live = world_passport_at(world, ref);
	struct stream_queue before;
	char back[9] = {0};

	world_append(world, ref, offsetof(struct passport, out), "12345", 5);
	before = live->out;
	passport_draft_begin(&world->draft, ref);
	queue_append(&world->draft, &world->draft.now.out, "678", 3);
	assert_memory_equal(&live->out, &before, sizeof(before));
	assert_int_equal(world->draft.now.out.tail, before.tail);
	assert_int_equal(world->draft.allocated_count, 0);
	assert_true(passport_draft_commit(&world->draft));
	queue_copy(world->arena, &live->out, 0, 8, back);
	assert_string_equal(back, "12345678");
}

static void test_taking_more_than_there_is_takes_all(void **state)
{
	struct world *world = *state;
	arena_ref ref = world_passport(world);
	struct passport *live = world_passport_at(world, ref);

	world_append(world, ref, offsetof(struct passport, in), "12345", 5);
	passport_draft_begin(&world->draft, ref);
	queue_consume(&world->draft, &world->draft.now.in, 4);
	queue_consume(&world->draft, &world->draft.now.in, 4);
	queue_consume(&world->draft, &world->draft.now.in, UINT64_MAX);
	assert_true(passport_draft_commit(&world->draft));
	assert_int_equal(live->in.done, 5);
	assert_int_equal(live->in.end, 5);
	assert_int_equal(live->in.head, 0);
}

static void test_words_of_a_queue_can_be_committed(void **state)
{
	struct world *world = *state;
	arena_ref ref = world_passport(world);
	struct passport *live = world_passport_at(world, ref);
	uint64_t word;

	for (uint64_t i = 0; i < 100; i++) {
		uint64_t pair[2] = {i, ~i};

		world_append(world, ref, offsetof(struct passport, messages), pair, sizeof(pair));
	}
	for (uint64_t i = 0; i < 200; i++) {
		uint64_t *in_place = queue_word(world->arena, &live->messages, i * 8);

		queue_copy(world->arena, &live->messages, i * 8, 8, &word);
		assert_int_equal(*in_place, word);
		assert_int_equal(word, i % 2 ? ~(i / 2) : i / 2);
	}
}

static void word_beyond(void *context)
{
	struct world *world = world_new(4 * MIB);
	arena_ref ref = world_passport(world);

	(void)context;
	queue_word(world->arena, &world_passport_at(world, ref)->messages, 0);
}

static void copy_beyond(void *context)
{
	struct world *world = world_new(4 * MIB);
	arena_ref ref = world_passport(world);
	char bytes[6];

	(void)context;
	world_append(world, ref, offsetof(struct passport, in), "12345", 5);
	queue_copy(world->arena, &world_passport_at(world, ref)->in, 0, 6, bytes);
}

static void test_asking_for_what_is_not_there_is_a_broken_invariant(void **state)
{
	(void)state;
	assert_true(world_aborts(word_beyond, NULL));
	assert_true(world_aborts(copy_beyond, NULL));
}

#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, world_setup, world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_field_table_covers_the_passport),
		cmocka_unit_test(test_fields_are_naturally_aligned),
		cmocka_unit_test(test_every_field_has_words),
		cmocka_unit_test(test_states_have_names),
		IN_WORLD(test_identity_keeps_its_strings),
		IN_WORLD(test_identity_may_be_empty),
		IN_WORLD(test_identity_has_a_limit),
		IN_WORLD(test_commit_shows_all_changes_at_once),
		IN_WORLD(test_drop_changes_nothing_and_gives_everything_back),
		IN_WORLD(test_full_arena_fails_the_draft_and_gives_everything_back),
		cmocka_unit_test(test_drafts_do_not_nest),
		IN_WORLD(test_released_chunks_are_free_after_the_commit_only),
		IN_WORLD(test_queue_against_a_plain_stream),
		IN_WORLD(test_queue_leaves_no_chunk_behind),
		IN_WORLD(test_sending_past_the_queue),
		IN_WORLD(test_written_output_leaves_the_queue),
		IN_WORLD(test_append_fills_the_last_chunk_without_touching_what_is_there),
		IN_WORLD(test_taking_more_than_there_is_takes_all),
		IN_WORLD(test_words_of_a_queue_can_be_committed),
		cmocka_unit_test(test_asking_for_what_is_not_there_is_a_broken_invariant),
	};

	return cmocka_run_group_tests_name("passport", tests, NULL, NULL);
}

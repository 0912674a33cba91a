/* SPDX-License-Identifier: ISC */
/*
 * A passport that changes the arena is the same over there: every field of the
 * tables, every byte of its queues, every subscription, and behind them what the
 * channel holds. Exports that are cut or bent are refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "arena_world.h"
#include "keepsock/alloc.h"
#include "keepsock/arena_layout.h"
#include "keepsock/passport_export.h"
#include "keepsock/websocket.h"

enum { STANDS_AT = 100, OFFSET = 7 };

static struct passport_export_position where(void *context, const struct channel *channel)
{
	const struct world *world = context;
	const struct channel_record *record =
		hub_record(&world->hub, hub_channel_at(&world->hub, channel->ref));

	return (struct passport_export_position){
		.sequence = STANDS_AT,
		.offset = record->offset,
		.epoch = hub_epoch(record),
		.history = record->history != 0,
	};
}

static struct channel *positioned(struct world *world, struct slice name, uint64_t sequence,
				  uint64_t offset)
{
	struct channel *channel = hub_get(&world->hub, name);
	struct arena_commit commit;

	arena_commit_begin(&commit, world->arena);
	hub_position_set(&world->hub, &commit, channel, SLICE("epoch-1"), offset, sequence);
	arena_commit_apply(&commit);
	return channel;
}

static const char ciphertext[] = "\x17\x03\x03\x00\x20 the first of it";

static arena_ref full_tls(struct world *world)
{
	static const struct passport_tls tls = {
		.in = {.done = 900, .end = 900},
		.state = {.version = TLS_VERSION_1_2,
			  .suite = 0xc02f,
			  .max_plaintext = 512,
			  .flags = TLS_CLOSE_NOTIFY_READ,
			  .read = {.sequence = 7, .key = "read key", .iv = "read iv"},
			  .write = {.sequence = 8, .key = "write key", .iv = "write iv"}},
	};
	static const struct passport_peer head = {.not_after = 1800000000, .fingerprint = "print"};
	const struct slice texts[PASSPORT_PEER_TEXTS] = {[PASSPORT_PEER_SUBJECT] = {"CN=anna", 7}};
	struct buffer peer = {0};
	arena_ref ref;

	passport_peer_append(&peer, &head, texts);
	ref = passport_tls_make(world->arena, &tls, buffer_slice(&peer));
	buffer_free(&peer);
	return ref;
}

/* A client in mid-everything, every plain field different from 0. */
static arena_ref full_passport(struct world *world)
{
	static const uint64_t incomplete;
	uint64_t word = MESSAGE_WORD(WEBSOCKET_TEXT, 5);
	size_t messages = offsetof(struct passport, messages);
	const struct websocket_reader reader = {
		.message_opcode = WEBSOCKET_TEXT,
		.frame_opcode = WEBSOCKET_TEXT,
		.payload_remaining = 9,
		.message_length = 12,
		.mask = {9, 8, 7, 6},
		.mask_phase = 3,
	};
	arena_ref ref = world_passport(world);
	struct passport *passport = world_passport_at(world, ref);
	char *output = xmalloc(200000);

	for (int i = 0; i < 200000; i++)
		output[i] = (char)(i * 7);
	world_append(world, ref, offsetof(struct passport, out), output, 200000);
	passport_draft_begin(&world->draft, ref);
	queue_consume(&world->draft, &world->draft.now.out, 777);
	passport_draft_commit(&world->draft);
	free(output);
	world_append(world, ref, offsetof(struct passport, in), "GET /", 5);
	world_append(world, ref, messages, &word, sizeof(word));
	world_append(world, ref, messages, "hello\0\0\0", 8);
	passport->partial_message = passport->messages.end;
	world_append(world, ref, messages, &incomplete, sizeof(incomplete));
	world_append(world, ref, messages, "abc", 3);
	memcpy(&passport->reader, &reader, sizeof(reader));
	memset(passport->id.bytes, 0x5a, sizeof(passport->id.bytes));
	memset(passport->peer.bytes, 0x3c, sizeof(passport->peer.bytes));
	passport->accepted_at = 11;
	passport->peer_port = 12;
	passport->local_port = 13;
	passport->flags = PASSPORT_DEFLATE | PASSPORT_ADMITTED;
	passport->command_number = 14;
	passport->command_index = 1;
	passport->close_code = 3000;
	passport->tls = full_tls(world);
	passport_draft_begin(&world->draft, ref);
	queue_append(&world->draft, &passport_draft_tls(&world->draft)->in, ciphertext,
		     sizeof(ciphertext) - 1);
	passport_draft_commit(&world->draft);
	passport->ping_at = 15;
	passport->pong_deadline = 16;
	passport->deadline = 17;
	passport->expires_at = 18;
	passport->token_subs = 19;
	passport->identity = passport_identity_make(world->arena, SLICE("42"), SLICE("js"),
						    SLICE("5.1"), SLICE("{\"a\":1}"));
	return ref;
}

static arena_ref subscribe(struct world *world, arena_ref ref, struct channel *channel,
			   uint32_t flags, const char *info)
{
	struct subscription_record *record =
		arena_at(world->arena, world_subscribe(world, ref, channel));
	size_t length = strlen(info);
	arena_ref chunk;

	record->flags = flags;
	record->start_sequence = 50;
	record->expires_at = 99 + flags;
	if (length == 0)
		return 0;
	chunk = arena_chunk_alloc(world->arena, length);
	memcpy(arena_chunk_at(world->arena, chunk)->data, info, length);
	arena_chunk_at(world->arena, chunk)->used = (uint32_t)length;
	record->info = chunk;
	return chunk;
}

static struct slice export(struct world *world, struct buffer *bytes, arena_ref ref)
{
	buffer_reset(bytes);
	passport_export(bytes, &world->hub, ref, where, world);
	return buffer_slice(bytes);
}

static void assert_same_queue(const struct world *a, const struct stream_queue *x,
			      const struct world *b, const struct stream_queue *y)
{
	size_t length = queue_length(x);
	char *one = xmalloc(length + 1), *other = xmalloc(length + 1);

	assert_int_equal(queue_length(y), length);
	assert_int_equal(x->done, y->done);
	queue_copy(a->arena, x, x->done, length, one);
	queue_copy(b->arena, y, y->done, length, other);
	assert_memory_equal(one, other, length);
	free(one);
	free(other);
}

static void assert_tls(const struct world *from, const struct passport *was, const struct world *to,
		       const struct passport *is)
{
	const struct passport_tls *here = passport_tls(from->arena, was);
	const struct passport_tls *there = passport_tls(to->arena, is);
	const struct passport_peer *one = passport_peer(from->arena, was);
	const struct passport_peer *other = passport_peer(to->arena, is);

	assert_non_null(there);
	assert_memory_equal(&here->state, &there->state, sizeof(here->state));
	assert_int_equal(here->in.done, there->in.done);
	assert_same_queue(from, &here->in, to, &there->in);
	assert_int_equal(passport_peer_length(one), passport_peer_length(other));
	assert_memory_equal(one, other, passport_peer_length(one));
	assert_true(slice_is(passport_peer_text(other, PASSPORT_PEER_SUBJECT), "CN=anna"));
}

/* What is the arena's own and not the connection's. */
static bool is_of_the_arena(const char *name)
{
	static const char *const names[] = {
		"generation",         "in", "messages", "out", "identity", "move", "subscriptions",
		"subscription_count", "tls"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(names[i], name) == 0)
			return true;
	}
	return false;
}

static void test_every_field_travels(void **state)
{
	struct world *from = *state, *to = world_new(4 * MIB);
	arena_ref ref = full_passport(from), copy;
	const struct passport *was = world_passport_at(from, ref), *is;
	struct passport_import import;
	struct buffer bytes = {0};

	world_check(from);
	assert_null(passport_import_read(export(from, &bytes, ref), &import));
	copy = passport_import_make(&to->draft, &import, PASSPORT_MOVE(5, PASSPORT_ARRIVING));
	assert_int_not_equal(copy, 0);
	world_check(to);
	is = world_passport_at(to, copy);
	for (uint32_t i = 0; i < arena_layout_today.records[ARENA_RECORD_PASSPORT].field_count;
	     i++) {
		const struct arena_field *field =
			&arena_layout_today.records[ARENA_RECORD_PASSPORT].fields[i];
		static const char zeros[64];

		if (is_of_the_arena(field->name))
			continue;
		assert_memory_equal((const char *)was + field->offset,
				    (const char *)is + field->offset, field->size);
		/* A field that this test leaves at 0 shows nothing. */
		if (strcmp(field->name, "codec") != 0 && !strstr(field->name, "reserved") &&
		    !strstr(field->name, "test"))
			assert_memory_not_equal((const char *)was + field->offset, zeros,
						field->size);
	}
	assert_same_queue(from, &was->in, to, &is->in);
	assert_same_queue(from, &was->messages, to, &is->messages);
	assert_same_queue(from, &was->out, to, &is->out);
	assert_tls(from, was, to, is);
	assert_true(slice_is(passport_user(to->arena, is), "42"));
	assert_true(slice_is(passport_name(to->arena, is), "js"));
	assert_true(slice_is(passport_version(to->arena, is), "5.1"));
	assert_true(slice_is(passport_info(to->arena, is), "{\"a\":1}"));
	assert_int_equal(PASSPORT_MOVE_END(is->move), PASSPORT_ARRIVING);
	assert_int_equal(PASSPORT_MOVE_NUMBER(is->move), 5);
	buffer_free(&bytes);
	world_free(to);
}

static void hold(struct channel *channel, uint64_t sequence, uint64_t offset,
		 enum channel_message_kind kind, const char *frame)
{
	struct held_message like = {.kind = kind, .sequence = sequence, .offset = offset};

	like.epoch_length = offset ? 7 : 0;
	memcpy(like.epoch, "epoch-1", like.epoch_length);
	assert_true(hub_hold(channel, &like, slice_str(frame), MIB));
}

static void assert_output(const struct world *world, arena_ref ref, const char *expected)
{
	const struct stream_queue *out = &world_passport_at((struct world *)world, ref)->out;
	char text[64] = "";

	assert_int_equal(queue_length(out), strlen(expected));
	queue_copy(world->arena, out, out->done, strlen(expected), text);
	assert_string_equal(text, expected);
}

static void test_subscriptions_go_on_behind_what_is_held(void **state)
{
	struct world *from = *state, *to = world_new(4 * MIB);
	struct channel *news = positioned(from, SLICE("news"), 95, OFFSET);
	struct channel *bare = hub_get(&from->hub, SLICE("bare"));
	arena_ref ref = world_passport(from), copy;
	struct passport_import_subscription subscription;
	struct passport_import import;
	struct buffer bytes = {0};

	subscribe(from, ref, bare, SUBSCRIPTION_PRESENCE, "");
	subscribe(from, ref, news, SUBSCRIPTION_POSITIONED, "{\"i\":1}");
	assert_null(passport_import_read(export(from, &bytes, ref), &import));
	assert_int_equal(import.subscription_count, 2);
	copy = passport_import_make(&to->draft, &import, 0);

	/* The destination stands further on than the source. */
	hold(positioned(to, SLICE("news"), 103, 9), 99, 7, CHANNEL_MESSAGE_PUBLICATION, "seen ");
	hold(hub_find(&to->hub, SLICE("news")), 101, 8, CHANNEL_MESSAGE_PUBLICATION, "eight ");
	hold(hub_find(&to->hub, SLICE("news")), 102, 0, CHANNEL_MESSAGE_JOIN_LEAVE, "join ");
	hold(hub_find(&to->hub, SLICE("news")), 103, 9, CHANNEL_MESSAGE_PUBLICATION, "nine ");
	hold(hub_get(&to->hub, SLICE("bare")), 104, 0, CHANNEL_MESSAGE_PUBLICATION, "bare");
	while (passport_import_next(&import, &subscription)) {
		struct channel *channel = hub_find(&to->hub, subscription.channel);

		assert_int_equal(passport_import_subscribe(&to->hub, &to->draft, copy, channel,
							   &subscription),
				 PASSPORT_IMPORT_DONE);
	}
	world_check(to);
	assert_output(to, copy, "eight nine bare");
	assert_int_equal(to->hub.subscription_count, 2);
	for (arena_ref at = world_passport_at(to, copy)->subscriptions; at;) {
		const struct subscription_record *record = arena_at(to->arena, at);
		bool is_news = slice_is(
			hub_name(&to->hub, hub_channel_at(&to->hub, record->channel)), "news");

		assert_int_equal(record->start_sequence, is_news ? 103 : 104);
		assert_int_equal(record->flags,
				 is_news ? SUBSCRIPTION_POSITIONED : SUBSCRIPTION_PRESENCE);
		assert_int_equal(record->expires_at, 99 + record->flags);
		assert_true(
			slice_is(subscription_info(to->arena, record), is_news ? "{\"i\":1}" : ""));
		at = record->next;
	}
	/* A channel without a position gets one. */
	assert_int_equal(hub_record(&to->hub, hub_find(&to->hub, SLICE("bare")))->positioned, 1);
	buffer_free(&bytes);
	for (struct channel *c = NULL; (c = hub_next(&to->hub, c));)
		hub_held_free(c);
	world_free(to);
}

static enum passport_import_verdict verdict_of(struct world *from, struct world *to,
					       struct channel *channel)
{
	struct passport_import_subscription subscription;
	struct passport_import import;
	struct buffer bytes = {0};
	enum passport_import_verdict verdict;
	arena_ref ref = world_passport(from), copy;

	subscribe(from, ref, hub_find(&from->hub, SLICE("news")), 0, "");
	assert_null(passport_import_read(export(from, &bytes, ref), &import));
	copy = passport_import_make(&to->draft, &import, 0);
	assert_true(passport_import_next(&import, &subscription));
	verdict = passport_import_subscribe(&to->hub, &to->draft, copy, channel, &subscription);
	if (verdict != PASSPORT_IMPORT_DONE)
		assert_int_equal(world_passport_at(to, copy)->subscription_count, 0);
	world_check(to);
	hub_held_free(channel);
	buffer_free(&bytes);
	return verdict;
}

static void test_what_does_not_follow_is_refused(void **state)
{
	struct world *from = *state, *to = world_new(4 * MIB);
	struct channel *channel;

	positioned(from, SLICE("news"), 95, OFFSET);
	channel = positioned(to, SLICE("news"), 103, 9);
	/* Nothing is held: what was served here meanwhile is missing. */
	assert_int_equal(verdict_of(from, to, channel), PASSPORT_IMPORT_OVERTAKEN);
	hold(channel, 103, 9, CHANNEL_MESSAGE_PUBLICATION, "nine");
	assert_int_equal(verdict_of(from, to, channel), PASSPORT_IMPORT_GAP);
	hold(channel, 101, 8, CHANNEL_MESSAGE_PUBLICATION, "eight");
	hold(channel, 103, 9, CHANNEL_MESSAGE_PUBLICATION, "nine");
	channel->held_overflow = true;
	assert_int_equal(verdict_of(from, to, channel), PASSPORT_IMPORT_OVERTAKEN);
	hold(channel, 101, 8, CHANNEL_MESSAGE_PUBLICATION, "eight");
	hold(channel, 103, 9, CHANNEL_MESSAGE_PUBLICATION, "nine");
	assert_int_equal(verdict_of(from, to, channel), PASSPORT_IMPORT_DONE);
	channel = positioned(to, SLICE("other"), 90, 3);
	memcpy(hub_record(&to->hub, channel)->epoch, "another", 7);
	assert_int_equal(verdict_of(from, to, channel), PASSPORT_IMPORT_GAP);
	world_free(to);
}

static void test_a_full_arena_gets_nothing(void **state)
{
	struct world *from = *state, *to = world_new(4 * MIB);
	struct passport_import import;
	struct buffer bytes = {0};
	arena_ref spare;

	assert_null(passport_import_read(export(from, &bytes, full_passport(from)), &import));
	/* Room for the passport itself, not for its output. */
	world_passport_free(to, world_passport(to));
	spare = world_exhaust(to, 60000);
	assert_int_equal(passport_import_make(&to->draft, &import, 0), 0);
	world_release(to, spare);
	assert_int_equal(passport_next(to->arena, 0), 0);
	world_check(to);
	assert_int_not_equal(passport_import_make(&to->draft, &import, 0), 0);
	world_check(to);
	buffer_free(&bytes);
	world_free(to);
}

/* Cut anywhere, or with any byte of its heads bent: refused or read, never beyond its end. */
static void test_damaged_exports(void **state)
{
	struct world *world = *state;
	arena_ref ref = full_passport(world);
	struct passport_import_subscription subscription;
	struct passport_import import;
	struct buffer bytes = {0};
	struct slice whole;

	subscribe(world, ref, positioned(world, SLICE("news"), 95, OFFSET), 1, "{\"i\":1}");
	whole = export(world, &bytes, ref);
	for (size_t length = 0; length < whole.len; length += length < 600 ? 1 : 997) {
		char *cut = xmalloc(length + 1);

		memcpy(cut, whole.data, length);
		assert_non_null(passport_import_read(slice_from(cut, length), &import));
		free(cut);
	}
	for (size_t at = 0; at < whole.len; at += at < 600 ? 1 : 997) {
		char *bent = xmalloc(whole.len);

		memcpy(bent, whole.data, whole.len);
		bent[at] = (char)(bent[at] ^ 0x81);
		if (!passport_import_read(slice_from(bent, whole.len), &import)) {
			while (passport_import_next(&import, &subscription))
				;
		}
		free(bent);
	}
	buffer_append_char(&bytes, 'x');
	assert_non_null(passport_import_read(buffer_slice(&bytes), &import));
	buffer_free(&bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_every_field_travels, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_subscriptions_go_on_behind_what_is_held,
						world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_what_does_not_follow_is_refused, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_a_full_arena_gets_nothing, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_damaged_exports, world_setup, world_teardown),
	};

	return cmocka_run_group_tests_name("exports of passports", tests, NULL, NULL);
}

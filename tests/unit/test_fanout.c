/* SPDX-License-Identifier: ISC */
/*
 * The fan-out loop with real sockets and a real arena, but connections and a
 * clock of the test's own: who gets which bytes, what the arena tells between
 * any two steps, what a slice may take.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "arena_world.h"
#include "keepsock/alloc.h"
#include "keepsock/deflate.h"
#include "keepsock/websocket.h"
#include "worker/fanout.h"
#include "worker/loop_watch.h"

#define PLAIN   0u
#define PACKED  PASSPORT_DEFLATE
#define NARROW  (PASSPORT_DEFLATE | (6u << PASSPORT_WINDOW_SHIFT)) /* a window of 512 bytes */
#define MEMBERS 40

struct member {
	arena_ref passport;
	int peer; /* what the subscriber reads; owned */
};

struct stage {
	struct world *world;
	struct worker w;
	struct channel *channel;
	struct member members[MEMBERS];
	size_t count;
	struct buffer frames;
	struct fanout_message messages[64];
	size_t message_count;
	char *texts[64]; /* owned; the payloads */
};

/* ---- what the fan-out calls ---- */

/* What is left of the slice; every call of the fan-out is looked at. */
static long slice_left;
static unsigned slice_calls;

bool loop_slice_spent(struct worker *w, unsigned cost)
{
	const struct arena_header *header = w->arena->header;

	slice_calls++;
	assert_true(cost > 0);
	/* Whoever dies here: the batch is to blame, and the arena is whole. */
	assert_int_equal(atomic_load(&header->work.serving),
			 WORK_WORD(WORK_SERVING_BATCH, header->fanout.channel));
	assert_int_equal(atomic_load(&header->work.serving_item), header->fanout.batch);
	slice_left -= cost;
	return slice_left <= 0;
}

void loop_watch_subject(struct worker *w, uint64_t word)
{
	(void)w;
	assert_int_equal(WORK_KIND(word), WORK_SERVING_BATCH);
}

void connection_close(struct connection *c, const char *why)
{
	(void)why;
	close(c->fd);
	c->fd = -1;
}

/* ---- the stage ---- */

static int setup(void **state)
{
	struct stage *stage = xcalloc(1, sizeof(*stage));

	stage->world = world_new(16 * MIB);
	stage->w.arena = stage->world->arena;
	passport_draft_init(&stage->w.draft, stage->w.arena);
	stage->w.settings.websocket.compression_min_size = 128;
	stage->w.settings.websocket.message_size_limit = 65536;
	stage->w.deflate = deflate_create(1);
	assert_non_null(stage->w.deflate);
	stage->w.fanout = fanout_create(&stage->w);
	stage->channel = hub_get(&stage->world->hub, SLICE("news"));
	slice_left = 1000000;
	slice_calls = 0;
	*state = stage;
	return 0;
}

static int teardown(void **state)
{
	struct stage *stage = *state;

	for (size_t i = 0; i < stage->count; i++) {
		struct connection *c = connection_at(&stage->w, stage->members[i].passport);

		if (c->fd >= 0)
			close(c->fd);
		close(stage->members[i].peer);
	}
	for (size_t i = 0; i < stage->message_count; i++)
		free(stage->texts[i]);
	buffer_free(&stage->frames);
	buffer_free(&stage->w.scratch);
	buffer_free(&stage->w.packed);
	fanout_free(stage->w.fanout);
	deflate_free(stage->w.deflate);
	passport_draft_free(&stage->w.draft);
	world_free(stage->world);
	free(stage);
	return 0;
}

/* A connected subscriber; its number. */
static size_t add_member(struct stage *stage, uint32_t passport_flags, uint32_t subscription_flags,
			 uint64_t start_sequence)
{
	struct passport fresh = {
		.kind = PASSPORT_CLIENT,
		.state = PASSPORT_STATE_CONNECTED,
		.flags = passport_flags,
	};
	struct member *member = &stage->members[stage->count];
	struct world *world = stage->world;
	struct connection *c;
	int pair[2];

	assert_true(stage->count < MEMBERS);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	member->passport = passport_create(world->arena, &fresh);
	assert_int_not_equal(member->passport, 0);
	member->peer = pair[1];
	c = connection_at(&stage->w, member->passport);
	c->worker = &stage->w;
	c->passport = member->passport;
	c->fd = pair[0];
	passport_draft_begin(&world->draft, member->passport);
	assert_int_not_equal(hub_subscription_add(&world->hub, &world->draft, stage->channel,
						  start_sequence, subscription_flags),
			     0);
	assert_true(passport_draft_commit(&world->draft));
	hub_subscription_counted(&world->hub, 1);
	return stage->count++;
}

/* Adds a message of about `length` bytes, sequences from 100 on. */
static void add_message(struct stage *stage, size_t length)
{
	size_t i = stage->message_count++, start = stage->frames.len;
	struct buffer text = {0};
	unsigned seed = (unsigned)i + 1;

	while (text.len < length) {
		seed = seed * 1103515245u + 12345u;
		buffer_printf(&text, "{\"push\":%u,\"channel\":\"news\"}", seed >> 12);
	}
	websocket_append_frame(&stage->frames, WEBSOCKET_TEXT, buffer_slice(&text));
	stage->messages[i] = (struct fanout_message){
		.sequence = 100 + i,
		.offset = i + 1,
		.start = start,
		.length = stage->frames.len - start,
	};
	stage->texts[i] = strdup(buffer_cstr(&text));
	assert_non_null(stage->texts[i]);
	buffer_free(&text);
}

static bool begin(struct stage *stage, enum channel_message_kind kind)
{
	const struct fanout_batch batch = {
		.channel = stage->channel,
		.kind = kind,
		.messages = stage->messages,
		.count = stage->message_count,
		.frames = buffer_slice(&stage->frames),
	};

	/* All subscriptions are made in the test's own hub. */
	stage->w.hub = stage->world->hub;
	return fanout_begin(stage->w.fanout, &batch);
}

/* Serves everybody in slices of `cost`; how many that took. */
static unsigned run_slices(struct stage *stage, long cost)
{
	struct work_slot *work = &stage->w.arena->header->work;
	unsigned slices = 0;
	bool done = false;

	while (!done) {
		slice_left = cost;
		done = fanout_run(stage->w.fanout);
		slices++;
		assert_in_range(slices, 1, 10000);
		world_check(stage->world);
		/* A client's command is served in between, and ends as they do. */
		if (!done) {
			arena_store(&work->serving_item, 1);
			arena_store(&work->serving,
				    WORK_WORD(WORK_SERVING_CONNECTION, stage->members[0].passport));
			arena_store(&work->serving, 0);
		}
	}
	assert_int_equal(atomic_load(&work->serving), 0);
	assert_int_equal(stage->w.arena->header->fanout.batch, 0);
	return slices;
}

static void serve_all(struct stage *stage, enum channel_message_kind kind)
{
	assert_true(begin(stage, kind));
	assert_int_equal(run_slices(stage, 1000000), 1);
}

/*
 * What a member received and has queued: its messages must be those from `first`
 * on. How many of them came compressed.
 */
static unsigned expect_messages(struct stage *stage, size_t index, size_t first)
{
	const struct passport *passport =
		world_passport_at(stage->world, stage->members[index].passport);
	struct buffer in = {0}, message = {0};
	unsigned compressed = 0;
	ssize_t got;
	size_t at = 0, queued = (size_t)queue_length(&passport->out);

	while ((got = read(stage->members[index].peer, buffer_reserve(&in, 65536), 65536)) > 0)
		in.len += (size_t)got;
	assert_int_equal(passport->out.done, in.len);
	queue_copy(stage->w.arena, &passport->out, passport->out.done, queued,
		   buffer_reserve(&in, queued + 1));
	in.len += queued;
	for (size_t i = first; i < stage->message_count; i++) {
		struct websocket_server_frame frame;
		bool packed = at < in.len && (in.data[at] & 0x40);

		assert_true(at < in.len);
		in.data[at] &= (char)~0x40;
		assert_int_equal(
			websocket_parse_server_frame(slice_from(in.data + at, in.len - at), &frame),
			WEBSOCKET_DATA);
		buffer_reset(&message);
		if (packed)
			assert_int_equal(deflate_decompress(stage->w.deflate, frame.payload, 65536,
							    &message),
					 INFLATE_OK);
		else
			buffer_append_slice(&message, frame.payload);
		assert_string_equal(buffer_cstr(&message), stage->texts[i]);
		compressed += packed;
		at += frame.consumed;
	}
	assert_int_equal(at, in.len);
	buffer_free(&in);
	buffer_free(&message);
	return compressed;
}

/* ---- the tests ---- */

static void test_everybody_gets_every_message(void **state)
{
	struct stage *stage = *state;

	for (int i = 0; i < 10; i++)
		add_member(stage, PLAIN, 0, 0);
	add_message(stage, 10);
	add_message(stage, 300);
	serve_all(stage, CHANNEL_MESSAGE_PUBLICATION);
	for (size_t i = 0; i < stage->count; i++)
		assert_int_equal(expect_messages(stage, i, 0), 0);
	/* Compressing is only for who agreed to it. */
	assert_int_equal(metric_get(METRIC_deflate_messages_total), 0);
}

static void test_slices_name_the_batch_anew(void **state)
{
	struct stage *stage = *state;

	for (int i = 0; i < 10; i++)
		add_member(stage, i % 2 ? PACKED : PLAIN, 0, 0);
	add_message(stage, 200);
	assert_true(begin(stage, CHANNEL_MESSAGE_PUBLICATION));
	/* loop_slice_spent() looks at the work slot after every step. */
	assert_in_range(run_slices(stage, 3), 4, 10);
	assert_in_range(slice_calls, 11, 11);
	for (size_t i = 0; i < stage->count; i++)
		assert_int_equal(expect_messages(stage, i, 0), i % 2);
}

static void test_joins_are_for_those_who_want_them(void **state)
{
	struct stage *stage = *state;

	add_member(stage, PLAIN, 0, 0);
	add_member(stage, PLAIN, SUBSCRIPTION_JOIN_LEAVE, 0);
	add_member(stage, PACKED, SUBSCRIPTION_POSITIONED | SUBSCRIPTION_PRESENCE, 0);
	add_member(stage, PACKED, SUBSCRIPTION_POSITIONED | SUBSCRIPTION_JOIN_LEAVE, 0);
	/* Subscribed in the middle of the batch. */
	add_member(stage, PLAIN, SUBSCRIPTION_JOIN_LEAVE, 100);
	add_member(stage, PLAIN, 0, 100);
	add_message(stage, 200);
	add_message(stage, 300);
	serve_all(stage, CHANNEL_MESSAGE_JOIN_LEAVE);
	expect_messages(stage, 0, 2);
	expect_messages(stage, 1, 0);
	expect_messages(stage, 2, 2);
	assert_int_equal(expect_messages(stage, 3, 0), 2);
	expect_messages(stage, 4, 1);
	expect_messages(stage, 5, 2);
}

static void test_a_batch_is_compressed_once(void **state)
{
	struct stage *stage = *state;
	uint64_t before = metric_get(METRIC_deflate_messages_total);
	uint64_t saved = metric_get(METRIC_deflate_saved_bytes_total);
	size_t total;

	for (int i = 0; i < 12; i++)
		add_member(stage, i % 3 == 0 ? PLAIN : i % 3 == 1 ? PACKED : NARROW, 0, 0);
	add_message(stage, 20);
	add_message(stage, 400);
	add_message(stage, 500);
	total = stage->frames.len;
	serve_all(stage, CHANNEL_MESSAGE_PUBLICATION);
	for (size_t i = 0; i < stage->count; i++)
		assert_int_equal(expect_messages(stage, i, 0), i % 3 == 0 ? 0 : 2);
	assert_int_equal(metric_get(METRIC_deflate_messages_total), before + 2);
	assert_in_range(metric_get(METRIC_deflate_saved_bytes_total), saved + 8 * total / 4,
			saved + 8 * total);
}

static void test_a_narrow_window_gets_long_messages_plain(void **state)
{
	struct stage *stage = *state;

	add_member(stage, NARROW, 0, 0);
	add_member(stage, PACKED, 0, 0);
	add_message(stage, 300);
	add_message(stage, 600);
	assert_true(begin(stage, CHANNEL_MESSAGE_PUBLICATION));
	slice_left = 5; /* up to the last of them */
	while (!fanout_run(stage->w.fanout)) {
		const struct fanout_record *record = &stage->w.arena->header->fanout;

		world_check(stage->world);
		/* What a successor would give them follows from the arena. */
		if (record->deflated) {
			assert_int_equal(record->deflated_window, 10);
			assert_false(passport_takes_deflated(record, PLAIN));
			assert_false(passport_takes_deflated(record, NARROW));
			assert_true(passport_takes_deflated(record, PACKED));
		}
		slice_left = 1;
	}
	assert_int_equal(expect_messages(stage, 0, 0), 0);
	assert_int_equal(expect_messages(stage, 1, 0), 2);
}

static void test_a_long_batch_is_compressed_in_slices(void **state)
{
	struct stage *stage = *state;
	unsigned slices = 0;
	char byte;

	add_member(stage, PACKED, 0, 0);
	add_member(stage, PLAIN, 0, 0);
	for (int i = 0; i < 40; i++)
		add_message(stage, 10000);
	assert_true(begin(stage, CHANNEL_MESSAGE_PUBLICATION));
	/* One message of that size is more than this slice has. */
	while (slices < 39) {
		slice_left = 20;
		assert_false(fanout_run(stage->w.fanout));
		assert_int_equal(stage->w.arena->header->fanout.deflated, 0);
		slices++;
	}
	assert_true(read(stage->members[0].peer, &byte, 1) < 0);
	run_slices(stage, 20);
	assert_int_equal(expect_messages(stage, 0, 0), 40);
	assert_int_equal(expect_messages(stage, 1, 0), 0);
}

static void test_short_messages_are_never_looked_at(void **state)
{
	struct stage *stage = *state;
	uint64_t before = metric_get(METRIC_deflate_messages_total);

	add_member(stage, PACKED, 0, 0);
	add_message(stage, 50);
	serve_all(stage, CHANNEL_MESSAGE_PUBLICATION);
	assert_int_equal(expect_messages(stage, 0, 0), 0);
	assert_int_equal(metric_get(METRIC_deflate_messages_total), before);
	/* One look per subscriber: nothing was prepared. */
	assert_int_equal(slice_calls, 1);
}

static void test_late_subscribers_get_the_rest(void **state)
{
	struct stage *stage = *state;

	for (int i = 0; i < 3; i++) {
		add_member(stage, PLAIN, 0, 100 + (uint64_t)i);
		add_member(stage, PACKED, 0, 100 + (uint64_t)i);
	}
	for (int i = 0; i < 4; i++)
		add_message(stage, 200);
	serve_all(stage, CHANNEL_MESSAGE_PUBLICATION);
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(expect_messages(stage, 2 * i, i + 1), 0);
		assert_int_equal(expect_messages(stage, 2 * i + 1, i + 1), 3 - i);
	}
}

static void test_who_has_a_backlog_gets_a_copy(void **state)
{
	struct stage *stage = *state;

	for (int i = 0; i < 2; i++) {
		size_t index = add_member(stage, i ? PACKED : PLAIN, 0, 0);
		struct connection *c = connection_at(&stage->w, stage->members[index].passport);

		c->writing = true;
	}
	add_message(stage, 500);
	serve_all(stage, CHANNEL_MESSAGE_PUBLICATION);
	for (size_t i = 0; i < 2; i++) {
		assert_int_not_equal(
			queue_length(
				&world_passport_at(stage->world, stage->members[i].passport)->out),
			0);
		assert_int_equal(expect_messages(stage, i, 0), i);
	}
}

static void test_a_full_socket_leaves_the_rest_in_the_queue(void **state)
{
	struct stage *stage = *state;
	int small = 4096;

	for (int i = 0; i < 2; i++) {
		size_t index = add_member(stage, i ? PACKED : PLAIN, 0, 0);
		struct connection *c = connection_at(&stage->w, stage->members[index].passport);

		assert_int_equal(setsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)),
				 0);
	}
	for (int i = 0; i < 60; i++)
		add_message(stage, 3000);
	serve_all(stage, CHANNEL_MESSAGE_PUBLICATION);
	for (size_t i = 0; i < 2; i++) {
		const struct passport *passport =
			world_passport_at(stage->world, stage->members[i].passport);

		assert_true(passport->out.done > 0 && queue_length(&passport->out) > 0);
		assert_int_equal(expect_messages(stage, i, 0), i * 60);
	}
}

static void test_no_room_for_a_second_frame(void **state)
{
	struct stage *stage = *state;

	add_member(stage, PACKED, 0, 0);
	add_message(stage, 300);
	assert_true(begin(stage, CHANNEL_MESSAGE_PUBLICATION));
	for (size_t payload = 65536 - 64; payload > 16; payload /= 2)
		world_exhaust(stage->world, payload);
	assert_int_equal(run_slices(stage, 1000000), 1);
	assert_int_equal(expect_messages(stage, 0, 0), 0);
}

static void test_no_room_at_all(void **state)
{
	struct stage *stage = *state;

	add_member(stage, PACKED, 0, 0);
	add_message(stage, 300);
	for (size_t payload = 65536 - 64; payload > 16; payload /= 2)
		world_exhaust(stage->world, payload);
	assert_false(begin(stage, CHANNEL_MESSAGE_PUBLICATION));
	assert_int_equal(stage->w.arena->header->fanout.batch, 0);
	assert_true(fanout_run(stage->w.fanout));
}

static void test_who_left_gets_nothing(void **state)
{
	struct stage *stage = *state;
	struct connection *c;

	for (int i = 0; i < 4; i++)
		add_member(stage, i % 2 ? PACKED : PLAIN, 0, 0);
	add_message(stage, 300);
	assert_true(begin(stage, CHANNEL_MESSAGE_PUBLICATION));
	slice_left = 1;
	assert_false(fanout_run(stage->w.fanout));
	/* One closes, one unsubscribes while others are served. */
	c = connection_at(&stage->w, stage->members[1].passport);
	connection_close(c, "test");
	assert_true(fanout_serving(stage->w.fanout, stage->channel));
	world_unsubscribe(stage->world, stage->members[2].passport, stage->channel, true);
	run_slices(stage, 1);
	expect_messages(stage, 0, 0);
	expect_messages(stage, 1, 1);
	expect_messages(stage, 2, 1);
	assert_int_equal(expect_messages(stage, 3, 0), 1);
	assert_false(fanout_serving(stage->w.fanout, stage->channel));
}

static void test_who_lost_continuity_gets_nothing(void **state)
{
	struct stage *stage = *state;

	for (int i = 0; i < 4; i++)
		add_member(stage, i % 2 ? PACKED : PLAIN,
			   SUBSCRIPTION_POSITIONED | (i < 2 ? SUBSCRIPTION_LOST : 0), 0);
	stage->channel->lost = true;
	add_message(stage, 300);
	serve_all(stage, CHANNEL_MESSAGE_PUBLICATION);
	for (size_t i = 0; i < 4; i++)
		expect_messages(stage, i, i < 2 ? 1 : 0);
}

static void test_fanouts_take_turns(void **state)
{
	struct stage *stage = *state;
	int first, second, third;

	add_member(stage, PLAIN, 0, 0);
	add_member(stage, PLAIN, 0, 0);
	add_message(stage, 10);
	assert_true(fanout_take_turn(stage->w.fanout, &first));
	assert_true(begin(stage, CHANNEL_MESSAGE_PUBLICATION));
	assert_false(fanout_take_turn(stage->w.fanout, &second));
	assert_false(fanout_take_turn(stage->w.fanout, &third));
	run_slices(stage, 1000000);
	assert_false(fanout_take_turn(stage->w.fanout, &first));
	assert_true(fanout_take_turn(stage->w.fanout, &second));
}

int main(void)
{
#define ON_STAGE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		ON_STAGE(test_everybody_gets_every_message),
		ON_STAGE(test_slices_name_the_batch_anew),
		ON_STAGE(test_joins_are_for_those_who_want_them),
		ON_STAGE(test_a_batch_is_compressed_once),
		ON_STAGE(test_a_narrow_window_gets_long_messages_plain),
		ON_STAGE(test_a_long_batch_is_compressed_in_slices),
		ON_STAGE(test_short_messages_are_never_looked_at),
		ON_STAGE(test_late_subscribers_get_the_rest),
		ON_STAGE(test_who_has_a_backlog_gets_a_copy),
		ON_STAGE(test_a_full_socket_leaves_the_rest_in_the_queue),
		ON_STAGE(test_no_room_for_a_second_frame),
		ON_STAGE(test_no_room_at_all),
		ON_STAGE(test_who_left_gets_nothing),
		ON_STAGE(test_who_lost_continuity_gets_nothing),
		ON_STAGE(test_fanouts_take_turns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: ISC */
/*
 * An arena of each layout that was ever released is kept as a file, and must be
 * adopted for good: a worker takes over what an older program left.
 *
 *   test_golden_arena --write FILE    writes one of the layout of today
 *   test_golden_arena --freeze        prints the table of the layout of today
 *
 * When a table of fields changes, ARENA_LAYOUT_VERSION is raised. The image of
 * the new layout is to be written to tests/unit/golden/arena-VERSION.gz, and its
 * frozen table to src/passport/arena_layout_VERSION.c, which arena_layouts.h and
 * arena_layout_frozen() name. Those of a layout that no released program had
 * may go.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

#include "arena_world.h"
#include "golden_image.h"
#include "keepsock/alloc.h"
#include "keepsock/arena_layout.h"
#include "keepsock/channel_record.h"

/* Layouts of which there is an image. */
static const unsigned layouts[] = {3, 4, 5};

#define FIRST_WITH_TLS 5u

/* --- reading it --- */

static int open_image(unsigned layout)
{
	const char *srcdir = getenv("srcdir");
	char *path = xasprintf("%s/tests/unit/golden/arena-%u.gz", srcdir ? srcdir : ".", layout);
	gzFile file = gzopen(path, "rb");
	int fd = memfd_create("image", MFD_CLOEXEC), got;
	char bytes[65536];

	if (!file)
		fail_msg("%s is missing: see the top of this file", path);
	assert_true(fd >= 0);
	while ((got = gzread(file, bytes, sizeof(bytes))) > 0)
		assert_int_equal(write(fd, bytes, (size_t)got), got);
	assert_int_equal(got, 0);
	gzclose(file);
	free(path);
	return fd;
}

static void assert_holds(const struct world *world, const struct stream_queue *queue,
			 const void *bytes, size_t length)
{
	char *flat = xmalloc(length);

	assert_int_equal(queue_length(queue), length);
	queue_copy(world->arena, queue, queue->done, length, flat);
	assert_memory_equal(flat, bytes, length);
	free(flat);
}

static void assert_client(struct world *world, const struct passport *passport)
{
	const struct subscription_record *subscription =
		arena_at(world->arena, passport->subscriptions);
	char messages[8 + 56 + 8 + sizeof(fragment)] = {0};
	uint64_t word = MESSAGE_WORD(WEBSOCKET_TEXT, sizeof(message) - 1);
	size_t padded = MESSAGE_PADDED(sizeof(message) - 1);
	char output[3000 - 1234];

	memset(output, 'o', sizeof(output));
	assert_holds(world, &passport->out, output, sizeof(output));
	memcpy(messages, &word, 8);
	memcpy(messages + 8, message, sizeof(message) - 1);
	memcpy(messages + 8 + padded + 8, fragment, sizeof(fragment) - 1);
	assert_holds(world, &passport->messages, messages, 8 + padded + 8 + sizeof(fragment) - 1);
	assert_int_equal(passport->partial_message, 8 + padded);
	assert_memory_equal(&passport->reader, &reader, sizeof(reader));
	/* The commit that was under way is complete. */
	assert_int_equal(passport->command_number, 7);
	assert_int_equal(passport->ping_at, 123456);
	assert_true(slice_is(passport_user(world->arena, passport), "42"));
	assert_true(slice_is(passport_version(world->arena, passport), "5.1"));
	assert_true(slice_is(passport_info(world->arena, passport), "{\"name\":\"anna\"}"));
	assert_int_equal(passport->subscription_count, 1);
	assert_int_equal(subscription->start_sequence, START_SEQUENCE);
	assert_int_equal(subscription->flags, SUBSCRIPTION_POSITIONED | SUBSCRIPTION_RECOVERABLE);
	assert_true(slice_is(subscription_info(world->arena, subscription), info));
}

static void assert_tls_client(struct world *world, const struct passport *passport)
{
	const struct passport_tls *tls = passport_tls(world->arena, passport);
	const struct passport_peer *peer = passport_peer(world->arena, passport);

	assert_non_null(tls);
	assert_memory_equal(&tls->state, &record_layer, sizeof(record_layer));
	assert_int_equal(tls->in.done, 900);
	assert_holds(world, &tls->in, ciphertext, sizeof(ciphertext) - 1);
	assert_int_equal(passport->out.done, 1500);
	assert_holds(world, &passport->out, sealed, sizeof(sealed) - 1);
	assert_int_equal(peer->not_after, certificate.not_after);
	assert_int_equal(peer->verify_result, certificate.verify_result);
	assert_memory_equal(peer->fingerprint, certificate.fingerprint, sizeof(peer->fingerprint));
	assert_true(slice_is(passport_peer_text(peer, PASSPORT_PEER_SUBJECT), "CN=anna"));
	assert_true(slice_is(passport_peer_text(peer, PASSPORT_PEER_ISSUER), ""));
	assert_true(slice_is(passport_peer_text(peer, PASSPORT_PEER_URI), "urn:anna"));
}

static void assert_passports(struct world *world, unsigned layout)
{
	const struct shard_record *shard = &world->arena->header->shards[0];
	unsigned clients = 0, requests = 0, fans = 0, encrypted = 0;
	arena_ref ref = 0;

	while ((ref = passport_next(world->arena, ref))) {
		const struct passport *passport = world_passport_at(world, ref);

		assert_true(passport->generation > GENERATION);
		if (passport->deadline == 6000) {
			assert_tls_client(world, passport);
			encrypted++;
		} else if (passport->state == PASSPORT_STATE_HTTP) {
			assert_holds(world, &passport->in, request, sizeof(request) - 1);
			assert_int_equal(passport->deadline, 5000);
			requests++;
		} else if (passport->kind == PASSPORT_REDIS) {
			assert_holds(world, &passport->in, redis_input, sizeof(redis_input) - 1);
			assert_int_equal(shard->passport, ref);
		} else if (passport->identity) {
			assert_client(world, passport);
			clients++;
		} else {
			fans++;
		}
	}
	assert_int_equal(requests, 1);
	assert_int_equal(encrypted, layout >= FIRST_WITH_TLS);
	assert_int_equal(clients, 1);
	assert_int_equal(fans, SUBSCRIBERS - 1);
	assert_int_equal(shard->max_seen, 995);
	assert_string_equal(shard->run, "0123456789abcdef");
	assert_string_equal(shard->generation, "3");
}

static void assert_channel(struct world *world, struct slice name, enum channel_state state,
			   uint64_t unconfirmed)
{
	struct channel *channel = hub_find(&world->hub, name);

	assert_non_null(channel);
	assert_int_equal(hub_record(&world->hub, channel)->state, state);
	assert_int_equal(hub_record(&world->hub, channel)->unconfirmed, unconfirmed);
}

static void assert_channels(struct world *world)
{
	struct channel *news = hub_find(&world->hub, SLICE("news"));
	const struct channel_record *record;

	assert_channel(world, SLICE("news"), CHANNEL_JOINED, 0);
	assert_channel(world, SLICE("asked for"), CHANNEL_JOINING, 1);
	assert_channel(world, SLICE("given up"), CHANNEL_LEAVING, 2);
	assert_int_equal(world->hub.channel_count, 3);
	record = hub_record(&world->hub, news);
	assert_int_equal(record->offset, NEWS_OFFSET);
	assert_int_equal(record->last_sequence, NEWS_SEQUENCE);
	assert_true(slice_is(hub_epoch(record), "abcdefgh-3"));
	assert_int_equal(record->count, SUBSCRIBERS);
	assert_int_equal(record->tombstones, 1);
	assert_int_equal(hub_subscriber(&world->hub, news, 5)->passport, 0);
	assert_int_equal(news->max_start_sequence, START_SEQUENCE);
}

static void assert_header(const struct world *world)
{
	const struct arena_header *header = world->arena->header;
	const struct fanout_record *fanout = &header->fanout;

	assert_string_equal(header->worker_name, "a.0.5eed5eed");
	assert_int_equal(WORK_KIND(header->last_blamed.serving), WORK_SERVING_CONNECTION);
	assert_int_equal(header->last_blamed.item, 6);
	assert_int_equal(header->last_blamed.deaths, 1);
	assert_int_equal(WORK_KIND(atomic_load(&header->work.serving)), WORK_SERVING_BATCH);
	assert_int_equal(atomic_load(&header->work.serving_item), 12);
	assert_int_equal(fanout->batch, 12);
	assert_int_equal(fanout->end, SUBSCRIBERS);
	assert_int_equal(FANOUT_INDEX(atomic_load(&fanout->cursor)), 17);
	assert_int_equal(fanout->last_offset, 43);
	assert_memory_equal(arena_chunk_at(world->arena, (arena_ref)fanout->frame)->data, frame,
			    sizeof(frame) - 1);
	assert_memory_equal(arena_chunk_at(world->arena, (arena_ref)fanout->sequences)->data,
			    sequences, sizeof(sequences));
}

/* As a worker does it: converted where that is needed. */
static struct world *adopt_image(int fd, unsigned layout)
{
	const char *error = NULL;
	struct world *world;
	int converted;

	if (layout == ARENA_LAYOUT_VERSION) {
		assert_int_equal(arena_convert(fd, &converted, &error), ARENA_CONVERSION_NEEDLESS);
		return world_adopt_whole(fd);
	}
	if (arena_convert(fd, &converted, &error) != ARENA_CONVERSION_DONE)
		fail_msg("layout %u: %s", layout, error);
	world = world_adopt_whole(converted);
	close(converted);
	return world;
}

static void test_images_are_adopted(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(layouts) / sizeof(layouts[0]); i++) {
		int fd = open_image(layouts[i]);
		struct world *world = adopt_image(fd, layouts[i]);

		assert_header(world);
		assert_channels(world);
		assert_passports(world, layouts[i]);
		world_check(world);
		world_free(world);
		close(fd);
	}
}

#if ARENA_TEST_LAYOUT == 0
static void test_the_layout_of_today_has_an_image(void **state)
{
	(void)state;
	assert_int_equal(layouts[sizeof(layouts) / sizeof(layouts[0]) - 1], ARENA_LAYOUT_VERSION);
}

static void assert_same_record(const struct arena_record_layout *a,
			       const struct arena_record_layout *b)
{
	assert_string_equal(a->name, b->name);
	assert_int_equal(a->size, b->size);
	assert_int_equal(a->field_count, b->field_count);
	for (uint32_t i = 0; i < a->field_count; i++) {
		assert_string_equal(a->fields[i].name, b->fields[i].name);
		assert_int_equal(a->fields[i].offset, b->fields[i].offset);
		assert_int_equal(a->fields[i].size, b->fields[i].size);
		assert_int_equal(a->fields[i].count, b->fields[i].count);
		assert_int_equal(a->fields[i].record, b->fields[i].record);
		assert_int_equal(a->fields[i].since, b->fields[i].since);
	}
}

/* Who changes a table of fields without a new version fails here. */
static void test_the_layout_of_today_is_frozen(void **state)
{
	const struct arena_layout *frozen = arena_layout_frozen(ARENA_LAYOUT_VERSION);

	(void)state;
	assert_non_null(frozen);
	for (unsigned i = 1; i < ARENA_RECORD_COUNT; i++)
		assert_same_record(&frozen->records[i], &arena_layout_today.records[i]);
}
#endif

/* Every record is covered by its fields, without holes; names are unique; what is new is marked. */
static void test_tables_are_complete(void **state)
{
	(void)state;
	for (unsigned r = 1; r < ARENA_RECORD_COUNT; r++) {
		const struct arena_record_layout *record = &arena_layout_today.records[r];
		uint32_t end = 0;

		for (uint32_t i = 0; i < record->field_count; i++) {
			const struct arena_field *field = &record->fields[i];
			uint32_t element = field->size / field->count;

			if (field->offset != end)
				fail_msg("%s: a hole in front of %s", record->name, field->name);
			end += field->size;
			assert_true(field->since <= ARENA_LAYOUT_VERSION);
			if (field->record)
				assert_int_equal(element,
						 arena_layout_today.records[field->record].size);
			assert_ptr_equal(arena_layout_field(&arena_layout_today, r, field->name),
					 field);
			for (size_t v = 0; v < sizeof(layouts) / sizeof(layouts[0]); v++)
				assert_int_equal(arena_layout_field(arena_layout_of(layouts[v]), r,
								    field->name) != NULL,
						 field->since <= layouts[v]);
		}
		assert_int_equal(end, record->size);
	}
}

/* What has no table of its own is the same for good: a change needs a conversion of its own. */
static void test_what_has_no_table_never_changes(void **state)
{
	(void)state;
	assert_int_equal(ARENA_PAGE_SIZE, 65536);
	assert_int_equal(ARENA_READ_SCRATCH, 131072);
	assert_int_equal(ARENA_CLASSES, 15);
	assert_int_equal(arena_class_size(ARENA_PASSPORT), 256);
	assert_int_equal(arena_class_size(ARENA_CHANNEL), 128);
	assert_int_equal(offsetof(struct arena_chunk, used), 4);
	assert_int_equal(offsetof(struct arena_chunk, base), 8);
	assert_int_equal(offsetof(struct arena_chunk, data), 16);
	assert_int_equal(offsetof(struct stream_queue, end), 8);
	assert_int_equal(offsetof(struct stream_queue, head), 16);
	assert_int_equal(offsetof(struct stream_queue, tail), 20);
	assert_int_equal(offsetof(struct passport_identity, info_length), 8);
	assert_int_equal(offsetof(struct passport_identity, data), 16);
	assert_int_equal(offsetof(struct subscriber, subscription), 4);
	assert_int_equal(PASSPORT_STATE_COUNT, 9);
	assert_int_equal(PASSPORT_STATE_REDIS, 8);
}

/* --- converting --- */

static char *bytes_of(int fd)
{
	off_t size = lseek(fd, 0, SEEK_END);
	char *bytes = xmalloc((size_t)size);

	assert_int_equal(pread(fd, bytes, (size_t)size, 0), size);
	return bytes;
}

static void assert_bytes(int fd, const char *bytes)
{
	char *now = bytes_of(fd);

	assert_memory_equal(now, bytes, (size_t)lseek(fd, 0, SEEK_END));
	free(now);
}

#if ARENA_TEST_LAYOUT
/* All records changed: what the images show to be kept was really moved. */
static void test_every_record_was_moved(void **state)
{
	static const enum arena_record moved[] = {ARENA_RECORD_HEADER, ARENA_RECORD_PASSPORT,
						  ARENA_RECORD_CHANNEL, ARENA_RECORD_SUBSCRIPTION};

	(void)state;
	for (size_t i = 0; i < sizeof(moved) / sizeof(moved[0]); i++) {
		const struct arena_record_layout *now = &arena_layout_today.records[moved[i]];
		const struct arena_layout *before =
			arena_layout_of(layouts[sizeof(layouts) / sizeof(layouts[0]) - 1]);
		unsigned elsewhere = 0, fresh = 0;

		for (uint32_t f = 0; f < now->field_count; f++) {
			const struct arena_field *was =
				arena_layout_field(before, moved[i], now->fields[f].name);

			fresh += !was;
			elsewhere += was && was->offset != now->fields[f].offset;
		}
		assert_true(elsewhere > 0);
		assert_true(fresh > 0);
	}
}

bool __real_arena_pages_back(struct arena *arena, uint32_t first, uint32_t count);
bool __wrap_arena_pages_back(struct arena *arena, uint32_t first, uint32_t count);
static enum { BACK_REALLY, BACK_AND_DIE, BACK_NOT } backing;

bool __wrap_arena_pages_back(struct arena *arena, uint32_t first, uint32_t count)
{
	if (backing == BACK_AND_DIE)
		raise(SIGKILL);
	if (backing == BACK_NOT) {
		errno = ENOSPC;
		return false;
	}
	return __real_arena_pages_back(arena, first, count);
}

static void test_the_old_one_counts_until_the_end(void **state)
{
	int fd, converted, status;
	const char *error = NULL;
	char *before;
	pid_t child;

	(void)state;
	fd = open_image(layouts[0]);
	before = bytes_of(fd);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		backing = BACK_AND_DIE;
		(void)arena_convert(fd, &converted, &error);
		_exit(1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	assert_bytes(fd, before);
	backing = BACK_NOT;
	assert_int_equal(arena_convert(fd, &converted, &error), ARENA_CONVERSION_REFUSED);
	assert_string_equal(error, strerror(ENOSPC));
	backing = BACK_REALLY;
	assert_bytes(fd, before);
	/* The next one, and even one more, find what there was. */
	for (int i = 0; i < 2; i++)
		world_free(adopt_image(fd, layouts[0]));
	assert_bytes(fd, before);
	free(before);
	close(fd);
}

static uint32_t old_ref(int fd, enum arena_record record, const char *name, uint32_t at)
{
	const struct arena_layout *layout = arena_layout_of(layouts[0]);
	uint32_t value;

	assert_int_equal(pread(fd, &value, sizeof(value),
			       (off_t)at * ARENA_REF_SIZE +
				       arena_layout_field(layout, record, name)->offset),
			 sizeof(value));
	return value;
}

/* Lists that run in a circle, or into what is no subscription, end; what is damaged is found. */
static void test_damaged_arenas_stay_damaged(void **state)
{
	const struct arena_layout *layout = arena_layout_of(layouts[0]);
	const struct arena_field *next;
	struct arena_adoption adoption;
	const char *error = NULL;
	struct world *world;
	arena_ref ref = 0;
	int fd, converted;

	(void)state;
	fd = open_image(layouts[0]);
	next = arena_layout_field(layout, ARENA_RECORD_SUBSCRIPTION, "next");
	world = adopt_image(fd, layouts[0]);
	while ((ref = passport_next(world->arena, ref))) {
		uint32_t first = world_passport_at(world, ref)->subscriptions;

		if (!first)
			continue;
		assert_int_equal(old_ref(fd, ARENA_RECORD_PASSPORT, "subscriptions", ref), first);
		assert_int_equal(pwrite(fd, &first, sizeof(first),
					(off_t)first * ARENA_REF_SIZE + next->offset),
				 sizeof(first));
		break;
	}
	assert_true(ref > 0);
	world_free(world);
	assert_int_equal(arena_convert(fd, &converted, &error), ARENA_CONVERSION_DONE);
	world = world_adopt(converted, &adoption);
	assert_int_equal(adoption.passports_lost, 1);
	world_check(world);
	arena_adoption_free(&adoption);
	world_free(world);
	close(converted);
	close(fd);
}

/* Makes the image one of an arena of so many pages. */
static void stretch(int fd, uint32_t pages)
{
	assert_int_equal(ftruncate(fd, (off_t)pages * ARENA_PAGE_SIZE), 0);
	assert_int_equal(
		pwrite(fd, &pages, sizeof(pages), offsetof(struct arena_header, page_count)),
		sizeof(pages));
}

static uint64_t set_owner(int fd, uint64_t owner)
{
	off_t at = offsetof(struct arena_header, owner);
	uint64_t before;

	assert_int_equal(pread(fd, &before, sizeof(before), at), sizeof(before));
	assert_int_equal(pwrite(fd, &owner, sizeof(owner), at), sizeof(owner));
	return before;
}

/* From an owner that still runs, too: its word in the old one decides. */
static void test_one_that_is_frozen_is_taken(void **state)
{
	int fd = open_image(layouts[0]);
	const char *error = NULL;
	struct arena *arena = arena_prepare(fd, &error);
	struct world *world;
	char *before;

	(void)state;
	assert_non_null(arena);
	set_owner(fd, WORK_WORD(ARENA_OWNER_RUNNING, CHILD_PID));
	before = bytes_of(fd);
	assert_int_equal(arena_take(arena), ARENA_LOST);
	assert_bytes(fd, before);
	free(before);
	arena_destroy(arena);

	arena = arena_prepare(fd, &error);
	set_owner(fd, WORK_WORD(ARENA_OWNER_FROZEN, CHILD_PID));
	before = bytes_of(fd);
	backing = BACK_NOT;
	assert_int_equal(arena_take(arena), ARENA_UNCONVERTED);
	backing = BACK_REALLY;
	assert_bytes(fd, before);
	assert_int_equal(arena_take(arena), ARENA_TAKEN);
	assert_true(arena->converted);
	assert_int_equal(atomic_load(&arena->header->owner),
			 WORK_WORD(ARENA_OWNER_RUNNING, getpid()));
	/* Nothing else was changed in the old one. */
	assert_int_equal(set_owner(fd, WORK_WORD(ARENA_OWNER_FROZEN, CHILD_PID)),
			 WORK_WORD(ARENA_OWNER_RUNNING, getpid()));
	assert_bytes(fd, before);
	world = world_adopt_whole(arena->fd);
	assert_passports(world, layouts[0]);
	assert_channels(world);
	world_free(world);
	arena_destroy(arena);
	free(before);
	close(fd);
}

/* Where a longer header would need a page that is in use, the arena gets that much shorter. */
static void test_a_longer_header_finds_its_place(void **state)
{
	uint32_t header = arena_layout_of(layouts[0])->records[ARENA_RECORD_HEADER].size;
	uint32_t longer = arena_layout_today.records[ARENA_RECORD_HEADER].size - header;
	uint32_t pages = ARENA_PAGE_SIZE - header;
	int fd = open_image(layouts[0]), converted;
	const uint8_t last = ARENA_CHUNK_64K;
	const char *error = NULL;
	struct world *world;

	(void)state;
	assert_true(longer > 0);
	stretch(fd, pages);
	assert_int_equal(arena_convert(fd, &converted, &error), ARENA_CONVERSION_DONE);
	world = world_adopt_whole(converted);
	assert_int_equal(world->arena->header->page_count, pages - longer);
	assert_passports(world, layouts[0]);
	world_free(world);
	close(converted);

	assert_int_equal(pwrite(fd, &last, 1, (off_t)header + pages - 1), 1);
	assert_int_equal(arena_convert(fd, &converted, &error), ARENA_CONVERSION_REFUSED);
	assert_non_null(strstr(error, "too full"));
	close(fd);
}
#endif

/* An image that says it is of tomorrow, or of the day before, is refused with its reason, and left
 * as it is. */
static void assert_refused(uint32_t version, const char *reason)
{
	unsigned layout = layouts[sizeof(layouts) / sizeof(layouts[0]) - 1];
	off_t at = offsetof(struct arena_header, layout_version);
	int fd = open_image(layout), converted;
	const char *error = NULL;
	char *before;

	assert_int_equal(pwrite(fd, &version, sizeof(version), at), sizeof(version));
	before = bytes_of(fd);
	assert_int_equal(arena_convert(fd, &converted, &error), ARENA_CONVERSION_REFUSED);
	assert_non_null(strstr(error, reason));
	assert_int_equal(converted, -1);
	error = NULL;
	assert_null(arena_adopt(fd, &error));
	assert_non_null(error);
	assert_bytes(fd, before);
	free(before);
	close(fd);
}

static void test_unknown_layouts_are_refused(void **state)
{
	(void)state;
	assert_refused(ARENA_LAYOUT_VERSION + 1, "newer than this program");
	assert_refused(layouts[0] - 1, "older than any");
}

static void test_what_is_no_arena_is_refused(void **state)
{
	int fd = memfd_create("nothing", MFD_CLOEXEC), converted;
	const char *error = NULL;

	(void)state;
	assert_int_equal(arena_convert(fd, &converted, &error), ARENA_CONVERSION_REFUSED);
	assert_non_null(strstr(error, "too short"));
	assert_int_equal(ftruncate(fd, 8 * MIB), 0);
	assert_int_equal(arena_convert(fd, &converted, &error), ARENA_CONVERSION_REFUSED);
	assert_non_null(strstr(error, "not an arena"));
	close(fd);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_images_are_adopted),
#if ARENA_TEST_LAYOUT == 0
		cmocka_unit_test(test_the_layout_of_today_has_an_image),
		cmocka_unit_test(test_the_layout_of_today_is_frozen),
#else
		cmocka_unit_test(test_every_record_was_moved),
		cmocka_unit_test(test_the_old_one_counts_until_the_end),
		cmocka_unit_test(test_damaged_arenas_stay_damaged),
		cmocka_unit_test(test_one_that_is_frozen_is_taken),
		cmocka_unit_test(test_a_longer_header_finds_its_place),
#endif
		cmocka_unit_test(test_tables_are_complete),
		cmocka_unit_test(test_what_has_no_table_never_changes),
		cmocka_unit_test(test_unknown_layouts_are_refused),
		cmocka_unit_test(test_what_is_no_arena_is_refused),
	};

	if (argc == 3 && strcmp(argv[1], "--write") == 0)
		return golden_image_write(argv[2]);
	if (argc == 2 && strcmp(argv[1], "--freeze") == 0)
		return golden_layout_print();
	return cmocka_run_group_tests_name("golden arenas", tests, NULL, NULL);
}

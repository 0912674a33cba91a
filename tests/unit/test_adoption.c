/* SPDX-License-Identifier: ISC */
/*
 * Adoption of what a dead worker left whole: nothing is lost, nothing is given
 * out twice, and nothing stays behind, wherever the worker died.
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
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arena_scene.h"
#include "channels/arena_walk.h"
#include "keepsock/alloc.h"
#include "keepsock/crash_points.h"

/* --- what was there --- */

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

static void assert_same_queue(const struct world *before, const struct stream_queue *old,
			      const struct world *after, const struct stream_queue *new)
{
	size_t length = (size_t)queue_length(old);
	char *was = xmalloc(length), *is = xmalloc(length);

	assert_memory_equal(old, new, sizeof(*old));
	queue_copy(before->arena, old, old->done, length, was);
	queue_copy(after->arena, new, new->done, length, is);
	assert_memory_equal(was, is, length);
	free(was);
	free(is);
}

static void assert_same_passport(struct world *before, struct world *after, arena_ref ref)
{
	const struct passport *old = world_passport_at(before, ref);
	const struct passport *new = world_passport_at(after, ref);

	assert_memory_equal(old, new, sizeof(*old));
	assert_same_queue(before, &old->in, after, &new->in);
	assert_same_queue(before, &old->messages, after, &new->messages);
	assert_same_queue(before, &old->out, after, &new->out);
	if (old->identity)
		assert_true(slice_equal(passport_user(before->arena, old),
					passport_user(after->arena, new)));
}

static void assert_same_channel(struct world *before, struct world *after, struct slice name)
{
	struct channel *old = hub_find(&before->hub, name), *new = hub_find(&after->hub, name);

	assert_non_null(new);
	assert_int_equal(old->ref, new->ref);
	assert_memory_equal(hub_record(&before->hub, old), hub_record(&after->hub, new),
			    sizeof(struct channel_record));
	for (uint32_t i = 0; i < hub_record(&before->hub, old)->count; i++)
		assert_memory_equal(hub_subscriber(&before->hub, old, i),
				    hub_subscriber(&after->hub, new, i), sizeof(struct subscriber));
}

static void test_everything_is_as_it_was(void **state)
{
	int fd = world_copy(scene.world);
	struct arena_census before = world_check(scene.world), after;
	struct world *world = world_adopt_whole(fd);
	arena_ref ref = 0;
	unsigned passports = 0;

	(void)state;
	after = world_check(world);
	assert_memory_equal(&before, &after, sizeof(before));
	while ((ref = passport_next(world->arena, ref))) {
		assert_same_passport(scene.world, world, ref);
		passports++;
	}
	assert_int_equal(passports, before.passports);
	assert_same_channel(scene.world, world, SLICE("news"));
	/* The tombstones of the fan-out under way are as they were, too. */
	assert_same_channel(scene.world, world, SLICE("big"));
	assert_memory_equal(&scene.world->arena->header->fanout, &world->arena->header->fanout,
			    sizeof(struct fanout_record));
	world_free(world);
	close(fd);
}

static void test_the_hub_is_made_anew(void **state)
{
	int fd = world_copy(scene.world);
	struct world *world = world_adopt_whole(fd);
	struct channel *news = hub_find(&world->hub, SLICE("news"));
	struct channel *big = hub_find(&world->hub, SLICE("big"));

	(void)state;
	assert_int_equal(world->hub.channel_count, 2);
	assert_int_equal(world->hub.subscription_count, SCENE_FANS - 10 + 4);
	assert_int_equal(hub_subscribers(&world->hub, news), 2);
	assert_int_equal(hub_subscribers(&world->hub, big), SCENE_FANS - 10 + 2);
	assert_int_equal(news->max_start_sequence, 0);
	assert_int_equal(big->max_start_sequence, 77);
	assert_int_equal(big->waiting + big->group + big->shard, 0);
	assert_null(big->held_first);
	assert_ptr_equal(hub_channel_at(&world->hub, scene.big), big);
	/* It goes on where the other one stopped. */
	hub_get(&world->hub, SLICE("weather"));
	world_subscribe(world, world_passport(world), news);
	world_unsubscribe(world, scene.client, big, true);
	world_check(world);
	world_free(world);
	close(fd);
}

static void test_header_says_who_it_belongs_to(void **state)
{
	int fd = world_copy(scene.world);
	struct world *world;
	pid_t child = fork();
	int status = 0;

	(void)state;
	if (child == 0) {
		const char *error = NULL;
		struct arena *arena = arena_adopt(fd, &error);

		_exit(arena && atomic_load(&arena->header->owner) ==
					      WORK_WORD(ARENA_OWNER_RUNNING, getpid())
			      ? 0
			      : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	world = world_adopt_whole(fd);
	assert_int_equal(atomic_load(&world->arena->header->owner),
			 WORK_WORD(ARENA_OWNER_RUNNING, getpid()));
	world_free(world);
	close(fd);
}

static void test_tombstones_are_closed_up_when_nobody_counts_by_them(void **state)
{
	struct world *old = world_new(4 * MIB), *world;
	struct channel *channel = hub_get(&old->hub, SLICE("a"));
	arena_ref passports[100];

	(void)state;
	for (size_t i = 0; i < 100; i++) {
		passports[i] = world_passport(old);
		world_subscribe(old, passports[i], channel);
	}
	for (size_t i = 0; i < 100; i += 3)
		world_unsubscribe(old, passports[i], channel, true);
	assert_int_equal(hub_record(&old->hub, channel)->tombstones, 34);
	world = world_adopt_whole(old->arena->fd);
	channel = hub_find(&world->hub, SLICE("a"));
	assert_int_equal(hub_record(&world->hub, channel)->tombstones, 0);
	assert_int_equal(hub_record(&world->hub, channel)->count, 66);
	assert_int_equal(world_check(world).subscriptions, 66);
	world_free(old);
	world_free(world);
}

static void test_channels_without_subscribers_are_kept(void **state)
{
	struct world *old = world_new(4 * MIB), *world;
	struct channel *channel = hub_get(&old->hub, SLICE("asked for"));
	struct channel_record now = *hub_record(&old->hub, channel);
	struct arena_commit commit;

	(void)state;
	now.state = CHANNEL_JOINING;
	now.unconfirmed = 1;
	arena_commit_begin(&commit, old->arena);
	hub_record_change(&old->hub, &commit, channel, &now);
	arena_commit_apply(&commit);
	hub_get(&old->hub, SLICE("not yet"));
	world = world_adopt_whole(old->arena->fd);
	assert_int_equal(world->hub.channel_count, 2);
	channel = hub_find(&world->hub, SLICE("asked for"));
	assert_int_equal(hub_record(&world->hub, channel)->state, CHANNEL_JOINING);
	assert_int_equal(hub_record(&world->hub, channel)->unconfirmed, 1);
	hub_release(&world->hub, hub_find(&world->hub, SLICE("not yet")));
	assert_int_equal(world_check(world).channels, 1);
	world_free(old);
	world_free(world);
}

/* --- what allocation sees --- */

static uint64_t list_length(const struct world *world, arena_ref list)
{
	uint64_t length = 0;

	for (; list; list = arena_chunk_at(world->arena, list)->next)
		length++;
	return length;
}

static uint64_t room(struct world *world, size_t payload)
{
	arena_ref list = world_exhaust(world, payload);
	uint64_t length = list_length(world, list);

	world_release(world, list);
	return length;
}

static const size_t payloads[] = {40, 100, 200, 1000, 5000, 60000};

/* Every chunk that is to be had is overwritten; nobody misses anything. */
static void test_nothing_is_given_twice(void **state)
{
	int fd = world_copy(scene.world);
	struct world *world = world_adopt_whole(fd);
	arena_ref lists[sizeof(payloads) / sizeof(payloads[0])], ref = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(payloads) / sizeof(payloads[0]); i++) {
		/* The first one leaves only what lies in pages of the other classes. */
		lists[i] = world_exhaust(world, payloads[i]);
		for (ref = lists[i]; ref; ref = arena_chunk_at(world->arena, ref)->next)
			memset(arena_chunk_at(world->arena, ref)->data, 0xee,
			       arena_chunk_capacity(world->arena, ref));
	}
	world_check(world);
	while ((ref = passport_next(world->arena, ref)))
		assert_same_passport(scene.world, world, ref);
	assert_same_channel(scene.world, world, SLICE("big"));
	for (size_t i = 0; i < sizeof(payloads) / sizeof(payloads[0]); i++)
		world_release(world, lists[i]);
	world_free(world);
	close(fd);
}

static void test_there_is_as_much_room_as_before(void **state)
{
	int fd = world_copy(scene.world);
	struct world *world = world_adopt_whole(fd);

	(void)state;
	/* What the predecessor had got and not yet named is free now; and it may have kept an empty
	 * page of each class. */
	for (size_t i = 0; i < sizeof(payloads) / sizeof(payloads[0]); i++) {
		uint64_t before = room(scene.world, payloads[i]);

		assert_true(room(world, payloads[i]) >= before);
	}
	world_free(world);
	close(fd);
}

static void remove_everything(struct world *world)
{
	struct channel *channel;
	arena_ref ref;

	world->arena->header->fanout = (struct fanout_record){0};
	while ((ref = passport_next(world->arena, 0))) {
		arena_ref subscription;

		while ((subscription = world_passport_at(world, ref)->subscriptions)) {
			const struct subscription_record *record =
				arena_at(world->arena, subscription);

			world_unsubscribe(world, ref, hub_channel_at(&world->hub, record->channel),
					  false);
		}
		world_passport_free(world, ref);
	}
	while ((channel = hub_next(&world->hub, NULL)))
		hub_release(&world->hub, channel);
}

static void test_nothing_stays_behind(void **state)
{
	struct world *fresh = world_new(16 * MIB), *world, *again;
	int fd = world_copy(scene.world);

	(void)state;
	world = world_adopt_whole(fd);
	world->arena->header->fanout.batch =
		0; /* over; its chunks were nobody's but the record's */
	world->arena->header->fanout.frame = world->arena->header->fanout.deflated = 0;
	world->arena->header->shards[1].passport = 0;
	atomic_store(&world->arena->header->work.serving, 0);
	atomic_store(&world->arena->header->work.syscall, 0);
	hub_compact(&world->hub, hub_find(&world->hub, SLICE("big")));
	remove_everything(world);
	again = world_adopt_whole(fd);
	assert_int_equal(arena_bytes_used(again->arena), arena_bytes_used(fresh->arena));
	assert_int_equal(room(again, 60000), room(fresh, 60000));
	assert_int_equal(room(again, 40), room(fresh, 40));
	world_free(world);
	world_free(again);
	world_free(fresh);
	close(fd);
}

static uint64_t memory_of(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

/* What a dead worker had in use a moment before goes back to the machine. */
static void test_free_memory_is_given_back(void **state)
{
	struct world *old = world_new(32 * MIB), *world;
	arena_ref passport = world_passport(old), list;
	int fd = dup(old->arena->fd);

	(void)state;
	world_append(old, passport, offsetof(struct passport, in), "abc", 3);
	(void)world_exhaust(old, 60000);
	assert_int_equal(memory_of(fd), 32 * MIB);
	world = world_adopt_whole(fd);
	/* 64 free pages keep what they have. */
	assert_true(memory_of(fd) <= arena_bytes_used(world->arena) + 64 * ARENA_PAGE_SIZE);
	list = world_exhaust(world, 60000);
	assert_int_equal(memory_of(fd), 32 * MIB);
	world_check(world);
	world_release(world, list);
	world_free(old);
	world_free(world);
	close(fd);
}

/* --- deaths --- */

#ifdef KEEPSOCK_CRASH_POINTS
static int exit_of(pid_t child)
{
	int status = 0;

	assert_true(child > 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	return status;
}

static void test_commit_under_way_is_completed(void **state)
{
	static const struct {
		const char *point;
		bool subscribed;
	} cases[] = {{"commit-before", false}, {"commit-stored", true}, {"commit-half", true}};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct world *old = world_new(4 * MIB), *world;
		struct channel *channel = hub_get(&old->hub, SLICE("a"));
		arena_ref passport = world_passport(old);
		pid_t child;

		world_subscribe(old, world_passport(old), channel);
		child = fork();
		if (child == 0) {
			/* There is room for a second entry: the one commit is the subscription. */
			if (!crash_point_arm(cases[i].point, 1))
				_exit(1);
			world_subscribe(old, passport, channel);
			_exit(2);
		}
		assert_int_equal(exit_of(child), SIGKILL);
		world = world_adopt_whole(old->arena->fd);
		channel = hub_find(&world->hub, SLICE("a"));
		assert_int_equal(hub_subscribers(&world->hub, channel),
				 cases[i].subscribed ? 2 : 1);
		assert_int_equal(world_passport_at(world, passport)->subscription_count,
				 cases[i].subscribed);
		assert_int_equal(world_check(world).subscriptions, cases[i].subscribed ? 2 : 1);
		assert_int_equal(atomic_load(&world->arena->header->work.redo_count), 0);
		world_free(old);
		world_free(world);
	}
}
#else
static void test_commit_under_way_is_completed(void **state)
{
	(void)state;
	skip(); /* crash points are in test builds */
}
#endif

enum { PASSPORTS_MAX = 150, CHANNELS = 12 };

static struct channel *random_channel(struct world *world)
{
	char name[16];

	snprintf(name, sizeof(name), "channel-%ld", random() % CHANNELS);
	return hub_get(&world->hub, slice_str(name));
}

static arena_ref random_passport(struct world *world, unsigned *count)
{
	arena_ref refs[PASSPORTS_MAX], ref = 0;

	*count = 0;
	while ((ref = passport_next(world->arena, ref)))
		refs[(*count)++] = ref;
	return *count ? refs[(unsigned long)random() % *count] : 0;
}

static void move_bytes(struct world *world, arena_ref passport)
{
	static const char bytes[9000];
	struct stream_queue *queue;

	passport_draft_begin(&world->draft, passport);
	queue = random() % 2 ? &world->draft.now.in : &world->draft.now.out;
	if (random() % 2)
		queue_append(&world->draft, queue, bytes, (size_t)(random() % 9000));
	else
		queue_consume(&world->draft, queue, (uint64_t)(random() % 20000));
	passport_draft_commit(&world->draft);
}

static void leave_all(struct world *world, arena_ref passport)
{
	arena_ref subscription;

	while ((subscription = world_passport_at(world, passport)->subscriptions)) {
		const struct subscription_record *record = arena_at(world->arena, subscription);
		struct channel *channel = hub_channel_at(&world->hub, record->channel);

		world_unsubscribe(world, passport, channel, random() % 2);
		if (random() % 4 == 0)
			hub_compact(&world->hub, channel);
		if (hub_subscribers(&world->hub, channel) == 0) {
			hub_compact(&world->hub, channel);
			hub_release(&world->hub, channel);
		}
	}
}

/* What workers do, in any order; until somebody ends it. */
static _Noreturn void work_until_killed(struct world *world)
{
	for (;;) {
		unsigned count;
		arena_ref passport = random_passport(world, &count);

		if (!passport || (count < PASSPORTS_MAX && random() % 3 == 0)) {
			world_passport(world);
		} else if (random() % 12 == 0) {
			leave_all(world, passport);
			world_passport_free(world, passport);
		} else if (random() % 2) {
			move_bytes(world, passport);
		} else {
			struct channel *channel = random_channel(world);

			if (!hub_subscription_find(&world->hub, world_passport_at(world, passport),
						   channel))
				world_subscribe(world, passport, channel);
		}
	}
}

static void live_and_die(int fd)
{
	static const char *const points[] = {"commit-before", "commit-stored", "commit-half"};
	bool armed = random() % 2;
	unsigned seed = (unsigned)random();
	pid_t child = fork();
	int status = 0;

	if (child == 0) {
		struct arena_adoption adoption;
		struct world *world = world_adopt(fd, &adoption);

		if (adoption.violations)
			_exit(3);
		srandom(seed);
#ifdef KEEPSOCK_CRASH_POINTS
		if (armed && !crash_point_arm(points[random() % 3], (unsigned)(random() % 300)))
			_exit(4);
#else
		(void)points;
		armed = false;
#endif
		work_until_killed(world);
	}
	assert_true(child > 0);
#ifndef KEEPSOCK_CRASH_POINTS
	armed = false;
#endif
	if (!armed) {
		usleep((unsigned)random() % 20000);
		kill(child, SIGKILL);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void test_killed_at_random_moments(void **state)
{
	struct world *first = world_new(8 * MIB), *world;
	int fd = dup(first->arena->fd);
	uint64_t empty = room(first, 60000), subscriptions = 0;

	(void)state;
	world_free(first);
	srandom(20260107);
	for (int round = 0; round < 80; round++) {
		live_and_die(fd);
		world = world_adopt_whole(fd);
		subscriptions += world_check(world).subscriptions;
		/* The successor can use all there is. */
		world_release(world, world_exhaust(world, 1000));
		world_check(world);
		world_free(world);
	}
	assert_true(subscriptions > 1000);
	world = world_adopt_whole(fd);
	remove_everything(world);
	world_free(world);
	world = world_adopt_whole(fd);
	assert_int_equal(room(world, 60000), empty);
	world_free(world);
	close(fd);
}

/* --- what can't be adopted --- */

static void assert_refused(int fd, const char *expected)
{
	const char *error = NULL;

	assert_null(arena_adopt(fd, &error));
	assert_string_equal(error, expected);
}

static void test_refused_arenas_are_left_alone(void **state)
{
	struct world *world = world_new(4 * MIB);
	struct arena_header *header = world->arena->header;
	uint64_t owner = WORK_WORD(ARENA_OWNER_FROZEN, 4711);
	int fd = world->arena->fd;

	(void)state;
	atomic_store(&header->owner, owner);
	header->work.redo[0] = (struct work_redo){offsetof(struct arena_header, generation), 99};
	atomic_store(&header->work.redo_count, 1);
	header->layout_version++;
	assert_refused(fd, "the arena's layout is newer than this program: only the version that "
			   "made it, or a later one, can take it over");
	header->layout_version -= 2;
	assert_refused(fd, "the arena's layout is an older one, and it was not converted");
	header->layout_version++;
	header->page_count++;
	assert_refused(fd, "the arena's size does not match its header");
	header->page_count--;
	header->magic++;
	assert_refused(fd, "not an arena");
	header->magic--;
	header->work.redo[0].offset++;
	assert_refused(fd, "the commit under way is damaged");
	header->work.redo[0].offset--;
	assert_int_equal(header->generation, 0);
	assert_int_equal(atomic_load(&header->owner), owner);
	assert_refused(-1, strerror(EBADF));
	/* Nothing else was wrong. */
	world_free(world_adopt_whole(fd));
	assert_int_equal(header->generation, 99);
	world_free(world);
}

static void test_nothing_is_allocated_before_it_is_known_what_is_free(void **state)
{
	const char *error = NULL;
	int fd = world_copy(scene.world);
	struct arena *arena = arena_adopt(fd, &error);

	(void)state;
	assert_non_null(arena);
	assert_int_equal(arena_chunk_alloc(arena, 40), 0);
	assert_int_equal(arena_record_alloc(arena, ARENA_PASSPORT), 0);
	arena_destroy(arena);
	close(fd);
}

/* --- size --- */

/* As many as a worker may have; how long it took is printed, nobody judges it. */
static void test_eighteen_thousand_connections(void **state)
{
	enum { COUNT = 18000 };
	struct world *old = world_new(64 * MIB), *world;
	struct channel *all = hub_get(&old->hub, SLICE("all"));
	struct arena_adoption adoption;

	(void)state;
	for (unsigned i = 0; i < COUNT; i++) {
		arena_ref passport = world_passport(old);
		char name[32];

		snprintf(name, sizeof(name), "room-%u", i % 6000);
		world_subscribe(old, passport, all);
		world_subscribe(old, passport, hub_get(&old->hub, slice_str(name)));
		world_passport_at(old, passport)->identity = passport_identity_make(
			old->arena, slice_str(name), SLICE("js"), SLICE("5"), SLICE("{}"));
	}
	world = world_adopt(old->arena->fd, &adoption);
	assert_int_equal(adoption.violations, 0);
	assert_int_equal(adoption.passports, COUNT);
	assert_int_equal(adoption.channels, 6001);
	assert_int_equal(adoption.subscriptions, 2 * COUNT);
	assert_int_equal(adoption.bytes, arena_bytes_used(world->arena));
	/* A subscription and an identity each, names, arrays: none is counted twice. */
	assert_int_equal(adoption.chunks, world_check(world).chunks);
	print_message("adopted %u connections in %llu us\n", (unsigned)COUNT,
		      (unsigned long long)adoption.duration_us);
	arena_adoption_free(&adoption);
	world_free(old);
	world_free(world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_everything_is_as_it_was),
		cmocka_unit_test(test_the_hub_is_made_anew),
		cmocka_unit_test(test_header_says_who_it_belongs_to),
		cmocka_unit_test(test_tombstones_are_closed_up_when_nobody_counts_by_them),
		cmocka_unit_test(test_channels_without_subscribers_are_kept),
		cmocka_unit_test(test_nothing_is_given_twice),
		cmocka_unit_test(test_there_is_as_much_room_as_before),
		cmocka_unit_test(test_nothing_stays_behind),
		cmocka_unit_test(test_free_memory_is_given_back),
		cmocka_unit_test(test_commit_under_way_is_completed),
		cmocka_unit_test(test_killed_at_random_moments),
		cmocka_unit_test(test_refused_arenas_are_left_alone),
		cmocka_unit_test(test_nothing_is_allocated_before_it_is_known_what_is_free),
		cmocka_unit_test(test_eighteen_thousand_connections),
	};

	return cmocka_run_group_tests_name("adoption", tests, make_scene, drop_scene);
}

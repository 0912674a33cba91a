/* SPDX-License-Identifier: ISC */
/*
 * Building blocks of the tests that work on an arena, see arena_world.h.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "arena_world.h"
#include "keepsock/alloc.h"

struct world *world_new(uint64_t arena_size)
{
	struct world *world = xcalloc(1, sizeof(*world));
	const char *error = NULL;

	world->arena = arena_create(arena_size, &error);
	if (!world->arena)
		fail_msg("arena_create: %s", error);
	passport_draft_init(&world->draft, world->arena);
	hub_init(&world->hub, world->arena);
	return world;
}

struct world *world_adopt(int fd, struct arena_adoption *adoption)
{
	struct world *world = xcalloc(1, sizeof(*world));
	const char *error = NULL;

	world->arena = arena_adopt(fd, &error);
	if (!world->arena)
		fail_msg("arena_adopt: %s", error);
	hub_adopt(&world->hub, world->arena, adoption);
	passport_draft_init(&world->draft, world->arena);
	return world;
}

struct world *world_adopt_whole(int fd)
{
	struct arena_adoption adoption;
	struct world *world = world_adopt(fd, &adoption);

	if (adoption.violations)
		fail_msg("%s", buffer_cstr(&adoption.report));
	assert_int_equal(adoption.passports_lost, 0);
	assert_int_equal(adoption.channels_lost + adoption.unplaced, 0);
	assert_int_equal(adoption.entries_dropped + adoption.pages_lost, 0);
	assert_int_equal(adoption.shards_lost, 0);
	assert_false(adoption.fanout_lost || adoption.work_lost || adoption.states_lost);
	arena_adoption_free(&adoption);
	return world;
}

int world_copy(const struct world *world)
{
	const struct arena *arena = world->arena;
	int fd = memfd_create("copy", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)arena->size), 0);
	for (uint32_t page = 0; page < arena->header->page_count; page++) {
		off_t offset = (off_t)page * ARENA_PAGE_SIZE;

		if (atomic_load(&arena->header->page_class[page]) == ARENA_FREE)
			continue;
		assert_int_equal(
			pwrite(fd, (char *)arena->header + offset, ARENA_PAGE_SIZE, offset),
			ARENA_PAGE_SIZE);
	}
	return fd;
}

void world_free(struct world *world)
{
	hub_free(&world->hub);
	passport_draft_free(&world->draft);
	arena_destroy(world->arena);
	free(world);
}

int world_setup(void **state)
{
	*state = world_new(4 * MIB);
	return 0;
}

int world_teardown(void **state)
{
	world_free(*state);
	return 0;
}

struct passport *world_passport_at(struct world *world, arena_ref passport)
{
	return arena_at(world->arena, passport);
}

arena_ref world_passport(struct world *world)
{
	struct passport fresh = {
		.kind = PASSPORT_CLIENT,
		.state = PASSPORT_STATE_CONNECTED,
	};
	arena_ref ref = passport_create(world->arena, &fresh);

	assert_int_not_equal(ref, 0);
	return ref;
}

void world_passport_free(struct world *world, arena_ref passport)
{
	assert_int_equal(world_passport_at(world, passport)->subscriptions, 0);
	passport_destroy(&world->draft, passport, NULL);
}

void world_append(struct world *world, arena_ref passport, size_t queue_offset, const void *data,
		  size_t length)
{
	char *now = (char *)&world->draft.now;

	passport_draft_begin(&world->draft, passport);
	queue_append(&world->draft, (struct stream_queue *)(void *)(now + queue_offset), data,
		     length);
	assert_true(passport_draft_commit(&world->draft));
}

arena_ref world_subscribe(struct world *world, arena_ref passport, struct channel *channel)
{
	arena_ref ref;

	passport_draft_begin(&world->draft, passport);
	ref = hub_subscription_add(&world->hub, &world->draft, channel, 0, 0);
	assert_int_not_equal(ref, 0);
	assert_true(passport_draft_commit(&world->draft));
	hub_subscription_counted(&world->hub, 1);
	return ref;
}

void world_unsubscribe(struct world *world, arena_ref passport, struct channel *channel,
		       bool fanning_out)
{
	arena_ref ref =
		hub_subscription_find(&world->hub, world_passport_at(world, passport), channel);

	assert_int_not_equal(ref, 0);
	passport_draft_begin(&world->draft, passport);
	hub_subscription_remove(&world->hub, &world->draft, ref, fanning_out);
	assert_true(passport_draft_commit(&world->draft));
	hub_subscription_counted(&world->hub, -1);
}

struct arena_census world_check(const struct world *world)
{
	struct buffer report = {0};
	struct arena_census census = arena_check(world->arena, &report);

	if (census.violations)
		fail_msg("%s", buffer_cstr(&report));
	buffer_free(&report);
	return census;
}

arena_ref world_exhaust(struct world *world, size_t payload)
{
	arena_ref list = 0, ref;

	while ((ref = arena_chunk_alloc(world->arena, payload)) != 0) {
		arena_chunk_at(world->arena, ref)->next = list;
		list = ref;
	}
	return list;
}

void world_release(struct world *world, arena_ref list)
{
	while (list) {
		arena_ref next = arena_chunk_at(world->arena, list)->next;

		arena_chunk_free(world->arena, list);
		list = next;
	}
}

bool world_aborts(void (*call)(void *context), void *context)
{
	static const struct rlimit no_core = {0, 0};
	pid_t child = fork();
	int status = 0;

	if (child == 0) {
		setrlimit(RLIMIT_CORE, &no_core);
		signal(SIGABRT, SIG_DFL);
		call(context);
		_exit(0);
	}
	assert_true(child > 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

/* SPDX-License-Identifier: ISC */
/*
 * A small arena with a draft and a hub, as a worker has them, for the tests of
 * the rooms passport and channels. Everything a test puts in goes through the
 * same commits as in a worker.
 */
#ifndef TEST_ARENA_WORLD_H
#define TEST_ARENA_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "keepsock/arena.h"
#include "keepsock/arena_adoption.h"
#include "keepsock/arena_check.h"
#include "keepsock/hub.h"
#include "keepsock/passport.h"

#define MIB (1024u * 1024u)

struct world {
	struct arena *arena;
	struct passport_draft draft;
	struct hub hub;
};

struct world *world_new(uint64_t arena_size);
/* What a successor makes of somebody's arena; *adoption is the caller's to free. */
struct world *world_adopt(int fd, struct arena_adoption *adoption);
/* The same of an arena in which nothing may be lost: fails the test otherwise. */
struct world *world_adopt_whole(int fd);
void world_free(struct world *world);

/* A file with the same arena; the caller closes it. */
int world_copy(const struct world *world);

/* cmocka fixtures: a world of 4 MiB. */
int world_setup(void **state);
int world_teardown(void **state);

/* A connected client's passport; the arena must have room. */
arena_ref world_passport(struct world *world);
/* Gives back a passport that has no subscriptions left. */
void world_passport_free(struct world *world, arena_ref passport);
struct passport *world_passport_at(struct world *world, arena_ref passport);

/* Puts bytes into a passport's queue at `offset_in_passport`, committed. */
void world_append(struct world *world, arena_ref passport, size_t queue_offset, const void *data,
		  size_t length);

/* Subscribes, committed; the subscription's ref. */
arena_ref world_subscribe(struct world *world, arena_ref passport, struct channel *channel);
void world_unsubscribe(struct world *world, arena_ref passport, struct channel *channel,
		       bool fanning_out);

/* Fails the test with the report unless the arena is without a violation. */
struct arena_census world_check(const struct world *world);

/* Takes what is left of the arena in chunks of `payload` bytes, one list for world_release(). */
arena_ref world_exhaust(struct world *world, size_t payload);
void world_release(struct world *world, arena_ref list);

/* True when `call` ends the process with SIGABRT. Run in a child, which shares the arenas of its
 * parent: whoever changes one makes a world of its own. */
bool world_aborts(void (*call)(void *context), void *context);

#endif

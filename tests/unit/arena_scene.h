/* SPDX-License-Identifier: ISC */
/*
 * An arena with everything in it that one can hold, for the tests that damage
 * it.
 */
#ifndef TEST_ARENA_SCENE_H
#define TEST_ARENA_SCENE_H

#include "arena_world.h"

enum { SCENE_FANS = 9000, SCENE_END = 8500 };

struct arena_scene {
	struct world *world;
	arena_ref client, other; /* each with two subscriptions, input, messages and output */
	arena_ref redis;
	arena_ref fans_first;      /* one of those who fill the big channel's array */
	arena_ref news, big;       /* channels; the big one has two blocks and tombstones */
	arena_ref subscription;    /* the client's, first in its list */
	arena_ref frame, no_frame; /* chunks of the fan-out's frame, and one nobody owns */
};

/* A fan-out to the big channel is under way, a write of the client has been announced. */
void arena_scene_make(struct arena_scene *scene);

#endif

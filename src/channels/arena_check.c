/* SPDX-License-Identifier: ISC */
/*
 * The check of an arena from outside, see arena_check.h: a walk, of which only
 * the report matters.
 */
#include "keepsock/arena_check.h"

#include "channels/arena_walk.h"

struct arena_census arena_check(const struct arena *arena, struct buffer *report)
{
	struct arena_census census;
	struct arena_walk walk;

	arena_walk_run(&walk, arena, report);
	census = walk.census;
	arena_walk_free(&walk);
	return census;
}

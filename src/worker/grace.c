/* SPDX-License-Identifier: ISC */
/*
 * Postponing what came due while nobody listened, see grace.h. Run by the
 * worker. Other times stay as they are: a ping that is due goes out late.
 */
#include "worker/grace.h"

#include "worker/internal.h"

#define GRACE_MS 1000u

static uint64_t not_before(uint64_t time, uint64_t earliest)
{
	return time && time < earliest ? earliest : time;
}

bool grace_grant(struct connection *c)
{
	uint64_t earliest = c->worker->now_ms + GRACE_MS;
	const struct passport *passport = connection_passport(c);
	struct passport_draft *draft;

	if (not_before(passport->pong_deadline, earliest) == passport->pong_deadline &&
	    not_before(passport->deadline, earliest) == passport->deadline)
		return true;
	draft = connection_draft(c);
	draft->now.pong_deadline = not_before(draft->now.pong_deadline, earliest);
	draft->now.deadline = not_before(draft->now.deadline, earliest);
	return connection_commit(c);
}

void grace_grant_all(struct worker *w)
{
	arena_ref ref = 0;

	while ((ref = passport_next(w->arena, ref))) {
		const struct passport *passport = arena_at(w->arena, ref);
		struct connection *c;

		if (passport->kind != PASSPORT_CLIENT)
			continue;
		c = connection_at(w, ref);
		if (c->fd >= 0 && grace_grant(c))
			connection_arm(c);
	}
}

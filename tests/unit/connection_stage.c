/* SPDX-License-Identifier: ISC */
/*
 * Connections for tests of what is above them: passports, drafts and commits are
 * real, nothing is read or written.
 */
#include "keepsock/arena.h"
#include "keepsock/passport.h"
#include "worker/connection.h"
#include "worker/internal.h"

struct connection *connection_at(struct worker *w, arena_ref passport)
{
	return arena_companion(w->arena, passport, sizeof(struct connection));
}

struct passport_draft *connection_draft(struct connection *c)
{
	passport_draft_begin(&c->worker->draft, c->passport);
	return &c->worker->draft;
}

bool connection_commit(struct connection *c)
{
	return passport_draft_commit(&c->worker->draft);
}

bool connection_check_queue(struct connection *c)
{
	return c->fd >= 0;
}

void connection_flush(struct connection *c)
{
	(void)c;
}

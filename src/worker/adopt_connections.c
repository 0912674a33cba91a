/* SPDX-License-Identifier: ISC */
/*
 * An adoption's connections: whoever has a passport and a socket lives on; what
 * the predecessor had begun to clean up is cleaned up. Run by the worker, once at
 * its start. Nobody is told anything here but those who lost a subscription.
 */
#include "worker/adopt_private.h"
#include "worker/client_expiry.h"
#include "worker/grace.h"
#include "worker/move.h"

/* Of a channel whose list of subscribers was damaged: nothing reaches them any more. */
static void tell_unplaced(struct connection *c)
{
	struct worker *w = c->worker;
	const struct passport *passport = connection_passport(c);
	arena_ref ref = passport->subscriptions;

	while (ref && c->fd >= 0 && passport->state == PASSPORT_STATE_CONNECTED) {
		const struct subscription_record *record = arena_at(w->arena, ref);
		arena_ref next = record->next;

		if (record->position != SUBSCRIPTION_UNPLACED) {
			ref = next;
		} else if (record->flags & SUBSCRIPTION_SERVER_SIDE) {
			connection_disconnect(c, CLIENT_DISCONNECT_INSUFFICIENT_STATE, NULL);
			return;
		} else {
			client_unsubscribe_push(c, ref, CLIENT_UNSUBSCRIBE_INSUFFICIENT_STATE);
			ref = next;
		}
	}
}

static void adopt_one(struct adoption *adoption, struct connection *c)
{
	uint8_t state = connection_passport(c)->state;

	connection_adopt(c);
	if (c->fd < 0 || !grace_grant(c))
		return;
	connection_arm(c);
	adoption->connections++;
	client_expiry_note_all(c);
	/* Their goodbye was committed, what follows from it maybe not. */
	if (state == PASSPORT_STATE_CLOSING || state == PASSPORT_STATE_DRAINING)
		client_session_end(c);
	else if (adoption->found.unplaced > 0)
		tell_unplaced(c);
}

void adopt_connections(struct adoption *adoption)
{
	struct worker *w = adoption->worker;
	arena_ref ref = 0;

	metric_set(METRIC_subscriptions, w->hub.subscription_count);
	while ((ref = passport_next(w->arena, ref))) {
		const struct passport *passport = arena_at(w->arena, ref);
		struct connection *c;

		if (passport->kind != PASSPORT_CLIENT)
			continue;
		c = connection_at(w, ref);
		if (passport->move && move_adopt(c))
			continue;
		if (c->fd >= 0) {
			adopt_one(adoption, c);
		} else {
			connection_bury(c);
			adoption->lost++;
		}
	}
}

/* SPDX-License-Identifier: ISC */
/*
 * A takeover, seen by the worker that comes: it takes everything that the keeper
 * holds while its predecessor still serves, and then the arena. Run once, at its
 * start. Must never write the arena, nor read or write a socket, before the
 * arena is its own; until then any failure ends this process and nothing else.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "keepsock/alloc.h"
#include "keepsock/clock.h"
#include "keepsock/crash_points.h"
#include "keepsock/ipc.h"
#include "keepsock/log.h"
#include "worker/adopt_private.h"
#include "worker/deposits.h"
#include "worker/poller.h"

/* The predecessor goes on. */
_Noreturn static void leave(const char *why)
{
	log_warning("takeover_left reason=%s", log_value_str(why));
	_exit(EXIT_FAILURE);
}

_Noreturn static void refuse(struct adoption *adoption, const char *why)
{
	(void)deposits_refuse(adoption->worker->deposits, why);
	leave(why);
}

/* --- what is handed over --- */

static void drop(struct adoption *adoption, uint32_t ref, int fd)
{
	/* Others have it too: it would stay in the set. */
	(void)poller_watch(adoption->worker->poller, fd, ref, EV_READ, 0);
}

/* Watched from now on, so that this does not have to be done while nobody serves; the set is not
 * looked at before the loop runs. */
static void hold(struct adoption *adoption, const struct keeper_item *item, int fd)
{
	bool client = KEEPER_KIND_OF(item->kind) == KEEPER_KIND_CLIENT;
	struct kept held;

	if (kept_table_find(&adoption->held, item->ref, &held) &&
	    held.item.generation < item->generation &&
	    KEEPER_KIND_OF(held.item.kind) == KEEPER_KIND_CLIENT)
		drop(adoption, item->ref, held.fd);
	if (kept_table_put(&adoption->held, item, fd) == KEPT_REFUSED || !client)
		return;
	arena_prepare_companion(adoption->prepared, item->ref, sizeof(struct connection));
	if (!poller_watch(adoption->worker->poller, fd, item->ref, 0, EV_READ))
		refuse(adoption, strerror(errno));
}

static void take_batch(struct adoption *adoption, struct ipc_message *message)
{
	struct slice payload = {0};

	if (ipc_message_payload(message, &payload) < 0 ||
	    keeper_items_count(payload) != message->nfds)
		leave("a batch that is cut off");
	for (size_t i = 0; i < message->nfds; i++) {
		struct keeper_item item = keeper_items_at(payload, i);
		int fd = message->fds[i];

		message->fds[i] = -1;
		hold(adoption, &item, fd);
	}
	crash_point(CRASH_TAKEOVER_BATCH);
}

static void give_back(struct adoption *adoption, struct ipc_message *message)
{
	struct slice payload = {0};
	size_t count;

	if (ipc_message_payload(message, &payload) < 0 ||
	    (count = keeper_items_count(payload)) == SIZE_MAX)
		leave("a batch that is cut off");
	for (size_t i = 0; i < count; i++) {
		struct keeper_item item = keeper_items_at(payload, i);
		struct kept held;

		if (!kept_table_find(&adoption->held, item.ref, &held) ||
		    held.item.generation != item.generation)
			continue;
		if (KEEPER_KIND_OF(held.item.kind) == KEEPER_KIND_CLIENT)
			drop(adoption, item.ref, held.fd);
		(void)kept_table_remove(&adoption->held, item.ref, item.generation);
	}
}

/* --- the keeper's words --- */

static void say(struct adoption *adoption, uint32_t type, const void *payload, size_t length)
{
	if (deposits_say(adoption->worker->deposits, type, payload, length) < 0)
		leave("the keeper is gone");
}

/* The type of the next message but those that give back. */
static uint32_t hear(struct adoption *adoption, struct ipc_message *message)
{
	for (;;) {
		int result = deposits_hear(adoption->worker->deposits, message);

		if (result == 0)
			leave("the keeper is gone");
		if (result < 0)
			leave(strerror(errno));
		if (message->type != KEEPER_TAKEN_BACK)
			return message->type;
		give_back(adoption, message);
		ipc_message_close_fds(message);
	}
}

/* Everything that is kept at that moment. */
static void take_what_is_kept(struct adoption *adoption, struct ipc_message *message)
{
	struct slice payload = {0};
	uint32_t type;

	for (;;) {
		say(adoption, KEEPER_NEXT, NULL, 0);
		type = hear(adoption, message);
		if (type != KEEPER_HAND_OVER)
			break;
		take_batch(adoption, message);
		ipc_message_close_fds(message);
	}
	if (type != KEEPER_HAND_OVER_END || ipc_message_payload(message, &payload) < 0 ||
	    !keeper_payload_take(payload, &adoption->end, sizeof(adoption->end)))
		leave("a message of the keeper out of turn");
	ipc_message_close_fds(message);
}

/* Until the predecessor is frozen, and what it had still deposited is here. */
static void wait_for_commit(struct adoption *adoption, struct ipc_message *message)
{
	const struct keeper_turn ready = {.takeover = adoption->takeover};
	struct slice payload = {0};
	struct keeper_turn turn;

	crash_point(CRASH_TAKEOVER_READY);
	say(adoption, KEEPER_READY, &ready, sizeof(ready));
	while (hear(adoption, message) == KEEPER_HAND_OVER) {
		take_batch(adoption, message);
		ipc_message_close_fds(message);
		say(adoption, KEEPER_NEXT, NULL, 0);
	}
	if (message->type != KEEPER_COMMIT || ipc_message_payload(message, &payload) < 0 ||
	    !keeper_payload_take(payload, &turn, sizeof(turn)) ||
	    turn.takeover != adoption->takeover)
		leave("a message of the keeper out of turn");
	if (message->nfds > 0) {
		adoption->handshakes = message->fds[0];
		message->fds[0] = -1;
	}
	ipc_message_close_fds(message);
}

struct arena *adopt_prepared_arena(struct adoption *adoption, int arena_fd)
{
	struct ipc_message *message = xmalloc(sizeof(*message));
	const char *error = NULL;
	struct arena *arena;

	crash_point(CRASH_TAKEOVER_START);
	arena = arena_prepare(arena_fd, &error);
	close(arena_fd);
	if (!arena)
		refuse(adoption, error);
	adoption->prepared = arena;
	take_what_is_kept(adoption, message);
	arena_prefault(arena);
	/* What came in the meantime; of the last little is then told when nobody serves. */
	take_what_is_kept(adoption, message);
	wait_for_commit(adoption, message);
	free(message);
	adoption->began_ns = clock_boottime_ns();
	crash_point(CRASH_TAKEOVER_COMMIT);
	switch (arena_take(arena)) {
	case ARENA_TAKEN: break;
	case ARENA_LOST: leave("the predecessor goes on");
	case ARENA_UNCONVERTED: refuse(adoption, "the arena could not be converted");
	case ARENA_DAMAGED: refuse(adoption, "the arena's commit under way is damaged");
	}
	crash_point(CRASH_TAKEOVER_OWNED);
	return arena;
}

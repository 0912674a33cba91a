/* SPDX-License-Identifier: ISC */
/*
 * Freezing and thawing, see freeze.h. Run by the worker that has the arena.
 *
 *   RUNNING ── FREEZE, turn ended, all deposited ──► FROZEN ── LEAVE ─────────► exits
 *      ▲                                              │  │
 *      └─── THAW, or the keeper died: it is ours ─────┘  └── ... another's ───► exits
 */
#include "worker/freeze.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "keepsock/alloc.h"
#include "keepsock/clock.h"
#include "keepsock/crash_points.h"
#include "keepsock/ipc.h"
#include "keepsock/log.h"
#include "worker/deposits.h"
#include "worker/grace.h"
#include "worker/internal.h"
#include "worker/tls_linger.h"

/* The arena is another's, or about to be: nothing is to be run down, closed or told. */
_Noreturn static void leave(struct worker *w, const char *why)
{
	crash_point(CRASH_TAKEOVER_LEAVE);
	/* First: closing thousands of others takes its time, and a listener may be one no more. */
	for (size_t i = 0; i < w->listener_count; i++) {
		if (w->listeners[i].fd >= 0)
			close(w->listeners[i].fd);
	}
	tls_linger(w);
	log_info("worker_left reason=%s", log_value_str(why));
	_exit(EXIT_SUCCESS);
}

/* --- being asked --- */

/* Beyond what a worker can hold, nobody else has them: they hear now why. */
static void send_away(struct worker *w)
{
	arena_ref ref = 0;

	while (w->turned_away > 0 && (ref = passport_next(w->arena, ref))) {
		const struct passport *passport = arena_at(w->arena, ref);
		struct connection *c;

		if (passport->kind != PASSPORT_CLIENT)
			continue;
		c = connection_at(w, ref);
		if (c->fd < 0 || !c->over_limit)
			continue;
		if (passport->state == PASSPORT_STATE_HTTP)
			http_session_refuse(c, 503);
		connection_close(c, "over the limit");
	}
}

void freeze_on_message(struct worker *w, uint32_t type, struct slice payload)
{
	struct keeper_turn turn;

	if (!keeper_payload_take(payload, &turn, sizeof(turn))) {
		log_error("keeper_message_malformed type=%s", keeper_type_name(type));
		return;
	}
	if (type == KEEPER_FREEZE) {
		log_info("freeze_asked takeover=%llu", (unsigned long long)turn.takeover);
		crash_point(CRASH_TAKEOVER_FREEZE);
		w->freeze = turn.takeover;
		/* Whoever comes waits in the queue of the listener, for either of us. */
		worker_pause_accepting(w, true);
		send_away(w);
	} else if (type == KEEPER_THAW && w->freeze == turn.takeover) {
		/* It was given up before we got there. */
		freeze_forget(w);
	}
}

void freeze_forget(struct worker *w)
{
	if (!w->freeze)
		return;
	w->freeze = 0;
	worker_pause_accepting(w, false);
}

/* --- frozen --- */

static bool tell_frozen(struct worker *w)
{
	int handshakes = tls_linger_offer(w);
	const struct keeper_frozen frozen = {
		.takeover = w->freeze,
		.at_ns = clock_boottime_ns(),
		.descriptors = deposits_kept(w),
	};
	int result;

	crash_point(CRASH_TAKEOVER_FROZEN);
	result = deposits_say_with(w->deposits, KEEPER_FROZEN, &frozen, sizeof(frozen), handshakes);
	if (handshakes >= 0)
		close(handshakes);
	return result == 0;
}

/* True: it is to be thawed. */
static bool on_word(struct worker *w, struct ipc_message *message)
{
	struct slice payload = {0};
	struct keeper_turn turn = {0};

	if ((message->type != KEEPER_LEAVE && message->type != KEEPER_THAW) ||
	    ipc_message_payload(message, &payload) < 0 ||
	    !keeper_payload_take(payload, &turn, sizeof(turn)) || turn.takeover != w->freeze) {
		/* For later; or of a takeover that is over. */
		deposits_on_message(w, message);
		return false;
	}
	if (message->type == KEEPER_LEAVE)
		leave(w, "its successor serves");
	return true;
}

/* Returns when there is a reason to try to go on: the keeper's word, or its death. */
static void wait_for_word(struct worker *w)
{
	struct ipc_message *message = xmalloc(sizeof(*message));
	bool thaw = false;

	while (!thaw) {
		int result = deposits_hear(w->deposits, message);

		if (result > 0) {
			thaw = on_word(w, message);
			ipc_message_close_fds(message);
		} else {
			thaw = true;
		}
	}
	free(message);
}

/* What came too late because nobody was there to serve it gets some time once more. */
static void go_on(struct worker *w)
{
	const struct keeper_turn turn = {.takeover = w->freeze};

	w->freeze = 0;
	w->frozen = false;
	tls_linger_withdraw(w);
	log_warning("thawed takeover=%llu", (unsigned long long)turn.takeover);
	worker_now(w);
	/* If nobody hears it, its channel's end is about to be noticed. */
	(void)deposits_say(w->deposits, KEEPER_THAWED, &turn, sizeof(turn));
	grace_grant_all(w);
	worker_pause_accepting(w, false);
	deposits_count(w);
}

void freeze_if_asked(struct worker *w)
{
	if (!w->freeze || w->stopping)
		return;
	worker_end_turn(w);
	deposits_flush(w);
	if (!deposits_settled(w))
		return;
	if (!arena_freeze(w->arena))
		leave(w, "the arena is another's");
	w->frozen = true;
	if (tell_frozen(w))
		wait_for_word(w);
	crash_point(CRASH_TAKEOVER_THAW);
	if (!arena_thaw(w->arena))
		leave(w, "its successor has the arena");
	go_on(w);
}

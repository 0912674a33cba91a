/* SPDX-License-Identifier: ISC */
/*
 * Sending clients away, see drain.h. Run by the worker. How many are due follows
 * from how many there are and how much time is left, so nothing has to be
 * remembered, and a late step makes up for itself.
 */
#include "worker/drain.h"

#include "keepsock/log.h"
#include "keepsock/node_role.h"
#include "keepsock/random.h"
#include "worker/control.h"

#define STEP_MS 50u
/* In one callback; more of them wait for the next loop turn. */
#define STEP_CONNECTIONS 256u

static bool is_served(struct worker *w, arena_ref ref)
{
	const struct passport *passport = arena_at(w->arena, ref);

	return control_is_client(passport) && connection_at(w, ref)->fd >= 0 &&
	       (passport->state == PASSPORT_STATE_UNAUTHENTICATED ||
		passport->state == PASSPORT_STATE_CONNECTED ||
		passport->state == PASSPORT_STATE_UNUSABLE);
}

static uint64_t count_served(struct worker *w)
{
	uint64_t count = 0;
	arena_ref ref = 0;

	while ((ref = arena_record_next(w->arena, ARENA_PASSPORT, ref)))
		count += is_served(w, ref);
	return count;
}

/* A share of those left, more or less by half of it, so that workers and nodes don't march in step.
 */
static uint64_t count_due(uint64_t left, uint64_t now_ms, uint64_t until_ms)
{
	uint64_t time = until_ms > now_ms ? until_ms - now_ms : 0;
	uint64_t thousandths;

	if (time <= STEP_MS)
		return left;
	thousandths = left * STEP_MS * (500 + random_below(1001)) / time;
	/* What is less than one is one now and then. */
	return thousandths / 1000 + (random_below(1000) < thousandths % 1000);
}

static void send_away(struct worker *w, uint64_t due)
{
	uint16_t code = node_role_get(w->page).role == NODE_STANDBY
				? CLIENT_DISCONNECT_SHUTDOWN
				: CLIENT_DISCONNECT_FORCE_RECONNECT;
	arena_ref ref = 0;

	while (due > 0 && (ref = arena_record_next(w->arena, ARENA_PASSPORT, ref))) {
		if (!is_served(w, ref))
			continue;
		connection_disconnect(connection_at(w, ref), code, NULL);
		metric_add(METRIC_drained_connections_total, 1);
		due--;
	}
}

static void arm(struct worker *w, unsigned ms)
{
	const struct timeval time = {.tv_usec = (suseconds_t)ms * 1000};

	if (event_add(w->drain, &time) < 0)
		log_fatal("drain_timer_failed");
}

static void on_step(evutil_socket_t fd, short what, void *arg)
{
	struct worker *w = arg;
	uint64_t until = node_drain_until(w->page);
	uint64_t left, due;

	(void)fd;
	(void)what;
	loop_watch_begin(w, LOOP_TICK);
	if (!until)
		return;
	left = count_served(w);
	due = count_due(left, w->now_ms, until);
	if (due > STEP_CONNECTIONS)
		due = STEP_CONNECTIONS;
	send_away(w, due);
	/* With nobody left the tick looks from time to time. */
	if (left > due)
		arm(w, due == STEP_CONNECTIONS ? 0 : STEP_MS);
}

void drain_look(struct worker *w)
{
	if (node_drain_until(w->page) && !evtimer_pending(w->drain, NULL))
		arm(w, 0);
}

/* How many there are still to be sent away. */
json_t *control_drain(struct worker *w, uint64_t id, json_t *args)
{
	(void)id;
	(void)args;
	drain_look(w);
	return control_row(json_pack("{s:I}", "left", (json_int_t)count_served(w)));
}

void drain_open(struct worker *w)
{
	w->drain = evtimer_new(w->base, on_step, w);
	if (!w->drain)
		log_fatal("drain_timer_failed");
}

void drain_close(struct worker *w)
{
	event_free(w->drain);
}

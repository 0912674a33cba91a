/* SPDX-License-Identifier: ISC */
/*
 * The last takeovers, see takeovers.h. Runs in the master. Rows are made when
 * something ends and kept as they will be shown; what of handshakes comes
 * afterwards is added to the newest row of its slot.
 */
#include "master/takeovers.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/clock.h"
#include "keepsock/keeper_messages.h"
#include "keepsock/log.h"
#include "keepsock/master.h"
#include "keepsock/metrics.h"
#include "keepsock/node_events.h"
#include "keepsock/node_page.h"
#include "keepsock/worker_slot.h"

#define TAKEOVERS_KEPT 256u

/* Handshakes that the slot's workers got of those before them, and that those dropped. */
struct handshakes {
	uint64_t inherited, dropped;
};

/*
 * The old worker ends its handshakes when the takeover is long done, and the slot's counters tell
 * it: what they have risen by since it began is the newest row's.
 */
struct latest {
	json_t *row;              /* owned: of the newest that was done; NULL = none */
	struct handshakes before; /* what that row counts from */
	struct handshakes begun;  /* the same of one that is under way */
	bool is_begun;
};

struct takeovers {
	json_t *rows; /* owned; the oldest first */
	struct latest latest[NODE_WORKERS_MAX];
};

struct takeovers *takeovers_create(void)
{
	struct takeovers *takeovers = xcalloc(1, sizeof(*takeovers));

	takeovers->rows = json_array();
	return takeovers;
}

void takeovers_free(struct takeovers *takeovers)
{
	if (!takeovers)
		return;
	for (uint32_t i = 0; i < NODE_WORKERS_MAX; i++)
		json_decref(takeovers->latest[i].row);
	json_decref(takeovers->rows);
	free(takeovers);
}

/* ---- handshakes ---- */

static struct handshakes handshakes_now(const struct master *master, uint32_t slot)
{
	return (struct handshakes){
		.inherited =
			node_page_get(master->page, slot, METRIC_tls_handshakes_inherited_total),
		.dropped = node_page_get(master->page, slot, METRIC_tls_handshakes_dropped_total),
	};
}

static void bring_up_to_date(const struct latest *latest, const struct handshakes *now)
{
	if (!latest->row)
		return;
	(void)json_object_set_new(
		latest->row, "handshakes_inherited",
		json_integer((json_int_t)(now->inherited - latest->before.inherited)));
	(void)json_object_set_new(
		latest->row, "handshakes_dropped",
		json_integer((json_int_t)(now->dropped - latest->before.dropped)));
}

void takeovers_begin(struct worker_slot *slot)
{
	struct latest *latest = &slot->master->takeovers->latest[slot->number];

	latest->begun = handshakes_now(slot->master, slot->number);
	latest->is_begun = true;
}

/* From here on what the slot counts is this row's. */
static void become_latest(struct worker_slot *slot, json_t *row)
{
	struct latest *latest = &slot->master->takeovers->latest[slot->number];
	struct handshakes now = handshakes_now(slot->master, slot->number);
	/* Of one that another master began. */
	struct handshakes before = latest->is_begun ? latest->begun : now;

	bring_up_to_date(latest, &before);
	json_decref(latest->row);
	latest->row = json_incref(row);
	latest->before = before;
}

/* ---- rows ---- */

/* Takes the row over; false: it is not kept. */
static bool append(struct takeovers *takeovers, json_t *row)
{
	while (json_array_size(takeovers->rows) >= TAKEOVERS_KEPT)
		(void)json_array_remove(takeovers->rows, 0);
	if (json_array_append_new(takeovers->rows, row) == 0)
		return true;
	log_error("takeover_not_noted");
	return false;
}

static void count(const struct keeper_taken_over *told)
{
	if (told->outcome != TAKEOVER_DONE) {
		metric_add(METRIC_takeover_failures_total, 1);
		return;
	}
	metric_add(METRIC_takeover_done_total, 1);
	metric_add(METRIC_takeover_moved_total, told->connections);
	metric_add(METRIC_takeover_late_total, told->late);
	metric_add(METRIC_takeover_lost_total, told->lost);
	metric_set(METRIC_takeover_prepare_microseconds, told->prepare_us);
	metric_set(METRIC_takeover_freeze_microseconds, told->freeze_us);
}

void takeovers_note(struct worker_slot *slot, const struct keeper_taken_over *told,
		    const char *reason)
{
	const char *why = takeover_reason_name(slot->takeover_reason);
	const char *outcome = takeover_outcome_name(told->outcome);
	char at[CLOCK_TEXT_SIZE];
	json_t *row;

	clock_wall_text(clock_wall_ms(), at);
	node_event_add(NODE_EVENT_TAKEOVER,
		       "worker %u, %s: %s, %u connections, frozen for %" PRIu64 " us", slot->number,
		       why, outcome, told->connections, told->freeze_us);
	count(told);
	row = json_pack("{s:s, s:s, s:i, s:s, s:i, s:i, s:I, s:I, s:I, s:i, s:i, s:I, s:I, s:s}",
			"time", at, "reason", why, "worker", (int)slot->number, "outcome", outcome,
			"old_pid", (int)told->old_pid, "new_pid", (int)told->new_pid, "connections",
			(json_int_t)told->connections, "late", (json_int_t)told->late, "lost",
			(json_int_t)told->lost, "handshakes_inherited", 0, "handshakes_dropped", 0,
			"prepare_us", (json_int_t)told->prepare_us, "freeze_us",
			(json_int_t)told->freeze_us, "text", reason);
	if (append(slot->master->takeovers, row) && told->outcome == TAKEOVER_DONE)
		become_latest(slot, row);
	slot->master->takeovers->latest[slot->number].is_begun = false;
}

json_t *takeovers_rows(const struct master *master)
{
	const struct takeovers *takeovers = master->takeovers;

	for (uint32_t i = 0; i < NODE_WORKERS_MAX; i++) {
		struct handshakes now = handshakes_now(master, i);

		bring_up_to_date(&takeovers->latest[i], &now);
	}
	return json_deep_copy(takeovers->rows);
}

/* It goes on from what the row says. */
static void restore_latest(const struct master *master, json_t *row)
{
	json_int_t slot = json_integer_value(json_object_get(row, "worker"));
	const char *outcome = json_string_value(json_object_get(row, "outcome"));
	struct latest *latest;

	if (slot < 0 || slot >= NODE_WORKERS_MAX || !outcome ||
	    strcmp(outcome, takeover_outcome_name(TAKEOVER_DONE)) != 0)
		return;
	latest = &master->takeovers->latest[slot];
	json_decref(latest->row);
	latest->row = json_incref(row);
	latest->before = handshakes_now(master, (uint32_t)slot);
	latest->before.inherited -=
		(uint64_t)json_integer_value(json_object_get(row, "handshakes_inherited"));
	latest->before.dropped -=
		(uint64_t)json_integer_value(json_object_get(row, "handshakes_dropped"));
}

void takeovers_restore(struct master *master, const json_t *rows)
{
	json_t *row, *copy;
	size_t i;

	json_array_foreach(rows, i, row)
	{
		if (!json_is_object(row))
			continue;
		copy = json_deep_copy(row);
		if (append(master->takeovers, copy))
			restore_latest(master, copy);
	}
}

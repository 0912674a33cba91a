/* SPDX-License-Identifier: ISC */
/*
 * The last takeovers, see takeovers.h. Runs in the master. Rows are made when
 * something ends and kept as they will be shown.
 */
#include "master/takeovers.h"

#include <inttypes.h>
#include <stdlib.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/clock.h"
#include "keepsock/keeper_messages.h"
#include "keepsock/log.h"
#include "keepsock/master.h"
#include "keepsock/metrics.h"
#include "keepsock/node_events.h"
#include "keepsock/worker_slot.h"

#define TAKEOVERS_KEPT 256u

struct takeovers {
	json_t *rows; /* owned; the oldest first */
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
	json_decref(takeovers->rows);
	free(takeovers);
}

static void append(struct takeovers *takeovers, json_t *row)
{
	while (json_array_size(takeovers->rows) >= TAKEOVERS_KEPT)
		(void)json_array_remove(takeovers->rows, 0);
	if (json_array_append_new(takeovers->rows, row) < 0)
		log_error("takeover_not_noted");
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

	clock_wall_text(clock_wall_ms(), at);
	node_event_add(NODE_EVENT_TAKEOVER,
		       "worker %u, %s: %s, %u connections, frozen for %" PRIu64 " us", slot->number,
		       why, outcome, told->connections, told->freeze_us);
	count(told);
	append(slot->master->takeovers,
	       json_pack("{s:s, s:s, s:i, s:s, s:i, s:i, s:I, s:I, s:I, s:I, s:I, s:s}", "time", at,
			 "reason", why, "worker", (int)slot->number, "outcome", outcome, "old_pid",
			 (int)told->old_pid, "new_pid", (int)told->new_pid, "connections",
			 (json_int_t)told->connections, "late", (json_int_t)told->late, "lost",
			 (json_int_t)told->lost, "prepare_us", (json_int_t)told->prepare_us,
			 "freeze_us", (json_int_t)told->freeze_us, "text", reason));
}

json_t *takeovers_rows(const struct takeovers *takeovers)
{
	return json_deep_copy(takeovers->rows);
}

void takeovers_restore(struct takeovers *takeovers, const json_t *rows)
{
	json_t *row;
	size_t i;

	json_array_foreach(rows, i, row)
	{
		if (json_is_object(row))
			append(takeovers, json_deep_copy(row));
	}
}

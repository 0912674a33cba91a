/* SPDX-License-Identifier: ISC */
/*
 * What happened: each change of state is one line of the log, one entry of our
 * ring, one of the stream in Redis that all supervisors share, one call of the
 * notify program, one line for whoever monitors. Runs in the supervisor.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "keepsock/clock.h"
#include "keepsock/log.h"
#include "supervisor/supervisor.h"

static void tell_redis(struct supervisor *s, const struct story_entry *entry)
{
	json_t *event = json_pack("{s:I, s:s, s:s, s:s, s:I, s:s}", "at_ms",
				  (json_int_t)entry->at_ms, "node", s->settings.node.name, "from",
				  ha_state_name(entry->from), "to", ha_state_name(entry->to),
				  "epoch", (json_int_t)entry->epoch, "reason", entry->reason);
	char *text = json_dumps(event, JSON_COMPACT);

	if (text)
		lease_add_event(s->lease, text);
	free(text);
	json_decref(event);
}

void story_tell(struct supervisor *s, enum ha_state from, enum ha_state to, const char *reason)
{
	struct story_entry *entry = &s->story[s->story_count++ % STORY_KEPT];
	uint64_t now = clock_boottime_ms();

	*entry = (struct story_entry){
		.number = s->story_count,
		.at_ms = clock_wall_ms(),
		.from = from,
		.to = to,
		.epoch = s->epoch,
	};
	snprintf(entry->reason, sizeof(entry->reason), "%s", reason);
	log_info("state change=%s->%s reason=%s epoch=%" PRIu64 " ms=%" PRIu64, ha_state_name(from),
		 ha_state_name(to), log_value_str(reason), s->epoch, now - s->state_since_ms);
	tell_redis(s, entry);
	notify_change(s->notify, ha_state_name(from), ha_state_name(to), s->epoch, reason);
	commands_monitor(s, entry);
}

/* SPDX-License-Identifier: ISC */
/*
 * From what is seen to what is done. Everything that might have changed leads to
 * supervisor_decide(), which looks at all of it: events are conditions that hold,
 * not messages that could be missed. The order of the conditions is that of
 * their urgency. Runs in the supervisor.
 *
 * A promotion needs two signals: a lease in Redis that is free, and no peer that
 * vouches for a primary. After a late tick (TILT) nothing is begun for a while:
 * what is believed about the world is from before the gap.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/clock.h"
#include "keepsock/log.h"
#include "keepsock/magic.h"
#include "keepsock/random.h"
#include "supervisor/epoch_file.h"
#include "supervisor/inherit.h"
#include "supervisor/supervisor.h"

/* ---- what is known ---- */

uint64_t supervisor_hold_until(const struct supervisor *s)
{
	struct lease_view lease;
	uint64_t by_peers = UINT64_MAX;

	lease_get_view(s->lease, &lease);
	if (!lease.holding || lease.fenced)
		return 0;
	for (size_t i = 0; i < peers_count(s->peers); i++)
		by_peers = s->granted_until_ms[i] < by_peers ? s->granted_until_ms[i] : by_peers;
	if (peers_count(s->peers) == 0)
		by_peers = 0;
	return lease.held_until_ms > by_peers ? lease.held_until_ms : by_peers;
}

bool supervisor_learn_epoch(struct supervisor *s, uint64_t epoch)
{
	struct buffer error = {0};
	bool kept;

	if (epoch <= s->known_epoch)
		return true;
	s->known_epoch = epoch;
	kept = epoch_file_write(s->settings.cluster.state_dir, epoch, &error) == 0;
	if (!kept)
		log_error("epoch_not_kept epoch=%" PRIu64 " error=%s", epoch,
			  log_value_str(buffer_cstr(&error)));
	buffer_free(&error);
	return kept;
}

/* The node reconnects by itself, with pauses, and believes it when a probe comes. */
static uint64_t settle_ms(const struct supervisor *s)
{
	return (uint64_t)(s->settings.redis.probe_timeout + s->settings.redis.reconnect_max_delay);
}

bool supervisor_redis_is_there(void *ctx)
{
	const struct supervisor *s = ctx;

	MAGIC_CHECK(s, SUPERVISOR_MAGIC);
	return s->redis_since_ms > 0 && clock_boottime_ms() - s->redis_since_ms >= settle_ms(s);
}

/*
 * Without Redis it never ends, and keeps nobody from being a standby; with it, it is believed
 * until /ready is judged, which says what is wrong.
 */
bool supervisor_node_is_starting(const struct supervisor *s, uint64_t now)
{
	struct node_view node;

	node_watch_get_view(s->node, &node);
	return node.starting && s->redis_since_ms > 0 &&
	       (now - node.since_ms < settle_ms(s) || now - s->redis_since_ms < settle_ms(s));
}

static void learn(struct supervisor *s, uint64_t now)
{
	struct lease_view lease;

	lease_get_view(s->lease, &lease);
	if (lease.seen_ms > 0)
		(void)supervisor_learn_epoch(s, lease.redis_epoch);
	if (!lease.connected)
		s->redis_since_ms = 0;
	else if (s->redis_since_ms == 0)
		s->redis_since_ms = now;
	if (lease.holder[0] && strcmp(lease.holder, s->settings.node.name) != 0)
		memcpy(s->last_holder, lease.holder, sizeof(lease.holder));
}

/* What the checks can't tell: the process, and the time it has been away. */
static bool is_node_bad(struct supervisor *s, uint64_t now, const char **why)
{
	uint64_t patience = (uint64_t)s->settings.cluster.restart_timeout;
	struct node_view node;

	if (now < s->tilt_until_ms)
		return false;
	node_watch_get_view(s->node, &node);
	*why = node.error;
	if (node.spent)
		return true;
	if (s->state == HA_STARTING &&
	    now - s->state_since_ms < (uint64_t)s->settings.cluster.start_grace + patience)
		return false;
	if (!node.up && now - node.since_ms >= patience)
		return true;
	return checks_bad(s->checks, why);
}

static bool is_node_good(const struct supervisor *s, uint64_t now)
{
	struct node_view node;
	const char *why;

	node_watch_get_view(s->node, &node);
	return node.up && !node.spent && !supervisor_node_is_starting(s, now) &&
	       checks_good(s->checks, &why);
}

/* ---- the lease of our predecessor ---- */

static void forget_resume(struct supervisor *s)
{
	free(s->resume);
	s->resume = NULL;
}

/* True while it may still become ours. */
static bool is_resuming(struct supervisor *s, uint64_t now)
{
	struct lease_view lease;

	if (!s->resume)
		return false;
	lease_get_view(s->lease, &lease);
	if (lease.fenced || s->state != HA_STARTING ||
	    now - s->started_ms >= (uint64_t)s->timing.promise) {
		lease_release(s->lease);
		forget_resume(s);
	} else if (!lease.holding && lease.seen_ms > 0 && !lease_resume(s->lease, s->resume)) {
		forget_resume(s);
	}
	return s->resume != NULL;
}

/* ---- the events ---- */

static const char *lease_trouble(const struct supervisor *s)
{
	struct lease_view lease;

	lease_get_view(s->lease, &lease);
	if (lease.fenced)
		return "another has taken it";
	return lease.error[0] ? lease.error : "it was not renewed";
}

/* Does the event hold now? *detail is added to the row's reason. */
static bool holds(struct supervisor *s, enum ha_event event, uint64_t now, const char **detail)
{
	switch (event) {
	case HA_ON_OUTVOTED: *detail = word_outvoted(s, now); return *detail != NULL;
	case HA_ON_LEASE_LOST: *detail = lease_trouble(s); return now >= supervisor_hold_until(s);
	case HA_ON_VIP_LOST:
		*detail = addresses_problem(s->addresses);
		return **detail && s->step != ROLE_ADDRESS && s->step != ROLE_FAILED;
	case HA_ON_REFUSED: *detail = s->role_error; return s->step == ROLE_FAILED;
	case HA_ON_PROMOTED:
	case HA_ON_DEMOTED: return s->step == ROLE_DONE;
	case HA_ON_NODE_BAD: return is_node_bad(s, now, detail);
	case HA_ON_STOP: return s->stopping;
	case HA_ON_DEMOTE: *detail = s->heir; return s->demote_asked;
	case HA_ON_MAINTENANCE_ON: return s->maintenance;
	case HA_ON_MAINTENANCE_OFF: return !s->maintenance;
	case HA_ON_RESUMED: return s->resume && now < supervisor_hold_until(s);
	case HA_ON_ELECTED: return now < supervisor_hold_until(s);
	case HA_ON_NODE_GOOD: return !s->resume && is_node_good(s, now);
	case HA_EVENT_COUNT: break;
	}
	return false;
}

/* In the order of urgency. */
static const enum ha_event urgency[] = {
	HA_ON_OUTVOTED,       HA_ON_LEASE_LOST,      HA_ON_VIP_LOST,
	HA_ON_REFUSED,        HA_ON_DEMOTED,         HA_ON_NODE_BAD,
	HA_ON_STOP,           HA_ON_DEMOTE,          HA_ON_PROMOTED,
	HA_ON_MAINTENANCE_ON, HA_ON_MAINTENANCE_OFF, HA_ON_RESUMED,
	HA_ON_ELECTED,        HA_ON_NODE_GOOD,
};
_Static_assert(sizeof(urgency) / sizeof(urgency[0]) == HA_EVENT_COUNT, "every event has a place");

/* ---- changing ---- */

/* The new role's epoch and lease are on the disk before anything is done in its name. */
static bool keep_role(struct supervisor *s)
{
	struct lease_view lease;
	struct buffer error = {0};
	bool kept;

	lease_get_view(s->lease, &lease);
	s->epoch = lease.epoch;
	kept = supervisor_learn_epoch(s, lease.epoch);
	if (kept && lease_file_write(s->settings.cluster.state_dir, lease.text, &error) < 0) {
		log_error("lease_not_kept error=%s", log_value_str(buffer_cstr(&error)));
		kept = false;
	}
	buffer_free(&error);
	return kept;
}

/*
 * min_change_interval is against flapping: clients that are sent to and fro. A
 * promotion that failed has brought none, so the next try comes sooner, but not
 * before any peer has had its turn, and each time later.
 */
static void rest(struct supervisor *s, uint64_t now)
{
	uint64_t longest = (uint64_t)s->settings.cluster.min_change_interval;
	uint64_t turn = (peers_count(s->peers) + 1) * (uint64_t)s->settings.cluster.lease_renew;
	unsigned doublings = s->failed_promotions < 16 ? s->failed_promotions : 16;
	uint64_t pause = s->failed_promotions > 0 ? turn << doublings : longest;
	uint64_t until = now + (pause < longest ? pause : longest);

	if (until > s->not_before_ms)
		s->not_before_ms = until;
}

/* An operator's word during a promotion is no failure of it. */
static bool has_failed(const struct ha_transition *row)
{
	return row->from == HA_PROMOTING &&
	       (row->event == HA_ON_REFUSED || row->event == HA_ON_NODE_BAD ||
		row->event == HA_ON_LEASE_LOST || row->event == HA_ON_VIP_LOST);
}

static void enter(struct supervisor *s, const struct ha_transition *row, uint64_t now)
{
	switch (row->to) {
	case HA_STARTING: checks_forget(s->checks); break;
	case HA_PROMOTING:
		forget_resume(s);
		s->free_since_ms = 0;
		s->promoting_since_ms = now;
		break;
	case HA_PRIMARY:
		s->claim = false;
		s->failed_promotions = 0;
		inherit_serve(s);
		/* From here on it is who had it after us that counts. */
		s->last_holder[0] = '\0';
		supervisor_count(s, SUPERVISOR_METRIC_promotions_total);
		s->metrics[SUPERVISOR_METRIC_promotion_milliseconds] = now - s->promoting_since_ms;
		break;
	case HA_DEMOTING:
		s->demote_asked = false;
		s->failed_promotions = has_failed(row) ? s->failed_promotions + 1 : 0;
		supervisor_count(s, SUPERVISOR_METRIC_demotions_total);
		break;
	case HA_STANDBY:
		if (row->from == HA_DEMOTING)
			rest(s, now);
		break;
	case HA_MAINTENANCE: node_watch_hold(s->node, true); break;
	case HA_FAULT:
	case HA_STATE_COUNT: break;
	}
	/* What a supervisor before us left, and we have not taken up. */
	if (row->from == HA_STARTING && row->to != HA_PROMOTING)
		addresses_drop(s->addresses);
	if (row->from == HA_MAINTENANCE)
		node_watch_hold(s->node, false);
}

static void change(struct supervisor *s, const struct ha_transition *row, const char *detail,
		   uint64_t now)
{
	char reason[SUPERVISOR_TEXT_MAX];

	/* A role that could not be kept in mind is not begun. */
	if (row->to == HA_PROMOTING && !keep_role(s)) {
		lease_release(s->lease);
		s->failed_promotions++;
		rest(s, now);
		return;
	}
	snprintf(reason, sizeof(reason), "%s%s%s", row->reason, *detail ? ": " : "", detail);
	story_tell(s, row->from, row->to, reason);
	s->state = row->to;
	s->state_since_ms = now;
	snprintf(s->state_reason, sizeof(s->state_reason), "%s", reason);
	supervisor_count(s, SUPERVISOR_METRIC_transitions_total);
	s->decide_again = true;
	enter(s, row, now);
	if (row->action != HA_DO_NOTHING)
		role_begin(s, row->action);
	word_send(s);
}

/* ---- election ---- */

/* NULL: nothing keeps us from it. */
static const char *find_hindrance(struct supervisor *s, const struct lease_view *lease,
				  uint64_t now)
{
	const char *voucher = word_voucher(s, now);
	const char *heir = word_other_heir(s, now);

	if (!lease->connected)
		return "Redis does not answer";
	if (now - s->started_ms < (uint64_t)s->settings.cluster.start_grace)
		return "started a moment ago (cluster.start_grace)";
	if (supervisor_node_is_starting(s, now))
		return "the node is still starting";
	if (now < s->tilt_until_ms)
		return "was held up a moment ago: observing";
	if (!lease->settled)
		return "Redis is new to us: a holder renews its lease first";
	if (now < s->promise_until_ms)
		return "granted a peer lease";
	if (voucher)
		return "a peer vouches that it is the primary";
	if (!lease->free && (lease->free_at_ms == 0 || now < lease->free_at_ms))
		return "the lease is held";
	if (now < s->not_before_ms && !s->claim)
		return s->failed_promotions > 0
			       ? "a promotion failed a moment ago"
			       : "was the primary a moment ago (cluster.min_change_interval)";
	if (heir)
		return "a peer is to be the primary";
	return NULL;
}

static void try_election(struct supervisor *s, uint64_t now)
{
	struct lease_view lease;
	const char *hindrance;
	uint64_t delay;

	lease_get_view(s->lease, &lease);
	if (s->state != HA_STANDBY || s->stopping) {
		s->free_since_ms = 0;
		/* Acquired when we were about to leave. */
		if (lease.holding && !ha_may_hold(s->state) && !s->resume)
			lease_release(s->lease);
		return;
	}
	if (lease.acquiring || lease.holding)
		return;
	hindrance = find_hindrance(s, &lease, now);
	snprintf(s->hindrance, sizeof(s->hindrance), "%s", hindrance ? hindrance : "");
	if (hindrance) {
		s->free_since_ms = 0;
		return;
	}
	if (s->free_since_ms == 0) {
		s->free_since_ms = now;
		s->jitter_ms = random_below((uint32_t)s->settings.cluster.lease_renew / 4 + 1);
	}
	delay = s->jitter_ms + word_rank(s, now) * (uint64_t)s->settings.cluster.lease_renew;
	if (s->claim || now - s->free_since_ms >= delay)
		(void)lease_acquire(s->lease, s->known_epoch);
}

/* ---- all of it ---- */

static void decide_once(struct supervisor *s)
{
	uint64_t now = clock_boottime_ms();

	/* Whatever woke us: the tick may be late as well. */
	supervisor_note_time(s, now);
	learn(s, now);
	(void)is_resuming(s, now);
	role_progress(s, now);
	for (size_t i = 0; i < HA_EVENT_COUNT; i++) {
		const struct ha_transition *row = ha_find_transition(s->state, urgency[i]);
		const char *detail = "";

		if (row && holds(s, urgency[i], now, &detail)) {
			change(s, row, detail, now);
			return;
		}
	}
	try_election(s, now);
	commands_look(s, now);
	if (s->stopping && !ha_may_hold(s->state))
		supervisor_end(s);
}

void supervisor_decide(struct supervisor *s)
{
	s->decide_again = true;
	if (s->deciding)
		return;
	s->deciding = true;
	while (s->decide_again) {
		s->decide_again = false;
		decide_once(s);
	}
	s->deciding = false;
}

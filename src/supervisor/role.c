/* SPDX-License-Identifier: ISC */
/*
 * Carrying a change of role out. Runs in the supervisor; the state is decide.c's,
 * which looks at `step`.
 *
 *   promote     fence program ─► addresses ─► node ─► DONE
 *   hand over   node (clients leave in good order) ─► addresses and lease given up ─► DONE
 *   step down   addresses and lease given up ─► node, or its end ─► DONE
 *
 * Whatever happens, the addresses end with the lease: handing over stops being
 * patient then, and the kernel sees to the rest.
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
#include "supervisor/epoch_file.h"
#include "supervisor/inherit.h"
#include "supervisor/supervisor.h"

/* A node that has lost its role may take this long to say that it knows. */
#define QUIT_LIMIT_MS 2000
/* Before a node that did not take its role on is told again. */
#define RETRY_MS 1000
/* ... and so often, before it is ended: it would go on as what it is. */
#define REFUSALS_MAX 3
/* So long the addresses may be kept to reset the connections on them. */
#define DISCONNECT_MS 200
/* The end of killed processes is waited for so long before the next state. */
#define FENCE_LIMIT_MS 5000

static void set_step(struct supervisor *s, enum role_step step, int64_t limit_ms)
{
	s->step = step;
	s->step_deadline_ms = clock_boottime_ms() + (uint64_t)limit_ms;
}

static void end_calls(struct supervisor *s)
{
	node_call_cancel(s->role_call);
	s->role_call = NULL;
	program_end(s->fence);
	s->fence = NULL;
}

static void fail(struct supervisor *s, const char *what, const char *reason)
{
	snprintf(s->role_error, sizeof(s->role_error), "%s: %s", what, reason);
	end_calls(s);
	s->step = ROLE_FAILED;
}

/* ---- the node ---- */

/* It says so itself; any other answer is a refusal. */
static bool says_role(const json_t *answer, const char *role)
{
	const char *name = json_string_value(json_object_get(answer, "role"));

	return name && strcmp(name, role) == 0;
}

static bool says_primary(const json_t *answer, uint64_t epoch)
{
	return says_role(answer, "primary") &&
	       json_integer_value(json_object_get(answer, "epoch")) == (json_int_t)epoch;
}

static const char *why_not(const json_t *answer, const char *error)
{
	return answer ? "its answer says otherwise" : error;
}

static void on_promoted(void *ctx, const json_t *answer, const char *error)
{
	struct supervisor *s = ctx;

	MAGIC_CHECK(s, SUPERVISOR_MAGIC);
	s->role_call = NULL;
	if (says_primary(answer, s->epoch)) {
		s->node_role = NODE_ROLE_PRIMARY;
		if (s->step == ROLE_NODE)
			s->step = ROLE_DONE;
	} else if (s->step == ROLE_NODE) {
		fail(s, "the node was not promoted", why_not(answer, error));
	} else {
		log_warning("node_not_promoted epoch=%" PRIu64 " reason=%s", s->epoch,
			    log_value_str(why_not(answer, error)));
	}
	supervisor_decide(s);
}

static void give_up(struct supervisor *s);

/* Nothing of the node goes on, whether it has a master or not, hangs or not. */
static void fence_node(struct supervisor *s)
{
	s->node_fenced = true;
	supervisor_count(s, SUPERVISOR_METRIC_nodes_killed_total);
	s->node_refusals = 0;
	if (s->step == ROLE_QUIT)
		set_step(s, ROLE_QUIT, FENCE_LIMIT_MS);
	node_watch_fence(s->node);
}

static void on_demoted(void *ctx, const json_t *answer, const char *error)
{
	struct supervisor *s = ctx;
	bool done = says_role(answer, "standby");

	MAGIC_CHECK(s, SUPERVISOR_MAGIC);
	s->role_call = NULL;
	if (done)
		s->node_role = NODE_ROLE_STANDBY;
	else
		log_warning("node_not_demoted reason=%s", log_value_str(why_not(answer, error)));
	if (s->step == ROLE_NODE && s->handing_over) {
		give_up(s);
		s->step = done ? ROLE_DONE : ROLE_QUIT;
		if (!done)
			fence_node(s);
	} else if (s->step == ROLE_QUIT) {
		/* One that hangs would go on as what it was. */
		if (done)
			s->step = ROLE_DONE;
		else
			fence_node(s);
	} else if (done) {
		s->node_refusals = 0;
	} else if (++s->node_refusals >= REFUSALS_MAX) {
		fence_node(s);
	}
	supervisor_decide(s);
}

static void tell_promote(struct supervisor *s, int64_t limit_ms)
{
	char command[48];

	snprintf(command, sizeof(command), "promote %" PRIu64, s->epoch);
	s->node_role = NODE_ROLE_UNKNOWN;
	s->role_call = node_call_start(s->base, s->settings.admin.socket, command, limit_ms,
				       on_promoted, s);
}

static void tell_demote(struct supervisor *s, const char *command, int64_t limit_ms)
{
	s->node_role = NODE_ROLE_UNKNOWN;
	s->role_call = node_call_start(s->base, s->settings.admin.socket, command, limit_ms,
				       on_demoted, s);
}

static bool is_node_up(const struct supervisor *s)
{
	struct node_view node;

	node_watch_get_view(s->node, &node);
	return node.up;
}

/* A node that came up, or was adopted, learns its role; so does one that refused it. */
static void see_to_node(struct supervisor *s, uint64_t now)
{
	bool primary = s->state == HA_PRIMARY;

	if (s->role_call || !is_node_up(s) || now < s->node_role_retry_ms ||
	    s->state == HA_STARTING || s->state == HA_PROMOTING || s->state == HA_DEMOTING ||
	    s->node_role == (primary ? NODE_ROLE_PRIMARY : NODE_ROLE_STANDBY))
		return;
	s->node_role_retry_ms = now + RETRY_MS;
	if (primary)
		tell_promote(s, s->settings.cluster.promote_timeout);
	else
		tell_demote(s, "demote", s->settings.cluster.check_timeout);
}

/*
 * Nobody else ends a node that hangs where no role is at stake, and as long as it
 * lives it is not started again. What the budget does not allow is left as it is.
 */
static void see_to_hung_node(struct supervisor *s, uint64_t now)
{
	uint64_t patience = (uint64_t)s->settings.cluster.restart_timeout;
	struct node_view node;
	const char *why;

	node_watch_get_view(s->node, &node);
	if (s->state != HA_FAULT || now < s->tilt_until_ms || !node.up || node.spent ||
	    node_watch_is_fencing(s->node) || now - s->state_since_ms < patience ||
	    now - node.since_ms < patience || !checks_hang(s->checks, &why))
		return;
	log_warning("standby_hung reason=%s restarts=%u", log_value_str(why), node.restarts);
	node_call_cancel(s->role_call);
	s->role_call = NULL;
	fence_node(s);
}

void role_on_node_up(struct supervisor *s)
{
	s->node_role = NODE_ROLE_UNKNOWN;
	s->node_role_retry_ms = 0;
}

/* ---- promoting ---- */

static void begin_node(struct supervisor *s)
{
	set_step(s, ROLE_NODE, s->settings.cluster.promote_timeout);
	if (is_node_up(s))
		tell_promote(s, s->settings.cluster.promote_timeout);
}

static void begin_address(struct supervisor *s)
{
	set_step(s, ROLE_ADDRESS, s->settings.cluster.promote_timeout);
	addresses_take(s->addresses, supervisor_hold_until(s));
}

static void on_fenced(void *ctx, bool good, const char *how)
{
	struct supervisor *s = ctx;

	MAGIC_CHECK(s, SUPERVISOR_MAGIC);
	s->fence = NULL;
	if (good)
		log_info("fenced node=%s", s->last_holder);
	else
		log_warning("fence_failed node=%s result=%s", s->last_holder, log_value_str(how));
	begin_address(s);
	supervisor_decide(s);
}

/* A primary that handed over has ended by its own word; it is fenced in Redis in any case. */
static bool was_lost(const struct supervisor *s, uint64_t now)
{
	return s->last_holder[0] &&
	       (s->handed_over_ms == 0 ||
		now - s->handed_over_ms > (uint64_t)s->settings.cluster.lease_ttl);
}

static void begin_fence(struct supervisor *s)
{
	struct program_user user;
	struct buffer error = {0};
	char epoch[24];
	char *argv[] = {s->settings.cluster.fence, s->last_holder, epoch, NULL};

	snprintf(epoch, sizeof(epoch), "%" PRIu64, s->epoch);
	set_step(s, ROLE_FENCE, s->settings.cluster.notify_timeout);
	if (program_find_user(&s->settings, &user, &error) == 0)
		s->fence = program_start(s->base, &user, argv, s->settings.cluster.notify_timeout,
					 on_fenced, s, &error);
	if (!s->fence) {
		log_warning("fence_failed node=%s result=%s", s->last_holder,
			    log_value_str(buffer_cstr(&error)));
		begin_address(s);
	}
	buffer_free(&error);
}

static void begin_promotion(struct supervisor *s, bool lost)
{
	if (lost)
		supervisor_count(s, SUPERVISOR_METRIC_failovers_total);
	/* Where all nodes serve, one that lost the role may go on: its own silence tells. */
	if (lost && !s->settings.cluster.active_active)
		inherit_begin(s, s->last_holder);
	if (lost && s->settings.cluster.fence[0])
		begin_fence(s);
	else
		begin_address(s);
}

/* ---- giving up ---- */

/*
 * Idle clients would notice nothing until their next ping, and the node, if it lives, takes
 * them out of the registry that our successor wakes them by. Only by a lease that is ours,
 * or two hosts would send in the address's name.
 */
static void disconnect_clients(struct supervisor *s)
{
	uint64_t now = clock_boottime_ms(), until = supervisor_hold_until(s);

	if (now >= until || word_outvoted(s, now))
		return;
	addresses_disconnect(s->addresses,
			     now + DISCONNECT_MS < until ? now + DISCONNECT_MS : until);
}

/* Without asking anybody: from here on nothing of the role is ours. */
static void give_up(struct supervisor *s)
{
	struct buffer error = {0};

	s->address_given_up = true;
	inherit_end(s);
	disconnect_clients(s);
	addresses_drop(s->addresses);
	lease_release(s->lease);
	memset(s->granted_until_ms, 0, sizeof(s->granted_until_ms));
	if (s->heir[0])
		s->heir_until_ms = clock_boottime_ms() + (uint64_t)s->timing.hold;
	if (lease_file_write(s->settings.cluster.state_dir, "", &error) < 0)
		log_warning("lease_file_left error=%s", log_value_str(buffer_cstr(&error)));
	buffer_free(&error);
	word_send(s);
}

static void begin_quit(struct supervisor *s)
{
	give_up(s);
	set_step(s, ROLE_QUIT, QUIT_LIMIT_MS);
	s->node_fenced = false;
	if (is_node_up(s))
		tell_demote(s, "demote", QUIT_LIMIT_MS);
	else
		fence_node(s); /* its workers serve without a master */
}

/* Whoever is named takes over at once, and knows that nobody was lost. */
static void name_heir(struct supervisor *s, uint64_t now)
{
	const char *name = s->heir[0] ? NULL : word_successor(s, now);

	if (!name)
		return;
	memcpy(s->heir, name, strlen(name) + 1);
	s->heir_until_ms = UINT64_MAX; /* until it is given up */
}

static void begin_hand_over(struct supervisor *s)
{
	set_step(s, ROLE_NODE, s->settings.cluster.demote_timeout);
	if (is_node_up(s))
		tell_demote(s, "demote drain", s->settings.cluster.demote_timeout);
	else
		begin_quit(s);
}

/* ---- from outside ---- */

void role_begin(struct supervisor *s, enum ha_action action)
{
	end_calls(s);
	s->role_error[0] = '\0';
	s->handing_over = action == HA_DO_HAND_OVER;
	switch (action) {
	case HA_DO_PROMOTE:
		s->address_given_up = false;
		s->heir[0] = '\0';
		s->heir_until_ms = 0;
		begin_promotion(s, was_lost(s, clock_boottime_ms()));
		break;
	case HA_DO_HAND_OVER:
		name_heir(s, clock_boottime_ms());
		begin_hand_over(s);
		break;
	case HA_DO_STEP_DOWN:
		s->heir[0] = '\0'; /* nothing is in good order */
		begin_quit(s);
		break;
	case HA_DO_NOTHING:
	case HA_ACTION_COUNT: break;
	}
}

static void progress_promotion(struct supervisor *s, uint64_t now)
{
	if (s->step == ROLE_ADDRESS && addresses_problem(s->addresses)[0])
		fail(s, "the address was not to be had", addresses_problem(s->addresses));
	if (s->step == ROLE_ADDRESS && addresses_ready(s->addresses))
		begin_node(s);
	/* It came up in the meantime. */
	if (s->step == ROLE_NODE && !s->role_call && is_node_up(s))
		tell_promote(s, s->settings.cluster.promote_timeout);
	if (now >= s->step_deadline_ms && s->step == ROLE_NODE)
		fail(s, "the node was not promoted", "not in time");
	if (now >= s->step_deadline_ms && s->step == ROLE_ADDRESS)
		fail(s, "the address was not to be had", "not in time");
}

static void progress_demotion(struct supervisor *s, uint64_t now)
{
	if (s->step == ROLE_NODE && (now >= supervisor_hold_until(s) || !is_node_up(s))) {
		end_calls(s);
		begin_quit(s);
	}
	if (s->step != ROLE_QUIT)
		return;
	if (!s->node_fenced && !is_node_up(s)) {
		end_calls(s);
		fence_node(s);
	}
	if (s->node_fenced && (!node_watch_is_fencing(s->node) || now >= s->step_deadline_ms))
		s->step = ROLE_DONE;
}

void role_progress(struct supervisor *s, uint64_t now)
{
	uint64_t until = supervisor_hold_until(s);

	if (ha_may_hold(s->state) && !s->address_given_up && until > s->address_until_ms)
		addresses_renew(s->addresses, until);
	s->address_until_ms = until;
	if (s->state == HA_PROMOTING)
		progress_promotion(s, now);
	else if (s->state == HA_DEMOTING)
		progress_demotion(s, now);
	else
		s->step = ROLE_IDLE;
	inherit_progress(s, now);
	see_to_node(s, now);
	see_to_hung_node(s, now);
}

void role_free(struct supervisor *s)
{
	end_calls(s);
	inherit_end(s);
}

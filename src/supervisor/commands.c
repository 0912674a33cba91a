/* SPDX-License-Identifier: ISC */
/*
 * The supervisor's admin socket: what its commands show, and what they want from
 * the supervisor. Those that change the state answer when the outcome is known.
 * Runs in the supervisor.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <hiredis/hiredis.h>

#include "config.h"
#include "keepsock/admin_server.h"
#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/clock.h"
#include "keepsock/log.h"
#include "keepsock/magic.h"
#include "supervisor/supervisor.h"
#include "supervisor/supervisor_commands.h"

/* For what was begun to come about. */
#define OUTCOME_LIMIT_MS 18000
/* ... and before that for another node that can follow: one that has just started, or whose checks
 * have fallen for a moment. Both together are far less than keepsockctl waits. */
#define SUCCESSOR_LIMIT_MS 15000
/* A claim that nobody heeds ends before its operator has given up. */
#define CLAIM_MS     15000
#define EVENTS_SHOWN 100

static const struct admin_command commands[] = {
#define COMMAND(name, arguments, privilege, handler, help) \
	{name, arguments, ADMIN_PRIVILEGE_##privilege, help},
	SUPERVISOR_COMMANDS_TABLE(COMMAND)
#undef COMMAND
};
#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

static struct supervisor *owner(const struct admin_request *request)
{
	struct supervisor *s = admin_request_owner(request);

	MAGIC_CHECK(s, SUPERVISOR_MAGIC);
	return s;
}

/* ---- what they show ---- */

static void on_help(struct admin_request *request)
{
	json_t *rows = json_array();

	for (size_t i = 0; i < COMMAND_COUNT; i++)
		(void)json_array_append_new(
			rows, json_pack("{s:s, s:s, s:s, s:s}", "command", commands[i].name,
					"arguments", commands[i].arguments, "privilege",
					admin_privilege_name(commands[i].privilege), "help",
					commands[i].help));
	admin_answer_rows(request, rows, NULL);
}

static uint64_t left(uint64_t until_ms, uint64_t now)
{
	return until_ms > now ? until_ms - now : 0;
}

static void set(json_t *object, const char *key, json_t *value)
{
	(void)json_object_set_new(object, key, value ? value : json_null());
}

static void add_node(json_t *object, const struct supervisor *s)
{
	struct node_view node;
	const char *worst;
	bool good = checks_good(s->checks, &worst);

	node_watch_get_view(s->node, &node);
	set(object, "node_up", json_boolean(node.up));
	set(object, "node_starting", json_boolean(node.starting));
	set(object, "node_pid", json_integer(node.pid));
	set(object, "node_adopted", json_boolean(node.adopted));
	set(object, "node_restarts", json_integer(node.restarts));
	set(object, "node_restart_limit", json_integer(s->settings.cluster.restart_limit));
	set(object, "node_error", json_string(node.error));
	set(object, "checks_good", json_boolean(good));
	set(object, "checks_error", json_string(worst));
}

static void add_lease(json_t *object, const struct supervisor *s, uint64_t now)
{
	struct lease_view lease;

	lease_get_view(s->lease, &lease);
	set(object, "redis", json_string(lease.place));
	set(object, "redis_connected", json_boolean(lease.connected));
	set(object, "redis_error", json_string(lease.error));
	set(object, "lease_holder", json_string(lease.holder));
	set(object, "lease_left_ms", json_integer((json_int_t)left(lease.held_until_ms, now)));
	set(object, "primary_left_ms",
	    json_integer((json_int_t)left(supervisor_hold_until(s), now)));
}

static void on_status(struct admin_request *request)
{
	const struct supervisor *s = owner(request);
	uint64_t now = clock_boottime_ms();
	json_t *object = json_object();

	set(object, "node", json_string(s->settings.node.name));
	set(object, "state", json_string(ha_state_name(s->state)));
	set(object, "state_ms", json_integer((json_int_t)(now - s->state_since_ms)));
	set(object, "reason", json_string(s->state_reason));
	set(object, "epoch", json_integer((json_int_t)s->epoch));
	set(object, "known_epoch", json_integer((json_int_t)s->known_epoch));
	set(object, "hindrance", json_string(s->state == HA_STANDBY ? s->hindrance : ""));
	set(object, "maintenance", json_boolean(s->maintenance));
	set(object, "priority", json_integer(s->settings.cluster.priority));
	add_node(object, s);
	add_lease(object, s, now);
	set(object, "addresses", addresses_rows(s->addresses, now));
	set(object, "promise_left_ms", json_integer((json_int_t)left(s->promise_until_ms, now)));
	set(object, "version", json_string(PACKAGE_VERSION));
	set(object, "pid", json_integer(getpid()));
	set(object, "uptime_s", json_integer((json_int_t)((now - s->started_ms) / 1000)));
	set(object, "config", json_string(s->config_name));
	admin_answer_object(request, object);
}

static json_t *cluster_row(const char *node, bool connected, const struct peer_beat *beat,
			   const char *place, json_int_t heard_ms, const char *error)
{
	return json_pack("{s:s, s:s, s:b, s:I, s:b, s:b, s:b, s:I, s:I, s:s, s:s}", "node", node,
			 "state", ha_state_name(beat->state), "connected", (int)connected, "epoch",
			 (json_int_t)beat->epoch, "holds", (int)beat->holds, "promotable",
			 (int)beat->good, "sees_redis", (int)beat->sees, "priority",
			 (json_int_t)beat->priority, "heard_ms", heard_ms, "place", place, "error",
			 error);
}

static void on_show_cluster(struct admin_request *request)
{
	const struct supervisor *s = owner(request);
	uint64_t now = clock_boottime_ms();
	struct peer_beat own = word_of(s, now);
	json_t *rows = json_array();

	(void)json_array_append_new(rows, cluster_row(s->settings.node.name, true, &own,
						      s->settings.cluster.peer_listen, 0, ""));
	for (size_t i = 0; i < peers_count(s->peers); i++) {
		struct peer_view peer;

		peers_get_view(s->peers, i, &peer);
		(void)json_array_append_new(
			rows, cluster_row(peer.name, peer.connected, &peer.beat, peer.place,
					  peer.heard_ms ? (json_int_t)(now - peer.heard_ms) : -1,
					  peer.error));
	}
	admin_answer_rows(request, rows, NULL);
}

static void on_show_checks(struct admin_request *request)
{
	const struct supervisor *s = owner(request);
	uint64_t now = clock_boottime_ms();
	json_t *rows = json_array();
	struct check_view check;

	for (unsigned i = 0; checks_get_view(s->checks, i, &check); i++)
		(void)json_array_append_new(
			rows,
			json_pack("{s:s, s:b, s:b, s:I, s:I, s:I, s:I, s:s}", "check", check.name,
				  "good", (int)check.good, "judged", (int)check.judged, "runs",
				  (json_int_t)check.runs, "failures", (json_int_t)check.failures,
				  "took_ms", (json_int_t)check.took_ms, "ago_ms",
				  check.at_ms ? (json_int_t)(now - check.at_ms) : (json_int_t)-1,
				  "last_failure", check.text));
	admin_answer_rows(request, rows, NULL);
}

static void on_show_metrics(struct admin_request *request)
{
	const struct supervisor *s = owner(request);
	uint64_t now = clock_boottime_ms();
	json_t *object = json_object();

	for (int i = 0; i < SUPERVISOR_METRIC_COUNT; i++)
		set(object, supervisor_metric_name((enum supervisor_metric)i),
		    json_integer((json_int_t)supervisor_metric_value(s, (enum supervisor_metric)i,
								     now)));
	admin_answer_object(request, object);
}

static void on_log_level(struct admin_request *request)
{
	const char *name = admin_request_call(request)->arguments[0];
	enum log_level level;

	if (!log_level_parse(name, &level)) {
		admin_answer_error(request, "no such level: %s (error, warning, info or debug)",
				   name);
		return;
	}
	log_set_level(level);
	admin_answer_object(request, json_pack("{s:s}", "log_level", log_level_name(level)));
}

/* ---- events ---- */

static json_t *time_text(uint64_t wall_ms)
{
	char text[CLOCK_TEXT_SIZE];

	clock_wall_text(wall_ms, text);
	return json_string(text);
}

static json_t *entry_row(const struct supervisor *s, const struct story_entry *entry)
{
	return json_pack("{s:o, s:s, s:s, s:s, s:I, s:s}", "at", time_text(entry->at_ms), "node",
			 s->settings.node.name, "from", ha_state_name(entry->from), "to",
			 ha_state_name(entry->to), "epoch", (json_int_t)entry->epoch, "reason",
			 entry->reason);
}

static json_t *own_events(const struct supervisor *s)
{
	uint64_t first = s->story_count > STORY_KEPT ? s->story_count - STORY_KEPT : 0;
	json_t *rows = json_array();

	for (uint64_t i = first; i < s->story_count; i++)
		(void)json_array_append_new(rows, entry_row(s, &s->story[i % STORY_KEPT]));
	return rows;
}

/* One of the stream, which others wrote: any member may be missing. */
static json_t *stream_row(const redisReply *item)
{
	const redisReply *fields =
		item->type == REDIS_REPLY_ARRAY && item->elements == 2 ? item->element[1] : NULL;
	json_t *event, *row;

	if (!fields || fields->type != REDIS_REPLY_ARRAY || fields->elements != 2 ||
	    fields->element[1]->type != REDIS_REPLY_STRING)
		return NULL;
	event = json_loadb(fields->element[1]->str, fields->element[1]->len, 0, NULL);
	row = json_object();
	set(row, "at", time_text((uint64_t)json_integer_value(json_object_get(event, "at_ms"))));
	for (size_t i = 0; i < 5; i++) {
		static const char *const keys[] = {"node", "from", "to", "epoch", "reason"};

		set(row, keys[i], json_incref(json_object_get(event, keys[i])));
	}
	json_decref(event);
	return row;
}

static void on_events(void *ctx, const struct redisReply *reply)
{
	struct waiter *waiter = ctx;
	struct admin_request *request = waiter->request;
	json_t *rows = json_array();

	waiter->kind = WAITER_NONE;
	if (!request)
		goto out; /* it has gone */
	for (size_t i = reply ? reply->elements : 0; i > 0; i--) {
		json_t *row = stream_row(reply->element[i - 1]);

		if (row)
			(void)json_array_append_new(rows, row);
	}
	admin_request_wait(request, NULL, NULL);
	admin_answer_rows(request, reply ? json_incref(rows) : own_events(waiter->supervisor),
			  NULL);
out:
	json_decref(rows);
}

/* ---- requests that wait ---- */

static void on_waiter_gone(void *ctx)
{
	struct waiter *waiter = ctx;

	/* The place of one that Redis owes an answer stays taken until it comes. */
	waiter->request = NULL;
	if (waiter->kind != WAITER_EVENTS)
		waiter->kind = WAITER_NONE;
}

/* NULL, with the request refused, when too many are waiting. */
static struct waiter *add_waiter(struct supervisor *s, struct admin_request *request,
				 enum waiter_kind kind)
{
	for (unsigned i = 0; i < WAITERS_MAX; i++) {
		struct waiter *waiter = &s->waiters[i];

		if (waiter->kind != WAITER_NONE)
			continue;
		*waiter = (struct waiter){s, kind, request, clock_boottime_ms() + OUTCOME_LIMIT_MS};
		admin_request_wait(request, on_waiter_gone, waiter);
		return waiter;
	}
	admin_answer_error(request, "too many requests are waiting");
	return NULL;
}

static void answer_waiter(struct waiter *waiter, const char *problem)
{
	struct supervisor *s = waiter->supervisor;
	struct admin_request *request = waiter->request;

	waiter->kind = WAITER_NONE;
	admin_request_wait(request, NULL, NULL);
	if (problem)
		admin_answer_error(request, "%s (%s: %s%s%s)", problem, ha_state_name(s->state),
				   s->state_reason, s->hindrance[0] ? "; " : "", s->hindrance);
	else
		admin_answer_object(request,
				    json_pack("{s:s, s:I}", "state", ha_state_name(s->state),
					      "epoch", (json_int_t)s->epoch));
}

static void begin_demotion(struct waiter *waiter, uint64_t now)
{
	struct supervisor *s = waiter->supervisor;

	waiter->kind = WAITER_DEMOTE;
	waiter->deadline_ms = now + OUTCOME_LIMIT_MS;
	if (s->state == HA_DEMOTING)
		return;
	s->demote_asked = true;
	s->heir[0] = '\0';
	s->decide_again = true;
}

static void refuse_demotion(struct waiter *waiter, uint64_t now)
{
	struct admin_request *request = waiter->request;
	struct buffer why = {0};

	waiter->kind = WAITER_NONE;
	word_explain_successor(waiter->supervisor, now, &why);
	admin_request_wait(request, NULL, NULL);
	admin_answer_error(request,
			   "no other node could take over: %s; `demote force` does it all the same",
			   why.len > 0 ? buffer_cstr(&why) : "there is none");
	buffer_free(&why);
}

/* A standby's checks may have fallen for a moment: that is waited for. */
static void look_for_successor(struct waiter *waiter, uint64_t now)
{
	struct supervisor *s = waiter->supervisor;

	if (!ha_may_hold(s->state))
		answer_waiter(waiter, NULL); /* the role has ended for another reason */
	else if (s->state == HA_DEMOTING || word_successor(s, now))
		begin_demotion(waiter, now);
	else if (now >= waiter->deadline_ms || !word_may_have_successor(s))
		refuse_demotion(waiter, now);
}

static bool is_done(const struct supervisor *s, enum waiter_kind kind)
{
	switch (kind) {
	case WAITER_PROMOTE: return s->state == HA_PRIMARY;
	case WAITER_DEMOTE: return !ha_may_hold(s->state) && !s->demote_asked;
	case WAITER_MAINTENANCE: return s->state == HA_MAINTENANCE;
	case WAITER_NONE:
	case WAITER_SUCCESSOR:
	case WAITER_EVENTS:
	case WAITER_MONITOR: break;
	}
	return false;
}

void commands_look(struct supervisor *s, uint64_t now)
{
	if (s->claim && now >= s->claim_until_ms)
		s->claim = false;
	for (unsigned i = 0; i < WAITERS_MAX; i++) {
		struct waiter *waiter = &s->waiters[i];

		if (waiter->kind == WAITER_NONE || waiter->kind == WAITER_MONITOR ||
		    waiter->kind == WAITER_EVENTS)
			continue;
		if (waiter->kind == WAITER_SUCCESSOR)
			look_for_successor(waiter, now);
		else if (is_done(s, waiter->kind))
			answer_waiter(waiter, NULL);
		else if (now >= waiter->deadline_ms ||
			 (waiter->kind == WAITER_PROMOTE && !s->claim && !ha_may_hold(s->state)))
			answer_waiter(waiter, "it did not come about in time");
	}
}

void commands_monitor(struct supervisor *s, const struct story_entry *entry)
{
	for (unsigned i = 0; i < WAITERS_MAX; i++) {
		if (s->waiters[i].kind == WAITER_MONITOR)
			admin_answer_continue(s->waiters[i].request, entry_row(s, entry));
	}
}

static void on_show_events(struct admin_request *request)
{
	struct supervisor *s = owner(request);
	struct waiter *waiter = add_waiter(s, request, WAITER_EVENTS);

	if (waiter && !lease_read_events(s->lease, EVENTS_SHOWN, on_events, waiter))
		on_events(waiter, NULL);
}

static void on_monitor(struct admin_request *request)
{
	if (add_waiter(owner(request), request, WAITER_MONITOR))
		admin_answer_begin(request);
}

/* ---- what they want ---- */

static void on_promote(struct admin_request *request)
{
	struct supervisor *s = owner(request);

	if (s->state == HA_PRIMARY) {
		admin_answer_object(request, json_pack("{s:s, s:I}", "state", "primary", "epoch",
						       (json_int_t)s->epoch));
		return;
	}
	if (s->state != HA_STANDBY && s->state != HA_PROMOTING) {
		admin_answer_error(request, "only a standby can be promoted, this is %s: %s",
				   ha_state_name(s->state), s->state_reason);
		return;
	}
	if (!add_waiter(s, request, WAITER_PROMOTE))
		return;
	s->claim = true;
	s->claim_until_ms = clock_boottime_ms() + CLAIM_MS;
	word_send(s);
	supervisor_decide(s);
}

static void on_demote(struct admin_request *request)
{
	struct supervisor *s = owner(request);
	const char *force = admin_request_call(request)->arguments[0];
	uint64_t now = clock_boottime_ms();
	struct waiter *waiter;

	if (force && strcmp(force, "force") != 0) {
		admin_answer_error(request, "usage: demote [force]");
		return;
	}
	if (!ha_may_hold(s->state)) {
		admin_answer_error(request, "this is not the primary, it is %s",
				   ha_state_name(s->state));
		return;
	}
	waiter = add_waiter(s, request, WAITER_SUCCESSOR);
	if (!waiter)
		return;
	waiter->deadline_ms = now + SUCCESSOR_LIMIT_MS;
	if (force)
		begin_demotion(waiter, now);
	supervisor_decide(s);
}

static void on_maintenance(struct admin_request *request)
{
	struct supervisor *s = owner(request);
	const char *word = admin_request_call(request)->arguments[0];
	bool on = strcmp(word, "on") == 0;

	if (!on && strcmp(word, "off") != 0) {
		admin_answer_error(request, "usage: maintenance on|off");
		return;
	}
	if (on && !add_waiter(s, request, WAITER_MAINTENANCE))
		return;
	s->maintenance = on;
	if (!on)
		admin_answer_object(request, json_pack("{s:b}", "maintenance", 0));
	supervisor_decide(s);
}

/* In the order of the command table. */
static admin_handler_fn *const handlers[] = {
#define COMMAND(name, arguments, privilege, handler, help) on_##handler,
	SUPERVISOR_COMMANDS_TABLE(COMMAND)
#undef COMMAND
};

struct admin *commands_open(struct supervisor *s, struct buffer *error)
{
	struct admin_options options = {
		.base = s->base,
		.path = s->settings.cluster.socket,
		.setting = "cluster.socket",
		.mode = settings_admin_mode(&s->settings),
		.commands = commands,
		.handlers = handlers,
		.command_count = COMMAND_COUNT,
		.owner = s,
	};

	return admin_server_open(&options, error);
}

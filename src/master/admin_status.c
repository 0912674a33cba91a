/* SPDX-License-Identifier: ISC */
/*
 * Admin commands that the master answers from what it has at hand: help,
 * status, show config, show metrics, show events, log level. Runs in the master; asks no
 * worker, so these answer even when every worker hangs.
 */
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config.h"
#include "keepsock/admin.h"
#include "keepsock/alloc.h"
#include "keepsock/clock.h"
#include "keepsock/embedded_redis.h"
#include "keepsock/log.h"
#include "keepsock/master.h"
#include "keepsock/node_page.h"
#include "keepsock/sentinel.h"
#include "keepsock/settings.h"
#include "keepsock/worker_slot.h"
#include "master/role.h"

/* json_object_set_new() fails only without memory or for text that is no UTF-8. */
static void set(json_t *object, const char *key, json_t *value)
{
	(void)json_object_set_new(object, key, value ? value : json_null());
}

static void set_metric(json_t *object, const char *key, const struct master *master,
		       enum metric metric)
{
	set(object, key, json_integer((json_int_t)metrics_node_value(master->page, metric)));
}

void admin_on_help(struct admin_request *request)
{
	json_t *rows = json_array();

	for (size_t i = 0; i < admin_command_count(); i++) {
		const struct admin_command *command = admin_command_at(i);

		(void)json_array_append_new(
			rows,
			json_pack("{s:s, s:s, s:s, s:s}", "command", command->name, "arguments",
				  command->arguments, "privilege",
				  admin_privilege_name(command->privilege), "help", command->help));
	}
	admin_answer_rows(request, rows, NULL);
}

static json_t *redis_summary(const struct master *master)
{
	if (!master->embedded)
		return json_string("external");
	return json_sprintf("embedded, %s", embedded_redis_state(master->embedded));
}

/* Of all shards; one that nobody has found yet is unknown. */
static json_t *redis_endpoints(const struct master *master)
{
	struct buffer text = {0};
	json_t *json;

	for (uint32_t i = 0; i < master->shard_count; i++) {
		const struct ipc_redis *redis = &master->shards[i];

		buffer_append_str(&text, i > 0 ? ", " : "");
		if (ipc_redis_known(redis))
			buffer_printf(&text, "%s:%u", redis->host, redis->port);
		else
			buffer_append_str(&text, "unknown");
	}
	json = json_string(buffer_cstr(&text));
	buffer_free(&text);
	return json;
}

static json_t *listener_list(const struct settings *settings)
{
	json_t *list = json_array();

	for (size_t i = 0; i < settings->listener_count; i++) {
		const struct settings_listener *listener = &settings->listeners[i];
		bool v6 = strchr(listener->address, ':') != NULL;

		(void)json_array_append_new(list, json_sprintf("%s%s%s:%d", v6 ? "[" : "",
							       listener->address, v6 ? "]" : "",
							       (int)listener->port));
	}
	return list;
}

static uint32_t count_ready(const struct master *master)
{
	uint32_t ready = 0;

	for (uint32_t i = 0; i < master->worker_count; i++)
		ready += master->workers[i].state == WORKER_READY;
	return ready;
}

static void set_role(json_t *object, const struct master *master)
{
	json_t *view = role_view(master);

	set(object, "role", json_incref(json_object_get(view, "role")));
	set(object, "epoch", json_incref(json_object_get(view, "epoch")));
	set(object, "draining", json_incref(json_object_get(view, "draining")));
	json_decref(view);
}

void admin_on_status(struct admin_request *request)
{
	const struct master *master = admin_request_master(request);
	json_t *object = json_object();

	set(object, "node", json_string(master->settings.node.name));
	set(object, "state", json_string(master_phase_name(master->phase)));
	set_role(object, master);
	set(object, "version", json_string(PACKAGE_VERSION));
	set(object, "pid", json_integer(getpid()));
	set(object, "uptime_s",
	    json_integer((json_int_t)((clock_boottime_ms() - master->started_ms) / 1000)));
	set(object, "config", json_string(master->config_name));
	set(object, "listeners", listener_list(&master->settings));
	set(object, "workers", json_integer(master->worker_count));
	set(object, "workers_ready", json_integer(count_ready(master)));
	set_metric(object, "worker_restarts", master, METRIC_worker_restarts_total);
	set_metric(object, "connections", master, METRIC_connections_open);
	set_metric(object, "subscriptions", master, METRIC_subscriptions);
	set(object, "redis", redis_summary(master));
	set(object, "redis_endpoint", redis_endpoints(master));
	set_metric(object, "redis_subscriptions_up", master, METRIC_redis_subscription_connected);
	set(object, "log_level", json_string(log_level_name(log_get_level())));
	set(object, "open_file_limit", json_integer((json_int_t)master->open_file_limit));
	admin_answer_object(request, object);
}

static json_t *place(const struct sentinel_answer *answer)
{
	return answer->host[0] ? json_sprintf("%s:%u", answer->host, answer->port)
			       : json_string("");
}

static json_t *sentinel_row(const struct sentinel_watch *watch, uint32_t shard,
			    const struct sentinel_view *view)
{
	return json_pack("{s:i, s:s, s:o, s:b, s:b, s:o, s:I, s:o, s:s, s:s}", "shard", (int)shard,
			 "name", sentinel_watch_name(watch), "sentinel",
			 json_sprintf("%s:%u", view->host, view->port), "answers", (int)view->asked,
			 "announces", (int)view->heard, "master", place(view->answer), "epoch",
			 (json_int_t)view->answer->epoch, "used",
			 place(sentinel_watch_master(watch)), "error", view->error, "master_error",
			 sentinel_watch_error(watch));
}

void admin_on_show_sentinel(struct admin_request *request)
{
	const struct master *master = admin_request_master(request);
	json_t *rows = json_array();

	for (uint32_t shard = 0; shard < master->shard_count; shard++) {
		const struct sentinel_watch *watch = master_redis_watch(master, shard);
		struct sentinel_view view;

		for (size_t i = 0; watch && sentinel_watch_view(watch, i, &view); i++)
			(void)json_array_append_new(rows, sentinel_row(watch, shard, &view));
	}
	admin_answer_rows(request, rows, NULL);
}

static void append_setting(void *ctx, const char *name, const char *type, const char *value,
			   const char *default_value, bool reloadable, const char *doc)
{
	json_t *rows = ctx;

	(void)type;
	(void)doc;
	(void)json_array_append_new(rows, json_pack("{s:s, s:s, s:s, s:b}", "setting", name,
						    "value", value, "default", default_value,
						    "reloadable", (int)reloadable));
}

void admin_on_show_config(struct admin_request *request)
{
	json_t *rows = json_array();

	settings_each(&admin_request_master(request)->settings, append_setting, rows);
	admin_answer_rows(request, rows, NULL);
}

void admin_on_show_metrics(struct admin_request *request)
{
	const struct master *master = admin_request_master(request);
	json_t *object = json_object();

	for (int i = 0; i < METRIC_COUNT; i++)
		set_metric(object, metric_name((enum metric)i), master, (enum metric)i);
	admin_answer_object(request, object);
}

static json_t *time_text(uint64_t wall_ms)
{
	char text[CLOCK_TEXT_SIZE];

	clock_wall_text(wall_ms, text);
	return json_string(text);
}

static json_t *event_row(const struct node_event_view *event)
{
	/* A worker that died in the middle of a character must not cost the row. */
	json_t *text = json_string(event->text);

	return json_pack("{s:o, s:o, s:s, s:o}", "at", time_text(event->at_ms), "process",
			 event->slot == NODE_SLOT_MASTER ? json_string("master")
							 : json_sprintf("worker %u", event->slot),
			 "event", node_event_name(event->kind), "text",
			 text ? text : json_string(""));
}

void admin_on_show_events(struct admin_request *request)
{
	struct node_event_view *events = xcalloc(NODE_EVENTS_MAX, sizeof(*events));
	size_t count = node_events_read(admin_request_master(request)->page, events);
	json_t *rows = json_array();

	for (size_t i = 0; i < count; i++)
		(void)json_array_append_new(rows, event_row(&events[i]));
	free(events);
	admin_answer_rows(request, rows, NULL);
}

void admin_on_log_level(struct admin_request *request)
{
	struct master *master = admin_request_master(request);
	const char *name = admin_request_call(request)->arguments[0];
	enum log_level level;

	if (!log_level_parse(name, &level)) {
		admin_answer_error(request, "no such level: %s (error, warning, info or debug)",
				   name);
		return;
	}
	log_set_level(level);
	/* Workers started later are told too, instead of falling back to the configured level. */
	master->log_level_changed = true;
	for (uint32_t i = 0; i < master->worker_count; i++)
		worker_slot_set_log_level(&master->workers[i], name);
	admin_answer_object(request, json_pack("{s:s}", "log_level", log_level_name(level)));
}

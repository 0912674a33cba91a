/* SPDX-License-Identifier: ISC */
/*
 * The worker's end of the pair with the master: what may be sent to it, and which
 * part answers an admin command, in JSON rows. Run by the worker.
 */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "keepsock/alloc.h"
#include "keepsock/ipc.h"
#include "keepsock/log.h"
#include "worker/control.h"
#include "worker/move.h"
#include "worker/role.h"
#include "worker/shards.h"
#include "worker/tls_listeners.h"

#include "config.h"

/* --- answers --- */

void control_reply(struct worker *w, uint64_t id, json_t *answer)
{
	char *text = json_dumps(answer, JSON_COMPACT);

	json_decref(answer);
	if (w->ipc_fd < 0) {
		/* Whoever asked is gone. */
		free(text);
		return;
	}
	if (!text || ipc_send_blob(w->ipc_fd, IPC_REPLY, id, text, strlen(text)) < 0)
		log_warning("admin_reply_failed error=%s", log_value_str(strerror(errno)));
	free(text);
}

json_t *control_rows(json_t *rows)
{
	return json_pack("{s:b, s:o}", "ok", 1, "rows", rows);
}

json_t *control_row(json_t *row)
{
	json_t *rows = json_array();

	json_array_append_new(rows, row);
	return control_rows(rows);
}

json_t *control_refusal(const char *error)
{
	return json_pack("{s:b, s:s}", "ok", 0, "error", error);
}

json_t *control_text(struct slice text)
{
	json_t *value;

	/* The master's reader of JSON wants no NUL in a text. */
	if (text.len > 0 && memchr(text.data, '\0', text.len))
		return json_string("(has a NUL)");
	value = json_stringn(text.data ? text.data : "", text.len);
	return value ? value : json_string("(not UTF-8)");
}

/* --- commands --- */

static json_t *show_redis(struct worker *w, uint64_t id, json_t *args)
{
	(void)id;
	(void)args;
	return shards_show(w);
}

static const struct control_command {
	const char *name;
	control_command_fn *run;
} commands[] = {
	{"show worker", control_show_worker},
	{"show connections", control_show_connections},
	{"show connection", control_show_connection},
	{"show channels", control_show_channels},
	{"show channel", control_show_channel},
	{"show fds", control_show_fds},
	{"show users", control_show_users},
	{"show user", control_show_user},
	{"show sessions", control_show_sessions},
	{"show nodes", control_show_nodes},
	{"show redis", show_redis},
	{"show certificates", control_show_certificates},
	{"disconnect", control_disconnect},
	{"unsubscribe", control_unsubscribe},
	{"publish", control_publish},
	{"purge", control_purge},
	{"role", control_role},
	{"drain", control_drain},
#ifdef KEEPSOCK_CRASH_POINTS
	{"debug crash-after", control_crash_after},
	{"debug deposit-anew", control_deposit_anew},
#endif
};

static json_t *answer_command(struct worker *w, uint64_t id, const char *name, json_t *args)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcmp(name, commands[i].name) == 0)
			return commands[i].run(w, id, args);
	return control_refusal("unknown command");
}

/* --- messages of the master --- */

static void on_request(struct worker *w, uint64_t id, struct slice payload)
{
	json_t *request = json_loadb(payload.data, payload.len, 0, NULL);
	const char *command = json_string_value(json_object_get(request, "command"));
	json_t *answer = command ? answer_command(w, id, command, json_object_get(request, "args"))
				 : control_refusal("unreadable request");

	json_decref(request);
	if (answer)
		control_reply(w, id, answer);
}

static void on_redis(struct worker *w, struct slice payload)
{
	struct buffer error = {0};
	struct ipc_redis redis;
	uint32_t shard;

	if (ipc_redis_decode(payload.data, payload.len, &shard, &redis, &error) < 0) {
		log_error("redis_endpoint_unreadable error=%s", log_value(buffer_slice(&error)));
		buffer_free(&error);
		return;
	}
	if (shard >= w->shard_count) {
		log_error("redis_endpoint_of_no_shard shard=%u", shard);
		ipc_redis_free(&redis);
		return;
	}
	/* A new master tells what the one before it has told: the connections stay. */
	if (ipc_redis_equal(&w->start.shards[shard], &redis)) {
		ipc_redis_free(&redis);
		return;
	}
	ipc_redis_free(&w->start.shards[shard]);
	w->start.shards[shard] = redis;
	shards_set_endpoint(w, shard);
}

static void on_tls(struct worker *w, struct ipc_message *message)
{
	if (message->nfds != 1) {
		log_error("ipc_message_refused type=TLS");
		return;
	}
	tls_listeners_replace(w, message->fds[0]);
	message->fds[0] = -1;
}

static void on_log_level(struct slice payload)
{
	char name[16] = "";
	enum log_level level;

	if (payload.len < sizeof(name))
		memcpy(name, payload.data, payload.len);
	if (log_level_parse(name, &level))
		log_set_level(level);
}

static void on_stop(struct worker *w)
{
	arena_ref ref = 0;

	w->stopping = true;
	w->stop_deadline = w->now_ms + (uint64_t)w->settings.client.close_timeout;
	for (size_t i = 0; i < w->listener_count; i++)
		worker_listener_close(&w->listeners[i]);
	while ((ref = arena_record_next(w->arena, ARENA_PASSPORT, ref))) {
		const struct passport *passport = arena_at(w->arena, ref);
		struct connection *c;

		if (!control_is_client(passport) || (c = connection_at(w, ref))->fd < 0)
			continue;
		if (passport->state == PASSPORT_STATE_HTTP && !c->pending)
			connection_close(c, "stopping");
		else if (passport->state != PASSPORT_STATE_HTTP)
			connection_disconnect(c, CLIENT_DISCONNECT_SHUTDOWN, NULL);
	}
	worker_stop_check(w);
}

static void on_move_out(struct worker *w, struct ipc_message *message, struct slice payload)
{
	struct ipc_move_out order;

	if (payload.len != sizeof(order) || message->nfds != 1) {
		log_error("ipc_message_refused type=MOVE_OUT");
		return;
	}
	memcpy(&order, payload.data, sizeof(order));
	move_out_begin(w, message->id, &order, message->fds[0]);
	message->fds[0] = -1;
}

static void on_move_in(struct worker *w, struct ipc_message *message)
{
	if (message->nfds != 1) {
		log_error("ipc_message_refused type=MOVE_IN");
		return;
	}
	move_in_begin(w, message->fds[0]);
	message->fds[0] = -1;
}

static void on_message(struct worker *w, struct ipc_message *message)
{
	struct slice payload = {0};

	if (!ipc_type_allowed(message->type, MASTER_TO_WORKER) ||
	    ipc_message_payload(message, &payload) < 0) {
		log_error("ipc_message_refused type=%s", ipc_type_name(message->type));
		return;
	}
	switch (message->type) {
	case IPC_REQUEST: on_request(w, message->id, payload); break;
	case IPC_REDIS: on_redis(w, payload); break;
	case IPC_LOG_LEVEL: on_log_level(payload); break;
	case IPC_ROLE: role_on_message(w, message); break;
	case IPC_TLS: on_tls(w, message); break;
	case IPC_STOP: on_stop(w); break;
	case IPC_MOVE_OUT: on_move_out(w, message, payload); break;
	case IPC_MOVE_IN: on_move_in(w, message); break;
	default: log_error("ipc_message_unexpected type=%s", ipc_type_name(message->type));
	}
}

/* Clients are served without it; the next one comes by the keeper. */
static void on_master_gone(struct worker *w)
{
	log_warning("master_gone clients=%llu", (unsigned long long)w->connection_count);
	event_free(w->ipc_event);
	w->ipc_event = NULL;
	close(w->ipc_fd);
	w->ipc_fd = -1;
}

static void on_ipc(evutil_socket_t fd, short what, void *arg)
{
	struct worker *w = arg;
	struct ipc_message *message = xmalloc(sizeof(*message));
	int result = ipc_receive((int)fd, message);

	(void)what;
	loop_watch_begin(w, LOOP_CONTROL);
	if (result == 1) {
		on_message(w, message);
		ipc_message_close_fds(message);
	} else if (result == 0) {
		on_master_gone(w);
	} else if (errno != EAGAIN && errno != EINTR) {
		log_error("ipc_receive_failed error=%s", log_value_str(strerror(errno)));
	}
	free(message);
}

static void send_ready(struct worker *w)
{
	if (w->ipc_fd >= 0 && ipc_send(w->ipc_fd, IPC_READY, 0, NULL, 0, NULL, 0) < 0)
		log_warning("ipc_send_failed type=READY error=%s", log_value_str(strerror(errno)));
}

void control_open(struct worker *w)
{
	w->ipc_event = event_new(w->base, w->ipc_fd, EV_READ | EV_PERSIST, on_ipc, w);
	event_add(w->ipc_event, NULL);
}

void control_attach(struct worker *w, int fd)
{
	if (w->ipc_fd >= 0)
		on_master_gone(w);
	log_info("master_attached");
	w->ipc_fd = fd;
	control_open(w);
	if (w->ready)
		send_ready(w);
}

/* The descriptor stays open until the process is gone. */
void control_close(struct worker *w)
{
	if (w->ipc_event)
		event_free(w->ipc_event);
	w->ipc_event = NULL;
}

void control_ready(struct worker *w)
{
	if (w->ready)
		return;
	w->ready = true;
	send_ready(w);
}

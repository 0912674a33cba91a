/* SPDX-License-Identifier: ISC */
/*
 * The worker's end of the pair with the master: what may be sent to it, and the
 * answers to the admin commands, as JSON rows. Run by the worker. It shows
 * passports and never changes one but through the same calls clients use.
 */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "keepsock/alloc.h"
#include "keepsock/channel_name.h"
#include "keepsock/crash_points.h"
#include "keepsock/ipc.h"
#include "keepsock/log.h"
#include "keepsock/random.h"
#include "keepsock/redis_scripts.h"
#include "worker/deposits.h"
#include "worker/internal.h"
#include "worker/loop_watch.h"
#include "worker/publish.h"
#include "worker/purge.h"
#include "worker/shards.h"

/* An answer lists at most this many rows; a cut one says so in the log. */
#define ROWS_MAX 100000u

static void reply(struct worker *w, uint64_t id, json_t *answer)
{
	char *text = json_dumps(answer, JSON_COMPACT);

	json_decref(answer);
	if (!text || ipc_send_blob(w->ipc_fd, IPC_REPLY, id, text, strlen(text)) < 0)
		log_warning("admin_reply_failed error=%s", log_value_str(strerror(errno)));
	free(text);
}

static json_t *rows_answer(json_t *rows)
{
	return json_pack("{s:b, s:o}", "ok", 1, "rows", rows);
}

static json_t *one_row(json_t *row)
{
	json_t *rows = json_array();

	json_array_append_new(rows, row);
	return rows_answer(rows);
}

static json_t *refusal(const char *error)
{
	return json_pack("{s:b, s:s}", "ok", 0, "error", error);
}

static json_t *text_of(struct slice text)
{
	json_t *value = json_stringn(text.data, text.len);

	return value ? value : json_string("(not UTF-8)");
}

/* --- passports --- */

static json_t *address_of(const struct passport *passport)
{
	char text[CONNECTION_PEER_TEXT];

	return json_string(connection_peer(passport, text));
}

static json_t *id_of(const struct passport *passport)
{
	char text[37];

	connection_id(passport, text);
	return json_string(text);
}

static bool is_client(const struct passport *passport)
{
	return passport->magic == PASSPORT_MAGIC && passport->kind == PASSPORT_CLIENT;
}

static json_t *connection_row(struct worker *w, const struct passport *passport)
{
	json_t *row = json_object();

	json_object_set_new(row, "id", id_of(passport));
	json_object_set_new(row, "peer", address_of(passport));
	json_object_set_new(row, "state", json_string(passport_state_name(passport->state)));
	json_object_set_new(row, "user", text_of(passport_user(w->arena, passport)));
	json_object_set_new(row, "subscriptions", json_integer(passport->subscription_count));
	json_object_set_new(row, "queued_bytes",
			    json_integer((json_int_t)queue_length(&passport->out)));
	json_object_set_new(row, "age_s",
			    json_integer((json_int_t)((w->now_ms - passport->accepted_at) / 1000)));
	return row;
}

static json_t *show_connections(struct worker *w)
{
	json_t *rows = json_array();
	arena_ref ref = 0;

	while ((ref = arena_record_next(w->arena, ARENA_PASSPORT, ref)) &&
	       json_array_size(rows) < ROWS_MAX) {
		const struct passport *passport = arena_at(w->arena, ref);

		if (is_client(passport) && connection_at(w, ref)->fd >= 0)
			json_array_append_new(rows, connection_row(w, passport));
	}
	return rows_answer(rows);
}

#define SHOW_NUMBER(value)  json_integer((json_int_t)(value))
#define SHOW_HEX(value)     json_sprintf("0x%llx", (unsigned long long)(value))
#define SHOW_STATE(value)   json_string(passport_state_name(value))
#define SHOW_UUID(value)    id_of(passport)
#define SHOW_ADDRESS(value) address_of(passport)
#define SHOW_REF(value)     json_integer((json_int_t)(value))
#define SHOW_QUEUE(value)                                                    \
	json_pack("{s:I, s:I}", "done", (json_int_t)(value).done, "waiting", \
		  (json_int_t)queue_length(&(value)))
#define SHOW_READER(value)                                                                     \
	json_sprintf("%llx %llx %llx %llx", (unsigned long long)(value).word[0],               \
		     (unsigned long long)(value).word[1], (unsigned long long)(value).word[2], \
		     (unsigned long long)(value).word[3])

static json_t *subscriptions_of(struct worker *w, const struct passport *passport)
{
	json_t *list = json_array();
	arena_ref ref = passport->subscriptions;

	while (ref) {
		const struct subscription_record *subscription = arena_at(w->arena, ref);
		const struct channel *channel = hub_channel_at(&w->hub, subscription->channel);

		json_array_append_new(list, json_pack("{s:o, s:I, s:I}", "channel",
						      text_of(hub_name(&w->hub, channel)),
						      "start_sequence",
						      (json_int_t)subscription->start_sequence,
						      "flags", (json_int_t)subscription->flags));
		ref = subscription->next;
	}
	return list;
}

static json_t *passport_row(struct worker *w, const struct passport *passport)
{
	json_t *row = json_object();

#define FIELD(type, name, show, doc) json_object_set_new(row, #name, SHOW_##show(passport->name));
	PASSPORT_FIELDS(FIELD)
#undef FIELD
	json_object_set_new(row, "user", text_of(passport_user(w->arena, passport)));
	json_object_set_new(row, "name", text_of(passport_name(w->arena, passport)));
	json_object_set_new(row, "subscribed", subscriptions_of(w, passport));
	return row;
}

static struct connection *find_client(struct worker *w, const char *text)
{
	struct uuid uuid;
	struct passport_id id;

	if (!text || !uuid_parse(slice_str(text), &uuid))
		return NULL;
	memcpy(id.bytes, uuid.bytes, sizeof(id.bytes));
	return connection_find(w, &id);
}

static json_t *show_connection(struct worker *w, json_t *args)
{
	struct connection *c = find_client(w, json_string_value(json_object_get(args, "id")));

	return c ? one_row(passport_row(w, connection_passport(c))) : rows_answer(json_array());
}

/* --- channels --- */

static json_t *channel_row(struct worker *w, const struct channel *channel)
{
	const struct channel_record *record = hub_record(&w->hub, channel);
	static const char *const states[] = {"absent", "joining", "joined", "leaving"};

	return json_pack("{s:o, s:I, s:I, s:o, s:s}", "name", text_of(hub_name(&w->hub, channel)),
			 "subscribers", (json_int_t)hub_subscribers(&w->hub, channel), "offset",
			 (json_int_t)record->offset, "epoch", text_of(hub_epoch(record)), "state",
			 states[record->state]);
}

static json_t *show_channels(struct worker *w)
{
	json_t *rows = json_array();
	struct channel *channel = NULL;

	while ((channel = hub_next(&w->hub, channel)) && json_array_size(rows) < ROWS_MAX)
		json_array_append_new(rows, channel_row(w, channel));
	return rows_answer(rows);
}

static json_t *show_channel(struct worker *w, json_t *args)
{
	const char *name = json_string_value(json_object_get(args, "name"));
	struct channel *channel = name ? hub_find(&w->hub, slice_str(name)) : NULL;
	const struct channel_record *record;
	json_t *row;

	if (!channel)
		return rows_answer(json_array());
	record = hub_record(&w->hub, channel);
	row = channel_row(w, channel);
	json_object_set_new(row, "last_sequence", json_integer((json_int_t)record->last_sequence));
	json_object_set_new(row, "positioned", json_boolean(record->positioned));
	json_object_set_new(row, "unconfirmed", json_integer((json_int_t)record->unconfirmed));
	json_object_set_new(row, "waiting", json_integer(channel->waiting));
	json_object_set_new(row, "held_bytes", json_integer((json_int_t)channel->held_bytes));
	return one_row(row);
}

/* --- worker, Redis --- */

static json_t *show_worker(struct worker *w)
{
	const char *reason = worker_not_ready_reason(w);

	return one_row(json_pack("{s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:b}", "pid",
				 (int)getpid(), "connections", (json_int_t)w->connection_count,
				 "subscriptions", (json_int_t)w->hub.subscription_count, "channels",
				 (json_int_t)w->hub.channel_count, "arena_used",
				 (json_int_t)arena_bytes_used(w->arena), "arena_cap",
				 (json_int_t)arena_bytes_cap(w->arena), "loop_lag_us",
				 (json_int_t)metric_get(METRIC_loop_lag_microseconds), "uptime_s",
				 (json_int_t)((w->now_ms - w->started_ms) / 1000), "redis",
				 reason ? reason : "ok", "settled", (int)deposits_settled(w)));
}

/* --- commands that act --- */

static json_t *do_disconnect(struct worker *w, json_t *args)
{
	struct connection *c = find_client(w, json_string_value(json_object_get(args, "client")));
	json_int_t code = json_integer_value(json_object_get(args, "code"));
	const char *reason = json_string_value(json_object_get(args, "reason"));
	bool open = c && (connection_passport(c)->state == PASSPORT_STATE_CONNECTED ||
			  connection_passport(c)->state == PASSPORT_STATE_UNAUTHENTICATED ||
			  connection_passport(c)->state == PASSPORT_STATE_ECHO);

	if (open)
		connection_disconnect(c, code ? (uint16_t)code : CLIENT_DISCONNECT_FORCE_DISCONNECT,
				      reason && reason[0] ? reason : NULL);
	return one_row(json_pack("{s:i}", "closed", open ? 1 : 0));
}

struct publish_request {
	struct worker *worker;
	uint64_t id;
};

static void on_published(void *ctx, const struct redis_publish_result *result)
{
	struct publish_request *request = ctx;
	struct worker *w = request->worker;

	publish_count(result);
	if (result->outcome.code == REDIS_RESULT_OK) {
		reply(w, request->id,
		      one_row(json_pack("{s:I, s:o}", "offset",
					(json_int_t)result->channels[0].offset, "epoch",
					text_of(result->channels[0].epoch))));
	} else {
		reply(w, request->id, refusal(result->outcome.error));
	}
	free(request);
}

/* NULL: the answer comes later. */
static json_t *do_publish(struct worker *w, uint64_t id, json_t *args)
{
	const char *name = json_string_value(json_object_get(args, "channel"));
	const char *data = json_string_value(json_object_get(args, "data"));
	struct slice channel = slice_str(name ? name : "");
	struct publish_order order = {
		.channels = &channel,
		.n_channels = 1,
		.body.data = slice_str(data ? data : ""),
	};
	const struct channel_options *options;
	enum channel_verdict verdict = channel_check(&w->settings, channel, &options);
	struct publish_request *request;

	if (verdict != CHANNEL_OK && verdict != CHANNEL_PRIVATE)
		return refusal(client_error_message(channel_verdict_error(verdict)));
	if (!json_validate(order.body.data))
		return refusal("the data is not valid JSON");
	request = xcalloc(1, sizeof(*request));
	request->worker = w;
	request->id = id;
	publish_start(w, id, &order, on_published, request);
	return NULL;
}

struct purge_request {
	struct worker *worker;
	uint64_t id;
};

static void on_purged(void *ctx, const char *error, uint64_t workers, uint64_t members)
{
	struct purge_request *request = ctx;

	reply(request->worker, request->id,
	      error ? refusal(error)
		    : one_row(json_pack("{s:I, s:I}", "workers", (json_int_t)workers, "members",
					(json_int_t)members)));
	free(request);
}

/* NULL: the answer comes later. */
static json_t *do_purge(struct worker *w, uint64_t id, json_t *args)
{
	const char *node = json_string_value(json_object_get(args, "node"));
	struct purge_request *request;

	if (!node || !node[0])
		return refusal("which node?");
	request = xcalloc(1, sizeof(*request));
	request->worker = w;
	request->id = id;
	purge_node(w, slice_str(node), on_purged, request);
	return NULL;
}

#ifdef KEEPSOCK_CRASH_POINTS
static json_t *do_crash_after(json_t *args)
{
	const char *point = json_string_value(json_object_get(args, "point"));
	json_int_t count = json_integer_value(json_object_get(args, "count"));

	if (!point || !crash_point_arm(point, (unsigned)count))
		return refusal("no such crash point");
	return one_row(json_pack("{s:s}", "armed", point));
}
#endif

static json_t *answer_command(struct worker *w, uint64_t id, const char *command, json_t *args)
{
	if (strcmp(command, "show worker") == 0)
		return show_worker(w);
	if (strcmp(command, "show connections") == 0)
		return show_connections(w);
	if (strcmp(command, "show connection") == 0)
		return show_connection(w, args);
	if (strcmp(command, "show channels") == 0)
		return show_channels(w);
	if (strcmp(command, "show channel") == 0)
		return show_channel(w, args);
	if (strcmp(command, "show redis") == 0)
		return shards_show(w);
	if (strcmp(command, "disconnect") == 0)
		return do_disconnect(w, args);
	if (strcmp(command, "publish") == 0)
		return do_publish(w, id, args);
	if (strcmp(command, "purge") == 0)
		return do_purge(w, id, args);
#ifdef KEEPSOCK_CRASH_POINTS
	if (strcmp(command, "debug crash-after") == 0)
		return do_crash_after(args);
#endif
	return refusal("unknown command");
}

/* --- messages of the master --- */

static void on_request(struct worker *w, uint64_t id, struct slice payload)
{
	json_t *request = json_loadb(payload.data, payload.len, 0, NULL);
	const char *command = json_string_value(json_object_get(request, "command"));
	json_t *answer = command ? answer_command(w, id, command, json_object_get(request, "args"))
				 : refusal("unreadable request");

	json_decref(request);
	if (answer)
		reply(w, id, answer);
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
	ipc_redis_free(&w->start.shards[shard]);
	w->start.shards[shard] = redis;
	shards_set_endpoint(w, shard);
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
	for (size_t i = 0; i < w->listener_count; i++) {
		if (w->listeners[i].event)
			event_free(w->listeners[i].event);
		w->listeners[i].event = NULL;
		close(w->listeners[i].fd);
		w->listeners[i].fd = -1;
	}
	while ((ref = arena_record_next(w->arena, ARENA_PASSPORT, ref))) {
		const struct passport *passport = arena_at(w->arena, ref);
		struct connection *c;

		if (!is_client(passport) || (c = connection_at(w, ref))->fd < 0)
			continue;
		if (passport->state == PASSPORT_STATE_HTTP && !c->pending)
			connection_close(c, "stopping");
		else if (passport->state != PASSPORT_STATE_HTTP)
			connection_disconnect(c, CLIENT_DISCONNECT_SHUTDOWN, NULL);
	}
	worker_stop_check(w);
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
	case IPC_STOP: on_stop(w); break;
	default: log_error("ipc_message_unexpected type=%s", ipc_type_name(message->type));
	}
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
		log_error("master_gone action=exit");
		event_base_loopbreak(w->base);
		w->exit_status = 1;
	} else if (errno != EAGAIN && errno != EINTR) {
		log_error("ipc_receive_failed error=%s", log_value_str(strerror(errno)));
	}
	free(message);
}

void control_open(struct worker *w)
{
	w->ipc_event = event_new(w->base, w->ipc_fd, EV_READ | EV_PERSIST, on_ipc, w);
	event_add(w->ipc_event, NULL);
}

void control_ready(struct worker *w)
{
	if (w->ready_sent)
		return;
	w->ready_sent = true;
	if (ipc_send(w->ipc_fd, IPC_READY, 0, NULL, 0, NULL, 0) < 0)
		log_error("ipc_send_failed type=READY error=%s", log_value_str(strerror(errno)));
}

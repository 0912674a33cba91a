/* SPDX-License-Identifier: ISC */
/*
 * The client protocol's client side, JSON only. It reads what the server says
 * with the strict scanner, so a server that sends broken JSON fails the run.
 */
#include "session.h"

#include <assert.h>

#include "keepsock/clock.h"
#include "keepsock/json.h"

#define CONNECT_ID   1
#define SUBSCRIBE_ID 2

static struct session *session_of(struct ws_client *client)
{
	struct session *session = (struct session *)client;

	assert(client->magic == WS_CLIENT_MAGIC);
	return session;
}

static void session_fail(struct session *session, const char *what, struct slice text)
{
	loop_fail(session->client.loop, "%s %zu: %s%.*s", session->handler->role, session->index,
		  what, SLICE_ARG(text));
}

static void become_ready(struct session *session)
{
	session->ready = true;
	session->handler->on_ready(session);
}

static void send_text(struct session *session, struct slice text)
{
	struct buffer frame = {0};

	ws_client_frame(&frame, text);
	ws_client_send(&session->client, buffer_slice(&frame));
	buffer_free(&frame);
}

static void on_open(struct ws_client *client)
{
	struct session *session = session_of(client);
	struct buffer commands = {0};

	if (session->handler->raw) {
		become_ready(session);
		return;
	}
	/* Socket.IO's server speaks first. */
	if (session->handler->socket_io)
		return;
	/* Both in one frame, as the JavaScript SDK sends them. */
	buffer_printf(&commands, "{\"id\":%d,\"connect\":{}}", CONNECT_ID);
	if (session->handler->channel) {
		buffer_printf(&commands, "\n{\"id\":%d,\"subscribe\":{\"channel\":", SUBSCRIBE_ID);
		json_append_string(&commands, slice_str(session->handler->channel));
		if (session->handler->recover)
			buffer_append_str(&commands, ",\"recover\":true");
		buffer_append_str(&commands, "}}");
	}
	session->last_id = SUBSCRIBE_ID;
	send_text(session, buffer_slice(&commands));
	buffer_free(&commands);
}

static bool is_recovered(struct slice reply)
{
	struct slice result, recovered;
	bool yes = false;

	return json_object_find(reply, "subscribe", &result) &&
	       json_object_find(result, "recovered", &recovered) &&
	       json_get_bool(recovered, &yes) && yes;
}

static void on_reply(struct session *session, uint32_t id, struct slice reply)
{
	uint32_t last = session->handler->channel ? SUBSCRIBE_ID : CONNECT_ID;

	if (id == SUBSCRIBE_ID && session->handler->recover && !is_recovered(reply))
		session_fail(session, "not recovered: ", reply);
	else if (id == last)
		become_ready(session);
	else if (id > SUBSCRIBE_ID && session->handler->on_published)
		session->handler->on_published(session);
}

static void on_push(struct session *session, struct slice push)
{
	struct slice publication, data;

	if (json_object_find(push, "pub", &publication)) {
		if (!json_object_find(publication, "data", &data))
			session_fail(session, "a publication without data: ", push);
		else if (session->handler->on_message)
			session->handler->on_message(session, data);
	} else if (json_object_find(push, "unsubscribe", &data) ||
		   json_object_find(push, "disconnect", &data)) {
		session_fail(session, "the server ended it: ", push);
	}
}

/* One reply, push or ping. */
static void serve_line(struct session *session, struct slice line)
{
	struct json_walk it;
	struct slice key, value, push = {0}, error = {0};
	uint32_t id = 0;
	size_t members = 0;

	json_object_begin(&it, line);
	while (json_object_next(&it, &key, &value)) {
		members++;
		if (json_string_is(key, "push"))
			push = value;
		else if (json_string_is(key, "error"))
			error = value;
		else if (json_string_is(key, "id"))
			(void)json_get_u32(value, &id);
	}
	if (!json_walk_ok(&it))
		session_fail(session, "not a JSON object: ", line);
	else if (error.len > 0)
		session_fail(session, "refused: ", error);
	else if (push.len > 0)
		on_push(session, push);
	else if (id != 0)
		on_reply(session, id, line);
	else if (members == 0)
		send_text(session, SLICE("{}")); /* the pong */
}

/* ---- Socket.IO: engine.io's packet type, then Socket.IO's ---- */

static bool starts_with(struct slice text, const char *prefix)
{
	size_t len = strlen(prefix);

	return text.len >= len && memcmp(text.data, prefix, len) == 0;
}

static void serve_socket_io(struct session *session, struct slice packet)
{
	static const char event[] = "42[\"m\",";
	size_t len = sizeof(event) - 1;

	if (starts_with(packet, "0{")) {
		send_text(session, SLICE("40"));
	} else if (starts_with(packet, "40{")) {
		become_ready(session);
	} else if (starts_with(packet, event)) {
		if (session->handler->on_message)
			session->handler->on_message(
				session, slice_from(packet.data + len, packet.len - len - 1));
	} else if (starts_with(packet, "43")) {
		if (session->handler->on_published)
			session->handler->on_published(session);
	} else {
		session_fail(session, "not a packet of Socket.IO that was expected: ", packet);
	}
}

static void on_message(struct ws_client *client, struct slice payload)
{
	struct session *session = session_of(client);

	if (session->handler->raw) {
		if (session->handler->on_message)
			session->handler->on_message(session, payload);
		return;
	}
	if (session->handler->socket_io) {
		serve_socket_io(session, payload);
		return;
	}
	while (payload.len > 0 && client->state == WS_CLIENT_OPEN) {
		const char *end = memchr(payload.data, '\n', payload.len);
		size_t len = end ? (size_t)(end - payload.data) : payload.len;
		size_t used = end ? len + 1 : len;

		serve_line(session, slice_from(payload.data, len));
		payload = slice_from(payload.data + used, payload.len - used);
	}
}

static void on_closed(struct ws_client *client, const char *reason)
{
	session_fail(session_of(client), reason, SLICE(""));
}

static const struct ws_client_handler client_handler = {
	.on_open = on_open,
	.on_message = on_message,
	.on_closed = on_closed,
};

int session_open(struct session *session, struct loop *loop, const struct target *target,
		 const struct session_handler *handler, void *owner, size_t index)
{
	*session = (struct session){
		.handler = handler,
		.owner = owner,
		.index = index,
		.started_ns = clock_boottime_ns(),
	};
	return ws_client_open(&session->client, loop, target, &client_handler, index);
}

void session_publish(struct session *session, const char *channel, struct slice data)
{
	struct buffer command = {0};

	if (session->handler->socket_io) {
		buffer_printf(&command, "42%u[\"publish\",", ++session->last_id);
		buffer_append_slice(&command, data);
		buffer_append_str(&command, "]");
		send_text(session, buffer_slice(&command));
		buffer_free(&command);
		return;
	}
	buffer_printf(&command, "{\"id\":%u,\"publish\":{\"channel\":", ++session->last_id);
	json_append_string(&command, slice_str(channel));
	buffer_append_str(&command, ",\"data\":");
	buffer_append_slice(&command, data);
	buffer_append_str(&command, "}}");
	send_text(session, buffer_slice(&command));
	buffer_free(&command);
}

void session_close(struct session *session)
{
	if (session->client.state != WS_CLIENT_CLOSED)
		ws_client_close(&session->client);
}

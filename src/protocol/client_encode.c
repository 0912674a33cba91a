/* SPDX-License-Identifier: ISC */
/*
 * Encodes replies and pushes as JSON. Runs in the workers. A field that is zero,
 * empty or false is left out unless the protocol says that it is always there;
 * payloads go in as they came (json_append_raw). It appends to the caller's
 * buffer and cannot fail.
 */
#include <stdlib.h>

#include "client_codec.h"

/* An object being written. */
struct object {
	struct buffer *out;
	bool empty; /* no member yet: the next one takes no comma */
};

/* A member's name as it is appended at one stroke: with the comma before and the colon behind. */
#define NAME(wire) SLICE(",\"" wire "\":")

static void put_name(struct object *o, struct slice name)
{
	size_t comma = o->empty ? 1 : 0;

	o->empty = false;
	buffer_append(o->out, name.data + comma, name.len - comma);
}

static struct object open_object(struct buffer *out)
{
	buffer_append(out, "{", 1);
	return (struct object){out, true};
}

static struct object open_member(struct object *o, struct slice name)
{
	put_name(o, name);
	return open_object(o->out);
}

static void close_object(struct object *o)
{
	buffer_append(o->out, "}", 1);
}

/* put_…: always there. */

static void put_string(struct object *o, struct slice name, struct slice text)
{
	put_name(o, name);
	json_append_string(o->out, text);
}

static void put_u64(struct object *o, struct slice name, uint64_t value)
{
	put_name(o, name);
	buffer_append_u64(o->out, value);
}

/* add_…: left out if zero, empty or false. */

static void add_string(struct object *o, struct slice name, struct slice text)
{
	if (text.len > 0)
		put_string(o, name, text);
}

static void add_u64(struct object *o, struct slice name, uint64_t value)
{
	if (value != 0)
		put_u64(o, name, value);
}

static void add_bool(struct object *o, struct slice name, bool value)
{
	if (!value)
		return;
	put_name(o, name);
	buffer_append(o->out, "true", 4);
}

static void add_raw(struct object *o, struct slice name, struct slice raw)
{
	if (raw.len == 0)
		return;
	put_name(o, name);
	json_append_raw(o->out, raw);
}

void client_info_encode(struct buffer *out, struct slice user, struct slice client,
			struct slice conn_info, struct slice chan_info)
{
	struct object info = open_object(out);

	put_string(&info, NAME("user"), user);
	put_string(&info, NAME("client"), client);
	add_raw(&info, NAME("conn_info"), conn_info);
	add_raw(&info, NAME("chan_info"), chan_info);
	close_object(&info);
}

static void encode_publication(struct buffer *out, const struct publication *p)
{
	struct object pub = open_object(out);

	add_raw(&pub, NAME("data"), p->data);
	add_raw(&pub, NAME("info"), p->info);
	add_u64(&pub, NAME("offset"), p->offset);
	add_raw(&pub, NAME("tags"), p->tags);
	add_bool(&pub, NAME("delta"), p->delta);
	add_string(&pub, NAME("epoch"), p->epoch);
	close_object(&pub);
}

static void put_publications(struct object *o, const struct publication *list, size_t count)
{
	put_name(o, NAME("publications"));
	buffer_append(o->out, "[", 1);
	for (size_t i = 0; i < count; i++) {
		if (i > 0)
			buffer_append(o->out, ",", 1);
		encode_publication(o->out, &list[i]);
	}
	buffer_append(o->out, "]", 1);
}

/* The members of a subscribe result; o is open. */
static void add_subscribe_result(struct object *o, const struct client_subscribe_result *r)
{
	add_bool(o, NAME("expires"), r->expires);
	add_u64(o, NAME("ttl"), r->ttl);
	add_bool(o, NAME("recoverable"), r->recoverable);
	add_string(o, NAME("epoch"), r->epoch);
	if (r->n_publications > 0)
		put_publications(o, r->publications, r->n_publications);
	add_bool(o, NAME("recovered"), r->recovered);
	add_u64(o, NAME("offset"), r->offset);
	add_bool(o, NAME("positioned"), r->positioned);
	add_raw(o, NAME("data"), r->data);
	add_bool(o, NAME("was_recovering"), r->was_recovering);
	add_bool(o, NAME("delta"), r->delta);
}

static void add_connect_subs(struct object *o, const struct client_connect_result *r)
{
	if (r->n_subs == 0)
		return;
	struct object subs = open_member(o, NAME("subs"));
	for (size_t i = 0; i < r->n_subs; i++) {
		if (i > 0)
			buffer_append(o->out, ",", 1);
		json_append_string(o->out, r->subs[i].channel);
		buffer_append(o->out, ":", 1);
		struct object sub = open_object(o->out);
		add_subscribe_result(&sub, &r->subs[i].result);
		close_object(&sub);
	}
	close_object(&subs);
}

static void add_connect_result(struct object *o, const struct client_connect_result *r)
{
	put_string(o, NAME("client"), r->client);
	add_string(o, NAME("version"), r->version);
	add_bool(o, NAME("expires"), r->expires);
	add_u64(o, NAME("ttl"), r->ttl);
	add_raw(o, NAME("data"), r->data);
	add_connect_subs(o, r);
	add_u64(o, NAME("ping"), r->ping);
	add_bool(o, NAME("pong"), r->pong);
	add_string(o, NAME("session"), r->session);
	add_string(o, NAME("node"), r->node);
	add_u64(o, NAME("time"), r->time);
}

static void put_presence(struct object *o, const struct client_presence_entry *entries,
			 size_t count)
{
	struct object presence = open_member(o, NAME("presence"));

	for (size_t i = 0; i < count; i++) {
		if (i > 0)
			buffer_append(o->out, ",", 1);
		json_append_string(o->out, entries[i].client);
		buffer_append(o->out, ":", 1);
		json_append_raw(o->out, entries[i].info);
	}
	close_object(&presence);
}

static void add_refresh_result(struct object *o, const struct client_refresh_result *r)
{
	add_string(o, NAME("client"), r->client);
	add_string(o, NAME("version"), r->version);
	add_bool(o, NAME("expires"), r->expires);
	add_u64(o, NAME("ttl"), r->ttl);
}

static void put_error(struct object *o, const struct client_error *e)
{
	struct object error = open_member(o, NAME("error"));
	bool given = e->message.len > 0;

	put_u64(&error, NAME("code"), e->code);
	put_string(&error, NAME("message"),
		   given ? e->message : slice_str(client_error_message(e->code)));
	add_bool(&error, NAME("temporary"), given ? e->temporary : client_error_temporary(e->code));
	close_object(&error);
}

static const struct slice method_names[CLIENT_METHOD_COUNT] = {
#define X(name, wire) [CLIENT_METHOD_##name] = {",\"" wire "\":", sizeof(wire) + 3},
	CLIENT_METHOD_TABLE(X)
#undef X
};

/* The members of the result that belongs to the reply's method; o is open. */
static void add_result(struct object *o, const struct client_reply *reply)
{
	switch (reply->method) {
	case CLIENT_METHOD_CONNECT: add_connect_result(o, &reply->connect); break;
	case CLIENT_METHOD_SUBSCRIBE: add_subscribe_result(o, &reply->subscribe); break;
	case CLIENT_METHOD_HISTORY:
		put_publications(o, reply->history.publications, reply->history.n_publications);
		put_string(o, NAME("epoch"), reply->history.epoch);
		put_u64(o, NAME("offset"), reply->history.offset);
		break;
	case CLIENT_METHOD_PRESENCE:
		put_presence(o, reply->presence.entries, reply->presence.n_entries);
		break;
	case CLIENT_METHOD_PRESENCE_STATS:
		put_u64(o, NAME("num_clients"), reply->presence_stats.num_clients);
		put_u64(o, NAME("num_users"), reply->presence_stats.num_users);
		break;
	case CLIENT_METHOD_RPC: add_raw(o, NAME("data"), reply->rpc.data); break;
	case CLIENT_METHOD_REFRESH:
	case CLIENT_METHOD_SUB_REFRESH: add_refresh_result(o, &reply->refresh); break;
	case CLIENT_METHOD_UNSUBSCRIBE:
	case CLIENT_METHOD_PUBLISH: break;
	default: abort(); /* a method that has no reply */
	}
}

void client_reply_encode(struct buffer *out, const struct client_reply *reply)
{
	struct object envelope = open_object(out);

	add_u64(&envelope, NAME("id"), reply->id);
	if (reply->error.code != 0) {
		put_error(&envelope, &reply->error);
	} else {
		if (method_names[reply->method].len == 0)
			abort(); /* unknown and pong: not to be answered */
		struct object result = open_member(&envelope, method_names[reply->method]);
		add_result(&result, reply);
		close_object(&result);
	}
	close_object(&envelope);
}

static void put_end(struct object *o, struct slice name, const struct client_push *push,
		    const char *reason)
{
	struct object end = open_member(o, name);

	put_u64(&end, NAME("code"), push->end.code);
	put_string(&end, NAME("reason"),
		   push->end.reason.len > 0 ? push->end.reason : slice_str(reason));
	close_object(&end);
}

static void put_info(struct object *o, struct slice name, struct slice info)
{
	struct object member = open_member(o, name);

	add_raw(&member, NAME("info"), info);
	close_object(&member);
}

static void put_subscribe_push(struct object *o, const struct client_subscribe_result *r)
{
	struct object subscribe = open_member(o, NAME("subscribe"));

	add_bool(&subscribe, NAME("recoverable"), r->recoverable);
	add_string(&subscribe, NAME("epoch"), r->epoch);
	add_u64(&subscribe, NAME("offset"), r->offset);
	add_bool(&subscribe, NAME("positioned"), r->positioned);
	add_raw(&subscribe, NAME("data"), r->data);
	close_object(&subscribe);
}

static void put_message(struct object *o, struct slice data)
{
	struct object message = open_member(o, NAME("message"));

	add_raw(&message, NAME("data"), data);
	close_object(&message);
}

static void put_refresh(struct object *o, const struct client_push *push)
{
	struct object refresh = open_member(o, NAME("refresh"));

	add_bool(&refresh, NAME("expires"), push->refresh.expires);
	add_u64(&refresh, NAME("ttl"), push->refresh.ttl);
	close_object(&refresh);
}

static void put_push(struct object *o, const struct client_push *push)
{
	switch (push->kind) {
	case CLIENT_PUSH_PUBLICATION:
		put_name(o, NAME("pub"));
		encode_publication(o->out, &push->publication);
		break;
	case CLIENT_PUSH_JOIN: put_info(o, NAME("join"), push->info); break;
	case CLIENT_PUSH_LEAVE: put_info(o, NAME("leave"), push->info); break;
	case CLIENT_PUSH_UNSUBSCRIBE:
		put_end(o, NAME("unsubscribe"), push, client_unsubscribe_reason(push->end.code));
		break;
	case CLIENT_PUSH_SUBSCRIBE: put_subscribe_push(o, &push->subscribe); break;
	case CLIENT_PUSH_MESSAGE: put_message(o, push->message); break;
	case CLIENT_PUSH_DISCONNECT:
		put_end(o, NAME("disconnect"), push, client_disconnect_reason(push->end.code));
		break;
	case CLIENT_PUSH_REFRESH: put_refresh(o, push); break;
	}
}

void client_push_encode(struct buffer *out, const struct client_push *push)
{
	struct object envelope = open_object(out);
	struct object body = open_member(&envelope, NAME("push"));

	add_string(&body, NAME("channel"), push->channel);
	put_push(&body, push);
	close_object(&body);
	close_object(&envelope);
}

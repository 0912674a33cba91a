/* SPDX-License-Identifier: ISC */
/*
 * Bodies of the server HTTP API's calls, see http_api_request.h. Run by the
 * worker. One table of fields says which method takes which; a field of the
 * wrong type makes the whole body bad, as a broken one does.
 */
#include <stddef.h>
#include <stdlib.h>

#include "keepsock/alloc.h"
#include "keepsock/base64.h"
#include "keepsock/json.h"
#include "worker/http_api_request.h"

/* The text's memory was reserved for all strings of the body: slices into it stay. */
static bool take_string(struct http_api_request *request, struct slice raw, struct slice *out)
{
	size_t before = request->text.len;

	if (!json_string_decode(raw, &request->text))
		return false;
	*out = slice_from(request->text.data + before, request->text.len - before);
	return true;
}

/* At most limit + 1 of them. */
static bool take_names(struct http_api_request *request, struct slice raw,
		       struct http_api_names *names, size_t limit)
{
	struct json_walk it;
	struct slice value, name;
	size_t capacity = 0;

	free(names->items);
	*names = (struct http_api_names){0};
	json_array_begin(&it, raw);
	while (json_array_next(&it, &value)) {
		if (!take_string(request, value, &name))
			return false;
		if (names->count > limit)
			continue;
		if (names->count == capacity) {
			capacity = capacity ? capacity * 2 : 16;
			names->items = xrealloc(names->items, capacity * sizeof(*names->items));
		}
		names->items[names->count++] = name;
	}
	return json_walk_ok(&it);
}

/* What it holds becomes JSON to clients, so it has to be JSON. Empty: none was given. */
static bool take_base64(struct http_api_request *request, struct slice raw, struct slice *out)
{
	struct slice encoded;
	size_t before;

	if (!take_string(request, raw, &encoded))
		return false;
	if (encoded.len == 0)
		return true;
	before = request->text.len;
	*out = slice_from(NULL, 0);
	if (base64_decode(encoded, &request->text))
		*out = slice_from(request->text.data + before, request->text.len - before);
	if (!json_validate(*out)) {
		*out = slice_from(NULL, 0);
		request->undecodable = true;
	}
	return true;
}

static bool take_tags(struct slice raw, struct slice *out)
{
	struct json_walk it;
	struct slice key, value;
	bool any = false;

	json_object_begin(&it, raw);
	while (json_object_next(&it, &key, &value)) {
		if (json_kind_of(value) != JSON_KIND_STRING)
			return false;
		any = true;
	}
	*out = any ? raw : slice_from(NULL, 0);
	return json_walk_ok(&it);
}

static bool take_since(struct http_api_request *request, struct slice raw)
{
	struct json_walk it;
	struct slice key, value;

	request->has_since = true;
	json_object_begin(&it, raw);
	while (json_object_next(&it, &key, &value)) {
		if (json_kind_of(value) == JSON_KIND_NULL)
			continue;
		if (json_string_is(key, "offset") && !json_get_u64(value, &request->since_offset))
			return false;
		if (json_string_is(key, "epoch") &&
		    !take_string(request, value, &request->since_epoch))
			return false;
	}
	return json_walk_ok(&it);
}

static bool take_disconnect(struct http_api_request *request, struct slice raw)
{
	struct json_walk it;
	struct slice key, value;

	json_object_begin(&it, raw);
	while (json_object_next(&it, &key, &value)) {
		if (json_kind_of(value) == JSON_KIND_NULL)
			continue;
		if (json_string_is(key, "code") && !json_get_u32(value, &request->disconnect_code))
			return false;
		if (json_string_is(key, "reason") &&
		    !take_string(request, value, &request->disconnect_reason))
			return false;
	}
	return json_walk_ok(&it);
}

/* {"value": true}; one without a value is false. */
static bool take_switch(struct slice raw, int8_t *out)
{
	struct json_walk it;
	struct slice key, value;
	bool on = false;

	json_object_begin(&it, raw);
	while (json_object_next(&it, &key, &value))
		if (json_string_is(key, "value") && json_kind_of(value) != JSON_KIND_NULL &&
		    !json_get_bool(value, &on))
			return false;
	*out = on;
	return json_walk_ok(&it);
}

static bool take_override(struct http_api_request *request, struct slice raw)
{
	static const struct {
		const char *name;
		size_t offset;
	} switches[] = {
		{"presence", offsetof(struct token_override, presence)},
		{"join_leave", offsetof(struct token_override, join_leave)},
		{"force_push_join_leave", offsetof(struct token_override, force_push_join_leave)},
		{"force_positioning", offsetof(struct token_override, force_positioning)},
		{"force_recovery", offsetof(struct token_override, force_recovery)},
	};
	struct json_walk it;
	struct slice key, value;

	request->override = TOKEN_OVERRIDE_NONE;
	json_object_begin(&it, raw);
	while (json_object_next(&it, &key, &value))
		for (size_t i = 0; i < sizeof(switches) / sizeof(switches[0]); i++)
			if (json_string_is(key, switches[i].name) &&
			    json_kind_of(value) != JSON_KIND_NULL &&
			    !take_switch(value, (int8_t *)&request->override + switches[i].offset))
				return false;
	return json_walk_ok(&it);
}

#define METHOD(symbol)   (1u << HTTP_API_##symbol)
#define METHODS_TO_WRITE (METHOD(PUBLISH) | METHOD(BROADCAST))
#define METHODS_ON_USER \
	(METHOD(SUBSCRIBE) | METHOD(UNSUBSCRIBE) | METHOD(DISCONNECT) | METHOD(REFRESH))
#define METHODS_ON_CHANNEL                                                             \
	(METHOD(PUBLISH) | METHOD(SUBSCRIBE) | METHOD(UNSUBSCRIBE) | METHOD(HISTORY) | \
	 METHOD(HISTORY_REMOVE) | METHOD(PRESENCE) | METHOD(PRESENCE_STATS))

enum field_type {
	FIELD_STRING,
	FIELD_RAW,
	FIELD_BOOL,
	FIELD_U64,
	FIELD_I32,
	FIELD_CHANNELS,
	FIELD_WHITELIST,
	FIELD_TAGS,
	FIELD_SINCE,
	FIELD_DISCONNECT,
	FIELD_OVERRIDE,
	FIELD_BASE64, /* wins over the plain field, wherever that stands */
};

#define MEMBER(name) offsetof(struct http_api_request, name)

static const struct field {
	const char *name;
	unsigned methods;
	enum field_type type;
	size_t member; /* where it goes, unless the type says it */
} fields[] = {
	{"channel", METHODS_ON_CHANNEL, FIELD_STRING, MEMBER(channel)},
	{"channels", METHOD(BROADCAST), FIELD_CHANNELS, 0},
	{"data", METHODS_TO_WRITE | METHOD(SUBSCRIBE), FIELD_RAW, MEMBER(data)},
	{"b64data", METHODS_TO_WRITE | METHOD(SUBSCRIBE), FIELD_BASE64, MEMBER(data)},
	{"info", METHOD(SUBSCRIBE) | METHOD(REFRESH), FIELD_RAW, MEMBER(info)},
	{"b64info", METHOD(SUBSCRIBE), FIELD_BASE64, MEMBER(info)},
	{"tags", METHODS_TO_WRITE, FIELD_TAGS, MEMBER(tags)},
	{"skip_history", METHODS_TO_WRITE, FIELD_BOOL, MEMBER(skip_history)},
	{"idempotency_key", METHODS_TO_WRITE, FIELD_STRING, MEMBER(idempotency_key)},
	{"version", METHODS_TO_WRITE, FIELD_U64, MEMBER(version)},
	{"version_epoch", METHODS_TO_WRITE, FIELD_STRING, MEMBER(version_epoch)},
	{"delta", METHODS_TO_WRITE, FIELD_BOOL, MEMBER(delta)},
	{"limit", METHOD(HISTORY), FIELD_I32, MEMBER(limit)},
	{"reverse", METHOD(HISTORY), FIELD_BOOL, MEMBER(reverse)},
	{"since", METHOD(HISTORY), FIELD_SINCE, 0},
	{"recover_since", METHOD(SUBSCRIBE), FIELD_SINCE, 0},
	{"pattern", METHOD(CHANNELS), FIELD_STRING, MEMBER(pattern)},
	{"user", METHODS_ON_USER, FIELD_STRING, MEMBER(user)},
	{"client", METHODS_ON_USER, FIELD_STRING, MEMBER(client)},
	{"session", METHODS_ON_USER, FIELD_STRING, MEMBER(session)},
	{"expire_at", METHOD(SUBSCRIBE) | METHOD(REFRESH), FIELD_U64, MEMBER(expire_at)},
	{"expired", METHOD(REFRESH), FIELD_BOOL, MEMBER(expired)},
	{"override", METHOD(SUBSCRIBE), FIELD_OVERRIDE, 0},
	{"whitelist", METHOD(DISCONNECT), FIELD_WHITELIST, 0},
	{"disconnect", METHOD(DISCONNECT), FIELD_DISCONNECT, 0},
	{"method", METHOD(RPC), FIELD_STRING, MEMBER(rpc_method)},
};

#define FIELD_COUNT (sizeof(fields) / sizeof(fields[0]))

static bool take_value(struct http_api_request *request, const struct field *field,
		       struct slice raw)
{
	void *member = (char *)request + field->member;

	switch (field->type) {
	case FIELD_STRING: return take_string(request, raw, member);
	case FIELD_RAW: *(struct slice *)member = raw; return true;
	case FIELD_BOOL: return json_get_bool(raw, member);
	case FIELD_U64: return json_get_u64(raw, member);
	case FIELD_I32: return json_get_i32(raw, member);
	case FIELD_CHANNELS:
		return take_names(request, raw, &request->channels, HTTP_API_CHANNELS_MAX);
	case FIELD_WHITELIST:
		return take_names(request, raw, &request->whitelist, HTTP_API_WHITELIST_MAX);
	case FIELD_TAGS: return take_tags(raw, member);
	case FIELD_SINCE: return take_since(request, raw);
	case FIELD_DISCONNECT: return take_disconnect(request, raw);
	case FIELD_OVERRIDE: return take_override(request, raw);
	case FIELD_BASE64: return take_base64(request, raw, member);
	}
	return false;
}

/* base64 fields are only noted in `late`, which has room for one of each name. */
static bool take_field(struct http_api_request *request, struct slice key, struct slice value,
		       struct slice *late)
{
	if (json_kind_of(value) == JSON_KIND_NULL)
		return true;
	for (size_t i = 0; i < FIELD_COUNT; i++) {
		if (!(fields[i].methods & 1u << request->method) ||
		    !json_string_is(key, fields[i].name))
			continue;
		if (fields[i].type != FIELD_BASE64)
			return take_value(request, &fields[i], value);
		late[i] = value;
		return true;
	}
	return true;
}

bool http_api_request_parse(enum http_api_method method, struct slice body,
			    struct http_api_request *request)
{
	struct slice late[FIELD_COUNT] = {{0}};
	struct slice key, value;
	struct json_walk it;

	*request = (struct http_api_request){.method = method, .override = TOKEN_OVERRIDE_NONE};
	/* No string decodes to more bytes than it has; base64 is decoded once more. */
	buffer_reserve(&request->text, body.len * 2 + 1);
	json_object_begin(&it, body);
	while (json_object_next(&it, &key, &value))
		if (!take_field(request, key, value, late))
			return false;
	if (!json_walk_ok(&it))
		return false;
	for (size_t i = 0; i < FIELD_COUNT; i++)
		if (late[i].len > 0 && !take_value(request, &fields[i], late[i]))
			return false;
	return true;
}

void http_api_request_free(struct http_api_request *request)
{
	free(request->channels.items);
	free(request->whitelist.items);
	buffer_free(&request->text);
	*request = (struct http_api_request){0};
}

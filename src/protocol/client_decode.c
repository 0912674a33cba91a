/* SPDX-License-Identifier: ISC */
/*
 * Decodes client commands from JSON. One pass over the bytes of every ordinary
 * command: fields go straight into the struct as they are scanned, by one table
 * per request. Runs in the workers on bytes from anybody. Payloads are only
 * pointed at; the scratch buffer is grown before the first string goes in and
 * never again, so no slice into it can go stale.
 */
#include "client_codec.h"
#include "json_scan.h"

enum field_type {
	FIELD_STRING,
	FIELD_RAW,
	FIELD_OBJECT,
	FIELD_BOOL,
	FIELD_U64,
	FIELD_I64,
	FIELD_I32,
	FIELD_STRING_MAP, /* raw object, every value a string */
	FIELD_SUBS,       /* raw object, every value decodes by sub_fields */
	FIELD_SINCE,      /* nested object, decodes by since_fields */
};

struct field {
	struct slice name;
	enum field_type type;
	size_t offset; /* in the struct that the table decodes into */
};

struct field_table {
	const struct field *fields;
	size_t count;
};

#define FIELD(wire, kind, member)                                                  \
	{                                                                          \
		SLICE(wire), FIELD_##kind, offsetof(struct client_command, member) \
	}
#define TABLE(array)                                      \
	{                                                 \
		array, sizeof(array) / sizeof((array)[0]) \
	}

static const struct field connect_fields[] = {
	FIELD("token", STRING, token),     FIELD("data", RAW, data),
	FIELD("subs", SUBS, subs),         FIELD("name", STRING, name),
	FIELD("version", STRING, version), FIELD("headers", STRING_MAP, headers),
	FIELD("flag", I64, flag),
};

static const struct field subscribe_fields[] = {
	FIELD("channel", STRING, channel),
	FIELD("token", STRING, token),
	FIELD("recover", BOOL, recover),
	FIELD("epoch", STRING, epoch),
	FIELD("offset", U64, offset),
	FIELD("data", RAW, data),
	FIELD("positioned", BOOL, positioned),
	FIELD("recoverable", BOOL, recoverable),
	FIELD("join_leave", BOOL, join_leave),
	FIELD("delta", STRING, delta),
	FIELD("tf", OBJECT, tf),
	FIELD("flag", I64, flag),
	FIELD("type", I32, type),
};

static const struct field channel_fields[] = {
	FIELD("channel", STRING, channel),
};

static const struct field publish_fields[] = {
	FIELD("channel", STRING, channel),
	FIELD("data", RAW, data),
	FIELD("type", I32, type),
};

static const struct field history_fields[] = {
	FIELD("channel", STRING, channel),
	FIELD("limit", I32, limit),
	FIELD("since", SINCE, since),
	FIELD("reverse", BOOL, reverse),
};

static const struct field rpc_fields[] = {
	FIELD("data", RAW, data),
	FIELD("method", STRING, rpc_method),
};

static const struct field send_fields[] = {
	FIELD("data", RAW, data),
};

static const struct field refresh_fields[] = {
	FIELD("token", STRING, token),
};

static const struct field sub_refresh_fields[] = {
	FIELD("channel", STRING, channel),
	FIELD("token", STRING, token),
	FIELD("type", I32, type),
};

static const struct field since_field_list[] = {
	{SLICE("offset"), FIELD_U64, offsetof(struct client_position, offset)},
	{SLICE("epoch"), FIELD_STRING, offsetof(struct client_position, epoch)},
};

static const struct field_table since_fields = TABLE(since_field_list);

static const struct field sub_field_list[] = {
	{SLICE("recover"), FIELD_BOOL, offsetof(struct client_sub, recover)},
	{SLICE("epoch"), FIELD_STRING, offsetof(struct client_sub, epoch)},
	{SLICE("offset"), FIELD_U64, offsetof(struct client_sub, offset)},
	{SLICE("delta"), FIELD_STRING, offsetof(struct client_sub, delta)},
};

static const struct field_table sub_fields = TABLE(sub_field_list);

static const struct field_table method_fields[CLIENT_METHOD_COUNT] = {
	[CLIENT_METHOD_CONNECT] = TABLE(connect_fields),
	[CLIENT_METHOD_SUBSCRIBE] = TABLE(subscribe_fields),
	[CLIENT_METHOD_UNSUBSCRIBE] = TABLE(channel_fields),
	[CLIENT_METHOD_PUBLISH] = TABLE(publish_fields),
	[CLIENT_METHOD_PRESENCE] = TABLE(channel_fields),
	[CLIENT_METHOD_PRESENCE_STATS] = TABLE(channel_fields),
	[CLIENT_METHOD_HISTORY] = TABLE(history_fields),
	[CLIENT_METHOD_RPC] = TABLE(rpc_fields),
	[CLIENT_METHOD_SEND] = TABLE(send_fields),
	[CLIENT_METHOD_REFRESH] = TABLE(refresh_fields),
	[CLIENT_METHOD_SUB_REFRESH] = TABLE(sub_refresh_fields),
};

static const struct slice method_names[CLIENT_METHOD_COUNT] = {
#define X(name, wire) [CLIENT_METHOD_##name] = {wire, sizeof(wire) - 1},
	CLIENT_METHOD_TABLE(X)
#undef X
};

struct decoder {
	struct json_cursor cursor;
	struct buffer *scratch;
	size_t total; /* length of the text: all its strings decoded take less */
};

static bool decode_object(struct decoder *d, const struct field_table *table, void *out);

/* Decodes a scanned string; without escapes it stays where it is. */
static struct slice decode_text(struct decoder *d, struct slice raw, bool escaped)
{
	if (!escaped)
		return slice_from(raw.data + 1, raw.len - 2);
	if (d->scratch->len == 0)
		buffer_reserve(d->scratch, d->total);
	char *text = d->scratch->data + d->scratch->len;
	size_t len = json_unescape(raw, text);
	d->scratch->len += len;
	return slice_from(text, len);
}

static bool decode_string(struct decoder *d, struct slice *out)
{
	struct slice raw;
	bool escaped;

	json_skip_space(&d->cursor);
	if (!json_scan_string(&d->cursor, &raw, &escaped))
		return false;
	*out = decode_text(d, raw, escaped);
	return true;
}

static bool decode_key(struct decoder *d, struct slice *key)
{
	struct slice raw;
	bool escaped;

	if (!json_scan_key(&d->cursor, &raw, &escaped))
		return false;
	*key = decode_text(d, raw, escaped);
	return true;
}

/* A null counts as if its member were not there. */
static bool skip_null(struct decoder *d, bool *valid)
{
	struct slice raw;

	if (json_peek(&d->cursor) != 'n')
		return false;
	*valid = json_scan_value(&d->cursor, &raw);
	return true;
}

static bool decode_object_raw(struct decoder *d, struct slice *out)
{
	return json_peek(&d->cursor) == '{' && json_scan_value(&d->cursor, out);
}

/* An object whose values are all strings, or all decode by table if that is given. */
static bool decode_map(struct decoder *d, const struct field_table *table, struct slice *out)
{
	enum json_step step;
	bool first = true, valid;
	struct slice text;
	struct client_sub sub;

	json_skip_space(&d->cursor);
	const char *start = d->cursor.at;
	if (!json_enter(&d->cursor, '{'))
		return false;
	while ((step = json_next_item(&d->cursor, '}', &first)) == JSON_STEP_ITEM) {
		if (!decode_key(d, &text))
			return false;
		if (!skip_null(d, &valid))
			valid = table != NULL ? decode_object(d, table, &sub)
					      : decode_string(d, &text);
		if (!valid)
			return false;
	}
	*out = slice_from(start, (size_t)(d->cursor.at - start));
	return step == JSON_STEP_END;
}

static bool decode_since(struct decoder *d, struct client_command *command)
{
	memset(&command->since, 0, sizeof command->since);
	command->has_since = true;
	return decode_object(d, &since_fields, &command->since);
}

static bool decode_field(struct decoder *d, const struct field *field, void *out)
{
	void *member = (char *)out + field->offset;
	struct slice raw;

	switch (field->type) {
	case FIELD_STRING: return decode_string(d, member);
	case FIELD_RAW: return json_scan_value(&d->cursor, member);
	case FIELD_OBJECT: return decode_object_raw(d, member);
	case FIELD_BOOL: return json_scan_value(&d->cursor, &raw) && json_get_bool(raw, member);
	case FIELD_U64: return json_scan_value(&d->cursor, &raw) && json_get_u64(raw, member);
	case FIELD_I64: return json_scan_value(&d->cursor, &raw) && json_get_i64(raw, member);
	case FIELD_I32: return json_scan_value(&d->cursor, &raw) && json_get_i32(raw, member);
	case FIELD_STRING_MAP: return decode_map(d, NULL, member);
	case FIELD_SUBS: return decode_map(d, &sub_fields, member);
	case FIELD_SINCE: return decode_since(d, out);
	}
	return false;
}

static const struct field *find_field(const struct field_table *table, struct slice name)
{
	for (size_t i = 0; i < table->count; i++)
		if (slice_equal(table->fields[i].name, name))
			return &table->fields[i];
	return NULL;
}

/* Decodes an object by a table; fields not in it are validated and left alone. */
static bool decode_object(struct decoder *d, const struct field_table *table, void *out)
{
	enum json_step step;
	bool first = true, valid;
	struct slice key, raw;

	if (!json_enter(&d->cursor, '{'))
		return false;
	while ((step = json_next_item(&d->cursor, '}', &first)) == JSON_STEP_ITEM) {
		if (!decode_key(d, &key))
			return false;
		if (!skip_null(d, &valid)) {
			const struct field *field = find_field(table, key);
			valid = field != NULL ? decode_field(d, field, out)
					      : json_scan_value(&d->cursor, &raw);
		}
		if (!valid)
			return false;
	}
	return step == JSON_STEP_END;
}

static enum client_method find_method(struct slice name)
{
	for (enum client_method m = CLIENT_METHOD_UNKNOWN + 1; m < CLIENT_METHOD_PONG; m++)
		if (slice_equal(method_names[m], name))
			return m;
	return CLIENT_METHOD_UNKNOWN;
}

static void decoder_start(struct decoder *d, struct slice raw, struct buffer *scratch)
{
	d->cursor = json_cursor_over(raw, 0);
	d->scratch = scratch;
	d->total = raw.len;
	buffer_reset(scratch);
}

/* One member of the command's envelope. Sets *several at a second request and stops there. */
static bool decode_member(struct decoder *d, struct client_command *out, bool *several)
{
	struct slice key, raw;
	enum client_method method;
	bool valid;

	if (!decode_key(d, &key))
		return false;
	if (skip_null(d, &valid))
		return valid;
	if (slice_equal(key, SLICE("id")))
		return json_scan_value(&d->cursor, &raw) && json_get_u32(raw, &out->id);
	method = find_method(key);
	if (method == CLIENT_METHOD_UNKNOWN)
		return json_scan_value(&d->cursor, &raw);
	if (out->method != CLIENT_METHOD_UNKNOWN) {
		*several = true;
		return false;
	}
	out->method = method;
	return decode_object(d, &method_fields[method], out);
}

static bool decode_envelope(struct decoder *d, struct client_command *out, bool *several)
{
	enum json_step step;
	bool first = true;

	if (!json_enter(&d->cursor, '{'))
		return false;
	while ((step = json_next_item(&d->cursor, '}', &first)) == JSON_STEP_ITEM)
		if (!decode_member(d, out, several))
			return false;
	return step == JSON_STEP_END && json_at_end(&d->cursor);
}

/*
 * Several requests in one command: rare enough for a second pass. All of them have
 * to decode; they do so from the lowest precedence up, so that the one that counts
 * stays in *out. Of one method given twice the last counts.
 */
static bool decode_several(struct slice raw, struct buffer *scratch, struct client_command *out)
{
	struct slice requests[CLIENT_METHOD_COUNT] = {{NULL, 0}};
	struct decoder d;
	struct json_walk it;
	struct slice key, value, name;
	uint32_t id = 0;

	decoder_start(&d, raw, scratch);
	json_object_begin(&it, raw);
	while (json_object_next(&it, &key, &value)) {
		if (json_kind_of(value) == JSON_KIND_NULL)
			continue;
		name = decode_text(&d, key, memchr(key.data, '\\', key.len) != NULL);
		if (slice_equal(name, SLICE("id")) && !json_get_u32(value, &id))
			return false;
		requests[find_method(name)] = value;
	}
	if (!json_walk_ok(&it))
		return false;
	for (int m = CLIENT_METHOD_PONG - 1; m > CLIENT_METHOD_UNKNOWN; m--) {
		if (requests[m].len == 0)
			continue;
		memset(out, 0, sizeof *out);
		out->id = id;
		out->method = (enum client_method)m;
		d.cursor = json_cursor_over(requests[m], 1);
		if (!decode_object(&d, &method_fields[m], out))
			return false;
	}
	return true;
}

/* What every handler may rely on, beside the types. */
static bool check_command(struct client_command *c)
{
	const struct field_table *table = &method_fields[c->method];

	if (c->method == CLIENT_METHOD_UNKNOWN) {
		if (c->id != 0)
			return false;
		c->method = CLIENT_METHOD_PONG;
		return true;
	}
	if (c->id == 0 && c->method != CLIENT_METHOD_SEND)
		return false;
	return c->channel.len > 0 || find_field(table, SLICE("channel")) == NULL;
}

enum client_decode_result client_command_decode(struct slice raw, struct buffer *scratch,
						struct client_command *out)
{
	struct decoder d;
	bool several = false;

	memset(out, 0, sizeof *out);
	decoder_start(&d, raw, scratch);
	if (!decode_envelope(&d, out, &several) && !(several && decode_several(raw, scratch, out)))
		return CLIENT_DECODE_BAD_REQUEST;
	return check_command(out) ? CLIENT_DECODE_OK : CLIENT_DECODE_BAD_REQUEST;
}

bool client_sub_next(struct json_walk *it, struct buffer *scratch, struct client_sub *sub)
{
	struct slice key, value;
	struct decoder d;

	memset(sub, 0, sizeof *sub);
	if (!json_object_next(it, &key, &value))
		return false;
	/* Enough for the name and the value, so that the name cannot move. */
	decoder_start(&d, slice_from(key.data, (size_t)(value.data + value.len - key.data)),
		      scratch);
	sub->channel = decode_text(&d, key, memchr(key.data, '\\', key.len) != NULL);
	d.cursor.at = value.data;
	d.cursor.depth = 1;
	return json_kind_of(value) == JSON_KIND_NULL || decode_object(&d, &sub_fields, sub);
}

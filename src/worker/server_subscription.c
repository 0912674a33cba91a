/* SPDX-License-Identifier: ISC */
/*
 * A subscription that the server makes for a client, as text: what is kept in
 * Redis until the user comes back, and what tells other workers. Run by the
 * worker. It only reads and writes text.
 */
#include "keepsock/buffer.h"
#include "keepsock/json.h"
#include "worker/client_server_side.h"

/* X(member of token_override) */
#define OVERRIDES(X)             \
	X(presence)              \
	X(join_leave)            \
	X(force_push_join_leave) \
	X(force_positioning)     \
	X(force_recovery)

static void append_override(struct buffer *out, const struct token_override *override)
{
	const char *separator = ",\"override\":{";

#define X(name)                                                                                   \
	if (override->name >= 0) {                                                                \
		buffer_append_str(out, separator);                                                \
		buffer_append_str(out,                                                            \
				  override->name ? "\"" #name "\":true" : "\"" #name "\":false"); \
		separator = ",";                                                                  \
	}
	OVERRIDES(X)
#undef X
	if (*separator == ',' && separator[1] == '\0')
		buffer_append_char(out, '}');
}

void server_subscription_encode(struct buffer *out, const struct server_subscription *subscription)
{
	buffer_append_str(out, "{\"channel\":");
	json_append_string(out, subscription->channel);
	if (subscription->info.len > 0) {
		buffer_append_str(out, ",\"info\":");
		json_append_raw(out, subscription->info);
	}
	if (subscription->data.len > 0) {
		buffer_append_str(out, ",\"data\":");
		json_append_raw(out, subscription->data);
	}
	if (subscription->expires_at > 0) {
		buffer_append_str(out, ",\"expire_at\":");
		buffer_append_u64(out, subscription->expires_at);
	}
	append_override(out, &subscription->override);
	if (subscription->has_since) {
		buffer_append_str(out, ",\"since\":{\"offset\":");
		buffer_append_u64(out, subscription->since_offset);
		buffer_append_str(out, ",\"epoch\":");
		json_append_string(out, subscription->since_epoch);
		buffer_append_char(out, '}');
	}
	buffer_append_char(out, '}');
}

static bool take_override(struct slice json, struct token_override *override)
{
	struct json_walk it;
	struct slice key, value;
	bool on;

	json_object_begin(&it, json);
	while (json_object_next(&it, &key, &value)) {
#define X(name)                                 \
	if (json_string_is(key, #name)) {       \
		if (!json_get_bool(value, &on)) \
			return false;           \
		override->name = on;            \
	}
		OVERRIDES(X)
#undef X
	}
	return json_walk_ok(&it);
}

/* Decoded text goes behind what is there; room for all of it was made before. */
static bool take_string(struct slice raw, struct buffer *text, struct slice *out)
{
	size_t start = text->len;

	if (!json_string_decode(raw, text))
		return false;
	*out = slice_from(text->data + start, text->len - start);
	return true;
}

static bool take_since(struct slice json, struct buffer *text, struct server_subscription *out)
{
	struct slice value;

	if (json_kind_of(json) != JSON_KIND_OBJECT)
		return false;
	out->has_since = true;
	if (json_object_find(json, "offset", &value) && !json_get_u64(value, &out->since_offset))
		return false;
	return !json_object_find(json, "epoch", &value) ||
	       take_string(value, text, &out->since_epoch);
}

static bool take_member(struct slice key, struct slice value, struct buffer *text,
			struct server_subscription *out)
{
	if (json_string_is(key, "channel"))
		return take_string(value, text, &out->channel);
	if (json_string_is(key, "info"))
		out->info = value;
	else if (json_string_is(key, "data"))
		out->data = value;
	else if (json_string_is(key, "expire_at"))
		return json_get_u64(value, &out->expires_at);
	else if (json_string_is(key, "override"))
		return take_override(value, &out->override);
	else if (json_string_is(key, "since"))
		return take_since(value, text, out);
	return true;
}

bool server_subscription_decode(struct slice json, struct buffer *text,
				struct server_subscription *out)
{
	struct json_walk it;
	struct slice key, value;

	*out = (struct server_subscription){.override = TOKEN_OVERRIDE_NONE};
	buffer_reset(text);
	/* At once, so that no slice goes stale; decoded strings are never longer. */
	buffer_reserve(text, json.len + 1);
	json_object_begin(&it, json);
	while (json_object_next(&it, &key, &value)) {
		if (json_kind_of(value) != JSON_KIND_NULL && !take_member(key, value, text, out))
			return false;
	}
	return json_walk_ok(&it) && out->channel.len > 0;
}

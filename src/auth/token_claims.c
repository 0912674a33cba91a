/* SPDX-License-Identifier: ISC */
/*
 * Reads the JSON of a token. Runs in the workers, mostly on bytes that a backend
 * signed, but the header before that is known. One table per object says which
 * members have which type; a member that stands twice makes the object bad (RFC
 * 7519 §4), because another reader could have seen the other one. It must never
 * change a payload.
 */
#include "token_claims.h"

#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/base64.h"
#include "keepsock/json.h"

#define NUMBER_LENGTH_MAX 64

enum field_type {
	FIELD_STRING,     /* decoded: struct slice */
	FIELD_RAW,        /* any value: struct slice */
	FIELD_RAW_STRING, /* raw: struct slice, as the next three */
	FIELD_OBJECT,
	FIELD_STRINGS,  /* an array of strings */
	FIELD_AUDIENCE, /* a string or an array of them */
	FIELD_DATE,     /* double, and a bool */
	FIELD_SECONDS,  /* int64_t, and a bool */
	FIELD_SWITCH,   /* {"value": bool}: int8_t */
};

struct field {
	const char *name;
	enum field_type type;
	size_t offset;
	size_t given; /* of the bool */
};

struct field_table {
	const struct field *fields;
	size_t count; /* at most 32 */
};

#define FIELD(wire, kind, member)                                \
	{                                                        \
		.name = wire, .type = FIELD_##kind,              \
		.offset = offsetof(struct token_claims, member), \
	}
#define TIME_FIELD(wire, kind, member)                                \
	{                                                             \
		.name = wire, .type = FIELD_##kind,                   \
		.offset = offsetof(struct token_claims, member),      \
		.given = offsetof(struct token_claims, has_##member), \
	}
#define SWITCH_FIELD(member)                                       \
	{                                                          \
		.name = #member, .type = FIELD_SWITCH,             \
		.offset = offsetof(struct token_override, member), \
	}
#define TABLE(array)                                      \
	{                                                 \
		array, sizeof(array) / sizeof((array)[0]) \
	}

#define COMMON_FIELDS                                                                          \
	TIME_FIELD("exp", DATE, expires), TIME_FIELD("nbf", DATE, not_before),                 \
		TIME_FIELD("expire_at", SECONDS, expire_at), FIELD("iss", RAW_STRING, issuer), \
		FIELD("aud", AUDIENCE, audience), FIELD("channel", STRING, channel),           \
		FIELD("info", RAW, info), FIELD("b64info", STRING, b64info)

static const struct field connection_fields[] = {
	COMMON_FIELDS,
	FIELD("meta", RAW, meta),
	FIELD("subs", OBJECT, subs),
	FIELD("channels", STRINGS, channels),
};

static const struct field subscription_fields[] = {
	COMMON_FIELDS,
	FIELD("client", STRING, client),
	FIELD("data", RAW, data),
	FIELD("b64data", STRING, b64data),
	FIELD("override", OBJECT, override),
};

/* One channel of subs. */
static const struct field sub_fields[] = {
	FIELD("info", RAW, info),
	FIELD("b64info", STRING, b64info),
	FIELD("data", RAW, data),
	FIELD("b64data", STRING, b64data),
	FIELD("override", OBJECT, override),
};

static const struct field override_fields[] = {
	SWITCH_FIELD(presence),
	SWITCH_FIELD(join_leave),
	SWITCH_FIELD(force_push_join_leave),
	SWITCH_FIELD(force_positioning),
	SWITCH_FIELD(force_recovery),
};

static const struct field_table connection_table = TABLE(connection_fields);
static const struct field_table subscription_table = TABLE(subscription_fields);
static const struct field_table sub_table = TABLE(sub_fields);
static const struct field_table override_table = TABLE(override_fields);

/* ---- values ---- */

static bool take_string(struct slice raw, struct buffer *text, struct slice *out)
{
	size_t before = text->len;

	if (!json_string_decode(raw, text))
		return false;
	*out = slice_from(text->data + before, text->len - before);
	return true;
}

static bool is_array_of_strings(struct slice raw)
{
	struct json_walk it;
	struct slice value;

	json_array_begin(&it, raw);
	while (json_array_next(&it, &value))
		if (json_kind_of(value) != JSON_KIND_STRING)
			return false;
	return json_walk_ok(&it);
}

static bool take_date(struct slice raw, double *out)
{
	char number[NUMBER_LENGTH_MAX + 1];

	if (json_kind_of(raw) != JSON_KIND_NUMBER || raw.len > NUMBER_LENGTH_MAX)
		return false;
	memcpy(number, raw.data, raw.len);
	number[raw.len] = '\0';
	*out = strtod(number, NULL);
	return true;
}

/* {"value": true}; without value it is off, as in Go, where that is the zero value. */
static bool take_switch(struct slice raw, int8_t *out)
{
	struct json_walk it;
	struct slice key, value;
	bool on = false, seen = false;

	json_object_begin(&it, raw);
	while (json_object_next(&it, &key, &value)) {
		if (!json_string_is(key, "value"))
			continue;
		if (seen || (json_kind_of(value) != JSON_KIND_NULL && !json_get_bool(value, &on)))
			return false;
		seen = true;
	}
	*out = on;
	return json_walk_ok(&it);
}

static bool take_value(const struct field *field, struct slice raw, struct buffer *text, char *base)
{
	enum json_kind kind = json_kind_of(raw);
	void *member = base + field->offset;
	bool good = true;

	switch (field->type) {
	case FIELD_STRING: return take_string(raw, text, member);
	case FIELD_RAW: break;
	case FIELD_RAW_STRING: good = kind == JSON_KIND_STRING; break;
	case FIELD_OBJECT: good = kind == JSON_KIND_OBJECT; break;
	case FIELD_STRINGS: good = is_array_of_strings(raw); break;
	case FIELD_AUDIENCE: good = kind == JSON_KIND_STRING || is_array_of_strings(raw); break;
	case FIELD_DATE: return *(bool *)(base + field->given) = take_date(raw, member);
	case FIELD_SECONDS: return *(bool *)(base + field->given) = json_get_i64(raw, member);
	case FIELD_SWITCH: return take_switch(raw, member);
	}
	*(struct slice *)member = raw;
	return good;
}

/* ---- objects ---- */

/* One member of an object; *seen has a bit for every field that came before. */
static bool take_member(const struct field_table *table, struct slice key, struct slice value,
			struct buffer *text, uint32_t *seen, void *base)
{
	for (size_t i = 0; i < table->count; i++) {
		if (!json_string_is(key, table->fields[i].name))
			continue;
		if (*seen & 1u << i)
			return false;
		*seen |= 1u << i;
		return json_kind_of(value) == JSON_KIND_NULL ||
		       take_value(&table->fields[i], value, text, base);
	}
	return true;
}

static bool read_object(const struct field_table *table, struct slice raw, struct buffer *text,
			void *base)
{
	struct json_walk it;
	struct slice key, value;
	uint32_t seen = 0;

	json_object_begin(&it, raw);
	while (json_object_next(&it, &key, &value))
		if (!take_member(table, key, value, text, &seen, base))
			return false;
	return json_walk_ok(&it);
}

/* A claim other than "sub" may also be a whole number, which many databases' users are. */
static bool take_user(const char *claim, struct slice raw, struct buffer *text, struct slice *user)
{
	int64_t number;

	if (json_kind_of(raw) == JSON_KIND_NULL)
		return true;
	if (strcmp(claim, "sub") != 0 && json_get_i64(raw, &number)) {
		*user = raw;
		return true;
	}
	return take_string(raw, text, user);
}

static const char *read_claims(const struct field_table *table, struct slice payload,
			       const char *user_claim, struct buffer *text,
			       struct token_claims *claims)
{
	struct json_walk it;
	struct slice key, value;
	bool has_user = false;
	uint32_t seen = 0;

	*claims = (struct token_claims){0};
	json_object_begin(&it, payload);
	while (json_object_next(&it, &key, &value)) {
		if (json_string_is(key, user_claim)) {
			if (has_user || !take_user(user_claim, value, text, &claims->user))
				return "the user's claim stands twice or is no string";
			has_user = true;
		}
		if (!take_member(table, key, value, text, &seen, claims))
			return "a claim stands twice or has the wrong type";
	}
	return json_walk_ok(&it) ? NULL : "the claims are no JSON object";
}

const char *token_claims_read_connection(struct slice payload, const char *user_claim,
					 struct buffer *text, struct token_claims *claims)
{
	return read_claims(&connection_table, payload, user_claim, text, claims);
}

const char *token_claims_read_subscription(struct slice payload, const char *user_claim,
					   struct buffer *text, struct token_claims *claims)
{
	return read_claims(&subscription_table, payload, user_claim, text, claims);
}

/* In any case of letters: RFC 7519 §5.1 only recommends capitals. */
static bool is_jwt(struct slice raw)
{
	struct slice text = slice_from("jwt", 3);

	if (raw.len != text.len + 2 || raw.data[0] != '"')
		return false;
	for (size_t i = 0; i < text.len; i++)
		if ((raw.data[i + 1] | 0x20) != text.data[i])
			return false;
	return true;
}

bool token_header_read(struct slice header, struct buffer *text, struct slice *algorithm)
{
	struct json_walk it;
	struct slice key, value;
	bool has_algorithm = false, has_type = false;

	json_object_begin(&it, header);
	while (json_object_next(&it, &key, &value)) {
		if (json_string_is(key, "crit"))
			return false;
		if (json_string_is(key, "alg")) {
			if (has_algorithm || !take_string(value, text, algorithm))
				return false;
			has_algorithm = true;
		} else if (json_string_is(key, "typ")) {
			if (has_type || !is_jwt(value))
				return false;
			has_type = true;
		}
	}
	return has_algorithm && json_walk_ok(&it);
}

bool token_claims_embedded(struct slice b64, struct slice raw, struct buffer *text,
			   struct slice *out)
{
	size_t before = text->len;

	*out = raw;
	if (b64.len == 0)
		return true;
	if (!base64_decode(b64, text))
		return false;
	*out = slice_from(text->data + before, text->len - before);
	return json_validate(*out);
}

bool token_claims_override(struct slice raw, struct token_override *out)
{
	*out = TOKEN_OVERRIDE_NONE;
	return raw.len == 0 || read_object(&override_table, raw, NULL, out);
}

/* ---- subs ---- */

struct sub_list {
	struct token_sub *subs;
	size_t count;
	size_t capacity;
};

/* NULL without room for more. */
static struct token_sub *add_sub(struct sub_list *list)
{
	if (list->count == TOKEN_SUBS_MAX)
		return NULL;
	if (list->count == list->capacity) {
		list->capacity = list->capacity > 0 ? list->capacity * 2 : 8;
		list->subs = xrealloc(list->subs, list->capacity * sizeof(*list->subs));
	}
	list->subs[list->count] = (struct token_sub){.override = TOKEN_OVERRIDE_NONE};
	return &list->subs[list->count++];
}

static bool read_sub(struct slice raw, struct buffer *text, struct token_sub *sub)
{
	struct token_claims claims = {0};

	if (json_kind_of(raw) == JSON_KIND_NULL)
		return true;
	return read_object(&sub_table, raw, text, &claims) &&
	       token_claims_embedded(claims.b64info, claims.info, text, &sub->info) &&
	       token_claims_embedded(claims.b64data, claims.data, text, &sub->data) &&
	       token_claims_override(claims.override, &sub->override);
}

static const char *read_subs(struct slice raw, struct buffer *text, struct sub_list *list)
{
	struct json_walk it;
	struct slice key, value;

	json_object_begin(&it, raw);
	while (json_object_next(&it, &key, &value)) {
		struct token_sub *sub = add_sub(list);

		if (sub == NULL)
			return "too many subs";
		if (!take_string(key, text, &sub->channel) || sub->channel.len == 0 ||
		    !read_sub(value, text, sub))
			return "a sub without a name, or with options of the wrong type";
	}
	return NULL;
}

static const char *read_channels(struct slice raw, struct buffer *text, struct sub_list *list)
{
	struct json_walk it;
	struct slice value;

	json_array_begin(&it, raw);
	while (json_array_next(&it, &value)) {
		struct token_sub *sub = add_sub(list);

		if (sub == NULL)
			return "too many channels";
		if (!take_string(value, text, &sub->channel) || sub->channel.len == 0)
			return "a channel without a name";
	}
	return NULL;
}

static int compare_subs(const void *left, const void *right)
{
	const struct slice *a = &((const struct token_sub *)left)->channel;
	const struct slice *b = &((const struct token_sub *)right)->channel;
	int order = memcmp(a->data, b->data, a->len < b->len ? a->len : b->len);

	if (order != 0)
		return order;
	return a->len < b->len ? -1 : a->len > b->len;
}

static bool has_twins(const struct sub_list *list)
{
	for (size_t i = 1; i < list->count; i++)
		if (slice_equal(list->subs[i - 1].channel, list->subs[i].channel))
			return true;
	return false;
}

/* Of channels that stand several times one stays: they say nothing but the name. */
static void remove_twins(struct sub_list *list)
{
	size_t kept = 0;

	for (size_t i = 0; i < list->count; i++)
		if (kept == 0 || !slice_equal(list->subs[kept - 1].channel, list->subs[i].channel))
			list->subs[kept++] = list->subs[i];
	list->count = kept;
}

const char *token_claims_subs(const struct token_claims *claims, struct buffer *text,
			      struct token_sub **subs, size_t *n_subs)
{
	struct sub_list list = {0};
	const char *problem = NULL;
	bool from_channels = false;

	if (claims->subs.len > 0)
		problem = read_subs(claims->subs, text, &list);
	if (problem == NULL && list.count == 0 && claims->channels.len > 0) {
		problem = read_channels(claims->channels, text, &list);
		from_channels = true;
	}
	if (list.count > 1)
		qsort(list.subs, list.count, sizeof(*list.subs), compare_subs);
	if (from_channels)
		remove_twins(&list);
	else if (problem == NULL && has_twins(&list))
		problem = "a channel stands twice in subs";
	*subs = list.subs;
	*n_subs = list.count;
	return problem;
}

/* SPDX-License-Identifier: ISC */
/*
 * What supervisors say to each other, as JSON and back, see peers.h. Pure. What
 * comes from a peer is checked as if it were not one: every member must be
 * there, with its type and within its bounds.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "keepsock/buffer.h"
#include "supervisor/peers.h"

#define VERSION    1
#define NUMBER_MAX ((json_int_t)1 << 53)

#define TO_BOOL(value)   json_boolean(value)
#define TO_NUMBER(value) json_integer((json_int_t)(value))
#define TO_STATE(value)  json_string(ha_state_name(value))

void peer_beat_encode(struct buffer *out, const char *name, const struct peer_beat *beat)
{
	json_t *object =
		json_pack("{s:i, s:s, s:s}", "v", VERSION, "node", name, "heir", beat->heir);
	char *text;

#define X(kind, member, key) (void)json_object_set_new(object, key, TO_##kind(beat->member));
	PEER_BEAT(X)
#undef X
	text = json_dumps(object, JSON_COMPACT);
	json_decref(object);
	if (!text)
		abort(); /* only out of memory: all of it is ours, and ASCII */
	buffer_append_str(out, text);
	buffer_append_char(out, '\n');
	free(text);
}

static bool from_BOOL(const json_t *value, bool *out)
{
	*out = json_is_true(value);
	return json_is_boolean(value);
}

static bool from_NUMBER(const json_t *value, uint64_t *out)
{
	json_int_t number = json_integer_value(value);

	*out = (uint64_t)number;
	return json_is_integer(value) && number >= 0 && number <= NUMBER_MAX;
}

static bool from_STATE(const json_t *value, enum ha_state *out)
{
	int state = json_is_string(value) ? ha_state_parse(json_string_value(value)) : -1;

	*out = state < 0 ? HA_STARTING : (enum ha_state)state;
	return state >= 0;
}

static bool from_name(const json_t *value, char out[PEER_NAME_MAX + 1])
{
	size_t len = json_string_length(value);

	if (!json_is_string(value) || len > PEER_NAME_MAX ||
	    strlen(json_string_value(value)) != len)
		return false;
	memcpy(out, json_string_value(value), len + 1);
	return true;
}

bool peer_beat_decode(const char *line, size_t len, char name[PEER_NAME_MAX + 1],
		      struct peer_beat *beat)
{
	json_t *object = json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL);
	bool good = json_integer_value(json_object_get(object, "v")) == VERSION &&
		    from_name(json_object_get(object, "node"), name) && name[0] &&
		    from_name(json_object_get(object, "heir"), beat->heir);

#define X(kind, member, key) \
	good = good && from_##kind(json_object_get(object, key), &beat->member);
	PEER_BEAT(X)
#undef X
	json_decref(object);
	return good;
}

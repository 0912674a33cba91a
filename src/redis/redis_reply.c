/* SPDX-License-Identifier: ISC */
/*
 * Reading of script replies. Runs in workers; it must never trust that a key
 * holds what keepsock wrote there.
 */
#include <stdlib.h>

#include "keepsock/alloc.h"
#include "redis_reply.h"
#include "redis_text.h"

bool redis_reply_is_array(const redisReply *reply, size_t n)
{
	return reply->type == REDIS_REPLY_ARRAY && reply->elements == n;
}

enum redis_refusal redis_reply_refusal(const redisReply *reply)
{
	if (!redis_reply_is_array(reply, 1) || reply->element[0]->type != REDIS_REPLY_INTEGER)
		return REDIS_REFUSAL_NONE;
	switch (reply->element[0]->integer) {
	case -1: return REDIS_REFUSAL_UNSETTLED;
	case -2: return REDIS_REFUSAL_OTHER_RUN;
	case -3: return REDIS_REFUSAL_FENCED;
	default: return REDIS_REFUSAL_NONE;
	}
}

bool redis_reply_text(const redisReply *reply, struct slice *text)
{
	if (reply->type != REDIS_REPLY_STRING)
		return false;
	*text = slice_from(reply->str, reply->len);
	return true;
}

bool redis_reply_u64(const redisReply *reply, uint64_t *value)
{
	struct slice text;

	if (reply->type == REDIS_REPLY_INTEGER && reply->integer >= 0) {
		*value = (uint64_t)reply->integer;
		return true;
	}
	return redis_reply_text(reply, &text) && redis_take_number(&text, value) && text.len == 0;
}

/* {"<offset>-0", {"d", body}} */
static bool read_entry(const redisReply *entry, struct redis_publication *publication)
{
	struct slice id, body;

	return redis_reply_is_array(entry, 2) && redis_reply_text(entry->element[0], &id) &&
	       redis_take_number(&id, &publication->offset) && slice_is(id, "-0") &&
	       redis_reply_is_array(entry->element[1], 2) &&
	       redis_reply_text(entry->element[1]->element[1], &body) &&
	       redis_envelope_parse_body(body, &publication->body);
}

bool redis_reply_publications(const redisReply *reply, struct redis_publication **publications,
			      size_t *n)
{
	struct redis_publication *read = NULL;

	if (reply->type != REDIS_REPLY_ARRAY)
		return false;
	if (reply->elements > 0)
		read = xcalloc(reply->elements, sizeof(*read));
	for (size_t i = 0; i < reply->elements; i++) {
		if (!read_entry(reply->element[i], &read[i])) {
			free(read);
			return false;
		}
	}
	*publications = read;
	*n = reply->elements;
	return true;
}

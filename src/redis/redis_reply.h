/* SPDX-License-Identifier: ISC */
/*
 * Reading of script replies, strictly: what a script of ours would not have
 * said is refused. Inside the Redis room only.
 */
#ifndef KEEPSOCK_REDIS_REPLY_H
#define KEEPSOCK_REDIS_REPLY_H

#include <hiredis/hiredis.h>

#include "keepsock/redis_scripts.h"

/* What the typed calls say of a reply they cannot read. */
#define REDIS_UNUSABLE "the reply of the script is unusable"

/* What every script may say instead of its own reply. */
enum redis_refusal {
	REDIS_REFUSAL_NONE,
	REDIS_REFUSAL_UNSETTLED, /* {-1}, include/run.lua */
	REDIS_REFUSAL_OTHER_RUN, /* {-2}, continuity.lua */
	REDIS_REFUSAL_FENCED,    /* {-3}, include/fence.lua */
};

enum redis_refusal redis_reply_refusal(const redisReply *reply);

/* An array of exactly n elements. */
bool redis_reply_is_array(const redisReply *reply, size_t n);

bool redis_reply_text(const redisReply *reply, struct slice *text);

/* An integer reply or decimal text. */
bool redis_reply_u64(const redisReply *reply, uint64_t *value);

/* Stream entries. *publications is for free(), NULL when there are none. */
bool redis_reply_publications(const redisReply *reply, struct redis_publication **publications,
			      size_t *n);

#endif

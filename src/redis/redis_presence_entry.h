/* SPDX-License-Identifier: ISC */
/*
 * How a presence entry is written; for the calls that write one. Inside the
 * Redis room only.
 */
#ifndef KEEPSOCK_REDIS_PRESENCE_ENTRY_H
#define KEEPSOCK_REDIS_PRESENCE_ENTRY_H

#include "keepsock/buffer.h"
#include "keepsock/redis_presence.h"

struct redis_request;

/* "<1: join_leave, or 0> <len user> <user><info>" */
void redis_presence_append_entry(struct buffer *out, const struct redis_presence_member *member);

/*
 * The key of the index of a worker's members; REDIS_KEY_RUN when it has no
 * name, since an empty key is one of those that a user may be denied.
 */
void redis_presence_add_index_key(struct redis_request *request, struct slice worker);

#endif

/* SPDX-License-Identifier: ISC */
/*
 * How a presence entry is written; for the calls that write one. Inside the
 * Redis room only.
 */
#ifndef KEEPSOCK_REDIS_PRESENCE_H
#define KEEPSOCK_REDIS_PRESENCE_H

#include "keepsock/buffer.h"
#include "keepsock/redis_scripts.h"

/* "<len user> <user><info>" */
void redis_presence_append_entry(struct buffer *out, const struct redis_presence_member *member);

#endif

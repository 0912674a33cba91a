/* SPDX-License-Identifier: ISC */
/*
 * Reading of INFO: lines "name:value" that end with CR LF, and headings.
 * Runs in workers and in the master. Fields it does not know are nobody's.
 * https://redis.io/docs/latest/commands/info/
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "redis_info.h"

#define ID_PART 20 /* 80 random bits; scripts/continuity.lua does the same */

/* The value of a field; data NULL when there is none. */
static struct slice find_field(struct slice text, struct slice name)
{
	while (text.len > 0) {
		const char *end = memchr(text.data, '\n', text.len);
		size_t line_len = end ? (size_t)(end - text.data) : text.len;
		struct slice line = slice_from(text.data, line_len);

		if (line.len > 0 && line.data[line.len - 1] == '\r')
			line.len--;
		if (line.len > name.len && line.data[name.len] == ':' &&
		    memcmp(line.data, name.data, name.len) == 0)
			return slice_from(line.data + name.len + 1, line.len - name.len - 1);
		line_len += end != NULL;
		text = slice_from(text.data + line_len, text.len - line_len);
	}
	return slice_from(NULL, 0);
}

static bool is_id(struct slice value)
{
	for (size_t i = 0; i < value.len; i++) {
		if (!isalnum((unsigned char)value.data[i]))
			return false;
	}
	return value.len <= REDIS_RUN_MAX;
}

static int id_part(struct slice id)
{
	return id.len < ID_PART ? (int)id.len : ID_PART;
}

const char *redis_info_read(struct slice text, char run[REDIS_RUN_MAX + 1])
{
	struct slice id = find_field(text, SLICE("run_id"));
	struct slice replication = find_field(text, SLICE("master_replid"));

	run[0] = '\0';
	if (slice_equal(find_field(text, SLICE("redis_mode")), SLICE("sentinel")))
		return "this is a Sentinel, not a Redis server: give it as sentinel://";
	if (slice_equal(find_field(text, SLICE("cluster_enabled")), SLICE("1")) ||
	    slice_equal(find_field(text, SLICE("redis_mode")), SLICE("cluster")))
		return "this server is part of a Redis Cluster (cluster_enabled:1), which keepsock "
		       "does not support: use several servers in redis.shards";
	if (slice_equal(find_field(text, SLICE("role")), SLICE("slave")))
		return "this server is a replica, not a master";
	if (id.len == 0 || !is_id(id) || !is_id(replication))
		return "INFO tells no run_id";
	snprintf(run, REDIS_RUN_MAX + 1, "%.*s%.*s", id_part(id), id.data, id_part(replication),
		 replication.data ? replication.data : "");
	return NULL;
}

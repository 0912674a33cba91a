/* SPDX-License-Identifier: ISC */
/*
 * The presence calls: who is on a channel. Runs in workers. Time is what the
 * caller's wall clock says; Redis's own clock only removes whole keys that
 * nobody refreshes any more.
 */
#include <stdlib.h>

#include "keepsock/alloc.h"
#include "keepsock/redis_keys.h"
#include "redis_pool.h"
#include "redis_presence_entry.h"
#include "redis_reply.h"
#include "redis_text.h"

void redis_presence_append_entry(struct buffer *out, const struct redis_presence_member *member)
{
	buffer_append_str(out, member->join_leave ? "1 " : "0 ");
	buffer_append_u64(out, member->user.len);
	buffer_append_char(out, ' ');
	buffer_append_slice(out, member->user);
	buffer_append_slice(out, member->info);
}

static bool read_member(redisReply *const *element, struct redis_presence_member *member)
{
	struct slice entry;
	uint64_t join_leave, len;

	if (!redis_reply_text(element[0], &member->client) ||
	    !redis_reply_text(element[1], &entry) || !redis_take_number(&entry, &join_leave) ||
	    join_leave > 1 || !redis_take_char(&entry, ' ') || !redis_take_number(&entry, &len) ||
	    !redis_take_char(&entry, ' ') || len > entry.len)
		return false;
	member->join_leave = join_leave == 1;
	member->user = redis_take_bytes(&entry, len);
	member->info = entry;
	return true;
}

static bool read_members(const redisReply *reply, struct redis_presence_member **members, size_t *n)
{
	if (reply->type != REDIS_REPLY_ARRAY || reply->elements % 2 != 0)
		return false;
	*n = reply->elements / 2;
	*members = *n > 0 ? xcalloc(*n, sizeof(**members)) : NULL;
	for (size_t i = 0; i < *n; i++) {
		if (!read_member(reply->element + 2 * i, &(*members)[i])) {
			free(*members);
			return false;
		}
	}
	return true;
}

static bool finish_presence(struct redis_request *request, enum redis_result code,
			    const char *error, const redisReply *reply)
{
	struct redis_presence_result result = {.outcome = {code, error}};
	struct redis_presence_member *members = NULL;
	size_t n = 0;
	bool usable = true;

	if (reply) {
		usable = read_members(reply, &members, &n);
		if (!usable)
			result.outcome = (struct redis_outcome){REDIS_RESULT_ERROR, REDIS_UNUSABLE};
	}
	if (reply && usable) {
		result.n_members = n;
		result.members = members;
	} else {
		members = NULL;
	}
	if (request->callback.presence)
		request->callback.presence(request->ctx, &result);
	free(members);
	return usable;
}

static bool finish_presence_stats(struct redis_request *request, enum redis_result code,
				  const char *error, const redisReply *reply)
{
	struct redis_presence_stats_result result = {.outcome = {code, error}};
	bool usable = true;

	if (reply) {
		usable = redis_reply_is_array(reply, 2) &&
			 redis_reply_u64(reply->element[0], &result.n_clients) &&
			 redis_reply_u64(reply->element[1], &result.n_users);
		if (!usable)
			result = (struct redis_presence_stats_result){
				.outcome = {REDIS_RESULT_ERROR, REDIS_UNUSABLE}};
	}
	if (request->callback.presence_stats)
		request->callback.presence_stats(request->ctx, &result);
	return usable;
}

void redis_presence_add_index_key(struct redis_request *request, struct slice worker)
{
	if (worker.len > 0)
		redis_request_add_key(request, worker, redis_key_members);
	else
		redis_request_add(request, SLICE(REDIS_KEY_RUN));
}

/* The two keys of a channel's presence. */
static void add_keys(struct redis_request *request, struct slice channel)
{
	redis_request_add_key(request, channel, redis_key_presence);
	redis_request_add_key(request, channel, redis_key_presence_expire);
}

void redis_presence_get(struct redis_pool *pool, uint64_t affinity, struct slice channel,
			uint64_t now_ms, redis_presence_callback callback, void *ctx)
{
	struct redis_request *request =
		redis_request_new(REDIS_SCRIPT_presence_get, 3, finish_presence, ctx);

	request->callback.presence = callback;
	redis_request_add(request, SLICE(REDIS_KEY_RUN));
	add_keys(request, channel);
	redis_request_add_run(request);
	redis_request_add_u64(request, now_ms);
	redis_pool_submit(pool, affinity, request);
}

void redis_presence_stats(struct redis_pool *pool, uint64_t affinity, struct slice channel,
			  uint64_t now_ms, redis_presence_stats_callback callback, void *ctx)
{
	struct redis_request *request =
		redis_request_new(REDIS_SCRIPT_presence_stats, 3, finish_presence_stats, ctx);

	request->callback.presence_stats = callback;
	redis_request_add(request, SLICE(REDIS_KEY_RUN));
	add_keys(request, channel);
	redis_request_add_run(request);
	redis_request_add_u64(request, now_ms);
	redis_pool_submit(pool, affinity, request);
}

/* Keys and first arguments of both calls that change members. */
static void add_changes(struct redis_request *request, const struct redis_presence_member *members,
			size_t n)
{
	redis_request_add(request, SLICE(REDIS_KEY_RUN));
	redis_request_add(request, SLICE(REDIS_KEY_SEQUENCE));
	redis_presence_add_index_key(request, members[0].worker);
	for (size_t i = 0; i < n; i++)
		add_keys(request, members[i].channel);
	redis_request_add_run(request);
}

void redis_presence_refresh(struct redis_pool *pool, uint64_t affinity, uint64_t ttl_ms,
			    uint64_t now_ms, const struct redis_presence_member *members, size_t n,
			    redis_count_callback callback, void *ctx)
{
	struct redis_request *request = redis_request_new_count(REDIS_SCRIPT_presence_refresh,
								3 + 2 * (unsigned)n, callback, ctx);
	struct buffer entry = {0};

	if (n == 0 || n > REDIS_BATCH_MAX) {
		redis_pool_fail(pool, request, REDIS_RESULT_ERROR, "no member, or too many");
		return;
	}
	add_changes(request, members, n);
	redis_request_add_u64(request, now_ms);
	redis_request_add_u64(request, ttl_ms);
	redis_request_add_key(request, SLICE(""), redis_key_channel); /* the prefix */
	for (size_t i = 0; i < n; i++) {
		buffer_reset(&entry);
		redis_presence_append_entry(&entry, &members[i]);
		redis_request_add(request, members[i].client);
		redis_request_add(request, buffer_slice(&entry));
		redis_request_add(request, members[i].channel);
	}
	buffer_free(&entry);
	redis_pool_submit(pool, affinity, request);
}

void redis_presence_remove(struct redis_pool *pool, uint64_t affinity,
			   const struct redis_presence_member *members, size_t n,
			   redis_count_callback callback, void *ctx)
{
	struct redis_request *request = redis_request_new_count(REDIS_SCRIPT_presence_remove,
								3 + 2 * (unsigned)n, callback, ctx);

	if (n == 0 || n > REDIS_BATCH_MAX) {
		redis_pool_fail(pool, request, REDIS_RESULT_ERROR, "no member, or too many");
		return;
	}
	add_changes(request, members, n);
	redis_request_add_key(request, SLICE(""), redis_key_channel); /* the prefix */
	for (size_t i = 0; i < n; i++) {
		redis_request_add(request, members[i].client);
		redis_request_add(request, members[i].channel);
	}
	redis_pool_submit(pool, affinity, request);
}

void redis_members_move(struct redis_pool *pool, uint64_t affinity, struct slice from,
			struct slice to, struct slice client, const struct slice *channels,
			size_t n, redis_count_callback callback, void *ctx)
{
	struct redis_request *request =
		redis_request_new_count(REDIS_SCRIPT_members_move, 3, callback, ctx);

	redis_request_add(request, SLICE(REDIS_KEY_RUN));
	redis_request_add_key(request, from, redis_key_members);
	redis_request_add_key(request, to, redis_key_members);
	redis_request_add_run(request);
	redis_request_add(request, client);
	for (size_t i = 0; i < n; i++)
		redis_request_add(request, channels[i]);
	redis_pool_submit(pool, affinity, request);
}

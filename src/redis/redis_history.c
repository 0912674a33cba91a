/* SPDX-License-Identifier: ISC */
/*
 * The calls that read a channel: what a subscribe needs, and history. Runs in
 * workers. Bounds that a client chose (offsets up to 2^64 - 1) are turned into
 * stream ids here, so that the scripts never calculate with them.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "keepsock/redis_keys.h"
#include "redis_pool.h"
#include "redis_presence_entry.h"
#include "redis_reply.h"

/* What both calls read from a stream. */
struct page {
	struct slice epoch;
	uint64_t top;
	bool truncated;
	size_t n;
	struct redis_publication *publications; /* owned */
};

/* Three neighbouring elements: epoch, top, entries. */
static bool read_page(const struct redis_request *request, redisReply *const *element,
		      struct page *page)
{
	if (!redis_reply_text(element[0], &page->epoch) || page->epoch.len > REDIS_EPOCH_MAX ||
	    (page->epoch.len > 0) != request->has_epoch ||
	    !redis_reply_u64(element[1], &page->top) ||
	    !redis_reply_publications(element[2], &page->publications, &page->n))
		return false;
	/* One more than the limit was asked for, only to see whether it is there. */
	if (request->has_limit && page->n > request->expected) {
		page->n = request->expected;
		page->truncated = true;
	}
	return true;
}

static void add_stream_id(struct redis_request *request, uint64_t offset)
{
	char id[32];
	int len = snprintf(id, sizeof(id), "%" PRIu64 "-0", offset);

	redis_request_add(request, slice_from(id, (size_t)len));
}

/* -- subscribe ----------------------------------------------------------- */

static bool finish_subscribe(struct redis_request *request, enum redis_result code,
			     const char *error, const redisReply *reply)
{
	struct redis_subscribe_result result = {.outcome = {code, error}};
	struct page page = {0};
	uint64_t joined = 0;
	bool usable = true;

	if (reply) {
		usable = redis_reply_is_array(reply, 5) &&
			 redis_reply_u64(reply->element[0], &result.sequence) &&
			 redis_reply_u64(reply->element[4], &joined) &&
			 read_page(request, reply->element + 1, &page);
		if (usable)
			redis_request_saw_sequence(request, result.sequence);
		else
			result.outcome = (struct redis_outcome){REDIS_RESULT_ERROR, REDIS_UNUSABLE};
	}
	if (usable) {
		result.epoch = page.epoch;
		result.top = page.top;
		result.truncated = page.truncated;
		result.joined = joined == 1;
		result.n_publications = page.n;
		result.publications = page.publications;
	}
	if (request->callback.subscribe)
		request->callback.subscribe(request->ctx, &result);
	free(page.publications);
	return usable;
}

static void add_recovery(struct redis_request *request, const struct redis_subscribe *subscribe)
{
	/* Above the last possible offset there is nothing. */
	bool read =
		subscribe->history && subscribe->recover && subscribe->since_offset < UINT64_MAX;

	if (subscribe->history && subscribe->latest) {
		redis_request_add_u64(request, 1);
		redis_request_add(request, SLICE(""));
		redis_request_add(request, SLICE(""));
		return;
	}
	request->has_limit = true;
	request->expected = subscribe->limit;
	redis_request_add_u64(request, read ? (uint64_t)subscribe->limit + 1 : 0);
	add_stream_id(request, read ? subscribe->since_offset + 1 : 0);
	redis_request_add(request, subscribe->since_epoch);
}

static void add_member(struct redis_request *request, const struct redis_subscribe *subscribe)
{
	struct buffer entry = {0};

	if (!subscribe->presence) {
		for (int i = 0; i < 6; i++)
			redis_request_add(request, SLICE(""));
		return;
	}
	redis_presence_append_entry(&entry, subscribe->presence);
	redis_request_add(request, subscribe->presence->client);
	redis_request_add(request, buffer_slice(&entry));
	redis_request_add_u64(request, subscribe->presence_ttl_ms);
	redis_request_add_u64(request, subscribe->now_ms);
	redis_request_add(request, subscribe->channel);
	buffer_free(&entry);
	redis_request_add_key(request, subscribe->channel, redis_key_channel);
}

void redis_subscribe_read(struct redis_pool *pool, uint64_t affinity,
			  const struct redis_subscribe *subscribe,
			  redis_subscribe_callback callback, void *ctx)
{
	struct redis_request *request =
		redis_request_new(REDIS_SCRIPT_subscribe, 7, finish_subscribe, ctx);

	request->callback.subscribe = callback;
	request->has_epoch = subscribe->history;
	if (subscribe->fence.closed) {
		redis_pool_fail(pool, request, REDIS_RESULT_FENCED, subscribe->fence.closed);
		return;
	}
	redis_request_add(request, SLICE(REDIS_KEY_RUN));
	redis_request_add(request, SLICE(REDIS_KEY_SEQUENCE));
	redis_request_add_key(request, subscribe->channel, redis_key_meta);
	redis_request_add_key(request, subscribe->channel, redis_key_stream);
	redis_request_add_key(request, subscribe->channel, redis_key_presence);
	redis_request_add_key(request, subscribe->channel, redis_key_presence_expire);
	redis_presence_add_index_key(request,
				     subscribe->presence ? subscribe->presence->worker : SLICE(""));
	redis_request_add_run(request);
	redis_request_add_u64(request, subscribe->fence.epoch);
	redis_request_add_u64(request, subscribe->history);
	redis_request_add(request, subscribe->history ? slice_str(subscribe->epoch) : SLICE(""));
	redis_request_add_u64(request, subscribe->meta_ttl_ms);
	add_recovery(request, subscribe);
	add_member(request, subscribe);
	redis_pool_submit(pool, affinity, request);
}

/* -- history ------------------------------------------------------------- */

static bool finish_history(struct redis_request *request, enum redis_result code, const char *error,
			   const redisReply *reply)
{
	struct redis_history_result result = {.outcome = {code, error}};
	struct page page = {0};
	bool usable = true;

	if (reply) {
		usable =
			redis_reply_is_array(reply, 3) && read_page(request, reply->element, &page);
		if (!usable)
			result.outcome = (struct redis_outcome){REDIS_RESULT_ERROR, REDIS_UNUSABLE};
	}
	if (usable) {
		result.epoch = page.epoch;
		result.top = page.top;
		result.truncated = page.truncated;
		result.n_publications = page.n;
		result.publications = page.publications;
	}
	if (request->callback.history)
		request->callback.history(request->ctx, &result);
	free(page.publications);
	return usable;
}

/* The command and its two bounds; false when no offset can be between them. */
static bool add_range(struct redis_request *request, const struct redis_history *history)
{
	bool possible = true;

	redis_request_add(request, history->reverse ? SLICE("XREVRANGE") : SLICE("XRANGE"));
	if (!history->has_since) {
		redis_request_add(request, history->reverse ? SLICE("+") : SLICE("-"));
	} else if (history->reverse) {
		possible = history->since_offset > 0;
		add_stream_id(request, possible ? history->since_offset - 1 : 0);
	} else {
		possible = history->since_offset < UINT64_MAX;
		add_stream_id(request, possible ? history->since_offset + 1 : 0);
	}
	redis_request_add(request, history->reverse ? SLICE("-") : SLICE("+"));
	return possible;
}

void redis_history(struct redis_pool *pool, uint64_t affinity, const struct redis_history *history,
		   redis_history_callback callback, void *ctx)
{
	struct redis_request *request =
		redis_request_new(REDIS_SCRIPT_history, 3, finish_history, ctx);
	bool read;

	request->callback.history = callback;
	request->has_epoch = true;
	redis_request_add(request, SLICE(REDIS_KEY_RUN));
	redis_request_add_key(request, history->channel, redis_key_meta);
	redis_request_add_key(request, history->channel, redis_key_stream);
	redis_request_add_run(request);
	redis_request_add(request, slice_str(history->epoch));
	redis_request_add_u64(request, history->meta_ttl_ms);
	read = add_range(request, history) && history->limit != 0;
	request->has_limit = history->limit >= 0;
	request->expected = request->has_limit ? (uint64_t)history->limit : 0;
	if (!read)
		redis_request_add_u64(request, 0);
	else if (!request->has_limit || history->limit == INT64_MAX)
		redis_request_add(request, SLICE("-1"));
	else
		redis_request_add_u64(request, request->expected + 1);
	redis_request_add(request, history->has_since ? history->since_epoch : SLICE(""));
	redis_pool_submit(pool, affinity, request);
}

void redis_history_remove(struct redis_pool *pool, uint64_t affinity, struct redis_fence fence,
			  struct slice channel, redis_count_callback callback, void *ctx)
{
	struct redis_request *request =
		redis_request_new_count(REDIS_SCRIPT_history_remove, 2, callback, ctx);

	if (fence.closed) {
		redis_pool_fail(pool, request, REDIS_RESULT_FENCED, fence.closed);
		return;
	}
	redis_request_add(request, SLICE(REDIS_KEY_RUN));
	redis_request_add_key(request, channel, redis_key_stream);
	redis_request_add_run(request);
	redis_request_add_u64(request, fence.epoch);
	redis_pool_submit(pool, affinity, request);
}

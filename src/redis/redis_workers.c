/* SPDX-License-Identifier: ISC */
/*
 * The calls by which workers know of each other: heartbeats, the purge of who
 * died, the list of all. Runs in workers.
 */
#include <stdlib.h>

#include "keepsock/alloc.h"
#include "keepsock/redis_continuity.h"
#include "keepsock/redis_envelope.h"
#include "keepsock/redis_keys.h"
#include "redis_generation.h"
#include "redis_pool.h"
#include "redis_reply.h"

#define KEYS_TTL_MS UINT64_C(3600000) /* of a worker's keys, after its last heartbeat */
#define LOST_TTL_MS UINT64_C(120000)  /* of sessions after their worker was purged */
#define PURGE_LIMIT 200               /* members in one step: 2 to 4 ms of Redis's time */

/* -- heartbeat ----------------------------------------------------------- */

static bool read_heartbeat(const redisReply *reply, struct redis_heartbeat_result *result,
			   struct slice **silent)
{
	uint64_t registered, probed;
	const redisReply *names;

	if (!redis_reply_is_array(reply, 5) ||
	    !redis_reply_u64(reply->element[0], &result->sequence) ||
	    !redis_reply_text(reply->element[1], &result->generation) ||
	    result->generation.len != REDIS_GENERATION_LENGTH ||
	    !redis_reply_u64(reply->element[2], &registered) ||
	    !redis_reply_u64(reply->element[3], &probed) ||
	    reply->element[4]->type != REDIS_REPLY_ARRAY)
		return false;
	result->registered = registered == 1;
	result->probed = probed == 1;
	names = reply->element[4];
	*silent = names->elements > 0 ? xcalloc(names->elements, sizeof(**silent)) : NULL;
	for (size_t i = 0; i < names->elements; i++) {
		if (!redis_reply_text(names->element[i], &(*silent)[i]))
			return false;
	}
	result->n_silent = names->elements;
	result->silent = *silent;
	return true;
}

static bool finish_heartbeat(struct redis_request *request, enum redis_result code,
			     const char *error, const redisReply *reply)
{
	struct redis_heartbeat_result result = {.outcome = {code, error}};
	struct slice *silent = NULL;
	bool usable = !reply || read_heartbeat(reply, &result, &silent);

	if (!usable)
		result = (struct redis_heartbeat_result){
			.outcome = {REDIS_RESULT_ERROR, REDIS_UNUSABLE}};
	if (request->callback.heartbeat)
		request->callback.heartbeat(request->ctx, &result);
	free(silent);
	return usable;
}

void redis_heartbeat(struct redis_pool *pool, uint64_t affinity,
		     const struct redis_heartbeat *heartbeat, redis_heartbeat_callback callback,
		     void *ctx)
{
	struct redis_request *request =
		redis_request_new(REDIS_SCRIPT_heartbeat, 7, finish_heartbeat, ctx);
	const struct redis_body body = {.data = heartbeat->worker};
	struct buffer text = {0};

	request->callback.heartbeat = callback;
	redis_request_add(request, SLICE(REDIS_KEY_RUN));
	redis_request_add(request, SLICE(REDIS_KEY_SEQUENCE));
	redis_request_add(request, SLICE(REDIS_KEY_WORKERS));
	redis_request_add(request, SLICE(REDIS_KEY_PURGING));
	redis_request_add_key(request, heartbeat->worker, redis_key_members);
	redis_request_add_key(request, heartbeat->worker, redis_key_sessions);
	redis_request_add_key(request, heartbeat->worker, redis_key_done);
	redis_request_add_run(request);
	redis_request_add(request, heartbeat->worker);
	redis_request_add_u64(request, heartbeat->max_seen);
	redis_request_add_u64(request, heartbeat->node_timeout_ms);
	redis_request_add_u64(request, heartbeat->probe_interval_ms);
	redis_generation_add_fresh(request);
	redis_request_add_u64(request, KEYS_TTL_MS);
	redis_request_add(request, SLICE(REDIS_PROBE_CHANNEL));
	redis_envelope_append_body(&text, &body);
	redis_request_add(request, buffer_slice(&text));
	buffer_free(&text);
	redis_pool_submit(pool, affinity, request);
}

/* -- purge --------------------------------------------------------------- */

static bool read_purge(const redisReply *reply, struct redis_purge_result *result)
{
	uint64_t begun;

	if (!redis_reply_is_array(reply, 3) || !redis_reply_u64(reply->element[0], &begun) ||
	    !redis_reply_u64(reply->element[1], &result->removed) ||
	    !redis_reply_u64(reply->element[2], &result->left))
		return false;
	result->begun = begun == 1;
	return true;
}

static bool finish_purge(struct redis_request *request, enum redis_result code, const char *error,
			 const redisReply *reply)
{
	struct redis_purge_result result = {.outcome = {code, error}};
	bool usable = !reply || read_purge(reply, &result);

	if (!usable)
		result = (struct redis_purge_result){
			.outcome = {REDIS_RESULT_ERROR, REDIS_UNUSABLE}};
	if (request->callback.purge)
		request->callback.purge(request->ctx, &result);
	return usable;
}

void redis_purge(struct redis_pool *pool, uint64_t affinity, const struct redis_purge *purge,
		 redis_purge_callback callback, void *ctx)
{
	struct redis_request *request =
		redis_request_new(REDIS_SCRIPT_purge, 10, finish_purge, ctx);

	request->callback.purge = callback;
	redis_request_add(request, SLICE(REDIS_KEY_RUN));
	redis_request_add(request, SLICE(REDIS_KEY_SEQUENCE));
	redis_request_add(request, SLICE(REDIS_KEY_WORKERS));
	redis_request_add(request, SLICE(REDIS_KEY_PURGING));
	redis_request_add_key(request, purge->worker, redis_key_members);
	redis_request_add_key(request, purge->worker, redis_key_purged);
	redis_request_add_key(request, purge->worker, redis_key_sessions);
	redis_request_add_key(request, purge->worker, redis_key_done);
	redis_request_add_key(request, purge->worker, redis_key_lost_sessions);
	redis_request_add(request, SLICE(REDIS_KEY_LOST));
	redis_request_add_run(request);
	redis_request_add(request, purge->worker);
	redis_request_add_u64(request, purge->dead);
	redis_request_add_u64(request, purge->node_timeout_ms);
	redis_request_add_u64(request, PURGE_LIMIT);
	redis_request_add_key(request, SLICE(""), redis_key_presence);
	redis_request_add_key(request, SLICE(""), redis_key_presence_expire);
	redis_request_add_key(request, SLICE(""), redis_key_channel);
	redis_request_add_u64(request, LOST_TTL_MS);
	redis_pool_submit(pool, affinity, request);
}

/* -- all of them --------------------------------------------------------- */

static bool read_workers(const redisReply *reply, struct redis_worker_entry *workers, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		redisReply *const *element = reply->element + 3 * i;

		if (!redis_reply_text(element[0], &workers[i].name) ||
		    !redis_reply_u64(element[1], &workers[i].silent_ms) ||
		    !redis_reply_u64(element[2], &workers[i].max_seen))
			return false;
	}
	return true;
}

static bool finish_workers(struct redis_request *request, enum redis_result code, const char *error,
			   const redisReply *reply)
{
	struct redis_workers_result result = {.outcome = {code, error}};
	struct redis_worker_entry *workers = NULL;
	bool usable = true;

	if (reply) {
		size_t n = reply->elements / 3;

		usable = redis_reply_is_array(reply, 3 * n);
		workers = usable && n > 0 ? xcalloc(n, sizeof(*workers)) : NULL;
		usable = usable && read_workers(reply, workers, n);
		if (usable) {
			result.n_workers = n;
			result.workers = workers;
		} else {
			result.outcome = (struct redis_outcome){REDIS_RESULT_ERROR, REDIS_UNUSABLE};
		}
	}
	if (request->callback.workers)
		request->callback.workers(request->ctx, &result);
	free(workers);
	return usable;
}

void redis_workers_read(struct redis_pool *pool, uint64_t affinity, redis_workers_callback callback,
			void *ctx)
{
	struct redis_request *request =
		redis_request_new(REDIS_SCRIPT_workers, 1, finish_workers, ctx);

	request->callback.workers = callback;
	redis_request_add(request, SLICE(REDIS_KEY_WORKERS));
	redis_pool_submit(pool, affinity, request);
}

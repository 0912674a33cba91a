/* SPDX-License-Identifier: ISC */
/*
 * The calls of the registry: sessions of workers, subscriptions of users. Runs
 * in workers. It never looks into the JSON that it carries.
 */
#include <stdlib.h>

#include "keepsock/alloc.h"
#include "keepsock/redis_keys.h"
#include "keepsock/redis_registry.h"
#include "redis_pool.h"
#include "redis_reply.h"

#define SESSIONS_TTL_MS UINT64_C(3600000) /* the heartbeat goes on with it */
#define SESSIONS_PAGE   500
#define NAMES_PAGE      500

/* {name, value, name, value, ...}: as many pairs of slices, for free(). NULL: none, or false. */
static bool read_pairs(const redisReply *reply, struct slice (**pairs)[2], size_t *n)
{
	*n = 0;
	*pairs = NULL;
	if (reply->type != REDIS_REPLY_ARRAY || reply->elements % 2 != 0)
		return false;
	if (reply->elements == 0)
		return true;
	*pairs = xcalloc(reply->elements / 2, sizeof(**pairs));
	for (size_t i = 0; i < reply->elements; i++) {
		if (!redis_reply_text(reply->element[i], &(*pairs)[i / 2][i % 2]))
			return false;
	}
	*n = reply->elements / 2;
	return true;
}

/* -- sessions ------------------------------------------------------------ */

void redis_sessions_write(struct redis_pool *pool, uint64_t affinity, struct slice worker,
			  const struct redis_session *sessions, size_t n,
			  redis_count_callback callback, void *ctx)
{
	struct redis_request *request =
		redis_request_new_count(REDIS_SCRIPT_sessions_write, 1, callback, ctx);

	if (n == 0 || n > REDIS_BATCH_MAX) {
		redis_pool_fail(pool, request, REDIS_RESULT_ERROR, "no session, or too many");
		return;
	}
	redis_request_add_key(request, worker, redis_key_sessions);
	redis_request_add_u64(request, SESSIONS_TTL_MS);
	for (size_t i = 0; i < n; i++) {
		redis_request_add(request, sessions[i].client);
		redis_request_add(request, sessions[i].json);
	}
	redis_pool_submit(pool, affinity, request);
}

static bool finish_sessions(struct redis_request *request, enum redis_result code,
			    const char *error, const redisReply *reply)
{
	struct redis_sessions_result result = {.outcome = {code, error}};
	struct redis_session *sessions = NULL;
	struct slice(*pairs)[2] = NULL;
	size_t n = 0;
	bool usable = true;

	if (reply)
		usable = redis_reply_is_array(reply, 2) &&
			 redis_reply_u64(reply->element[0], &result.cursor) &&
			 read_pairs(reply->element[1], &pairs, &n);
	if (!usable)
		result = (struct redis_sessions_result){
			.outcome = {REDIS_RESULT_ERROR, REDIS_UNUSABLE}};
	if (usable && n > 0) {
		sessions = xcalloc(n, sizeof(*sessions));
		for (size_t i = 0; i < n; i++)
			sessions[i] = (struct redis_session){pairs[i][0], pairs[i][1]};
		result.n_sessions = n;
		result.sessions = sessions;
	}
	if (request->callback.sessions)
		request->callback.sessions(request->ctx, &result);
	free(sessions);
	free(pairs);
	return usable;
}

void redis_sessions_read(struct redis_pool *pool, uint64_t affinity, struct slice worker,
			 uint64_t cursor, redis_sessions_callback callback, void *ctx)
{
	struct redis_request *request =
		redis_request_new(REDIS_SCRIPT_sessions_read, 1, finish_sessions, ctx);

	request->callback.sessions = callback;
	redis_request_add_key(request, worker, redis_key_sessions);
	redis_request_add_u64(request, cursor);
	redis_request_add_u64(request, SESSIONS_PAGE);
	redis_pool_submit(pool, affinity, request);
}

/* -- what a worker has there --------------------------------------------- */

/* {name, ...}: as many slices, for free(); NULL: none, or false. */
static bool read_names(const redisReply *reply, struct slice **names, size_t *n)
{
	*n = 0;
	*names = NULL;
	if (reply->type != REDIS_REPLY_ARRAY)
		return false;
	if (reply->elements == 0)
		return true;
	*names = xcalloc(reply->elements, sizeof(**names));
	for (size_t i = 0; i < reply->elements; i++) {
		if (!redis_reply_text(reply->element[i], &(*names)[i]))
			return false;
	}
	*n = reply->elements;
	return true;
}

static bool finish_names(struct redis_request *request, enum redis_result code, const char *error,
			 const redisReply *reply)
{
	struct redis_names_result result = {.outcome = {code, error}};
	struct slice *names = NULL;
	bool usable = true;

	if (reply)
		usable = redis_reply_is_array(reply, 2) &&
			 redis_reply_u64(reply->element[0], &result.cursor) &&
			 read_names(reply->element[1], &names, &result.n_names);
	result.names = names;
	if (!usable)
		result = (struct redis_names_result){
			.outcome = {REDIS_RESULT_ERROR, REDIS_UNUSABLE}};
	if (request->callback.names)
		request->callback.names(request->ctx, &result);
	free(names);
	return usable;
}

void redis_names_read(struct redis_pool *pool, uint64_t affinity, struct slice worker,
		      enum redis_worker_key key, uint64_t cursor, redis_names_callback callback,
		      void *ctx)
{
	static void (*const keys[])(struct buffer *, struct slice) = {
		[REDIS_WORKER_MEMBERS] = redis_key_members,
		[REDIS_WORKER_DONE] = redis_key_done,
		[REDIS_WORKER_SESSIONS] = redis_key_sessions,
	};
	struct redis_request *request =
		redis_request_new(REDIS_SCRIPT_names_read, 1, finish_names, ctx);

	request->callback.names = callback;
	redis_request_add_key(request, worker, keys[key]);
	redis_request_add_u64(request, cursor);
	redis_request_add_u64(request, NAMES_PAGE);
	redis_pool_submit(pool, affinity, request);
}

/* -- subscriptions of users ---------------------------------------------- */

static bool finish_set(struct redis_request *request, enum redis_result code, const char *error,
		       const redisReply *reply)
{
	struct redis_count_result result = {.outcome = {code, error}};
	bool usable = true;

	if (reply && redis_reply_is_array(reply, 1))
		result.outcome = (struct redis_outcome){
			REDIS_RESULT_REFUSED, "the user has too many subscriptions already"};
	else if (reply)
		usable = redis_reply_u64(reply, &result.count);
	if (!usable)
		result.outcome = (struct redis_outcome){REDIS_RESULT_ERROR, REDIS_UNUSABLE};
	if (request->callback.count)
		request->callback.count(request->ctx, &result);
	return usable;
}

static void add_user_keys(struct redis_request *request, struct redis_fence fence,
			  struct slice user)
{
	redis_request_add(request, SLICE(REDIS_KEY_RUN));
	redis_request_add_key(request, user, redis_key_user_subscriptions);
	redis_request_add_run(request);
	redis_request_add_u64(request, fence.epoch);
}

void redis_user_subscription_set(struct redis_pool *pool, uint64_t affinity,
				 struct redis_fence fence, struct slice user,
				 const struct redis_user_subscription *subscription,
				 uint64_t ttl_ms, uint64_t limit, redis_count_callback callback,
				 void *ctx)
{
	struct redis_request *request =
		redis_request_new(REDIS_SCRIPT_user_subscription_set, 2, finish_set, ctx);

	request->callback.count = callback;
	if (fence.closed) {
		redis_pool_fail(pool, request, REDIS_RESULT_FENCED, fence.closed);
		return;
	}
	add_user_keys(request, fence, user);
	redis_request_add(request, subscription->channel);
	redis_request_add(request, subscription->json);
	redis_request_add_u64(request, ttl_ms);
	redis_request_add_u64(request, limit);
	redis_pool_submit(pool, affinity, request);
}

void redis_user_subscription_remove(struct redis_pool *pool, uint64_t affinity,
				    struct redis_fence fence, struct slice user,
				    struct slice channel, redis_count_callback callback, void *ctx)
{
	struct redis_request *request =
		redis_request_new_count(REDIS_SCRIPT_user_subscription_remove, 2, callback, ctx);

	if (fence.closed) {
		redis_pool_fail(pool, request, REDIS_RESULT_FENCED, fence.closed);
		return;
	}
	add_user_keys(request, fence, user);
	redis_request_add(request, channel);
	redis_pool_submit(pool, affinity, request);
}

static bool finish_user_subscriptions(struct redis_request *request, enum redis_result code,
				      const char *error, const redisReply *reply)
{
	struct redis_user_subscriptions_result result = {.outcome = {code, error}};
	struct redis_user_subscription *subscriptions = NULL;
	struct slice(*pairs)[2] = NULL;
	size_t n = 0;
	bool usable = !reply || read_pairs(reply, &pairs, &n);

	if (!usable)
		result.outcome = (struct redis_outcome){REDIS_RESULT_ERROR, REDIS_UNUSABLE};
	if (n > 0) {
		subscriptions = xcalloc(n, sizeof(*subscriptions));
		for (size_t i = 0; i < n; i++)
			subscriptions[i] =
				(struct redis_user_subscription){pairs[i][0], pairs[i][1]};
		result.n_subscriptions = n;
		result.subscriptions = subscriptions;
	}
	if (request->callback.user_subscriptions)
		request->callback.user_subscriptions(request->ctx, &result);
	free(subscriptions);
	free(pairs);
	return usable;
}

void redis_user_subscription_get(struct redis_pool *pool, uint64_t affinity, struct slice user,
				 uint64_t ttl_ms, redis_user_subscriptions_callback callback,
				 void *ctx)
{
	struct redis_request *request = redis_request_new(REDIS_SCRIPT_user_subscriptions, 1,
							  finish_user_subscriptions, ctx);

	request->callback.user_subscriptions = callback;
	redis_request_add_key(request, user, redis_key_user_subscriptions);
	redis_request_add_u64(request, ttl_ms);
	redis_pool_submit(pool, affinity, request);
}

/* SPDX-License-Identifier: ISC */
/*
 * The calls by which workers judge a run of Redis. Runs in workers. All
 * judgement is the script's; here are only its words.
 */
#include "keepsock/redis_continuity.h"
#include "keepsock/redis_envelope.h"
#include "keepsock/redis_keys.h"
#include "redis_generation.h"
#include "redis_pool.h"
#include "redis_reply.h"

const char *redis_continuity_state_name(enum redis_continuity_state state)
{
	static const char *const names[] = {
#define X(name, text) [REDIS_CONTINUITY_##name] = (text),
		REDIS_CONTINUITY_STATES(X)
#undef X
	};

	return names[state];
}

void redis_generation_add_fresh(struct redis_request *request)
{
	char letters[REDIS_EPOCH_LENGTH + 1];

	redis_epoch_generate(letters);
	redis_request_add(request, slice_from(letters, REDIS_GENERATION_LENGTH));
}

static bool read_continuity(const redisReply *reply, struct redis_continuity_result *result)
{
	uint64_t state, registered;

	if (!redis_reply_is_array(reply, 6) || !redis_reply_u64(reply->element[0], &state) ||
	    state > REDIS_CONTINUITY_RENEWED ||
	    !redis_reply_u64(reply->element[1], &result->start) ||
	    !redis_reply_text(reply->element[2], &result->run) ||
	    !redis_reply_text(reply->element[3], &result->generation) ||
	    !redis_reply_u64(reply->element[4], &registered) ||
	    !redis_reply_text(reply->element[5], &result->why))
		return false;
	result->state = (enum redis_continuity_state)state;
	result->registered = registered == 1;
	return state == REDIS_CONTINUITY_PENDING ||
	       (result->run.len > 0 && result->run.len <= REDIS_RUN_MAX &&
		result->generation.len == REDIS_GENERATION_LENGTH);
}

static bool finish_continuity(struct redis_request *request, enum redis_result code,
			      const char *error, const redisReply *reply)
{
	struct redis_continuity_result result = {.outcome = {code, error}};
	bool usable = !reply || read_continuity(reply, &result);

	if (!usable)
		result = (struct redis_continuity_result){
			.outcome = {REDIS_RESULT_ERROR, REDIS_UNUSABLE}};
	if (request->callback.continuity)
		request->callback.continuity(request->ctx, &result);
	return usable;
}

void redis_continuity(struct redis_pool *pool, uint64_t affinity,
		      const struct redis_continuity *report, redis_continuity_callback callback,
		      void *ctx)
{
	struct redis_request *request =
		redis_request_new(REDIS_SCRIPT_continuity, 4, finish_continuity, ctx);

	request->callback.continuity = callback;
	redis_request_add(request, SLICE(REDIS_KEY_RUN));
	redis_request_add(request, SLICE(REDIS_KEY_SEQUENCE));
	redis_request_add(request, SLICE(REDIS_KEY_WORKERS));
	redis_request_add(request, SLICE(REDIS_KEY_EXPECTED));
	redis_request_add_run(request);
	redis_request_add(request, report->worker);
	redis_request_add(request, report->own_run);
	redis_request_add_u64(request, report->max_seen);
	redis_request_add(request, report->own_generation);
	redis_generation_add_fresh(request);
	redis_request_add_u64(request,
			      report->wait_ms ? report->wait_ms : REDIS_CONTINUITY_WAIT_MS);
	redis_request_add_u64(request, report->role_epoch);
	redis_pool_submit(pool, affinity, request);
}

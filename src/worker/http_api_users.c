/* SPDX-License-Identifier: ISC */
/*
 * The API's commands on users: subscribe, unsubscribe, disconnect and refresh.
 * Run by the worker. Each is a survey that acts: success says that every live
 * worker of every node has done it; short of that the answer is error 100 and
 * the caller repeats, which is harmless. A subscription of the user as a whole
 * is first written to Redis, so that it holds for later connections too.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/log.h"
#include "keepsock/redis_registry.h"
#include "worker/client_server_side.h"
#include "worker/http_api.h"
#include "worker/role.h"
#include "worker/shards.h"
#include "worker/survey.h"

/* Longer ids of users belong to nobody who could have connected. */
#define USER_MAX    4096u
#define ID_MAX      255u
#define CLIENT_TEXT 36u /* an id of a client, RFC 9562 §4 */
/* What a close frame has room for beside the code (RFC 6455 §5.5). */
#define REASON_MAX 123u
#define CODE_MIN   3000u
#define CODE_MAX   4999u

struct user_call {
	struct http_api_call call;
	const char *op; /* of the survey; static text */
	json_t *args;   /* owned */
};

static json_t *text_of(struct slice text)
{
	return json_stringn(text.data ? text.data : "", text.len);
}

/* Takes args over. */
static struct user_call *call_new(struct http_api_exchange *exchange, const char *op, json_t *args)
{
	struct user_call *call;

	if (!args)
		abort();
	call = http_api_call_new(sizeof(*call), exchange);
	call->op = op;
	call->args = args;
	return call;
}

static void call_fail(struct user_call *call, uint32_t code)
{
	json_decref(call->args);
	http_api_call_fail(&call->call, code);
}

/* Everybody has to have understood it too: a worker that does not know the command says null. */
static bool all_did(const json_t *answers)
{
	const json_t *answer;
	size_t i;

	json_array_foreach(answers, i, answer)
	{
		if (!json_is_object(json_object_get(answer, "result")))
			return false;
	}
	return true;
}

static void on_done(void *ctx, json_t *answers, bool complete, const char *error)
{
	struct user_call *call = ctx;

	if (!complete || error || !all_did(answers)) {
		log_warning("user_command_incomplete op=%s answers=%zu reason=%s", call->op,
			    json_array_size(answers), log_value_str(error ? error : "missing"));
		metric_add(METRIC_user_commands_incomplete_total, 1);
		call_fail(call, CLIENT_ERROR_INTERNAL);
		return;
	}
	metric_add(METRIC_user_commands_total, 1);
	json_decref(call->args);
	http_api_result_empty(&call->call);
}

static void act(struct user_call *call)
{
	survey_ask(call->call.worker->survey, call->op, call->args, SURVEY_EVERY_WORKER, on_done,
		   call);
}

/* Redis has it: now those who are connected. */
static void on_written(void *ctx, const struct redis_count_result *result)
{
	struct user_call *call = ctx;

	role_note(call->call.worker, &result->outcome);
	if (result->outcome.code == REDIS_RESULT_OK) {
		act(call);
		return;
	}
	if (result->outcome.code == REDIS_RESULT_ERROR)
		log_error("redis_command_failed api_method=%s error=%s",
			  http_api_method_name(http_api_call_method(&call->call)),
			  log_value_str(result->outcome.error));
	call_fail(call, result->outcome.code == REDIS_RESULT_REFUSED ? CLIENT_ERROR_LIMIT_EXCEEDED
								     : CLIENT_ERROR_INTERNAL);
}

static json_t *target_args(const struct http_api_request *request)
{
	return json_pack("{s:o, s:o, s:o}", "user", text_of(request->user), "client",
			 text_of(request->client), "session", text_of(request->session));
}

/* It concerns the user as such, and not one connection. */
static bool whole_user(const struct http_api_request *request)
{
	return request->client.len == 0 && request->session.len == 0;
}

static uint32_t target_error(const struct http_api_request *request)
{
	return request->user.len == 0 || request->user.len > USER_MAX ||
			       request->client.len > ID_MAX || request->session.len > ID_MAX
		       ? CLIENT_ERROR_BAD_REQUEST
		       : 0;
}

/* --- subscribe, unsubscribe --- */

static uint32_t subscribe_error(const struct worker *w, const struct http_api_request *request)
{
	uint32_t code = target_error(request);

	if (!code)
		code = http_api_channel_error(w, request->channel, NULL);
	if (!code &&
	    (request->undecodable || request->info.len > CLIENT_INFO_MAX ||
	     request->data.len > CLIENT_INFO_MAX || request->since_epoch.len > REDIS_EPOCH_MAX))
		code = CLIENT_ERROR_BAD_REQUEST;
	return code;
}

uint32_t http_api_subscribe(struct http_api_exchange *exchange,
			    const struct http_api_request *request)
{
	struct worker *w = exchange->base.worker;
	uint32_t code = subscribe_error(w, request);
	struct server_subscription subscription = {
		.channel = request->channel,
		.info = request->info,
		.data = request->data,
		.expires_at = request->expire_at,
		.override = request->override,
		.has_since = request->has_since,
		.since_epoch = request->since_epoch,
		.since_offset = request->since_offset,
	};
	struct redis_user_subscription kept = {.channel = request->channel};
	struct user_call *call;
	json_t *args;

	if (code)
		return code;
	buffer_reset(&w->scratch);
	server_subscription_encode(&w->scratch, &subscription);
	args = target_args(request);
	json_object_set_new(args, "subscription", text_of(buffer_slice(&w->scratch)));
	call = call_new(exchange, "user_subscribe", args);
	if (!whole_user(request)) {
		act(call);
		return 0;
	}
	/* Where to recover from is for those who are connected now. */
	subscription.has_since = false;
	buffer_reset(&w->scratch);
	server_subscription_encode(&w->scratch, &subscription);
	kept.json = buffer_slice(&w->scratch);
	redis_user_subscription_set(worker_control_pool(w), http_api_affinity(exchange),
				    role_fence(w), request->user, &kept,
				    (uint64_t)w->settings.client.server_subscription_ttl,
				    (uint64_t)w->settings.client.channel_limit, on_written, call);
	return 0;
}

uint32_t http_api_unsubscribe(struct http_api_exchange *exchange,
			      const struct http_api_request *request)
{
	struct worker *w = exchange->base.worker;
	uint32_t code = target_error(request);
	struct user_call *call;
	json_t *args;

	if (!code && request->channel.len > 0)
		code = http_api_channel_error(w, request->channel, NULL);
	if (code)
		return code;
	args = target_args(request);
	json_object_set_new(args, "channel", text_of(request->channel));
	call = call_new(exchange, "user_unsubscribe", args);
	if (whole_user(request))
		redis_user_subscription_remove(worker_control_pool(w), http_api_affinity(exchange),
					       role_fence(w), request->user, request->channel,
					       on_written, call);
	else
		act(call);
	return 0;
}

/* --- disconnect --- */

/* SDKs must be able to read code and reason, see client_protocol.h. */
static uint32_t disconnect_error(const struct http_api_request *request)
{
	uint32_t code = request->disconnect_code;
	bool bad = (code != 0 && (code < CODE_MIN || code > CODE_MAX)) ||
		   request->disconnect_reason.len > REASON_MAX ||
		   json_validate(request->disconnect_reason) ||
		   request->whitelist.count > HTTP_API_WHITELIST_MAX;

	return bad ? CLIENT_ERROR_BAD_REQUEST : target_error(request);
}

uint32_t http_api_disconnect(struct http_api_exchange *exchange,
			     const struct http_api_request *request)
{
	uint32_t code = disconnect_error(request);
	json_t *args, *spared;

	if (code)
		return code;
	spared = json_array();
	for (size_t i = 0; i < request->whitelist.count; i++)
		/* Anything else is nobody's id. */
		if (request->whitelist.items[i].len == CLIENT_TEXT)
			json_array_append_new(spared, text_of(request->whitelist.items[i]));
	args = target_args(request);
	json_object_set_new(args, "whitelist", spared);
	json_object_set_new(args, "code",
			    json_integer(request->disconnect_code
						 ? request->disconnect_code
						 : CLIENT_DISCONNECT_FORCE_DISCONNECT));
	json_object_set_new(args, "reason", text_of(request->disconnect_reason));
	act(call_new(exchange, "user_disconnect", args));
	return 0;
}

/* --- refresh --- */

uint32_t http_api_refresh(struct http_api_exchange *exchange,
			  const struct http_api_request *request)
{
	uint32_t code = target_error(request);
	json_t *args;

	if (!code && (request->info.len > CLIENT_INFO_MAX || request->expire_at > INT64_MAX))
		code = CLIENT_ERROR_BAD_REQUEST;
	if (code)
		return code;
	args = target_args(request);
	json_object_set_new(args, "expired", json_boolean(request->expired));
	json_object_set_new(args, "expire_at", json_integer((json_int_t)request->expire_at));
	json_object_set_new(args, "info", text_of(request->info));
	act(call_new(exchange, "user_refresh", args));
	return 0;
}

/* SPDX-License-Identifier: ISC */
/*
 * The API's history, history_remove, presence and presence_stats: what Redis
 * keeps of a channel. Run by the worker. Payloads are given out byte for byte as
 * they were published.
 */
#include <string.h>

#include "keepsock/clock.h"
#include "worker/http_api.h"
#include "worker/role.h"
#include "worker/shards.h"

/* --- history --- */

struct history_call {
	struct http_api_call call;
	char since_epoch[REDIS_EPOCH_MAX];
	size_t since_epoch_length;
};

static void append_member(struct buffer *out, const char *name, struct slice raw)
{
	if (raw.len == 0)
		return;
	buffer_append_str(out, name);
	buffer_append_slice(out, raw);
}

static void append_publication(struct buffer *out, const struct redis_publication *publication)
{
	buffer_append_str(out, "{\"offset\":");
	buffer_append_u64(out, publication->offset);
	append_member(out, ",\"data\":", publication->body.data);
	append_member(out, ",\"info\":", publication->body.info);
	append_member(out, ",\"tags\":", publication->body.tags);
	buffer_append_str(out, "}");
}

static void on_history(void *ctx, const struct redis_history_result *result)
{
	struct history_call *call = ctx;
	struct slice since = slice_from(call->since_epoch, call->since_epoch_length);
	struct buffer *out;

	if (!http_api_call_goes_on(&call->call, &result->outcome))
		return;
	if (since.len > 0 && !slice_equal(since, result->epoch)) {
		http_api_call_fail(&call->call, CLIENT_ERROR_UNRECOVERABLE_POSITION);
		return;
	}
	out = http_api_result_begin(&call->call);
	buffer_append_str(out, "{\"publications\":[");
	for (size_t i = 0; i < result->n_publications; i++) {
		if (i > 0)
			buffer_append_str(out, ",");
		append_publication(out, &result->publications[i]);
	}
	buffer_append_str(out, "],\"epoch\":");
	json_append_string(out, result->epoch);
	buffer_append_str(out, ",\"offset\":");
	buffer_append_u64(out, result->top);
	buffer_append_str(out, "}");
	http_api_result_end(&call->call);
}

static uint32_t history_error(const struct worker *w, const struct http_api_request *request,
			      const struct channel_options **options)
{
	uint32_t code = http_api_channel_error(w, request->channel, options);

	if (!code && ((*options)->history_size == 0 || (*options)->history_ttl == 0))
		code = CLIENT_ERROR_NOT_AVAILABLE;
	return code;
}

uint32_t http_api_history(struct http_api_exchange *exchange,
			  const struct http_api_request *request)
{
	struct worker *w = exchange->base.worker;
	const struct channel_options *options;
	uint32_t code = history_error(w, request, &options);
	char epoch[REDIS_EPOCH_LENGTH + 1];
	struct redis_history history = {
		.channel = request->channel,
		.epoch = epoch,
		.limit = request->limit,
		.reverse = request->reverse,
		.has_since = request->has_since,
		.since_offset = request->since_offset,
		.since_epoch = request->since_epoch,
	};
	struct history_call *call;

	if (code)
		return code;
	if (request->since_epoch.len > REDIS_EPOCH_MAX)
		return CLIENT_ERROR_UNRECOVERABLE_POSITION;
	/* Nothing can lie before the first publication. */
	if (request->reverse && request->has_since && request->since_offset == 0)
		return CLIENT_ERROR_BAD_REQUEST;
	history.meta_ttl_ms = (uint64_t)options->history_meta_ttl;
	redis_epoch_generate(epoch);
	call = http_api_call_new(sizeof(*call), exchange);
	call->since_epoch_length = request->since_epoch.len;
	if (request->since_epoch.len > 0)
		memcpy(call->since_epoch, request->since_epoch.data, request->since_epoch.len);
	redis_history(worker_pool(w, request->channel), REDIS_ANY, &history, on_history, call);
	return 0;
}

static void on_removed(void *ctx, const struct redis_count_result *result)
{
	struct http_api_call *call = ctx;

	/* Before the call ends: nobody may be left to be answered. */
	role_note(call->worker, &result->outcome);
	if (http_api_call_goes_on(call, &result->outcome))
		http_api_result_empty(call);
}

uint32_t http_api_history_remove(struct http_api_exchange *exchange,
				 const struct http_api_request *request)
{
	struct worker *w = exchange->base.worker;
	const struct channel_options *options;
	uint32_t code = history_error(w, request, &options);

	if (code)
		return code;
	redis_history_remove(worker_pool(w, request->channel), http_api_affinity(exchange),
			     role_fence(w), request->channel, on_removed,
			     http_api_call_new(sizeof(struct http_api_call), exchange));
	return 0;
}

/* --- presence --- */

static void on_presence(void *ctx, const struct redis_presence_result *result)
{
	struct http_api_call *call = ctx;
	struct buffer *out;

	if (!http_api_call_goes_on(call, &result->outcome))
		return;
	out = http_api_result_begin(call);
	buffer_append_str(out, "{\"presence\":{");
	for (size_t i = 0; i < result->n_members; i++) {
		if (i > 0)
			buffer_append_str(out, ",");
		json_append_string(out, result->members[i].client);
		buffer_append_str(out, ":");
		buffer_append_slice(out, result->members[i].info);
	}
	buffer_append_str(out, "}}");
	http_api_result_end(call);
}

static void on_presence_stats(void *ctx, const struct redis_presence_stats_result *result)
{
	struct http_api_call *call = ctx;
	struct buffer *out;

	if (!http_api_call_goes_on(call, &result->outcome))
		return;
	out = http_api_result_begin(call);
	buffer_append_str(out, "{\"num_clients\":");
	buffer_append_u64(out, result->n_clients);
	buffer_append_str(out, ",\"num_users\":");
	buffer_append_u64(out, result->n_users);
	buffer_append_str(out, "}");
	http_api_result_end(call);
}

static uint32_t presence_error(const struct worker *w, const struct http_api_request *request)
{
	const struct channel_options *options;
	uint32_t code = http_api_channel_error(w, request->channel, &options);

	if (!code && !options->presence)
		code = CLIENT_ERROR_NOT_AVAILABLE;
	return code;
}

uint32_t http_api_presence(struct http_api_exchange *exchange,
			   const struct http_api_request *request)
{
	struct worker *w = exchange->base.worker;
	uint32_t code = presence_error(w, request);

	if (code)
		return code;
	redis_presence_get(worker_pool(w, request->channel), REDIS_ANY, request->channel,
			   clock_wall_ms(), on_presence,
			   http_api_call_new(sizeof(struct http_api_call), exchange));
	return 0;
}

uint32_t http_api_presence_stats(struct http_api_exchange *exchange,
				 const struct http_api_request *request)
{
	struct worker *w = exchange->base.worker;
	uint32_t code = presence_error(w, request);

	if (code)
		return code;
	redis_presence_stats(worker_pool(w, request->channel), REDIS_ANY, request->channel,
			     clock_wall_ms(), on_presence_stats,
			     http_api_call_new(sizeof(struct http_api_call), exchange));
	return 0;
}

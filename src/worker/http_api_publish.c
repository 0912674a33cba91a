/* SPDX-License-Identifier: ISC */
/*
 * The API's publish and broadcast. Run by the worker. Each is one script in
 * every Redis shard concerned, which remembers {connection, request} so that
 * repeating it after a crash publishes nothing twice (DESIGN §3 rule 4). Data
 * passes byte for byte.
 */
#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/log.h"
#include "worker/http_api.h"
#include "worker/publish.h"
#include "worker/shards.h"

_Static_assert(HTTP_API_CHANNELS_MAX <= REDIS_BATCH_MAX, "a broadcast is one script");

struct publish_call {
	struct http_api_call call;
	bool broadcast;
	uint32_t count;   /* channels asked for */
	uint32_t waiting; /* shards that have not answered */
	struct published *published;
};

/* One channel's part. */
struct published {
	uint32_t code; /* error, 0 = none */
	uint64_t offset;
	size_t epoch_length;
	char epoch[REDIS_EPOCH_MAX];
};

/* The channels of a broadcast that are on one shard: one script. */
struct group {
	struct publish_call *call;
	uint32_t count;
	uint32_t indexes[]; /* in the call */
};

static void append_published(struct buffer *out, const struct published *published)
{
	buffer_append_str(out, "{");
	if (published->offset > 0) {
		buffer_append_str(out, "\"offset\":");
		buffer_append_u64(out, published->offset);
		buffer_append_str(out, ",\"epoch\":");
		json_append_string(out, slice_from(published->epoch, published->epoch_length));
	}
	buffer_append_str(out, "}");
}

static void append_responses(struct buffer *out, const struct publish_call *call)
{
	buffer_append_str(out, "{\"responses\":[");
	for (uint32_t i = 0; i < call->count; i++) {
		const struct published *published = &call->published[i];

		buffer_append_str(out, i > 0 ? "," : "");
		if (published->code) {
			buffer_append_str(out, "{\"error\":");
			http_api_append_error(out, published->code);
		} else {
			buffer_append_str(out, "{\"result\":");
			append_published(out, published);
		}
		buffer_append_str(out, "}");
	}
	buffer_append_str(out, "]}");
}

/* Every shard has answered. */
static void answer(struct publish_call *call)
{
	struct published *published = call->published;

	if (!call->broadcast && published[0].code) {
		http_api_call_fail(&call->call, published[0].code);
	} else {
		struct buffer *out = http_api_result_begin(&call->call);

		if (call->broadcast)
			append_responses(out, call);
		else
			append_published(out, published);
		http_api_result_end(&call->call);
	}
	free(published);
}

static void take(struct published *published, const struct redis_published *from)
{
	published->offset = from->offset;
	published->epoch_length = from->epoch.len;
	if (from->epoch.len > 0)
		memcpy(published->epoch, from->epoch.data, from->epoch.len);
}

static void on_published(void *ctx, const struct redis_publish_result *result)
{
	struct group *group = ctx;
	struct publish_call *call = group->call;
	bool ok = result->outcome.code == REDIS_RESULT_OK;

	publish_count(call->call.worker, result);
	if (result->outcome.code == REDIS_RESULT_ERROR)
		log_error("redis_command_failed api_method=%s error=%s",
			  http_api_method_name(http_api_call_method(&call->call)),
			  log_value_str(result->outcome.error));
	for (uint32_t i = 0; i < group->count; i++) {
		struct published *published = &call->published[group->indexes[i]];

		if (ok)
			take(published, &result->channels[i]);
		else
			published->code = CLIENT_ERROR_INTERNAL;
	}
	free(group);
	if (--call->waiting == 0)
		answer(call);
}

/* Publishes on the channels of a group. */
static void start(struct http_api_exchange *exchange, struct group *group,
		  const struct http_api_request *request, const struct slice *names)
{
	struct connection *c = http_api_connection(exchange);
	const struct passport *passport = connection_passport(c);
	struct slice *channels = xcalloc(group->count, sizeof(*channels));
	char id[37];
	const struct publish_order order = {
		.channels = channels,
		.n_channels = group->count,
		.body = {.data = request->data, .tags = request->tags},
		.skip_history = request->skip_history,
		.client = connection_id(passport, id),
		.number = http_api_number(exchange),
		.idempotency_key = request->idempotency_key,
		.version = request->version,
		.version_epoch = request->version_epoch,
	};

	for (uint32_t i = 0; i < group->count; i++)
		channels[i] = names[group->indexes[i]];
	worker_remember(c, channels[0]);
	publish_start(c->worker, connection_affinity(passport), &order, on_published, group);
	free(channels);
}

static struct publish_call *call_new(struct http_api_exchange *exchange, size_t count)
{
	struct publish_call *call = http_api_call_new(sizeof(*call), exchange);

	call->count = (uint32_t)count;
	call->published = xcalloc(count, sizeof(*call->published));
	return call;
}

static struct group *group_new(struct publish_call *call, size_t capacity)
{
	struct group *group = xcalloc(1, sizeof(*group) + capacity * sizeof(group->indexes[0]));

	group->call = call;
	return group;
}

static uint32_t publication_error(const struct http_api_request *request)
{
	if (request->data.len == 0 || request->undecodable ||
	    request->idempotency_key.len > PUBLISH_KEY_MAX ||
	    request->version_epoch.len > PUBLISH_KEY_MAX)
		return CLIENT_ERROR_BAD_REQUEST;
	return request->delta ? CLIENT_ERROR_NOT_AVAILABLE : 0;
}

uint32_t http_api_publish(struct http_api_exchange *exchange,
			  const struct http_api_request *request)
{
	uint32_t code = http_api_channel_error(exchange->base.worker, request->channel, NULL);
	struct publish_call *call;
	struct group *group;

	if (!code)
		code = publication_error(request);
	if (code)
		return code;
	call = call_new(exchange, 1);
	call->waiting = 1;
	group = group_new(call, 1);
	group->count = 1;
	start(exchange, group, request, &request->channel);
	return 0;
}

/* One script for each shard that has channels of it. */
static void start_groups(struct http_api_exchange *exchange, struct publish_call *call,
			 const struct http_api_request *request)
{
	struct worker *w = exchange->base.worker;
	struct group **groups = xcalloc(w->shard_count, sizeof(*groups));
	struct slice *names = request->channels.items;

	for (uint32_t i = 0; i < call->count; i++) {
		struct group **group;

		call->published[i].code = http_api_channel_error(w, names[i], NULL);
		if (call->published[i].code)
			continue;
		group = &groups[worker_shard(w, names[i])->index];
		if (!*group)
			*group = group_new(call, call->count);
		(*group)->indexes[(*group)->count++] = i;
	}
	for (unsigned i = 0; i < w->shard_count; i++)
		call->waiting += groups[i] != NULL;
	if (call->waiting == 0)
		answer(call);
	/* None of them is answered before this returns. */
	for (unsigned i = 0; i < w->shard_count; i++)
		if (groups[i])
			start(exchange, groups[i], request, names);
	free(groups);
}

uint32_t http_api_broadcast(struct http_api_exchange *exchange,
			    const struct http_api_request *request)
{
	uint32_t code = publication_error(request);
	struct publish_call *call;

	if (request->channels.count == 0 || request->channels.count > HTTP_API_CHANNELS_MAX)
		return CLIENT_ERROR_BAD_REQUEST;
	if (code)
		return code;
	call = call_new(exchange, request->channels.count);
	call->broadcast = true;
	start_groups(exchange, call, request);
	return 0;
}

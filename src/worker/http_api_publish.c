/* SPDX-License-Identifier: ISC */
/*
 * The API's publish and broadcast. Run by the worker. Each is one script in
 * Redis, which remembers {connection, request} so that repeating it after a
 * crash publishes nothing twice (DESIGN §3 rule 4). Data passes byte for byte.
 */
#include <stdlib.h>

#include "keepsock/alloc.h"
#include "worker/http_api.h"
#include "worker/publish.h"
#include "worker/shards.h"

_Static_assert(HTTP_API_CHANNELS_MAX <= REDIS_BATCH_MAX, "a broadcast is one script");

struct publish_call {
	struct http_api_call call;
	size_t count;     /* channels asked for */
	uint32_t codes[]; /* the error of each; only those with 0 were given to Redis */
};

static void append_published(struct buffer *out, const struct redis_published *published)
{
	buffer_append_str(out, "{");
	if (published->offset > 0) {
		buffer_append_str(out, "\"offset\":");
		buffer_append_u64(out, published->offset);
		buffer_append_str(out, ",\"epoch\":");
		json_append_string(out, published->epoch);
	}
	buffer_append_str(out, "}");
}

/* `channels` has an entry for each channel without error. */
static void append_responses(struct buffer *out, const struct publish_call *call,
			     const struct redis_published *channels)
{
	buffer_append_str(out, "{\"responses\":[");
	for (size_t i = 0; i < call->count; i++) {
		if (i > 0)
			buffer_append_str(out, ",");
		if (call->codes[i]) {
			buffer_append_str(out, "{\"error\":");
			http_api_append_error(out, call->codes[i]);
		} else {
			buffer_append_str(out, "{\"result\":");
			append_published(out, channels++);
		}
		buffer_append_str(out, "}");
	}
	buffer_append_str(out, "]}");
}

static void answer(struct publish_call *call, const struct redis_published *channels)
{
	struct buffer *out = http_api_result_begin(&call->call);

	if (call->call.method == HTTP_API_BROADCAST)
		append_responses(out, call, channels);
	else
		append_published(out, channels);
	http_api_result_end(&call->call);
}

static void on_published(void *ctx, const struct redis_publish_result *result)
{
	struct publish_call *call = ctx;

	publish_count(result);
	if (http_api_call_goes_on(&call->call, &result->outcome))
		answer(call, result->channels);
}

static void start(struct connection *c, struct publish_call *call,
		  const struct http_api_request *request, const struct slice *channels,
		  size_t count)
{
	const struct passport *passport = connection_passport(c);
	char id[37];
	const struct publish_order order = {
		.channels = channels,
		.n_channels = count,
		.body = {.data = request->data, .tags = request->tags},
		.skip_history = request->skip_history,
		.client = connection_id(passport, id),
		.number = passport->command_number + 1,
	};

	worker_remember(c, channels[0]);
	publish_start(c->worker, connection_affinity(passport), &order, on_published, call);
}

static struct publish_call *call_new(struct connection *c, const struct http_api_request *request,
				     size_t count)
{
	struct publish_call *call =
		http_api_call_new(sizeof(*call) + count * sizeof(call->codes[0]), c, request);

	call->count = count;
	return call;
}

static uint32_t publication_error(const struct http_api_request *request)
{
	if (request->data.len == 0)
		return CLIENT_ERROR_BAD_REQUEST;
	return request->unavailable ? CLIENT_ERROR_NOT_AVAILABLE : 0;
}

uint32_t http_api_publish(struct connection *c, const struct http_api_request *request)
{
	uint32_t code = http_api_channel_error(c->worker, request->channel);

	if (!code)
		code = publication_error(request);
	if (code)
		return code;
	start(c, call_new(c, request, 1), request, &request->channel, 1);
	return 0;
}

uint32_t http_api_broadcast(struct connection *c, const struct http_api_request *request)
{
	uint32_t code = publication_error(request);
	struct publish_call *call;
	struct slice *channels;
	size_t count = 0;

	if (request->n_channels == 0 || request->n_channels > HTTP_API_CHANNELS_MAX)
		return CLIENT_ERROR_BAD_REQUEST;
	if (code)
		return code;
	call = call_new(c, request, request->n_channels);
	channels = xcalloc(request->n_channels, sizeof(*channels));
	for (size_t i = 0; i < request->n_channels; i++) {
		call->codes[i] = http_api_channel_error(c->worker, request->channels[i]);
		if (!call->codes[i])
			channels[count++] = request->channels[i];
	}
	if (count > 0)
		start(c, call, request, channels, count);
	else
		answer(call, NULL);
	free(channels);
	return 0;
}

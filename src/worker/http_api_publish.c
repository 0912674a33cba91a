/* SPDX-License-Identifier: ISC */
/*
 * The API's publish and broadcast. Run by the worker. Each is one script in
 * Redis, which remembers {connection, request} so that repeating it after a
 * crash publishes nothing twice (DESIGN §3 rule 4). Data passes byte for byte.
 */
#include <stdlib.h>

#include "keepsock/alloc.h"
#include "keepsock/redis_keys.h"
#include "worker/http_api.h"
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

	if (result->outcome.code == REDIS_RESULT_OK && !result->duplicate)
		metric_add(METRIC_publications_published_total, result->n_channels);
	if (http_api_call_goes_on(&call->call, &result->outcome))
		answer(call, result->channels);
}

static void start(struct connection *c, struct publish_call *call,
		  const struct http_api_request *request,
		  const struct redis_publish_channel *channels, size_t count)
{
	struct worker *w = c->worker;
	const struct passport *passport = connection_passport(c);
	struct redis_body body = {.data = request->data, .tags = request->tags};
	char id[37], epoch[REDIS_EPOCH_LENGTH + 1];
	struct buffer done_key = {0};
	struct redis_publish publish = {
		.kind = REDIS_MESSAGE_PUBLICATION,
		.epoch = epoch,
		.channels = channels,
		.n_channels = count,
		.client = connection_id(passport, id),
		.number = passport->command_number + 1,
	};

	buffer_reset(&w->scratch);
	redis_envelope_append_body(&w->scratch, &body);
	publish.body = buffer_slice(&w->scratch);
	redis_key_done(&done_key, slice_str(w->start.node), w->start.slot);
	publish.done_key = buffer_slice(&done_key);
	redis_epoch_generate(epoch);
	worker_remember(c, channels[0].channel);
	redis_publish(worker_pool(w, channels[0].channel), connection_affinity(passport), &publish,
		      on_published, call);
	buffer_free(&done_key);
}

static struct redis_publish_channel channel_options(const struct worker *w, struct slice name,
						    bool skip_history)
{
	return (struct redis_publish_channel){
		.channel = name,
		.history_size = skip_history ? 0 : (uint32_t)w->settings.channel.history_size,
		.history_ttl_ms = (uint64_t)w->settings.channel.history_ttl,
		.meta_ttl_ms = (uint64_t)w->settings.channel.history_meta_ttl,
	};
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
	struct redis_publish_channel channel;

	if (!code)
		code = publication_error(request);
	if (code)
		return code;
	channel = channel_options(c->worker, request->channel, request->skip_history);
	start(c, call_new(c, request, 1), request, &channel, 1);
	return 0;
}

uint32_t http_api_broadcast(struct connection *c, const struct http_api_request *request)
{
	uint32_t code = publication_error(request);
	struct redis_publish_channel *channels;
	struct publish_call *call;
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
			channels[count++] = channel_options(c->worker, request->channels[i],
							    request->skip_history);
	}
	if (count > 0)
		start(c, call, request, channels, count);
	else
		answer(call, NULL);
	free(channels);
	return 0;
}

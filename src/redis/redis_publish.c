/* SPDX-License-Identifier: ISC */
/*
 * The calls that publish: messages on channels, control messages, and the
 * memory of clients' last commands. Runs in workers. Formats arguments and
 * reads replies; all decisions are the scripts'.
 */
#include <stdlib.h>

#include "keepsock/alloc.h"
#include "keepsock/redis_keys.h"
#include "redis_pool.h"
#include "redis_reply.h"
#include "redis_text.h"

enum { STATUS_NEW, STATUS_DUPLICATE, STATUS_REFUSED };

/* "<number>" and n times " <sequence> <offset> <epoch or ->" */
static bool read_positions(struct slice text, struct redis_published *channels, size_t n)
{
	uint64_t number;

	if (!redis_take_number(&text, &number))
		return false;
	for (size_t i = 0; i < n; i++) {
		if (!redis_take_char(&text, ' ') ||
		    !redis_take_number(&text, &channels[i].sequence) ||
		    !redis_take_char(&text, ' ') ||
		    !redis_take_number(&text, &channels[i].offset) ||
		    !redis_take_char(&text, ' ') ||
		    !redis_take_epoch(&text, REDIS_EPOCH_MAX, &channels[i].epoch))
			return false;
		channels[i].suppressed = channels[i].sequence == 0;
	}
	return text.len == 0;
}

static bool read_publish(const redisReply *reply, struct redis_published *channels, size_t n,
			 struct redis_publish_result *result)
{
	struct slice text;

	if (reply->type != REDIS_REPLY_ARRAY || reply->elements == 0 ||
	    reply->element[0]->type != REDIS_REPLY_INTEGER)
		return false;
	if (reply->element[0]->integer == STATUS_REFUSED) {
		result->outcome.code = REDIS_RESULT_REFUSED;
		result->outcome.error = "the client has done a later command already";
		return true;
	}
	result->duplicate = reply->element[0]->integer == STATUS_DUPLICATE;
	result->n_channels = n;
	result->channels = channels;
	return reply->elements == 2 && redis_reply_text(reply->element[1], &text) &&
	       read_positions(text, channels, n);
}

static bool finish_publish(struct redis_request *request, enum redis_result code, const char *error,
			   const redisReply *reply)
{
	struct redis_publish_result result = {.outcome = {code, error}};
	struct redis_published *channels = NULL;
	bool usable = true;

	if (reply) {
		channels = xcalloc(request->expected, sizeof(*channels));
		usable = read_publish(reply, channels, request->expected, &result);
		if (!usable)
			result = (struct redis_publish_result){
				.outcome = {REDIS_RESULT_ERROR, REDIS_UNUSABLE}};
	}
	for (size_t i = 0; i < result.n_channels; i++)
		redis_request_saw_sequence(request, channels[i].sequence);
	if (request->callback.publish)
		request->callback.publish(request->ctx, &result);
	free(channels);
	return usable;
}

static void add_channels(struct redis_request *request, const struct redis_publish *publish)
{
	struct buffer name = {0};

	for (size_t i = 0; i < publish->n_channels; i++) {
		const struct redis_publish_channel *channel = &publish->channels[i];
		bool history = publish->kind == REDIS_MESSAGE_PUBLICATION &&
			       channel->history_size > 0 && channel->history_ttl_ms > 0;

		buffer_reset(&name);
		redis_key_channel(&name, channel->channel);
		redis_request_add(request, buffer_slice(&name));
		redis_request_add_u64(request, history ? channel->history_size : 0);
		redis_request_add_u64(request, channel->history_ttl_ms);
		redis_request_add_u64(request, channel->meta_ttl_ms);
	}
	buffer_free(&name);
}

static bool is_idempotent(const struct redis_publish *publish)
{
	return publish->idempotency_key.len > 0 && publish->idempotency_ttl_ms > 0;
}

static void add_keys(struct redis_request *request, const struct redis_publish *publish)
{
	struct buffer key = {0};

	redis_request_add(request, SLICE(REDIS_KEY_RUN));
	redis_request_add(request, SLICE(REDIS_KEY_SEQUENCE));
	/* An empty key is one of those that a user may be denied. */
	redis_request_add(request,
			  publish->client.len > 0 ? publish->done_key : SLICE(REDIS_KEY_RUN));
	for (size_t i = 0; i < publish->n_channels; i++) {
		buffer_reset(&key);
		redis_key_meta(&key, publish->channels[i].channel);
		redis_request_add(request, buffer_slice(&key));
		buffer_reset(&key);
		redis_key_stream(&key, publish->channels[i].channel);
		redis_request_add(request, buffer_slice(&key));
	}
	for (size_t i = 0; is_idempotent(publish) && i < publish->n_channels; i++) {
		buffer_reset(&key);
		redis_key_result(&key, publish->channels[i].channel, publish->idempotency_key);
		redis_request_add(request, buffer_slice(&key));
	}
	buffer_free(&key);
}

void redis_publish(struct redis_pool *pool, uint64_t affinity, const struct redis_publish *publish,
		   redis_publish_callback callback, void *ctx)
{
	unsigned keys = 3 + (is_idempotent(publish) ? 3 : 2) * (unsigned)publish->n_channels;
	struct redis_request *request =
		redis_request_new(REDIS_SCRIPT_publish, keys, finish_publish, ctx);
	char kind = (char)publish->kind;

	request->callback.publish = callback;
	request->expected = publish->n_channels;
	if (publish->n_channels == 0 || publish->n_channels > REDIS_BATCH_MAX) {
		redis_pool_fail(pool, request, REDIS_RESULT_ERROR, "no channel, or too many");
		return;
	}
	if (publish->client.len > 0 && publish->done_key.len == 0) {
		redis_pool_fail(pool, request, REDIS_RESULT_ERROR, "a client without a done key");
		return;
	}
	if (publish->fence.closed) {
		redis_pool_fail(pool, request, REDIS_RESULT_FENCED, publish->fence.closed);
		return;
	}
	add_keys(request, publish);
	redis_request_add_run(request);
	redis_request_add_u64(request, publish->fence.epoch);
	redis_request_add(request, publish->client);
	redis_request_add_u64(request, publish->number);
	redis_request_add(request, slice_from(&kind, 1));
	redis_request_add(request, slice_str(publish->epoch));
	redis_request_add(request, publish->body);
	add_channels(request, publish);
	if (is_idempotent(publish) || publish->version > 0) {
		redis_request_add_u64(request,
				      is_idempotent(publish) ? publish->idempotency_ttl_ms : 0);
		redis_request_add_u64(request, publish->version);
		redis_request_add(request, publish->version_epoch);
	}
	redis_pool_submit_publish(pool, affinity, request);
}

void redis_done_remove(struct redis_pool *pool, uint64_t affinity, struct slice done_key,
		       const struct slice *clients, size_t n, redis_count_callback callback,
		       void *ctx)
{
	struct redis_request *request =
		redis_request_new_count(REDIS_SCRIPT_done_remove, 1, callback, ctx);

	if (n == 0 || n > REDIS_BATCH_MAX) {
		redis_pool_fail(pool, request, REDIS_RESULT_ERROR, "no client, or too many");
		return;
	}
	redis_request_add(request, done_key);
	for (size_t i = 0; i < n; i++)
		redis_request_add(request, clients[i]);
	redis_pool_submit(pool, affinity, request);
}

void redis_role_raise(struct redis_pool *pool, uint64_t epoch, redis_count_callback callback,
		      void *ctx)
{
	struct redis_request *request =
		redis_request_new_count(REDIS_SCRIPT_role, 1, callback, ctx);

	redis_request_add(request, SLICE(REDIS_KEY_RUN));
	redis_request_add_u64(request, epoch);
	redis_pool_submit(pool, REDIS_ANY, request);
}

void redis_control_publish(struct redis_pool *pool, uint64_t affinity, struct slice pubsub_name,
			   struct slice payload, redis_count_callback callback, void *ctx)
{
	struct redis_request *request =
		redis_request_new_count(REDIS_SCRIPT_control, 2, callback, ctx);
	struct redis_body body = {.data = payload};
	struct buffer text = {0};

	redis_envelope_append_body(&text, &body);
	redis_request_add(request, SLICE(REDIS_KEY_RUN));
	redis_request_add(request, SLICE(REDIS_KEY_SEQUENCE));
	redis_request_add_run(request);
	redis_request_add(request, pubsub_name);
	redis_request_add(request, buffer_slice(&text));
	buffer_free(&text);
	redis_pool_submit(pool, affinity, request);
}

/* SPDX-License-Identifier: ISC */
/*
 * The one way from a publication to its script, see publish.h. Run by the worker.
 */
#include "worker/publish.h"

#include <stdlib.h>

#include "keepsock/alloc.h"
#include "keepsock/redis_keys.h"
#include "worker/role.h"
#include "worker/shards.h"

static struct redis_publish_channel channel_of(const struct worker *w, struct slice name,
					       bool skip_history)
{
	const struct channel_options *options = settings_channel_options(&w->settings, name);

	return (struct redis_publish_channel){
		.channel = name,
		.history_size = skip_history ? 0 : (uint32_t)options->history_size,
		.history_ttl_ms = (uint64_t)options->history_ttl,
		.meta_ttl_ms = (uint64_t)options->history_meta_ttl,
	};
}

void publish_start(struct worker *w, uint64_t affinity, const struct publish_order *order,
		   redis_publish_callback callback, void *ctx)
{
	struct redis_publish_channel one, *many = NULL, *channels = &one;
	char epoch[REDIS_EPOCH_LENGTH + 1];
	struct buffer done_key = {0};
	struct redis_publish publish = {
		.fence = role_fence(w),
		.kind = REDIS_MESSAGE_PUBLICATION,
		.epoch = epoch,
		.n_channels = order->n_channels,
		.client = order->client,
		.number = order->number,
		.idempotency_key = order->idempotency_key,
		.idempotency_ttl_ms = (uint64_t)w->settings.http_api.idempotency_result_ttl,
		.version = order->version,
		.version_epoch = order->version_epoch,
	};

	if (order->n_channels > 1)
		channels = many = xcalloc(order->n_channels, sizeof(*many));
	for (size_t i = 0; i < order->n_channels; i++)
		channels[i] = channel_of(w, order->channels[i], order->skip_history);
	publish.channels = channels;
	buffer_reset(&w->scratch);
	redis_envelope_append_body(&w->scratch, &order->body);
	publish.body = buffer_slice(&w->scratch);
	if (order->client.len > 0)
		redis_key_done(&done_key, slice_str(w->worker_name));
	publish.done_key = buffer_slice(&done_key);
	redis_epoch_generate(epoch);
	redis_publish(worker_pool(w, order->channels[0]), affinity, &publish, callback, ctx);
	buffer_free(&done_key);
	free(many);
}

void publish_count(struct worker *w, const struct redis_publish_result *result)
{
	uint64_t suppressed = 0;

	role_note(w, &result->outcome);
	if (result->outcome.code != REDIS_RESULT_OK || result->duplicate)
		return;
	for (size_t i = 0; i < result->n_channels; i++)
		suppressed += result->channels[i].suppressed;
	metric_add(METRIC_publications_published_total, result->n_channels - suppressed);
	metric_add(METRIC_publications_suppressed_total, suppressed);
}

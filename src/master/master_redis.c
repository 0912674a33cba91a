/* SPDX-License-Identifier: ISC */
/*
 * Where Redis is: the embedded one, servers at fixed places, and those whose
 * Sentinels tell. Runs in the master, which tells the workers at their start
 * and whenever it changes; the master itself keeps nothing in Redis.
 */
#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/embedded_redis.h"
#include "keepsock/log.h"
#include "keepsock/magic.h"
#include "keepsock/master.h"
#include "keepsock/node_check.h"
#include "keepsock/node_events.h"
#include "keepsock/node_page.h"
#include "keepsock/secret.h"
#include "keepsock/sentinel.h"
#include "keepsock/worker_slot.h"

#define SENTINEL_SHARD_MAGIC UINT32_C(0x44525348) /* "HSRD" */

/* A shard whose place its Sentinels tell. */
struct sentinel_shard {
	uint32_t magic;
	uint32_t index;
	struct master *master;
	struct sentinel_watch *watch; /* owned; NULL = the shard has a fixed place */
};

static void start_workers(struct master *master)
{
	for (uint32_t i = 0; i < master->worker_count; i++)
		worker_slot_start(&master->workers[i]);
}

static void tell_worker(struct worker_slot *slot, uint32_t shard)
{
	struct buffer text = {0};

	if (ipc_redis_encode(&text, shard, &slot->master->shards[shard]) < 0)
		log_error("redis_encode_failed shard=%u", shard);
	else if (slot->ipc_fd >= 0)
		(void)worker_slot_send(slot, IPC_REDIS, 0, text.data, text.len);
	if (text.data)
		secret_wipe(text.data, text.cap);
	buffer_free(&text);
}

static void tell_workers(struct master *master, uint32_t shard)
{
	for (uint32_t i = 0; i < master->worker_count; i++) {
		tell_worker(&master->workers[i], shard);
		worker_slot_update(&master->workers[i]);
	}
}

void master_redis_tell(struct worker_slot *slot)
{
	for (uint32_t shard = 0; shard < slot->master->shard_count; shard++) {
		if (ipc_redis_known(&slot->master->shards[shard]))
			tell_worker(slot, shard);
	}
}

/* ---- the embedded one: the workers start when it answers ---- */

static void on_embedded_ready(struct master *master)
{
	const struct ipc_redis *endpoint = embedded_redis_endpoint(master->embedded);
	bool first = master->shard_count == 0;

	if (!first && ipc_redis_equal(&master->shards[0], endpoint))
		return;
	ipc_redis_free(&master->shards[0]);
	master->shards[0] = ipc_redis_copy(endpoint);
	master->shard_count = 1;
	if (first)
		start_workers(master);
	else
		tell_workers(master, 0);
}

/* Line by line, so that each can be read in the log. */
static void log_lines(const char *event, const char *text)
{
	while (*text) {
		size_t length = strcspn(text, "\n");

		if (length > 0)
			log_error("%s says=%s", event, log_value(slice_from(text, length)));
		text += length;
		text += *text == '\n';
	}
}

static void on_embedded_event(void *ctx, enum embedded_redis_event event, const char *detail)
{
	struct master *master = ctx;

	MAGIC_CHECK(master, MASTER_MAGIC);
	switch (event) {
	case EMBEDDED_REDIS_READY:
		if (master->phase != MASTER_STOPPING)
			on_embedded_ready(master);
		break;
	case EMBEDDED_REDIS_LOST:
		log_error("embedded_redis_died reason=%s", log_value_str(detail));
		break;
	case EMBEDDED_REDIS_FAILED:
		log_lines("embedded_redis_failed", detail);
		master->exit_status = EXIT_FAILURE;
		master_stop(master, "the embedded Redis did not start");
		break;
	case EMBEDDED_REDIS_ENDED: master_end_loop(master); break;
	}
}

/* ---- Sentinels ---- */

static void on_sentinel_master(void *ctx, const struct sentinel_answer *place)
{
	struct sentinel_shard *shard = ctx;
	struct ipc_redis *redis;

	MAGIC_CHECK(shard, SENTINEL_SHARD_MAGIC);
	redis = &shard->master->shards[shard->index];
	if (ipc_redis_known(redis))
		metric_add(METRIC_redis_master_changes_total, 1);
	node_event_add(NODE_EVENT_REDIS_MOVED, "shard %u: the master is %s:%u", shard->index,
		       place->host, place->port);
	free(redis->host);
	redis->host = xstrdup(place->host);
	redis->port = place->port;
	tell_workers(shard->master, shard->index);
}

/* Nothing to do for a URL without Sentinels. */
static int watch_shard(struct master *master, uint32_t index, const char *password,
		       struct buffer *error)
{
	const char *text = settings_redis_shard_url(&master->settings, index);
	struct settings_redis_url url;
	const char *problem = settings_redis_url_parse(text, &url);
	struct sentinel_shard *shard = &master->sentinel_shards[index];
	struct sentinel_options options = {
		.master_name = url.master_name,
		.sentinels = url.sentinels,
		.sentinel_count = url.sentinel_count,
		.sentinel_password = password,
		.user = master->shards[index].user,
		.password = master->shards[index].password,
		.timeout_ms = (unsigned)master->settings.redis.connect_timeout,
	};

	if (problem) {
		buffer_printf(error, "redis: %s", problem);
		return -1;
	}
	*shard = (struct sentinel_shard){SENTINEL_SHARD_MAGIC, index, master, NULL};
	if (url.sentinel_count > 0)
		shard->watch =
			sentinel_watch_create(master->base, &options, on_sentinel_master, shard);
	settings_redis_url_free(&url);
	return 0;
}

static int watch_sentinels(struct master *master, struct buffer *error)
{
	char *password = node_read_sentinel_password(&master->settings, error);
	int result = password ? 0 : -1;

	if (!password)
		return -1;
	master->sentinel_shards = xcalloc(master->shard_count, sizeof(*master->sentinel_shards));
	for (uint32_t i = 0; i < master->shard_count && result == 0; i++)
		result = watch_shard(master, i, password, error);
	secret_wipe(password, strlen(password));
	free(password);
	return result;
}

const struct sentinel_watch *master_redis_watch(const struct master *master, uint32_t shard)
{
	if (!master->sentinel_shards || shard >= master->shard_count)
		return NULL;
	return master->sentinel_shards[shard].watch;
}

/* ---- life ---- */

static bool has_workers(const struct master *master)
{
	for (uint32_t i = 0; i < master->worker_count; i++) {
		if (master->workers[i].state != WORKER_DOWN)
			return true;
	}
	return false;
}

static int start_embedded(struct master *master, struct buffer *error)
{
	const struct settings *settings = &master->settings;
	const struct embedded_redis_options options = {
		.binary = settings->redis.embedded_binary,
		.state_dir = settings->node.state_dir,
		.run_dir = settings->node.run_dir,
		.node_runs = has_workers(master),
		.only_adopt = master->only_stops,
		.on_event = on_embedded_event,
		.ctx = master,
	};

	master->embedded = embedded_redis_start(master->base, &options, error);
	return master->embedded || error->len == 0 ? 0 : -1;
}

static void free_watches(struct master *master)
{
	for (uint32_t i = 0; master->sentinel_shards && i < master->shard_count; i++)
		sentinel_watch_free(master->sentinel_shards[i].watch);
	free(master->sentinel_shards);
	master->sentinel_shards = NULL;
}

void master_redis_reloaded(struct master *master)
{
	struct buffer error = {0};

	if (node_uses_embedded_redis(&master->settings))
		return;
	free_watches(master);
	if (watch_sentinels(master, &error) < 0)
		log_error("sentinels_not_asked error=%s", log_value_str(buffer_cstr(&error)));
	buffer_free(&error);
}

int master_redis_adopt(struct master *master, struct buffer *error)
{
	return node_uses_embedded_redis(&master->settings) ? start_embedded(master, error) : 0;
}

int master_redis_start(struct master *master, struct buffer *error)
{
	const struct settings *settings = &master->settings;

	if (node_uses_embedded_redis(settings)) {
		return start_embedded(master, error);
	}
	if (node_find_external_redis(settings, master->shards, &master->shard_count, error) < 0 ||
	    watch_sentinels(master, error) < 0)
		return -1;
	/* Also while nobody knows where a master is: clients are let in when Redis is there. */
	start_workers(master);
	return 0;
}

void master_redis_stop(struct master *master)
{
	if (master->embedded)
		embedded_redis_stop(master->embedded);
	else
		master_end_loop(master);
}

void master_redis_free(struct master *master)
{
	embedded_redis_free(master->embedded);
	free_watches(master);
	for (uint32_t i = 0; i < master->shard_count; i++)
		ipc_redis_free(&master->shards[i]);
}

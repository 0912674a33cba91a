/* SPDX-License-Identifier: ISC */
/*
 * Publishing as clients, the HTTP API and the admin socket all do it: the
 * channels' options looked up, the envelope built, the command remembered for
 * who repeats it. Run by the worker. It asks nobody for permission: names and
 * rights are checked before.
 */
#ifndef KEEPSOCK_WORKER_PUBLISH_H
#define KEEPSOCK_WORKER_PUBLISH_H

#include "keepsock/redis_scripts.h"
#include "worker/internal.h"

struct publish_order {
	const struct slice *channels; /* all on one shard, 1 to REDIS_BATCH_MAX */
	size_t n_channels;
	struct redis_body body;
	bool skip_history;
	/* Empty client: Redis does not remember it. Otherwise see struct redis_publish. */
	struct slice client;
	uint64_t number;
	/* The caller's own means against publishing twice, see there too. */
	struct slice idempotency_key;
	uint64_t version;
	struct slice version_epoch;
};

/* A name or an epoch that Redis has to remember is no longer than this. */
#define PUBLISH_KEY_MAX 255u

/* Everything is copied; the callback is redis_publish()'s. Uses w->scratch. */
void publish_start(struct worker *w, uint64_t affinity, const struct publish_order *order,
		   redis_publish_callback callback, void *ctx);

/* For callbacks: counts what was really published, and notes a refusal for the node's role. */
void publish_count(struct worker *w, const struct redis_publish_result *result);

#endif

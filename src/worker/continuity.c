/* SPDX-License-Identifier: ISC */
/*
 * Settling a run of Redis, see continuity.h. Run by the worker, a shard at a
 * time. It decides only whether a subscription connection may go on; what was
 * missed is found by those who know positions.
 */
#include "worker/continuity.h"

#include <string.h>

#include "worker/redis_subscription.h"

static bool same_run(const struct redis_shard *shard)
{
	return strcmp(redis_pool_run_id(shard->pool),
		      redis_subscription_redis_run(shard->subscription)) == 0;
}

void continuity_settle(struct redis_shard *shard)
{
	if (redis_subscription_settling(shard->subscription) && same_run(shard))
		redis_subscription_settled(shard->subscription);
}

void continuity_pool_changed(struct redis_shard *shard)
{
	struct redis_subscription *subscription = shard->subscription;

	if (redis_subscription_settling(subscription))
		continuity_settle(shard);
	else if (redis_subscription_available(subscription) && redis_pool_available(shard->pool) &&
		 !same_run(shard))
		redis_subscription_restart(subscription, "another run of Redis answers commands");
}

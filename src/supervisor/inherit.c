/* SPDX-License-Identifier: ISC */
/*
 * After a node that was lost, see inherit.h. The purge is the node's own command,
 * as its workers know what there is to remove; the addresses of the clients come
 * from Redis (crowd.h) and go to the VIPs, which pace the packets.
 */
#include "supervisor/inherit.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "keepsock/clock.h"
#include "keepsock/ipc_messages.h"
#include "keepsock/log.h"
#include "keepsock/magic.h"
#include "supervisor/crowd.h"
#include "supervisor/supervisor.h"

#define PURGE_ATTEMPTS 5
#define PURGE_RETRY_MS 500
#define PURGE_LIMIT_MS 10000

static void on_purged(void *ctx, const json_t *answer, const char *error)
{
	struct supervisor *s = ctx;

	MAGIC_CHECK(s, SUPERVISOR_MAGIC);
	s->purge_call = NULL;
	if (answer) {
		log_info("purged node=%s ms=%" PRIu64, s->inherited,
			 clock_boottime_ms() - s->inherited_ms);
		s->purge_attempts = 0;
		return;
	}
	log_warning("purge_failed node=%s attempts_left=%u reason=%s", s->inherited,
		    s->purge_attempts, log_value_str(error));
	s->purge_retry_ms = clock_boottime_ms() + PURGE_RETRY_MS;
}

void inherit_progress(struct supervisor *s, uint64_t now)
{
	char command[LEASE_NODE_MAX + 16];

	if (s->purge_attempts == 0 || s->purge_call || now < s->purge_retry_ms)
		return;
	s->purge_attempts--;
	snprintf(command, sizeof(command), "purge %s", s->inherited);
	s->purge_call = node_call_start(s->base, s->settings.admin.socket, command, PURGE_LIMIT_MS,
					on_purged, s);
}

void inherit_begin(struct supervisor *s, const char *node)
{
	inherit_end(s);
	snprintf(s->inherited, sizeof(s->inherited), "%s", node);
	s->inherited_ms = clock_boottime_ms();
	s->purge_attempts = PURGE_ATTEMPTS;
	s->purge_retry_ms = 0;
	inherit_progress(s, s->inherited_ms);
}

/*
 * Whose clients don't know that they have to come back: the lost node's, or our own, where
 * nobody else has been the primary since. NULL: nobody's, or they have been told.
 */
static const char *find_silenced(const struct supervisor *s)
{
	if (s->inherited[0])
		return s->inherited;
	if (s->last_holder[0] || s->settings.cluster.active_active ||
	    addresses_were_there(s->addresses))
		return NULL;
	return s->settings.node.name;
}

static void on_peers(void *ctx, int family, const struct vip_peer *peers, size_t count)
{
	struct supervisor *s = ctx;

	MAGIC_CHECK(s, SUPERVISOR_MAGIC);
	addresses_tickle(s->addresses, family, peers, count);
}

static void on_crowd_done(void *ctx, uint64_t told, const char *error)
{
	struct supervisor *s = ctx;
	const char *node = s->inherited[0] ? s->inherited : s->settings.node.name;

	MAGIC_CHECK(s, SUPERVISOR_MAGIC);
	s->crowd = NULL;
	if (error)
		log_warning("clients_not_known node=%s found=%" PRIu64 " reason=%s", node, told,
			    log_value_str(error));
	else
		log_info("clients_found node=%s count=%" PRIu64, node, told);
}

void inherit_serve(struct supervisor *s)
{
	struct ipc_redis redis;
	struct crowd_options options = {
		.base = s->base,
		.redis = &redis,
		.node = find_silenced(s),
		.timeout_ms = (unsigned)s->timing.hold,
		.on_peers = on_peers,
		.on_done = on_crowd_done,
		.ctx = s,
	};

	if (!options.node || s->settings.cluster.vip.count == 0 ||
	    s->settings.cluster.tickle_rate == 0 || s->crowd)
		return;
	redis = lease_copy_redis(s->lease);
	if (ipc_redis_known(&redis))
		s->crowd = crowd_read(&options);
	ipc_redis_free(&redis);
}

void inherit_end(struct supervisor *s)
{
	crowd_end(s->crowd);
	s->crowd = NULL;
	node_call_cancel(s->purge_call);
	s->purge_call = NULL;
	s->purge_attempts = 0;
	s->inherited[0] = '\0';
}

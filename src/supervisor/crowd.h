/* SPDX-License-Identifier: ISC */
/*
 * The clients of a node that was lost with its host: where they were connected
 * from, as the session registry in Redis has it, for whoever wakes them. Runs in
 * the supervisor of the new primary, on a connection of its own, so that the
 * renewal of the lease waits for none of it.
 */
#ifndef KEEPSOCK_SUPERVISOR_CROWD_H
#define KEEPSOCK_SUPERVISOR_CROWD_H

#include <stddef.h>
#include <stdint.h>

#include "keepsock/vip.h"

struct crowd;
struct event_base;
struct ipc_redis;

struct crowd_options {
	struct event_base *base;
	const struct ipc_redis *redis; /* copied */
	const char *node;              /* copied; whose clients */
	unsigned timeout_ms;           /* of connecting, and of each answer */
	/* Some of them, of one family; one may come twice. */
	void (*on_peers)(void *ctx, int family, const struct vip_peer *peers, size_t count);
	/* All have been told, or (error, else NULL) no more will be. Once; it is over then. */
	void (*on_done)(void *ctx, uint64_t told, const char *error);
	void *ctx;
};

/* Never NULL; the callbacks come from the event loop. */
struct crowd *crowd_read(const struct crowd_options *options);

/* No callback comes any more; not from on_peers. NULL is fine, one that is over is not. */
void crowd_end(struct crowd *crowd);

#endif

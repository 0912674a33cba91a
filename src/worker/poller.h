/* SPDX-License-Identifier: ISC */
/*
 * Watches the sockets of client connections: one epoll set of its own, which the
 * event loop watches in turn. An idle connection then costs no event of the loop
 * (some 170 bytes each). Run by the worker. It knows sockets by the reference
 * they were given with, and owns none of them.
 */
#ifndef KEEPSOCK_WORKER_POLLER_H
#define KEEPSOCK_WORKER_POLLER_H

#include <event2/event.h>
#include <stdbool.h>

#include "keepsock/arena.h"

struct poller;

/*
 * What a socket is ready for: EV_READ, EV_WRITE or both; errors and hang-ups are
 * both. Called once for each ready socket. The callback may change and remove
 * any socket; who was removed may still be reported in the same round, so it
 * has to look whether the reference is still open.
 */
typedef void (*poller_callback)(void *ctx, arena_ref ref, short what);
/* Sockets that are served in one round at most; then the loop turns. */
#define POLLER_ROUND_MAX 128
/* Called when a round's last socket was served. */
typedef void (*poller_round_end)(void *ctx);

/* round_end may be NULL. NULL with errno when the kernel refuses. */
struct poller *poller_create(struct event_base *base, poller_callback callback,
			     poller_round_end round_end, void *ctx);
void poller_free(struct poller *poller);

/*
 * Watches fd from now on for `now` (EV_READ, EV_WRITE, both or 0) instead of
 * `before` (0: not watched). Before the descriptor is closed, `now` has to be 0:
 * a duplicate elsewhere would keep it in the set. False with errno.
 */
bool poller_watch(struct poller *poller, int fd, arena_ref ref, short before, short now);

#endif

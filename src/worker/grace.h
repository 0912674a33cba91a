/* SPDX-License-Identifier: ISC */
/*
 * Deadlines that passed while nobody was there to read: what would have met them
 * may lie in the socket, so their peers get some time once more. Run by a worker
 * that follows another one, or goes on after having been frozen.
 */
#ifndef KEEPSOCK_WORKER_GRACE_H
#define KEEPSOCK_WORKER_GRACE_H

#include <stdbool.h>

struct connection;
struct worker;

/* False: the arena is full, and the connection closed. */
bool grace_grant(struct connection *c);
/* All open connections. */
void grace_grant_all(struct worker *w);

#endif

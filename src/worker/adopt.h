/* SPDX-License-Identifier: ISC */
/*
 * Adoption: a worker goes on where another one of its slot stopped (DESIGN §3,
 * §4), which died or says goodbye. What it has: the arena, the sockets that the
 * keeper held, and, after a death, the kernel's word on the one or two that were
 * in doubt.
 */
#ifndef KEEPSOCK_WORKER_ADOPT_H
#define KEEPSOCK_WORKER_ADOPT_H

#include "worker/internal.h"

struct adoption;

/*
 * The first half, before anything else uses the arena: takes it over, sets
 * w->arena, hub, users and the sockets up, settles what was in doubt. NULL: it is of
 * no use, the keeper was told so, and the worker starts with an arena of its own.
 * Closes the fd.
 */
struct adoption *adopt_begin(struct worker *w, int arena_fd);

/*
 * The same for one that still runs: takes over what the keeper hands over,
 * waits until the predecessor is frozen, and takes the arena from it. Does not
 * return when that fails: then the process ends, and the predecessor goes on.
 */
struct adoption *adopt_take_over(struct worker *w, int arena_fd);

/*
 * The second half, once the shards are open: connections, the fan-out under way,
 * commands. Tells the keeper, and frees *adoption.
 */
void adopt_finish(struct adoption *adoption);

#endif

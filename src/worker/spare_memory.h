/* SPDX-License-Identifier: ISC */
/*
 * What a large message, request or answer made the worker's buffers grow to: a
 * dozen of them each come to hold it in some form, and none is needed for the
 * next ordinary one.
 */
#ifndef KEEPSOCK_WORKER_SPARE_MEMORY_H
#define KEEPSOCK_WORKER_SPARE_MEMORY_H

#include "worker/internal.h"

/* Bytes that a buffer keeps for reuse. */
#define SPARE_MEMORY_KEPT 65536u

/* Every few seconds, gives back what is larger. For the tick: nobody uses a buffer then. */
void spare_memory_tick(struct worker *w);

#endif

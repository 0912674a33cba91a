/* SPDX-License-Identifier: ISC */
/*
 * What Redis keeps under this worker's name for clients that are gone: a
 * predecessor died between a client's end, or that of a subscription, and
 * telling Redis of it. Members leave, with the leave they owe; sessions and
 * remembered commands are forgotten.
 */
#ifndef KEEPSOCK_WORKER_REMAINS_H
#define KEEPSOCK_WORKER_REMAINS_H

#include "worker/internal.h"

struct remains;

/* After an adoption: compares what Redis has with who is here, now and again later. */
void remains_look(struct worker *w);
/* Periodic. */
void remains_tick(struct worker *w);
void remains_free(struct worker *w);

#endif

/* SPDX-License-Identifier: ISC */
/*
 * Sending clients away, evenly until a time in the node page, so that whoever
 * follows this worker goes on where it stopped. Run by the worker. Connections
 * that are no clients' (HTTP, /echo) stay.
 */
#ifndef KEEPSOCK_WORKER_DRAIN_H
#define KEEPSOCK_WORKER_DRAIN_H

#include "worker/internal.h"

void drain_open(struct worker *w);
void drain_close(struct worker *w);

/* There may be something to do from now on. */
void drain_look(struct worker *w);

#endif

/* SPDX-License-Identifier: ISC */
/*
 * The worker's token verifiers, made from its settings and the keys that came
 * with its start.
 */
#ifndef KEEPSOCK_WORKER_TOKENS_H
#define KEEPSOCK_WORKER_TOKENS_H

#include "worker/internal.h"

/* Ends the process with a log line when a key can't be used. */
void tokens_open(struct worker *w);
void tokens_close(struct worker *w);

#endif

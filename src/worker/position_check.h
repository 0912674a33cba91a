/* SPDX-License-Identifier: ISC */
/*
 * The position check: subscribers of a channel whose worker missed publications
 * in silence are found out and told (2500).
 */
#ifndef KEEPSOCK_WORKER_POSITION_CHECK_H
#define KEEPSOCK_WORKER_POSITION_CHECK_H

#include "worker/internal.h"

/* Every tick; it looks at the channels that are due. */
void position_check_tick(struct worker *w);

#endif

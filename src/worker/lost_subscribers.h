/* SPDX-License-Identifier: ISC */
/*
 * Subscribers that can't be given everything any more are told so: 2500 for
 * their own subscriptions, 3010 for what the server gave them. A channel may have
 * any number of them, so they are marked at once and told in slices of the loop;
 * whoever is marked is delivered nothing more.
 */
#ifndef KEEPSOCK_WORKER_LOST_SUBSCRIBERS_H
#define KEEPSOCK_WORKER_LOST_SUBSCRIBERS_H

#include "worker/internal.h"

void lost_subscribers_open(struct worker *w);
void lost_subscribers_close(struct worker *w);

/* Every positioned subscriber the channel has now lost its continuity. */
void lost_subscribers_announce(struct worker *w, struct channel *channel);

/* Whoever a predecessor had marked and not told is told now. */
void lost_subscribers_adopt(struct worker *w);

#endif

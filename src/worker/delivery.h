/* SPDX-License-Identifier: ISC */
/*
 * From Redis messages to fan-outs: collects what one loop turn brings, a group
 * per channel, then runs a fan-out for each group. Knows positions and gaps.
 */
#ifndef KEEPSOCK_WORKER_DELIVERY_H
#define KEEPSOCK_WORKER_DELIVERY_H

#include "keepsock/redis_envelope.h"
#include "keepsock/redis_scripts.h"
#include "worker/internal.h"

struct delivery;

struct delivery *delivery_create(struct redis_shard *shard);
void delivery_free(struct delivery *delivery);

/* A message from the subscription connection; it is copied. */
void delivery_add(struct delivery *delivery, struct slice channel_name,
		  const struct redis_envelope *envelope);
/* Something is waiting to be sent. */
bool delivery_pending(const struct delivery *delivery);
/* Large enough to be sent before more is collected. */
bool delivery_full(const struct delivery *delivery);
/* Runs fan-outs for one slice; true when nothing is left. */
bool delivery_run(struct delivery *delivery);

/*
 * The channel is heard again after a loss of the connection: its missed
 * publications are read from history and delivered, or its subscribers told.
 */
void delivery_catch_up(struct delivery *delivery, struct channel *channel);

/* The channel of the batch that fanout_adopt() found: it goes on before anything else. */
void delivery_adopt(struct delivery *delivery, struct channel *channel);
/* A channel whose record says `behind`: what it missed is read and delivered again. */
void delivery_adopt_behind(struct delivery *delivery, struct channel *channel);

#endif

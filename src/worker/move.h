/* SPDX-License-Identifier: ISC */
/*
 * Connections that change the worker because the number of workers changed
 * (DESIGN §4). The source exports a connection with where its subscriptions
 * stand; the destination hears the same channels since before that, holds what
 * comes, and goes on behind it: nothing is lost, doubled or out of order. Whose a
 * connection is meanwhile, node_moves.h decides, for those who survive, too. Run
 * by the worker; a fan-out waits for connections on offer, at most a moment.
 */
#ifndef KEEPSOCK_WORKER_MOVE_H
#define KEEPSOCK_WORKER_MOVE_H

#include "worker/internal.h"

struct ipc_move_out;
struct move_in;
struct move_out;

/* --- move_out.c: the source --- */
/* Takes the channel over. One at a time: another one is refused at once. */
void move_out_begin(struct worker *w, uint64_t id, const struct ipc_move_out *order, int fd);
/* The end of a loop turn: what was to be served is served. */
void move_out_turn(struct worker *w);
void move_out_free(struct worker *w);
/* A message on the probe's channel. */
void move_out_on_probe(struct worker *w, unsigned shard, struct slice data);
/* It starts nothing new: it is about to leave, once what it waits for is answered. */
static inline bool move_waits_for(const struct connection *c)
{
	return c->leaving;
}

/* --- move_in.c: the destination --- */
void move_in_begin(struct worker *w, int fd);
void move_in_free(struct worker *w);

/* --- for an adoption --- */
/*
 * A passport that was on the move: true if it is nobody's here any more. Else it is
 * as any other.
 */
bool move_adopt(struct connection *c);

#endif

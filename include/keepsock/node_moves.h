/* SPDX-License-Identifier: ISC */
/*
 * Who has a connection that moves from one worker to another. Both workers have
 * a passport of it and a descriptor while it is offered; one word in the node
 * page, changed by compare-and-swap, says whose it is, also to their successors:
 *
 *	        offer            take               both are done
 *	free ──────────► OFFERED ──────► TAKEN ───────────────────► free
 *	  ▲                 │
 *	  └─────────────────┘ withdraw
 *
 * The one that offers withdraws as well. It is done when its passport is gone,
 * the one that takes when its passport says nothing of the move any more. Used by
 * workers; nobody waits for anything here.
 */
#ifndef KEEPSOCK_NODE_MOVES_H
#define KEEPSOCK_NODE_MOVES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define NODE_MOVES_MAX 256u /* under way at a time, on the whole node */

/* Part of the node page. */
struct node_moves {
	_Atomic uint64_t last;                 /* number given last */
	_Atomic uint64_t word[NODE_MOVES_MAX]; /* number << 8 | state and who is done; 0 = free */
};

/* A new move's number; 0: too many are under way. */
uint64_t node_move_offer(struct node_moves *moves);
/* True: the connection is the taker's. False: it was withdrawn. */
bool node_move_take(struct node_moves *moves, uint64_t number);
/* True: the connection is the offerer's again, or still. False: it was taken. */
bool node_move_withdraw(struct node_moves *moves, uint64_t number);
bool node_move_taken(const struct node_moves *moves, uint64_t number);

enum node_move_end { NODE_MOVE_OFFERER = 1, NODE_MOVE_TAKER = 2 };
/* Of a move that was taken. Saying it twice is harmless. */
void node_move_done(struct node_moves *moves, uint64_t number, enum node_move_end end);

#endif

/* SPDX-License-Identifier: ISC */
/*
 * Connections that a predecessor was moving when it died, see move.h: the node
 * page says whose each is. Run by the worker, once at its start.
 */
#include <unistd.h>

#include "keepsock/log.h"
#include "worker/move.h"

static void clear(struct connection *c)
{
	connection_draft(c)->now.move = 0;
	/* One word in place of another: the arena need not have room. */
	(void)connection_commit(c);
}

/* Its peer notices nothing: another worker has the socket. */
static void forget(struct connection *c, bool of_predecessor)
{
	if (c->fd >= 0)
		close(connection_lend(c));
	connection_forget(c, of_predecessor);
	connection_reap(c->worker);
}

bool move_adopt(struct connection *c)
{
	struct node_moves *moves = &c->worker->page->moves;
	uint64_t move = connection_passport(c)->move, number = PASSPORT_MOVE_NUMBER(move);

	log_info("move_adopted number=%llu end=%u taken=%d", (unsigned long long)number,
		 (unsigned)PASSPORT_MOVE_END(move), (int)node_move_taken(moves, number));
	if (PASSPORT_MOVE_END(move) == PASSPORT_LEAVING) {
		if (node_move_withdraw(moves, number)) {
			clear(c);
			return false;
		}
		forget(c, true);
		node_move_done(moves, number, NODE_MOVE_OFFERER);
		return true;
	}
	if (!node_move_taken(moves, number)) {
		forget(c, false);
		return true;
	}
	clear(c);
	node_move_done(moves, number, NODE_MOVE_TAKER);
	return false;
}

/* SPDX-License-Identifier: ISC */
/*
 * Moves between slots, see slot_move.h. Runs in the master, which passes nothing
 * on and looks at nothing: should it die, the move goes on.
 */
#include "keepsock/slot_move.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "keepsock/buffer.h"
#include "keepsock/ipc.h"
#include "keepsock/keeper_messages.h"
#include "keepsock/log.h"
#include "keepsock/master.h"
#include "keepsock/worker_slot.h"

bool slot_move_under_way(const struct master *master)
{
	return master->move.id != 0;
}

static void end(struct master *master, const struct ipc_moved *moved, const char *why_not)
{
	struct slot_move move = master->move;

	master->move = (struct slot_move){0};
	log_info("move_ended from=%u to=%u moved=%u left=%u reason=%s", move.from, move.to,
		 moved->moved, moved->left, log_value_str(*why_not ? why_not : "done"));
	if (move.done)
		move.done(move.ctx, moved, why_not);
}

const char *slot_move_begin(struct worker_slot *from, struct worker_slot *to,
			    const struct ipc_move_out *order, slot_move_done *done, void *ctx)
{
	struct master *master = from->master;
	const char *problem = NULL;
	int ends[2];

	if (from == to)
		return "from a worker to itself?";
	if (slot_move_under_way(master))
		return "another move is under way";
	if (from->ipc_fd < 0 || to->ipc_fd < 0)
		return "a worker is not there";
	if (ipc_pair(ends) < 0)
		return strerror(errno);
	master->move = (struct slot_move){
		.id = ++master->moves,
		.from = from->number,
		.to = to->number,
		.done = done,
		.ctx = ctx,
	};
	/* Should only the first one hear of it, it finds the channel closed. */
	if (ipc_send(to->ipc_fd, IPC_MOVE_IN, 0, NULL, 0, &ends[0], 1) < 0 ||
	    ipc_send(from->ipc_fd, IPC_MOVE_OUT, master->move.id, order, sizeof(*order), &ends[1],
		     1) < 0) {
		problem = strerror(errno);
		master->move = (struct slot_move){0};
	}
	close(ends[0]);
	close(ends[1]);
	return problem;
}

void slot_move_on_moved(struct worker_slot *slot, struct ipc_message *message)
{
	struct master *master = slot->master;
	struct slice payload = {0}, text;
	struct buffer why_not = {0};
	struct ipc_moved moved;

	if (message->id != master->move.id || slot->number != master->move.from ||
	    ipc_message_payload(message, &payload) < 0 ||
	    !keeper_payload_take_head(payload, &moved, sizeof(moved), &text)) {
		log_warning("moved_unexpected slot=%u", slot->number);
		return;
	}
	buffer_append_slice(&why_not, text);
	end(master, &moved, buffer_cstr(&why_not));
	buffer_free(&why_not);
}

void slot_move_on_worker_gone(struct worker_slot *slot)
{
	const struct ipc_moved unknown = {0};

	if (slot_move_under_way(slot->master) && slot->number == slot->master->move.from)
		end(slot->master, &unknown, "the worker is gone");
}

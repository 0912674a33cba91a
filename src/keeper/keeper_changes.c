/* SPDX-License-Identifier: ISC */
/*
 * What a worker that takes over is handed: everything that is kept when it
 * begins, and what changes meanwhile, in order. Run by the keeper. Items are
 * compared by reference and generation, so a change that was overtaken by
 * another one is told as what it has become.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "keeper/keeper.h"
#include "keepsock/alloc.h"
#include "keepsock/ipc.h"

/* Changes that may wait; a slot that changes faster than that is not taken over now. */
#define WAITING_MAX (1u << 20)

static void append(struct change_log *log, const struct keeper_item *item)
{
	if (log->count == log->capacity) {
		log->capacity = log->capacity ? log->capacity * 2 : 256;
		log->items = xrealloc(log->items, log->capacity * sizeof(*log->items));
	}
	log->items[log->count++] = *item;
}

void keeper_changes_forget(struct keeper *keeper)
{
	free(keeper->takeover.changes.items);
	keeper->takeover.changes = (struct change_log){0};
}

void keeper_changes_begin(struct keeper *keeper)
{
	struct kept kept;
	size_t cursor = 0;

	keeper_changes_forget(keeper);
	while (kept_table_next(&keeper->kept, &cursor, &kept))
		append(&keeper->takeover.changes, &kept.item);
}

void keeper_changes_note(struct keeper *keeper, const struct keeper_item *item)
{
	struct change_log *log = &keeper->takeover.changes;

	if (keeper->takeover.step < STEP_PREPARING || keeper->takeover.step > STEP_HANDING)
		return;
	if (log->told == log->count)
		log->told = log->count = 0;
	if (log->count - log->told < WAITING_MAX)
		append(log, item);
	else
		keeper_takeover_cancel(keeper, "connections come and go too fast");
}

/* Up to a message's worth of both kinds. */
struct batch {
	struct keeper_item kept[IPC_FDS_MAX], gone[IPC_FDS_MAX];
	int fds[IPC_FDS_MAX];
	size_t kept_count, gone_count;
};

/* Where the log stands behind it. */
static size_t collect(const struct keeper *keeper, struct batch *batch)
{
	const struct change_log *log = &keeper->takeover.changes;
	size_t at = log->told;

	batch->kept_count = batch->gone_count = 0;
	while (at < log->count && batch->kept_count < IPC_FDS_MAX &&
	       batch->gone_count < IPC_FDS_MAX) {
		const struct keeper_item *item = &log->items[at++];
		struct kept kept;

		if (kept_table_find(&keeper->kept, item->ref, &kept) &&
		    kept.item.generation == item->generation) {
			batch->kept[batch->kept_count] = kept.item;
			batch->fds[batch->kept_count++] = kept.fd;
		} else {
			batch->gone[batch->gone_count++] = *item;
		}
	}
	return at;
}

int keeper_changes_send(struct keeper *keeper)
{
	struct takeover *takeover = &keeper->takeover;
	struct batch batch;
	size_t end = collect(keeper, &batch);

	if (batch.gone_count > 0 && ipc_send(takeover->fd, KEEPER_TAKEN_BACK, 0, batch.gone,
					     batch.gone_count * sizeof(batch.gone[0]), NULL, 0) < 0)
		return -1;
	if (batch.kept_count == 0 && end == takeover->changes.count) {
		takeover->changes.told = end;
		return 0;
	}
	if (ipc_send(takeover->fd, KEEPER_HAND_OVER, 0, batch.kept,
		     batch.kept_count * sizeof(batch.kept[0]), batch.fds, batch.kept_count) < 0)
		return -1;
	takeover->changes.told = end;
	return 1;
}

/* SPDX-License-Identifier: ISC */
/*
 * What became of the last takeovers, for `show takeovers`, and their metrics.
 * Kept by the master; lost with it, but not by an upgrade.
 */
#ifndef KEEPSOCK_MASTER_TAKEOVERS_H
#define KEEPSOCK_MASTER_TAKEOVERS_H

#include <jansson.h>

struct keeper_taken_over;
struct master;
struct takeovers;
struct worker_slot;

struct takeovers *takeovers_create(void);
void takeovers_free(struct takeovers *takeovers);

/* One was asked for. */
void takeovers_begin(struct worker_slot *slot);
/* One ended; reason: why it was not done, "" = it was. */
void takeovers_note(struct worker_slot *slot, const struct keeper_taken_over *told,
		    const char *reason);

/* As rows, the oldest first; and taken from such rows, which an earlier program may have made. */
json_t *takeovers_rows(const struct master *master);
void takeovers_restore(struct master *master, const json_t *rows);

#endif

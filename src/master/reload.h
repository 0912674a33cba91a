/* SPDX-License-Identifier: ISC */
/*
 * Reloading the configuration: everything is checked and opened before anything
 * changes. Used by the master only.
 */
#ifndef KEEPSOCK_MASTER_RELOAD_H
#define KEEPSOCK_MASTER_RELOAD_H

struct master;

/* error: NULL = the new configuration is in force everywhere; else nothing of it is, or it says so.
 */
typedef void reload_done_fn(void *ctx, const char *error);

/* done is called once, now or later, unless the node stops meanwhile. */
void reload_start(struct master *master, reload_done_fn *done, void *ctx);

/* The node has been demoted: what one under way has opened for a primary is closed too. */
void reload_close_primary(struct master *master);

/* Forgets one under way: the node stops. */
void reload_drop(struct master *master);

#endif

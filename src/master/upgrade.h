/* SPDX-License-Identifier: ISC */
/*
 * Going over to another program without closing a connection. Used by the
 * master only.
 */
#ifndef KEEPSOCK_MASTER_UPGRADE_H
#define KEEPSOCK_MASTER_UPGRADE_H

#include <stdbool.h>

struct master;

/*
 * error: why nothing has changed, or what has. Without an error the master is
 * about to execute the new program, which answers the asker itself.
 */
struct upgrade_asker {
	void (*refused)(void *ctx, const char *error);
	/* Gives the peer's descriptor away (the caller's then), -1 = nobody waits. refused() may
	 * still be called after it. */
	int (*detach)(void *ctx, bool *json);
	void *ctx;
};

/* path NULL: the one the master was started as. */
void upgrade_start(struct master *master, const char *path, const struct upgrade_asker *asker);

/* Forgets one under way: the node stops. */
void upgrade_drop(struct master *master);

#endif

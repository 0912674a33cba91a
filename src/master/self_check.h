/* SPDX-License-Identifier: ISC */
/*
 * A new program's word about itself before an upgrade: it is started in the role
 * `check`, reads the configuration in force and says which versions it speaks.
 * Used by the master only.
 */
#ifndef KEEPSOCK_MASTER_SELF_CHECK_H
#define KEEPSOCK_MASTER_SELF_CHECK_H

struct master;
struct self_check;

/* error: NULL = it can take over. Called once, from the loop. */
typedef void self_check_fn(void *ctx, const char *error);

/* Starts it; NULL when that failed: the reason comes by done, at once. */
struct self_check *self_check_start(struct master *master, int program_fd, self_check_fn *done,
				    void *ctx);

/* Ends one under way; done is not called. NULL is fine. */
void self_check_drop(struct self_check *check);

/* The role. */
int self_check_main(int ipc_fd, int argc, char **argv);

#endif

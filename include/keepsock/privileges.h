/* SPDX-License-Identifier: ISC */
/*
 * Who the node runs as. The master starts as root or as the service user and
 * is the service user from then on; of root's powers it keeps the one to bind
 * low ports, and what it executes keeps none.
 */
#ifndef KEEPSOCK_PRIVILEGES_H
#define KEEPSOCK_PRIVILEGES_H

#include <sys/types.h>

struct buffer;

struct service_user {
	uid_t uid;
	gid_t gid;
};

/*
 * The user of that name ("" = whoever we are); 0, or -1 with error, also when
 * it is another user and we are not root.
 */
int privileges_find_user(const char *name, struct service_user *user, struct buffer *error);

/* Becomes that user for good; 0, or -1 with error, and then the process must end. */
int privileges_drop(const char *name, const struct service_user *user, struct buffer *error);

/* What privileges_drop() left outlives the execution of another program; 0, or -1 with error. */
int privileges_keep_over_exec(struct buffer *error);

/*
 * Raises the soft limit of open descriptors to the hard one and returns it.
 * A failure leaves it as it is.
 */
unsigned long privileges_raise_descriptor_limit(void);

#endif

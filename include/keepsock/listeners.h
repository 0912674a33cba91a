/* SPDX-License-Identifier: ISC */
/*
 * The listening sockets of a node: for each configured address one member of
 * an SO_REUSEPORT group per worker slot. The master binds them under the
 * service uid and keeps every one open, so that connections which arrive while
 * a worker is being replaced wait in its queue. Those with when = "primary" are
 * one socket each, which all workers share: the address is this node's or
 * another's, never both.
 */
#ifndef KEEPSOCK_LISTENERS_H
#define KEEPSOCK_LISTENERS_H

#include <stddef.h>
#include <stdint.h>

#include "keepsock/settings.h"

struct buffer;

/* All zero = none open. */
struct listeners {
	size_t count;         /* addresses, without those of the primary */
	uint32_t slots;       /* members for each */
	int *fds;             /* owned; member of slot s for address i at [s * count + i] */
	size_t primary_count; /* open now: all of them or none */
	int primary[SETTINGS_LISTENERS_MAX]; /* owned */
};

/* A member that is open already. */
struct listener_member {
	uint32_t slot;
	int fd; /* stays its owner's */
};

/*
 * Opens them all, non-blocking and close-on-exec; 0, or -1 with error and none
 * open. Those of the `have_count` members that are wanted are duplicated, so
 * that what waits in their queues stays. An address that another process listens
 * on, and none of them, is an error although SO_REUSEPORT would let us share it.
 */
int listeners_open(struct listeners *listeners, const struct settings *settings, uint32_t slots,
		   const struct listener_member *have, size_t have_count, struct buffer *error);

/* The same for those of the primary, unless they are open. */
int listeners_open_primary(struct listeners *listeners, const struct settings *settings,
			   const struct listener_member *have, size_t have_count,
			   struct buffer *error);

/* The same, with those that `from` has open. */
int listeners_take_primary(struct listeners *listeners, const struct settings *settings,
			   const struct listeners *from, struct buffer *error);

/*
 * Closes them for everybody, whoever has duplicates: nobody is accepted any more, and
 * the address is free for another node at once.
 */
void listeners_close_primary(struct listeners *listeners);

/*
 * Those of `before` that are not among `now` take nobody any more, whoever has
 * duplicates. They stay open; what waits in their queues is reset.
 */
void listeners_shut_removed(const struct listeners *before, const struct listeners *now);

/* The `count` descriptors of that slot; they stay the listeners'. */
const int *listeners_of_slot(const struct listeners *listeners, uint32_t slot);

void listeners_close(struct listeners *listeners);

#endif

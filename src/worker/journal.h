/* SPDX-License-Identifier: ISC */
/*
 * The kernel is the journal (DESIGN §9): how many bytes of a TCP connection a
 * process that is gone had really read and written, asked of a duplicate of its
 * socket. Used by a worker that takes over from a dead one, for the one or two
 * connections the work slot and the fan-out's cursor leave in doubt.
 *
 * Holds for sockets made by accept() or connect() on this host; of one that was
 * restored from another host the counters begin anew.
 */
#ifndef KEEPSOCK_WORKER_JOURNAL_H
#define KEEPSOCK_WORKER_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>

struct journal {
	uint64_t read;    /* bytes that were taken out of the socket */
	uint64_t written; /* bytes that the socket took */
	bool peer_fin;    /* the peer's FIN has arrived, read or not */
	bool shut;        /* our sending side was shut down */
};

/* Which side opened the connection. */
enum journal_side { JOURNAL_ACCEPTED, JOURNAL_CONNECTED };

enum journal_state {
	JOURNAL_EXACT,
	JOURNAL_ENDED,     /* reset, or closed by both: nothing can be read or written any more */
	JOURNAL_UNREADABLE /* no TCP socket, or the kernel does not tell; errno says why */
};

/*
 * Looks at a socket on which no process reads or writes any more; the peer may
 * go on. *journal is set if the result is JOURNAL_EXACT.
 */
enum journal_state journal_look(int fd, enum journal_side side, struct journal *journal);

#endif

/* SPDX-License-Identifier: ISC */
/*
 * The connections of a run, opened with a bound on handshakes under way and
 * optionally at a rate.
 */
#ifndef KEEPSOCK_BENCH_CROWD_H
#define KEEPSOCK_BENCH_CROWD_H

#include <stddef.h>
#include <stdint.h>

#include "session.h"
#include "stats.h"

#define CROWD_MAGIC 0x63726f77u

struct crowd {
	uint32_t magic;
	struct loop *loop;           /* borrowed */
	const struct target *target; /* borrowed */
	struct session_handler handler;
	void *owner;               /* of the sessions: see crowd_owner() */
	struct session *sessions;  /* owned */
	struct histogram *latency; /* owned; connect() to ready, nanoseconds */
	size_t count;
	size_t started;
	size_t ready;
	size_t in_flight; /* handshakes under way, at most */
	uint64_t rate;    /* per second; 0: unpaced */
	uint64_t begun_ns;
};

/*
 * Opens count sessions and returns when all are ready. handler's on_ready is the
 * crowd's own. 0, or -1 with the loop failed; crowd_close() is due in any case.
 */
int crowd_open(struct crowd *crowd, struct loop *loop, const struct target *target,
	       const struct session_handler *handler, void *owner, size_t count, size_t in_flight,
	       uint64_t rate);
void crowd_close(struct crowd *crowd);

/* What crowd_open() was given as owner, from one of its sessions. */
void *crowd_owner(const struct session *session);

#endif

/* SPDX-License-Identifier: ISC */
/*
 * The session registry, as far as this worker fills it: for each connected
 * client one entry in Redis with its user, peer and subscriptions with their
 * positions, so that a cluster can be looked at as a whole. Run by the worker.
 * What changes is written in batches, one under way at a time; nobody waits for
 * it, least of all a client that closes. Positions are as of the last write,
 * which is a minute ago at most.
 */
#ifndef KEEPSOCK_WORKER_SESSIONS_H
#define KEEPSOCK_WORKER_SESSIONS_H

#include <stdint.h>

struct connection;
struct passport_id;
struct sessions;
struct worker;

struct sessions *sessions_create(struct worker *w);
/* What is not written stays unwritten. NULL is fine. */
void sessions_free(struct sessions *sessions);

/* The connection became a client's, or its subscriptions changed: its entry is due. */
void sessions_changed(struct connection *c);
/* It is a client's no more. Before its passport forgets who that was. */
void sessions_gone(struct connection *c);
/* Nobody here has this id: its entry goes. */
void sessions_forget(struct worker *w, const struct passport_id *id);
/* Redis may have none of them: all are written again, at once. */
void sessions_register_all(struct worker *w);

/* Periodic: writes what is due. */
void sessions_tick(struct worker *w);

#endif

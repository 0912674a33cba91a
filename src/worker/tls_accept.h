/* SPDX-License-Identifier: ISC */
/*
 * TLS handshakes of accepted sockets. They are in the heap, without passport and
 * deposit: a death of the worker ends them, their clients try again (DESIGN §4).
 * Once one is over its connection is detached and begins like any other. Run by
 * the worker.
 */
#ifndef KEEPSOCK_WORKER_TLS_ACCEPT_H
#define KEEPSOCK_WORKER_TLS_ACCEPT_H

#include <netinet/in.h>
#include <stdbool.h>

struct listener;
struct worker;

void tls_accept_open(struct worker *w);
/* Ends all handshakes. */
void tls_accept_close(struct worker *w);

/* False: as many are under way, or begin in a second, as may; the listener is held until it is
 * otherwise. */
bool tls_accept_may(struct listener *listener);
/* A socket from accept(); takes it over. */
void tls_accept_begin(struct listener *listener, int fd, const struct sockaddr_storage *peer);

/* The listener is closed: ends its handshakes. */
void tls_accept_end(struct listener *listener);

/* Periodic: ends those that took too long, lets listeners go on. */
void tls_accept_tick(struct worker *w);

/* True while a handshake that will end soon should be waited for, so that a takeover does not cost
 * it. */
bool tls_accept_busy(const struct worker *w);

#endif

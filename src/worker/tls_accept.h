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

#include "keepsock/passport.h"

struct event_base;
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

/* What a handshake leaves that is over. */
struct tls_established {
	struct sockaddr_storage peer;
	uint16_t local_port;
	bool resumed;
	struct passport_tls tls;
	uint64_t sent;            /* bytes of the stream that were written */
	struct slice certificate; /* passport_peer_append()'s bytes, "" = none */
	struct slice rest;        /* read too far */
	struct slice unsent;      /* what the socket has not taken yet */
};

/* Such a one becomes a connection of this worker. Takes fd over in any case. */
void tls_accept_establish(struct worker *w, int fd, const struct tls_established *established);

/* As tls_accept_establish(). */
typedef void (*tls_accept_give)(void *ctx, int fd, const struct tls_established *established);

/*
 * The arena is another worker's: from now on handshakes go on in this loop, and
 * what they become is given away. Nothing else of the worker is touched.
 */
void tls_accept_give_away(struct worker *w, struct event_base *base, tls_accept_give give,
			  void *ctx);
/* Those that are not over, nor have failed. */
unsigned tls_accept_running(const struct worker *w);

#endif

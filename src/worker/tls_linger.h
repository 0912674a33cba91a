/* SPDX-License-Identifier: ISC */
/*
 * TLS handshakes at a takeover (DESIGN §4): they have no passport, so the worker
 * that was taken over from stays to end them, at most takeover.linger, and sends
 * what they become to the one that serves. Run by both workers.
 */
#ifndef KEEPSOCK_WORKER_TLS_LINGER_H
#define KEEPSOCK_WORKER_TLS_LINGER_H

struct worker;

/* --- the one that goes --- */
/* Frozen: the end of a channel for whoever takes over, to be closed when it was sent. -1: there is
 * nothing to send it for. */
int tls_linger_offer(struct worker *w);
/* Nobody has taken over. */
void tls_linger_withdraw(struct worker *w);
/* The arena is another's: returns when the handshakes are over, time is up, or nobody is left to
 * serve what becomes of them. The caller then exits at once. */
void tls_linger(struct worker *w);

/* --- the one that comes --- */
/* Takes over the channel to the one that goes. */
void tls_linger_follow(struct worker *w, int fd);
/* What it still had to give is lost. */
void tls_linger_close(struct worker *w);

#endif

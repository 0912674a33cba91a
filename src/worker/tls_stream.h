/* SPDX-License-Identifier: ISC */
/*
 * The record layer of TLS connections in the worker's data path: what is read is
 * opened into the plaintext that HTTP and WebSocket are read from, what a draft
 * has as output is sealed in the same commit that appends it (DESIGN §3 rules 3
 * and 5). Run by the worker. Keys and sequences are in the arena, nothing here.
 */
#ifndef KEEPSOCK_WORKER_TLS_STREAM_H
#define KEEPSOCK_WORKER_TLS_STREAM_H

#include <stdbool.h>

struct connection;
struct worker;

/* The worker's cipher contexts and buffers. */
void tls_stream_open(struct worker *w);
/* Its draft seals at commits from now on. */
void tls_stream_attach(struct worker *w);
void tls_stream_close(struct worker *w);

/* The socket is readable. */
void tls_stream_read(struct connection *c);
/* Goes on with ciphertext that is in the passport, after the handshake or an adoption. */
void tls_stream_resume(struct connection *c);

/* Queues close_notify, committed. False: our last word is said already, or there is no room. */
bool tls_stream_close_notify(struct connection *c);
/* The same, written at once if nothing else waits; before the socket is closed. */
void tls_stream_say_goodbye(struct connection *c);

#endif

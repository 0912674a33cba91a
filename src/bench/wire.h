/* SPDX-License-Identifier: ISC */
/*
 * The bytes of one connection of the load generator, in the clear or over TLS
 * by OpenSSL. Certificates are not checked: what is measured is one's own
 * server. Sockets belong to the loop's watches.
 */
#ifndef KEEPSOCK_BENCH_WIRE_H
#define KEEPSOCK_BENCH_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "keepsock/buffer.h"

struct ssl_ctx_st;
struct ssl_st;

struct wire {
	struct ssl_st *tls; /* owned; NULL: in the clear */
};

/*
 * What all connections of a run share; names of TLS 1.3 suites as OpenSSL's,
 * NULL for its own choice. NULL with the reason in *error.
 */
struct ssl_ctx_st *wire_context(const char *ciphersuites, struct buffer *error);
void wire_context_free(struct ssl_ctx_st *context);

/* The client's side over a connected socket; host is what it is to have a certificate for. */
bool wire_secure(struct wire *wire, struct ssl_ctx_st *context, int fd, const char *host);

enum wire_handshake { WIRE_DONE, WIRE_WANTS_READ, WIRE_WANTS_WRITE, WIRE_FAILED };

/* One step of the TLS handshake. */
enum wire_handshake wire_shake_hands(struct wire *wire);

/* As recv() and send(): -1 with errno, EAGAIN to wait; a read of 0 is the end. */
ssize_t wire_read(struct wire *wire, int fd, void *data, size_t size);
ssize_t wire_send(struct wire *wire, int fd, const void *data, size_t length);

/* True: there is more to read though the socket may stay silent. */
bool wire_has_more(const struct wire *wire);

/* Says goodbye; the socket is still open. */
void wire_end(struct wire *wire);

/* Why OpenSSL refused, for messages; static until the next call. */
const char *wire_error(void);

#endif

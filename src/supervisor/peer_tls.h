/* SPDX-License-Identifier: ISC */
/*
 * How two supervisors keep their link to themselves: TLS 1.3 with an external
 * pre-shared key (RFC 8446 §2.2, RFC 9257) derived from the shared secret, and
 * no certificates. Whoever has not the secret gets no further than the
 * handshake.
 */
#ifndef KEEPSOCK_SUPERVISOR_PEER_TLS_H
#define KEEPSOCK_SUPERVISOR_PEER_TLS_H

#include <openssl/ssl.h>
#include <stdbool.h>

struct buffer;
struct peer_tls;

/* NULL with error. The secret is not needed any more afterwards. */
struct peer_tls *peer_tls_create(const char *secret, struct buffer *error);

/* After the last connection made with it. NULL is fine. */
void peer_tls_free(struct peer_tls *tls);

/* A fresh connection; NULL only without memory. */
SSL *peer_tls_connection(struct peer_tls *tls);

#endif

/* SPDX-License-Identifier: ISC */
/*
 * A TLS client of OpenSSL's and our handshake, connected by memory, for tests
 * that want to see both ends. Certificates are made on the spot.
 */
#ifndef KEEPSOCK_TESTS_TLS_PAIR_H
#define KEEPSOCK_TESTS_TLS_PAIR_H

#include <openssl/ssl.h>

#include "keepsock/buffer.h"
#include "keepsock/tls_handshake.h"
#include "keepsock/tls_record.h"

struct tls_pair {
	SSL_CTX *server_context, *client_context; /* owned */
	SSL_SESSION *session;                     /* owned; the client resumes it */
	/* Of one connection. */
	struct tls_handshake *handshake; /* owned */
	SSL *client;                     /* owned */
	struct buffer to_server;         /* what the client sent and nobody read */
	struct tls_state state;
	struct tls_peer peer;
};

/* Contexts with an ECDSA and an RSA certificate; no connection yet. */
void tls_pair_init(struct tls_pair *pair);
void tls_pair_free(struct tls_pair *pair);

/* Both ends speak this version with this suite (OpenSSL's name), NULL: anything. */
void tls_pair_suite(struct tls_pair *pair, const char *suite);

/* A new connection, after which the contexts' settings count. */
void tls_pair_connect(struct tls_pair *pair);
/* Shakes hands, `step` bytes at a time (0: all there are). The state in which it ended. */
enum tls_handshake_state tls_pair_shake(struct tls_pair *pair, size_t step);
/* All of it, detached; asserts that it works. */
void tls_pair_establish(struct tls_pair *pair, struct tls_ciphers *ciphers);

/* Moves what the client wants to send behind to_server. */
void tls_pair_flush_client(struct tls_pair *pair);
/* Gives the client bytes to read. */
void tls_pair_give_client(struct tls_pair *pair, struct slice bytes);
/* What the client reads of them. */
void tls_pair_client_read(struct tls_pair *pair, struct buffer *out);

/* A certificate with this common name, and more where it is a client's; owned by the caller. */
X509 *tls_pair_certificate(EVP_PKEY *key, const char *name, bool client);

#endif

/* SPDX-License-Identifier: ISC */
/*
 * The step from OpenSSL's object to our own state, and what is asked of it
 * before it goes. Used by tls_handshake.c alone, and by tests that want both.
 */
#ifndef KEEPSOCK_NET_TLS_DETACH_H
#define KEEPSOCK_NET_TLS_DETACH_H

#include <openssl/types.h>
#include <stdbool.h>
#include <stdint.h>

#include "keepsock/slice.h"
#include "keepsock/tls_handshake.h"
#include "keepsock/tls_record.h"

/* What OpenSSL tells during the handshake only. */
struct tls_secrets {
	uint8_t read[48], write[48]; /* 1.3: the first traffic secrets of both directions */
	uint8_t read_length, write_length;
};

/* Takes a line of the keylog callback; those of no use are passed over. */
void tls_secrets_add_line(struct tls_secrets *secrets, const char *line);

/*
 * The state of a server whose handshake is over. written: records that it sent
 * under the keys of the connection (1.2: Finished included). False with *error
 * (static text): it can't be carried.
 */
bool tls_detach_state(SSL *ssl, const struct tls_secrets *secrets, uint64_t written,
		      struct tls_state *state, const char **error);

/*
 * The self-check: OpenSSL seals a close_notify, which never leaves us, and the
 * state has to open it, as the record that comes next. With explicit nonces this
 * is also where the state learns how far OpenSSL has counted. finished: in 1.2
 * the client's Finished as it came, which the state has to open as well.
 */
bool tls_detach_check(SSL *ssl, struct tls_ciphers *ciphers, struct slice finished,
		      struct tls_state *state, const char **error);

/* Everything of struct tls_peer that OpenSSL knows. */
void tls_peer_capture(SSL *ssl, struct tls_peer *peer);

#endif

/* SPDX-License-Identifier: ISC */
/*
 * Sealing and opening with the worker's shared cipher contexts: one AEAD
 * operation, which knows neither records nor connections.
 */
#ifndef KEEPSOCK_NET_TLS_CIPHERS_H
#define KEEPSOCK_NET_TLS_CIPHERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "keepsock/slice.h"
#include "net/tls_suite.h"

struct tls_ciphers;

#define TLS_NONCE_SIZE 12u

/* key: key_length bytes of it count. */
struct tls_key {
	enum tls_aead_id aead;
	const uint8_t *key;
	const uint8_t *nonce; /* TLS_NONCE_SIZE bytes */
	struct slice header;  /* authenticated, not encrypted */
};

/*
 * Encrypts plaintext, and type behind it unless that is negative, into out,
 * followed by the tag. out does not overlap plaintext. False: OpenSSL failed.
 */
bool tls_aead_seal(struct tls_ciphers *ciphers, const struct tls_key *key, struct slice plaintext,
		   int type, uint8_t *out);

enum tls_aead_opened { TLS_AEAD_OPENED, TLS_AEAD_FORGED, TLS_AEAD_FAILED };

/* Decrypts what is in front of the tag into out; only OPENED leaves something there. */
enum tls_aead_opened tls_aead_open(struct tls_ciphers *ciphers, const struct tls_key *key,
				   struct slice sealed, uint8_t *out);

#endif

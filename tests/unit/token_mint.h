/* SPDX-License-Identifier: ISC */
/*
 * Makes tokens for the tests, good and forged ones, with keys that OpenSSL
 * generates. It shares no code with src/auth, and writes whatever header and
 * payload it is given.
 */
#ifndef KEEPSOCK_TESTS_TOKEN_MINT_H
#define KEEPSOCK_TESTS_TOKEN_MINT_H

#include <openssl/evp.h>

#include "keepsock/buffer.h"

/* What signs: a secret if key is NULL. */
struct mint {
	const char *secret;
	EVP_PKEY *key;
	const char *digest; /* SHA256, SHA384, SHA512 */
};

EVP_PKEY *mint_rsa_key(unsigned bits);
EVP_PKEY *mint_ec_key(const char *curve);

/* The public half as PEM, on the heap. */
char *mint_public_pem(EVP_PKEY *key);
char *mint_private_pem(EVP_PKEY *key);

/* Appends bytes as base64url without padding. */
void mint_base64url(struct buffer *out, const void *data, size_t len);

/* A signed token, as a terminated string in out, which is emptied before. */
const char *mint_token(struct buffer *out, const struct mint *mint, const char *header,
		       const char *payload);

/* The signature alone (not encoded) over text, appended to out. */
void mint_signature(struct buffer *out, const struct mint *mint, struct slice text);

#endif

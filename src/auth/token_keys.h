/* SPDX-License-Identifier: ISC */
/*
 * The keys that tokens may be signed with, each bound to the algorithms it is
 * for. Private to the auth room. A secret or public key is never tried with an
 * algorithm of another family, whatever a token's header says.
 */
#ifndef KEEPSOCK_AUTH_TOKEN_KEYS_H
#define KEEPSOCK_AUTH_TOKEN_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jwt.h>
#include <openssl/evp.h>

#include "keepsock/buffer.h"
#include "keepsock/slice.h"

/* More in one file are refused: each costs a try per forged token. */
#define TOKEN_KEYS_PER_FILE 16u

struct token_key {
	char *secret; /* owned, wiped at the end; NULL for a public key */
	size_t secret_len;
	EVP_PKEY *public_key;    /* owned; NULL for a secret */
	jwt_alg_t algorithms[3]; /* which it may check; JWT_ALG_NONE fills the rest */
	uint64_t valid_until;    /* wall seconds, 0 = no end */
};

struct token_keys {
	struct token_key *keys; /* owned */
	size_t count;
};

/* False, with one sentence in error, if the text holds no usable key. name is for the sentence. */
bool token_keys_add_secret(struct token_keys *keys, const char *name, const char *secret,
			   uint64_t valid_until, struct buffer *error);
bool token_keys_add_rsa(struct token_keys *keys, const char *name, const char *pem,
			struct buffer *error);
bool token_keys_add_ecdsa(struct token_keys *keys, const char *name, const char *pem,
			  struct buffer *error);
void token_keys_free(struct token_keys *keys);

/*
 * The algorithm of a header's "alg" (case matters, RFC 7515 §4.1.1); JWT_ALG_NONE
 * for "none" and all others we have no keys for.
 */
jwt_alg_t token_algorithm_find(struct slice name);

/* A token whose form was checked. */
struct token_signed {
	const char *token;      /* all of it, terminated; exactly two dots */
	struct slice text;      /* what is signed: up to the second dot */
	struct slice signature; /* decoded */
	jwt_alg_t algorithm;    /* of its header */
};

/* True if one of the algorithm's keys made the signature. */
bool token_keys_verify(const struct token_keys *keys, const struct token_signed *token,
		       uint64_t now_s);

#endif

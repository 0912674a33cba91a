/* SPDX-License-Identifier: ISC */
/*
 * JSON Web Tokens (RFC 7519, signed as RFC 7515) that the application's backend
 * gives its users: a connection token says who the user is, a subscription token
 * which channel one may subscribe to. Runs in the workers. Signatures are
 * checked by libjwt (HMAC) and OpenSSL (RSA, ECDSA), with the key that the
 * settings name for the algorithm's family and with no other; claims are read by
 * our own scanner, so that info and data stay byte for byte. It keeps no clock,
 * knows no channel options, and writes neither tokens nor keys anywhere.
 *
 * Algorithms: HS256/384/512, RS256/384/512, ES256/384/512 (RFC 7518).
 */
#ifndef KEEPSOCK_TOKEN_H
#define KEEPSOCK_TOKEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "keepsock/buffer.h"
#include "keepsock/slice.h"

/* Longer tokens are invalid, and so is one with more subs. */
#define TOKEN_SIZE_MAX (16u * 1024)
#define TOKEN_SUBS_MAX 1024u

/* What the settings say. All texts may be NULL or "" (none); they are copied. */
struct token_options {
	const char *hmac; /* the shared secret's bytes */
	const char *hmac_previous;
	uint64_t hmac_previous_valid_until; /* wall seconds, the last good one; 0 = no end */
	const char *rsa;                    /* PEM: one public key, or several during a rotation */
	const char *ecdsa;
	const char *audience;       /* one of the token's audiences has to be this */
	const char *audience_regex; /* POSIX extended, found anywhere in one of them */
	const char *issuer;
	const char *issuer_regex;
	const char *user_id_claim; /* none: "sub"; at most 40 printable ASCII characters */
};

struct token_verifier;

/*
 * NULL, with one sentence appended to error, if a key, a regex or the claim's name
 * can't be used; the sentence never holds a secret. Without any key it is a
 * verifier to which every token is invalid.
 */
struct token_verifier *token_verifier_create(const struct token_options *options,
					     struct buffer *error);
void token_verifier_free(struct token_verifier *verifier);

/* False: there is no key, so that every token will be invalid. */
bool token_verifier_has_keys(const struct token_verifier *verifier);

enum token_verdict {
	TOKEN_OK,
	TOKEN_INVALID,
	TOKEN_EXPIRED, /* its exp is over or its nbf is to come; all else before that was right */
};

/* What a token changes of its channel's options: -1 not given, 0 off, 1 on. */
struct token_override {
	int8_t presence;
	int8_t join_leave;
	int8_t force_push_join_leave;
	int8_t force_positioning;
	int8_t force_recovery;
};

/* Nothing given: where there is no token. */
#define TOKEN_OVERRIDE_NONE ((struct token_override){-1, -1, -1, -1, -1})

/* A server-side subscription. info and data are raw JSON, empty = none. */
struct token_sub {
	struct slice channel; /* never empty, and no two subs have the same */
	struct slice info;
	struct slice data;
	struct token_override override;
};

/* The slices point into text; free it when done, whatever the verdict was. */
struct connection_token {
	struct slice user;      /* "" = anonymous */
	struct slice info;      /* raw JSON; empty = none */
	struct slice meta;      /* raw JSON; empty = none; never sent to clients */
	uint64_t expires_at;    /* of the connection: wall seconds, 0 = never */
	struct token_sub *subs; /* owned; ordered by channel */
	size_t n_subs;
	struct buffer text; /* owned */
	const char *reason; /* static: why it is not TOKEN_OK, for the log; else NULL */
};

struct subscription_token {
	struct slice user;    /* has to be the connection's user: for the caller to compare */
	struct slice channel; /* never empty; for the caller to compare */
	struct slice client;  /* if not empty: the only client that may use it */
	struct slice info;
	struct slice data;
	uint64_t expires_at; /* of the subscription: wall seconds, 0 = never */
	struct token_override override;
	struct buffer text;
	const char *reason;
};

/*
 * The order: form, signature, claims' types, audience and issuer, the channel
 * claim (a connection token must not have one), exp and nbf. The first that fails
 * decides. now_s is the wall clock in seconds. Fills *out completely, with nothing
 * but reason unless the verdict is TOKEN_OK.
 *
 * Stricter than the RFCs ask: base64url must be canonical, a known claim or header
 * must not stand twice, an extension named in "crit" is refused, "typ" if given is
 * JWT. With HMAC, libjwt also refuses JSON numbers beyond 64 bits, \u0000 and halves
 * of surrogate pairs.
 */
enum token_verdict token_verify_connection(const struct token_verifier *verifier,
					   struct slice token, uint64_t now_s,
					   struct connection_token *out);
enum token_verdict token_verify_subscription(const struct token_verifier *verifier,
					     struct slice token, uint64_t now_s,
					     struct subscription_token *out);

void connection_token_free(struct connection_token *token);
void subscription_token_free(struct subscription_token *token);

#endif

/* SPDX-License-Identifier: ISC */
/*
 * What the JSON parts of a token say: its header, and its claims as fields with
 * checked types. Private to the auth room. Knows nothing of keys, of time, or of
 * what the settings demand.
 */
#ifndef KEEPSOCK_AUTH_TOKEN_CLAIMS_H
#define KEEPSOCK_AUTH_TOKEN_CLAIMS_H

#include <stdbool.h>

#include "keepsock/token.h"

/* Absent claims are zero. A null claim is absent. Raw ones are JSON inside the payload. */
struct token_claims {
	struct slice user; /* texts are decoded, in the buffer given */
	struct slice channel;
	struct slice client;
	struct slice b64info;
	struct slice b64data;
	struct slice info; /* raw, as all that follow */
	struct slice data;
	struct slice meta;
	struct slice override;
	struct slice issuer;   /* a string */
	struct slice audience; /* a string, or an array of strings */
	struct slice subs;     /* an object */
	struct slice channels; /* an array of strings */
	double expires;        /* RFC 7519 §2 NumericDate: seconds, fractions allowed */
	double not_before;
	int64_t expire_at; /* centrifugo's own: whole seconds */
	bool has_expires;
	bool has_not_before;
	bool has_expire_at;
};

/*
 * The header's "alg" appended to text. False if the header is no object, has none
 * or two, is of another "typ" than JWT, or demands extensions ("crit", RFC 7515
 * §4.1.11: we understand none).
 */
bool token_header_read(struct slice header, struct buffer *text, struct slice *algorithm);

/*
 * NULL, or why the payload is bad. text must have room for twice the payload, so
 * that no slice goes stale. user_claim is the name of the claim with the user.
 */
const char *token_claims_read_connection(struct slice payload, const char *user_claim,
					 struct buffer *text, struct token_claims *claims);
const char *token_claims_read_subscription(struct slice payload, const char *user_claim,
					   struct buffer *text, struct token_claims *claims);

/*
 * What the base64 text holds, or raw if there is none. False if it is not base64 of
 * JSON: clients get it as JSON. text must have room for it.
 */
bool token_claims_embedded(struct slice b64, struct slice raw, struct buffer *text,
			   struct slice *out);

/* The claim override; false on a wrong type. An empty raw gives TOKEN_OVERRIDE_NONE. */
bool token_claims_override(struct slice raw, struct token_override *out);

/*
 * The claims subs or, without any, channels, as a sorted array of their own in
 * *subs (free it, also on failure). NULL, or why they are bad.
 */
const char *token_claims_subs(const struct token_claims *claims, struct buffer *text,
			      struct token_sub **subs, size_t *n_subs);

#endif

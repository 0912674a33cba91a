/* SPDX-License-Identifier: ISC */
/*
 * Verifies tokens: takes them apart, lets the key ring check the signature, then
 * holds the claims against the settings and the clock. Runs in the workers, on
 * texts from anybody. Nothing of a token but its header is looked at before its
 * signature is known to be good, and nobody's regex runs on an attacker's text.
 */
#include "keepsock/token.h"

#include <regex.h>
#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/base64.h"
#include "keepsock/json.h"
#include "token_claims.h"
#include "token_keys.h"

#define USER_CLAIM_MAX 40 /* json_string_is() */
/* Later ends become this: every second up to here is exact in a double. */
#define SECONDS_MAX ((uint64_t)1 << 53)

/* A claim that has to be one text, or match one regex, or anything. */
struct demand {
	char *text; /* owned; NULL = none */
	regex_t regex;
	bool has_regex;
};

struct token_verifier {
	struct token_keys keys;
	struct demand audience;
	struct demand issuer;
	char *user_claim; /* owned */
};

/* ---- making a verifier ---- */

static bool given(const char *text)
{
	return text != NULL && text[0] != '\0';
}

static bool make_demand(struct demand *demand, const char *name, const char *text,
			const char *pattern, struct buffer *error)
{
	char reason[128];

	if (given(text) && given(pattern)) {
		buffer_printf(error, "%s and %s_regex are both given: use one of them", name, name);
		return false;
	}
	if (given(text))
		demand->text = xstrdup(text);
	if (!given(pattern))
		return true;
	int code = regcomp(&demand->regex, pattern, REG_EXTENDED | REG_NOSUB);
	if (code != 0) {
		regerror(code, NULL, reason, sizeof(reason));
		buffer_printf(error, "%s_regex is no regular expression: %s", name, reason);
		return false;
	}
	demand->has_regex = true;
	return true;
}

static bool make_user_claim(struct token_verifier *verifier, const char *name, struct buffer *error)
{
	size_t len;

	if (!given(name))
		name = "sub";
	len = strlen(name);
	for (const char *p = name; *p != '\0'; p++)
		if (*p <= ' ' || *p > '~')
			len = USER_CLAIM_MAX + 1;
	if (len > USER_CLAIM_MAX) {
		buffer_printf(error, "user_id_claim is no name of at most %d ASCII characters",
			      USER_CLAIM_MAX);
		return false;
	}
	verifier->user_claim = xstrdup(name);
	return true;
}

static bool make_keys(struct token_keys *keys, const struct token_options *options,
		      struct buffer *error)
{
	return (!given(options->hmac) ||
		token_keys_add_secret(keys, "hmac_secret_file", options->hmac, 0, error)) &&
	       (!given(options->hmac_previous) ||
		token_keys_add_secret(keys, "hmac_previous_secret_file", options->hmac_previous,
				      options->hmac_previous_valid_until, error)) &&
	       (!given(options->rsa) ||
		token_keys_add_rsa(keys, "rsa_public_key_file", options->rsa, error)) &&
	       (!given(options->ecdsa) ||
		token_keys_add_ecdsa(keys, "ecdsa_public_key_file", options->ecdsa, error));
}

struct token_verifier *token_verifier_create(const struct token_options *options,
					     struct buffer *error)
{
	struct token_verifier *verifier = xcalloc(1, sizeof(*verifier));

	if (make_keys(&verifier->keys, options, error) &&
	    make_demand(&verifier->audience, "audience", options->audience, options->audience_regex,
			error) &&
	    make_demand(&verifier->issuer, "issuer", options->issuer, options->issuer_regex,
			error) &&
	    make_user_claim(verifier, options->user_id_claim, error))
		return verifier;
	token_verifier_free(verifier);
	return NULL;
}

static void demand_free(struct demand *demand)
{
	free(demand->text);
	if (demand->has_regex)
		regfree(&demand->regex);
}

void token_verifier_free(struct token_verifier *verifier)
{
	if (verifier == NULL)
		return;
	token_keys_free(&verifier->keys);
	demand_free(&verifier->audience);
	demand_free(&verifier->issuer);
	free(verifier->user_claim);
	free(verifier);
}

bool token_verifier_has_keys(const struct token_verifier *verifier)
{
	return verifier->keys.count > 0;
}

/* ---- form and signature ---- */

struct parts {
	struct slice header;
	struct slice payload;
	struct slice signature;
};

/* header.payload.signature (RFC 7515 §7.1): two dots, neither more nor fewer. */
static bool split(struct slice token, struct parts *parts)
{
	const char *end = token.data + token.len;
	const char *first = token.len > 0 ? memchr(token.data, '.', token.len) : NULL;
	const char *second = first ? memchr(first + 1, '.', (size_t)(end - first - 1)) : NULL;

	if (second == NULL || memchr(second + 1, '.', (size_t)(end - second - 1)) != NULL)
		return false;
	parts->header = slice_from(token.data, (size_t)(first - token.data));
	parts->payload = slice_from(first + 1, (size_t)(second - first - 1));
	parts->signature = slice_from(second + 1, (size_t)(end - second - 1));
	return parts->signature.len > 0;
}

/*
 * NULL, or why the signature does not count. libjwt takes base64 with junk in it
 * and algorithms in any case, so the form is checked here first. scratch has room
 * for twice the token.
 */
static const char *check_signature(const struct token_verifier *verifier, struct slice token,
				   const struct parts *parts, uint64_t now_s,
				   struct buffer *scratch)
{
	struct token_signed what;
	struct slice name;
	size_t start;

	if (!base64url_decode(parts->header, scratch))
		return "the header is not base64url";
	if (!token_header_read(buffer_slice(scratch), scratch, &name))
		return "the header is no JSON object with one alg, typ JWT, and no crit";
	what.algorithm = token_algorithm_find(name);
	if (what.algorithm == JWT_ALG_NONE)
		return "the algorithm is not one of ours";
	buffer_reset(scratch);
	if (!base64url_decode(parts->signature, scratch))
		return "the signature is not base64url";
	what.signature = buffer_slice(scratch);
	start = scratch->len;
	buffer_append_slice(scratch, token);
	what.token = buffer_cstr(scratch) + start;
	what.text = slice_from(what.token, token.len - parts->signature.len - 1);
	if (!token_keys_verify(&verifier->keys, &what, now_s))
		return "no key of the algorithm made the signature";
	return NULL;
}

/* Gives the payload's JSON at the start of text, which gets room for all that follows. */
static const char *open_token(const struct token_verifier *verifier, struct slice token,
			      uint64_t now_s, struct buffer *text, struct slice *payload)
{
	struct buffer scratch = {0};
	struct parts parts;
	const char *problem;

	if (token.len > TOKEN_SIZE_MAX)
		return "longer than 16 KiB";
	if (!split(token, &parts))
		return "not three parts between two dots";
	/* The payload; its strings; the user once more if another claim serves; base64 in it. */
	buffer_reserve(text, token.len * 4 + 16);
	if (!base64url_decode(parts.payload, text))
		return "the payload is not base64url";
	buffer_reserve(&scratch, token.len * 2 + 16);
	problem = check_signature(verifier, token, &parts, now_s, &scratch);
	buffer_free(&scratch);
	*payload = buffer_slice(text);
	return problem;
}

/* ---- claims ---- */

/* raw is a string. */
static bool string_meets(const struct demand *demand, struct slice raw)
{
	struct buffer text = {0};
	bool good = false;

	if (json_string_decode(raw, &text)) {
		const char *value = buffer_cstr(&text);

		if (demand->text != NULL)
			good = slice_is(buffer_slice(&text), demand->text);
		else if (strlen(value) == text.len) /* no NUL that would end it early */
			good = regexec(&demand->regex, value, 0, NULL, 0) == 0;
	}
	buffer_free(&text);
	return good;
}

/* raw is empty for an absent claim, a string, or an array of which one has to do. */
static bool claim_meets(const struct demand *demand, struct slice raw)
{
	struct json_walk it;
	struct slice value;

	if (demand->text == NULL && !demand->has_regex)
		return true;
	if (raw.len == 0)
		return false;
	if (json_kind_of(raw) == JSON_KIND_STRING)
		return string_meets(demand, raw);
	json_array_begin(&it, raw);
	while (json_array_next(&it, &value))
		if (string_meets(demand, value))
			return true;
	return false;
}

static const char *check_origin(const struct token_verifier *verifier,
				const struct token_claims *claims)
{
	if (!claim_meets(&verifier->audience, claims->audience))
		return "the audience does not match";
	if (!claim_meets(&verifier->issuer, claims->issuer))
		return "the issuer does not match";
	return NULL;
}

/* RFC 7519 §4.1.4: not on or after exp; §4.1.5: not before nbf. No leeway, as upstream. */
static const char *check_time(const struct token_claims *claims, uint64_t now_s)
{
	if (claims->has_expires && claims->expires <= (double)now_s)
		return "expired";
	if (claims->has_not_before && claims->not_before > (double)now_s)
		return "not valid yet";
	return NULL;
}

/* When what the token opens ends: expire_at says so alone, 0 for never; else exp. */
static uint64_t expiry(const struct token_claims *claims)
{
	double seconds = 0;

	if (claims->has_expire_at)
		seconds = (double)claims->expire_at;
	else if (claims->has_expires)
		seconds = claims->expires;
	if (seconds <= 0)
		return 0;
	return seconds < (double)SECONDS_MAX ? (uint64_t)seconds : SECONDS_MAX;
}

/* ---- connection tokens ---- */

static const char *fill_connection(const struct token_claims *claims, struct connection_token *out)
{
	out->user = claims->user;
	out->meta = claims->meta;
	out->expires_at = expiry(claims);
	if (!token_claims_embedded(claims->b64info, claims->info, &out->text, &out->info))
		return "b64info is not base64 of JSON";
	return token_claims_subs(claims, &out->text, &out->subs, &out->n_subs);
}

static enum token_verdict refuse_connection(struct connection_token *out,
					    enum token_verdict verdict, const char *reason)
{
	connection_token_free(out);
	out->reason = reason;
	return verdict;
}

enum token_verdict token_verify_connection(const struct token_verifier *verifier,
					   struct slice token, uint64_t now_s,
					   struct connection_token *out)
{
	struct token_claims claims;
	struct slice payload;
	const char *problem;

	*out = (struct connection_token){0};
	problem = open_token(verifier, token, now_s, &out->text, &payload);
	if (problem == NULL)
		problem = token_claims_read_connection(payload, verifier->user_claim, &out->text,
						       &claims);
	if (problem == NULL)
		problem = check_origin(verifier, &claims);
	if (problem == NULL && claims.channel.len > 0)
		problem = "it is a subscription token: it has a channel claim";
	if (problem != NULL)
		return refuse_connection(out, TOKEN_INVALID, problem);
	problem = check_time(&claims, now_s);
	if (problem != NULL)
		return refuse_connection(out, TOKEN_EXPIRED, problem);
	problem = fill_connection(&claims, out);
	return problem == NULL ? TOKEN_OK : refuse_connection(out, TOKEN_INVALID, problem);
}

void connection_token_free(struct connection_token *token)
{
	free(token->subs);
	buffer_free(&token->text);
	*token = (struct connection_token){0};
}

/* ---- subscription tokens ---- */

static const char *fill_subscription(const struct token_claims *claims,
				     struct subscription_token *out)
{
	out->user = claims->user;
	out->channel = claims->channel;
	out->client = claims->client;
	out->expires_at = expiry(claims);
	if (out->channel.len == 0)
		return "without a channel claim";
	if (!token_claims_embedded(claims->b64info, claims->info, &out->text, &out->info) ||
	    !token_claims_embedded(claims->b64data, claims->data, &out->text, &out->data))
		return "b64info or b64data is not base64 of JSON";
	return token_claims_override(claims->override, &out->override)
		       ? NULL
		       : "an override stands twice or has the wrong type";
}

static enum token_verdict refuse_subscription(struct subscription_token *out,
					      enum token_verdict verdict, const char *reason)
{
	subscription_token_free(out);
	out->reason = reason;
	return verdict;
}

enum token_verdict token_verify_subscription(const struct token_verifier *verifier,
					     struct slice token, uint64_t now_s,
					     struct subscription_token *out)
{
	struct token_claims claims;
	struct slice payload;
	const char *problem;

	*out = (struct subscription_token){0};
	problem = open_token(verifier, token, now_s, &out->text, &payload);
	if (problem == NULL)
		problem = token_claims_read_subscription(payload, verifier->user_claim, &out->text,
							 &claims);
	if (problem == NULL)
		problem = check_origin(verifier, &claims);
	if (problem != NULL)
		return refuse_subscription(out, TOKEN_INVALID, problem);
	problem = check_time(&claims, now_s);
	if (problem != NULL)
		return refuse_subscription(out, TOKEN_EXPIRED, problem);
	problem = fill_subscription(&claims, out);
	return problem == NULL ? TOKEN_OK : refuse_subscription(out, TOKEN_INVALID, problem);
}

void subscription_token_free(struct subscription_token *token)
{
	buffer_free(&token->text);
	*token = (struct subscription_token){0};
}

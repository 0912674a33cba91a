/* SPDX-License-Identifier: ISC */
/*
 * Fuzz target for tokens. The first byte chooses:
 *
 *	u	a token that nobody signed: never good, whatever its algorithm
 *	c	three bytes that tell a change, header, line feed, claims: signed, then
 *		changed in one place; never good
 *	else	header, line feed, claims: signed; what comes out must hold together
 *
 * An empty header means the ordinary one.
 */
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "fuzz.h"
#include "keepsock/json.h"
#include "keepsock/random.h"
#include "keepsock/token.h"

#define NOW         1700000000u
#define EXPIRES_MAX ((uint64_t)1 << 53)

/* libFuzzer's: called once. */
int LLVMFuzzerInitialize(int *argc, char ***argv);

/* Their private halves were never stored. */
static const char rsa_pem[] = "-----BEGIN PUBLIC KEY-----\n"
			      "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAxcDakNSwzIySFKPeWDa+\n"
			      "lYMF7bbnqzCWgzsUhc+F303sn9MGVsdBdsypIfiGjDD973W1Lc+MJx36qKVETegI\n"
			      "44gHjmect9MuTzBMcrri/HU19f72zulINzKkZbAPUieIXXSB8jgCmNzeRdN8+fjh\n"
			      "VvtjF4VLV9GF0L+/hDfwvb+RCmHB9tj0TXsYr0sPHxtKgu/ZgBw5zHokB4JwMVax\n"
			      "e5f0dow4iI6hgfBblT4VctGwfbkuOD0jWrCOrrn1U2cWPC9MMNrieB3QINb/Qc9f\n"
			      "VH69Gc9Sz7ehDg5ojP248YyNmZQmZjvN+pQYnhsujdnHsLIcxhNyz/4rdWpr0sN+\n"
			      "bwIDAQAB\n"
			      "-----END PUBLIC KEY-----\n";
static const char p256_pem[] = "-----BEGIN PUBLIC KEY-----\n"
			       "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEJP/lGhLAer3tsuE2LXMvdzV8sLcn\n"
			       "9NMyei0emhBD6EcuOvwr1/xdc0mXlwyXZ0HhBV6HRXYwcOuy/JWY/yGXiQ==\n"
			       "-----END PUBLIC KEY-----\n";

static struct token_verifier *verifier;
static char secret[33];

/* Fresh in every process, so that no input can hold a good signature. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const struct token_options options = {.hmac = secret, .rsa = rsa_pem, .ecdsa = p256_pem};
	struct buffer error = {0};
	uint8_t bytes[sizeof(secret) - 1];

	(void)argc;
	(void)argv;
	random_bytes(bytes, sizeof(bytes));
	for (size_t i = 0; i < sizeof(bytes); i++)
		secret[i] = (char)('a' + bytes[i] % 26);
	verifier = token_verifier_create(&options, &error);
	require(verifier != NULL && error.len == 0);
	return 0;
}

static void append_base64url(struct buffer *out, const void *data, size_t len)
{
	static const char alphabet[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	const uint8_t *bytes = data;

	for (size_t i = 0; i < len * 8; i += 6) {
		unsigned pair = (unsigned)bytes[i / 8] << 8;

		if (i / 8 + 1 < len)
			pair |= bytes[i / 8 + 1];
		buffer_append_char(out, alphabet[pair >> (10 - i % 8) & 63]);
	}
}

static void sign(struct buffer *token, struct slice header, struct slice claims)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	append_base64url(token, header.data, header.len);
	buffer_append_char(token, '.');
	append_base64url(token, claims.data, claims.len);
	require(HMAC(EVP_sha256(), secret, (int)strlen(secret), (const unsigned char *)token->data,
		     token->len, digest, &len) != NULL);
	buffer_append_char(token, '.');
	append_base64url(token, digest, len);
}

static void check_raw(struct slice value, struct slice text)
{
	require(lies_in(value, text));
	require(value.len == 0 || json_validate(value));
}

static void check_switch(int8_t value)
{
	require(value >= -1 && value <= 1);
}

static void check_override(const struct token_override *override)
{
	check_switch(override->presence);
	check_switch(override->join_leave);
	check_switch(override->force_push_join_leave);
	check_switch(override->force_positioning);
	check_switch(override->force_recovery);
}

static int compare(struct slice a, struct slice b)
{
	int order = memcmp(a.data, b.data, a.len < b.len ? a.len : b.len);

	return order != 0 ? order : a.len < b.len ? -1 : a.len > b.len;
}

static enum token_verdict check_connection(struct slice token)
{
	struct connection_token out;
	enum token_verdict verdict = token_verify_connection(verifier, token, NOW, &out);
	struct slice text = buffer_slice(&out.text);

	require((verdict == TOKEN_OK) == (out.reason == NULL));
	if (verdict == TOKEN_OK) {
		require(lies_in(out.user, text) && out.expires_at <= EXPIRES_MAX);
		check_raw(out.info, text);
		check_raw(out.meta, text);
		require(out.n_subs <= TOKEN_SUBS_MAX);
	} else {
		require(out.subs == NULL && out.n_subs == 0 && out.text.data == NULL);
	}
	for (size_t i = 0; i < out.n_subs; i++) {
		require(out.subs[i].channel.len > 0 && lies_in(out.subs[i].channel, text));
		require(i == 0 || compare(out.subs[i - 1].channel, out.subs[i].channel) < 0);
		check_raw(out.subs[i].info, text);
		check_raw(out.subs[i].data, text);
		check_override(&out.subs[i].override);
	}
	connection_token_free(&out);
	return verdict;
}

static enum token_verdict check_subscription(struct slice token)
{
	struct subscription_token out;
	enum token_verdict verdict = token_verify_subscription(verifier, token, NOW, &out);
	struct slice text = buffer_slice(&out.text);

	require((verdict == TOKEN_OK) == (out.reason == NULL));
	if (verdict == TOKEN_OK) {
		require(out.channel.len > 0 && lies_in(out.channel, text));
		require(lies_in(out.user, text) && lies_in(out.client, text));
		require(out.expires_at <= EXPIRES_MAX);
		check_raw(out.info, text);
		check_raw(out.data, text);
		check_override(&out.override);
	} else {
		require(out.channel.len == 0 && out.text.data == NULL);
	}
	subscription_token_free(&out);
	return verdict;
}

static void check_unsigned(struct slice token)
{
	struct slice copy = exact_copy(token.data, token.len);

	require(check_connection(copy) == TOKEN_INVALID);
	require(check_subscription(copy) == TOKEN_INVALID);
	free((void *)copy.data);
}

static void check_signed(struct slice token, struct slice claims)
{
	enum token_verdict connection = check_connection(token);
	enum token_verdict subscription = check_subscription(token);

	require(check_connection(token) == connection);
	require(check_subscription(token) == subscription);
	/* One can't be used as the other. */
	require(connection != TOKEN_OK || subscription != TOKEN_OK);
	if (!json_validate(claims))
		require(connection == TOKEN_INVALID && subscription == TOKEN_INVALID);
}

static void check_changed(struct buffer *token, struct slice change)
{
	size_t at;

	if (change.len < 3 || change.data[2] == 0)
		return;
	at = ((uint8_t)change.data[0] << 8 | (uint8_t)change.data[1]) % token->len;
	token->data[at] = (char)(token->data[at] ^ change.data[2]);
	check_unsigned(buffer_slice(token));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice mode = take_input(&data, &size, 1), change = {0}, header, claims;
	struct buffer token = {0};
	const char *feed;

	if (mode.len == 0 || mode.data[0] == 'u') {
		check_unsigned(slice_from(data, size));
		return 0;
	}
	if (mode.data[0] == 'c')
		change = take_input(&data, &size, 3);
	feed = size > 0 ? memchr(data, '\n', size) : NULL;
	header = feed ? slice_from(data, (size_t)(feed - (const char *)data)) : SLICE("");
	claims = slice_from(data + header.len + (feed != NULL), size - header.len - (feed != NULL));
	sign(&token, header.len > 0 ? header : SLICE("{\"alg\":\"HS256\"}"), claims);
	if (mode.data[0] == 'c')
		check_changed(&token, change);
	else
		check_signed(buffer_slice(&token), claims);
	buffer_free(&token);
	return 0;
}

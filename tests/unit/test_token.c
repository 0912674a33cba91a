/* SPDX-License-Identifier: ISC */
/*
 * Which tokens are believed (src/auth): signatures of every algorithm with real
 * keys, every forgery we know of, time, audience, issuer, and keys that change.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "keepsock/alloc.h"
#include "keepsock/token.h"
#include "token_mint.h"

#define NOW    1000000u
#define SECRET "a-secret-of-the-application"

/* Made once: RSA keys take long under sanitizers. */
static struct {
	EVP_PKEY *rsa, *rsa_next, *p256, *p256_next, *p384, *p521;
	char *rsa_pem, *rsa_next_pem, *p256_pem, *p256_next_pem, *p384_pem, *p521_pem;
} keys;

static int make_keys(void **state)
{
	(void)state;
	keys.rsa = mint_rsa_key(2048);
	keys.rsa_next = mint_rsa_key(2048);
	keys.p256 = mint_ec_key("P-256");
	keys.p256_next = mint_ec_key("P-256");
	keys.p384 = mint_ec_key("P-384");
	keys.p521 = mint_ec_key("P-521");
	keys.rsa_pem = mint_public_pem(keys.rsa);
	keys.rsa_next_pem = mint_public_pem(keys.rsa_next);
	keys.p256_pem = mint_public_pem(keys.p256);
	keys.p256_next_pem = mint_public_pem(keys.p256_next);
	keys.p384_pem = mint_public_pem(keys.p384);
	keys.p521_pem = mint_public_pem(keys.p521);
	return 0;
}

static int free_keys(void **state)
{
	EVP_PKEY *all[] = {keys.rsa,       keys.rsa_next, keys.p256,
			   keys.p256_next, keys.p384,     keys.p521};
	char *texts[] = {keys.rsa_pem,       keys.rsa_next_pem, keys.p256_pem,
			 keys.p256_next_pem, keys.p384_pem,     keys.p521_pem};

	(void)state;
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		EVP_PKEY_free(all[i]);
		free(texts[i]);
	}
	return 0;
}

static struct token_verifier *make_verifier(const struct token_options *options)
{
	struct buffer error = {0};
	struct token_verifier *verifier = token_verifier_create(options, &error);

	if (verifier == NULL)
		fail_msg("%s", buffer_cstr(&error));
	assert_int_equal(error.len, 0);
	buffer_free(&error);
	return verifier;
}

/* The verdict on a token that nobody signed for us, with *reason why. */
static enum token_verdict verdict_on(const struct token_options *options, struct slice token,
				     uint64_t now, const char **reason)
{
	struct token_verifier *verifier = make_verifier(options);
	struct connection_token out;
	enum token_verdict verdict = token_verify_connection(verifier, token, now, &out);

	*reason = out.reason;
	assert_true((verdict == TOKEN_OK) == (out.reason == NULL));
	if (verdict != TOKEN_OK) {
		assert_int_equal(out.user.len + out.info.len + out.n_subs + out.text.len, 0);
		assert_null(out.subs);
	}
	connection_token_free(&out);
	token_verifier_free(verifier);
	return verdict;
}

static void check_text(const struct token_options *options, const char *token,
		       enum token_verdict expected)
{
	const char *reason;
	enum token_verdict verdict = verdict_on(options, slice_str(token), NOW, &reason);

	if (verdict != expected)
		fail_msg("verdict %d instead of %d (%s) on %.200s", verdict, expected,
			 reason ? reason : "good", token);
}

static void check_minted(const struct token_options *options, const struct mint *mint,
			 const char *header, const char *payload, enum token_verdict expected)
{
	struct buffer token = {0};

	check_text(options, mint_token(&token, mint, header, payload), expected);
	buffer_free(&token);
}

static const struct token_options by_secret = {.hmac = SECRET};
static const struct mint secret_256 = {.secret = SECRET, .digest = "SHA256"};

#define HS256 "{\"alg\":\"HS256\",\"typ\":\"JWT\"}"

/* The verdict on claims that are signed as they should be. */
static void check_claims(const struct token_options *options, const char *payload,
			 enum token_verdict expected)
{
	check_minted(options, &secret_256, HS256, payload, expected);
}

/* ---- signatures ---- */

static void test_every_algorithm(void **state)
{
	const struct {
		const char *header;
		struct mint mint;
	} all[] = {
		{"{\"alg\":\"HS256\"}", {.secret = SECRET, .digest = "SHA256"}},
		{"{\"alg\":\"HS384\"}", {.secret = SECRET, .digest = "SHA384"}},
		{"{\"alg\":\"HS512\"}", {.secret = SECRET, .digest = "SHA512"}},
		{"{\"alg\":\"RS256\"}", {.key = keys.rsa, .digest = "SHA256"}},
		{"{\"alg\":\"RS384\"}", {.key = keys.rsa, .digest = "SHA384"}},
		{"{\"alg\":\"RS512\"}", {.key = keys.rsa, .digest = "SHA512"}},
		{"{\"alg\":\"ES256\"}", {.key = keys.p256, .digest = "SHA256"}},
		{"{\"alg\":\"ES384\"}", {.key = keys.p384, .digest = "SHA384"}},
		{"{\"alg\":\"ES512\"}", {.key = keys.p521, .digest = "SHA512"}},
	};
	char *curves = xasprintf("%s%s%s", keys.p256_pem, keys.p384_pem, keys.p521_pem);
	struct token_options options = {.hmac = SECRET, .rsa = keys.rsa_pem, .ecdsa = curves};

	(void)state;
	/* Every signature under every header: only the right pair is good. */
	for (size_t h = 0; h < 9; h++)
		for (size_t m = 0; m < 9; m++)
			check_minted(&options, &all[m].mint, all[h].header, "{\"sub\":\"u\"}",
				     h == m ? TOKEN_OK : TOKEN_INVALID);
	free(curves);
}

static void test_no_keys_no_tokens(void **state)
{
	static const struct token_options nothing = {.hmac = "", .rsa = ""};
	struct token_verifier *verifier = make_verifier(&nothing);

	(void)state;
	assert_false(token_verifier_has_keys(verifier));
	token_verifier_free(verifier);
	check_claims(&nothing, "{\"sub\":\"u\"}", TOKEN_INVALID);
	check_minted(&nothing, &(struct mint){.secret = "", .digest = "SHA256"}, HS256, "{}",
		     TOKEN_INVALID);
	verifier = make_verifier(&by_secret);
	assert_true(token_verifier_has_keys(verifier));
	token_verifier_free(verifier);
	token_verifier_free(NULL);
}

static void test_algorithm_none(void **state)
{
	static const char *const headers[] = {
		"{\"alg\":\"none\"}", "{\"alg\":\"None\"}",    "{\"alg\":\"NONE\"}",
		"{\"alg\":\"\"}",     "{\"typ\":\"JWT\"}",     "{\"alg\":null}",
		"{\"alg\":0}",        "{\"alg\":[\"HS256\"]}",
	};
	static const char payload[] = "{\"sub\":\"admin\"}";
	struct token_options options = {
		.hmac = SECRET, .rsa = keys.rsa_pem, .ecdsa = keys.p256_pem};
	static const struct token_options nothing = {0};

	(void)state;
	for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
		struct buffer token = {0};

		mint_base64url(&token, headers[i], strlen(headers[i]));
		buffer_append_char(&token, '.');
		mint_base64url(&token, payload, strlen(payload));
		check_text(&options, buffer_cstr(&token), TOKEN_INVALID);
		buffer_append_char(&token, '.');
		check_text(&options, buffer_cstr(&token), TOKEN_INVALID);
		check_text(&nothing, buffer_cstr(&token), TOKEN_INVALID);
		buffer_append_str(&token, "AAAA");
		check_text(&options, buffer_cstr(&token), TOKEN_INVALID);
		check_text(&nothing, buffer_cstr(&token), TOKEN_INVALID);
		buffer_free(&token);
		check_minted(&options, &secret_256, headers[i], payload, TOKEN_INVALID);
	}
}

/* The public key is known to everybody, so it must not serve as a secret (CVE-2015-9235). */
static void test_public_key_as_secret(void **state)
{
	static const char *const digests[] = {"SHA256", "SHA384", "SHA512"};
	static const char *const headers[] = {"{\"alg\":\"HS256\"}", "{\"alg\":\"HS384\"}",
					      "{\"alg\":\"HS512\"}"};
	struct token_options public_only = {.rsa = keys.rsa_pem, .ecdsa = keys.p256_pem};
	struct token_options with_secret = {
		.hmac = SECRET, .rsa = keys.rsa_pem, .ecdsa = keys.p256_pem};
	const char *pems[] = {keys.rsa_pem, keys.p256_pem};

	(void)state;
	for (size_t i = 0; i < 3; i++)
		for (size_t k = 0; k < 2; k++) {
			struct mint mint = {.secret = pems[k], .digest = digests[i]};

			check_minted(&public_only, &mint, headers[i], "{\"sub\":\"admin\"}",
				     TOKEN_INVALID);
			check_minted(&with_secret, &mint, headers[i], "{\"sub\":\"admin\"}",
				     TOKEN_INVALID);
		}
}

static void test_wrong_keys(void **state)
{
	struct token_options options = {
		.hmac = SECRET, .rsa = keys.rsa_pem, .ecdsa = keys.p256_pem};
	const struct {
		const char *header;
		struct mint mint;
	} forged[] = {
		{"{\"alg\":\"HS256\"}", {.secret = "guess", .digest = "SHA256"}},
		{"{\"alg\":\"HS256\"}", {.secret = "", .digest = "SHA256"}},
		{"{\"alg\":\"RS256\"}", {.key = keys.rsa_next, .digest = "SHA256"}},
		{"{\"alg\":\"ES256\"}", {.key = keys.p256_next, .digest = "SHA256"}},
		/* The right key, an algorithm of another name. */
		{"{\"alg\":\"hs256\"}", {.secret = SECRET, .digest = "SHA256"}},
		{"{\"alg\":\"HS256 \"}", {.secret = SECRET, .digest = "SHA256"}},
		{"{\"alg\":\"PS256\"}", {.key = keys.rsa, .digest = "SHA256"}},
		{"{\"alg\":\"EdDSA\"}", {.secret = SECRET, .digest = "SHA256"}},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(forged) / sizeof(forged[0]); i++)
		check_minted(&options, &forged[i].mint, forged[i].header, "{}", TOKEN_INVALID);
}

/* A key on one curve with the name and digest of another: RFC 7518 §3.4 binds them. */
static void test_curve_belongs_to_algorithm(void **state)
{
	struct token_options options = {.ecdsa = keys.p384_pem};

	(void)state;
	check_minted(&options, &(struct mint){.key = keys.p384, .digest = "SHA384"},
		     "{\"alg\":\"ES384\"}", "{}", TOKEN_OK);
	check_minted(&options, &(struct mint){.key = keys.p384, .digest = "SHA256"},
		     "{\"alg\":\"ES256\"}", "{}", TOKEN_INVALID);
	check_minted(&options, &(struct mint){.key = keys.p384, .digest = "SHA512"},
		     "{\"alg\":\"ES512\"}", "{}", TOKEN_INVALID);
}

/* r = s = 0 was once accepted by others (CVE-2022-21449). */
static void test_empty_numbers(void **state)
{
	static const uint8_t zeros[64];
	struct token_options options = {.ecdsa = keys.p256_pem};
	struct buffer token = {0};

	(void)state;
	mint_base64url(&token, "{\"alg\":\"ES256\"}", 15);
	buffer_append_char(&token, '.');
	mint_base64url(&token, "{}", 2);
	buffer_append_char(&token, '.');
	mint_base64url(&token, zeros, sizeof(zeros));
	check_text(&options, buffer_cstr(&token), TOKEN_INVALID);
	buffer_free(&token);
}

/* Nothing but two numbers at full length; DER, which OpenSSL makes, is not that. */
static void test_length_of_numbers(void **state)
{
	struct token_options options = {.ecdsa = keys.p256_pem};
	struct mint mint = {.key = keys.p256, .digest = "SHA256"};
	struct buffer text = {0}, signature = {0}, token = {0};

	(void)state;
	mint_base64url(&text, "{\"alg\":\"ES256\"}", 15);
	buffer_append_str(&text, ".e30");
	mint_signature(&signature, &mint, buffer_slice(&text));
	assert_int_equal(signature.len, 64);
	buffer_append_str(&signature, "\1\2");
	for (size_t len = 1; len <= signature.len; len++) {
		buffer_reset(&token);
		buffer_append_slice(&token, buffer_slice(&text));
		buffer_append_char(&token, '.');
		mint_base64url(&token, signature.data, len);
		check_text(&options, buffer_cstr(&token), len == 64 ? TOKEN_OK : TOKEN_INVALID);
	}
	buffer_free(&text);
	buffer_free(&signature);
	buffer_free(&token);
}

/* ---- the form ---- */

/* No byte of a good token can be changed, left out or doubled. */
static void test_every_byte_counts(void **state)
{
	const struct mint mints[] = {secret_256, {.key = keys.p256, .digest = "SHA256"}};
	const char *headers[] = {"{\"alg\":\"HS256\"}", "{\"alg\":\"ES256\"}"};
	struct token_options options = {.hmac = SECRET, .ecdsa = keys.p256_pem};
	struct token_verifier *verifier = make_verifier(&options);
	struct connection_token out;
	struct buffer token = {0}, changed = {0};

	(void)state;
	for (size_t m = 0; m < 2; m++) {
		mint_token(&token, &mints[m], headers[m], "{\"sub\":\"u\",\"exp\":1000001}");
		for (size_t at = 0; at < token.len; at++)
			for (int change = 0; change < 3; change++) {
				size_t rest = change == 2 ? at : at + 1;

				buffer_reset(&changed);
				buffer_append(&changed, token.data, at);
				if (change > 0)
					buffer_append_char(&changed,
							   (char)(token.data[at] ^ change));
				buffer_append(&changed, token.data + rest, token.len - rest);
				assert_int_equal(token_verify_connection(verifier,
									 buffer_slice(&changed),
									 NOW, &out),
						 TOKEN_INVALID);
				connection_token_free(&out);
			}
		assert_int_equal(token_verify_connection(verifier, buffer_slice(&token), NOW, &out),
				 TOKEN_OK);
		connection_token_free(&out);
	}
	buffer_free(&token);
	buffer_free(&changed);
	token_verifier_free(verifier);
}

static void test_dots_and_junk(void **state)
{
	static const char *const bad[] = {"",    ".",     "..",   "...",     "a",
					  "a.b", "a.b.c", "....", "e30.e30."};
	static const char *const around[] = {".%s",  "%s.", "%s.AAAA", "%s ",  " %s",
					     "%s\n", "%s=", "%s==",    "%s\t", "Bearer %s"};
	struct buffer token = {0};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		check_text(&by_secret, bad[i], TOKEN_INVALID);
	mint_token(&token, &secret_256, HS256, "{\"sub\":\"u\"}");
	check_text(&by_secret, buffer_cstr(&token), TOKEN_OK);
	for (size_t i = 0; i < sizeof(around) / sizeof(around[0]); i++) {
		const char *mark = strchr(around[i], '%');
		char *text = xasprintf("%.*s%s%s", (int)(mark - around[i]), around[i],
				       buffer_cstr(&token), mark + 2);

		check_text(&by_secret, text, TOKEN_INVALID);
		free(text);
	}
	buffer_free(&token);
}

static void test_nul_byte_does_not_end_a_token(void **state)
{
	struct buffer token = {0};
	const char *reason;

	(void)state;
	mint_token(&token, &secret_256, HS256, "{\"sub\":\"u\"}");
	buffer_append(&token, "\0", 1);
	assert_int_equal(verdict_on(&by_secret, buffer_slice(&token), NOW, &reason), TOKEN_INVALID);
	buffer_append_str(&token, "junk");
	assert_int_equal(verdict_on(&by_secret, buffer_slice(&token), NOW, &reason), TOKEN_INVALID);
	buffer_free(&token);
	assert_int_equal(verdict_on(&by_secret, slice_from(NULL, 0), NOW, &reason), TOKEN_INVALID);
}

/* Up to the limit a token is good, one byte more and it is not. */
static void test_size_limit(void **state)
{
	struct buffer payload = {0}, token = {0};
	size_t longest = 0, shortest_refused = 0;

	(void)state;
	for (size_t fill = 11900; fill < 12300; fill++) {
		const char *reason;

		buffer_reset(&payload);
		buffer_append_str(&payload, "{\"sub\":\"");
		for (size_t i = 0; i < fill; i++)
			buffer_append_char(&payload, 'x');
		buffer_append_str(&payload, "\"}");
		mint_token(&token, &secret_256, HS256, buffer_cstr(&payload));
		if (verdict_on(&by_secret, buffer_slice(&token), NOW, &reason) == TOKEN_OK)
			longest = token.len;
		else if (shortest_refused == 0)
			shortest_refused = token.len;
	}
	assert_in_range(longest, TOKEN_SIZE_MAX - 2, TOKEN_SIZE_MAX);
	assert_in_range(shortest_refused, TOKEN_SIZE_MAX + 1, TOKEN_SIZE_MAX + 2);
	buffer_free(&payload);
	buffer_free(&token);
}

static void test_headers(void **state)
{
	static const struct {
		const char *header;
		enum token_verdict expected;
	} all[] = {
		{"{\"alg\":\"HS256\"}", TOKEN_OK},
		{"{\"alg\":\"HS256\",\"typ\":\"JWT\",\"kid\":\"1\"}", TOKEN_OK},
		{" { \"alg\" : \"HS256\" } ", TOKEN_OK},
		{"{\"\\u0061lg\":\"HS\\u0032\\u0035\\u0036\"}", TOKEN_OK},
		/* Whoever reads the last and whoever reads the first must agree. */
		{"{\"alg\":\"none\",\"alg\":\"HS256\"}", TOKEN_INVALID},
		{"{\"alg\":\"HS256\",\"alg\":\"none\"}", TOKEN_INVALID},
		{"{\"alg\":\"HS256\",\"\\u0061lg\":\"HS256\"}", TOKEN_INVALID},
		{"{\"alg\":\"HS256\",\"crit\":[\"exp\"]}", TOKEN_INVALID},
		{"{\"alg\":\"HS256\",\"crit\":[\"b64\"],\"b64\":false}", TOKEN_INVALID},
		{"{\"alg\":\"HS256\",\"typ\":\"jwt\"}", TOKEN_OK},
		{"{\"alg\":\"HS256\",\"typ\":\"secevent+jwt\"}", TOKEN_INVALID},
		{"{\"alg\":\"HS256\",\"typ\":\"JWE\"}", TOKEN_INVALID},
		{"{\"alg\":\"HS256\",\"typ\":5}", TOKEN_INVALID},
		{"{\"alg\":\"HS256\",\"typ\":\"JWT\",\"typ\":\"JWT\"}", TOKEN_INVALID},
		{"{\"alg\":\"HS256\"", TOKEN_INVALID},
		{"{\"alg\":\"HS256\"}x", TOKEN_INVALID},
		{"[\"HS256\"]", TOKEN_INVALID},
		{"\"HS256\"", TOKEN_INVALID},
		{"", TOKEN_INVALID},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		check_minted(&by_secret, &secret_256, all[i].header, "{}", all[i].expected);
}

/* ---- time ---- */

static void test_time(void **state)
{
	static const struct {
		const char *payload;
		enum token_verdict expected;
	} all[] = {
		{"{\"exp\":1000001}", TOKEN_OK},
		{"{\"exp\":1000000}", TOKEN_EXPIRED},
		{"{\"exp\":1000000.5}", TOKEN_OK},
		{"{\"exp\":999999.9}", TOKEN_EXPIRED},
		{"{\"exp\":1.000001e6}", TOKEN_OK},
		{"{\"exp\":0}", TOKEN_EXPIRED},
		{"{\"exp\":-1}", TOKEN_EXPIRED},
		{"{\"exp\":9223372036854775807}", TOKEN_OK},
		{"{\"exp\":1e300}", TOKEN_OK},
		{"{\"exp\":null}", TOKEN_OK},
		{"{\"exp\":\"1000001\"}", TOKEN_INVALID},
		{"{\"exp\":true}", TOKEN_INVALID},
		{"{\"exp\":[1000001]}", TOKEN_INVALID},
		{"{\"exp\":1000001,\"exp\":1000002}", TOKEN_INVALID},
		{"{\"exp\":null,\"exp\":1000001}", TOKEN_INVALID},
		{"{\"exp\":1000001.0000000000000000000000000000000000000000000000000000000001}",
		 TOKEN_INVALID},
		{"{\"nbf\":1000000}", TOKEN_OK},
		{"{\"nbf\":1000001}", TOKEN_EXPIRED},
		{"{\"nbf\":1000000.1}", TOKEN_EXPIRED},
		{"{\"nbf\":-5}", TOKEN_OK},
		{"{\"nbf\":\"0\"}", TOKEN_INVALID},
		{"{\"nbf\":999999,\"exp\":1000001}", TOKEN_OK},
		{"{\"nbf\":1000001,\"exp\":1000002}", TOKEN_EXPIRED},
		{"{\"iat\":2000000}", TOKEN_OK},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		check_claims(&by_secret, all[i].payload, all[i].expected);
}

/* The first check that fails decides: an expired token that is also wrong is invalid. */
static void test_order(void **state)
{
	static const struct token_options options = {.hmac = SECRET, .audience = "us"};

	(void)state;
	check_claims(&options, "{\"exp\":1,\"aud\":\"us\"}", TOKEN_EXPIRED);
	check_claims(&options, "{\"exp\":1,\"aud\":\"them\"}", TOKEN_INVALID);
	check_claims(&options, "{\"exp\":1,\"aud\":\"us\",\"info\":1,\"info\":2}", TOKEN_INVALID);
	check_claims(&options, "{\"exp\":1,\"aud\":\"us\",\"channel\":\"c\"}", TOKEN_INVALID);
	check_claims(&options, "{\"exp\":1,\"aud\":\"us\",\"b64info\":\"*\"}", TOKEN_EXPIRED);
	check_minted(&options, &(struct mint){.secret = "guess", .digest = "SHA256"}, HS256,
		     "{\"exp\":1,\"aud\":\"us\"}", TOKEN_INVALID);
}

/* ---- audience and issuer ---- */

static void test_audience(void **state)
{
	static const struct token_options text = {.hmac = SECRET, .audience = "chat"};
	static const struct token_options regex = {.hmac = SECRET,
						   .audience_regex = "^(a|b)-[0-9]+$"};
	static const struct token_options anywhere = {.hmac = SECRET, .audience_regex = "hat"};

	(void)state;
	check_claims(&by_secret, "{\"aud\":\"anything\"}", TOKEN_OK);
	check_claims(&by_secret, "{\"aud\":5}", TOKEN_INVALID);
	check_claims(&text, "{\"aud\":\"chat\"}", TOKEN_OK);
	check_claims(&text, "{\"aud\":\"\\u0063hat\"}", TOKEN_OK);
	check_claims(&text, "{\"aud\":[\"x\",\"chat\"]}", TOKEN_OK);
	check_claims(&text, "{\"aud\":[\"chat\"]}", TOKEN_OK);
	check_claims(&text, "{\"aud\":\"chat2\"}", TOKEN_INVALID);
	check_claims(&text, "{\"aud\":\"cha\"}", TOKEN_INVALID);
	check_claims(&text, "{\"aud\":[]}", TOKEN_INVALID);
	check_claims(&text, "{\"aud\":[\"x\",\"y\"]}", TOKEN_INVALID);
	check_claims(&text, "{\"aud\":[\"chat\",5]}", TOKEN_INVALID);
	check_claims(&text, "{\"aud\":{\"chat\":1}}", TOKEN_INVALID);
	check_claims(&text, "{\"aud\":null}", TOKEN_INVALID);
	check_claims(&text, "{}", TOKEN_INVALID);
	check_claims(&text, "{\"aud\":\"chat\",\"aud\":\"chat\"}", TOKEN_INVALID);
	check_claims(&regex, "{\"aud\":\"a-1\"}", TOKEN_OK);
	check_claims(&regex, "{\"aud\":[\"none\",\"b-22\"]}", TOKEN_OK);
	check_claims(&regex, "{\"aud\":\"c-1\"}", TOKEN_INVALID);
	check_claims(&regex, "{\"aud\":\"\"}", TOKEN_INVALID);
	check_claims(&regex, "{}", TOKEN_INVALID);
	check_claims(&anywhere, "{\"aud\":\"what?\"}", TOKEN_OK);
}

static void test_issuer(void **state)
{
	static const struct token_options text = {.hmac = SECRET, .issuer = "https://id/"};
	static const struct token_options regex = {.hmac = SECRET,
						   .issuer_regex = "^https://[a-z]+$"};

	(void)state;
	check_claims(&text, "{\"iss\":\"https:\\/\\/id/\"}", TOKEN_OK);
	check_claims(&text, "{\"iss\":\"https://id\"}", TOKEN_INVALID);
	check_claims(&text, "{\"iss\":[\"https://id/\"]}", TOKEN_INVALID);
	check_claims(&text, "{}", TOKEN_INVALID);
	check_claims(&regex, "{\"iss\":\"https://abc\"}", TOKEN_OK);
	check_claims(&regex, "{\"iss\":\"https://abc1\"}", TOKEN_INVALID);
	check_claims(&regex, "{\"iss\":\"https://abc\\nx\"}", TOKEN_INVALID);
	check_claims(&regex, "{}", TOKEN_INVALID);
}

/* ---- keys that change ---- */

static void test_previous_secret(void **state)
{
	static const struct mint old = {.secret = "the-old-one", .digest = "SHA256"};
	struct token_options options = {.hmac = SECRET, .hmac_previous = "the-old-one"};

	(void)state;
	check_minted(&options, &old, HS256, "{}", TOKEN_OK);
	check_minted(&options, &secret_256, HS256, "{}", TOKEN_OK);
	options.hmac_previous_valid_until = NOW;
	check_minted(&options, &old, HS256, "{}", TOKEN_OK);
	options.hmac_previous_valid_until = NOW - 1;
	check_minted(&options, &old, HS256, "{}", TOKEN_INVALID);
	check_minted(&options, &secret_256, HS256, "{}", TOKEN_OK);
	options.hmac = NULL;
	check_minted(&options, &secret_256, HS256, "{}", TOKEN_INVALID);
}

static void test_several_public_keys(void **state)
{
	char *rsa = xasprintf("# retired\n%s\n# now\n%s", keys.rsa_pem, keys.rsa_next_pem);
	char *ecdsa = xasprintf("%s%s%s", keys.p256_pem, keys.p384_pem, keys.p256_next_pem);
	struct token_options options = {.rsa = rsa, .ecdsa = ecdsa};
	const struct {
		const char *header;
		struct mint mint;
	} all[] = {
		{"{\"alg\":\"RS256\"}", {.key = keys.rsa, .digest = "SHA256"}},
		{"{\"alg\":\"RS512\"}", {.key = keys.rsa_next, .digest = "SHA512"}},
		{"{\"alg\":\"ES256\"}", {.key = keys.p256, .digest = "SHA256"}},
		{"{\"alg\":\"ES256\"}", {.key = keys.p256_next, .digest = "SHA256"}},
		{"{\"alg\":\"ES384\"}", {.key = keys.p384, .digest = "SHA384"}},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		check_minted(&options, &all[i].mint, all[i].header, "{}", TOKEN_OK);
	check_minted(&options, &(struct mint){.key = keys.p521, .digest = "SHA512"},
		     "{\"alg\":\"ES512\"}", "{}", TOKEN_INVALID);
	free(rsa);
	free(ecdsa);
}

/* ---- settings that can't be used ---- */

static void check_refused(struct token_options options, const char *reason)
{
	struct buffer error = {0};

	assert_null(token_verifier_create(&options, &error));
	if (strstr(buffer_cstr(&error), reason) == NULL)
		fail_msg("\"%s\" is not in: %s", reason, buffer_cstr(&error));
	buffer_free(&error);
}

static void test_bad_keys(void **state)
{
	EVP_PKEY *small = mint_rsa_key(1024);
	EVP_PKEY *odd = mint_ec_key("secp256k1");
	char *small_pem = mint_public_pem(small);
	char *odd_pem = mint_public_pem(odd);
	char *private_pem = mint_private_pem(keys.p256);
	char *damaged = xasprintf("%s%.100s", keys.rsa_pem, keys.rsa_next_pem);
	char *scrambled = xstrdup(keys.rsa_pem);
	struct buffer many = {0};

	(void)state;
	memcpy(scrambled + 40, "AAAAAAAAAAAA", 12);
	for (int i = 0; i < 17; i++)
		buffer_append_str(&many, keys.p256_pem);
	check_refused((struct token_options){.hmac = keys.rsa_pem}, "hmac_secret_file holds a PEM");
	check_refused((struct token_options){.hmac_previous = keys.p256_pem},
		      "hmac_previous_secret");
	check_refused((struct token_options){.rsa = "secret"}, "holds no PEM public key");
	check_refused((struct token_options){.rsa = keys.p256_pem}, "key 1 is not an RSA key");
	check_refused((struct token_options){.ecdsa = keys.rsa_pem}, "is not an elliptic curve");
	check_refused((struct token_options){.rsa = small_pem}, "fewer than 2048 bits");
	check_refused((struct token_options){.ecdsa = odd_pem}, "none of the curves");
	check_refused((struct token_options){.ecdsa = private_pem}, "is a private key");
	check_refused((struct token_options){.rsa = damaged}, "key 2 is damaged PEM");
	check_refused((struct token_options){.rsa = scrambled}, "rsa_public_key_file: key 1");
	check_refused((struct token_options){.ecdsa = buffer_cstr(&many)},
		      "key 17 is one too many");
	buffer_free(&many);
	free(scrambled);
	free(damaged);
	free(private_pem);
	free(odd_pem);
	free(small_pem);
	EVP_PKEY_free(odd);
	EVP_PKEY_free(small);
}

static void test_bad_settings(void **state)
{
	(void)state;
	check_refused((struct token_options){.audience_regex = "("},
		      "audience_regex is no regular");
	check_refused((struct token_options){.issuer_regex = "[a"}, "issuer_regex is no regular");
	check_refused((struct token_options){.audience = "a", .audience_regex = "a"}, "both given");
	check_refused((struct token_options){.issuer = "a", .issuer_regex = "a"}, "both given");
	check_refused((struct token_options){.user_id_claim = "user id"}, "user_id_claim");
	check_refused((struct token_options){.user_id_claim = "ü"}, "user_id_claim");
	check_refused((struct token_options){.user_id_claim =
						     "a234567890b234567890c234567890d234567890e"},
		      "user_id_claim");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_algorithm),
		cmocka_unit_test(test_no_keys_no_tokens),
		cmocka_unit_test(test_algorithm_none),
		cmocka_unit_test(test_public_key_as_secret),
		cmocka_unit_test(test_wrong_keys),
		cmocka_unit_test(test_curve_belongs_to_algorithm),
		cmocka_unit_test(test_empty_numbers),
		cmocka_unit_test(test_length_of_numbers),
		cmocka_unit_test(test_every_byte_counts),
		cmocka_unit_test(test_dots_and_junk),
		cmocka_unit_test(test_nul_byte_does_not_end_a_token),
		cmocka_unit_test(test_size_limit),
		cmocka_unit_test(test_headers),
		cmocka_unit_test(test_time),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_audience),
		cmocka_unit_test(test_issuer),
		cmocka_unit_test(test_previous_secret),
		cmocka_unit_test(test_several_public_keys),
		cmocka_unit_test(test_bad_keys),
		cmocka_unit_test(test_bad_settings),
	};

	return cmocka_run_group_tests(tests, make_keys, free_keys);
}

/* SPDX-License-Identifier: ISC */
/*
 * Taking keys in and checking signatures with them. Runs in the workers. Every
 * key is examined when it comes, so that an unusable one is told at the start.
 * libjwt checks HMAC; public keys go to OpenSSL directly, because libjwt would
 * read the PEM text again for each token, which costs many times the signature.
 * It must never let a token choose what kind of key it is compared with.
 */
#include "token_keys.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "keepsock/alloc.h"
#include "keepsock/secret.h"

/* RFC 7518 §3.3. */
#define RSA_BITS_MIN 2048

static const struct algorithm {
	struct slice name;
	jwt_alg_t id;
	const char *digest;
} algorithms[] = {
	{{"HS256", 5}, JWT_ALG_HS256, "SHA256"}, {{"HS384", 5}, JWT_ALG_HS384, "SHA384"},
	{{"HS512", 5}, JWT_ALG_HS512, "SHA512"}, {{"RS256", 5}, JWT_ALG_RS256, "SHA256"},
	{{"RS384", 5}, JWT_ALG_RS384, "SHA384"}, {{"RS512", 5}, JWT_ALG_RS512, "SHA512"},
	{{"ES256", 5}, JWT_ALG_ES256, "SHA256"}, {{"ES384", 5}, JWT_ALG_ES384, "SHA384"},
	{{"ES512", 5}, JWT_ALG_ES512, "SHA512"},
};

jwt_alg_t token_algorithm_find(struct slice name)
{
	for (size_t i = 0; i < sizeof(algorithms) / sizeof(algorithms[0]); i++)
		if (slice_equal(name, algorithms[i].name))
			return algorithms[i].id;
	return JWT_ALG_NONE;
}

static const char *digest_of(jwt_alg_t id)
{
	for (size_t i = 0; i < sizeof(algorithms) / sizeof(algorithms[0]); i++)
		if (algorithms[i].id == id)
			return algorithms[i].digest;
	return NULL;
}

/* A key without anything; it stays where it is until the next one comes. */
static struct token_key *add_key(struct token_keys *keys)
{
	keys->keys = xrealloc(keys->keys, (keys->count + 1) * sizeof(*keys->keys));
	struct token_key *key = &keys->keys[keys->count++];
	*key = (struct token_key){0};
	return key;
}

bool token_keys_add_secret(struct token_keys *keys, const char *name, const char *secret,
			   uint64_t valid_until, struct buffer *error)
{
	struct token_key *key;

	if (strstr(secret, "-----BEGIN ") != NULL) {
		/* A public key is known to everybody: as a secret it would sign anything. */
		buffer_printf(error, "%s holds a PEM key instead of a shared secret", name);
		return false;
	}
	key = add_key(keys);
	key->secret = xstrdup(secret);
	key->secret_len = strlen(secret);
	key->algorithms[0] = JWT_ALG_HS256;
	key->algorithms[1] = JWT_ALG_HS384;
	key->algorithms[2] = JWT_ALG_HS512;
	key->valid_until = valid_until;
	return true;
}

/* ---- public keys ---- */

/* NULL if it can be used, else what is wrong with it. */
typedef const char *examine_fn(EVP_PKEY *public_key, jwt_alg_t algorithms_of_key[3]);

static const char *examine_rsa(EVP_PKEY *public_key, jwt_alg_t algorithms_of_key[3])
{
	if (EVP_PKEY_get_base_id(public_key) != EVP_PKEY_RSA)
		return "is not an RSA key";
	if (EVP_PKEY_get_bits(public_key) < RSA_BITS_MIN)
		return "has fewer than 2048 bits";
	algorithms_of_key[0] = JWT_ALG_RS256;
	algorithms_of_key[1] = JWT_ALG_RS384;
	algorithms_of_key[2] = JWT_ALG_RS512;
	return NULL;
}

/* A curve belongs to one algorithm (RFC 7518 §3.4), which libjwt does not check. */
static const char *examine_ecdsa(EVP_PKEY *public_key, jwt_alg_t algorithms_of_key[3])
{
	static const struct {
		const char *curve;
		jwt_alg_t algorithm;
	} curves[] = {
		{"prime256v1", JWT_ALG_ES256},
		{"secp384r1", JWT_ALG_ES384},
		{"secp521r1", JWT_ALG_ES512},
	};
	char curve[64];

	if (EVP_PKEY_get_base_id(public_key) != EVP_PKEY_EC)
		return "is not an elliptic curve key";
	if (EVP_PKEY_get_utf8_string_param(public_key, OSSL_PKEY_PARAM_GROUP_NAME, curve,
					   sizeof(curve), NULL) != 1)
		return "is on a curve without a name";
	for (size_t i = 0; i < sizeof(curves) / sizeof(curves[0]); i++)
		if (strcmp(curve, curves[i].curve) == 0)
			algorithms_of_key[0] = curves[i].algorithm;
	return algorithms_of_key[0] == JWT_ALG_NONE ? "is on none of the curves P-256, P-384, P-521"
						    : NULL;
}

/* One PEM block; NULL if it is good, else what is wrong with it. */
static const char *add_block(struct token_keys *keys, const char *kind, const unsigned char *der,
			     long der_len, examine_fn *examine)
{
	jwt_alg_t algorithms_of_key[3] = {JWT_ALG_NONE, JWT_ALG_NONE, JWT_ALG_NONE};
	const unsigned char *at = der;
	const char *problem;

	if (strstr(kind, "PRIVATE KEY") != NULL)
		return "is a private key: give the public one only (openssl pkey -pubout)";
	if (strcmp(kind, "PUBLIC KEY") != 0)
		return "is not of the kind PUBLIC KEY (openssl pkey -pubout)";
	EVP_PKEY *public_key = d2i_PUBKEY(NULL, &at, der_len);
	if (public_key == NULL || at != der + der_len)
		problem = "can't be read as a public key";
	else
		problem = examine(public_key, algorithms_of_key);
	if (problem != NULL) {
		EVP_PKEY_free(public_key);
		return problem;
	}
	struct token_key *key = add_key(keys);
	key->public_key = public_key;
	memcpy(key->algorithms, algorithms_of_key, sizeof(algorithms_of_key));
	return NULL;
}

/* After PEM_read_bio() failed: true if that was the end of the text. */
static bool is_end_of_pem(void)
{
	unsigned long code = ERR_peek_last_error();

	return ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE;
}

static bool add_pem(struct token_keys *keys, const char *name, const char *pem, examine_fn *examine,
		    struct buffer *error)
{
	BIO *bio = BIO_new_mem_buf(pem, -1);
	const char *problem = bio == NULL ? "can't be read" : NULL;
	unsigned number = 0;
	char *kind, *header;
	unsigned char *der;
	long der_len;

	ERR_clear_error();
	while (problem == NULL && PEM_read_bio(bio, &kind, &header, &der, &der_len) == 1) {
		problem = ++number > TOKEN_KEYS_PER_FILE
				  ? "is one too many"
				  : add_block(keys, kind, der, der_len, examine);
		OPENSSL_free(kind);
		OPENSSL_free(header);
		OPENSSL_clear_free(der, (size_t)der_len);
	}
	if (problem == NULL && !is_end_of_pem()) {
		number++;
		problem = "is damaged PEM";
	}
	if (problem != NULL)
		buffer_printf(error, "%s: key %u %s", name, number, problem);
	else if (number == 0)
		buffer_printf(error, "%s holds no PEM public key", name);
	BIO_free(bio);
	ERR_clear_error();
	return problem == NULL && number > 0;
}

bool token_keys_add_rsa(struct token_keys *keys, const char *name, const char *pem,
			struct buffer *error)
{
	return add_pem(keys, name, pem, examine_rsa, error);
}

bool token_keys_add_ecdsa(struct token_keys *keys, const char *name, const char *pem,
			  struct buffer *error)
{
	return add_pem(keys, name, pem, examine_ecdsa, error);
}

void token_keys_free(struct token_keys *keys)
{
	for (size_t i = 0; i < keys->count; i++) {
		secret_wipe(keys->keys[i].secret, keys->keys[i].secret_len);
		free(keys->keys[i].secret);
		EVP_PKEY_free(keys->keys[i].public_key);
	}
	free(keys->keys);
	*keys = (struct token_keys){0};
}

/* ---- signatures ---- */

static bool serves(const struct token_key *key, jwt_alg_t algorithm, uint64_t now_s)
{
	if (key->valid_until != 0 && now_s > key->valid_until)
		return false;
	for (size_t i = 0; i < sizeof(key->algorithms) / sizeof(key->algorithms[0]); i++)
		if (key->algorithms[i] == algorithm)
			return true;
	return false;
}

static bool verify_secret(const struct token_key *key, const struct token_signed *token)
{
	jwt_t *jwt = NULL;
	bool good = jwt_decode(&jwt, token->token, (const unsigned char *)key->secret,
			       (int)key->secret_len) == 0 &&
		    jwt != NULL && jwt_get_alg(jwt) == token->algorithm;

	jwt_free(jwt);
	return good;
}

/* The two numbers of RFC 7518 §3.4 as OpenSSL wants them, appended to der. */
static bool numbers_to_der(const struct token_key *key, struct slice signature, struct buffer *der)
{
	int size = (EVP_PKEY_get_bits(key->public_key) + 7) / 8;
	const unsigned char *bytes = (const unsigned char *)signature.data;
	ECDSA_SIG *numbers = ECDSA_SIG_new();
	unsigned char *text = NULL;
	int len = -1;

	if (numbers != NULL && signature.len == (size_t)size * 2) {
		BIGNUM *r = BN_bin2bn(bytes, size, NULL);
		BIGNUM *s = BN_bin2bn(bytes + size, size, NULL);

		if (r != NULL && s != NULL && ECDSA_SIG_set0(numbers, r, s) == 1) {
			len = i2d_ECDSA_SIG(numbers, &text);
		} else {
			BN_free(r);
			BN_free(s);
		}
	}
	if (len > 0)
		buffer_append(der, text, (size_t)len);
	OPENSSL_free(text);
	ECDSA_SIG_free(numbers);
	return len > 0;
}

static bool verify_bytes(const struct token_key *key, const struct token_signed *token,
			 struct slice signature)
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	bool good = context != NULL &&
		    EVP_DigestVerifyInit_ex(context, NULL, digest_of(token->algorithm), NULL, NULL,
					    key->public_key, NULL) == 1 &&
		    EVP_DigestVerify(context, (const unsigned char *)signature.data, signature.len,
				     (const unsigned char *)token->text.data, token->text.len) == 1;

	EVP_MD_CTX_free(context);
	return good;
}

static bool verify_public(const struct token_key *key, const struct token_signed *token)
{
	struct buffer der = {0};
	bool good;

	if (EVP_PKEY_get_base_id(key->public_key) != EVP_PKEY_EC)
		return verify_bytes(key, token, token->signature);
	good = numbers_to_der(key, token->signature, &der) &&
	       verify_bytes(key, token, buffer_slice(&der));
	buffer_free(&der);
	return good;
}

bool token_keys_verify(const struct token_keys *keys, const struct token_signed *token,
		       uint64_t now_s)
{
	bool good = false;

	/* JWT_ALG_NONE also fills up the keys' lists. */
	if (token->algorithm == JWT_ALG_NONE)
		return false;
	for (size_t i = 0; i < keys->count && !good; i++) {
		const struct token_key *key = &keys->keys[i];

		if (serves(key, token->algorithm, now_s))
			good = key->public_key != NULL ? verify_public(key, token)
						       : verify_secret(key, token);
	}
	ERR_clear_error(); /* of the tries that failed */
	return good;
}

/* SPDX-License-Identifier: ISC */
/*
 * Taking keys in and checking signatures with them. Runs in the workers. Every
 * key is examined when it comes, so that an unusable one is told at the start,
 * and kept in the one form that libjwt reads. It must never let a token choose
 * what kind of key its signature is compared with.
 */
#include "token_keys.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
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
} algorithms[] = {
	{{"HS256", 5}, JWT_ALG_HS256}, {{"HS384", 5}, JWT_ALG_HS384}, {{"HS512", 5}, JWT_ALG_HS512},
	{{"RS256", 5}, JWT_ALG_RS256}, {{"RS384", 5}, JWT_ALG_RS384}, {{"RS512", 5}, JWT_ALG_RS512},
	{{"ES256", 5}, JWT_ALG_ES256}, {{"ES384", 5}, JWT_ALG_ES384}, {{"ES512", 5}, JWT_ALG_ES512},
};

jwt_alg_t token_algorithm_find(struct slice name)
{
	for (size_t i = 0; i < sizeof(algorithms) / sizeof(algorithms[0]); i++)
		if (slice_equal(name, algorithms[i].name))
			return algorithms[i].id;
	return JWT_ALG_NONE;
}

/* text becomes the ring's. */
static struct token_key *add_key(struct token_keys *keys, char *text, size_t len)
{
	keys->keys = xrealloc(keys->keys, (keys->count + 1) * sizeof(*keys->keys));
	struct token_key *key = &keys->keys[keys->count++];
	*key = (struct token_key){.text = text, .len = len};
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
	key = add_key(keys, xstrdup(secret), strlen(secret));
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

/* The key alone as PEM, without what else the file says; NULL if OpenSSL fails. */
static char *write_pem(EVP_PKEY *public_key, size_t *len)
{
	BIO *bio = BIO_new(BIO_s_mem());
	char *text = NULL, *data;

	if (bio != NULL && PEM_write_bio_PUBKEY(bio, public_key) == 1) {
		long size = BIO_get_mem_data(bio, &data);

		if (size > 0) {
			*len = (size_t)size;
			text = xstrndup(data, *len);
		}
	}
	BIO_free(bio);
	return text;
}

/* One PEM block; NULL if it is good, else what is wrong with it. */
static const char *add_block(struct token_keys *keys, const char *kind, const unsigned char *der,
			     long der_len, examine_fn *examine)
{
	jwt_alg_t algorithms_of_key[3] = {JWT_ALG_NONE, JWT_ALG_NONE, JWT_ALG_NONE};
	const unsigned char *at = der;
	const char *problem;
	size_t len;

	if (strstr(kind, "PRIVATE KEY") != NULL)
		return "is a private key: give the public one only (openssl pkey -pubout)";
	if (strcmp(kind, "PUBLIC KEY") != 0)
		return "is not of the kind PUBLIC KEY (openssl pkey -pubout)";
	EVP_PKEY *public_key = d2i_PUBKEY(NULL, &at, der_len);
	if (public_key == NULL || at != der + der_len) {
		EVP_PKEY_free(public_key);
		return "can't be read as a public key";
	}
	problem = examine(public_key, algorithms_of_key);
	if (problem == NULL) {
		char *text = write_pem(public_key, &len);

		if (text == NULL)
			problem = "can't be written as a public key";
		else
			memcpy(add_key(keys, text, len)->algorithms, algorithms_of_key,
			       sizeof(algorithms_of_key));
	}
	EVP_PKEY_free(public_key);
	return problem;
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
		secret_wipe(keys->keys[i].text, keys->keys[i].len);
		free(keys->keys[i].text);
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

static bool verify(const struct token_key *key, const char *token, jwt_alg_t algorithm)
{
	jwt_t *jwt = NULL;
	bool good = jwt_decode(&jwt, token, (const unsigned char *)key->text, (int)key->len) == 0 &&
		    jwt != NULL && jwt_get_alg(jwt) == algorithm;

	jwt_free(jwt);
	return good;
}

bool token_keys_verify(const struct token_keys *keys, const char *token, jwt_alg_t algorithm,
		       uint64_t now_s)
{
	bool good = false;

	/* JWT_ALG_NONE also fills up the keys' lists. */
	if (algorithm == JWT_ALG_NONE)
		return false;
	for (size_t i = 0; i < keys->count && !good; i++)
		good = serves(&keys->keys[i], algorithm, now_s) &&
		       verify(&keys->keys[i], token, algorithm);
	ERR_clear_error(); /* of libjwt's failed tries */
	return good;
}

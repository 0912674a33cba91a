/* SPDX-License-Identifier: ISC */
/*
 * Deriving keys, see tls_keys.h. Run by workers, at the end of a handshake and
 * at each KeyUpdate. Nothing of a key may stay on the stack.
 */
#include "net/tls_keys.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <string.h>

#include "keepsock/secret.h"

#define SALT_SIZE 4u /* 1.2 with explicit nonces: what the key block gives of the nonce */

static const EVP_MD *digest_of(const struct tls_suite *suite)
{
	return suite->digest == TLS_SHA384 ? EVP_sha384() : EVP_sha256();
}

/*
 * HKDF-Expand-Label with an empty context (RFC 8446 §7.1). Nothing asks for more
 * than one digest's length, so HKDF-Expand is one HMAC (RFC 5869 §2.3).
 */
static bool expand(const struct tls_suite *suite, const uint8_t *secret, const char *label,
		   uint8_t *out, size_t length)
{
	uint8_t info[64], block[EVP_MAX_MD_SIZE];
	size_t label_length = strlen(label), at = 0;
	unsigned block_length = 0;
	bool ok;

	info[at++] = (uint8_t)(length >> 8);
	info[at++] = (uint8_t)length;
	info[at++] = (uint8_t)(label_length + 6);
	memcpy(info + at, "tls13 ", 6);
	at += 6;
	memcpy(info + at, label, label_length);
	at += label_length;
	info[at++] = 0;
	info[at++] = 1; /* the number of HKDF's block */
	ok = HMAC(digest_of(suite), secret, (int)suite->digest, info, at, block, &block_length) &&
	     block_length >= length;
	if (ok)
		memcpy(out, block, length);
	else
		ERR_clear_error();
	secret_wipe(block, sizeof(block));
	return ok;
}

bool tls_keys_from_secret(const struct tls_suite *suite, const uint8_t *secret,
			  struct tls_direction *direction)
{
	struct tls_direction made = {0};
	bool ok;

	memcpy(made.secret, secret, suite->digest);
	ok = expand(suite, secret, "key", made.key, tls_aeads[suite->aead].key_length) &&
	     expand(suite, secret, "iv", made.iv, sizeof(made.iv));
	if (ok)
		*direction = made;
	secret_wipe(&made, sizeof(made));
	return ok;
}

bool tls_keys_update(const struct tls_suite *suite, struct tls_direction *direction)
{
	uint8_t next[sizeof(direction->secret)];
	bool ok = expand(suite, direction->secret, "traffic upd", next, suite->digest) &&
		  tls_keys_from_secret(suite, next, direction);

	secret_wipe(next, sizeof(next));
	return ok;
}

static bool key_block(const struct tls_suite *suite, struct slice master,
		      const uint8_t client_random[32], const uint8_t server_random[32],
		      uint8_t *out, size_t length)
{
	static const char label[] = "key expansion";
	EVP_KDF *prf = EVP_KDF_fetch(NULL, OSSL_KDF_NAME_TLS1_PRF, NULL);
	EVP_KDF_CTX *context = prf ? EVP_KDF_CTX_new(prf) : NULL;
	uint8_t seed[sizeof(label) - 1 + 64];
	char *digest = suite->digest == TLS_SHA384 ? (char[]){"SHA384"} : (char[]){"SHA256"};
	OSSL_PARAM parameters[] = {
		OSSL_PARAM_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 6),
		OSSL_PARAM_octet_string(OSSL_KDF_PARAM_SECRET, (void *)(uintptr_t)master.data,
					master.len),
		OSSL_PARAM_octet_string(OSSL_KDF_PARAM_SEED, seed, sizeof(seed)),
		OSSL_PARAM_END,
	};
	bool ok;

	memcpy(seed, label, sizeof(label) - 1);
	memcpy(seed + sizeof(label) - 1, server_random, 32);
	memcpy(seed + sizeof(label) - 1 + 32, client_random, 32);
	ok = context && EVP_KDF_derive(context, out, length, parameters) == 1;
	if (!ok)
		ERR_clear_error();
	EVP_KDF_CTX_free(context);
	EVP_KDF_free(prf);
	return ok;
}

bool tls_keys_from_master(const struct tls_suite *suite, struct slice master,
			  const uint8_t client_random[32], const uint8_t server_random[32],
			  struct tls_direction *read, struct tls_direction *write)
{
	const struct tls_aead *aead = &tls_aeads[suite->aead];
	size_t key = aead->key_length, iv = aead->explicit_nonce ? SALT_SIZE : sizeof(read->iv);
	uint8_t block[2 * (sizeof(read->key) + sizeof(read->iv))];
	bool ok = key_block(suite, master, client_random, server_random, block, 2 * (key + iv));

	if (ok) {
		*read = *write = (struct tls_direction){0};
		memcpy(read->key, block, key);
		memcpy(write->key, block + key, key);
		memcpy(read->iv, block + 2 * key, iv);
		memcpy(write->iv, block + 2 * key + iv, iv);
	}
	secret_wipe(block, sizeof(block));
	return ok;
}

/* SPDX-License-Identifier: ISC */
/* Signs tokens with OpenSSL (RFC 7515 §5.1, RFC 7518 §3), see token_mint.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/ecdsa.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>

#include "keepsock/alloc.h"
#include "token_mint.h"

EVP_PKEY *mint_rsa_key(unsigned bits)
{
	EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)bits);

	assert_non_null(key);
	return key;
}

EVP_PKEY *mint_ec_key(const char *curve)
{
	EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", curve);

	assert_non_null(key);
	return key;
}

static char *take_text(BIO *bio)
{
	char *data;
	long len = BIO_get_mem_data(bio, &data);
	char *text = xstrndup(data, (size_t)len);

	BIO_free(bio);
	return text;
}

char *mint_public_pem(EVP_PKEY *key)
{
	BIO *bio = BIO_new(BIO_s_mem());

	assert_int_equal(PEM_write_bio_PUBKEY(bio, key), 1);
	return take_text(bio);
}

char *mint_private_pem(EVP_PKEY *key)
{
	BIO *bio = BIO_new(BIO_s_mem());

	assert_int_equal(PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL), 1);
	return take_text(bio);
}

void mint_base64url(struct buffer *out, const void *data, size_t len)
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

static void sign_with_secret(struct buffer *out, const struct mint *mint, struct slice text)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	assert_non_null(HMAC(EVP_get_digestbyname(mint->digest), mint->secret,
			     (int)strlen(mint->secret), (const unsigned char *)text.data, text.len,
			     digest, &len));
	buffer_append(out, digest, len);
}

/* From DER to the two numbers at full length (RFC 7518 §3.4). */
static void append_numbers(struct buffer *out, EVP_PKEY *key, const unsigned char *der, size_t len)
{
	ECDSA_SIG *numbers = d2i_ECDSA_SIG(NULL, &der, (long)len);
	int size = (EVP_PKEY_get_bits(key) + 7) / 8;
	unsigned char raw[2 * 66];

	assert_non_null(numbers);
	assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_r(numbers), raw, size), size);
	assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_s(numbers), raw + size, size), size);
	buffer_append(out, raw, (size_t)size * 2);
	ECDSA_SIG_free(numbers);
}

static void sign_with_key(struct buffer *out, const struct mint *mint, struct slice text)
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	unsigned char signature[1024];
	size_t len = sizeof(signature);

	assert_int_equal(
		EVP_DigestSignInit_ex(context, NULL, mint->digest, NULL, NULL, mint->key, NULL), 1);
	assert_int_equal(EVP_DigestSign(context, signature, &len, (const unsigned char *)text.data,
					text.len),
			 1);
	EVP_MD_CTX_free(context);
	if (EVP_PKEY_get_base_id(mint->key) == EVP_PKEY_EC)
		append_numbers(out, mint->key, signature, len);
	else
		buffer_append(out, signature, len);
}

void mint_signature(struct buffer *out, const struct mint *mint, struct slice text)
{
	if (mint->key == NULL)
		sign_with_secret(out, mint, text);
	else
		sign_with_key(out, mint, text);
}

const char *mint_token(struct buffer *out, const struct mint *mint, const char *header,
		       const char *payload)
{
	struct buffer signature = {0};

	buffer_reset(out);
	mint_base64url(out, header, strlen(header));
	buffer_append_char(out, '.');
	mint_base64url(out, payload, strlen(payload));
	mint_signature(&signature, mint, buffer_slice(out));
	buffer_append_char(out, '.');
	mint_base64url(out, signature.data, signature.len);
	buffer_free(&signature);
	return buffer_cstr(out);
}

/* SPDX-License-Identifier: ISC */
/*
 * The worker's cipher contexts, see tls_ciphers.h. Ciphers are fetched once: a
 * fetch per record would cost more than the record. A context remembers the key
 * it was given last, so that a run of records of one connection expands it once.
 */
#include "net/tls_ciphers.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/secret.h"
#include "keepsock/tls_record.h"

/* Up to here, copying the plaintext costs less than a second call for the type behind it. */
#define COPY_MAX 2048u

struct context {
	EVP_CIPHER_CTX *evp; /* owned; NULL: OpenSSL does not have the cipher */
	bool keyed;
	uint8_t key[32]; /* the one it was given last */
};

struct tls_ciphers {
	struct context seal[TLS_AEAD_COUNT], open[TLS_AEAD_COUNT];
};

static bool context_init(struct context *context, const struct tls_aead *aead, int encrypt)
{
	EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, aead->cipher, NULL);
	bool ok;

	if (!cipher)
		return false;
	context->evp = EVP_CIPHER_CTX_new();
	ok = context->evp &&
	     EVP_CipherInit_ex2(context->evp, cipher, NULL, NULL, encrypt, NULL) == 1 &&
	     EVP_CIPHER_CTX_ctrl(context->evp, EVP_CTRL_AEAD_SET_IVLEN, (int)TLS_NONCE_SIZE,
				 NULL) == 1;
	/* CCM's tag length is part of what is authenticated. */
	if (ok && aead->ccm)
		ok = EVP_CIPHER_CTX_ctrl(context->evp, EVP_CTRL_AEAD_SET_TAG, aead->tag_length,
					 NULL) == 1;
	EVP_CIPHER_free(cipher);
	if (!ok) {
		EVP_CIPHER_CTX_free(context->evp);
		context->evp = NULL;
	}
	return ok;
}

struct tls_ciphers *tls_ciphers_create(const char **error)
{
	struct tls_ciphers *ciphers = xcalloc(1, sizeof(*ciphers));
	unsigned found = 0;

	for (unsigned i = 0; i < TLS_AEAD_COUNT; i++)
		if (context_init(&ciphers->seal[i], &tls_aeads[i], 1) &&
		    context_init(&ciphers->open[i], &tls_aeads[i], 0))
			found++;
	/* A build of OpenSSL may lack some; what it lacks it does not negotiate either. */
	ERR_clear_error();
	if (found == 0) {
		*error = "OpenSSL offers no cipher that TLS could use";
		tls_ciphers_free(ciphers);
		return NULL;
	}
	return ciphers;
}

void tls_ciphers_free(struct tls_ciphers *ciphers)
{
	if (!ciphers)
		return;
	for (unsigned i = 0; i < TLS_AEAD_COUNT; i++) {
		EVP_CIPHER_CTX_free(ciphers->seal[i].evp);
		EVP_CIPHER_CTX_free(ciphers->open[i].evp);
	}
	secret_wipe(ciphers, sizeof(*ciphers));
	free(ciphers);
}

/* Takes the same time wherever two keys differ. */
static bool same_key(const struct context *context, const uint8_t *key, size_t length)
{
	uint64_t difference = 0, ours, theirs;

	for (size_t i = 0; i < length; i += sizeof(ours)) {
		memcpy(&ours, context->key + i, sizeof(ours));
		memcpy(&theirs, key + i, sizeof(theirs));
		difference |= ours ^ theirs;
	}
	return context->keyed && difference == 0;
}

static bool set_key(struct context *context, const struct tls_key *key, size_t length)
{
	if (!context->evp)
		return false;
	if (same_key(context, key->key, length))
		return EVP_CipherInit_ex(context->evp, NULL, NULL, NULL, key->nonce, -1) == 1;
	context->keyed = EVP_CipherInit_ex(context->evp, NULL, NULL, key->key, key->nonce, -1) == 1;
	memcpy(context->key, key->key, length);
	return context->keyed;
}

/* What goes ahead of the data: CCM wants to know how much there will be. */
static bool set_header(EVP_CIPHER_CTX *evp, const struct tls_aead *aead, struct slice header,
		       size_t length)
{
	int done;

	if (aead->ccm && EVP_CipherUpdate(evp, NULL, &done, NULL, (int)length) != 1)
		return false;
	return EVP_CipherUpdate(evp, NULL, &done, (const uint8_t *)header.data, (int)header.len) ==
	       1;
}

static bool encrypt(EVP_CIPHER_CTX *evp, const struct tls_aead *aead, struct slice plaintext,
		    int type, uint8_t *out)
{
	const uint8_t *in = (const uint8_t *)plaintext.data;
	uint8_t last = (uint8_t)type;
	int length = (int)plaintext.len, done;

	if (type < 0)
		/* CCM has to be called for no data as well, or it makes no tag. */
		return EVP_EncryptUpdate(evp, out, &done, length > 0 ? in : &last, length) == 1;
	if (plaintext.len <= COPY_MAX || aead->ccm) {
		if (length > 0)
			memcpy(out, in, plaintext.len);
		out[length] = last;
		return EVP_EncryptUpdate(evp, out, &done, out, length + 1) == 1;
	}
	return EVP_EncryptUpdate(evp, out, &done, in, length) == 1 && done == length &&
	       EVP_EncryptUpdate(evp, out + length, &done, &last, 1) == 1;
}

bool tls_aead_seal(struct tls_ciphers *ciphers, const struct tls_key *key, struct slice plaintext,
		   int type, uint8_t *out)
{
	const struct tls_aead *aead = &tls_aeads[key->aead];
	struct context *context = &ciphers->seal[key->aead];
	size_t length = plaintext.len + (type >= 0);
	int done;

	if (set_key(context, key, aead->key_length) &&
	    set_header(context->evp, aead, key->header, length) &&
	    encrypt(context->evp, aead, plaintext, type, out) &&
	    EVP_EncryptFinal_ex(context->evp, out + length, &done) == 1 &&
	    EVP_CIPHER_CTX_ctrl(context->evp, EVP_CTRL_AEAD_GET_TAG, aead->tag_length,
				out + length) == 1)
		return true;
	context->keyed = false;
	ERR_clear_error();
	return false;
}

enum tls_aead_opened tls_aead_open(struct tls_ciphers *ciphers, const struct tls_key *key,
				   struct slice sealed, uint8_t *out)
{
	const struct tls_aead *aead = &tls_aeads[key->aead];
	struct context *context = &ciphers->open[key->aead];
	size_t length = sealed.len - aead->tag_length;
	const uint8_t *in = (const uint8_t *)sealed.data;
	int done;

	/* CCM wants the tag ahead of all else and judges at the data; the others at the end. */
	if (!set_key(context, key, aead->key_length) ||
	    EVP_CIPHER_CTX_ctrl(context->evp, EVP_CTRL_AEAD_SET_TAG, aead->tag_length,
				(void *)(uintptr_t)(in + length)) != 1 ||
	    !set_header(context->evp, aead, key->header, length)) {
		context->keyed = false;
		ERR_clear_error();
		return TLS_AEAD_FAILED;
	}
	if (EVP_DecryptUpdate(context->evp, out, &done, in, (int)length) == 1 &&
	    (aead->ccm || EVP_DecryptFinal_ex(context->evp, out + length, &done) == 1))
		return TLS_AEAD_OPENED;
	secret_wipe(out, length);
	context->keyed = false;
	ERR_clear_error();
	return TLS_AEAD_FORGED;
}

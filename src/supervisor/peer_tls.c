/* SPDX-License-Identifier: ISC */
/*
 * TLS between supervisors, see peer_tls.h. Runs in the supervisor. The key lives
 * in this object alone and is wiped with it; nothing here logs.
 */
#include "supervisor/peer_tls.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/magic.h"
#include "keepsock/secret.h"

#define PEER_TLS_MAGIC UINT32_C(0x534c5450) /* "PTLS" */
#define KEY_BYTES      32                   /* as the digest of the one suite */
#define SUITE          "TLS_AES_128_GCM_SHA256"
/* What goes into the key besides the secret: another version of the link has another key. */
#define KEY_LABEL "keepsock peer link 1"

static const char identity[] = "keepsock";
static const unsigned char suite_id[] = {0x13, 0x01}; /* of SUITE, RFC 8446 §B.4 */

struct peer_tls {
	uint32_t magic;
	SSL_CTX *context;
	unsigned char key[KEY_BYTES];
};

static struct peer_tls *tls_of(SSL *ssl)
{
	struct peer_tls *tls = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));

	MAGIC_CHECK(tls, PEER_TLS_MAGIC);
	return tls;
}

/* NULL: out of memory, and the handshake fails. */
static SSL_SESSION *make_session(SSL *ssl)
{
	const SSL_CIPHER *cipher = SSL_CIPHER_find(ssl, suite_id);
	SSL_SESSION *session = SSL_SESSION_new();

	/* Both sides check that a session is of their own context. */
	if (session && cipher &&
	    SSL_SESSION_set1_id_context(session, (const unsigned char *)identity,
					sizeof(identity) - 1) == 1 &&
	    SSL_SESSION_set1_master_key(session, tls_of(ssl)->key, KEY_BYTES) == 1 &&
	    SSL_SESSION_set_cipher(session, cipher) == 1 &&
	    SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) == 1)
		return session;
	SSL_SESSION_free(session);
	return NULL;
}

/* The connecting side. md is set at the second call after a HelloRetryRequest: ours is SHA-256. */
static int on_use_session(SSL *ssl, const EVP_MD *md, const unsigned char **id, size_t *id_len,
			  SSL_SESSION **session)
{
	if (md && EVP_MD_get_type(md) != NID_sha256)
		return 0;
	*session = make_session(ssl);
	*id = (const unsigned char *)identity;
	*id_len = sizeof(identity) - 1;
	return *session != NULL;
}

/* The listening side: an identity it does not know leaves no way to go on. */
static int on_find_session(SSL *ssl, const unsigned char *id, size_t id_len, SSL_SESSION **session)
{
	*session = NULL;
	if (id_len != sizeof(identity) - 1 || memcmp(id, identity, id_len) != 0)
		return 1;
	*session = make_session(ssl);
	return *session != NULL;
}

static bool derive_key(const char *secret, unsigned char key[KEY_BYTES])
{
	EVP_PKEY_CTX *kdf = EVP_PKEY_CTX_new_id(EVP_PKEY_HKDF, NULL);
	size_t len = KEY_BYTES;
	bool done = kdf && EVP_PKEY_derive_init(kdf) == 1 &&
		    EVP_PKEY_CTX_set_hkdf_md(kdf, EVP_sha256()) == 1 &&
		    EVP_PKEY_CTX_set1_hkdf_salt(kdf, (const unsigned char *)KEY_LABEL,
						sizeof(KEY_LABEL) - 1) == 1 &&
		    EVP_PKEY_CTX_set1_hkdf_key(kdf, (const unsigned char *)secret,
					       (int)strlen(secret)) == 1 &&
		    EVP_PKEY_CTX_add1_hkdf_info(kdf, (const unsigned char *)"psk", 3) == 1 &&
		    EVP_PKEY_derive(kdf, key, &len) == 1 && len == KEY_BYTES;

	EVP_PKEY_CTX_free(kdf);
	return done;
}

static bool set_up(SSL_CTX *context)
{
	if (SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 ||
	    SSL_CTX_set_ciphersuites(context, SUITE) != 1)
		return false;
	/* No tickets: each connection proves the secret itself. */
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_psk_use_session_callback(context, on_use_session);
	SSL_CTX_set_psk_find_session_callback(context, on_find_session);
	/* A server without a certificate could not go on anyway; a client must not want one. */
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
	return SSL_CTX_set_session_id_context(context, (const unsigned char *)identity,
					      sizeof(identity) - 1) == 1 &&
	       SSL_CTX_set_num_tickets(context, 0) == 1;
}

struct peer_tls *peer_tls_create(const char *secret, struct buffer *error)
{
	struct peer_tls *tls = xcalloc(1, sizeof(*tls));

	tls->magic = PEER_TLS_MAGIC;
	tls->context = SSL_CTX_new(TLS_method());
	if (tls->context && derive_key(secret, tls->key) && set_up(tls->context)) {
		SSL_CTX_set_app_data(tls->context, tls);
		return tls;
	}
	buffer_append_str(error, "cannot set up TLS for the peer link");
	ERR_clear_error();
	peer_tls_free(tls);
	return NULL;
}

void peer_tls_free(struct peer_tls *tls)
{
	if (!tls)
		return;
	MAGIC_CHECK(tls, PEER_TLS_MAGIC);
	SSL_CTX_free(tls->context);
	secret_wipe(tls->key, sizeof(tls->key));
	tls->magic = 0;
	free(tls);
}

SSL *peer_tls_connection(struct peer_tls *tls)
{
	return SSL_new(tls->context);
}

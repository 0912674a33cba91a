/* SPDX-License-Identifier: ISC */
/*
 * Both ends of a TLS connection in one process, see tls_pair.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "tls_pair.h"

static void add_extension(X509 *certificate, int nid, const char *value)
{
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

	assert_non_null(extension);
	assert_int_equal(X509_add_ext(certificate, extension, -1), 1);
	X509_EXTENSION_free(extension);
}

X509 *tls_pair_certificate(EVP_PKEY *key, const char *name, bool client)
{
	X509 *certificate = X509_new();
	X509_NAME *subject = X509_get_subject_name(certificate);

	X509_set_version(certificate, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(certificate), 0x1234);
	X509_gmtime_adj(X509_getm_notBefore(certificate), -60);
	X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
	X509_NAME_add_entry_by_txt(subject, "O", MBSTRING_UTF8, (const uint8_t *)"keepsock, tests",
				   -1, -1, 0);
	X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const uint8_t *)name, -1, -1, 0);
	X509_set_issuer_name(certificate, subject);
	X509_set_pubkey(certificate, key);
	if (client)
		add_extension(certificate, NID_subject_alt_name,
			      "DNS:one.example,DNS:two.example,email:me@example,"
			      "URI:spiffe://example/one");
	assert_true(X509_sign(certificate, key, EVP_sha256()) > 0);
	return certificate;
}

static void use_certificate(SSL_CTX *context, EVP_PKEY *key)
{
	X509 *certificate = tls_pair_certificate(key, "localhost", false);

	assert_int_equal(SSL_CTX_use_certificate(context, certificate), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey(context, key), 1);
	X509_free(certificate);
}

/* Made once: an RSA key takes its time. */
static EVP_PKEY *key_of(const char *type)
{
	static EVP_PKEY *ec, *rsa;
	EVP_PKEY **key = strcmp(type, "EC") == 0 ? &ec : &rsa;

	if (!*key)
		*key = strcmp(type, "EC") == 0 ? EVP_EC_gen("P-256") : EVP_RSA_gen((unsigned)2048);
	assert_non_null(*key);
	return *key;
}

void tls_pair_init(struct tls_pair *pair)
{
	memset(pair, 0, sizeof(*pair));
	pair->server_context = SSL_CTX_new(TLS_server_method());
	pair->client_context = SSL_CTX_new(TLS_client_method());
	assert_non_null(pair->server_context);
	assert_non_null(pair->client_context);
	use_certificate(pair->server_context, key_of("EC"));
	use_certificate(pair->server_context, key_of("RSA"));
	SSL_CTX_set_dh_auto(pair->server_context, 1);
	SSL_CTX_set_session_id_context(pair->server_context, (const uint8_t *)"test", 4);
	assert_true(tls_handshake_prepare_context(pair->server_context));
	/* Whoever negotiates nothing else. */
	assert_int_equal(SSL_CTX_set_min_proto_version(pair->server_context, TLS1_2_VERSION), 1);
}

static void disconnect(struct tls_pair *pair)
{
	tls_handshake_free(pair->handshake);
	/* Or OpenSSL takes the session for one that broke, and won't resume it. */
	if (pair->client)
		SSL_set_shutdown(pair->client, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	SSL_free(pair->client);
	buffer_free(&pair->to_server);
	pair->handshake = NULL;
	pair->client = NULL;
}

void tls_pair_free(struct tls_pair *pair)
{
	disconnect(pair);
	SSL_SESSION_free(pair->session);
	SSL_CTX_free(pair->server_context);
	SSL_CTX_free(pair->client_context);
}

static void set_suite(SSL_CTX *context, const char *suite)
{
	bool newer = strncmp(suite, "TLS_", 4) == 0;
	int version = newer ? TLS1_3_VERSION : TLS1_2_VERSION;

	/* CCM_8 is below the usual level of security. */
	SSL_CTX_set_security_level(context, 0);
	assert_int_equal(SSL_CTX_set_min_proto_version(context, version), 1);
	assert_int_equal(SSL_CTX_set_max_proto_version(context, version), 1);
	assert_int_equal(newer ? SSL_CTX_set_ciphersuites(context, suite)
			       : SSL_CTX_set_cipher_list(context, suite),
			 1);
}

void tls_pair_suite(struct tls_pair *pair, const char *suite)
{
	if (!suite)
		return;
	set_suite(pair->server_context, suite);
	set_suite(pair->client_context, suite);
}

void tls_pair_connect(struct tls_pair *pair)
{
	disconnect(pair);
	pair->handshake = tls_handshake_create(pair->server_context);
	pair->client = SSL_new(pair->client_context);
	assert_non_null(pair->handshake);
	assert_non_null(pair->client);
	SSL_set_bio(pair->client, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
	SSL_set_connect_state(pair->client);
	SSL_set_tlsext_host_name(pair->client, "shop.example");
	if (pair->session)
		assert_int_equal(SSL_set_session(pair->client, pair->session), 1);
}

void tls_pair_flush_client(struct tls_pair *pair)
{
	size_t length = BIO_ctrl_pending(SSL_get_wbio(pair->client));

	if (length == 0)
		return;
	assert_int_equal(BIO_read(SSL_get_wbio(pair->client),
				  buffer_reserve(&pair->to_server, length), (int)length),
			 length);
	pair->to_server.len += length;
}

void tls_pair_give_client(struct tls_pair *pair, struct slice bytes)
{
	if (bytes.len > 0)
		assert_int_equal(BIO_write(SSL_get_rbio(pair->client), bytes.data, (int)bytes.len),
				 bytes.len);
}

void tls_pair_client_read(struct tls_pair *pair, struct buffer *out)
{
	int got;

	do {
		got = SSL_read(pair->client, buffer_reserve(out, TLS_PLAINTEXT_MAX),
			       (int)TLS_PLAINTEXT_MAX);
		if (got > 0)
			out->len += (size_t)got;
	} while (got > 0);
}

enum tls_handshake_state tls_pair_shake(struct tls_pair *pair, size_t step)
{
	enum tls_handshake_state state = TLS_HANDSHAKE_RUNNING;
	struct buffer out = {0};

	for (unsigned turn = 0; turn < 100 && state == TLS_HANDSHAKE_RUNNING; turn++) {
		SSL_do_handshake(pair->client);
		tls_pair_flush_client(pair);
		for (size_t at = 0, length; at < pair->to_server.len; at += length) {
			length = pair->to_server.len - at;
			if (step > 0 && length > step)
				length = step;
			state = tls_handshake_feed(pair->handshake,
						   slice_from(pair->to_server.data + at, length),
						   &out);
		}
		buffer_reset(&pair->to_server);
		tls_pair_give_client(pair, buffer_slice(&out));
		buffer_reset(&out);
	}
	/* The client's share of the end: tickets, or the server's Finished. */
	if (state == TLS_HANDSHAKE_DONE)
		assert_int_equal(SSL_do_handshake(pair->client), 1);
	buffer_free(&out);
	return state;
}

void tls_pair_establish(struct tls_pair *pair, struct tls_ciphers *ciphers)
{
	tls_pair_connect(pair);
	if (tls_pair_shake(pair, 0) != TLS_HANDSHAKE_DONE)
		fail_msg("the handshake failed: %s", tls_handshake_error(pair->handshake));
	if (!tls_handshake_detach(pair->handshake, ciphers, &pair->state, &pair->peer))
		fail_msg("not detached: %s", tls_handshake_error(pair->handshake));
	assert_true(tls_state_valid(&pair->state));
	assert_int_equal(tls_handshake_rest(pair->handshake).len, 0);
}

/* SPDX-License-Identifier: ISC */
/*
 * Handshakes with OpenSSL's client, detached, and what must not get through: bad
 * input, versions and suites that can't be carried, clients without the
 * certificate that is asked for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>

#include "tls_pair.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static struct tls_ciphers *ciphers;
static struct tls_pair pair;

static int setup_group(void **state)
{
	const char *error;

	(void)state;
	ciphers = tls_ciphers_create(&error);
	return ciphers ? 0 : -1;
}

static int teardown_group(void **state)
{
	(void)state;
	tls_ciphers_free(ciphers);
	return 0;
}

static int setup(void **state)
{
	(void)state;
	tls_pair_init(&pair);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	tls_pair_free(&pair);
	return 0;
}

/* ---- both directions work ---- */

static void expect_from_server(size_t length)
{
	struct buffer plain = {0}, sealed = {0}, got = {0};

	memset(buffer_reserve(&plain, length), 's', length);
	plain.len = length;
	assert_int_equal(tls_record_seal(ciphers, &pair.state, buffer_slice(&plain), &sealed),
			 TLS_SEALED);
	tls_pair_give_client(&pair, buffer_slice(&sealed));
	tls_pair_client_read(&pair, &got);
	assert_int_equal(got.len, length);
	assert_memory_equal(got.data, plain.data, length);
	buffer_free(&plain);
	buffer_free(&sealed);
	buffer_free(&got);
}

/* Opens all that the client sent; the event of the last record. */
static enum tls_event open_all(struct buffer *got)
{
	enum tls_event event = TLS_NEED_MORE;
	size_t at = 0;

	tls_pair_flush_client(&pair);
	while (at < pair.to_server.len) {
		struct tls_opened opened;
		uint8_t out[TLS_RECORD_MAX];

		event = tls_record_open(
			ciphers, &pair.state,
			slice_from(pair.to_server.data + at, pair.to_server.len - at), 0, out,
			&opened);
		assert_true(event != TLS_REFUSED && event != TLS_NEED_MORE);
		assert_true(tls_state_valid(&pair.state));
		at += opened.consumed;
		buffer_append_slice(got, opened.plaintext);
	}
	buffer_reset(&pair.to_server);
	return event;
}

static void expect_from_client(size_t length)
{
	struct buffer plain = {0}, got = {0};

	memset(buffer_reserve(&plain, length), 'c', length);
	assert_int_equal(SSL_write(pair.client, plain.data, (int)length), length);
	assert_int_equal(open_all(&got), TLS_DATA);
	assert_int_equal(got.len, length);
	assert_memory_equal(got.data, plain.data, length);
	buffer_free(&plain);
	buffer_free(&got);
}

static void expect_alive(void)
{
	expect_from_server(1);
	expect_from_client(1);
	expect_from_server(40000);
	expect_from_client(40000);
	expect_from_server(TLS_PLAINTEXT_MAX);
	expect_from_client(TLS_PLAINTEXT_MAX);
}

static void expect_end(void)
{
	struct buffer sealed = {0}, got = {0};
	char byte;

	assert_int_equal(
		tls_record_seal_alert(ciphers, &pair.state, TLS_ALERT_CLOSE_NOTIFY, &sealed),
		TLS_SEALED);
	tls_pair_give_client(&pair, buffer_slice(&sealed));
	assert_int_equal(SSL_read(pair.client, &byte, 1), 0);
	assert_int_equal(SSL_get_error(pair.client, 0), SSL_ERROR_ZERO_RETURN);
	assert_true(SSL_shutdown(pair.client) >= 0);
	assert_int_equal(open_all(&got), TLS_CLOSE_NOTIFY);
	buffer_free(&sealed);
	buffer_free(&got);
}

/* Every suite of the table that this OpenSSL has. */
static void test_every_suite(void **state)
{
	unsigned seen = 0;

	(void)state;
	for (unsigned id = 0; id <= UINT16_MAX; id++) {
		const char *name = tls_suite_name(id);

		if (!tls_suite_supported(id))
			continue;
		tls_pair_suite(&pair, name);
		tls_pair_establish(&pair, ciphers);
		assert_int_equal(pair.state.suite, id);
		assert_int_equal(pair.peer.suite, id);
		assert_int_equal(pair.peer.version, pair.state.version);
		assert_int_equal(pair.state.version,
				 strncmp(name, "TLS_", 4) == 0 ? TLS_VERSION_1_3 : TLS_VERSION_1_2);
		expect_alive();
		expect_end();
		seen++;
	}
	assert_int_equal(seen, 36);
}

static const char *const both_versions[] = {"TLS_AES_256_GCM_SHA384",
					    "ECDHE-RSA-AES128-GCM-SHA256"};

/* However the stream is cut. */
static void test_byte_by_byte(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(both_versions); i++) {
		tls_pair_suite(&pair, both_versions[i]);
		tls_pair_connect(&pair);
		assert_int_equal(tls_pair_shake(&pair, 1), TLS_HANDSHAKE_DONE);
		assert_true(tls_handshake_detach(pair.handshake, ciphers, &pair.state, &pair.peer));
		expect_alive();
	}
}

/* How many tickets follow the handshake is where 1.3's sequence begins. */
static void test_tickets_count(void **state)
{
	(void)state;
	tls_pair_suite(&pair, "TLS_CHACHA20_POLY1305_SHA256");
	for (size_t tickets = 0; tickets < 5; tickets++) {
		SSL_CTX_set_num_tickets(pair.server_context, tickets);
		tls_pair_establish(&pair, ciphers);
		assert_int_equal(pair.state.write.sequence, tickets);
		assert_int_equal(pair.state.read.sequence, 0);
		expect_alive();
	}
}

static int keep_session(SSL *ssl, SSL_SESSION *session)
{
	(void)ssl;
	SSL_SESSION_free(pair.session);
	pair.session = session;
	return 1;
}

static void test_resumption(void **state)
{
	(void)state;
	SSL_CTX_set_session_cache_mode(pair.client_context,
				       SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(pair.client_context, keep_session);
	for (size_t i = 0; i < COUNT(both_versions); i++) {
		SSL_SESSION_free(pair.session);
		pair.session = NULL;
		tls_pair_suite(&pair, both_versions[i]);
		tls_pair_establish(&pair, ciphers);
		assert_false(pair.peer.resumed);
		expect_alive();
		assert_non_null(pair.session);
		for (int again = 0; again < 2; again++) {
			tls_pair_establish(&pair, ciphers);
			assert_true(pair.peer.resumed);
			assert_int_equal(SSL_session_reused(pair.client), 1);
			expect_alive();
			expect_end();
		}
	}
}

static void test_hello_retry_request(void **state)
{
	(void)state;
	tls_pair_suite(&pair, "TLS_AES_128_GCM_SHA256");
	/* The client's first share is of a group that the server does not take. */
	assert_int_equal(SSL_CTX_set1_groups_list(pair.client_context, "X25519:P-384"), 1);
	assert_int_equal(SSL_CTX_set1_groups_list(pair.server_context, "P-384"), 1);
	tls_pair_establish(&pair, ciphers);
	expect_alive();
	expect_end();
}

static void test_max_fragment_length(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(both_versions); i++)
		for (uint8_t code = TLSEXT_max_fragment_length_512;
		     code <= TLSEXT_max_fragment_length_4096; code++) {
			tls_pair_suite(&pair, both_versions[i]);
			SSL_CTX_set_tlsext_max_fragment_length(pair.client_context, code);
			tls_pair_establish(&pair, ciphers);
			assert_int_equal(pair.state.max_plaintext, 256u << code);
			expect_alive();
		}
}

/* A client may say more in the same packet as its Finished. */
static void test_rest_belongs_to_the_record_layer(void **state)
{
	struct buffer hello = {0}, out = {0};
	struct tls_opened opened;
	uint8_t plain[TLS_RECORD_MAX];
	struct slice rest;

	(void)state;
	tls_pair_suite(&pair, "TLS_AES_128_GCM_SHA256");
	tls_pair_connect(&pair);
	SSL_do_handshake(pair.client);
	tls_pair_flush_client(&pair);
	assert_int_equal(tls_handshake_feed(pair.handshake, buffer_slice(&pair.to_server), &out),
			 TLS_HANDSHAKE_RUNNING);
	buffer_reset(&pair.to_server);
	tls_pair_give_client(&pair, buffer_slice(&out));
	assert_int_equal(SSL_do_handshake(pair.client), 1);
	assert_int_equal(SSL_write(pair.client, "first", 5), 5);
	assert_int_equal(SSL_write(pair.client, "second", 6), 6);
	tls_pair_flush_client(&pair);
	/* Half of the second record comes only after the end. */
	assert_int_equal(
		tls_handshake_feed(pair.handshake,
				   slice_from(pair.to_server.data, pair.to_server.len - 10), &out),
		TLS_HANDSHAKE_DONE);
	assert_int_equal(
		tls_handshake_feed(pair.handshake,
				   slice_from(pair.to_server.data + pair.to_server.len - 10, 10),
				   &out),
		TLS_HANDSHAKE_DONE);
	assert_true(tls_handshake_detach(pair.handshake, ciphers, &pair.state, &pair.peer));
	rest = tls_handshake_rest(pair.handshake);
	assert_int_equal(tls_record_open(ciphers, &pair.state, rest, 0, plain, &opened), TLS_DATA);
	assert_true(slice_is(opened.plaintext, "first"));
	rest = slice_from(rest.data + opened.consumed, rest.len - opened.consumed);
	assert_int_equal(tls_record_open(ciphers, &pair.state, rest, 0, plain, &opened), TLS_DATA);
	assert_true(slice_is(opened.plaintext, "second"));
	assert_int_equal(opened.consumed, rest.len);
	buffer_free(&hello);
	buffer_free(&out);
}

/* ---- KeyUpdate ---- */

static void test_key_updates(void **state)
{
	struct buffer sealed = {0}, got = {0};

	(void)state;
	tls_pair_suite(&pair, "TLS_AES_256_GCM_SHA384");
	tls_pair_establish(&pair, ciphers);
	for (int round = 0; round < 3; round++) {
		/* The client's, which asks for ours: ours comes with the next data. */
		assert_int_equal(SSL_key_update(pair.client, SSL_KEY_UPDATE_REQUESTED), 1);
		assert_int_equal(SSL_do_handshake(pair.client), 1);
		assert_int_equal(open_all(&got), TLS_KEY_UPDATE);
		assert_int_equal(pair.state.read.sequence, 0);
		assert_true(pair.state.flags & TLS_KEY_UPDATE_DUE);
		assert_false(tls_record_seal_ready(&pair.state, 1));
		expect_alive();
		assert_false(pair.state.flags & TLS_KEY_UPDATE_DUE);
		/* Ours, which asks for the client's. */
		assert_int_equal(tls_record_seal_key_update(ciphers, &pair.state, true, &sealed),
				 TLS_SEALED);
		assert_int_equal(pair.state.write.sequence, 0);
		tls_pair_give_client(&pair, buffer_slice(&sealed));
		buffer_reset(&sealed);
		expect_alive();
		assert_true(pair.state.read.sequence < 10);
	}
	expect_end();
	buffer_free(&sealed);
	buffer_free(&got);
}

/* ---- what is known about the peer ---- */

static int select_http(SSL *ssl, const unsigned char **out, unsigned char *out_length,
		       const unsigned char *in, unsigned in_length, void *context)
{
	(void)ssl;
	(void)context;
	return SSL_select_next_proto((unsigned char **)(uintptr_t)out, out_length,
				     (const uint8_t *)"\x08http/1.1", 9, in,
				     in_length) == OPENSSL_NPN_NEGOTIATED
		       ? SSL_TLSEXT_ERR_OK
		       : SSL_TLSEXT_ERR_ALERT_FATAL;
}

static int accept_any(int ok, X509_STORE_CTX *context)
{
	(void)ok;
	(void)context;
	return 1;
}

static void use_client_certificate(const char *name)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *certificate = tls_pair_certificate(key, name, true);

	assert_int_equal(SSL_CTX_use_certificate(pair.client_context, certificate), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey(pair.client_context, key), 1);
	assert_int_equal(
		X509_STORE_add_cert(SSL_CTX_get_cert_store(pair.server_context), certificate), 1);
	X509_free(certificate);
	EVP_PKEY_free(key);
}

static void test_peer_with_certificate(void **state)
{
	static const unsigned char offer[] = "\x02h2\x08http/1.1";
	uint8_t binding[32], digest[32];
	unsigned length = sizeof(digest);

	(void)state;
	use_client_certificate("J\xc3\xbcrgen");
	SSL_CTX_set_verify(pair.server_context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
			   NULL);
	SSL_CTX_set_alpn_select_cb(pair.server_context, select_http, NULL);
	assert_int_equal(SSL_CTX_set_alpn_protos(pair.client_context, offer, sizeof(offer) - 1), 0);
	for (size_t i = 0; i < COUNT(both_versions); i++) {
		tls_pair_suite(&pair, both_versions[i]);
		tls_pair_establish(&pair, ciphers);
		assert_string_equal(pair.peer.alpn, "http/1.1");
		assert_string_equal(pair.peer.server_name, "shop.example");
		assert_true(pair.peer.has_certificate);
		assert_int_equal(pair.peer.verify_result, X509_V_OK);
		assert_string_equal(pair.peer.subject, "CN=J\xc3\xbcrgen,O=keepsock\\, tests");
		assert_string_equal(pair.peer.issuer, pair.peer.subject);
		assert_string_equal(pair.peer.common_name, "J\xc3\xbcrgen");
		assert_string_equal(pair.peer.serial, "1234");
		assert_string_equal(pair.peer.dns_name, "one.example");
		assert_string_equal(pair.peer.email, "me@example");
		assert_string_equal(pair.peer.uri, "spiffe://example/one");
		assert_true(pair.peer.not_after > 1700000000);
		X509_digest(SSL_get_certificate(pair.client), EVP_sha256(), digest, &length);
		assert_memory_equal(pair.peer.fingerprint, digest, sizeof(digest));
		assert_int_equal(SSL_export_keying_material(pair.client, binding, sizeof(binding),
							    "EXPORTER-Channel-Binding", 24, NULL, 0,
							    0),
				 1);
		assert_memory_equal(pair.peer.binding, binding, sizeof(binding));
		expect_alive();
	}
}

static void test_peer_that_is_not_trusted(void **state)
{
	(void)state;
	use_client_certificate("stranger");
	X509_STORE *empty = X509_STORE_new();
	SSL_CTX_set_cert_store(pair.server_context, empty);
	SSL_CTX_set_verify(pair.server_context, SSL_VERIFY_PEER, accept_any);
	tls_pair_establish(&pair, ciphers);
	assert_true(pair.peer.has_certificate);
	assert_int_equal(pair.peer.verify_result, X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT);
	assert_string_equal(pair.peer.common_name, "stranger");
}

/* A part of a name would be another name. */
static void test_long_names_are_not_cut(void **state)
{
	char longer[65] = "";

	(void)state;
	memset(longer, 'x', 64);
	use_client_certificate(longer);
	SSL_CTX_set_verify(pair.server_context, SSL_VERIFY_PEER, accept_any);
	tls_pair_establish(&pair, ciphers);
	assert_string_equal(pair.peer.common_name, longer);
	assert_int_equal(strlen(pair.peer.subject), 64 + strlen("CN=,O=keepsock\\, tests"));
}

static void test_peer_without_anything(void **state)
{
	(void)state;
	tls_pair_establish(&pair, ciphers);
	assert_false(pair.peer.has_certificate);
	assert_string_equal(pair.peer.alpn, "");
	assert_string_equal(pair.peer.subject, "");
}

/* ---- what must not get through ---- */

static void expect_failure(enum tls_handshake_failure failure)
{
	tls_pair_connect(&pair);
	assert_int_equal(tls_pair_shake(&pair, 0), TLS_HANDSHAKE_FAILED);
	if (tls_handshake_failure(pair.handshake) != failure)
		fail_msg("it failed for %s: %s",
			 tls_handshake_failure_name(tls_handshake_failure(pair.handshake)),
			 tls_handshake_error(pair.handshake));
	assert_string_not_equal(tls_handshake_error(pair.handshake), "");
	/* It stays so, and can't be detached. */
	assert_int_equal(tls_handshake_feed(pair.handshake, SLICE("more"), &pair.to_server),
			 TLS_HANDSHAKE_FAILED);
	assert_false(tls_handshake_detach(pair.handshake, ciphers, &pair.state, &pair.peer));
}

/* The client is told: its end fails with the alert. */
static void expect_alert(int alert)
{
	int result = SSL_do_handshake(pair.client);
	unsigned long error = ERR_peek_last_error();

	assert_true(result <= 0);
	assert_int_equal(ERR_GET_REASON(error), SSL_AD_REASON_OFFSET + alert);
	ERR_clear_error();
}

static void test_old_versions(void **state)
{
	(void)state;
	SSL_CTX_set_security_level(pair.client_context, 0);
	SSL_CTX_set_min_proto_version(pair.client_context, TLS1_VERSION);
	SSL_CTX_set_max_proto_version(pair.client_context, TLS1_1_VERSION);
	expect_failure(TLS_HANDSHAKE_FAILURE_VERSION);
	expect_alert(SSL_AD_PROTOCOL_VERSION);
}

static void test_no_shared_suite(void **state)
{
	(void)state;
	SSL_CTX_set_max_proto_version(pair.client_context, TLS1_2_VERSION);
	SSL_CTX_set_cipher_list(pair.client_context, "ECDHE-RSA-AES128-SHA256");
	SSL_CTX_set_cipher_list(pair.server_context, "ECDHE+AESGCM");
	expect_failure(TLS_HANDSHAKE_FAILURE_NO_SHARED_SUITE);
	expect_alert(SSL_AD_HANDSHAKE_FAILURE);
}

/* Should the context offer what the record layer can't carry, the connection ends here. */
static void test_suite_that_can_not_be_carried(void **state)
{
	(void)state;
	SSL_CTX_set_max_proto_version(pair.client_context, TLS1_2_VERSION);
	SSL_CTX_set_cipher_list(pair.client_context, "ECDHE-RSA-AES128-SHA256");
	tls_pair_connect(&pair);
	assert_int_equal(tls_pair_shake(&pair, 0), TLS_HANDSHAKE_DONE);
	assert_false(tls_handshake_detach(pair.handshake, ciphers, &pair.state, &pair.peer));
	assert_int_equal(tls_handshake_failure(pair.handshake), TLS_HANDSHAKE_FAILURE_DETACH);
}

/* A context whose keylog callback is not ours gives no keys. */
static void test_context_not_prepared(void **state)
{
	(void)state;
	SSL_CTX_set_keylog_callback(pair.server_context, NULL);
	tls_pair_suite(&pair, "TLS_AES_128_GCM_SHA256");
	tls_pair_connect(&pair);
	assert_int_equal(tls_pair_shake(&pair, 0), TLS_HANDSHAKE_DONE);
	assert_false(tls_handshake_detach(pair.handshake, ciphers, &pair.state, &pair.peer));
	assert_string_equal(tls_handshake_error(pair.handshake), "no keys");
}

static void test_no_application_protocol(void **state)
{
	(void)state;
	SSL_CTX_set_alpn_select_cb(pair.server_context, select_http, NULL);
	SSL_CTX_set_alpn_protos(pair.client_context, (const uint8_t *)"\x02h2", 3);
	expect_failure(TLS_HANDSHAKE_FAILURE_APPLICATION);
	expect_alert(SSL_AD_NO_APPLICATION_PROTOCOL);
}

static void test_certificate_missing(void **state)
{
	(void)state;
	SSL_CTX_set_verify(pair.server_context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
			   NULL);
	expect_failure(TLS_HANDSHAKE_FAILURE_CERTIFICATE);
}

static void test_client_gives_up(void **state)
{
	(void)state;
	/* It does not know our issuer. */
	SSL_CTX_set_verify(pair.client_context, SSL_VERIFY_PEER, NULL);
	expect_failure(TLS_HANDSHAKE_FAILURE_PEER_ALERT);
}

static enum tls_handshake_failure failure_of_bytes(struct slice bytes, size_t step,
						   struct buffer *out)
{
	enum tls_handshake_state state = TLS_HANDSHAKE_RUNNING;

	tls_pair_connect(&pair);
	for (size_t at = 0; at < bytes.len; at += step)
		state = tls_handshake_feed(
			pair.handshake,
			slice_from(bytes.data + at, step < bytes.len - at ? step : bytes.len - at),
			out);
	assert_int_equal(state, TLS_HANDSHAKE_FAILED);
	return tls_handshake_failure(pair.handshake);
}

static void test_no_tls_at_all(void **state)
{
	static const struct {
		struct slice bytes;
		enum tls_handshake_failure failure;
	} table[] = {
		{SLICE("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), TLS_HANDSHAKE_FAILURE_PLAIN_HTTP},
		{SLICE("POST /api HTTP/1.1\r\n"), TLS_HANDSHAKE_FAILURE_PLAIN_HTTP},
		{SLICE("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), TLS_HANDSHAKE_FAILURE_PLAIN_HTTP},
		{SLICE("SSH-2.0-x\r\n"), TLS_HANDSHAKE_FAILURE_NOT_TLS},
		{SLICE("\0\0\0"), TLS_HANDSHAKE_FAILURE_NOT_TLS},
		/* SSLv2's hello, which OpenSSL would take. */
		{SLICE("\x80\x2e\x01\x03\x01\x00\x15\x00\x00"), TLS_HANDSHAKE_FAILURE_NOT_TLS},
		/* TLS, but no handshake. */
		{SLICE("\x17\x03\x03\x00\x01x"), TLS_HANDSHAKE_FAILURE_PROTOCOL},
		{SLICE("\x16\x03\x01\x00\x04\x01\x00\x00\x00"), TLS_HANDSHAKE_FAILURE_PROTOCOL},
		/* A record that is longer than any. */
		{SLICE("\x16\x03\x01\xff\xff\x01\x00\x00\x00"), TLS_HANDSHAKE_FAILURE_PROTOCOL},
	};
	struct buffer out = {0};

	(void)state;
	for (size_t i = 0; i < COUNT(table); i++)
		for (size_t step = 1; step <= 64; step += 63) {
			buffer_reset(&out);
			assert_int_equal(failure_of_bytes(table[i].bytes, step, &out),
					 table[i].failure);
			/* Who speaks TLS is told in TLS. */
			if (table[i].failure == TLS_HANDSHAKE_FAILURE_PROTOCOL)
				assert_int_equal(out.data[0], 21);
			else
				assert_int_equal(out.len, 0);
		}
	buffer_free(&out);
}

/* Empty records and endless messages: bounded, whatever OpenSSL thinks of them. */
static void test_endless_hello(void **state)
{
	struct buffer record = {0}, out = {0};
	enum tls_handshake_state now = TLS_HANDSHAKE_RUNNING;
	size_t fed = 0;

	(void)state;
	/* A ClientHello that is 16 MiB long. */
	buffer_append(&record, "\x16\x03\x01\x40\x00\x01\xff\xff\xff", 9);
	memset(buffer_reserve(&record, 16380), 0, 16380);
	record.len += 16380;
	tls_pair_connect(&pair);
	while (now == TLS_HANDSHAKE_RUNNING && fed < 4 * TLS_HANDSHAKE_INPUT_MAX) {
		now = tls_handshake_feed(pair.handshake, buffer_slice(&record), &out);
		fed += record.len;
	}
	assert_int_equal(now, TLS_HANDSHAKE_FAILED);
	buffer_free(&record);
	buffer_free(&out);
}

/* Early data is refused, and does not get in the way. */
static void test_early_data_is_not_taken(void **state)
{
	size_t written;

	(void)state;
	SSL_CTX_set_session_cache_mode(pair.client_context,
				       SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(pair.client_context, keep_session);
	tls_pair_suite(&pair, "TLS_AES_128_GCM_SHA256");
	tls_pair_establish(&pair, ciphers);
	expect_alive();
	assert_int_equal(SSL_SESSION_get_max_early_data(pair.session), 0);
	/* A client that does not care. */
	assert_int_equal(SSL_SESSION_set_max_early_data(pair.session, 1000), 1);
	tls_pair_connect(&pair);
	assert_int_equal(SSL_write_early_data(pair.client, "early", 5, &written), 1);
	assert_int_equal(tls_pair_shake(&pair, 0), TLS_HANDSHAKE_DONE);
	assert_int_equal(SSL_get_early_data_status(pair.client), SSL_EARLY_DATA_REJECTED);
	assert_true(tls_handshake_detach(pair.handshake, ciphers, &pair.state, &pair.peer));
	expect_alive();
}

static void test_renegotiation_is_refused(void **state)
{
	struct tls_opened opened;
	uint8_t out[TLS_RECORD_MAX];

	(void)state;
	tls_pair_suite(&pair, "ECDHE-RSA-AES256-GCM-SHA384");
	tls_pair_establish(&pair, ciphers);
	expect_alive();
	assert_int_equal(SSL_renegotiate(pair.client), 1);
	SSL_do_handshake(pair.client);
	tls_pair_flush_client(&pair);
	assert_int_equal(tls_record_open(ciphers, &pair.state, buffer_slice(&pair.to_server), 0,
					 out, &opened),
			 TLS_REFUSED);
	assert_int_equal(opened.refusal, TLS_REFUSED_RENEGOTIATION);
	assert_int_equal(opened.alert, TLS_ALERT_NO_RENEGOTIATION);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_every_suite),
		TEST(test_byte_by_byte),
		TEST(test_tickets_count),
		TEST(test_resumption),
		TEST(test_hello_retry_request),
		TEST(test_max_fragment_length),
		TEST(test_rest_belongs_to_the_record_layer),
		TEST(test_key_updates),
		TEST(test_peer_with_certificate),
		TEST(test_peer_that_is_not_trusted),
		TEST(test_long_names_are_not_cut),
		TEST(test_peer_without_anything),
		TEST(test_old_versions),
		TEST(test_no_shared_suite),
		TEST(test_suite_that_can_not_be_carried),
		TEST(test_context_not_prepared),
		TEST(test_no_application_protocol),
		TEST(test_certificate_missing),
		TEST(test_client_gives_up),
		TEST(test_no_tls_at_all),
		TEST(test_endless_hello),
		TEST(test_early_data_is_not_taken),
		TEST(test_renegotiation_is_refused),
	};

	return cmocka_run_group_tests(tests, setup_group, teardown_group);
}

/* SPDX-License-Identifier: ISC */
/*
 * What a TLS record costs: sealed and opened by our record layer, where each one
 * is another connection's, so that the cipher is keyed anew each time; where all
 * are one connection's; and by OpenSSL's objects, one for each connection. CPU
 * ns per record, the best of some rounds. Prints a table.
 */
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/tls_handshake.h"
#include "keepsock/tls_record.h"

#define CONNECTIONS 1000u
#define ROUNDS      7u

/* Both ends of a connection; after the handshake ours is only the state. */
struct pair {
	SSL *client, *server; /* owned */
	struct tls_state state;
	struct slice record; /* owned: one from the client */
};

static struct tls_ciphers *ciphers;
static struct pair pairs[CONNECTIONS];
static uint8_t plain[TLS_PLAINTEXT_MAX], scratch[TLS_RECORD_MAX];

static void require(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "tls_record: %s\n", what);
	exit(1);
}

static double now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static size_t move(SSL *from, SSL *to)
{
	static char bytes[65536];
	int n = BIO_read(SSL_get_wbio(from), bytes, sizeof(bytes));

	if (n > 0 && to)
		require(BIO_write(SSL_get_rbio(to), bytes, n) == n, "BIO_write");
	return n > 0 ? (size_t)n : 0;
}

static SSL *make_ssl(SSL_CTX *context)
{
	SSL *ssl = SSL_new(context);

	require(ssl != NULL, "SSL_new");
	SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
	return ssl;
}

static void shake(SSL *client, SSL *server)
{
	SSL_set_connect_state(client);
	SSL_set_accept_state(server);
	while (!SSL_is_init_finished(client) || !SSL_is_init_finished(server)) {
		SSL_do_handshake(client);
		move(client, server);
		SSL_do_handshake(server);
		move(server, client);
	}
	SSL_do_handshake(client);
}

/* The same suite, by our handshake, with a client that is not needed any more. */
static struct tls_state detached(SSL_CTX *context, SSL_CTX *client_context)
{
	struct tls_handshake *handshake = tls_handshake_create(context);
	SSL *client = make_ssl(client_context);
	struct tls_state state = {0};
	struct tls_peer peer;
	struct buffer out = {0};
	enum tls_handshake_state now = TLS_HANDSHAKE_RUNNING;
	static char bytes[65536];

	require(handshake != NULL, "tls_handshake_create");
	SSL_set_connect_state(client);
	while (now == TLS_HANDSHAKE_RUNNING) {
		int n;

		SSL_do_handshake(client);
		n = BIO_read(SSL_get_wbio(client), bytes, sizeof(bytes));
		require(n > 0, "the client is silent");
		now = tls_handshake_feed(handshake, slice_from(bytes, (size_t)n), &out);
		BIO_write(SSL_get_rbio(client), out.data, (int)out.len);
		buffer_reset(&out);
	}
	require(now == TLS_HANDSHAKE_DONE &&
			tls_handshake_detach(handshake, ciphers, &state, &peer),
		tls_handshake_error(handshake));
	tls_handshake_free(handshake);
	SSL_set_shutdown(client, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	SSL_free(client);
	buffer_free(&out);
	return state;
}

static SSL_CTX *make_context(const SSL_METHOD *method, const char *suite)
{
	SSL_CTX *context = SSL_CTX_new(method);
	bool newer = strncmp(suite, "TLS_", 4) == 0;

	require(context != NULL, "SSL_CTX_new");
	SSL_CTX_set_min_proto_version(context, newer ? TLS1_3_VERSION : TLS1_2_VERSION);
	SSL_CTX_set_max_proto_version(context, newer ? TLS1_3_VERSION : TLS1_2_VERSION);
	require((newer ? SSL_CTX_set_ciphersuites(context, suite)
		       : SSL_CTX_set_cipher_list(context, suite)) == 1,
		suite);
	return context;
}

static void use_certificate(SSL_CTX *context)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *certificate = X509_new();

	require(key && certificate, "no certificate");
	X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
	X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
	X509_set_pubkey(certificate, key);
	require(X509_sign(certificate, key, EVP_sha256()) > 0 &&
			SSL_CTX_use_certificate(context, certificate) == 1 &&
			SSL_CTX_use_PrivateKey(context, key) == 1,
		"no certificate");
	X509_free(certificate);
	EVP_PKEY_free(key);
}

static void connect_all(const char *suite)
{
	SSL_CTX *server = make_context(TLS_server_method(), suite);
	SSL_CTX *client = make_context(TLS_client_method(), suite);

	use_certificate(server);
	require(tls_handshake_prepare_context(server), "prepare");
	for (unsigned i = 0; i < CONNECTIONS; i++) {
		pairs[i].client = make_ssl(client);
		pairs[i].server = make_ssl(server);
		shake(pairs[i].client, pairs[i].server);
		pairs[i].state = detached(server, client);
	}
	SSL_CTX_free(server);
	SSL_CTX_free(client);
}

static void free_all(void)
{
	for (unsigned i = 0; i < CONNECTIONS; i++) {
		SSL_free(pairs[i].client);
		SSL_free(pairs[i].server);
	}
}

/* ---- what is measured: CONNECTIONS records each ---- */

static void seal_ours(size_t length, unsigned apart)
{
	struct tls_block_entry entry;

	for (unsigned i = 0; i < CONNECTIONS; i++) {
		struct tls_state *state = &pairs[i * apart].state;

		entry = (struct tls_block_entry){.state = state};
		require(tls_record_seal_block(ciphers, slice_from(plain, length), &entry, 1,
					      scratch, sizeof(scratch)) == 1 &&
				entry.records.len > 0,
			"not sealed");
		state->write.sequence = entry.sequence;
	}
}

static void seal_each(size_t length)
{
	seal_ours(length, 1);
}

static void seal_one(size_t length)
{
	seal_ours(length, 0);
}

static void seal_openssl(size_t length)
{
	for (unsigned i = 0; i < CONNECTIONS; i++) {
		require(SSL_write(pairs[i].server, plain, (int)length) == (int)length, "SSL_write");
		BIO_reset(SSL_get_wbio(pairs[i].server));
	}
}

/* The record of each connection, as its client would send it. */
static void make_records(size_t length)
{
	for (unsigned i = 0; i < CONNECTIONS; i++) {
		struct tls_state peer = pairs[i].state;
		struct buffer out = {0};

		peer.write = pairs[i].state.read;
		require(tls_record_seal(ciphers, &peer, slice_from(plain, length), &out) ==
				TLS_SEALED,
			"no record");
		pairs[i].record = buffer_slice(&out);
	}
}

static void drop_records(void)
{
	for (unsigned i = 0; i < CONNECTIONS; i++)
		free((void *)(uintptr_t)pairs[i].record.data);
}

static void open_ours(unsigned apart)
{
	for (unsigned i = 0; i < CONNECTIONS; i++) {
		const struct pair *pair = &pairs[i * apart];
		struct tls_state state = pair->state;
		struct tls_opened opened;

		require(tls_record_open(ciphers, &state, pair->record, 0, scratch, &opened) ==
				TLS_DATA,
			"not opened");
	}
}

static void open_each(size_t length)
{
	(void)length;
	open_ours(1);
}

static void open_one(size_t length)
{
	(void)length;
	open_ours(0);
}

static void open_openssl(size_t length)
{
	for (unsigned i = 0; i < CONNECTIONS; i++)
		require(SSL_read(pairs[i].server, scratch, (int)length) == (int)length, "SSL_read");
}

/* Outside of what is measured. */
static void feed_openssl(size_t length)
{
	for (unsigned i = 0; i < CONNECTIONS; i++) {
		require(SSL_write(pairs[i].client, plain, (int)length) == (int)length, "SSL_write");
		move(pairs[i].client, pairs[i].server);
	}
}

static double measure(void (*work)(size_t), void (*prepare)(size_t), size_t length)
{
	double best = 0;

	for (unsigned round = 0; round < ROUNDS; round++) {
		double start, took;

		if (prepare)
			prepare(length);
		start = now_ns();
		work(length);
		took = (now_ns() - start) / CONNECTIONS;
		if (round == 0 || took < best)
			best = took;
	}
	return best;
}

int main(void)
{
	static const char *const suites[] = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384",
					     "TLS_CHACHA20_POLY1305_SHA256",
					     "ECDHE-ECDSA-AES128-GCM-SHA256"};
	static const size_t lengths[] = {64, 1024, 16384};
	const char *error = "";

	ciphers = tls_ciphers_create(&error);
	require(ciphers != NULL, error);
	printf("| suite | bytes | seal, each another's | seal, all one's | SSL_write | "
	       "open, each another's | open, all one's | SSL_read |\n"
	       "|---|---|---|---|---|---|---|---|\n");
	for (size_t s = 0; s < sizeof(suites) / sizeof(suites[0]); s++) {
		connect_all(suites[s]);
		for (size_t n = 0; n < sizeof(lengths) / sizeof(lengths[0]); n++) {
			make_records(lengths[n]);
			printf("| %s | %zu | %.0f | %.0f | %.0f | %.0f | %.0f | %.0f |\n",
			       suites[s], lengths[n], measure(seal_each, NULL, lengths[n]),
			       measure(seal_one, NULL, lengths[n]),
			       measure(seal_openssl, NULL, lengths[n]),
			       measure(open_each, NULL, lengths[n]),
			       measure(open_one, NULL, lengths[n]),
			       measure(open_openssl, feed_openssl, lengths[n]));
			drop_records();
		}
		free_all();
	}
	tls_ciphers_free(ciphers);
	return 0;
}

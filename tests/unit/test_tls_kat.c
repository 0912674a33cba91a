/* SPDX-License-Identifier: ISC */
/*
 * Known answers: what OpenSSL's own record layer makes of a connection, byte for
 * byte beside what ours makes of the same keys and sequences. Here the server
 * keeps its SSL object, and our state is only a copy of what it knows.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "net/tls_detach.h"
#include "net/tls_keys.h"
#include "tls_pair.h"

#define TICKETS 2u

static struct tls_ciphers *ciphers;
static struct tls_pair pair; /* its contexts and its client */
static SSL *server;
static struct tls_secrets secrets;
static struct buffer client_said; /* last in its handshake */

static void on_line(const SSL *ssl, const char *line)
{
	(void)ssl;
	tls_secrets_add_line(&secrets, line);
}

static int setup(void **state)
{
	const char *error;

	(void)state;
	ciphers = tls_ciphers_create(&error);
	if (!ciphers)
		return -1;
	tls_pair_init(&pair);
	SSL_CTX_set_keylog_callback(pair.server_context, on_line);
	SSL_CTX_set_num_tickets(pair.server_context, TICKETS);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	SSL_free(server);
	server = NULL;
	buffer_free(&client_said);
	tls_pair_free(&pair);
	tls_ciphers_free(ciphers);
	return 0;
}

static void move(SSL *from, SSL *to, struct buffer *copy)
{
	size_t length = BIO_ctrl_pending(SSL_get_wbio(from));

	buffer_reset(copy);
	if (length == 0)
		return;
	assert_int_equal(BIO_read(SSL_get_wbio(from), buffer_reserve(copy, length), (int)length),
			 length);
	copy->len = length;
	assert_int_equal(BIO_write(SSL_get_rbio(to), copy->data, (int)length), length);
}

/* A connection of which both ends are OpenSSL's, and our state of the server's. */
static void establish(void)
{
	struct buffer moved = {0};
	const char *error = "";
	bool newer;

	SSL_free(server);
	server = SSL_new(pair.server_context);
	SSL_set_bio(server, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
	SSL_set_accept_state(server);
	tls_pair_connect(&pair);
	memset(&secrets, 0, sizeof(secrets));
	for (int turn = 0; turn < 10; turn++) {
		SSL_do_handshake(pair.client);
		move(pair.client, server, &moved);
		if (moved.len > 0) {
			buffer_reset(&client_said);
			buffer_append_slice(&client_said, buffer_slice(&moved));
		}
		SSL_do_handshake(server);
		move(server, pair.client, &moved);
	}
	assert_true(SSL_is_init_finished(server));
	assert_int_equal(SSL_do_handshake(pair.client), 1);
	newer = SSL_version(server) == TLS1_3_VERSION;
	if (!tls_detach_state(server, &secrets, newer ? TICKETS : 1, &pair.state, &error))
		fail_msg("%s", error);
	buffer_free(&moved);
}

static struct buffer pattern(size_t length)
{
	struct buffer made = {0};

	buffer_reserve(&made, length + 1);
	for (size_t i = 0; i < length; i++)
		made.data[i] = (char)(i * 7 + length);
	made.len = length;
	return made;
}

/*
 * Where explicit nonces stand is in any record of OpenSSL's. It is the one ahead
 * of those that are compared.
 */
static void learn_nonce(void)
{
	struct buffer record = {0};
	uint64_t nonce = 0;

	assert_int_equal(SSL_write(server, "x", 1), 1);
	move(server, pair.client, &record);
	assert_int_equal(tls_record_sealed_length(&pair.state, 1), record.len);
	if (pair.state.version == TLS_VERSION_1_2 &&
	    tls_suite_find(pair.state.suite)->aead != TLS_AEAD_CHACHA20_POLY1305) {
		for (int i = 0; i < 8; i++)
			nonce = nonce << 8 | (uint8_t)record.data[TLS_HEADER_SIZE + i];
		nonce -= pair.state.write.sequence;
		for (int i = 7; i >= 0; i--) {
			pair.state.write.iv[4 + i] = (uint8_t)nonce;
			nonce >>= 8;
		}
	}
	pair.state.write.sequence++;
	buffer_free(&record);
}

static void expect_same_sealed(size_t length)
{
	struct buffer plain = pattern(length), theirs = {0}, ours = {0}, again = {0};
	struct tls_state before = pair.state;

	assert_int_equal(SSL_write(server, plain.data, (int)length), length);
	move(server, pair.client, &theirs);
	if (tls_record_seal_ready(&pair.state, length))
		assert_int_equal(tls_record_sealed_length(&pair.state, length), theirs.len);
	assert_int_equal(tls_record_seal(ciphers, &pair.state, buffer_slice(&plain), &ours),
			 TLS_SEALED);
	assert_int_equal(ours.len, theirs.len);
	assert_memory_equal(ours.data, theirs.data, ours.len);
	/* From the same state the same bytes. */
	assert_int_equal(tls_record_seal(ciphers, &before, buffer_slice(&plain), &again),
			 TLS_SEALED);
	assert_int_equal(again.len, ours.len);
	assert_memory_equal(again.data, ours.data, ours.len);
	assert_memory_equal(&before, &pair.state, sizeof(before));
	buffer_free(&plain);
	buffer_free(&theirs);
	buffer_free(&ours);
	buffer_free(&again);
}

static void expect_same_opened(size_t length)
{
	struct buffer plain = pattern(length), sealed = {0}, got = {0};
	struct tls_opened opened;
	uint8_t out[TLS_RECORD_MAX];
	size_t at = 0;

	assert_int_equal(SSL_write(pair.client, plain.data, (int)length), length);
	move(pair.client, server, &sealed);
	/* OpenSSL reads it as well. */
	while (got.len < length) {
		int n = SSL_read(server, buffer_reserve(&got, length), (int)length);

		assert_true(n > 0);
		got.len += (size_t)n;
	}
	buffer_reset(&got);
	while (at < sealed.len) {
		struct slice input = slice_from(sealed.data + at, sealed.len - at);

		assert_int_equal(tls_record_open(ciphers, &pair.state, input, 0, out, &opened),
				 TLS_DATA);
		buffer_append_slice(&got, opened.plaintext);
		at += opened.consumed;
	}
	assert_int_equal(got.len, length);
	assert_memory_equal(got.data, plain.data, length);
	buffer_free(&plain);
	buffer_free(&sealed);
	buffer_free(&got);
}

static void expect_same(void)
{
	static const size_t lengths[] = {1,    2,    15,   16,    17,    125,   1000, 2047,
					 2048, 2049, 4096, 16383, 16384, 16385, 50000};

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		expect_same_sealed(lengths[i]);
		expect_same_opened(lengths[i]);
	}
}

static void expect_same_close(void)
{
	struct buffer theirs = {0}, ours = {0};

	assert_int_equal(SSL_shutdown(server), 0);
	move(server, pair.client, &theirs);
	assert_int_equal(tls_record_seal_alert(ciphers, &pair.state, TLS_ALERT_CLOSE_NOTIFY, &ours),
			 TLS_SEALED);
	assert_int_equal(ours.len, theirs.len);
	assert_memory_equal(ours.data, theirs.data, ours.len);
	buffer_free(&theirs);
	buffer_free(&ours);
}

static void test_every_suite_like_openssl(void **state)
{
	(void)state;
	for (unsigned id = 0; id <= UINT16_MAX; id++) {
		if (!tls_suite_supported(id))
			continue;
		tls_pair_suite(&pair, tls_suite_name(id));
		establish();
		learn_nonce();
		expect_same();
		expect_same_close();
	}
}

static void expect_same_key_update(bool request)
{
	struct buffer theirs = {0}, ours = {0};

	assert_int_equal(SSL_key_update(server, request ? SSL_KEY_UPDATE_REQUESTED
							: SSL_KEY_UPDATE_NOT_REQUESTED),
			 1);
	assert_int_equal(SSL_do_handshake(server), 1);
	move(server, pair.client, &theirs);
	assert_int_equal(tls_record_seal_key_update(ciphers, &pair.state, request, &ours),
			 TLS_SEALED);
	assert_int_equal(ours.len, theirs.len);
	assert_memory_equal(ours.data, theirs.data, ours.len);
	buffer_free(&theirs);
	buffer_free(&ours);
}

/* The client's KeyUpdate goes to both; the next record of the server's carries the answer. */
static void expect_same_answer(void)
{
	struct buffer sealed = {0};
	struct tls_opened opened;
	uint8_t out[TLS_RECORD_MAX];

	assert_int_equal(SSL_key_update(pair.client, SSL_KEY_UPDATE_REQUESTED), 1);
	assert_int_equal(SSL_do_handshake(pair.client), 1);
	move(pair.client, server, &sealed);
	assert_int_equal(
		tls_record_open(ciphers, &pair.state, buffer_slice(&sealed), 0, out, &opened),
		TLS_KEY_UPDATE);
	assert_int_equal(opened.consumed, sealed.len);
	assert_true(SSL_read(server, out, sizeof(out)) <= 0);
	buffer_free(&sealed);
}

static void test_key_updates_like_openssl(void **state)
{
	static const char *const suites[] = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384",
					     "TLS_CHACHA20_POLY1305_SHA256"};

	(void)state;
	for (size_t i = 0; i < sizeof(suites) / sizeof(suites[0]); i++) {
		tls_pair_suite(&pair, suites[i]);
		establish();
		learn_nonce();
		for (int round = 0; round < 3; round++) {
			expect_same_sealed(100);
			expect_same_key_update(false);
			expect_same_sealed(100);
			expect_same_opened(100);
			expect_same_answer();
			expect_same_sealed(100 + TLS_PLAINTEXT_MAX);
			expect_same_opened(100);
		}
	}
}

static void test_fragments_like_openssl(void **state)
{
	static const char *const suites[] = {"TLS_AES_128_GCM_SHA256",
					     "ECDHE-RSA-AES256-GCM-SHA384"};

	(void)state;
	SSL_CTX_set_tlsext_max_fragment_length(pair.client_context, TLSEXT_max_fragment_length_512);
	for (size_t i = 0; i < sizeof(suites) / sizeof(suites[0]); i++) {
		tls_pair_suite(&pair, suites[i]);
		establish();
		learn_nonce();
		assert_int_equal(pair.state.max_plaintext, 512);
		expect_same();
	}
}

/* ---- the self-check ---- */

enum damage { NONE, SEQUENCE, DIRECTIONS, WRITE_KEY, READ_KEY, WRITE_IV, SUITE, DAMAGES };

static void do_damage(enum damage damage, struct tls_state *state)
{
	struct tls_direction read = state->read;

	switch (damage) {
	case NONE:
	case DAMAGES: return;
	case SEQUENCE: state->write.sequence++; return;
	case DIRECTIONS:
		memcpy(state->read.key, state->write.key, sizeof(state->read.key));
		memcpy(state->write.key, read.key, sizeof(read.key));
		return;
	case WRITE_KEY: state->write.key[0] ^= 1; return;
	case READ_KEY: state->read.key[0] ^= 1; return;
	case WRITE_IV: state->write.iv[0] ^= 1; return;
	case SUITE: state->suite = state->version == TLS_VERSION_1_3 ? 0x1304 : 0xc09c; return;
	}
}

/* The client's Finished, the last record of its handshake. */
static struct slice finished(void)
{
	struct slice rest = buffer_slice(&client_said);

	while (tls_record_length(rest) < rest.len) {
		size_t length = tls_record_length(rest);

		rest = slice_from(rest.data + length, rest.len - length);
	}
	return rest;
}

static void test_self_check_finds_what_is_wrong(void **state)
{
	static const char *const suites[] = {"TLS_AES_128_GCM_SHA256", "AES128-GCM-SHA256",
					     "ECDHE-RSA-CHACHA20-POLY1305"};

	(void)state;
	for (size_t i = 0; i < sizeof(suites) / sizeof(suites[0]); i++)
		for (enum damage damage = NONE; damage < DAMAGES; damage++) {
			const char *error = "";
			bool ok;

			/* What a key of 1.3 reads comes only after the handshake. */
			if (i == 0 && damage == READ_KEY)
				continue;
			tls_pair_suite(&pair, suites[i]);
			establish();
			do_damage(damage, &pair.state);
			ok = tls_detach_check(server, ciphers, finished(), &pair.state, &error);
			if (ok != (damage == NONE))
				fail_msg("%s, damage %d: %s", suites[i], (int)damage, error);
			assert_int_equal(*error == 0, ok);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_every_suite_like_openssl, setup, teardown),
		cmocka_unit_test_setup_teardown(test_key_updates_like_openssl, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fragments_like_openssl, setup, teardown),
		cmocka_unit_test_setup_teardown(test_self_check_finds_what_is_wrong, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

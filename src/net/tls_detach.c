/* SPDX-License-Identifier: ISC */
/*
 * Detaching, see tls_detach.h. Run by workers at the end of a handshake.
 * Whatever OpenSSL's next version does differently, the self-check finds before
 * a byte of the connection depends on it.
 */
#include "net/tls_detach.h"

#include <openssl/bio.h>
#include <openssl/ssl.h>
#include <string.h>

#include "keepsock/hex.h"
#include "keepsock/secret.h"
#include "net/tls_format.h"
#include "net/tls_keys.h"

#define PROBE_MAX 256u

/* ---- secrets ---- */

/* Bytes written; 0 when the text is no hexadecimal or too long. */
static uint8_t read_hex(const char *text, uint8_t *out, size_t size)
{
	size_t length = 0;

	for (; text[0] && text[1]; text += 2) {
		int high = hex_value(text[0]), low = hex_value(text[1]);

		if (high < 0 || low < 0 || length == size)
			return 0;
		out[length++] = (uint8_t)(high << 4 | low);
	}
	return text[0] ? 0 : (uint8_t)length;
}

/* "LABEL <client random> <secret>": the format of NSS's key log. */
void tls_secrets_add_line(struct tls_secrets *secrets, const char *line)
{
	const char *random = strchr(line, ' '), *secret = random ? strchr(random + 1, ' ') : NULL;
	struct slice label;

	if (!secret)
		return;
	label = slice_from(line, (size_t)(random - line));
	if (slice_is(label, "CLIENT_TRAFFIC_SECRET_0"))
		secrets->read_length = read_hex(secret + 1, secrets->read, sizeof(secrets->read));
	else if (slice_is(label, "SERVER_TRAFFIC_SECRET_0"))
		secrets->write_length =
			read_hex(secret + 1, secrets->write, sizeof(secrets->write));
}

/* ---- the state ---- */

static bool keys_1_3(const struct tls_suite *suite, const struct tls_secrets *secrets,
		     struct tls_state *state)
{
	return secrets->read_length == suite->digest && secrets->write_length == suite->digest &&
	       tls_keys_from_secret(suite, secrets->read, &state->read) &&
	       tls_keys_from_secret(suite, secrets->write, &state->write);
}

static bool keys_1_2(const struct tls_suite *suite, SSL *ssl, struct tls_state *state)
{
	uint8_t client_random[SSL3_RANDOM_SIZE], server_random[SSL3_RANDOM_SIZE];
	uint8_t master[SSL_MAX_MASTER_KEY_LENGTH];
	size_t length = SSL_SESSION_get_master_key(SSL_get_session(ssl), master, sizeof(master));
	bool ok = length > 0 &&
		  SSL_get_client_random(ssl, client_random, sizeof(client_random)) ==
			  sizeof(client_random) &&
		  SSL_get_server_random(ssl, server_random, sizeof(server_random)) ==
			  sizeof(server_random) &&
		  tls_keys_from_master(suite, slice_from(master, length), client_random,
				       server_random, &state->read, &state->write);

	secret_wipe(master, sizeof(master));
	/* The client's Finished was its record 0. */
	state->read.sequence = 1;
	return ok;
}

/* RFC 6066 §4: what was agreed on, for both directions. */
static uint16_t max_plaintext(const SSL_SESSION *session)
{
	unsigned code = SSL_SESSION_get_max_fragment_length(session);

	return code >= TLSEXT_max_fragment_length_512 && code <= TLSEXT_max_fragment_length_4096
		       ? (uint16_t)(256u << code)
		       : TLS_PLAINTEXT_MAX;
}

bool tls_detach_state(SSL *ssl, const struct tls_secrets *secrets, uint64_t written,
		      struct tls_state *state, const char **error)
{
	const SSL_CIPHER *cipher = SSL_get_current_cipher(ssl);
	const struct tls_suite *suite =
		cipher ? tls_suite_find(SSL_CIPHER_get_protocol_id(cipher)) : NULL;

	memset(state, 0, sizeof(*state));
	if (!suite || suite->version != SSL_version(ssl) || !SSL_get_session(ssl)) {
		*error = "the suite can not be carried";
		return false;
	}
	state->version = suite->version;
	state->suite = suite->id;
	state->max_plaintext = max_plaintext(SSL_get_session(ssl));
	if (suite->version == TLS_VERSION_1_3 ? !keys_1_3(suite, secrets, state)
					      : !keys_1_2(suite, ssl, state)) {
		*error = "no keys";
		return false;
	}
	state->write.sequence = written;
	return true;
}

/* ---- the self-check ---- */

/* Opens a record as the one of this direction; content and type of what is in it. */
static bool open_own(struct tls_ciphers *ciphers, const struct tls_format *format,
		     const struct tls_direction *direction, struct slice record, uint8_t *content,
		     size_t *length, unsigned *type)
{
	if (tls_record_length(record) != record.len || record.len > PROBE_MAX)
		return false;
	*type = (uint8_t)record.data[0];
	return tls_format_open(ciphers, format, direction, record, content, length) ==
		       TLS_AEAD_OPENED &&
	       (!format->inner_type || tls_format_unpad(content, length, type));
}

/* Takes over the count of explicit nonces, which OpenSSL begins anywhere. */
static void adopt_nonce(const struct tls_format *format, struct slice record,
			struct tls_direction *write)
{
	uint64_t nonce = 0;

	if (format->explicit_size == 0)
		return;
	for (unsigned i = 0; i < 8; i++)
		nonce = nonce << 8 | (uint8_t)record.data[TLS_HEADER_SIZE + i];
	nonce -= write->sequence;
	for (unsigned i = 8; i > 0; i--) {
		write->iv[4 + i - 1] = (uint8_t)nonce;
		nonce >>= 8;
	}
}

static bool check_write(SSL *ssl, struct tls_ciphers *ciphers, const struct tls_format *format,
			struct tls_state *state)
{
	uint8_t probe[PROBE_MAX], content[PROBE_MAX];
	int got;
	size_t length;
	unsigned type;

	/* 0: sent, and the peer's not here yet. */
	if (SSL_shutdown(ssl) != 0)
		return false;
	got = BIO_read(SSL_get_wbio(ssl), probe, sizeof(probe));
	if (got < (int)(TLS_HEADER_SIZE + format->explicit_size) ||
	    BIO_pending(SSL_get_wbio(ssl)) != 0)
		return false;
	adopt_nonce(format, slice_from(probe, (size_t)got), &state->write);
	return open_own(ciphers, format, &state->write, slice_from(probe, (size_t)got), content,
			&length, &type) &&
	       type == TLS_ALERT && length == 2 && content[0] == TLS_ALERT_LEVEL_WARNING &&
	       content[1] == TLS_ALERT_CLOSE_NOTIFY;
}

static bool check_read(struct tls_ciphers *ciphers, const struct tls_format *format,
		       struct slice finished, const struct tls_state *state)
{
	struct tls_direction first = state->read;
	uint8_t content[PROBE_MAX];
	size_t length;
	unsigned type;
	bool ok;

	first.sequence = 0;
	ok = open_own(ciphers, format, &first, finished, content, &length, &type) &&
	     type == TLS_HANDSHAKE;
	secret_wipe(&first, sizeof(first));
	return ok;
}

bool tls_detach_check(SSL *ssl, struct tls_ciphers *ciphers, struct slice finished,
		      struct tls_state *state, const char **error)
{
	struct tls_format format;
	bool ok = tls_format_of(state, &format) && check_write(ssl, ciphers, &format, state) &&
		  (format.inner_type || check_read(ciphers, &format, finished, state));

	if (!ok)
		*error = "the self-check failed: OpenSSL's records are not as expected";
	return ok;
}

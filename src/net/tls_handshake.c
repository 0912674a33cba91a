/* SPDX-License-Identifier: ISC */
/*
 * Driving OpenSSL through a handshake, see tls_handshake.h. Run by workers. It
 * is given one record at a time, so that nothing of what comes after the
 * handshake can be in its buffers when the connection is detached.
 */
#include "keepsock/tls_handshake.h"

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/magic.h"
#include "keepsock/secret.h"
#include "keepsock/tls_record.h"
#include "net/tls_detach.h"
#include "net/tls_format.h"

#define TLS_HANDSHAKE_MAGIC 0x54485348u /* "HSHT" */

/* Of the client's Finished in 1.2: 16 bytes and what protecting them adds. */
#define FINISHED_MAX 96u

struct tls_handshake {
	uint32_t magic;
	SSL *ssl; /* owned, with its two BIOs; NULL once detached */
	enum tls_handshake_state state;
	enum tls_handshake_failure failure;
	const char *error;  /* static */
	struct buffer in;   /* owned: what was fed, from `used` on not used yet */
	size_t used;        /* bytes */
	size_t total;       /* bytes given to OpenSSL */
	uint64_t written;   /* records sent under the keys of the connection */
	size_t last_length; /* of the record given to OpenSSL last, which ends at `used` */
	struct tls_secrets secrets;
};

static int handshake_index = -1;
static CRYPTO_ONCE index_once = CRYPTO_ONCE_STATIC_INIT;

static void make_index(void)
{
	handshake_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
}

static void on_keylog(const SSL *ssl, const char *line)
{
	struct tls_handshake *handshake = SSL_get_ex_data(ssl, handshake_index);

	/* An object of somebody else's context, as in a test's client. */
	if (!handshake)
		return;
	MAGIC_CHECK(handshake, TLS_HANDSHAKE_MAGIC);
	tls_secrets_add_line(&handshake->secrets, line);
}

bool tls_handshake_prepare_context(SSL_CTX *context)
{
	if (!CRYPTO_THREAD_run_once(&index_once, make_index) || handshake_index < 0)
		return false;
	SSL_CTX_set_keylog_callback(context, on_keylog);
	SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_read_ahead(context, 0);
	return SSL_CTX_set_max_early_data(context, 0) == 1;
}

struct tls_handshake *tls_handshake_create(SSL_CTX *context)
{
	struct tls_handshake *handshake = xcalloc(1, sizeof(*handshake));
	BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());

	handshake->magic = TLS_HANDSHAKE_MAGIC;
	handshake->error = "";
	handshake->ssl = SSL_new(context);
	if (!in || !out || !handshake->ssl ||
	    SSL_set_ex_data(handshake->ssl, handshake_index, handshake) != 1) {
		BIO_free(in);
		BIO_free(out);
		tls_handshake_free(handshake);
		ERR_clear_error();
		return NULL;
	}
	SSL_set_bio(handshake->ssl, in, out);
	SSL_set_accept_state(handshake->ssl);
	return handshake;
}

void tls_handshake_free(struct tls_handshake *handshake)
{
	if (!handshake)
		return;
	MAGIC_CHECK(handshake, TLS_HANDSHAKE_MAGIC);
	SSL_free(handshake->ssl);
	buffer_free(&handshake->in);
	secret_wipe(handshake, sizeof(*handshake));
	free(handshake);
}

SSL *tls_handshake_ssl(struct tls_handshake *handshake)
{
	return handshake->ssl;
}

/* ---- failures ---- */

static enum tls_handshake_state fail(struct tls_handshake *handshake,
				     enum tls_handshake_failure failure, const char *error)
{
	handshake->state = TLS_HANDSHAKE_FAILED;
	handshake->failure = failure;
	handshake->error = error ? error : "";
	return handshake->state;
}

static enum tls_handshake_failure failure_of(unsigned long error)
{
	int reason = ERR_GET_REASON(error);

	if (ERR_GET_LIB(error) != ERR_LIB_SSL)
		return TLS_HANDSHAKE_FAILURE_PROTOCOL;
	/* OpenSSL numbers the alerts it received from here on. */
	if (reason >= SSL_AD_REASON_OFFSET)
		return TLS_HANDSHAKE_FAILURE_PEER_ALERT;
	switch (reason) {
	case SSL_R_UNSUPPORTED_PROTOCOL:
	case SSL_R_VERSION_TOO_LOW:
	case SSL_R_WRONG_VERSION_NUMBER:
	case SSL_R_UNKNOWN_PROTOCOL:
	case SSL_R_INAPPROPRIATE_FALLBACK: return TLS_HANDSHAKE_FAILURE_VERSION;
	case SSL_R_NO_SHARED_CIPHER:
	case SSL_R_NO_SUITABLE_KEY_SHARE:
	case SSL_R_NO_SHARED_GROUPS:
	case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
	case SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS: return TLS_HANDSHAKE_FAILURE_NO_SHARED_SUITE;
	case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
	case SSL_R_CERTIFICATE_VERIFY_FAILED:
	case SSL_R_NO_CERTIFICATES_RETURNED: return TLS_HANDSHAKE_FAILURE_CERTIFICATE;
	case SSL_R_NO_APPLICATION_PROTOCOL: return TLS_HANDSHAKE_FAILURE_APPLICATION;
	default: return TLS_HANDSHAKE_FAILURE_PROTOCOL;
	}
}

static enum tls_handshake_state fail_with_openssl(struct tls_handshake *handshake)
{
	unsigned long error = ERR_peek_error();

	/* Text of OpenSSL's tables: it stays. */
	fail(handshake, failure_of(error), error ? ERR_reason_error_string(error) : "closed");
	ERR_clear_error();
	return handshake->state;
}

/* ---- one record at a time ---- */

#define START_SIZE 3u /* bytes that tell what a stream is */

/* Judges the first bytes ever: what is no TLS has no length to wait for. */
static enum tls_handshake_state check_start(struct tls_handshake *handshake, const char *bytes)
{
	static const char methods[][START_SIZE + 1] = {"GET", "HEA", "POS", "PUT", "DEL",
						       "TRA", "OPT", "PAT", "CON", "PRI"};
	uint8_t type = (uint8_t)bytes[0];

	if (type >= TLS_CHANGE_CIPHER_SPEC && type <= TLS_APPLICATION_DATA &&
	    (uint8_t)bytes[1] == TLS_VERSION_1_2 >> 8)
		return TLS_HANDSHAKE_RUNNING;
	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
		if (memcmp(bytes, methods[i], START_SIZE) == 0)
			return fail(handshake, TLS_HANDSHAKE_FAILURE_PLAIN_HTTP,
				    "an HTTP request without TLS");
	return fail(handshake, TLS_HANDSHAKE_FAILURE_NOT_TLS, "no TLS record");
}

/* Moves what OpenSSL wants to send; returns how many records it is. */
static uint64_t take_output(SSL *ssl, struct buffer *out)
{
	BIO *bio = SSL_get_wbio(ssl);
	size_t start = out->len, length = BIO_ctrl_pending(bio);
	uint64_t records = 0;
	int got = 0;

	if (length > 0)
		got = BIO_read(bio, buffer_reserve(out, length), (int)length);
	if (got > 0)
		out->len += (size_t)got;
	while (start + TLS_HEADER_SIZE <= out->len) {
		start += tls_record_length(slice_from(out->data + start, out->len - start));
		records++;
	}
	return records;
}

static enum tls_handshake_state feed_record(struct tls_handshake *handshake, struct slice record,
					    struct buffer *out)
{
	SSL *ssl = handshake->ssl;
	uint64_t records;
	int result, error;

	ERR_clear_error();
	if (BIO_write(SSL_get_rbio(ssl), record.data, (int)record.len) != (int)record.len)
		return fail(handshake, TLS_HANDSHAKE_FAILURE_PROTOCOL, "out of memory");
	result = SSL_do_handshake(ssl);
	error = SSL_get_error(ssl, result);
	records = take_output(ssl, out);
	if (result != 1)
		return error == SSL_ERROR_WANT_READ ? TLS_HANDSHAKE_RUNNING
						    : fail_with_openssl(handshake);
	/* 1.3: the client's Finished was the last of the handshake, what goes out now are
	 * tickets. 1.2: our Finished, ahead of it or now, is the only one under the keys. */
	handshake->written = SSL_version(ssl) == TLS1_3_VERSION ? records : 1;
	handshake->state = TLS_HANDSHAKE_DONE;
	return handshake->state;
}

/*
 * The next record; false: more of it has to come. One whose length is too great
 * is given to OpenSSL as it is, which has the words for it.
 */
static bool next_record(const struct tls_handshake *handshake, struct slice *record)
{
	size_t length;

	*record = slice_from(handshake->in.data + handshake->used,
			     handshake->in.len - handshake->used);
	length = tls_record_length(*record);
	if (length == 0 || (length > record->len && length <= SSL3_RT_MAX_PACKET_SIZE))
		return false;
	if (length <= SSL3_RT_MAX_PACKET_SIZE)
		record->len = length;
	return true;
}

static enum tls_handshake_state feed_next(struct tls_handshake *handshake, struct slice record,
					  struct buffer *out)
{
	handshake->used += record.len;
	handshake->total += record.len;
	handshake->last_length = record.len;
	if (handshake->total > TLS_HANDSHAKE_INPUT_MAX)
		return fail(handshake, TLS_HANDSHAKE_FAILURE_TOO_LONG,
			    "more input than a handshake has");
	feed_record(handshake, record, out);
	if (handshake->state == TLS_HANDSHAKE_RUNNING && tls_record_length(record) != record.len)
		return fail(handshake, TLS_HANDSHAKE_FAILURE_PROTOCOL, "a record is too long");
	return handshake->state;
}

enum tls_handshake_state tls_handshake_feed(struct tls_handshake *handshake, struct slice bytes,
					    struct buffer *out)
{
	struct slice record;

	if (handshake->state == TLS_HANDSHAKE_FAILED)
		return handshake->state;
	if (handshake->state == TLS_HANDSHAKE_RUNNING) {
		buffer_consume(&handshake->in, handshake->used);
		handshake->used = 0;
	}
	buffer_append_slice(&handshake->in, bytes);
	if (handshake->total == 0 && handshake->in.len >= START_SIZE)
		check_start(handshake, handshake->in.data);
	while (handshake->state == TLS_HANDSHAKE_RUNNING && next_record(handshake, &record))
		feed_next(handshake, record, out);
	return handshake->state;
}

enum tls_handshake_failure tls_handshake_failure(const struct tls_handshake *handshake)
{
	return handshake->failure;
}

const char *tls_handshake_failure_name(enum tls_handshake_failure failure)
{
	static const char *const names[TLS_HANDSHAKE_FAILURE_COUNT] = {
#define TLS_FAILURE(symbol, name) name,
		TLS_HANDSHAKE_FAILURES(TLS_FAILURE)
#undef TLS_FAILURE
	};

	return (unsigned)failure < TLS_HANDSHAKE_FAILURE_COUNT ? names[failure] : "unknown";
}

const char *tls_handshake_error(const struct tls_handshake *handshake)
{
	return handshake->error;
}

struct slice tls_handshake_rest(const struct tls_handshake *handshake)
{
	return slice_from(handshake->in.data ? handshake->in.data + handshake->used : NULL,
			  handshake->in.len - handshake->used);
}

/* ---- the end ---- */

/* NULL, or why OpenSSL can't be let go of. */
static const char *still_busy(const SSL *ssl)
{
	if (!SSL_is_init_finished(ssl))
		return "the handshake is not over";
	if (BIO_pending(SSL_get_rbio(ssl)) != 0 || SSL_has_pending(ssl) || SSL_pending(ssl) > 0)
		return "OpenSSL still holds input";
	return BIO_pending(SSL_get_wbio(ssl)) != 0 ? "OpenSSL still holds output" : NULL;
}

bool tls_handshake_detach(struct tls_handshake *handshake, struct tls_ciphers *ciphers,
			  struct tls_state *state, struct tls_peer *peer)
{
	SSL *ssl = handshake->ssl;
	const char *error = NULL;

	if (handshake->state == TLS_HANDSHAKE_DONE && ssl)
		error = still_busy(ssl);
	else
		error = "there is no handshake to detach";
	if (!error)
		tls_peer_capture(ssl, peer);
	if (error ||
	    !tls_detach_state(ssl, &handshake->secrets, handshake->written, state, &error) ||
	    !tls_detach_check(
		    ssl, ciphers,
		    slice_from(handshake->in.data + handshake->used - handshake->last_length,
			       handshake->last_length),
		    state, &error)) {
		tls_state_wipe(state);
		secret_wipe(&handshake->secrets, sizeof(handshake->secrets));
		ERR_clear_error();
		fail(handshake, TLS_HANDSHAKE_FAILURE_DETACH, error);
		return false;
	}
	/* Or OpenSSL takes the session for one that broke. */
	SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	SSL_free(ssl);
	handshake->ssl = NULL;
	secret_wipe(&handshake->secrets, sizeof(handshake->secrets));
	return true;
}

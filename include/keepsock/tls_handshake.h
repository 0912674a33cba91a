/* SPDX-License-Identifier: ISC */
/*
 * The TLS handshake of one accepted connection, and its end: OpenSSL shakes
 * hands over memory, then the connection is detached into a struct tls_state
 * and the SSL object goes away. Run by workers; never touches a socket. It lives
 * in the heap: a death of the worker ends it, the client tries again.
 */
#ifndef KEEPSOCK_TLS_HANDSHAKE_H
#define KEEPSOCK_TLS_HANDSHAKE_H

#include <openssl/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "keepsock/slice.h"

struct buffer;
struct tls_ciphers;
struct tls_state;

/* Bytes a client may spend on its handshake, certificates and all. */
#define TLS_HANDSHAKE_INPUT_MAX (192u * 1024u)

/*
 * Every context that serves handshakes, those chosen by SNI as well, has to go
 * through this once: it takes the keylog callback, refuses renegotiation,
 * compression and early data, and keeps no sessions (tickets carry them). What
 * it does not decide: versions, suites, curves, certificates, tickets, ALPN.
 * False when OpenSSL is out of memory.
 */
bool tls_handshake_prepare_context(SSL_CTX *context);

struct tls_handshake;

/* NULL when OpenSSL refuses. The context must outlive no one: OpenSSL counts references. */
struct tls_handshake *tls_handshake_create(SSL_CTX *context);
void tls_handshake_free(struct tls_handshake *handshake);

/* For the callbacks of the context's owner; SSL_set_app_data() is free for use. */
SSL *tls_handshake_ssl(struct tls_handshake *handshake);

enum tls_handshake_state {
	TLS_HANDSHAKE_RUNNING,
	TLS_HANDSHAKE_DONE, /* detach it, once its output is queued */
	TLS_HANDSHAKE_FAILED,
};

/* Why it failed, for counters. TLS_FAILURE(symbol, name) */
#define TLS_HANDSHAKE_FAILURES(TLS_FAILURE)                                               \
	TLS_FAILURE(NONE, "none")                                                         \
	TLS_FAILURE(PLAIN_HTTP, "plain_http")   /* an HTTP request: a clear 400 is due */ \
	TLS_FAILURE(NOT_TLS, "not_tls")         /* no TLS record */                       \
	TLS_FAILURE(VERSION, "version")         /* no version in common */                \
	TLS_FAILURE(NO_SHARED_SUITE, "suite")   /* no suite or curve in common */         \
	TLS_FAILURE(CERTIFICATE, "certificate") /* the client's is missing or not good */ \
	TLS_FAILURE(PEER_ALERT, "peer_alert")   /* the client gave up */                  \
	TLS_FAILURE(APPLICATION, "alpn")        /* no application protocol in common */   \
	TLS_FAILURE(TOO_LONG, "too_long")       /* beyond TLS_HANDSHAKE_INPUT_MAX */      \
	TLS_FAILURE(PROTOCOL, "protocol")       /* anything else the client did wrong */  \
	TLS_FAILURE(DETACH, "detach")           /* ours: the self-check, see the text */

enum tls_handshake_failure {
#define TLS_FAILURE(symbol, name) TLS_HANDSHAKE_FAILURE_##symbol,
	TLS_HANDSHAKE_FAILURES(TLS_FAILURE)
#undef TLS_FAILURE
		TLS_HANDSHAKE_FAILURE_COUNT
};

/*
 * Takes bytes as they came from the socket and appends to out what has to be
 * sent, in FAILED the alert. After DONE, bytes that belong to the record layer
 * stay, see tls_handshake_rest(). Bounded: a record is kept, and what is fed at once.
 */
enum tls_handshake_state tls_handshake_feed(struct tls_handshake *handshake, struct slice bytes,
					    struct buffer *out);

enum tls_handshake_failure tls_handshake_failure(const struct tls_handshake *handshake);
const char *tls_handshake_failure_name(enum tls_handshake_failure failure);
/* For the log: OpenSSL's words or ours, static; "" unless it failed. */
const char *tls_handshake_error(const struct tls_handshake *handshake);

/* Bytes fed and not used by the handshake: the connection's first input, still encrypted. */
struct slice tls_handshake_rest(const struct tls_handshake *handshake);

/* ---- what is known about the peer; it outlives the handshake ---- */

/* Text that would not fit, or contains a zero byte, is left empty: never cut. */
struct tls_peer {
	uint16_t version;      /* TLS_VERSION_* */
	uint16_t suite;        /* IANA's number */
	bool resumed;          /* by a ticket */
	char alpn[32];         /* the protocol chosen; "" = none */
	char server_name[256]; /* SNI; "" = none */
	uint8_t binding[32];   /* tls-exporter (RFC 9266) */
	bool has_certificate;  /* the rest is of the client's */
	int32_t verify_result; /* X509_V_OK = 0, or why it is not trusted */
	char subject[512];     /* RFC 4514 */
	char issuer[512];      /* RFC 4514 */
	char common_name[128]; /* of the subject, UTF-8 */
	char serial[48];       /* hexadecimal */
	char dns_name[256];    /* the first of each kind of alternative name */
	char email[256];
	char uri[256];
	int64_t not_after;       /* Unix time in s */
	uint8_t fingerprint[32]; /* SHA-256 of the certificate */
};

/*
 * Ends a handshake that is DONE: fills in *state and *peer and frees OpenSSL's
 * object; tls_handshake_rest() stays. Before that it checks that OpenSSL's next
 * record is the one our keys and sequence make; a failure (false) means that
 * the connection can only be closed, and the handshake is FAILED.
 */
bool tls_handshake_detach(struct tls_handshake *handshake, struct tls_ciphers *ciphers,
			  struct tls_state *state, struct tls_peer *peer);

#endif

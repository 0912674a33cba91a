/* SPDX-License-Identifier: ISC */
/*
 * The TLS record layer of a connection whose handshake is over: TLS 1.3
 * (RFC 8446 §5) and 1.2 (RFC 5246 §6.2.3.3), AEAD suites, the server's side.
 * Run by workers. All it knows of a connection is a small POD without pointers,
 * which lives in the arena: whoever has that, has the connection.
 *
 * struct tls_state is changed like a passport, through a copy: copy it, open or
 * seal with the copy, then commit the words that differ together with the rest
 * of the change (the plaintext that was appended and the ciphertext consumed, or
 * the output's new tail). An ordinary record changes one word of its direction,
 * a KeyUpdate all words of one direction. Sealing again at the same sequence
 * gives the same bytes.
 *
 * Every call is bounded by one record's size, or by the plaintext to seal.
 */
#ifndef KEEPSOCK_TLS_RECORD_H
#define KEEPSOCK_TLS_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "keepsock/slice.h"

struct buffer;

#define TLS_HEADER_SIZE   5u     /* of a record */
#define TLS_PLAINTEXT_MAX 16384u /* bytes of content one record can carry */
/* The longest record read at all, header and all: a longer one is refused by its header. */
#define TLS_RECORD_MAX (TLS_HEADER_SIZE + TLS_PLAINTEXT_MAX + 1024u)
/* What sealing adds to one record at most: header, explicit nonce, content type, tag. */
#define TLS_OVERHEAD_MAX (TLS_HEADER_SIZE + 8u + 1u + 16u)

#define TLS_VERSION_1_2 0x0303u
#define TLS_VERSION_1_3 0x0304u

/* ---- the state of a connection ---- */

struct tls_direction {
	uint64_t sequence;  /* of the next record under this key */
	uint8_t secret[48]; /* 1.3: the traffic secret, for KeyUpdate; zero behind its length */
	uint8_t key[32];    /* zero behind its length */
	uint8_t iv[12];     /* 1.2 with explicit nonces: the salt, then the nonce of sequence 0 */
	uint8_t reserved[4];
};

enum tls_flags {
	TLS_CLOSE_NOTIFY_READ = 1u << 0, /* the peer has said all it had */
	TLS_CLOSE_SEALED = 1u << 1,   /* our close_notify or fatal alert: nothing may follow it */
	TLS_KEY_UPDATE_DUE = 1u << 2, /* the peer asked for ours; sent before the next data */
};

struct tls_state {
	uint16_t version;       /* TLS_VERSION_* */
	uint16_t suite;         /* IANA's number */
	uint16_t max_plaintext; /* bytes of content in a record, both ways (RFC 6066 §4) */
	uint16_t reserved;
	/* The next word is what a record without data may change besides the sequence. */
	uint16_t flags;          /* enum tls_flags */
	uint8_t fruitless;       /* records in a row that brought no data */
	uint8_t fragment_length; /* bytes of an incomplete handshake message */
	uint8_t fragment[4];
	uint64_t key_updates_until; /* ms, the clock that tls_record_open is given: see there */
	struct tls_direction read, write;
};

_Static_assert(sizeof(struct tls_state) == 232, "the layout is part of the arena's");
_Static_assert(sizeof(struct tls_state) % sizeof(uint64_t) == 0, "committed as words");

/* For commits: the state as 64-bit words. */
#define TLS_STATE_WORDS (sizeof(struct tls_state) / sizeof(uint64_t))

/* True for a state that opening and sealing can leave behind: the check of an adopted one. */
bool tls_state_valid(const struct tls_state *state);

/* Overwrites the keys; to be called on every copy before its memory goes elsewhere. */
void tls_state_wipe(struct tls_state *state);

/* "TLSv1.3", and OpenSSL's name of the suite; static text, "unknown" for what is none. */
const char *tls_version_name(unsigned version);
const char *tls_suite_name(unsigned suite);

/* True when a connection with this suite (IANA's number) can be carried: AEAD, not anonymous. */
bool tls_suite_supported(unsigned suite);

/* ---- the worker's cipher contexts ---- */

/* One context for each cipher and direction, keyed anew for each record's connection. */
struct tls_ciphers;

/* NULL with *error (static text) when OpenSSL has none of the ciphers. */
struct tls_ciphers *tls_ciphers_create(const char **error);
void tls_ciphers_free(struct tls_ciphers *ciphers);

/* ---- alerts (RFC 8446 §6) ---- */

enum tls_alert {
	TLS_ALERT_CLOSE_NOTIFY = 0,
	TLS_ALERT_UNEXPECTED_MESSAGE = 10,
	TLS_ALERT_BAD_RECORD_MAC = 20,
	TLS_ALERT_RECORD_OVERFLOW = 22,
	TLS_ALERT_ILLEGAL_PARAMETER = 47,
	TLS_ALERT_DECODE_ERROR = 50,
	TLS_ALERT_PROTOCOL_VERSION = 70,
	TLS_ALERT_INTERNAL_ERROR = 80,
	TLS_ALERT_USER_CANCELED = 90,
	TLS_ALERT_NO_RENEGOTIATION = 100, /* 1.2 only, never fatal by itself */
};

/* Why a record was refused, and what the peer is told. TLS_REFUSAL(symbol, name, alert) */
#define TLS_REFUSALS(TLS_REFUSAL)                                                  \
	TLS_REFUSAL(NONE, "none", TLS_ALERT_CLOSE_NOTIFY)                          \
	TLS_REFUSAL(FORGED, "forged", TLS_ALERT_BAD_RECORD_MAC)                    \
	TLS_REFUSAL(OVERSIZED, "oversized", TLS_ALERT_RECORD_OVERFLOW)             \
	TLS_REFUSAL(VERSION, "version", TLS_ALERT_PROTOCOL_VERSION)                \
	TLS_REFUSAL(UNEXPECTED, "unexpected", TLS_ALERT_UNEXPECTED_MESSAGE)        \
	TLS_REFUSAL(INTERLEAVED, "interleaved", TLS_ALERT_UNEXPECTED_MESSAGE)      \
	TLS_REFUSAL(MALFORMED, "malformed", TLS_ALERT_DECODE_ERROR)                \
	TLS_REFUSAL(ILLEGAL_VALUE, "illegal_value", TLS_ALERT_ILLEGAL_PARAMETER)   \
	TLS_REFUSAL(RENEGOTIATION, "renegotiation", TLS_ALERT_NO_RENEGOTIATION)    \
	TLS_REFUSAL(FRUITLESS, "fruitless", TLS_ALERT_UNEXPECTED_MESSAGE)          \
	TLS_REFUSAL(KEY_UPDATES, "key_update_flood", TLS_ALERT_UNEXPECTED_MESSAGE) \
	TLS_REFUSAL(EXHAUSTED, "exhausted", TLS_ALERT_INTERNAL_ERROR)              \
	TLS_REFUSAL(INTERNAL, "internal", TLS_ALERT_INTERNAL_ERROR)

enum tls_refusal {
#define TLS_REFUSAL(symbol, name, alert) TLS_REFUSED_##symbol,
	TLS_REFUSALS(TLS_REFUSAL)
#undef TLS_REFUSAL
		TLS_REFUSAL_COUNT
};

const char *tls_refusal_name(enum tls_refusal refusal);
enum tls_alert tls_refusal_alert(enum tls_refusal refusal);

/* ---- reading ---- */

/*
 * Length of the record at the start of input, header included; 0 while fewer
 * than TLS_HEADER_SIZE bytes of it are there. Up to 65,540: tls_record_open
 * refuses what is too long as soon as it has seen the header.
 */
static inline size_t tls_record_length(struct slice input)
{
	const uint8_t *bytes = (const uint8_t *)input.data;

	return input.len < TLS_HEADER_SIZE
		       ? 0
		       : TLS_HEADER_SIZE + ((size_t)bytes[3] << 8 | (size_t)bytes[4]);
}

enum tls_event {
	TLS_NEED_MORE,    /* nothing was consumed: call again with `needed` bytes */
	TLS_DATA,         /* application data, maybe none, is in out */
	TLS_KEY_UPDATE,   /* the peer's keys changed; the state tells whether ours are due */
	TLS_IGNORED,      /* a warning alert, or a piece of a handshake message */
	TLS_CLOSE_NOTIFY, /* end of the peer's data; whatever follows is dropped */
	TLS_PEER_ALERT,   /* the peer gave up and told why (`alert`); no answer is due */
	TLS_REFUSED,      /* seal `alert` for it and close */
};

struct tls_opened {
	enum tls_event event;
	enum tls_refusal refusal; /* REFUSED: why */
	uint8_t alert;            /* REFUSED: to send; PEER_ALERT: received */
	size_t consumed;          /* bytes of input: a whole record; 0 on NEED_MORE and REFUSED */
	size_t needed;            /* NEED_MORE: bytes input must have; at most TLS_RECORD_MAX */
	struct slice plaintext;   /* DATA: in the caller's out */
};

/*
 * Opens the record at the start of input, which is never modified. out has room
 * for as many bytes as the record has (TLS_RECORD_MAX is always enough) and does
 * not overlap input; what is in it is only valid for DATA. On NEED_MORE and
 * REFUSED *state is unchanged. now_ms, any clock that only moves forward, bounds
 * the peer's KeyUpdates: 32 at once, then one a second. The end of the stream
 * without TLS_CLOSE_NOTIFY_READ is a truncation. Returns opened->event.
 */
enum tls_event tls_record_open(struct tls_ciphers *ciphers, struct tls_state *state,
			       struct slice input, uint64_t now_ms, uint8_t *out,
			       struct tls_opened *opened);

/* ---- writing ---- */

enum tls_seal {
	TLS_SEALED,
	TLS_SEAL_CLOSED,    /* our last word is said already */
	TLS_SEAL_EXHAUSTED, /* 1.2: the key has protected all it may: send close_notify, close */
	TLS_SEAL_FAILED,    /* OpenSSL's fault: close */
};

/*
 * Appends plaintext as application data, in records of at most max_plaintext;
 * none at all for an empty one. A KeyUpdate that is due, asked for by the peer
 * or by the limit of what one key may protect (RFC 8446 §5.5), goes ahead of it.
 * Unless SEALED, *state and out are as before.
 */
enum tls_seal tls_record_seal(struct tls_ciphers *ciphers, struct tls_state *state,
			      struct slice plaintext, struct buffer *out);

/*
 * Appends an alert; close_notify and fatal ones set TLS_CLOSE_SEALED. Warnings
 * are close_notify, user_canceled and no_renegotiation.
 */
enum tls_seal tls_record_seal_alert(struct tls_ciphers *ciphers, struct tls_state *state,
				    enum tls_alert alert, struct buffer *out);

/* 1.3: appends a KeyUpdate and changes our keys; request: the peer is to change its own as well. */
enum tls_seal tls_record_seal_key_update(struct tls_ciphers *ciphers, struct tls_state *state,
					 bool request, struct buffer *out);

/* Bytes that so much application data takes when sealed, without a KeyUpdate. */
size_t tls_record_sealed_length(const struct tls_state *state, size_t plaintext);

/*
 * True when so much application data can be sealed as it is: no KeyUpdate is
 * due, nothing was closed. Otherwise tls_record_seal has to do it.
 */
bool tls_record_seal_ready(const struct tls_state *state, size_t plaintext);

/* ---- one plaintext for many (DESIGN §3 rule 6) ---- */

struct tls_block_entry {
	const struct tls_state *state; /* NULL: not a TLS connection */
	/* Results. */
	struct slice records; /* in the scratch; empty: not ready, takes the queue's path */
	uint64_t sequence;    /* the write direction's, once the records are sent */
};

/*
 * Seals the same application data for up to `count` connections, one behind the
 * other in scratch, without touching their states. Returns how many entries were
 * filled in: fewer than count when the scratch ends before the next one's
 * records, 0 when it is too small for the first.
 */
size_t tls_record_seal_block(struct tls_ciphers *ciphers, struct slice plaintext,
			     struct tls_block_entry *entries, size_t count, uint8_t *scratch,
			     size_t size);

#endif

/* SPDX-License-Identifier: ISC */
/*
 * How a protected record looks on the wire, for whoever opens or seals one:
 * lengths, nonce and authenticated header of either version.
 */
#ifndef KEEPSOCK_NET_TLS_FORMAT_H
#define KEEPSOCK_NET_TLS_FORMAT_H

#include "keepsock/tls_record.h"
#include "net/tls_ciphers.h"

enum tls_content {
	TLS_CHANGE_CIPHER_SPEC = 20,
	TLS_ALERT = 21,
	TLS_HANDSHAKE = 22,
	TLS_APPLICATION_DATA = 23,
};

#define TLS_ALERT_LEVEL_WARNING 1u
#define TLS_ALERT_LEVEL_FATAL   2u

#define TLS_MESSAGE_CLIENT_HELLO 1u
#define TLS_MESSAGE_KEY_UPDATE   24u
#define TLS_KEY_UPDATE_SIZE      5u /* type, three bytes of length, the request */

/* No sequence comes near its end: a connection is over before. */
#define TLS_SEQUENCE_END ((uint64_t)1 << 62)
/* Records in a row without data that a peer may send, as in OpenSSL. */
#define TLS_FRUITLESS_MAX 32u

struct tls_format {
	const struct tls_suite *suite;
	const struct tls_aead *aead;
	bool inner_type;       /* 1.3: the content type is encrypted behind the content */
	uint8_t explicit_size; /* bytes of the nonce in front of the ciphertext: 8 or 0 */
};

/* False: the state has no suite that could be. */
bool tls_format_of(const struct tls_state *state, struct tls_format *format);

/* Bytes of a record with so much content. */
size_t tls_format_length(const struct tls_format *format, size_t content);

/* The nonce of our own record; of one read, with explicit nonces, the last 8 bytes are its own. */
void tls_format_nonce(const struct tls_format *format, const struct tls_direction *direction,
		      uint64_t sequence, uint8_t nonce[TLS_NONCE_SIZE]);

/* What is authenticated besides the content: the header itself, or (1.2) made of it. */
#define TLS_AUTHENTICATED_MAX 13u
struct slice tls_format_authenticated(const struct tls_format *format, uint64_t sequence,
				      const uint8_t *header, size_t content,
				      uint8_t out[TLS_AUTHENTICATED_MAX]);

/*
 * Opens one whole record whose header was checked, as the next one of
 * `direction`: the content, and in 1.3 what is behind it, goes to out.
 */
enum tls_aead_opened tls_format_open(struct tls_ciphers *ciphers, const struct tls_format *format,
				     const struct tls_direction *direction, struct slice record,
				     uint8_t *out, size_t *length);

/* In 1.3 drops padding and takes the content type off; false: there was none. */
bool tls_format_unpad(const uint8_t *content, size_t *length, unsigned *type);

#endif

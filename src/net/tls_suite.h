/* SPDX-License-Identifier: ISC */
/*
 * The cipher suites that the record layer knows: what each needs of a key, a
 * nonce and a digest, and how much one key may protect.
 */
#ifndef KEEPSOCK_NET_TLS_SUITE_H
#define KEEPSOCK_NET_TLS_SUITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum tls_aead_id {
	TLS_AEAD_AES_128_GCM,
	TLS_AEAD_AES_256_GCM,
	TLS_AEAD_CHACHA20_POLY1305,
	TLS_AEAD_AES_128_CCM,
	TLS_AEAD_AES_256_CCM,
	TLS_AEAD_AES_128_CCM_8,
	TLS_AEAD_AES_256_CCM_8,
	TLS_AEAD_ARIA_128_GCM,
	TLS_AEAD_ARIA_256_GCM,
	TLS_AEAD_COUNT
};

struct tls_aead {
	const char *cipher; /* OpenSSL's name */
	uint8_t key_length, tag_length;
	bool ccm;            /* takes the length first and the data at once */
	bool explicit_nonce; /* 1.2: eight bytes of the nonce travel in the record */
	uint64_t limit; /* records that one key may protect (RFC 8446 §5.5, RFC 9147 §4.5.3) */
};

enum tls_digest { TLS_SHA256 = 32, TLS_SHA384 = 48 }; /* the value is its length */

struct tls_suite {
	uint16_t id;      /* IANA's number */
	uint16_t version; /* the one version that has it */
	enum tls_aead_id aead;
	enum tls_digest digest; /* of the key schedule */
	const char *name;       /* OpenSSL's */
};

/* NULL: not one that can be carried. */
const struct tls_suite *tls_suite_find(unsigned id);

/* The same by OpenSSL's name. */
const struct tls_suite *tls_suite_by_name(const char *name);

extern const struct tls_aead tls_aeads[TLS_AEAD_COUNT];

#endif

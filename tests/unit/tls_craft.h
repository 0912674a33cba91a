/* SPDX-License-Identifier: ISC */
/*
 * The other end of a detached connection, for tests: a state with keys out of
 * thin air, its mirror image, and any record that a peer who has the keys could
 * make, allowed or not.
 */
#ifndef KEEPSOCK_TESTS_TLS_CRAFT_H
#define KEEPSOCK_TESTS_TLS_CRAFT_H

#include "keepsock/buffer.h"
#include "keepsock/tls_record.h"

#define AES_128_GCM_1_3 0x1301u
#define AES_256_GCM_1_3 0x1302u
#define CHACHA20_1_3    0x1303u
#define CCM_1_3         0x1304u
#define CCM_8_1_3       0x1305u
#define AES_128_GCM_1_2 0xc02fu
#define CHACHA20_1_2    0xcca8u
#define CCM_8_1_2       0xc0aeu

/* All aborts where OpenSSL fails: that is no result of a test. */
struct tls_state tls_craft_state(unsigned suite);

/* What the other end knows. */
struct tls_state tls_craft_mirror(const struct tls_state *state);

/*
 * Appends the peer's next record, with that content type inside (1.3; 0 = none)
 * and so many zeros behind it (1.3), and moves its sequence on.
 */
void tls_craft_record(struct tls_ciphers *ciphers, struct tls_state *peer, unsigned type,
		      struct slice content, size_t padding, struct buffer *out);

#endif

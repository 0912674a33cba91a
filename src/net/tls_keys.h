/* SPDX-License-Identifier: ISC */
/*
 * The key schedule as far as a detached connection needs it: keys from a traffic
 * secret (RFC 8446 §7.3), the next secret (§7.2), and TLS 1.2's key block
 * (RFC 5246 §6.3).
 */
#ifndef KEEPSOCK_NET_TLS_KEYS_H
#define KEEPSOCK_NET_TLS_KEYS_H

#include <stdbool.h>
#include <stdint.h>

#include "keepsock/tls_record.h"
#include "net/tls_suite.h"

/*
 * All fail only when OpenSSL does; *direction is then as before. The secret is
 * as long as the suite's digest. The sequence begins at 0.
 */
bool tls_keys_from_secret(const struct tls_suite *suite, const uint8_t *secret,
			  struct tls_direction *direction);

/* What follows a KeyUpdate. */
bool tls_keys_update(const struct tls_suite *suite, struct tls_direction *direction);

/* Both directions of a server; explicit nonces are left at zero. */
bool tls_keys_from_master(const struct tls_suite *suite, struct slice master,
			  const uint8_t client_random[32], const uint8_t server_random[32],
			  struct tls_direction *read, struct tls_direction *write);

#endif

/* SPDX-License-Identifier: ISC */
/*
 * The keys of session tickets (RFC 5077 §4, RFC 8446 §4.6.1). Nobody stores a
 * session or a key: every key is made from a secret and a period of time, so all
 * workers of all nodes that have the secret and a clock agree.
 *
 * A period is as long as a ticket lives: what was issued in one is void after
 * the next. So the keys of the present period, of the one before, and for clocks
 * that differ of the one to come are accepted.
 */
#ifndef KEEPSOCK_NET_TLS_TICKETS_H
#define KEEPSOCK_NET_TLS_TICKETS_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>

#define TLS_TICKET_SECRETS_MAX 4u
#define TLS_TICKET_SECRET_MIN  32u /* characters */
#define TLS_TICKET_PERIODS     3u

struct tls_ticket_key {
	uint8_t name[16]; /* stands in the ticket */
	uint8_t cipher[32];
	uint8_t mac[32];
};

struct tls_tickets {
	uint8_t secrets[TLS_TICKET_SECRETS_MAX][32]; /* each line's digest */
	unsigned secret_count;
	int64_t lifetime; /* s */
	int64_t period;   /* of the keys below; 0 = none yet */
	struct tls_ticket_key keys[TLS_TICKET_SECRETS_MAX][TLS_TICKET_PERIODS];
};

/* Reads the secrets, a line each; NULL, or what is wrong with them. */
const char *tls_tickets_init(struct tls_tickets *tickets, const char *secrets, int64_t lifetime);
void tls_tickets_wipe(struct tls_tickets *tickets);

/* The key for a new ticket at that time (Unix s); NULL when OpenSSL fails. */
const struct tls_ticket_key *tls_tickets_current(struct tls_tickets *tickets, int64_t now);

/* The key by the name in a ticket; NULL: none that counts at that time. *fresh: it is the current.
 */
const struct tls_ticket_key *tls_tickets_find(struct tls_tickets *tickets, int64_t now,
					      const uint8_t name[16], bool *fresh);

/*
 * What the callback of SSL_CTX_set_tlsext_ticket_key_evp_cb(3) has to do and to
 * return: 1 = done, 2 = and the client gets a new one, 0 = no such key, -1.
 */
int tls_tickets_serve(struct tls_tickets *tickets, unsigned char *name, unsigned char *iv,
		      EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int encrypt);

#endif

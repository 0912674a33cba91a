/* SPDX-License-Identifier: ISC */
/*
 * What a TLS listener needs for its handshakes, made from its settings and from
 * the contents of the files that these name: OpenSSL's context with versions,
 * suites, curves, ALPN, tickets and client certificates, and the certificates
 * chosen by SNI. Workers shake hands with it; the master makes one as well, to
 * find out whether new certificates are good before anybody uses them. Opens no
 * file.
 */
#ifndef KEEPSOCK_TLS_CONTEXT_H
#define KEEPSOCK_TLS_CONTEXT_H

#include <openssl/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buffer;
struct settings_tls;

/* ---- what the files hold ---- */

struct tls_identity {
	char *chain; /* PEM, as the next; owned, never NULL */
	char *key;
};

/* Of one listener; of a plain one all is NULL and 0. Strings are owned, "" = none. */
struct tls_material {
	struct tls_identity *identities; /* owned; in the order of settings_tls.certificates */
	size_t identity_count;
	char *client_ca;      /* PEM */
	char *client_crl;     /* PEM */
	char *ticket_secrets; /* a line each, the first is used for new tickets */
};

/* Wipes keys and secrets; leaves an empty one. */
void tls_material_free(struct tls_material *material);
bool tls_material_equal(const struct tls_material *a, const struct tls_material *b);

/* ---- the context ---- */

struct tls_context;

/*
 * NULL with error: "tls.certificates[0]: key.pem is not the key of chain.pem" and
 * the like, and *line (may be NULL) that of the setting it is about. Certificates
 * that have expired are no error.
 */
struct tls_context *tls_context_create(const struct settings_tls *settings,
				       const struct tls_material *material, struct buffer *error,
				       int *line);
void tls_context_free(struct tls_context *context);

/*
 * The same for a context that is in use: from now on new handshakes have the new
 * one, those that run keep theirs. False with error: all is as before.
 */
bool tls_context_replace(struct tls_context *context, const struct settings_tls *settings,
			 const struct tls_material *material, struct buffer *error);

/* For tls_handshake_create(); valid until the next replacement, counted by OpenSSL. */
SSL_CTX *tls_context_ssl(const struct tls_context *context);

/* ---- its certificates ---- */

struct tls_certificate_info {
	char subject[256]; /* RFC 4514, as the next; cut where it is longer */
	char issuer[256];
	char serial[64];          /* hexadecimal */
	char key[32];             /* "RSA 2048", "EC prime256v1" */
	const char *const *names; /* DNS names, lower case; of the context */
	size_t name_count;
	int64_t not_before;      /* Unix time in s, as the next */
	int64_t not_after;       /* the earliest of the chain */
	uint8_t fingerprint[32]; /* SHA-256 of the certificate */
};

/* In the order of settings_tls.certificates. */
size_t tls_context_certificate_count(const struct tls_context *context);
const struct tls_certificate_info *tls_context_certificate(const struct tls_context *context,
							   size_t index);

#endif

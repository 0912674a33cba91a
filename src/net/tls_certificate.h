/* SPDX-License-Identifier: ISC */
/*
 * One certificate of a listener with its key and its chain, read from PEM, and
 * the names that it is for.
 */
#ifndef KEEPSOCK_NET_TLS_CERTIFICATE_H
#define KEEPSOCK_NET_TLS_CERTIFICATE_H

#include <openssl/ssl.h>

#include "keepsock/tls_context.h"

struct tls_certificate {
	X509 *leaf;
	EVP_PKEY *key;
	STACK_OF(X509) * chain; /* without the leaf */
	char **names;           /* owned, as all above */
	size_t name_count;
	struct tls_certificate_info info; /* its names are those above */
};

/* NULL, or what is wrong with it (static text, or OpenSSL's); *certificate is to be freed anyway.
 */
const char *tls_certificate_read(const struct tls_identity *identity,
				 struct tls_certificate *certificate);
void tls_certificate_free(struct tls_certificate *certificate);

enum tls_name_match { TLS_NAME_OTHER, TLS_NAME_WILDCARD, TLS_NAME_EXACT };

/* Whether it is for that host; case doesn't matter. */
enum tls_name_match tls_certificate_match(const struct tls_certificate *certificate,
					  const char *host);

/* Appends every X509 (or X509_CRL) of a PEM text to the store; how many, -1: one is unreadable. */
int tls_certificate_add_authorities(X509_STORE *store, STACK_OF(X509_NAME) * names,
				    const char *pem);
int tls_certificate_add_revocations(X509_STORE *store, const char *pem);

#endif

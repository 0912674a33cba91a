/* SPDX-License-Identifier: ISC */
/*
 * What a listener offers its clients: versions, cipher suites, curves.
 */
#ifndef KEEPSOCK_NET_TLS_CONTEXT_OFFER_H
#define KEEPSOCK_NET_TLS_CONTEXT_OFFER_H

#include <openssl/types.h>
#include <stdbool.h>

struct buffer;
struct settings_tls;

/* False with the name of the setting (static) and what is wrong with it. */
bool tls_context_set_offer(SSL_CTX *context, const struct settings_tls *settings,
			   const char **setting, struct buffer *why);

#endif

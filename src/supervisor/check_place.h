/* SPDX-License-Identifier: ISC */
/*
 * By which listeners the node is checked: those that are open in every role, that
 * serve what is asked for, and let in who has no certificate. Runs in the
 * supervisor.
 */
#ifndef KEEPSOCK_SUPERVISOR_CHECK_PLACE_H
#define KEEPSOCK_SUPERVISOR_CHECK_PLACE_H

#include <stdint.h>

#include <openssl/ssl.h>

struct buffer;
struct settings;

struct check_place {
	const char *address; /* the settings' own; NULL = there is no such listener */
	uint16_t port;
	SSL_CTX *tls; /* of check_places; NULL = plain */
};

struct check_places {
	struct check_place ready;    /* the first at all */
	struct check_place echo;     /* the first that serves WebSockets, and does not redirect */
	struct check_place echo_tls; /* the first with TLS, if echo's is not it */
	SSL_CTX *tls;                /* owned; NULL = no listener has TLS */
};

/* 0, or -1 with error. The settings are needed for ever. */
int check_places_find(const struct settings *settings, struct check_places *places,
		      struct buffer *error);
void check_places_free(struct check_places *places);

#endif

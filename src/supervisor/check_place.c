/* SPDX-License-Identifier: ISC */
/*
 * The places of the checks, see check_place.h. Certificates are not verified: the
 * question is whether the node answers, at an address that its certificates need
 * not name.
 */
#include "supervisor/check_place.h"

#include <stdbool.h>
#include <string.h>

#include <openssl/err.h>

#include "keepsock/buffer.h"
#include "keepsock/settings.h"

static bool wants_certificate(const struct settings_listener *listener)
{
	return listener->tls.enabled && strcmp(listener->tls.client_verify, "required") == 0;
}

static bool is_open_to_us(const struct settings_listener *listener)
{
	return !settings_listener_is_primary(listener) && !wants_certificate(listener);
}

static void set_place(struct check_place *place, const struct settings_listener *listener,
		      SSL_CTX *tls)
{
	if (place->address)
		return;
	*place = (struct check_place){
		.address = listener->address,
		.port = (uint16_t)listener->port,
		.tls = listener->tls.enabled ? tls : NULL,
	};
}

static SSL_CTX *make_context(struct buffer *error)
{
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());

	if (context && SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) == 1) {
		SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
		SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
		return context;
	}
	SSL_CTX_free(context);
	ERR_clear_error();
	buffer_append_str(error, "cannot set up TLS for the checks");
	return NULL;
}

int check_places_find(const struct settings *settings, struct check_places *places,
		      struct buffer *error)
{
	*places = (struct check_places){0};
	if (settings_uses_tls(settings)) {
		places->tls = make_context(error);
		if (!places->tls)
			return -1;
	}
	for (size_t i = 0; i < settings->listener_count; i++) {
		const struct settings_listener *listener = &settings->listeners[i];

		if (!is_open_to_us(listener))
			continue;
		set_place(&places->ready, listener, places->tls);
		if (listener->https_redirect_port == 0)
			set_place(&places->echo, listener, places->tls);
		if (listener->tls.enabled)
			set_place(&places->echo_tls, listener, places->tls);
	}
	if (places->echo.tls)
		places->echo_tls = (struct check_place){0};
	return 0;
}

void check_places_free(struct check_places *places)
{
	SSL_CTX_free(places->tls);
	*places = (struct check_places){0};
}

/* SPDX-License-Identifier: ISC */
/*
 * The state of a detached connection as such: whether it is one, wiping it, and
 * the names of what can go wrong with it.
 */
#include <string.h>

#include "keepsock/secret.h"
#include "keepsock/tls_record.h"
#include "net/tls_format.h"

static const struct {
	const char *name;
	enum tls_alert alert;
} refusals[TLS_REFUSAL_COUNT] = {
#define TLS_REFUSAL(symbol, name, alert) {name, alert},
	TLS_REFUSALS(TLS_REFUSAL)
#undef TLS_REFUSAL
};

const char *tls_refusal_name(enum tls_refusal refusal)
{
	return (unsigned)refusal < TLS_REFUSAL_COUNT ? refusals[refusal].name : "unknown";
}

enum tls_alert tls_refusal_alert(enum tls_refusal refusal)
{
	return (unsigned)refusal < TLS_REFUSAL_COUNT ? refusals[refusal].alert
						     : TLS_ALERT_INTERNAL_ERROR;
}

void tls_state_wipe(struct tls_state *state)
{
	secret_wipe(state, sizeof(*state));
}

/* Whether everything from `from` on is zero. */
static bool is_blank(const uint8_t *bytes, size_t from, size_t size)
{
	for (size_t i = from; i < size; i++)
		if (bytes[i] != 0)
			return false;
	return true;
}

static bool direction_valid(const struct tls_direction *direction, const struct tls_format *format)
{
	size_t secret = format->inner_type ? (size_t)format->suite->digest : 0;

	return direction->sequence <= TLS_SEQUENCE_END &&
	       is_blank(direction->secret, secret, sizeof(direction->secret)) &&
	       is_blank(direction->key, format->aead->key_length, sizeof(direction->key)) &&
	       is_blank(direction->reserved, 0, sizeof(direction->reserved));
}

static bool is_fragment_limit(unsigned bytes)
{
	return bytes == TLS_PLAINTEXT_MAX || bytes == 512 || bytes == 1024 || bytes == 2048 ||
	       bytes == 4096;
}

bool tls_state_valid(const struct tls_state *state)
{
	const unsigned flags = TLS_CLOSE_NOTIFY_READ | TLS_CLOSE_SEALED | TLS_KEY_UPDATE_DUE;
	struct tls_format format;

	if (!tls_format_of(state, &format) || state->reserved != 0 || (state->flags & ~flags) != 0)
		return false;
	/* 1.2 has no message that could wait for its rest, nor a KeyUpdate. */
	if (!format.inner_type && (state->fragment_length > 0 || state->key_updates_until > 0 ||
				   (state->flags & TLS_KEY_UPDATE_DUE)))
		return false;
	return is_fragment_limit(state->max_plaintext) && state->fruitless <= TLS_FRUITLESS_MAX &&
	       state->fragment_length <= sizeof(state->fragment) &&
	       is_blank(state->fragment, state->fragment_length, sizeof(state->fragment)) &&
	       direction_valid(&state->read, &format) && direction_valid(&state->write, &format);
}

/* SPDX-License-Identifier: ISC */
/*
 * The peer's end, see tls_craft.h.
 */
#include "tls_craft.h"

#include <stdlib.h>
#include <string.h>

#include "net/tls_format.h"
#include "net/tls_keys.h"

static void require_ok(bool ok)
{
	if (!ok)
		abort();
}

struct tls_state tls_craft_state(unsigned suite_id)
{
	const struct tls_suite *suite = tls_suite_find(suite_id);
	struct tls_state state = {0};
	uint8_t secret[48], random[32];

	require_ok(suite != NULL);
	state.version = suite->version;
	state.suite = suite->id;
	state.max_plaintext = TLS_PLAINTEXT_MAX;
	memset(secret, 0x5a, sizeof(secret));
	memset(random, 0xc3, sizeof(random));
	if (suite->version == TLS_VERSION_1_3) {
		require_ok(tls_keys_from_secret(suite, secret, &state.read));
		secret[0]++;
		require_ok(tls_keys_from_secret(suite, secret, &state.write));
	} else {
		require_ok(tls_keys_from_master(suite, slice_from(secret, sizeof(secret)), random,
						random, &state.read, &state.write));
	}
	require_ok(tls_state_valid(&state));
	return state;
}

struct tls_state tls_craft_mirror(const struct tls_state *state)
{
	struct tls_state other = *state;

	other.read = state->write;
	other.write = state->read;
	return other;
}

void tls_craft_record(struct tls_ciphers *ciphers, struct tls_state *peer, unsigned type,
		      struct slice content, size_t padding, struct buffer *out)
{
	struct tls_format format;
	struct buffer inner = {0};
	uint8_t header[TLS_HEADER_SIZE], nonce[TLS_NONCE_SIZE], made[TLS_AUTHENTICATED_MAX];
	size_t body;
	struct tls_key key;
	char *room;

	require_ok(tls_format_of(peer, &format));
	buffer_append_slice(&inner, content);
	if (format.inner_type) {
		if (type > 0)
			buffer_append_char(&inner, (char)type);
		memset(buffer_reserve(&inner, padding + 1), 0, padding + 1);
		inner.len += padding;
	}
	body = format.explicit_size + inner.len + format.aead->tag_length;
	header[0] = (uint8_t)(format.inner_type ? TLS_APPLICATION_DATA : type);
	header[1] = header[2] = 3;
	header[3] = (uint8_t)(body >> 8);
	header[4] = (uint8_t)body;
	tls_format_nonce(&format, &peer->write, peer->write.sequence, nonce);
	key = (struct tls_key){
		.aead = format.suite->aead,
		.key = peer->write.key,
		.nonce = nonce,
		.header = tls_format_authenticated(&format, peer->write.sequence, header, inner.len,
						   made),
	};
	buffer_append(out, header, sizeof(header));
	buffer_append(out, nonce + TLS_NONCE_SIZE - format.explicit_size, format.explicit_size);
	room = buffer_reserve(out, body);
	require_ok(tls_aead_seal(ciphers, &key, buffer_slice(&inner), -1, (uint8_t *)room));
	out->len += inner.len + format.aead->tag_length;
	peer->write.sequence++;
	buffer_free(&inner);
}

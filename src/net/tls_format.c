/* SPDX-License-Identifier: ISC */
/*
 * The layout of protected records, see tls_format.h: RFC 8446 §5.2 and §5.3,
 * RFC 5246 §6.2.3.3 with RFC 5288, 6655 and 7905. Run by workers.
 */
#include "net/tls_format.h"

#include <string.h>

bool tls_format_of(const struct tls_state *state, struct tls_format *format)
{
	const struct tls_suite *suite = tls_suite_find(state->suite);

	if (!suite || suite->version != state->version)
		return false;
	format->suite = suite;
	format->aead = &tls_aeads[suite->aead];
	format->inner_type = suite->version == TLS_VERSION_1_3;
	format->explicit_size = !format->inner_type && format->aead->explicit_nonce ? 8 : 0;
	return true;
}

size_t tls_format_length(const struct tls_format *format, size_t content)
{
	return TLS_HEADER_SIZE + format->explicit_size + content + format->inner_type +
	       format->aead->tag_length;
}

static void put_u64(uint8_t *out, uint64_t value)
{
	for (int i = 7; i >= 0; i--) {
		out[i] = (uint8_t)value;
		value >>= 8;
	}
}

static uint64_t get_u64(const uint8_t *in)
{
	uint64_t value = 0;

	for (int i = 0; i < 8; i++)
		value = value << 8 | in[i];
	return value;
}

void tls_format_nonce(const struct tls_format *format, const struct tls_direction *direction,
		      uint64_t sequence, uint8_t nonce[TLS_NONCE_SIZE])
{
	uint64_t base = get_u64(direction->iv + 4);

	memcpy(nonce, direction->iv, 4);
	/* An explicit nonce counts from where OpenSSL began; the others mask the sequence. */
	put_u64(nonce + 4, format->explicit_size > 0 ? base + sequence : base ^ sequence);
}

struct slice tls_format_authenticated(const struct tls_format *format, uint64_t sequence,
				      const uint8_t *header, size_t content,
				      uint8_t out[TLS_AUTHENTICATED_MAX])
{
	if (format->inner_type)
		return slice_from(header, TLS_HEADER_SIZE);
	put_u64(out, sequence);
	memcpy(out + 8, header, 3);
	out[11] = (uint8_t)(content >> 8);
	out[12] = (uint8_t)content;
	return slice_from(out, TLS_AUTHENTICATED_MAX);
}

enum tls_aead_opened tls_format_open(struct tls_ciphers *ciphers, const struct tls_format *format,
				     const struct tls_direction *direction, struct slice record,
				     uint8_t *out, size_t *length)
{
	const uint8_t *header = (const uint8_t *)record.data;
	uint8_t nonce[TLS_NONCE_SIZE], authenticated[TLS_AUTHENTICATED_MAX];
	size_t skipped = TLS_HEADER_SIZE + format->explicit_size;
	struct slice sealed = slice_from(record.data + skipped, record.len - skipped);

	if (record.len < skipped + format->aead->tag_length)
		return TLS_AEAD_FORGED;
	*length = sealed.len - format->aead->tag_length;
	tls_format_nonce(format, direction, direction->sequence, nonce);
	memcpy(nonce + TLS_NONCE_SIZE - format->explicit_size, header + TLS_HEADER_SIZE,
	       format->explicit_size);
	return tls_aead_open(
		ciphers,
		&(struct tls_key){
			.aead = format->suite->aead,
			.key = direction->key,
			.nonce = nonce,
			.header = tls_format_authenticated(format, direction->sequence, header,
							   *length, authenticated),
		},
		sealed, out);
}

bool tls_format_unpad(const uint8_t *content, size_t *length, unsigned *type)
{
	size_t at = *length;

	while (at > 0 && content[at - 1] == 0)
		at--;
	if (at == 0)
		return false;
	*type = content[at - 1];
	*length = at - 1;
	return true;
}

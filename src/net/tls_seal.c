/* SPDX-License-Identifier: ISC */
/*
 * Sealing our own records, see tls_record.h: data, alerts, KeyUpdates, and one
 * plaintext for many. Run by workers. A sequence is used for one content only,
 * unless what was sealed with it never left the process.
 */
#include <string.h>

#include "keepsock/buffer.h"
#include "net/tls_format.h"
#include "net/tls_keys.h"

/* Writes one record, at any sequence. */
static bool seal_one(struct tls_ciphers *ciphers, const struct tls_format *format,
		     const struct tls_direction *write, uint64_t sequence, unsigned type,
		     struct slice content, uint8_t *out)
{
	size_t body = tls_format_length(format, content.len) - TLS_HEADER_SIZE;
	uint8_t nonce[TLS_NONCE_SIZE], authenticated[TLS_AUTHENTICATED_MAX];

	out[0] = (uint8_t)(format->inner_type ? TLS_APPLICATION_DATA : type);
	out[1] = TLS_VERSION_1_2 >> 8;
	out[2] = TLS_VERSION_1_2 & 0xff;
	out[3] = (uint8_t)(body >> 8);
	out[4] = (uint8_t)body;
	tls_format_nonce(format, write, sequence, nonce);
	memcpy(out + TLS_HEADER_SIZE, nonce + TLS_NONCE_SIZE - format->explicit_size,
	       format->explicit_size);
	return tls_aead_seal(ciphers,
			     &(struct tls_key){
				     .aead = format->suite->aead,
				     .key = write->key,
				     .nonce = nonce,
				     .header = tls_format_authenticated(format, sequence, out,
									content.len, authenticated),
			     },
			     content, format->inner_type ? (int)type : -1,
			     out + TLS_HEADER_SIZE + format->explicit_size);
}

/* Appends one record and moves the sequence on. */
static enum tls_seal append_one(struct tls_ciphers *ciphers, const struct tls_format *format,
				struct tls_state *next, unsigned type, struct slice content,
				struct buffer *out)
{
	size_t length = tls_format_length(format, content.len);
	uint8_t *room = (uint8_t *)buffer_reserve(out, length);

	if (next->write.sequence >= TLS_SEQUENCE_END)
		return TLS_SEAL_EXHAUSTED;
	if (!seal_one(ciphers, format, &next->write, next->write.sequence, type, content, room))
		return TLS_SEAL_FAILED;
	out->len += length;
	next->write.sequence++;
	return TLS_SEALED;
}

static size_t records_for(const struct tls_state *state, size_t plaintext)
{
	return (plaintext + state->max_plaintext - 1) / state->max_plaintext;
}

static size_t sealed_length(const struct tls_state *state, const struct tls_format *format,
			    size_t plaintext)
{
	return plaintext + records_for(state, plaintext) * tls_format_length(format, 0);
}

static bool is_ready(const struct tls_state *state, const struct tls_format *format,
		     size_t plaintext)
{
	return !(state->flags & (TLS_CLOSE_SEALED | TLS_KEY_UPDATE_DUE)) &&
	       state->write.sequence < format->aead->limit &&
	       records_for(state, plaintext) <= format->aead->limit - state->write.sequence;
}

/* Seals data into room that is there, in as many records as it takes. False: OpenSSL failed. */
static bool seal_data(struct tls_ciphers *ciphers, const struct tls_format *format,
		      struct slice plaintext, const struct tls_state *state, uint8_t *out)
{
	uint64_t sequence = state->write.sequence;

	for (size_t at = 0; at < plaintext.len; sequence++) {
		struct slice content = slice_from(plaintext.data + at, plaintext.len - at);

		if (content.len > state->max_plaintext)
			content.len = state->max_plaintext;
		if (!seal_one(ciphers, format, &state->write, sequence, TLS_APPLICATION_DATA,
			      content, out))
			return false;
		out += tls_format_length(format, content.len);
		at += content.len;
	}
	return true;
}

/* What needs no other key: the state is changed in one word, and needs no copy. */
static enum tls_seal append_ready(struct tls_ciphers *ciphers, const struct tls_format *format,
				  struct tls_state *state, struct slice plaintext,
				  struct buffer *out)
{
	size_t length = sealed_length(state, format, plaintext.len);

	if (!seal_data(ciphers, format, plaintext, state, (uint8_t *)buffer_reserve(out, length)))
		return TLS_SEAL_FAILED;
	out->len += length;
	state->write.sequence += records_for(state, plaintext.len);
	return TLS_SEALED;
}

static enum tls_seal append_key_update(struct tls_ciphers *ciphers, const struct tls_format *format,
				       struct tls_state *next, bool request, struct buffer *out)
{
	const char message[TLS_KEY_UPDATE_SIZE] = {TLS_MESSAGE_KEY_UPDATE, 0, 0, 1, (char)request};
	enum tls_seal result = append_one(ciphers, format, next, TLS_HANDSHAKE,
					  slice_from(message, sizeof(message)), out);

	if (result != TLS_SEALED)
		return result;
	next->flags &= (uint16_t)~TLS_KEY_UPDATE_DUE;
	return tls_keys_update(format->suite, &next->write) ? TLS_SEALED : TLS_SEAL_FAILED;
}

static enum tls_seal append_data(struct tls_ciphers *ciphers, const struct tls_format *format,
				 struct tls_state *next, struct slice plaintext, struct buffer *out)
{
	enum tls_seal result = TLS_SEALED;

	while (plaintext.len > 0 && result == TLS_SEALED) {
		struct slice content = plaintext;
		bool spent = next->write.sequence >= format->aead->limit;

		if (spent && !format->inner_type)
			return TLS_SEAL_EXHAUSTED;
		if (spent || (next->flags & TLS_KEY_UPDATE_DUE)) {
			result = append_key_update(ciphers, format, next, false, out);
			continue;
		}
		if (content.len > next->max_plaintext)
			content.len = next->max_plaintext;
		result = append_one(ciphers, format, next, TLS_APPLICATION_DATA, content, out);
		plaintext = slice_from(plaintext.data + content.len, plaintext.len - content.len);
	}
	return result;
}

/* Ends what worked on a copy: all of it happened, or nothing. */
static enum tls_seal settle(enum tls_seal result, struct tls_state *state, struct tls_state *next,
			    struct buffer *out, size_t length_before)
{
	if (result == TLS_SEALED)
		*state = *next;
	else
		out->len = length_before;
	tls_state_wipe(next);
	return result;
}

enum tls_seal tls_record_seal(struct tls_ciphers *ciphers, struct tls_state *state,
			      struct slice plaintext, struct buffer *out)
{
	size_t before = out->len;
	struct tls_format format;
	struct tls_state next;

	if (state->flags & TLS_CLOSE_SEALED)
		return TLS_SEAL_CLOSED;
	if (!tls_format_of(state, &format))
		return TLS_SEAL_FAILED;
	if (is_ready(state, &format, plaintext.len))
		return append_ready(ciphers, &format, state, plaintext, out);
	next = *state;
	return settle(append_data(ciphers, &format, &next, plaintext, out), state, &next, out,
		      before);
}

enum tls_seal tls_record_seal_alert(struct tls_ciphers *ciphers, struct tls_state *state,
				    enum tls_alert alert, struct buffer *out)
{
	bool last = alert != TLS_ALERT_USER_CANCELED;
	bool warning = alert == TLS_ALERT_CLOSE_NOTIFY || alert == TLS_ALERT_USER_CANCELED;
	const char message[2] = {warning ? TLS_ALERT_LEVEL_WARNING : TLS_ALERT_LEVEL_FATAL,
				 (char)alert};
	struct tls_format format;
	enum tls_seal result;

	if (state->flags & TLS_CLOSE_SEALED)
		return TLS_SEAL_CLOSED;
	if (!tls_format_of(state, &format))
		return TLS_SEAL_FAILED;
	result = append_one(ciphers, &format, state, TLS_ALERT,
			    slice_from(message, sizeof(message)), out);
	/* Nothing may follow, not even the KeyUpdate that the peer asked for. */
	if (result == TLS_SEALED && last)
		state->flags = (uint16_t)((state->flags | TLS_CLOSE_SEALED) & ~TLS_KEY_UPDATE_DUE);
	return result;
}

enum tls_seal tls_record_seal_key_update(struct tls_ciphers *ciphers, struct tls_state *state,
					 bool request, struct buffer *out)
{
	size_t before = out->len;
	struct tls_format format;
	struct tls_state next;

	if (state->flags & TLS_CLOSE_SEALED)
		return TLS_SEAL_CLOSED;
	if (!tls_format_of(state, &format) || !format.inner_type)
		return TLS_SEAL_FAILED;
	next = *state;
	return settle(append_key_update(ciphers, &format, &next, request, out), state, &next, out,
		      before);
}

/* ---- one plaintext for many ---- */

size_t tls_record_sealed_length(const struct tls_state *state, size_t plaintext)
{
	struct tls_format format;

	return tls_format_of(state, &format) ? sealed_length(state, &format, plaintext) : 0;
}

bool tls_record_seal_ready(const struct tls_state *state, size_t plaintext)
{
	struct tls_format format;

	return tls_format_of(state, &format) && is_ready(state, &format, plaintext);
}

size_t tls_record_seal_block(struct tls_ciphers *ciphers, struct slice plaintext,
			     struct tls_block_entry *entries, size_t count, uint8_t *scratch,
			     size_t size)
{
	size_t used = 0;

	for (size_t i = 0; i < count; i++) {
		struct tls_block_entry *entry = &entries[i];
		struct tls_format format;
		size_t length;

		entry->records = slice_from(NULL, 0);
		entry->sequence = entry->state ? entry->state->write.sequence : 0;
		if (!entry->state || plaintext.len == 0 || !tls_format_of(entry->state, &format) ||
		    !is_ready(entry->state, &format, plaintext.len))
			continue;
		length = sealed_length(entry->state, &format, plaintext.len);
		if (length > size - used)
			return i;
		if (!seal_data(ciphers, &format, plaintext, entry->state, scratch + used))
			continue;
		entry->records = slice_from(scratch + used, length);
		entry->sequence += records_for(entry->state, plaintext.len);
		used += length;
	}
	return count;
}

/* SPDX-License-Identifier: ISC */
/*
 * Opening the peer's records, see tls_record.h: RFC 8446 §5, §4.6.3 and §6, and
 * what RFC 5246 has in their place. Run by workers. Whatever a peer sends, one
 * call looks at one record, and nothing is believed before it is authenticated.
 */
#include <string.h>

#include "keepsock/secret.h"
#include "net/tls_format.h"
#include "net/tls_keys.h"

#define CIPHERTEXT_EXPANSION_1_3 256u
#define CIPHERTEXT_EXPANSION_1_2 1024u /* what an AEAD may add */

/* KeyUpdates that a peer may send at once; then one in each period. */
#define KEY_UPDATE_BURST     32u
#define KEY_UPDATE_PERIOD_MS 1000u

/* A record that was authenticated. */
struct record {
	unsigned type;
	struct slice content;
};

static enum tls_event refuse(struct tls_opened *opened, enum tls_refusal refusal)
{
	*opened = (struct tls_opened){
		.event = TLS_REFUSED,
		.refusal = refusal,
		.alert = (uint8_t)tls_refusal_alert(refusal),
	};
	return opened->event;
}

/* What the header alone tells: a hopeless record is not waited for. */
static enum tls_refusal check_header(const struct tls_state *state, const struct tls_format *format,
				     const uint8_t *header, size_t length)
{
	unsigned type = header[0], version = (unsigned)header[1] << 8 | header[2];
	size_t added = format->explicit_size + (size_t)format->aead->tag_length;

	if (format->inner_type ? type != TLS_APPLICATION_DATA
			       : type < TLS_CHANGE_CIPHER_SPEC || type > TLS_APPLICATION_DATA)
		return TLS_REFUSED_UNEXPECTED;
	/* Both versions say 1.2 here. */
	if (version != TLS_VERSION_1_2)
		return format->inner_type ? TLS_REFUSED_MALFORMED : TLS_REFUSED_VERSION;
	if (length > TLS_PLAINTEXT_MAX + (format->inner_type ? CIPHERTEXT_EXPANSION_1_3
							     : CIPHERTEXT_EXPANSION_1_2))
		return TLS_REFUSED_OVERSIZED;
	if (length < added + format->inner_type)
		return TLS_REFUSED_FORGED;
	/* Padding aside, which only 1.3 has. */
	if (!format->inner_type && length - added > state->max_plaintext)
		return TLS_REFUSED_OVERSIZED;
	return TLS_REFUSED_NONE;
}

static enum tls_refusal decrypt(struct tls_ciphers *ciphers, const struct tls_state *state,
				const struct tls_format *format, struct slice input, uint8_t *out,
				struct record *record)
{
	size_t length;

	if (state->read.sequence >= TLS_SEQUENCE_END)
		return TLS_REFUSED_EXHAUSTED;
	switch (tls_format_open(ciphers, format, &state->read, input, out, &length)) {
	case TLS_AEAD_OPENED: break;
	case TLS_AEAD_FORGED: return TLS_REFUSED_FORGED;
	case TLS_AEAD_FAILED: return TLS_REFUSED_INTERNAL;
	}
	record->type = (uint8_t)input.data[0];
	if (format->inner_type && !tls_format_unpad(out, &length, &record->type))
		return TLS_REFUSED_UNEXPECTED;
	if (length > state->max_plaintext)
		return TLS_REFUSED_OVERSIZED;
	record->content = slice_from(out, length);
	return TLS_REFUSED_NONE;
}

/* ---- what is not data ---- */

static enum tls_refusal count_fruitless(struct tls_state *next)
{
	if (next->fruitless >= TLS_FRUITLESS_MAX)
		return TLS_REFUSED_FRUITLESS;
	next->fruitless++;
	return TLS_REFUSED_NONE;
}

static enum tls_refusal on_alert(struct tls_state *next, struct slice content,
				 struct tls_opened *opened)
{
	uint8_t level, alert;

	if (content.len != 2)
		return TLS_REFUSED_MALFORMED;
	level = (uint8_t)content.data[0];
	alert = (uint8_t)content.data[1];
	if (level != TLS_ALERT_LEVEL_WARNING && level != TLS_ALERT_LEVEL_FATAL)
		return TLS_REFUSED_ILLEGAL_VALUE;
	if (alert == TLS_ALERT_CLOSE_NOTIFY) {
		next->flags |= TLS_CLOSE_NOTIFY_READ;
		opened->event = TLS_CLOSE_NOTIFY;
		return TLS_REFUSED_NONE;
	}
	/* In 1.3 the level means nothing any more (§6). */
	if (next->version == TLS_VERSION_1_3 ? alert == TLS_ALERT_USER_CANCELED
					     : level == TLS_ALERT_LEVEL_WARNING) {
		opened->event = TLS_IGNORED;
		return count_fruitless(next);
	}
	opened->event = TLS_PEER_ALERT;
	opened->alert = alert;
	return TLS_REFUSED_NONE;
}

/* A token bucket in one word: when the peer will have paid for all its KeyUpdates. */
static enum tls_refusal pay_key_update(struct tls_state *next, uint64_t now_ms)
{
	uint64_t until = next->key_updates_until, most = KEY_UPDATE_BURST * KEY_UPDATE_PERIOD_MS;

	/* Further ahead it can only be after a move to another clock. */
	if (until < now_ms || until - now_ms > most)
		until = now_ms;
	until += KEY_UPDATE_PERIOD_MS;
	if (until - now_ms > most)
		return TLS_REFUSED_KEY_UPDATES;
	next->key_updates_until = until;
	return TLS_REFUSED_NONE;
}

static enum tls_refusal on_key_update(struct tls_state *next, const struct tls_format *format,
				      unsigned request, uint64_t now_ms)
{
	enum tls_refusal refusal;

	if (request > 1)
		return TLS_REFUSED_ILLEGAL_VALUE;
	refusal = pay_key_update(next, now_ms);
	if (refusal != TLS_REFUSED_NONE)
		return refusal;
	if (!tls_keys_update(format->suite, &next->read))
		return TLS_REFUSED_INTERNAL;
	if (request == 1 && !(next->flags & TLS_CLOSE_SEALED))
		next->flags |= TLS_KEY_UPDATE_DUE;
	return TLS_REFUSED_NONE;
}

/*
 * After the handshake a client has only one message to say, KeyUpdate, maybe in
 * pieces. It ends its record, because what follows is under other keys (§5.1).
 */
static enum tls_refusal on_message(struct tls_state *next, const struct tls_format *format,
				   struct slice content, uint64_t now_ms, struct tls_opened *opened)
{
	uint8_t message[TLS_KEY_UPDATE_SIZE];
	size_t kept = next->fragment_length, length = kept + content.len;
	size_t taken = length < sizeof(message) ? content.len : sizeof(message) - kept;

	if (content.len == 0)
		return TLS_REFUSED_UNEXPECTED;
	memcpy(message, next->fragment, kept);
	memcpy(message + kept, content.data, taken);
	if (message[0] != TLS_MESSAGE_KEY_UPDATE)
		return TLS_REFUSED_UNEXPECTED;
	if (length >= 4 && (message[1] != 0 || message[2] != 0 || message[3] != 1))
		return TLS_REFUSED_MALFORMED;
	if (length > sizeof(message))
		return TLS_REFUSED_UNEXPECTED;
	memset(next->fragment, 0, sizeof(next->fragment));
	if (length < sizeof(message)) {
		memcpy(next->fragment, message, length);
		next->fragment_length = (uint8_t)length;
		opened->event = TLS_IGNORED;
		return count_fruitless(next);
	}
	next->fragment_length = 0;
	opened->event = TLS_KEY_UPDATE;
	return on_key_update(next, format, message[4], now_ms);
}

static enum tls_refusal on_control(struct tls_state *next, const struct tls_format *format,
				   const struct record *record, uint64_t now_ms,
				   struct tls_opened *opened)
{
	next->read.sequence++;
	if (record->type == TLS_ALERT)
		return next->fragment_length > 0 ? TLS_REFUSED_INTERLEAVED
						 : on_alert(next, record->content, opened);
	if (record->type != TLS_HANDSHAKE)
		return TLS_REFUSED_UNEXPECTED;
	if (format->inner_type)
		return on_message(next, format, record->content, now_ms, opened);
	/* 1.2: what a client can have to say is that it wants to begin anew. */
	return record->content.len > 0 && record->content.data[0] == TLS_MESSAGE_CLIENT_HELLO
		       ? TLS_REFUSED_RENEGOTIATION
		       : TLS_REFUSED_UNEXPECTED;
}

static enum tls_refusal on_data(struct tls_state *state, struct slice content,
				struct tls_opened *opened)
{
	if (state->fragment_length > 0)
		return TLS_REFUSED_INTERLEAVED;
	if (content.len > 0)
		state->fruitless = 0;
	else if (count_fruitless(state) != TLS_REFUSED_NONE)
		return TLS_REFUSED_FRUITLESS;
	state->read.sequence++;
	opened->event = TLS_DATA;
	opened->plaintext = content;
	return TLS_REFUSED_NONE;
}

enum tls_event tls_record_open(struct tls_ciphers *ciphers, struct tls_state *state,
			       struct slice input, uint64_t now_ms, uint8_t *out,
			       struct tls_opened *opened)
{
	size_t length = tls_record_length(input);
	struct tls_format format;
	struct tls_state next;
	struct record record;
	enum tls_refusal refusal;

	*opened = (struct tls_opened){.event = TLS_NEED_MORE, .needed = TLS_HEADER_SIZE};
	if (state->flags & TLS_CLOSE_NOTIFY_READ) {
		*opened = (struct tls_opened){.event = TLS_CLOSE_NOTIFY, .consumed = input.len};
		return opened->event;
	}
	if (!tls_format_of(state, &format))
		return refuse(opened, TLS_REFUSED_INTERNAL);
	if (length == 0)
		return opened->event;
	refusal =
		check_header(state, &format, (const uint8_t *)input.data, length - TLS_HEADER_SIZE);
	if (refusal != TLS_REFUSED_NONE)
		return refuse(opened, refusal);
	opened->needed = length;
	if (input.len < length)
		return opened->event;
	refusal = decrypt(ciphers, state, &format, slice_from(input.data, length), out, &record);
	if (refusal != TLS_REFUSED_NONE)
		return refuse(opened, refusal);
	*opened = (struct tls_opened){.consumed = length};
	if (record.type == TLS_APPLICATION_DATA) {
		refusal = on_data(state, record.content, opened);
	} else {
		next = *state;
		refusal = on_control(&next, &format, &record, now_ms, opened);
		if (refusal == TLS_REFUSED_NONE)
			*state = next;
		tls_state_wipe(&next);
	}
	return refusal == TLS_REFUSED_NONE ? opened->event : refuse(opened, refusal);
}

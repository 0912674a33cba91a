/* SPDX-License-Identifier: ISC */
/*
 * Builds and parses the text around pub/sub messages. Runs in workers, on
 * bytes that came from Redis: it must never read past the slice it was given
 * and never accept what the builders here would not have written.
 */
#include "keepsock/redis_envelope.h"
#include "keepsock/random.h"
#include "redis_text.h"

void redis_envelope_append_body(struct buffer *out, const struct redis_body *body)
{
	buffer_append_u64(out, body->data.len);
	buffer_append_char(out, ' ');
	buffer_append_u64(out, body->info.len);
	buffer_append_char(out, ' ');
	buffer_append_u64(out, body->tags.len);
	buffer_append_char(out, '\n');
	buffer_append_slice(out, body->data);
	buffer_append_slice(out, body->info);
	buffer_append_slice(out, body->tags);
}

void redis_envelope_append(struct buffer *out, const struct redis_envelope *envelope)
{
	buffer_append_char(out, (char)envelope->kind);
	buffer_append_char(out, ' ');
	buffer_append_u64(out, envelope->sequence);
	buffer_append_char(out, ' ');
	buffer_append_u64(out, envelope->offset);
	buffer_append_char(out, ' ');
	if (envelope->epoch.len == 0)
		buffer_append_char(out, '-');
	else
		buffer_append_slice(out, envelope->epoch);
	buffer_append_char(out, ' ');
	redis_envelope_append_body(out, &envelope->body);
}

/* A number and the character after it. */
static bool take_number(struct slice *text, char terminator, uint64_t *value)
{
	return redis_take_number(text, value) && redis_take_char(text, terminator);
}

static bool take_kind(struct slice *text, enum redis_message_kind *kind)
{
	if (text->len < 2 || text->data[1] != ' ')
		return false;
	switch (text->data[0]) {
#define X(name, character) case character:
		REDIS_MESSAGE_KINDS(X)
#undef X
		*kind = (enum redis_message_kind)text->data[0];
		break;
	default: return false;
	}
	*text = slice_from(text->data + 2, text->len - 2);
	return true;
}

bool redis_envelope_parse_body(struct slice text, struct redis_body *body)
{
	uint64_t data, info, tags;

	if (!take_number(&text, ' ', &data) || !take_number(&text, ' ', &info) ||
	    !take_number(&text, '\n', &tags))
		return false;
	/* One by one, so that no sum can overflow. */
	if (data > text.len || info > text.len - data || tags != text.len - data - info)
		return false;
	body->data = redis_take_bytes(&text, data);
	body->info = redis_take_bytes(&text, info);
	body->tags = redis_take_bytes(&text, tags);
	return true;
}

bool redis_envelope_parse(struct slice text, struct redis_envelope *envelope)
{
	if (!take_kind(&text, &envelope->kind) || !take_number(&text, ' ', &envelope->sequence) ||
	    !take_number(&text, ' ', &envelope->offset) ||
	    !redis_take_epoch(&text, REDIS_EPOCH_MAX, &envelope->epoch) ||
	    !redis_take_char(&text, ' '))
		return false;
	/* Offset and epoch come together or not at all. */
	if (envelope->sequence == 0 || (envelope->offset == 0) != (envelope->epoch.len == 0))
		return false;
	return redis_envelope_parse_body(text, &envelope->body);
}

void redis_epoch_generate(char epoch[REDIS_EPOCH_LENGTH + 1])
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
	uint8_t bytes[REDIS_EPOCH_LENGTH];

	/* One system call; the slight bias of the remainder does not matter here. */
	random_bytes(bytes, sizeof(bytes));
	for (size_t i = 0; i < REDIS_EPOCH_LENGTH; i++)
		epoch[i] = letters[bytes[i] % (sizeof(letters) - 1)];
	epoch[REDIS_EPOCH_LENGTH] = '\0';
}

/* SPDX-License-Identifier: ISC */
/*
 * The text around every message on Redis's pub/sub, and what a stream keeps:
 *
 *	message = <kind> <sequence> <offset> <epoch or -> <body>
 *	body    = <len data> <len info> <len tags>\n<data><info><tags>
 *
 * The body is made once by the publishing worker and is opaque to the scripts;
 * the script that publishes puts the four words before it. Numbers are decimal
 * without leading zeros. Payload bytes pass unchanged. Parsing is strict and
 * gives slices into the message: what does not match to the last byte is
 * refused.
 */
#ifndef KEEPSOCK_REDIS_ENVELOPE_H
#define KEEPSOCK_REDIS_ENVELOPE_H

#include <stdbool.h>
#include <stdint.h>

#include "keepsock/buffer.h"
#include "keepsock/slice.h"

#define REDIS_EPOCH_LENGTH 8  /* of a fresh epoch */
#define REDIS_EPOCH_MAX    24 /* longest epoch accepted: CHANNEL_EPOCH_MAX of the hub */

/* X(name, character on the wire) */
#define REDIS_MESSAGE_KINDS(X) \
	X(PUBLICATION, 'p')    \
	X(JOIN, 'j')           \
	X(LEAVE, 'l')          \
	X(CONTROL, 'c')

enum redis_message_kind {
#define X(name, character) REDIS_MESSAGE_##name = (character),
	REDIS_MESSAGE_KINDS(X)
#undef X
};

struct redis_body {
	struct slice data; /* raw JSON of the publication; of a join or leave: empty */
	struct slice info; /* raw ClientInfo JSON; empty = none */
	struct slice tags; /* raw JSON object; empty = none */
};

struct redis_envelope {
	enum redis_message_kind kind;
	uint64_t sequence;  /* shard sequence, from 1 */
	uint64_t offset;    /* 0: the channel keeps no history */
	struct slice epoch; /* empty: the channel keeps no history */
	struct redis_body body;
};

/* Appends a body to out. */
void redis_envelope_append_body(struct buffer *out, const struct redis_body *body);

/* Appends a whole message to out, as the publish script does; an empty epoch becomes "-". */
void redis_envelope_append(struct buffer *out, const struct redis_envelope *envelope);

/* False, and *body undefined, unless all of text is one body. The slices point into text. */
bool redis_envelope_parse_body(struct slice text, struct redis_body *body);

/* False, and *envelope undefined, unless all of text is one message. */
bool redis_envelope_parse(struct slice text, struct redis_envelope *envelope);

/* A fresh epoch: 8 random letters and a terminator. Never use one twice. */
void redis_epoch_generate(char epoch[REDIS_EPOCH_LENGTH + 1]);

#endif

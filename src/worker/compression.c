/* SPDX-License-Identifier: ISC */
/*
 * permessage-deflate in the worker, see compression.h. Run by the worker.
 * Nothing of a message is kept: a successor decompresses from the message queue
 * again, and compresses anew what was not committed.
 */
#include "worker/compression.h"

#include "keepsock/deflate.h"
#include "keepsock/log.h"
#include "keepsock/utf8.h"
#include "keepsock/websocket.h"

void compression_open(struct worker *w)
{
	if (!w->settings.websocket.compression)
		return;
	w->deflate = deflate_create((int)w->settings.websocket.compression_level);
	if (!w->deflate)
		log_fatal("compression_failed");
}

uint32_t compression_agree(struct worker *w, const struct http_request *request,
			   struct buffer *answer)
{
	struct deflate_agreement agreement;

	if (!w->deflate || !deflate_negotiate(request, &agreement))
		return 0;
	deflate_append_agreement(answer, &agreement);
	return PASSPORT_DEFLATE | passport_window_flags(agreement.server_window_bits);
}

bool compression_worthwhile(const struct worker *w, size_t length)
{
	return w->deflate && length >= (uint64_t)w->settings.websocket.compression_min_size;
}

bool compression_pack(struct worker *w, struct slice message, struct buffer *out)
{
	size_t before = out->len;

	if (!deflate_compress(w->deflate, message, out))
		return false;
	metric_add(METRIC_deflate_messages_total, 1);
	metric_add(METRIC_deflate_input_bytes_total, message.len);
	metric_add(METRIC_deflate_output_bytes_total, out->len - before);
	return true;
}

static uint16_t refuse(uint16_t code, const char *text, const char **reason)
{
	metric_add(METRIC_inflate_refused_total, 1);
	*reason = text;
	return code;
}

uint16_t compression_unpack(struct worker *w, unsigned opcode, struct slice payload,
			    struct buffer *out, const char **reason)
{
	enum inflate_verdict verdict = INFLATE_INVALID;

	buffer_reset(out);
	if (w->deflate)
		verdict = deflate_decompress(w->deflate, payload,
					     (size_t)w->settings.websocket.message_size_limit, out);
	if (verdict == INFLATE_TOO_BIG)
		return refuse(WEBSOCKET_CLOSE_TOO_BIG, "message is too big", reason);
	if (verdict != INFLATE_OK)
		return refuse(WEBSOCKET_CLOSE_INVALID_DATA, "message is no DEFLATE data", reason);
	if (opcode == WEBSOCKET_TEXT && !utf8_valid(out->data, out->len))
		return refuse(WEBSOCKET_CLOSE_INVALID_DATA, "text is not UTF-8", reason);
	metric_add(METRIC_inflate_messages_total, 1);
	metric_add(METRIC_inflate_input_bytes_total, payload.len);
	metric_add(METRIC_inflate_output_bytes_total, out->len);
	return 0;
}

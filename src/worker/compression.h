/* SPDX-License-Identifier: ISC */
/*
 * permessage-deflate as this worker uses it: one compressor for all connections,
 * the settings, the metrics.
 */
#ifndef KEEPSOCK_WORKER_COMPRESSION_H
#define KEEPSOCK_WORKER_COMPRESSION_H

#include "worker/internal.h"

struct http_request;

/* Makes w->deflate when websocket.compression is on. */
void compression_open(struct worker *w);

/* The passport flags an upgrade request leads to; the header's value is appended to `answer`. */
uint32_t compression_agree(struct worker *w, const struct http_request *request,
			   struct buffer *answer);

/* The message is long enough to be worth the work. */
bool compression_worthwhile(const struct worker *w, size_t length);

/* Appends the compressed payload to out; false: it would be no shorter. */
bool compression_pack(struct worker *w, struct slice message, struct buffer *out);

/*
 * A message as its sender meant it, in place of what is in `out`: at most
 * websocket.message_size_limit bytes, text checked. 0, or the code to close with
 * and its *reason.
 */
uint16_t compression_unpack(struct worker *w, unsigned opcode, struct slice payload,
			    struct buffer *out, const char **reason);

#endif

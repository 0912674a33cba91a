/* SPDX-License-Identifier: ISC */
/*
 * HTTP/1.1 responses as a client sees them, as far as a load generator needs:
 * the upgrade's head, and API answers with a Content-Length.
 */
#ifndef KEEPSOCK_BENCH_HTTP_REPLY_H
#define KEEPSOCK_BENCH_HTTP_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "keepsock/http.h"
#include "keepsock/slice.h"

#define HTTP_REPLY_HEAD_LIMIT 16384

struct http_reply {
	unsigned status;
	size_t head_length;    /* with the empty line */
	int64_t body_length;   /* Content-Length, -1 when not given */
	struct slice accept;   /* Sec-WebSocket-Accept, empty when not given */
	struct slice location; /* of a redirection, for the error message */
};

/* Parses the head at the start of input; slices point into it. HTTP_ERROR: not an HTTP response. */
enum http_result http_reply_parse(struct slice input, struct http_reply *reply);

#endif

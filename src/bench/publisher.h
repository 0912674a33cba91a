/* SPDX-License-Identifier: ISC */
/*
 * What publishes in a fan-out run: a WebSocket (raw, or with publish commands)
 * or a keep-alive connection to the HTTP API.
 */
#ifndef KEEPSOCK_BENCH_PUBLISHER_H
#define KEEPSOCK_BENCH_PUBLISHER_H

#include <stdbool.h>
#include <stdint.h>

#include "keepsock/buffer.h"
#include "loop.h"
#include "options.h"
#include "session.h"
#include "target.h"

#define PUBLISHER_MAGIC 0x7075626cu

struct publisher {
	uint32_t magic;
	struct loop *loop;                   /* borrowed */
	const struct bench_options *options; /* borrowed */
	struct target target;
	struct session_handler handler;
	struct session session; /* ws:// */
	struct loop_watch http; /* http:// */
	struct buffer key;      /* the API key */
	struct buffer output;   /* of the HTTP connection */
	struct buffer input;
	struct buffer batch; /* calls of the batch that is being collected */
	bool is_batch;       /* the API is asked for whole batches */
	bool open;
	bool asked;          /* a call to the API is under way */
	uint64_t unanswered; /* publish commands and API calls */
};

/* Connects and returns when publishing can begin. 0, or -1 with the loop failed. */
int publisher_open(struct publisher *publisher, struct loop *loop,
		   const struct bench_options *options);

/* False while the HTTP API works on the publication before; WebSockets take any number. */
bool publisher_ready(const struct publisher *publisher);

/* data: raw JSON, or with --raw the whole message. The publisher is ready. */
void publisher_send(struct publisher *publisher, struct slice data);

/* What was collected for one call of the API goes out. To be called after a row of sends. */
void publisher_flush(struct publisher *publisher);

/* Needed even when publisher_open() failed. */
void publisher_close(struct publisher *publisher);

#endif

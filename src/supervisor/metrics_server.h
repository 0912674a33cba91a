/* SPDX-License-Identifier: ISC */
/*
 * GET /metrics of the supervisor, on a listener of its own: the node's goes with
 * the node, just when the supervisor has most to tell. Runs in the supervisor; a
 * few connections at a time, each for one request and a few seconds.
 */
#ifndef KEEPSOCK_SUPERVISOR_METRICS_SERVER_H
#define KEEPSOCK_SUPERVISOR_METRICS_SERVER_H

struct buffer;
struct event_base;
struct metrics_server;

struct metrics_server_options {
	struct event_base *base;
	const char *place; /* "ADDRESS:PORT" */
	void (*write)(void *ctx, struct buffer *out);
	void *ctx;
};

/* NULL with error. */
struct metrics_server *metrics_server_open(const struct metrics_server_options *options,
					   struct buffer *error);

void metrics_server_close(struct metrics_server *server); /* NULL is fine */

#endif

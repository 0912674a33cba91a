/* SPDX-License-Identifier: ISC */
/*
 * One WebSocket connection of the load generator, from connect() to close: the
 * client's side of RFC 6455, with whole messages for its owner. Everything that
 * ends a connection is told once, with a reason.
 */
#ifndef KEEPSOCK_BENCH_WS_CLIENT_H
#define KEEPSOCK_BENCH_WS_CLIENT_H

#include <stdbool.h>
#include <stddef.h>

#include "keepsock/buffer.h"
#include "keepsock/slice.h"
#include "keepsock/websocket.h"
#include "loop.h"
#include "target.h"
#include "wire.h"

#define WS_CLIENT_MAGIC 0x77736c69u

/* closed -> connecting -> (securing ->) upgrading -> open -> closed, and closed from each. */
enum ws_client_state {
	WS_CLIENT_CLOSED,
	WS_CLIENT_CONNECTING,
	WS_CLIENT_SECURING, /* the TLS handshake */
	WS_CLIENT_UPGRADING,
	WS_CLIENT_OPEN,
};

struct ws_client;

/* payload and reason are valid during the call only. */
struct ws_client_handler {
	void (*on_open)(struct ws_client *client);
	void (*on_message)(struct ws_client *client, struct slice payload);
	void (*on_closed)(struct ws_client *client, const char *reason);
};

struct ws_client {
	struct loop_watch watch; /* first: the loop's pointer is the client's */
	uint32_t magic;
	enum ws_client_state state;
	struct loop *loop;                       /* borrowed */
	const struct target *target;             /* borrowed */
	const struct ws_client_handler *handler; /* borrowed */
	struct wire wire;
	struct buffer input;   /* the start of a head or frame still coming */
	struct buffer output;  /* what the socket has not taken yet */
	struct buffer message; /* fragments so far */
	bool fragmented;       /* message is in use */
	char accept[29];       /* what the upgrade has to answer */
};

/* Starts to connect; index picks the source address. 0, or -1 with the loop failed. */
int ws_client_open(struct ws_client *client, struct loop *loop, const struct target *target,
		   const struct ws_client_handler *handler, size_t index);

/* Appends a text message to out as this client would send it. */
void ws_client_frame(struct buffer *out, struct slice payload);

/* Sends bytes that ws_client_frame() built; the client is open. */
void ws_client_send(struct ws_client *client, struct slice frames);

/* Closes without telling the owner, and frees what the client holds. */
void ws_client_close(struct ws_client *client);

#endif

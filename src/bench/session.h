/* SPDX-License-Identifier: ISC */
/*
 * A client of the server under load: a WebSocket and, unless the session is
 * raw, the client protocol in JSON on it (connect, subscribe, pings, replies,
 * publications), or Socket.IO's. Any refusal or lost connection fails the run.
 */
#ifndef KEEPSOCK_BENCH_SESSION_H
#define KEEPSOCK_BENCH_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "keepsock/slice.h"
#include "ws_client.h"

struct session;

struct session_handler {
	const char *role;    /* for messages: "subscriber", "publisher" */
	bool raw;            /* plain WebSocket: ready once upgraded */
	bool socket_io;      /* Socket.IO's protocol instead of the client protocol */
	bool recover;        /* subscribe with recovery from the beginning */
	const char *channel; /* to subscribe to; NULL for none */
	void (*on_ready)(struct session *session);
	/* raw: any message; else a publication's data, raw JSON. May be NULL. */
	void (*on_message)(struct session *session, struct slice data);
	/* A publish command was answered. May be NULL. */
	void (*on_published)(struct session *session);
};

struct session {
	struct ws_client client;               /* first: a client pointer is a session pointer */
	const struct session_handler *handler; /* borrowed */
	void *owner;                           /* the handler's, untouched here */
	size_t index;
	uint64_t started_ns;
	uint32_t last_id; /* of the commands sent */
	bool ready;
};

/* 0, or -1 with the loop failed. */
int session_open(struct session *session, struct loop *loop, const struct target *target,
		 const struct session_handler *handler, void *owner, size_t index);

/* Sends a publish command; data is raw JSON. The session is ready and not raw. */
void session_publish(struct session *session, const char *channel, struct slice data);

void session_close(struct session *session);

#endif

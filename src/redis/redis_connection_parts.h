/* SPDX-License-Identifier: ISC */
/*
 * What redis_connection.c, redis_connect.c, redis_receive.c and the pool share
 * about one connection. For nobody else.
 */
#ifndef KEEPSOCK_REDIS_CONNECTION_PARTS_H
#define KEEPSOCK_REDIS_CONNECTION_PARTS_H

#include "redis_connection.h"

/* -- redis_connection.c -- */

/* deadline_ms (boottime): when the new state has lasted too long. */
void redis_connection_change_state(struct redis_connection *c, enum redis_connection_state state,
				   uint64_t deadline_ms);

/* Answers what waits and tries again; away: calls fail until that has worked. */
void redis_connection_lose(struct redis_connection *c, bool away, const char *reason);
void redis_connection_lose_errno(struct redis_connection *c, const char *what, int error);

/* Puts a request into the output. */
void redis_connection_append(struct redis_connection *c, const struct redis_request *request);

/* Writes the output at the end of this turn of the loop, or now. */
void redis_connection_schedule_flush(struct redis_connection *c);
void redis_connection_write(struct redis_connection *c);

/* Frees it and forgets it; NULL is fine. */
void redis_connection_free_event(struct event **event);

/* Sends a command of our own, whose answer may take command_timeout_ms and extra_ms. */
void redis_connection_send_internal(struct redis_connection *c, enum redis_internal internal,
				    unsigned extra_ms, const struct slice *words, size_t n);

/* -- redis_replicate.c: for connections with replicates -- */

/* Puts the next batch and its WAIT into the output, unless one is under way. */
void redis_replicate_next_batch(struct redis_connection *c);

/* The answer of Redis is there; takes both, the replicas are to confirm it. */
void redis_replicate_hold(struct redis_connection *c, struct redis_request *request,
			  redisReply *reply);

void redis_replicate_on_wait(struct redis_connection *c, const redisReply *reply);

/* -- redis_connect.c -- */

void redis_connection_start(struct redis_connection *c);

/* A reply while in state GREETING. */
void redis_connection_on_greeting(struct redis_connection *c, const redisReply *reply);

/* -- redis_receive.c -- */

/* The answer of a script, for its caller: c may be dropped or released when it returns. */
void redis_connection_deliver(struct redis_connection *c, struct redis_request *request,
			      const redisReply *reply);

void redis_connection_note_error(struct redis_connection *c, const char *name,
				 enum redis_result code, const char *text);

void redis_connection_on_read(evutil_socket_t fd, short what, void *ctx);

#endif

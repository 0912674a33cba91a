/* SPDX-License-Identifier: ISC */
/*
 * The connection whose answers wait for replicas. Its commands go out in
 * batches, one at a time: what came together while the batch before was being
 * confirmed. A WAIT ends each, and only its answer tells the callers. Runs in
 * workers. It never says that something is replicated which may not be.
 *
 * WAIT covers what its own connection has written and all before that. A publish
 * that turns out to be the repetition of an earlier one, which may have been
 * confirmed by nobody, writes too (publish.lua), so it is covered as well.
 * https://redis.io/docs/latest/commands/wait/
 */
#include <stdio.h>

#include "keepsock/clock.h"
#include "keepsock/magic.h"
#include "redis_connection_parts.h"
#include "redis_pool.h"

#define TOO_FEW "it is in Redis, but fewer replicas than redis.min_replicas have confirmed it"

static void send_wait(struct redis_connection *c)
{
	char replicas[16], timeout[16];
	struct slice wait[] = {SLICE("WAIT"), {replicas, 0}, {timeout, 0}};

	wait[1].len =
		(size_t)snprintf(replicas, sizeof(replicas), "%u", c->pool->options.min_replicas);
	wait[2].len = (size_t)snprintf(timeout, sizeof(timeout), "%u",
				       c->pool->options.min_replicas_timeout_ms);
	/* Redis looks at its clock now and then only: the connection is not lost for that. */
	redis_connection_send_internal(c, REDIS_INTERNAL_WAIT,
				       c->pool->options.min_replicas_timeout_ms, wait, 3);
	c->wait_under_way = true;
}

void redis_replicate_next_batch(struct redis_connection *c)
{
	struct redis_request *request;

	if (c->wait_under_way || !c->unsent.first)
		return;
	while ((request = redis_queue_pop(&c->unsent))) {
		redis_queue_push(&c->queue, request);
		redis_connection_append(c, request);
	}
	send_wait(c);
}

void redis_replicate_hold(struct redis_connection *c, struct redis_request *request,
			  redisReply *reply)
{
	request->reply = reply;
	redis_queue_push(&c->held, request);
}

/* Nobody knows whether replicas have what is held. */
static void fail_held(struct redis_connection *c, enum redis_result code, const char *text)
{
	struct redis_request *request;

	while ((request = redis_queue_pop(&c->held))) {
		c->pool->stats.unreplicated++;
		redis_pool_fail(c->pool, request, code, text);
	}
}

void redis_replicate_on_wait(struct redis_connection *c, const redisReply *reply)
{
	uint64_t serial = c->serial;
	struct redis_request *request;

	c->wait_under_way = false;
	if (c->unsent.first)
		redis_connection_schedule_flush(c);
	if (reply->type == REDIS_REPLY_ERROR) {
		redis_connection_note_error(c, "WAIT", redis_connection_classify(reply->str),
					    reply->str);
		fail_held(c, REDIS_RESULT_UNAVAILABLE,
			  "it is in Redis, but whether replicas have it could not be asked");
	} else if (reply->type != REDIS_REPLY_INTEGER ||
		   reply->integer < (long long)c->pool->options.min_replicas) {
		redis_pool_note_error(c->pool, "WAIT: fewer replicas than redis.min_replicas");
		fail_held(c, REDIS_RESULT_TIMEOUT, TOO_FEW);
	}
	/* A caller's code may drop the connection, which answers the rest. */
	while (c->serial == serial && (request = redis_queue_pop(&c->held)))
		redis_connection_deliver(c, request, request->reply);
}

/* SPDX-License-Identifier: ISC */
/*
 * What a command connection receives: replies in the order of the commands.
 * Runs in workers. The only place where callers are called back with what
 * Redis said; they may drop the connection or destroy the pool meanwhile.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "keepsock/clock.h"
#include "keepsock/magic.h"
#include "redis_connection_parts.h"
#include "redis_pool.h"
#include "redis_reply.h"

#define READ_SIZE 65536 /* per turn of the loop */

/* Before 7.0 an error inside a script comes wrapped: "ERR Error running ...: -OOM ...". */
static const char *unwrap(const char *text)
{
	const char *inner = strstr(text, ": -");

	return strncmp(text, "ERR Error running script", 24) == 0 && inner ? inner + 3 : text;
}

enum redis_result redis_connection_classify(const char *text)
{
	/* Conditions of the server that pass; all else is a bug or foreign data. */
	static const char *const passing[] = {
		"LOADING ",
		"BUSY ",
		"MASTERDOWN ",
		"READONLY ",
		"OOM ",
		"NOREPLICAS ",
		"MISCONF ",
		"NOAUTH ",
		"TRYAGAIN ",
		"CLUSTERDOWN ",
		"UNKILLABLE ",
		"EXECABORT ",
		"ERR max number of clients reached",
	};

	text = unwrap(text);
	for (size_t i = 0; i < sizeof(passing) / sizeof(passing[0]); i++) {
		if (strncmp(text, passing[i], strlen(passing[i])) == 0)
			return REDIS_RESULT_UNAVAILABLE;
	}
	return REDIS_RESULT_ERROR;
}

void redis_connection_note_error(struct redis_connection *c, const char *name,
				 enum redis_result code, const char *text)
{
	char before[sizeof(c->pool->stats.last_error)];

	memcpy(before, c->pool->stats.last_error, sizeof(before));
	c->pool->stats.errors++;
	redis_pool_note_error(c->pool, "%s: %s", name, text);
	/* Clients can repeat what leads to an error: the log hears of it once. */
	if (strcmp(before, c->pool->stats.last_error) == 0)
		return;
	log_at(code == REDIS_RESULT_ERROR ? LOG_LEVEL_ERROR : LOG_LEVEL_WARNING,
	       "redis_error connection=%u command=%s result=%s text=%s", c->index, name,
	       redis_result_name(code), log_value_str(text));
}

static void on_error_reply(struct redis_connection *c, struct redis_request *request,
			   const char *text)
{
	enum redis_result code = redis_connection_classify(text);
	uint64_t serial = c->serial;

	redis_connection_note_error(c, redis_script_name(request->script), code, text);
	c->pool->stats.unavailable += code == REDIS_RESULT_UNAVAILABLE;
	request->finish(request, code, text, NULL);
	/* A replica still answers PING: only leaving it tells that no write would work. */
	if (c->serial == serial && strncmp(unwrap(text), "READONLY ", 9) == 0)
		redis_pool_lose_ready(c->pool, "READONLY: this server has become a replica");
}

static void on_refusal(struct redis_connection *c, struct redis_request *request,
		       enum redis_refusal refusal)
{
	uint64_t serial = c->serial;

	if (refusal == REDIS_REFUSAL_FENCED) {
		request->finish(request, REDIS_RESULT_FENCED, "another node is the primary", NULL);
		return;
	}
	c->pool->stats.unavailable++;
	request->finish(request, REDIS_RESULT_UNAVAILABLE,
			"the continuity of Redis's data is not settled", NULL);
	/* The server's ids changed under the connection: a new one reads them again. */
	if (refusal == REDIS_REFUSAL_OTHER_RUN && c->serial == serial)
		redis_connection_lose(c, false, "another run of Redis answers here");
}

/* True when the request went out again because Redis had forgotten the script. */
static bool sent_again(struct redis_connection *c, struct redis_request *request,
		       const redisReply *reply)
{
	if (reply->type != REDIS_REPLY_ERROR || request->by_text || !request->finish ||
	    strncmp(reply->str, "NOSCRIPT", 8) != 0)
		return false;
	request->by_text = true;
	if (c->replicates) {
		redis_queue_push(&c->unsent, request);
		redis_connection_schedule_flush(c);
		return true;
	}
	redis_queue_push(&c->queue, request);
	redis_connection_append(c, request);
	return true;
}

void redis_connection_deliver(struct redis_connection *c, struct redis_request *request,
			      const redisReply *reply)
{
	struct redis_pool_stats *stats = &c->pool->stats;
	enum redis_refusal refusal = redis_reply_refusal(reply);

	stats->answered++;
	stats->latency_us_sum += (clock_boottime_ns() - request->started_ns) / 1000;
	if (reply->type == REDIS_REPLY_ERROR)
		on_error_reply(c, request, reply->str);
	else if (refusal != REDIS_REFUSAL_NONE)
		on_refusal(c, request, refusal);
	else if (!request->finish(request, REDIS_RESULT_OK, "", reply))
		redis_connection_note_error(c, redis_script_name(request->script),
					    REDIS_RESULT_ERROR, REDIS_UNUSABLE);
	redis_request_free(request);
}

static void on_internal_reply(struct redis_connection *c, struct redis_request *request,
			      const redisReply *reply)
{
	enum redis_internal internal = request->internal;

	redis_request_free(request);
	switch (internal) {
	case REDIS_INTERNAL_PING:
		if (reply->type == REDIS_REPLY_ERROR)
			redis_connection_note_error(
				c, "PING", redis_connection_classify(reply->str), reply->str);
		break;
	case REDIS_INTERNAL_WAIT: redis_replicate_on_wait(c, reply); break;
	}
}

/* Takes the reply. */
static void on_reply(struct redis_connection *c, redisReply *reply)
{
	struct redis_request *request = redis_queue_pop(&c->queue);

	if (!request) {
		redis_connection_lose(c, false, "a reply nobody asked for");
	} else if (sent_again(c, request, reply)) {
		/* It is on its way again. */
	} else if (!request->finish) {
		on_internal_reply(c, request, reply);
	} else if (c->replicates && reply->type != REDIS_REPLY_ERROR &&
		   redis_reply_refusal(reply) == REDIS_REFUSAL_NONE) {
		redis_replicate_hold(c, request, reply);
		return;
	} else {
		redis_connection_deliver(c, request, reply);
	}
	freeReplyObject(reply);
}

/* Takes the reply. */
static void on_greeting(struct redis_connection *c, redisReply *reply)
{
	redis_connection_on_greeting(c, reply);
	freeReplyObject(reply);
}

static void read_replies(struct redis_connection *c)
{
	uint64_t serial = c->serial;

	while (c->serial == serial) {
		void *reply = NULL;
		char reason[160];

		if (redisReaderGetReply(c->reader, &reply) != REDIS_OK) {
			snprintf(reason, sizeof(reason), "protocol: %s", c->reader->errstr);
			redis_connection_lose(c, false, reason);
			return;
		}
		if (!reply)
			return;
		if (c->state == REDIS_CONNECTION_READY)
			on_reply(c, reply);
		else
			on_greeting(c, reply);
	}
}

void redis_connection_on_read(evutil_socket_t fd, short what, void *ctx)
{
	struct redis_connection *c = ctx;
	char bytes[READ_SIZE];
	ssize_t n;

	(void)what;
	MAGIC_CHECK(c, REDIS_CONNECTION_MAGIC);
	n = recv(fd, bytes, sizeof(bytes), 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) {
		redis_connection_lose_errno(c, "read", errno);
	} else if (n == 0) {
		redis_connection_lose(c, false, "closed by Redis");
	} else if (redisReaderFeed(c->reader, bytes, (size_t)n) != REDIS_OK) {
		redis_connection_lose(c, false, "the reader is out of memory");
	} else {
		struct redis_pool *pool = c->pool;

		redis_pool_enter(pool);
		read_replies(c);
		redis_pool_try_replacing(pool);
		redis_pool_leave(pool);
	}
}

/* SPDX-License-Identifier: ISC */
/*
 * Between the methods of the server HTTP API and what serves them all: a call
 * that waits for Redis or for a survey, and how it is answered.
 */
#ifndef KEEPSOCK_WORKER_HTTP_API_H
#define KEEPSOCK_WORKER_HTTP_API_H

#include "keepsock/redis_scripts.h"
#include "worker/http_api_request.h"
#include "worker/internal.h"

/* First member of every method's own struct. Freed by http_api_call_…() below. */
struct http_api_call {
	struct pending base;
	enum http_api_method method;
	bool transport_errors;
};

/* A zeroed struct of `size` bytes that starts with a call; the connection waits for it from now. */
void *http_api_call_new(size_t size, struct connection *c, const struct http_api_request *request);

/*
 * For callbacks of Redis. True: all is well, and somebody waits for the result.
 * False: the call is over and freed, its error answered if anybody is there.
 */
bool http_api_call_goes_on(struct http_api_call *call, const struct redis_outcome *outcome);

/* To write a result: append one JSON value to what begin gives, then end. Frees the call. */
struct buffer *http_api_result_begin(struct http_api_call *call);
void http_api_result_end(struct http_api_call *call);

/* Answers with an error and frees the call. */
void http_api_call_fail(struct http_api_call *call, uint32_t code);

/* {"code":…,"message":…} */
void http_api_append_error(struct buffer *out, uint32_t code);

/* 0, or the error that this channel name gets. */
uint32_t http_api_channel_error(const struct worker *w, struct slice name);

/*
 * The methods. A request is valid during the call only. 0: it is answered or
 * will be, and the connection must not be touched; otherwise the error to answer.
 */
typedef uint32_t http_api_method_fn(struct connection *c, const struct http_api_request *request);
http_api_method_fn http_api_publish, http_api_broadcast;
http_api_method_fn http_api_history, http_api_presence, http_api_presence_stats;
http_api_method_fn http_api_channels, http_api_info;

#endif

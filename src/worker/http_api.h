/* SPDX-License-Identifier: ISC */
/*
 * Between the methods of the server HTTP API and what serves them all: an
 * exchange is one HTTP request with one call or many, a call is one method of
 * it that waits for Redis or for a survey. Run by the worker.
 *
 *	 http_api() ──> exchange ──> method(exchange, request) ──> call ──┐
 *	                    ▲                                              │ Redis, survey
 *	                    └──── result_end(call) or call_fail(call) ◄────┘
 *
 * Answers come in the order of the calls, however they end. What an exchange
 * holds is bounded: its body by http.body_size_limit, its calls under way by
 * HTTP_API_PARALLEL_MAX, its answers by HTTP_API_ANSWERS_MAX.
 */
#ifndef KEEPSOCK_WORKER_HTTP_API_H
#define KEEPSOCK_WORKER_HTTP_API_H

#include "keepsock/redis_scripts.h"
#include "worker/http_api_batch.h"
#include "worker/internal.h"

/* Calls of one parallel batch under way at once. */
#define HTTP_API_PARALLEL_MAX 64u
/* Bytes of all answers to one batch; a call whose answer goes beyond gets error 106 instead. */
#define HTTP_API_ANSWERS_MAX (4u * 1024u * 1024u)
/* A batch starts no more calls after this; the rest gets error 100. */
#define HTTP_API_BATCH_TIME_MS 10000u
/* Each request may tell Redis this many command numbers: see http_api_number(). */
#define HTTP_API_NUMBERS 1024u

_Static_assert(HTTP_API_COMMANDS_MAX < HTTP_API_NUMBERS, "a number for every call of a batch");

enum http_api_form { HTTP_API_SINGLE, HTTP_API_BATCH, HTTP_API_LEGACY };

struct http_api_exchange {
	struct pending base; /* first: what the connection waits for */
	enum http_api_form form;
	bool transport_errors;
	bool starting;                     /* calls are being started: not to be done twice */
	struct buffer body;                /* what the commands point into; owned */
	struct http_api_commands commands; /* owned */
	struct buffer *answers;            /* of each command, unless single; owned */
	size_t answer_bytes;
	uint32_t next;    /* the command being started, or to be started next */
	uint32_t running; /* calls started and not answered */
	uint64_t deadline;
};

/*
 * Begin an exchange, which answers the connection, maybe at once. Commands are
 * taken over. The body has to stay for a single one, and is copied otherwise.
 */
void http_api_exchange_start(struct connection *c, enum http_api_form form, bool transport_errors,
			     struct http_api_commands *commands, struct slice body);

/* For methods: whose request it is, never NULL while a method starts. */
static inline struct connection *http_api_connection(const struct http_api_exchange *exchange)
{
	return exchange->base.connection;
}

/* The affinity of its calls for the command pool. */
static inline uint64_t http_api_affinity(const struct http_api_exchange *exchange)
{
	return connection_affinity(connection_passport(exchange->base.connection));
}

/* The number under which Redis remembers the call that is being started. */
uint64_t http_api_number(const struct http_api_exchange *exchange);

/* First member of every method's own struct. Freed by http_api_call_…() below. */
struct http_api_call {
	struct worker *worker;
	struct http_api_exchange *exchange;
	uint32_t index; /* of the command */
};

/* A zeroed struct of `size` bytes that starts with a call. */
void *http_api_call_new(size_t size, struct http_api_exchange *exchange);
enum http_api_method http_api_call_method(const struct http_api_call *call);

/*
 * For callbacks of Redis. True: all is well, and somebody waits for the result.
 * False: the call is over and freed, its error answered if anybody is there.
 */
bool http_api_call_goes_on(struct http_api_call *call, const struct redis_outcome *outcome);

/* To write a result: append one JSON value to what begin gives, then end. Frees the call. */
struct buffer *http_api_result_begin(struct http_api_call *call);
void http_api_result_end(struct http_api_call *call);
/* The result {}. */
void http_api_result_empty(struct http_api_call *call);

/* Answers with an error and frees the call. */
void http_api_call_fail(struct http_api_call *call, uint32_t code);

/* {"code":…,"message":…} */
void http_api_append_error(struct buffer *out, uint32_t code);

/* 0, or the error that this channel name gets; *options (may be NULL) are its channel's. */
uint32_t http_api_channel_error(const struct worker *w, struct slice name,
				const struct channel_options **options);

/*
 * The methods. A request is valid during the call only. 0: it is answered or
 * will be; otherwise the error to answer.
 */
typedef uint32_t http_api_method_fn(struct http_api_exchange *exchange,
				    const struct http_api_request *request);
http_api_method_fn http_api_publish, http_api_broadcast;
http_api_method_fn http_api_subscribe, http_api_unsubscribe, http_api_disconnect, http_api_refresh;
http_api_method_fn http_api_history, http_api_history_remove;
http_api_method_fn http_api_presence, http_api_presence_stats;
http_api_method_fn http_api_channels, http_api_info, http_api_rpc;

/* By method; NULL for UNKNOWN only. */
extern http_api_method_fn *const http_api_methods[HTTP_API_METHOD_COUNT];

#endif

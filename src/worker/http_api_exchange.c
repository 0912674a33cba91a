/* SPDX-License-Identifier: ISC */
/*
 * Exchanges of the server HTTP API, see http_api.h: starting the calls of a
 * request, collecting what they give, and the one answer. Run by the worker.
 * It outlives its connection until the last call under way has ended, but
 * starts no more for somebody who left.
 */
#include <stdlib.h>

#include "keepsock/alloc.h"
#include "keepsock/log.h"
#include "worker/http_api.h"

#define JSON "application/json"

void http_api_append_error(struct buffer *out, uint32_t code)
{
	buffer_append_str(out, "{\"code\":");
	buffer_append_u64(out, code);
	buffer_append_str(out, ",\"message\":");
	json_append_string(out, slice_str(http_api_error_message(code)));
	buffer_append_str(out, "}");
}

static void exchange_free(struct http_api_exchange *exchange)
{
	if (exchange->answers)
		for (size_t i = 0; i < exchange->commands.count; i++)
			buffer_free(&exchange->answers[i]);
	free(exchange->answers);
	buffer_free(&exchange->body);
	http_api_commands_free(&exchange->commands);
	free(exchange);
}

/* Answers the connection, if it is still there, and ends the exchange. */
static void respond(struct http_api_exchange *exchange, int status, struct slice body)
{
	struct connection *c = exchange->base.connection;

	exchange_free(exchange);
	if (!c)
		return;
	loop_watch_begin(c->worker, LOOP_REDIS_REPLY);
	c->pending = NULL;
	http_session_respond(c, status, JSON, body, NULL);
}

/* --- one command's answer --- */

/* What stands before its result, or its error. */
static void append_prefix(struct buffer *out, const struct http_api_exchange *exchange,
			  uint32_t index, bool error)
{
	const struct http_api_command *command = &exchange->commands.items[index];

	buffer_append_str(out, "{");
	if (exchange->form == HTTP_API_LEGACY && command->id) {
		buffer_append_str(out, "\"id\":");
		buffer_append_u64(out, command->id);
		buffer_append_str(out, ",");
	}
	if (error)
		buffer_append_str(out, "\"error\":");
	else if (exchange->form == HTTP_API_BATCH)
		buffer_printf(out, "\"%s\":", http_api_method_name(command->method));
	else
		buffer_append_str(out, "\"result\":");
}

static struct slice error_text(const struct http_api_exchange *exchange, uint32_t index,
			       uint32_t code)
{
	struct buffer *out = &exchange->base.worker->payload;

	buffer_reset(out);
	append_prefix(out, exchange, index, true);
	http_api_append_error(out, code);
	buffer_append_str(out, "}");
	return buffer_slice(out);
}

static void keep_answer(struct http_api_exchange *exchange, uint32_t index, struct slice text)
{
	if (text.len > HTTP_API_ANSWERS_MAX - exchange->answer_bytes)
		text = error_text(exchange, index, CLIENT_ERROR_LIMIT_EXCEEDED);
	buffer_append_slice(&exchange->answers[index], text);
	exchange->answer_bytes += text.len < HTTP_API_ANSWERS_MAX - exchange->answer_bytes
					  ? text.len
					  : HTTP_API_ANSWERS_MAX - exchange->answer_bytes;
}

/* The command's answer, or its error, is known. True: nothing but the exchange's end is left. */
static bool settle(struct http_api_exchange *exchange, uint32_t index, uint32_t code,
		   struct slice result)
{
	struct worker *w = exchange->base.worker;

	if (code)
		metric_add(METRIC_api_errors_total, 1);
	if (exchange->form == HTTP_API_SINGLE && code && exchange->transport_errors) {
		buffer_reset(&w->payload);
		http_api_append_error(&w->payload, code);
		respond(exchange, http_api_error_status(code), buffer_slice(&w->payload));
		return true;
	}
	if (code)
		result = error_text(exchange, index, code);
	if (exchange->form == HTTP_API_SINGLE) {
		respond(exchange, 200, result);
		return true;
	}
	keep_answer(exchange, index, result);
	return false;
}

/* --- all of them --- */

static void respond_all(struct http_api_exchange *exchange)
{
	struct buffer *out = &exchange->base.worker->payload;
	bool batch = exchange->form == HTTP_API_BATCH;

	buffer_reset(out);
	buffer_append_str(out, batch ? "{\"replies\":[" : "");
	for (size_t i = 0; i < exchange->commands.count; i++) {
		if (i > 0)
			buffer_append_str(out, batch ? "," : "\n");
		buffer_append_slice(out, buffer_slice(&exchange->answers[i]));
		buffer_free(&exchange->answers[i]);
	}
	buffer_append_str(out, batch ? "]}" : "");
	respond(exchange, 200, buffer_slice(out));
}

/* The error with which the next command ends at once, 0 if it was answered or is under way. */
static uint32_t start_command(struct http_api_exchange *exchange)
{
	const struct http_api_command *command = &exchange->commands.items[exchange->next];
	struct http_api_request request;
	uint32_t code;

	if (command->method == HTTP_API_UNKNOWN)
		return CLIENT_ERROR_METHOD_NOT_FOUND;
	if (command->bad)
		return CLIENT_ERROR_BAD_REQUEST;
	if (exchange->form != HTTP_API_SINGLE && exchange->base.worker->now_ms > exchange->deadline)
		return CLIENT_ERROR_INTERNAL;
	/* It was read before: what is wrong with it now would be our own fault. */
	if (!http_api_request_parse(command->method, command->params, &request))
		code = CLIENT_ERROR_BAD_REQUEST;
	else
		code = http_api_methods[command->method](exchange, &request);
	http_api_request_free(&request);
	return code;
}

/* Starts what may be started; ends the exchange when nothing is left of it. */
static void go_on(struct http_api_exchange *exchange)
{
	uint32_t width = exchange->commands.parallel ? HTTP_API_PARALLEL_MAX : 1;
	bool single = exchange->form == HTTP_API_SINGLE;
	uint32_t code;

	if (exchange->starting)
		return;
	/* A single call that is answered at once takes the exchange with it. */
	exchange->starting = !single;
	while (exchange->next < exchange->commands.count && exchange->running < width &&
	       exchange->base.connection) {
		uint32_t index = exchange->next;

		exchange->running++;
		metric_add(METRIC_api_calls_total, 1);
		code = start_command(exchange);
		if (single && !code)
			return;
		if (code) {
			exchange->running--;
			if (settle(exchange, index, code, SLICE("")))
				return;
		}
		exchange->next++;
	}
	exchange->starting = false;
	if (exchange->running > 0)
		return;
	if (exchange->base.connection)
		respond_all(exchange);
	else
		exchange_free(exchange);
}

void http_api_exchange_start(struct connection *c, enum http_api_form form, bool transport_errors,
			     struct http_api_commands *commands, struct slice body)
{
	struct http_api_exchange *exchange = xcalloc(1, sizeof(*exchange));

	exchange->base.worker = c->worker;
	exchange->base.connection = c;
	exchange->form = form;
	exchange->transport_errors = transport_errors;
	exchange->commands = *commands;
	exchange->deadline = c->worker->now_ms + HTTP_API_BATCH_TIME_MS;
	*commands = (struct http_api_commands){0};
	if (form != HTTP_API_SINGLE) {
		struct http_api_command *items = exchange->commands.items;

		/* The request may be read on, or move, while calls wait. */
		buffer_append_slice(&exchange->body, body);
		for (size_t i = 0; i < exchange->commands.count; i++)
			if (items[i].params.data >= body.data &&
			    items[i].params.data < body.data + body.len)
				items[i].params.data =
					exchange->body.data + (items[i].params.data - body.data);
		exchange->answers = xcalloc(exchange->commands.count + 1, sizeof(struct buffer));
	}
	c->pending = &exchange->base;
	go_on(exchange);
}

/* --- calls --- */

uint64_t http_api_number(const struct http_api_exchange *exchange)
{
	const struct passport *passport = connection_passport(exchange->base.connection);

	return (passport->command_number + 1) * HTTP_API_NUMBERS + exchange->next;
}

void *http_api_call_new(size_t size, struct http_api_exchange *exchange)
{
	struct http_api_call *call = xcalloc(1, size);

	call->worker = exchange->base.worker;
	call->exchange = exchange;
	call->index = exchange->next;
	return call;
}

enum http_api_method http_api_call_method(const struct http_api_call *call)
{
	return call->exchange->commands.items[call->index].method;
}

/* Frees the call. */
static void end_call(struct http_api_call *call, uint32_t code, struct slice result)
{
	struct http_api_exchange *exchange = call->exchange;
	uint32_t index = call->index;

	free(call);
	loop_watch_begin(exchange->base.worker, LOOP_REDIS_REPLY);
	exchange->running--;
	if (!exchange->base.connection) {
		go_on(exchange);
		return;
	}
	if (!settle(exchange, index, code, result))
		go_on(exchange);
}

void http_api_call_fail(struct http_api_call *call, uint32_t code)
{
	end_call(call, code, SLICE(""));
}

bool http_api_call_goes_on(struct http_api_call *call, const struct redis_outcome *outcome)
{
	if (outcome->code == REDIS_RESULT_OK) {
		if (call->exchange->base.connection)
			return true;
		end_call(call, 0, SLICE(""));
		return false;
	}
	if (outcome->code == REDIS_RESULT_ERROR)
		log_error("redis_command_failed api_method=%s error=%s",
			  http_api_method_name(http_api_call_method(call)),
			  log_value_str(outcome->error));
	http_api_call_fail(call, CLIENT_ERROR_INTERNAL);
	return false;
}

struct buffer *http_api_result_begin(struct http_api_call *call)
{
	struct buffer *out = &call->worker->payload;

	buffer_reset(out);
	append_prefix(out, call->exchange, call->index, false);
	return out;
}

void http_api_result_end(struct http_api_call *call)
{
	struct buffer *out = &call->worker->payload;

	buffer_append_str(out, "}");
	end_call(call, 0, buffer_slice(out));
}

void http_api_result_empty(struct http_api_call *call)
{
	buffer_append_str(http_api_result_begin(call), "{}");
	http_api_result_end(call);
}

/* SPDX-License-Identifier: ISC */
/*
 * Building of script calls. Runs in workers. The arguments are kept as RESP
 * without the command's head, so that the same bytes serve EVALSHA and, after
 * Redis has forgotten the scripts, EVAL.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "keepsock/alloc.h"
#include "keepsock/magic.h"
#include "redis_reply.h"
#include "redis_request.h"

/* Made from scripts/ at build time. */
#define X(name) extern const char redis_script_##name[];
REDIS_SCRIPTS(X)
#undef X

static const struct {
	const char *name;
	const char *text;
} scripts[REDIS_SCRIPT_COUNT] = {
#define X(name) [REDIS_SCRIPT_##name] = {#name, redis_script_##name},
	REDIS_SCRIPTS(X)
#undef X
};

const char *redis_script_name(enum redis_script script)
{
	return scripts[script].name;
}

struct slice redis_script_text(enum redis_script script)
{
	return slice_str(scripts[script].text);
}

static void append_word(struct buffer *out, struct slice word)
{
	buffer_append_char(out, '$');
	buffer_append_u64(out, word.len);
	buffer_append_str(out, "\r\n");
	buffer_append_slice(out, word);
	buffer_append_str(out, "\r\n");
}

static void append_array_head(struct buffer *out, size_t n)
{
	buffer_append_char(out, '*');
	buffer_append_u64(out, n);
	buffer_append_str(out, "\r\n");
}

void redis_append_command(struct buffer *out, const struct slice *words, size_t n)
{
	append_array_head(out, n);
	for (size_t i = 0; i < n; i++)
		append_word(out, words[i]);
}

struct redis_request *redis_request_new(enum redis_script script, unsigned n_keys,
					redis_finish finish, void *ctx)
{
	struct redis_request *request = xcalloc(1, sizeof(*request));

	request->magic = REDIS_REQUEST_MAGIC;
	request->script = script;
	request->finish = finish;
	request->ctx = ctx;
	buffer_init(&request->tail);
	redis_request_add_u64(request, n_keys);
	return request;
}

static bool finish_count(struct redis_request *request, enum redis_result code, const char *error,
			 const redisReply *reply)
{
	struct redis_count_result result = {.outcome = {code, error}};
	bool usable = !reply || redis_reply_u64(reply, &result.count);

	if (!usable)
		result.outcome = (struct redis_outcome){REDIS_RESULT_ERROR, REDIS_UNUSABLE};
	if (request->callback.count)
		request->callback.count(request->ctx, &result);
	return usable;
}

struct redis_request *redis_request_new_count(enum redis_script script, unsigned n_keys,
					      redis_count_callback callback, void *ctx)
{
	struct redis_request *request = redis_request_new(script, n_keys, finish_count, ctx);

	request->callback.count = callback;
	return request;
}

struct redis_request *redis_request_new_internal(enum redis_internal internal,
						 const struct slice *words, size_t n)
{
	struct redis_request *request = xcalloc(1, sizeof(*request));

	request->magic = REDIS_REQUEST_MAGIC;
	request->internal = internal;
	buffer_init(&request->tail);
	redis_append_command(&request->tail, words, n);
	return request;
}

void redis_request_free(struct redis_request *request)
{
	MAGIC_CHECK(request, REDIS_REQUEST_MAGIC);
	request->magic = 0;
	buffer_free(&request->tail);
	if (request->reply)
		freeReplyObject(request->reply);
	free(request);
}

void redis_request_add(struct redis_request *request, struct slice word)
{
	append_word(&request->tail, word);
	request->words++;
}

void redis_request_add_u64(struct redis_request *request, uint64_t value)
{
	char digits[24];
	int len = snprintf(digits, sizeof(digits), "%" PRIu64, value);

	redis_request_add(request, slice_from(digits, (size_t)len));
}

void redis_request_add_key(struct redis_request *request, struct slice name,
			   void (*append)(struct buffer *, struct slice))
{
	struct buffer key = {0};

	append(&key, name);
	redis_request_add(request, buffer_slice(&key));
	buffer_free(&key);
}

void redis_request_add_run(struct redis_request *request)
{
	if (request->has_run)
		abort();
	request->has_run = true;
	request->run_at = request->tail.len;
	request->words++;
}

static void append_tail(const struct redis_request *request, const char *run, struct buffer *out)
{
	struct slice tail = buffer_slice(&request->tail);

	if (request->has_run) {
		buffer_append(out, tail.data, request->run_at);
		append_word(out, slice_str(run));
		tail = slice_from(tail.data + request->run_at, tail.len - request->run_at);
	}
	buffer_append_slice(out, tail);
}

void redis_request_append_to(const struct redis_request *request, const char *sha, const char *run,
			     struct buffer *out)
{
	if (!request->finish) {
		buffer_append_slice(out, buffer_slice(&request->tail));
		return;
	}
	append_array_head(out, request->words + 2);
	if (request->by_text) {
		append_word(out, SLICE("EVAL"));
		append_word(out, redis_script_text(request->script));
	} else {
		append_word(out, SLICE("EVALSHA"));
		append_word(out, slice_from(sha, REDIS_SHA_LENGTH));
	}
	append_tail(request, run, out);
}

void redis_queue_push(struct redis_queue *queue, struct redis_request *request)
{
	request->next = NULL;
	if (queue->last)
		queue->last->next = request;
	else
		queue->first = request;
	queue->last = request;
	if (request->finish)
		queue->count++;
	queue->bytes += request->tail.len;
}

struct redis_request *redis_queue_pop(struct redis_queue *queue)
{
	struct redis_request *request = queue->first;

	if (!request)
		return NULL;
	MAGIC_CHECK(request, REDIS_REQUEST_MAGIC);
	queue->first = request->next;
	if (!queue->first)
		queue->last = NULL;
	request->next = NULL;
	if (request->finish)
		queue->count--;
	queue->bytes -= request->tail.len;
	return request;
}

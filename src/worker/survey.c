/* SPDX-License-Identifier: ISC */
/*
 * Surveys, see survey.h: asking and collecting, and sending back what
 * survey_answers.c says. Run by the worker.
 *
 *	question  on keepsock.control:  {"survey":ID,"op":OP,"args":{…},"reply":NAME}
 *	answer    on the reply name:    {"answer":ID,"node":NODE,"slot":SLOT,
 *	                                 "worker":NAME,"result":{…}}
 *
 * An answer may overtake Redis's word on how many heard the question. What came
 * from Redis is checked before it is used: a bad message is logged and dropped.
 */
#include "worker/survey.h"
#include "worker/loop_watch.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>

#include "keepsock/alloc.h"
#include "keepsock/json.h"
#include "keepsock/log.h"
#include "keepsock/magic.h"
#include "keepsock/random.h"
#include "keepsock/redis_continuity.h"
#include "keepsock/redis_keys.h"
#include "keepsock/redis_scripts.h"
#include "worker/redis_subscription.h"
#include "worker/shards.h"
#include "worker/survey_answers.h"

#define ASK_MAGIC         0x4b534153u /* "SASK" */
#define ASKS_MAX          256u
#define ANSWER_MAX        (8u * 1024u * 1024u)
#define REPLY_NAME_MAX    80u
#define REPLY_NAME_PREFIX "keepsock.reply."

static const struct timeval deadline = {1, 0};

/* One survey of ours; lives until it is answered and Redis owes it nothing more. */
struct ask {
	uint32_t magic;
	struct survey *survey; /* NULL: that is gone */
	struct ask *next;
	uint64_t id;
	const char *op;      /* static text */
	struct event *timer; /* owned; NULL once finished */
	survey_callback callback;
	void *ctx;
	json_t *answers; /* owned */
	enum survey_reach reach;
	unsigned owed;   /* calls of Redis that have not come back */
	bool counted;    /* `due` is known */
	uint64_t due;    /* answers of those who heard the question */
	json_t *missing; /* names of living workers that have yet to answer, NULL: not known; owned
			  */
	const char *error;
};

struct survey {
	struct worker *worker;
	struct ask *asks; /* owned */
	unsigned count;
	uint64_t next_id;
};

struct survey *survey_create(struct worker *w)
{
	struct survey *survey = xcalloc(1, sizeof(*survey));

	survey->worker = w;
	/* So that an answer to this slot's previous worker is not taken for ours. */
	survey->next_id = (uint64_t)random_u32() << 16;
	return survey;
}

static void ask_free(struct ask *ask)
{
	struct survey *survey = ask->survey;

	if (survey) {
		struct ask **link = &survey->asks;

		while (*link != ask)
			link = &(*link)->next;
		*link = ask->next;
		survey->count--;
	}
	ask->magic = 0;
	free(ask);
}

static bool is_complete(const struct ask *ask)
{
	if (!ask->counted || json_array_size(ask->answers) < ask->due)
		return false;
	return ask->reach == SURVEY_WHO_HEARS ||
	       (ask->missing && json_object_size(ask->missing) == 0);
}

static void log_incomplete(const struct ask *ask)
{
	const char *name = json_object_iter_key(json_object_iter(ask->missing));

	log_warning("survey_incomplete op=%s answers=%zu due=%" PRIu64 " silent=%s", ask->op,
		    json_array_size(ask->answers), ask->due, log_value_str(name ? name : ""));
	metric_add(METRIC_surveys_incomplete_total, 1);
}

/* Tells the asker; frees the ask if Redis owes it nothing more. */
static void finish(struct ask *ask, const char *error)
{
	bool complete = !error && is_complete(ask);

	if (!error && !complete)
		log_incomplete(ask);
	event_free(ask->timer);
	ask->timer = NULL;
	ask->callback(ask->ctx, ask->answers, complete, error);
	json_decref(ask->answers);
	ask->answers = NULL;
	json_decref(ask->missing);
	ask->missing = NULL;
	if (ask->owed == 0)
		ask_free(ask);
}

void survey_free(struct survey *survey)
{
	if (!survey)
		return;
	while (survey->asks) {
		struct ask *ask = survey->asks;
		bool owed = ask->owed > 0;

		if (ask->timer)
			finish(ask, "the worker stops");
		if (owed) {
			/* Redis still owes it a callback, which frees it. */
			survey->asks = ask->next;
			ask->survey = NULL;
		}
	}
	free(survey);
}

/* --- asking --- */

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct ask *ask = arg;
	const char *error = ask->error;

	(void)fd;
	(void)what;
	MAGIC_CHECK(ask, ASK_MAGIC);
	loop_watch_begin(ask->survey->worker, LOOP_REDIS_REPLY);
	if (!error && !ask->counted && json_array_size(ask->answers) == 0)
		error = "redis does not answer";
	finish(ask, error);
}

/* True: somebody still waits for this ask. */
static bool redis_came_back(struct ask *ask)
{
	MAGIC_CHECK(ask, ASK_MAGIC);
	ask->owed--;
	if (!ask->timer) {
		if (ask->owed == 0)
			ask_free(ask);
		return false;
	}
	loop_watch_begin(ask->survey->worker, LOOP_REDIS_REPLY);
	return true;
}

static void on_question_sent(void *ctx, const struct redis_count_result *result)
{
	struct ask *ask = ctx;

	if (!redis_came_back(ask))
		return;
	ask->counted = true;
	ask->due = result->count;
	if (result->outcome.code != REDIS_RESULT_OK)
		finish(ask, result->outcome.error);
	else if (ask->due == 0)
		finish(ask, "nobody hears the control channel");
	else if (is_complete(ask))
		finish(ask, NULL);
}

/* Who is registered after the question was sent has to have answered it. */
static void on_workers(void *ctx, const struct redis_workers_result *result)
{
	struct ask *ask = ctx;
	const json_t *answer;
	size_t i;

	if (!redis_came_back(ask))
		return;
	if (result->outcome.code != REDIS_RESULT_OK) {
		finish(ask, result->outcome.error);
		return;
	}
	ask->missing = json_object();
	for (i = 0; i < result->n_workers; i++) {
		struct slice name = result->workers[i].name;

		if (json_object_setn_new(ask->missing, name.data, name.len, json_true()) < 0)
			log_warning("worker_name_bad name=%s", log_value(name));
	}
	json_array_foreach(ask->answers, i, answer)(void)
		json_object_del(ask->missing, json_string_value(json_object_get(answer, "worker")));
	if (is_complete(ask))
		finish(ask, NULL);
}

static void append_question(struct buffer *out, const struct ask *ask, struct json_t *args)
{
	const struct worker *w = ask->survey->worker;
	struct buffer reply = {0};
	char *text = args ? json_dumps(args, JSON_COMPACT) : NULL;

	redis_key_reply(&reply, slice_str(w->start.node), w->start.slot);
	buffer_printf(out, "{\"survey\":%" PRIu64 ",\"op\":\"%s\",\"args\":%s,\"reply\":", ask->id,
		      ask->op, text ? text : "{}");
	json_append_string(out, buffer_slice(&reply));
	buffer_append_str(out, "}");
	buffer_free(&reply);
	free(text);
}

/* One connection for both, so that the list of workers is newer than the question. */
static const char *send_question(struct ask *ask, struct json_t *args)
{
	struct redis_pool *pool = worker_control_pool(ask->survey->worker);
	struct buffer question = {0};
	bool fits;

	append_question(&question, ask, args);
	fits = question.len <= SURVEY_QUESTION_MAX;
	if (fits) {
		redis_control_publish(pool, ask->id, SLICE(REDIS_CONTROL_CHANNEL),
				      buffer_slice(&question), on_question_sent, ask);
		ask->owed++;
		if (ask->reach == SURVEY_EVERY_WORKER) {
			redis_workers_read(pool, ask->id, on_workers, ask);
			ask->owed++;
		}
	}
	buffer_free(&question);
	return fits ? NULL : "the question is too long";
}

static const char *refusal(const struct survey *survey)
{
	if (survey->count >= ASKS_MAX)
		return "too many surveys are under way";
	if (!redis_subscription_available(survey->worker->shards[0].subscription))
		return "the redis subscription connection is down";
	return NULL;
}

void survey_ask(struct survey *survey, const char *op, struct json_t *args, enum survey_reach reach,
		survey_callback callback, void *ctx)
{
	static const struct timeval at_once = {0, 0};
	struct ask *ask = xcalloc(1, sizeof(*ask));

	*ask = (struct ask){
		.magic = ASK_MAGIC,
		.survey = survey,
		.next = survey->asks,
		.id = ++survey->next_id,
		.op = op,
		.reach = reach,
		.callback = callback,
		.ctx = ctx,
		.answers = json_array(),
		.error = refusal(survey),
	};
	ask->timer = evtimer_new(survey->worker->base, on_deadline, ask);
	if (!ask->answers || !ask->timer)
		abort();
	survey->asks = ask;
	survey->count++;
	if (!ask->error)
		ask->error = send_question(ask, args);
	if (event_add(ask->timer, ask->error ? &at_once : &deadline) < 0)
		abort();
}

/* --- answering --- */

static void on_answer_sent(void *ctx, const struct redis_count_result *result)
{
	(void)ctx;
	if (result->outcome.code != REDIS_RESULT_OK)
		log_warning("survey_answer_lost reason=%s", log_value_str(result->outcome.error));
}

static bool is_reply_name(struct slice name)
{
	static const struct slice prefix = {REPLY_NAME_PREFIX, sizeof(REPLY_NAME_PREFIX) - 1};

	return name.len > prefix.len && name.len <= REPLY_NAME_MAX &&
	       slice_equal(slice_from(name.data, prefix.len), prefix);
}

static void on_question(struct survey *survey, const json_t *message)
{
	struct worker *w = survey->worker;
	const json_t *id = json_object_get(message, "survey");
	const char *op = json_string_value(json_object_get(message, "op"));
	const json_t *reply = json_object_get(message, "reply");
	struct slice name = slice_from(json_string_value(reply), json_string_length(reply));
	struct buffer answer = {0};

	if (!json_is_integer(id) || !op || !is_reply_name(name)) {
		log_warning("survey_question_bad");
		return;
	}
	buffer_printf(&answer,
		      "{\"answer\":%" JSON_INTEGER_FORMAT ",\"node\":", json_integer_value(id));
	json_append_string(&answer, slice_str(w->start.node));
	buffer_printf(&answer, ",\"slot\":%" PRIu32 ",\"worker\":", w->start.slot);
	json_append_string(&answer, slice_str(w->worker_name));
	buffer_append_str(&answer, ",\"result\":");
	/* A newer node's question: said at once, so that nobody waits for it. */
	if (!survey_answer(w, op, json_object_get(message, "args"), &answer))
		buffer_append_str(&answer, "null");
	buffer_append_str(&answer, "}");
	redis_control_publish(worker_control_pool(w), (uint64_t)json_integer_value(id), name,
			      buffer_slice(&answer), on_answer_sent, NULL);
	buffer_free(&answer);
}

static void on_answer(struct survey *survey, json_t *message)
{
	const json_t *id = json_object_get(message, "answer");
	struct ask *ask = survey->asks;

	if (!json_is_integer(id) || !json_is_string(json_object_get(message, "node")) ||
	    !json_is_integer(json_object_get(message, "slot")) ||
	    !json_is_string(json_object_get(message, "worker"))) {
		log_warning("survey_answer_bad");
		return;
	}
	while (ask && ask->id != (uint64_t)json_integer_value(id))
		ask = ask->next;
	/* Late ones are nobody's any more. */
	if (!ask || !ask->timer)
		return;
	if (json_array_append(ask->answers, message) < 0)
		abort();
	if (ask->missing)
		(void)json_object_del(ask->missing,
				      json_string_value(json_object_get(message, "worker")));
	if (is_complete(ask))
		finish(ask, NULL);
}

void survey_on_control(struct survey *survey, struct slice name, struct slice payload)
{
	bool question = slice_is(name, REDIS_CONTROL_CHANNEL);
	json_t *message;

	if (payload.len > (question ? SURVEY_QUESTION_MAX : ANSWER_MAX)) {
		log_warning("survey_message_too_long name=%s length=%zu", log_value(name),
			    payload.len);
		return;
	}
	message = json_loadb(payload.data, payload.len, JSON_ALLOW_NUL, NULL);
	if (!json_is_object(message))
		log_warning("survey_message_bad name=%s", log_value(name));
	else if (question)
		on_question(survey, message);
	else
		on_answer(survey, message);
	json_decref(message);
}

/* SPDX-License-Identifier: ISC */
/*
 * Surveys: a question put to every worker of every node over the Redis control
 * channel, and the answers collected. One mechanism for workers and nodes. How
 * many answers are due is what Redis says about who heard the question.
 */
#ifndef KEEPSOCK_WORKER_SURVEY_H
#define KEEPSOCK_WORKER_SURVEY_H

#include "worker/internal.h"

struct json_t;

struct survey *survey_create(struct worker *w);
/* Surveys under way are answered with an error first. */
void survey_free(struct survey *survey);

/*
 * Asks. `op` is one of survey_answers.h (static text), `args` a jansson object
 * or NULL (borrowed). The callback comes exactly once, from the loop or from
 * survey_free(): answers is a jansson array (borrowed) with one object
 * {"node", "slot", "result"} per worker, where result is null for a worker that
 * does not know the operation; complete = false when some did not answer within
 * the deadline (1 s), which is logged; error = text when Redis is away.
 */
typedef void (*survey_callback)(void *ctx, struct json_t *answers, bool complete,
				const char *error);
void survey_ask(struct survey *survey, const char *op, struct json_t *args,
		survey_callback callback, void *ctx);

/* A control message came in: a question to answer, or an answer to one of ours. */
void survey_on_control(struct survey *survey, struct slice name, struct slice payload);

#endif

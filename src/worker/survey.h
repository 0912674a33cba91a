/* SPDX-License-Identifier: ISC */
/*
 * Surveys: a question put to every worker of every node over the Redis control
 * channel, and the answers collected. One mechanism for workers and nodes. How
 * many answers are due is what Redis says about who heard the question; what
 * acts on everybody also needs the answer of each worker that is registered as
 * living, so that one whose connection to Redis just broke is not passed over.
 */
#ifndef KEEPSOCK_WORKER_SURVEY_H
#define KEEPSOCK_WORKER_SURVEY_H

#include "worker/internal.h"

struct json_t;

enum survey_reach {
	SURVEY_WHO_HEARS,    /* views: who is cut off has nothing to tell */
	SURVEY_EVERY_WORKER, /* commands: who is cut off still has clients */
};

struct survey *survey_create(struct worker *w);
/* Surveys under way are answered with an error first. */
void survey_free(struct survey *survey);

/*
 * Asks. `op` is one of survey_{answers,commands}.h (static text), `args` a jansson object
 * or NULL (borrowed). The callback comes exactly once, from the loop or from
 * survey_free(): answers is a jansson array (borrowed) with one object
 * {"node", "slot", "result"} per worker, where result is null for a worker that
 * does not know the operation; complete = false when some did not answer within
 * the deadline (1 s), which is logged; error = text when Redis is away, or the
 * question is longer than SURVEY_QUESTION_MAX.
 */
#define SURVEY_QUESTION_MAX (256u * 1024u)
typedef void (*survey_callback)(void *ctx, struct json_t *answers, bool complete,
				const char *error);
void survey_ask(struct survey *survey, const char *op, struct json_t *args, enum survey_reach reach,
		survey_callback callback, void *ctx);

/* A control message came in: a question to answer, or an answer to one of ours. */
void survey_on_control(struct survey *survey, struct slice name, struct slice payload);

#endif

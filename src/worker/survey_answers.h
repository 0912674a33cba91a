/* SPDX-License-Identifier: ISC */
/*
 * What this worker answers to surveys. One operation per row of the table in
 * survey_answers.c; the merging of answers is the asker's.
 *
 * channels  args {"pattern": text, "" = all}
 *           -> {"channels": {name: subscribers, …}, "last": name}
 *           In the order of their bytes, the first CHANNELS_MAX; "last" is there
 *           when there are more, and is the last one listed.
 * info      -> {"uid", "version", "uptime" (seconds), "num_clients", "num_subs",
 *           "users", "channels" (both as distinct_write() has it)}
 */
#ifndef KEEPSOCK_WORKER_SURVEY_ANSWERS_H
#define KEEPSOCK_WORKER_SURVEY_ANSWERS_H

#include <jansson.h>

#include "worker/internal.h"

#define SURVEY_CHANNELS_MAX 10000u

/* Appends the result, a JSON object. False, with out unchanged, for an unknown operation. */
bool survey_answer(struct worker *w, const char *op, const json_t *args, struct buffer *out);

#endif

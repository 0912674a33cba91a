/* SPDX-License-Identifier: ISC */
/*
 * What the admin commands that ask workers have in common: rows of several
 * workers made one list, and the refusal when nobody knew. Runs in the master.
 * Arrays are new ones and the caller's, unless said otherwise.
 */
#ifndef KEEPSOCK_MASTER_ADMIN_ANSWERS_H
#define KEEPSOCK_MASTER_ADMIN_ANSWERS_H

#include <jansson.h>

#include "keepsock/admin.h"
#include "keepsock/inquiry.h"

/* The worker did not answer in time. */
bool admin_is_silent(const struct inquiry_answer *answer);
/* The slots of those. */
json_t *admin_list_silent(const struct inquiry_answer *answers, size_t count);

/* All rows, each with its worker in front. */
json_t *admin_merge_rows(const struct inquiry_answer *answers, size_t count);
/* A new array with the rows by that key, then by worker. Takes rows over. */
json_t *admin_sort_rows(json_t *rows, const char *key);
json_int_t admin_sum_of(const json_t *rows, const char *key);

/* Answers with all rows in the order of a key, or with the first refusal if there are none. */
void admin_answer_rows_by(struct admin_request *request, const char *key,
			  const struct inquiry_answer *answers, size_t count);
/* For what only one worker can know: nobody did. */
void admin_answer_not_found(struct admin_request *request, const char *what,
			    const struct inquiry_answer *answers, size_t count);

/* Any ready worker will do; INQUIRY_ALL_WORKERS when there is none. */
uint32_t admin_find_ready(const struct master *master);

#endif

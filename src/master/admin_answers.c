/* SPDX-License-Identifier: ISC */
/*
 * Putting the workers' answers to an admin command together, see
 * admin_answers.h. Runs in the master.
 */
#include "master/admin_answers.h"

#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/master.h"
#include "keepsock/worker_slot.h"

bool admin_is_silent(const struct inquiry_answer *answer)
{
	return !answer->rows && !answer->error;
}

json_t *admin_list_silent(const struct inquiry_answer *answers, size_t count)
{
	json_t *list = json_array();

	for (size_t i = 0; i < count; i++) {
		if (admin_is_silent(&answers[i]))
			(void)json_array_append_new(list, json_integer(answers[i].slot));
	}
	return list;
}

/* All rows, each with its worker in front. */
json_t *admin_merge_rows(const struct inquiry_answer *answers, size_t count)
{
	json_t *merged = json_array();
	json_t *row;
	size_t j;

	for (size_t i = 0; i < count; i++) {
		json_array_foreach(answers[i].rows, j, row)
		{
			json_t *copy = json_pack("{s:i}", "worker", (int)answers[i].slot);

			(void)json_object_update(copy, row);
			(void)json_array_append_new(merged, copy);
		}
	}
	return merged;
}

/* Numbers by value, all else by text; what is missing comes first. */
static int compare_values(const json_t *a, const json_t *b)
{
	if (json_is_number(a) && json_is_number(b))
		return (json_number_value(a) > json_number_value(b)) -
		       (json_number_value(a) < json_number_value(b));
	if (json_is_string(a) && json_is_string(b))
		return strcmp(json_string_value(a), json_string_value(b));
	return json_is_string(a) - json_is_string(b);
}

static int compare_rows(const void *left, const void *right, void *key)
{
	json_t *const *a = left;
	json_t *const *b = right;
	int order = compare_values(json_object_get(*a, key), json_object_get(*b, key));

	return order ? order
		     : compare_values(json_object_get(*a, "worker"), json_object_get(*b, "worker"));
}

/* A new array with the rows by that key, then by worker. Takes rows over. */
json_t *admin_sort_rows(json_t *rows, const char *key)
{
	size_t count = json_array_size(rows);
	json_t **order = xcalloc(count + 1, sizeof(*order));
	json_t *sorted = json_array();

	for (size_t i = 0; i < count; i++)
		order[i] = json_array_get(rows, i);
	qsort_r(order, count, sizeof(*order), compare_rows, (void *)(uintptr_t)key);
	for (size_t i = 0; i < count; i++)
		(void)json_array_append(sorted, order[i]);
	free(order);
	json_decref(rows);
	return sorted;
}

/* The first refusal, NULL when no worker refused. */
static const char *find_error(const struct inquiry_answer *answers, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (answers[i].error)
			return answers[i].error;
	}
	return NULL;
}

/* For what only one worker can know: nobody did. */
void admin_answer_not_found(struct admin_request *request, const char *what,
			    const struct inquiry_answer *answers, size_t count)
{
	const char *error = find_error(answers, count);
	json_t *silent = admin_list_silent(answers, count);

	if (error)
		admin_answer_error(request, "%s", error);
	else if (json_array_size(silent) > 0)
		admin_answer_error(request, "%s, but %zu of %zu workers are not answering", what,
				   json_array_size(silent), count);
	else
		admin_answer_error(request, "%s", what);
	json_decref(silent);
}

void admin_answer_rows_by(struct admin_request *request, const char *key,
			  const struct inquiry_answer *answers, size_t count)
{
	json_t *rows = admin_merge_rows(answers, count);
	const char *error = find_error(answers, count);

	if (json_array_size(rows) == 0 && error) {
		json_decref(rows);
		admin_answer_error(request, "%s", error);
	} else {
		admin_answer_rows(request, admin_sort_rows(rows, key),
				  admin_list_silent(answers, count));
	}
}

json_int_t admin_sum_of(const json_t *rows, const char *key)
{
	json_int_t sum = 0;

	for (size_t i = 0; i < json_array_size(rows); i++)
		sum += json_integer_value(json_object_get(json_array_get(rows, i), key));
	return sum;
}

/* Any ready worker will do; INQUIRY_ALL_WORKERS when there is none. */
uint32_t admin_find_ready(const struct master *master)
{
	for (uint32_t i = 0; i < master->worker_count; i++) {
		if (master->workers[i].state == WORKER_READY)
			return i;
	}
	return INQUIRY_ALL_WORKERS;
}

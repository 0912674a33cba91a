/* SPDX-License-Identifier: ISC */
/*
 * Admin commands about users and the cluster. Runs in the master. Users and
 * their connections are this node's, put together from its workers; sessions and
 * nodes are what the registry in Redis has, which any worker can read.
 */
#include "keepsock/admin.h"
#include "keepsock/master.h"
#include "master/admin_answers.h"

/* ---- users ---- */

/* One row for each user, whichever workers have the connections. */
static void on_users(struct admin_request *request, const struct inquiry_answer *answers,
		     size_t count)
{
	json_t *sums = json_object(), *rows = json_array(), *row, *sum;
	const char *user;
	size_t i;

	for (size_t a = 0; a < count; a++) {
		json_array_foreach(answers[a].rows, i, row)
		{
			user = json_string_value(json_object_get(row, "user"));
			sum = json_integer(json_integer_value(json_object_get(sums, user)) +
					   json_integer_value(json_object_get(row, "connections")));
			(void)json_object_set_new(sums, user, sum);
		}
	}
	json_object_foreach(sums, user, sum)(void) json_array_append_new(
		rows, json_pack("{s:s, s:O}", "user", user, "connections", sum));
	json_decref(sums);
	admin_answer_rows(request, admin_sort_rows(rows, "user"),
			  admin_list_silent(answers, count));
}

void admin_on_show_users(struct admin_request *request)
{
	admin_ask_workers(request, "show users", NULL, INQUIRY_ALL_WORKERS, on_users);
}

static void on_user(struct admin_request *request, const struct inquiry_answer *answers,
		    size_t count)
{
	json_t *rows = admin_merge_rows(answers, count);

	if (json_array_size(rows) == 0) {
		json_decref(rows);
		admin_answer_not_found(request, "that user is not connected to this node", answers,
				       count);
		return;
	}
	admin_answer_rows(request, admin_sort_rows(rows, "id"), admin_list_silent(answers, count));
}

void admin_on_show_user(struct admin_request *request)
{
	const char *user = admin_request_call(request)->arguments[0];
	json_t *args = json_pack("{s:s}", "user", user);

	if (args)
		admin_ask_workers(request, "show user", args, INQUIRY_ALL_WORKERS, on_user);
	else
		admin_answer_error(request, "the name is not UTF-8");
}

/* ---- the registry ---- */

static void answer_registry(struct admin_request *request, const struct inquiry_answer *answers,
			    size_t count)
{
	if (count && answers[0].rows)
		admin_answer_rows(request, admin_sort_rows(json_incref(answers[0].rows), "node"),
				  NULL);
	else if (count && answers[0].error)
		admin_answer_error(request, "%s", answers[0].error);
	else
		admin_answer_error(request, "worker %u did not answer in time",
				   count ? answers[0].slot : 0);
}

static void ask_registry(struct admin_request *request, const char *command)
{
	uint32_t slot = admin_find_ready(admin_request_master(request));

	if (slot == INQUIRY_ALL_WORKERS)
		admin_answer_error(request, "no worker is ready");
	else
		admin_ask_workers(request, command, NULL, slot, answer_registry);
}

void admin_on_show_sessions(struct admin_request *request)
{
	ask_registry(request, "show sessions");
}

void admin_on_show_nodes(struct admin_request *request)
{
	ask_registry(request, "show nodes");
}

/* ---- unsubscribe ---- */

static bool any_row(const struct inquiry_answer *answers, size_t count, const char *key)
{
	for (size_t i = 0; i < count; i++)
		if (json_is_true(json_object_get(json_array_get(answers[i].rows, 0), key)))
			return true;
	return false;
}

static void on_unsubscribed(struct admin_request *request, const struct inquiry_answer *answers,
			    size_t count)
{
	if (!any_row(answers, count, "found"))
		admin_answer_not_found(request, "no client has that id", answers, count);
	else if (!any_row(answers, count, "unsubscribed"))
		admin_answer_error(request, "the client has no such subscription");
	else
		admin_answer_object(request, json_pack("{s:b}", "unsubscribed", 1));
}

void admin_on_unsubscribe(struct admin_request *request)
{
	const struct admin_call *call = admin_request_call(request);
	const char *channel = call->arguments[1] ? call->arguments[1] : "";
	json_t *args = json_pack("{s:s, s:s}", "client", call->arguments[0], "channel", channel);

	if (args)
		admin_ask_workers(request, "unsubscribe", args, INQUIRY_ALL_WORKERS,
				  on_unsubscribed);
	else
		admin_answer_error(request, "the channel's name is not UTF-8");
}

/* SPDX-License-Identifier: ISC */
/*
 * The API's channels and info: a survey of every worker of every node, and its
 * answers put together. Run by the worker. When some did not answer the result
 * tells what came; it never makes a number up for them.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/log.h"
#include "worker/distinct.h"
#include "worker/http_api.h"
#include "worker/survey.h"

#define PATTERN_MAX 1024u
/* Different names of one node that are counted exactly, if no worker has more than DISTINCT_LIMIT.
 */
#define NODE_DISTINCT_LIMIT (16u * DISTINCT_LIMIT)

/* True: there is something to answer with and somebody to answer. False: the call is over. */
static bool survey_goes_on(struct http_api_call *call, json_t *answers, const char *error)
{
	const struct redis_outcome outcome = {.code = REDIS_RESULT_OK, .error = ""};

	if (!error && json_array_size(answers) > 0)
		return http_api_call_goes_on(call, &outcome);
	log_warning("survey_failed api_method=%s reason=%s",
		    http_api_method_name(http_api_call_method(call)),
		    log_value_str(error ? error : "nobody answered"));
	http_api_call_fail(call, CLIENT_ERROR_INTERNAL);
	return false;
}

/* --- channels --- */

/* Up to which name all workers told all their channels; NULL: there is no end to it. */
static const char *common_last(const json_t *answers)
{
	const char *last = NULL;
	const json_t *answer;
	size_t i;

	json_array_foreach(answers, i, answer)
	{
		const char *name = json_string_value(
			json_object_get(json_object_get(answer, "result"), "last"));

		if (name && (!last || strcmp(name, last) < 0))
			last = name;
	}
	return last;
}

/* Sums of subscribers by channel. Those behind `last` are left out: their sums would be too low. */
static json_t *sum_channels(const json_t *answers, const char *last)
{
	json_t *sums = json_object();
	json_t *answer, *subscribers;
	const char *name;
	size_t i;

	if (!sums)
		abort();
	json_array_foreach(answers, i, answer)
	{
		json_t *channels = json_object_get(json_object_get(answer, "result"), "channels");

		json_object_foreach(channels, name, subscribers)
		{
			json_int_t sum = json_integer_value(json_object_get(sums, name));

			if (last && strcmp(name, last) > 0)
				continue;
			sum += json_integer_value(subscribers);
			if (json_object_set_new(sums, name, json_integer(sum)) < 0)
				abort();
		}
	}
	return sums;
}

static void on_channels(void *ctx, json_t *answers, bool complete, const char *error)
{
	struct http_api_call *call = ctx;
	const char *last, *name;
	struct buffer *out;
	json_t *sums, *sum;
	bool first = true;

	(void)complete;
	if (!survey_goes_on(call, answers, error))
		return;
	last = common_last(answers);
	sums = sum_channels(answers, last);
	out = http_api_result_begin(call);
	buffer_append_str(out, "{\"channels\":{");
	json_object_foreach(sums, name, sum)
	{
		if (!first)
			buffer_append_str(out, ",");
		first = false;
		json_append_string(out, slice_str(name));
		buffer_append_str(out, ":{\"num_clients\":");
		buffer_append_i64(out, json_integer_value(sum));
		buffer_append_str(out, "}");
	}
	buffer_append_str(out, last ? "},\"truncated\":true}" : "}}");
	json_decref(sums);
	http_api_result_end(call);
}

uint32_t http_api_channels(struct http_api_exchange *exchange,
			   const struct http_api_request *request)
{
	json_t *args;

	if (request->pattern.len > PATTERN_MAX)
		return CLIENT_ERROR_BAD_REQUEST;
	/* Names are printable ASCII: nothing else can match one. */
	for (size_t i = 0; i < request->pattern.len; i++)
		if (request->pattern.data[i] < 0x20 || request->pattern.data[i] > 0x7e)
			return CLIENT_ERROR_BAD_REQUEST;
	args = json_pack("{s:s%}", "pattern", request->pattern.len ? request->pattern.data : "",
			 request->pattern.len);
	if (!args)
		abort();
	survey_ask(exchange->base.worker->survey, "channels", args, SURVEY_WHO_HEARS, on_channels,
		   http_api_call_new(sizeof(struct http_api_call), exchange));
	json_decref(args);
	return 0;
}

/* --- info --- */

struct node_info {
	const char *name; /* these three in the answers */
	const char *uid;
	const char *version;
	uint64_t clients, subscriptions, uptime;
	struct distinct users, channels; /* owned */
};

struct node_list {
	struct node_info *nodes; /* owned */
	size_t count;
};

static struct node_info *find_node(struct node_list *list, const char *name)
{
	struct node_info *node;

	for (size_t i = 0; i < list->count; i++)
		if (strcmp(list->nodes[i].name, name) == 0)
			return &list->nodes[i];
	list->nodes = xrealloc(list->nodes, (list->count + 1) * sizeof(*list->nodes));
	node = &list->nodes[list->count++];
	*node = (struct node_info){.name = name, .uid = name, .version = ""};
	distinct_init(&node->users, NODE_DISTINCT_LIMIT);
	distinct_init(&node->channels, NODE_DISTINCT_LIMIT);
	return node;
}

static uint64_t number_of(const json_t *result, const char *name)
{
	json_int_t number = json_integer_value(json_object_get(result, name));

	return number > 0 ? (uint64_t)number : 0;
}

static void merge_distinct(struct distinct *into, const json_t *result, const char *name)
{
	const json_t *written = json_object_get(result, name);

	if (!distinct_merge(into,
			    slice_from(json_string_value(written), json_string_length(written))))
		log_warning("survey_answer_bad field=%s", name);
}

static void add_worker(struct node_list *list, const json_t *answer)
{
	const json_t *result = json_object_get(answer, "result");
	const char *uid = json_string_value(json_object_get(result, "uid"));
	const char *version = json_string_value(json_object_get(result, "version"));
	uint64_t uptime = number_of(result, "uptime");
	struct node_info *node;

	if (!json_is_object(result))
		return;
	node = find_node(list, json_string_value(json_object_get(answer, "node")));
	node->uid = uid ? uid : node->uid;
	node->version = version ? version : node->version;
	node->uptime = uptime > node->uptime ? uptime : node->uptime;
	node->clients += number_of(result, "num_clients");
	node->subscriptions += number_of(result, "num_subs");
	merge_distinct(&node->users, result, "users");
	merge_distinct(&node->channels, result, "channels");
}

static void append_node(struct buffer *out, struct node_info *node)
{
	buffer_append_str(out, "{\"uid\":");
	json_append_string(out, slice_str(node->uid));
	buffer_append_str(out, ",\"name\":");
	json_append_string(out, slice_str(node->name));
	buffer_append_str(out, ",\"version\":");
	json_append_string(out, slice_str(node->version));
	buffer_printf(out,
		      ",\"num_clients\":%" PRIu64 ",\"num_users\":%" PRIu64
		      ",\"num_channels\":%" PRIu64 ",\"num_subs\":%" PRIu64 ",\"uptime\":%" PRIu64
		      "}",
		      node->clients, distinct_count(&node->users), distinct_count(&node->channels),
		      node->subscriptions, node->uptime);
}

static int compare_nodes(const void *a, const void *b)
{
	const struct node_info *left = a, *right = b;

	return strcmp(left->name, right->name);
}

static void on_info(void *ctx, json_t *answers, bool complete, const char *error)
{
	struct http_api_call *call = ctx;
	struct node_list list = {0};
	struct buffer *out;
	json_t *answer;
	size_t index;

	(void)complete;
	if (!survey_goes_on(call, answers, error))
		return;
	json_array_foreach(answers, index, answer) add_worker(&list, answer);
	if (list.count > 0)
		qsort(list.nodes, list.count, sizeof(*list.nodes), compare_nodes);
	out = http_api_result_begin(call);
	buffer_append_str(out, "{\"nodes\":[");
	for (size_t i = 0; i < list.count; i++) {
		if (i > 0)
			buffer_append_str(out, ",");
		append_node(out, &list.nodes[i]);
		distinct_free(&list.nodes[i].users);
		distinct_free(&list.nodes[i].channels);
	}
	buffer_append_str(out, "]}");
	free(list.nodes);
	http_api_result_end(call);
}

uint32_t http_api_info(struct http_api_exchange *exchange, const struct http_api_request *request)
{
	(void)request;
	survey_ask(exchange->base.worker->survey, "info", NULL, SURVEY_WHO_HEARS, on_info,
		   http_api_call_new(sizeof(struct http_api_call), exchange));
	return 0;
}

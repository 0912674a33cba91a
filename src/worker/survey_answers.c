/* SPDX-License-Identifier: ISC */
/*
 * This worker's answers to surveys, see survey_answers.h. Run by the worker.
 * Views only read, and are bounded however many channels there are; what acts is
 * in survey_commands.c.
 */
#include "worker/survey_answers.h"

#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/glob.h"
#include "keepsock/json.h"
#include "keepsock/log.h"
#include "worker/distinct.h"
#include "worker/survey_commands.h"

#include "config.h"

/* --- channels --- */

struct listed_channel {
	struct slice name; /* in the arena */
	uint32_t subscribers;
};

/* The first SURVEY_CHANNELS_MAX names; up to twice as many while it is filled. */
struct channel_list {
	struct listed_channel *items; /* owned */
	size_t count, capacity;
	struct slice last; /* names behind it were left out; NULL: none were */
};

static int compare_names(struct slice a, struct slice b)
{
	int order = memcmp(a.data, b.data, a.len < b.len ? a.len : b.len);

	return order ? order : (a.len > b.len) - (a.len < b.len);
}

static int compare_listed(const void *a, const void *b)
{
	const struct listed_channel *left = a, *right = b;

	return compare_names(left->name, right->name);
}

static void list_settle(struct channel_list *list)
{
	if (list->count > 0)
		qsort(list->items, list->count, sizeof(*list->items), compare_listed);
	if (list->count > SURVEY_CHANNELS_MAX) {
		list->count = SURVEY_CHANNELS_MAX;
		list->last = list->items[list->count - 1].name;
	}
}

static void list_add(struct channel_list *list, struct slice name, uint32_t subscribers)
{
	if (list->last.data && compare_names(name, list->last) > 0)
		return;
	if (list->count == list->capacity) {
		list->capacity = list->capacity ? list->capacity * 2 : 64;
		list->items = xrealloc(list->items, list->capacity * sizeof(*list->items));
	}
	list->items[list->count++] = (struct listed_channel){name, subscribers};
	if (list->count >= SURVEY_CHANNELS_MAX * 2)
		list_settle(list);
}

static void answer_channels(struct worker *w, const json_t *args, struct buffer *out)
{
	const char *pattern = json_string_value(json_object_get(args, "pattern"));
	struct slice glob = slice_str(pattern ? pattern : "");
	struct channel_list list = {0};
	struct channel *channel = NULL;

	while ((channel = hub_next(&w->hub, channel))) {
		uint32_t subscribers = hub_subscribers(&w->hub, channel);
		struct slice name = hub_name(&w->hub, channel);

		if (subscribers > 0 && (glob.len == 0 || glob_match(glob, name)))
			list_add(&list, name, subscribers);
	}
	list_settle(&list);
	buffer_append_str(out, "{\"channels\":{");
	for (size_t i = 0; i < list.count; i++) {
		if (i > 0)
			buffer_append_str(out, ",");
		json_append_string(out, list.items[i].name);
		buffer_append_str(out, ":");
		buffer_append_u64(out, list.items[i].subscribers);
	}
	buffer_append_str(out, "}");
	if (list.last.data) {
		buffer_append_str(out, ",\"last\":");
		json_append_string(out, list.last);
	}
	buffer_append_str(out, "}");
	free(list.items);
}

/* --- info --- */

/* Counts connected clients and collects their users. */
static uint64_t count_clients(struct worker *w, struct distinct *users)
{
	uint64_t clients = 0;
	arena_ref ref = 0;

	while ((ref = arena_record_next(w->arena, ARENA_PASSPORT, ref))) {
		const struct passport *passport = arena_at(w->arena, ref);

		if (passport->magic != PASSPORT_MAGIC || passport->kind != PASSPORT_CLIENT ||
		    passport->state != PASSPORT_STATE_CONNECTED || connection_at(w, ref)->fd < 0)
			continue;
		clients++;
		distinct_add(users, passport_user(w->arena, passport));
	}
	return clients;
}

static void collect_channels(struct worker *w, struct distinct *channels)
{
	struct channel *channel = NULL;

	while ((channel = hub_next(&w->hub, channel)))
		if (hub_subscribers(&w->hub, channel) > 0)
			distinct_add(channels, hub_name(&w->hub, channel));
}

static void append_distinct(struct buffer *out, const char *name, struct distinct *distinct)
{
	buffer_append_str(out, name);
	distinct_write(distinct, out);
	buffer_append_str(out, "\"");
	distinct_free(distinct);
}

static void answer_info(struct worker *w, const json_t *args, struct buffer *out)
{
	struct distinct users, channels;

	(void)args;
	distinct_init(&users, DISTINCT_LIMIT);
	distinct_init(&channels, DISTINCT_LIMIT);
	collect_channels(w, &channels);
	/* Names of nodes are unique among those that share a Redis. */
	buffer_append_str(out, "{\"uid\":");
	json_append_string(out, slice_str(w->start.node));
	buffer_append_str(out, ",\"version\":\"" PACKAGE_VERSION "\",\"uptime\":");
	buffer_append_u64(out, (w->now_ms - w->started_ms) / 1000);
	buffer_append_str(out, ",\"num_clients\":");
	buffer_append_u64(out, count_clients(w, &users));
	buffer_append_str(out, ",\"num_subs\":");
	buffer_append_u64(out, w->hub.subscription_count);
	append_distinct(out, ",\"users\":\"", &users);
	append_distinct(out, ",\"channels\":\"", &channels);
	buffer_append_str(out, "}");
}

/* --- operations --- */

static const struct operation {
	const char *name;
	void (*answer)(struct worker *w, const json_t *args, struct buffer *out);
} operations[] = {
	{"channels", answer_channels},
	{"info", answer_info},
};

/* False: there is no such command, or it says nothing that could be done. */
static bool answer_command(struct worker *w, const char *op, const json_t *args, struct buffer *out)
{
	survey_command_fn *run = survey_command_find(op);
	unsigned connections = 0;

	if (!run)
		return false;
	if (!run(w, args, &connections)) {
		log_warning("survey_command_bad op=%s", log_value_str(op));
		return false;
	}
	log_info("survey_command op=%s connections=%u", op, connections);
	buffer_printf(out, "{\"connections\":%u}", connections);
	return true;
}

bool survey_answer(struct worker *w, const char *op, const json_t *args, struct buffer *out)
{
	for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++) {
		if (strcmp(op, operations[i].name) == 0) {
			operations[i].answer(w, args, out);
			return true;
		}
	}
	return answer_command(w, op, args, out);
}

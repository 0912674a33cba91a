/* SPDX-License-Identifier: ISC */
/*
 * What the admin socket shows of users, and of the cluster as the registry in
 * Redis has it: sessions and nodes. Run by the worker. It reads only.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/log.h"
#include "keepsock/redis_continuity.h"
#include "keepsock/redis_registry.h"
#include "worker/control.h"
#include "worker/shards.h"

/* Sessions are asked for on one connection, one piece after the other. */
#define AFFINITY 0u
/* Sessions of a whole cluster in one answer. */
#define SESSIONS_MAX 20000u

/* --- users --- */

static json_t *user_row(struct slice user, uint64_t connections)
{
	return json_pack("{s:o, s:I}", "user", control_text(user), "connections",
			 (json_int_t)connections);
}

json_t *control_show_users(struct worker *w, uint64_t id, json_t *args)
{
	json_t *rows = json_array();

	(void)id;
	(void)args;
	for (uint32_t i = 0; i < w->users.bucket_count; i++) {
		for (struct user *user = w->users.buckets[i];
		     user && json_array_size(rows) < CONTROL_ROWS_MAX; user = user->next)
			json_array_append_new(
				rows,
				user_row(passport_user(w->arena, connection_passport(user->first)),
					 user->count));
	}
	return control_rows(rows);
}

json_t *control_show_user(struct worker *w, uint64_t id, json_t *args)
{
	const char *name = json_string_value(json_object_get(args, "user"));
	const struct user *user = name ? users_find(&w->users, slice_str(name)) : NULL;
	json_t *rows = json_array();

	(void)id;
	for (struct connection *c = user ? user->first : NULL; c; c = users_next(&w->users, c))
		json_array_append_new(rows, control_connection_row(w, connection_passport(c)));
	return control_rows(rows);
}

/* --- names of workers --- */

/* Takes "<node>.<slot>.<incarnation>" apart; what is none of ours is shown as it stands. */
static json_t *name_row(const char *name)
{
	const char *incarnation = strrchr(name, '.');
	const char *slot = incarnation ? memrchr(name, '.', (size_t)(incarnation - name)) : NULL;

	if (!slot)
		return json_pack("{s:s, s:n}", "node", name, "worker");
	return json_pack("{s:s%, s:I}", "node", name, (size_t)(slot - name), "worker",
			 (json_int_t)strtol(slot + 1, NULL, 10));
}

/* --- nodes --- */

struct listing {
	struct worker *worker;
	uint64_t id;     /* of the request */
	json_t *workers; /* names of those whose sessions are still to be read; owned */
	uint64_t cursor; /* in those of the first one */
	json_t *found;   /* {client: row}; owned */
	char name[REDIS_WORKER_NAME_MAX + 1];
};

static struct listing *listing_new(struct worker *w, uint64_t id)
{
	struct listing *listing = xcalloc(1, sizeof(*listing));

	listing->worker = w;
	listing->id = id;
	return listing;
}

/* Answers, and ends it. Takes the answer over. */
static void listing_end(struct listing *listing, json_t *answer)
{
	control_reply(listing->worker, listing->id, answer);
	json_decref(listing->workers);
	json_decref(listing->found);
	free(listing);
}

/* True: Redis answered. False: it is over. */
static bool listing_goes_on(struct listing *listing, const struct redis_outcome *outcome)
{
	loop_watch_begin(listing->worker, LOOP_REDIS_REPLY);
	if (outcome->code == REDIS_RESULT_OK)
		return true;
	listing_end(listing, control_refusal(outcome->error));
	return false;
}

static void on_nodes(void *ctx, const struct redis_workers_result *result)
{
	struct listing *listing = ctx;
	json_t *rows;

	if (!listing_goes_on(listing, &result->outcome))
		return;
	rows = json_array();
	for (size_t i = 0; i < result->n_workers; i++) {
		const struct redis_worker_entry *entry = &result->workers[i];
		char *name = xstrndup(entry->name.data, entry->name.len);
		json_t *row = name_row(name);

		json_object_set_new(row, "name", control_text(entry->name));
		json_object_set_new(row, "silent_ms", json_integer((json_int_t)entry->silent_ms));
		json_object_set_new(row, "max_seen", json_integer((json_int_t)entry->max_seen));
		json_array_append_new(rows, row);
		free(name);
	}
	listing_end(listing, control_rows(rows));
}

json_t *control_show_nodes(struct worker *w, uint64_t id, json_t *args)
{
	(void)args;
	redis_workers_read(worker_control_pool(w), AFFINITY, on_nodes, listing_new(w, id));
	return NULL;
}

/* --- sessions --- */

static void read_sessions(struct listing *listing);

/* What stands in Redis may be of another version of keepsock. */
static void add_session(struct listing *listing, const struct redis_session *session)
{
	json_t *entry = json_loadb(session->json.data, session->json.len, JSON_ALLOW_NUL, NULL);
	const json_t *user = json_object_get(entry, "user");
	const json_t *subscriptions = json_object_get(entry, "subscriptions");
	json_t *row = name_row(listing->name);

	json_object_set_new(row, "client", control_text(session->client));
	json_object_set_new(
		row, "user",
		control_text(slice_from(json_string_value(user), json_string_length(user))));
	json_object_set(row, "peer", json_object_get(entry, "peer"));
	json_object_set(row, "connected_at", json_object_get(entry, "connected_at"));
	json_object_set_new(row, "subscriptions",
			    json_integer((json_int_t)json_object_size(subscriptions)));
	json_object_set(row, "positions", json_object_get(entry, "subscriptions"));
	/* Over a walk one may come twice. */
	(void)json_object_setn_new(listing->found, session->client.data, session->client.len, row);
	json_decref(entry);
}

static void sessions_end(struct listing *listing)
{
	json_t *rows = json_array(), *row;
	const char *client;

	json_object_foreach(listing->found, client, row) json_array_append(rows, row);
	if (json_array_size(rows) >= SESSIONS_MAX)
		log_warning("admin_answer_cut command=sessions rows=%zu", json_array_size(rows));
	listing_end(listing, control_rows(rows));
}

static void on_sessions(void *ctx, const struct redis_sessions_result *result)
{
	struct listing *listing = ctx;

	if (!listing_goes_on(listing, &result->outcome))
		return;
	for (size_t i = 0; i < result->n_sessions; i++)
		add_session(listing, &result->sessions[i]);
	listing->cursor = result->cursor;
	if (result->cursor == 0)
		json_array_remove(listing->workers, 0);
	if (json_array_size(listing->workers) > 0 &&
	    json_object_size(listing->found) < SESSIONS_MAX)
		read_sessions(listing);
	else
		sessions_end(listing);
}

static void read_sessions(struct listing *listing)
{
	const char *name = json_string_value(json_array_get(listing->workers, 0));

	snprintf(listing->name, sizeof(listing->name), "%s", name);
	redis_sessions_read(worker_control_pool(listing->worker), AFFINITY, slice_str(name),
			    listing->cursor, on_sessions, listing);
}

static void on_workers(void *ctx, const struct redis_workers_result *result)
{
	struct listing *listing = ctx;

	if (!listing_goes_on(listing, &result->outcome))
		return;
	for (size_t i = 0; i < result->n_workers; i++)
		json_array_append_new(listing->workers, control_text(result->workers[i].name));
	if (json_array_size(listing->workers) > 0)
		read_sessions(listing);
	else
		sessions_end(listing);
}

json_t *control_show_sessions(struct worker *w, uint64_t id, json_t *args)
{
	struct listing *listing = listing_new(w, id);

	(void)args;
	listing->workers = json_array();
	listing->found = json_object();
	redis_workers_read(worker_control_pool(w), AFFINITY, on_workers, listing);
	return NULL;
}

/* SPDX-License-Identifier: ISC */
/*
 * What each client command does, but for those with a file of their own (connect,
 * subscribe, unsubscribe, refresh). A handler either fills the open draft with its reply, or starts
 * a Redis call and waits, or names the code to disconnect with. Run by the worker.
 */
#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/channel_name.h"
#include "keepsock/channel_permission.h"
#include "keepsock/clock.h"
#include "keepsock/log.h"
#include "keepsock/random.h"
#include "keepsock/redis_scripts.h"
#include "worker/client_connect.h"
#include "worker/client_expiry.h"
#include "worker/client_subscribe.h"
#include "worker/internal.h"
#include "worker/loop_watch.h"
#include "worker/publish.h"
#include "worker/shards.h"

/* A command that waits for Redis. */
struct command_pending {
	struct pending base;
	struct client_command command; /* id and method only: the slices are gone by then */
	uint64_t since_offset;
	char since_epoch[REDIS_EPOCH_MAX];
	size_t since_epoch_length;
};

static struct command_pending *wait_for_redis(struct connection *c,
					      const struct client_command *command)
{
	struct command_pending *pending = xcalloc(1, sizeof(*pending));

	pending->base.worker = c->worker;
	pending->base.connection = c;
	pending->command.id = command->id;
	pending->command.method = command->method;
	c->pending = &pending->base;
	return pending;
}

struct connection *client_command_answered(struct pending *pending)
{
	struct connection *c = pending->connection;

	if (!c)
		return NULL;
	loop_watch_begin(c->worker, LOOP_REDIS_REPLY);
	loop_watch_subject(c->worker, WORK_WORD(WORK_SERVING_CONNECTION, c->passport));
	c->pending = NULL;
	client_session_announce(c);
	connection_draft(c);
	return c;
}

void client_command_resume(struct connection *c, struct pending *pending)
{
	free(pending);
	if (c && client_session_finish(c))
		client_session_continue(c);
}

/* True: the outcome is no success, and the error reply is appended. */
static bool failed(struct connection *c, const struct command_pending *pending,
		   const struct redis_outcome *outcome)
{
	if (outcome->code == REDIS_RESULT_OK)
		return false;
	if (outcome->code == REDIS_RESULT_ERROR)
		log_error("redis_command_failed method=%s error=%s",
			  client_method_name(pending->command.method),
			  log_value_str(outcome->error));
	client_session_append_error(c, &pending->command, CLIENT_ERROR_INTERNAL);
	return true;
}

static enum command_outcome refuse_with_error(struct connection *c,
					      const struct client_command *command, uint32_t code)
{
	client_session_append_error(c, command, code);
	return COMMAND_DONE;
}

/* The subscription in the connection's passport, NULL if there is none. */
static const struct subscription_record *subscription_to(struct connection *c, struct slice name)
{
	struct worker *w = c->worker;
	struct channel *channel = hub_find(&w->hub, name);
	arena_ref ref =
		channel ? hub_subscription_find(&w->hub, connection_passport(c), channel) : 0;

	return ref ? arena_at(w->arena, ref) : NULL;
}

static bool is_granted(struct connection *c, const struct client_command *command,
		       const struct channel_options *options, enum channel_right right)
{
	struct worker *w = c->worker;

	return channel_right_granted(&w->settings, options, right,
				     passport_user(w->arena, connection_passport(c)),
				     subscription_to(c, command->channel) != NULL);
}

/* --- publish --- */

static void on_published(void *ctx, const struct redis_publish_result *result)
{
	struct command_pending *pending = ctx;
	struct worker *w = pending->base.worker;
	struct connection *c = client_command_answered(&pending->base);
	struct client_reply reply = {.id = pending->command.id, .method = CLIENT_METHOD_PUBLISH};

	publish_count(w, result);
	if (c && !failed(c, pending, &result->outcome))
		client_session_append_reply(c, &reply);
	client_command_resume(c, &pending->base);
}

/* ClientInfo of the connection as the channel knows it, in w->payload. */
static struct slice own_info(struct connection *c, struct slice channel, struct slice client)
{
	struct worker *w = c->worker;
	const struct passport *now = &w->draft.now;

	buffer_reset(&w->payload);
	client_info_encode(&w->payload, passport_user(w->arena, now), client,
			   passport_info(w->arena, now),
			   subscription_info(w->arena, subscription_to(c, channel)));
	return buffer_slice(&w->payload);
}

static enum command_outcome command_publish(struct connection *c,
					    const struct client_command *command,
					    const struct channel_options *options)
{
	struct worker *w = c->worker;
	const struct passport *now = &w->draft.now;
	char id[37];
	struct publish_order order = {
		.channels = &command->channel,
		.n_channels = 1,
		.body.data = command->data,
		.client = connection_id(now, id),
		.number = now->command_number + 1,
	};

	if (command->type != 0)
		return refuse_with_error(c, command, CLIENT_ERROR_NOT_AVAILABLE);
	if (!is_granted(c, command, options, CHANNEL_RIGHT_PUBLISH))
		return refuse_with_error(c, command, CLIENT_ERROR_PERMISSION_DENIED);
	if (command->data.len == 0)
		return refuse_with_error(c, command, CLIENT_ERROR_BAD_REQUEST);
	order.body.info = own_info(c, command->channel, order.client);
	worker_remember(c, command->channel);
	publish_start(w, connection_affinity(now), &order, on_published,
		      wait_for_redis(c, command));
	return COMMAND_WAITS;
}

/* --- history --- */

struct publication *client_publications(const struct redis_publication *from, size_t count)
{
	struct publication *out = xcalloc(count ? count : 1, sizeof(*out));

	for (size_t i = 0; i < count; i++) {
		out[i] = (struct publication){
			.data = from[i].body.data,
			.info = from[i].body.info,
			.tags = from[i].body.tags,
			.offset = from[i].offset,
		};
	}
	return out;
}

static void on_history(void *ctx, const struct redis_history_result *result)
{
	struct command_pending *pending = ctx;
	struct connection *c = client_command_answered(&pending->base);
	struct client_reply reply = {.id = pending->command.id, .method = CLIENT_METHOD_HISTORY};
	struct slice since = slice_from(pending->since_epoch, pending->since_epoch_length);
	struct publication *publications = NULL;

	if (c && !failed(c, pending, &result->outcome)) {
		if (since.len > 0 && !slice_equal(since, result->epoch)) {
			client_session_append_error(c, &pending->command,
						    CLIENT_ERROR_UNRECOVERABLE_POSITION);
		} else {
			publications =
				client_publications(result->publications, result->n_publications);
			reply.history.publications = publications;
			reply.history.n_publications = result->n_publications;
			reply.history.epoch = result->epoch;
			reply.history.offset = result->top;
			client_session_append_reply(c, &reply);
		}
	}
	free(publications);
	client_command_resume(c, &pending->base);
}

static enum command_outcome command_history(struct connection *c,
					    const struct client_command *command,
					    const struct channel_options *options)
{
	struct worker *w = c->worker;
	int64_t max = options->history_max_publication_limit;
	char epoch[REDIS_EPOCH_LENGTH + 1];
	struct redis_history history = {
		.channel = command->channel,
		.epoch = epoch,
		.meta_ttl_ms = (uint64_t)options->history_meta_ttl,
		.limit = command->limit,
		.reverse = command->reverse,
		.has_since = command->has_since,
		.since_offset = command->since.offset,
		.since_epoch = command->since.epoch,
	};
	struct command_pending *pending;

	if (!channel_has_history(options))
		return refuse_with_error(c, command, CLIENT_ERROR_NOT_AVAILABLE);
	if (!is_granted(c, command, options, CHANNEL_RIGHT_HISTORY))
		return refuse_with_error(c, command, CLIENT_ERROR_PERMISSION_DENIED);
	if (command->since.epoch.len > REDIS_EPOCH_MAX)
		return refuse_with_error(c, command, CLIENT_ERROR_UNRECOVERABLE_POSITION);
	if (command->reverse && command->has_since && command->since.offset == 0)
		return refuse_with_error(c, command, CLIENT_ERROR_BAD_REQUEST);
	if (history.limit < 0 || history.limit > max)
		history.limit = max;
	redis_epoch_generate(epoch);
	pending = wait_for_redis(c, command);
	if (command->has_since && command->since.epoch.len > 0) {
		memcpy(pending->since_epoch, command->since.epoch.data, command->since.epoch.len);
		pending->since_epoch_length = command->since.epoch.len;
	}
	redis_history(worker_pool(w, command->channel), connection_affinity(&w->draft.now),
		      &history, on_history, pending);
	return COMMAND_WAITS;
}

/* --- presence --- */

static void on_presence(void *ctx, const struct redis_presence_result *result)
{
	struct command_pending *pending = ctx;
	struct connection *c = client_command_answered(&pending->base);
	struct client_reply reply = {.id = pending->command.id, .method = CLIENT_METHOD_PRESENCE};
	struct client_presence_entry *entries = NULL;

	if (c && !failed(c, pending, &result->outcome)) {
		entries = xcalloc(result->n_members + 1, sizeof(*entries));
		for (size_t i = 0; i < result->n_members; i++) {
			entries[i].client = result->members[i].client;
			entries[i].info = result->members[i].info;
		}
		reply.presence.entries = entries;
		reply.presence.n_entries = result->n_members;
		client_session_append_reply(c, &reply);
	}
	free(entries);
	client_command_resume(c, &pending->base);
}

static void on_presence_stats(void *ctx, const struct redis_presence_stats_result *result)
{
	struct command_pending *pending = ctx;
	struct connection *c = client_command_answered(&pending->base);
	struct client_reply reply = {.id = pending->command.id,
				     .method = CLIENT_METHOD_PRESENCE_STATS};

	if (c && !failed(c, pending, &result->outcome)) {
		reply.presence_stats.num_clients = (uint32_t)result->n_clients;
		reply.presence_stats.num_users = (uint32_t)result->n_users;
		client_session_append_reply(c, &reply);
	}
	client_command_resume(c, &pending->base);
}

static enum command_outcome command_presence(struct connection *c,
					     const struct client_command *command,
					     const struct channel_options *options)
{
	struct worker *w = c->worker;
	uint64_t affinity = connection_affinity(&w->draft.now);

	if (!options->presence)
		return refuse_with_error(c, command, CLIENT_ERROR_NOT_AVAILABLE);
	if (!is_granted(c, command, options, CHANNEL_RIGHT_PRESENCE))
		return refuse_with_error(c, command, CLIENT_ERROR_PERMISSION_DENIED);
	if (command->method == CLIENT_METHOD_PRESENCE)
		redis_presence_get(worker_pool(w, command->channel), affinity, command->channel,
				   clock_wall_ms(), on_presence, wait_for_redis(c, command));
	else
		redis_presence_stats(worker_pool(w, command->channel), affinity, command->channel,
				     clock_wall_ms(), on_presence_stats,
				     wait_for_redis(c, command));
	return COMMAND_WAITS;
}

/* --- the rest --- */

static enum command_outcome command_pong(struct connection *c)
{
	struct passport *now = &c->worker->draft.now;

	if (now->state != PASSPORT_STATE_CONNECTED || now->pong_deadline == 0)
		return COMMAND_REFUSED;
	now->pong_deadline = 0;
	return COMMAND_DONE;
}

/* Of the commands with a channel but subscribe, which has its own order. */
static enum command_outcome command_on_channel(struct connection *c,
					       const struct client_command *command)
{
	const struct channel_options *options;
	enum channel_verdict verdict =
		channel_check(&c->worker->settings, command->channel, &options);

	if (verdict != CHANNEL_OK && verdict != CHANNEL_PRIVATE)
		return refuse_with_error(c, command, channel_verdict_error(verdict));
	switch (command->method) {
	case CLIENT_METHOD_PUBLISH: return command_publish(c, command, options);
	case CLIENT_METHOD_HISTORY: return command_history(c, command, options);
	default: return command_presence(c, command, options);
	}
}

/* No procedure is configured, and no namespace of procedures. */
static enum command_outcome command_rpc(struct connection *c, const struct client_command *command)
{
	bool in_namespace = command->rpc_method.len > 0 &&
			    memchr(command->rpc_method.data, ':', command->rpc_method.len);

	return refuse_with_error(c, command,
				 in_namespace ? CLIENT_ERROR_METHOD_NOT_FOUND
					      : CLIENT_ERROR_NOT_AVAILABLE);
}

enum command_outcome client_command_execute(struct connection *c,
					    const struct client_command *command,
					    uint16_t *close_code)
{
	struct worker *w = c->worker;

	if (command->method == CLIENT_METHOD_CONNECT)
		return client_connect(c, command, close_code);
	if (w->draft.now.state != PASSPORT_STATE_CONNECTED)
		return COMMAND_REFUSED;
	switch (command->method) {
	case CLIENT_METHOD_PONG: return command_pong(c);
	case CLIENT_METHOD_SUBSCRIBE: return client_subscribe(c, command, close_code);
	case CLIENT_METHOD_UNSUBSCRIBE: return client_unsubscribe(c, command);
	case CLIENT_METHOD_PUBLISH:
	case CLIENT_METHOD_HISTORY:
	case CLIENT_METHOD_PRESENCE:
	case CLIENT_METHOD_PRESENCE_STATS: return command_on_channel(c, command);
	case CLIENT_METHOD_RPC: return command_rpc(c, command);
	case CLIENT_METHOD_SEND: *close_code = CLIENT_DISCONNECT_NOT_AVAILABLE; break;
	case CLIENT_METHOD_REFRESH: return client_refresh(c, command, close_code);
	case CLIENT_METHOD_SUB_REFRESH: return client_sub_refresh(c, command, close_code);
	default: break;
	}
	return COMMAND_REFUSED;
}

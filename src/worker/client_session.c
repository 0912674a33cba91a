/* SPDX-License-Identifier: ISC */
/*
 * A client's commands: one at a time, in order, each raw in the message queue
 * until one commit carries its reply, what it changed and the consumption
 * (DESIGN §3 rule 3). Run by the worker.
 */
#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/crash_points.h"
#include "keepsock/log.h"
#include "keepsock/redis_keys.h"
#include "keepsock/redis_scripts.h"
#include "keepsock/websocket.h"
#include "worker/compression.h"
#include "worker/fanout.h"
#include "worker/internal.h"
#include "worker/move.h"
#include "worker/sessions.h"
#include "worker/shards.h"
#include "worker/subscribing.h"

/* Decompressed messages that a worker keeps while their commands wait for Redis. */
#define UNPACKED_MAX ((size_t)8 << 20)

/* By passport->codec; what a passport says must stay true, so never renumber. */
static const struct message_codec *const codecs[] = {&json_codec};
_Static_assert(sizeof(codecs) / sizeof(codecs[0]) == PASSPORT_CODECS, "a passport names a codec");

const struct message_codec *client_session_codec(const struct passport *passport)
{
	return codecs[passport->codec];
}

/* --- replies --- */

void client_session_append_reply(struct connection *c, const struct client_reply *reply)
{
	struct worker *w = c->worker;

	buffer_reset(&w->payload);
	client_session_codec(&w->draft.now)->encode_reply(&w->payload, reply);
	connection_append_frame(c, WEBSOCKET_TEXT, buffer_slice(&w->payload));
	metric_add(METRIC_websocket_messages_sent_total, 1);
	if (reply->error.code)
		metric_add(METRIC_command_errors_total, 1);
	if (reply->error.code == CLIENT_ERROR_INTERNAL)
		c->failed_at = (uint32_t)w->now_ms;
}

void client_session_append_error(struct connection *c, const struct client_command *command,
				 uint32_t code)
{
	const struct client_reply reply = {
		.id = command->id,
		.method = command->method,
		.error = {.code = code},
	};

	client_session_append_reply(c, &reply);
}

void client_session_append_push(struct connection *c, const struct client_push *push)
{
	struct worker *w = c->worker;

	buffer_reset(&w->payload);
	client_session_codec(&w->draft.now)->encode_push(&w->payload, push);
	connection_append_frame(c, WEBSOCKET_TEXT, buffer_slice(&w->payload));
	metric_add(METRIC_websocket_messages_sent_total, 1);
}

/* --- one command after the other --- */

static void consume_command(struct connection *c)
{
	struct passport *now = &c->worker->draft.now;

	now->command_number++;
	if (!c->last_command) {
		now->command_index++;
		return;
	}
	now->command_index = 0;
	client_session_forget_message(c);
	queue_consume(&c->worker->draft, &now->messages,
		      sizeof(uint64_t) + MESSAGE_PADDED(c->message_length));
}

bool client_session_finish(struct connection *c)
{
	struct worker *w = c->worker;

	consume_command(c);
	arena_commit_add(&w->draft.commit, &w->arena->header->work.serving, 0);
	crash_point(CRASH_COMMAND_REPLY);
	return connection_commit(c);
}

void client_session_continue(struct connection *c)
{
	client_session_pump(c);
	if (c->fd >= 0 && connection_check_queue(c))
		connection_flush(c);
}

void client_session_announce(struct connection *c)
{
	connection_announce(c, connection_passport(c)->command_number + 1);
}

static bool needs_redis(enum client_method method)
{
	switch (method) {
	case CLIENT_METHOD_SUBSCRIBE:
	case CLIENT_METHOD_PUBLISH:
	case CLIENT_METHOD_HISTORY:
	case CLIENT_METHOD_PRESENCE:
	case CLIENT_METHOD_PRESENCE_STATS: return true;
	default: return false;
	}
}

/*
 * Has waited behind others for so long that, given its own time as well, the SDK (which waits for
 * 5 s, and then reconnects) would not see the answer: half of command_timeout while Redis fails
 * this client, else all of it.
 */
static bool is_overdue(const struct connection *c, uint64_t word)
{
	const struct worker *w = c->worker;
	uint64_t limit = (uint64_t)w->settings.redis.command_timeout;

	if (c->failed_at && (uint32_t)w->now_ms - c->failed_at < limit)
		limit /= 2;
	return MESSAGE_WAITED(word, w->now_ms) > limit;
}

static enum command_outcome refuse_for_now(struct connection *c,
					   const struct client_command *command)
{
	if (connection_passport(c)->state != PASSPORT_STATE_CONNECTED)
		return COMMAND_REFUSED;
	client_session_append_error(c, command, CLIENT_ERROR_INTERNAL);
	return COMMAND_DONE;
}

/* False: the next command has to wait, or there is nobody left to serve. */
static bool serve_command(struct connection *c, struct slice raw, bool overdue)
{
	struct worker *w = c->worker;
	struct client_command command;
	uint16_t close_code = CLIENT_DISCONNECT_BAD_REQUEST;

	if (client_session_codec(connection_passport(c))->decode(raw, &w->decode, &command) !=
	    CLIENT_DECODE_OK) {
		connection_disconnect(c, CLIENT_DISCONNECT_BAD_REQUEST, NULL);
		return false;
	}
	if (command.method != CLIENT_METHOD_PONG)
		metric_add(METRIC_commands_total, 1);
	/* What a connect that was interrupted between its commits left behind. */
	if (connection_passport(c)->state == PASSPORT_STATE_UNAUTHENTICATED)
		client_unsubscribe_all(c);
	client_session_announce(c);
	crash_poison("command", raw);
	connection_draft(c);
	switch (overdue && needs_redis(command.method)
			? refuse_for_now(c, &command)
			: client_command_execute(c, &command, &close_code)) {
	case COMMAND_DONE:
		if (!client_session_finish(c))
			return false;
		client_unsubscribe_settle(c);
		return c->fd >= 0 && connection_check_queue(c);
	case COMMAND_WAITS:
		passport_draft_drop(&w->draft);
		arena_store(&w->arena->header->work.serving, 0);
		crash_point(CRASH_COMMAND_SENT);
		return false;
	case COMMAND_REFUSED: break;
	}
	passport_draft_drop(&w->draft);
	arena_store(&w->arena->header->work.serving, 0);
	connection_disconnect(c, close_code, NULL);
	return false;
}

/* --- the message they come in --- */

struct unpacked_message {
	size_t length;
	char text[];
};

void client_session_forget_message(struct connection *c)
{
	if (!c->unpacked)
		return;
	c->worker->unpacked_kept -= c->unpacked->length;
	free(c->unpacked);
	c->unpacked = NULL;
}

/* Each of its commands that waits for Redis would have the message decompressed again. */
static void keep_message(struct connection *c, struct slice text)
{
	struct worker *w = c->worker;

	if (c->unpacked || text.len == 0 || w->unpacked_kept + text.len > UNPACKED_MAX)
		return;
	c->unpacked = xmalloc(sizeof(*c->unpacked) + text.len);
	c->unpacked->length = text.len;
	memcpy(c->unpacked->text, text.data, text.len);
	w->unpacked_kept += text.len;
}

/* The first message, decompressed. False: it can't be, the client is being disconnected. */
static bool message_text(struct connection *c, uint64_t word, struct slice *text)
{
	struct worker *w = c->worker;
	const struct stream_queue *messages = &connection_passport(c)->messages;
	size_t length = (size_t)MESSAGE_LENGTH(word);
	const char *reason;
	uint16_t code;

	if (c->unpacked) {
		*text = slice_from(c->unpacked->text, c->unpacked->length);
		return true;
	}
	buffer_reset(&w->message);
	buffer_reserve(&w->message, length + 1);
	queue_copy(w->arena, messages, messages->done + sizeof(word), length, w->message.data);
	*text = slice_from(w->message.data, length);
	if (!(word & MESSAGE_COMPRESSED))
		return true;
	code = compression_unpack(w, MESSAGE_OPCODE(word), *text, &w->unpacked, &reason);
	if (code) {
		connection_disconnect(c, code, reason);
		return false;
	}
	*text = buffer_slice(&w->unpacked);
	return true;
}

/* Serves the first message's commands. False: stop. */
static bool serve_message(struct connection *c, uint64_t word)
{
	const struct passport *passport = connection_passport(c);
	uint32_t skip = passport->command_index;
	const struct message_codec *codec = client_session_codec(passport);
	struct slice text, rest, raw, ahead, next;

	if (!message_text(c, word, &text))
		return false;
	rest = text;
	c->message_length = (uint32_t)MESSAGE_LENGTH(word);
	while (codec->next_command(&rest, &raw)) {
		if (skip > 0) {
			skip--;
			continue;
		}
		ahead = rest;
		c->last_command = !codec->next_command(&ahead, &next);
		if (!serve_command(c, raw, is_overdue(c, word))) {
			if (c->pending && !c->last_command && (word & MESSAGE_COMPRESSED))
				keep_message(c, text);
			return false;
		}
		if (c->last_command)
			return true;
	}
	/* A message always has a command, and its last one consumes it. */
	connection_disconnect(c, CLIENT_DISCONNECT_BAD_REQUEST, NULL);
	return false;
}

static bool accepts_commands(const struct passport *passport)
{
	return passport->state == PASSPORT_STATE_UNAUTHENTICATED ||
	       passport->state == PASSPORT_STATE_CONNECTED ||
	       passport->state == PASSPORT_STATE_UNUSABLE;
}

void client_session_pump(struct connection *c)
{
	struct worker *w = c->worker;
	const struct passport *passport = connection_passport(c);
	uint64_t limit = (uint64_t)w->settings.client.input_queue_max_size;

	while (c->fd >= 0 && !c->pending && !move_waits_for(c) && accepts_commands(passport) &&
	       queue_length(&passport->messages) >= sizeof(uint64_t)) {
		uint64_t word = *queue_word(w->arena, &passport->messages, passport->messages.done);

		if (!(word & MESSAGE_COMPLETE))
			break;
		if (!serve_message(c, word))
			break;
	}
	if (c->fd < 0 || !accepts_commands(passport))
		return;
	/* Too much waits, or the arena is short and anything waits: the peer has to wait as well.
	 */
	if (arena_bytes_used(w->arena) >= arena_bytes_cap(w->arena) / 10 * 8)
		limit = (uint64_t)w->settings.websocket.message_size_limit;
	connection_set_paused(c, (c->pending || move_waits_for(c)) &&
					 queue_length(&passport->messages) > limit);
	connection_arm(c);
}

/* --- pings --- */

void client_session_ping(struct connection *c)
{
	struct worker *w = c->worker;
	struct passport_draft *draft = connection_draft(c);
	uint64_t interval = (uint64_t)w->settings.client.ping_interval;

	if (draft->now.flags & PASSPORT_FRAME_PINGS) {
		connection_append_frame(c, WEBSOCKET_PING, SLICE(""));
	} else {
		buffer_reset(&w->payload);
		client_session_codec(&draft->now)->encode_ping(&w->payload);
		connection_append_frame(c, WEBSOCKET_TEXT, buffer_slice(&w->payload));
	}
	draft->now.ping_at += interval;
	if (draft->now.ping_at <= w->now_ms)
		draft->now.ping_at = w->now_ms + interval;
	draft->now.pong_deadline = w->now_ms + (uint64_t)w->settings.client.pong_timeout;
	if (!connection_commit(c))
		return;
	connection_arm(c);
	connection_flush(c);
}

/* --- the end --- */

static void on_forgotten(void *ctx, const struct redis_count_result *result)
{
	(void)ctx;
	if (result->outcome.code == REDIS_RESULT_ERROR)
		log_warning("redis_cleanup_failed error=%s", log_value_str(result->outcome.error));
}

static void forget_commands(struct connection *c)
{
	struct worker *w = c->worker;
	const struct passport *passport = connection_passport(c);
	char text[37];
	struct slice id = connection_id(passport, text);

	if (!c->remembered)
		return;
	buffer_reset(&w->scratch);
	redis_key_done(&w->scratch, slice_str(w->worker_name));
	for (unsigned i = 0; i < w->shard_count; i++) {
		if (c->remembered & (uint64_t)1 << i)
			redis_done_remove(w->shards[i].pool, connection_affinity(passport),
					  buffer_slice(&w->scratch), &id, 1, on_forgotten, NULL);
	}
	c->remembered = 0;
}

void client_session_leave(struct connection *c)
{
	struct worker *w = c->worker;

	sessions_gone(c);
	users_remove(&w->users, c);
	client_unsubscribe_moved(c);
	forget_commands(c);
}

void client_session_end(struct connection *c)
{
	if (c->pending) {
		c->pending->connection = NULL;
		c->pending = NULL;
	}
	subscribing_abandon(c);
	sessions_gone(c);
	users_remove(&c->worker->users, c);
	client_unsubscribe_all(c);
	forget_commands(c);
}

/* SPDX-License-Identifier: ISC */
/*
 * WebSocket frames of a connection: control frames and pongs act here, ahead of
 * waiting commands; echo answers here; everything else goes to the message queue
 * of the passport, to be served by client_session.c. What one read brought is
 * one commit (DESIGN §3 rule 3). Run by the worker.
 */
#include <string.h>

#include "keepsock/crash_points.h"
#include "keepsock/deflate.h"
#include "keepsock/log.h"
#include "keepsock/websocket.h"
#include "worker/compression.h"
#include "worker/internal.h"

/* No message of ours that compresses to more is a pong. */
#define PONG_PAYLOAD_MAX 16u
#define PONG_TEXT_MAX    3u

enum session_end { SESSION_GOES_ON, SESSION_ENDS };

struct session {
	struct connection *c;
	struct passport_draft *draft;
	struct websocket_reader reader;
	bool pong_error; /* a pong nobody asked for */
};

static bool is_pong_text(struct slice message)
{
	return message.len >= 2 && message.data[0] == '{' && message.data[1] == '}' &&
	       (message.len == 2 || (message.len == 3 && message.data[2] == '\n'));
}

static void on_pong(struct session *s)
{
	if (s->draft->now.pong_deadline == 0)
		s->pong_error = true;
	s->draft->now.pong_deadline = 0;
}

static void append_padding(struct session *s)
{
	static const uint8_t zeros[8];
	uint64_t end = queue_end(&s->draft->now.messages);

	queue_append(s->draft, &s->draft->now.messages, zeros, (size_t)(-end & 7));
}

static uint64_t message_word(const struct session *s, const struct websocket_piece *piece,
			     uint64_t length)
{
	return MESSAGE_WORD(piece->opcode, length) | MESSAGE_ARRIVED(s->c->worker->now_ms) |
	       (piece->compressed ? MESSAGE_COMPRESSED : 0);
}

static void queue_message(struct session *s, const struct websocket_piece *piece)
{
	uint64_t word = message_word(s, piece, piece->payload.len);

	queue_append(s->draft, &s->draft->now.messages, &word, sizeof(word));
	queue_append(s->draft, &s->draft->now.messages, piece->payload.data, piece->payload.len);
	append_padding(s);
}

static void append_close(struct session *s, uint16_t code, const char *reason)
{
	struct worker *w = s->c->worker;

	buffer_reset(&w->frame);
	websocket_append_close(&w->frame, code, reason);
	passport_draft_output(s->draft, w->frame.data, w->frame.len);
	s->draft->now.close_code = code;
}

static enum session_end fail_connection(struct session *s, uint16_t code, const char *reason)
{
	log_info("websocket_error code=%u reason=%s", (unsigned)code, log_value_str(reason));
	if (s->draft->now.state != PASSPORT_STATE_CLOSING) {
		append_close(s, code, reason);
		metric_add(METRIC_disconnects_total, 1);
	}
	connection_drain(s->c);
	return SESSION_ENDS;
}

/* The answer of /echo, from a message whose payload is `payload`. */
static enum session_end echo_message(struct session *s, const struct websocket_piece *piece,
				     struct slice payload)
{
	struct worker *w = s->c->worker;
	const char *reason;
	uint16_t code;

	if (piece->compressed) {
		code = compression_unpack(w, piece->opcode, payload, &w->unpacked, &reason);
		if (code)
			return fail_connection(s, code, reason);
		payload = buffer_slice(&w->unpacked);
	}
	connection_append_frame(s->c, piece->opcode, payload);
	return SESSION_GOES_ON;
}

/* Pongs act ahead of waiting messages; what can't be decompressed is judged when its turn comes. */
static bool is_pong(struct session *s, const struct websocket_piece *piece)
{
	struct worker *w = s->c->worker;

	if (s->draft->now.state != PASSPORT_STATE_CONNECTED)
		return false;
	if (!piece->compressed)
		return is_pong_text(piece->payload);
	buffer_reset(&w->unpacked);
	return piece->payload.len <= PONG_PAYLOAD_MAX && w->deflate &&
	       deflate_decompress(w->deflate, piece->payload, PONG_TEXT_MAX, &w->unpacked) ==
		       INFLATE_OK &&
	       is_pong_text(buffer_slice(&w->unpacked));
}

static enum session_end on_whole_message(struct session *s, const struct websocket_piece *piece)
{
	metric_add(METRIC_websocket_messages_received_total, 1);
	if (s->draft->now.state == PASSPORT_STATE_ECHO)
		return echo_message(s, piece, piece->payload);
	if (is_pong(s, piece))
		on_pong(s);
	else
		queue_message(s, piece);
	return SESSION_GOES_ON;
}

/* The last piece of a message whose beginning is in the queue. */
static enum session_end on_assembled_message(struct session *s, const struct websocket_piece *piece)
{
	struct worker *w = s->c->worker;
	struct stream_queue *queue = &s->draft->now.messages;
	uint64_t start = s->draft->now.partial_message;
	enum session_end end = SESSION_GOES_ON;
	size_t length;

	if (s->draft->failed)
		return SESSION_GOES_ON;
	length = (size_t)(queue_end(queue) - start - sizeof(uint64_t));
	metric_add(METRIC_websocket_messages_received_total, 1);
	if (s->draft->now.state == PASSPORT_STATE_ECHO) {
		buffer_reset(&w->message);
		buffer_reserve(&w->message, length + 1);
		queue_copy(w->arena, queue, start + sizeof(uint64_t), length, w->message.data);
		end = echo_message(s, piece, slice_from(w->message.data, length));
		queue_consume(s->draft, queue, UINT64_MAX);
		/* Entries start at multiples of 8. */
		queue->done = queue->end = (queue->done + 7) & ~(uint64_t)7;
	} else {
		uint64_t *word = queue_word(w->arena, queue, start);

		/* Only a word that an earlier commit reaches needs a place in this one; a peer may
		 * put any number of fragmented messages into one read. */
		if (start < queue_end(&s->draft->live->messages))
			arena_commit_add(&s->draft->commit, word, message_word(s, piece, length));
		else
			*word = message_word(s, piece, length);
		append_padding(s);
	}
	s->draft->now.partial_message = 0;
	return end;
}

static enum session_end on_data(struct session *s, const struct websocket_piece *piece)
{
	static const uint64_t incomplete;

	if (s->draft->now.state == PASSPORT_STATE_CLOSING)
		return SESSION_GOES_ON;
	if (piece->message_start && piece->message_complete)
		return on_whole_message(s, piece);
	if (piece->message_start) {
		s->draft->now.partial_message = queue_end(&s->draft->now.messages);
		queue_append(s->draft, &s->draft->now.messages, &incomplete, sizeof(incomplete));
	}
	queue_append(s->draft, &s->draft->now.messages, piece->payload.data, piece->payload.len);
	return piece->message_complete ? on_assembled_message(s, piece) : SESSION_GOES_ON;
}

static enum session_end on_control(struct session *s, const struct websocket_piece *piece)
{
	switch (piece->opcode) {
	case WEBSOCKET_PING:
		if (s->draft->now.state != PASSPORT_STATE_CLOSING)
			connection_append_frame(s->c, WEBSOCKET_PONG, piece->payload);
		return SESSION_GOES_ON;
	case WEBSOCKET_PONG:
		/* An unsolicited pong frame is allowed (RFC 6455 §5.5.3). */
		if (s->draft->now.flags & PASSPORT_FRAME_PINGS)
			s->draft->now.pong_deadline = 0;
		return SESSION_GOES_ON;
	default: break;
	}
	s->draft->now.flags |= PASSPORT_PEER_CLOSED;
	if (s->draft->now.state != PASSPORT_STATE_CLOSING)
		append_close(s, piece->close_code, NULL);
	connection_drain(s->c);
	return SESSION_ENDS;
}

static enum session_end on_piece(struct session *s, const struct websocket_piece *piece)
{
	crash_poison("frame", piece->payload);
	switch (piece->event) {
	case WEBSOCKET_DATA: return on_data(s, piece);
	case WEBSOCKET_CONTROL: return on_control(s, piece);
	case WEBSOCKET_ERROR: return fail_connection(s, piece->close_code, piece->reason);
	case WEBSOCKET_NEED_MORE: break;
	}
	return SESSION_GOES_ON;
}

/* What is left of this read goes to the input queue: at most a header or a control frame. */
static void keep_rest(struct session *s, const uint8_t *input, size_t kept, size_t length,
		      size_t used)
{
	struct stream_queue *in = &s->draft->now.in;
	uint64_t base = in->done;

	if (used == 0) {
		queue_append(s->draft, in, input + kept, length - kept);
		return;
	}
	queue_consume(s->draft, in, UINT64_MAX);
	in->done = in->end = base + used;
	queue_append(s->draft, in, input + used, length - used);
}

static void after_commit(struct connection *c, enum session_end end)
{
	const struct passport *passport = connection_passport(c);

	connection_arm(c);
	if (end == SESSION_ENDS) {
		client_session_end(c);
		if (c->fd >= 0)
			connection_flush(c);
		return;
	}
	if (queue_length(&passport->messages) > 0)
		client_session_pump(c);
	if (c->fd >= 0 && queue_length(&passport->out) > 0)
		connection_flush_soon(c);
	/* Echo has no other bound on what a peer may make us hold. */
	if (c->fd >= 0 && passport->state == PASSPORT_STATE_ECHO)
		connection_set_paused(c,
				      queue_length(&passport->out) >
					      (uint64_t)c->worker->settings.client.queue_max_size);
}

void websocket_session_process(struct connection *c, const uint8_t *input, size_t kept,
			       size_t length)
{
	struct worker *w = c->worker;
	const struct websocket_limits limits = {
		.message_size = (uint64_t)w->settings.websocket.message_size_limit,
		.deflate = (connection_passport(c)->flags & PASSPORT_DEFLATE) != 0,
	};
	struct session s = {.c = c, .draft = &w->draft};
	enum session_end end = SESSION_GOES_ON;
	struct websocket_piece piece;
	uint64_t base = s.draft->now.in.done;
	size_t used = 0;

	connection_announce(c, CONNECTION_INPUT(base));
	memcpy(&s.reader, &s.draft->now.reader, sizeof(s.reader));
	while (end == SESSION_GOES_ON && !s.pong_error) {
		if (websocket_read(&s.reader, &limits, input + used, length - used, w->unmasked,
				   &piece) == WEBSOCKET_NEED_MORE)
			break;
		used += piece.consumed;
		end = on_piece(&s, &piece);
	}
	memcpy(&s.draft->now.reader, &s.reader, sizeof(s.reader));
	if (end == SESSION_ENDS)
		s.draft->now.in.done = s.draft->now.in.end = base + length;
	else
		keep_rest(&s, input, kept, length, used);
	arena_commit_add(&s.draft->commit, &w->arena->header->work.syscall, 0);
	arena_commit_add(&s.draft->commit, &w->arena->header->work.serving, 0);
	if (!connection_commit(c))
		return;
	if (s.pong_error)
		connection_disconnect(c, CLIENT_DISCONNECT_BAD_REQUEST, NULL);
	else
		after_commit(c, end);
}

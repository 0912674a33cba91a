/* SPDX-License-Identifier: ISC */
/*
 * The fan-out loop, see fanout.h. Run by the worker. It never waits for a
 * subscriber: who has a backlog gets a copy in the own queue. At any moment
 * only the subscriber named by the cursor is in doubt.
 */
#include "worker/fanout.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "keepsock/alloc.h"
#include "keepsock/crash_points.h"
#include "keepsock/deflate.h"
#include "keepsock/log.h"
#include "keepsock/websocket.h"
#include "worker/compression.h"
#include "worker/loop_watch.h"
#include "worker/sealed_block.h"
#include "worker/stored_frame.h"

enum deflated_state {
	DEFLATED_UNKNOWN, /* nobody needed it so far */
	DEFLATED_READY,
	DEFLATED_NONE, /* not worth it, or no room: everybody gets the plain frame */
};

/* One message of the batch; starts are in the frame of their kind. */
struct served_message {
	uint64_t sequence;
	size_t start, length;
	size_t deflated_start;
};

struct fanout {
	struct worker *worker;
	struct channel *channel; /* NULL = no batch under way */
	const void *waiting;     /* whose turn is next, NULL = nobody asked */
	enum channel_message_kind kind;
	struct stored_frame plain, deflated;
	struct stored_frame sequences;   /* of several messages, for a successor */
	struct served_message *messages; /* owned */
	size_t message_count, message_capacity;
	uint32_t next, end; /* subscribers */
	uint64_t delivered, queued;
	uint64_t bytes_sent, deflated_served;

	enum deflated_state deflated_state;
	size_t packed_count;   /* messages that `packed` holds so far */
	size_t longest_packed; /* of those that were compressed */
	struct buffer packed;  /* the deflated frame being made */

	/* For TLS connections, of either frame. */
	struct sealed_block sealed_plain, sealed_deflated;
	struct buffer flat; /* a frame in one piece */
};

struct fanout *fanout_create(struct worker *w)
{
	struct fanout *fanout = xcalloc(1, sizeof(*fanout));

	fanout->worker = w;
	return fanout;
}

void fanout_free(struct fanout *fanout)
{
	if (!fanout)
		return;
	stored_frame_free(&fanout->plain);
	stored_frame_free(&fanout->deflated);
	stored_frame_free(&fanout->sequences);
	buffer_free(&fanout->packed);
	sealed_block_free(&fanout->sealed_plain);
	sealed_block_free(&fanout->sealed_deflated);
	buffer_free(&fanout->flat);
	free(fanout->messages);
	free(fanout);
}

bool fanout_trim(struct fanout *fanout, size_t kept)
{
	bool given = false;

	if (fanout->channel)
		return false;
	given |= buffer_trim(&fanout->packed, kept);
	given |= buffer_trim(&fanout->flat, kept);
	given |= sealed_block_trim(&fanout->sealed_plain);
	given |= sealed_block_trim(&fanout->sealed_deflated);
	return given;
}

bool fanout_serving(const struct fanout *fanout, const struct channel *channel)
{
	return fanout->channel == channel;
}

static void forget_messages(struct fanout *fanout)
{
	fanout->message_count = 0;
	fanout->deflated_state = DEFLATED_NONE;
	fanout->packed_count = fanout->longest_packed = 0;
	buffer_reset(&fanout->packed);
}

static void remember_message(struct fanout *fanout, uint64_t sequence, size_t start, size_t length)
{
	if (fanout->message_count == fanout->message_capacity) {
		fanout->message_capacity = fanout->message_capacity * 2 + 8;
		fanout->messages = xrealloc(fanout->messages,
					    fanout->message_capacity * sizeof(*fanout->messages));
	}
	fanout->messages[fanout->message_count++] =
		(struct served_message){.sequence = sequence, .start = start, .length = length};
	if (compression_worthwhile(fanout->worker, length))
		fanout->deflated_state = DEFLATED_UNKNOWN;
}

static void remember_messages(struct fanout *fanout, const struct fanout_batch *batch)
{
	forget_messages(fanout);
	for (size_t i = 0; i < batch->count; i++)
		remember_message(fanout, batch->messages[i].sequence, batch->messages[i].start,
				 batch->messages[i].length);
}

bool fanout_take_turn(struct fanout *fanout, const void *who)
{
	if (fanout->channel || (fanout->waiting && fanout->waiting != who)) {
		if (!fanout->waiting)
			fanout->waiting = who;
		return false;
	}
	fanout->waiting = NULL;
	return true;
}

/* Frame and sequences, in chunks that nobody reaches yet. False: the arena is full. */
static bool store_batch(struct fanout *fanout, const struct fanout_batch *batch)
{
	struct worker *w = fanout->worker;

	fanout->sequences.first = 0;
	if (!stored_frame_make(&fanout->plain, w->arena, batch->frames))
		return false;
	if (batch->count == 1)
		return true;
	buffer_reset(&w->scratch);
	for (size_t i = 0; i < batch->count; i++)
		buffer_append(&w->scratch, &batch->messages[i].sequence, sizeof(uint64_t));
	if (stored_frame_make(&fanout->sequences, w->arena, buffer_slice(&w->scratch)))
		return true;
	stored_frame_drop(&fanout->plain, w->arena);
	return false;
}

bool fanout_begin(struct fanout *fanout, const struct fanout_batch *batch)
{
	struct worker *w = fanout->worker;
	struct channel *channel = batch->channel;
	struct fanout_record *record = &w->arena->header->fanout;
	struct channel_record *channel_record = hub_record(&w->hub, channel);
	const struct fanout_message *last = &batch->messages[batch->count - 1];
	struct arena_commit commit;

	if (!store_batch(fanout, batch))
		return false;
	arena_commit_begin(&commit, w->arena);
	arena_commit_add(&commit, &record->batch, record->last_batch + 1);
	arena_commit_add(&commit, &record->last_batch, record->last_batch + 1);
	arena_commit_add(&commit, &record->channel, channel->ref);
	arena_commit_add(&commit, &record->frame, fanout->plain.first);
	arena_commit_add(&commit, &record->frame_length, batch->frames.len);
	arena_commit_add(&commit, &record->end, channel_record->count);
	arena_commit_add(&commit, &record->cursor, FANOUT_NONE);
	arena_commit_add(&commit, &record->first_sequence, batch->messages[0].sequence);
	arena_commit_add(&commit, &record->last_sequence, last->sequence);
	arena_commit_add(&commit, &record->last_offset, last->offset);
	arena_commit_add(&commit, &record->messages, batch->count);
	arena_commit_add(&commit, &record->sequences, fanout->sequences.first);
	arena_commit_add(&commit, &record->kind, batch->kind);
	arena_commit_add(&commit, &w->arena->header->work.serving,
			 WORK_WORD(WORK_SERVING_BATCH, channel->ref));
	arena_commit_add(&commit, &w->arena->header->work.serving_item, record->last_batch + 1);
	/* A new epoch is known from the first publication served under it. */
	if (channel_record->positioned)
		hub_position_set(&w->hub, &commit, channel, batch->epoch, channel_record->offset,
				 channel_record->last_sequence);
	arena_commit_apply(&commit);
	crash_point(CRASH_FANOUT_BEGIN);

	fanout->channel = channel;
	fanout->kind = batch->kind;
	fanout->next = 0;
	fanout->end = channel_record->count;
	fanout->delivered = fanout->queued = 0;
	fanout->bytes_sent = fanout->deflated_served = 0;
	remember_messages(fanout, batch);
	return true;
}

static uint64_t cursor_word(uint32_t index, uint64_t done)
{
	return (uint64_t)index << 32 | (uint32_t)done;
}

/* --- the compressed frame, made once a batch when the first who takes it is due --- */

static void deflated_ready(struct fanout *fanout)
{
	struct worker *w = fanout->worker;
	struct fanout_record *record = &w->arena->header->fanout;
	struct arena_commit commit;

	fanout->deflated_state = DEFLATED_NONE;
	if (fanout->longest_packed == 0 ||
	    !stored_frame_make(&fanout->deflated, w->arena, buffer_slice(&fanout->packed)))
		return;
	arena_commit_begin(&commit, w->arena);
	arena_commit_add(&commit, &record->deflated, fanout->deflated.first);
	arena_commit_add(&commit, &record->deflated_length, fanout->deflated.length);
	arena_commit_add(&commit, &record->deflated_window,
			 deflate_window_bits_for(fanout->longest_packed));
	arena_commit_apply(&commit);
	fanout->deflated_state = DEFLATED_READY;
	crash_point(CRASH_FANOUT_DEFLATED);
}

/* One message further; a long batch must not hold the loop up. */
static void deflate_next(struct fanout *fanout)
{
	struct worker *w = fanout->worker;
	struct served_message *message = &fanout->messages[fanout->packed_count++];
	struct websocket_server_frame frame;
	uint8_t header[10];

	buffer_reset(&w->scratch);
	stored_frame_copy(&fanout->plain, message->start, message->length, &w->scratch);
	message->deflated_start = fanout->packed.len;
	buffer_reset(&w->packed);
	if (websocket_parse_server_frame(buffer_slice(&w->scratch), &frame) == WEBSOCKET_DATA &&
	    compression_worthwhile(w, frame.payload.len) &&
	    compression_pack(w, frame.payload, &w->packed)) {
		buffer_append(&fanout->packed, header,
			      websocket_write_header(header, WEBSOCKET_COMPRESSED(frame.opcode),
						     w->packed.len));
		buffer_append_slice(&fanout->packed, buffer_slice(&w->packed));
		if (frame.payload.len > fanout->longest_packed)
			fanout->longest_packed = frame.payload.len;
	} else {
		buffer_append_slice(&fanout->packed, buffer_slice(&w->scratch));
	}
	if (fanout->packed_count == fanout->message_count)
		deflated_ready(fanout);
}

/* Which frame a subscriber gets; NULL: it has to be made first. */
static const struct stored_frame *frame_for(const struct fanout *fanout,
					    const struct passport *passport)
{
	if (fanout->deflated_state == DEFLATED_UNKNOWN && (passport->flags & PASSPORT_DEFLATE))
		return NULL;
	return passport_takes_deflated(&fanout->worker->arena->header->fanout, passport->flags)
		       ? &fanout->deflated
		       : &fanout->plain;
}

/* --- the queue path --- */

/* Ends the queue path: what the draft has more of output is committed with the cursor. */
static void queue_draft(struct fanout *fanout, struct connection *c, uint32_t index)
{
	struct worker *w = fanout->worker;
	struct passport_draft *draft = &w->draft;

	arena_commit_add(&draft->commit, &w->arena->header->fanout.cursor,
			 FANOUT_SETTLED | cursor_word(index, draft->now.out.done));
	if (!connection_commit(c))
		return;
	crash_point(CRASH_FANOUT_QUEUED);
	fanout->queued++;
	if (connection_check_queue(c) && !c->writing)
		connection_flush(c);
}

/*
 * The queue path: bytes [from, length) become the subscriber's own, in one
 * commit with the cursor and with what was sent of them already.
 */
static void queue_for(struct fanout *fanout, struct connection *c, uint32_t index,
		      const struct stored_frame *frame, size_t from, size_t sent)
{
	struct passport_draft *draft = connection_draft(c);

	draft->now.out.done += sent;
	stored_frame_queue(frame, draft, from);
	queue_draft(fanout, c, index);
}

static void store_cursor(struct fanout *fanout, uint32_t index, uint64_t done)
{
	atomic_store_explicit(&fanout->worker->arena->header->fanout.cursor,
			      cursor_word(index, done), memory_order_release);
	crash_point(CRASH_FANOUT_SEND);
}

/* Worth trying once more when the socket is ready; else the connection is gone. */
static bool is_backlog(int error)
{
	return error == EAGAIN || error == ENOBUFS || error == EINTR;
}

/* --- one subscriber by TLS --- */

/* The frame sealed for this subscriber and for those behind it that take it too. */
static void fill_block(struct fanout *fanout, struct sealed_block *block, uint32_t index,
		       const struct stored_frame *frame)
{
	struct worker *w = fanout->worker;

	sealed_block_reset(block);
	for (uint32_t place = index; place < fanout->end; place++) {
		struct subscriber entry = *hub_subscriber(&w->hub, fanout->channel, place);
		const struct passport *passport;
		const struct connection *c;

		if (!entry.passport)
			continue;
		c = connection_at(w, entry.passport);
		passport = connection_passport(c);
		if (!c->tls || c->fd < 0 || c->writing || queue_length(&passport->out) > 0 ||
		    passport->state != PASSPORT_STATE_CONNECTED ||
		    frame_for(fanout, passport) != frame)
			continue;
		if (!sealed_block_add(block, place, &passport_tls(w->arena, passport)->state))
			break;
	}
	sealed_block_seal(block, w->ciphers, stored_frame_slice(frame, &fanout->flat));
}

static struct slice sealed_for(struct fanout *fanout, uint32_t index,
			       const struct stored_frame *frame, const struct tls_state *state,
			       uint64_t *sequence)
{
	struct sealed_block *block =
		frame == &fanout->deflated ? &fanout->sealed_deflated : &fanout->sealed_plain;
	const struct slice *records = sealed_block_take(block, index, state, sequence);

	if (!records) {
		fill_block(fanout, block, index, frame);
		records = sealed_block_take(block, index, state, sequence);
	}
	return records ? *records : SLICE("");
}

/* A piece of the records was sent: the rest is the subscriber's own. */
static void queue_records(struct fanout *fanout, struct connection *c, uint32_t index,
			  struct slice records, size_t sent, uint64_t sequence)
{
	struct passport_draft *draft = connection_draft(c);

	draft->now.out.done += sent;
	passport_draft_tls(draft)->state.write.sequence = sequence;
	queue_append(draft, &draft->now.out, records.data + sent, records.len - sent);
	queue_draft(fanout, c, index);
}

/* The position and the sequence move together, or a successor could not tell which it sees. */
static void count_sealed(struct fanout *fanout, struct passport *passport, struct tls_state *state,
			 size_t length, uint64_t sequence)
{
	struct arena_commit commit;

	arena_commit_begin(&commit, fanout->worker->arena);
	arena_commit_add(&commit, &state->write.sequence, sequence);
	arena_commit_add(&commit, &passport->out.done, passport->out.done + length);
	arena_commit_apply(&commit);
	fanout->delivered++;
	fanout->bytes_sent += length;
}

static void serve_sealed(struct fanout *fanout, struct connection *c, uint32_t index,
			 const struct stored_frame *frame)
{
	struct passport *passport = connection_passport(c);
	struct tls_state *state = &passport_tls(fanout->worker->arena, passport)->state;
	uint64_t sequence = 0;
	struct slice records = sealed_for(fanout, index, frame, state, &sequence);
	ssize_t sent;

	/* A KeyUpdate is due. */
	if (records.len == 0) {
		queue_for(fanout, c, index, frame, 0, 0);
		return;
	}
	store_cursor(fanout, index, passport->out.done);
	sent = send(c->fd, records.data, records.len, MSG_DONTWAIT | MSG_NOSIGNAL);
	crash_point(CRASH_FANOUT_SENT);
	if (sent == (ssize_t)records.len)
		count_sealed(fanout, passport, state, records.len, sequence);
	else if (sent > 0)
		queue_records(fanout, c, index, records, (size_t)sent, sequence);
	else if (sent == 0 || is_backlog(errno))
		queue_for(fanout, c, index, frame, 0, 0);
	else
		connection_close(c, "write failed");
}

/* --- one subscriber --- */

static void serve(struct fanout *fanout, struct connection *c, uint32_t index,
		  const struct stored_frame *frame)
{
	struct passport *passport = connection_passport(c);
	uint64_t done = passport->out.done;
	ssize_t sent;

	fanout->deflated_served += frame == &fanout->deflated;
	if (queue_length(&passport->out) > 0 || c->writing) {
		queue_for(fanout, c, index, frame, 0, 0);
		return;
	}
	if (c->tls) {
		serve_sealed(fanout, c, index, frame);
		return;
	}
	store_cursor(fanout, index, done);
	sent = stored_frame_send(frame, c->fd);
	crash_point(CRASH_FANOUT_SENT);
	if (sent == (ssize_t)frame->length) {
		arena_store(&passport->out.done, done + frame->length);
		fanout->delivered++;
		fanout->bytes_sent += frame->length;
	} else if (sent >= 0) {
		queue_for(fanout, c, index, frame, (size_t)sent, (size_t)sent);
	} else if (is_backlog(errno)) {
		queue_for(fanout, c, index, frame, 0, 0);
	} else {
		connection_close(c, "write failed");
	}
}

/* Who subscribed in the middle of the batch gets only the messages after that. */
static void serve_late_subscriber(struct fanout *fanout, struct connection *c, uint32_t index,
				  const struct stored_frame *frame, uint64_t start_sequence)
{
	for (size_t i = 0; i < fanout->message_count; i++) {
		const struct served_message *message = &fanout->messages[i];

		if (hub_is_served(start_sequence, message->sequence)) {
			queue_for(fanout, c, index, frame,
				  frame == &fanout->plain ? message->start
							  : message->deflated_start,
				  0);
			return;
		}
	}
}

/* False: the compressed frame had to be worked on first, and the subscriber is still due. */
static bool serve_index(struct fanout *fanout, uint32_t index)
{
	struct worker *w = fanout->worker;
	struct subscriber entry = *hub_subscriber(&w->hub, fanout->channel, index);
	const struct subscription_record *subscription = NULL;
	const struct stored_frame *frame;
	struct connection *c;

	if (!entry.passport)
		return true;
	c = connection_at(w, entry.passport);
	if (c->fd < 0 || connection_passport(c)->state != PASSPORT_STATE_CONNECTED)
		return true;
	/* Most batches need nothing of the record, so that it is not touched. */
	if (fanout->kind != CHANNEL_MESSAGE_PUBLICATION || fanout->channel->lost ||
	    !hub_is_served(fanout->channel->max_start_sequence, fanout->messages[0].sequence))
		subscription = arena_at(w->arena, entry.subscription);
	if (subscription && (!channel_message_wanted(fanout->kind, subscription->flags) ||
			     (subscription->flags & SUBSCRIPTION_LOST)))
		return true;
	frame = frame_for(fanout, connection_passport(c));
	if (!frame) {
		deflate_next(fanout);
		return false;
	}
	if (subscription &&
	    !hub_is_served(subscription->start_sequence, fanout->messages[0].sequence))
		serve_late_subscriber(fanout, c, index, frame, subscription->start_sequence);
	else
		serve(fanout, c, index, frame);
	return true;
}

static void count(const struct fanout *fanout)
{
	uint64_t pushes = fanout->delivered + fanout->queued;

	if (fanout->kind == CHANNEL_MESSAGE_PUBLICATION)
		metric_add(METRIC_publications_delivered_total, fanout->message_count);
	metric_add(METRIC_websocket_messages_sent_total, fanout->message_count * pushes);
	metric_add(METRIC_bytes_sent_total, fanout->bytes_sent);
	metric_add(METRIC_pushes_queued_total, fanout->message_count * fanout->queued);
	metric_add(METRIC_deflate_saved_bytes_total,
		   fanout->deflated_served * (fanout->plain.length - fanout->deflated.length));
}

static void fanout_end(struct fanout *fanout)
{
	struct worker *w = fanout->worker;
	struct fanout_record *record = &w->arena->header->fanout;
	struct channel *channel = fanout->channel;
	struct channel_record *channel_record = hub_record(&w->hub, channel);
	struct arena_commit commit;

	crash_point(CRASH_FANOUT_END);
	arena_commit_begin(&commit, w->arena);
	/* A channel that was left meanwhile has no position to move. */
	if (channel_record->positioned)
		hub_position_set(&w->hub, &commit, channel, SLICE(""),
				 record->last_offset ? record->last_offset : channel_record->offset,
				 record->last_sequence);
	arena_commit_add(&commit, &record->batch, 0);
	arena_commit_add(&commit, &record->frame, 0);
	arena_commit_add(&commit, &record->deflated, 0);
	arena_commit_add(&commit, &record->sequences, 0);
	arena_commit_add(&commit, &record->last_sequence_served, record->last_sequence);
	arena_commit_add(&commit, &w->arena->header->work.serving, 0);
	arena_commit_apply(&commit);
	count(fanout);
	stored_frame_drop(&fanout->plain, w->arena);
	stored_frame_drop(&fanout->deflated, w->arena);
	stored_frame_drop(&fanout->sequences, w->arena);
	fanout->channel = NULL;
	channel->checked_at = w->now_ms;
	if (channel_record->tombstones)
		hub_compact(&w->hub, channel);
}

/* In units of a short send, some microseconds. */
static unsigned cost_of(const struct fanout *fanout)
{
	if (fanout->deflated_state == DEFLATED_UNKNOWN && fanout->packed_count > 0)
		return 2 + (unsigned)(fanout->messages[fanout->packed_count - 1].length / 256);
	return 1 + (unsigned)(fanout->plain.length / 4096);
}

bool fanout_run(struct fanout *fanout)
{
	struct worker *w = fanout->worker;
	struct work_slot *work = &w->arena->header->work;

	if (!fanout->channel)
		return true;
	/* What ran between two slices has put itself there and cleared it. */
	arena_store(&work->serving_item, w->arena->header->fanout.batch);
	arena_store(&work->serving, WORK_WORD(WORK_SERVING_BATCH, fanout->channel->ref));
	loop_watch_subject(w, WORK_WORD(WORK_SERVING_BATCH, fanout->channel->ref));
	for (int i = 0; i < fanout->plain.piece_count && fanout->next < fanout->end; i++)
		crash_poison("publication", slice_from(fanout->plain.pieces[i].iov_base,
						       fanout->plain.pieces[i].iov_len));
	/* Much may have happened since the last slice. */
	sealed_block_reset(&fanout->sealed_plain);
	sealed_block_reset(&fanout->sealed_deflated);
	while (fanout->next < fanout->end) {
		if (serve_index(fanout, fanout->next))
			fanout->next++;
		if (loop_slice_spent(w, cost_of(fanout)) && fanout->next < fanout->end)
			return false;
	}
	fanout_end(fanout);
	return true;
}

/* --- what a predecessor had begun --- */

/* The sequences of `count` messages, in w->scratch. False: the record does not say them. */
static bool stored_sequences(struct fanout *fanout, const struct fanout_record *record)
{
	struct worker *w = fanout->worker;

	buffer_reset(&w->scratch);
	stored_frame_adopt(&fanout->sequences, w->arena, (arena_ref)record->sequences);
	if (record->messages == 1)
		buffer_append(&w->scratch, &record->first_sequence, sizeof(uint64_t));
	else
		stored_frame_copy(&fanout->sequences, 0, fanout->sequences.length, &w->scratch);
	return record->messages > 0 && w->scratch.len == record->messages * sizeof(uint64_t);
}

/* Where each message begins, found by going from frame to frame. False: they are not as many as
 * the record says. */
static bool find_messages(struct fanout *fanout, const struct fanout_record *record)
{
	struct worker *w = fanout->worker;
	size_t start = 0, deflated_start = 0;

	forget_messages(fanout);
	buffer_reset(&w->frame);
	buffer_reset(&w->packed);
	stored_frame_copy(&fanout->plain, 0, fanout->plain.length, &w->frame);
	stored_frame_copy(&fanout->deflated, 0, fanout->deflated.length, &w->packed);
	for (uint64_t i = 0; i < record->messages; i++) {
		uint64_t length = websocket_frame_length(
			slice_from(w->frame.data + start, w->frame.len - start));
		uint64_t sequence;

		if (length == 0 || length > w->frame.len - start)
			return false;
		memcpy(&sequence, w->scratch.data + i * sizeof(sequence), sizeof(sequence));
		remember_message(fanout, sequence, start, (size_t)length);
		start += (size_t)length;
		if (!record->deflated)
			continue;
		fanout->messages[i].deflated_start = deflated_start;
		length = websocket_frame_length(slice_from(w->packed.data + deflated_start,
							   w->packed.len - deflated_start));
		if (length == 0 || length > w->packed.len - deflated_start)
			return false;
		deflated_start += (size_t)length;
	}
	if (record->deflated)
		fanout->deflated_state = DEFLATED_READY;
	return start == w->frame.len && deflated_start == w->packed.len;
}

struct channel *fanout_adopt(struct fanout *fanout, bool *whole)
{
	struct worker *w = fanout->worker;
	const struct fanout_record *record = &w->arena->header->fanout;
	uint64_t cursor = atomic_load(&record->cursor);

	if (!record->batch)
		return NULL;
	fanout->channel = hub_channel_at(&w->hub, (arena_ref)record->channel);
	fanout->kind = (enum channel_message_kind)record->kind;
	fanout->end = (uint32_t)record->end;
	fanout->next = cursor == FANOUT_NONE ? 0 : FANOUT_INDEX(cursor) + 1;
	fanout->delivered = fanout->queued = 0;
	fanout->bytes_sent = fanout->deflated_served = 0;
	stored_frame_adopt(&fanout->plain, w->arena, (arena_ref)record->frame);
	stored_frame_adopt(&fanout->deflated, w->arena, (arena_ref)record->deflated);
	*whole = stored_sequences(fanout, record) && find_messages(fanout, record);
	return fanout->channel;
}

void fanout_skip(struct fanout *fanout)
{
	fanout->next = fanout->end;
}

size_t fanout_frame_length(const struct worker *w, const struct passport *passport)
{
	const struct fanout_record *record = &w->arena->header->fanout;
	const struct passport_tls *tls = passport_tls(w->arena, passport);
	size_t length =
		(size_t)(passport_takes_deflated(record, passport->flags) ? record->deflated_length
									  : record->frame_length);

	return tls ? tls_record_sealed_length(&tls->state, length) : length;
}

/* What was sent was sealed with what the passport still says, so it comes out the same again. */
static void seal_again(struct worker *w, const struct stored_frame *frame, uint64_t sent)
{
	struct passport_draft *draft = &w->draft;
	struct tls_state *state = &passport_draft_tls(draft)->state;

	buffer_reset(&w->sealed);
	if (tls_record_seal(w->ciphers, state, stored_frame_slice(frame, &w->scratch),
			    &w->sealed) != TLS_SEALED ||
	    w->sealed.len < sent) {
		draft->failed = true;
		return;
	}
	queue_append(draft, &draft->now.out, w->sealed.data + sent, w->sealed.len - sent);
}

bool fanout_adopt_sent(struct worker *w, arena_ref passport, uint64_t sent)
{
	struct fanout_record *record = &w->arena->header->fanout;
	struct passport_draft *draft = &w->draft;
	struct stored_frame frame = {0};
	uint32_t index = FANOUT_INDEX(atomic_load(&record->cursor));
	bool ok;

	if (sent == 0) {
		/* As if the one before had been the last. */
		arena_store(&record->cursor,
			    index == 0 ? FANOUT_NONE : FANOUT_SETTLED | cursor_word(index - 1, 0));
		return true;
	}
	passport_draft_begin(draft, passport);
	stored_frame_adopt(&frame, w->arena,
			   (arena_ref)(passport_takes_deflated(record, draft->now.flags)
					       ? record->deflated
					       : record->frame));
	draft->now.out.done += sent;
	if (draft->now.tls)
		seal_again(w, &frame, sent);
	else
		stored_frame_queue(&frame, draft, (size_t)sent);
	arena_commit_add(&draft->commit, &record->cursor,
			 FANOUT_SETTLED | cursor_word(index, draft->now.out.done));
	ok = passport_draft_commit(draft);
	stored_frame_free(&frame);
	return ok;
}

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
#include <sys/uio.h>

#include "keepsock/alloc.h"
#include "keepsock/crash_points.h"
#include "keepsock/log.h"

struct fanout {
	struct worker *worker;
	struct channel *channel; /* NULL = no batch under way */
	const void *waiting;     /* whose turn is next, NULL = nobody asked */
	enum channel_message_kind kind;
	struct iovec *pieces; /* owned; the frame's chunks */
	int piece_count, piece_capacity;
	size_t length;
	struct fanout_message *messages; /* owned */
	size_t message_count, message_capacity;
	uint32_t next, end; /* subscribers */
	uint64_t delivered, queued;
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
	free(fanout->pieces);
	free(fanout->messages);
	free(fanout);
}

bool fanout_serving(const struct fanout *fanout, const struct channel *channel)
{
	return fanout->channel == channel;
}

static void free_chunks(struct arena *arena, arena_ref ref)
{
	while (ref) {
		arena_ref next = arena_chunk_at(arena, ref)->next;

		arena_chunk_free(arena, ref);
		ref = next;
	}
}

/* Copies the frame into chunks nobody reaches yet; the first one's ref, 0 when the arena is full.
 */
static arena_ref store_frame(struct fanout *fanout, struct slice frames)
{
	struct arena *arena = fanout->worker->arena;
	arena_ref first = 0, previous = 0;
	size_t done = 0;

	fanout->piece_count = 0;
	while (done < frames.len) {
		arena_ref ref = arena_chunk_alloc(arena, frames.len - done);
		struct arena_chunk *chunk;
		size_t take;

		if (!ref) {
			free_chunks(arena, first);
			return 0;
		}
		chunk = arena_chunk_at(arena, ref);
		take = arena_chunk_capacity(arena, ref);
		if (take > frames.len - done)
			take = frames.len - done;
		memcpy(chunk->data, frames.data + done, take);
		chunk->base = done;
		chunk->used = (uint32_t)take;
		if (previous)
			arena_chunk_at(arena, previous)->next = ref;
		else
			first = ref;
		previous = ref;
		done += take;
		if (fanout->piece_count == fanout->piece_capacity) {
			fanout->piece_capacity = fanout->piece_capacity * 2 + 4;
			fanout->pieces = xrealloc(fanout->pieces, (size_t)fanout->piece_capacity *
									  sizeof(*fanout->pieces));
		}
		fanout->pieces[fanout->piece_count++] = (struct iovec){chunk->data, take};
	}
	return first;
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

bool fanout_begin(struct fanout *fanout, const struct fanout_batch *batch)
{
	struct worker *w = fanout->worker;
	struct channel *channel = batch->channel;
	struct fanout_record *record = &w->arena->header->fanout;
	struct channel_record *channel_record = hub_record(&w->hub, channel);
	const struct fanout_message *last = &batch->messages[batch->count - 1];
	struct arena_commit commit;
	arena_ref frame = store_frame(fanout, batch->frames);

	if (!frame)
		return false;
	arena_commit_begin(&commit, w->arena);
	arena_commit_add(&commit, &record->batch, record->last_batch + 1);
	arena_commit_add(&commit, &record->last_batch, record->last_batch + 1);
	arena_commit_add(&commit, &record->channel, channel->ref);
	arena_commit_add(&commit, &record->frame, frame);
	arena_commit_add(&commit, &record->frame_length, batch->frames.len);
	arena_commit_add(&commit, &record->end, channel_record->count);
	arena_commit_add(&commit, &record->cursor, FANOUT_NONE);
	arena_commit_add(&commit, &record->first_sequence, batch->messages[0].sequence);
	arena_commit_add(&commit, &record->last_sequence, last->sequence);
	arena_commit_add(&commit, &record->last_offset, last->offset);
	arena_commit_add(&commit, &record->messages, batch->count);
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
	fanout->length = batch->frames.len;
	fanout->next = 0;
	fanout->end = channel_record->count;
	fanout->delivered = fanout->queued = 0;
	if (batch->count > fanout->message_capacity) {
		fanout->message_capacity = batch->count;
		fanout->messages =
			xrealloc(fanout->messages, batch->count * sizeof(*fanout->messages));
	}
	memcpy(fanout->messages, batch->messages, batch->count * sizeof(*fanout->messages));
	fanout->message_count = batch->count;
	return true;
}

static uint64_t cursor_word(uint32_t index, uint64_t done)
{
	return (uint64_t)index << 32 | (uint32_t)done;
}

/* Appends bytes [from, length) of the frame to the open draft. */
static void append_rest(struct fanout *fanout, struct passport_draft *draft, size_t from)
{
	for (int i = 0; i < fanout->piece_count; i++) {
		const struct iovec *piece = &fanout->pieces[i];

		if (from >= piece->iov_len) {
			from -= piece->iov_len;
			continue;
		}
		queue_append(draft, &draft->now.out, (const uint8_t *)piece->iov_base + from,
			     piece->iov_len - from);
		from = 0;
	}
}

/*
 * The queue path: bytes [from, length) become the subscriber's own, in one
 * commit with the cursor and with what was sent of them already.
 */
static void queue_for(struct fanout *fanout, struct connection *c, uint32_t index, size_t from,
		      size_t sent)
{
	struct worker *w = fanout->worker;
	struct passport_draft *draft = connection_draft(c);

	draft->now.out.done += sent;
	append_rest(fanout, draft, from);
	arena_commit_add(&draft->commit, &w->arena->header->fanout.cursor,
			 FANOUT_SETTLED | cursor_word(index, draft->now.out.done));
	if (!connection_commit(c))
		return;
	crash_point(CRASH_FANOUT_QUEUED);
	fanout->queued++;
	if (connection_check_queue(c) && !c->writing)
		connection_flush(c);
}

static ssize_t send_frame(const struct fanout *fanout, int fd)
{
	struct msghdr message = {.msg_iov = fanout->pieces,
				 .msg_iovlen = (size_t)fanout->piece_count};

	if (fanout->piece_count == 1)
		return send(fd, fanout->pieces[0].iov_base, fanout->length,
			    MSG_DONTWAIT | MSG_NOSIGNAL);
	return sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void serve(struct fanout *fanout, struct connection *c, uint32_t index)
{
	struct worker *w = fanout->worker;
	struct passport *passport = connection_passport(c);
	uint64_t done = passport->out.done;
	ssize_t sent;

	if (queue_length(&passport->out) > 0 || c->writing) {
		queue_for(fanout, c, index, 0, 0);
		return;
	}
	atomic_store_explicit(&w->arena->header->fanout.cursor, cursor_word(index, done),
			      memory_order_release);
	crash_point(CRASH_FANOUT_SEND);
	sent = send_frame(fanout, c->fd);
	crash_point(CRASH_FANOUT_SENT);
	if (sent == (ssize_t)fanout->length) {
		arena_store(&passport->out.done, done + fanout->length);
		fanout->delivered++;
	} else if (sent >= 0) {
		queue_for(fanout, c, index, (size_t)sent, (size_t)sent);
	} else if (errno == EAGAIN || errno == ENOBUFS || errno == EINTR) {
		queue_for(fanout, c, index, 0, 0);
	} else {
		connection_close(c, "write failed");
	}
}

/* Who subscribed in the middle of the batch gets only the messages after that. */
static void serve_late_subscriber(struct fanout *fanout, struct connection *c, uint32_t index,
				  uint64_t start_sequence)
{
	for (size_t i = 0; i < fanout->message_count; i++) {
		if (hub_is_served(start_sequence, fanout->messages[i].sequence)) {
			queue_for(fanout, c, index, fanout->messages[i].start, 0);
			return;
		}
	}
}

static void serve_index(struct fanout *fanout, uint32_t index)
{
	struct worker *w = fanout->worker;
	struct subscriber entry = *hub_subscriber(&w->hub, fanout->channel, index);
	struct connection *c;

	if (!entry.passport)
		return;
	c = connection_at(w, entry.passport);
	if (c->fd < 0 || connection_passport(c)->state != PASSPORT_STATE_CONNECTED)
		return;
	/* Most batches need nothing of the record, so that it is not touched. */
	if (fanout->kind != CHANNEL_MESSAGE_PUBLICATION ||
	    !hub_is_served(fanout->channel->max_start_sequence, fanout->messages[0].sequence)) {
		const struct subscription_record *subscription =
			arena_at(w->arena, entry.subscription);

		if (!channel_message_wanted(fanout->kind, subscription->flags))
			return;
		if (!hub_is_served(subscription->start_sequence, fanout->messages[0].sequence)) {
			serve_late_subscriber(fanout, c, index, subscription->start_sequence);
			return;
		}
	}
	serve(fanout, c, index);
}

static void fanout_end(struct fanout *fanout)
{
	struct worker *w = fanout->worker;
	struct fanout_record *record = &w->arena->header->fanout;
	struct channel *channel = fanout->channel;
	struct channel_record *channel_record = hub_record(&w->hub, channel);
	arena_ref frame = (arena_ref)record->frame;
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
	arena_commit_add(&commit, &record->last_sequence_served, record->last_sequence);
	arena_commit_add(&commit, &w->arena->header->work.serving, 0);
	arena_commit_apply(&commit);
	free_chunks(w->arena, frame);
	fanout->channel = NULL;
	channel->checked_at = w->now_ms;
	if (channel_record->tombstones)
		hub_compact(&w->hub, channel);
	if (fanout->kind == CHANNEL_MESSAGE_PUBLICATION)
		metric_add(METRIC_publications_delivered_total, fanout->message_count);
	metric_add(METRIC_websocket_messages_sent_total,
		   fanout->message_count * (fanout->delivered + fanout->queued));
	metric_add(METRIC_bytes_sent_total, fanout->length * fanout->delivered);
	metric_add(METRIC_pushes_queued_total, fanout->message_count * fanout->queued);
}

bool fanout_run(struct fanout *fanout, unsigned *budget)
{
	struct work_slot *work = &fanout->worker->arena->header->work;

	if (!fanout->channel)
		return true;
	/* What ran between two slices has put itself there and cleared it. */
	arena_store(&work->serving_item, fanout->worker->arena->header->fanout.batch);
	arena_store(&work->serving, WORK_WORD(WORK_SERVING_BATCH, fanout->channel->ref));
	while (fanout->next < fanout->end) {
		if (*budget == 0)
			return false;
		--*budget;
		serve_index(fanout, fanout->next++);
	}
	fanout_end(fanout);
	return true;
}

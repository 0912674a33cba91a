/* SPDX-License-Identifier: ISC */
/*
 * Groups of messages and their fan-outs, see delivery.h. Run by the worker.
 * A message that does not follow on the channel's position is never passed over
 * in silence: positioned subscribers are told (2500).
 */
#include "worker/delivery.h"

#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/clock.h"
#include "keepsock/log.h"
#include "keepsock/websocket.h"
#include "worker/fanout.h"
#include "worker/loop_watch.h"
#include "worker/lost_subscribers.h"
#include "worker/redis_subscription.h"
#include "worker/shards.h"
#include "worker/subscribing.h"

/* Collected before a fan-out starts. */
#define DELIVERY_BYTES_MAX (1024u * 1024u)
/* Held for subscribers in preparation, per channel. */
#define HELD_BYTES_MAX (4u * 1024u * 1024u)
/*
 * What is kept of groups for reuse. Any of them may once have the longest message there is, so
 * without a limit each that was ever needed at a time would come to keep room for that.
 */
#define GROUPS_KEPT         64u
#define GROUP_BYTES_KEPT    4096u
#define GROUP_MESSAGES_KEPT 32u
#define PUSH_BYTES_KEPT     65536u

/* Messages of one kind for one channel; one fan-out. */
struct group {
	struct channel *channel;
	enum channel_message_kind kind;
	struct buffer frames;            /* owned */
	struct fanout_message *messages; /* owned */
	size_t count, capacity;
	uint64_t offset; /* where the channel stands once this group is served */
	char epoch[CHANNEL_EPOCH_MAX];
	size_t epoch_length;
};

struct delivery {
	struct redis_shard *shard;
	struct worker *worker;
	struct group *groups; /* owned; some memory is kept for reuse */
	size_t count, capacity;
	size_t next;             /* the group whose fan-out is next or under way */
	bool under_way;          /* a fan-out of groups[next] has begun */
	struct channel *adopted; /* of an adopted fan-out, to catch up once that has ended */
	size_t bytes;            /* collected */
	struct buffer push;
};

struct delivery *delivery_create(struct redis_shard *shard)
{
	struct delivery *delivery = xcalloc(1, sizeof(*delivery));

	delivery->shard = shard;
	delivery->worker = shard->worker;
	return delivery;
}

static void free_groups(struct delivery *delivery, size_t from)
{
	for (size_t i = from; i < delivery->capacity; i++) {
		buffer_free(&delivery->groups[i].frames);
		free(delivery->groups[i].messages);
	}
}

void delivery_free(struct delivery *delivery)
{
	if (!delivery)
		return;
	free_groups(delivery, 0);
	free(delivery->groups);
	buffer_free(&delivery->push);
	free(delivery);
}

bool delivery_pending(const struct delivery *delivery)
{
	return delivery->next < delivery->count;
}

bool delivery_full(const struct delivery *delivery)
{
	return delivery->bytes >= DELIVERY_BYTES_MAX;
}

/* The group that ends where the channel will stand, NULL: its record says so. */
static const struct group *last_group(const struct delivery *delivery,
				      const struct channel *channel)
{
	return channel->group ? &delivery->groups[channel->group - 1] : NULL;
}

static struct group *group_new(struct delivery *delivery, struct channel *channel,
			       enum channel_message_kind kind)
{
	const struct channel_record *record = hub_record(&delivery->worker->hub, channel);
	const struct group *previous;
	struct group *group;

	if (delivery->count == delivery->capacity) {
		size_t capacity = delivery->capacity ? delivery->capacity * 2 : 16;

		delivery->groups = xrealloc(delivery->groups, capacity * sizeof(*group));
		memset(delivery->groups + delivery->capacity, 0,
		       (capacity - delivery->capacity) * sizeof(*group));
		delivery->capacity = capacity;
	}
	group = &delivery->groups[delivery->count++];
	previous = last_group(delivery, channel);
	group->channel = channel;
	group->kind = kind;
	group->count = 0;
	group->offset = previous ? previous->offset : record->offset;
	group->epoch_length = previous ? previous->epoch_length : 0;
	if (previous)
		memcpy(group->epoch, previous->epoch, previous->epoch_length);
	buffer_reset(&group->frames);
	channel->group = (uint32_t)delivery->count;
	return group;
}

/* It is served. */
static void group_trim(struct group *group)
{
	(void)buffer_trim(&group->frames, GROUP_BYTES_KEPT);
	if (group->capacity > GROUP_MESSAGES_KEPT) {
		free(group->messages);
		group->messages = NULL;
		group->capacity = 0;
	}
	group->count = 0;
}

/* All of them are. */
static void trim(struct delivery *delivery)
{
	delivery->count = delivery->next = 0;
	delivery->bytes = 0;
	(void)buffer_trim(&delivery->push, PUSH_BYTES_KEPT);
	if (delivery->capacity <= GROUPS_KEPT)
		return;
	free_groups(delivery, GROUPS_KEPT);
	delivery->capacity = GROUPS_KEPT;
	delivery->groups = xrealloc(delivery->groups, GROUPS_KEPT * sizeof(*delivery->groups));
}

static struct group *group_for(struct delivery *delivery, struct channel *channel,
			       enum channel_message_kind kind)
{
	/* A group whose fan-out has begun takes nothing more. */
	if (channel->group > delivery->next + (delivery->under_way ? 1 : 0) &&
	    delivery->groups[channel->group - 1].kind == kind)
		return &delivery->groups[channel->group - 1];
	return group_new(delivery, channel, kind);
}

static void group_append(struct delivery *delivery, struct group *group, uint64_t sequence,
			 uint64_t offset, struct slice frame)
{
	if (group->count == group->capacity) {
		group->capacity = group->capacity ? group->capacity * 2 : 8;
		group->messages =
			xrealloc(group->messages, group->capacity * sizeof(*group->messages));
	}
	group->messages[group->count++] = (struct fanout_message){
		.sequence = sequence,
		.offset = offset,
		.start = group->frames.len,
		.length = frame.len,
	};
	if (offset)
		group->offset = offset;
	buffer_append_slice(&group->frames, frame);
	delivery->bytes += frame.len;
}

/* The WebSocket frame of a message, in w->frame. */
static struct slice message_frame(struct delivery *delivery, struct slice channel_name,
				  enum redis_message_kind kind, const struct redis_body *body,
				  uint64_t offset, struct slice epoch)
{
	struct worker *w = delivery->worker;
	struct client_push push = {.channel = channel_name};

	if (kind == REDIS_MESSAGE_PUBLICATION) {
		push.kind = CLIENT_PUSH_PUBLICATION;
		push.publication = (struct publication){
			.data = body->data,
			.info = body->info,
			.tags = body->tags,
			.offset = offset,
			/* Clients learn a new epoch from its first publication. */
			.epoch = offset == 1 ? epoch : SLICE(""),
		};
	} else {
		push.kind = kind == REDIS_MESSAGE_JOIN ? CLIENT_PUSH_JOIN : CLIENT_PUSH_LEAVE;
		push.info = body->info;
	}
	buffer_reset(&delivery->push);
	/* JSON is the only codec so far; compressing is the fan-out's business. */
	json_codec.encode_push(&delivery->push, &push);
	buffer_reset(&w->frame);
	websocket_append_frame(&w->frame, WEBSOCKET_TEXT, buffer_slice(&delivery->push));
	return buffer_slice(&w->frame);
}

/* Where the channel stands once everything collected so far is served. */
static void expected_position(const struct delivery *delivery, const struct channel *channel,
			      uint64_t *sequence, uint64_t *offset, struct slice *epoch)
{
	const struct channel_record *record = hub_record(&delivery->worker->hub, channel);
	const struct group *group = last_group(delivery, channel);

	*sequence = record->last_sequence;
	*offset = record->offset;
	*epoch = hub_epoch(record);
	if (group) {
		*sequence = group->messages[group->count - 1].sequence;
		*offset = group->offset;
		if (group->epoch_length)
			*epoch = slice_from(group->epoch, group->epoch_length);
	}
}

static void announce_gap(struct delivery *delivery, struct channel *channel,
			 const struct redis_envelope *envelope, uint64_t offset)
{
	struct worker *w = delivery->worker;

	log_warning("channel_gap channel=%s expected_offset=%llu got_offset=%llu",
		    log_value(hub_name(&w->hub, channel)), (unsigned long long)offset + 1,
		    (unsigned long long)envelope->offset);
	lost_subscribers_announce(w, channel);
}

/* True: the message is for this channel's subscribers now; held ones are kept on the way. */
static bool accept_message(struct delivery *delivery, struct channel *channel,
			   const struct redis_envelope *envelope)
{
	const struct channel_record *record = hub_record(&delivery->worker->hub, channel);
	struct slice epoch;
	uint64_t sequence, offset;

	if (!record->positioned || channel->catching_up)
		return false;
	expected_position(delivery, channel, &sequence, &offset, &epoch);
	if (!hub_is_served(sequence, envelope->sequence))
		return false;
	if (envelope->offset && (envelope->offset != offset + 1 ||
				 (epoch.len > 0 && !slice_equal(epoch, envelope->epoch))))
		announce_gap(delivery, channel, envelope, offset);
	return true;
}

void delivery_add(struct delivery *delivery, struct slice channel_name,
		  const struct redis_envelope *envelope)
{
	struct worker *w = delivery->worker;
	struct channel *channel = hub_find(&w->hub, channel_name);
	struct held_message like = {
		.kind = envelope->kind == REDIS_MESSAGE_PUBLICATION ? CHANNEL_MESSAGE_PUBLICATION
								    : CHANNEL_MESSAGE_JOIN_LEAVE,
		.sequence = envelope->sequence,
		.offset = envelope->offset,
	};
	struct group *group;
	bool accepted, held;
	struct slice frame;

	if (!channel || envelope->epoch.len > CHANNEL_EPOCH_MAX)
		return;
	accepted = accept_message(delivery, channel, envelope);
	held = channel->waiting > 0 || channel->catching_up;
	if (!accepted && !held)
		return;
	frame = message_frame(delivery, channel_name, envelope->kind, &envelope->body,
			      envelope->offset, envelope->epoch);
	if (held) {
		like.epoch_length = envelope->epoch.len;
		memcpy(like.epoch, envelope->epoch.data, envelope->epoch.len);
		hub_hold(channel, &like, frame, HELD_BYTES_MAX);
	}
	if (!accepted)
		return;
	group = group_for(delivery, channel, like.kind);
	group_append(delivery, group, envelope->sequence, envelope->offset, frame);
	if (envelope->epoch.len > 0) {
		group->epoch_length = envelope->epoch.len;
		memcpy(group->epoch, envelope->epoch.data, envelope->epoch.len);
	}
}

static bool group_begin(struct delivery *delivery, struct group *group)
{
	struct worker *w = delivery->worker;
	const struct fanout_batch batch = {
		.channel = group->channel,
		.kind = group->kind,
		.messages = group->messages,
		.count = group->count,
		.frames = buffer_slice(&group->frames),
		.epoch = slice_from(group->epoch, group->epoch_length),
	};

	if (group->count > 0 && fanout_begin(w->fanout, &batch))
		return true;
	if (group->count > 0) {
		log_warning("arena_full action=announce_gap channel=%s",
			    log_value(hub_name(&w->hub, group->channel)));
		lost_subscribers_announce(w, group->channel);
	}
	return false;
}

/* Once nothing more of what it missed is to be served. */
static void check_behind(struct delivery *delivery, struct channel *channel)
{
	struct channel_record *record = hub_record(&delivery->worker->hub, channel);

	if (record->behind && !channel->catching_up && !channel->group)
		arena_store(&record->behind, 0);
}

static void group_end(struct delivery *delivery)
{
	struct group *group = &delivery->groups[delivery->next];
	struct channel *channel = group->channel;

	if (channel->group == delivery->next + 1)
		channel->group = 0;
	group_trim(group);
	delivery->next++;
	delivery->under_way = false;
	if (channel == delivery->adopted) {
		delivery->adopted = NULL;
		delivery_catch_up(delivery, channel);
	}
	check_behind(delivery, channel);
	worker_channel_review(delivery->worker, channel);
}

bool delivery_run(struct delivery *delivery)
{
	struct worker *w = delivery->worker;
	struct fanout *fanout = w->fanout;

	while (delivery->next < delivery->count) {
		struct group *group = &delivery->groups[delivery->next];

		if (!delivery->under_way) {
			if (!fanout_take_turn(fanout, delivery))
				return false;
			if (!group_begin(delivery, group)) {
				group_end(delivery);
				continue;
			}
			delivery->under_way = true;
		}
		if (!fanout_run(fanout))
			return false;
		group_end(delivery);
		/* Many small groups are as long as a large one. */
		if (delivery->next < delivery->count && loop_slice_spent(w, 1))
			return false;
	}
	trim(delivery);
	return true;
}

/* --- catching up --- */

struct catch_up {
	struct delivery *delivery;
	struct channel *channel;
	uint64_t run; /* of the subscription connection */
};

static void deliver_held(struct delivery *delivery, struct channel *channel, uint64_t above,
			 uint64_t offset)
{
	struct worker *w = delivery->worker;

	const struct held_message *held = NULL;

	while ((held = hub_held_next(channel, held, above))) {
		struct group *group;

		if (held->offset && held->offset != offset + 1) {
			lost_subscribers_announce(w, channel);
			offset = held->offset - 1;
		}
		group = group_for(delivery, channel, held->kind);
		group_append(delivery, group, held->sequence, held->offset,
			     slice_from(held->frame, held->length));
		if (held->offset)
			offset = held->offset;
	}
}

static void set_position(struct worker *w, struct channel *channel, struct slice epoch,
			 uint64_t offset, uint64_t sequence)
{
	struct arena_commit commit;

	arena_commit_begin(&commit, w->arena);
	hub_position_set(&w->hub, &commit, channel, epoch, offset, sequence);
	arena_commit_apply(&commit);
}

static bool follows(const struct channel_record *record,
		    const struct redis_subscribe_result *result)
{
	size_t n = result->n_publications;

	if (result->truncated || !slice_equal(hub_epoch(record), result->epoch))
		return false;
	if (n == 0)
		return result->top == record->offset;
	return result->publications[0].offset == record->offset + 1 &&
	       result->publications[n - 1].offset == result->top;
}

static void deliver_missed(struct delivery *delivery, struct channel *channel,
			   const struct redis_subscribe_result *result)
{
	struct worker *w = delivery->worker;

	for (size_t i = 0; i < result->n_publications; i++) {
		const struct redis_publication *publication = &result->publications[i];
		struct slice frame = message_frame(delivery, hub_name(&w->hub, channel),
						   REDIS_MESSAGE_PUBLICATION, &publication->body,
						   publication->offset, result->epoch);

		group_append(delivery, group_for(delivery, channel, CHANNEL_MESSAGE_PUBLICATION),
			     result->sequence, publication->offset, frame);
	}
}

static void on_missed_read(void *ctx, const struct redis_subscribe_result *result)
{
	struct catch_up *catch_up = ctx;
	struct delivery *delivery = catch_up->delivery;
	struct channel *channel = catch_up->channel;
	struct worker *w = delivery->worker;
	bool current = catch_up->run == redis_subscription_run(delivery->shard->subscription);

	free(catch_up);
	channel->waiting--;
	if (!current || result->outcome.code != REDIS_RESULT_OK || channel->held_overflow) {
		/* A newer connection catches up by itself; otherwise the connection is given up,
		 * and the next one catches up. */
		if (current)
			redis_subscription_restart(delivery->shard->subscription,
						   "catching up failed");
		return;
	}
	channel->catching_up = false;
	if (follows(hub_record(&w->hub, channel), result)) {
		deliver_missed(delivery, channel, result);
		if (result->n_publications == 0)
			set_position(w, channel, SLICE(""), result->top, result->sequence);
	} else {
		log_warning("channel_gap channel=%s after=reconnect",
			    log_value(hub_name(&w->hub, channel)));
		lost_subscribers_announce(w, channel);
		set_position(w, channel, result->epoch, result->top, result->sequence);
	}
	deliver_held(delivery, channel, result->sequence, result->top);
	check_behind(delivery, channel);
	subscribing_joined(w, channel, true);
	worker_channel_review(w, channel);
	redis_subscription_work(delivery->shard->subscription);
}

void delivery_catch_up(struct delivery *delivery, struct channel *channel)
{
	struct worker *w = delivery->worker;
	const struct channel_record *record = hub_record(&w->hub, channel);
	const struct channel_options *options = worker_options_of(w, channel);
	struct catch_up *catch_up = xcalloc(1, sizeof(*catch_up));
	char epoch[REDIS_EPOCH_LENGTH + 1];
	struct redis_subscribe subscribe = {
		.channel = hub_name(&w->hub, channel),
		.history = true,
		.epoch = epoch,
		.meta_ttl_ms = (uint64_t)options->history_meta_ttl,
		.recover = true,
		.since_offset = record->offset,
		.since_epoch = hub_epoch(record),
		.limit = (uint32_t)options->recovery_max_publication_limit,
		.now_ms = clock_wall_ms(),
	};

	catch_up->delivery = delivery;
	catch_up->channel = channel;
	catch_up->run = redis_subscription_run(delivery->shard->subscription);
	channel->catching_up = true;
	channel->waiting++;
	redis_epoch_generate(epoch);
	redis_subscribe_read(delivery->shard->pool, channel->hash, &subscribe, on_missed_read,
			     catch_up);
}

/* --- what a predecessor had begun --- */

void delivery_adopt(struct delivery *delivery, struct channel *channel)
{
	const struct fanout_record *record = &delivery->worker->arena->header->fanout;
	struct group *group = group_new(delivery, channel, (enum channel_message_kind)record->kind);

	/* Its messages lie in the record. What counts here is where they lead. */
	group_append(delivery, group, record->last_sequence, record->last_offset, SLICE(""));
	delivery->under_way = true;
}

void delivery_adopt_behind(struct delivery *delivery, struct channel *channel)
{
	if (!fanout_serving(delivery->worker->fanout, channel)) {
		delivery_catch_up(delivery, channel);
		return;
	}
	/* What is under way is part of what it missed; meanwhile messages are held. */
	channel->catching_up = true;
	delivery->adopted = channel;
}

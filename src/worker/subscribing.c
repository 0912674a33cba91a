/* SPDX-License-Identifier: ISC */
/*
 * Subscriptions in preparation, see subscribing.h. Run by the worker. It
 * appends to drafts and never commits one.
 */
#include "worker/subscribing.h"
#include "worker/loop_watch.h"

#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/clock.h"
#include "keepsock/log.h"
#include "keepsock/random.h"
#include "worker/client_expiry.h"
#include "worker/presence_upkeep.h"
#include "worker/redis_subscription.h"
#include "worker/role.h"
#include "worker/sessions.h"
#include "worker/shards.h"

static void read_state(struct subscribing *s);

/* --- lists --- */

static void list_add(struct subscribing *s)
{
	struct worker *w = s->worker;
	struct connection *c = s->connection;

	s->next = w->subscribing;
	s->link = &w->subscribing;
	if (s->next)
		s->next->link = &s->next;
	w->subscribing = s;
	s->next_own = c->subscribing;
	s->own = &c->subscribing;
	if (s->next_own)
		s->next_own->own = &s->next_own;
	c->subscribing = s;
}

static void list_remove(struct subscribing *s)
{
	if (!s->link)
		return;
	*s->link = s->next;
	if (s->next)
		s->next->link = s->link;
	*s->own = s->next_own;
	if (s->next_own)
		s->next_own->own = s->own;
	s->link = s->own = NULL;
}

static void remove_waiter(struct subscribing *s)
{
	struct subscribing *at = s->channel->waiters;

	if (at == s) {
		s->channel->waiters = s->next_waiter;
		return;
	}
	while (at && at->next_waiter != s)
		at = at->next_waiter;
	if (at)
		at->next_waiter = s->next_waiter;
}

void subscribing_settle_channel(struct worker *w, struct channel *channel)
{
	if (channel->waiting == 0 && !channel->catching_up)
		hub_held_free(channel);
	worker_channel_review(w, channel);
}

struct slice subscribing_channel(const struct subscribing *s)
{
	return hub_name(&s->worker->hub, s->channel);
}

/* --- begin and end --- */

static bool has_member(const struct subscribing *s)
{
	return (s->flags & (SUBSCRIPTION_PRESENCE | SUBSCRIPTION_ANNOUNCED)) != 0;
}

static void release(struct subscribing *s)
{
	struct worker *w = s->worker;
	struct channel *channel = s->channel;
	struct buffer *const buffers[] = {&s->user, &s->member, &s->info, &s->data, &s->text};

	for (size_t i = 0; i < sizeof(buffers) / sizeof(buffers[0]); i++)
		buffer_free(buffers[i]);
	free(s->publications);
	free(s);
	channel->waiting--;
	subscribing_settle_channel(w, channel);
}

void subscribing_end(struct subscribing *s)
{
	list_remove(s);
	switch (s->state) {
	case SUBSCRIBING_JOINING:
		remove_waiter(s);
		release(s);
		break;
	case SUBSCRIBING_READING: s->abandoned = true; break;
	case SUBSCRIBING_DONE:
		/* The script has made a member of whoever left or was refused meanwhile. */
		if (!s->committed && has_member(s))
			presence_leave(s->worker, &s->client, subscribing_channel(s));
		release(s);
		break;
	}
}

static void report(struct subscribing *s, bool ok)
{
	list_remove(s);
	s->ready(s, ok);
}

static void copy_since(struct subscribing *s, const struct subscribing_request *request)
{
	s->recover = request->recover;
	s->cache = request->cache;
	s->since_offset = request->since_offset;
	/* An epoch longer than any of ours is not ours: one that can't match stands for it. */
	if (request->since_epoch.len > sizeof(s->since_epoch)) {
		s->since_epoch[0] = '_';
		s->since_epoch_length = 1;
	} else if (request->since_epoch.len > 0) {
		memcpy(s->since_epoch, request->since_epoch.data, request->since_epoch.len);
		s->since_epoch_length = request->since_epoch.len;
	}
}

static void copy_request(struct subscribing *s, const struct subscribing_request *request)
{
	const struct passport owner = {.id = s->client};
	char id[37];

	s->options = request->options;
	s->deadline = request->deadline;
	s->flags = request->flags;
	s->expires_at = request->expires_at;
	buffer_append_slice(&s->info, request->info);
	buffer_append_slice(&s->data, request->data);
	copy_since(s, request);
	s->ready = request->ready;
	s->owner = request->owner;
	if (!has_member(s))
		return;
	buffer_append_slice(&s->user, request->user);
	client_info_encode(&s->member, request->user, connection_id(&owner, id), request->conn_info,
			   request->info);
}

struct subscribing *subscribing_start(struct connection *c,
				      const struct subscribing_request *request)
{
	struct worker *w = c->worker;
	struct channel *channel = NULL;
	struct subscribing *s;

	/* Where the script could not run, its channel need not be joined first. */
	if (worker_channel_available(w, request->channel) &&
	    redis_pool_takes(worker_pool(w, request->channel),
			     connection_affinity(connection_passport(c))))
		channel = hub_get(&w->hub, request->channel);
	if (!channel)
		return NULL;
	s = xcalloc(1, sizeof(*s));
	s->worker = w;
	s->connection = c;
	s->channel = channel;
	s->client = connection_passport(c)->id;
	copy_request(s, request);
	list_add(s);
	channel->waiting++;
	if (hub_record(&w->hub, channel)->state == CHANNEL_JOINED && !channel->catching_up) {
		read_state(s);
		return s;
	}
	s->next_waiter = channel->waiters;
	channel->waiters = s;
	worker_channel_review(w, channel);
	return s;
}

void subscribing_joined(struct worker *w, struct channel *channel, bool available)
{
	struct subscribing *s;

	/* The channel must not go away under the walk. */
	channel->waiting++;
	while ((s = channel->waiters)) {
		channel->waiters = s->next_waiter;
		s->next_waiter = NULL;
		if (available)
			read_state(s);
		else
			report(s, false);
	}
	channel->waiting--;
	subscribing_settle_channel(w, channel);
}

void subscribing_tick(struct worker *w)
{
	struct subscribing *s = w->subscribing;

	while (s) {
		if (s->deadline > w->now_ms) {
			s = s->next;
			continue;
		}
		report(s, false);
		/* Answering may have changed the list anywhere. */
		s = w->subscribing;
	}
}

void subscribing_abandon(struct connection *c)
{
	while (c->subscribing)
		report(c->subscribing, false);
}

/* --- what the script says --- */

static void judge_cache(struct subscribing *s, const struct redis_subscribe_result *read)
{
	struct slice since = slice_from(s->since_epoch, s->since_epoch_length);
	bool at_top = s->since_offset > 0 && s->since_offset == read->top &&
		      slice_equal(since, read->epoch);

	s->result.recovered =
		at_top || (read->n_publications > 0 &&
			   read->publications[read->n_publications - 1].offset == read->top);
	s->result.n_publications = s->result.recovered && !at_top ? 1 : 0;
}

static void judge_stream(struct subscribing *s, const struct redis_subscribe_result *read)
{
	struct slice since = slice_from(s->since_epoch, s->since_epoch_length);
	size_t n = read->n_publications;

	if ((since.len > 0 && !slice_equal(since, read->epoch)) || read->truncated)
		return;
	if (n == 0)
		s->result.recovered = read->top == s->since_offset;
	else
		s->result.recovered = read->publications[0].offset == s->since_offset + 1 &&
				      read->publications[n - 1].offset == read->top;
	if (!s->result.recovered)
		return;
	s->result.n_publications = n;
	s->result.offset = s->since_offset;
}

/* Fills s->result, but for what only the owner knows. */
static void judge(struct subscribing *s, const struct redis_subscribe_result *read)
{
	struct client_subscribe_result *result = &s->result;

	memset(result, 0, sizeof(*result));
	result->positioned = (s->flags & SUBSCRIPTION_POSITIONED) != 0;
	result->recoverable = (s->flags & SUBSCRIPTION_RECOVERABLE) != 0;
	result->data = buffer_slice(&s->data);
	if (result->positioned) {
		result->epoch = slice_from(s->epoch, s->epoch_length);
		result->offset = read->top;
	}
	if (s->recover) {
		result->was_recovering = true;
		if (s->cache)
			judge_cache(s, read);
		else
			judge_stream(s, read);
	}
	if (result->n_publications > 0) {
		size_t skip = read->n_publications - result->n_publications;

		s->publications =
			client_publications(read->publications + skip, result->n_publications);
		result->publications = s->publications;
	}
}

static void take(struct subscribing *s, const struct redis_subscribe_result *read)
{
	s->sequence = read->sequence;
	s->top = read->top;
	s->epoch_length = read->epoch.len <= sizeof(s->epoch) ? read->epoch.len : 0;
	if (s->epoch_length)
		memcpy(s->epoch, read->epoch.data, s->epoch_length);
	judge(s, read);
}

static void on_state_read(void *ctx, const struct redis_subscribe_result *read)
{
	struct subscribing *s = ctx;

	loop_watch_begin(s->worker, LOOP_REDIS_REPLY);
	role_note(s->worker, &read->outcome);
	s->state = SUBSCRIBING_DONE;
	if (s->abandoned) {
		subscribing_end(s);
		return;
	}
	if (read->outcome.code == REDIS_RESULT_ERROR)
		log_error("redis_command_failed method=subscribe error=%s",
			  log_value_str(read->outcome.error));
	if (read->outcome.code != REDIS_RESULT_OK) {
		report(s, false);
		return;
	}
	take(s, read);
	switch (subscribing_check(s)) {
	case SUBSCRIBING_CURRENT: report(s, true); break;
	case SUBSCRIBING_OVERTAKEN:
		subscribing_forget_publications(s);
		read_state(s);
		break;
	case SUBSCRIBING_VOID: report(s, false); break;
	}
}

static void read_state(struct subscribing *s)
{
	struct worker *w = s->worker;
	const struct channel_options *options = s->options;
	const struct passport owner = {.id = s->client};
	struct redis_shard *shard = worker_channel_shard(w, s->channel);
	char id[37], epoch[REDIS_EPOCH_LENGTH + 1];
	const struct redis_presence_member member = {
		.client = connection_id(&owner, id),
		.user = buffer_slice(&s->user),
		.info = buffer_slice(&s->member),
		.worker = slice_str(w->worker_name),
		.join_leave = (s->flags & SUBSCRIPTION_ANNOUNCED) != 0,
	};
	const struct redis_subscribe subscribe = {
		.fence = role_fence(w),
		.channel = subscribing_channel(s),
		.history = channel_has_history(options),
		.epoch = epoch,
		.meta_ttl_ms = (uint64_t)options->history_meta_ttl,
		.recover = s->recover && !s->cache,
		.latest = s->recover && s->cache,
		.since_offset = s->since_offset,
		.since_epoch = slice_from(s->since_epoch, s->since_epoch_length),
		.limit = (uint32_t)options->recovery_max_publication_limit,
		.presence = has_member(s) ? &member : NULL,
		.presence_ttl_ms = (uint64_t)options->presence_ttl,
		.now_ms = clock_wall_ms(),
	};

	s->state = SUBSCRIBING_READING;
	s->run = redis_subscription_run(shard->subscription);
	redis_epoch_generate(epoch);
	redis_subscribe_read(shard->pool, connection_affinity(&owner), &subscribe, on_state_read,
			     s);
}

void subscribing_repeat(struct subscribing *s)
{
	subscribing_forget_publications(s);
	list_add(s);
	read_state(s);
}

/* --- kept publications --- */

static struct slice keep(struct buffer *text, struct slice from)
{
	struct slice kept = slice_from(text->data + text->len, from.len);

	buffer_append_slice(text, from);
	return kept;
}

size_t subscribing_keep(struct subscribing *s)
{
	size_t total = 0;

	for (size_t i = 0; i < s->result.n_publications; i++) {
		const struct publication *p = &s->publications[i];

		total += p->data.len + p->info.len + p->tags.len;
	}
	/* At once, so that no slice goes stale. */
	buffer_reserve(&s->text, total);
	for (size_t i = 0; i < s->result.n_publications; i++) {
		struct publication *p = &s->publications[i];

		p->data = keep(&s->text, p->data);
		p->info = keep(&s->text, p->info);
		p->tags = keep(&s->text, p->tags);
	}
	return total;
}

void subscribing_forget_publications(struct subscribing *s)
{
	free(s->publications);
	s->publications = NULL;
	buffer_free(&s->text);
	s->result.publications = NULL;
	s->result.n_publications = 0;
	s->result.recovered = false;
	if (s->result.positioned)
		s->result.offset = s->top;
}

/* --- what was held --- */

/*
 * Where the worker stands in the channel once this subscriber is in. A channel
 * without a position takes the script's, moved on by what is held above it.
 * False: the held messages do not follow on it.
 */
static bool held_position(const struct subscribing *s, uint64_t *sequence, uint64_t *offset)
{
	*sequence = s->sequence;
	*offset = s->top;
	return hub_held_position(s->channel, slice_from(s->epoch, s->epoch_length), sequence,
				 offset);
}

/*
 * Scripts of several subscribers may be answered in another order than Redis ran
 * them. The first answer gave the channel its position; one that is older, and
 * that no held message carries as far, misses what will not be served any more.
 */
enum subscribing_verdict subscribing_check(const struct subscribing *s)
{
	struct worker *w = s->worker;
	const struct channel *channel = s->channel;
	const struct channel_record *record = hub_record(&w->hub, channel);
	struct redis_shard *shard = worker_channel_shard(w, s->channel);
	uint64_t sequence, offset;

	if (record->state != CHANNEL_JOINED || channel->catching_up || channel->held_overflow ||
	    s->run != redis_subscription_run(shard->subscription))
		return SUBSCRIBING_VOID;
	if (!held_position(s, &sequence, &offset))
		return SUBSCRIBING_VOID;
	if (record->positioned && hub_is_served(sequence, record->last_sequence))
		return SUBSCRIBING_OVERTAKEN;
	return SUBSCRIBING_CURRENT;
}

void subscribing_append_held(const struct subscribing *s)
{
	struct worker *w = s->worker;

	const struct held_message *held = NULL;

	while ((held = hub_held_next(s->channel, held, s->sequence))) {
		if (channel_message_wanted(held->kind, s->flags))
			passport_draft_output(&w->draft, held->frame, held->length);
	}
}

/* --- the record --- */

arena_ref subscription_info_make(struct passport_draft *draft, struct slice info)
{
	arena_ref ref;

	if (info.len == 0)
		return 0;
	ref = passport_draft_chunk(draft, info.len);
	if (!ref)
		return 0;
	if (info.len > arena_chunk_capacity(draft->arena, ref)) {
		draft->failed = true;
		return 0;
	}
	memcpy(arena_chunk_at(draft->arena, ref)->data, info.data, info.len);
	arena_chunk_at(draft->arena, ref)->used = (uint32_t)info.len;
	return ref;
}

bool subscribing_append_record(struct subscribing *s)
{
	struct worker *w = s->worker;
	struct subscription_record *subscription;
	uint64_t sequence, offset;
	arena_ref ref, info;

	held_position(s, &sequence, &offset);
	info = subscription_info_make(&w->draft, buffer_slice(&s->info));
	ref = hub_subscription_add(&w->hub, &w->draft, s->channel, sequence, s->flags);
	if (!ref || w->draft.failed)
		return false;
	/* Nobody reaches it before the commit. */
	subscription = arena_at(w->arena, ref);
	subscription->info = info;
	subscription->expires_at = s->expires_at;
	if (!hub_record(&w->hub, s->channel)->positioned) {
		hub_position_set(&w->hub, &w->draft.commit, s->channel,
				 slice_from(s->epoch, s->epoch_length), offset, sequence);
		s->channel->checked_at = w->now_ms;
	}
	return true;
}

void subscribing_committed(struct subscribing *s)
{
	s->committed = true;
	hub_subscription_counted(&s->worker->hub, 1);
	metric_add(METRIC_subscriptions, 1);
	client_expiry_note(s->connection, s->expires_at);
	sessions_changed(s->connection);
}

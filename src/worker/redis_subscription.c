/* SPDX-License-Identifier: ISC */
/*
 * The subscription connection, see redis_subscription.h. Run by the worker. A
 * reply is consumed from the passport only after everything it caused is
 * committed, so a successor parses it again and finds what is left to do.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/crash_points.h"
#include "keepsock/log.h"
#include "keepsock/node_events.h"
#include "keepsock/redis_continuity.h"
#include "keepsock/redis_keys.h"
#include "redis/redis_info.h"
#include "worker/continuity.h"
#include "worker/fanout.h"
#include "worker/heartbeat.h"
#include "worker/loop_watch.h"
#include "worker/move.h"
#include "worker/redis_subscription_private.h"
#include "worker/shards.h"
#include "worker/stream.h"
#include "worker/subscribing.h"
#include "worker/survey.h"

bool redis_subscription_available(const struct redis_subscription *s)
{
	return s->state == SUBSCRIPTION_LIVE;
}

bool redis_subscription_settling(const struct redis_subscription *s)
{
	return s->state == SUBSCRIPTION_SETTLING;
}

void redis_subscription_settled(struct redis_subscription *s)
{
	if (s->state == SUBSCRIPTION_SETTLING)
		redis_subscription_control(s);
}

const char *redis_subscription_redis_run(const struct redis_subscription *s)
{
	return s->redis_run;
}

uint64_t redis_subscription_run(const struct redis_subscription *s)
{
	return s->run;
}

/* --- giving up a connection --- */

static void channel_forget(struct worker *w, struct channel *channel)
{
	struct channel_record now = *hub_record(&w->hub, channel);
	struct arena_commit commit;

	now.state = CHANNEL_ABSENT;
	now.unconfirmed = 0;
	now.behind = 0;
	/* Only subscribers have something to catch up with. */
	if (hub_subscribers(&w->hub, channel) == 0)
		now.positioned = 0;
	arena_commit_begin(&commit, w->arena);
	hub_record_change(&w->hub, &commit, channel, &now);
	arena_commit_apply(&commit);
}

struct channel *redis_subscription_next_channel(const struct redis_subscription *s,
						struct channel *previous)
{
	struct channel *channel = hub_next(&s->worker->hub, previous);

	while (channel && worker_channel_shard(s->worker, channel) != s->shard)
		channel = hub_next(&s->worker->hub, channel);
	return channel;
}

void redis_subscription_forget_channels(struct redis_subscription *s)
{
	struct worker *w = s->worker;
	struct channel *channel = NULL;

	while ((channel = redis_subscription_next_channel(s, channel))) {
		channel_forget(w, channel);
		hub_held_free(channel);
		redis_subscription_review(s, channel);
	}
	channel = NULL;
	while ((channel = redis_subscription_next_channel(s, channel))) {
		if (channel->waiters)
			subscribing_joined(w, channel, false);
	}
	s->outstanding = s->joined = 0;
}

void redis_subscription_forget_sequences(struct redis_subscription *s)
{
	struct channel *channel = NULL;

	while ((channel = redis_subscription_next_channel(s, channel)))
		hub_sequences_reset(&s->worker->hub, channel);
	s->last_sequence = 0;
	s->sequences_old = false;
}

void redis_subscription_lost(struct redis_subscription *s, const char *why)
{
	bool live = s->state == SUBSCRIPTION_LIVE;

	if (!s->attempt || live)
		log_warning("redis_subscription_lost shard=%u reason=%s", s->shard->index,
			    log_value_str(why));
	snprintf(s->last_error, sizeof(s->last_error), "%s", why);
	redis_subscription_disconnect(s);
	s->state = SUBSCRIPTION_WAITING;
	s->run++;
	if (live) {
		node_event_add(NODE_EVENT_REDIS_LOST, "shard %u: %s", s->shard->index,
			       s->last_error);
		redis_subscription_forget_channels(s);
		s->sequences_old = true;
	}
	redis_subscription_retry_later(s);
}

void redis_subscription_restart(struct redis_subscription *s, const char *why)
{
	if (s->state != SUBSCRIPTION_WAITING)
		redis_subscription_lost(s, why);
}

void redis_subscription_set_endpoint(struct redis_subscription *s)
{
	s->attempt = 0;
	redis_subscription_restart(s, "server changed");
}

/* --- output --- */

void redis_subscription_flush(struct redis_subscription *s)
{
	uint64_t written = 0;
	short events = EV_READ | EV_PERSIST;

	if (!s->passport)
		return;
	switch (stream_write(s->worker, s->passport, s->fd, &written)) {
	case STREAM_FAILED: redis_subscription_lost(s, "write failed"); return;
	case STREAM_BLOCKED: events |= EV_WRITE; break;
	case STREAM_DRAINED: break;
	}
	if (s->paused)
		events &= (short)~EV_READ;
	event_del(s->event);
	event_assign(s->event, s->worker->base, s->fd, events, redis_subscription_on_socket, s);
	if (events & (EV_READ | EV_WRITE))
		event_add(s->event, NULL);
}

static void set_paused(struct redis_subscription *s, bool paused)
{
	if (s->paused == paused || !s->event || !s->passport)
		return;
	s->paused = paused;
	redis_subscription_flush(s);
}

/* Appends a command to the open draft's output; false: not enough memory. */
bool redis_subscription_append_command(struct worker *w, const char **words, const size_t *lengths,
				       int count)
{
	char *text = NULL;
	long long length = redisFormatCommandArgv(&text, count, words, lengths);

	if (length < 0)
		return false;
	queue_append(&w->draft, &w->draft.now.out, text, (size_t)length);
	redisFreeCommand(text);
	return true;
}

static bool append_channel_command(struct worker *w, const char *verb, struct slice channel)
{
	const char *words[2] = {verb};
	size_t lengths[2] = {strlen(verb)};
	bool ok;

	buffer_reset(&w->scratch);
	redis_key_channel(&w->scratch, channel);
	words[1] = w->scratch.data;
	lengths[1] = w->scratch.len;
	ok = redis_subscription_append_command(w, words, lengths, 2);
	buffer_reset(&w->scratch);
	return ok;
}

/* --- channels: what they need, and the bytes for it (one commit) --- */

static bool channel_needed(const struct worker *w, const struct channel *channel)
{
	return channel->waiting > 0 || hub_subscribers(&w->hub, channel) > 0;
}

/* False: the arena is full; the connection is given up, its channels are announced lost. */
static bool channel_change(struct redis_subscription *s, struct channel *channel,
			   enum channel_state state, const char *verb)
{
	struct worker *w = s->worker;
	struct channel_record now = *hub_record(&w->hub, channel);

	now.state = (uint8_t)state;
	now.unconfirmed++;
	if (state == CHANNEL_LEAVING)
		now.positioned = now.behind = 0;
	passport_draft_begin(&w->draft, s->passport);
	if (!append_channel_command(w, verb, hub_name(&w->hub, channel)))
		w->draft.failed = true;
	hub_record_change(&w->hub, &w->draft.commit, channel, &now);
	if (!passport_draft_commit(&w->draft)) {
		redis_subscription_lost(s, "arena full");
		return false;
	}
	s->outstanding++;
	return true;
}

static void channel_review(struct redis_subscription *s, struct channel *channel)
{
	struct worker *w = s->worker;
	const struct channel_record *record = hub_record(&w->hub, channel);
	bool needed = channel_needed(w, channel);

	switch (record->state) {
	case CHANNEL_ABSENT:
		if (needed && s->state == SUBSCRIPTION_LIVE)
			channel_change(s, channel, CHANNEL_JOINING, "SUBSCRIBE");
		else if (!needed && !channel->group && !channel->lost && !record->unconfirmed &&
			 !record->count && !fanout_serving(w->fanout, channel))
			hub_release(&w->hub, channel);
		break;
	case CHANNEL_LEAVING:
		if (needed)
			channel_change(s, channel, CHANNEL_JOINING, "SUBSCRIBE");
		break;
	case CHANNEL_JOINED:
		if (needed)
			break;
		s->joined--;
		channel->catching_up = false;
		channel_change(s, channel, CHANNEL_LEAVING, "UNSUBSCRIBE");
		break;
	default: break; /* joining: what is next is decided when it is confirmed */
	}
}

void redis_subscription_review(struct redis_subscription *s, struct channel *channel)
{
	static const struct timeval now = {0, 0};

	if (!s || channel->in_review)
		return;
	channel->in_review = true;
	channel->next_review = s->review;
	s->review = channel;
	event_add(s->worker->turn, &now);
}

void redis_subscription_settle(struct redis_subscription *s)
{
	bool any = s->review != NULL;

	while (s->review) {
		struct channel *channel = s->review;

		s->review = channel->next_review;
		channel->in_review = false;
		channel_review(s, channel);
	}
	if (any)
		redis_subscription_flush(s);
}

/* --- input --- */

/* In the open draft: consumed with it is the last sequence that came before. */
static void draft_consume(struct redis_subscription *s, uint64_t offset)
{
	struct passport *now = &s->worker->draft.now;

	queue_consume(&s->worker->draft, &now->in, offset - now->in.done);
	now->command_number = s->last_sequence;
}

static void commit_consumed(struct redis_subscription *s, uint64_t offset)
{
	struct worker *w = s->worker;

	passport_draft_begin(&w->draft, s->passport);
	draft_consume(s, offset);
	passport_draft_commit(&w->draft);
}

/* Stream offset up to which the reader has given replies out. */
static uint64_t parsed_offset(const struct redis_subscription *s)
{
	return s->fed - (s->reader->len - s->reader->pos);
}

static struct slice reply_text(const redisReply *reply)
{
	return slice_from(reply->str, (size_t)reply->len);
}

static bool is_message(const redisReply *reply)
{
	return reply->type == REDIS_REPLY_ARRAY && reply->elements == 3 &&
	       reply->element[0]->type == REDIS_REPLY_STRING &&
	       slice_is(reply_text(reply->element[0]), "message") &&
	       reply->element[1]->type == REDIS_REPLY_STRING &&
	       reply->element[2]->type == REDIS_REPLY_STRING;
}

/*
 * On one connection sequences only rise: a lower one says that Redis lost its
 * counter. What was ordered by the old one is void; epochs and offsets tell
 * positioned subscribers what they lost.
 */
static void on_sequence_reset(struct redis_subscription *s, uint64_t sequence)
{
	struct channel *channel = NULL;

	log_warning("redis_sequence_reset from=%llu to=%llu", (unsigned long long)s->last_sequence,
		    (unsigned long long)sequence);
	redis_subscription_forget_sequences(s);
	while ((channel = redis_subscription_next_channel(s, channel))) {
		if (channel->waiting > 0)
			channel->held_overflow = true;
	}
}

/* False: it has to wait until what came before it is served. */
static bool on_message(struct redis_subscription *s, const redisReply *reply)
{
	struct slice name = reply_text(reply->element[1]), channel;
	struct redis_envelope envelope;

	if (!redis_envelope_parse(reply_text(reply->element[2]), &envelope)) {
		log_warning("redis_message_unreadable name=%s bytes=%zu", log_value(name),
			    (size_t)reply->element[2]->len);
		return true;
	}
	if (envelope.sequence <= s->last_sequence) {
		if (delivery_pending(s->delivery))
			return false;
		on_sequence_reset(s, envelope.sequence);
	}
	s->messages++;
	s->last_sequence = envelope.sequence;
	if (envelope.sequence > s->shard->record->max_seen)
		arena_store(&s->shard->record->max_seen, envelope.sequence);
	if (slice_is(name, REDIS_PROBE_CHANNEL)) {
		heartbeat_on_probe(s->shard);
		move_out_on_probe(s->worker, s->shard->index, envelope.body.data);
	} else if (envelope.kind == REDIS_MESSAGE_CONTROL) {
		if (slice_is(name, REDIS_CONTROL_CHANNEL))
			s->worker->control_sequence = envelope.sequence;
		survey_on_control(s->worker->survey, name, envelope.body.data);
	} else if (redis_key_parse_channel(name, &channel)) {
		delivery_add(s->delivery, channel, &envelope);
	}
	return true;
}

/* With nothing outstanding, what Redis counts must be what we have. */
static bool audit(struct redis_subscription *s, long long count)
{
	if (s->outstanding > 0 || (uint64_t)count == s->joined + s->control_channels)
		return true;
	s->audits_failed++;
	log_error("redis_subscription_audit redis=%lld own=%llu action=resubscribe", count,
		  (unsigned long long)(s->joined + s->control_channels));
	redis_subscription_lost(s, "subscriptions differ from Redis's count");
	return false;
}

/* From here on a successor can go on with the connection. */
static void set_live_flag(struct redis_subscription *s)
{
	passport_draft_begin(&s->worker->draft, s->passport);
	s->worker->draft.now.flags |= PASSPORT_REDIS_LIVE;
	passport_draft_commit(&s->worker->draft);
}

static void on_control_confirmed(struct redis_subscription *s)
{
	struct worker *w = s->worker;
	struct channel *channel = NULL;

	if (s->state != SUBSCRIPTION_CONTROL || s->outstanding > 0)
		return;
	set_live_flag(s);
	redis_subscription_set_state(s, SUBSCRIPTION_LIVE);
	if (s->run > 0) {
		s->reconnects++;
		node_event_add(NODE_EVENT_REDIS_BACK, "shard %u", s->shard->index);
		metric_add(METRIC_redis_subscription_reconnects_total, 1);
	}
	s->attempt = 0;
	event_del(s->retry);
	while ((channel = redis_subscription_next_channel(s, channel)))
		redis_subscription_review(s, channel);
	heartbeat_start(s->shard);
	if (shards_subscribed(w))
		control_ready(w);
}

static void on_channel_heard(struct redis_subscription *s, struct channel *channel)
{
	struct worker *w = s->worker;

	s->joined++;
	if (hub_record(&w->hub, channel)->behind) {
		delivery_catch_up(s->delivery, channel);
		return;
	}
	channel->catching_up = false;
	subscribing_joined(w, channel, true);
}

/* One confirmation: the state it leads to and its consumption are one commit. */
static void confirm_channel(struct redis_subscription *s, struct channel *channel)
{
	struct worker *w = s->worker;
	struct channel_record now = *hub_record(&w->hub, channel);
	bool heard = false;

	now.unconfirmed--;
	if (now.unconfirmed == 0) {
		heard = now.state == CHANNEL_JOINING;
		now.state = heard ? CHANNEL_JOINED : CHANNEL_ABSENT;
		now.behind = heard && now.positioned && now.history &&
			     hub_subscribers(&w->hub, channel) > 0;
	}
	passport_draft_begin(&w->draft, s->passport);
	draft_consume(s, parsed_offset(s));
	hub_record_change(&w->hub, &w->draft.commit, channel, &now);
	passport_draft_commit(&w->draft);
	if (heard)
		on_channel_heard(s, channel);
	redis_subscription_review(s, channel);
}

static void on_confirmation(struct redis_subscription *s, const redisReply *reply)
{
	struct slice name = reply_text(reply->element[1]), channel_name;
	long long count = reply->element[2]->integer;
	struct channel *channel = NULL;

	if (s->outstanding > 0)
		s->outstanding--;
	if (redis_key_parse_channel(name, &channel_name))
		channel = hub_find(&s->worker->hub, channel_name);
	if (channel && hub_record(&s->worker->hub, channel)->unconfirmed > 0)
		confirm_channel(s, channel);
	else
		commit_consumed(s, parsed_offset(s));
	if (s->state == SUBSCRIPTION_CONTROL || audit(s, count))
		on_control_confirmed(s);
}

static bool is_confirmation(const redisReply *reply)
{
	return reply->type == REDIS_REPLY_ARRAY && reply->elements == 3 &&
	       reply->element[0]->type == REDIS_REPLY_STRING &&
	       (slice_is(reply_text(reply->element[0]), "subscribe") ||
		slice_is(reply_text(reply->element[0]), "unsubscribe")) &&
	       reply->element[1]->type == REDIS_REPLY_STRING &&
	       reply->element[2]->type == REDIS_REPLY_INTEGER;
}

static void on_info(struct redis_subscription *s, const redisReply *reply)
{
	const char *problem = redis_info_read(reply_text(reply), s->redis_run);

	if (problem) {
		redis_subscription_lost(s, problem);
		return;
	}
	commit_consumed(s, parsed_offset(s));
	redis_subscription_set_state(s, SUBSCRIPTION_SETTLING);
	/* Other workers may have to be waited for. */
	redis_subscription_wait_ms(s->retry, (uint64_t)s->worker->settings.redis.command_timeout +
						     REDIS_CONTINUITY_WAIT_MS);
	continuity_ask(s->shard);
}

/* What had to wait: sign-in, confirmations, errors, a message after a reset. May end the
 * connection. */
static void on_held(struct redis_subscription *s, const redisReply *reply)
{
	char text[128];

	if (is_message(reply)) {
		(void)on_message(s, reply);
	} else if (reply->type == REDIS_REPLY_ERROR) {
		snprintf(text, sizeof(text), "%.*s", SLICE_ARG(reply_text(reply)));
		redis_subscription_lost(s, text);
	} else if (s->state == SUBSCRIPTION_SIGNING_IN && reply->type == REDIS_REPLY_STATUS) {
		commit_consumed(s, parsed_offset(s));
		redis_subscription_ask(s);
	} else if (s->state == SUBSCRIPTION_ASKING && reply->type == REDIS_REPLY_STRING) {
		on_info(s, reply);
	} else if (is_confirmation(reply)) {
		on_confirmation(s, reply);
	} else {
		redis_subscription_lost(s, "unexpected reply");
	}
}

/* Collects messages up to the next other reply. False: the connection is gone. */
static bool parse(struct redis_subscription *s)
{
	while (!s->held && !delivery_full(s->delivery)) {
		void *raw = NULL;

		if (redisReaderGetReply(s->reader, &raw) != REDIS_OK) {
			redis_subscription_lost(s, "unreadable reply");
			return false;
		}
		if (!raw)
			break;
		s->held = raw;
		if (!is_message(s->held) || !on_message(s, s->held))
			break;
		freeReplyObject(s->held);
		s->held = NULL;
	}
	return true;
}

bool redis_subscription_at_rest(const struct redis_subscription *s, uint64_t *sequence)
{
	*sequence = s->last_sequence;
	return s->state == SUBSCRIPTION_LIVE && !s->held && !s->sequences_old &&
	       !delivery_pending(s->delivery);
}

void redis_subscription_hold(struct redis_subscription *s, bool hold)
{
	static const struct timeval now = {0, 0};

	if (s->on_hold == hold)
		return;
	s->on_hold = hold;
	if (hold)
		set_paused(s, true);
	else
		event_add(s->again, &now);
}

void redis_subscription_work(struct redis_subscription *s)
{
	static const struct timeval now = {0, 0};

	/* It goes on once it is let go. */
	if (s->on_hold)
		return;
	for (;;) {
		uint64_t run = s->run;

		if (!delivery_run(s->delivery)) {
			set_paused(s, true);
			event_add(s->again, &now);
			return;
		}
		if (!s->reader)
			return;
		if (s->held) {
			redisReply *reply = s->held;

			s->held = NULL;
			on_held(s, reply);
			freeReplyObject(reply);
			continue;
		}
		/* All of what was parsed is served: only now it is consumed. */
		if (parsed_offset(s) >
		    ((struct passport *)arena_at(s->worker->arena, s->passport))->in.done)
			commit_consumed(s, parsed_offset(s));
		if (!parse(s) || run != s->run)
			continue;
		if (!s->held && !delivery_pending(s->delivery))
			break;
	}
	set_paused(s, false);
}

static void on_again(evutil_socket_t fd, short what, void *arg)
{
	struct redis_subscription *s = arg;

	(void)fd;
	(void)what;
	loop_watch_begin(s->worker, LOOP_DELIVERY);
	redis_subscription_work(s);
}

void redis_subscription_read(struct redis_subscription *s)
{
	struct worker *w = s->worker;
	ssize_t got = stream_read(w, s->passport, s->fd, 0, ARENA_READ_SCRATCH);
	int error = errno;

	if (got <= 0) {
		arena_store(&w->arena->header->work.syscall, 0);
		if (got < 0 && error == EAGAIN)
			return;
		redis_subscription_lost(s, got == 0 ? "closed by the server" : strerror(error));
		return;
	}
	crash_point(CRASH_REDIS_READ);
	passport_draft_begin(&w->draft, s->passport);
	queue_append(&w->draft, &w->draft.now.in, w->arena->scratch, (size_t)got);
	arena_commit_add(&w->draft.commit, &w->arena->header->work.syscall, 0);
	if (!passport_draft_commit(&w->draft)) {
		redis_subscription_lost(s, "arena full");
		return;
	}
	redisReaderFeed(s->reader, (const char *)w->arena->scratch, (size_t)got);
	s->fed += (uint64_t)got;
	redis_subscription_work(s);
}

struct redis_subscription *redis_subscription_create(struct redis_shard *shard)
{
	struct worker *w = shard->worker;
	struct redis_subscription *s = xcalloc(1, sizeof(*s));

	s->shard = shard;
	s->worker = w;
	s->fd = -1;
	s->delivery = delivery_create(shard);
	s->retry = evtimer_new(w->base, redis_subscription_on_retry, s);
	s->again = evtimer_new(w->base, on_again, s);
	/* Connecting begins in the loop: the worker is not whole yet. */
	redis_subscription_wait_ms(s->retry, 0);
	return s;
}

void redis_subscription_free(struct redis_subscription *s)
{
	if (!s)
		return;
	redis_subscription_disconnect(s);
	event_free(s->retry);
	event_free(s->again);
	if (s->dns)
		evdns_base_free(s->dns, 1);
	delivery_free(s->delivery);
	free(s);
}

uint64_t redis_subscription_served(const struct redis_subscription *s)
{
	return s->passport ? ((const struct passport *)arena_at(s->worker->arena, s->passport))
				     ->command_number
			   : 0;
}

void redis_subscription_view(const struct redis_subscription *s,
			     struct redis_subscription_view *view)
{
	view->state = redis_subscription_state_name(s->state);
	view->reconnects = s->reconnects;
	view->messages = s->messages;
	view->audits_failed = s->audits_failed;
	view->last_sequence = s->last_sequence;
	memcpy(view->last_error, s->last_error, sizeof(view->last_error));
}

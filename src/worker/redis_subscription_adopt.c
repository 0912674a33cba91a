/* SPDX-License-Identifier: ISC */
/*
 * Going on with a predecessor's subscription connection: the socket was handed
 * over, everything else follows from its passport and from the channels'
 * records. Run by the worker, once at its start. It asks Redis for nothing.
 */
#include <string.h>

#include "keepsock/log.h"
#include "worker/deposits.h"
#include "worker/heartbeat.h"
#include "worker/redis_subscription_private.h"

/* What Redis owes us is what was asked for and not confirmed. */
static void count_channels(struct redis_subscription *s)
{
	struct channel *channel = NULL;

	s->outstanding = s->joined = 0;
	while ((channel = redis_subscription_next_channel(s, channel))) {
		const struct channel_record *record = hub_record(&s->worker->hub, channel);

		s->outstanding += record->unconfirmed;
		s->joined += record->state == CHANNEL_JOINED;
	}
}

/* A reader that stands where the last consumed reply ended, and has everything behind it. */
static bool feed_reader(struct redis_subscription *s)
{
	struct worker *w = s->worker;
	const struct passport *passport = arena_at(w->arena, s->passport);
	const struct stream_queue *in = &passport->in;

	s->reader = redisReaderCreate();
	if (!s->reader)
		return false;
	for (uint64_t at = in->done; at < in->end;) {
		struct slice piece = queue_peek(w->arena, in, at);

		if (redisReaderFeed(s->reader, piece.data, piece.len) != REDIS_OK)
			return false;
		at += piece.len;
	}
	s->fed = queue_end(in);
	return true;
}

static const char *obstacle(const struct redis_subscription *s)
{
	const struct passport *passport = arena_at(s->worker->arena, s->passport);

	if (s->fd < 0)
		return "its socket was not handed over";
	if (!(passport->flags & PASSPORT_REDIS_LIVE) || !s->shard->record->run[0])
		return "it was being made";
	return NULL;
}

static void go_on(struct redis_subscription *s)
{
	static const struct timeval now = {0, 0};
	const struct passport *passport = arena_at(s->worker->arena, s->passport);
	struct channel *channel = NULL;

	event_del(s->retry);
	s->event = event_new(s->worker->base, s->fd, EV_READ | EV_PERSIST,
			     redis_subscription_on_socket, s);
	s->last_sequence = passport->command_number;
	s->control_channels = redis_subscription_controls(s);
	memcpy(s->redis_run, s->shard->record->run, sizeof(s->redis_run));
	count_channels(s);
	redis_subscription_set_state(s, SUBSCRIPTION_LIVE);
	while ((channel = redis_subscription_next_channel(s, channel))) {
		redis_subscription_review(s, channel);
		if (hub_record(&s->worker->hub, channel)->behind)
			delivery_adopt_behind(s->delivery, channel);
	}
	heartbeat_start(s->shard);
	/* What was read and not served, or a fan-out under way. */
	event_add(s->again, &now);
	redis_subscription_flush(s);
}

static void give_up(struct redis_subscription *s, const char *why)
{
	log_warning("redis_subscription_not_adopted shard=%u reason=%s", s->shard->index,
		    log_value_str(why));
	redis_subscription_disconnect(s);
	/* Sequences are those of a connection that is gone. */
	s->sequences_old = true;
	redis_subscription_forget_channels(s);
}

bool redis_subscription_adopt(struct redis_subscription *s, int fd)
{
	const char *why;

	_Static_assert(sizeof(s->redis_run) <= ARENA_RUN_MAX, "a record holds a run's name");
	s->passport = (arena_ref)s->shard->record->passport;
	s->fd = s->passport ? fd : -1;
	if (!s->passport) {
		give_up(s, "there was none");
		return false;
	}
	if (fd >= 0)
		deposits_redis_is_kept(s->worker, s->shard->index, s->passport, fd);
	why = obstacle(s);
	if (!why && !feed_reader(s))
		why = "no memory";
	if (why) {
		give_up(s, why);
		return false;
	}
	go_on(s);
	return true;
}

void redis_subscription_adopt_fanout(struct redis_subscription *s, struct channel *channel)
{
	static const struct timeval now = {0, 0};

	delivery_adopt(s->delivery, channel);
	event_add(s->again, &now);
}

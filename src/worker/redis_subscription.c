/* SPDX-License-Identifier: ISC */
/*
 * The subscription connection, see redis_subscription.h. Run by the worker. A
 * reply is consumed from the passport only after everything it caused is
 * committed, so a successor parses it again and finds what is left to do.
 */
#include "worker/redis_subscription.h"

#include <errno.h>
#include <hiredis/hiredis.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "keepsock/alloc.h"
#include "keepsock/crash_points.h"
#include "keepsock/log.h"
#include "keepsock/random.h"
#include "keepsock/redis_keys.h"
#include "keepsock/redis_resolve.h"
#include "worker/delivery.h"
#include "worker/fanout.h"
#include "worker/stream.h"
#include "worker/survey.h"

#define RECONNECT_FIRST_MS 50u
/* Control channels every worker hears: node-wide control and its own answers. */
#define CONTROL_CHANNELS 2u

enum subscription_state {
	SUBSCRIPTION_WAITING,	 /* for the next attempt */
	SUBSCRIPTION_RESOLVING,
	SUBSCRIPTION_CONNECTING,
	SUBSCRIPTION_SIGNING_IN, /* AUTH sent */
	SUBSCRIPTION_CONTROL,	 /* control channels not confirmed yet */
	SUBSCRIPTION_LIVE,
};

static const char *const state_names[] = {"waiting",	"resolving", "connecting",
					  "signing_in", "control",   "live"};

struct redis_subscription {
	struct worker *worker;
	enum subscription_state state;
	uint64_t run;
	int fd;			/* owned; -1 */
	struct event *event;	/* owned; read (and write while blocked) */
	struct event *retry;	/* owned; reconnect, attempt time-out */
	struct event *again;	/* owned; the next slice of a fan-out */
	struct evdns_base *dns; /* owned */
	struct redis_resolution *resolution;
	arena_ref passport; /* while the connection is up */
	redisReader *reader; /* owned */
	uint64_t fed;	     /* stream offset up to which the reader was fed */
	redisReply *held;    /* a reply that waits for the fan-outs before it */
	struct delivery *delivery;
	struct channel *review; /* channels to look at when the turn ends */
	uint64_t outstanding;	/* confirmations to come */
	uint64_t joined;	/* channels in state joined */
	unsigned attempt;
	bool paused;
	uint64_t reconnects, messages, audits_failed, last_sequence;
	char last_error[160];
};

static void connect_start(struct redis_subscription *s);
static void on_socket(evutil_socket_t fd, short what, void *arg);

bool redis_subscription_available(const struct redis_subscription *s)
{
	return s->state == SUBSCRIPTION_LIVE;
}

uint64_t redis_subscription_run(const struct redis_subscription *s)
{
	return s->run;
}

static void set_state(struct redis_subscription *s, enum subscription_state state)
{
	if (state == SUBSCRIPTION_LIVE || s->state == SUBSCRIPTION_LIVE)
		log_info("redis_subscription state=%s->%s", state_names[s->state],
			 state_names[state]);
	s->state = state;
	metric_set(METRIC_redis_subscription_connected, state == SUBSCRIPTION_LIVE);
}

static void wait_ms(struct event *event, uint64_t ms)
{
	struct timeval tv = {(time_t)(ms / 1000), (suseconds_t)(ms % 1000) * 1000};

	event_add(event, &tv);
}

/* --- giving up a connection --- */

static void passport_release(struct redis_subscription *s)
{
	struct worker *w = s->worker;

	if (!s->passport)
		return;
	passport_draft_begin(&w->draft, s->passport);
	queue_consume(&w->draft, &w->draft.now.in, UINT64_MAX);
	queue_consume(&w->draft, &w->draft.now.out, UINT64_MAX);
	w->draft.now.magic = 0;
	w->draft.now.state = PASSPORT_STATE_FREE;
	arena_commit_add(&w->draft.commit, &w->arena->header->redis_passport, 0);
	passport_draft_commit(&w->draft);
	arena_record_free(w->arena, s->passport);
	s->passport = 0;
}

static void channel_forget(struct worker *w, struct channel *channel)
{
	struct channel_record now = *hub_record(&w->hub, channel);
	struct arena_commit commit;

	now.state = CHANNEL_ABSENT;
	now.unconfirmed = 0;
	arena_commit_begin(&commit, w->arena);
	hub_record_change(&w->hub, &commit, channel, &now);
	arena_commit_apply(&commit);
}

/* No channel is heard any more. Who waited is answered; who is subscribed catches up later. */
static void channels_forget(struct redis_subscription *s)
{
	struct worker *w = s->worker;
	struct channel *channel = NULL;

	while ((channel = hub_next(&w->hub, channel))) {
		channel_forget(w, channel);
		hub_held_free(channel);
		redis_subscription_review(s, channel);
	}
	hub_sequences_reset(&w->hub);
	channel = NULL;
	while ((channel = hub_next(&w->hub, channel))) {
		if (channel->waiters)
			client_subscribe_joined(w, channel, false);
	}
	s->outstanding = s->joined = 0;
}

static void disconnect(struct redis_subscription *s)
{
	if (s->resolution)
		redis_resolution_forget(s->resolution);
	s->resolution = NULL;
	if (s->event)
		event_free(s->event);
	s->event = NULL;
	if (s->fd >= 0) {
		shutdown(s->fd, SHUT_RDWR);
		close(s->fd);
	}
	s->fd = -1;
	if (s->reader)
		redisReaderFree(s->reader);
	s->reader = NULL;
	if (s->held)
		freeReplyObject(s->held);
	s->held = NULL;
	passport_release(s);
}

static void retry_later(struct redis_subscription *s)
{
	uint64_t max = (uint64_t)s->worker->settings.redis.reconnect_max_delay;
	uint64_t delay = (uint64_t)RECONNECT_FIRST_MS << (s->attempt < 10 ? s->attempt : 10);

	if (delay > max)
		delay = max;
	s->attempt++;
	set_state(s, SUBSCRIPTION_WAITING);
	/* Half fixed, half random: workers of a node do not come back in step. */
	wait_ms(s->retry, delay / 2 + random_below((uint32_t)delay / 2 + 1));
}

static void connection_lost(struct redis_subscription *s, const char *why)
{
	bool live = s->state == SUBSCRIPTION_LIVE;

	if (!s->attempt || live)
		log_warning("redis_subscription_lost reason=%s", log_value_str(why));
	snprintf(s->last_error, sizeof(s->last_error), "%s", why);
	disconnect(s);
	s->state = SUBSCRIPTION_WAITING;
	s->run++;
	if (live)
		channels_forget(s);
	retry_later(s);
}

void redis_subscription_restart(struct redis_subscription *s, const char *why)
{
	if (s->state != SUBSCRIPTION_WAITING)
		connection_lost(s, why);
}

void redis_subscription_set_endpoint(struct redis_subscription *s)
{
	s->attempt = 0;
	redis_subscription_restart(s, "server changed");
}

/* --- output --- */

static void flush(struct redis_subscription *s)
{
	uint64_t written = 0;
	short events = EV_READ | EV_PERSIST;

	if (!s->passport)
		return;
	switch (stream_write(s->worker, s->passport, s->fd, &written)) {
	case STREAM_FAILED: connection_lost(s, "write failed"); return;
	case STREAM_BLOCKED: events |= EV_WRITE; break;
	case STREAM_DRAINED: break;
	}
	if (s->paused)
		events &= (short)~EV_READ;
	event_del(s->event);
	event_assign(s->event, s->worker->base, s->fd, events, on_socket, s);
	if (events & (EV_READ | EV_WRITE))
		event_add(s->event, NULL);
}

static void set_paused(struct redis_subscription *s, bool paused)
{
	if (s->paused == paused || !s->event || !s->passport)
		return;
	s->paused = paused;
	flush(s);
}

/* Appends a command to the open draft's output; false: not enough memory. */
static bool append_command(struct worker *w, const char **words, const size_t *lengths, int count)
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
	ok = append_command(w, words, lengths, 2);
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
		now.positioned = 0;
	passport_draft_begin(&w->draft, s->passport);
	if (!append_channel_command(w, verb, hub_name(&w->hub, channel)))
		w->draft.failed = true;
	hub_record_change(&w->hub, &w->draft.commit, channel, &now);
	if (!passport_draft_commit(&w->draft)) {
		connection_lost(s, "arena full");
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
		else if (!needed && !channel->group && !record->unconfirmed && !record->count &&
			 !fanout_serving(w->fanout, channel))
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
		flush(s);
	metric_set(METRIC_channels, s->worker->hub.channel_count);
}

/* --- input --- */

static void commit_consumed(struct redis_subscription *s, uint64_t offset)
{
	struct worker *w = s->worker;

	passport_draft_begin(&w->draft, s->passport);
	queue_consume(&w->draft, &w->draft.now.in, offset - w->draft.now.in.done);
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
	struct worker *w = s->worker;
	struct channel *channel = NULL;

	log_warning("redis_sequence_reset from=%llu to=%llu",
		    (unsigned long long)s->last_sequence, (unsigned long long)sequence);
	hub_sequences_reset(&w->hub);
	while ((channel = hub_next(&w->hub, channel))) {
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
	if (envelope.kind == REDIS_MESSAGE_CONTROL)
		survey_on_control(s->worker->survey, name, envelope.body.data);
	else if (redis_key_parse_channel(name, &channel))
		delivery_add(s->delivery, channel, &envelope);
	return true;
}

/* With nothing outstanding, what Redis counts must be what we have. */
static bool audit(struct redis_subscription *s, long long count)
{
	if (s->outstanding > 0 || (uint64_t)count == s->joined + CONTROL_CHANNELS)
		return true;
	s->audits_failed++;
	log_error("redis_subscription_audit redis=%lld own=%llu action=resubscribe", count,
		  (unsigned long long)(s->joined + CONTROL_CHANNELS));
	connection_lost(s, "subscriptions differ from Redis's count");
	return false;
}

static void on_control_confirmed(struct redis_subscription *s)
{
	struct worker *w = s->worker;
	struct channel *channel = NULL;

	if (s->state != SUBSCRIPTION_CONTROL || s->outstanding > 0)
		return;
	set_state(s, SUBSCRIPTION_LIVE);
	if (s->run > 0) {
		s->reconnects++;
		metric_add(METRIC_redis_subscription_reconnects_total, 1);
	}
	s->attempt = 0;
	event_del(s->retry);
	while ((channel = hub_next(&w->hub, channel)))
		redis_subscription_review(s, channel);
	control_ready(w);
}

static void on_channel_heard(struct redis_subscription *s, struct channel *channel)
{
	struct worker *w = s->worker;
	const struct channel_record *record = hub_record(&w->hub, channel);

	s->joined++;
	if (record->positioned && record->history && hub_subscribers(&w->hub, channel) > 0) {
		delivery_catch_up(s->delivery, channel);
		return;
	}
	channel->catching_up = false;
	client_subscribe_joined(w, channel, true);
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
	}
	passport_draft_begin(&w->draft, s->passport);
	queue_consume(&w->draft, &w->draft.now.in, parsed_offset(s) - w->draft.now.in.done);
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

static void subscribe_control(struct redis_subscription *s);

/* What had to wait: sign-in, confirmations, errors, a message after a reset. May end the
 * connection. */
static void on_held(struct redis_subscription *s, const redisReply *reply)
{
	char text[128];

	if (is_message(reply)) {
		(void)on_message(s, reply);
	} else if (reply->type == REDIS_REPLY_ERROR) {
		snprintf(text, sizeof(text), "%.*s", SLICE_ARG(reply_text(reply)));
		connection_lost(s, text);
	} else if (s->state == SUBSCRIPTION_SIGNING_IN && reply->type == REDIS_REPLY_STATUS) {
		commit_consumed(s, parsed_offset(s));
		subscribe_control(s);
	} else if (is_confirmation(reply)) {
		on_confirmation(s, reply);
	} else {
		connection_lost(s, "unexpected reply");
	}
}

/* Collects messages up to the next other reply. False: the connection is gone. */
static bool parse(struct redis_subscription *s)
{
	while (!s->held && !delivery_full(s->delivery)) {
		void *raw = NULL;

		if (redisReaderGetReply(s->reader, &raw) != REDIS_OK) {
			connection_lost(s, "unreadable reply");
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

void redis_subscription_work(struct redis_subscription *s)
{
	static const struct timeval now = {0, 0};

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
		if (parsed_offset(s) > ((struct passport *)arena_at(s->worker->arena,
								    s->passport))
					       ->in.done)
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
	worker_now(s->worker);
	redis_subscription_work(s);
}

static void read_input(struct redis_subscription *s)
{
	struct worker *w = s->worker;
	ssize_t got = stream_read(w, s->passport, s->fd, 0);
	int error = errno;

	if (got <= 0) {
		arena_store(&w->arena->header->work.syscall, 0);
		if (got < 0 && error == EAGAIN)
			return;
		connection_lost(s, got == 0 ? "closed by the server" : strerror(error));
		return;
	}
	crash_point(CRASH_REDIS_READ);
	passport_draft_begin(&w->draft, s->passport);
	queue_append(&w->draft, &w->draft.now.in, w->arena->scratch, (size_t)got);
	arena_commit_add(&w->draft.commit, &w->arena->header->work.syscall, 0);
	if (!passport_draft_commit(&w->draft)) {
		connection_lost(s, "arena full");
		return;
	}
	redisReaderFeed(s->reader, (const char *)w->arena->scratch, (size_t)got);
	s->fed += (uint64_t)got;
	redis_subscription_work(s);
}

/* --- connecting --- */

static void subscribe_control(struct redis_subscription *s)
{
	struct worker *w = s->worker;
	struct buffer reply_channel = {0};
	const char *words[3] = {"SUBSCRIBE", REDIS_CONTROL_CHANNEL};
	size_t lengths[3] = {9, sizeof(REDIS_CONTROL_CHANNEL) - 1};

	redis_key_reply(&reply_channel, slice_str(w->start.node), w->start.slot);
	words[2] = reply_channel.data;
	lengths[2] = reply_channel.len;
	set_state(s, SUBSCRIPTION_CONTROL);
	passport_draft_begin(&w->draft, s->passport);
	if (!append_command(w, words, lengths, 3))
		w->draft.failed = true;
	buffer_free(&reply_channel);
	if (!passport_draft_commit(&w->draft)) {
		connection_lost(s, "arena full");
		return;
	}
	s->outstanding = CONTROL_CHANNELS;
	flush(s);
}

static void sign_in(struct redis_subscription *s)
{
	struct worker *w = s->worker;
	const struct ipc_redis *redis = &w->start.redis;
	const char *words[3] = {"AUTH", redis->user, redis->password};
	size_t lengths[3];
	int count = 3;
	arena_ref secret;

	if (redis->password[0] == '\0') {
		subscribe_control(s);
		return;
	}
	if (redis->user[0] == '\0') {
		words[1] = redis->password;
		count = 2;
	}
	for (int i = 0; i < count; i++)
		lengths[i] = strlen(words[i]);
	set_state(s, SUBSCRIPTION_SIGNING_IN);
	passport_draft_begin(&w->draft, s->passport);
	if (!append_command(w, words, lengths, count))
		w->draft.failed = true;
	secret = w->draft.now.out.tail;
	if (!passport_draft_commit(&w->draft)) {
		connection_lost(s, "arena full");
		return;
	}
	flush(s);
	/* The password does not stay in the arena once it was sent. The first bytes of a free chunk
	 * are its link. */
	if (s->passport && !((struct passport *)arena_at(w->arena, s->passport))->out.tail)
		explicit_bzero((uint8_t *)arena_at(w->arena, secret) + 20,
			       arena_class_size(arena_class_of(w->arena, secret)) - 20);
}

static bool passport_create(struct redis_subscription *s)
{
	struct worker *w = s->worker;
	struct passport *passport;
	struct passport fresh = {
		.magic = PASSPORT_MAGIC,
		.version = PASSPORT_VERSION,
		.kind = PASSPORT_REDIS,
		.state = PASSPORT_STATE_REDIS,
		.generation = w->arena->header->generation + 1,
		.accepted_at = w->now_ms,
	};

	s->passport = arena_record_alloc(w->arena, ARENA_PASSPORT);
	if (!s->passport)
		return false;
	passport = arena_at(w->arena, s->passport);
	arena_store(&w->arena->header->generation, fresh.generation);
	memcpy((uint8_t *)passport + 8, (const uint8_t *)&fresh + 8, sizeof(fresh) - 8);
	arena_store(passport, *(const uint64_t *)(const void *)&fresh);
	arena_store(&w->arena->header->redis_passport, s->passport);
	return true;
}

static void on_connected(struct redis_subscription *s)
{
	int error = 0, on = 1;
	socklen_t length = sizeof(error);

	if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0)
		error = errno;
	if (error) {
		connection_lost(s, strerror(error));
		return;
	}
	(void)setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	(void)setsockopt(s->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	s->reader = redisReaderCreate();
	s->fed = 0;
	s->last_sequence = 0;
	s->paused = false;
	if (!s->reader || !passport_create(s)) {
		connection_lost(s, "no memory");
		return;
	}
	sign_in(s);
}

static void on_socket(evutil_socket_t fd, short what, void *arg)
{
	struct redis_subscription *s = arg;

	(void)fd;
	worker_now(s->worker);
	if (s->state == SUBSCRIPTION_CONNECTING) {
		on_connected(s);
		return;
	}
	if (what & EV_WRITE)
		flush(s);
	if ((what & EV_READ) && s->passport && !s->paused)
		read_input(s);
}

static void on_resolved(void *ctx, const char *error, struct evutil_addrinfo *addresses)
{
	struct redis_subscription *s = ctx;

	s->resolution = NULL;
	worker_now(s->worker);
	if (error) {
		connection_lost(s, error);
		return;
	}
	s->fd = socket(addresses->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s->fd < 0 ||
	    (connect(s->fd, addresses->ai_addr, (socklen_t)addresses->ai_addrlen) < 0 &&
	     errno != EINPROGRESS)) {
		error = strerror(errno);
		evutil_freeaddrinfo(addresses);
		connection_lost(s, error);
		return;
	}
	evutil_freeaddrinfo(addresses);
	s->event = event_new(s->worker->base, s->fd, EV_WRITE, on_socket, s);
	set_state(s, SUBSCRIPTION_CONNECTING);
	event_add(s->event, NULL);
}

static void connect_start(struct redis_subscription *s)
{
	struct worker *w = s->worker;
	const struct ipc_redis *redis = &w->start.redis;

	/* What the lost connection brought is served first: positions come from it. */
	if (delivery_pending(s->delivery)) {
		wait_ms(s->retry, RECONNECT_FIRST_MS);
		return;
	}
	set_state(s, SUBSCRIPTION_RESOLVING);
	/* Until the control channels are confirmed, the same timer bounds the attempt. */
	wait_ms(s->retry, (uint64_t)w->settings.redis.connect_timeout);
	s->resolution =
		redis_resolve(w->base, &s->dns, redis->host, redis->port, on_resolved, s);
}

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
	struct redis_subscription *s = arg;

	(void)fd;
	(void)what;
	worker_now(s->worker);
	if (s->state == SUBSCRIPTION_WAITING)
		connect_start(s);
	else if (s->state != SUBSCRIPTION_LIVE)
		connection_lost(s, "no answer in time");
}

struct redis_subscription *redis_subscription_create(struct worker *w)
{
	struct redis_subscription *s = xcalloc(1, sizeof(*s));

	s->worker = w;
	s->fd = -1;
	s->delivery = delivery_create(w);
	s->retry = evtimer_new(w->base, on_retry, s);
	s->again = evtimer_new(w->base, on_again, s);
	/* Connecting begins in the loop: the worker is not whole yet. */
	wait_ms(s->retry, 0);
	return s;
}

void redis_subscription_free(struct redis_subscription *s)
{
	if (!s)
		return;
	disconnect(s);
	event_free(s->retry);
	event_free(s->again);
	if (s->dns)
		evdns_base_free(s->dns, 1);
	delivery_free(s->delivery);
	free(s);
}

void redis_subscription_view(const struct redis_subscription *s,
			     struct redis_subscription_view *view)
{
	view->state = state_names[s->state];
	view->reconnects = s->reconnects;
	view->messages = s->messages;
	view->audits_failed = s->audits_failed;
	view->last_sequence = s->last_sequence;
	memcpy(view->last_error, s->last_error, sizeof(view->last_error));
}

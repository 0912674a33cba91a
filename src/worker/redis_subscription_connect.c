/* SPDX-License-Identifier: ISC */
/*
 * Making and ending the subscription connection: resolving, connecting, signing
 * in, the control channels, the next attempt. Run by the worker. It never looks
 * at channels or messages.
 */
#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "keepsock/log.h"
#include "keepsock/random.h"
#include "keepsock/redis_keys.h"
#include "worker/deposits.h"
#include "worker/loop_watch.h"
#include "worker/redis_subscription_private.h"
#include "worker/shards.h"

#define RECONNECT_FIRST_MS 50u

static const char *const state_names[] = {"waiting", "resolving", "connecting", "signing_in",
					  "asking",  "settling",  "control",    "live"};

const char *redis_subscription_state_name(enum subscription_state state)
{
	return state_names[state];
}

void redis_subscription_set_state(struct redis_subscription *s, enum subscription_state state)
{
	if (state == SUBSCRIPTION_LIVE || s->state == SUBSCRIPTION_LIVE)
		log_info("redis_subscription shard=%u state=%s->%s", s->shard->index,
			 state_names[s->state], state_names[state]);
	s->state = state;
}

void redis_subscription_wait_ms(struct event *event, uint64_t ms)
{
	struct timeval tv = {(time_t)(ms / 1000), (suseconds_t)(ms % 1000) * 1000};

	event_add(event, &tv);
}

/* --- ending --- */

void redis_subscription_disconnect(struct redis_subscription *s)
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
	s->redis_run[0] = '\0';
	if (s->passport) {
		deposits_release_redis(s->worker, s->shard->index);
		passport_destroy(&s->worker->draft, s->passport, &s->shard->record->passport);
	}
	s->passport = 0;
}

void redis_subscription_retry_later(struct redis_subscription *s)
{
	uint64_t max = (uint64_t)s->worker->settings.redis.reconnect_max_delay;

	redis_subscription_set_state(s, SUBSCRIPTION_WAITING);
	redis_subscription_wait_ms(s->retry,
				   random_backoff_ms(s->attempt++, RECONNECT_FIRST_MS, max));
}

/* --- connecting --- */

void redis_subscription_control(struct redis_subscription *s)
{
	struct worker *w = s->worker;
	struct buffer reply_channel = {0};
	const char *words[4] = {"SUBSCRIBE", REDIS_PROBE_CHANNEL, REDIS_CONTROL_CHANNEL};
	size_t lengths[4] = {9, sizeof(REDIS_PROBE_CHANNEL) - 1, sizeof(REDIS_CONTROL_CHANNEL) - 1};

	redis_key_reply(&reply_channel, slice_str(w->start.node), w->start.slot);
	words[3] = reply_channel.data;
	lengths[3] = reply_channel.len;
	s->control_channels = redis_subscription_controls(s);
	redis_subscription_set_state(s, SUBSCRIPTION_CONTROL);
	passport_draft_begin(&w->draft, s->passport);
	if (!redis_subscription_append_command(w, words, lengths, 1 + (int)s->control_channels))
		w->draft.failed = true;
	buffer_free(&reply_channel);
	if (!passport_draft_commit(&w->draft)) {
		redis_subscription_lost(s, "arena full");
		return;
	}
	s->outstanding = s->control_channels;
	redis_subscription_flush(s);
}

void redis_subscription_ask(struct redis_subscription *s)
{
	struct worker *w = s->worker;
	const char *words[1] = {"INFO"};
	size_t lengths[1] = {4};

	redis_subscription_set_state(s, SUBSCRIPTION_ASKING);
	passport_draft_begin(&w->draft, s->passport);
	if (!redis_subscription_append_command(w, words, lengths, 1))
		w->draft.failed = true;
	if (!passport_draft_commit(&w->draft)) {
		redis_subscription_lost(s, "arena full");
		return;
	}
	redis_subscription_flush(s);
}

static void sign_in(struct redis_subscription *s)
{
	struct worker *w = s->worker;
	const struct ipc_redis *redis = &w->start.shards[s->shard->index];
	const char *words[3] = {"AUTH", redis->user, redis->password};
	size_t lengths[3];
	int count = 3;
	arena_ref secret;

	if (redis->password[0] == '\0') {
		redis_subscription_ask(s);
		return;
	}
	if (redis->user[0] == '\0') {
		words[1] = redis->password;
		count = 2;
	}
	for (int i = 0; i < count; i++)
		lengths[i] = strlen(words[i]);
	redis_subscription_set_state(s, SUBSCRIPTION_SIGNING_IN);
	passport_draft_begin(&w->draft, s->passport);
	if (!redis_subscription_append_command(w, words, lengths, count))
		w->draft.failed = true;
	secret = w->draft.now.out.tail;
	if (!passport_draft_commit(&w->draft)) {
		redis_subscription_lost(s, "arena full");
		return;
	}
	redis_subscription_flush(s);
	/* The password does not stay in the arena once it was sent. The first bytes of a free chunk
	 * are its link. */
	if (s->passport && !((struct passport *)arena_at(w->arena, s->passport))->out.tail)
		explicit_bzero((uint8_t *)arena_at(w->arena, secret) + 20,
			       arena_class_size(arena_class_of(w->arena, secret)) - 20);
}

static bool take_passport(struct redis_subscription *s)
{
	struct worker *w = s->worker;
	struct passport fresh = {
		.kind = PASSPORT_REDIS,
		.state = PASSPORT_STATE_REDIS,
		.accepted_at = w->now_ms,
	};

	s->passport = passport_create(w->arena, &fresh);
	if (!s->passport)
		return false;
	arena_store(&s->shard->record->passport, s->passport);
	deposits_add_redis(w, s->shard->index, s->passport, s->fd);
	return true;
}

static void on_connected(struct redis_subscription *s)
{
	int error = 0, on = 1;
	socklen_t length = sizeof(error);

	if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0)
		error = errno;
	if (error) {
		redis_subscription_lost(s, strerror(error));
		return;
	}
	(void)setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	(void)setsockopt(s->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	s->reader = redisReaderCreate();
	s->fed = 0;
	s->paused = false;
	if (!s->reader || !take_passport(s)) {
		redis_subscription_lost(s, "no memory");
		return;
	}
	sign_in(s);
}

void redis_subscription_on_socket(evutil_socket_t fd, short what, void *arg)
{
	struct redis_subscription *s = arg;

	(void)fd;
	loop_watch_begin(s->worker, LOOP_DELIVERY);
	if (s->state == SUBSCRIPTION_CONNECTING) {
		on_connected(s);
		return;
	}
	if (what & EV_WRITE)
		redis_subscription_flush(s);
	if ((what & EV_READ) && s->passport && !s->paused)
		redis_subscription_read(s);
}

static void on_resolved(void *ctx, const char *error, struct evutil_addrinfo *addresses)
{
	struct redis_subscription *s = ctx;

	s->resolution = NULL;
	loop_watch_begin(s->worker, LOOP_DELIVERY);
	if (error) {
		redis_subscription_lost(s, error);
		return;
	}
	s->fd = socket(addresses->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s->fd < 0 ||
	    (connect(s->fd, addresses->ai_addr, (socklen_t)addresses->ai_addrlen) < 0 &&
	     errno != EINPROGRESS)) {
		error = strerror(errno);
		evutil_freeaddrinfo(addresses);
		redis_subscription_lost(s, error);
		return;
	}
	evutil_freeaddrinfo(addresses);
	s->event = event_new(s->worker->base, s->fd, EV_WRITE, redis_subscription_on_socket, s);
	redis_subscription_set_state(s, SUBSCRIPTION_CONNECTING);
	event_add(s->event, NULL);
}

static void connect_start(struct redis_subscription *s)
{
	struct worker *w = s->worker;
	const struct ipc_redis *redis = &w->start.shards[s->shard->index];

	/* What the lost connection brought is served first: positions come from it. */
	if (delivery_pending(s->delivery)) {
		redis_subscription_wait_ms(s->retry, RECONNECT_FIRST_MS);
		return;
	}
	if (s->sequences_old)
		redis_subscription_forget_sequences(s);
	redis_subscription_set_state(s, SUBSCRIPTION_RESOLVING);
	/* Until the control channels are confirmed, the same timer bounds the attempt. */
	redis_subscription_wait_ms(s->retry, (uint64_t)w->settings.redis.connect_timeout);
	s->resolution = redis_resolve(w->base, &s->dns, redis->host, redis->port, on_resolved, s);
}

void redis_subscription_on_retry(evutil_socket_t fd, short what, void *arg)
{
	struct redis_subscription *s = arg;

	(void)fd;
	(void)what;
	loop_watch_begin(s->worker, LOOP_DELIVERY);
	if (s->state == SUBSCRIPTION_WAITING)
		connect_start(s);
	else if (s->state != SUBSCRIPTION_LIVE)
		redis_subscription_lost(s, "no answer in time");
}

/* SPDX-License-Identifier: ISC */
/*
 * The destination of a move, see move.h and move_messages.h. Run by the worker.
 * It makes sure that it hears the source's channels and holds what comes; each
 * offered connection then gets a passport here, with everything held that is not
 * its client's yet, and the keeper a duplicate of its socket, before it is taken
 * by one compare-and-swap. All of that is one callback: nobody serves in between.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keepsock/alloc.h"
#include "keepsock/clock.h"
#include "keepsock/ipc.h"
#include "keepsock/log.h"
#include "keepsock/passport_export.h"
#include "keepsock/redis_scripts.h"
#include "keepsock/secret.h"
#include "worker/client_expiry.h"
#include "worker/deposits.h"
#include "worker/move.h"
#include "worker/move_messages.h"
#include "worker/redis_subscription.h"
#include "worker/sessions.h"
#include "worker/shards.h"
#include "worker/subscribing.h"

/* What comes is held so long for a source that does not go on. */
#define HOLD_MS 5000u
/* A look at whether the channels are heard. */
#define STEP_MS 5u
/* No passport is longer: its queues and subscriptions are bounded. */
#define EXPORT_MAX        ((uint64_t)256 << 20)
#define MESSAGES_PER_TURN 8u

enum in_state { IN_IDLE, IN_JOINING, IN_HEARD };

struct move_in {
	struct worker *worker;
	int fd;              /* owned; -1: only waits for Redis to call back */
	struct event *event; /* owned */
	struct event *timer; /* owned */
	enum in_state state;
	bool began;
	bool leaving; /* BYE came */
	uint32_t round;
	struct move_begin begin;
	struct move_channels_end end;
	arena_ref *channels; /* owned; each waits for us */
	size_t channel_count, channel_capacity;
	size_t heard;                    /* of them, as far as was looked */
	uint64_t runs[ARENA_SHARDS_MAX]; /* of the subscription connections, when all was heard */
	uint64_t held_until;
	uint64_t telling; /* calls to Redis under way */
	uint64_t taken, refused;
	struct buffer bytes;
};

/* --- the channels --- */

static void release_channels(struct move_in *m)
{
	struct worker *w = m->worker;

	for (size_t i = 0; i < m->channel_count; i++) {
		struct channel *channel = hub_channel_at(&w->hub, m->channels[i]);

		channel->waiting--;
		channel->move_round = 0;
		subscribing_settle_channel(w, channel);
	}
	m->channel_count = m->heard = 0;
	m->state = IN_IDLE;
}

/* False: the arena is full. */
static bool want_channel(struct move_in *m, struct slice name)
{
	struct worker *w = m->worker;
	struct channel *channel = hub_get(&w->hub, name);

	if (!channel)
		return false;
	if (channel->move_round == m->round)
		return true;
	if (m->channel_count == m->channel_capacity) {
		m->channel_capacity = m->channel_capacity * 2 + 64;
		m->channels = xrealloc(m->channels, m->channel_capacity * sizeof(*m->channels));
	}
	m->channels[m->channel_count++] = channel->ref;
	channel->move_round = m->round;
	channel->waiting++;
	worker_channel_review(w, channel);
	return true;
}

static bool is_heard(const struct move_in *m, arena_ref ref)
{
	const struct channel *channel = hub_channel_at(&m->worker->hub, ref);

	return hub_record(&m->worker->hub, channel)->state == CHANNEL_JOINED &&
	       !channel->catching_up;
}

static void wait_ms(struct move_in *m, unsigned ms)
{
	struct timeval time = {(time_t)(ms / 1000), (suseconds_t)(ms % 1000) * 1000};

	event_add(m->timer, &time);
}

/* --- saying --- */

static void lost(struct move_in *m, const char *why)
{
	struct worker *w = m->worker;

	log_info("move_in_ended taken=%llu refused=%llu reason=%s", (unsigned long long)m->taken,
		 (unsigned long long)m->refused, log_value_str(why));
	move_in_free(w);
}

/* False: the source does not listen, which ends it. */
static bool say(struct move_in *m, enum move_type type, const void *payload, size_t length)
{
	if (ipc_send(m->fd, type, 0, payload, length, NULL, 0) == 0)
		return true;
	lost(m, strerror(errno));
	return false;
}

static void refuse_round(struct move_in *m, const char *why)
{
	release_channels(m);
	(void)say(m, MOVE_REFUSED, why, strlen(why));
}

/* Not moved on by what came since it was heard: those runs are the same. */
static const char *round_problem(const struct move_in *m)
{
	const struct worker *w = m->worker;

	for (unsigned i = 0; i < w->shard_count; i++) {
		const struct redis_shard *shard = &w->shards[i];

		if (!redis_subscription_available(shard->subscription))
			return "Redis is away from the other worker";
		if (memcmp(shard->record->run, m->end.run[i], ARENA_RUN_MAX) != 0)
			return "the workers are on different runs of Redis";
	}
	return NULL;
}

static void look(struct move_in *m)
{
	struct worker *w = m->worker;
	const char *problem = round_problem(m);

	if (problem) {
		refuse_round(m, problem);
		return;
	}
	while (m->heard < m->channel_count && is_heard(m, m->channels[m->heard]))
		m->heard++;
	if (m->heard < m->channel_count) {
		wait_ms(m, STEP_MS);
		return;
	}
	for (unsigned i = 0; i < w->shard_count; i++)
		m->runs[i] = redis_subscription_run(w->shards[i].subscription);
	m->state = IN_HEARD;
	m->held_until = w->now_ms + HOLD_MS;
	if (say(m, MOVE_HEARD, NULL, 0))
		wait_ms(m, HOLD_MS);
}

static void settle(struct move_in *m)
{
	if (m->leaving && m->telling == 0 && say(m, MOVE_SETTLED, NULL, 0))
		lost(m, "done");
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct move_in *m = arg;

	(void)fd;
	(void)what;
	loop_watch_begin(m->worker, LOOP_CONTROL);
	if (m->state == IN_JOINING)
		look(m);
	else if (m->state == IN_HEARD && m->worker->now_ms >= m->held_until)
		refuse_round(m, "the other worker held what came for too long");
	else if (m->state == IN_HEARD)
		wait_ms(m, (unsigned)(m->held_until - m->worker->now_ms));
}

/* --- what Redis has to know --- */

static void on_members_moved(void *ctx, const struct redis_count_result *result)
{
	struct move_in *m = ctx;

	if (result->outcome.code != REDIS_RESULT_OK)
		log_warning("members_not_moved error=%s", log_value_str(result->outcome.error));
	m->telling--;
	if (m->fd < 0 && m->telling == 0)
		free(m);
	else if (m->fd >= 0)
		settle(m);
}

static void tell_shard(struct move_in *m, struct connection *c, struct redis_shard *shard)
{
	struct worker *w = m->worker;
	const struct passport *passport = connection_passport(c);
	struct slice *names = xcalloc(passport->subscription_count + 1, sizeof(*names));
	arena_ref ref = passport->subscriptions;
	char id[37];
	size_t count = 0;

	while (ref) {
		const struct subscription_record *record = arena_at(w->arena, ref);
		struct channel *channel = hub_channel_at(&w->hub, record->channel);

		if ((record->flags & (SUBSCRIPTION_PRESENCE | SUBSCRIPTION_ANNOUNCED)) &&
		    worker_channel_shard(w, channel) == shard)
			names[count++] = hub_name(&w->hub, channel);
		ref = record->next;
	}
	for (size_t at = 0; at < count; at += REDIS_BATCH_MAX) {
		size_t n = count - at < REDIS_BATCH_MAX ? count - at : REDIS_BATCH_MAX;

		m->telling++;
		redis_members_move(shard->pool, connection_affinity(passport),
				   slice_str(m->begin.worker_name), slice_str(w->worker_name),
				   connection_id(passport, id), names + at, n, on_members_moved, m);
	}
	free(names);
}

/* --- a connection --- */

/* It never was here. */
static void undo(struct connection *c)
{
	/* The source has it, and its peer notices nothing. */
	close(connection_lend(c));
	connection_forget(c, false);
	connection_reap(c->worker);
}

static const char *add_subscriptions(struct move_in *m, arena_ref ref,
				     struct passport_import *import)
{
	struct worker *w = m->worker;
	struct passport_import_subscription subscription;

	while (passport_import_next(import, &subscription)) {
		struct channel *channel = hub_find(&w->hub, subscription.channel);

		if (!channel || channel->move_round != m->round || !is_heard(m, channel->ref))
			return "a channel is not heard";
		switch (passport_import_subscribe(&w->hub, &w->draft, ref, channel,
						  &subscription)) {
		case PASSPORT_IMPORT_DONE: metric_add(METRIC_subscriptions, 1); break;
		case PASSPORT_IMPORT_FULL: return "the arena is full";
		case PASSPORT_IMPORT_OVERTAKEN: return "what came is not all held";
		case PASSPORT_IMPORT_GAP: return "it does not follow on what is held";
		}
	}
	return NULL;
}

/* It is ours: serves it. */
static void go_on(struct move_in *m, struct connection *c)
{
	struct worker *w = m->worker;

	m->taken++;
	connection_draft(c)->now.move = 0;
	if (!connection_commit(c))
		return;
	connection_adopt(c);
	if (c->fd < 0)
		return;
	client_expiry_note_all(c);
	connection_arm(c);
	sessions_changed(c);
	for (unsigned i = 0; i < w->shard_count; i++)
		tell_shard(m, c, &w->shards[i]);
}

static const char *offer_problem(const struct move_in *m, const struct move_offer *offer)
{
	const struct worker *w = m->worker;

	if (m->state != IN_HEARD)
		return "it comes too late";
	for (unsigned i = 0; i < w->shard_count; i++) {
		if (redis_subscription_run(w->shards[i].subscription) != m->runs[i])
			return "the connection to Redis is another one by now";
	}
	/* All of this user's connections were asked for something, and this one was not here. */
	if (w->control_sequence > offer->control)
		return "a command to all workers came in between";
	if (w->stopping || w->connection_count >= w->connection_max)
		return "this worker has as many connections as it can";
	return NULL;
}

/* NULL: it is served here from now on. The socket is taken over in any case. */
static const char *take(struct move_in *m, const struct move_offer *offer,
			struct passport_import *import, int fd)
{
	struct worker *w = m->worker;
	struct connection *c;
	const char *problem;
	arena_ref ref;

	ref = passport_import_make(&w->draft, import,
				   PASSPORT_MOVE(offer->number, PASSPORT_ARRIVING));
	if (!ref) {
		close(fd);
		return "the arena is full";
	}
	c = connection_arrive(w, ref, fd);
	problem = add_subscriptions(m, ref, import);
	if (!problem)
		deposits_flush(w);
	if (!problem && !c->deposited && deposits_reachable(w))
		problem = "the keeper does not take its socket now";
	if (!problem && !node_move_take(&w->page->moves, offer->number))
		problem = "it was withdrawn";
	if (problem) {
		undo(c);
		return problem;
	}
	go_on(m, c);
	node_move_done(&w->page->moves, offer->number, NODE_MOVE_TAKER);
	return NULL;
}

/* A long export comes in a memfd. */
static bool read_export(struct move_in *m, const struct move_offer *offer,
			const struct ipc_message *message, struct slice *bytes)
{
	struct stat st;
	size_t at = 0;

	if (bytes->len == offer->length && message->nfds == 1)
		return true;
	if (bytes->len > 0 || message->nfds != 2 || fstat(message->fds[1], &st) < 0 ||
	    (uint64_t)st.st_size != offer->length || offer->length > EXPORT_MAX)
		return false;
	buffer_reset(&m->bytes);
	buffer_reserve(&m->bytes, (size_t)offer->length);
	while (at < offer->length) {
		ssize_t got = pread(message->fds[1], m->bytes.data + at, (size_t)offer->length - at,
				    (off_t)at);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return false;
		at += (size_t)got;
	}
	*bytes = slice_from(m->bytes.data, at);
	return true;
}

static void on_offer(struct move_in *m, struct ipc_message *message, struct slice payload)
{
	struct passport_import import = {0};
	struct move_answer answer = {0};
	struct move_offer offer;
	const char *problem;

	if (payload.len < sizeof(offer) || message->nfds < 1) {
		lost(m, "an offer that is none");
		return;
	}
	memcpy(&offer, payload.data, sizeof(offer));
	payload = slice_from(payload.data + sizeof(offer), payload.len - sizeof(offer));
	answer.number = offer.number;
	problem = offer_problem(m, &offer);
	if (!problem && !read_export(m, &offer, message, &payload))
		problem = "its passport can't be read";
	if (!problem)
		problem = passport_import_read(payload, &import);
	if (!problem) {
		problem = take(m, &offer, &import, message->fds[0]);
		message->fds[0] = -1;
	}
	if (import.encrypted) {
		passport_import_wipe(&import);
		secret_wipe(m->bytes.data, m->bytes.len);
		secret_wipe(message->data, message->len);
	}
	answer.taken = problem == NULL;
	if (problem) {
		m->refused++;
		log_info("move_refused number=%llu reason=%s", (unsigned long long)offer.number,
			 log_value_str(problem));
	}
	m->held_until = m->worker->now_ms + HOLD_MS;
	(void)say(m, MOVE_ANSWER, &answer, sizeof(answer));
}

/* --- messages --- */

static const char *on_begin(struct move_in *m, struct slice payload)
{
	if (payload.len != sizeof(m->begin))
		return "a beginning that is cut off";
	memcpy(&m->begin, payload.data, sizeof(m->begin));
	if (m->begin.version != MOVE_PROTOCOL_VERSION ||
	    m->begin.shards != m->worker->shard_count ||
	    !memchr(m->begin.worker_name, '\0', sizeof(m->begin.worker_name)))
		return "a worker of another kind";
	m->began = true;
	return NULL;
}

static const char *on_channels(struct move_in *m, struct slice payload)
{
	if (!m->began || m->state == IN_HEARD)
		return "channels out of turn";
	if (m->state == IN_IDLE) {
		m->state = IN_JOINING;
		m->round = ++m->worker->move_rounds;
	}
	while (payload.len > 0) {
		uint16_t length;

		if (payload.len < sizeof(length))
			return "a name that is cut off";
		memcpy(&length, payload.data, sizeof(length));
		payload = slice_from(payload.data + sizeof(length), payload.len - sizeof(length));
		if (length == 0 || length > payload.len)
			return "a name that is cut off";
		/* What is missing is noticed when connections come that need it. */
		(void)want_channel(m, slice_from(payload.data, length));
		payload = slice_from(payload.data + length, payload.len - length);
	}
	return NULL;
}

static const char *on_channels_end(struct move_in *m, struct slice payload)
{
	if (!m->began || payload.len != sizeof(m->end) || m->state == IN_HEARD)
		return "channels that end out of turn";
	memcpy(&m->end, payload.data, sizeof(m->end));
	if (m->state == IN_IDLE)
		m->round = ++m->worker->move_rounds;
	m->state = IN_JOINING;
	wait_ms(m, 0);
	return NULL;
}

static const char *on_message(struct move_in *m, struct ipc_message *message, struct slice payload)
{
	switch (message->type) {
	case MOVE_BEGIN: return on_begin(m, payload);
	case MOVE_CHANNELS: return on_channels(m, payload);
	case MOVE_CHANNELS_END: return on_channels_end(m, payload);
	case MOVE_OFFER: on_offer(m, message, payload); return NULL;
	case MOVE_END: release_channels(m); return NULL;
	case MOVE_BYE:
		m->leaving = true;
		settle(m);
		return NULL;
	default: return "a message that sources may not send";
	}
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct move_in *m = arg;
	struct worker *w = m->worker;
	struct ipc_message *message = xmalloc(sizeof(*message));
	const char *problem = NULL;
	struct slice payload;
	int result = 1;

	(void)fd;
	(void)what;
	loop_watch_begin(w, LOOP_CONTROL);
	for (unsigned i = 0; i < MESSAGES_PER_TURN && w->move_in == m && !problem; i++) {
		result = ipc_receive(m->fd, message);
		if (result != 1)
			break;
		problem = ipc_message_payload(message, &payload) < 0
				  ? strerror(errno)
				  : on_message(m, message, payload);
		ipc_message_close_fds(message);
	}
	if (w->move_in == m && (problem || result == 0 || (result < 0 && errno != EAGAIN)))
		lost(m, problem ? problem : "the other worker is gone");
	free(message);
}

void move_in_begin(struct worker *w, int fd)
{
	struct move_in *m;

	if (w->move_in)
		lost(w->move_in, "another one begins");
	if (w->stopping || w->move_out || fcntl(fd, F_SETFL, O_NONBLOCK) < 0) {
		close(fd);
		return;
	}
	m = xcalloc(1, sizeof(*m));
	m->worker = w;
	m->fd = fd;
	m->event = event_new(w->base, fd, EV_READ | EV_PERSIST, on_readable, m);
	m->timer = evtimer_new(w->base, on_timer, m);
	event_add(m->event, NULL);
	w->move_in = m;
}

void move_in_free(struct worker *w)
{
	struct move_in *m = w->move_in;

	if (!m)
		return;
	w->move_in = NULL;
	if (w->shards)
		release_channels(m);
	event_free(m->event);
	event_free(m->timer);
	close(m->fd);
	m->fd = -1;
	free(m->channels);
	m->channels = NULL;
	buffer_free(&m->bytes);
	if (m->telling == 0)
		free(m);
}

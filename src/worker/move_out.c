/* SPDX-License-Identifier: ISC */
/*
 * The source of a move, see move.h and move_messages.h. Run by the worker. In a
 * round it names the channels of its connections, waits until the destination
 * hears them and until itself has served what came before that, and then offers
 * connections that wait for nothing, a few at a time. Nothing is delivered here
 * while some are on offer, so one that comes back has missed nothing. Those that
 * were not ready, or refused, have their turn in the next round.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "keepsock/alloc.h"
#include "keepsock/ipc.h"
#include "keepsock/log.h"
#include "keepsock/node_events.h"
#include "keepsock/passport_export.h"
#include "keepsock/redis_scripts.h"
#include "keepsock/secret.h"
#include "worker/move.h"
#include "worker/move_messages.h"
#include "worker/redis_subscription.h"
#include "worker/shards.h"

#define OFFERS_MAX 32u
/* A destination that has not answered by then gets no more. */
#define ANSWER_MS 1000u
/* Of a round: until all is heard here and there; then for offers. */
#define HEARING_MS 5000u
#define ROUND_MS   1000u
/* Between two rounds. */
#define PAUSE_MS 50u
/* A look at what can be done next, where no event tells. */
#define STEP_MS 5u
/* Deliveries stand still so long at a time, but for the last answers. */
#define HOLD_MS 10u
/* Names in one message. */
#define NAMES_MAX ((size_t)32 * 1024)

enum out_state {
	OUT_ANNOUNCING,  /* channels */
	OUT_HEARING,     /* the destination is about to hear them */
	OUT_GOING_ROUND, /* our own message is on its way through each shard */
	OUT_OFFERING,
	OUT_PAUSING,
	OUT_SETTLING, /* all are over there; Redis is told */
};

struct offer {
	uint64_t number;
	arena_ref passport;
	int fd; /* owned until it is answered */
};

struct move_out {
	struct worker *worker;
	uint64_t id; /* the master's */
	struct ipc_move_out order;
	int fd;              /* owned */
	struct event *event; /* owned */
	struct event *timer; /* owned */
	enum out_state state;
	bool began; /* BEGIN is sent */
	uint32_t round, rounds;
	uint32_t channels;   /* announced in this round */
	arena_ref cursor;    /* the last channel announced, or the last passport looked at */
	uint64_t deadline;   /* boottime ms: of the whole */
	uint64_t state_ends; /* of the state */
	uint64_t runs[ARENA_SHARDS_MAX];   /* of the subscription connections in this round */
	uint64_t stands[ARENA_SHARDS_MAX]; /* shard sequences, everything up to there is served */
	bool round_trip[ARENA_SHARDS_MAX]; /* our message came back */
	bool holding;
	uint64_t held_since;
	struct offer offers[OFFERS_MAX];
	uint32_t offer_count;
	uint32_t moved, refused;
	char reason[160]; /* why the last round did not do */
	struct buffer bytes;
};

static void step(struct move_out *m);

/* --- the end --- */

static void hold(struct move_out *m, bool on)
{
	struct worker *w = m->worker;

	if (m->holding == on)
		return;
	m->holding = on;
	m->held_since = w->now_ms;
	for (unsigned i = 0; i < w->shard_count; i++)
		redis_subscription_hold(w->shards[i].subscription, on);
}

/* Back with us. */
static void come_back(struct move_out *m, const struct offer *offer)
{
	struct connection *c = connection_at(m->worker, offer->passport);

	connection_draft(c)->now.move = 0;
	if (!connection_commit(c)) {
		close(offer->fd);
		return;
	}
	connection_return(c, offer->fd);
	m->refused++;
}

static void has_left(struct move_out *m, const struct offer *offer)
{
	struct worker *w = m->worker;

	close(offer->fd);
	connection_gone(connection_at(w, offer->passport));
	/* Whoever follows us must not find the passport when it can't ask any more. */
	connection_reap(w);
	node_move_done(&w->page->moves, offer->number, NODE_MOVE_OFFERER);
	m->moved++;
}

/* Whether it was taken or not, the word in the node page knows. */
static void settle_offer(struct move_out *m, uint32_t index)
{
	struct offer offer = m->offers[index];

	m->offers[index] = m->offers[--m->offer_count];
	if (node_move_withdraw(&m->worker->page->moves, offer.number))
		come_back(m, &offer);
	else
		has_left(m, &offer);
}

static void let_stay(struct worker *w)
{
	arena_ref ref = 0;

	while ((ref = passport_next(w->arena, ref))) {
		struct connection *c = connection_at(w, ref);

		if (((struct passport *)arena_at(w->arena, ref))->kind != PASSPORT_CLIENT ||
		    !c->leaving)
			continue;
		c->leaving = false;
		connection_schedule(c);
	}
}

static void finish(struct move_out *m, const char *why_not)
{
	struct worker *w = m->worker;
	struct buffer payload = {0};
	struct ipc_moved moved;

	while (m->offer_count > 0)
		settle_offer(m, 0);
	hold(m, false);
	let_stay(w);
	moved = (struct ipc_moved){m->moved, (uint32_t)w->connection_count};
	buffer_append(&payload, &moved, sizeof(moved));
	buffer_append_str(&payload, why_not ? why_not : "");
	if (ipc_send(w->ipc_fd, IPC_MOVED, m->id, payload.data, payload.len, NULL, 0) < 0)
		log_error("ipc_send_failed type=MOVED error=%s", log_value_str(strerror(errno)));
	log_info("moved connections=%u left=%u refused=%u rounds=%u reason=%s", moved.moved,
		 moved.left, m->refused, m->rounds, log_value_str(why_not ? why_not : "done"));
	node_event_add(NODE_EVENT_MOVED, "%u connections to another worker, %u left", moved.moved,
		       moved.left);
	buffer_free(&payload);
	move_out_free(w);
}

void move_out_free(struct worker *w)
{
	struct move_out *m = w->move_out;

	if (!m)
		return;
	w->move_out = NULL;
	while (m->offer_count > 0)
		settle_offer(m, 0);
	hold(m, false);
	event_free(m->event);
	event_free(m->timer);
	close(m->fd);
	buffer_free(&m->bytes);
	free(m);
}

/* --- sending --- */

static void wait_ms(struct move_out *m, unsigned ms)
{
	struct timeval time = {(time_t)(ms / 1000), (suseconds_t)(ms % 1000) * 1000};

	event_add(m->timer, &time);
}

/* False: later (nothing was sent), or the destination is gone, as its end will tell. */
static bool say(struct move_out *m, enum move_type type, const void *payload, size_t length,
		const int *fds, size_t count)
{
	if (ipc_send(m->fd, type, 0, payload, length, fds, count) == 0)
		return true;
	if (errno != EAGAIN && errno != ETOOMANYREFS && errno != ENOBUFS && errno != ENOMEM)
		snprintf(m->reason, sizeof(m->reason), "%s", strerror(errno));
	return false;
}

static void change_state(struct move_out *m, enum out_state state, unsigned limit_ms)
{
	m->state = state;
	m->state_ends = m->worker->now_ms + limit_ms;
	m->cursor = 0;
}

/* --- a round: channels --- */

static void begin_round(struct move_out *m)
{
	struct worker *w = m->worker;

	m->round = ++w->move_rounds;
	m->rounds++;
	m->channels = 0;
	for (unsigned i = 0; i < w->shard_count; i++) {
		m->runs[i] = redis_subscription_run(w->shards[i].subscription);
		m->round_trip[i] = false;
	}
	change_state(m, OUT_ANNOUNCING, HEARING_MS);
}

static void end_round(struct move_out *m, const char *why)
{
	hold(m, false);
	if (why)
		snprintf(m->reason, sizeof(m->reason), "%s", why);
	/* It may take a moment until there is room for this; without it the destination would hold
	 * what comes until its own limit. */
	if (m->state == OUT_OFFERING || m->state == OUT_GOING_ROUND)
		(void)say(m, MOVE_END, NULL, 0, NULL, 0);
	change_state(m, OUT_PAUSING, PAUSE_MS);
}

static bool send_begin(struct move_out *m)
{
	struct worker *w = m->worker;
	struct move_begin begin = {.version = MOVE_PROTOCOL_VERSION, .shards = w->shard_count};

	memcpy(begin.worker_name, w->arena->header->worker_name, sizeof(begin.worker_name));
	m->began = say(m, MOVE_BEGIN, &begin, sizeof(begin), NULL, 0);
	return m->began;
}

/* The next message of names; false when there is no room for it now. *last: they were the last. */
static bool send_names(struct move_out *m, bool *last)
{
	struct worker *w = m->worker;
	struct channel at = {.ref = m->cursor}, *channel = m->cursor ? &at : NULL;
	arena_ref cursor = m->cursor;
	uint32_t count = 0;

	buffer_reset(&m->bytes);
	*last = true;
	while ((channel = hub_next(&w->hub, channel))) {
		struct slice name = hub_name(&w->hub, channel);
		uint16_t length = (uint16_t)name.len;

		if (hub_subscribers(&w->hub, channel) > 0) {
			buffer_append(&m->bytes, &length, sizeof(length));
			buffer_append_slice(&m->bytes, name);
			channel->move_round = m->round;
			count++;
		}
		cursor = channel->ref;
		if (m->bytes.len >= NAMES_MAX) {
			*last = false;
			break;
		}
	}
	if (count > 0 && !say(m, MOVE_CHANNELS, m->bytes.data, m->bytes.len, NULL, 0))
		return false;
	m->channels += count;
	m->cursor = cursor;
	return true;
}

static bool send_channels_end(struct move_out *m)
{
	struct worker *w = m->worker;
	struct move_channels_end end = {.channels = m->channels};

	for (unsigned i = 0; i < w->shard_count; i++)
		memcpy(end.run[i], w->shards[i].record->run, ARENA_RUN_MAX);
	return say(m, MOVE_CHANNELS_END, &end, sizeof(end), NULL, 0);
}

static void announce(struct move_out *m)
{
	bool last = false;

	if (!m->began && !send_begin(m))
		return;
	while (!last) {
		if (!send_names(m, &last))
			return;
	}
	if (send_channels_end(m))
		change_state(m, OUT_HEARING, HEARING_MS);
}

/* --- a round: everything before is served --- */

static void append_token(const struct move_out *m, struct buffer *out)
{
	buffer_append_str(out, m->worker->worker_name);
	buffer_append_str(out, " moves ");
	buffer_append_u64(out, m->id);
	buffer_append_char(out, ' ');
	buffer_append_u64(out, m->round);
}

static void on_token_sent(void *ctx, const struct redis_count_result *result)
{
	(void)ctx;
	/* It does not come round, then: the round's time ends. */
	if (result->outcome.code != REDIS_RESULT_OK)
		log_warning("move_token_lost");
}

static void send_round(struct move_out *m)
{
	struct worker *w = m->worker;

	change_state(m, OUT_GOING_ROUND, HEARING_MS);
	buffer_reset(&m->bytes);
	append_token(m, &m->bytes);
	for (unsigned i = 0; i < w->shard_count; i++)
		redis_control_publish(w->shards[i].pool, 0, SLICE(REDIS_PROBE_CHANNEL),
				      buffer_slice(&m->bytes), on_token_sent, NULL);
}

void move_out_on_probe(struct worker *w, unsigned shard, struct slice data)
{
	struct move_out *m = w->move_out;

	if (!m || m->state != OUT_GOING_ROUND)
		return;
	buffer_reset(&m->bytes);
	append_token(m, &m->bytes);
	if (!slice_equal(data, buffer_slice(&m->bytes)))
		return;
	m->round_trip[shard] = true;
	wait_ms(m, 0);
}

static bool went_round(const struct move_out *m)
{
	for (unsigned i = 0; i < m->worker->shard_count; i++) {
		if (!m->round_trip[i])
			return false;
	}
	return true;
}

/* Everything that was read is served, and the connections are those that the round began with. */
static bool stands_still(struct move_out *m, bool *broken)
{
	struct worker *w = m->worker;
	bool still = true;

	*broken = false;
	for (unsigned i = 0; i < w->shard_count; i++) {
		still &= redis_subscription_at_rest(w->shards[i].subscription, &m->stands[i]);
		*broken |= redis_subscription_run(w->shards[i].subscription) != m->runs[i];
	}
	return still;
}

/* --- a round: offers --- */

static bool subscription_movable(const struct move_out *m, const struct subscription_record *record)
{
	struct worker *w = m->worker;
	struct channel *channel = hub_channel_at(&w->hub, record->channel);
	const struct channel_record *at = hub_record(&w->hub, channel);

	return channel->move_round == m->round && !(record->flags & SUBSCRIPTION_LOST) &&
	       record->position != SUBSCRIPTION_UNPLACED && at->positioned && !at->behind &&
	       !channel->catching_up && !channel->lost &&
	       record->start_sequence <= m->stands[worker_channel_shard(w, channel)->index];
}

/* Nobody answers it any more, nothing is under way for it. */
static bool is_quiet(const struct connection *c)
{
	const struct passport *passport = connection_passport(c);

	if (c->pending || c->in_turn || c->over_limit)
		return false;
	switch (passport->state) {
	case PASSPORT_STATE_HTTP: return true;
	case PASSPORT_STATE_ECHO:
	case PASSPORT_STATE_UNAUTHENTICATED:
	case PASSPORT_STATE_CONNECTED:
	case PASSPORT_STATE_UNUSABLE: return c->subscribing == NULL;
	default: return false; /* it ends soon */
	}
}

static bool is_movable(const struct move_out *m, struct connection *c)
{
	const struct worker *w = m->worker;
	arena_ref ref = connection_passport(c)->subscriptions;

	if (!is_quiet(c)) {
		/* Its next command waits until it is over there. */
		c->leaving = c->pending != NULL;
		return false;
	}
	while (ref) {
		const struct subscription_record *record = arena_at(w->arena, ref);

		if (!subscription_movable(m, record))
			return false;
		ref = record->next;
	}
	return true;
}

static struct passport_export_position where(void *context, const struct channel *channel)
{
	struct move_out *m = context;
	struct worker *w = m->worker;
	struct channel *at = hub_channel_at(&w->hub, channel->ref);
	const struct channel_record *record = hub_record(&w->hub, at);

	return (struct passport_export_position){
		.sequence = m->stands[worker_channel_shard(w, at)->index],
		.offset = record->offset,
		.epoch = hub_epoch(record),
		.history = record->history != 0,
	};
}

/* A memfd with what follows the head; -1 with errno. */
static int long_export(struct slice bytes)
{
	int fd = memfd_create("keepsock-passport", MFD_CLOEXEC);

	while (fd >= 0 && bytes.len > 0) {
		ssize_t written = write(fd, bytes.data, bytes.len);

		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0) {
			close(fd);
			return -1;
		}
		bytes = slice_from(bytes.data + written, bytes.len - (size_t)written);
	}
	return fd;
}

static bool send_offer(struct move_out *m, arena_ref passport, uint64_t number, int socket)
{
	struct worker *w = m->worker;
	struct move_offer head = {.number = number, .control = m->stands[0]};
	int fds[2] = {socket, -1};
	bool inline_bytes, sent;

	buffer_reset(&m->bytes);
	buffer_append(&m->bytes, &head, sizeof(head));
	passport_export(&m->bytes, &w->hub, passport, where, m);
	head.length = m->bytes.len - sizeof(head);
	memcpy(m->bytes.data, &head, sizeof(head));
	inline_bytes = m->bytes.len <= IPC_INLINE_MAX;
	if (!inline_bytes)
		fds[1] = long_export(slice_from(m->bytes.data + sizeof(head), (size_t)head.length));
	sent = (inline_bytes || fds[1] >= 0) &&
	       say(m, MOVE_OFFER, m->bytes.data, inline_bytes ? m->bytes.len : sizeof(head), fds,
		   inline_bytes ? 1 : 2);
	/* There may be keys in it. */
	secret_wipe(m->bytes.data, m->bytes.len);
	if (fds[1] >= 0)
		close(fds[1]);
	return sent;
}

/* False: no more now. */
static bool offer(struct move_out *m, struct connection *c)
{
	struct worker *w = m->worker;
	struct offer *o = &m->offers[m->offer_count];
	uint64_t number = node_move_offer(&w->page->moves);

	if (!number)
		return false;
	connection_draft(c)->now.move = PASSPORT_MOVE(number, PASSPORT_LEAVING);
	if (!connection_commit(c)) {
		(void)node_move_withdraw(&w->page->moves, number);
		return true;
	}
	*o = (struct offer){number, c->passport, connection_lend(c)};
	m->offer_count++;
	if (send_offer(m, o->passport, number, o->fd))
		return true;
	settle_offer(m, m->offer_count - 1);
	return false;
}

static bool enough(const struct move_out *m)
{
	return m->order.count > 0 && m->moved + m->offer_count >= m->order.count;
}

/* False: the walk is at its end. */
static bool offer_some(struct move_out *m)
{
	struct worker *w = m->worker;
	arena_ref ref = m->cursor;

	while (m->offer_count < OFFERS_MAX && !enough(m)) {
		arena_ref next = passport_next(w->arena, ref);
		struct connection *c;

		if (!next)
			return false;
		if (((struct passport *)arena_at(w->arena, next))->kind == PASSPORT_CLIENT) {
			c = connection_at(w, next);
			if (c->fd >= 0 && is_movable(m, c) && !offer(m, c))
				return true;
		}
		m->cursor = ref = next;
	}
	return true;
}

static void offer_next(struct move_out *m)
{
	bool broken, more;

	if (m->offer_count > 0) {
		if (m->worker->now_ms > m->state_ends)
			finish(m, "the other worker does not answer");
		return;
	}
	if (!stands_still(m, &broken)) {
		hold(m, false);
		if (broken || m->worker->now_ms > m->state_ends)
			end_round(m, "deliveries did not come to rest");
		return;
	}
	if (m->holding && m->worker->now_ms - m->held_since > HOLD_MS) {
		hold(m, false);
		return;
	}
	hold(m, true);
	more = offer_some(m);
	if (m->offer_count > 0) {
		m->state_ends = m->worker->now_ms + ANSWER_MS;
		return;
	}
	hold(m, false);
	if (!more)
		end_round(m, NULL);
}

/* --- what comes next --- */

static bool all_left(const struct move_out *m)
{
	return m->worker->connection_count == 0 || enough(m);
}

static void pause_over(struct move_out *m)
{
	if (all_left(m)) {
		if (say(m, MOVE_BYE, NULL, 0, NULL, 0))
			change_state(m, OUT_SETTLING, HEARING_MS);
	} else if (m->worker->now_ms >= m->state_ends) {
		begin_round(m);
	}
}

static void step(struct move_out *m)
{
	struct worker *w = m->worker;
	bool late = w->now_ms > m->state_ends;

	if (w->now_ms > m->deadline && m->offer_count == 0) {
		finish(m, m->reason[0] ? m->reason : "it took too long");
		return;
	}
	wait_ms(m, STEP_MS);
	switch (m->state) {
	case OUT_ANNOUNCING:
		if (late)
			finish(m, "the other worker does not listen");
		else
			announce(m);
		break;
	case OUT_HEARING:
		if (late)
			finish(m, "the other worker does not hear the channels");
		break;
	case OUT_GOING_ROUND:
		if (went_round(m))
			change_state(m, OUT_OFFERING, ROUND_MS);
		else if (late)
			end_round(m, "Redis does not deliver");
		break;
	case OUT_OFFERING: offer_next(m); break;
	case OUT_PAUSING: pause_over(m); break;
	case OUT_SETTLING:
		if (late)
			finish(m, "Redis was not told of all of them");
		break;
	}
}

void move_out_turn(struct worker *w)
{
	if (w->move_out && w->move_out->state == OUT_OFFERING && w->move_out->offer_count == 0)
		step(w->move_out);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct move_out *m = arg;

	(void)fd;
	(void)what;
	loop_watch_begin(m->worker, LOOP_CONTROL);
	step(m);
}

/* --- what the destination says --- */

static void on_answer(struct move_out *m, struct slice payload)
{
	struct move_answer answer;

	if (payload.len != sizeof(answer))
		return;
	memcpy(&answer, payload.data, sizeof(answer));
	for (uint32_t i = 0; i < m->offer_count; i++) {
		if (m->offers[i].number == answer.number) {
			settle_offer(m, i);
			break;
		}
	}
	if (m->offer_count == 0 && m->state == OUT_OFFERING) {
		m->state_ends = m->worker->now_ms + ROUND_MS;
		step(m);
	}
}

/* False: it is over, and freed. */
static bool on_message(struct move_out *m, const struct ipc_message *message, struct slice payload)
{
	struct worker *w = m->worker;

	switch (message->type) {
	case MOVE_HEARD:
		if (m->state == OUT_HEARING)
			send_round(m);
		break;
	case MOVE_REFUSED: {
		char why[sizeof(m->reason)];

		snprintf(why, sizeof(why), "%.*s", SLICE_ARG(payload));
		/* Deliveries go on only once nobody is on offer any more. */
		while (m->offer_count > 0)
			settle_offer(m, 0);
		end_round(m, why);
		break;
	}
	case MOVE_ANSWER: on_answer(m, payload); break;
	case MOVE_SETTLED:
		if (m->state == OUT_SETTLING) {
			finish(m, NULL);
			return false;
		}
		break;
	default: finish(m, "the other worker says what it may not"); return false;
	}
	return w->move_out == m;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct move_out *m = arg;
	struct worker *w = m->worker;
	struct ipc_message *message = xmalloc(sizeof(*message));
	struct slice payload;
	int result = 1;

	(void)fd;
	(void)what;
	loop_watch_begin(w, LOOP_CONTROL);
	while (w->move_out == m && (result = ipc_receive(m->fd, message)) == 1) {
		if (ipc_message_payload(message, &payload) < 0 ||
		    !on_message(m, message, payload)) {
			ipc_message_close_fds(message);
			break;
		}
		ipc_message_close_fds(message);
	}
	if (w->move_out == m && (result == 0 || (result < 0 && errno != EAGAIN)))
		finish(m, "the other worker is gone");
	free(message);
}

/* --- the beginning --- */

static void retire(struct worker *w)
{
	for (size_t i = 0; i < w->listener_count; i++) {
		if (w->listeners[i].event)
			event_free(w->listeners[i].event);
		w->listeners[i].event = NULL;
	}
}

static void refuse(struct worker *w, uint64_t id, int fd)
{
	static const char why[] = "connections are being moved already";
	struct buffer payload = {0};
	struct ipc_moved moved = {0, (uint32_t)w->connection_count};

	close(fd);
	buffer_append(&payload, &moved, sizeof(moved));
	buffer_append_str(&payload, why);
	if (ipc_send(w->ipc_fd, IPC_MOVED, id, payload.data, payload.len, NULL, 0) < 0)
		log_error("ipc_send_failed type=MOVED error=%s", log_value_str(strerror(errno)));
	buffer_free(&payload);
}

void move_out_begin(struct worker *w, uint64_t id, const struct ipc_move_out *order, int fd)
{
	struct move_out *m;

	if (w->move_out || w->move_in || w->stopping || fcntl(fd, F_SETFL, O_NONBLOCK) < 0) {
		refuse(w, id, fd);
		return;
	}
	if (order->retire)
		retire(w);
	m = xcalloc(1, sizeof(*m));
	m->worker = w;
	m->id = id;
	m->order = *order;
	m->fd = fd;
	m->deadline = w->now_ms + order->limit_ms;
	m->event = event_new(w->base, fd, EV_READ | EV_PERSIST, on_readable, m);
	m->timer = evtimer_new(w->base, on_timer, m);
	event_add(m->event, NULL);
	w->move_out = m;
	log_info("move_began connections=%llu", (unsigned long long)w->connection_count);
	begin_round(m);
	wait_ms(m, 0);
}

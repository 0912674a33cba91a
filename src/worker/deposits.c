/* SPDX-License-Identifier: ISC */
/*
 * Depositing with the keeper, see deposits.h. Run by the worker.
 *
 * What is due goes out in this order: HELLO (everything follows anew), the
 * descriptors we were started with, the arena, releases, new deposits, and, after a HELLO, a walk
 * over all passports for what is not deposited yet; then the count. What waits is bounded: too many
 * new deposits become a walk, too many releases a HELLO.
 */
#include "worker/deposits.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "keepsock/alloc.h"
#include "keepsock/crash_points.h"
#include "keepsock/ipc.h"
#include "keepsock/keeper_socket.h"
#include "keepsock/log.h"
#include "worker/freeze.h"
#include "worker/internal.h"
#include "worker/loop_watch.h"

/* New deposits and releases that may wait. */
#define WAITING_MAX 4096u
/* Messages sent in a row before the loop turns. */
#define MESSAGES_PER_TURN 8
/* After ETOOMANYREFS: the receivers of what is in flight read meanwhile. */
#define RETRY_MS 5u
/* Attempts to reach a replaced keeper. */
#define RECONNECT_FIRST_MS 10u
#define RECONNECT_MAX_MS   500u
#define COUNT_EVERY_MS     1000u

struct redis_deposit {
	arena_ref passport; /* 0 = none */
	uint64_t generation;
	int fd; /* the subscription's */
	bool deposited;
};

struct items {
	struct keeper_item item[WAITING_MAX];
	uint32_t count;
};

struct deposits {
	struct worker *worker;
	int fd;              /* owned; -1: the keeper is away */
	struct event *event; /* owned; read, and write while it takes no more */
	struct event *timer; /* owned; retry, or reconnect */
	unsigned reconnect_ms;
	bool blocked; /* waits for the event or the timer */
	bool hello_due, origin_due, arena_due, count_due;
	bool arena_is_new; /* converted from the one that the keeper has */
	bool walking;      /* over the passports, for what is not deposited */
	arena_ref walk;    /* the last one looked at */
	uint32_t kept;
	uint64_t count_at; /* of the next periodic count */
	struct items added, released;
	struct redis_deposit redis[ARENA_SHARDS_MAX];
};

/* --- sending --- */

static void wait_ms(struct deposits *d, unsigned ms)
{
	struct timeval time = {(time_t)(ms / 1000), (suseconds_t)(ms % 1000) * 1000};

	event_add(d->timer, &time);
}

static void on_channel(evutil_socket_t fd, short what, void *arg);

static void watch(struct deposits *d, short events)
{
	if (d->event)
		event_free(d->event);
	d->event = event_new(d->worker->base, d->fd, events | EV_PERSIST, on_channel, d);
	event_add(d->event, NULL);
}

/* Nothing of what it had is deposited with anybody any more. */
static void forget_all(struct deposits *d)
{
	struct worker *w = d->worker;
	arena_ref ref = 0;

	while ((ref = arena_record_next(w->arena, ARENA_PASSPORT, ref))) {
		const struct passport *passport = arena_at(w->arena, ref);

		if (passport->magic == PASSPORT_MAGIC && passport->kind == PASSPORT_CLIENT)
			connection_at(w, ref)->deposited = false;
	}
	for (unsigned i = 0; i < w->shard_count; i++)
		d->redis[i].deposited = false;
	d->kept = 0;
	d->added.count = d->released.count = 0;
}

static void begin_again(struct deposits *d)
{
	forget_all(d);
	d->hello_due = d->arena_due = d->count_due = d->walking = true;
	d->walk = 0;
}

static void lost(struct deposits *d, const char *why)
{
	log_warning("keeper_lost reason=%s", log_value_str(why));
	if (d->event)
		event_free(d->event);
	d->event = NULL;
	close(d->fd);
	d->fd = -1;
	d->blocked = false;
	freeze_forget(d->worker);
	begin_again(d);
	wait_ms(d, d->reconnect_ms);
}

/* True: sent. False: it waits for its time, or the keeper is lost. */
static bool send_message(struct deposits *d, uint32_t type, const void *payload, size_t length,
			 const int *fds, size_t count)
{
	if (ipc_send(d->fd, type, 0, payload, length, fds, count) == 0)
		return true;
	if (errno == EAGAIN) {
		d->blocked = true;
		watch(d, EV_READ | EV_WRITE);
	} else if (errno == ETOOMANYREFS || errno == ENOMEM || errno == ENOBUFS) {
		d->blocked = true;
		wait_ms(d, RETRY_MS);
	} else {
		lost(d, strerror(errno));
	}
	return false;
}

static bool send_hello(struct deposits *d)
{
	const struct keeper_hello hello = {
		.version = KEEPER_PROTOCOL_VERSION,
		.slot = d->worker->start.slot,
	};

	return send_message(d, KEEPER_HELLO, &hello, sizeof(hello), NULL, 0);
}

/* What a master needs that finds neither a keeper nor another worker. */
static bool send_origin(struct deposits *d)
{
	const struct worker *w = d->worker;
	int fds[IPC_START_FD_LISTENERS + IPC_START_LISTENERS_MAX];
	size_t count = 0;

	fds[IPC_START_FD_NODE_PAGE] = w->page_fd;
	fds[IPC_START_FD_SETTINGS] = w->settings_fd;
	fds[IPC_START_FD_TLS] = w->tls_fd;
	while (count < w->listener_count && count < IPC_START_LISTENERS_MAX &&
	       w->listeners[count].fd >= 0) {
		fds[IPC_START_FD_LISTENERS + count] = w->listeners[count].fd;
		count++;
	}
	return send_message(d, KEEPER_ORIGIN, NULL, 0, fds, IPC_START_FD_LISTENERS + count);
}

static bool send_count(struct deposits *d)
{
	const struct keeper_count count = {.descriptors = d->kept};

	d->count_at = d->worker->now_ms + COUNT_EVERY_MS;
	return send_message(d, KEEPER_COUNT, &count, sizeof(count), NULL, 0);
}

static bool send_releases(struct deposits *d)
{
	size_t length = d->released.count * sizeof(d->released.item[0]);

	crash_point(CRASH_RELEASE);
	if (!send_message(d, KEEPER_RELEASE, d->released.item, length, NULL, 0))
		return false;
	d->released.count = 0;
	return true;
}

/* --- what is to be deposited --- */

struct batch {
	struct keeper_item item[IPC_FDS_MAX];
	int fd[IPC_FDS_MAX];
	size_t count;
};

/* The client whose passport this is, if it is open and not deposited; else NULL. */
static struct connection *undeposited(struct worker *w, arena_ref ref)
{
	const struct passport *passport = arena_at(w->arena, ref);
	struct connection *c = connection_maybe_at(w, ref);

	if (!c || passport->magic != PASSPORT_MAGIC || passport->kind != PASSPORT_CLIENT)
		return NULL;
	return c->fd >= 0 && !c->deposited && !c->over_limit ? c : NULL;
}

static void batch_client(struct batch *batch, const struct connection *c)
{
	batch->item[batch->count] = (struct keeper_item){c->passport, KEEPER_KIND_CLIENT,
							 connection_passport(c)->generation};
	batch->fd[batch->count++] = c->fd;
}

static void batch_redis(struct deposits *d, struct batch *batch)
{
	for (unsigned i = 0; i < d->worker->shard_count; i++) {
		const struct redis_deposit *redis = &d->redis[i];

		if (!redis->passport || redis->deposited || batch->count == IPC_FDS_MAX)
			continue;
		batch->item[batch->count] = (struct keeper_item){
			redis->passport, KEEPER_KIND(KEEPER_KIND_REDIS, i), redis->generation};
		batch->fd[batch->count++] = redis->fd;
	}
}

/* Sent is deposited: whatever happens to us, the keeper will read it. */
static void batch_is_kept(struct deposits *d, const struct batch *batch)
{
	for (size_t i = 0; i < batch->count; i++) {
		const struct keeper_item *item = &batch->item[i];

		if (KEEPER_KIND_OF(item->kind) == KEEPER_KIND_CLIENT)
			connection_at(d->worker, item->ref)->deposited = true;
		else
			d->redis[KEEPER_KIND_SHARD(item->kind)].deposited = true;
	}
	d->kept += (uint32_t)batch->count;
}

static bool send_batch(struct deposits *d, const struct batch *batch)
{
	if (batch->count == 0)
		return true;
	crash_point(CRASH_DEPOSIT);
	if (!send_message(d, KEEPER_DEPOSIT, batch->item, batch->count * sizeof(batch->item[0]),
			  batch->fd, batch->count))
		return false;
	crash_point(CRASH_DEPOSITED);
	batch_is_kept(d, batch);
	return true;
}

/* What was added meanwhile; those that closed before it came to that are passed over. */
static bool send_added(struct deposits *d)
{
	struct batch batch = {.count = 0};
	uint32_t taken = 0;

	batch_redis(d, &batch);
	while (taken < d->added.count && batch.count < IPC_FDS_MAX) {
		const struct keeper_item *item = &d->added.item[taken++];
		struct connection *c = undeposited(d->worker, item->ref);

		if (c && connection_passport(c)->generation == item->generation)
			batch_client(&batch, c);
	}
	if (!send_batch(d, &batch))
		return false;
	/* Reconnecting forgets them all. */
	d->added.count -= taken;
	memmove(d->added.item, d->added.item + taken, d->added.count * sizeof(d->added.item[0]));
	return true;
}

static bool send_walk(struct deposits *d)
{
	struct batch batch = {.count = 0};
	arena_ref ref = d->walk;

	batch_redis(d, &batch);
	while (batch.count < IPC_FDS_MAX &&
	       (ref = arena_record_next(d->worker->arena, ARENA_PASSPORT, ref))) {
		const struct connection *c = undeposited(d->worker, ref);

		if (c)
			batch_client(&batch, c);
	}
	if (!send_batch(d, &batch))
		return false;
	d->walk = ref;
	d->walking = ref != 0;
	return true;
}

static bool redis_is_due(const struct deposits *d)
{
	for (unsigned i = 0; i < d->worker->shard_count; i++) {
		if (d->redis[i].passport && !d->redis[i].deposited)
			return true;
	}
	return false;
}

/* The next message; false when there is none now. */
static bool send_next(struct deposits *d)
{
	if (d->hello_due) {
		d->hello_due = !send_hello(d);
		d->origin_due = !d->hello_due;
		return !d->hello_due;
	}
	if (d->origin_due) {
		d->origin_due = !send_origin(d);
		return !d->origin_due;
	}
	if (d->arena_due) {
		d->arena_due = !send_message(d, KEEPER_ARENA, NULL, 0, &d->worker->arena->fd, 1);
		return !d->arena_due;
	}
	if (d->released.count > 0)
		return send_releases(d);
	if (d->added.count > 0 || redis_is_due(d))
		return send_added(d);
	if (d->walking)
		return send_walk(d);
	if (d->count_due) {
		d->count_due = !send_count(d);
		d->reconnect_ms = RECONNECT_FIRST_MS;
	}
	return false;
}

void deposits_flush(struct worker *w)
{
	struct deposits *d = w->deposits;
	int sent = 0;

	w->deposits_due = false;
	while (d->fd >= 0 && !d->blocked && send_next(d)) {
		if (++sent == MESSAGES_PER_TURN) {
			wait_ms(d, 0);
			return;
		}
	}
}

/* --- the channel --- */

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct deposits *d = arg;
	struct worker *w = d->worker;

	(void)fd;
	(void)what;
	loop_watch_begin(w, LOOP_CONTROL);
	d->blocked = false;
	if (d->fd < 0) {
		d->fd = keeper_socket_connect(w->start.run_dir, w->start.slot);
		d->reconnect_ms = d->reconnect_ms < RECONNECT_MAX_MS / 2 ? d->reconnect_ms * 2
									 : RECONNECT_MAX_MS;
		if (d->fd < 0) {
			wait_ms(d, d->reconnect_ms);
			return;
		}
		log_info("keeper_found action=deposit");
		watch(d, EV_READ);
	}
	deposits_flush(w);
}

static void on_differ(struct deposits *d)
{
	log_warning("deposits_differ action=again");
	begin_again(d);
	/* One that is frozen says nothing more until it goes on. */
	if (!d->worker->frozen)
		deposits_flush(d->worker);
}

void deposits_on_message(struct worker *w, struct ipc_message *message)
{
	struct slice payload = {0};

	switch (message->type) {
	case KEEPER_DEPOSIT_AGAIN: on_differ(w->deposits); break;
	case KEEPER_CHANNEL:
		if (message->nfds == 1)
			control_attach(w, message->fds[0]);
		message->nfds = 0;
		break;
	case KEEPER_FREEZE:
	case KEEPER_THAW:
		if (ipc_message_payload(message, &payload) == 0)
			freeze_on_message(w, message->type, payload);
		break;
	default: log_error("keeper_message_unexpected type=%s", keeper_type_name(message->type));
	}
}

static void on_readable(struct deposits *d)
{
	struct ipc_message *message = xmalloc(sizeof(*message));
	int result = ipc_receive(d->fd, message);

	if (result == 1) {
		deposits_on_message(d->worker, message);
		ipc_message_close_fds(message);
	} else if (result == 0) {
		lost(d, "it is gone");
	} else if (errno != EAGAIN) {
		lost(d, strerror(errno));
	}
	free(message);
}

static void on_channel(evutil_socket_t fd, short what, void *arg)
{
	struct deposits *d = arg;

	(void)fd;
	loop_watch_begin(d->worker, LOOP_CONTROL);
	if (what & EV_WRITE) {
		d->blocked = false;
		watch(d, EV_READ);
		deposits_flush(d->worker);
	}
	if ((what & EV_READ) && d->fd >= 0)
		on_readable(d);
}

struct deposits *deposits_create(struct worker *w, int keeper_fd)
{
	struct deposits *d = xcalloc(1, sizeof(*d));

	d->worker = w;
	d->fd = keeper_fd;
	d->reconnect_ms = RECONNECT_FIRST_MS;
	d->timer = evtimer_new(w->base, on_timer, d);
	d->arena_due = d->count_due = true;
	return d;
}

void deposits_free(struct deposits *d)
{
	if (d->event)
		event_free(d->event);
	event_free(d->timer);
	/* The channel stays open until the process is gone: its end is how the keeper learns of
	 * that. */
	free(d);
}

void deposits_open(struct worker *w)
{
	struct deposits *d = w->deposits;

	if (fcntl(d->fd, F_SETFL, O_NONBLOCK) < 0)
		log_fatal("keeper_channel_failed error=%s", log_value_str(strerror(errno)));
	watch(d, EV_READ);
	deposits_flush(w);
}

/* --- while nobody is served --- */

static void wait_until(const struct deposits *d, short events)
{
	struct pollfd poller = {.fd = d->fd, .events = events};

	if (poll(&poller, 1, -1) < 0 && errno != EINTR)
		log_fatal("poll_failed error=%s", log_value_str(strerror(errno)));
}

int deposits_say_with(struct deposits *d, uint32_t type, const void *payload, size_t length, int fd)
{
	while (ipc_send(d->fd, type, 0, payload, length, &fd, fd >= 0) < 0) {
		if (errno != EAGAIN)
			return -1;
		wait_until(d, POLLOUT);
	}
	return 0;
}

int deposits_say(struct deposits *d, uint32_t type, const void *payload, size_t length)
{
	return deposits_say_with(d, type, payload, length, -1);
}

int deposits_hear(struct deposits *d, struct ipc_message *message)
{
	int result;

	while ((result = ipc_receive(d->fd, message)) < 0 && errno == EAGAIN)
		wait_until(d, POLLIN);
	return result;
}

void deposits_count(struct worker *w)
{
	w->deposits->count_due = true;
	deposits_flush(w);
}

/* --- a successor's start --- */

int deposits_take_batch(struct deposits *d, struct ipc_message *message,
			struct keeper_hand_over_end *end)
{
	struct slice payload;
	int result;

	if (ipc_send(d->fd, KEEPER_NEXT, 0, NULL, 0, NULL, 0) < 0)
		return -1;
	result = ipc_receive(d->fd, message);
	if (result == 0)
		errno = EPIPE;
	if (result <= 0)
		return -1;
	if (ipc_message_payload(message, &payload) == 0) {
		if (message->type == KEEPER_HAND_OVER &&
		    keeper_items_count(payload) == message->nfds)
			return 1;
		if (message->type == KEEPER_HAND_OVER_END &&
		    keeper_payload_take(payload, end, sizeof(*end))) {
			ipc_message_close_fds(message);
			return 0;
		}
	}
	ipc_message_close_fds(message);
	errno = EBADMSG;
	return -1;
}

void deposits_arena_is_new(struct deposits *d)
{
	d->arena_is_new = true;
}

/* Unless the keeper has it already. */
static int deposit_arena(struct deposits *d)
{
	d->arena_due = false;
	if (!d->arena_is_new)
		return 0;
	d->arena_is_new = false;
	return ipc_send(d->fd, KEEPER_ARENA, 0, NULL, 0, &d->worker->arena->fd, 1);
}

int deposits_adopted(struct deposits *d, const struct keeper_adopted *adopted)
{
	if (deposit_arena(d) < 0)
		return -1;
	return ipc_send(d->fd, KEEPER_ADOPTED, 0, adopted, sizeof(*adopted), NULL, 0);
}

int deposits_committed(struct deposits *d, const struct keeper_committed *committed)
{
	if (deposit_arena(d) < 0)
		return -1;
	return deposits_say(d, KEEPER_COMMITTED, committed, sizeof(*committed));
}

int deposits_refuse(struct deposits *d, const char *reason)
{
	return ipc_send(d->fd, KEEPER_ADOPT_REFUSED, 0, reason, strlen(reason), NULL, 0);
}

/* --- deposits and releases --- */

static void due(struct deposits *d)
{
	static const struct timeval now = {0, 0};

	d->worker->deposits_due = true;
	event_add(d->worker->turn, &now);
}

void deposits_add_client(struct connection *c)
{
	struct deposits *d = c->worker->deposits;

	/* While the keeper is away there is only the walk to come. */
	if (d->fd < 0 || c->over_limit)
		return;
	if (d->added.count == WAITING_MAX) {
		d->added.count = 0;
		d->walking = true;
		d->walk = 0;
	} else {
		d->added.item[d->added.count++] =
			(struct keeper_item){c->passport, 0, connection_passport(c)->generation};
	}
	due(d);
}

void deposits_client_is_kept(struct connection *c)
{
	c->deposited = true;
	c->worker->deposits->kept++;
}

void deposits_anew(struct worker *w)
{
	begin_again(w->deposits);
	due(w->deposits);
}

void deposits_release_item(struct worker *w, const struct keeper_item *item)
{
	struct deposits *d = w->deposits;

	if (d->fd < 0)
		return;
	if (d->released.count == WAITING_MAX) {
		log_warning("releases_wait count=%u action=again", d->released.count);
		deposits_anew(w);
		return;
	}
	d->released.item[d->released.count++] =
		(struct keeper_item){item->ref, 0, item->generation};
	due(d);
}

void deposits_release_client(struct connection *c)
{
	const struct keeper_item item = {c->passport, 0, connection_passport(c)->generation};

	if (!c->deposited)
		return;
	c->deposited = false;
	c->worker->deposits->kept--;
	deposits_release_item(c->worker, &item);
}

void deposits_add_redis(struct worker *w, uint32_t shard, arena_ref passport, int fd)
{
	const struct passport *record = arena_at(w->arena, passport);

	w->deposits->redis[shard] = (struct redis_deposit){passport, record->generation, fd, false};
	due(w->deposits);
}

void deposits_redis_is_kept(struct worker *w, uint32_t shard, arena_ref passport, int fd)
{
	const struct passport *record = arena_at(w->arena, passport);

	w->deposits->redis[shard] = (struct redis_deposit){passport, record->generation, fd, true};
	w->deposits->kept++;
}

void deposits_release_redis(struct worker *w, uint32_t shard)
{
	struct redis_deposit *redis = &w->deposits->redis[shard];
	const struct keeper_item item = {redis->passport, 0, redis->generation};
	bool deposited = redis->deposited;

	*redis = (struct redis_deposit){.fd = -1};
	if (!deposited)
		return;
	w->deposits->kept--;
	deposits_release_item(w, &item);
}

/* --- agreement --- */

void deposits_tick(struct worker *w)
{
	struct deposits *d = w->deposits;

	if (w->now_ms < d->count_at || d->fd < 0)
		return;
	d->count_due = true;
	deposits_flush(w);
}

uint32_t deposits_kept(const struct worker *w)
{
	return w->deposits->kept;
}

bool deposits_reachable(const struct worker *w)
{
	return w->deposits->fd >= 0;
}

bool deposits_settled(const struct worker *w)
{
	const struct deposits *d = w->deposits;

	return d->fd >= 0 && !d->blocked && !d->hello_due && !d->arena_due && !d->walking &&
	       d->added.count == 0 && d->released.count == 0 && !redis_is_due(d);
}

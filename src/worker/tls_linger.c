/* SPDX-License-Identifier: ISC */
/*
 * Handshakes that outlive a takeover, see tls_linger.h. The worker that was taken
 * over from runs a loop of its own for them and touches nothing else: no arena,
 * no counter of the slot, no client.
 *
 *	lingers                                     serves
 *	CONNECTION (socket, record layer) ──►       a connection like any other
 *	... or, if it was taken over from, too:     hands it on to the next
 *	COUNTS (what came of the others) ──►        adds them to the slot's
 *	END (how many were dropped) ──►             counts them
 *
 * Either end's death ends it: what was under way is lost, as after any death.
 */
#include "worker/tls_linger.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "keepsock/alloc.h"
#include "keepsock/clock.h"
#include "keepsock/ipc.h"
#include "keepsock/log.h"
#include "keepsock/node_events.h"
#include "keepsock/secret.h"
#include "worker/internal.h"
#include "worker/tls_accept.h"

/* Messages read in a row before other events get their turn. */
#define MESSAGES_PER_TURN 16
#define TICK_MS           100
/* Before trying again where the kernel has no room for a descriptor on its way. */
#define RETRY_MS 5

enum message_type {
	LINGER_CONNECTION = 1, /* struct item and what follows it; fd: the socket */
	LINGER_END,            /* struct end */
	LINGER_COUNTS,         /* JSON {counter's name: by how much it has risen}: of any version */
};

/* Followed by certificate, rest and unsent. */
struct item {
	uint32_t layout; /* of passport_tls: others are dropped */
	uint32_t resumed;
	uint32_t local_port;
	uint32_t certificate, rest, unsent; /* bytes */
	uint64_t sent;
	struct sockaddr_storage peer;
	struct passport_tls tls;
};

struct end {
	int32_t pid;
	uint32_t dropped;
};

/* The end of who follows: at the predecessor's. */
struct tls_link {
	struct worker *worker;
	struct event *event; /* owned */
	int fd;              /* owned */
};

/* ---- the one that comes ---- */

void tls_linger_close(struct worker *w)
{
	struct tls_link *link = w->handshakes_from;

	if (!link)
		return;
	event_free(link->event);
	close(link->fd);
	free(link);
	w->handshakes_from = NULL;
}

/* False: nothing that could be a connection here. */
static bool decode(struct slice payload, struct item *item, struct tls_established *established)
{
	const char *at = payload.data + sizeof(*item);

	if (payload.len < sizeof(*item))
		return false;
	memcpy(item, payload.data, sizeof(*item));
	if (item->layout != ARENA_LAYOUT_VERSION || item->local_port > UINT16_MAX ||
	    payload.len != sizeof(*item) + (uint64_t)item->certificate + item->rest + item->unsent)
		return false;
	*established = (struct tls_established){
		.peer = item->peer,
		.local_port = (uint16_t)item->local_port,
		.resumed = item->resumed != 0,
		.tls = item->tls,
		.sent = item->sent,
		.certificate = slice_from(at, item->certificate),
		.rest = slice_from(at + item->certificate, item->rest),
		.unsent = slice_from(at + item->certificate + item->rest, item->unsent),
	};
	return tls_state_valid(&item->tls.state);
}

static void on_connection(struct worker *w, struct ipc_message *message, struct slice payload)
{
	struct tls_established established;
	struct item item;

	if (message->nfds != 1 || !decode(payload, &item, &established)) {
		log_warning("tls_handshake_dropped reason=%s",
			    log_value_str("the worker before speaks another version"));
		metric_add(METRIC_tls_handshakes_dropped_total, 1);
	} else {
		metric_add(METRIC_tls_handshakes_inherited_total, 1);
		tls_accept_establish(w, message->fds[0], &established);
		message->fds[0] = -1;
	}
	secret_wipe(&established, sizeof(established));
	secret_wipe(&item, sizeof(item));
}

static void on_end(struct slice payload)
{
	struct end end;

	if (payload.len != sizeof(end))
		return;
	memcpy(&end, payload.data, sizeof(end));
	if (end.dropped == 0)
		return;
	metric_add(METRIC_tls_handshakes_dropped_total, end.dropped);
	log_warning("tls_handshakes_dropped predecessor=%d count=%u", (int)end.pid, end.dropped);
	node_event_add(NODE_EVENT_HANDSHAKES_DROPPED,
		       "%u, of worker %d after it was taken over from", end.dropped, (int)end.pid);
}

/* Those of a counter that is not here, or no more, are lost. */
static void on_counts(struct slice payload)
{
	json_t *counts = json_loadb(payload.data, payload.len, 0, NULL);

	for (int i = 0; i < METRIC_COUNT; i++) {
		const json_t *count = json_object_get(counts, metric_name((enum metric)i));

		if (metric_kind((enum metric)i) == METRIC_KIND_COUNTER &&
		    json_integer_value(count) > 0)
			metric_add((enum metric)i, (uint64_t)json_integer_value(count));
	}
	json_decref(counts);
}

static void on_message(struct worker *w, struct ipc_message *message)
{
	struct slice payload;

	if (ipc_message_payload(message, &payload) < 0)
		return;
	if (message->type == LINGER_CONNECTION)
		on_connection(w, message, payload);
	else if (message->type == LINGER_END)
		on_end(payload);
	else if (message->type == LINGER_COUNTS)
		on_counts(payload);
}

/* 1: *message holds one, to be released with release_message(); 0: there will be none; -1: there is
 * none now. */
static int next_message(int fd, struct ipc_message *message)
{
	int result = ipc_receive(fd, message);

	if (result < 0)
		return errno == EAGAIN ? -1 : 0;
	return result;
}

static void release_message(struct ipc_message *message)
{
	secret_wipe(message->data, message->len);
	ipc_message_close_fds(message);
}

static void on_followed(evutil_socket_t fd, short what, void *arg)
{
	struct tls_link *link = arg;
	struct worker *w = link->worker;
	struct ipc_message *message = xmalloc(sizeof(*message));
	int result = 1;

	(void)what;
	loop_watch_begin(w, LOOP_ACCEPT);
	for (int i = 0; i < MESSAGES_PER_TURN && result == 1; i++) {
		result = next_message((int)fd, message);
		if (result == 1) {
			on_message(w, message);
			release_message(message);
		}
	}
	if (result == 0)
		tls_linger_close(w);
	free(message);
}

void tls_linger_follow(struct worker *w, int fd)
{
	struct tls_link *link = xcalloc(1, sizeof(*link));

	tls_linger_close(w);
	link->worker = w;
	link->fd = fd;
	link->event = event_new(w->base, fd, EV_READ | EV_PERSIST, on_followed, link);
	if (!link->event || event_add(link->event, NULL) < 0)
		log_fatal("tls_linger_failed error=%s", log_value_str(strerror(ENOMEM)));
	w->handshakes_from = link;
}

/* ---- the one that goes ---- */

int tls_linger_offer(struct worker *w)
{
	int ends[2];

	tls_linger_withdraw(w);
	if (tls_accept_running(w) == 0 && !w->handshakes_from)
		return -1;
	if (ipc_pair(ends) < 0)
		return -1;
	for (int i = 0; i < 2; i++) {
		if (fcntl(ends[i], F_SETFL, O_NONBLOCK) == 0)
			continue;
		close(ends[0]);
		close(ends[1]);
		return -1;
	}
	w->handshakes_to = ends[0];
	return ends[1];
}

void tls_linger_withdraw(struct worker *w)
{
	if (w->handshakes_to >= 0)
		close(w->handshakes_to);
	w->handshakes_to = -1;
}

struct lingering {
	struct worker *worker;
	struct event_base *base;
	struct event *tick, *to, *from;
	int from_fd; /* of a predecessor that still lingers; -1 = none */
	uint64_t deadline;
	uint32_t dropped;
	bool alone; /* who serves is gone */
};

/* False: it is gone, or does not take it in time. */
static bool send_on(struct lingering *l, uint32_t type, const void *payload, size_t length, int fd)
{
	struct pollfd room = {.fd = l->worker->handshakes_to, .events = POLLOUT};

	while (ipc_send(room.fd, type, 0, payload, length, &fd, fd >= 0) < 0) {
		bool full = errno == EAGAIN;

		if (!full && errno != ETOOMANYREFS && errno != ENOBUFS && errno != ENOMEM)
			return false;
		if (clock_boottime_ms() >= l->deadline)
			return false;
		(void)poll(full ? &room : NULL, full, RETRY_MS);
	}
	return true;
}

static void give(void *ctx, int fd, const struct tls_established *established)
{
	struct lingering *l = ctx;
	struct item item = {
		.layout = ARENA_LAYOUT_VERSION,
		.resumed = established->resumed,
		.local_port = established->local_port,
		.certificate = (uint32_t)established->certificate.len,
		.rest = (uint32_t)established->rest.len,
		.unsent = (uint32_t)established->unsent.len,
		.sent = established->sent,
		.peer = established->peer,
		.tls = established->tls,
	};
	struct buffer payload = {0};

	/* At once: what growing leaves behind is not wiped. */
	(void)buffer_reserve(&payload, sizeof(item) + established->certificate.len +
					       established->rest.len + established->unsent.len);
	buffer_append(&payload, &item, sizeof(item));
	buffer_append_slice(&payload, established->certificate);
	buffer_append_slice(&payload, established->rest);
	buffer_append_slice(&payload, established->unsent);
	if (!send_on(l, LINGER_CONNECTION, payload.data, payload.len, fd))
		l->dropped++;
	secret_wipe(&item, sizeof(item));
	secret_wipe(payload.data, payload.cap);
	buffer_free(&payload);
	close(fd);
}

/* The predecessor's are not for us any more. */
static void hand_on(struct lingering *l, struct ipc_message *message)
{
	struct slice payload;
	struct end end;

	if (ipc_message_payload(message, &payload) < 0)
		return;
	if (message->type == LINGER_CONNECTION && message->nfds == 1) {
		if (!send_on(l, LINGER_CONNECTION, payload.data, payload.len, message->fds[0]))
			l->dropped++;
	} else if (message->type == LINGER_END && payload.len == sizeof(end)) {
		memcpy(&end, payload.data, sizeof(end));
		l->dropped += end.dropped;
	} else if (message->type == LINGER_COUNTS) {
		(void)send_on(l, LINGER_COUNTS, payload.data, payload.len, -1);
	}
}

static void on_predecessor(evutil_socket_t fd, short what, void *arg)
{
	struct lingering *l = arg;
	struct ipc_message *message = xmalloc(sizeof(*message));
	int result = next_message((int)fd, message);

	(void)what;
	if (result == 1) {
		hand_on(l, message);
		release_message(message);
	} else if (result == 0) {
		event_del(l->from);
		l->from_fd = -1;
	}
	free(message);
}

/* It says nothing: this is its end. */
static void on_successor(evutil_socket_t fd, short what, void *arg)
{
	struct lingering *l = arg;

	(void)fd;
	(void)what;
	event_del(l->to);
	l->alone = true;
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct lingering *l = arg;

	(void)fd;
	(void)what;
	worker_now(l->worker);
	tls_accept_tick(l->worker);
}

static struct event *watch(struct lingering *l, int fd, short what, event_callback_fn callback)
{
	static const struct timeval tick = {0, TICK_MS * 1000};
	struct event *event = event_new(l->base, fd, (short)(what | EV_PERSIST), callback, l);

	if (!event || event_add(event, fd < 0 ? &tick : NULL) < 0)
		log_fatal("tls_linger_failed error=%s", log_value_str(strerror(ENOMEM)));
	return event;
}

/* Why there is nothing left to wait for, NULL while there is. */
static const char *end_of(const struct lingering *l)
{
	if (l->worker->handshake_count == 0 && l->from_fd < 0)
		return "all are over";
	if (l->alone)
		return "nobody serves";
	return l->worker->now_ms >= l->deadline ? "time is up" : NULL;
}

/* What was counted here since the slot is another's: handshakes that timed out, or failed. */
static void send_counts(struct lingering *l)
{
	json_t *counts = json_object();
	char *text;

	for (int i = 0; i < METRIC_COUNT; i++) {
		uint64_t value = metric_get((enum metric)i);

		if (metric_kind((enum metric)i) == METRIC_KIND_COUNTER && value > 0)
			(void)json_object_set_new(counts, metric_name((enum metric)i),
						  json_integer((json_int_t)value));
	}
	text = json_object_size(counts) > 0 ? json_dumps(counts, JSON_COMPACT) : NULL;
	if (text)
		(void)send_on(l, LINGER_COUNTS, text, strlen(text), -1);
	free(text);
	json_decref(counts);
}

void tls_linger(struct worker *w)
{
	struct lingering l = {.worker = w, .from_fd = -1};
	unsigned waiting = tls_accept_running(w);
	struct end end = {.pid = (int32_t)getpid()};
	const char *why;

	if (w->handshakes_to < 0)
		return;
	worker_disown_arena();
	/* The counters of the slot are the successor's. */
	node_page_claim_slot(NULL, 0);
	worker_now(w);
	l.deadline = w->now_ms + (uint64_t)w->settings.takeover.linger;
	l.base = event_base_new();
	if (!l.base)
		log_fatal("tls_linger_failed error=%s", log_value_str(strerror(ENOMEM)));
	log_info("lingering handshakes=%u ms=%llu", waiting,
		 (unsigned long long)w->settings.takeover.linger);
	l.tick = watch(&l, -1, 0, on_tick);
	l.to = watch(&l, w->handshakes_to, EV_READ, on_successor);
	if (w->handshakes_from) {
		l.from_fd = w->handshakes_from->fd;
		l.from = watch(&l, l.from_fd, EV_READ, on_predecessor);
	}
	tls_accept_give_away(w, l.base, give, &l);
	while (!(why = end_of(&l))) {
		if (event_base_loop(l.base, EVLOOP_ONCE) != 0)
			log_fatal("event_loop_failed");
		worker_now(w);
	}
	l.dropped += tls_accept_running(w);
	end.dropped = l.dropped;
	log_info("lingered reason=%s handshakes_dropped=%u", log_value_str(why), l.dropped);
	l.deadline = w->now_ms + RETRY_MS;
	send_counts(&l);
	(void)send_on(&l, LINGER_END, &end, sizeof(end), -1);
}

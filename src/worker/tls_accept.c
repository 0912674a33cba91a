/* SPDX-License-Identifier: ISC */
/*
 * Handshakes under way, see tls_accept.h. Run by the worker.
 *
 *	accepted ── records ──► running ── done ──► detached: a connection's passport
 *	                           │
 *	                           │          └─ after a takeover: given to who serves now
 *	                           ├── failed ──► leaving: the alert is written, the peer closes
 *	                           └── time is up, the peer is gone ──► closed
 *
 * A handshake costs as much as hundreds of messages: they have their turn in the
 * order in which their sockets became readable, for some milliseconds of each
 * loop turn, so that a flood of them holds up nobody who is connected.
 */
#include "worker/tls_accept.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "keepsock/alloc.h"
#include "keepsock/clock.h"
#include "keepsock/log.h"
#include "keepsock/magic.h"
#include "keepsock/secret.h"
#include "keepsock/tls_context.h"
#include "keepsock/tls_handshake.h"
#include "keepsock/tls_record.h"
#include "worker/internal.h"
#include "worker/poller.h"

#define HANDSHAKE_MAGIC 0x53484b54u /* "TKHS" */

#define SLICE_NS   (4 * 1000000ull) /* of a loop turn */
#define READ_MAX   (64u * 1024u)
#define LEAVING_MS 2000u /* for the peer to read why, and to close */
/* When a crowd of so many is over, what it needed goes back to the system. */
#define CROWD_MIN     16u
#define CROWD_PAST_MS 1000u /* between two times */

struct handshake {
	uint32_t magic;
	int fd; /* owned */
	struct tls_accepting *all;
	struct listener *listener;
	struct handshake *next, **link; /* of all */
	struct handshake *next_ready;
	uint32_t slot;             /* in the table of all */
	short watched;             /* what the poller watches it for */
	struct tls_handshake *tls; /* owned; NULL: leaving */
	struct buffer out;         /* from `written` on it is not written yet */
	size_t written;
	uint64_t received, sent; /* bytes of the stream */
	uint64_t deadline;       /* boottime ms */
	struct sockaddr_storage peer;
	bool ready, shut;
};

struct tls_accepting {
	struct worker *worker;
	struct handshake *first;
	/* Not the event loop's own: it would keep something of each descriptor it ever saw. */
	struct poller *poller;    /* owned; knows them by their slots */
	struct handshake **slots; /* owned; NULL: free */
	uint32_t *free_slots;     /* owned; as many as there is room in `slots` */
	uint32_t slot_room, free_count;
	struct handshake *ready_first, **ready_end;
	struct event *turn; /* owned */
	unsigned most;      /* at once since memory was given back */
	bool crowd;         /* there was one, and what the last of it needed is still here */
	uint64_t given_back_at;
	tls_accept_give give; /* NULL: they become our own connections */
	void *give_ctx;
};

/* --- their table --- */

static void take_slot(struct tls_accepting *all, struct handshake *h)
{
	if (all->free_count == 0) {
		uint32_t room = all->slot_room * 2 + 16;

		all->slots = xrealloc(all->slots, room * sizeof(*all->slots));
		all->free_slots = xrealloc(all->free_slots, room * sizeof(*all->free_slots));
		while (room > all->slot_room)
			all->free_slots[all->free_count++] = --room;
		all->slot_room += all->free_count;
	}
	h->slot = all->free_slots[--all->free_count];
	all->slots[h->slot] = h;
}

static void leave_slot(struct handshake *h)
{
	struct tls_accepting *all = h->all;

	all->slots[h->slot] = NULL;
	all->free_slots[all->free_count++] = h->slot;
}

static bool watch_for(struct handshake *h, short what)
{
	if (!poller_watch(h->all->poller, h->fd, h->slot, h->watched, what))
		return false;
	h->watched = what;
	return true;
}

/* --- the end of one --- */

static void resume_listener(struct listener *listener)
{
	struct worker *w = listener->worker;

	if (!listener->held || !tls_accept_may(listener))
		return;
	listener->held = false;
	if (listener->event && !w->accept_paused)
		event_add(listener->event, NULL);
}

static void unlink_ready(struct handshake *h)
{
	struct tls_accepting *all = h->all;
	struct handshake **link = &all->ready_first;

	while (h->ready && *link != h)
		link = &(*link)->next_ready;
	if (!h->ready)
		return;
	*link = h->next_ready;
	if (!*link)
		all->ready_end = link;
	h->ready = false;
}

/* Forgets it and returns its socket, which is nobody's then. */
static int release(struct handshake *h)
{
	struct worker *w = h->all->worker;
	int fd = h->fd;

	unlink_ready(h);
	*h->link = h->next;
	if (h->next)
		h->next->link = h->link;
	h->listener->handshakes--;
	w->handshake_count--;
	metric_subtract(METRIC_tls_handshakes_open, 1);
	watch_for(h, 0);
	leave_slot(h);
	tls_handshake_free(h->tls);
	buffer_free(&h->out);
	h->magic = 0;
	free(h);
	return fd;
}

static void drop(struct handshake *h)
{
	struct listener *listener = h->listener;

	close(release(h));
	resume_listener(listener);
}

/* --- becoming a connection --- */

static void append_certificate(struct buffer *out, const struct tls_peer *peer)
{
	const struct slice texts[PASSPORT_PEER_TEXTS] = {
		[PASSPORT_PEER_SUBJECT] = slice_str(peer->subject),
		[PASSPORT_PEER_ISSUER] = slice_str(peer->issuer),
		[PASSPORT_PEER_COMMON_NAME] = slice_str(peer->common_name),
		[PASSPORT_PEER_SERIAL] = slice_str(peer->serial),
		[PASSPORT_PEER_DNS_NAME] = slice_str(peer->dns_name),
		[PASSPORT_PEER_EMAIL] = slice_str(peer->email),
		[PASSPORT_PEER_URI] = slice_str(peer->uri),
	};
	struct passport_peer head = {
		.not_after = peer->not_after,
		.verify_result = peer->verify_result,
	};

	memcpy(head.fingerprint, peer->fingerprint, sizeof(head.fingerprint));
	if (peer->has_certificate)
		passport_peer_append(out, &head, texts);
}

/* What was read too far, and what the socket has not taken yet. */
static void carry_over(struct connection *c, struct slice rest, struct slice unsent)
{
	struct passport_draft *draft;

	if (c->fd < 0)
		return;
	draft = connection_draft(c);
	queue_append(draft, &passport_draft_tls(draft)->in, rest.data, rest.len);
	queue_append(draft, &draft->now.out, unsent.data, unsent.len);
	if (connection_commit(c) && (rest.len > 0 || unsent.len > 0))
		connection_schedule(c);
}

void tls_accept_establish(struct worker *w, int fd, const struct tls_established *established)
{
	struct connection *c;

	metric_add(METRIC_tls_handshakes_total, 1);
	if (established->resumed)
		metric_add(METRIC_tls_handshakes_resumed_total, 1);
	c = connection_accept_tls(w, fd, &established->peer, established->local_port,
				  &established->tls, established->certificate, established->sent);
	if (c)
		carry_over(c, established->rest, established->unsent);
}

static void establish(struct handshake *h, const struct tls_state *state,
		      const struct tls_peer *peer)
{
	struct tls_accepting *all = h->all;
	struct listener *listener = h->listener;
	struct worker *w = all->worker;
	struct slice rest = tls_handshake_rest(h->tls);
	struct tls_established established = {
		.peer = h->peer,
		.local_port = listener->port,
		.resumed = peer->resumed,
		.tls = {.state = *state},
		.sent = h->sent,
		.rest = rest,
		.unsent = slice_from(h->out.data + h->written, h->out.len - h->written),
	};

	established.tls.in.done = established.tls.in.end = h->received - rest.len;
	/* Two sets would hear of it. */
	watch_for(h, 0);
	buffer_reset(&w->scratch);
	append_certificate(&w->scratch, peer);
	established.certificate = buffer_slice(&w->scratch);
	if (all->give)
		all->give(all->give_ctx, h->fd, &established);
	else
		tls_accept_establish(w, h->fd, &established);
	tls_state_wipe(&established.tls.state);
	(void)release(h);
	resume_listener(listener);
}

static void detach(struct handshake *h)
{
	struct tls_peer peer;
	struct tls_state state;

	if (tls_handshake_detach(h->tls, h->all->worker->ciphers, &state, &peer)) {
		establish(h, &state, &peer);
		tls_state_wipe(&state);
		return;
	}
	log_error("tls_not_detached reason=%s", log_value_str(tls_handshake_error(h->tls)));
	metric_add(METRIC_tls_handshakes_failed_detach_total, 1);
	drop(h);
}

/* --- failing --- */

static const char plain_answer[] =
	"This port speaks TLS: the address begins with https:// or wss://\n";

static void fail(struct handshake *h)
{
	enum tls_handshake_failure failure = tls_handshake_failure(h->tls);

	_Static_assert(METRIC_tls_handshakes_failed_detach_total -
				       METRIC_tls_handshakes_failed_plain_http_total ==
			       TLS_HANDSHAKE_FAILURE_DETACH - TLS_HANDSHAKE_FAILURE_PLAIN_HTTP,
		       "a counter for each, in their order");
	log_info("tls_handshake_failed port=%u reason=%s error=%s", (unsigned)h->listener->port,
		 tls_handshake_failure_name(failure), log_value_str(tls_handshake_error(h->tls)));
	metric_add((enum metric)(METRIC_tls_handshakes_failed_plain_http_total + failure -
				 TLS_HANDSHAKE_FAILURE_PLAIN_HTTP),
		   1);
	if (failure == TLS_HANDSHAKE_FAILURE_PLAIN_HTTP) {
		buffer_reset(&h->out);
		h->written = 0;
		http_response_head(&h->out, 400, "text/plain; charset=utf-8",
				   sizeof(plain_answer) - 1, false, NULL);
		buffer_append_str(&h->out, plain_answer);
	}
	tls_handshake_free(h->tls);
	h->tls = NULL;
	h->deadline = h->all->worker->now_ms + LEAVING_MS;
}

/* --- one step --- */

/* False: the peer is gone. */
static bool flush(struct handshake *h)
{
	while (h->written < h->out.len) {
		ssize_t n = send(h->fd, h->out.data + h->written, h->out.len - h->written,
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN || errno == ENOBUFS;
		h->written += (size_t)n;
		h->sent += (uint64_t)n;
		metric_add(METRIC_bytes_sent_total, (uint64_t)n);
	}
	buffer_reset(&h->out);
	h->written = 0;
	/* Closing with the peer's bytes unread would take our last words away from it. */
	if (!h->tls && !h->shut) {
		h->shut = true;
		return shutdown(h->fd, SHUT_WR) == 0;
	}
	return true;
}

/* False: nothing more comes, and *what says why. */
static bool receive(struct handshake *h, struct slice *bytes)
{
	struct worker *w = h->all->worker;
	ssize_t n;

	do {
		n = recv(h->fd, w->opened, READ_MAX, MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	*bytes = slice_from((const char *)w->opened, n > 0 ? (size_t)n : 0);
	if (n <= 0)
		return n < 0 && errno == EAGAIN;
	h->received += (uint64_t)n;
	metric_add(METRIC_bytes_received_total, (uint64_t)n);
	return true;
}

static void step(struct handshake *h)
{
	enum tls_handshake_state state = TLS_HANDSHAKE_RUNNING;
	struct slice bytes;

	if (!flush(h) || !receive(h, &bytes)) {
		if (h->tls)
			metric_add(METRIC_tls_handshakes_aborted_total, 1);
		drop(h);
		return;
	}
	if (h->tls && bytes.len > 0)
		state = tls_handshake_feed(h->tls, bytes, &h->out);
	if (state == TLS_HANDSHAKE_FAILED)
		fail(h);
	if (!flush(h)) {
		drop(h);
		return;
	}
	if (state == TLS_HANDSHAKE_DONE)
		detach(h);
	else if (!watch_for(h, (short)(EV_READ | (h->written < h->out.len ? EV_WRITE : 0))))
		drop(h);
}

/* --- their turns --- */

static void next_turn(struct tls_accepting *all)
{
	static const struct timeval now = {0, 0};

	event_add(all->turn, &now);
}

static void on_turn(evutil_socket_t fd, short what, void *arg)
{
	struct tls_accepting *all = arg;
	uint64_t end_ns = clock_boottime_ns() + SLICE_NS;

	(void)fd;
	(void)what;
	loop_watch_begin(all->worker, LOOP_ACCEPT);
	while (all->ready_first) {
		struct handshake *h = all->ready_first;

		unlink_ready(h);
		step(h);
		if (all->ready_first && clock_boottime_ns() >= end_ns) {
			next_turn(all);
			return;
		}
	}
}

static void on_socket(void *ctx, arena_ref slot, short what)
{
	struct tls_accepting *all = ctx;
	struct handshake *h = all->slots[slot];

	(void)what;
	/* It is reported until it has had its turn. */
	if (!h || h->ready)
		return;
	MAGIC_CHECK(h, HANDSHAKE_MAGIC);
	h->ready = true;
	h->next_ready = NULL;
	*all->ready_end = h;
	all->ready_end = &h->next_ready;
	next_turn(all);
}

/* --- limits --- */

static void credit(struct listener *listener)
{
	struct worker *w = listener->worker;
	int64_t rate = (int64_t)listener->tls_settings->handshake_rate;
	uint64_t passed = w->now_ms - listener->credited_at;

	/* A second's worth at most. */
	if (passed > 1000)
		passed = 1000;
	listener->credited_at = w->now_ms;
	listener->handshake_credit += (int64_t)passed * rate;
	if (listener->handshake_credit > rate * 1000)
		listener->handshake_credit = rate * 1000;
}

bool tls_accept_may(struct listener *listener)
{
	const struct settings_tls *settings = listener->tls_settings;
	bool may = listener->handshakes < (uint64_t)settings->handshake_limit;

	if (settings->handshake_rate > 0) {
		credit(listener);
		may = may && listener->handshake_credit >= 1000;
	}
	if (!may && !listener->held) {
		listener->held = true;
		event_del(listener->event);
	}
	return may;
}

void tls_accept_begin(struct listener *listener, int fd, const struct sockaddr_storage *peer)
{
	struct worker *w = listener->worker;
	struct tls_accepting *all = w->accepting;
	struct handshake *h = xcalloc(1, sizeof(*h));

	metric_add(METRIC_connections_accepted_total, 1);
	listener->handshake_credit -= 1000;
	h->magic = HANDSHAKE_MAGIC;
	h->fd = fd;
	h->all = all;
	h->listener = listener;
	take_slot(all, h);
	h->peer = *peer;
	h->deadline = w->now_ms + (uint64_t)listener->tls_settings->handshake_timeout;
	h->tls = tls_handshake_create(tls_context_ssl(listener->tls));
	h->next = all->first;
	h->link = &all->first;
	if (h->next)
		h->next->link = &h->next;
	all->first = h;
	listener->handshakes++;
	w->handshake_count++;
	if (w->handshake_count > all->most)
		all->most = (unsigned)w->handshake_count;
	if (all->most >= CROWD_MIN)
		all->crowd = true;
	metric_add(METRIC_tls_handshakes_open, 1);
	if (!h->tls || !watch_for(h, EV_READ)) {
		log_error("tls_handshake_not_begun error=%s", log_value_str(strerror(ENOMEM)));
		drop(h);
	}
}

/*
 * A handshake takes some 50 KiB, in pieces that would be kept for the next one.
 * Done each time three quarters of a crowd are over, down to the last: some that
 * are always there don't have it done again and again.
 */
static void give_memory_back(struct tls_accepting *all)
{
	struct worker *w = all->worker;

	if (!all->crowd || w->handshake_count > all->most / 4 ||
	    w->now_ms < all->given_back_at + CROWD_PAST_MS)
		return;
	alloc_trim();
	all->most = (unsigned)w->handshake_count;
	all->crowd = w->handshake_count > 1;
	all->given_back_at = w->now_ms;
}

void tls_accept_tick(struct worker *w)
{
	struct handshake *h = w->accepting->first;

	while (h) {
		struct handshake *next = h->next;

		if (h->deadline <= w->now_ms) {
			if (h->tls)
				metric_add(METRIC_tls_handshakes_timeout_total, 1);
			drop(h);
		}
		h = next;
	}
	for (size_t i = 0; i < w->listener_count; i++) {
		if (w->listeners[i].held)
			resume_listener(&w->listeners[i]);
	}
	give_memory_back(w->accepting);
}

void tls_accept_end(struct listener *listener)
{
	struct handshake *h =
		listener->worker->accepting ? listener->worker->accepting->first : NULL;

	while (h) {
		struct handshake *next = h->next;

		if (h->listener == listener)
			close(release(h));
		h = next;
	}
}

/* The loop in which they have their turns. */
static void open_loop(struct tls_accepting *all, struct event_base *base)
{
	all->turn = evtimer_new(base, on_turn, all);
	all->poller = poller_create(base, on_socket, NULL, all);
	if (!all->turn || !all->poller)
		log_fatal("tls_accept_failed error=%s", log_value_str(strerror(ENOMEM)));
}

/* --- after a takeover --- */

unsigned tls_accept_running(const struct worker *w)
{
	unsigned count = 0;

	for (const struct handshake *h = w->accepting->first; h; h = h->next)
		count += h->tls != NULL;
	return count;
}

void tls_accept_give_away(struct worker *w, struct event_base *base, tls_accept_give give,
			  void *ctx)
{
	struct tls_accepting *all = w->accepting;

	all->give = give;
	all->give_ctx = ctx;
	event_free(all->turn);
	poller_free(all->poller);
	open_loop(all, base);
	for (struct handshake *h = all->first, *next; h; h = next) {
		next = h->next;
		h->watched = 0;
		if (!watch_for(h, (short)(EV_READ | (h->written < h->out.len ? EV_WRITE : 0))))
			drop(h);
	}
	if (all->ready_first)
		next_turn(all);
}

/* --- life --- */

void tls_accept_open(struct worker *w)
{
	struct tls_accepting *all = xcalloc(1, sizeof(*all));

	all->worker = w;
	all->ready_end = &all->ready_first;
	open_loop(all, w->base);
	w->accepting = all;
}

void tls_accept_close(struct worker *w)
{
	struct tls_accepting *all = w->accepting;

	/* No listener is to go on. */
	w->accept_paused = true;
	while (all->first)
		drop(all->first);
	event_free(all->turn);
	poller_free(all->poller);
	free(all->slots);
	free(all->free_slots);
	free(all);
	w->accepting = NULL;
}

/* SPDX-License-Identifier: ISC */
/*
 * How client connections come and go, see connection.h: accepted, adopted, lent to
 * another worker, closed. Run by the worker. What is said on them:
 * connection_phases.c.
 */
#include "worker/connection.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "keepsock/clock.h"
#include "keepsock/crash_points.h"
#include "keepsock/deflate.h"
#include "keepsock/log.h"
#include "keepsock/random.h"
#include "keepsock/websocket.h"
#include "worker/deposits.h"
#include "worker/internal.h"
#include "worker/poller.h"
#include "worker/stream.h"
#include "worker/tls_stream.h"

/* Above these shares of the arena: no new connections; the longest queues are closed. */
#define ARENA_REFUSE_PERCENT  80u
#define ARENA_RELIEVE_PERCENT 90u

struct connection *connection_at(struct worker *w, arena_ref passport)
{
	return arena_companion(w->arena, passport, sizeof(struct connection));
}

struct connection *connection_maybe_at(struct worker *w, arena_ref passport)
{
	return arena_class_of(w->arena, passport) == ARENA_PASSPORT ? connection_at(w, passport)
								    : NULL;
}

uint64_t connection_affinity(const struct passport *passport)
{
	uint64_t affinity;

	memcpy(&affinity, passport->id.bytes, sizeof(affinity));
	return affinity;
}

struct slice connection_id(const struct passport *passport, char out[37])
{
	struct uuid id;

	memcpy(id.bytes, passport->id.bytes, sizeof(id.bytes));
	uuid_format(&id, out);
	return slice_from(out, UUID_TEXT_LEN);
}

struct connection *connection_find(struct worker *w, const struct passport_id *id)
{
	arena_ref ref = 0;

	while ((ref = arena_record_next(w->arena, ARENA_PASSPORT, ref))) {
		const struct passport *passport = arena_at(w->arena, ref);

		if (passport->magic == PASSPORT_MAGIC && passport->kind == PASSPORT_CLIENT &&
		    memcmp(&passport->id, id, sizeof(*id)) == 0) {
			struct connection *c = connection_at(w, ref);

			return c->fd >= 0 ? c : NULL;
		}
	}
	return NULL;
}

const char *connection_peer(const struct passport *passport, char out[CONNECTION_PEER_TEXT])
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	char address[INET6_ADDRSTRLEN] = "";
	unsigned port = passport->peer_port;

	if (memcmp(passport->peer.bytes, mapped, sizeof(mapped)) == 0) {
		inet_ntop(AF_INET, passport->peer.bytes + 12, address, sizeof(address));
		snprintf(out, CONNECTION_PEER_TEXT, "%s:%u", address, port);
	} else {
		inet_ntop(AF_INET6, passport->peer.bytes, address, sizeof(address));
		snprintf(out, CONNECTION_PEER_TEXT, "[%s]:%u", address, port);
	}
	return out;
}

static bool arena_above(const struct worker *w, unsigned percent)
{
	return arena_bytes_used(w->arena) >= arena_bytes_cap(w->arena) / 100 * percent;
}

/* --- opening --- */

static void peer_address(const struct sockaddr_storage *peer, struct passport *passport)
{
	if (peer->ss_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const void *)peer;

		memcpy(passport->peer.bytes, &in6->sin6_addr, 16);
		passport->peer_port = ntohs(in6->sin6_port);
	} else if (peer->ss_family == AF_INET) {
		const struct sockaddr_in *in = (const void *)peer;

		passport->peer.bytes[10] = passport->peer.bytes[11] = 0xff;
		memcpy(passport->peer.bytes + 12, &in->sin_addr, 4);
		passport->peer_port = ntohs(in->sin_port);
	}
}

/* The worker can hold no more: the connection may ask for its 503 and nothing else. */
static bool over_limit(const struct worker *w)
{
	return w->stopping || arena_above(w, ARENA_REFUSE_PERCENT) ||
	       w->connection_count + w->handshake_count >= w->connection_max;
}

bool connection_admit(struct connection *c)
{
	struct worker *w = c->worker;
	uint64_t rate = (uint64_t)w->settings.client.connection_rate_limit;

	if (c->over_limit || w->stopping ||
	    !node_page_take_connection_rate(w->page, rate, clock_boottime_ns()) ||
	    !node_page_admit_connection(w->page, (uint64_t)w->settings.client.connection_limit)) {
		metric_add(METRIC_connections_refused_total, 1);
		return false;
	}
	c->admitted = true;
	return true;
}

static void fill_passport(const struct worker *w, const struct sockaddr_storage *peer,
			  uint16_t local_port, struct passport *fresh)
{
	struct uuid id;

	fresh->kind = PASSPORT_CLIENT;
	fresh->state = PASSPORT_STATE_HTTP;
	fresh->accepted_at = w->now_ms;
	fresh->local_port = local_port;
	fresh->deadline = w->now_ms + (uint64_t)w->settings.http.header_timeout;
	uuid_generate(&id);
	memcpy(fresh->id.bytes, id.bytes, sizeof(id.bytes));
	peer_address(peer, fresh);
}

bool connection_watch(struct connection *c)
{
	short events = (short)((c->paused ? 0 : EV_READ) | (c->writing ? EV_WRITE : 0));

	if (poller_watch(c->worker->poller, c->fd, c->passport, c->watched, events)) {
		c->watched = events;
		return true;
	}
	/* Only adding can fail: the system has no room for another watch. Its timers end it. */
	log_error("connection_watch_failed error=%s action=close", log_value_str(strerror(errno)));
	shutdown(c->fd, SHUT_RDWR);
	return false;
}

static void unwatch(struct connection *c)
{
	poller_watch(c->worker->poller, c->fd, c->passport, c->watched, 0);
	c->watched = 0;
}

/* NULL: it came to no passport and is closed. It may be closed anyway. */
static struct connection *open_connection(struct worker *w, int fd, struct passport *fresh)
{
	/* A few beyond the limit may ask and hear why; the rest is cut. */
	bool refused = over_limit(w);
	struct connection *c;
	arena_ref ref;

	ref = refused && w->turned_away >= w->turned_away_max ? 0
							      : passport_create(w->arena, fresh);
	if (!ref) {
		metric_add(METRIC_connections_refused_total, 1);
		close(fd);
		return NULL;
	}
	crash_point(CRASH_PASSPORT);
	c = connection_at(w, ref);
	memset(c, 0, sizeof(*c));
	c->worker = w;
	c->passport = ref;
	c->fd = fd;
	c->tls = fresh->tls != 0;
	c->over_limit = refused;
	w->turned_away += refused;
	w->connection_count++;
	metric_add(METRIC_connections_open, 1);
	if (c->tls)
		metric_add(METRIC_tls_connections, 1);
	connection_arm(c);
	if (connection_watch(c))
		deposits_add_client(c);
	else
		connection_close(c, "not watched");
	return c;
}

void connection_accept(struct worker *w, int fd, const struct sockaddr_storage *peer,
		       uint16_t local_port)
{
	struct passport fresh = {0};

	metric_add(METRIC_connections_accepted_total, 1);
	fill_passport(w, peer, local_port, &fresh);
	(void)open_connection(w, fd, &fresh);
}

struct connection *connection_accept_tls(struct worker *w, int fd,
					 const struct sockaddr_storage *peer, uint16_t local_port,
					 const struct passport_tls *tls, struct slice certificate,
					 uint64_t sent)
{
	struct passport fresh = {.out = {.done = sent}};
	struct connection *c = NULL;

	fill_passport(w, peer, local_port, &fresh);
	fresh.tls = passport_tls_make(w->arena, tls, certificate);
	if (fresh.tls)
		c = open_connection(w, fd, &fresh);
	else
		close(fd);
	if (!c && fresh.tls)
		passport_tls_free(w->arena, fresh.tls);
	return c;
}

/* --- adopting --- */

struct connection *connection_attach(struct worker *w, arena_ref ref, int fd)
{
	struct connection *c = connection_at(w, ref);

	memset(c, 0, sizeof(*c));
	c->worker = w;
	c->passport = ref;
	c->fd = fd;
	c->tls = connection_passport(c)->tls != 0;
	if (fd >= 0)
		deposits_client_is_kept(c);
	return c;
}

/* What the predecessor may have had Redis remember of it: its heap half knew. */
static void adopt_memory(struct connection *c)
{
	struct worker *w = c->worker;
	const struct passport *passport = connection_passport(c);

	if (passport->command_number > 0)
		c->remembered =
			w->shard_count < 64 ? ((uint64_t)1 << w->shard_count) - 1 : UINT64_MAX;
	c->session_known = passport->identity != 0;
	c->announced = true;
}

static bool starts_paused(const struct connection *c)
{
	const struct passport *passport = connection_passport(c);

	if (passport->state == PASSPORT_STATE_HTTP)
		return (passport->flags & PASSPORT_PEER_FIN) != 0;
	return passport->state == PASSPORT_STATE_ECHO &&
	       queue_length(&passport->out) > (uint64_t)c->worker->settings.client.queue_max_size;
}

/* Most are idle: only who has something waiting is looked at in the first loop turn. */
static bool has_work(const struct worker *w, const struct passport *passport)
{
	const struct passport_tls *tls = passport_tls(w->arena, passport);

	if (tls && (queue_length(&tls->in) > 0 || (tls->state.flags & TLS_CLOSE_NOTIFY_READ)))
		return true;
	return queue_length(&passport->in) > 0 || queue_length(&passport->messages) > 0 ||
	       queue_length(&passport->out) > 0 || (passport->flags & PASSPORT_PEER_FIN) ||
	       passport->state == PASSPORT_STATE_DRAINING;
}

void connection_adopt(struct connection *c)
{
	struct worker *w = c->worker;
	const struct passport *passport = connection_passport(c);

	adopt_memory(c);
	c->admitted = (passport->flags & PASSPORT_ADMITTED) != 0;
	c->paused = starts_paused(c);
	w->connection_count++;
	metric_add(METRIC_connections_open, 1);
	if (c->admitted)
		metric_add(METRIC_client_connections, 1);
	if (passport->flags & PASSPORT_DEFLATE)
		metric_add(METRIC_deflate_connections, 1);
	if (c->tls)
		metric_add(METRIC_tls_connections, 1);
	if (passport->state == PASSPORT_STATE_CONNECTED)
		users_add(&w->users, c);
	if (connection_watch(c)) {
		connection_arm(c);
		if (has_work(w, passport))
			connection_schedule(c);
	} else {
		connection_close(c, "not watched");
	}
}

void connection_bury(struct connection *c)
{
	static const struct timeval now = {0, 0};
	struct worker *w = c->worker;

	adopt_memory(c);
	client_session_end(c);
	c->next_closed = w->closed;
	w->closed = c;
	event_add(w->turn, &now);
}

/* --- changing the worker --- */

int connection_lend(struct connection *c)
{
	struct worker *w = c->worker;
	int fd = c->fd;

	timer_wheel_set(&w->wheel, &c->timer, 0);
	unwatch(c);
	users_remove(&w->users, c);
	c->fd = -1;
	return fd;
}

void connection_return(struct connection *c, int fd)
{
	struct worker *w = c->worker;

	c->fd = fd;
	if (connection_passport(c)->state == PASSPORT_STATE_CONNECTED)
		users_add(&w->users, c);
	if (!c->deposited)
		deposits_add_client(c);
	if (!c->paused && !connection_watch(c)) {
		connection_close(c, "not watched");
		return;
	}
	connection_arm(c);
	connection_schedule(c);
}

static void discard(struct connection *c)
{
	struct worker *w = c->worker;
	static const struct timeval now = {0, 0};

	client_session_forget_message(c);
	client_session_leave(c);
	c->next_closed = w->closed;
	w->closed = c;
	event_add(w->turn, &now);
}

void connection_gone(struct connection *c)
{
	c->worker->connection_count--;
	metric_subtract(METRIC_connections_open, 1);
	if (c->tls)
		metric_subtract(METRIC_tls_connections, 1);
	if (c->admitted)
		metric_subtract(METRIC_client_connections, 1);
	if (connection_passport(c)->flags & PASSPORT_DEFLATE)
		metric_subtract(METRIC_deflate_connections, 1);
	discard(c);
}

void connection_forget(struct connection *c, bool of_predecessor)
{
	if (of_predecessor)
		adopt_memory(c);
	discard(c);
}

struct connection *connection_arrive(struct worker *w, arena_ref ref, int fd)
{
	struct connection *c = connection_at(w, ref);

	memset(c, 0, sizeof(*c));
	c->worker = w;
	c->passport = ref;
	c->fd = fd;
	c->tls = connection_passport(c)->tls != 0;
	deposits_add_client(c);
	return c;
}

/* --- closing --- */

void connection_disconnect(struct connection *c, uint16_t code, const char *reason)
{
	struct worker *w = c->worker;
	const struct passport *passport = connection_passport(c);
	struct passport_draft *draft;
	char id[37];

	if (c->fd < 0 || passport->state == PASSPORT_STATE_CLOSING ||
	    passport->state == PASSPORT_STATE_DRAINING)
		return;
	if (!reason)
		reason = client_disconnect_reason(code);
	log_info("disconnect client=%.*s code=%u reason=%s", SLICE_ARG(connection_id(passport, id)),
		 (unsigned)code, log_value_str(reason));
	metric_add(METRIC_disconnects_total, 1);
	draft = connection_draft(c);
	buffer_reset(&w->frame);
	websocket_append_close(&w->frame, code, reason);
	passport_draft_output(draft, w->frame.data, w->frame.len);
	queue_consume(draft, &draft->now.messages, UINT64_MAX);
	draft->now.partial_message = 0;
	draft->now.command_index = 0;
	draft->now.state = PASSPORT_STATE_CLOSING;
	draft->now.close_code = code;
	draft->now.ping_at = draft->now.pong_deadline = 0;
	draft->now.deadline = w->now_ms + (uint64_t)w->settings.client.close_timeout;
	crash_point(CRASH_CLOSE);
	/* First the client's word, then its subscriptions: who is not told goodbye keeps them. */
	if (!connection_commit(c))
		return;
	client_session_end(c);
	if (c->fd < 0)
		return;
	connection_arm(c);
	connection_set_paused(c, false);
	connection_flush(c);
}

void connection_fail(struct connection *c, uint16_t code, const char *reason)
{
	struct worker *w = c->worker;
	struct passport_draft *draft = connection_draft(c);

	metric_add(METRIC_disconnects_total, 1);
	buffer_reset(&w->frame);
	websocket_append_close(&w->frame, code, reason);
	passport_draft_output(draft, w->frame.data, w->frame.len);
	draft->now.close_code = code;
	connection_drain(c);
	if (!connection_commit(c))
		return;
	client_session_end(c);
	connection_arm(c);
	connection_flush(c);
}

void connection_close(struct connection *c, const char *why)
{
	struct worker *w = c->worker;
	const struct passport *passport = connection_passport(c);
	static const struct timeval now = {0, 0};
	char id[37];

	if (c->fd < 0)
		return;
	log_debug("connection_closed client=%.*s state=%s why=%s",
		  SLICE_ARG(connection_id(passport, id)), passport_state_name(passport->state),
		  log_value_str(why));
	if (c->tls)
		tls_stream_say_goodbye(c);
	timer_wheel_set(&w->wheel, &c->timer, 0);
	unwatch(c);
	/* A duplicate of the descriptor may live elsewhere: close() alone would tell the peer
	 * nothing. */
	shutdown(c->fd, SHUT_RDWR);
	close(c->fd);
	c->fd = -1;
	if (passport->state == PASSPORT_STATE_HTTP) {
		free(c->http_cors);
		c->http_cors = NULL;
	}
	client_session_end(c);
	w->connection_count--;
	w->turned_away -= c->over_limit;
	metric_subtract(METRIC_connections_open, 1);
	if (c->tls)
		metric_subtract(METRIC_tls_connections, 1);
	if (c->admitted)
		metric_subtract(METRIC_client_connections, 1);
	if (passport->flags & PASSPORT_DEFLATE)
		metric_subtract(METRIC_deflate_connections, 1);
	client_session_forget_message(c);
	c->next_closed = w->closed;
	w->closed = c;
	event_add(w->turn, &now);
}

/* Who is freed must not be in the list of those with work left. */
static void forget_turns(struct worker *w)
{
	struct connection **link = &w->turn_first;

	while (*link) {
		if ((*link)->fd < 0)
			*link = (*link)->next_turn;
		else
			link = &(*link)->next_turn;
	}
}

void connection_reap(struct worker *w)
{
	if (w->closed)
		forget_turns(w);
	while (w->closed) {
		struct connection *c = w->closed;

		w->closed = c->next_closed;
		/* Told at the turn's end, when the passport is gone. */
		deposits_release_client(c);
		passport_destroy(&w->draft, c->passport, NULL);
	}
	worker_stop_check(w);
}

/* --- relief --- */

void connection_relieve_arena(struct worker *w)
{
	while (arena_above(w, ARENA_RELIEVE_PERCENT)) {
		struct connection *longest = NULL;
		uint64_t length = 0;
		arena_ref ref = 0;

		while ((ref = arena_record_next(w->arena, ARENA_PASSPORT, ref))) {
			const struct passport *passport = arena_at(w->arena, ref);
			uint64_t queued = queue_length(&passport->out);

			if (passport->magic == PASSPORT_MAGIC &&
			    passport->kind == PASSPORT_CLIENT && queued > length &&
			    connection_at(w, ref)->fd >= 0) {
				longest = connection_at(w, ref);
				length = queued;
			}
		}
		if (!longest)
			return;
		log_warning("arena_nearly_full action=close queued_bytes=%llu",
			    (unsigned long long)length);
		metric_add(METRIC_slow_closed_total, 1);
		connection_close(longest, "arena nearly full");
		connection_reap(w);
	}
}

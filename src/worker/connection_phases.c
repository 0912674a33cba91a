/* SPDX-License-Identifier: ISC */
/*
 * The phases of a client connection, see connection.h: reading, drafts and their
 * commits, writing. Run by the worker. Every read and write is announced in the
 * work slot, so that after a death the kernel can be asked about the one socket in
 * doubt; every change goes through a draft.
 */
#include "worker/connection.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "keepsock/deflate.h"
#include "keepsock/log.h"
#include "keepsock/websocket.h"
#include "worker/client_expiry.h"
#include "worker/compression.h"
#include "worker/deposits.h"
#include "worker/internal.h"
#include "worker/loop_watch.h"
#include "worker/poller.h"
#include "worker/stream.h"
#include "worker/tls_stream.h"

/* Output that may wait for the end of the poller's round; what is more takes long to write. */
#define UNSENT_MAX 4096u

/* --- drafts --- */

void connection_announce(struct connection *c, uint64_t item)
{
	struct work_slot *work = &c->worker->arena->header->work;

	arena_store(&work->serving_item, item);
	arena_store(&work->serving, WORK_WORD(WORK_SERVING_CONNECTION, c->passport));
}

struct passport_draft *connection_draft(struct connection *c)
{
	passport_draft_begin(&c->worker->draft, c->passport);
	return &c->worker->draft;
}

bool connection_commit(struct connection *c)
{
	struct work_slot *work = &c->worker->arena->header->work;

	if (passport_draft_commit(&c->worker->draft))
		return true;
	c->worker->removed_channel = NULL;
	/* The commit would have ended them. */
	arena_store(&work->syscall, 0);
	if (atomic_load(&work->serving) == WORK_WORD(WORK_SERVING_CONNECTION, c->passport))
		arena_store(&work->serving, 0);
	log_warning("not_committed action=close arena_bytes_used=%llu peer_port=%u",
		    (unsigned long long)arena_bytes_used(c->worker->arena),
		    (unsigned)connection_passport(c)->peer_port);
	connection_close(c, "not committed");
	return false;
}

void connection_append_frame(struct connection *c, unsigned opcode, struct slice payload)
{
	struct worker *w = c->worker;
	struct passport_draft *draft = &w->draft;
	uint8_t header[10];
	size_t length;

	if ((opcode == WEBSOCKET_TEXT || opcode == WEBSOCKET_BINARY) &&
	    compression_worthwhile(w, payload.len) &&
	    passport_window_bits(draft->now.flags) >= deflate_window_bits_for(payload.len)) {
		buffer_reset(&w->packed);
		if (compression_pack(w, payload, &w->packed)) {
			metric_add(METRIC_deflate_saved_bytes_total, payload.len - w->packed.len);
			payload = buffer_slice(&w->packed);
			opcode = WEBSOCKET_COMPRESSED(opcode);
		}
	}
	length = websocket_write_header(header, opcode, payload.len);
	passport_draft_output(draft, header, length);
	passport_draft_output(draft, payload.data, payload.len);
}

/* --- times --- */

static uint64_t earliest(uint64_t a, uint64_t b)
{
	if (a == 0 || b == 0)
		return a + b;
	return a < b ? a : b;
}

void connection_arm(struct connection *c)
{
	const struct passport *passport = connection_passport(c);
	uint64_t next = earliest(passport->ping_at, passport->pong_deadline);

	/* Closed, the timer's place holds the list of those to be freed. */
	if (c->fd < 0)
		return;
	next = earliest(next, earliest(passport->deadline, client_expiry_next(c)));
	timer_wheel_set(&c->worker->wheel, &c->timer, next);
}

void connection_set_paused(struct connection *c, bool paused)
{
	if (c->paused == paused || c->fd < 0)
		return;
	c->paused = paused;
	connection_watch(c);
}

static void set_writing(struct connection *c, bool writing)
{
	if (c->writing == writing)
		return;
	c->writing = writing;
	connection_watch(c);
}

void connection_schedule(struct connection *c)
{
	struct worker *w = c->worker;
	static const struct timeval now = {0, 0};

	if (c->in_turn || c->fd < 0)
		return;
	c->in_turn = true;
	c->next_turn = w->turn_first;
	w->turn_first = c;
	event_add(w->turn, &now);
}

/* --- the write phase --- */

/* Nothing more goes out: what follows from the state. */
static void on_drained(struct connection *c)
{
	const struct passport *passport = connection_passport(c);

	struct passport_draft *draft;

	if (c->writing)
		set_writing(c, false);
	if (passport->state == PASSPORT_STATE_ECHO)
		connection_set_paused(c, false);
	if (passport->state != PASSPORT_STATE_DRAINING || (passport->flags & PASSPORT_SHUT))
		return;
	if (c->tls && tls_stream_close_notify(c)) {
		connection_flush(c);
		return;
	}
	/* After both close frames nothing more is to come (RFC 6455 §7.1.1: the server closes
	 * first); a half-closed peer has said all it had. */
	if ((passport->flags & (PASSPORT_PEER_CLOSED | PASSPORT_PEER_FIN)) ||
	    shutdown(c->fd, SHUT_WR) < 0) {
		connection_close(c, "served");
		return;
	}
	/* The peer closes first: closing with its bytes unread would reset the connection and could
	 * take our last words away from it. */
	draft = connection_draft(c);
	draft->now.flags |= PASSPORT_SHUT;
	draft->now.deadline =
		c->worker->now_ms + (uint64_t)c->worker->settings.client.close_timeout;
	if (!connection_commit(c))
		return;
	connection_arm(c);
	connection_set_paused(c, false);
}

void connection_drain(struct connection *c)
{
	struct worker *w = c->worker;

	w->draft.now.state = PASSPORT_STATE_DRAINING;
	w->draft.now.ping_at = w->draft.now.pong_deadline = 0;
	w->draft.now.deadline = w->now_ms + (uint64_t)w->settings.client.close_timeout;
	queue_consume(&w->draft, &w->draft.now.in, UINT64_MAX);
	queue_consume(&w->draft, &w->draft.now.messages, UINT64_MAX);
	w->draft.now.partial_message = 0;
	w->draft.now.command_index = 0;
}

void connection_flush(struct connection *c)
{
	struct worker *w = c->worker;
	uint64_t written = 0;

	if (c->fd < 0)
		return;
	switch (stream_write(w, c->passport, c->fd, &written)) {
	case STREAM_DRAINED: on_drained(c); break;
	case STREAM_BLOCKED: set_writing(c, true); break;
	case STREAM_FAILED: connection_close(c, "write failed"); break;
	}
	metric_add(METRIC_bytes_sent_total, written);
}

/*
 * To read from all that are ready and then to write to all of them costs less than
 * to go from one to the other each time: the code of either way stays in the
 * processor's caches. A death between the two leaves output in passports, as it
 * does in front of any write.
 */
void connection_flush_soon(struct connection *c)
{
	struct worker *w = c->worker;

	if (w->in_round && w->unsent_count < POLLER_ROUND_MAX &&
	    queue_length(&connection_passport(c)->out) <= UNSENT_MAX)
		w->unsent[w->unsent_count++] = c->passport;
	else
		connection_flush(c);
}

void connection_round_end(void *worker)
{
	struct worker *w = worker;

	w->in_round = false;
	for (unsigned i = 0; i < w->unsent_count; i++) {
		struct connection *c = connection_at(w, w->unsent[i]);

		loop_watch_subject(w, WORK_WORD(WORK_SERVING_CONNECTION, c->passport));
		if (!c->writing)
			connection_flush(c);
	}
	w->unsent_count = 0;
}

bool connection_check_queue(struct connection *c)
{
	const struct passport *passport = connection_passport(c);

	if (c->fd < 0)
		return false;
	if (passport->state != PASSPORT_STATE_CONNECTED ||
	    queue_length(&passport->out) <= (uint64_t)c->worker->settings.client.queue_max_size)
		return true;
	metric_add(METRIC_slow_closed_total, 1);
	connection_disconnect(c, CLIENT_DISCONNECT_SLOW, NULL);
	return c->fd >= 0;
}

/* --- the read phase --- */

void connection_on_end(struct connection *c, ssize_t got)
{
	struct worker *w = c->worker;
	int error = errno;
	const struct passport *passport = connection_passport(c);
	bool served;

	arena_store(&w->arena->header->work.syscall, 0);
	if (got < 0 && error == EAGAIN)
		return;
	/* Half-closed after its requests: the answers are still wanted. */
	served = passport->state == PASSPORT_STATE_HTTP && (c->pending || c->in_turn);
	if (got == 0 && (served || (passport->state == PASSPORT_STATE_HTTP &&
				    queue_length(&passport->out) > 0))) {
		connection_draft(c);
		w->draft.now.flags |= PASSPORT_PEER_FIN;
		if (!served)
			connection_drain(c);
		if (connection_commit(c))
			connection_set_paused(c, true);
		return;
	}
	connection_close(c, got == 0 ? "peer closed" : "read failed");
}

void connection_end_of_input(struct connection *c)
{
	connection_on_end(c, 0);
}

static void connection_read(struct connection *c)
{
	struct worker *w = c->worker;
	const struct passport *passport = connection_passport(c);
	bool http = passport->state == PASSPORT_STATE_HTTP ||
		    passport->state == PASSPORT_STATE_DRAINING;
	/* A WebSocket keeps at most an unfinished header or control frame back. */
	size_t kept = http ? 0 : (size_t)queue_length(&passport->in);
	ssize_t got;

	if (kept > 0)
		queue_copy(w->arena, &passport->in, passport->in.done, kept, w->arena->scratch);
	got = stream_read(w, c->passport, c->fd, kept, ARENA_READ_SCRATCH);
	if (got <= 0) {
		connection_on_end(c, got);
		return;
	}
	metric_add(METRIC_bytes_received_total, (uint64_t)got);
	connection_draft(c);
	if (!http) {
		websocket_session_process(c, w->arena->scratch, kept, kept + (size_t)got);
		return;
	}
	/* Whoever is being closed after an answer has nothing more to say. */
	if (passport->state == PASSPORT_STATE_HTTP)
		queue_append(&w->draft, &w->draft.now.in, w->arena->scratch, (size_t)got);
	else
		w->draft.now.in.done = w->draft.now.in.end =
			queue_end(&w->draft.now.in) + (uint64_t)got;
	arena_commit_add(&w->draft.commit, &w->arena->header->work.syscall, 0);
	if (connection_commit(c) && passport->state == PASSPORT_STATE_HTTP)
		http_session_process(c);
}

void connection_process_input(struct connection *c)
{
	struct worker *w = c->worker;
	const struct passport *passport = connection_passport(c);
	size_t kept = (size_t)queue_length(&passport->in);

	/* More than the scratch holds was never read in one go: the rest waits for its turn. */
	if (kept == 0 || kept > ARENA_READ_SCRATCH || passport->state == PASSPORT_STATE_DRAINING)
		return;
	queue_copy(w->arena, &passport->in, passport->in.done, kept, w->arena->scratch);
	connection_draft(c);
	websocket_session_process(c, w->arena->scratch, kept, kept);
}

void connection_resume(struct connection *c)
{
	const struct passport *passport = connection_passport(c);

	if (c->fd < 0)
		return;
	/* Those whose handshake has just ended may be answered here. */
	if (c->worker->deposits_due)
		deposits_flush(c->worker);
	if (passport->state == PASSPORT_STATE_HTTP) {
		if (c->tls)
			tls_stream_resume(c);
		if (c->fd >= 0)
			http_session_process(c);
	} else {
		connection_process_input(c);
		if (c->fd >= 0 && c->tls)
			tls_stream_resume(c);
		if (c->fd >= 0 && !c->pending && queue_length(&passport->messages) > 0)
			client_session_pump(c);
	}
	if (c->fd >= 0 && !c->writing &&
	    (queue_length(&passport->out) > 0 || passport->state == PASSPORT_STATE_DRAINING))
		connection_flush(c);
}

void connection_ready(void *worker, arena_ref passport, short what)
{
	struct worker *w = worker;
	struct connection *c = connection_at(w, passport);

	loop_watch_begin(w, LOOP_CLIENT);
	loop_watch_subject(w, WORK_WORD(WORK_SERVING_CONNECTION, passport));
	w->in_round = true;
	/* Nobody is answered whom only this process knows. */
	if (w->deposits_due)
		deposits_flush(w);
	if ((what & EV_WRITE) && c->fd >= 0)
		connection_flush(c);
	if (!(what & EV_READ) || c->fd < 0 || c->paused)
		return;
	if (c->tls)
		tls_stream_read(c);
	else
		connection_read(c);
}

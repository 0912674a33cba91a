/* SPDX-License-Identifier: ISC */
/*
 * Records of TLS connections, see tls_stream.h. Run by the worker. What one read
 * brings is one commit: {ciphertext's head, read sequence, plaintext and what
 * became of it}. Ciphertext is never modified in place.
 */
#include "worker/tls_stream.h"

#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/log.h"
#include "keepsock/secret.h"
#include "keepsock/tls_record.h"
#include "worker/internal.h"
#include "worker/stream.h"

/* Bytes of one read. With the rest of a record and of a frame that wait it fits into the scratch,
 * and what it opens to into the buffer for plaintext. */
#define READ_MAX (64u * 1024u)

void tls_stream_open(struct worker *w)
{
	const char *error = NULL;

	w->ciphers = tls_ciphers_create(&error);
	if (!w->ciphers)
		log_fatal("tls_ciphers_missing error=%s", log_value_str(error));
	w->opened = xmalloc(WORKER_INPUT_MAX);
}

void tls_stream_close(struct worker *w)
{
	tls_ciphers_free(w->ciphers);
	secret_wipe(w->opened, WORKER_INPUT_MAX);
	free(w->opened);
	buffer_free(&w->sealed);
}

static struct passport_tls *tls_of(const struct connection *c)
{
	return passport_tls(c->worker->arena, connection_passport(c));
}

/* --- writing --- */

/* What was appended as output becomes records. */
static void seal(void *context, struct passport_draft *draft)
{
	struct worker *w = context;
	struct tls_state *state = &passport_draft_tls(draft)->state;
	uint8_t iv[sizeof(state->write.iv)];

	memcpy(iv, state->write.iv, sizeof(iv));
	buffer_reset(&w->sealed);
	switch (tls_record_seal(w->ciphers, state, buffer_slice(&draft->output), &w->sealed)) {
	case TLS_SEALED:
		queue_append(draft, &draft->now.out, w->sealed.data, w->sealed.len);
		/* It changes with the key. */
		if (memcmp(state->write.iv, iv, sizeof(iv)) != 0)
			metric_add(METRIC_tls_key_updates_sent_total, 1);
		break;
	/* After our last word nothing is said. */
	case TLS_SEAL_CLOSED: break;
	case TLS_SEAL_EXHAUSTED:
	case TLS_SEAL_FAILED:
		log_warning("tls_not_sealed suite=%s sequence=%llu action=close",
			    tls_suite_name(state->suite),
			    (unsigned long long)state->write.sequence);
		draft->failed = true;
		break;
	}
	buffer_reset(&draft->output);
}

void tls_stream_attach(struct worker *w)
{
	w->draft.seal = seal;
	w->draft.seal_context = w;
}

/* In an open draft: our last word. False: it was said before, or can't be. */
static bool append_alert(struct worker *w, enum tls_alert alert)
{
	struct passport_draft *draft = &w->draft;

	buffer_reset(&w->sealed);
	if (tls_record_seal_alert(w->ciphers, &passport_draft_tls(draft)->state, alert,
				  &w->sealed) != TLS_SEALED)
		return false;
	queue_append(draft, &draft->now.out, w->sealed.data, w->sealed.len);
	return true;
}

bool tls_stream_close_notify(struct connection *c)
{
	struct worker *w = c->worker;

	if (tls_of(c)->state.flags & TLS_CLOSE_SEALED)
		return false;
	connection_draft(c);
	if (append_alert(w, TLS_ALERT_CLOSE_NOTIFY))
		return passport_draft_commit(&w->draft);
	passport_draft_drop(&w->draft);
	return false;
}

void tls_stream_say_goodbye(struct connection *c)
{
	struct worker *w = c->worker;
	uint64_t written = 0;

	/* Whoever has a backlog would not read it; a draft under way is about to fail. */
	if (queue_length(&connection_passport(c)->out) > 0 || w->draft.live)
		return;
	if (tls_stream_close_notify(c))
		(void)stream_write(w, c->passport, c->fd, &written);
	metric_add(METRIC_bytes_sent_total, written);
}

/* --- reading --- */

/* Opens record after record of the scratch into `out`; returns how much plaintext that is. */
static size_t open_records(struct worker *w, struct tls_state *state, size_t length, uint8_t *out,
			   size_t *used, struct tls_opened *last)
{
	size_t opened = 0;

	*used = 0;
	for (;;) {
		const char *input = (const char *)w->arena->scratch + *used;

		tls_record_open(w->ciphers, state, slice_from(input, length - *used), w->now_ms,
				out + opened, last);
		*used += last->consumed;
		switch (last->event) {
		case TLS_DATA: opened += last->plaintext.len; break;
		case TLS_KEY_UPDATE: metric_add(METRIC_tls_key_updates_received_total, 1); break;
		case TLS_IGNORED: break;
		default: return opened;
		}
	}
}

/* What can't be opened yet waits; at most one record, but for what is about to be refused. */
static void keep_rest(struct passport_draft *draft, struct stream_queue *in, const uint8_t *scratch,
		      size_t kept, size_t length, size_t used)
{
	uint64_t base = in->done;

	if (used == 0) {
		queue_append(draft, in, scratch + kept, length - kept);
		return;
	}
	queue_consume(draft, in, UINT64_MAX);
	in->done = in->end = base + used;
	queue_append(draft, in, scratch + used, length - used);
}

/* In an open draft: nothing that comes is looked at any more. */
static void forget_input(struct passport_draft *draft, uint64_t more)
{
	struct stream_queue *in = &passport_draft_tls(draft)->in;
	uint64_t end = queue_end(in) + more;

	queue_consume(draft, in, UINT64_MAX);
	in->done = in->end = end;
}

static void refuse(struct connection *c, const struct tls_opened *opened)
{
	struct worker *w = c->worker;
	struct passport_draft *draft;
	char id[37];

	log_info("tls_record_refused connection=%.*s reason=%s alert=%u",
		 SLICE_ARG(connection_id(connection_passport(c), id)),
		 tls_refusal_name(opened->refusal), (unsigned)opened->alert);
	metric_add((enum metric)(METRIC_tls_records_forged_total + opened->refusal -
				 TLS_REFUSED_FORGED),
		   1);
	draft = connection_draft(c);
	(void)append_alert(w, (enum tls_alert)opened->alert);
	connection_drain(c);
	forget_input(draft, 0);
	if (!connection_commit(c))
		return;
	client_session_end(c);
	connection_arm(c);
	connection_flush(c);
}

/* What the last record looked at says about those that follow. */
static void after_records(struct connection *c, const struct tls_opened *last)
{
	if (c->fd < 0)
		return;
	switch (last->event) {
	case TLS_CLOSE_NOTIFY: connection_end_of_input(c); break;
	case TLS_PEER_ALERT:
		log_debug("tls_alert_received alert=%u", (unsigned)last->alert);
		metric_add(METRIC_tls_alerts_received_total, 1);
		connection_close(c, "the peer sent a TLS alert");
		break;
	case TLS_REFUSED:
		if (connection_passport(c)->state != PASSPORT_STATE_DRAINING)
			refuse(c, last);
		break;
	default: break;
	}
}

/* Serves `length` bytes in the scratch, the first `kept` of which are in the queue too. */
static void serve(struct connection *c, size_t kept, size_t length)
{
	struct worker *w = c->worker;
	const struct passport *passport = connection_passport(c);
	bool http = passport->state == PASSPORT_STATE_HTTP;
	/* A WebSocket keeps at most an unfinished header or control frame back. */
	size_t before = http ? 0 : (size_t)queue_length(&passport->in);
	struct passport_draft *draft;
	struct passport_tls *tls;
	struct tls_opened last;
	size_t opened, used;

	if (before > 0)
		queue_copy(w->arena, &passport->in, passport->in.done, before, w->opened);
	draft = connection_draft(c);
	tls = passport_draft_tls(draft);
	opened = open_records(w, &tls->state, length, w->opened + before, &used, &last);
	keep_rest(draft, &tls->in, w->arena->scratch, kept, length, used);
	arena_commit_add(&draft->commit, &w->arena->header->work.syscall, 0);
	if (opened > 0 && !http) {
		websocket_session_process(c, w->opened, before, before + opened);
	} else {
		queue_append(draft, &draft->now.in, w->opened, opened);
		if (connection_commit(c) && opened > 0)
			http_session_process(c);
	}
	after_records(c, &last);
}

/* Whoever is being closed after an answer has nothing more to say. */
static void discard(struct connection *c, size_t length)
{
	struct worker *w = c->worker;
	struct passport_draft *draft = connection_draft(c);

	forget_input(draft, length);
	arena_commit_add(&draft->commit, &w->arena->header->work.syscall, 0);
	(void)connection_commit(c);
}

/* True: bytes that came with the upgrade request have this turn. */
static bool is_behind(struct connection *c)
{
	const struct passport *passport = connection_passport(c);

	return passport->state != PASSPORT_STATE_HTTP &&
	       queue_length(&passport->in) > WEBSOCKET_REST_MAX;
}

void tls_stream_read(struct connection *c)
{
	struct worker *w = c->worker;
	const struct stream_queue *in = &tls_of(c)->in;
	bool draining = connection_passport(c)->state == PASSPORT_STATE_DRAINING;
	size_t kept = draining ? 0 : (size_t)queue_length(in);
	ssize_t got;

	if (is_behind(c) || kept > TLS_RECORD_MAX) {
		connection_schedule(c);
		return;
	}
	if (kept > 0)
		queue_copy(w->arena, in, in->done, kept, w->arena->scratch);
	got = stream_read(w, c->passport, c->fd, kept, kept + READ_MAX);
	if (got <= 0) {
		if (got == 0 && !draining && !(tls_of(c)->state.flags & TLS_CLOSE_NOTIFY_READ))
			metric_add(METRIC_tls_truncated_total, 1);
		connection_on_end(c, got);
		return;
	}
	metric_add(METRIC_bytes_received_total, (uint64_t)got);
	if (draining)
		discard(c, (size_t)got);
	else
		serve(c, kept, kept + (size_t)got);
}

void tls_stream_resume(struct connection *c)
{
	struct worker *w = c->worker;
	const struct passport *passport = connection_passport(c);
	const struct passport_tls *tls = tls_of(c);
	size_t kept = (size_t)queue_length(&tls->in);

	if (passport->state == PASSPORT_STATE_DRAINING || is_behind(c))
		return;
	if (kept > 0 && kept <= ARENA_READ_SCRATCH) {
		queue_copy(w->arena, &tls->in, tls->in.done, kept, w->arena->scratch);
		serve(c, kept, kept);
	} else if ((tls->state.flags & TLS_CLOSE_NOTIFY_READ) &&
		   !(passport->flags & PASSPORT_PEER_FIN)) {
		/* The one who read it died before anything came of it. */
		connection_end_of_input(c);
	}
}

/* SPDX-License-Identifier: ISC */
/*
 * Writing the session registry, see sessions.h. Run by the worker. Three things
 * are due, in this order: entries of clients that are gone, entries that
 * changed, and a walk over all of them, which is slow (for positions) or as fast
 * as Redis takes it (after a loss). A write that failed is not repeated as such:
 * the fast walk makes up for it.
 */
#include "worker/sessions.h"

#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/clock.h"
#include "keepsock/json.h"
#include "keepsock/log.h"
#include "keepsock/magic.h"
#include "keepsock/random.h"
#include "keepsock/redis_registry.h"
#include "worker/internal.h"
#include "worker/shards.h"

#define SESSIONS_MAGIC 0x53534553u /* "SESS" */
/* Entries and bytes of one write, the last entry on top. */
#define BATCH_MAX   256u
#define BATCH_BYTES (128u * 1024u)
/* Clients that left and whose entries are still there; beyond it they stay until this worker
 * ends. */
#define GONE_MAX (1024u * 1024u)
/* The slow walk visits every session in this time. */
#define WALK_MS  60000u
#define RETRY_MS 1000u
/* One connection for all of them, so that they arrive in order. */
#define AFFINITY 0u

struct sessions {
	uint32_t magic;
	struct worker *worker;
	arena_ref *dirty; /* passports, whose connections are marked; owned */
	size_t dirty_count, dirty_capacity;
	struct passport_id *gone; /* owned */
	size_t gone_count, gone_capacity;
	size_t gone_sent; /* of them, in the write under way */
	bool writing;
	bool fast;        /* the walk is urgent */
	bool closed;      /* only waits for Redis to call back */
	arena_ref cursor; /* of the walk */
	double credit;    /* records the slow walk may visit */
	uint64_t retry_at;
	struct buffer text; /* of the write being built: ids and entries */
	struct redis_session batch[BATCH_MAX];
	size_t batch_count;
	size_t ends[BATCH_MAX]; /* where each entry ends in the text */
};

struct sessions *sessions_create(struct worker *w)
{
	struct sessions *sessions = xcalloc(1, sizeof(*sessions));

	sessions->magic = SESSIONS_MAGIC;
	sessions->worker = w;
	return sessions;
}

static void destroy(struct sessions *sessions)
{
	sessions->magic = 0;
	free(sessions->dirty);
	free(sessions->gone);
	buffer_free(&sessions->text);
	free(sessions);
}

void sessions_free(struct sessions *sessions)
{
	if (!sessions)
		return;
	sessions->closed = true;
	if (!sessions->writing)
		destroy(sessions);
}

/* --- what is due --- */

/* All of it is left to the walk. */
static void forget_dirty(struct sessions *sessions)
{
	for (size_t i = 0; i < sessions->dirty_count; i++) {
		struct connection *c = connection_maybe_at(sessions->worker, sessions->dirty[i]);

		if (c)
			c->session_due = false;
	}
	sessions->dirty_count = 0;
}

void sessions_changed(struct connection *c)
{
	struct sessions *sessions = c->worker->sessions;

	if (!sessions || c->session_due)
		return;
	/* Slots are used again and again while Redis is away. */
	if (sessions->dirty_count >= arena_records(c->worker->arena, ARENA_PASSPORT) + 1024)
		sessions_register_all(c->worker);
	if (sessions->dirty_count == sessions->dirty_capacity) {
		sessions->dirty_capacity =
			sessions->dirty_capacity ? sessions->dirty_capacity * 2 : 64;
		sessions->dirty = xrealloc(sessions->dirty,
					   sessions->dirty_capacity * sizeof(*sessions->dirty));
	}
	sessions->dirty[sessions->dirty_count++] = c->passport;
	c->session_due = true;
}

void sessions_gone(struct connection *c)
{
	if (!c->session_known)
		return;
	c->session_known = false;
	sessions_forget(c->worker, &connection_passport(c)->id);
}

void sessions_forget(struct worker *w, const struct passport_id *id)
{
	struct sessions *sessions = w->sessions;

	if (!sessions)
		return;
	if (sessions->gone_count >= GONE_MAX) {
		metric_add(METRIC_sessions_left_behind_total, 1);
		return;
	}
	if (sessions->gone_count == sessions->gone_capacity) {
		sessions->gone_capacity =
			sessions->gone_capacity ? sessions->gone_capacity * 2 : 64;
		sessions->gone =
			xrealloc(sessions->gone, sessions->gone_capacity * sizeof(*sessions->gone));
	}
	sessions->gone[sessions->gone_count++] = *id;
}

void sessions_register_all(struct worker *w)
{
	if (!w->sessions)
		return;
	forget_dirty(w->sessions);
	w->sessions->fast = true;
	w->sessions->cursor = 0;
}

/* --- one entry --- */

static void append_subscriptions(struct buffer *out, struct worker *w,
				 const struct passport *passport)
{
	arena_ref ref = passport->subscriptions;
	const char *comma = "";

	buffer_append_str(out, "{");
	while (ref) {
		const struct subscription_record *subscription = arena_at(w->arena, ref);
		const struct channel *channel = hub_channel_at(&w->hub, subscription->channel);
		const struct channel_record *record = hub_record(&w->hub, channel);

		buffer_append_str(out, comma);
		comma = ",";
		json_append_string(out, hub_name(&w->hub, channel));
		buffer_append_str(out, ":{");
		if (record->positioned && record->history) {
			buffer_append_str(out, "\"offset\":");
			buffer_append_u64(out, record->offset);
			buffer_append_str(out, ",\"epoch\":");
			json_append_string(out, hub_epoch(record));
		}
		buffer_append_str(out, "}");
		ref = subscription->next;
	}
	buffer_append_str(out, "}");
}

static void append_session(struct buffer *out, struct worker *w, const struct passport *passport)
{
	char peer[CONNECTION_PEER_TEXT];

	buffer_append_str(out, "{\"user\":");
	json_append_string(out, passport_user(w->arena, passport));
	buffer_append_str(out, ",\"name\":");
	json_append_string(out, passport_name(w->arena, passport));
	buffer_append_str(out, ",\"peer\":");
	json_append_string(out, slice_str(connection_peer(passport, peer)));
	/* Beside the peer: lost_peers.lua reads the two together. */
	buffer_append_str(out, ",\"local_port\":");
	buffer_append_u64(out, passport->local_port);
	buffer_append_str(out, ",\"connected_at\":");
	buffer_append_u64(out, clock_wall_ms() - (w->now_ms - passport->accepted_at));
	buffer_append_str(out, ",\"subscriptions\":");
	append_subscriptions(out, w, passport);
	buffer_append_str(out, "}");
}

/* --- one write --- */

static bool batch_full(const struct sessions *sessions)
{
	return sessions->batch_count == BATCH_MAX || sessions->text.len >= BATCH_BYTES;
}

/* NULL for passport: forgets that client. The slices are set once the text stays where it is. */
static void batch_add(struct sessions *sessions, const struct passport_id *id,
		      const struct passport *passport)
{
	const struct passport of_id = {.id = *id};
	char text[37];

	buffer_append_slice(&sessions->text, connection_id(&of_id, text));
	if (passport)
		append_session(&sessions->text, sessions->worker, passport);
	sessions->ends[sessions->batch_count++] = sessions->text.len;
}

static void batch_settle(struct sessions *sessions)
{
	const char *text = sessions->text.data;
	size_t start = 0;

	for (size_t i = 0; i < sessions->batch_count; i++) {
		size_t entry = start + UUID_TEXT_LEN;

		sessions->batch[i].client = slice_from(text + start, UUID_TEXT_LEN);
		sessions->batch[i].json = slice_from(text + entry, sessions->ends[i] - entry);
		start = sessions->ends[i];
	}
}

/* If a client is connected there. */
static void add_if_connected(struct sessions *sessions, arena_ref ref)
{
	struct worker *w = sessions->worker;
	const struct passport *passport = arena_at(w->arena, ref);
	struct connection *c = connection_at(w, ref);

	if (passport->magic != PASSPORT_MAGIC || passport->kind != PASSPORT_CLIENT ||
	    passport->state != PASSPORT_STATE_CONNECTED || c->fd < 0)
		return;
	c->session_due = false;
	c->session_known = true;
	batch_add(sessions, &passport->id, passport);
}

static void add_gone(struct sessions *sessions)
{
	while (sessions->gone_sent < sessions->gone_count && !batch_full(sessions))
		batch_add(sessions, &sessions->gone[sessions->gone_sent++], NULL);
}

static void add_dirty(struct sessions *sessions)
{
	size_t taken = 0;

	while (taken < sessions->dirty_count && !batch_full(sessions)) {
		arena_ref ref = sessions->dirty[taken++];
		struct connection *c = connection_maybe_at(sessions->worker, ref);

		/* Written already, by the walk, or another connection's slot by now. */
		if (!c || !c->session_due)
			continue;
		c->session_due = false;
		add_if_connected(sessions, ref);
	}
	sessions->dirty_count -= taken;
	if (taken > 0)
		memmove(sessions->dirty, sessions->dirty + taken,
			sessions->dirty_count * sizeof(*sessions->dirty));
}

static void add_walked(struct sessions *sessions)
{
	struct worker *w = sessions->worker;

	while ((sessions->fast || sessions->credit >= 1) && !batch_full(sessions)) {
		sessions->credit -= sessions->fast ? 0 : 1;
		sessions->cursor = arena_record_next(w->arena, ARENA_PASSPORT, sessions->cursor);
		if (sessions->cursor)
			add_if_connected(sessions, sessions->cursor);
		else
			sessions->fast = false;
	}
}

static void write_due(struct sessions *sessions);

static void on_written(void *ctx, const struct redis_count_result *result)
{
	struct sessions *sessions = ctx;
	struct worker *w;

	MAGIC_CHECK(sessions, SESSIONS_MAGIC);
	sessions->writing = false;
	if (sessions->closed) {
		destroy(sessions);
		return;
	}
	w = sessions->worker;
	loop_watch_begin(w, LOOP_REDIS_REPLY);
	if (result->outcome.code != REDIS_RESULT_OK) {
		if (result->outcome.code == REDIS_RESULT_ERROR)
			log_error("session_write_failed error=%s",
				  log_value_str(result->outcome.error));
		metric_add(METRIC_session_writes_failed_total, 1);
		sessions_register_all(w);
		sessions->gone_sent = 0;
		sessions->retry_at = w->now_ms + RETRY_MS;
		return;
	}
	metric_set(METRIC_sessions_registered, result->count);
	sessions->gone_count -= sessions->gone_sent;
	if (sessions->gone_sent > 0)
		memmove(sessions->gone, sessions->gone + sessions->gone_sent,
			sessions->gone_count * sizeof(*sessions->gone));
	sessions->gone_sent = 0;
	write_due(sessions);
}

static void write_due(struct sessions *sessions)
{
	struct worker *w = sessions->worker;

	/* Who said farewell has taken all of its entries away. */
	if (sessions->writing || w->now_ms < sessions->retry_at || w->farewell != FAREWELL_NONE)
		return;
	sessions->batch_count = 0;
	buffer_reset(&sessions->text);
	add_gone(sessions);
	add_dirty(sessions);
	add_walked(sessions);
	if (sessions->batch_count == 0)
		return;
	batch_settle(sessions);
	sessions->writing = true;
	redis_sessions_write(worker_control_pool(w), AFFINITY, slice_str(w->worker_name),
			     sessions->batch, sessions->batch_count, on_written, sessions);
}

void sessions_tick(struct worker *w)
{
	struct sessions *sessions = w->sessions;
	double ticks = (double)WALK_MS / TIMER_WHEEL_TICK_MS;
	double records = (double)arena_records(w->arena, ARENA_PASSPORT);

	/* No more than one round is owed, however long Redis was away. */
	sessions->credit += records / ticks;
	if (sessions->credit > records)
		sessions->credit = records;
	write_due(sessions);
}

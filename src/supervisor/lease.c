/* SPDX-License-Identifier: ISC */
/*
 * The lease, see lease.h. One connection, whose answers come in order; a timer
 * sends the next renewal or look when the one before was answered, and the
 * connection's own time limit ends those that never are. What was sent and never
 * answered counts as not having happened, save that a lease taken that way is
 * found by its text later, and given back.
 */
#include "supervisor/lease.h"

#include <event2/dns.h>
#include <event2/event.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/clock.h"
#include "keepsock/ipc_messages.h"
#include "keepsock/log.h"
#include "keepsock/magic.h"
#include "keepsock/node_check.h"
#include "keepsock/random.h"
#include "keepsock/redis_keys.h"
#include "keepsock/redis_link.h"
#include "keepsock/secret.h"
#include "keepsock/sentinel.h"
#include "keepsock/settings.h"
#include "redis/redis_info.h"
#include "supervisor/lease_overdue.h"

#define LEASE_MAGIC UINT32_C(0x4553454c) /* "LESE" */
#define CALLS_MAX   32
#define EVENTS_KEPT "1000"
/* What is left of a lease that we look at ends a little after Redis said. */
#define LOOK_MARGIN_MS 5

extern const char redis_script_lease_acquire[];
extern const char redis_script_lease_observe[];
extern const char redis_script_lease_release[];
extern const char redis_script_lease_renew[];

enum call_kind {
	CALL_SELECT,
	CALL_INFO,
	CALL_OBSERVE,
	CALL_ACQUIRE,
	CALL_RENEW,
	CALL_RELEASE,
	CALL_EVENT,
	CALL_READ_EVENTS,
};

struct call {
	enum call_kind kind;
	uint64_t sent_ms;
	void (*done)(void *ctx, const struct redisReply *rows); /* of READ_EVENTS */
	void *ctx;
};

struct lease {
	uint32_t magic;
	struct event_base *base; /* the owner's, as the next */
	const struct settings *settings;
	struct settings_timing timing;
	void (*on_change)(void *ctx);
	void *ctx;
	struct ipc_redis redis; /* owned, as all below */
	struct evdns_base *dns;
	struct redis_link *link;
	struct sentinel_watch *watch; /* NULL = the place is fixed */
	struct event *timer;
	char *place;
	bool ready; /* signed in, INFO read */
	struct call calls[CALLS_MAX];
	unsigned first_call;
	unsigned call_count;
	char run[REDIS_RUN_MAX + 1];
	uint64_t settled_at_ms;
	uint64_t seen_ms;
	uint64_t seen_left_until_ms;
	struct lease_overdue overdue; /* that one */
	uint64_t redis_epoch;
	char seen[LEASE_TEXT_MAX + 1]; /* the lease that we saw last, "" = none */
	char random[17];               /* of our own leases */
	char text[LEASE_TEXT_MAX + 1]; /* ours, "" = none */
	uint64_t epoch;
	bool acquiring;
	bool fenced;
	uint64_t held_until_ms;
	uint64_t majority_ms;          /* when most Sentinels last named our server */
	uint64_t unconfirmed_until_ms; /* if a majority of Sentinels says so; 0 = nothing to confirm
					*/
	char error[LEASE_ERROR_MAX];
};

static void set_timer(struct lease *lease, uint64_t ms)
{
	struct timeval delay = {(time_t)(ms / 1000), (suseconds_t)(ms % 1000 * 1000)};

	if (evtimer_add(lease->timer, &delay) != 0)
		abort(); /* only out of memory */
}

static void note_error(struct lease *lease, const char *error)
{
	if (*error && strcmp(lease->error, error) != 0)
		log_warning("lease_redis_failed place=%s reason=%s", lease->place,
			    log_value_str(error));
	else if (!*error && lease->error[0])
		log_info("lease_redis_back place=%s", lease->place);
	snprintf(lease->error, sizeof(lease->error), "%s", error);
}

/* ---- texts ---- */

static uint64_t epoch_of(const char *text)
{
	return strtoull(text, NULL, 10);
}

static void node_of(const char *text, char node[LEASE_NODE_MAX + 1])
{
	const char *space = strchr(text, ' ');
	size_t len = space ? strcspn(space + 1, " ") : 0;

	if (len > LEASE_NODE_MAX)
		len = LEASE_NODE_MAX;
	if (len > 0)
		memcpy(node, space + 1, len);
	node[len] = '\0';
}

/* ---- calls ---- */

static bool send_words(struct lease *lease, enum call_kind kind, const char *const *words, size_t n)
{
	struct call *call;

	if (!lease->link || lease->call_count == CALLS_MAX)
		return false;
	call = &lease->calls[(lease->first_call + lease->call_count++) % CALLS_MAX];
	*call = (struct call){.kind = kind, .sent_ms = clock_boottime_ms()};
	redis_link_send(lease->link, words, n);
	return true;
}

static bool send_script(struct lease *lease, enum call_kind kind, const char *script,
			const char *const *arguments, size_t n)
{
	const char *words[11] = {"EVAL", script, "2", REDIS_KEY_LEASE, REDIS_KEY_LEASE_EPOCH};

	for (size_t i = 0; i < n; i++)
		words[5 + i] = arguments[i];
	return lease->ready && send_words(lease, kind, words, 5 + n);
}

static void send_observe(struct lease *lease)
{
	(void)send_script(lease, CALL_OBSERVE, redis_script_lease_observe, NULL, 0);
	if (lease->watch)
		sentinel_watch_ask(lease->watch);
}

static void send_renew(struct lease *lease)
{
	char ttl[24];
	const char *const arguments[] = {lease->text, ttl};

	snprintf(ttl, sizeof(ttl), "%" PRId64, lease->settings->cluster.lease_ttl);
	(void)send_script(lease, CALL_RENEW, redis_script_lease_renew, arguments, 2);
}

static void send_release(struct lease *lease, const char *text)
{
	const char *const arguments[] = {text};

	(void)send_script(lease, CALL_RELEASE, redis_script_lease_release, arguments, 1);
}

/* ---- what Redis says of the lease ---- */

struct lease_reply {
	bool granted;
	const char *text; /* "" = nobody has it */
	int64_t left_ms;  /* below 0: it has no end, or there is none */
	uint64_t epoch;
};

static bool read_state(const redisReply *reply, struct lease_reply *out)
{
	if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 4 ||
	    reply->element[0]->type != REDIS_REPLY_INTEGER ||
	    reply->element[1]->type != REDIS_REPLY_STRING ||
	    reply->element[2]->type != REDIS_REPLY_INTEGER ||
	    reply->element[3]->type != REDIS_REPLY_STRING)
		return false;
	*out = (struct lease_reply){
		.granted = reply->element[0]->integer == 1,
		.text = reply->element[1]->str,
		.left_ms = reply->element[2]->integer,
		.epoch = epoch_of(reply->element[3]->str),
	};
	return strlen(out->text) <= LEASE_TEXT_MAX;
}

static bool is_own(const struct lease *lease, const char *text)
{
	size_t len = strlen(text), tail = strlen(lease->random);

	return len > tail && strcmp(text + len - tail, lease->random) == 0;
}

static void watch_overdue(struct lease *lease, uint64_t sent_ms, const struct lease_reply *reply)
{
	const struct lease_look look = {
		.sent_ms = sent_ms,
		.answered_ms = clock_boottime_ms(),
		.left_ms = reply->left_ms > 0 ? (uint64_t)reply->left_ms : 0,
		.same = reply->text[0] && strcmp(reply->text, lease->seen) == 0,
	};

	lease_overdue_see(&lease->overdue, &look, lease->settings);
}

static bool is_overdue(const struct lease *lease)
{
	uint64_t at = lease_overdue_ms(&lease->overdue, lease->settings);

	return at > 0 && clock_boottime_ms() >= at;
}

static void see(struct lease *lease, uint64_t sent_ms, const struct lease_reply *reply)
{
	watch_overdue(lease, sent_ms, reply);
	lease->seen_ms = clock_boottime_ms();
	lease->redis_epoch = reply->epoch;
	snprintf(lease->seen, sizeof(lease->seen), "%s", reply->text);
	lease->seen_left_until_ms =
		reply->left_ms > 0 ? lease->seen_ms + (uint64_t)reply->left_ms : 0;
	/* Taken by a call whose answer never came: we never made use of it. */
	if (!lease->text[0] && !lease->acquiring && is_own(lease, reply->text))
		send_release(lease, reply->text);
}

/* Held, counted from when the call was sent; with Sentinels once they agree. */
static void count_grant(struct lease *lease, uint64_t sent_ms)
{
	uint64_t until = sent_ms + (uint64_t)lease->timing.hold;

	if (lease->watch) {
		lease->unconfirmed_until_ms = until;
		sentinel_watch_ask(lease->watch);
	} else if (until > lease->held_until_ms) {
		lease->held_until_ms = until;
	}
}

static void on_sentinel_answer(void *ctx)
{
	struct lease *lease = ctx;

	MAGIC_CHECK(lease, LEASE_MAGIC);
	if (2 * sentinel_watch_votes(lease->watch, lease->redis.host, lease->redis.port) <=
	    sentinel_watch_count(lease->watch))
		return;
	lease->majority_ms = clock_boottime_ms();
	if (lease->text[0] && lease->unconfirmed_until_ms > lease->held_until_ms)
		lease->held_until_ms = lease->unconfirmed_until_ms;
	lease->unconfirmed_until_ms = 0;
	lease->on_change(lease->ctx);
}

static void on_acquire_reply(struct lease *lease, const struct call *call,
			     const struct lease_reply *reply)
{
	lease->acquiring = false;
	if (!reply->granted || !is_own(lease, reply->text))
		return;
	snprintf(lease->text, sizeof(lease->text), "%s", reply->text);
	lease->epoch = epoch_of(reply->text);
	lease->fenced = false;
	lease->held_until_ms = 0;
	count_grant(lease, call->sent_ms);
}

static void on_renew_reply(struct lease *lease, const struct call *call,
			   const struct lease_reply *reply)
{
	if (!lease->text[0])
		return; /* given back meanwhile */
	if (reply->granted && strcmp(reply->text, lease->text) == 0) {
		count_grant(lease, call->sent_ms);
	} else if (!lease->fenced) {
		log_warning("lease_refused own=%s found=%s epoch=%" PRIu64,
			    log_value_str(lease->text), log_value_str(reply->text), reply->epoch);
		lease->fenced = true;
		lease->held_until_ms = lease->unconfirmed_until_ms = 0;
	}
}

static void on_state_reply(struct lease *lease, const struct call *call, const redisReply *reply)
{
	struct lease_reply answer;

	if (reply->type == REDIS_REPLY_ERROR) {
		/* LOADING, BUSY, READONLY, MISCONF: it may pass. */
		note_error(lease, reply->str);
	} else if (!read_state(reply, &answer)) {
		note_error(lease, "unusable answer: is another program using our keys?");
	} else {
		note_error(lease, "");
		if (call->kind == CALL_ACQUIRE)
			on_acquire_reply(lease, call, &answer);
		else if (call->kind == CALL_RENEW)
			on_renew_reply(lease, call, &answer);
		see(lease, call->sent_ms, &answer);
	}
	if (call->kind == CALL_ACQUIRE)
		lease->acquiring = false;
}

/* ---- the server ---- */

static uint64_t info_number(const char *info, const char *field)
{
	const char *found = strstr(info, field);

	return found ? strtoull(found + strlen(field), NULL, 10) : 0;
}

/* It has been this server's own data since it started, long enough ago for every lease to end. */
static bool has_run_long(const struct lease *lease, const char *info)
{
	return !lease->watch &&
	       info_number(info, "\nuptime_in_seconds:") * 1000 >=
		       (uint64_t)lease->timing.promise + 1000 &&
	       strstr(info, "\nmaster_replid2:0000000000000000000000000000000000000000");
}

static void on_info(struct lease *lease, const redisReply *reply)
{
	char run[REDIS_RUN_MAX + 1];
	const char *problem;

	if (reply->type != REDIS_REPLY_STRING) {
		note_error(lease,
			   reply->type == REDIS_REPLY_ERROR ? reply->str : "no answer to INFO");
		return;
	}
	problem = redis_info_read(slice_from(reply->str, reply->len), run);
	if (problem) {
		note_error(lease, problem);
		return;
	}
	if (strcmp(run, lease->run) != 0) {
		bool long_ago = !lease->run[0] && has_run_long(lease, reply->str);

		snprintf(lease->run, sizeof(lease->run), "%s", run);
		/* It may have lost a lease that is held: whoever has it makes it again first. */
		lease->settled_at_ms =
			clock_boottime_ms() + (long_ago ? 0 : (uint64_t)lease->timing.promise);
		log_info("lease_redis place=%s run=%.20s wait_ms=%" PRId64, lease->place, run,
			 long_ago ? 0 : lease->timing.promise);
	}
	lease->ready = true;
	set_timer(lease, 0);
}

static void on_link_reply(void *ctx, const redisReply *reply)
{
	struct lease *lease = ctx;
	struct call call;

	MAGIC_CHECK(lease, LEASE_MAGIC);
	call = lease->calls[lease->first_call];
	lease->first_call = (lease->first_call + 1) % CALLS_MAX;
	lease->call_count--;
	switch (call.kind) {
	case CALL_SELECT:
		if (reply->type == REDIS_REPLY_ERROR)
			note_error(lease, reply->str);
		break;
	case CALL_INFO: on_info(lease, reply); break;
	case CALL_OBSERVE:
	case CALL_ACQUIRE:
	case CALL_RENEW:
	case CALL_RELEASE: on_state_reply(lease, &call, reply); break;
	case CALL_EVENT:
		if (reply->type == REDIS_REPLY_ERROR)
			note_error(lease, reply->str);
		break;
	case CALL_READ_EVENTS:
		call.done(call.ctx, reply->type == REDIS_REPLY_ARRAY ? reply : NULL);
		break;
	}
	lease->on_change(lease->ctx);
}

static void on_link_ready(void *ctx)
{
	static const char *const info[] = {"INFO"};
	struct lease *lease = ctx;
	char db[16];
	const char *const select[] = {"SELECT", db};

	MAGIC_CHECK(lease, LEASE_MAGIC);
	snprintf(db, sizeof(db), "%d", lease->redis.db);
	if (lease->redis.db != 0)
		(void)send_words(lease, CALL_SELECT, select, 2);
	(void)send_words(lease, CALL_INFO, info, 1);
}

static void forget_calls(struct lease *lease)
{
	while (lease->call_count > 0) {
		struct call call = lease->calls[lease->first_call];

		lease->first_call = (lease->first_call + 1) % CALLS_MAX;
		lease->call_count--;
		if (call.kind == CALL_READ_EVENTS)
			call.done(call.ctx, NULL);
	}
	lease->acquiring = false;
	lease->ready = false;
	lease->overdue.since_ms = 0;
}

static void on_link_lost(void *ctx, const char *reason)
{
	struct lease *lease = ctx;

	MAGIC_CHECK(lease, LEASE_MAGIC);
	lease->link = NULL;
	forget_calls(lease);
	note_error(lease, reason);
	lease->on_change(lease->ctx);
}

static void connect_redis(struct lease *lease)
{
	static const struct redis_link_callbacks callbacks = {on_link_ready, on_link_reply,
							      on_link_lost};
	struct redis_link_options options = {
		.host = lease->redis.host,
		.port = lease->redis.port,
		.user = lease->redis.user,
		.password = lease->redis.password,
		/* Three attempts fit into the time for which a lease is held. */
		.timeout_ms = (unsigned)(lease->timing.hold / 3),
	};

	lease->link = redis_link_open(lease->base, &lease->dns, &options, &callbacks, lease);
}

static void drop_link(struct lease *lease)
{
	redis_link_close(lease->link);
	lease->link = NULL;
	forget_calls(lease);
}

static void set_place(struct lease *lease)
{
	free(lease->place);
	lease->place = ipc_redis_known(&lease->redis)
			       ? xasprintf("%s:%u", lease->redis.host, lease->redis.port)
			       : xstrdup("");
}

static void on_master(void *ctx, const struct sentinel_answer *master)
{
	struct lease *lease = ctx;

	MAGIC_CHECK(lease, LEASE_MAGIC);
	drop_link(lease);
	free(lease->redis.host);
	lease->redis.host = xstrdup(master->host);
	lease->redis.port = master->port;
	lease->unconfirmed_until_ms = 0;
	set_place(lease);
	set_timer(lease, 0);
	lease->on_change(lease->ctx);
}

/* ---- again and again ---- */

/* When to look again: before the usual time if what we saw ends before. */
static uint64_t next_look_ms(const struct lease *lease)
{
	uint64_t usual = (uint64_t)lease->settings->cluster.lease_renew;
	uint64_t now = clock_boottime_ms(), end = lease->seen_left_until_ms;

	if (lease->text[0] || end <= now || end - now >= usual)
		return usual;
	return end - now + LOOK_MARGIN_MS;
}

static void on_timer(evutil_socket_t fd, short what, void *ctx)
{
	struct lease *lease = ctx;

	(void)fd;
	(void)what;
	MAGIC_CHECK(lease, LEASE_MAGIC);
	set_timer(lease, next_look_ms(lease));
	if (!lease->link) {
		if (ipc_redis_known(&lease->redis))
			connect_redis(lease);
		return;
	}
	if (!lease->ready && lease->call_count == 0) {
		/* Not to be used: a replica, still loading. Perhaps the next connection. */
		drop_link(lease);
		return;
	}
	if (!lease->ready || lease->call_count > 0)
		return;
	if (lease->text[0] && !lease->fenced)
		send_renew(lease);
	else
		send_observe(lease);
}

/* ---- from outside ---- */

void lease_look(struct lease *lease)
{
	set_timer(lease, 0);
}

bool lease_acquire(struct lease *lease, uint64_t floor)
{
	char ttl[24], least[24], left[24];
	const char *const arguments[] = {
		lease->settings->node.name,           lease->random, ttl, least,
		is_overdue(lease) ? lease->seen : "", left};

	if (lease->text[0] || lease->acquiring)
		return false;
	snprintf(ttl, sizeof(ttl), "%" PRId64, lease->settings->cluster.lease_ttl);
	snprintf(least, sizeof(least), "%" PRIu64, floor);
	snprintf(left, sizeof(left), "%" PRIu64, lease_overdue_left_ms(lease->settings));
	if (is_overdue(lease))
		log_warning("lease_overdue lease=%s left_ms=%" PRIu64, log_value_str(lease->seen),
			    lease->seen_left_until_ms - lease->seen_ms);
	lease->acquiring =
		send_script(lease, CALL_ACQUIRE, redis_script_lease_acquire, arguments, 6);
	return lease->acquiring;
}

bool lease_resume(struct lease *lease, const char *text)
{
	size_t len = strlen(text);

	if (lease->text[0] || lease->acquiring || lease->seen_ms == 0 || len <= 16 ||
	    strcmp(lease->seen, text) != 0)
		return false;
	snprintf(lease->random, sizeof(lease->random), "%s", text + len - 16);
	snprintf(lease->text, sizeof(lease->text), "%s", text);
	lease->epoch = epoch_of(text);
	lease->fenced = false;
	lease->held_until_ms = 0;
	send_renew(lease);
	return true;
}

void lease_release(struct lease *lease)
{
	if (!lease->text[0])
		return;
	if (!lease->fenced)
		send_release(lease, lease->text);
	lease->text[0] = '\0';
	lease->epoch = 0;
	lease->fenced = false;
	lease->held_until_ms = lease->unconfirmed_until_ms = 0;
}

struct ipc_redis lease_copy_redis(const struct lease *lease)
{
	return ipc_redis_copy(&lease->redis);
}

void lease_add_event(struct lease *lease, const char *json)
{
	const char *const words[] = {
		"XADD", REDIS_KEY_CLUSTER_EVENTS, "MAXLEN", "~", EVENTS_KEPT, "*", "event", json};

	if (!lease->ready || !send_words(lease, CALL_EVENT, words, 8))
		log_debug("lease_event_dropped");
}

bool lease_read_events(struct lease *lease, unsigned count,
		       void (*done)(void *ctx, const struct redisReply *rows), void *ctx)
{
	char number[16];
	const char *const words[] = {"XREVRANGE", REDIS_KEY_CLUSTER_EVENTS, "+", "-", "COUNT",
				     number};
	struct call *call;

	snprintf(number, sizeof(number), "%u", count);
	if (!lease->ready || !send_words(lease, CALL_READ_EVENTS, words, 6))
		return false;
	call = &lease->calls[(lease->first_call + lease->call_count - 1) % CALLS_MAX];
	call->done = done;
	call->ctx = ctx;
	return true;
}

void lease_get_view(const struct lease *lease, struct lease_view *view)
{
	uint64_t now = clock_boottime_ms();
	/* One answer may be late, two are a fault. */
	uint64_t fresh = 2 * (uint64_t)lease->settings->cluster.lease_renew + 100;
	uint64_t overdue = lease_overdue_ms(&lease->overdue, lease->settings);
	uint64_t end = lease->seen_left_until_ms;

	*view = (struct lease_view){
		.connected = lease->ready && lease->seen_ms > 0 && now - lease->seen_ms <= fresh &&
			     !lease->error[0] &&
			     (!lease->watch || now - lease->majority_ms <= fresh),
		.settled = lease->run[0] && now >= lease->settled_at_ms,
		.free = lease->seen_ms > 0 && !lease->seen[0],
		.acquiring = lease->acquiring,
		.holding = lease->text[0] != '\0',
		.fenced = lease->fenced,
		.epoch = lease->epoch,
		.held_until_ms = lease->held_until_ms,
		.redis_epoch = lease->redis_epoch,
		.seen_ms = lease->seen_ms,
		.free_at_ms = overdue > 0 && overdue < end ? overdue : end,
		.text = lease->text,
		.place = lease->place,
		.error = lease->error,
	};
	node_of(lease->seen, view->holder);
}

static bool watch_sentinels(struct lease *lease, const struct settings_redis_url *url,
			    struct buffer *error)
{
	char *password = node_read_sentinel_password(lease->settings, error);
	struct sentinel_options options = {
		.master_name = url->master_name,
		.sentinels = url->sentinels,
		.sentinel_count = url->sentinel_count,
		.sentinel_password = password,
		.user = lease->redis.user,
		.password = lease->redis.password,
		.timeout_ms = (unsigned)(lease->timing.hold / 3),
	};

	if (!password)
		return false;
	lease->watch = sentinel_watch_create(lease->base, &options, on_master, lease);
	sentinel_watch_on_answer(lease->watch, on_sentinel_answer, lease);
	secret_wipe(password, strlen(password));
	free(password);
	return true;
}

static bool find_redis(struct lease *lease, struct buffer *error)
{
	struct ipc_redis shards[REDIS_SHARDS_MAX];
	struct settings_redis_url url;
	const char *problem =
		settings_redis_url_parse(settings_redis_shard_url(lease->settings, 0), &url);
	uint32_t count;
	bool found =
		!problem && node_find_external_redis(lease->settings, shards, &count, error) == 0;

	if (problem) {
		buffer_printf(error, "redis: %s", problem);
		return false;
	}
	if (found) {
		ipc_redis_free(&lease->redis);
		lease->redis = shards[0];
		shards[0] = (struct ipc_redis){0};
		found = url.sentinel_count == 0 || watch_sentinels(lease, &url, error);
	}
	while (count > 0)
		ipc_redis_free(&shards[--count]);
	settings_redis_url_free(&url);
	return found;
}

struct lease *lease_create(struct event_base *base, const struct settings *settings,
			   void (*on_change)(void *ctx), void *ctx, struct buffer *error)
{
	struct lease *lease = xcalloc(1, sizeof(*lease));
	unsigned char random[8];

	lease->magic = LEASE_MAGIC;
	lease->base = base;
	lease->settings = settings;
	lease->timing = settings_timing_of(settings);
	lease->on_change = on_change;
	lease->ctx = ctx;
	random_bytes(random, sizeof(random));
	for (size_t i = 0; i < sizeof(random); i++)
		snprintf(lease->random + 2 * i, 3, "%02x", random[i]);
	lease->timer = evtimer_new(base, on_timer, lease);
	if (!lease->timer)
		abort(); /* only out of memory */
	lease->redis = ipc_redis_unknown("", "", 0);
	set_place(lease);
	if (!find_redis(lease, error)) {
		lease_free(lease);
		return NULL;
	}
	set_place(lease);
	set_timer(lease, 0);
	return lease;
}

void lease_free(struct lease *lease)
{
	if (!lease)
		return;
	MAGIC_CHECK(lease, LEASE_MAGIC);
	drop_link(lease);
	sentinel_watch_free(lease->watch);
	event_free(lease->timer);
	if (lease->dns)
		evdns_base_free(lease->dns, 1);
	ipc_redis_free(&lease->redis);
	free(lease->place);
	lease->magic = 0;
	free(lease);
}

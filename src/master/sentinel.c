/* SPDX-License-Identifier: ISC */
/*
 * Following the master of a Redis shard, see sentinel.h. Runs in the master. It
 * never takes one Sentinel's word for it: a partitioned one may name a master
 * that was deposed, so the newest configuration counts, and the server named
 * must call itself a master.
 *
 *   each Sentinel:  ask link ── SENTINEL MASTER name ──► answer {address, epoch}
 *                   listen link ── +switch-master ──► ask all, now
 *
 *   answers ── best ──► same as the master in use: nothing to do
 *                └────► another: probe it (ROLE) ── "master" ──► callback
 *                                └── else: again with the next answer
 */
#include <event2/dns.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/log.h"
#include "keepsock/magic.h"
#include "keepsock/redis_link.h"
#include "keepsock/secret.h"
#include "keepsock/sentinel.h"
#include "keepsock/settings.h"

#define SENTINEL_MAGIC       UINT32_C(0x4c544e53) /* "SNTL" */
#define SENTINEL_WATCH_MAGIC UINT32_C(0x48435453) /* "STCH" */
#define POLL_MS              2000                 /* between two questions to a Sentinel */
#define POLL_SOON_MS         300 /* while there is no master, or another one is named */
#define ERROR_MAX            120
/* Questions without an answer, to one Sentinel. */
#define QUESTIONS_MAX 8

static const char SWITCH_MASTER[] = "+switch-master";

struct sentinel {
	uint32_t magic;
	struct sentinel_watch *watch; /* owns this */
	char *host;                   /* owned, as the links are */
	uint16_t port;
	struct redis_link *ask;
	struct redis_link *listen;
	bool ask_ready;
	bool heard;
	struct sentinel_answer answer;
	char ask_error[ERROR_MAX]; /* "" = none since it answered */
	char listen_error[ERROR_MAX];
	uint64_t questions; /* over its connection for them */
	uint64_t answers;
	uint64_t round; /* the first answer that counts in the round; UINT64_MAX = not asked */
};

struct sentinel_watch {
	uint32_t magic;
	struct event_base *base; /* the caller's */
	struct evdns_base *dns;  /* owned, as all below; NULL until a name has to be resolved */
	char *name;
	char *sentinel_password;
	char *user;
	char *password;
	unsigned timeout_ms;
	struct sentinel *sentinels;
	size_t count;
	struct event *poll;
	struct redis_link *probe;         /* of the candidate; NULL = none under way */
	struct sentinel_answer candidate; /* what the Sentinels name, if it is not the master */
	struct sentinel_answer master;
	char error[ERROR_MAX]; /* of the last probe */
	sentinel_callback callback;
	void *ctx;
	void (*on_answer)(void *ctx); /* may be NULL */
	void *on_answer_ctx;
};

static bool same_place(const struct sentinel_answer *a, const struct sentinel_answer *b)
{
	return a->port == b->port && strcmp(a->host, b->host) == 0;
}

static void poll_in(struct sentinel_watch *watch, unsigned ms)
{
	struct timeval delay = {(time_t)(ms / 1000), (suseconds_t)(ms % 1000 * 1000)};

	if (evtimer_add(watch->poll, &delay) != 0)
		abort(); /* only out of memory */
}

/* ---- is it a master? ---- */

static void end_probe(struct sentinel_watch *watch, const char *problem)
{
	redis_link_close(watch->probe);
	watch->probe = NULL;
	if (strcmp(problem, watch->error) != 0 && *problem)
		log_warning("sentinel_master_refused name=%s host=%s port=%u reason=%s",
			    log_value_str(watch->name), log_value_str(watch->candidate.host),
			    watch->candidate.port, log_value_str(problem));
	snprintf(watch->error, sizeof(watch->error), "%s", problem);
}

static void adopt_candidate(struct sentinel_watch *watch)
{
	char before[SENTINEL_HOST_MAX + 8] = "none";

	if (watch->master.host[0])
		snprintf(before, sizeof(before), "%s:%u", watch->master.host, watch->master.port);
	log_info("redis_master name=%s change=%s -> %s:%u reason=sentinels epoch=%llu",
		 log_value_str(watch->name), before, watch->candidate.host, watch->candidate.port,
		 (unsigned long long)watch->candidate.epoch);
	watch->master = watch->candidate;
	watch->callback(watch->ctx, &watch->master);
}

static void on_probe_ready(void *ctx)
{
	static const char *const words[] = {"ROLE"};
	struct sentinel_watch *watch = ctx;

	MAGIC_CHECK(watch, SENTINEL_WATCH_MAGIC);
	redis_link_send(watch->probe, words, 1);
}

static void on_probe_reply(void *ctx, const redisReply *reply)
{
	struct sentinel_watch *watch = ctx;
	char problem[ERROR_MAX];

	MAGIC_CHECK(watch, SENTINEL_WATCH_MAGIC);
	if (reply->type == REDIS_REPLY_ARRAY && reply->elements > 0 &&
	    reply->element[0]->type == REDIS_REPLY_STRING &&
	    strcmp(reply->element[0]->str, "master") == 0) {
		end_probe(watch, "");
		adopt_candidate(watch);
		return;
	}
	if (reply->type == REDIS_REPLY_ERROR)
		snprintf(problem, sizeof(problem), "ROLE: %s", reply->str);
	else
		snprintf(problem, sizeof(problem), "it is not a master yet, or no longer");
	end_probe(watch, problem);
}

static void on_probe_lost(void *ctx, const char *reason)
{
	struct sentinel_watch *watch = ctx;

	MAGIC_CHECK(watch, SENTINEL_WATCH_MAGIC);
	watch->probe = NULL; /* gone already */
	end_probe(watch, reason);
}

static void start_probe(struct sentinel_watch *watch)
{
	static const struct redis_link_callbacks callbacks = {on_probe_ready, on_probe_reply,
							      on_probe_lost};
	struct redis_link_options options = {
		.host = watch->candidate.host,
		.port = watch->candidate.port,
		.user = watch->user,
		.password = watch->password,
		.timeout_ms = watch->timeout_ms,
	};

	watch->probe = redis_link_open(watch->base, &watch->dns, &options, &callbacks, watch);
}

/* ---- whom do they name? ---- */

static size_t count_votes(const struct sentinel_watch *watch, const struct sentinel_answer *answer)
{
	size_t votes = 0;

	for (size_t i = 0; i < watch->count; i++)
		votes += same_place(&watch->sentinels[i].answer, answer);
	return votes;
}

/* The newest configuration; among equally new ones the most named place. */
static const struct sentinel_answer *best_answer(const struct sentinel_watch *watch)
{
	const struct sentinel_answer *best = NULL;

	for (size_t i = 0; i < watch->count; i++) {
		const struct sentinel_answer *answer = &watch->sentinels[i].answer;

		if (answer->host[0] == '\0')
			continue;
		if (!best || answer->epoch > best->epoch ||
		    (answer->epoch == best->epoch &&
		     count_votes(watch, answer) > count_votes(watch, best)))
			best = answer;
	}
	return best;
}

/*
 * An older configuration than the one in use comes from a Sentinel that has
 * been cut off; unless most say so: then the operator has set them up anew.
 */
static bool is_outdated(const struct sentinel_watch *watch, const struct sentinel_answer *answer)
{
	return answer->epoch < watch->master.epoch &&
	       2 * count_votes(watch, answer) <= watch->count;
}

static void settle(struct sentinel_watch *watch)
{
	const struct sentinel_answer *best = best_answer(watch);

	if (!best || is_outdated(watch, best))
		return;
	if (same_place(best, &watch->master)) {
		watch->master.epoch = best->epoch;
		end_probe(watch, "");
		memset(&watch->candidate, 0, sizeof(watch->candidate));
		return;
	}
	if (watch->probe && same_place(best, &watch->candidate))
		return;
	redis_link_close(watch->probe);
	watch->candidate = *best;
	start_probe(watch);
}

/* ---- questions ---- */

/* known: the one of the two that it is. */
static void note_error(struct sentinel *sentinel, char known[ERROR_MAX], const char *error)
{
	if (strcmp(known, error) != 0)
		log_warning("sentinel_failed host=%s port=%u name=%s reason=%s",
			    log_value_str(sentinel->host), sentinel->port,
			    log_value_str(sentinel->watch->name), log_value_str(error));
	snprintf(known, ERROR_MAX, "%s", error);
}

static void send_question(struct sentinel *sentinel)
{
	const char *const words[] = {"SENTINEL", "MASTER", sentinel->watch->name};

	redis_link_send(sentinel->ask, words, 3);
	sentinel->questions++;
}

static void ask(struct sentinel *sentinel)
{
	if (sentinel->ask_ready && redis_link_waiting(sentinel->ask) == 0)
		send_question(sentinel);
}

/* Answers to what was asked before don't count. */
void sentinel_watch_ask(struct sentinel_watch *watch)
{
	for (size_t i = 0; i < watch->count; i++) {
		struct sentinel *sentinel = &watch->sentinels[i];
		bool asked =
			sentinel->ask_ready && redis_link_waiting(sentinel->ask) < QUESTIONS_MAX;

		if (asked)
			send_question(sentinel);
		sentinel->round = asked ? sentinel->questions : UINT64_MAX;
	}
}

size_t sentinel_watch_votes(const struct sentinel_watch *watch, const char *host, uint16_t port)
{
	size_t votes = 0;

	for (size_t i = 0; i < watch->count; i++) {
		const struct sentinel *sentinel = &watch->sentinels[i];

		votes += sentinel->answers >= sentinel->round && sentinel->answer.port == port &&
			 strcmp(sentinel->answer.host, host) == 0;
	}
	return votes;
}

void sentinel_watch_on_answer(struct sentinel_watch *watch, void (*on_answer)(void *ctx), void *ctx)
{
	watch->on_answer = on_answer;
	watch->on_answer_ctx = ctx;
}

size_t sentinel_watch_count(const struct sentinel_watch *watch)
{
	return watch->count;
}

/* The value of a name in a flat array of names and values; NULL when there is none. */
static const char *find_value(const redisReply *reply, const char *name)
{
	for (size_t i = 0; i + 1 < reply->elements; i += 2) {
		if (reply->element[i]->type == REDIS_REPLY_STRING &&
		    reply->element[i + 1]->type == REDIS_REPLY_STRING &&
		    strcmp(reply->element[i]->str, name) == 0)
			return reply->element[i + 1]->str;
	}
	return NULL;
}

static bool read_number(const char *text, uint64_t max, uint64_t *value)
{
	char *end;

	if (!text || text[0] < '0' || text[0] > '9' || strlen(text) > 19)
		return false;
	*value = strtoull(text, &end, 10);
	return *end == '\0' && *value <= max;
}

/* NULL, or what is wrong with it. */
static const char *read_answer(const redisReply *reply, struct sentinel_answer *answer)
{
	const char *host;
	uint64_t port;

	if (reply->type == REDIS_REPLY_ERROR)
		return reply->str;
	if (reply->type != REDIS_REPLY_ARRAY)
		return "unusable answer: is it a Sentinel?";
	host = find_value(reply, "ip");
	if (!host || host[0] == '\0' || strlen(host) > SENTINEL_HOST_MAX ||
	    !read_number(find_value(reply, "port"), UINT16_MAX, &port) || port == 0 ||
	    !read_number(find_value(reply, "config-epoch"), UINT64_MAX, &answer->epoch))
		return "unusable answer: is it a Sentinel?";
	snprintf(answer->host, sizeof(answer->host), "%s", host);
	answer->port = (uint16_t)port;
	return NULL;
}

static void on_ask_ready(void *ctx)
{
	struct sentinel *sentinel = ctx;

	MAGIC_CHECK(sentinel, SENTINEL_MAGIC);
	sentinel->ask_ready = true;
	ask(sentinel);
}

static void on_ask_reply(void *ctx, const redisReply *reply)
{
	struct sentinel *sentinel = ctx;
	struct sentinel_answer answer = {0};
	const char *problem = read_answer(reply, &answer);

	MAGIC_CHECK(sentinel, SENTINEL_MAGIC);
	sentinel->answers++;
	if (problem) {
		memset(&sentinel->answer, 0, sizeof(sentinel->answer));
		note_error(sentinel, sentinel->ask_error, problem);
	} else {
		sentinel->answer = answer;
		sentinel->ask_error[0] = '\0';
	}
	settle(sentinel->watch);
	if (sentinel->watch->on_answer)
		sentinel->watch->on_answer(sentinel->watch->on_answer_ctx);
}

static void on_ask_lost(void *ctx, const char *reason)
{
	struct sentinel *sentinel = ctx;

	MAGIC_CHECK(sentinel, SENTINEL_MAGIC);
	sentinel->ask = NULL;
	sentinel->ask_ready = false;
	sentinel->questions = sentinel->answers = 0;
	sentinel->round = UINT64_MAX;
	memset(&sentinel->answer, 0, sizeof(sentinel->answer));
	note_error(sentinel, sentinel->ask_error, reason);
}

/* ---- announcements ---- */

static void on_listen_ready(void *ctx)
{
	static const char *const words[] = {"SUBSCRIBE", SWITCH_MASTER};
	struct sentinel *sentinel = ctx;

	MAGIC_CHECK(sentinel, SENTINEL_MAGIC);
	redis_link_send(sentinel->listen, words, 2);
}

/* "<name> <old ip> <old port> <new ip> <new port>": about our master? */
static bool is_about(const redisReply *message, const char *name)
{
	size_t len = strlen(name);

	return message->type == REDIS_REPLY_STRING && message->len > len &&
	       memcmp(message->str, name, len) == 0 && message->str[len] == ' ';
}

static void on_listen_reply(void *ctx, const redisReply *reply)
{
	struct sentinel *sentinel = ctx;
	struct sentinel_watch *watch = sentinel->watch;

	MAGIC_CHECK(sentinel, SENTINEL_MAGIC);
	if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 2 ||
	    reply->element[0]->type != REDIS_REPLY_STRING) {
		note_error(sentinel, sentinel->listen_error,
			   reply->type == REDIS_REPLY_ERROR ? reply->str : "unusable announcement");
		return;
	}
	sentinel->heard = true;
	sentinel->listen_error[0] = '\0';
	if (strcmp(reply->element[0]->str, "message") != 0 || reply->elements != 3 ||
	    !is_about(reply->element[2], watch->name))
		return;
	/* Its epoch is not in it: ask, whoever else has heard of it too. */
	for (size_t i = 0; i < watch->count; i++)
		ask(&watch->sentinels[i]);
	poll_in(watch, POLL_SOON_MS);
}

static void on_listen_lost(void *ctx, const char *reason)
{
	struct sentinel *sentinel = ctx;

	MAGIC_CHECK(sentinel, SENTINEL_MAGIC);
	sentinel->listen = NULL;
	sentinel->heard = false;
	note_error(sentinel, sentinel->listen_error, reason);
}

/* ---- again and again ---- */

static void connect_sentinel(struct sentinel *sentinel)
{
	static const struct redis_link_callbacks asking = {on_ask_ready, on_ask_reply, on_ask_lost};
	static const struct redis_link_callbacks listening = {on_listen_ready, on_listen_reply,
							      on_listen_lost};
	struct sentinel_watch *watch = sentinel->watch;
	struct redis_link_options options = {
		.host = sentinel->host,
		.port = sentinel->port,
		.user = "",
		.password = watch->sentinel_password,
		.timeout_ms = watch->timeout_ms,
	};

	if (!sentinel->ask)
		sentinel->ask =
			redis_link_open(watch->base, &watch->dns, &options, &asking, sentinel);
	/* One that does not even answer questions has nothing to announce. */
	if (!sentinel->listen && sentinel->ask_ready)
		sentinel->listen =
			redis_link_open(watch->base, &watch->dns, &options, &listening, sentinel);
}

/* A listener hears nothing for years: only an answer shows that it would. */
static void check_listener(struct sentinel *sentinel)
{
	static const char *const words[] = {"PING"};

	if (sentinel->heard && redis_link_waiting(sentinel->listen) == 0)
		redis_link_send(sentinel->listen, words, 1);
}

static void on_poll(evutil_socket_t fd, short what, void *ctx)
{
	struct sentinel_watch *watch = ctx;

	(void)fd;
	(void)what;
	MAGIC_CHECK(watch, SENTINEL_WATCH_MAGIC);
	for (size_t i = 0; i < watch->count; i++) {
		connect_sentinel(&watch->sentinels[i]);
		ask(&watch->sentinels[i]);
		check_listener(&watch->sentinels[i]);
	}
	poll_in(watch, watch->master.host[0] && !watch->candidate.host[0] ? POLL_MS : POLL_SOON_MS);
}

struct sentinel_watch *sentinel_watch_create(struct event_base *base,
					     const struct sentinel_options *options,
					     sentinel_callback callback, void *ctx)
{
	struct sentinel_watch *watch = xcalloc(1, sizeof(*watch));

	watch->magic = SENTINEL_WATCH_MAGIC;
	watch->base = base;
	watch->name = xstrdup(options->master_name);
	watch->sentinel_password = xstrdup(options->sentinel_password);
	watch->user = xstrdup(options->user);
	watch->password = xstrdup(options->password);
	watch->timeout_ms = options->timeout_ms;
	watch->callback = callback;
	watch->ctx = ctx;
	watch->count = options->sentinel_count;
	watch->sentinels = xcalloc(watch->count, sizeof(*watch->sentinels));
	for (size_t i = 0; i < watch->count; i++)
		watch->sentinels[i] = (struct sentinel){
			.magic = SENTINEL_MAGIC,
			.watch = watch,
			.host = xstrdup(options->sentinels[i].host),
			.port = options->sentinels[i].port,
			.round = UINT64_MAX,
		};
	watch->poll = evtimer_new(base, on_poll, watch);
	if (!watch->poll)
		abort(); /* only out of memory */
	poll_in(watch, 0);
	return watch;
}

static void free_secret(char *secret)
{
	secret_wipe(secret, strlen(secret));
	free(secret);
}

void sentinel_watch_free(struct sentinel_watch *watch)
{
	if (!watch)
		return;
	MAGIC_CHECK(watch, SENTINEL_WATCH_MAGIC);
	redis_link_close(watch->probe);
	for (size_t i = 0; i < watch->count; i++) {
		redis_link_close(watch->sentinels[i].ask);
		redis_link_close(watch->sentinels[i].listen);
		free(watch->sentinels[i].host);
	}
	free(watch->sentinels);
	event_free(watch->poll);
	if (watch->dns)
		evdns_base_free(watch->dns, 1);
	free(watch->name);
	free(watch->user);
	free_secret(watch->sentinel_password);
	free_secret(watch->password);
	watch->magic = 0;
	free(watch);
}

/* ---- for show sentinel ---- */

const char *sentinel_watch_name(const struct sentinel_watch *watch)
{
	return watch->name;
}

const struct sentinel_answer *sentinel_watch_master(const struct sentinel_watch *watch)
{
	return &watch->master;
}

const char *sentinel_watch_error(const struct sentinel_watch *watch)
{
	return watch->error;
}

bool sentinel_watch_view(const struct sentinel_watch *watch, size_t index,
			 struct sentinel_view *view)
{
	const struct sentinel *sentinel;

	if (index >= watch->count)
		return false;
	sentinel = &watch->sentinels[index];
	*view = (struct sentinel_view){
		.host = sentinel->host,
		.port = sentinel->port,
		.asked = sentinel->ask_ready,
		/* Any Redis server takes the subscription: only a Sentinel has announcements. */
		.heard = sentinel->heard && sentinel->answer.host[0] != '\0',
		.answer = &sentinel->answer,
		.error = sentinel->ask_error[0] ? sentinel->ask_error : sentinel->listen_error,
	};
	return true;
}

/* SPDX-License-Identifier: ISC */
/*
 * The clients of a lost node, see crowd.h: the names of its workers, then their
 * sessions page by page. A connection that fails is made again and the walk goes
 * on where it was, a few times.
 */
#include "supervisor/crowd.h"

#include <arpa/inet.h>
#include <event2/dns.h>
#include <event2/event.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/ipc_messages.h"
#include "keepsock/log.h"
#include "keepsock/magic.h"
#include "keepsock/redis_keys.h"
#include "keepsock/redis_link.h"
#include "keepsock/settings.h"

#define CROWD_MAGIC UINT32_C(0x44575243) /* "CRWD" */
#define PAGE        "500"
#define WORKERS_MAX 256
#define CURSOR_MAX  20
#define ATTEMPTS    5
#define RETRY_MS    300
#define ERROR_MAX   200

extern const char redis_script_lost_workers[];
extern const char redis_script_lost_peers[];

struct crowd {
	uint32_t magic;
	struct crowd_options options;
	struct ipc_redis redis; /* owned, as all below */
	char *node;
	struct evdns_base *dns;
	struct redis_link *link;
	struct event *timer; /* the next attempt */
	unsigned attempts;
	bool selecting;              /* the answer to SELECT is due */
	char **workers;              /* NULL = not known yet */
	size_t worker_count, worker; /* the one that is being read */
	char cursor[CURSOR_MAX + 1];
	uint64_t told;
};

void crowd_end(struct crowd *crowd)
{
	if (!crowd)
		return;
	MAGIC_CHECK(crowd, CROWD_MAGIC);
	redis_link_close(crowd->link);
	if (crowd->dns)
		evdns_base_free(crowd->dns, 1);
	event_free(crowd->timer);
	for (size_t i = 0; i < crowd->worker_count; i++)
		free(crowd->workers[i]);
	free(crowd->workers);
	free(crowd->node);
	ipc_redis_free(&crowd->redis);
	crowd->magic = 0;
	free(crowd);
}

static void finish(struct crowd *crowd, const char *error)
{
	void (*on_done)(void *, uint64_t, const char *) = crowd->options.on_done;
	void *ctx = crowd->options.ctx;
	uint64_t told = crowd->told;
	char text[ERROR_MAX];

	/* It may be the link's. */
	snprintf(text, sizeof(text), "%s", error ? error : "");
	crowd_end(crowd);
	on_done(ctx, told, error ? text : NULL);
}

/* ---- asking ---- */

static void send_script(struct crowd *crowd, const char *script, struct slice keys[2],
			const char *const *arguments, size_t n)
{
	char *first = xstrndup(keys[0].data, keys[0].len);
	char *second = xstrndup(keys[1].data, keys[1].len);
	const char *words[7] = {"EVAL", script, "2", first, second};

	for (size_t i = 0; i < n; i++)
		words[5 + i] = arguments[i];
	redis_link_send(crowd->link, words, 5 + n);
	free(first);
	free(second);
}

static void ask_workers(struct crowd *crowd)
{
	struct slice keys[2] = {SLICE(REDIS_KEY_WORKERS), SLICE(REDIS_KEY_LOST)};
	const char *const arguments[] = {crowd->node};

	send_script(crowd, redis_script_lost_workers, keys, arguments, 1);
}

static void ask_peers(struct crowd *crowd)
{
	struct slice worker = slice_str(crowd->workers[crowd->worker]);
	const char *const arguments[] = {crowd->cursor, PAGE};
	struct buffer lost = {0}, sessions = {0};
	struct slice keys[2];

	redis_key_lost_sessions(&lost, worker);
	redis_key_sessions(&sessions, worker);
	keys[0] = buffer_slice(&lost);
	keys[1] = buffer_slice(&sessions);
	send_script(crowd, redis_script_lost_peers, keys, arguments, 2);
	buffer_free(&lost);
	buffer_free(&sessions);
}

static void ask(struct crowd *crowd)
{
	if (!crowd->workers)
		ask_workers(crowd);
	else if (crowd->worker < crowd->worker_count)
		ask_peers(crowd);
	else
		finish(crowd, NULL);
}

/* ---- answers ---- */

static bool is_array(const redisReply *reply)
{
	return reply->type == REDIS_REPLY_ARRAY;
}

static bool take_workers(struct crowd *crowd, const redisReply *reply)
{
	if (!is_array(reply))
		return false;
	crowd->workers = xcalloc(reply->elements + 1, sizeof(*crowd->workers));
	for (size_t i = 0; i < reply->elements && i < WORKERS_MAX; i++) {
		if (reply->element[i]->type != REDIS_REPLY_STRING)
			return false;
		crowd->workers[crowd->worker_count++] =
			xstrndup(reply->element[i]->str, reply->element[i]->len);
	}
	return true;
}

/* "<address>:<port> <port it came to>", the address of IPv6 in brackets; its family, 0: none. */
static int read_peer(const char *text, struct vip_peer *peer)
{
	const char *space = strrchr(text, ' ');
	char *place = space ? xstrndup(text, (size_t)(space - text)) : NULL;
	struct settings_host_port from = {0};
	long port = space ? strtol(space + 1, NULL, 10) : 0;
	int family = 0;

	memset(peer, 0, sizeof(*peer));
	if (place && port > 0 && port <= UINT16_MAX &&
	    settings_address_port_parse(place, &from) == NULL) {
		peer->port = from.port;
		peer->local_port = (uint16_t)port;
		family = strchr(from.host, ':') ? AF_INET6 : AF_INET;
		if (inet_pton(family, from.host, peer->address) != 1)
			family = 0;
	}
	free(from.host);
	free(place);
	return family;
}

static void tell_peers(struct crowd *crowd, int family, const redisReply *texts)
{
	struct vip_peer *peers = xcalloc(texts->elements + 1, sizeof(*peers));
	size_t count = 0;

	for (size_t i = 0; i < texts->elements; i++) {
		const redisReply *text = texts->element[i];

		if (text->type == REDIS_REPLY_STRING &&
		    read_peer(text->str, &peers[count]) == family)
			count++;
	}
	crowd->told += count;
	if (count > 0)
		crowd->options.on_peers(crowd->options.ctx, family, peers, count);
	free(peers);
}

static bool take_peers(struct crowd *crowd, const redisReply *reply)
{
	const redisReply *cursor, *texts;

	if (!is_array(reply) || reply->elements != 2)
		return false;
	cursor = reply->element[0];
	texts = reply->element[1];
	if (cursor->type != REDIS_REPLY_STRING || cursor->len > CURSOR_MAX || !is_array(texts))
		return false;
	tell_peers(crowd, AF_INET, texts);
	tell_peers(crowd, AF_INET6, texts);
	memcpy(crowd->cursor, cursor->str, cursor->len + 1);
	if (strcmp(crowd->cursor, "0") == 0)
		crowd->worker++;
	return true;
}

static void on_link_reply(void *ctx, const redisReply *reply)
{
	struct crowd *crowd = ctx;
	bool usable;

	MAGIC_CHECK(crowd, CROWD_MAGIC);
	if (reply->type == REDIS_REPLY_ERROR) {
		finish(crowd, reply->str);
		return;
	}
	if (crowd->selecting) {
		crowd->selecting = false;
		ask(crowd);
		return;
	}
	usable = crowd->workers ? take_peers(crowd, reply) : take_workers(crowd, reply);
	if (usable)
		ask(crowd);
	else
		finish(crowd, "unusable answer: is another program using our keys?");
}

/* ---- the connection ---- */

static void on_link_ready(void *ctx)
{
	struct crowd *crowd = ctx;
	char db[16];
	const char *const words[] = {"SELECT", db};

	MAGIC_CHECK(crowd, CROWD_MAGIC);
	snprintf(db, sizeof(db), "%d", crowd->redis.db);
	crowd->selecting = crowd->redis.db != 0;
	if (crowd->selecting)
		redis_link_send(crowd->link, words, 2);
	else
		ask(crowd);
}

static void retry_in(struct crowd *crowd, int ms)
{
	const struct timeval delay = {0, ms * 1000};

	if (evtimer_add(crowd->timer, &delay) != 0)
		abort(); /* only out of memory */
}

static void on_link_lost(void *ctx, const char *reason)
{
	struct crowd *crowd = ctx;

	MAGIC_CHECK(crowd, CROWD_MAGIC);
	crowd->link = NULL;
	if (crowd->attempts >= ATTEMPTS)
		finish(crowd, reason);
	else
		retry_in(crowd, RETRY_MS);
}

static void on_timer(evutil_socket_t fd, short what, void *ctx)
{
	static const struct redis_link_callbacks callbacks = {on_link_ready, on_link_reply,
							      on_link_lost};
	struct crowd *crowd = ctx;
	const struct redis_link_options options = {
		.host = crowd->redis.host,
		.port = crowd->redis.port,
		.user = crowd->redis.user,
		.password = crowd->redis.password,
		.timeout_ms = crowd->options.timeout_ms,
	};

	(void)fd;
	(void)what;
	MAGIC_CHECK(crowd, CROWD_MAGIC);
	crowd->attempts++;
	crowd->link =
		redis_link_open(crowd->options.base, &crowd->dns, &options, &callbacks, crowd);
}

struct crowd *crowd_read(const struct crowd_options *options)
{
	struct crowd *crowd = xcalloc(1, sizeof(*crowd));

	crowd->magic = CROWD_MAGIC;
	crowd->options = *options;
	crowd->redis = ipc_redis_copy(options->redis);
	crowd->node = xstrdup(options->node);
	snprintf(crowd->cursor, sizeof(crowd->cursor), "0");
	crowd->timer = evtimer_new(options->base, on_timer, crowd);
	if (!crowd->timer)
		abort(); /* only out of memory */
	retry_in(crowd, 0);
	return crowd;
}

/* SPDX-License-Identifier: ISC */
/*
 * How a command connection comes about: resolving, connecting, signing in,
 * loading the scripts. Runs in workers. It never blocks, and never logs what
 * it signs in with.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "keepsock/clock.h"
#include "keepsock/magic.h"
#include "redis_connection_parts.h"
#include "redis_info.h"
#include "redis_pool.h"

enum { GREETING_AUTH = -3, GREETING_INFO, GREETING_SELECT };

static void connect_next(struct redis_connection *c, int error);

/* -- signing in ---------------------------------------------------------- */

static void add_greeting(struct redis_connection *c, int greeting, const struct slice *words,
			 size_t n)
{
	c->greetings[c->n_greetings++] = greeting;
	redis_append_command(&c->output, words, n);
}

/* AUTH [user] password */
static void add_sign_in(struct redis_connection *c)
{
	const struct redis_pool *pool = c->pool;
	struct slice words[3] = {SLICE("AUTH")};
	size_t n = 1;

	if (pool->user)
		words[n++] = slice_str(pool->user);
	words[n++] = slice_str(pool->password);
	add_greeting(c, GREETING_AUTH, words, n);
}

static void greet(struct redis_connection *c)
{
	const struct redis_pool *pool = c->pool;
	char db[16];

	c->n_greetings = 0;
	c->greeted = 0;
	if (pool->password)
		add_sign_in(c);
	add_greeting(c, GREETING_INFO, &SLICE("INFO"), 1);
	if (pool->db != 0) {
		struct slice select[] = {SLICE("SELECT"), {db, 0}};

		select[1].len = (size_t)snprintf(db, sizeof(db), "%d", pool->db);
		add_greeting(c, GREETING_SELECT, select, 2);
	}
	for (int i = 0; i < REDIS_SCRIPT_COUNT; i++) {
		struct slice load[] = {SLICE("SCRIPT"), SLICE("LOAD"), redis_script_text(i)};

		add_greeting(c, i, load, 3);
	}
	/* All of it has the rest of connect_timeout_ms. */
	redis_connection_change_state(c, REDIS_CONNECTION_GREETING, c->phase_deadline_ms);
	redis_connection_schedule_flush(c);
}

static void become_ready(struct redis_connection *c)
{
	uint64_t now = clock_boottime_ms();

	log_info("redis_connected connection=%u host=%s port=%u run=%s attempts=%u", c->index,
		 log_value_str(c->pool->host), c->pool->port, c->run, c->attempts + 1);
	c->away = false;
	c->last_reason[0] = '\0';
	c->pool->stats.reconnects += c->was_ready;
	c->was_ready = true;
	c->unused = 0;
	c->recycle_at_ms = redis_pool_recycle_at(c->pool, now);
	for (const struct redis_request *r = c->queue.first; r; r = r->next)
		redis_connection_append(c, r);
	redis_connection_change_state(c, REDIS_CONNECTION_READY,
				      now + c->pool->options.command_timeout_ms);
	redis_connection_schedule_flush(c);
	redis_pool_on_ready(c->pool, c);
}

static const char *greeting_name(int greeting)
{
	switch (greeting) {
	case GREETING_AUTH: return "AUTH";
	case GREETING_INFO: return "INFO";
	case GREETING_SELECT: return "SELECT";
	default: return "SCRIPT LOAD";
	}
}

/* NULL, or what is wrong with the answer. */
static const char *read_greeting(struct redis_connection *c, int greeting, const redisReply *reply)
{
	bool is_text = reply->type == REDIS_REPLY_STRING;

	if (greeting == GREETING_INFO)
		return is_text ? redis_info_read(slice_from(reply->str, reply->len), c->run)
			       : "unusable reply";
	if (greeting < 0)
		return NULL;
	if (!is_text || reply->len != REDIS_SHA_LENGTH)
		return "unusable reply";
	memcpy(c->pool->sha[greeting], reply->str, REDIS_SHA_LENGTH);
	return NULL;
}

void redis_connection_on_greeting(struct redis_connection *c, const redisReply *reply)
{
	int greeting = c->greetings[c->greeted];
	const char *problem =
		reply->type == REDIS_REPLY_ERROR ? reply->str : read_greeting(c, greeting, reply);
	char reason[160];

	if (problem) {
		snprintf(reason, sizeof(reason), "%s: %s", greeting_name(greeting), problem);
		redis_connection_lose(c, false, reason);
		return;
	}
	if (++c->greeted == c->n_greetings)
		become_ready(c);
}

/* -- connecting ---------------------------------------------------------- */

/* A connect() to a dead port of the ephemeral range may meet itself. */
static bool is_connected_to_itself(int fd)
{
	struct sockaddr_storage here = {0}, there = {0};
	socklen_t here_len = sizeof(here), there_len = sizeof(there);

	return getsockname(fd, (struct sockaddr *)&here, &here_len) == 0 &&
	       getpeername(fd, (struct sockaddr *)&there, &there_len) == 0 &&
	       here_len == there_len && memcmp(&here, &there, here_len) == 0;
}

static void on_connected(struct redis_connection *c)
{
	int error = 0;
	socklen_t len = sizeof(error);

	if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
		error = errno;
	if (error == 0 && is_connected_to_itself(c->fd))
		error = ECONNREFUSED;
	if (error != 0) {
		connect_next(c, error);
		return;
	}
	c->reader = redisReaderCreate();
	if (!c->reader || event_add(c->read, NULL) != 0) {
		redis_connection_lose(c, false, "out of memory");
		return;
	}
	greet(c);
}

static void on_write(evutil_socket_t fd, short what, void *ctx)
{
	struct redis_connection *c = ctx;

	(void)fd;
	(void)what;
	MAGIC_CHECK(c, REDIS_CONNECTION_MAGIC);
	if (c->state == REDIS_CONNECTION_CONNECTING)
		on_connected(c);
	else
		redis_connection_write(c);
}

/* 0 when under way, else errno. */
static int connect_address(struct redis_connection *c, const struct evutil_addrinfo *address)
{
	int one = 1;

	redis_connection_free_event(&c->read);
	redis_connection_free_event(&c->write);
	if (c->fd >= 0)
		close(c->fd);
	c->fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		return errno;
	/* Not vital: without it small commands may only be slower. */
	if (setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) != 0)
		log_debug("redis_nodelay connection=%u error=%s", c->index, strerror(errno));
	if (connect(c->fd, address->ai_addr, (socklen_t)address->ai_addrlen) != 0 &&
	    errno != EINPROGRESS)
		return errno;
	c->read =
		event_new(c->pool->base, c->fd, EV_READ | EV_PERSIST, redis_connection_on_read, c);
	c->write = event_new(c->pool->base, c->fd, EV_WRITE, on_write, c);
	if (!c->read || !c->write || event_add(c->write, NULL) != 0)
		return ENOMEM;
	return 0;
}

/* Tries the addresses that are left; error is why the one before failed. */
static void connect_next(struct redis_connection *c, int error)
{
	while (c->next_address) {
		const struct evutil_addrinfo *address = c->next_address;

		c->next_address = address->ai_next;
		error = connect_address(c, address);
		if (error == 0)
			return;
	}
	redis_connection_lose_errno(c, "connect", error);
}

static void on_resolved(void *ctx, const char *error, struct evutil_addrinfo *addresses)
{
	struct redis_connection *c = ctx;
	char reason[160];

	MAGIC_CHECK(c, REDIS_CONNECTION_MAGIC);
	c->resolution = NULL;
	if (error) {
		snprintf(reason, sizeof(reason), "resolve: %s", error);
		redis_connection_lose(c, false, reason);
		return;
	}
	c->addresses = addresses;
	c->next_address = addresses;
	redis_connection_change_state(c, REDIS_CONNECTION_CONNECTING, c->phase_deadline_ms);
	connect_next(c, EADDRNOTAVAIL);
}

void redis_connection_start(struct redis_connection *c)
{
	struct redis_pool *pool = c->pool;
	uint64_t deadline = clock_boottime_ms() + pool->options.connect_timeout_ms;
	struct redis_resolution *resolution;

	redis_connection_change_state(c, REDIS_CONNECTION_RESOLVING, deadline);
	resolution = redis_resolve(pool->base, &pool->dns, pool->host, pool->port, on_resolved, c);
	/* NULL: on_resolved() has already been here. */
	if (resolution)
		c->resolution = resolution;
}

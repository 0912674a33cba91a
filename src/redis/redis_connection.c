/* SPDX-License-Identifier: ISC */
/*
 * The life of one command connection: its states, time limits, queue and
 * output, and what happens when it is lost. Runs in workers. It never calls a
 * caller back, and never sends anything twice. How it connects is in
 * redis_connect.c, what it receives in redis_receive.c.
 *
 * hiredis gives the RESP reader only. Its asynchronous context (0.14) asserts
 * on a reply nobody asked for, frees itself under a failing connect callback,
 * resolves names with the blocking resolver and knows no time limits; a socket
 * of our own is shorter than the ways around that.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "keepsock/clock.h"
#include "keepsock/magic.h"
#include "keepsock/random.h"
#include "redis_connection_parts.h"
#include "redis_pool.h"

#define FIRST_DELAY_MS 50   /* after a failed attempt; doubles */
#define STABLE_MS      1000 /* a connection that lived shorter counts as a failed attempt */
#define KEEP_OUTPUT    (1024 * 1024)

static const char *state_name(enum redis_connection_state state)
{
	static const char *const names[] = {
#define X(name, text) [REDIS_CONNECTION_##name] = (text),
		REDIS_CONNECTION_STATES(X)
#undef X
	};

	return names[state];
}

/* -- time ---------------------------------------------------------------- */

static void set_timer(struct redis_connection *c, uint64_t at_ms)
{
	uint64_t now = clock_boottime_ms();
	uint64_t delay = at_ms > now ? at_ms - now : 0;
	struct timeval tv = {(time_t)(delay / 1000), (suseconds_t)(delay % 1000 * 1000)};

	c->timer_ms = at_ms;
	if (evtimer_add(c->timer, &tv) != 0)
		abort(); /* only out of memory */
}

static uint64_t nearest_deadline(const struct redis_queue *queue, uint64_t nearest)
{
	/* Not only the first: one that was sent again has a nearer deadline than those before it.
	 */
	for (const struct redis_request *r = queue->first; r; r = r->next)
		nearest = r->deadline_ms < nearest ? r->deadline_ms : nearest;
	return nearest;
}

static void arm_timer(struct redis_connection *c)
{
	uint64_t at = c->phase_deadline_ms;

	if (c->state == REDIS_CONNECTION_CLOSED) {
		event_del(c->timer);
		return;
	}
	at = nearest_deadline(&c->queue, at);
	at = nearest_deadline(&c->unsent, at);
	set_timer(c, nearest_deadline(&c->held, at));
}

void redis_connection_change_state(struct redis_connection *c, enum redis_connection_state state,
				   uint64_t deadline_ms)
{
	uint64_t now = clock_boottime_ms();

	log_debug("redis_state connection=%u change=%s -> %s after_ms=%llu", c->index,
		  state_name(c->state), state_name(state), (unsigned long long)(now - c->since_ms));
	if ((c->state == REDIS_CONNECTION_READY) != (state == REDIS_CONNECTION_READY))
		redis_pool_on_ready_change(c->pool);
	c->state = state;
	c->since_ms = now;
	c->phase_deadline_ms = deadline_ms;
	arm_timer(c);
}

/* 0 after a stable connection. */
static uint64_t reconnect_delay_ms(const struct redis_connection *c)
{
	if (c->attempts == 0)
		return 0;
	return random_backoff_ms(c->attempts - 1, FIRST_DELAY_MS,
				 c->pool->options.reconnect_max_delay_ms);
}

/* -- loss ---------------------------------------------------------------- */

void redis_connection_free_event(struct event **event)
{
	if (*event)
		event_free(*event);
	*event = NULL;
}

static void drop_socket(struct redis_connection *c)
{
	c->serial++;
	if (c->resolution)
		redis_resolution_forget(c->resolution);
	c->resolution = NULL;
	if (c->addresses)
		evutil_freeaddrinfo(c->addresses);
	c->addresses = NULL;
	c->next_address = NULL;
	redis_connection_free_event(&c->read);
	redis_connection_free_event(&c->write);
	event_del(c->flush);
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	if (c->reader)
		redisReaderFree(c->reader);
	c->reader = NULL;
	buffer_free(&c->output);
	c->written = 0;
}

static void fail_queue(struct redis_connection *c, struct redis_queue *queue, const char *text)
{
	struct redis_request *request;

	while ((request = redis_queue_pop(queue)))
		redis_pool_fail(c->pool, request, REDIS_RESULT_UNAVAILABLE, text);
}

static void fail_all(struct redis_connection *c, const char *text)
{
	fail_queue(c, &c->held, text);
	fail_queue(c, &c->queue, text);
	fail_queue(c, &c->unsent, text);
	c->wait_under_way = false;
}

static void log_loss(struct redis_connection *c, const char *reason)
{
	bool news = c->state == REDIS_CONNECTION_READY || strcmp(reason, c->last_reason) != 0;

	redis_pool_note_error(c->pool, "%s", reason);
	snprintf(c->last_reason, sizeof(c->last_reason), "%s", reason);
	log_at(news ? LOG_LEVEL_WARNING : LOG_LEVEL_DEBUG,
	       "redis_lost connection=%u host=%s port=%u state=%s reason=%s waiting=%u", c->index,
	       log_value_str(c->pool->host), c->pool->port, state_name(c->state),
	       log_value_str(reason), redis_connection_waiting(c));
}

void redis_connection_lose(struct redis_connection *c, bool away, const char *reason)
{
	uint64_t now = clock_boottime_ms();
	bool stable = c->state == REDIS_CONNECTION_READY && now - c->since_ms >= STABLE_MS;

	log_loss(c, reason);
	if (c->role != REDIS_ROLE_SLOT) {
		redis_pool_on_spare_lost(c->pool);
		redis_connection_close(c, "the connection to Redis was lost");
		return;
	}
	drop_socket(c);
	c->attempts = stable ? 0 : c->attempts + 1;
	c->away = away || c->attempts > 0;
	fail_all(c, "the connection to Redis was lost");
	redis_connection_change_state(c, REDIS_CONNECTION_WAITING, now + reconnect_delay_ms(c));
}

void redis_connection_lose_errno(struct redis_connection *c, const char *what, int error)
{
	char reason[160];

	snprintf(reason, sizeof(reason), "%s: %s", what, strerror(error));
	redis_connection_lose(c, false, reason);
}

/* -- writing ------------------------------------------------------------- */

void redis_connection_schedule_flush(struct redis_connection *c)
{
	/* Runs after the events of this turn: their commands leave in one write. */
	event_active(c->flush, EV_WRITE, 1);
}

void redis_connection_write(struct redis_connection *c)
{
	while (c->written < c->output.len) {
		ssize_t n = send(c->fd, c->output.data + c->written, c->output.len - c->written,
				 MSG_NOSIGNAL);

		if (n >= 0) {
			c->written += (size_t)n;
		} else if (errno == EAGAIN) {
			if (event_add(c->write, NULL) != 0)
				redis_connection_lose(c, false,
						      "write: the event could not be added");
			return;
		} else if (errno != EINTR) {
			redis_connection_lose_errno(c, "write", errno);
			return;
		}
	}
	buffer_reset(&c->output);
	c->written = 0;
	if (c->output.cap > KEEP_OUTPUT)
		buffer_free(&c->output);
}

static void on_flush(evutil_socket_t fd, short what, void *ctx)
{
	struct redis_connection *c = ctx;

	(void)fd;
	(void)what;
	MAGIC_CHECK(c, REDIS_CONNECTION_MAGIC);
	if (c->replicates && c->state == REDIS_CONNECTION_READY)
		redis_replicate_next_batch(c);
	redis_connection_write(c);
}

void redis_connection_append(struct redis_connection *c, const struct redis_request *request)
{
	redis_request_append_to(request, c->pool->sha[request->script], c->run, &c->output);
	redis_connection_schedule_flush(c);
}

/* -- the timer ----------------------------------------------------------- */

/* Takes the expired requests out of the queue; true if there were any. */
static bool expire_requests(struct redis_connection *c, struct redis_queue *queue, uint64_t now)
{
	struct redis_queue kept = {0};
	struct redis_request *request;
	bool expired = false;

	while ((request = redis_queue_pop(queue))) {
		if (request->deadline_ms > now) {
			redis_queue_push(&kept, request);
			continue;
		}
		expired = true;
		redis_pool_fail(c->pool, request, REDIS_RESULT_TIMEOUT,
				"Redis did not answer in time");
	}
	*queue = kept;
	return expired;
}

void redis_connection_send_internal(struct redis_connection *c, enum redis_internal internal,
				    unsigned extra_ms, const struct slice *words, size_t n)
{
	struct redis_request *request = redis_request_new_internal(internal, words, n);

	request->deadline_ms = clock_boottime_ms() + c->pool->options.command_timeout_ms + extra_ms;
	redis_queue_push(&c->queue, request);
	redis_connection_append(c, request);
}

/* An idle connection has to show that Redis is there, for redis_pool_available(). */
static void on_ready_phase_end(struct redis_connection *c, uint64_t now)
{
	if (redis_connection_waiting(c) > 0)
		c->unused = 0;
	else
		c->unused++;
	c->phase_deadline_ms = now + c->pool->options.command_timeout_ms;
	if (redis_pool_on_ready_phase_end(c->pool, c, now))
		return;
	if (!c->queue.first)
		redis_connection_send_internal(c, REDIS_INTERNAL_PING, 0, &SLICE("PING"), 1);
}

static void on_phase_end(struct redis_connection *c, uint64_t now)
{
	char reason[64];

	switch (c->state) {
	case REDIS_CONNECTION_CLOSED: break;
	case REDIS_CONNECTION_WAITING: redis_connection_start(c); break;
	case REDIS_CONNECTION_RESOLVING:
	case REDIS_CONNECTION_CONNECTING:
	case REDIS_CONNECTION_GREETING:
		snprintf(reason, sizeof(reason), "%s: timed out", state_name(c->state));
		redis_connection_lose(c, true, reason);
		break;
	case REDIS_CONNECTION_READY: on_ready_phase_end(c, now); break;
	}
}

static void on_timer(evutil_socket_t fd, short what, void *ctx)
{
	struct redis_connection *c = ctx;
	uint64_t now = clock_boottime_ms();

	(void)fd;
	(void)what;
	MAGIC_CHECK(c, REDIS_CONNECTION_MAGIC);
	c->timer_ms = 0;
	expire_requests(c, &c->unsent, now);
	expire_requests(c, &c->held, now);
	/* What was sent and is overdue may still be answered: only a new connection is in step. */
	if (expire_requests(c, &c->queue, now) && c->state == REDIS_CONNECTION_READY)
		redis_connection_lose(c, true, "a command timed out");
	else if (now >= c->phase_deadline_ms)
		on_phase_end(c, now);
	if (c->timer_ms == 0)
		arm_timer(c);
}

/* -- for the pool -------------------------------------------------------- */

void redis_connection_init(struct redis_connection *c, struct redis_pool *pool, unsigned index)
{
	*c = (struct redis_connection){.magic = REDIS_CONNECTION_MAGIC,
				       .pool = pool,
				       .index = index,
				       .fd = -1,
				       .since_ms = clock_boottime_ms()};
	c->timer = evtimer_new(pool->base, on_timer, c);
	c->flush = event_new(pool->base, -1, 0, on_flush, c);
	if (!c->timer || !c->flush)
		abort(); /* only out of memory */
}

static void start_afresh(struct redis_connection *c)
{
	c->attempts = 0;
	c->unused = 0;
	c->away = false;
	c->was_ready = false;
	c->last_reason[0] = '\0';
	redis_connection_change_state(c, REDIS_CONNECTION_WAITING, clock_boottime_ms());
}

void redis_connection_open(struct redis_connection *c, enum redis_connection_role role,
			   unsigned slot)
{
	MAGIC_CHECK(c, REDIS_CONNECTION_MAGIC);
	c->role = role;
	c->slot = slot;
	c->replicates = role != REDIS_ROLE_OVERFLOW && slot == c->pool->options.size;
	start_afresh(c);
}

void redis_connection_close(struct redis_connection *c, const char *text)
{
	MAGIC_CHECK(c, REDIS_CONNECTION_MAGIC);
	drop_socket(c);
	fail_all(c, text);
	redis_connection_change_state(c, REDIS_CONNECTION_CLOSED, UINT64_MAX);
	c->role = REDIS_ROLE_NONE;
}

void redis_connection_release(struct redis_connection *c)
{
	redis_connection_close(c, "the worker lets go of Redis");
	c->away = true;
	redis_connection_free_event(&c->timer);
	redis_connection_free_event(&c->flush);
}

void redis_connection_restart(struct redis_connection *c)
{
	static const char text[] = "the worker changes to another Redis";
	bool was_ready = c->was_ready;

	MAGIC_CHECK(c, REDIS_CONNECTION_MAGIC);
	if (c->role != REDIS_ROLE_SLOT) {
		redis_connection_close(c, text);
		return;
	}
	drop_socket(c);
	fail_all(c, text);
	start_afresh(c);
	c->was_ready = was_ready;
}

unsigned redis_connection_waiting(const struct redis_connection *c)
{
	return c->queue.count + c->unsent.count + c->held.count;
}

bool redis_connection_is_idle(const struct redis_connection *c)
{
	return c->state == REDIS_CONNECTION_READY && !c->queue.first && !c->unsent.first &&
	       !c->held.first;
}

void redis_connection_submit(struct redis_connection *c, struct redis_request *request)
{
	const struct redis_pool_options *options = &c->pool->options;
	unsigned waiting = redis_connection_waiting(c);

	MAGIC_CHECK(c, REDIS_CONNECTION_MAGIC);
	if (c->away) {
		redis_pool_fail(c->pool, request, REDIS_RESULT_UNAVAILABLE, "Redis is away");
		return;
	}
	if (waiting >= options->waiting_limit ||
	    (waiting > 0 && c->queue.bytes + c->unsent.bytes + c->held.bytes + request->tail.len >
				    options->waiting_bytes_limit)) {
		redis_pool_fail(c->pool, request, REDIS_RESULT_UNAVAILABLE,
				"too many commands wait for Redis");
		return;
	}
	request->started_ns = clock_boottime_ns();
	request->deadline_ms = request->started_ns / 1000000 + options->command_timeout_ms;
	c->pool->stats.sent++;
	c->unused = 0;
	redis_queue_push(c->replicates ? &c->unsent : &c->queue, request);
	if (c->state == REDIS_CONNECTION_READY && c->replicates)
		redis_connection_schedule_flush(c);
	else if (c->state == REDIS_CONNECTION_READY)
		redis_connection_append(c, request);
	if (c->timer_ms == 0 || request->deadline_ms < c->timer_ms)
		set_timer(c, request->deadline_ms);
}

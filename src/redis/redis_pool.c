/* SPDX-License-Identifier: ISC */
/*
 * The pool: its connections, which of them a call takes, and the answers that
 * come without Redis. Runs in workers. Those answers and on_state leave from
 * one deferred event, so that no caller is called back from inside a call.
 */
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "keepsock/alloc.h"
#include "keepsock/magic.h"
#include "keepsock/secret.h"
#include "redis_connection_parts.h"
#include "redis_pool.h"

const char *redis_result_name(enum redis_result result)
{
	static const char *const names[] = {
#define X(name, text) [REDIS_RESULT_##name] = (text),
		REDIS_RESULTS(X)
#undef X
	};

	return names[result];
}

/* -- answers without Redis ----------------------------------------------- */

static void wake_deferred(struct redis_pool *pool)
{
	/* A timer and no event_active(): a caller that calls again from its callback
	 * while Redis is away must not keep the loop in one turn. */
	static const struct timeval at_once = {0, 0};

	if (pool->destroyed)
		return;
	if (evtimer_add(pool->deferred, &at_once) != 0)
		abort(); /* only out of memory */
}

void redis_pool_fail(struct redis_pool *pool, struct redis_request *request, enum redis_result code,
		     const char *text)
{
	request->failure = code;
	request->failure_text = text;
	redis_queue_push(&pool->failed, request);
	wake_deferred(pool);
}

static void finish_failed(struct redis_pool *pool, struct redis_request *request)
{
	if (request->finish) {
		pool->stats.unavailable += request->failure == REDIS_RESULT_UNAVAILABLE;
		pool->stats.timeouts += request->failure == REDIS_RESULT_TIMEOUT;
		pool->stats.errors += request->failure == REDIS_RESULT_ERROR;
		request->finish(request, request->failure, request->failure_text, NULL);
	}
	redis_request_free(request);
}

/* Tells of a change, of the run too. */
static void report_state(struct redis_pool *pool)
{
	bool available = redis_pool_available(pool);

	if (available == pool->reported &&
	    (!available || strcmp(pool->run, pool->reported_run) == 0))
		return;
	pool->reported = available;
	memcpy(pool->reported_run, pool->run, sizeof(pool->run));
	if (pool->on_state)
		pool->on_state(pool->ctx, available);
}

static void on_deferred(evutil_socket_t fd, short what, void *ctx)
{
	struct redis_pool *pool = ctx;
	struct redis_request *last;
	bool is_last = !pool->failed.first;

	(void)fd;
	(void)what;
	MAGIC_CHECK(pool, REDIS_POOL_MAGIC);
	redis_pool_enter(pool);
	report_state(pool);
	/* Those that are here now; what fails meanwhile has its own turn. */
	last = pool->failed.last;
	while (!is_last && pool->failed.first) {
		struct redis_request *request = redis_queue_pop(&pool->failed);

		is_last = request == last;
		finish_failed(pool, request);
	}
	redis_pool_leave(pool);
}

void redis_pool_on_ready_change(struct redis_pool *pool)
{
	wake_deferred(pool);
}

void redis_pool_on_ready(struct redis_pool *pool, const struct redis_connection *newest)
{
	memcpy(pool->run, newest->run, sizeof(pool->run));
	for (unsigned i = 0; i < pool->n_connections; i++) {
		struct redis_connection *other = &pool->connections[i];

		if (other->state == REDIS_CONNECTION_READY && strcmp(other->run, pool->run) != 0)
			redis_connection_lose(other, false, "another run of Redis answers now");
	}
	redis_pool_try_replacing(pool);
}

void redis_pool_lose_ready(struct redis_pool *pool, const char *reason)
{
	for (unsigned i = 0; i < pool->n_connections; i++) {
		if (pool->connections[i].state == REDIS_CONNECTION_READY)
			redis_connection_lose(&pool->connections[i], true, reason);
	}
}

/* -- life ---------------------------------------------------------------- */

static char *copy_or_null(const char *text)
{
	return text && text[0] ? xstrdup(text) : NULL;
}

static void free_endpoint(struct redis_pool *pool)
{
	if (pool->password)
		secret_wipe(pool->password, strlen(pool->password));
	free(pool->host);
	free(pool->user);
	free(pool->password);
}

static void copy_endpoint(struct redis_pool *pool, const struct redis_endpoint *endpoint)
{
	pool->host = xstrdup(endpoint->host);
	pool->port = endpoint->port;
	pool->user = copy_or_null(endpoint->user);
	pool->password = copy_or_null(endpoint->password);
	pool->db = endpoint->db;
}

static void set_defaults(struct redis_pool_options *options)
{
	if (options->size == 0)
		options->size = 2;
	if (options->command_timeout_ms == 0)
		options->command_timeout_ms = 3000;
	if (options->connect_timeout_ms == 0)
		options->connect_timeout_ms = 1000;
	if (options->reconnect_max_delay_ms == 0)
		options->reconnect_max_delay_ms = 2000;
	if (options->waiting_limit == 0)
		options->waiting_limit = 4096;
	if (options->waiting_bytes_limit == 0)
		options->waiting_bytes_limit = 16 * 1024 * 1024;
	if (options->min_replicas_timeout_ms == 0)
		options->min_replicas_timeout_ms = 1000;
}

static void make_connections(struct redis_pool *pool)
{
	pool->n_slots = pool->options.size + (pool->options.min_replicas > 0);
	pool->n_connections = pool->n_slots + pool->options.max_overflow + 1;
	pool->connections = xcalloc(pool->n_connections, sizeof(*pool->connections));
	pool->slots = xcalloc(pool->n_slots, sizeof(struct redis_connection *));
	for (unsigned i = 0; i < pool->n_connections; i++)
		redis_connection_init(&pool->connections[i], pool, i);
	for (unsigned i = 0; i < pool->n_slots; i++) {
		pool->slots[i] = &pool->connections[i];
		redis_connection_open(pool->slots[i], REDIS_ROLE_SLOT, i);
	}
}

struct redis_pool *redis_pool_create(struct event_base *base, const struct redis_endpoint *endpoint,
				     const struct redis_pool_options *options,
				     redis_state_callback on_state, void *ctx)
{
	struct redis_pool *pool = xcalloc(1, sizeof(*pool));

	pool->magic = REDIS_POOL_MAGIC;
	pool->base = base;
	pool->options = *options;
	set_defaults(&pool->options);
	copy_endpoint(pool, endpoint);
	pool->on_state = on_state;
	pool->ctx = ctx;
	pool->deferred = evtimer_new(base, on_deferred, pool);
	if (!pool->deferred)
		abort(); /* only out of memory */
	make_connections(pool);
	return pool;
}

static void finish_all_failed(struct redis_pool *pool)
{
	struct redis_request *request;

	while ((request = redis_queue_pop(&pool->failed)))
		finish_failed(pool, request);
}

static void free_pool(struct redis_pool *pool)
{
	/* Calls that callbacks made after redis_pool_destroy(). */
	finish_all_failed(pool);
	if (pool->dns)
		evdns_base_free(pool->dns, 1);
	event_free(pool->deferred);
	free(pool->connections);
	free(pool->slots);
	free_endpoint(pool);
	pool->magic = 0;
	free(pool);
}

void redis_pool_enter(struct redis_pool *pool)
{
	pool->depth++;
}

void redis_pool_leave(struct redis_pool *pool)
{
	if (--pool->depth == 0 && pool->destroyed)
		free_pool(pool);
}

void redis_pool_destroy(struct redis_pool *pool)
{
	if (!pool)
		return;
	MAGIC_CHECK(pool, REDIS_POOL_MAGIC);
	if (pool->destroyed)
		return;
	redis_pool_enter(pool);
	pool->destroyed = true;
	event_del(pool->deferred);
	for (unsigned i = 0; i < pool->n_connections; i++)
		redis_connection_release(&pool->connections[i]);
	finish_all_failed(pool);
	redis_pool_leave(pool);
}

void redis_pool_set_endpoint(struct redis_pool *pool, const struct redis_endpoint *endpoint)
{
	struct redis_pool old = *pool;

	MAGIC_CHECK(pool, REDIS_POOL_MAGIC);
	if (pool->destroyed)
		return;
	/* The new one may point into the old one. */
	copy_endpoint(pool, endpoint);
	free_endpoint(&old);
	pool->spare_after_ms = 0;
	for (unsigned i = 0; i < pool->n_connections; i++)
		redis_connection_restart(&pool->connections[i]);
}

/* -- calls --------------------------------------------------------------- */

static struct redis_connection *own_connection(const struct redis_pool *pool, uint64_t affinity)
{
	/* Callers may hand in counters: spread them too (Knuth's multiplicative hash). */
	uint64_t hash = (affinity * UINT64_C(0x9e3779b97f4a7c15)) >> 32;

	return pool->slots[hash % pool->options.size];
}

bool redis_pool_takes(const struct redis_pool *pool, uint64_t affinity)
{
	MAGIC_CHECK(pool, REDIS_POOL_MAGIC);
	return !own_connection(pool, affinity)->away;
}

void redis_pool_submit(struct redis_pool *pool, uint64_t affinity, struct redis_request *request)
{
	MAGIC_CHECK(pool, REDIS_POOL_MAGIC);
	request->pool = pool;
	if (affinity == REDIS_ANY && !pool->destroyed)
		redis_connection_submit(redis_pool_least_busy(pool), request);
	else
		redis_connection_submit(own_connection(pool, affinity), request);
}

void redis_pool_submit_publish(struct redis_pool *pool, uint64_t affinity,
			       struct redis_request *request)
{
	MAGIC_CHECK(pool, REDIS_POOL_MAGIC);
	request->pool = pool;
	if (pool->options.min_replicas > 0)
		redis_connection_submit(pool->slots[pool->options.size], request);
	else
		redis_pool_submit(pool, affinity, request);
}

static unsigned count_ready(const struct redis_pool *pool, unsigned from, unsigned to)
{
	unsigned n = 0;

	for (unsigned i = from; i < to; i++)
		n += pool->slots[i]->state == REDIS_CONNECTION_READY;
	return n;
}

bool redis_pool_available(const struct redis_pool *pool)
{
	unsigned size = pool->options.size;

	return count_ready(pool, 0, size) > 0 &&
	       count_ready(pool, size, pool->n_slots) == pool->n_slots - size;
}

const char *redis_pool_run_id(const struct redis_pool *pool)
{
	return redis_pool_available(pool) ? pool->run : "";
}

void redis_pool_note_error(struct redis_pool *pool, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(pool->stats.last_error, sizeof(pool->stats.last_error), fmt, args);
	va_end(args);
}

void redis_pool_watch_sequence(struct redis_pool *pool, uint64_t *highest)
{
	pool->highest_sequence = highest;
}

void redis_request_saw_sequence(const struct redis_request *request, uint64_t sequence)
{
	uint64_t *highest = request->pool->highest_sequence;

	/* One store: whoever takes over after us finds it too. */
	if (highest && sequence > *highest)
		atomic_store_explicit((_Atomic uint64_t *)highest, sequence, memory_order_release);
}

void redis_pool_stats(const struct redis_pool *pool, struct redis_pool_stats *stats)
{
	MAGIC_CHECK(pool, REDIS_POOL_MAGIC);
	*stats = pool->stats;
	stats->size = pool->n_slots;
	stats->connected = count_ready(pool, 0, pool->n_slots);
	stats->overflow = redis_pool_count_overflow(pool);
	stats->waiting = pool->failed.count;
	for (unsigned i = 0; i < pool->n_connections; i++)
		stats->waiting += redis_connection_waiting(&pool->connections[i]);
}

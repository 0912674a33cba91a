/* SPDX-License-Identifier: ISC */
/*
 * The pool's connections beyond its slots: overflow, opened while all others
 * are busy and closed when nobody needed it for a while, and replacements of
 * connections that have become old. Runs in workers. A replacement takes a slot
 * over between two commands of it, so that their order stays; it never leaves a
 * slot without a connection.
 */
#include <limits.h>

#include "keepsock/clock.h"
#include "keepsock/random.h"
#include "redis_connection_parts.h"
#include "redis_pool.h"

#define BUSY_AT            16 /* unanswered calls, on the least busy connection */
#define IDLE_PHASES        3  /* of command_timeout_ms each, before overflow is closed */
#define RECYCLE_SPREAD_PCT 10 /* so that connections made together do not end together */

static struct redis_connection *find_role(struct redis_pool *pool, enum redis_connection_role role)
{
	for (unsigned i = 0; i < pool->n_connections; i++) {
		if (pool->connections[i].role == role)
			return &pool->connections[i];
	}
	return NULL;
}

unsigned redis_pool_count_overflow(const struct redis_pool *pool)
{
	unsigned n = 0;

	for (unsigned i = 0; i < pool->n_connections; i++)
		n += pool->connections[i].role == REDIS_ROLE_OVERFLOW;
	return n;
}

/* One at a time, and after a failure not at once again. */
static void open_overflow(struct redis_pool *pool)
{
	if (redis_pool_count_overflow(pool) >= pool->options.max_overflow ||
	    clock_boottime_ms() < pool->spare_after_ms)
		return;
	for (unsigned i = 0; i < pool->n_connections; i++) {
		if (pool->connections[i].role == REDIS_ROLE_OVERFLOW &&
		    pool->connections[i].state != REDIS_CONNECTION_READY)
			return;
	}
	redis_connection_open(find_role(pool, REDIS_ROLE_NONE), REDIS_ROLE_OVERFLOW, 0);
}

/* Any that is ready is better than any that is not, and those better than one that is away. */
static unsigned load_of(const struct redis_connection *c)
{
	if (c->away)
		return UINT_MAX;
	if (c->state != REDIS_CONNECTION_READY)
		return UINT_MAX / 2 + redis_connection_waiting(c);
	return redis_connection_waiting(c);
}

struct redis_connection *redis_pool_least_busy(struct redis_pool *pool)
{
	struct redis_connection *best = pool->slots[0];

	for (unsigned i = 0; i < pool->n_connections; i++) {
		struct redis_connection *c = &pool->connections[i];
		bool usable = c->role == REDIS_ROLE_SLOT || (c->role == REDIS_ROLE_OVERFLOW &&
							     c->state == REDIS_CONNECTION_READY);

		if (usable && !c->replicates && load_of(c) < load_of(best))
			best = c;
	}
	if (best->state == REDIS_CONNECTION_READY && redis_connection_waiting(best) >= BUSY_AT)
		open_overflow(pool);
	return best;
}

uint64_t redis_pool_recycle_at(const struct redis_pool *pool, uint64_t now_ms)
{
	uint64_t age = pool->options.recycle_ms;
	uint64_t spread = age / 100 * RECYCLE_SPREAD_PCT;

	if (age == 0)
		return UINT64_MAX;
	return now_ms + age -
	       random_below((uint32_t)(spread < UINT32_MAX ? spread : UINT32_MAX - 1) + 1);
}

void redis_pool_on_spare_lost(struct redis_pool *pool)
{
	pool->spare_after_ms = clock_boottime_ms() + pool->options.reconnect_max_delay_ms;
}

bool redis_pool_on_ready_phase_end(struct redis_pool *pool, struct redis_connection *c,
				   uint64_t now_ms)
{
	if (c->role == REDIS_ROLE_OVERFLOW && c->unused >= IDLE_PHASES &&
	    redis_connection_is_idle(c)) {
		redis_connection_close(c, "");
		return true;
	}
	if (c->role == REDIS_ROLE_SLOT && now_ms >= c->recycle_at_ms &&
	    now_ms >= pool->spare_after_ms && !find_role(pool, REDIS_ROLE_REPLACEMENT))
		redis_connection_open(find_role(pool, REDIS_ROLE_NONE), REDIS_ROLE_REPLACEMENT,
				      c->slot);
	return false;
}

void redis_pool_try_replacing(struct redis_pool *pool)
{
	struct redis_connection *fresh = find_role(pool, REDIS_ROLE_REPLACEMENT);
	struct redis_connection *old;

	if (pool->destroyed || !fresh || fresh->state != REDIS_CONNECTION_READY)
		return;
	old = pool->slots[fresh->slot];
	if (old->state != REDIS_CONNECTION_READY) {
		/* It was lost meanwhile and is made anew anyway. */
		redis_connection_close(fresh, "");
	} else if (redis_connection_is_idle(old)) {
		pool->slots[fresh->slot] = fresh;
		fresh->role = REDIS_ROLE_SLOT;
		pool->stats.recycled++;
		redis_connection_close(old, "");
	}
}

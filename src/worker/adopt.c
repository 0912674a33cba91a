/* SPDX-License-Identifier: ISC */
/*
 * Going on where another worker stopped: the order of the steps, each in a file
 * of its own. Run by the worker, once at its start. After a goodbye the first two
 * come in front of the others, and 3 and 4 have nothing to do. Dying in the middle leaves
 * an arena that the next one adopts the same way; before the keeper is told,
 * nothing but the arena was changed.
 *
 *	 1. the arena: converted if its layout is older, mapped, the commit under way
 *	    completed, checked, repaired
 *	 2. sockets: handed over by the keeper, one for each passport
 *	 3. who is to blame, if anybody
 *	 4. what was in doubt, settled with the kernel's word: every position is exact
 *	 5. Redis: subscription connections go on where their passports stand
 *	 6. the fan-out under way goes on behind its cursor
 *	 7. connections: heap halves, timers, users, gauges, who is still to be told
 *	    of a loss; what waits in a passport (input, commands, output) has its turn
 *	    in the first loop turn, and a command without a committed reply runs again
 *	 8. what Redis keeps under our name for clients that are gone is removed
 */
#include "worker/adopt.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "keepsock/alloc.h"
#include "keepsock/arena_layout.h"
#include "keepsock/clock.h"
#include "keepsock/crash_points.h"
#include "keepsock/log.h"
#include "keepsock/node_events.h"
#include "worker/adopt_private.h"
#include "worker/deposits.h"
#include "worker/fanout.h"
#include "worker/lost_subscribers.h"
#include "worker/redis_subscription.h"
#include "worker/remains.h"
#include "worker/sessions.h"
#include "worker/shards.h"
#include "worker/tls_linger.h"
#include "worker/tls_stream.h"

static void log_findings(const struct adoption *adoption)
{
	const struct arena_adoption *found = &adoption->found;

	if (found->violations == 0)
		return;
	log_error("arena_damaged violations=%llu passports_lost=%llu channels_lost=%llu "
		  "unplaced=%llu fanout_lost=%d work_lost=%d",
		  (unsigned long long)found->violations, (unsigned long long)found->passports_lost,
		  (unsigned long long)found->channels_lost, (unsigned long long)found->unplaced,
		  (int)found->fanout_lost, (int)found->work_lost);
	log_error("arena_damage report=%s", log_value(buffer_slice(&found->report)));
}

/*
 * One of an older layout is left as it is: what we adopt is a converted copy,
 * which the keeper gets with the word that we have adopted. NULL with *error.
 */
static struct arena *adopt_any_layout(struct worker *w, int arena_fd, const char **error)
{
	uint64_t began = clock_boottime_ns();
	struct arena *arena;
	int converted;

	switch (arena_convert(arena_fd, &converted, error)) {
	case ARENA_CONVERSION_NEEDLESS: return arena_adopt(arena_fd, error);
	case ARENA_CONVERSION_REFUSED: return NULL;
	case ARENA_CONVERSION_DONE: break;
	}
	arena = arena_adopt(converted, error);
	close(converted);
	if (arena) {
		deposits_arena_is_new(w->deposits);
		log_info("arena_converted layout=%u us=%llu", ARENA_LAYOUT_VERSION,
			 (unsigned long long)(clock_boottime_ns() - began) / 1000);
	}
	return arena;
}

/* False: the keeper was told that it is of no use. */
static bool take_arena(struct adoption *adoption, int arena_fd)
{
	struct worker *w = adoption->worker;
	const char *error = NULL;

	w->arena = adopt_any_layout(w, arena_fd, &error);
	close(arena_fd);
	if (w->arena)
		return true;
	log_error("arena_not_adopted reason=%s", log_value_str(error));
	if (deposits_refuse(w->deposits, error) < 0)
		log_fatal("keeper_channel_failed error=%s", log_value_str(strerror(errno)));
	return false;
}

static void read_arena(struct adoption *adoption)
{
	struct worker *w = adoption->worker;

	hub_adopt(&w->hub, w->arena, &adoption->found);
	passport_draft_init(&w->draft, w->arena);
	tls_stream_attach(w);
	users_init(&w->users, w->arena, w->page, w->start.slot);
	log_findings(adoption);
}

static struct adoption *create(struct worker *w)
{
	struct adoption *adoption = xcalloc(1, sizeof(*adoption));

	adoption->worker = w;
	adoption->began_ns = clock_boottime_ns();
	adoption->handshakes = -1;
	for (unsigned i = 0; i < ARENA_SHARDS_MAX; i++)
		adoption->redis_fds[i] = -1;
	return adoption;
}

struct adoption *adopt_begin(struct worker *w, int arena_fd)
{
	struct adoption *adoption = create(w);

	if (!take_arena(adoption, arena_fd)) {
		free(adoption);
		return NULL;
	}
	read_arena(adoption);
	if (!adopt_sockets(adoption))
		log_fatal("keeper_channel_failed error=%s", log_value_str(strerror(errno)));
	adopt_judge(adoption);
	adopt_settle(adoption);
	return adoption;
}

/* Who says goodbye has left nothing half done, and did not die of anything. */
struct adoption *adopt_take_over(struct worker *w, int arena_fd)
{
	struct adoption *adoption = create(w);

	adoption->takeover = w->takeover;
	w->arena = adopt_prepared_arena(adoption, arena_fd);
	if (w->arena->converted)
		deposits_arena_is_new(w->deposits);
	worker_claim_slot(w);
	worker_now(w);
	arena_store((void *)&w->arena->header->work.serving, 0);
	read_arena(adoption);
	adopt_held_sockets(adoption);
	return adoption;
}

static void adopt_shards(struct adoption *adoption)
{
	struct worker *w = adoption->worker;
	bool whole = true;
	struct channel *channel = fanout_adopt(w->fanout, &whole);

	if (channel)
		redis_subscription_adopt_fanout(worker_channel_shard(w, channel)->subscription,
						channel);
	if (channel && !whole)
		adoption->guilty_batch = true;
	for (unsigned i = 0; i < w->shard_count; i++) {
		arena_ref passport = (arena_ref)w->shards[i].record->passport;

		/* What Redis thinks is subscribed may be something else. */
		if (adoption->found.states_lost && passport)
			adopt_drop_socket(adoption, passport);
		(void)redis_subscription_adopt(w->shards[i].subscription, adoption->redis_fds[i]);
	}
}

static int tell_keeper(const struct adoption *adoption)
{
	const struct keeper_adopted adopted = {adoption->connections, adoption->lost};
	const struct keeper_committed committed = {
		.takeover = adoption->takeover,
		.at_ns = clock_boottime_ns(),
		.connections = adoption->connections,
		.lost = adoption->lost,
	};
	int result;

	if (!adoption->takeover)
		return deposits_adopted(adoption->worker->deposits, &adopted);
	crash_point(CRASH_TAKEOVER_ADOPTED);
	result = deposits_committed(adoption->worker->deposits, &committed);
	crash_point(CRASH_TAKEOVER_COMMITTED);
	return result;
}

static void tell(struct adoption *adoption)
{
	uint64_t us = (clock_boottime_ns() - adoption->began_ns) / 1000;

	/* A keeper that died meanwhile is replaced, and everything is deposited with the next one.
	 */
	if (tell_keeper(adoption) < 0)
		log_warning("keeper_channel_failed error=%s", log_value_str(strerror(errno)));
	metric_add(METRIC_takeover_adoptions_total, 1);
	metric_add(METRIC_takeover_connections_total, adoption->connections);
	metric_add(METRIC_takeover_connections_lost_total, adoption->lost);
	metric_set(METRIC_takeover_microseconds, us);
	node_event_add(NODE_EVENT_ADOPTED, "of worker %d: %u connections, %u lost, %llu us",
		       (int)adoption->end.pid, adoption->connections, adoption->lost,
		       (unsigned long long)us);
	log_info("adopted predecessor=%d connections=%u lost=%u channels=%llu subscriptions=%llu "
		 "us=%llu check_us=%llu",
		 (int)adoption->end.pid, adoption->connections, adoption->lost,
		 (unsigned long long)adoption->found.channels,
		 (unsigned long long)adoption->found.subscriptions, (unsigned long long)us,
		 (unsigned long long)adoption->found.duration_us);
}

void adopt_finish(struct adoption *adoption)
{
	struct worker *w = adoption->worker;

	adopt_shards(adoption);
	adopt_connections(adoption);
	lost_subscribers_adopt(w);
	adopt_punish(adoption);
	sessions_register_all(w);
	remains_look(w);
	if (adoption->handshakes >= 0)
		tls_linger_follow(w, adoption->handshakes);
	tell(adoption);
	arena_adoption_free(&adoption->found);
	free(adoption);
}

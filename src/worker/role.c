/* SPDX-License-Identifier: ISC */
/*
 * The node's role in a worker, see role.h. Run by the worker. Redis decides who is
 * fenced (scripts/include/fence.lua); here it is only found out.
 */
#include "worker/role.h"

#include <stdlib.h>
#include <unistd.h>

#include "keepsock/alloc.h"
#include "keepsock/clock.h"
#include "keepsock/ipc.h"
#include "keepsock/log.h"
#include "keepsock/node_events.h"
#include "keepsock/node_role.h"
#include "worker/control.h"
#include "worker/drain.h"
#include "worker/shards.h"

/* How often a primary has its epoch kept, and learns that another one is. */
#define LOOK_MS 1000u
/* A shard that does not answer a raise by then counts as away; less than inquiries wait. */
#define RAISE_MS 1200u

/* --- what it allows --- */

bool role_serves(const struct worker *w)
{
	return w->settings.cluster.active_active || node_role_get(w->page).role != NODE_STANDBY;
}

const char *role_refusal(const struct worker *w)
{
	if (!role_serves(w))
		return "standby: clients are served by the primary";
	if (node_drain_until(w->page))
		return "draining";
	return NULL;
}

const char *role_not_ready_reason(const struct worker *w)
{
	if (!w->settings.cluster.active_active && node_role_is_fenced(w->page))
		return "fenced: another node has been promoted";
	return NULL;
}

uint64_t role_epoch(const struct worker *w)
{
	struct node_role_view view = node_role_get(w->page);

	return view.role == NODE_PRIMARY && !w->settings.cluster.active_active ? view.epoch : 0;
}

struct redis_fence role_fence(const struct worker *w)
{
	if (!role_serves(w))
		return (struct redis_fence){.closed = "this node is a standby"};
	return (struct redis_fence){.epoch = role_epoch(w)};
}

uint64_t role_accept_rate(const struct worker *w)
{
	uint64_t rate = (uint64_t)w->settings.cluster.accept_rate;

	if (rate == 0 || role_epoch(w) == 0 ||
	    clock_boottime_ms() >=
		    node_role_since(w->page) + (uint64_t)w->settings.cluster.accept_rate_time)
		return 0;
	return rate;
}

/* --- is another node the primary? --- */

struct look {
	struct worker *worker;
	uint64_t epoch;
	unsigned shard;
};

static void on_looked(void *ctx, const struct redis_count_result *result)
{
	struct look *look = ctx;
	struct worker *w = look->worker;

	if (result->outcome.code == REDIS_RESULT_FENCED &&
	    node_role_set_fenced(w->page, look->epoch)) {
		log_error("fenced shard=%u epoch=%llu text=%s", look->shard,
			  (unsigned long long)look->epoch,
			  log_value_str("another node has been promoted: nothing is published"));
		node_event_add(NODE_EVENT_FENCED, "shard %u, epoch %llu", look->shard,
			       (unsigned long long)look->epoch);
	}
	w->role.looking--;
	free(look);
}

/* Also keeps the epoch in data that went back in time. */
static void look_at_all(struct worker *w)
{
	uint64_t epoch = role_epoch(w);

	w->role.look_at_ms = w->now_ms + LOOK_MS;
	if (epoch == 0 || w->role.looking > 0)
		return;
	for (unsigned i = 0; i < w->shard_count; i++) {
		struct look *look = xcalloc(1, sizeof(*look));

		*look = (struct look){w, epoch, i};
		w->role.looking++;
		redis_role_raise(w->shards[i].pool, epoch, on_looked, look);
	}
}

void role_note(struct worker *w, const struct redis_outcome *outcome)
{
	if (outcome->code != REDIS_RESULT_FENCED)
		return;
	metric_add(METRIC_role_fenced_total, 1);
	/* It may have been sent with the epoch of an earlier promotion. */
	if (!node_role_is_fenced(w->page))
		look_at_all(w);
}

/* --- raising the epoch for a promotion --- */

enum raise_outcome { RAISE_DUE, RAISE_DONE, RAISE_REFUSED, RAISE_AWAY };

struct role_raise {
	struct role_raise *next;
	struct worker *worker;
	uint64_t id;
	uint64_t deadline_ms; /* 0: answered */
	unsigned due;         /* answers of shards */
	unsigned count;
	struct role_raised {
		struct role_raise *raise;
		enum raise_outcome outcome;
		uint64_t kept;
	} shards[];
};

static void answer(struct role_raise *raise)
{
	static const char *const names[] = {[RAISE_DUE] = "away",
					    [RAISE_DONE] = "ok",
					    [RAISE_REFUSED] = "refused",
					    [RAISE_AWAY] = "away"};
	json_t *rows = json_array();

	for (unsigned i = 0; i < raise->count; i++)
		json_array_append_new(rows, json_pack("{s:i, s:s, s:I}", "shard", (int)i, "outcome",
						      names[raise->shards[i].outcome], "role_epoch",
						      (json_int_t)raise->shards[i].kept));
	raise->deadline_ms = 0;
	control_reply(raise->worker, raise->id, control_rows(rows));
}

static void raise_free(struct role_raise *raise)
{
	struct role_raise **link = &raise->worker->role.raises;

	while (*link != raise)
		link = &(*link)->next;
	*link = raise->next;
	free(raise);
}

static void on_raised(void *ctx, const struct redis_count_result *result)
{
	struct role_raised *raised = ctx;
	struct role_raise *raise = raised->raise;

	raised->outcome = result->outcome.code == REDIS_RESULT_OK       ? RAISE_DONE
			  : result->outcome.code == REDIS_RESULT_FENCED ? RAISE_REFUSED
									: RAISE_AWAY;
	raised->kept = result->count;
	if (--raise->due > 0)
		return;
	if (raise->deadline_ms)
		answer(raise);
	raise_free(raise);
}

/* NULL: the answer comes later. An epoch of 0 raises nothing: what is kept is told. */
json_t *control_role(struct worker *w, uint64_t id, json_t *args)
{
	json_int_t epoch = json_integer_value(json_object_get(args, "epoch"));
	struct role_raise *raise =
		xcalloc(1, sizeof(*raise) + w->shard_count * sizeof(raise->shards[0]));

	*raise = (struct role_raise){
		.next = w->role.raises,
		.worker = w,
		.id = id,
		.deadline_ms = w->now_ms + RAISE_MS,
		.due = w->shard_count,
		.count = w->shard_count,
	};
	w->role.raises = raise;
	for (unsigned i = 0; i < w->shard_count; i++) {
		raise->shards[i].raise = raise;
		redis_role_raise(w->shards[i].pool, (uint64_t)epoch, on_raised, &raise->shards[i]);
	}
	return NULL;
}

/* --- changes --- */

/* Those that the workers of a primary share come last. */
static void set_shared_listeners(struct worker *w, int *fds, size_t count)
{
	while (w->listener_count > 0 && w->listeners[w->listener_count - 1].shared)
		worker_listener_close(&w->listeners[--w->listener_count]);
	for (size_t i = 0; i < count; i++) {
		if (w->stopping || w->move_out || w->listener_count == IPC_START_LISTENERS_MAX)
			close(fds[i]);
		else
			worker_listener_open(w, fds[i], true);
	}
}

void role_on_message(struct worker *w, struct ipc_message *message)
{
	set_shared_listeners(w, message->fds, message->nfds);
	message->nfds = 0;
	drain_look(w);
}

void role_tick(struct worker *w)
{
	for (struct role_raise *raise = w->role.raises; raise; raise = raise->next) {
		if (raise->deadline_ms && w->now_ms >= raise->deadline_ms)
			answer(raise);
	}
	if (w->now_ms >= w->role.look_at_ms)
		look_at_all(w);
	metric_set(METRIC_role_fenced, node_role_is_fenced(w->page));
	drain_look(w);
}

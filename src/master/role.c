/* SPDX-License-Identifier: ISC */
/*
 * Changes of the node's role, see role.h. Runs in the master. The role itself is
 * one word of the node page, which all workers read: what is sent to them besides
 * only makes them look at once.
 */
#include "master/role.h"

#include <event2/event.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "keepsock/admin.h"
#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/clock.h"
#include "keepsock/inquiry.h"
#include "keepsock/log.h"
#include "keepsock/magic.h"
#include "keepsock/master.h"
#include "keepsock/node_page.h"
#include "keepsock/worker_slot.h"
#include "master/admin_answers.h"
#include "master/reload.h"

#define ROLE_CHANGE_MAGIC UINT32_C(0x524f4c45) /* "ROLE" */

/*
 * An address that another node had is tried again, and a node that just started waits for the
 * first worker to be ready, for so long together, so often.
 */
#define PROMOTE_MS 3000
#define RETRY_MS   50
/* A worker that hangs is waited for so long beyond the drain itself. */
#define DRAIN_PATIENCE_MS 3000

enum role_step { STEP_BINDING, STEP_RAISING, STEP_DRAINING };

struct role_change {
	uint32_t magic;
	struct master *master;
	struct admin_request *request; /* NULL: gone */
	enum role_step step;
	uint64_t epoch;
	uint64_t begun_ms;
	uint64_t deadline_ms;
	uint64_t inquiry; /* under way; 0 = none */
	struct event *timer;
};

/* ---- what is known of it ---- */

void role_update_metrics(const struct master *master)
{
	struct node_role_view view = node_role_get(master->page);

	metric_set(METRIC_role_primary, view.role != NODE_STANDBY);
	metric_set(METRIC_role_epoch, view.epoch);
}

void role_init(struct master *master)
{
	node_role_set(master->page,
		      settings_have_roles(&master->settings) ? NODE_STANDBY : NODE_STANDALONE, 0,
		      clock_boottime_ms());
}

json_t *role_view(const struct master *master)
{
	struct node_role_view view = node_role_get(master->page);
	uint64_t now = clock_boottime_ms();
	uint64_t until = node_drain_until(master->page);

	return json_pack("{s:s, s:I, s:I, s:b, s:b, s:b, s:I}", "role", node_role_name(view.role),
			 "epoch", (json_int_t)view.epoch, "since_s",
			 (json_int_t)((now - node_role_since(master->page)) / 1000), "fenced",
			 (int)node_role_is_fenced(master->page), "active_active",
			 (int)master->settings.cluster.active_active, "draining", (int)(until != 0),
			 "drain_left_ms", (json_int_t)(until > now ? until - now : 0));
}

/* ---- telling everybody ---- */

static void tell_workers(struct master *master)
{
	for (uint32_t i = 0; i < master->worker_count; i++) {
		worker_slot_update(&master->workers[i]);
		worker_slot_tell_role(&master->workers[i]);
	}
	role_update_metrics(master);
}

static void set_role(struct master *master, enum node_role role, uint64_t epoch, uint64_t ms)
{
	struct node_role_view before = node_role_get(master->page);

	node_role_set(master->page, role, epoch, clock_boottime_ms());
	log_info("role change=%s->%s epoch=%" PRIu64 " ms=%" PRIu64, node_role_name(before.role),
		 node_role_name(role), epoch, ms);
	node_event_add(role == NODE_PRIMARY ? NODE_EVENT_PROMOTED : NODE_EVENT_DEMOTED,
		       "epoch %" PRIu64, epoch);
}

/* ---- a change ---- */

static void change_free(struct role_change *change)
{
	change->master->role_change = NULL;
	inquiry_cancel(change->master, change->inquiry);
	if (change->request)
		admin_request_wait(change->request, NULL, NULL);
	event_free(change->timer);
	change->magic = 0;
	free(change);
}

static void answer(struct role_change *change)
{
	struct admin_request *request = change->request;
	json_t *view = role_view(change->master);

	change_free(change);
	if (request)
		admin_answer_object(request, view);
	else
		json_decref(view);
}

/* A promotion that is not one. */
static void fail(struct role_change *change, const char *reason)
{
	struct admin_request *request = change->request;
	struct master *master = change->master;
	bool drop =
		change->step != STEP_DRAINING && node_role_get(master->page).role == NODE_STANDBY;

	log_warning("role_change_failed epoch=%" PRIu64 " reason=%s", change->epoch,
		    log_value_str(reason));
	change_free(change);
	if (drop)
		listeners_close_primary(&master->listeners);
	if (request)
		admin_answer_error(request, "%s", reason);
}

static void on_request_gone(void *ctx)
{
	struct role_change *change = ctx;

	MAGIC_CHECK(change, ROLE_CHANGE_MAGIC);
	change->request = NULL;
	if (change->step != STEP_DRAINING)
		fail(change, "whoever asked for it is gone");
}

static void wait_ms(struct role_change *change, uint64_t ms)
{
	const struct timeval time = {.tv_sec = (time_t)(ms / 1000),
				     .tv_usec = (suseconds_t)(ms % 1000 * 1000)};

	if (evtimer_add(change->timer, &time) < 0)
		log_fatal("role_timer_failed");
}

static void on_timer(evutil_socket_t fd, short what, void *ctx);

static struct role_change *begin(struct master *master, struct admin_request *request,
				 enum role_step step, uint64_t epoch, uint64_t limit_ms)
{
	struct role_change *change = xcalloc(1, sizeof(*change));
	uint64_t now = clock_boottime_ms();

	*change = (struct role_change){
		.magic = ROLE_CHANGE_MAGIC,
		.master = master,
		.request = request,
		.step = step,
		.epoch = epoch,
		.begun_ms = now,
		.deadline_ms = now + limit_ms,
		.timer = evtimer_new(master->base, on_timer, change),
	};
	if (!change->timer)
		log_fatal("role_timer_failed");
	master->role_change = change;
	admin_request_wait(request, on_request_gone, change);
	return change;
}

/* ---- promotion ---- */

struct raised {
	size_t ok, away;
	bool refused, answered;
};

/* A shard is raised if it is by any worker. */
static struct raised count_raised(const struct master *master, const struct inquiry_answer *answers,
				  size_t count)
{
	bool ok[REDIS_SHARDS_MAX] = {false};
	struct raised raised = {0};
	const json_t *row;
	size_t i;

	for (size_t a = 0; a < count; a++) {
		raised.answered = raised.answered || answers[a].rows;
		json_array_foreach(answers[a].rows, i, row)
		{
			const char *outcome = json_string_value(json_object_get(row, "outcome"));

			if (!outcome || i >= master->shard_count)
				continue;
			ok[i] = ok[i] || strcmp(outcome, "ok") == 0;
			raised.refused = raised.refused || strcmp(outcome, "refused") == 0;
		}
	}
	for (uint32_t shard = 0; shard < master->shard_count; shard++)
		raised.ok += ok[shard];
	raised.away = master->shard_count - raised.ok;
	return raised;
}

static void on_raised(void *ctx, const struct inquiry_answer *answers, size_t count)
{
	struct role_change *change = ctx;
	struct master *master = change->master;
	struct raised raised = count_raised(master, answers, count);

	MAGIC_CHECK(change, ROLE_CHANGE_MAGIC);
	change->inquiry = 0;
	if (raised.refused) {
		fail(change, "Redis knows a higher epoch: another node has been promoted since");
		return;
	}
	if (!raised.answered && admin_find_ready(master) == INQUIRY_ALL_WORKERS &&
	    clock_boottime_ms() < change->deadline_ms) {
		wait_ms(change, RETRY_MS);
		return;
	}
	if (!raised.answered) {
		fail(change, "no worker is ready");
		return;
	}
	if (raised.away > 0)
		log_warning("shards_not_raised count=%zu epoch=%" PRIu64 " text=%s", raised.away,
			    change->epoch,
			    log_value_str("they are away, the first script there will do it"));
	set_role(master, NODE_PRIMARY, change->epoch, clock_boottime_ms() - change->begun_ms);
	tell_workers(master);
	answer(change);
}

static void raise_epoch(struct role_change *change)
{
	const struct inquiry_question question = {
		.command = "role",
		.args = json_pack("{s:I}", "epoch", (json_int_t)change->epoch),
		.slot = INQUIRY_ALL_WORKERS,
	};

	change->step = STEP_RAISING;
	change->inquiry = inquiry_start(change->master, &question, on_raised, change);
}

static void try_binding(struct role_change *change)
{
	struct master *master = change->master;
	struct buffer error = {0};

	if (listeners_open_primary(&master->listeners, &master->settings, NULL, 0, &error) == 0)
		raise_epoch(change);
	else if (clock_boottime_ms() >= change->deadline_ms)
		fail(change, buffer_cstr(&error));
	else
		wait_ms(change, RETRY_MS);
	buffer_free(&error);
}

void role_promote(struct master *master, struct admin_request *request, uint64_t epoch)
{
	struct node_role_view view = node_role_get(master->page);

	if (view.role == NODE_PRIMARY && view.epoch == epoch)
		admin_answer_object(request, role_view(master));
	else if (epoch < view.epoch)
		admin_answer_error(request, "this node was promoted with epoch %" PRIu64 " already",
				   view.epoch);
	else if (master->role_change && master->role_change->step != STEP_DRAINING)
		admin_answer_error(request, "a promotion is under way");
	else {
		if (master->role_change)
			fail(master->role_change, "the node is promoted again");
		try_binding(begin(master, request, STEP_BINDING, epoch, PROMOTE_MS));
	}
}

/* ---- demotion ---- */

static void ask_left(struct role_change *change);

static void on_left(void *ctx, const struct inquiry_answer *answers, size_t count)
{
	struct role_change *change = ctx;
	bool done = true;

	MAGIC_CHECK(change, ROLE_CHANGE_MAGIC);
	change->inquiry = 0;
	/* The successor of one that does not answer goes on with its clients. */
	for (size_t i = 0; i < count; i++)
		done = done && answers[i].rows &&
		       json_integer_value(
			       json_object_get(json_array_get(answers[i].rows, 0), "left")) == 0;
	if (done)
		answer(change);
	else if (clock_boottime_ms() >= change->deadline_ms)
		fail(change, "not every worker has sent its clients away in time");
	else
		wait_ms(change, RETRY_MS);
}

static void ask_left(struct role_change *change)
{
	static const struct inquiry_question question = {
		.command = "drain",
		.slot = INQUIRY_ALL_WORKERS,
		.starting_too = true,
	};

	change->inquiry = inquiry_start(change->master, &question, on_left, change);
}

static void on_timer(evutil_socket_t fd, short what, void *ctx)
{
	struct role_change *change = ctx;

	(void)fd;
	(void)what;
	MAGIC_CHECK(change, ROLE_CHANGE_MAGIC);
	switch (change->step) {
	case STEP_BINDING: try_binding(change); break;
	case STEP_RAISING: raise_epoch(change); break;
	case STEP_DRAINING: ask_left(change); break;
	}
}

void role_demote(struct master *master, struct admin_request *request, bool drain)
{
	struct node_role_view view = node_role_get(master->page);
	uint64_t window = drain ? (uint64_t)master->settings.drain.window : 0;
	uint64_t until = clock_boottime_ms() + window;
	uint64_t before = node_drain_until(master->page);
	bool standby = view.role == NODE_STANDBY;

	if (master->role_change)
		fail(master->role_change, "the node is demoted");
	if (!standby) {
		/* First of all: from here on nothing is published. */
		set_role(master, NODE_STANDBY, view.epoch, 0);
		listeners_close_primary(&master->listeners);
		reload_close_primary(master);
	}
	if (master->settings.cluster.active_active) {
		tell_workers(master);
		admin_answer_object(request, role_view(master));
		return;
	}
	/* Who wants it sooner than it was wanted before gets that. */
	if (!standby || before == 0 || until < before)
		node_drain_set(master->page, until);
	tell_workers(master);
	ask_left(begin(master, request, STEP_DRAINING, view.epoch, window + DRAIN_PATIENCE_MS));
}

/* ---- a reload meanwhile ---- */

void role_on_exchange(struct master *master, const struct listeners *before)
{
	bool promoting = master->role_change && master->role_change->step != STEP_DRAINING;
	struct buffer error = {0};

	if (node_role_get(master->page).role == NODE_STANDBY && !promoting)
		listeners_close_primary(&master->listeners);
	else if (listeners_take_primary(&master->listeners, &master->settings, before, &error) < 0)
		log_error("listener_lost reason=%s", log_value_str(buffer_cstr(&error)));
	buffer_free(&error);
}

/* ---- drain ---- */

void role_drain(struct master *master, uint64_t until_ms)
{
	node_drain_set(master->page, until_ms);
	log_info("drain state=%s", until_ms ? "on" : "off");
	node_event_add(NODE_EVENT_DRAIN, "%s", until_ms ? "begun" : "ended");
	tell_workers(master);
}

void role_end(struct master *master)
{
	if (master->role_change)
		change_free(master->role_change);
}

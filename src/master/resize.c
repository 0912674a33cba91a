/* SPDX-License-Identifier: ISC */
/*
 * Changing the number of workers, see resize.h. Runs in the master's loop, after
 * all workers that stay were started with the new settings.
 *
 *	more:   start all new slots ─► all ready
 *	fewer:  the last slot: MOVING ── none left ──► STOPPING ── down ──► the one before
 *	           │   ▲                                                     │
 *	           └───┘ some left: again, after a while             as many as wanted
 *
 * A connection that can't be moved (Redis is away, say) stays where it is, and so
 * does its worker, which accepts no others; the next reload tries again.
 */
#include "master/resize.h"

#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/clock.h"
#include "keepsock/log.h"
#include "keepsock/magic.h"
#include "keepsock/master.h"
#include "keepsock/node_check.h"
#include "keepsock/node_page.h"
#include "keepsock/worker_slot.h"

/* Of them, those that are not shared by all workers. */
#define MEMBERS_MAX (IPC_START_LISTENERS_MAX - SETTINGS_LISTENERS_MAX)

#define RESIZE_MAGIC UINT32_C(0x52535a45) /* "RSZE" */

/* One move; then what is left is looked at again. */
#define MOVE_LIMIT_MS 20000u
/* Rounds over all workers that stay, with a pause between them. */
#define ATTEMPTS 5u
#define PAUSE_MS 500u
/* How often it is looked whether workers are ready, or down. */
#define LOOK_MS        50u
#define READY_LIMIT_MS 20000u

enum resize_phase { RESIZE_STARTING, RESIZE_MOVING, RESIZE_STOPPING };

struct resize {
	uint32_t magic;
	struct master *master;
	uint32_t target;
	enum resize_phase phase;
	uint64_t since_ms;
	unsigned attempts;
	uint32_t next_to; /* slots that were asked in this attempt */
	bool retired;     /* the surplus worker accepts nobody any more */
	struct event *timer;
	resize_done_fn *done;
	void *ctx;
};

uint32_t resize_target(const struct master *master)
{
	return node_worker_count(&master->settings);
}

/* The slots whose sockets a slot serves are itself and those that it stands in for. */
static bool serves(const struct master *master, uint32_t slot, uint32_t of)
{
	uint32_t target = resize_target(master);

	return of == slot || (slot < target && of >= target && of % target == slot);
}

uint32_t resize_listeners(const struct master *master, uint32_t slot, int *fds)
{
	const struct listeners *listeners = &master->listeners;
	uint32_t count = 0;

	/* Its own come first: whoever adopts them takes these for its own. */
	for (uint32_t i = 0; i < listeners->slots; i++) {
		uint32_t of = (slot + i) % listeners->slots;

		if (!serves(master, slot, of) || count + listeners->count > MEMBERS_MAX)
			continue;
		memcpy(fds + count, listeners_of_slot(listeners, of),
		       listeners->count * sizeof(int));
		count += (uint32_t)listeners->count;
	}
	return count;
}

int resize_check(const struct master *master, const struct settings *to, struct buffer *error)
{
	uint32_t target = node_worker_count(to);
	uint32_t slots = master->listeners.slots > target ? master->listeners.slots : target;
	size_t share = (slots + target - 1) / target;

	if (share * to->listener_count <= MEMBERS_MAX)
		return 0;
	buffer_printf(error,
		      "%s: %u workers can't serve the listening sockets of %u while the node "
		      "runs: stop and start it",
		      master->config_name, target, slots);
	return -1;
}

/* ---- the course of it ---- */

static void look_after(struct resize *resize, uint32_t ms)
{
	struct timeval time = {.tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000};

	if (evtimer_add(resize->timer, &time) < 0)
		log_fatal("resize_timer_failed");
}

static void enter(struct resize *resize, enum resize_phase phase)
{
	resize->phase = phase;
	resize->since_ms = clock_boottime_ms();
	resize->attempts = 0;
	resize->next_to = 0;
	resize->retired = false;
	look_after(resize, 0);
}

static void free_resize(struct resize *resize)
{
	resize->master->resize = NULL;
	event_free(resize->timer);
	resize->magic = 0;
	free(resize);
}

void resize_drop(struct master *master)
{
	struct resize *resize = master->resize;

	if (!resize)
		return;
	if (master->move.ctx == resize)
		master->move.done = NULL;
	free_resize(resize);
}

static void finish(struct resize *resize, const char *error)
{
	resize_done_fn *done = resize->done;
	void *ctx = resize->ctx;

	log_info("resized workers=%u wanted=%u error=%s", resize->master->worker_count,
		 resize->target, log_value_str(error ? error : ""));
	free_resize(resize);
	done(ctx, error);
}

static void set_count(struct master *master, uint32_t count)
{
	master->worker_count = count;
	node_page_set_workers(master->page, count);
}

/* ---- more ---- */

static void start_new(struct resize *resize)
{
	struct master *master = resize->master;

	for (uint32_t i = master->worker_count; i < resize->target; i++) {
		worker_slot_init(&master->workers[i], master, i);
		set_count(master, i + 1);
		worker_slot_start(&master->workers[i]);
	}
	enter(resize, RESIZE_STARTING);
}

static void look_at_new(struct resize *resize)
{
	struct master *master = resize->master;
	bool late = clock_boottime_ms() - resize->since_ms > READY_LIMIT_MS;
	struct buffer error = {0};

	for (uint32_t i = 0; i < master->worker_count; i++) {
		if (master->workers[i].state == WORKER_READY)
			continue;
		if (!late) {
			look_after(resize, LOOK_MS);
			return;
		}
		buffer_printf(&error, "worker %u is not ready; it is started again and again", i);
		finish(resize, buffer_cstr(&error));
		buffer_free(&error);
		return;
	}
	finish(resize, NULL);
}

/* ---- fewer ---- */

static struct worker_slot *surplus(const struct resize *resize)
{
	return &resize->master->workers[resize->master->worker_count - 1];
}

static uint64_t connections_of(const struct worker_slot *slot)
{
	return node_page_get(slot->master->page, slot->number, METRIC_connections_open);
}

static void give_up(struct resize *resize, const char *why)
{
	struct buffer error = {0};

	buffer_printf(&error, "worker %u keeps %llu connections: %s", surplus(resize)->number,
		      (unsigned long long)connections_of(surplus(resize)), why);
	finish(resize, buffer_cstr(&error));
	buffer_free(&error);
}

/* Each worker that stays is asked once in an attempt. */
static void after_move(struct resize *resize, const char *why_not)
{
	resize->next_to++;
	if (resize->next_to < resize->target)
		look_after(resize, 0);
	else if (++resize->attempts >= ATTEMPTS)
		give_up(resize, why_not);
	else {
		resize->next_to = 0;
		look_after(resize, PAUSE_MS);
	}
}

static void on_moved(void *ctx, const struct ipc_moved *moved, const char *why_not)
{
	struct resize *resize = ctx;

	MAGIC_CHECK(resize, RESIZE_MAGIC);
	(void)moved;
	resize->retired = true;
	after_move(resize, *why_not ? why_not : "others came meanwhile");
}

static void move_some(struct resize *resize)
{
	struct worker_slot *from = surplus(resize);
	uint64_t left = connections_of(from);
	uint32_t receivers = resize->target - resize->next_to;
	const struct ipc_move_out order = {
		.count = receivers > 1 ? (uint32_t)((left + receivers - 1) / receivers) : 0,
		.limit_ms = MOVE_LIMIT_MS,
		.retire = 1,
	};
	const char *problem;

	if (left == 0 && from->state == WORKER_READY && resize->retired) {
		worker_slot_stop(from, false);
		enter(resize, RESIZE_STOPPING);
		return;
	}
	problem = slot_move_begin(from, &resize->master->workers[resize->next_to], &order, on_moved,
				  resize);
	if (problem)
		after_move(resize, problem);
}

static void look_at_stopping(struct resize *resize)
{
	struct master *master = resize->master;
	struct worker_slot *slot = surplus(resize);

	if (slot->state != WORKER_DOWN) {
		look_after(resize, LOOK_MS);
		return;
	}
	set_count(master, master->worker_count - 1);
	worker_slot_free(slot);
	if (master->worker_count > resize->target)
		enter(resize, RESIZE_MOVING);
	else
		finish(resize, NULL);
}

/* ---- both ---- */

static void on_timer(evutil_socket_t fd, short what, void *ctx)
{
	struct resize *resize = ctx;

	(void)fd;
	(void)what;
	MAGIC_CHECK(resize, RESIZE_MAGIC);
	switch (resize->phase) {
	case RESIZE_STARTING: look_at_new(resize); break;
	case RESIZE_MOVING: move_some(resize); break;
	case RESIZE_STOPPING: look_at_stopping(resize); break;
	}
}

void resize_start(struct master *master, resize_done_fn *done, void *ctx)
{
	struct resize *resize = xcalloc(1, sizeof(*resize));

	*resize = (struct resize){
		.magic = RESIZE_MAGIC,
		.master = master,
		.target = resize_target(master),
		.done = done,
		.ctx = ctx,
	};
	resize->timer = evtimer_new(master->base, on_timer, resize);
	if (!resize->timer)
		log_fatal("resize_timer_failed");
	master->resize = resize;
	if (resize->target > master->worker_count)
		start_new(resize);
	else
		enter(resize,
		      resize->target < master->worker_count ? RESIZE_MOVING : RESIZE_STARTING);
}

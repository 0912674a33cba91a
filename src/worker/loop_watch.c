/* SPDX-License-Identifier: ISC */
/*
 * Watches the event loop, see loop_watch.h. Run by the worker. One clock reading
 * per callback: where one ends the next begins, or the loop turn does.
 */
#include "worker/loop_watch.h"

#include <time.h>

#include "keepsock/clock.h"
#include "keepsock/log.h"
#include "keepsock/node_page.h"
#include "worker/internal.h"

/* What fan-outs get of a loop turn; clients wait at most so long for them. */
#define SLICE_NS 5000000u
/* Cost after which the clock is looked at. */
#define SLICE_CHECK_COST 64u

static const char *const activity_names[LOOP_ACTIVITY_COUNT + 1] = {
#define ACTIVITY(symbol, name) [LOOP_##symbol] = name,
	LOOP_ACTIVITIES(ACTIVITY)
#undef ACTIVITY
		/* The time went elsewhere: the process was stopped, or the machine had no time for
		   it. */
		[LOOP_IDLE] = "outside",
};

static uint64_t cpu_ns(void)
{
	struct timespec time;

	if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time) < 0)
		return 0;
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void end_activity(struct loop_watch *watch, uint64_t now_ns)
{
	uint64_t spent = now_ns - watch->since_ns;

	if (watch->activity == LOOP_IDLE)
		return;
	watch->spent_ns[watch->activity] += spent;
	if (spent > watch->longest_ns) {
		watch->longest_ns = spent;
		watch->longest = watch->activity;
		watch->longest_subject = watch->subject;
	}
	watch->activity = LOOP_IDLE;
}

void loop_watch_start(struct worker *w, uint64_t interval_ms)
{
	uint64_t now_ms = clock_boottime_ns() / 1000000u;

	w->watch.activity = w->watch.longest = LOOP_IDLE;
	w->watch.tick_due_ms = now_ms + interval_ms;
	w->watch.window_end_ms = now_ms + 1000;
	w->watch.cpu_ns = cpu_ns();
	node_page_set_loop_due(w->watch.tick_due_ms);
}

void loop_watch_begin(struct worker *w, enum loop_activity activity)
{
	uint64_t now_ns = clock_boottime_ns();

	end_activity(&w->watch, now_ns);
	w->watch.since_ns = now_ns;
	w->watch.activity = activity;
	w->watch.subject = 0;
	w->now_ms = now_ns / 1000000u;
}

void loop_watch_subject(struct worker *w, uint64_t word)
{
	w->watch.subject = word;
}

void loop_watch_idle(struct worker *w)
{
	if (w->watch.activity != LOOP_IDLE)
		end_activity(&w->watch, clock_boottime_ns());
	w->watch.slice_end_ns = 0;
	w->watch.slice_cost = 0;
}

bool loop_slice_spent(struct worker *w, unsigned cost)
{
	struct loop_watch *watch = &w->watch;
	uint64_t now_ns;

	if (watch->slice_end_ns == 0)
		watch->slice_end_ns = clock_boottime_ns() + SLICE_NS;
	watch->slice_cost += cost;
	if (watch->slice_cost < SLICE_CHECK_COST)
		return false;
	watch->slice_cost = 0;
	now_ns = clock_boottime_ns();
	return now_ns >= watch->slice_end_ns;
}

/* What took most of the time since the last tick; less than half of `lag_ms`: nothing of ours. */
static enum loop_activity cause_of(const struct loop_watch *watch, uint64_t lag_ms)
{
	enum loop_activity most = 0;

	for (enum loop_activity i = 1; i < LOOP_ACTIVITY_COUNT; i++) {
		if (watch->spent_ns[i] > watch->spent_ns[most])
			most = i;
	}
	return watch->spent_ns[most] >= lag_ms * 1000000u / 2 ? most : LOOP_IDLE;
}

/* Names the subject of the longest activity, as far as it is still there. */
static struct slice subject_text(struct worker *w, char id[37])
{
	arena_ref ref = WORK_REF(w->watch.longest_subject);

	switch (WORK_KIND(w->watch.longest_subject)) {
	case WORK_SERVING_CONNECTION:
		if (((const struct passport *)arena_at(w->arena, ref))->magic == PASSPORT_MAGIC)
			return connection_id(arena_at(w->arena, ref), id);
		break;
	case WORK_SERVING_BATCH:
		if (((const struct channel_record *)arena_at(w->arena, ref))->magic ==
		    CHANNEL_MAGIC)
			return hub_name(&w->hub, hub_channel_at(&w->hub, ref));
		break;
	default: break;
	}
	return SLICE("");
}

static void warn(struct worker *w, uint64_t lag_ms, uint64_t cpu)
{
	const struct loop_watch *watch = &w->watch;
	enum loop_activity cause = cause_of(watch, lag_ms);
	char id[37];

	log_warning(
		"loop_lag ms=%llu cause=%s cause_ms=%llu longest=%s longest_ms=%llu "
		"longest_for=%s cpu_ms=%llu",
		(unsigned long long)lag_ms, activity_names[cause],
		cause == LOOP_IDLE ? 0ull : (unsigned long long)(watch->spent_ns[cause] / 1000000u),
		activity_names[watch->longest], (unsigned long long)(watch->longest_ns / 1000000u),
		log_value(subject_text(w, id)),
		(unsigned long long)((cpu - watch->cpu_ns) / 1000000u));
	metric_add(METRIC_loop_lag_warnings_total, 1);
}

void loop_watch_tick(struct worker *w, uint64_t interval_ms)
{
	struct loop_watch *watch = &w->watch;
	uint64_t lag_ms = w->now_ms > watch->tick_due_ms ? w->now_ms - watch->tick_due_ms : 0;
	uint64_t cpu = cpu_ns();

	if (lag_ms >= (uint64_t)w->settings.node.loop_lag_warning)
		warn(w, lag_ms, cpu);
	if (lag_ms > watch->worst_lag_ms)
		watch->worst_lag_ms = lag_ms;
	if (w->now_ms >= watch->window_end_ms) {
		metric_set(METRIC_loop_lag_microseconds, watch->worst_lag_ms * 1000);
		watch->worst_lag_ms = 0;
		watch->window_end_ms = w->now_ms + 1000;
	}
	watch->tick_due_ms = w->now_ms + interval_ms;
	node_page_set_loop_due(watch->tick_due_ms);
	watch->cpu_ns = cpu;
	watch->longest_ns = 0;
	watch->longest = LOOP_IDLE;
	watch->longest_subject = 0;
	for (enum loop_activity i = 0; i < LOOP_ACTIVITY_COUNT; i++)
		watch->spent_ns[i] = 0;
}

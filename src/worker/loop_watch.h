/* SPDX-License-Identifier: ISC */
/*
 * The event loop's time: how long a fan-out may go on before the loop turns, and
 * who is to blame when a tick comes late.
 */
#ifndef KEEPSOCK_WORKER_LOOP_WATCH_H
#define KEEPSOCK_WORKER_LOOP_WATCH_H

#include <stdbool.h>
#include <stdint.h>

struct worker;

/* ACTIVITY(symbol, name): what a callback of the loop is for. */
#define LOOP_ACTIVITIES(ACTIVITY)                                                \
	ACTIVITY(ACCEPT, "accept")     /* new connections */                     \
	ACTIVITY(CLIENT, "client")     /* a client's input and output */         \
	ACTIVITY(REDIS_REPLY, "redis") /* commands that Redis answered */        \
	ACTIVITY(DELIVERY, "delivery") /* messages from Redis, and fan-outs */   \
	ACTIVITY(TICK, "tick")         /* timers and upkeep */                   \
	ACTIVITY(TURN, "turn")         /* what a loop turn leaves for its end */ \
	ACTIVITY(CONTROL, "control")   /* the master's requests */

enum loop_activity {
#define ACTIVITY(symbol, name) LOOP_##symbol,
	LOOP_ACTIVITIES(ACTIVITY)
#undef ACTIVITY
		LOOP_ACTIVITY_COUNT,
	LOOP_IDLE = LOOP_ACTIVITY_COUNT
};

struct loop_watch {
	uint64_t since_ns; /* start of the activity under way */
	enum loop_activity activity;
	uint64_t subject;                       /* WORK_WORD() of whom it is about, 0 = nobody */
	uint64_t spent_ns[LOOP_ACTIVITY_COUNT]; /* since the last tick */
	uint64_t longest_ns;                    /* the longest single one of them */
	enum loop_activity longest;
	uint64_t longest_subject;
	uint64_t cpu_ns; /* of the process, at the last tick */

	uint64_t slice_end_ns; /* of fan-outs in this loop turn, 0 = none ran */
	unsigned slice_cost;   /* since the clock was read */

	uint64_t tick_due_ms;
	uint64_t worst_lag_ms; /* of the metric's window */
	uint64_t window_end_ms;
};

/* Before the loop: the first tick is due after `interval_ms`. */
void loop_watch_start(struct worker *w, uint64_t interval_ms);
/* At the start of a callback: sets w->now_ms; what ran before it ends here. */
void loop_watch_begin(struct worker *w, enum loop_activity activity);
/* Whom the activity under way serves: a WORK_WORD() as in the work slot. */
void loop_watch_subject(struct worker *w, uint64_t word);
/* At the end of a loop turn. */
void loop_watch_idle(struct worker *w);
/* In each tick: the metric and the warning. The next one is due after `interval_ms`. */
void loop_watch_tick(struct worker *w, uint64_t interval_ms);

/*
 * Accounts for work of `cost` (1: some microseconds). True: fan-outs have had
 * their share of this loop turn, the others' turn has come.
 */
bool loop_slice_spent(struct worker *w, unsigned cost);

#endif

/* SPDX-License-Identifier: ISC */
/*
 * keepsock-bench's event loop: level-triggered epoll, one thread. It owns the
 * epoll descriptor, the first failure of the run and the watchdog that ends a
 * run in which nothing happens any more. Watches belong to their modules.
 */
#ifndef KEEPSOCK_BENCH_LOOP_H
#define KEEPSOCK_BENCH_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "keepsock/buffer.h"

#define LOOP_WATCH_MAGIC  0x77617463u
#define LOOP_SCRATCH_SIZE 65536

struct loop {
	int epoll_fd;
	uint64_t progress;    /* raised by whoever receives something */
	uint64_t patience_ms; /* without progress for so long the run fails */
	struct buffer error;  /* the first failure; empty while all is well */
	char *scratch;        /* owned; LOOP_SCRATCH_SIZE bytes for the read going on */
};

/*
 * A descriptor with its callback, embedded in its owner. It must stay in memory
 * until the loop turn that closed it is over, because its events may be in the
 * same batch; fd is -1 from loop_unwatch() on.
 */
struct loop_watch {
	uint32_t magic;
	int fd;
	void (*on_ready)(struct loop_watch *watch, uint32_t events);
};

/* 0, or -1 with errno. */
int loop_init(struct loop *loop, uint64_t patience_ms);
void loop_free(struct loop *loop);

/* Starts watching watch->fd. 0, or -1 with the loop failed. */
int loop_watch(struct loop *loop, struct loop_watch *watch, uint32_t events);
int loop_rewatch(struct loop *loop, struct loop_watch *watch, uint32_t events);

/* Stops watching and closes the descriptor. */
void loop_unwatch(struct loop *loop, struct loop_watch *watch);

/* Records why the run cannot go on; only the first reason is kept. */
void loop_fail(struct loop *loop, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
bool loop_failed(const struct loop *loop);

#define LOOP_DONE    (-1)
#define LOOP_NO_WAKE 60000 /* a step that only waits for events */

/*
 * Turns until step returns LOOP_DONE. step is called before each wait, does what
 * is due and returns the milliseconds after which it wants to be called again if
 * nothing happens. waiting_for ends the watchdog's message. 0, or -1: failed.
 */
int loop_run(struct loop *loop, int (*step)(void *ctx), void *ctx, const char *waiting_for);

/* Serves events for ms milliseconds; silence is no failure. 0, or -1: failed. */
int loop_pause(struct loop *loop, uint64_t ms);

#endif

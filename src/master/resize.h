/* SPDX-License-Identifier: ISC */
/*
 * Another number of workers, after a reload that said so. More: new slots start.
 * Fewer: connections of the surplus slots move to the others, which accept from
 * their listening sockets as well; then they end. Used by the master only.
 */
#ifndef KEEPSOCK_MASTER_RESIZE_H
#define KEEPSOCK_MASTER_RESIZE_H

#include <stdint.h>

struct buffer;
struct master;
struct settings;

/* error: NULL = there are as many workers as the settings say; else which are not. */
typedef void resize_done_fn(void *ctx, const char *error);

/* The number that the settings in force ask for; master->worker_count is how many there are. */
uint32_t resize_target(const struct master *master);

/* 0, or -1 with error: those settings can't be put in force by a reload. */
int resize_check(const struct master *master, const struct settings *to, struct buffer *error);

/* Makes worker_count what the settings in force say; done is called once, from the loop. */
void resize_start(struct master *master, resize_done_fn *done, void *ctx);
/* Forgets one under way: the node stops. */
void resize_drop(struct master *master);

/*
 * The listening sockets of a slot: its own, and those of slots that are, or are
 * about to be, no more. Returns how many; at most IPC_START_LISTENERS_MAX.
 */
uint32_t resize_listeners(const struct master *master, uint32_t slot, int *fds);

#endif

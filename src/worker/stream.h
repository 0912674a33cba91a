/* SPDX-License-Identifier: ISC */
/*
 * Reading and writing one socket under the rules of the arena (DESIGN §3 rule
 * 2): each syscall is announced in the work slot, so that after a death the
 * kernel is asked about that one socket.
 */
#ifndef KEEPSOCK_WORKER_STREAM_H
#define KEEPSOCK_WORKER_STREAM_H

#include <sys/types.h>

#include "keepsock/arena.h"

struct worker;

enum stream_result { STREAM_DRAINED, STREAM_BLOCKED, STREAM_FAILED };

/* Writes the committed output of a passport; adds the bytes written to *written. */
enum stream_result stream_write(struct worker *w, arena_ref passport, int fd, uint64_t *written);

/*
 * read() into the arena's scratch behind `kept` bytes that the caller copied
 * there from the queue of what was read (passport_read_queue), up to `limit`
 * bytes in all. The announcement stays until the caller commits what became of
 * the bytes together with work.syscall = 0.
 */
ssize_t stream_read(struct worker *w, arena_ref passport, int fd, size_t kept, size_t limit);

#endif

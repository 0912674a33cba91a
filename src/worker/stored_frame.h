/* SPDX-License-Identifier: ISC */
/*
 * Bytes that a fan-out sends to many: a list of chunks in the arena, which a
 * commit names, and the pieces by which they are sent.
 */
#ifndef KEEPSOCK_WORKER_STORED_FRAME_H
#define KEEPSOCK_WORKER_STORED_FRAME_H

#include <sys/types.h>
#include <sys/uio.h>

#include "keepsock/buffer.h"
#include "keepsock/passport.h"

struct stored_frame {
	arena_ref first;      /* 0: nothing is stored */
	struct iovec *pieces; /* owned; the memory is kept for the next one */
	int piece_count, piece_capacity;
	size_t length;
};

/* Copies bytes into chunks that nobody reaches yet. False: the arena is full. */
bool stored_frame_make(struct stored_frame *frame, struct arena *arena, struct slice bytes);
/* Frees the chunks, which no committed word reaches any more. */
void stored_frame_drop(struct stored_frame *frame, struct arena *arena);
void stored_frame_free(struct stored_frame *frame);
/* What a predecessor stored; *frame is as after stored_frame_make(). */
void stored_frame_adopt(struct stored_frame *frame, struct arena *arena, arena_ref first);

/* What send() returns, with errno. */
ssize_t stored_frame_send(const struct stored_frame *frame, int fd);
/* Appends bytes [from, length) to the output of the open draft. */
void stored_frame_queue(const struct stored_frame *frame, struct passport_draft *draft,
			size_t from);
/* All of it in one piece, in `flat` if it has to be copied. */
struct slice stored_frame_slice(const struct stored_frame *frame, struct buffer *flat);
/* Appends bytes [from, from + length) to a buffer. */
void stored_frame_copy(const struct stored_frame *frame, size_t from, size_t length,
		       struct buffer *out);

#endif

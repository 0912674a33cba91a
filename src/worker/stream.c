/* SPDX-License-Identifier: ISC */
/*
 * The read and the write of a socket, see stream.h. Used for client connections
 * and for the Redis subscription connection alike; it decides nothing.
 */
#include "worker/stream.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "keepsock/crash_points.h"
#include "worker/internal.h"

#define WRITE_PIECES 16

static ssize_t write_announced(struct worker *w, arena_ref ref, int fd)
{
	struct work_slot *work = &w->arena->header->work;
	const struct passport *passport = arena_at(w->arena, ref);
	struct iovec pieces[WRITE_PIECES];
	struct msghdr message = {.msg_iov = pieces};
	ssize_t written;

	message.msg_iovlen = (size_t)queue_pieces(w->arena, &passport->out, pieces, WRITE_PIECES);
	arena_store(&work->syscall, WORK_WORD(WORK_SYSCALL_WRITE, ref));
	crash_point(CRASH_WRITE_BEFORE);
	/* Most often it is one piece, for which the kernel has a shorter way. */
	if (message.msg_iovlen == 1)
		written = send(fd, pieces[0].iov_base, pieces[0].iov_len,
			       MSG_DONTWAIT | MSG_NOSIGNAL);
	else
		written = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	crash_point(CRASH_WRITE_AFTER);
	return written;
}

enum stream_result stream_write(struct worker *w, arena_ref ref, int fd, uint64_t *written)
{
	const struct passport *passport = arena_at(w->arena, ref);
	struct work_slot *work = &w->arena->header->work;

	while (queue_length(&passport->out) > 0) {
		ssize_t n = write_announced(w, ref, fd);

		if (n < 0) {
			int error = errno;

			arena_store(&work->syscall, 0);
			if (error == EINTR)
				continue;
			return error == EAGAIN || error == ENOBUFS ? STREAM_BLOCKED : STREAM_FAILED;
		}
		*written += (uint64_t)n;
		passport_commit_written(&w->draft, ref, (uint64_t)n, &work->syscall);
	}
	return STREAM_DRAINED;
}

ssize_t stream_read(struct worker *w, arena_ref ref, int fd, size_t kept, size_t limit)
{
	struct work_slot *work = &w->arena->header->work;
	const struct passport *passport = arena_at(w->arena, ref);
	ssize_t got;

	arena_store(&work->read_base, queue_end(passport_read_queue(w->arena, passport)) - kept);
	arena_store(&work->syscall, WORK_WORD(WORK_SYSCALL_READ, ref));
	crash_point(CRASH_READ_BEFORE);
	do {
		got = recv(fd, w->arena->scratch + kept, limit - kept, MSG_DONTWAIT);
	} while (got < 0 && errno == EINTR);
	crash_point(CRASH_READ_AFTER);
	return got;
}

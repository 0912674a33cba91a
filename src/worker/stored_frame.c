/* SPDX-License-Identifier: ISC */
/*
 * Frames stored in the arena, see stored_frame.h. Run by the worker. Writes only
 * bytes that no committed word reaches.
 */
#include "worker/stored_frame.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "keepsock/alloc.h"

static void remember_piece(struct stored_frame *frame, void *data, size_t length)
{
	if (frame->piece_count == frame->piece_capacity) {
		frame->piece_capacity = frame->piece_capacity * 2 + 4;
		frame->pieces = xrealloc(frame->pieces,
					 (size_t)frame->piece_capacity * sizeof(*frame->pieces));
	}
	frame->pieces[frame->piece_count++] = (struct iovec){data, length};
}

bool stored_frame_make(struct stored_frame *frame, struct arena *arena, struct slice bytes)
{
	arena_ref previous = 0;
	size_t done = 0;

	frame->first = 0;
	frame->piece_count = 0;
	frame->length = bytes.len;
	while (done < bytes.len) {
		arena_ref ref = arena_chunk_alloc(arena, bytes.len - done);
		struct arena_chunk *chunk;
		size_t take;

		if (!ref) {
			stored_frame_drop(frame, arena);
			return false;
		}
		chunk = arena_chunk_at(arena, ref);
		take = arena_chunk_capacity(arena, ref);
		if (take > bytes.len - done)
			take = bytes.len - done;
		memcpy(chunk->data, bytes.data + done, take);
		chunk->base = done;
		chunk->used = (uint32_t)take;
		if (previous)
			arena_chunk_at(arena, previous)->next = ref;
		else
			frame->first = ref;
		previous = ref;
		done += take;
		remember_piece(frame, chunk->data, take);
	}
	return true;
}

void stored_frame_adopt(struct stored_frame *frame, struct arena *arena, arena_ref first)
{
	frame->first = first;
	frame->piece_count = 0;
	frame->length = 0;
	for (arena_ref ref = first; ref; ref = arena_chunk_at(arena, ref)->next) {
		struct arena_chunk *chunk = arena_chunk_at(arena, ref);

		remember_piece(frame, chunk->data, chunk->used);
		frame->length += chunk->used;
	}
}

void stored_frame_drop(struct stored_frame *frame, struct arena *arena)
{
	arena_ref ref = frame->first;

	while (ref) {
		arena_ref next = arena_chunk_at(arena, ref)->next;

		arena_chunk_free(arena, ref);
		ref = next;
	}
	frame->first = 0;
	frame->piece_count = 0;
	frame->length = 0;
}

void stored_frame_free(struct stored_frame *frame)
{
	free(frame->pieces);
	memset(frame, 0, sizeof(*frame));
}

ssize_t stored_frame_send(const struct stored_frame *frame, int fd)
{
	struct msghdr message = {.msg_iov = frame->pieces,
				 .msg_iovlen = (size_t)frame->piece_count};

	if (frame->piece_count == 1)
		return send(fd, frame->pieces[0].iov_base, frame->length,
			    MSG_DONTWAIT | MSG_NOSIGNAL);
	return sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

void stored_frame_queue(const struct stored_frame *frame, struct passport_draft *draft, size_t from)
{
	for (int i = 0; i < frame->piece_count; i++) {
		const struct iovec *piece = &frame->pieces[i];

		if (from >= piece->iov_len) {
			from -= piece->iov_len;
			continue;
		}
		passport_draft_output(draft, (const uint8_t *)piece->iov_base + from,
				      piece->iov_len - from);
		from = 0;
	}
}

struct slice stored_frame_slice(const struct stored_frame *frame, struct buffer *flat)
{
	if (frame->piece_count == 1)
		return slice_from(frame->pieces[0].iov_base, frame->length);
	buffer_reset(flat);
	stored_frame_copy(frame, 0, frame->length, flat);
	return buffer_slice(flat);
}

void stored_frame_copy(const struct stored_frame *frame, size_t from, size_t length,
		       struct buffer *out)
{
	for (int i = 0; i < frame->piece_count && length > 0; i++) {
		const struct iovec *piece = &frame->pieces[i];
		size_t take;

		if (from >= piece->iov_len) {
			from -= piece->iov_len;
			continue;
		}
		take = piece->iov_len - from < length ? piece->iov_len - from : length;
		buffer_append(out, (const uint8_t *)piece->iov_base + from, take);
		length -= take;
		from = 0;
	}
}

/* SPDX-License-Identifier: ISC */
/*
 * The fan-out floor: a message on /publish is framed once and sent to every
 * other connection by a bare send() loop.
 */
#include <stdlib.h>
#include <string.h>

#include "floor.h"
#include "keepsock/alloc.h"

static struct floor_connection **members;
static size_t member_count, member_room;

static void join(struct floor_connection *connection)
{
	if (connection->publisher)
		return;
	if (member_count == member_room) {
		member_room = member_room * 2 + 64;
		members = xrealloc(members, member_room * sizeof(*members));
	}
	members[member_count++] = connection;
}

static void leave(struct floor_connection *connection)
{
	for (size_t i = 0; i < member_count; i++)
		if (members[i] == connection) {
			members[i] = members[--member_count];
			return;
		}
}

static void broadcast(const struct floor_frame *frame)
{
	static uint8_t out[FLOOR_BUFFER_SIZE + 10];
	size_t header = floor_header(out, frame->length);

	memcpy(out + header, frame->payload, frame->length);
	for (size_t i = 0; i < member_count; i++)
		floor_send(members[i], out, header + frame->length);
}

static size_t serve(struct floor_connection *connection, uint8_t *data, size_t length)
{
	size_t used = 0;

	while (used < length) {
		struct floor_frame frame = floor_frame(data + used, length - used);

		if (frame.consumed == 0)
			break;
		used += frame.consumed;
		if (connection->publisher && frame.opcode == 1)
			broadcast(&frame);
	}
	return used;
}

int main(int argc, char **argv)
{
	(void)argc;
	floor_run(argv, serve, join, leave);
}

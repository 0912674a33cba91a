/* SPDX-License-Identifier: ISC */
/*
 * The echo floor: one read, unmask, one write. What arrived together goes back
 * together.
 */
#include <string.h>

#include "floor.h"

static uint8_t out[2 * FLOOR_BUFFER_SIZE];

static size_t echo(struct floor_connection *connection, uint8_t *data, size_t length)
{
	size_t used = 0, filled = 0;

	while (used < length) {
		struct floor_frame frame = floor_frame(data + used, length - used);

		if (frame.consumed == 0)
			break;
		used += frame.consumed;
		if (frame.opcode != 1)
			continue;
		filled += floor_header(out + filled, frame.length);
		memcpy(out + filled, frame.payload, frame.length);
		filled += frame.length;
	}
	if (filled > 0)
		floor_send(connection, out, filled);
	return used;
}

static void nothing(struct floor_connection *connection)
{
	(void)connection;
}

int main(int argc, char **argv)
{
	(void)argc;
	floor_run(argv, echo, nothing, nothing);
}

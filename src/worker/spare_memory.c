/* SPDX-License-Identifier: ISC */
/*
 * Gives memory back that large messages left, see spare_memory.h. Run by the
 * worker. It touches only what holds nothing from one callback to the next.
 */
#include "worker/spare_memory.h"

#include "keepsock/alloc.h"
#include "worker/fanout.h"

/* Where large messages come all the time, their memory is not taken anew for each. */
#define LOOK_EVERY_MS 5000u

void spare_memory_tick(struct worker *w)
{
	struct buffer *buffers[] = {&w->frame,   &w->payload, &w->message,  &w->decode, &w->body,
				    &w->scratch, &w->packed,  &w->unpacked, &w->sealed};
	bool given;

	if (w->now_ms < w->spare_looked_at + LOOK_EVERY_MS)
		return;
	w->spare_looked_at = w->now_ms;
	given = fanout_trim(w->fanout, SPARE_MEMORY_KEPT);
	given |= buffer_trim(&w->draft.output, SPARE_MEMORY_KEPT);
	for (size_t i = 0; i < sizeof(buffers) / sizeof(buffers[0]); i++)
		given |= buffer_trim(buffers[i], SPARE_MEMORY_KEPT);
	/* malloc() has learned from such sizes to keep them. */
	if (given)
		alloc_trim();
}

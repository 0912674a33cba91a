/* SPDX-License-Identifier: ISC */
/*
 * A fan-out's frame sealed for some of its next subscribers at once (DESIGN §3
 * rule 6): one behind the other, in the heap, at the sequences where they stand,
 * without touching their passports. What was sealed and not sent never left; the
 * same bytes come out again for whoever stands where it stood, so a successor
 * needs nothing of this. A block is of no use beyond its loop turn.
 */
#ifndef KEEPSOCK_WORKER_SEALED_BLOCK_H
#define KEEPSOCK_WORKER_SEALED_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "keepsock/slice.h"
#include "keepsock/tls_record.h"

#define SEALED_BLOCK_MAX 32u

struct sealed_block {
	struct tls_block_entry entries[SEALED_BLOCK_MAX];
	uint64_t stood_at[SEALED_BLOCK_MAX]; /* write sequences before */
	uint32_t places[SEALED_BLOCK_MAX];   /* of the subscribers, ascending */
	unsigned count, next;
	uint8_t *scratch; /* owned */
	size_t size;
};

void sealed_block_free(struct sealed_block *block);
/* Empties it; scratch that is larger than ordinary frames need is given back. True: it was. */
bool sealed_block_trim(struct sealed_block *block);
/* Nothing of it is used any more. */
static inline void sealed_block_reset(struct sealed_block *block)
{
	block->count = block->next = 0;
}

/* Collects subscribers before sealing; false: it is full. */
bool sealed_block_add(struct sealed_block *block, uint32_t place, const struct tls_state *state);
void sealed_block_seal(struct sealed_block *block, struct tls_ciphers *ciphers,
		       struct slice plaintext);

/*
 * The records for the subscriber at that place, which is not before that of the
 * last call; *sequence is the one behind them. NULL: it is not in the block. An
 * empty slice: it is due something else first, or has moved on.
 */
const struct slice *sealed_block_take(struct sealed_block *block, uint32_t place,
				      const struct tls_state *state, uint64_t *sequence);

#endif

/* SPDX-License-Identifier: ISC */
/*
 * Blocks of sealed frames, see sealed_block.h. Run by the worker.
 */
#include "worker/sealed_block.h"

#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"

/* Records of some KiB for all of a block, as much as stays in the cache. */
#define SCRATCH_SIZE (128u * 1024u)

void sealed_block_free(struct sealed_block *block)
{
	free(block->scratch);
	memset(block, 0, sizeof(*block));
}

bool sealed_block_trim(struct sealed_block *block)
{
	sealed_block_reset(block);
	if (block->size <= SCRATCH_SIZE)
		return false;
	free(block->scratch);
	block->scratch = NULL;
	block->size = 0;
	return true;
}

bool sealed_block_add(struct sealed_block *block, uint32_t place, const struct tls_state *state)
{
	if (block->count == SEALED_BLOCK_MAX)
		return false;
	block->entries[block->count] = (struct tls_block_entry){.state = state};
	block->stood_at[block->count] = state->write.sequence;
	block->places[block->count++] = place;
	return true;
}

static void reserve(struct sealed_block *block, size_t size)
{
	if (size < SCRATCH_SIZE)
		size = SCRATCH_SIZE;
	if (size <= block->size)
		return;
	free(block->scratch);
	block->scratch = xmalloc(size);
	block->size = size;
}

void sealed_block_seal(struct sealed_block *block, struct tls_ciphers *ciphers,
		       struct slice plaintext)
{
	if (block->count == 0)
		return;
	/* The first one always fits. */
	reserve(block, tls_record_sealed_length(block->entries[0].state, plaintext.len));
	block->count = (unsigned)tls_record_seal_block(ciphers, plaintext, block->entries,
						       block->count, block->scratch, block->size);
	block->next = 0;
}

const struct slice *sealed_block_take(struct sealed_block *block, uint32_t place,
				      const struct tls_state *state, uint64_t *sequence)
{
	static const struct slice none;
	unsigned i;

	while (block->next < block->count && block->places[block->next] < place)
		block->next++;
	i = block->next;
	if (i == block->count || block->places[i] != place)
		return NULL;
	block->next++;
	if (block->stood_at[i] != state->write.sequence ||
	    (state->flags & (TLS_KEY_UPDATE_DUE | TLS_CLOSE_SEALED)))
		return &none;
	*sequence = block->entries[i].sequence;
	return &block->entries[i].records;
}

/* SPDX-License-Identifier: ISC */
/*
 * Counting different strings over several processes: each sends the hashes of
 * its own, and the union of hashes is counted. Up to a limit the count is exact;
 * beyond it only the smallest hashes are kept, and how densely they lie tells
 * the number (0.4 % off, typically, at 65,536). Pure.
 */
#ifndef KEEPSOCK_WORKER_DISTINCT_H
#define KEEPSOCK_WORKER_DISTINCT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "keepsock/buffer.h"
#include "keepsock/slice.h"

#define DISTINCT_LIMIT 65536u

struct distinct {
	uint64_t *hashes; /* owned */
	size_t count, capacity;
	size_t limit;
	uint64_t ceiling; /* hashes above it were left out; UINT64_MAX: none were */
};

void distinct_init(struct distinct *distinct, size_t limit);
void distinct_free(struct distinct *distinct);
void distinct_add(struct distinct *distinct, struct slice text);

/* Appends it as hexadecimal digits: the ceiling, then the hashes. */
void distinct_write(struct distinct *distinct, struct buffer *out);
/* Adds what another process wrote. False if that is malformed; nothing is added then. */
bool distinct_merge(struct distinct *distinct, struct slice written);

uint64_t distinct_count(struct distinct *distinct);

#endif

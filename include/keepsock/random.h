/* SPDX-License-Identifier: ISC */
/*
 * Randomness for ids, epochs, generated passwords and jitter, straight from
 * the kernel: nothing is pooled, so nothing can repeat after a fork.
 */
#ifndef KEEPSOCK_RANDOM_H
#define KEEPSOCK_RANDOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "keepsock/slice.h"

/* Cryptographically strong; never fails (aborts where the kernel has no getrandom). */
void random_bytes(void *p, size_t n);

uint32_t random_u32(void);

/* Uniform in [0, bound), without modulo bias; bound 0 gives 0. */
uint32_t random_below(uint32_t bound);

/*
 * How long to wait before attempt number `attempt` (from 0) after a failure:
 * first_ms, doubled each time up to max_ms, the upper half of it random, so that
 * those who failed together do not come back together.
 */
uint64_t random_backoff_ms(unsigned attempt, uint64_t first_ms, uint64_t max_ms);

struct uuid {
	uint8_t bytes[16];
};

#define UUID_TEXT_LEN 36

/* Version 4 (RFC 9562 §5.4). */
void uuid_generate(struct uuid *u);

/* 36 lower-case characters and a terminator. */
void uuid_format(const struct uuid *u, char out[UUID_TEXT_LEN + 1]);

/* Strict 8-4-4-4-12 form of any version, either case; false leaves *u alone. */
bool uuid_parse(struct slice s, struct uuid *u);

#endif

/* SPDX-License-Identifier: ISC */
/*
 * Taking apart text that came from Redis, from its front. Inside the Redis
 * room only. Each function leaves *text alone when it returns false.
 */
#ifndef KEEPSOCK_REDIS_TEXT_H
#define KEEPSOCK_REDIS_TEXT_H

#include <stdbool.h>
#include <stdint.h>

#include "keepsock/slice.h"

/* Decimal digits without leading zeros, up to UINT64_MAX. */
static inline bool redis_take_number(struct slice *text, uint64_t *value)
{
	uint64_t v = 0;
	size_t i;

	for (i = 0; i < text->len && text->data[i] >= '0' && text->data[i] <= '9'; i++) {
		if (__builtin_mul_overflow(v, 10, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(text->data[i] - '0'), &v))
			return false;
	}
	if (i == 0 || (i > 1 && text->data[0] == '0'))
		return false;
	*value = v;
	*text = slice_from(text->data + i, text->len - i);
	return true;
}

static inline bool redis_take_char(struct slice *text, char wanted)
{
	if (text->len == 0 || text->data[0] != wanted)
		return false;
	*text = slice_from(text->data + 1, text->len - 1);
	return true;
}

/* len must not be above text->len. */
static inline struct slice redis_take_bytes(struct slice *text, size_t len)
{
	struct slice taken = slice_from(text->data, len);

	*text = slice_from(text->data + len, text->len - len);
	return taken;
}

/* An epoch, up to a space or the end of the text; "-" gives the empty one. */
static inline bool redis_take_epoch(struct slice *text, size_t max, struct slice *epoch)
{
	size_t i = 0;

	while (i < text->len && text->data[i] > ' ' && text->data[i] < 0x7f)
		i++;
	if (i == 0 || i > max)
		return false;
	*epoch = redis_take_bytes(text, i);
	if (slice_equal(*epoch, SLICE("-")))
		epoch->len = 0;
	return true;
}

#endif

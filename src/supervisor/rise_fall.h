/* SPDX-License-Identifier: ISC */
/*
 * When a check is good: one counter, as keepalived has it. It rises with each
 * success and falls with each failure; good is rise and more. A change of mind
 * starts it at the far end, so that it always takes `fall` failures or `rise`
 * successes in a row. All zero = bad, with nothing known.
 */
#ifndef KEEPSOCK_SUPERVISOR_RISE_FALL_H
#define KEEPSOCK_SUPERVISOR_RISE_FALL_H

#include <stdbool.h>

struct rise_fall {
	unsigned rise; /* both 1 or more */
	unsigned fall;
	unsigned count; /* 0 .. rise + fall - 1 */
};

static inline bool rise_fall_good(const struct rise_fall *r)
{
	return r->count >= r->rise;
}

/* True when this result changed the verdict. */
static inline bool rise_fall_add(struct rise_fall *r, bool success)
{
	bool before = rise_fall_good(r);

	if (success)
		r->count = r->count + 1 >= r->rise ? r->rise + r->fall - 1 : r->count + 1;
	else
		r->count = !before || r->count == r->rise ? 0 : r->count - 1;
	return rise_fall_good(r) != before;
}

#endif

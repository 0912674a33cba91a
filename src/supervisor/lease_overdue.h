/* SPDX-License-Identifier: ISC */
/*
 * When another's lease is over although Redis still has it. Redis ends keys by a
 * clock that may be set back, and then a dead holder's lease lasts that much longer.
 * By CLOCK_BOOTTIME its end stays where it is for as long as nobody renews it, while
 * each renewal moves it, and leaves no more than lease_ttl besides. So one that has
 * too much left, and an end that has not moved by more than lease_renew, was renewed
 * no later than lease_renew after it was first seen like that; from there on
 * it counts as it would without Redis. That Redis's clock goes ahead and back again
 * by as much between two looks, each time the holder renews, is not provided for.
 */
#ifndef KEEPSOCK_SUPERVISOR_LEASE_OVERDUE_H
#define KEEPSOCK_SUPERVISOR_LEASE_OVERDUE_H

#include <stdbool.h>
#include <stdint.h>

#include "keepsock/settings.h"

/* All zero = nothing is known of it. */
struct lease_overdue {
	/* Boottime since when it has too much left and nobody renews it; 0: neither. */
	uint64_t since_ms;
	uint64_t end_ms; /* its end then, at the earliest */
};

/* What was seen of it, times by CLOCK_BOOTTIME. */
struct lease_look {
	uint64_t sent_ms, answered_ms;
	uint64_t left_ms; /* as Redis says; 0: it has no end, or there is none */
	bool same;        /* the lease of the look before */
};

/* No lease has more left unless Redis's clock was set back since it was granted or renewed. */
static inline uint64_t lease_overdue_left_ms(const struct settings *s)
{
	return 2 * (uint64_t)s->cluster.lease_ttl;
}

static inline void lease_overdue_see(struct lease_overdue *o, const struct lease_look *look,
				     const struct settings *s)
{
	if (look->left_ms <= lease_overdue_left_ms(s)) {
		o->since_ms = 0;
	} else if (o->since_ms == 0 || !look->same ||
		   look->answered_ms + look->left_ms >
			   o->end_ms + (uint64_t)s->cluster.lease_renew) {
		o->since_ms = look->answered_ms;
		o->end_ms = look->sent_ms + look->left_ms;
	}
}

/* From when on nobody can have it any more; 0: that can't be told. */
static inline uint64_t lease_overdue_ms(const struct lease_overdue *o, const struct settings *s)
{
	return o->since_ms == 0 ? 0
				: o->since_ms + (uint64_t)(s->cluster.lease_renew +
							   settings_timing_of(s).promise);
}

#endif

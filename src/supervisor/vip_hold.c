/* SPDX-License-Identifier: ISC */
/*
 * Setting the VIP's lifetime. Runs in the supervisor, which may be stopped at
 * any instruction here, for any time. It must never let the address live beyond
 * `until`, nor bring back one that ended.
 */
#include <inttypes.h>

#include "keepsock/buffer.h"
#include "keepsock/clock.h"
#include "supervisor/vip_address.h"
#include "supervisor/vip_hold.h"

#define NS_PER_S UINT64_C(1000000000)
/* The kernel rounds to ticks and may remove an address 20 ms and a tick early. */
#define EARLY_NS UINT64_C(100000000)

uint32_t vip_hold_lifetime(uint64_t until_ns, uint64_t now_ns)
{
	uint64_t seconds;

	if (until_ns <= now_ns || until_ns - now_ns <= VIP_GUARD_NS)
		return 0;
	seconds = (until_ns - now_ns - VIP_GUARD_NS) / NS_PER_S;
	return seconds < VIP_FOREVER ? (uint32_t)seconds : VIP_FOREVER - 1;
}

bool vip_hold_set(struct vip_hold *hold, enum vip_hold_way way, uint64_t until_ns,
		  struct buffer *error)
{
	for (;;) {
		uint64_t before = clock_boottime_ns(), after;
		uint32_t lifetime = vip_hold_lifetime(until_ns, before);
		int code;

		if (way == VIP_HOLD_RENEW && before >= hold->expires_ns) {
			buffer_append_str(error, "it ran out before it was renewed");
			return false;
		}
		if (lifetime < 1) {
			buffer_append_str(error, "less than a second and the guard is left");
			return false;
		}
		code = vip_address_set(hold->netlink, hold->address, hold->interface, lifetime,
				       way == VIP_HOLD_NEW);
		after = clock_boottime_ns();
		if (code < 0) {
			netlink_explain(hold->netlink, code, error);
			return false;
		}
		/* We were stopped on the way: what we renewed may have ended, and be new. */
		if (way == VIP_HOLD_RENEW && after >= hold->expires_ns) {
			buffer_append_str(error, "it ran out while it was renewed");
			return false;
		}
		/* The kernel counts from a moment between the two. */
		hold->expires_ns = before + lifetime * NS_PER_S - EARLY_NS;
		if (vip_hold_lifetime(until_ns, after) >= lifetime)
			return true;
		/* Counted from `after` it would be too long: once more, with less. */
		way = VIP_HOLD_RENEW;
	}
}

int vip_hold_end(struct vip_hold *hold)
{
	hold->expires_ns = 0;
	return vip_address_delete(hold->netlink, hold->address, hold->interface);
}

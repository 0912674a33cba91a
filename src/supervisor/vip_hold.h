/* SPDX-License-Identifier: ISC */
/*
 * The arithmetic that keeps two hosts from showing one address: how long the
 * kernel may keep it, and whether a renewal still finds it.
 *
 *	sent                now                            until = sent + ttl
 *	 │───────────────────│─────── lifetime ──────│──── guard ────│
 *
 * The kernel counts whole seconds and removes an address up to 0.75 s late; the
 * guard of one second covers that.
 */
#ifndef KEEPSOCK_VIP_HOLD_H
#define KEEPSOCK_VIP_HOLD_H

#include <stdbool.h>
#include <stdint.h>

#include "keepsock/vip.h"
#include "supervisor/netlink.h"

#define VIP_GUARD_NS UINT64_C(1000000000)

struct buffer;

struct vip_hold {
	struct netlink *netlink; /* not owned */
	const struct settings_vip *address;
	unsigned interface;  /* index */
	uint64_t expires_ns; /* boottime: until then the kernel has it for certain; 0 = not held */
};

/* floor(until - now - guard) in seconds; 0 = it must not be set at all. */
uint32_t vip_hold_lifetime(uint64_t until_ns, uint64_t now_ns);

enum vip_hold_way {
	VIP_HOLD_NEW,   /* it is not there */
	VIP_HOLD_ADOPT, /* somebody else set it; the caller sees to it that it is there all the time
			 */
	VIP_HOLD_RENEW, /* we set it */
};

/*
 * Sets the address so that it ends a guard before until_ns whatever happens to
 * this process in between. False with error when that can't be done or is too
 * late: it may be set nevertheless and has to be deleted (vip_hold_end()).
 */
bool vip_hold_set(struct vip_hold *hold, enum vip_hold_way way, uint64_t until_ns,
		  struct buffer *error);

/* Deletes it: 0 or a negative errno. */
int vip_hold_end(struct vip_hold *hold);

#endif

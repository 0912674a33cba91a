/* SPDX-License-Identifier: ISC */
/*
 * The VIP as rtnetlink sees it: the messages that set, delete and find the
 * address on an interface, and what an event says of it.
 */
#ifndef KEEPSOCK_VIP_ADDRESS_H
#define KEEPSOCK_VIP_ADDRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "keepsock/vip.h"
#include "supervisor/netlink.h"

#define VIP_FOREVER UINT32_MAX /* a lifetime without end */

struct vip_address_status {
	bool present;
	unsigned interface; /* index */
	uint8_t prefix;
	uint32_t flags;      /* IFA_F_... */
	uint32_t lifetime_s; /* what is left of it, or VIP_FOREVER */
};

/* Bytes of the address: 4 or 16. */
size_t vip_address_bytes(const struct settings_vip *address);

/* "10.0.0.5" without the prefix. */
const char *vip_address_host(const struct settings_vip *address, char out[VIP_ADDRESS_TEXT]);

/*
 * Sets it for lifetime_s (1 or more): as a new one (-EEXIST if it is there), or
 * else as a new lifetime for the one that is there. The kernel would create it
 * in the second case as well: whoever renews has to know that it is there.
 */
void vip_address_set_request(struct netlink_request *request, const struct settings_vip *address,
			     unsigned interface, uint32_t lifetime_s, bool create);
int vip_address_set(struct netlink *netlink, const struct settings_vip *address, unsigned interface,
		    uint32_t lifetime_s, bool create);

/* 0 too when it is not there. */
int vip_address_delete(struct netlink *netlink, const struct settings_vip *address,
		       unsigned interface);

/* Whether, where and how the address is set, with whatever prefix. */
int vip_address_find(struct netlink *netlink, const struct settings_vip *address,
		     struct vip_address_status *status);

/* Whether the message names the address; fills in what it says. */
bool vip_address_in_message(const struct nlmsghdr *message, const struct settings_vip *address,
			    struct vip_address_status *status);

#endif

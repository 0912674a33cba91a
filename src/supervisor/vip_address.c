/* SPDX-License-Identifier: ISC */
/*
 * The VIP's text and its rtnetlink messages. Runs in the supervisor. It must
 * never set an address without a lifetime: what a dead supervisor leaves has to
 * end by itself.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <arpa/inet.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>

#include "supervisor/vip_address.h"

size_t vip_address_bytes(const struct settings_vip *address)
{
	return address->family == AF_INET ? 4 : 16;
}

const char *vip_address_host(const struct settings_vip *address, char out[VIP_ADDRESS_TEXT])
{
	if (!inet_ntop(address->family, address->address, out, VIP_ADDRESS_TEXT))
		out[0] = '\0';
	return out;
}

const char *vip_address_text(const struct settings_vip *address, char out[VIP_ADDRESS_TEXT])
{
	char host[VIP_ADDRESS_TEXT];

	vip_address_host(address, host);
	snprintf(out, VIP_ADDRESS_TEXT, "%.*s/%u", INET6_ADDRSTRLEN, host,
		 (unsigned)address->prefix);
	return out;
}

void vip_address_set_request(struct netlink_request *request, const struct settings_vip *address,
			     unsigned interface, uint32_t lifetime_s, bool create)
{
	struct ifaddrmsg header = {.ifa_family = (uint8_t)address->family,
				   .ifa_prefixlen = address->prefix,
				   .ifa_scope = RT_SCOPE_UNIVERSE,
				   .ifa_index = interface};
	/*
	 * Deprecated from the start (IPv6): the host's own connections, to Redis for one, must
	 * not be made from an address that leaves. IPv4 has no such rule and takes its first one.
	 */
	struct ifa_cacheinfo lifetime = {.ifa_valid = lifetime_s,
					 .ifa_prefered =
						 address->family == AF_INET6 ? 0 : lifetime_s};
	/* Duplicate address detection would see the predecessor and delete ours. */
	uint32_t flags = address->family == AF_INET6 ? IFA_F_NODAD : 0;
	size_t len = vip_address_bytes(address);

	netlink_request_init(request, RTM_NEWADDR,
			     create ? NLM_F_CREATE | NLM_F_EXCL : NLM_F_REPLACE, &header,
			     sizeof(header));
	netlink_request_put(request, IFA_LOCAL, address->address, len);
	netlink_request_put(request, IFA_ADDRESS, address->address, len);
	netlink_request_put(request, IFA_FLAGS, &flags, sizeof(flags));
	netlink_request_put(request, IFA_CACHEINFO, &lifetime, sizeof(lifetime));
}

int vip_address_set(struct netlink *netlink, const struct settings_vip *address, unsigned interface,
		    uint32_t lifetime_s, bool create)
{
	struct netlink_request request;

	vip_address_set_request(&request, address, interface, lifetime_s, create);
	return netlink_ask(netlink, &request);
}

int vip_address_delete(struct netlink *netlink, const struct settings_vip *address,
		       unsigned interface)
{
	struct ifaddrmsg header = {.ifa_family = (uint8_t)address->family,
				   .ifa_prefixlen = address->prefix,
				   .ifa_index = interface};
	struct netlink_request request;
	int code;

	netlink_request_init(&request, RTM_DELADDR, 0, &header, sizeof(header));
	netlink_request_put(&request, IFA_LOCAL, address->address, vip_address_bytes(address));
	netlink_request_put(&request, IFA_ADDRESS, address->address, vip_address_bytes(address));
	code = netlink_ask(netlink, &request);
	/* An interface that is gone has no address either. */
	return code == -EADDRNOTAVAIL || code == -ENODEV ? 0 : code;
}

bool vip_address_in_message(const struct nlmsghdr *message, const struct settings_vip *address,
			    struct vip_address_status *status)
{
	const size_t attributes = NLMSG_LENGTH(sizeof(struct ifaddrmsg));
	struct ifa_cacheinfo lifetime;
	struct ifaddrmsg header;
	const void *value;
	size_t len;

	if ((message->nlmsg_type != RTM_NEWADDR && message->nlmsg_type != RTM_DELADDR) ||
	    message->nlmsg_len < attributes)
		return false;
	memcpy(&header, NLMSG_DATA(message), sizeof(header));
	if (header.ifa_family != address->family)
		return false;
	/* IFA_ADDRESS is the other end on point-to-point links; IPv6 has IFA_LOCAL only there. */
	value = netlink_attribute(message, attributes, IFA_LOCAL, &len);
	if (!value)
		value = netlink_attribute(message, attributes, IFA_ADDRESS, &len);
	if (!value || len != vip_address_bytes(address) ||
	    memcmp(value, address->address, len) != 0)
		return false;
	*status = (struct vip_address_status){.present = true,
					      .interface = header.ifa_index,
					      .prefix = header.ifa_prefixlen,
					      .flags = header.ifa_flags,
					      .lifetime_s = VIP_FOREVER};
	value = netlink_attribute(message, attributes, IFA_FLAGS, &len);
	if (value && len == sizeof(status->flags))
		memcpy(&status->flags, value, len);
	value = netlink_attribute(message, attributes, IFA_CACHEINFO, &len);
	if (value && len >= sizeof(lifetime)) {
		memcpy(&lifetime, value, sizeof(lifetime));
		status->lifetime_s = lifetime.ifa_valid;
	}
	return true;
}

struct search {
	const struct settings_vip *address;
	struct vip_address_status *found;
};

static void on_address(const struct nlmsghdr *message, void *ctx)
{
	struct search *search = ctx;
	struct vip_address_status status;

	if (vip_address_in_message(message, search->address, &status))
		*search->found = status;
}

int vip_address_find(struct netlink *netlink, const struct settings_vip *address,
		     struct vip_address_status *status)
{
	struct ifaddrmsg header = {.ifa_family = (uint8_t)address->family};
	struct search search = {address, status};
	struct netlink_request request;
	int code;

	*status = (struct vip_address_status){0};
	netlink_request_init(&request, RTM_GETADDR, 0, &header, sizeof(header));
	code = netlink_dump_all(netlink, &request, on_address, &search);
	if (code < 0)
		*status = (struct vip_address_status){0};
	return code;
}

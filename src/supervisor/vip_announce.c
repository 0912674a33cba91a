/* SPDX-License-Identifier: ISC */
/*
 * Gratuitous ARP and unsolicited neighbour advertisements. Runs in the
 * supervisor. It must never announce an address without asking, each time,
 * whether it is still ours: nft does not see ARP, so nobody else would stop it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <event2/event.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/clock.h"
#include "keepsock/magic.h"
#include "supervisor/vip_announce.h"
#include "supervisor/vip_packet.h"

#define ANNOUNCER_MAGIC 0x41504956u /* "VIPA" */

struct vip_announcer {
	uint32_t magic;
	const struct vip_spec *spec; /* the VIP's */
	bool (*may_send)(void *ctx);
	void *ctx;
	struct event *round;
	int fd;             /* packet socket for IPv4, raw socket for IPv6 */
	unsigned interface; /* index */
	uint64_t end_ms;    /* boottime */
	bool complained;    /* about this interface, since the start */
	unsigned too_early; /* rounds since the start that the kernel did not let out yet */
};

/* The kernel makes an IPv6 address local some time after it has set it; until then nft drops. */
#define TOO_EARLY_MS  10
#define TOO_EARLY_MAX 100

/* -1 with errno, ENOTTY for links without Ethernet addresses. */
static int interface_mac(int fd, unsigned interface, uint8_t mac[VIP_MAC_BYTES])
{
	struct ifreq request = {0};

	if (!if_indextoname(interface, request.ifr_name) || ioctl(fd, SIOCGIFHWADDR, &request) < 0)
		return -1;
	if (request.ifr_hwaddr.sa_family != ARPHRD_ETHER) {
		errno = ENOTTY;
		return -1;
	}
	memcpy(mac, request.ifr_hwaddr.sa_data, VIP_MAC_BYTES);
	return 0;
}

static int send_arp(struct vip_announcer *announcer, const uint8_t mac[VIP_MAC_BYTES])
{
	struct sockaddr_ll to = {.sll_family = AF_PACKET,
				 .sll_protocol = htons(ETH_P_ARP),
				 .sll_ifindex = (int)announcer->interface,
				 .sll_halen = VIP_MAC_BYTES};
	const enum vip_arp kinds[] = {VIP_ARP_REQUEST, VIP_ARP_REPLY};

	memset(to.sll_addr, 0xff, VIP_MAC_BYTES);
	for (size_t i = 0; i < 2; i++) {
		uint8_t frame[VIP_PACKET_MAX];
		size_t len = vip_packet_arp(frame, &announcer->spec->address, mac, kinds[i]);

		if (!announcer->may_send(announcer->ctx))
			return 0;
		if (sendto(announcer->fd, frame, len, 0, (struct sockaddr *)&to, sizeof(to)) < 0)
			return -1;
	}
	return 0;
}

/* Through a raw IP socket rather than a packet socket: the nft rule covers it. */
static int send_advertisement(struct vip_announcer *announcer, const uint8_t mac[VIP_MAC_BYTES])
{
	struct sockaddr_in6 to = {.sin6_family = AF_INET6, .sin6_scope_id = announcer->interface};
	uint8_t packet[VIP_PACKET_MAX];
	size_t len = vip_packet_advertisement(packet, &announcer->spec->address, mac);

	to.sin6_addr.s6_addr[0] = 0xff; /* ff02::1, all nodes of the link */
	to.sin6_addr.s6_addr[1] = 0x02;
	to.sin6_addr.s6_addr[15] = 0x01;
	if (!announcer->may_send(announcer->ctx))
		return 0;
	return sendto(announcer->fd, packet, len, 0, (struct sockaddr *)&to, sizeof(to)) < 0 ? -1
											     : 0;
}

/* False: try again soon. */
static bool announce(struct vip_announcer *announcer)
{
	uint8_t mac[VIP_MAC_BYTES];
	int code = interface_mac(announcer->fd, announcer->interface, mac);

	if (code == 0 && announcer->spec->address.family == AF_INET)
		code = send_arp(announcer, mac);
	else if (code == 0)
		code = send_advertisement(announcer, mac);
	if (code == 0)
		return true;
	if (errno == EPERM && announcer->too_early++ < TOO_EARLY_MAX)
		return false;
	if (announcer->complained)
		return true;
	announcer->complained = true;
	if (errno == ENOTTY)
		log_info("vip_not_announced interface=%s reason=not an Ethernet link",
			 announcer->spec->interface);
	else
		log_warning("vip_not_announced interface=%s reason=%s", announcer->spec->interface,
			    strerror(errno));
	return true;
}

static void on_round(evutil_socket_t fd, short what, void *ctx)
{
	struct vip_announcer *announcer = ctx;
	uint32_t wait;
	struct timeval next;

	(void)fd;
	(void)what;
	MAGIC_CHECK(announcer, ANNOUNCER_MAGIC);
	wait = announce(announcer) ? announcer->spec->announce_every_ms : TOO_EARLY_MS;
	if (clock_boottime_ms() + wait > announcer->end_ms)
		return;
	next.tv_sec = wait / 1000;
	next.tv_usec = (suseconds_t)(wait % 1000) * 1000;
	if (event_add(announcer->round, &next) < 0)
		log_warning("vip_announcing_ended interface=%s reason=no timer",
			    announcer->spec->interface);
}

struct vip_announcer *vip_announcer_open(struct event_base *base, const struct vip_spec *spec,
					 bool (*may_send)(void *ctx), void *ctx,
					 struct buffer *error)
{
	struct vip_announcer *announcer = xcalloc(1, sizeof(*announcer));
	const int flags = SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK;

	announcer->magic = ANNOUNCER_MAGIC;
	announcer->spec = spec;
	announcer->may_send = may_send;
	announcer->ctx = ctx;
	/* Neither receives anything: protocol 0, and IPPROTO_RAW. */
	if (spec->address.family == AF_INET)
		announcer->fd = socket(AF_PACKET, flags, 0);
	else
		announcer->fd = socket(AF_INET6, flags, IPPROTO_RAW);
	announcer->round = evtimer_new(base, on_round, announcer);
	if (announcer->fd >= 0 && announcer->round)
		return announcer;
	buffer_printf(error, "announcing the address: %s", strerror(errno));
	vip_announcer_close(announcer);
	return NULL;
}

void vip_announcer_close(struct vip_announcer *announcer)
{
	MAGIC_CHECK(announcer, ANNOUNCER_MAGIC);
	if (announcer->round)
		event_free(announcer->round);
	if (announcer->fd >= 0)
		close(announcer->fd);
	announcer->magic = 0;
	free(announcer);
}

void vip_announcer_start(struct vip_announcer *announcer, unsigned interface)
{
	MAGIC_CHECK(announcer, ANNOUNCER_MAGIC);
	evtimer_del(announcer->round);
	announcer->interface = interface;
	announcer->end_ms = clock_boottime_ms() + announcer->spec->announce_ms;
	announcer->complained = false;
	announcer->too_early = 0;
	on_round(-1, EV_TIMEOUT, announcer);
}

void vip_announcer_stop(struct vip_announcer *announcer)
{
	MAGIC_CHECK(announcer, ANNOUNCER_MAGIC);
	evtimer_del(announcer->round);
}

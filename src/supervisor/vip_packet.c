/* SPDX-License-Identifier: ISC */
/*
 * Packets of the VIP, byte by byte. Runs in the supervisor and does no I/O. It
 * must never put an address other than the VIP into a packet as its source.
 */
#include <string.h>

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>

#include "supervisor/vip_packet.h"

#define HOP_LIMIT 64

/* RFC 1071, over data that may have an odd length; the carry is folded in at the end. */
static uint32_t checksum_add(uint32_t sum, const void *data, size_t len)
{
	const uint8_t *bytes = data;

	for (size_t i = 0; i < len; i++)
		sum += i % 2 ? bytes[i] : (uint32_t)bytes[i] << 8;
	return sum;
}

static uint16_t checksum_end(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

/* Of a payload with the pseudo header of either family (RFC 9293 section 3.1, RFC 8200
 * section 8.1). */
static uint16_t checksum_payload(const void *source, const void *destination, size_t address_len,
				 uint8_t protocol, const void *payload, size_t len)
{
	uint32_t sum = (uint32_t)protocol + (uint32_t)len;

	sum = checksum_add(sum, source, address_len);
	sum = checksum_add(sum, destination, address_len);
	return checksum_end(checksum_add(sum, payload, len));
}

size_t vip_packet_arp(uint8_t out[VIP_PACKET_MAX], const struct settings_vip *address,
		      const uint8_t mac[VIP_MAC_BYTES], enum vip_arp kind)
{
	struct __attribute__((packed)) {
		struct ethhdr ethernet;
		uint16_t hardware, protocol;
		uint8_t hardware_len, protocol_len;
		uint16_t operation;
		uint8_t sender_mac[VIP_MAC_BYTES], sender[4], target_mac[VIP_MAC_BYTES], target[4];
	} frame = {.hardware = htons(1), /* Ethernet */
		   .protocol = htons(ETH_P_IP),
		   .hardware_len = VIP_MAC_BYTES,
		   .protocol_len = 4,
		   .operation = htons((uint16_t)kind)};

	memset(frame.ethernet.h_dest, 0xff, VIP_MAC_BYTES);
	memcpy(frame.ethernet.h_source, mac, VIP_MAC_BYTES);
	frame.ethernet.h_proto = htons(ETH_P_ARP);
	memcpy(frame.sender_mac, mac, VIP_MAC_BYTES);
	memcpy(frame.sender, address->address, 4);
	memcpy(frame.target, address->address, 4);
	if (kind == VIP_ARP_REPLY)
		memcpy(frame.target_mac, mac, VIP_MAC_BYTES);
	memcpy(out, &frame, sizeof(frame));
	return sizeof(frame);
}

static struct ip6_hdr ip6_header(const void *source, const void *destination, uint8_t protocol,
				 size_t payload, uint8_t hops)
{
	struct ip6_hdr header = {0};

	header.ip6_flow = htonl(UINT32_C(6) << 28);
	header.ip6_plen = htons((uint16_t)payload);
	header.ip6_nxt = protocol;
	header.ip6_hlim = hops;
	memcpy(&header.ip6_src, source, 16);
	memcpy(&header.ip6_dst, destination, 16);
	return header;
}

size_t vip_packet_advertisement(uint8_t out[VIP_PACKET_MAX], const struct settings_vip *address,
				const uint8_t mac[VIP_MAC_BYTES])
{
	static const uint8_t all_nodes[16] = {0xff, 0x02, [15] = 1};
	struct __attribute__((packed)) {
		struct ip6_hdr ip;
		struct nd_neighbor_advert advertisement;
		struct nd_opt_hdr option;
		uint8_t mac[VIP_MAC_BYTES];
	} packet = {0};
	const size_t start = sizeof(packet.ip), len = sizeof(packet) - start;
	uint16_t checksum;

	/* Routers are told apart by their hop limit of 255: such a packet was not forwarded. */
	packet.ip = ip6_header(address->address, all_nodes, IPPROTO_ICMPV6, len, 255);
	packet.advertisement.nd_na_type = ND_NEIGHBOR_ADVERT;
	packet.advertisement.nd_na_flags_reserved = ND_NA_FLAG_OVERRIDE;
	memcpy(&packet.advertisement.nd_na_target, address->address, 16);
	packet.option.nd_opt_type = ND_OPT_TARGET_LINKADDR;
	packet.option.nd_opt_len = 1; /* in units of eight bytes */
	memcpy(packet.mac, mac, VIP_MAC_BYTES);
	memcpy(out, &packet, sizeof(packet));
	checksum =
		checksum_payload(address->address, all_nodes, 16, IPPROTO_ICMPV6, out + start, len);
	memcpy(out + start + offsetof(struct icmp6_hdr, icmp6_cksum), &checksum, sizeof(checksum));
	return sizeof(packet);
}

static struct iphdr ip4_header(const void *source, const void *destination, uint8_t protocol,
			       size_t payload)
{
	struct iphdr header = {.version = 4,
			       .ihl = sizeof(header) / 4,
			       .tot_len = htons((uint16_t)(sizeof(header) + payload)),
			       .frag_off = htons(IP_DF),
			       .ttl = HOP_LIMIT,
			       .protocol = protocol};

	memcpy(&header.saddr, source, 4);
	memcpy(&header.daddr, destination, 4);
	header.check = checksum_end(checksum_add(0, &header, sizeof(header)));
	return header;
}

size_t vip_packet_tickle(uint8_t out[VIP_PACKET_MAX], const struct settings_vip *address,
			 const struct vip_peer *peer)
{
	/* Zeros are what no connection expects, but for one chance in 2^32 and a harmless one. */
	struct tcphdr tcp = {.source = htons(peer->local_port),
			     .dest = htons(peer->port),
			     .doff = sizeof(tcp) / 4,
			     .ack = 1};
	size_t address_len = address->family == AF_INET ? 4 : 16, start;

	tcp.check = checksum_payload(address->address, peer->address, address_len, IPPROTO_TCP,
				     &tcp, sizeof(tcp));
	if (address->family == AF_INET) {
		struct iphdr ip =
			ip4_header(address->address, peer->address, IPPROTO_TCP, sizeof(tcp));

		start = sizeof(ip);
		memcpy(out, &ip, start);
	} else {
		struct ip6_hdr ip = ip6_header(address->address, peer->address, IPPROTO_TCP,
					       sizeof(tcp), HOP_LIMIT);

		start = sizeof(ip);
		memcpy(out, &ip, start);
	}
	memcpy(out + start, &tcp, sizeof(tcp));
	return start + sizeof(tcp);
}

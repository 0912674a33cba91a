/* SPDX-License-Identifier: ISC */
/*
 * The packets that the supervisor makes itself: announcements of the VIP to its
 * neighbours, and the ACK that brings a lost host's idle client over. Each
 * function writes a whole packet and returns its length.
 */
#ifndef KEEPSOCK_VIP_PACKET_H
#define KEEPSOCK_VIP_PACKET_H

#include <stddef.h>
#include <stdint.h>

#include "keepsock/vip.h"

#define VIP_PACKET_MAX 128
#define VIP_MAC_BYTES  6

enum vip_arp { VIP_ARP_REQUEST = 1, VIP_ARP_REPLY = 2 }; /* the protocol's numbers */

/*
 * An Ethernet frame to everybody in which an IPv4 address asks or tells where it
 * is itself (RFC 5227 section 3; some switches and hosts believe replies only).
 */
size_t vip_packet_arp(uint8_t out[VIP_PACKET_MAX], const struct settings_vip *address,
		      const uint8_t mac[VIP_MAC_BYTES], enum vip_arp kind);

/*
 * An IPv6 packet to all nodes of the link: an unsolicited neighbour
 * advertisement with the override flag (RFC 4861 section 7.2.6).
 */
size_t vip_packet_advertisement(uint8_t out[VIP_PACKET_MAX], const struct settings_vip *address,
				const uint8_t mac[VIP_MAC_BYTES]);

/*
 * An IP packet with a TCP ACK from the VIP to the peer. Its numbers fit no
 * connection, so the peer answers with its own (RFC 9293 section 3.10.7.4), and
 * the kernel that gets this answer without having the connection resets it.
 */
size_t vip_packet_tickle(uint8_t out[VIP_PACKET_MAX], const struct settings_vip *address,
			 const struct vip_peer *peer);

#endif

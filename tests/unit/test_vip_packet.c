/* SPDX-License-Identifier: ISC */
/*
 * The VIP's packets, byte by byte, with checksums worked out apart from the code.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <sys/socket.h>

#include "supervisor/vip_packet.h"

static const uint8_t mac[VIP_MAC_BYTES] = {0x02, 0x11, 0x22, 0x33, 0x44, 0x55};
static const struct settings_vip four = {.family = AF_INET, .address = {10, 0, 0, 5}, .prefix = 32};
static const struct settings_vip six = {
	.family = AF_INET6, .address = {0xfd, [15] = 5}, .prefix = 128};

/* RFC 1071 by whole words: of correct data, its own checksum included, this is zero. */
static uint16_t sum_words(uint32_t sum, const uint8_t *data, size_t len)
{
	for (size_t i = 0; i + 1 < len; i += 2)
		sum += (uint32_t)(data[i] << 8 | data[i + 1]);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static void test_arp(void **state)
{
	static const uint8_t wanted[] = {
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0x11, 0x22, 0x33, 0x44, 0x55, 0x08, 0x06,
		0x00, 0x01, 0x08, 0x00, 6,    4,    0x00, 0x01, 0x02, 0x11, 0x22, 0x33, 0x44, 0x55,
		10,   0,    0,    5,    0,    0,    0,    0,    0,    0,    10,   0,    0,    5};
	uint8_t out[VIP_PACKET_MAX];

	(void)state;
	assert_int_equal(vip_packet_arp(out, &four, mac, VIP_ARP_REQUEST), sizeof(wanted));
	assert_memory_equal(out, wanted, sizeof(wanted));
	assert_int_equal(vip_packet_arp(out, &four, mac, VIP_ARP_REPLY), sizeof(wanted));
	assert_int_equal(out[21], 2);
	assert_memory_equal(out + 32, mac, sizeof(mac));
}

static void test_advertisement(void **state)
{
	uint8_t out[VIP_PACKET_MAX];
	size_t len = vip_packet_advertisement(out, &six, mac);

	(void)state;
	assert_int_equal(len, 40 + 32);
	assert_int_equal(out[0], 0x60);
	assert_int_equal(out[4] << 8 | out[5], 32);
	assert_int_equal(out[6], 58);
	assert_int_equal(out[7], 255);
	assert_memory_equal(out + 8, six.address, 16);
	assert_int_equal(out[24], 0xff);
	assert_int_equal(out[25], 0x02);
	assert_int_equal(out[39], 1);
	assert_int_equal(out[40], 136);
	assert_int_equal(out[44], 0x20); /* override, neither solicited nor router */
	assert_memory_equal(out + 48, six.address, 16);
	assert_int_equal(out[64], 2);
	assert_int_equal(out[65], 1);
	assert_memory_equal(out + 66, mac, sizeof(mac));
	/* The pseudo header: both addresses, length, protocol. */
	assert_int_equal(sum_words(32 + 58, out + 8, len - 8), 0);
}

static void test_tickle_ipv4(void **state)
{
	const struct vip_peer peer = {
		.address = {192, 0, 2, 9}, .port = 0xabcd, .local_port = 8000};
	uint8_t out[VIP_PACKET_MAX];

	(void)state;
	assert_int_equal(vip_packet_tickle(out, &four, &peer), 40);
	assert_int_equal(out[0], 0x45);
	assert_int_equal(out[2] << 8 | out[3], 40);
	assert_int_equal(out[9], 6);
	assert_memory_equal(out + 12, four.address, 4);
	assert_memory_equal(out + 16, peer.address, 4);
	assert_int_equal(sum_words(0, out, 20), 0);
	assert_int_equal(out[20] << 8 | out[21], 8000);
	assert_int_equal(out[22] << 8 | out[23], 0xabcd);
	assert_int_equal(out[32] >> 4, 5);
	assert_int_equal(out[33], 0x10); /* ACK alone */
	assert_int_equal(sum_words(20 + 6, out + 12, 28), 0);
}

static void test_tickle_ipv6(void **state)
{
	const struct vip_peer peer = {
		.address = {0xfd, [15] = 9}, .port = 50000, .local_port = 8443};
	uint8_t out[VIP_PACKET_MAX];

	(void)state;
	assert_int_equal(vip_packet_tickle(out, &six, &peer), 60);
	assert_int_equal(out[0], 0x60);
	assert_int_equal(out[4] << 8 | out[5], 20);
	assert_int_equal(out[6], 6);
	assert_memory_equal(out + 8, six.address, 16);
	assert_memory_equal(out + 24, peer.address, 16);
	assert_int_equal(out[40] << 8 | out[41], 8443);
	assert_int_equal(out[53], 0x10);
	assert_int_equal(sum_words(20 + 6, out + 8, 52), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_arp),
		cmocka_unit_test(test_advertisement),
		cmocka_unit_test(test_tickle_ipv4),
		cmocka_unit_test(test_tickle_ipv6),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

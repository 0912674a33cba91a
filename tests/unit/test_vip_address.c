/* SPDX-License-Identifier: ISC */
/*
 * The VIP's text, and its rtnetlink messages byte by byte: what is asked of the
 * kernel, and what of its messages is believed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>

#include "supervisor/vip_address.h"

#define ATTRIBUTES NLMSG_LENGTH(sizeof(struct ifaddrmsg))

static struct settings_vip parsed(const char *text)
{
	struct settings_vip address;

	assert_null(settings_vip_parse(text, &address));
	return address;
}

static void test_text(void **state)
{
	static const char *const texts[][2] = {{"10.0.0.5/24", "10.0.0.5/24"},
					       {"FD00::0005/128", "fd00::5/128"}};
	char out[VIP_ADDRESS_TEXT];

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct settings_vip address = parsed(texts[i][0]);

		assert_string_equal(vip_address_text(&address, out), texts[i][1]);
	}
}

static const void *attribute(const struct netlink_request *request, uint16_t type, size_t want)
{
	size_t len;
	const void *value = netlink_attribute(&request->header, ATTRIBUTES, type, &len);

	assert_non_null(value);
	assert_int_equal(len, want);
	return value;
}

static void check_request(const char *text, bool create, uint32_t preferred, uint32_t flags)
{
	struct settings_vip address = parsed(text);
	size_t len = vip_address_bytes(&address);
	struct netlink_request request;
	struct ifaddrmsg header;
	struct ifa_cacheinfo lifetime;

	vip_address_set_request(&request, &address, 7, 2, create);
	assert_int_equal(request.header.nlmsg_type, RTM_NEWADDR);
	assert_int_equal(request.header.nlmsg_flags,
			 create ? NLM_F_CREATE | NLM_F_EXCL : NLM_F_REPLACE);
	memcpy(&header, NLMSG_DATA(&request.header), sizeof(header));
	assert_int_equal(header.ifa_family, address.family);
	assert_int_equal(header.ifa_prefixlen, address.prefix);
	assert_int_equal(header.ifa_index, 7);
	assert_int_equal(header.ifa_scope, RT_SCOPE_UNIVERSE);
	assert_memory_equal(attribute(&request, IFA_LOCAL, len), address.address, len);
	assert_memory_equal(attribute(&request, IFA_ADDRESS, len), address.address, len);
	assert_memory_equal(attribute(&request, IFA_FLAGS, 4), &flags, 4);
	memcpy(&lifetime, attribute(&request, IFA_CACHEINFO, sizeof(lifetime)), sizeof(lifetime));
	assert_int_equal(lifetime.ifa_valid, 2);
	assert_int_equal(lifetime.ifa_prefered, preferred);
}

static void test_what_is_asked(void **state)
{
	(void)state;
	check_request("10.0.0.5/24", true, 2, 0);
	check_request("10.0.0.5/32", false, 2, 0);
	check_request("fd00::5/128", true, 0, IFA_F_NODAD);
	check_request("fd00::5/128", false, 0, IFA_F_NODAD);
}

/* A message as the kernel sends it: with the lifetime that is left. */
static struct netlink_request kernel_message(const char *text, uint16_t type, uint16_t which)
{
	struct settings_vip address = parsed(text);
	struct ifaddrmsg header = {.ifa_family = (uint8_t)address.family,
				   .ifa_prefixlen = address.prefix,
				   .ifa_index = 3};
	struct ifa_cacheinfo lifetime = {.ifa_valid = 9, .ifa_prefered = 1};
	uint32_t flags = IFA_F_NODAD | IFA_F_DADFAILED;
	struct netlink_request request;

	netlink_request_init(&request, type, 0, &header, sizeof(header));
	netlink_request_put(&request, which, address.address, vip_address_bytes(&address));
	netlink_request_put(&request, IFA_CACHEINFO, &lifetime, sizeof(lifetime));
	netlink_request_put(&request, IFA_FLAGS, &flags, sizeof(flags));
	return request;
}

static void test_what_is_recognized(void **state)
{
	struct settings_vip four = parsed("10.0.0.5/32"), six = parsed("fd00::5/128");
	struct vip_address_status status;
	struct netlink_request message = kernel_message("10.0.0.5/24", RTM_NEWADDR, IFA_LOCAL);

	(void)state;
	assert_true(vip_address_in_message(&message.header, &four, &status));
	assert_true(status.present);
	assert_int_equal(status.interface, 3);
	assert_int_equal(status.prefix, 24);
	assert_int_equal(status.lifetime_s, 9);
	assert_int_equal(status.flags, IFA_F_NODAD | IFA_F_DADFAILED);
	assert_false(vip_address_in_message(&message.header, &six, &status));
	message = kernel_message("fd00::5/128", RTM_DELADDR, IFA_ADDRESS);
	assert_true(vip_address_in_message(&message.header, &six, &status));
	assert_false(vip_address_in_message(&message.header, &four, &status));
	message = kernel_message("10.0.0.6/32", RTM_NEWADDR, IFA_LOCAL);
	assert_false(vip_address_in_message(&message.header, &four, &status));
	message = kernel_message("10.0.0.5/32", RTM_NEWLINK, IFA_LOCAL);
	assert_false(vip_address_in_message(&message.header, &four, &status));
}

/* IFA_ADDRESS is the other end's where there is an IFA_LOCAL. */
static void test_the_other_end_is_not_ours(void **state)
{
	struct settings_vip four = parsed("10.0.0.5/32"), other = parsed("10.0.0.6/32");
	struct vip_address_status status;
	struct netlink_request message = kernel_message("10.0.0.5/32", RTM_NEWADDR, IFA_ADDRESS);

	(void)state;
	netlink_request_put(&message, IFA_LOCAL, other.address, 4);
	assert_false(vip_address_in_message(&message.header, &four, &status));
	assert_true(vip_address_in_message(&message.header, &other, &status));
}

/* Every length that a message may be cut to: no byte beyond it counts. */
static void test_cut_messages(void **state)
{
	struct settings_vip four = parsed("10.0.0.5/32");
	struct netlink_request message = kernel_message("10.0.0.5/32", RTM_NEWADDR, IFA_LOCAL);
	uint32_t whole = message.header.nlmsg_len;

	(void)state;
	for (uint32_t len = sizeof(message.header); len < whole; len++) {
		struct vip_address_status status;
		struct nlmsghdr *cut = malloc(len);

		assert_non_null(cut);
		memcpy(cut, &message, len);
		cut->nlmsg_len = len;
		/* The address attribute is the first one. */
		assert_int_equal(vip_address_in_message(cut, &four, &status),
				 len >= ATTRIBUTES + NLA_HDRLEN + 4);
		free(cut);
	}
}

static void test_broken_attributes(void **state)
{
	struct settings_vip four = parsed("10.0.0.5/32");
	struct netlink_request message = kernel_message("10.0.0.5/32", RTM_NEWADDR, IFA_LOCAL);
	struct vip_address_status status;
	uint16_t lengths[] = {0, 3, 7, 9, UINT16_MAX};

	(void)state;
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		memcpy((uint8_t *)&message + ATTRIBUTES, &lengths[i], sizeof(lengths[i]));
		assert_false(vip_address_in_message(&message.header, &four, &status));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_what_is_asked),
		cmocka_unit_test(test_what_is_recognized),
		cmocka_unit_test(test_the_other_end_is_not_ours),
		cmocka_unit_test(test_cut_messages),
		cmocka_unit_test(test_broken_attributes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

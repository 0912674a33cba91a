/* SPDX-License-Identifier: ISC */
/* Server-side subscriptions as text: what goes in comes out, and what is none is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "keepsock/buffer.h"
#include "worker/client_server_side.h"

static struct buffer text, json;

static void assert_slice(struct slice slice, const char *expected)
{
	assert_int_equal(slice.len, strlen(expected));
	assert_memory_equal(slice.data ? slice.data : "", expected, slice.len);
}

static struct server_subscription round_trip(const struct server_subscription *from)
{
	struct server_subscription to;

	buffer_reset(&json);
	server_subscription_encode(&json, from);
	assert_true(server_subscription_decode(buffer_slice(&json), &text, &to));
	return to;
}

static void test_everything(void **state)
{
	const struct server_subscription from = {
		.channel = SLICE("a \"quoted\"\n\xc3\xbc"),
		.info = SLICE("{\"i\": [1.50]}"),
		.data = SLICE("\"d\\u0041\""),
		.expires_at = UINT64_MAX,
		.override = {1, 0, 1, 0, -1},
		.has_since = true,
		.since_epoch = SLICE("e\\p"),
		.since_offset = UINT64_MAX - 1,
	};
	struct server_subscription to = round_trip(&from);

	(void)state;
	assert_slice(to.channel, "a \"quoted\"\n\xc3\xbc");
	assert_slice(to.info, "{\"i\": [1.50]}");
	assert_slice(to.data, "\"d\\u0041\"");
	assert_true(to.expires_at == UINT64_MAX);
	assert_memory_equal(&to.override, &from.override, sizeof(to.override));
	assert_true(to.has_since);
	assert_slice(to.since_epoch, "e\\p");
	assert_true(to.since_offset == UINT64_MAX - 1);
}

static void test_nothing_but_a_channel(void **state)
{
	const struct server_subscription from = {
		.channel = SLICE("c"),
		.override = TOKEN_OVERRIDE_NONE,
	};
	struct server_subscription to = round_trip(&from);

	(void)state;
	assert_slice(buffer_slice(&json), "{\"channel\":\"c\"}");
	assert_slice(to.channel, "c");
	assert_int_equal(to.info.len + to.data.len + to.since_epoch.len, 0);
	assert_true(to.expires_at == 0 && !to.has_since);
	assert_memory_equal(&to.override, &from.override, sizeof(to.override));
}

static void test_each_override_alone(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(struct token_override); i++) {
		for (int8_t value = 0; value <= 1; value++) {
			struct server_subscription to, from = {
							       .channel = SLICE("c"),
							       .override = TOKEN_OVERRIDE_NONE,
						       };

			((int8_t *)&from.override)[i] = value;
			to = round_trip(&from);
			assert_memory_equal(&to.override, &from.override, sizeof(from.override));
		}
	}
}

static void test_unknown_members_and_nulls(void **state)
{
	struct server_subscription to;

	(void)state;
	assert_true(server_subscription_decode(
		SLICE(" {\"x\":[1],\"info\":null,\"override\":null,\"channel\":\"c\"} "), &text,
		&to));
	assert_slice(to.channel, "c");
	assert_int_equal(to.info.len, 0);
	assert_int_equal(to.override.presence, -1);
}

static void test_what_is_none(void **state)
{
	static const char *const bad[] = {
		"",
		"null",
		"[]",
		"{}",
		"{\"channel\":\"\"}",
		"{\"channel\":5}",
		"{\"channel\":null}",
		"{\"channel\":\"c\"",
		"{\"channel\":\"c\"}x",
		"{\"channel\":\"c\",\"expire_at\":-1}",
		"{\"channel\":\"c\",\"expire_at\":\"1\"}",
		"{\"channel\":\"c\",\"expire_at\":18446744073709551616}",
		"{\"channel\":\"c\",\"override\":[]}",
		"{\"channel\":\"c\",\"override\":{\"presence\":1}}",
		"{\"channel\":\"c\",\"since\":[]}",
		"{\"channel\":\"c\",\"since\":{\"offset\":-1}}",
		"{\"channel\":\"c\",\"since\":{\"epoch\":1}}",
		"{\"channel\":\"c\",\"info\":}",
	};
	struct server_subscription to;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (server_subscription_decode(slice_str(bad[i]), &text, &to))
			fail_msg("accepted: %s", bad[i]);
	}
}

static int tear_down(void **state)
{
	(void)state;
	buffer_free(&text);
	buffer_free(&json);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_everything),
		cmocka_unit_test(test_nothing_but_a_channel),
		cmocka_unit_test(test_each_override_alone),
		cmocka_unit_test(test_unknown_members_and_nulls),
		cmocka_unit_test(test_what_is_none),
	};

	return cmocka_run_group_tests(tests, NULL, tear_down);
}

/* SPDX-License-Identifier: ISC */
/*
 * Who may do what in a channel: each right against each combination of its
 * options, and the ladder of subscribing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "keepsock/channel_permission.h"

#define USER   SLICE("42")
#define NOBODY SLICE("")

struct right_bools {
	enum channel_right right;
	size_t for_client, for_subscriber, for_anonymous; /* offsets in channel_options */
};

#define RIGHT(which, name)                                                               \
	{                                                                                \
		which, offsetof(struct channel_options, allow_##name##_for_client),      \
			offsetof(struct channel_options, allow_##name##_for_subscriber), \
			offsetof(struct channel_options, allow_##name##_for_anonymous)   \
	}

static const struct right_bools rights[] = {
	RIGHT(CHANNEL_RIGHT_PUBLISH, publish),
	RIGHT(CHANNEL_RIGHT_PRESENCE, presence),
	RIGHT(CHANNEL_RIGHT_HISTORY, history),
};

static void set(struct channel_options *options, size_t offset, bool value)
{
	*(bool *)((char *)options + offset) = value;
}

static void assert_granted(enum channel_right right, const struct channel_options *options,
			   bool user, bool user_subscribed, bool nobody, bool nobody_subscribed)
{
	static const struct settings s;

	assert_int_equal(channel_right_granted(&s, options, right, USER, false), user);
	assert_int_equal(channel_right_granted(&s, options, right, USER, true), user_subscribed);
	assert_int_equal(channel_right_granted(&s, options, right, NOBODY, false), nobody);
	assert_int_equal(channel_right_granted(&s, options, right, NOBODY, true),
			 nobody_subscribed);
}

static void test_each_right_has_its_own_options(void **state)
{
	(void)state;
	for (size_t i = 0; i < 3; i++) {
		const struct right_bools *r = &rights[i];

		for (int bits = 0; bits < 8; bits++) {
			bool client = bits & 1, subscriber = bits & 2, anonymous = bits & 4;
			struct channel_options options = {0};

			set(&options, r->for_client, client);
			set(&options, r->for_subscriber, subscriber);
			set(&options, r->for_anonymous, anonymous);
			assert_granted(r->right, &options, client, client || subscriber,
				       anonymous && client, anonymous && (client || subscriber));
			for (size_t other = 0; other < 3; other++) {
				if (other != i)
					assert_granted(rights[other].right, &options, false, false,
						       false, false);
			}
		}
	}
}

static void test_insecure_grants_everything(void **state)
{
	const struct settings s = {.client.insecure = true};
	const struct channel_options options = {0};

	(void)state;
	for (size_t i = 0; i < 3; i++)
		assert_true(channel_right_granted(&s, &options, rights[i].right, NOBODY, false));
}

/* ---- subscribing ---- */

static enum channel_subscribe_way way(const struct channel_options *options, const char *channel,
				      const char *user)
{
	static const struct settings s;

	return channel_subscribe_way(&s, options, slice_str(channel), slice_str(user), false);
}

static void test_nothing_is_allowed_by_default(void **state)
{
	const struct channel_options options = {0};

	(void)state;
	assert_int_equal(way(&options, "news", "42"), CHANNEL_SUBSCRIBE_REFUSED);
	assert_int_equal(way(&options, "news#42", "42"), CHANNEL_SUBSCRIBE_REFUSED);
	assert_int_equal(way(&options, "news", ""), CHANNEL_SUBSCRIBE_REFUSED);
}

static void test_clients_and_anonymous(void **state)
{
	struct channel_options options = {.allow_subscribe_for_client = true};

	(void)state;
	assert_int_equal(way(&options, "news", "42"), CHANNEL_SUBSCRIBE_ALLOWED);
	assert_int_equal(way(&options, "news", ""), CHANNEL_SUBSCRIBE_REFUSED);
	options.allow_subscribe_for_anonymous = true;
	assert_int_equal(way(&options, "news", ""), CHANNEL_SUBSCRIBE_ALLOWED);
	options.allow_subscribe_for_client = false;
	assert_int_equal(way(&options, "news", ""), CHANNEL_SUBSCRIBE_REFUSED);
}

static void test_private_channels_need_a_token(void **state)
{
	const struct channel_options options = {.allow_subscribe_for_client = true,
						.allow_user_limited_channels = true};
	const struct settings insecure = {.client.insecure = true};

	(void)state;
	assert_int_equal(way(&options, "$news", "42"), CHANNEL_SUBSCRIBE_REFUSED);
	assert_int_equal(way(&options, "$news#42", "42"), CHANNEL_SUBSCRIBE_REFUSED);
	assert_int_equal(channel_subscribe_way(&insecure, &options, SLICE("$news"), USER, false),
			 CHANNEL_SUBSCRIBE_REFUSED);
	assert_int_equal(channel_subscribe_way(&insecure, &options, SLICE("$news"), USER, true),
			 CHANNEL_SUBSCRIBE_TOKEN);
}

/* Even where everybody may come in without one: a bad token is never ignored. */
static void test_a_token_decides_when_there_is_one(void **state)
{
	const struct channel_options closed = {0};
	const struct channel_options open = {.allow_subscribe_for_client = true,
					     .allow_user_limited_channels = true};
	const struct settings s = {0};

	(void)state;
	assert_int_equal(channel_subscribe_way(&s, &closed, SLICE("news"), USER, true),
			 CHANNEL_SUBSCRIBE_TOKEN);
	assert_int_equal(channel_subscribe_way(&s, &open, SLICE("news"), USER, true),
			 CHANNEL_SUBSCRIBE_TOKEN);
	assert_int_equal(channel_subscribe_way(&s, &open, SLICE("news#42"), USER, true),
			 CHANNEL_SUBSCRIBE_TOKEN);
	assert_int_equal(channel_subscribe_way(&s, &open, SLICE("news#43"), USER, true),
			 CHANNEL_SUBSCRIBE_TOKEN);
}

static void test_user_limited_channels(void **state)
{
	struct channel_options options = {.allow_user_limited_channels = true};
	const struct settings insecure = {.client.insecure = true};

	(void)state;
	assert_int_equal(way(&options, "chat#42,43", "42"), CHANNEL_SUBSCRIBE_ALLOWED);
	assert_int_equal(way(&options, "chat#42,43", "44"), CHANNEL_SUBSCRIBE_REFUSED);
	assert_int_equal(way(&options, "chat", "42"), CHANNEL_SUBSCRIBE_REFUSED);
	assert_int_equal(way(&options, "chat#", ""), CHANNEL_SUBSCRIBE_REFUSED);
	/* Who is not on the list stays out, whatever the other options say. */
	options.allow_subscribe_for_client = options.allow_subscribe_for_anonymous = true;
	assert_int_equal(way(&options, "chat#42,43", "44"), CHANNEL_SUBSCRIBE_REFUSED);
	assert_int_equal(way(&options, "chat#42,43", ""), CHANNEL_SUBSCRIBE_REFUSED);
	assert_int_equal(way(&options, "chat", "44"), CHANNEL_SUBSCRIBE_ALLOWED);
	assert_int_equal(channel_subscribe_way(&insecure, &options, SLICE("chat#43"), USER, false),
			 CHANNEL_SUBSCRIBE_ALLOWED);
	/* Without the option the sign is a character like others. */
	options.allow_user_limited_channels = false;
	assert_int_equal(way(&options, "chat#42,43", "44"), CHANNEL_SUBSCRIBE_ALLOWED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_right_has_its_own_options),
		cmocka_unit_test(test_insecure_grants_everything),
		cmocka_unit_test(test_nothing_is_allowed_by_default),
		cmocka_unit_test(test_clients_and_anonymous),
		cmocka_unit_test(test_private_channels_need_a_token),
		cmocka_unit_test(test_a_token_decides_when_there_is_one),
		cmocka_unit_test(test_user_limited_channels),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: ISC */
/*
 * Channel names: each verdict, the order in which they are found, namespaces,
 * channel_regex, users, personal channels and the error codes that clients see.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "keepsock/buffer.h"
#include "keepsock/channel_name.h"

static struct settings settings;

static int parse(const char *text)
{
	struct buffer error = {0};
	int result = settings_parse(text, "keepsock.conf", &settings, &error);

	if (result != 0)
		print_error("%s\n", buffer_cstr(&error));
	buffer_free(&error);
	return result;
}

static int without_namespaces(void **state)
{
	(void)state;
	return parse("");
}

static int with_namespaces(void **state)
{
	(void)state;
	return parse("namespaces = ( { name = \"chat\"; },\n"
		     "{ name = \"room\"; channel_regex = \"^[a-z]+[0-9]$\"; },\n"
		     "{ name = \"any\"; channel_regex = \".\"; },\n"
		     "{ name = \"user\"; channel_regex = \"^#\"; } );\n"
		     "client: { channel_max_length = 20; };\n");
}

static int forget(void **state)
{
	(void)state;
	settings_free(&settings);
	return 0;
}

static enum channel_verdict check_slice(struct slice name)
{
	const struct channel_options *options;
	enum channel_verdict verdict = channel_check(&settings, name, &options);

	/* Who may go on has options, nobody else. */
	assert_ptr_equal(options, verdict == CHANNEL_OK || verdict == CHANNEL_PRIVATE
					  ? settings_channel_options(&settings, name)
					  : NULL);
	return verdict;
}

static enum channel_verdict check(const char *name)
{
	return check_slice(slice_str(name));
}

static void test_ordinary_names_pass(void **state)
{
	(void)state;
	assert_int_equal(check("news"), CHANNEL_OK);
	assert_int_equal(check("a"), CHANNEL_OK);
	assert_int_equal(check(" !\"#%&'()*+,-./0;<=>?@[]^_`{|}~"), CHANNEL_OK);
	assert_int_equal(check("chat#42,43"), CHANNEL_OK);
	assert_int_equal(check("in$ide"), CHANNEL_OK);
}

static void test_length(void **state)
{
	char name[CHANNEL_LENGTH_MAX + 1];

	(void)state;
	memset(name, 'x', sizeof name);
	assert_int_equal(check(""), CHANNEL_EMPTY);
	assert_int_equal(check_slice(slice_from(NULL, 0)), CHANNEL_EMPTY);
	assert_int_equal(check_slice(slice_from(name, CHANNEL_LENGTH_MAX)), CHANNEL_OK);
	assert_int_equal(check_slice(slice_from(name, CHANNEL_LENGTH_MAX + 1)), CHANNEL_TOO_LONG);
}

static void test_every_byte(void **state)
{
	(void)state;
	for (int byte = 0; byte < 256; byte++) {
		char name[2] = {'x', (char)byte};
		enum channel_verdict expected = CHANNEL_OK;

		if (byte == ':')
			expected = CHANNEL_UNKNOWN_NAMESPACE;
		else if (byte < 0x20 || byte > 0x7e)
			expected = CHANNEL_BAD;
		assert_int_equal(check_slice(slice_from(name, 2)), expected);
	}
}

static void test_private_and_unknown_namespaces(void **state)
{
	(void)state;
	assert_int_equal(check("$news"), CHANNEL_PRIVATE);
	assert_int_equal(check("$"), CHANNEL_PRIVATE);
	assert_int_equal(check("chat:room"), CHANNEL_UNKNOWN_NAMESPACE);
	assert_int_equal(check(":"), CHANNEL_UNKNOWN_NAMESPACE);
	/* What a client sees first when a name is wrong in several ways. */
	assert_int_equal(check("$chat:room"), CHANNEL_UNKNOWN_NAMESPACE);
	assert_int_equal(check("chat:\xc3\xa9"), CHANNEL_UNKNOWN_NAMESPACE);
	assert_int_equal(check("$\xc3\xa9"), CHANNEL_BAD);
}

static void test_known_namespaces(void **state)
{
	(void)state;
	assert_int_equal(check("chat:room"), CHANNEL_OK);
	assert_int_equal(check("chat:"), CHANNEL_OK);
	assert_int_equal(check("chat:a:b"), CHANNEL_OK);
	assert_int_equal(check("chat"), CHANNEL_OK);
	assert_int_equal(check("$chat:room"), CHANNEL_PRIVATE);
	assert_int_equal(check("chat:\xc3\xa9"), CHANNEL_BAD);
	assert_int_equal(check("chats:room"), CHANNEL_UNKNOWN_NAMESPACE);
	assert_int_equal(check("chat:56789012345678901"), CHANNEL_TOO_LONG);
	assert_int_equal(check("none:56789012345678901"), CHANNEL_TOO_LONG);
}

/* The expression sees what is behind the namespace, private prefix or not. */
static void test_regex(void **state)
{
	(void)state;
	assert_int_equal(check("room:abc1"), CHANNEL_OK);
	assert_int_equal(check("$room:abc1"), CHANNEL_PRIVATE);
	assert_int_equal(check("room:abc"), CHANNEL_BAD);
	assert_int_equal(check("$room:1abc"), CHANNEL_BAD);
	assert_int_equal(check("room:"), CHANNEL_BAD);
	assert_int_equal(check("room:abc12"), CHANNEL_BAD);
	assert_int_equal(check_slice(slice_from("room:abc1\0", 10)), CHANNEL_BAD);
	/* With an expression it alone says which letters there are, but never control characters.
	 */
	assert_int_equal(check("any:\xc3\xa9"), CHANNEL_OK);
	assert_int_equal(check("any:"), CHANNEL_BAD);
	assert_int_equal(check("any:a\nb"), CHANNEL_BAD);
	assert_int_equal(check("any:a\x7f"), CHANNEL_BAD);
	assert_int_equal(check_slice(slice_from("any:a\0b", 7)), CHANNEL_BAD);
	assert_int_equal(check("user:#"), CHANNEL_OK);
	assert_int_equal(check("user:a#"), CHANNEL_BAD);
}

static void test_regex_without_namespace_sees_the_whole_name(void **state)
{
	(void)state;
	assert_int_equal(parse("channel: { channel_regex = \"^[$]?n\"; };"), 0);
	assert_int_equal(check("news"), CHANNEL_OK);
	assert_int_equal(check("$news"), CHANNEL_PRIVATE);
	assert_int_equal(check("a new"), CHANNEL_BAD);
}

static void test_namespace_text(void **state)
{
	(void)state;
	assert_true(slice_is(settings_channel_namespace(SLICE("chat:room:1")), "chat"));
	assert_true(slice_is(settings_channel_namespace(SLICE("$chat:room")), "chat"));
	assert_null(settings_channel_namespace(SLICE("room")).data);
	assert_null(settings_channel_namespace(slice_from(NULL, 0)).data);
	assert_non_null(settings_channel_namespace(SLICE("$:room")).data);
	assert_int_equal(settings_channel_namespace(SLICE("$:room")).len, 0);
}

/* ---- users ---- */

static bool has(const char *channel, const char *user)
{
	return channel_name_users_contain(slice_str(channel), slice_str(user));
}

static void test_users(void **state)
{
	(void)state;
	assert_true(has("chat#42", "42"));
	assert_true(has("chat#42,43,44", "42"));
	assert_true(has("chat#42,43,44", "43"));
	assert_true(has("chat#42,43,44", "44"));
	assert_true(has("#42", "42"));
	assert_true(has("chat#,42", "42"));
	assert_true(has("chat#42,", "42"));
	assert_true(has("a#1#2", "2"));
	assert_false(has("a#1#2", "1"));
	assert_false(has("a#1#2", "1#2"));
	assert_false(has("a#1#", "1"));
	assert_false(has("chat#42,43", "4"));
	assert_false(has("chat#42,43", "423"));
	assert_false(has("chat#42,43", "42,43"));
	assert_false(has("chat42", "42"));
	assert_false(has("42", "42"));
	assert_false(channel_name_users_contain(slice_from(NULL, 0), SLICE("42")));
}

static void test_nobody_is_on_no_list(void **state)
{
	(void)state;
	assert_false(has("chat#", ""));
	assert_false(has("chat#,", ""));
	assert_false(has("chat#42,,43", ""));
}

static void test_whether_there_is_a_list(void **state)
{
	(void)state;
	assert_true(channel_name_has_users(SLICE("chat#42")));
	assert_true(channel_name_has_users(SLICE("chat#")));
	assert_false(channel_name_has_users(SLICE("chat")));
	assert_false(channel_name_has_users(slice_from(NULL, 0)));
}

/* ---- personal channels ---- */

static void assert_personal(const char *user, const char *expected)
{
	struct buffer name = {0};
	bool found;

	buffer_append_str(&name, "before ");
	found = channel_personal_name(&name, &settings, slice_str(user));
	assert_int_equal(found, expected != NULL);
	assert_int_equal(strncmp(buffer_cstr(&name), "before ", 7), 0);
	assert_string_equal(buffer_cstr(&name) + 7, expected ? expected : "");
	buffer_free(&name);
}

static void test_personal_channels(void **state)
{
	char user[CHANNEL_LENGTH_MAX + 1], channel[CHANNEL_LENGTH_MAX + 2];

	(void)state;
	assert_int_equal(parse(""), 0);
	assert_personal("42", "#42");
	assert_personal("a b", "#a b");
	memset(user, 'x', sizeof(user));
	user[CHANNEL_LENGTH_MAX - 1] = '\0';
	snprintf(channel, sizeof(channel), "#%s", user);
	assert_personal(user, channel);
	user[CHANNEL_LENGTH_MAX - 1] = 'x';
	user[CHANNEL_LENGTH_MAX] = '\0';
	assert_personal(user, NULL);
	/* A namespace of its own it must not get, nor share the channel with others. */
	assert_personal("a:b", NULL);
	assert_personal("a,b", NULL);
	assert_personal("a#b", NULL);
	assert_personal("", NULL);
	assert_personal("\xc3\xa9", NULL);
}

static void test_personal_channels_in_a_namespace(void **state)
{
	(void)state;
	assert_int_equal(parse("personal_channel: { enabled = true; namespace = \"me\"; };\n"
			       "namespaces = ( { name = \"me\"; channel_regex = \"^#\"; } );"),
			 0);
	assert_personal("42", "me:#42");
	assert_personal("a:b", "me:#a:b");
	assert_personal("\xc3\xa9", "me:#\xc3\xa9");
	assert_personal("a#b", NULL);
	assert_personal("", NULL);
}

static void test_error_codes(void **state)
{
	(void)state;
	assert_int_equal(channel_verdict_error(CHANNEL_OK), 0);
	assert_int_equal(channel_verdict_error(CHANNEL_EMPTY), 107);
	assert_int_equal(channel_verdict_error(CHANNEL_TOO_LONG), 107);
	assert_int_equal(channel_verdict_error(CHANNEL_BAD), 107);
	assert_int_equal(channel_verdict_error(CHANNEL_UNKNOWN_NAMESPACE), 102);
	assert_int_equal(channel_verdict_error(CHANNEL_PRIVATE), 103);
}

#define WITHOUT(test) cmocka_unit_test_setup_teardown(test, without_namespaces, forget)
#define WITH(test)    cmocka_unit_test_setup_teardown(test, with_namespaces, forget)
#define OWN(test)     cmocka_unit_test_teardown(test, forget)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITHOUT(test_ordinary_names_pass),
		WITHOUT(test_length),
		WITHOUT(test_every_byte),
		WITHOUT(test_private_and_unknown_namespaces),
		WITH(test_known_namespaces),
		WITH(test_regex),
		OWN(test_regex_without_namespace_sees_the_whole_name),
		cmocka_unit_test(test_namespace_text),
		cmocka_unit_test(test_users),
		cmocka_unit_test(test_nobody_is_on_no_list),
		cmocka_unit_test(test_whether_there_is_a_list),
		OWN(test_personal_channels),
		OWN(test_personal_channels_in_a_namespace),
		cmocka_unit_test(test_error_codes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

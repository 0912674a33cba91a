/* SPDX-License-Identifier: ISC */
/*
 * Channel names: each verdict, the order in which they are found, namespaces and
 * the error codes that clients see.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "keepsock/channel_name.h"

#define LENGTH_MAX 255

static enum channel_verdict check(const char *name)
{
	return channel_name_check(slice_str(name), LENGTH_MAX);
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
	char name[LENGTH_MAX + 1];

	(void)state;
	memset(name, 'x', sizeof name);
	assert_int_equal(check(""), CHANNEL_EMPTY);
	assert_int_equal(channel_name_check(slice_from(NULL, 0), LENGTH_MAX), CHANNEL_EMPTY);
	assert_int_equal(channel_name_check(slice_from(name, LENGTH_MAX), LENGTH_MAX), CHANNEL_OK);
	assert_int_equal(channel_name_check(slice_from(name, LENGTH_MAX + 1), LENGTH_MAX),
			 CHANNEL_TOO_LONG);
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
		assert_int_equal(channel_name_check(slice_from(name, 2), LENGTH_MAX), expected);
	}
}

static void test_private_and_namespaces(void **state)
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
	assert_int_equal(channel_name_check(SLICE("chat:room"), 8), CHANNEL_TOO_LONG);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ordinary_names_pass),
		cmocka_unit_test(test_length),
		cmocka_unit_test(test_every_byte),
		cmocka_unit_test(test_private_and_namespaces),
		cmocka_unit_test(test_namespace_text),
		cmocka_unit_test(test_error_codes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: ISC */
/* Comparing secrets gives the right answer; wiping leaves nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "keepsock/secret.h"

static void test_equal(void **state)
{
	(void)state;
	assert_true(secret_equal(SLICE(""), SLICE("")));
	assert_true(secret_equal(slice_from(NULL, 0), SLICE("")));
	assert_true(secret_equal(SLICE("key\0more"), SLICE("key\0more")));
}

static void test_different(void **state)
{
	(void)state;
	assert_false(secret_equal(SLICE("key"), SLICE("")));
	assert_false(secret_equal(SLICE("key"), SLICE("kez")));
	assert_false(secret_equal(SLICE("key"), SLICE("ley")));
	assert_false(secret_equal(SLICE("key"), SLICE("keys")));
	assert_false(secret_equal(SLICE("key\0more"), SLICE("key\0mord")));
	assert_false(secret_equal(SLICE("\x80"), SLICE("\x00")));
}

static void test_wipe(void **state)
{
	char key[] = "secret";
	static const char zeros[sizeof(key)];

	(void)state;
	secret_wipe(key, sizeof(key));
	assert_memory_equal(key, zeros, sizeof(key));
	secret_wipe(NULL, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_equal),
		cmocka_unit_test(test_different),
		cmocka_unit_test(test_wipe),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

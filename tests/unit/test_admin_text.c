/* SPDX-License-Identifier: ISC */
/*
 * Answers of the admin socket as text: columns, alignment, and that nothing a
 * client sent can move an operator's cursor.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "keepsock/admin_text.h"
#include "keepsock/buffer.h"

static void assert_rows(const char *json, const char *expected)
{
	json_t *rows = json_loads(json, 0, NULL);
	struct buffer text = {0};

	assert_non_null(rows);
	admin_text_rows(&text, rows);
	assert_string_equal(buffer_cstr(&text), expected);
	buffer_free(&text);
	json_decref(rows);
}

static void assert_object(const char *json, const char *expected)
{
	json_t *object = json_loads(json, 0, NULL);
	struct buffer text = {0};

	assert_non_null(object);
	admin_text_object(&text, object);
	assert_string_equal(buffer_cstr(&text), expected);
	buffer_free(&text);
	json_decref(object);
}

static void test_columns_follow_the_first_row(void **state)
{
	(void)state;
	assert_rows("[{\"worker\":0,\"id\":\"a\",\"n\":5},{\"n\":1000,\"id\":\"long "
		    "one\",\"worker\":1}]",
		    "worker  id           n\n"
		    "     0  a            5\n"
		    "     1  long one  1000\n");
}

static void test_missing_and_empty_values(void **state)
{
	(void)state;
	assert_rows("[{\"a\":1,\"b\":\"x\"},{\"a\":2},{\"a\":null,\"b\":\"\"},{\"c\":1}]",
		    "a  b\n1  x\n2  -\n-  -\n-  -\n");
}

static void test_no_rows(void **state)
{
	(void)state;
	assert_rows("[]", "(none)\n");
}

static void test_values_of_all_types(void **state)
{
	(void)state;
	assert_object("{\"yes\":true,\"no\":false,\"null\":null,\"real\":0.5,\"list\":[1,\"a\"],"
		      "\"object\":{\"k\":1},\"big\":9007199254740993}",
		      "yes     yes\n"
		      "no      no\n"
		      "null    -\n"
		      "real    0.5\n"
		      "list    [1,\"a\"]\n"
		      "object  {\"k\":1}\n"
		      "big     9007199254740993\n");
}

static void test_terminal_controls_are_shown(void **state)
{
	(void)state;
	assert_object("{\"user\":\"a\\u001b[31m\\n\\r\\t\\u007f\\u009bz\"}",
		      "user  a\\x1b[31m\\x0a\\x0d\\x09\\x7f\\x9bz\n");
	assert_rows("[{\"user\":\"a\\nERROR b\"}]", "user\na\\x0aERROR b\n");
	assert_object("{\"list\":[\"\\u009b\"]}", "list  [\"\\x9b\"]\n");
}

/* One column on the screen for each character, however many bytes it has. */
static void test_width_counts_characters(void **state)
{
	(void)state;
	assert_rows("[{\"a\":\"\\u00e4\\u20ac\",\"b\":1},{\"a\":\"xxx\",\"b\":2}]",
		    "a    b\n\xc3\xa4\xe2\x82\xac   1\nxxx  2\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_columns_follow_the_first_row),
		cmocka_unit_test(test_missing_and_empty_values),
		cmocka_unit_test(test_no_rows),
		cmocka_unit_test(test_values_of_all_types),
		cmocka_unit_test(test_terminal_controls_are_shown),
		cmocka_unit_test(test_width_counts_characters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: ISC */
/* The growable buffer: growth, contents, appending from itself, numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "keepsock/buffer.h"

static void assert_content(struct buffer *b, const char *expected)
{
	assert_int_equal(b->len, strlen(expected));
	assert_string_equal(buffer_cstr(b), expected);
}

static void test_empty_buffer_needs_no_memory(void **state)
{
	struct buffer b;

	(void)state;
	buffer_init(&b);
	assert_null(b.data);
	assert_int_equal(buffer_slice(&b).len, 0);
	buffer_append(&b, NULL, 0);
	buffer_consume(&b, 0);
	assert_null(b.data);
	assert_content(&b, "");
	buffer_free(&b);
	assert_null(b.data);
}

static void test_appends_join(void **state)
{
	struct buffer b;

	(void)state;
	buffer_init(&b);
	buffer_append(&b, "ab", 2);
	buffer_append_slice(&b, SLICE("cd"));
	buffer_append_str(&b, "ef");
	buffer_append_char(&b, 'g');
	buffer_printf(&b, "-%d-%s", 7, "x");
	assert_content(&b, "abcdefg-7-x");
	buffer_free(&b);
}

static void test_numbers(void **state)
{
	struct buffer b;

	(void)state;
	buffer_init(&b);
	buffer_append_u64(&b, 0);
	buffer_append_char(&b, ' ');
	buffer_append_u64(&b, UINT64_MAX);
	buffer_append_char(&b, ' ');
	buffer_append_i64(&b, INT64_MIN);
	buffer_append_char(&b, ' ');
	buffer_append_i64(&b, -7);
	assert_content(&b, "0 18446744073709551615 -9223372036854775808 -7");
	buffer_free(&b);
}

static void test_reserve_keeps_contents_and_length(void **state)
{
	struct buffer b;

	(void)state;
	buffer_init(&b);
	buffer_append_str(&b, "head");
	memset(buffer_reserve(&b, 100000), 'x', 100000);
	assert_int_equal(b.len, 4);
	assert_true(b.cap >= 100004);
	assert_memory_equal(b.data, "head", 4);
	buffer_free(&b);
}

static void test_append_of_itself_survives_growth(void **state)
{
	struct buffer b;

	(void)state;
	buffer_init(&b);
	buffer_append_str(&b, "0123456789");
	while (b.len < 10000)
		buffer_append(&b, b.data, b.len);
	for (size_t i = 0; i < b.len; i++)
		assert_int_equal(b.data[i], '0' + (int)(i % 10));
	buffer_free(&b);
}

static void test_long_printf(void **state)
{
	struct buffer b;

	(void)state;
	buffer_init(&b);
	buffer_printf(&b, "%05000d", 1);
	assert_int_equal(b.len, 5000);
	assert_int_equal(b.data[4999], '1');
	buffer_free(&b);
}

static void test_consume_moves_the_rest_to_the_front(void **state)
{
	struct buffer b;

	(void)state;
	buffer_init(&b);
	buffer_append_str(&b, "abcdef");
	buffer_consume(&b, 2);
	assert_content(&b, "cdef");
	buffer_consume(&b, 4);
	assert_content(&b, "");
	buffer_free(&b);
}

static void test_reset_keeps_memory(void **state)
{
	struct buffer b;
	char *data;

	(void)state;
	buffer_init(&b);
	buffer_append_str(&b, "abc");
	data = b.data;
	buffer_reset(&b);
	buffer_append_str(&b, "d");
	assert_ptr_equal(b.data, data);
	assert_content(&b, "d");
	buffer_free(&b);
}

static void test_trimmed_buffers_keep_little(void **state)
{
	struct buffer b;

	(void)state;
	buffer_init(&b);
	buffer_append_str(&b, "abc");
	assert_false(buffer_trim(&b, 64));
	assert_non_null(b.data);
	assert_content(&b, "");
	buffer_reserve(&b, 65);
	assert_true(buffer_trim(&b, 64));
	assert_null(b.data);
	assert_false(buffer_trim(&b, 0));
	buffer_append_str(&b, "abc");
	assert_content(&b, "abc");
	buffer_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_empty_buffer_needs_no_memory),
		cmocka_unit_test(test_appends_join),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_trimmed_buffers_keep_little),
		cmocka_unit_test(test_reserve_keeps_contents_and_length),
		cmocka_unit_test(test_append_of_itself_survives_growth),
		cmocka_unit_test(test_long_printf),
		cmocka_unit_test(test_consume_moves_the_rest_to_the_front),
		cmocka_unit_test(test_reset_keeps_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

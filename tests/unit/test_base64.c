/* SPDX-License-Identifier: ISC */
/* Base64 has one spelling for every sequence of bytes, and no other is accepted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "keepsock/base64.h"

static void check(bool (*decode)(struct slice, struct buffer *), struct slice text,
		  struct slice bytes)
{
	struct buffer out = {0};

	buffer_append_str(&out, "x");
	assert_true(decode(text, &out));
	assert_true(slice_equal(slice_from(out.data + 1, out.len - 1), bytes));
	buffer_free(&out);
}

static void check_refused(bool (*decode)(struct slice, struct buffer *), const char *text)
{
	struct buffer out = {0};

	buffer_append_str(&out, "x");
	if (decode(slice_str(text), &out))
		fail_msg("accepted: %s", text);
	assert_int_equal(out.len, 1);
	buffer_free(&out);
}

/* RFC 4648 §10. */
static void test_vectors(void **state)
{
	(void)state;
	check(base64_decode, SLICE(""), SLICE(""));
	check(base64_decode, SLICE("Zg=="), SLICE("f"));
	check(base64_decode, SLICE("Zm8="), SLICE("fo"));
	check(base64_decode, SLICE("Zm9v"), SLICE("foo"));
	check(base64_decode, SLICE("Zm9vYmFy"), SLICE("foobar"));
	check(base64_decode, SLICE("+/+/"), SLICE("\xfb\xff\xbf"));
	check(base64_decode, slice_from(NULL, 0), SLICE(""));
	check(base64url_decode, SLICE(""), SLICE(""));
	check(base64url_decode, SLICE("Zg"), SLICE("f"));
	check(base64url_decode, SLICE("Zm8"), SLICE("fo"));
	check(base64url_decode, SLICE("Zm9vYg"), SLICE("foob"));
	check(base64url_decode, SLICE("-_-_"), SLICE("\xfb\xff\xbf"));
}

static void test_refused(void **state)
{
	static const char *const bad[] = {
		"Z",    "Zg",   "Zg=",   "Zg===",  "Zg====", "====", "=",        "Zm9v=",
		"Zh==", "Zm9=", "Zm 9v", "Zm9v\n", "Zm9*",   "-_-_", "Zg==Zg==", "Z===",
	};
	static const char *const bad_url[] = {
		"Z", "Zg==", "Zm8=", "Zh", "Zm9", "Zm9vY", "+/+/", "Zm9v Zg", "Zm9v\n", "\xc3\xa9",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		check_refused(base64_decode, bad[i]);
	for (size_t i = 0; i < sizeof(bad_url) / sizeof(bad_url[0]); i++)
		check_refused(base64url_decode, bad_url[i]);
}

/* Of all texts of three characters exactly one stands for each pair of bytes. */
static void test_one_spelling(void **state)
{
	static uint8_t seen[65536];
	struct buffer out = {0};
	char text[3];

	(void)state;
	/* Every character of the alphabet lies in this range. */
	for (text[0] = '-'; text[0] <= 'z'; text[0]++)
		for (text[1] = '-'; text[1] <= 'z'; text[1]++)
			for (text[2] = '-'; text[2] <= 'z'; text[2]++) {
				buffer_reset(&out);
				if (!base64url_decode(slice_from(text, 3), &out))
					continue;
				assert_int_equal(out.len, 2);
				seen[(uint8_t)out.data[0] << 8 | (uint8_t)out.data[1]]++;
			}
	for (size_t i = 0; i < sizeof(seen); i++)
		assert_int_equal(seen[i], 1);
	buffer_free(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_one_spelling),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

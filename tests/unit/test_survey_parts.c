/* SPDX-License-Identifier: ISC */
/*
 * Unit tests of the pure parts of surveys: patterns for channel names and the
 * count of different strings over several processes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "keepsock/glob.h"
#include "worker/distinct.h"

/* --- glob --- */

static void test_glob(void **state)
{
	static const struct {
		const char *pattern;
		const char *text;
		bool matches;
	} cases[] = {
		{"", "", true},
		{"", "a", false},
		{"a", "a", true},
		{"a", "A", false},
		{"a", "ab", false},
		{"ab", "a", false},
		{"*", "", true},
		{"*", "any/thing", true},
		{"a*", "a", true},
		{"a*", "ab", true},
		{"a*", "ba", false},
		{"*a", "ba", true},
		{"*a", "ab", false},
		{"a*c", "abcbc", true},
		{"a*c", "abcb", false},
		{"**", "x", true},
		{"a**b", "ab", true},
		{"?", "", false},
		{"?", "a", true},
		{"?", "ab", false},
		{"a?c", "abc", true},
		{"*?", "", false},
		{"*?", "a", true},
		{"?*?", "a", false},
		{"[abc]", "b", true},
		{"[abc]", "d", false},
		{"[a-c]x", "bx", true},
		{"[a-c]x", "dx", false},
		{"[!a-c]", "d", true},
		{"[!a-c]", "b", false},
		{"[]]", "]", true},
		{"[!]]", "]", false},
		{"[!]]", "a", true},
		{"[a-]", "-", true},
		{"[-a]", "-", true},
		{"[a", "[a", true},
		{"[", "[", true},
		{"[]", "[]", true},
		{"[!]", "[!]", true},
		{"[a", "a", false},
		{"a[", "a[", true},
		{"*[0-9]", "room-12", true},
		{"*[0-9]", "room-x", false},
		{"\\*", "*", true},
		{"\\*", "a", false},
		{"\\?", "?", true},
		{"\\[a]", "[a]", true},
		{"\\", "\\", true},
		{"a\\", "a\\", true},
		{"\\\\", "\\", true},
		{"*.*", "a.b", true},
		{"*.*", "ab", false},
		{"{a,b}", "a", false},
		{"*a*b", "aab", true},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (glob_match(slice_str(cases[i].pattern), slice_str(cases[i].text)) !=
		    cases[i].matches)
			fail_msg("pattern %s text %s", cases[i].pattern, cases[i].text);
}

/* Would take more steps than there are atoms if stars were tried recursively. */
static void test_glob_with_many_stars_ends(void **state)
{
	char pattern[201], text[256];

	(void)state;
	for (size_t i = 0; i < 200; i++)
		pattern[i] = i % 2 ? 'a' : '*';
	pattern[200] = 'b';
	memset(text, 'a', sizeof(text));
	assert_false(
		glob_match(slice_from(pattern, sizeof(pattern)), slice_from(text, sizeof(text))));
	text[sizeof(text) - 1] = 'b';
	assert_true(
		glob_match(slice_from(pattern, sizeof(pattern)), slice_from(text, sizeof(text))));
}

/* --- distinct --- */

static void add_numbers(struct distinct *distinct, unsigned from, unsigned to)
{
	char text[16];

	for (unsigned i = from; i < to; i++) {
		int length = snprintf(text, sizeof(text), "%u", i);

		distinct_add(distinct, slice_from(text, (size_t)length));
	}
}

/* What a process with these numbers sends, merged into `into`. */
static void merge_numbers(struct distinct *into, size_t limit, unsigned from, unsigned to)
{
	struct distinct sent;
	struct buffer text = {0};

	distinct_init(&sent, limit);
	add_numbers(&sent, from, to);
	distinct_write(&sent, &text);
	assert_true(text.len <= 16 * (limit + 1));
	assert_true(distinct_merge(into, buffer_slice(&text)));
	buffer_free(&text);
	distinct_free(&sent);
}

static void test_distinct_counts_each_once(void **state)
{
	struct distinct distinct;

	(void)state;
	distinct_init(&distinct, 1000);
	assert_int_equal(distinct_count(&distinct), 0);
	distinct_add(&distinct, SLICE(""));
	distinct_add(&distinct, SLICE(""));
	assert_int_equal(distinct_count(&distinct), 1);
	for (int i = 0; i < 10; i++)
		add_numbers(&distinct, 0, 500);
	assert_int_equal(distinct_count(&distinct), 501);
	distinct_free(&distinct);
}

static void test_distinct_union_is_exact(void **state)
{
	struct distinct sum;

	(void)state;
	distinct_init(&sum, 4000);
	merge_numbers(&sum, 1000, 0, 1000);
	merge_numbers(&sum, 1000, 500, 1500);
	merge_numbers(&sum, 1000, 0, 0);
	merge_numbers(&sum, 1000, 1400, 1600);
	assert_int_equal(distinct_count(&sum), 1600);
	distinct_free(&sum);
}

/* The hashes are fixed, so this is no matter of luck: 10,000 kept are within 3 %. */
static void test_distinct_beyond_the_limit_is_close(void **state)
{
	struct distinct sum;

	(void)state;
	distinct_init(&sum, 40000);
	merge_numbers(&sum, 10000, 0, 150000);
	merge_numbers(&sum, 10000, 50000, 200000);
	merge_numbers(&sum, 10000, 199000, 201000);
	assert_in_range(distinct_count(&sum), 195000, 207000);
	distinct_free(&sum);
}

static void test_distinct_refuses_what_it_did_not_write(void **state)
{
	static const char *const texts[] = {"",
					    "0",
					    "fffffffffffffff",
					    "FFFFFFFFFFFFFFFF",
					    "ffffffffffffffff0",
					    "fffffffffffffff "};
	struct distinct distinct;

	(void)state;
	distinct_init(&distinct, 10);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		assert_false(distinct_merge(&distinct, slice_str(texts[i])));
	assert_true(distinct_merge(&distinct, SLICE("ffffffffffffffff")));
	assert_int_equal(distinct_count(&distinct), 0);
	/* A ceiling of zero, which no process of ours has. */
	assert_true(distinct_merge(&distinct, SLICE("00000000000000000000000000000000")));
	assert_in_range(distinct_count(&distinct), 0, 1);
	distinct_free(&distinct);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_glob),
		cmocka_unit_test(test_glob_with_many_stars_ends),
		cmocka_unit_test(test_distinct_counts_each_once),
		cmocka_unit_test(test_distinct_union_is_exact),
		cmocka_unit_test(test_distinct_beyond_the_limit_is_close),
		cmocka_unit_test(test_distinct_refuses_what_it_did_not_write),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: ISC */
/*
 * The Origin check: what counts as the same origin, and how patterns match.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "keepsock/origin.h"

static bool same(const char *origin, const char *host)
{
	return origin_allowed(slice_str(origin), slice_str(host), NULL, 0);
}

static bool matches(const char *origin, const char *pattern)
{
	char *patterns[] = {"https://no.match", (char *)pattern};

	return origin_allowed(slice_str(origin), SLICE("other.host"), patterns, 2);
}

static void test_same_origin_passes(void **unused)
{
	(void)unused;
	assert_true(same("http://example.com", "example.com"));
	assert_true(same("https://example.com", "example.com"));
	assert_true(same("http://Example.COM", "eXample.com"));
	assert_true(same("HTTP://example.com:8000", "example.com:8000"));
	assert_true(same("http://[::1]:8000", "[::1]:8000"));
	assert_true(same("http://127.0.0.1:8000", "127.0.0.1:8000"));
}

static void test_default_port_may_be_named(void **unused)
{
	(void)unused;
	assert_true(same("http://example.com", "example.com:80"));
	assert_true(same("http://example.com:80", "example.com"));
	assert_true(same("https://example.com", "example.com:443"));
	assert_false(same("https://example.com", "example.com:80"));
	assert_false(same("http://example.com", "example.com:443"));
}

static void test_other_origin_is_refused(void **unused)
{
	(void)unused;
	assert_false(same("http://example.com", "example.org"));
	assert_false(same("http://example.com", "example.com:8000"));
	assert_false(same("http://example.com:8000", "example.com:8001"));
	assert_false(same("http://evil.com", "example.com"));
	assert_false(same("http://example.com.evil.com", "example.com"));
	assert_false(same("http://evilexample.com", "example.com"));
	assert_false(same("http://example.com/", "example.com"));
	assert_false(same("http://user@example.com", "example.com"));
	assert_false(same("http://example.com http://evil.com", "example.com"));
	assert_false(same("ftp://example.com", "example.com"));
	assert_false(same("example.com", "example.com"));
	assert_false(same("null", "null"));
	assert_false(same("", ""));
	assert_false(same("http://", ""));
	assert_false(same("http://:80", ":80"));
	assert_false(same("https", "https"));
}

static void test_patterns_match_the_whole_origin(void **unused)
{
	(void)unused;
	assert_true(matches("https://example.com", "https://example.com"));
	assert_true(matches("https://EXAMPLE.com", "https://example.com"));
	assert_true(matches("https://example.com", "HTTPS://Example.com"));
	assert_false(matches("https://example.com:444", "https://example.com"));
	assert_false(matches("https://example.com", "https://example.com:444"));
	assert_false(matches("https://example.co", "https://example.com"));
	assert_false(matches("xhttps://example.com", "https://example.com"));
	assert_false(matches("https://example.com", ""));
}

static void test_wildcards(void **unused)
{
	(void)unused;
	assert_true(matches("https://a.b.example.com", "https://*.example.com"));
	assert_false(matches("https://example.com", "https://*.example.com"));
	assert_false(matches("https://a.example.com.evil.org", "https://*.example.com"));
	assert_true(matches("http://localhost:3000", "http://localhost:*"));
	assert_true(matches("http://node1", "http://node?"));
	assert_false(matches("http://node12", "http://node?"));
	assert_false(matches("http://node", "http://node?"));
	assert_true(matches("null", "*"));
	assert_true(matches("null", "null"));
	assert_true(matches("anything at all", "*"));
	assert_true(matches("", "*"));
	assert_true(matches("", "**"));
	assert_true(matches("abcabcabd", "*abd"));
	assert_true(matches("abcabcabd", "a*c*d"));
	assert_true(matches("axbxc", "a*b*c"));
	assert_false(matches("axbxd", "a*b*c"));
	assert_true(matches("a*b", "a*b"));
	/* A backtracking matcher would not come back from this one. */
	assert_false(matches("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
			     "*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_origin_passes),
		cmocka_unit_test(test_default_port_may_be_named),
		cmocka_unit_test(test_other_origin_is_refused),
		cmocka_unit_test(test_patterns_match_the_whole_origin),
		cmocka_unit_test(test_wildcards),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

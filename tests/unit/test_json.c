/* SPDX-License-Identifier: ISC */
/*
 * The JSON scanner against RFC 8259: what has to pass, what has to be refused,
 * every truncation of a text, walks, scalars and the writer. Each text is copied
 * to a block of exactly its size, so that the address sanitizer sees any byte
 * read beyond the end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "keepsock/json.h"

static bool valid_bytes(const char *data, size_t len)
{
	char *copy = malloc(len > 0 ? len : 1);
	bool result;

	assert_non_null(copy);
	memcpy(copy, data, len);
	result = json_validate(slice_from(copy, len));
	free(copy);
	return result;
}

static bool valid(const char *text)
{
	return valid_bytes(text, strlen(text));
}

static const char *const good[] = {
	"null",
	"true",
	"false",
	"0",
	"-0",
	"7",
	"-12",
	"1234567890123456789012345678901234567890",
	"0.5",
	"-0.05",
	"1e5",
	"1E+5",
	"1.25e-7",
	"0e0",
	"\"\"",
	"\"a\"",
	"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
	"\"\\u0000\"",
	"\"\\uFFFF\"",
	"\"\\uabCD\"",
	"\"\\uD83D\\uDE00\"",
	"\"\\ud800\"",
	"\"\\udc00\"",
	"\"\\ud800x\"",
	"\"\\ud800\\n\"",
	"\"\\ud800\\u0041\"",
	"\"\\ud800\\ud800\"",
	"\"\\udc00\\ud800\"",
	"\"\x7f\"",
	"\"\xc2\x80 \xdf\xbf\"",
	"\"\xe0\xa0\x80 \xed\x9f\xbf \xee\x80\x80 \xef\xbf\xbf\"",
	"\"\xf0\x90\x80\x80 \xf4\x8f\xbf\xbf\"",
	"[]",
	"[ ]",
	"{}",
	"{ }",
	"[1]",
	"[1,2 , 3]",
	"[[],[[]],{}]",
	"{\"a\":1}",
	"{\"a\":1,\"a\":2}",
	"{\"\":{\"\":[{}]}}",
	" \t\r\n[1]\n\r\t ",
	"[\"a long run of ordinary characters\",{\"and\":\"another one, longer than a word\"}]",
};

static const char *const bad[] = {
	"",
	" ",
	"nul",
	"nulll",
	"True",
	"tru",
	"falsy",
	"NaN",
	"Infinity",
	"-",
	"+1",
	"01",
	"-01",
	"00",
	"1.",
	".5",
	"1.e5",
	"1e",
	"1e+",
	"1e1.5",
	"0x10",
	"1 2",
	"1,",
	"1a",
	"--1",
	"\"",
	"\"a",
	"a\"",
	"'a'",
	"\"\\\"",
	"\"\\",
	"\"\\x41\"",
	"\"\\a\"",
	"\"\\u\"",
	"\"\\u12\"",
	"\"\\u123\"",
	"\"\\u123g\"",
	"\"\\U0041\"",
	"\"\\ud83d\\u\"",
	"\"a\nb\"",
	"\"a\tb\"",
	"\"\x1f\"",
	"\"abcdefgh\x01\"",
	"\"\x80\"",
	"\"\xbf\"",
	"\"\xc0\x80\"",
	"\"\xc1\xbf\"",
	"\"\xc3\"",
	"\"\xc3(\"",
	"\"\xe0\x9f\xbf\"",
	"\"\xe2\x82\"",
	"\"\xe2(\xa1\"",
	"\"\xed\xa0\x80\"",
	"\"\xf0\x8f\xbf\xbf\"",
	"\"\xf4\x90\x80\x80\"",
	"\"\xf5\x80\x80\x80\"",
	"\"\xf0\x9f\x98\"",
	"\"\xff\"",
	"[",
	"]",
	"[1",
	"[1,",
	"[1,]",
	"[,1]",
	"[,]",
	"[1 2]",
	"[1,,2]",
	"[1}",
	"{",
	"}",
	"{]",
	"{\"a\"",
	"{\"a\":",
	"{\"a\":1",
	"{\"a\":1,",
	"{\"a\":1,}",
	"{,}",
	"{,\"a\":1}",
	"{\"a\"}",
	"{\"a\",1}",
	"{\"a\":}",
	"{a:1}",
	"{1:1}",
	"{\"a\":1 \"b\":2}",
	"{\"a\"::1}",
	"{null:1}",
	"[]]",
	"{}}",
	"{}{}",
	"[] []",
	"\xef\xbb\xbf{}",
	"// x\n1",
	"[1]/**/",
	"\v1",
	"\f1",
	"\xc2\xa0\n1",
};

static void test_good_texts(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
		if (!valid(good[i]))
			fail_msg("refused: %s", good[i]);
}

static void test_bad_texts(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		if (valid(bad[i]))
			fail_msg("accepted: %s", bad[i]);
	assert_false(valid_bytes("1\0", 2));
	assert_false(valid_bytes("\0", 1));
	assert_false(valid_bytes("\"\0\"", 3));
	assert_false(json_validate(slice_from(NULL, 0)));
}

static void test_every_truncation_is_invalid(void **state)
{
	static const char text[] = "{\"k\\u00e9y\":[true,false,null,-1.5e+10,\"\\ud83d\\ude00 "
				   "\xf0\x9f\x98\x80 ordinary text\",{\"x\":{}}],\"z\":\"\\\\\"}";

	(void)state;
	assert_true(valid(text));
	for (size_t len = 0; len < sizeof text - 1; len++)
		assert_false(valid_bytes(text, len));
}

static void test_special_byte_at_every_place(void **state)
{
	char text[34];

	(void)state;
	for (size_t at = 1; at < sizeof text - 1; at++) {
		for (int byte = 0; byte < 256; byte++) {
			memset(text, 'x', sizeof text);
			text[0] = text[sizeof text - 1] = '"';
			text[at] = (char)byte;
			bool plain = byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\';
			assert_int_equal(valid_bytes(text, sizeof text), plain);
		}
	}
}

static void test_depth(void **state)
{
	char text[2 * (JSON_DEPTH_MAX + 1)];

	(void)state;
	for (size_t depth = JSON_DEPTH_MAX; depth <= JSON_DEPTH_MAX + 1; depth++) {
		memset(text, '[', depth);
		memset(text + depth, ']', depth);
		assert_int_equal(valid_bytes(text, 2 * depth), depth <= JSON_DEPTH_MAX);
	}
	memset(text, '[', sizeof text);
	assert_false(valid_bytes(text, sizeof text));
}

static void test_types(void **state)
{
	(void)state;
	assert_int_equal(json_kind_of(SLICE(" {")), JSON_KIND_OBJECT);
	assert_int_equal(json_kind_of(SLICE("[")), JSON_KIND_ARRAY);
	assert_int_equal(json_kind_of(SLICE("\"x\"")), JSON_KIND_STRING);
	assert_int_equal(json_kind_of(SLICE("-1")), JSON_KIND_NUMBER);
	assert_int_equal(json_kind_of(SLICE("9")), JSON_KIND_NUMBER);
	assert_int_equal(json_kind_of(SLICE("true")), JSON_KIND_BOOL);
	assert_int_equal(json_kind_of(SLICE("false")), JSON_KIND_BOOL);
	assert_int_equal(json_kind_of(SLICE("null")), JSON_KIND_NULL);
	assert_int_equal(json_kind_of(SLICE("x")), JSON_KIND_INVALID);
	assert_int_equal(json_kind_of(SLICE("")), JSON_KIND_INVALID);
	assert_int_equal(json_kind_of(slice_from(NULL, 0)), JSON_KIND_INVALID);
}

static void test_object_walk(void **state)
{
	struct json_walk it;
	struct slice key, value;

	(void)state;
	json_object_begin(&it, SLICE(" { \"a\" : 1 , \"b\\n\":[ 2 ] } "));
	assert_true(json_object_next(&it, &key, &value));
	assert_true(slice_is(key, "\"a\""));
	assert_true(slice_is(value, "1"));
	assert_false(json_walk_ok(&it));
	assert_true(json_object_next(&it, &key, &value));
	assert_true(slice_is(key, "\"b\\n\""));
	assert_true(slice_is(value, "[ 2 ]"));
	assert_false(json_object_next(&it, &key, &value));
	assert_true(json_walk_ok(&it));
	assert_false(json_object_next(&it, &key, &value));
	assert_true(json_walk_ok(&it));
}

static void test_array_walk(void **state)
{
	struct json_walk it;
	struct slice value;
	size_t count = 0;

	(void)state;
	json_array_begin(&it, SLICE("[1,\"x\",{}]"));
	while (json_array_next(&it, &value))
		count++;
	assert_true(json_walk_ok(&it));
	assert_int_equal(count, 3);
	json_array_begin(&it, SLICE("[]"));
	assert_false(json_array_next(&it, &value));
	assert_true(json_walk_ok(&it));
}

/* Whether a walk over text, as object or as array, ends well. */
static bool walks(const char *text, bool object)
{
	struct json_walk it;
	struct slice key, value;

	if (object) {
		json_object_begin(&it, slice_str(text));
		while (json_object_next(&it, &key, &value))
			continue;
	} else {
		json_array_begin(&it, slice_str(text));
		while (json_array_next(&it, &value))
			continue;
	}
	return json_walk_ok(&it);
}

static void test_walk_agrees_with_validation(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		enum json_kind type = json_kind_of(slice_str(good[i]));
		assert_int_equal(walks(good[i], true), type == JSON_KIND_OBJECT);
		assert_int_equal(walks(good[i], false), type == JSON_KIND_ARRAY);
	}
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		assert_false(walks(bad[i], true));
		assert_false(walks(bad[i], false));
	}
}

static void test_find(void **state)
{
	struct slice value = SLICE("untouched");

	(void)state;
	assert_true(json_object_find(SLICE("{\"a\":1,\"b\":2,\"a\":3}"), "a", &value));
	assert_true(slice_is(value, "3"));
	assert_true(json_object_find(SLICE("{\"\\u0061\":4}"), "a", &value));
	assert_true(slice_is(value, "4"));
	assert_true(json_object_find(SLICE("{\"a\":5,\"a\":null}"), "a", &value));
	assert_true(slice_is(value, "5"));
	assert_false(json_object_find(SLICE("{\"a\":null}"), "a", &value));
	assert_false(json_object_find(SLICE("{\"b\":1}"), "a", &value));
	assert_false(json_object_find(SLICE("{\"a\":1,}"), "a", &value));
	assert_false(json_object_find(SLICE("[\"a\"]"), "a", &value));
	assert_true(slice_is(value, "5"));
}

static void test_string_is(void **state)
{
	(void)state;
	assert_true(json_string_is(SLICE("\"abc\""), "abc"));
	assert_true(json_string_is(SLICE("\"\\u0061b\\u0063\""), "abc"));
	assert_true(json_string_is(SLICE("\"\""), ""));
	assert_false(json_string_is(SLICE("\"ab\""), "abc"));
	assert_false(json_string_is(SLICE("\"abcd\""), "abc"));
	assert_false(json_string_is(SLICE("\"ab\\\\c\""), "abc"));
	assert_false(json_string_is(SLICE("12345"), "234"));
	assert_false(json_string_is(SLICE("\"abc\\u0000\""), "abc"));
}

static void test_string_decode(void **state)
{
	struct buffer out;

	(void)state;
	buffer_init(&out);
	assert_true(json_string_decode(SLICE("\"plain \xc3\xa9\""), &out));
	assert_true(json_string_decode(SLICE("\"\\\"\\\\\\/\\b\\f\\n\\r\\t|\""), &out));
	assert_true(
		json_string_decode(SLICE("\"\\u0041\\u00e9\\u20AC\\ud83d\\uDE00\\u0000z\""), &out));
	assert_true(
		slice_equal(buffer_slice(&out), SLICE("plain \xc3\xa9"
						      "\"\\/\b\f\n\r\t|"
						      "A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\0z")));
	size_t len = out.len;
	assert_false(json_string_decode(SLICE("\"x"), &out));
	assert_false(json_string_decode(SLICE("\"x\" "), &out));
	assert_false(json_string_decode(SLICE("1"), &out));
	assert_false(json_string_decode(slice_from(NULL, 0), &out));
	assert_int_equal(out.len, len);
	buffer_reset(&out);
	assert_true(json_string_decode(SLICE("\"\\ud800x\\udc00\""), &out));
	assert_true(slice_is(buffer_slice(&out), "\xef\xbf\xbdx\xef\xbf\xbd"));
	buffer_free(&out);
}

static void test_numbers(void **state)
{
	uint64_t u64 = 7;
	uint32_t u32 = 7;
	int64_t i64 = 7;
	int32_t i32 = 7;

	(void)state;
	assert_true(json_get_u64(SLICE("18446744073709551615"), &u64) && u64 == UINT64_MAX);
	assert_true(json_get_u32(SLICE("4294967295"), &u32) && u32 == UINT32_MAX);
	assert_true(json_get_i64(SLICE("-9223372036854775808"), &i64) && i64 == INT64_MIN);
	assert_true(json_get_i64(SLICE("9223372036854775807"), &i64) && i64 == INT64_MAX);
	assert_true(json_get_i32(SLICE("-2147483648"), &i32) && i32 == INT32_MIN);
	assert_true(json_get_i32(SLICE("2147483647"), &i32) && i32 == INT32_MAX);
	assert_true(json_get_u64(SLICE("0"), &u64) && u64 == 0);

	assert_false(json_get_u64(SLICE("18446744073709551616"), &u64));
	assert_false(json_get_u64(SLICE("99999999999999999999"), &u64));
	assert_false(json_get_u64(SLICE("-1"), &u64));
	assert_false(json_get_u64(SLICE("1.0"), &u64));
	assert_false(json_get_u64(SLICE("1e3"), &u64));
	assert_false(json_get_u64(SLICE("\"1\""), &u64));
	assert_false(json_get_u64(SLICE("01"), &u64));
	assert_false(json_get_u64(SLICE(""), &u64));
	assert_false(json_get_u32(SLICE("4294967296"), &u32));
	assert_false(json_get_i64(SLICE("9223372036854775808"), &i64));
	assert_false(json_get_i64(SLICE("-9223372036854775809"), &i64));
	assert_false(json_get_i64(SLICE("-"), &i64));
	assert_false(json_get_i32(SLICE("2147483648"), &i32));
	assert_false(json_get_i32(SLICE("-2147483649"), &i32));
	assert_int_equal(u64, 0);
	assert_int_equal(u32, UINT32_MAX);
}

static void test_bools(void **state)
{
	bool value = false;

	(void)state;
	assert_true(json_get_bool(SLICE("true"), &value) && value);
	assert_false(json_get_bool(SLICE("1"), &value));
	assert_false(json_get_bool(SLICE("\"false\""), &value));
	assert_true(value);
	assert_true(json_get_bool(SLICE("false"), &value) && !value);
}

static void check_written(struct slice text, const char *json)
{
	struct buffer out;

	buffer_init(&out);
	json_append_string(&out, text);
	assert_true(slice_is(buffer_slice(&out), json));
	assert_true(json_validate(buffer_slice(&out)));
	buffer_free(&out);
}

static void test_append_string(void **state)
{
	(void)state;
	check_written(SLICE(""), "\"\"");
	check_written(slice_from(NULL, 0), "\"\"");
	check_written(SLICE("plain/text \xf0\x9f\x98\x80"), "\"plain/text \xf0\x9f\x98\x80\"");
	check_written(SLICE("\"\\\n\r\t"), "\"\\\"\\\\\\n\\r\\t\"");
	check_written(SLICE("a\0\x01\x1f\x7f"), "\"a\\u0000\\u0001\\u001f\x7f\"");
	check_written(SLICE("x\xff\xc3\"\xed\xa0\x80"),
		      "\"x\xef\xbf\xbd\xef\xbf\xbd\\\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
}

static void test_append_string_survives_decoding(void **state)
{
	struct buffer json, text;

	(void)state;
	buffer_init(&json);
	buffer_init(&text);
	for (unsigned a = 0; a < 0x80; a++) {
		char pair[2] = {(char)a, (char)(0x7f - a)};
		buffer_reset(&json);
		buffer_reset(&text);
		json_append_string(&json, slice_from(pair, 2));
		assert_true(json_string_decode(buffer_slice(&json), &text));
		assert_true(slice_equal(buffer_slice(&text), slice_from(pair, 2)));
	}
	buffer_free(&json);
	buffer_free(&text);
}

static void test_append_raw(void **state)
{
	struct buffer out;

	(void)state;
	buffer_init(&out);
	json_append_raw(&out, slice_from(NULL, 0));
	assert_int_equal(out.len, 0);
	buffer_append_str(&out, "\n");
	json_append_raw(&out, SLICE("\n{\n\"a\" :\r\t[1.0e0,\"\\n\"]}\n"));
	assert_true(slice_is(buffer_slice(&out), "\n { \"a\" :\r\t[1.0e0,\"\\n\"]} "));
	buffer_free(&out);
}

static void test_values_behind_each_other(void **state)
{
	struct slice rest = SLICE(" {\"a\":1}\n[2]3 \"x\"\t");
	static const char *const values[] = {"{\"a\":1}", "[2]", "3", "\"x\""};
	struct slice value;

	(void)state;
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		assert_true(json_values_next(&rest, &value));
		assert_true(slice_is(value, values[i]));
	}
	assert_false(json_values_next(&rest, &value));
	assert_int_equal(rest.len, 0);
	rest = SLICE("");
	assert_false(json_values_next(&rest, &value));
	rest = SLICE("1 ,2");
	assert_true(json_values_next(&rest, &value));
	assert_false(json_values_next(&rest, &value));
	assert_true(slice_is(rest, ",2"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good_texts),
		cmocka_unit_test(test_bad_texts),
		cmocka_unit_test(test_every_truncation_is_invalid),
		cmocka_unit_test(test_special_byte_at_every_place),
		cmocka_unit_test(test_depth),
		cmocka_unit_test(test_types),
		cmocka_unit_test(test_object_walk),
		cmocka_unit_test(test_array_walk),
		cmocka_unit_test(test_walk_agrees_with_validation),
		cmocka_unit_test(test_find),
		cmocka_unit_test(test_string_is),
		cmocka_unit_test(test_string_decode),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_bools),
		cmocka_unit_test(test_append_string),
		cmocka_unit_test(test_append_string_survives_decoding),
		cmocka_unit_test(test_append_raw),
		cmocka_unit_test(test_values_behind_each_other),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: ISC */
/*
 * UTF-8 validation against the table of RFC 3629: every character at the edges
 * of a range, every ill-formed kind, and the same verdict however the text is cut.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "keepsock/slice.h"
#include "keepsock/utf8.h"

static const struct slice valid[] = {
	SLICE(""),
	SLICE("plain ASCII, longer than the eight bytes that go at once"),
	SLICE("\x00"),
	SLICE("\x7f"),
	SLICE("\xc2\x80"),
	SLICE("\xdf\xbf"),
	SLICE("\xe0\xa0\x80"),
	SLICE("\xec\xbf\xbf"),
	SLICE("\xed\x80\x80"),
	SLICE("\xed\x9f\xbf"),
	SLICE("\xee\x80\x80"),
	SLICE("\xef\xbf\xbf"),
	SLICE("\xef\xbb\xbf"),
	SLICE("\xf0\x90\x80\x80"),
	SLICE("\xf1\x80\x80\x80"),
	SLICE("\xf3\xbf\xbf\xbf"),
	SLICE("\xf4\x80\x80\x80"),
	SLICE("\xf4\x8f\xbf\xbf"),
	SLICE("\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"),
	SLICE("1234567\xc3\xa9 12345678\xe2\x82\xac 123456789\xf0\x9f\x98\x80"),
};

/* The byte that shows the error is the last one of each. */
static const struct slice invalid[] = {
	SLICE("\x80"),         SLICE("\xbf"),         SLICE("\xc0"),
	SLICE("\xc1"),         SLICE("\xf5"),         SLICE("\xf8"),
	SLICE("\xff"),         SLICE("\xc2\x41"),     SLICE("\xc2\xc2"),
	SLICE("\xe0\x80"),     SLICE("\xe0\x9f"),     SLICE("\xe1\x41"),
	SLICE("\xe1\x80\x41"), SLICE("\xed\xa0"),     SLICE("\xed\xbf"),
	SLICE("\xf0\x80"),     SLICE("\xf0\x8f"),     SLICE("\xf1\x80\x80\xc0"),
	SLICE("\xf4\x90"),     SLICE("12345678\xff"), SLICE("1234567\xc3\xa9\xa9"),
};

static const struct slice unfinished[] = {
	SLICE("\xc2"),         SLICE("\xe0"),         SLICE("\xe0\xa0"),
	SLICE("\xe1\x80"),     SLICE("\xed\x9f"),     SLICE("\xf0\x90"),
	SLICE("\xf0\x90\x80"), SLICE("\xf4\x8f\xbf"), SLICE("12345678\xe2\x82"),
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Feeds two parts from blocks of exactly their size, so that a sanitizer sees any step outside. */
static bool feed_cut(struct slice text, size_t cut, uint32_t *state)
{
	char *first = malloc(cut + 1), *second = malloc(text.len - cut + 1);
	bool ok;

	assert_non_null(first);
	assert_non_null(second);
	memcpy(first, text.data, cut);
	memcpy(second, text.data + cut, text.len - cut);
	*state = UTF8_START;
	ok = utf8_feed(state, first, cut) && utf8_feed(state, second, text.len - cut);
	free(first);
	free(second);
	return ok;
}

static void test_valid_text_passes_at_every_cut(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < COUNT(valid); i++) {
		assert_true(utf8_valid(valid[i].data, valid[i].len));
		for (size_t cut = 0; cut <= valid[i].len; cut++) {
			uint32_t state;

			assert_true(feed_cut(valid[i], cut, &state));
			assert_true(utf8_complete(state));
			assert_true(state <= UINT8_MAX);
		}
	}
}

static void test_invalid_text_fails_at_its_first_wrong_byte(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < COUNT(invalid); i++) {
		uint32_t state = UTF8_START;

		assert_true(utf8_feed(&state, invalid[i].data, invalid[i].len - 1));
		assert_false(utf8_feed(&state, invalid[i].data + invalid[i].len - 1, 1));
		for (size_t cut = 0; cut <= invalid[i].len; cut++)
			assert_false(feed_cut(invalid[i], cut, &state));
	}
}

static void test_failure_is_final(void **unused)
{
	uint32_t state = UTF8_START;

	(void)unused;
	assert_false(utf8_feed(&state, "\xff", 1));
	assert_false(utf8_complete(state));
	assert_false(utf8_feed(&state, "a", 1));
	assert_false(utf8_feed(&state, "", 0));
}

static void test_unfinished_text_is_not_complete(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < COUNT(unfinished); i++) {
		uint32_t state = UTF8_START;

		assert_true(utf8_feed(&state, unfinished[i].data, unfinished[i].len));
		assert_false(utf8_complete(state));
		assert_false(utf8_valid(unfinished[i].data, unfinished[i].len));
	}
}

static void test_foreign_state_is_refused(void **unused)
{
	(void)unused;
	for (uint32_t foreign = 8; foreign < 300; foreign++) {
		uint32_t state = foreign;

		assert_false(utf8_feed(&state, "a", 1));
	}
}

static size_t encode(uint32_t c, char out[4])
{
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = (char)(0xc0 | c >> 6);
		out[1] = (char)(0x80 | (c & 0x3f));
		return 2;
	}
	if (c < 0x10000) {
		out[0] = (char)(0xe0 | c >> 12);
		out[1] = (char)(0x80 | (c >> 6 & 0x3f));
		out[2] = (char)(0x80 | (c & 0x3f));
		return 3;
	}
	out[0] = (char)(0xf0 | c >> 18);
	out[1] = (char)(0x80 | (c >> 12 & 0x3f));
	out[2] = (char)(0x80 | (c >> 6 & 0x3f));
	out[3] = (char)(0x80 | (c & 0x3f));
	return 4;
}

static void test_exactly_the_unicode_scalar_values(void **unused)
{
	(void)unused;
	for (uint32_t c = 0; c < 0x200000; c++) {
		char bytes[4];
		bool is_scalar = c < 0x110000 && (c < 0xd800 || c > 0xdfff);

		if (utf8_valid(bytes, encode(c, bytes)) != is_scalar)
			fail_msg("U+%04X", (unsigned)c);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_valid_text_passes_at_every_cut),
		cmocka_unit_test(test_invalid_text_fails_at_its_first_wrong_byte),
		cmocka_unit_test(test_failure_is_final),
		cmocka_unit_test(test_unfinished_text_is_not_complete),
		cmocka_unit_test(test_foreign_state_is_refused),
		cmocka_unit_test(test_exactly_the_unicode_scalar_values),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

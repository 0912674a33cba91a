/* SPDX-License-Identifier: ISC */
/* Random numbers stay in their bounds and vary; UUIDs in text and back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "keepsock/random.h"

static void test_bytes_fill_exactly(void **state)
{
	unsigned char bytes[66] = {0};
	unsigned char seen[64] = {0};

	(void)state;
	/* Each byte is non-zero in some of 64 rounds but for a chance of 2^-512. */
	for (int round = 0; round < 64; round++) {
		random_bytes(bytes + 1, 64);
		for (size_t i = 0; i < sizeof(seen); i++)
			seen[i] |= bytes[i + 1];
	}
	for (size_t i = 0; i < sizeof(seen); i++)
		assert_int_not_equal(seen[i], 0);
	assert_int_equal(bytes[0], 0);
	assert_int_equal(bytes[65], 0);
	random_bytes(NULL, 0);
}

static void test_below_stays_below_and_reaches_all(void **state)
{
	bool seen[7] = {false};

	(void)state;
	for (int i = 0; i < 5000; i++) {
		uint32_t value = random_below(7);

		assert_true(value < 7);
		seen[value] = true;
	}
	for (size_t i = 0; i < 7; i++)
		assert_true(seen[i]);
	assert_int_equal(random_below(0), 0);
	assert_int_equal(random_below(1), 0);
	for (int i = 0; i < 100; i++)
		assert_true(random_below(UINT32_MAX) < UINT32_MAX);
}

static void test_backoff_doubles_up_to_its_limit_with_jitter(void **state)
{
	static const uint64_t limits[] = {50, 100, 200, 400, 500, 500};

	(void)state;
	for (unsigned attempt = 0; attempt < 6; attempt++) {
		bool varies = false;
		uint64_t first = random_backoff_ms(attempt, 50, 500);

		for (int round = 0; round < 200; round++) {
			uint64_t delay = random_backoff_ms(attempt, 50, 500);

			assert_in_range(delay, limits[attempt] / 2, limits[attempt]);
			varies = varies || delay != first;
		}
		assert_true(varies);
	}
	assert_in_range(random_backoff_ms(4000000000u, 50, 2000), 1000, 2000);
	assert_int_equal(random_backoff_ms(3, 0, 0), 0);
}

static void test_generated_uuid_is_version_4(void **state)
{
	struct uuid a, b;

	(void)state;
	for (int i = 0; i < 1000; i++) {
		uuid_generate(&a);
		assert_int_equal(a.bytes[6] >> 4, 4);
		assert_int_equal(a.bytes[8] >> 6, 2);
	}
	uuid_generate(&b);
	assert_memory_not_equal(&a, &b, sizeof(a));
}

static void test_uuid_text_and_back(void **state)
{
	static const char text[] = "00112233-4455-6677-8899-aabbccddeeff";
	struct uuid u, again;
	char out[UUID_TEXT_LEN + 1];

	(void)state;
	assert_true(uuid_parse(slice_str(text), &u));
	for (size_t i = 0; i < 16; i++)
		assert_int_equal(u.bytes[i], i * 0x11);
	uuid_format(&u, out);
	assert_string_equal(out, text);
	assert_true(uuid_parse(SLICE("00112233-4455-6677-8899-AABBCCDDEEFF"), &again));
	assert_memory_equal(&u, &again, sizeof(u));

	uuid_generate(&u);
	uuid_format(&u, out);
	assert_true(uuid_parse(slice_str(out), &again));
	assert_memory_equal(&u, &again, sizeof(u));
}

static void test_uuid_refuses_other_forms(void **state)
{
	static const char *const bad[] = {
		"",
		"00112233-4455-6677-8899-aabbccddeef",
		"00112233-4455-6677-8899-aabbccddeeff0",
		"0011223344556677-8899-aabbccddeeff--",
		"00112233-4455-6677-8899-aabbccddeefg",
		"00112233-4455-6677-8899_aabbccddeeff",
		"001122334-455-6677-8899-aabbccddeeff",
		"{0112233-4455-6677-8899-aabbccddeef}",
	};
	struct uuid before, u;

	(void)state;
	uuid_generate(&before);
	u = before;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_false(uuid_parse(slice_str(bad[i]), &u));
		assert_memory_equal(&before, &u, sizeof(u));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes_fill_exactly),
		cmocka_unit_test(test_below_stays_below_and_reaches_all),
		cmocka_unit_test(test_backoff_doubles_up_to_its_limit_with_jitter),
		cmocka_unit_test(test_generated_uuid_is_version_4),
		cmocka_unit_test(test_uuid_text_and_back),
		cmocka_unit_test(test_uuid_refuses_other_forms),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

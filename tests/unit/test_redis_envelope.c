/* SPDX-License-Identifier: ISC */
/*
 * The text around pub/sub messages: what is built parses back to the last
 * byte, and nothing else parses.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "keepsock/redis_envelope.h"
#include "keepsock/redis_keys.h"

static void assert_slice(struct slice actual, const char *expected, size_t len)
{
	assert_int_equal(actual.len, len);
	assert_memory_equal(actual.data, expected, len);
}

static void test_build(void **state)
{
	struct redis_envelope envelope = {
		.kind = REDIS_MESSAGE_PUBLICATION,
		.sequence = 17,
		.offset = 3,
		.epoch = SLICE("AbCdEfGh"),
		.body = {SLICE("{\"a\":1}"), SLICE("{\"user\":\"u\"}"), SLICE("{}")},
	};
	struct buffer out = {0};

	(void)state;
	redis_envelope_append(&out, &envelope);
	assert_string_equal(buffer_cstr(&out),
			    "p 17 3 AbCdEfGh 7 12 2\n{\"a\":1}{\"user\":\"u\"}{}");
	buffer_reset(&out);
	envelope = (struct redis_envelope){
		.kind = REDIS_MESSAGE_JOIN, .sequence = UINT64_MAX, .body = {.info = SLICE("{}")}};
	redis_envelope_append(&out, &envelope);
	assert_string_equal(buffer_cstr(&out), "j 18446744073709551615 0 - 0 2 0\n{}");
	buffer_free(&out);
}

static void check_round_trip(const struct redis_envelope *envelope)
{
	struct redis_envelope parsed;
	struct buffer out = {0};

	redis_envelope_append(&out, envelope);
	assert_true(redis_envelope_parse(buffer_slice(&out), &parsed));
	assert_int_equal(parsed.kind, envelope->kind);
	assert_true(parsed.sequence == envelope->sequence);
	assert_true(parsed.offset == envelope->offset);
	assert_true(slice_equal(parsed.epoch, envelope->epoch));
	assert_true(slice_equal(parsed.body.data, envelope->body.data));
	assert_true(slice_equal(parsed.body.info, envelope->body.info));
	assert_true(slice_equal(parsed.body.tags, envelope->body.tags));
	/* Cut anywhere, or longer by a byte, it is no message. */
	for (size_t len = 0; len < out.len; len++) {
		char *cut = malloc(len ? len : 1); /* of the exact size, for the sanitizer */

		assert_non_null(cut);
		memcpy(cut, out.data, len);
		assert_false(redis_envelope_parse(slice_from(cut, len), &parsed));
		free(cut);
	}
	buffer_append_char(&out, ' ');
	assert_false(redis_envelope_parse(buffer_slice(&out), &parsed));
	buffer_free(&out);
}

static void test_round_trip(void **state)
{
	static const char binary[] = "\0\n \xff 5 5 5\n";
	struct redis_envelope envelope = {
		.kind = REDIS_MESSAGE_PUBLICATION,
		.sequence = UINT64_MAX,
		.offset = UINT64_MAX,
		.epoch = SLICE("abcdefgh-12"),
		.body = {{binary, sizeof(binary) - 1}, SLICE("{}"), SLICE("{\"t\":\"1\"}")},
	};

	(void)state;
	check_round_trip(&envelope);
	envelope.offset = 0;
	envelope.epoch = SLICE("");
	check_round_trip(&envelope);
	envelope.kind = REDIS_MESSAGE_LEAVE;
	envelope.body = (struct redis_body){.info = SLICE("{}")};
	check_round_trip(&envelope);
	envelope.kind = REDIS_MESSAGE_CONTROL;
	envelope.body = (struct redis_body){.data = SLICE("")};
	check_round_trip(&envelope);
}

static void test_parse_refuses(void **state)
{
	static const char *const refused[] = {
		"",
		"p",
		"p ",
		"x 1 0 - 0 0 0\n",
		"P 1 0 - 0 0 0\n",
		"pp 1 0 - 0 0 0\n",
		"p  1 0 - 0 0 0\n",
		" p 1 0 - 0 0 0\n",
		"p 0 0 - 0 0 0\n", /* sequences start at 1 */
		"p 01 0 - 0 0 0\n",
		"p -1 0 - 0 0 0\n",
		"p +1 0 - 0 0 0\n",
		"p 1.0 0 - 0 0 0\n",
		"p 1 0 - 0 0 0",
		"p 1 0 - 0 0 0 ",
		"p 1 0 - 0 0\n",
		"p 1 0 0 0 0\n",
		"p 1 0 - 0 0 0\r\n",
		"p 1 0 - 0 0 00\n",
		"p 1 0 - 1 0 0\n",
		"p 1 0 - 0 1 0\n",
		"p 1 0 - 0 0 1\n",
		"p 1 0 - 0 0 0\nx",
		"p 1 0 - 1 1 1\nab",
		"p 1 0 - 1 1 1\nabcd",
		"p 1 1 - 0 0 0\n",        /* an offset without an epoch */
		"p 1 0 abcdefgh 0 0 0\n", /* an epoch without an offset */
		"p 1 1  0 0 0\n",
		"p 1 1 \x7f 0 0 0\n",
		"p 1 1 abcdefghabcdefghabcdefghX 0 0 0\n", /* longer than REDIS_EPOCH_MAX */
		"p 18446744073709551616 0 - 0 0 0\n",
		"p 1 0 - 18446744073709551616 0 0\n",
		/* Lengths whose sum overflows to the right one. */
		"p 1 0 - 18446744073709551615 2 0\na",
		"p 1 0 - 1 18446744073709551615 1\na",
		"p 1 0 - 1 9223372036854775808 9223372036854775808\na",
	};
	struct redis_envelope envelope;

	(void)state;
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		if (redis_envelope_parse(slice_str(refused[i]), &envelope))
			fail_msg("accepted: %s", refused[i]);
	}
	assert_true(redis_envelope_parse(SLICE("p 1 0 - 0 0 0\n"), &envelope));
	assert_true(
		redis_envelope_parse(SLICE("p 1 1 abcdefghabcdefghabcdefgh 0 0 0\n"), &envelope));
}

static void test_epoch(void **state)
{
	char first[REDIS_EPOCH_LENGTH + 1], second[REDIS_EPOCH_LENGTH + 1];

	(void)state;
	redis_epoch_generate(first);
	redis_epoch_generate(second);
	assert_int_equal(strlen(first), REDIS_EPOCH_LENGTH);
	for (size_t i = 0; i < REDIS_EPOCH_LENGTH; i++)
		assert_true((first[i] >= 'a' && first[i] <= 'z') ||
			    (first[i] >= 'A' && first[i] <= 'Z'));
	assert_string_not_equal(first, second);
}

static void test_keys(void **state)
{
	struct buffer key = {0};
	struct slice channel;

	(void)state;
	redis_key_stream(&key, SLICE("news"));
	assert_string_equal(buffer_cstr(&key), "keepsock.stream.news");
	buffer_reset(&key);
	redis_key_reply(&key, SLICE("a"), 12);
	assert_string_equal(buffer_cstr(&key), "keepsock.reply.a.12");
	buffer_reset(&key);
	redis_key_done(&key, SLICE("a.12.00c0ffee"));
	assert_string_equal(buffer_cstr(&key), "keepsock.done.a.12.00c0ffee");
	buffer_reset(&key);
	redis_key_channel(&key, SLICE("x.y"));
	assert_true(redis_key_parse_channel(buffer_slice(&key), &channel));
	assert_slice(channel, "x.y", 3);
	assert_false(redis_key_parse_channel(SLICE(REDIS_CONTROL_CHANNEL), &channel));
	assert_false(redis_key_parse_channel(SLICE("keepsock.channel."), &channel));
	assert_false(redis_key_parse_channel(SLICE("keepsock.channe"), &channel));
	/* A channel's name can't make one kind of key look like another. */
	buffer_reset(&key);
	redis_key_presence(&key, SLICE("expire.x"));
	assert_string_equal(buffer_cstr(&key), "keepsock.presence.expire.x");
	buffer_reset(&key);
	redis_key_presence_expire(&key, SLICE("x"));
	assert_string_equal(buffer_cstr(&key), "keepsock.presence_expire.x");
	/* Nor the place of a dot between channel and idempotency key. */
	buffer_reset(&key);
	redis_key_result(&key, SLICE("a.b"), SLICE("c"));
	assert_string_equal(buffer_cstr(&key), "keepsock.result.3.a.b.c");
	buffer_reset(&key);
	redis_key_result(&key, SLICE("a"), SLICE("b.c"));
	assert_string_equal(buffer_cstr(&key), "keepsock.result.1.a.b.c");
	buffer_free(&key);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_build),         cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_parse_refuses), cmocka_unit_test(test_epoch),
		cmocka_unit_test(test_keys),
	};

	return cmocka_run_group_tests_name("redis_envelope", tests, NULL, NULL);
}

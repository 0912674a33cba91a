/* SPDX-License-Identifier: ISC */
/*
 * The client protocol in JSON, from the client: splitting of messages, decoding
 * of every command and of everything that must be refused; and the tables of
 * codes. What goes to the client is in test_client_encode.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "keepsock/client_protocol.h"

/* A command decoded from a block of exactly its size. */
struct decoded {
	char *raw;
	struct buffer scratch;
	struct client_command command;
	enum client_decode_result result;
};

static void decode_bytes(struct decoded *d, const char *text, size_t len)
{
	d->raw = malloc(len > 0 ? len : 1);
	assert_non_null(d->raw);
	memcpy(d->raw, text, len);
	buffer_init(&d->scratch);
	d->result = json_codec.decode(slice_from(d->raw, len), &d->scratch, &d->command);
}

static void decoded_free(struct decoded *d)
{
	free(d->raw);
	buffer_free(&d->scratch);
}

/* Decodes text, which has to be a good command of that method. */
static struct client_command *decode(struct decoded *d, const char *text, enum client_method method)
{
	decode_bytes(d, text, strlen(text));
	if (d->result != CLIENT_DECODE_OK)
		fail_msg("refused: %s", text);
	assert_int_equal(d->command.method, method);
	return &d->command;
}

static void check_refused(const char *text)
{
	struct decoded d;

	decode_bytes(&d, text, strlen(text));
	if (d.result != CLIENT_DECODE_BAD_REQUEST)
		fail_msg("accepted: %s", text);
	decoded_free(&d);
}

#define assert_text(slice, text) assert_true(slice_is((slice), (text)))

/* ---- Splitting ---- */

/* Splits message and joins its commands with '|'. */
static void check_split(struct slice message, const char *expected)
{
	struct buffer out;
	struct slice command;

	buffer_init(&out);
	while (json_codec.next_command(&message, &command)) {
		buffer_append_slice(&out, command);
		buffer_append_str(&out, "|");
	}
	assert_false(json_codec.next_command(&message, &command));
	assert_text(buffer_slice(&out), expected);
	buffer_free(&out);
}

static void test_split(void **state)
{
	(void)state;
	check_split(SLICE("{}"), "{}|");
	check_split(SLICE("{}\n"), "{}|");
	check_split(SLICE("a\nb\nc"), "a|b|c|");
	check_split(SLICE("a\nb\n"), "a|b|");
	check_split(SLICE("a\n\nb"), "a||b|");
	check_split(SLICE("a\n\n"), "a||");
	check_split(SLICE("\n"), "|");
	check_split(SLICE("\na"), "|a|");
	check_split(SLICE(""), "|");
	check_split(slice_from(NULL, 0), "|");
}

/* ---- Commands ---- */

static void test_pong(void **state)
{
	static const char *const pongs[] = {"{}",
					    " { } ",
					    "{\"id\":0}",
					    "{\"id\":null}",
					    "{\"unknown\":{\"x\":[1]}}",
					    "{\"connect\":null}"};
	struct decoded d;

	(void)state;
	for (size_t i = 0; i < sizeof pongs / sizeof pongs[0]; i++) {
		assert_int_equal(decode(&d, pongs[i], CLIENT_METHOD_PONG)->id, 0);
		decoded_free(&d);
	}
}

static void test_connect(void **state)
{
	struct decoded d;
	const struct client_command *c = decode(
		&d,
		"{\"id\":4294967295,\"connect\":{\"token\":\"t.o.k\",\"data\": {\"a\" : [1]} ,"
		"\"name\":\"js\",\"version\":\"1.0\",\"flag\":-9223372036854775808,"
		"\"headers\":{\"h\":\"v\"},\"subs\":{\"news\":{\"recover\":true}},\"dict\":7}}",
		CLIENT_METHOD_CONNECT);

	(void)state;
	assert_int_equal(c->id, UINT32_MAX);
	assert_text(c->token, "t.o.k");
	assert_text(c->data, "{\"a\" : [1]}");
	assert_text(c->name, "js");
	assert_text(c->version, "1.0");
	assert_true(c->flag == INT64_MIN);
	assert_text(c->headers, "{\"h\":\"v\"}");
	assert_text(c->subs, "{\"news\":{\"recover\":true}}");
	assert_int_equal(d.scratch.len, 0);
	decoded_free(&d);

	c = decode(&d, "{\"connect\":{},\"id\":1}", CLIENT_METHOD_CONNECT);
	assert_int_equal(c->token.len + c->data.len + c->subs.len + c->name.len, 0);
	decoded_free(&d);
}

static void test_subscribe(void **state)
{
	struct decoded d;
	const struct client_command *c = decode(
		&d,
		"{\"id\":2,\"subscribe\":{\"channel\":\"news\",\"token\":\"t\",\"recover\":true,"
		"\"epoch\":\"abcd\",\"offset\":18446744073709551615,\"data\":\"x\","
		"\"positioned\":true,\"recoverable\":true,\"join_leave\":true,\"delta\":\"fossil\","
		"\"tf\":{\"op\":\"and\"},\"flag\":3,\"type\":-1}}",
		CLIENT_METHOD_SUBSCRIBE);

	(void)state;
	assert_text(c->channel, "news");
	assert_text(c->token, "t");
	assert_text(c->epoch, "abcd");
	assert_true(c->offset == UINT64_MAX);
	assert_text(c->data, "\"x\"");
	assert_true(c->recover && c->positioned && c->recoverable && c->join_leave);
	assert_text(c->delta, "fossil");
	assert_text(c->tf, "{\"op\":\"and\"}");
	assert_int_equal(c->flag, 3);
	assert_int_equal(c->type, -1);
	decoded_free(&d);
}

static void test_history(void **state)
{
	struct decoded d;
	const struct client_command *c =
		decode(&d,
		       "{\"id\":3,\"history\":{\"channel\":\"c\",\"limit\":-1,\"reverse\":true,"
		       "\"since\":{\"offset\":5,\"epoch\":\"e\",\"more\":0}}}",
		       CLIENT_METHOD_HISTORY);

	(void)state;
	assert_int_equal(c->limit, -1);
	assert_true(c->reverse && c->has_since);
	assert_int_equal(c->since.offset, 5);
	assert_text(c->since.epoch, "e");
	decoded_free(&d);

	c = decode(&d, "{\"id\":3,\"history\":{\"channel\":\"c\",\"since\":{}}}",
		   CLIENT_METHOD_HISTORY);
	assert_true(c->has_since);
	assert_int_equal(c->since.offset, 0);
	decoded_free(&d);

	c = decode(&d, "{\"id\":3,\"history\":{\"channel\":\"c\",\"since\":null}}",
		   CLIENT_METHOD_HISTORY);
	assert_false(c->has_since);
	decoded_free(&d);
}

static void test_other_methods(void **state)
{
	struct decoded d;
	const struct client_command *c;

	(void)state;
	c = decode(&d, "{\"id\":1,\"publish\":{\"channel\":\"c\",\"data\":[ null , 1e2]}}",
		   CLIENT_METHOD_PUBLISH);
	assert_text(c->channel, "c");
	assert_text(c->data, "[ null , 1e2]");
	assert_ptr_equal(c->data.data, strchr(d.raw, '['));
	decoded_free(&d);
	c = decode(&d, "{\"id\":1,\"rpc\":{\"method\":\"m\",\"data\":false}}", CLIENT_METHOD_RPC);
	assert_text(c->rpc_method, "m");
	assert_text(c->data, "false");
	decoded_free(&d);
	c = decode(&d, "{\"send\":{\"data\":0}}", CLIENT_METHOD_SEND);
	assert_text(c->data, "0");
	decoded_free(&d);
	decode(&d, "{\"id\":1,\"unsubscribe\":{\"channel\":\"c\"}}", CLIENT_METHOD_UNSUBSCRIBE);
	decoded_free(&d);
	decode(&d, "{\"id\":1,\"presence\":{\"channel\":\"c\"}}", CLIENT_METHOD_PRESENCE);
	decoded_free(&d);
	decode(&d, "{\"id\":1,\"presence_stats\":{\"channel\":\"c\"}}",
	       CLIENT_METHOD_PRESENCE_STATS);
	decoded_free(&d);
	c = decode(&d, "{\"id\":1,\"refresh\":{\"token\":\"t\"}}", CLIENT_METHOD_REFRESH);
	assert_text(c->token, "t");
	decoded_free(&d);
	c = decode(&d, "{\"id\":1,\"sub_refresh\":{\"channel\":\"c\",\"token\":\"t\"}}",
		   CLIENT_METHOD_SUB_REFRESH);
	assert_text(c->token, "t");
	decoded_free(&d);
	decode(&d, "{\"id\":1,\"ping\":{}}", CLIENT_METHOD_PING);
	decoded_free(&d);
}

static void test_null_is_absent_and_last_duplicate_wins(void **state)
{
	struct decoded d;
	const struct client_command *c;

	(void)state;
	c = decode(&d,
		   "{\"id\":9,\"id\":1,\"publish\":{\"channel\":\"a\",\"data\":1,\"channel\":\"b\","
		   "\"channel\":null,\"data\":null,\"type\":null},\"subscribe\":null}",
		   CLIENT_METHOD_PUBLISH);
	assert_int_equal(c->id, 1);
	assert_text(c->channel, "b");
	assert_text(c->data, "1");
	decoded_free(&d);
	c = decode(&d, "{\"id\":1,\"publish\":{\"channel\":\"a\",\"data\":null}}",
		   CLIENT_METHOD_PUBLISH);
	assert_int_equal(c->data.len, 0);
	decoded_free(&d);
	c = decode(&d,
		   "{\"id\":1,\"history\":{\"channel\":\"c\",\"since\":{\"offset\":5},"
		   "\"since\":{\"epoch\":\"e\"}}}",
		   CLIENT_METHOD_HISTORY);
	assert_int_equal(c->since.offset, 0);
	assert_text(c->since.epoch, "e");
	decoded_free(&d);
}

static void test_several_requests(void **state)
{
	struct decoded d;
	const struct client_command *c;

	(void)state;
	c = decode(&d,
		   "{\"rpc\":{\"method\":\"m\"},\"publish\":{\"channel\":\"p\",\"data\":1},"
		   "\"subscribe\":{\"channel\":\"\\u0073\"},\"id\":5,\"ping\":{}}",
		   CLIENT_METHOD_SUBSCRIBE);
	assert_int_equal(c->id, 5);
	assert_text(c->channel, "s");
	assert_int_equal(c->data.len + c->rpc_method.len, 0);
	decoded_free(&d);
	c = decode(&d,
		   "{\"id\":1,\"publish\":{\"channel\":\"a\",\"data\":1},"
		   "\"publish\":{\"channel\":\"b\"},\"publish\":null}",
		   CLIENT_METHOD_PUBLISH);
	assert_text(c->channel, "b");
	assert_int_equal(c->data.len, 0);
	decoded_free(&d);
	check_refused("{\"id\":1,\"publish\":{\"channel\":\"a\"},\"rpc\":{\"method\":1}}");
	check_refused("{\"id\":1,\"publish\":{\"channel\":\"a\"},\"rpc\":{}");
	check_refused("{\"id\":1,\"publish\":{\"channel\":\"a\"},\"rpc\":{},\"id\":\"1\"}");
	check_refused("{\"id\":1,\"publish\":{\"channel\":\"a\"},\"rpc\":{}} x");
	check_refused("{\"publish\":{\"channel\":\"a\"},\"rpc\":{}}");
}

static void test_escapes_go_to_scratch(void **state)
{
	static const char text[] =
		"{\"\\u0069d\":1,\"sub\\u0073cribe\":{\"ch\\u0061nnel\":\"n\\u00e9ws\",\"token\":"
		"\"a\\/b\","
		"\"epoch\":\"\\ud83d\\ude00\",\"delta\":\"plain\",\"data\":\"\\u0041\"}}";
	struct decoded d;
	const struct client_command *c = decode(&d, text, CLIENT_METHOD_SUBSCRIBE);

	(void)state;
	assert_text(c->channel, "n\xc3\xa9ws");
	assert_text(c->token, "a/b");
	assert_text(c->epoch, "\xf0\x9f\x98\x80");
	assert_text(c->delta, "plain");
	assert_text(c->data, "\"\\u0041\"");
	assert_true(c->channel.data >= d.scratch.data &&
		    c->channel.data < d.scratch.data + d.scratch.len);
	assert_true(c->delta.data >= d.raw && c->delta.data < d.raw + sizeof text);
	/* Decoding again with the same scratch starts over. */
	size_t used = d.scratch.len;
	assert_int_equal(json_codec.decode(SLICE(text), &d.scratch, &d.command), CLIENT_DECODE_OK);
	assert_int_equal(d.scratch.len, used);
	decoded_free(&d);
}

/* Many escaped strings in a small scratch: growing it would leave slices behind. */
static void test_scratch_never_moves(void **state)
{
	struct buffer text;
	struct decoded d;

	(void)state;
	buffer_init(&text);
	buffer_append_str(&text, "{\"id\":1,\"subscribe\":{\"channel\":\"\\u0063\",\"token\":\"");
	for (int i = 0; i < 3000; i++)
		buffer_append_str(&text, "\\u20ac");
	buffer_append_str(&text, "\",\"epoch\":\"\\u0065\",\"delta\":\"\\u0064\"}}");
	decode_bytes(&d, text.data, text.len);
	assert_int_equal(d.result, CLIENT_DECODE_OK);
	assert_text(d.command.channel, "c");
	assert_int_equal(d.command.token.len, 9000);
	assert_text(d.command.epoch, "e");
	assert_text(d.command.delta, "d");
	decoded_free(&d);
	buffer_free(&text);
}

static void test_refused(void **state)
{
	static const char *const texts[] = {
		"",
		" ",
		"null",
		"1",
		"[]",
		"\"x\"",
		"{",
		"{}{}",
		"{} x",
		"{\"id\":1}",
		"{\"id\":1,\"nope\":{}}",
		"{\"id\":0,\"connect\":{}}",
		"{\"connect\":{}}",
		"{\"ping\":{}}",
		"{\"id\":-1,\"connect\":{}}",
		"{\"id\":4294967296,\"connect\":{}}",
		"{\"id\":1.0,\"connect\":{}}",
		"{\"id\":1e0,\"connect\":{}}",
		"{\"id\":\"1\",\"connect\":{}}",
		"{\"id\":true,\"connect\":{}}",
		"{\"id\":1,\"connect\":[]}",
		"{\"id\":1,\"connect\":\"x\"}",
		"{\"id\":1,\"connect\":true}",
		"{\"id\":1,\"connect\":nul}",
		"{\"id\":1,\"connect\":{}",
		"{\"id\":1,\"connect\":{\"token\":1}}",
		"{\"id\":1,\"connect\":{\"flag\":1.5}}",
		"{\"id\":1,\"connect\":{\"flag\":9223372036854775808}}",
		"{\"id\":1,\"connect\":{\"headers\":{\"a\":1}}}",
		"{\"id\":1,\"connect\":{\"headers\":[]}}",
		"{\"id\":1,\"connect\":{\"subs\":[]}}",
		"{\"id\":1,\"connect\":{\"subs\":{\"a\":1}}}",
		"{\"id\":1,\"connect\":{\"subs\":{\"a\":{\"recover\":1}}}}",
		"{\"id\":1,\"connect\":{\"subs\":{\"a\":{\"offset\":-1}}}}",
		"{\"id\":1,\"connect\":{\"subs\":{\"a\":{}}",
		"{\"id\":1,\"connect\":{\"data\":{]}}}",
		"{\"id\":1,\"connect\":{\"unknown\":01}}",
		"{\"id\":1,\"subscribe\":{}}",
		"{\"id\":1,\"subscribe\":{\"channel\":\"\"}}",
		"{\"id\":1,\"subscribe\":{\"channel\":null}}",
		"{\"id\":1,\"subscribe\":{\"channel\":[\"c\"]}}",
		"{\"id\":1,\"subscribe\":{\"channel\":\"c\",\"recover\":\"true\"}}",
		"{\"id\":1,\"subscribe\":{\"channel\":\"c\",\"recover\":1}}",
		"{\"id\":1,\"subscribe\":{\"channel\":\"c\",\"offset\":-1}}",
		"{\"id\":1,\"subscribe\":{\"channel\":\"c\",\"offset\":\"1\"}}",
		"{\"id\":1,\"subscribe\":{\"channel\":\"c\",\"offset\":18446744073709551616}}",
		"{\"id\":1,\"subscribe\":{\"channel\":\"c\",\"tf\":[]}}",
		"{\"id\":1,\"subscribe\":{\"channel\":\"c\",\"type\":2147483648}}",
		"{\"id\":1,\"unsubscribe\":{}}",
		"{\"id\":1,\"publish\":{\"data\":1}}",
		"{\"id\":1,\"presence\":{}}",
		"{\"id\":1,\"presence_stats\":{}}",
		"{\"id\":1,\"history\":{}}",
		"{\"id\":1,\"sub_refresh\":{\"token\":\"t\"}}",
		"{\"id\":1,\"history\":{\"channel\":\"c\",\"limit\":2147483648}}",
		"{\"id\":1,\"history\":{\"channel\":\"c\",\"since\":5}}",
		"{\"id\":1,\"history\":{\"channel\":\"c\",\"since\":{\"offset\":\"5\"}}}",
		"{\"id\":1,\"publish\":{\"channel\":\"c\",\"data\":\"\xff\"}}",
		"{\"id\":1,\"publish\":{\"channel\":\"c\",\"data\":\"a\x01\"}}",
		"{\"id\":1,\"publish\":{\"channel\":\"c\",\"data\":}}",
		"{\"id\":1,\"rpc\":{\"method\":{}}}",
		"{\"id\":1,,\"rpc\":{}}",
		"{\"id\":1 \"rpc\":{}}",
	};

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
		check_refused(texts[i]);
}

static void test_every_truncation_is_refused(void **state)
{
	static const char text[] =
		"{\"id\":1,\"connect\":{\"token\":\"\\u0041b\",\"data\":{\"x\":[1,true]},"
		"\"subs\":{\"c\":{\"offset\":12}},\"headers\":{\"a\":\"b\"}},\"x\":\"\xc3\xa9\"}";
	struct decoded d;

	(void)state;
	for (size_t len = 0; len < sizeof text - 1; len++) {
		decode_bytes(&d, text, len);
		assert_int_equal(d.result, CLIENT_DECODE_BAD_REQUEST);
		decoded_free(&d);
	}
	decode(&d, text, CLIENT_METHOD_CONNECT);
	decoded_free(&d);
}

/* The envelope and the request count towards the depth that a payload may have. */
static void test_depth_of_payload(void **state)
{
	char nested[2 * JSON_DEPTH_MAX + 1];

	(void)state;
	for (int depth = JSON_DEPTH_MAX - 2; depth <= JSON_DEPTH_MAX - 1; depth++) {
		struct buffer text;
		struct decoded d;

		memset(nested, '[', (size_t)depth);
		memset(nested + depth, ']', (size_t)depth);
		nested[2 * depth] = '\0';
		buffer_init(&text);
		buffer_printf(&text, "{\"id\":1,\"rpc\":{\"data\":%s}}", nested);
		decode_bytes(&d, text.data, text.len);
		assert_int_equal(d.result, depth == JSON_DEPTH_MAX - 2 ? CLIENT_DECODE_OK
								       : CLIENT_DECODE_BAD_REQUEST);
		decoded_free(&d);
		buffer_free(&text);
	}
}

static void test_connect_subs(void **state)
{
	struct decoded d;
	struct json_walk it;
	struct client_sub sub;
	struct buffer scratch;
	const struct client_command *c = decode(
		&d,
		"{\"id\":1,\"connect\":{\"subs\":{\"a\":{\"recover\":true,\"epoch\":\"\\u0065\","
		"\"offset\":7,\"delta\":\"fossil\",\"x\":1},\"\\u0062\":{},\"c\":null}}}",
		CLIENT_METHOD_CONNECT);

	(void)state;
	buffer_init(&scratch);
	json_object_begin(&it, c->subs);
	assert_true(client_sub_next(&it, &scratch, &sub));
	assert_text(sub.channel, "a");
	assert_text(sub.epoch, "e");
	assert_text(sub.delta, "fossil");
	assert_int_equal(sub.offset, 7);
	assert_true(sub.recover);
	assert_true(client_sub_next(&it, &scratch, &sub));
	assert_text(sub.channel, "b");
	assert_false(sub.recover);
	assert_true(client_sub_next(&it, &scratch, &sub));
	assert_text(sub.channel, "c");
	assert_int_equal(sub.epoch.len + sub.offset, 0);
	assert_false(client_sub_next(&it, &scratch, &sub));
	assert_true(json_walk_ok(&it));
	json_object_begin(&it, slice_from(NULL, 0));
	assert_false(client_sub_next(&it, &scratch, &sub));
	buffer_free(&scratch);
	decoded_free(&d);
}

/* ---- Codes ---- */

static void check_reason(const char *reason)
{
	struct slice text = slice_str(reason);

	assert_in_range(text.len, 1, 123);
	assert_false(json_validate(text));
	for (size_t i = 0; i < text.len; i++)
		assert_true((text.data[i] >= 'a' && text.data[i] <= 'z') || text.data[i] == ' ');
}

static void test_reasons_are_plain_words(void **state)
{
	(void)state;
#define X(name, code, reason)                                        \
	check_reason(reason);                                        \
	assert_string_equal(client_disconnect_reason(code), reason); \
	assert_true(code >= 3000 && code < 4000);
	CLIENT_DISCONNECT_TABLE(X)
#undef X
#define X(name, code, reason) \
	check_reason(reason); \
	assert_string_equal(client_unsubscribe_reason(code), reason);
	CLIENT_UNSUBSCRIBE_TABLE(X)
#undef X
#define X(name, code, message, temporary)                         \
	check_reason(message);                                    \
	assert_string_equal(client_error_message(code), message); \
	assert_int_equal(client_error_temporary(code), temporary);
	CLIENT_ERROR_TABLE(X)
#undef X
	check_reason(client_disconnect_reason(4999));
	check_reason(client_unsubscribe_reason(2999));
	check_reason(client_error_message(400));
	assert_false(client_error_temporary(400));
}

static void test_codes_are_the_protocols(void **state)
{
	(void)state;
	assert_int_equal(CLIENT_ERROR_UNRECOVERABLE_POSITION, 112);
	assert_int_equal(CLIENT_DISCONNECT_SLOW, 3008);
	assert_int_equal(CLIENT_DISCONNECT_BAD_REQUEST, 3501);
	assert_int_equal(CLIENT_UNSUBSCRIBE_EXPIRED, 2501);
	assert_string_equal(client_method_name(CLIENT_METHOD_PRESENCE_STATS), "presence_stats");
	assert_string_equal(client_method_name(CLIENT_METHOD_PONG), "pong");
	assert_string_equal(client_method_name(CLIENT_METHOD_COUNT), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_split),
		cmocka_unit_test(test_pong),
		cmocka_unit_test(test_connect),
		cmocka_unit_test(test_subscribe),
		cmocka_unit_test(test_history),
		cmocka_unit_test(test_other_methods),
		cmocka_unit_test(test_null_is_absent_and_last_duplicate_wins),
		cmocka_unit_test(test_several_requests),
		cmocka_unit_test(test_escapes_go_to_scratch),
		cmocka_unit_test(test_scratch_never_moves),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_every_truncation_is_refused),
		cmocka_unit_test(test_depth_of_payload),
		cmocka_unit_test(test_connect_subs),
		cmocka_unit_test(test_reasons_are_plain_words),
		cmocka_unit_test(test_codes_are_the_protocols),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

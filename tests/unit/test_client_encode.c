/* SPDX-License-Identifier: ISC */
/*
 * Replies and pushes of the client protocol in JSON: the exact text of each one,
 * with nothing set and with everything set.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "keepsock/client_protocol.h"

static void check_encoded(const struct buffer *out, const char *expected)
{
	if (!slice_is(buffer_slice(out), expected))
		fail_msg("got %.*s\nnot %s", (int)out->len, out->data, expected);
	assert_true(json_validate(buffer_slice(out)));
}

static void check_reply(const struct client_reply *reply, const char *expected)
{
	struct buffer out;

	buffer_init(&out);
	json_codec.encode_reply(&out, reply);
	check_encoded(&out, expected);
	buffer_free(&out);
}

static void check_push(const struct client_push *push, const char *expected)
{
	struct buffer out;

	buffer_init(&out);
	json_codec.encode_push(&out, push);
	check_encoded(&out, expected);
	buffer_free(&out);
}

static void test_reply_error(void **state)
{
	struct client_reply reply = {
		.id = 7, .method = CLIENT_METHOD_PUBLISH, .error = {.code = 103}};

	(void)state;
	check_reply(&reply,
		    "{\"id\":7,\"error\":{\"code\":103,\"message\":\"permission denied\"}}");
	reply.error.code = CLIENT_ERROR_INTERNAL;
	check_reply(&reply,
		    "{\"id\":7,\"error\":{\"code\":100,\"message\":\"internal server error\","
		    "\"temporary\":true}}");
	reply.error = (struct client_error){450, SLICE("out of \"stock\""), true};
	check_reply(&reply,
		    "{\"id\":7,\"error\":{\"code\":450,\"message\":\"out of \\\"stock\\\"\","
		    "\"temporary\":true}}");
}

static void test_reply_empty_results(void **state)
{
	static const struct {
		enum client_method method;
		const char *expected;
	} cases[] = {
		{CLIENT_METHOD_CONNECT, "{\"id\":1,\"connect\":{\"client\":\"\"}}"},
		{CLIENT_METHOD_SUBSCRIBE, "{\"id\":1,\"subscribe\":{}}"},
		{CLIENT_METHOD_UNSUBSCRIBE, "{\"id\":1,\"unsubscribe\":{}}"},
		{CLIENT_METHOD_PUBLISH, "{\"id\":1,\"publish\":{}}"},
		{CLIENT_METHOD_PRESENCE, "{\"id\":1,\"presence\":{\"presence\":{}}}"},
		{CLIENT_METHOD_PRESENCE_STATS,
		 "{\"id\":1,\"presence_stats\":{\"num_clients\":0,\"num_users\":0}}"},
		{CLIENT_METHOD_HISTORY,
		 "{\"id\":1,\"history\":{\"publications\":[],\"epoch\":\"\",\"offset\":0}}"},
		{CLIENT_METHOD_RPC, "{\"id\":1,\"rpc\":{}}"},
		{CLIENT_METHOD_REFRESH, "{\"id\":1,\"refresh\":{}}"},
		{CLIENT_METHOD_SUB_REFRESH, "{\"id\":1,\"sub_refresh\":{}}"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct client_reply reply = {.id = 1, .method = cases[i].method};
		check_reply(&reply, cases[i].expected);
	}
}

static void test_reply_connect(void **state)
{
	struct client_connect_sub subs[2] = {
		{SLICE("a"),
		 {.recoverable = true, .positioned = true, .epoch = SLICE("e"), .offset = 3}},
		{SLICE("b\""), {0}},
	};
	struct client_reply reply = {.id = 1, .method = CLIENT_METHOD_CONNECT};

	(void)state;
	reply.connect = (struct client_connect_result){
		.client = SLICE("c-1"),
		.version = SLICE("1.0"),
		.expires = true,
		.ttl = 60,
		.data = SLICE("{\n}"),
		.subs = subs,
		.n_subs = 2,
		.ping = 25,
		.pong = true,
		.session = SLICE("s"),
		.node = SLICE("n"),
		.time = 1700000000000,
	};
	check_reply(&reply,
		    "{\"id\":1,\"connect\":{\"client\":\"c-1\",\"version\":\"1.0\","
		    "\"expires\":true,\"ttl\":60,\"data\":{ },\"subs\":{\"a\":"
		    "{\"recoverable\":true,\"epoch\":\"e\",\"offset\":3,\"positioned\":true},"
		    "\"b\\\"\":{}},\"ping\":25,\"pong\":true,\"session\":\"s\",\"node\":\"n\","
		    "\"time\":1700000000000}}");
}

static void test_reply_subscribe(void **state)
{
	struct publication list[2] = {
		{.data = SLICE("1.0e0"), .offset = 1, .epoch = SLICE("e")},
		{.data = SLICE("{ \"a\":\"\\n\" }"),
		 .offset = UINT64_MAX,
		 .tags = SLICE("{\"t\":\"v\"}"),
		 .info = SLICE("{\"user\":\"\",\"client\":\"c\"}"),
		 .delta = true},
	};
	struct client_reply reply = {.id = 2, .method = CLIENT_METHOD_SUBSCRIBE};

	(void)state;
	reply.subscribe = (struct client_subscribe_result){
		.expires = true,
		.ttl = 5,
		.recoverable = true,
		.positioned = true,
		.recovered = true,
		.was_recovering = true,
		.delta = true,
		.epoch = SLICE("e"),
		.offset = 9,
		.data = SLICE("null"),
		.publications = list,
		.n_publications = 2,
	};
	check_reply(
		&reply,
		"{\"id\":2,\"subscribe\":{\"expires\":true,\"ttl\":5,\"recoverable\":true,"
		"\"epoch\":\"e\",\"publications\":[{\"data\":1.0e0,\"offset\":1,\"epoch\":\"e\"},"
		"{\"data\":{ \"a\":\"\\n\" },\"info\":{\"user\":\"\",\"client\":\"c\"},"
		"\"offset\":18446744073709551615,\"tags\":{\"t\":\"v\"},\"delta\":true}],"
		"\"recovered\":true,\"offset\":9,\"positioned\":true,\"data\":null,"
		"\"was_recovering\":true,\"delta\":true}}");
}

static void test_reply_reads(void **state)
{
	struct publication one = {.data = SLICE("[]"), .offset = 4};
	struct client_presence_entry entries[2] = {
		{SLICE("c1"), SLICE("{\"user\":\"u\",\"client\":\"c1\"}")},
		{SLICE("c2"), SLICE("{\"user\":\"\",\"client\":\"c2\"}")},
	};
	struct client_reply reply = {.id = 3, .method = CLIENT_METHOD_HISTORY};

	(void)state;
	reply.history.publications = &one;
	reply.history.n_publications = 1;
	reply.history.epoch = SLICE("e");
	reply.history.offset = 4;
	check_reply(&reply, "{\"id\":3,\"history\":{\"publications\":[{\"data\":[],\"offset\":4}],"
			    "\"epoch\":\"e\",\"offset\":4}}");
	reply = (struct client_reply){.id = 4, .method = CLIENT_METHOD_PRESENCE};
	reply.presence.entries = entries;
	reply.presence.n_entries = 2;
	check_reply(&reply, "{\"id\":4,\"presence\":{\"presence\":{"
			    "\"c1\":{\"user\":\"u\",\"client\":\"c1\"},"
			    "\"c2\":{\"user\":\"\",\"client\":\"c2\"}}}}");
	reply = (struct client_reply){.id = 5, .method = CLIENT_METHOD_PRESENCE_STATS};
	reply.presence_stats.num_clients = 2;
	reply.presence_stats.num_users = 1;
	check_reply(&reply, "{\"id\":5,\"presence_stats\":{\"num_clients\":2,\"num_users\":1}}");
	reply = (struct client_reply){.id = 6, .method = CLIENT_METHOD_RPC};
	reply.rpc.data = SLICE("{\"a\":1}");
	check_reply(&reply, "{\"id\":6,\"rpc\":{\"data\":{\"a\":1}}}");
	reply = (struct client_reply){.id = 7, .method = CLIENT_METHOD_REFRESH};
	reply.refresh = (struct client_refresh_result){SLICE("c"), SLICE("v"), true, 9};
	check_reply(&reply, "{\"id\":7,\"refresh\":{\"client\":\"c\",\"version\":\"v\","
			    "\"expires\":true,\"ttl\":9}}");
}

static void test_pushes(void **state)
{
	struct client_push push = {.kind = CLIENT_PUSH_PUBLICATION, .channel = SLICE("c")};

	(void)state;
	push.publication.data = SLICE("{\"x\":\n1}");
	check_push(&push, "{\"push\":{\"channel\":\"c\",\"pub\":{\"data\":{\"x\": 1}}}}");
	push.kind = CLIENT_PUSH_JOIN;
	push.info = SLICE("{\"user\":\"u\",\"client\":\"i\"}");
	check_push(&push, "{\"push\":{\"channel\":\"c\",\"join\":{\"info\":"
			  "{\"user\":\"u\",\"client\":\"i\"}}}}");
	push.kind = CLIENT_PUSH_LEAVE;
	check_push(&push, "{\"push\":{\"channel\":\"c\",\"leave\":{\"info\":"
			  "{\"user\":\"u\",\"client\":\"i\"}}}}");
	push = (struct client_push){.kind = CLIENT_PUSH_SUBSCRIBE, .channel = SLICE("c")};
	check_push(&push, "{\"push\":{\"channel\":\"c\",\"subscribe\":{}}}");
	push.subscribe = (struct client_subscribe_result){
		.recoverable = true,
		.positioned = true,
		.epoch = SLICE("e"),
		.offset = 1,
		.data = SLICE("1"),
		.was_recovering = true,
	};
	check_push(&push, "{\"push\":{\"channel\":\"c\",\"subscribe\":{\"recoverable\":true,"
			  "\"epoch\":\"e\",\"offset\":1,\"positioned\":true,\"data\":1}}}");
	push = (struct client_push){.kind = CLIENT_PUSH_MESSAGE, .message = SLICE("\"m\"")};
	check_push(&push, "{\"push\":{\"message\":{\"data\":\"m\"}}}");
	push = (struct client_push){.kind = CLIENT_PUSH_REFRESH};
	check_push(&push, "{\"push\":{\"refresh\":{}}}");
	push.refresh.expires = true;
	push.refresh.ttl = 10;
	check_push(&push, "{\"push\":{\"refresh\":{\"expires\":true,\"ttl\":10}}}");
}

static void test_end_pushes_always_have_code_and_reason(void **state)
{
	struct client_push push = {.kind = CLIENT_PUSH_UNSUBSCRIBE, .channel = SLICE("c")};

	(void)state;
	check_push(&push, "{\"push\":{\"channel\":\"c\",\"unsubscribe\":{\"code\":0,"
			  "\"reason\":\"client unsubscribed\"}}}");
	push.end.code = CLIENT_UNSUBSCRIBE_INSUFFICIENT_STATE;
	check_push(&push, "{\"push\":{\"channel\":\"c\",\"unsubscribe\":{\"code\":2500,"
			  "\"reason\":\"insufficient state\"}}}");
	push.end.code = 2999;
	push.end.reason = SLICE("own reason");
	check_push(&push, "{\"push\":{\"channel\":\"c\",\"unsubscribe\":{\"code\":2999,"
			  "\"reason\":\"own reason\"}}}");
	push = (struct client_push){.kind = CLIENT_PUSH_DISCONNECT, .end = {.code = 3503}};
	check_push(&push, "{\"push\":{\"disconnect\":{\"code\":3503,"
			  "\"reason\":\"force disconnect\"}}}");
}

static void test_client_info(void **state)
{
	struct buffer out;
	struct slice none = {NULL, 0};

	(void)state;
	buffer_init(&out);
	client_info_encode(&out, none, SLICE("id"), none, none);
	check_encoded(&out, "{\"user\":\"\",\"client\":\"id\"}");
	buffer_reset(&out);
	client_info_encode(&out, SLICE("u\n"), SLICE("id"), SLICE("{\"n\":1}"), SLICE("[2]"));
	check_encoded(&out, "{\"user\":\"u\\n\",\"client\":\"id\",\"conn_info\":{\"n\":1},"
			    "\"chan_info\":[2]}");
	buffer_free(&out);
}

static void test_frame_of_several_messages(void **state)
{
	struct client_reply reply = {.id = 1, .method = CLIENT_METHOD_PUBLISH};
	struct buffer out;

	(void)state;
	buffer_init(&out);
	json_codec.encode_ping(&out);
	json_codec.join(&out);
	json_codec.encode_reply(&out, &reply);
	assert_true(slice_is(buffer_slice(&out), "{}\n{\"id\":1,\"publish\":{}}"));
	assert_string_equal(json_codec.name, "json");
	buffer_free(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reply_error),
		cmocka_unit_test(test_reply_empty_results),
		cmocka_unit_test(test_reply_connect),
		cmocka_unit_test(test_reply_subscribe),
		cmocka_unit_test(test_reply_reads),
		cmocka_unit_test(test_pushes),
		cmocka_unit_test(test_end_pushes_always_have_code_and_reason),
		cmocka_unit_test(test_client_info),
		cmocka_unit_test(test_frame_of_several_messages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

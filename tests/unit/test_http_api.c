/* SPDX-License-Identifier: ISC */
/*
 * Unit tests of what a call of the server HTTP API says: keys, error mode and
 * the JSON of requests, one or many (src/worker/http_api_{request,fields,batch}.c).
 * No worker, no Redis.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "worker/http_api_batch.h"

#define KEY "a-key-of-32-characters,or-so...."

/* --- headers --- */

static char head_text[1024];
static struct http_request http;

static void parse_head(const char *query, const char *headers)
{
	size_t consumed;
	int status;
	int length = snprintf(head_text, sizeof(head_text),
			      "POST /api/info%s HTTP/1.1\r\nHost: h\r\n%s\r\n", query, headers);

	assert_in_range(length, 1, sizeof(head_text) - 1);
	assert_int_equal(
		http_parse_head(slice_str(head_text), sizeof(head_text), &http, &consumed, &status),
		HTTP_COMPLETE);
}

static bool passes(const char *query, const char *headers)
{
	parse_head(query, headers);
	return http_api_key_matches(&http, SLICE(KEY));
}

static void test_three_places_for_the_key(void **state)
{
	(void)state;
	assert_true(passes("", "X-API-Key: " KEY "\r\n"));
	assert_true(passes("", "x-api-key:" KEY "\r\n"));
	assert_true(passes("", "Authorization: apikey " KEY "\r\n"));
	assert_true(passes("", "Authorization: ApiKey   " KEY "\r\n"));
	assert_true(passes("?api_key=a-key-of-32-characters%2Cor-so....", ""));
	assert_true(passes("?x=1&api_key=" KEY "&y", ""));
}

static void test_wrong_keys(void **state)
{
	(void)state;
	assert_false(passes("", ""));
	assert_false(passes("", "X-API-Key: a-key\r\n"));
	assert_false(passes("", "X-API-Key: " KEY ".\r\n"));
	assert_false(passes("", "X-API-Key:\r\n"));
	assert_false(passes("", "Authorization: " KEY "\r\n"));
	assert_false(passes("", "Authorization: apikey\r\n"));
	assert_false(passes("", "Authorization: apikey" KEY "\r\n"));
	assert_false(passes("", "Authorization: Bearer " KEY "\r\n"));
	assert_false(passes("?api_key=", ""));
	assert_false(passes("?API_KEY=" KEY, ""));
}

static void test_the_first_place_counts(void **state)
{
	(void)state;
	assert_false(passes("", "X-API-Key: x\r\nAuthorization: apikey " KEY "\r\n"));
	assert_false(passes("?api_key=" KEY, "X-API-Key:\r\n"));
	assert_false(passes("?api_key=" KEY, "Authorization: apikey x\r\n"));
	assert_true(passes("?api_key=" KEY, "Authorization: Basic eDp5\r\n"));
	assert_false(passes("", "X-API-Key: " KEY "\r\nX-API-Key: " KEY "\r\n"));
}

static void test_an_empty_key_opens_to_nobody(void **state)
{
	static const char *const headers[] = {"", "X-API-Key:\r\n", "Authorization: apikey \r\n"};

	(void)state;
	for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
		parse_head("?api_key=", headers[i]);
		assert_false(http_api_key_matches(&http, SLICE("")));
	}
}

static void test_error_mode(void **state)
{
	(void)state;
	parse_head("", "X-Centrifugo-Error-Mode: transport\r\n");
	assert_true(http_api_wants_transport_errors(&http));
	parse_head("", "X-Centrifugo-Error-Mode: reply\r\n");
	assert_false(http_api_wants_transport_errors(&http));
	parse_head("", "");
	assert_false(http_api_wants_transport_errors(&http));
}

static void test_error_statuses(void **state)
{
	static const int codes[][2] = {{100, 500}, {102, 404}, {104, 404}, {107, 400},
				       {108, 400}, {112, 416}, {113, 409}, {999, 500}};

	(void)state;
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		assert_int_equal(http_api_error_status((uint32_t)codes[i][0]), codes[i][1]);
}

static void test_method_names(void **state)
{
	(void)state;
	for (int i = HTTP_API_UNKNOWN + 1; i < HTTP_API_METHOD_COUNT; i++) {
		const char *name = http_api_method_name((enum http_api_method)i);

		assert_int_equal(http_api_method_find(slice_str(name)), i);
	}
	assert_int_equal(http_api_method_find(SLICE("unknown")), HTTP_API_UNKNOWN);
	assert_int_equal(http_api_method_find(SLICE("")), HTTP_API_UNKNOWN);
	assert_int_equal(http_api_method_find(SLICE("Publish")), HTTP_API_UNKNOWN);
	assert_int_equal(http_api_method_find(SLICE("publish/")), HTTP_API_UNKNOWN);
}

/* --- bodies --- */

static struct http_api_request request;

static int end_request(void **state)
{
	(void)state;
	http_api_request_free(&request);
	return 0;
}

static bool parse(enum http_api_method method, const char *body)
{
	http_api_request_free(&request);
	return http_api_request_parse(method, slice_str(body), &request);
}

#define assert_slice(slice, text) assert_true(slice_is((slice), (text)))

static void test_publish(void **state)
{
	(void)state;
	assert_true(parse(HTTP_API_PUBLISH,
			  " {\"channel\":\"a\\u0062\\/c\", \"data\" : { \"x\": [1, 2.50e1] } ,"
			  "\"tags\":{\"k\":\"v\"},\"skip_history\":true,\"later\":[{}]}\n"));
	assert_slice(request.channel, "ab/c");
	assert_slice(request.data, "{ \"x\": [1, 2.50e1] }");
	assert_slice(request.tags, "{\"k\":\"v\"}");
	assert_true(request.skip_history);
	assert_false(request.delta);
}

static void test_absent_null_and_repeated_fields(void **state)
{
	(void)state;
	assert_true(parse(HTTP_API_PUBLISH, "{}"));
	assert_int_equal(request.channel.len + request.data.len + request.tags.len, 0);
	assert_true(parse(HTTP_API_PUBLISH, "{\"channel\":null,\"data\":null,\"tags\":null,"
					    "\"skip_history\":null,\"version\":null}"));
	assert_int_equal(request.channel.len + request.data.len + request.tags.len, 0);
	assert_true(parse(HTTP_API_PUBLISH, "{\"tags\":{}}"));
	assert_int_equal(request.tags.len, 0);
	assert_true(parse(HTTP_API_PUBLISH, "{\"channel\":\"a\",\"channel\":\"b\"}"));
	assert_slice(request.channel, "b");
}

static void test_bad_bodies(void **state)
{
	static const char *const bodies[] = {
		"",
		"{",
		"[]",
		"null",
		"\"x\"",
		"{} {}",
		"{\"channel\":5}",
		"{\"channel\":[\"c\"]}",
		"{\"channel\":\"c\",\"data\":01}",
		"{\"channel\":\"c\",\"data\":1,}",
		"{\"channel\":\"c\",\"data\":\"a\nb\"}",
		"{\"channel\":\"\xff\"}",
		"{\"skip_history\":1}",
		"{\"skip_history\":\"true\"}",
		"{\"tags\":[]}",
		"{\"tags\":{\"k\":1}}",
		"{\"tags\":{\"k\":null}}",
		"{\"b64data\":1}",
		"{\"version\":-1}",
		"{\"version\":\"1\"}",
		"{\"idempotency_key\":1}",
		"{\"delta\":1}",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++)
		if (parse(HTTP_API_PUBLISH, bodies[i]))
			fail_msg("accepted: %s", bodies[i]);
}

static void test_fields_of_other_methods_are_ignored(void **state)
{
	(void)state;
	assert_true(parse(HTTP_API_PUBLISH, "{\"channels\":5,\"limit\":\"x\",\"pattern\":{}}"));
	assert_true(parse(HTTP_API_INFO, "{\"channel\":5,\"data\":1,\"b64data\":2}"));
	assert_true(parse(HTTP_API_HISTORY, "{\"channel\":\"c\",\"data\":1,\"version\":\"x\"}"));
	assert_int_equal(request.data.len, 0);
}

static void test_idempotency_and_versions(void **state)
{
	(void)state;
	assert_true(parse(HTTP_API_BROADCAST,
			  "{\"idempotency_key\":\"k\\u0031\",\"version\":18446744073709551615,"
			  "\"version_epoch\":\"e\",\"delta\":true}"));
	assert_slice(request.idempotency_key, "k1");
	assert_true(request.version == UINT64_MAX);
	assert_slice(request.version_epoch, "e");
	assert_true(request.delta);
	assert_false(parse(HTTP_API_PUBLISH, "{\"version\":18446744073709551616}"));
}

static void test_b64data(void **state)
{
	static const struct {
		const char *encoded;
		const char *data;
	} cases[] = {
		{"eyJhIjoxfQ==", "{\"a\":1}"},
		{"WzEsMl0=", "[1,2]"},
		{"MTIz", "123"},
		{"Ij8\\/Pz4+Ig==", "\"?\?\?>>\""},
		/* no base64 */
		{"eyJhIjoxfQ", ""},
		{"eyJhIjoxfQ=", ""},
		{"eyJhIjoxfQ===", ""},
		{"eyJh\\nIjoxfQ==", ""},
		{"eyJhIjoxfR==", ""},
		{"=AAA", ""},
		{"MT=z", ""},
		{"====", ""},
		{"Ij8_Pz4-Ig==", ""},
		/* no JSON */
		{"e30gLQ==", ""},
		{"/w==", ""},
	};
	char body[128];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		snprintf(body, sizeof(body), "{\"b64data\":\"%s\",\"data\":0}", cases[i].encoded);
		assert_true(parse(HTTP_API_PUBLISH, body));
		assert_slice(request.data, cases[i].data);
		assert_int_equal(request.undecodable, cases[i].data[0] == '\0');
	}
	assert_true(parse(HTTP_API_PUBLISH, "{\"b64data\":\"\",\"data\":0}"));
	assert_slice(request.data, "0");
}

static void test_broadcast(void **state)
{
	(void)state;
	assert_true(parse(HTTP_API_BROADCAST,
			  "{\"channels\":[\"a\", \"\\u0062\",\"\"],\"data\":\"x\"}"));
	assert_int_equal(request.channels.count, 3);
	assert_slice(request.channels.items[0], "a");
	assert_slice(request.channels.items[1], "b");
	assert_slice(request.channels.items[2], "");
	assert_slice(request.data, "\"x\"");
	assert_true(parse(HTTP_API_BROADCAST, "{\"channels\":[\"a\"],\"channels\":[]}"));
	assert_int_equal(request.channels.count, 0);
	assert_false(parse(HTTP_API_BROADCAST, "{\"channels\":\"a\"}"));
	assert_false(parse(HTTP_API_BROADCAST, "{\"channels\":[1]}"));
	assert_false(parse(HTTP_API_BROADCAST, "{\"channels\":[null]}"));
}

static void test_broadcast_to_too_many_is_bounded(void **state)
{
	struct buffer body = {0};

	(void)state;
	buffer_append_str(&body, "{\"channels\":[\"c\"");
	for (unsigned i = 0; i < 3 * HTTP_API_CHANNELS_MAX; i++)
		buffer_append_str(&body, ",\"c\"");
	buffer_append_str(&body, "]}");
	http_api_request_free(&request);
	assert_true(http_api_request_parse(HTTP_API_BROADCAST, buffer_slice(&body), &request));
	assert_int_equal(request.channels.count, HTTP_API_CHANNELS_MAX + 1);
	buffer_free(&body);
}

static void test_history(void **state)
{
	(void)state;
	assert_true(parse(HTTP_API_HISTORY, "{\"channel\":\"c\",\"limit\":-1,\"reverse\":true,"
					    "\"since\":{\"offset\":7,\"epoch\":\"e\",\"x\":0}}"));
	assert_int_equal(request.limit, -1);
	assert_true(request.reverse);
	assert_true(request.has_since);
	assert_int_equal(request.since_offset, 7);
	assert_slice(request.since_epoch, "e");
	assert_true(parse(HTTP_API_HISTORY, "{\"channel\":\"c\",\"since\":null}"));
	assert_false(request.has_since);
	assert_int_equal(request.limit, 0);
	assert_false(parse(HTTP_API_HISTORY, "{\"limit\":1.5}"));
	assert_false(parse(HTTP_API_HISTORY, "{\"limit\":3000000000}"));
	assert_false(parse(HTTP_API_HISTORY, "{\"since\":5}"));
	assert_false(parse(HTTP_API_HISTORY, "{\"since\":{\"offset\":-1}}"));
	assert_false(parse(HTTP_API_HISTORY, "{\"since\":{\"epoch\":1}}"));
}

static void test_channels(void **state)
{
	(void)state;
	assert_true(parse(HTTP_API_CHANNELS, "{\"pattern\":\"a*\"}"));
	assert_slice(request.pattern, "a*");
	assert_true(parse(HTTP_API_CHANNELS, "{}"));
	assert_int_equal(request.pattern.len, 0);
	assert_false(parse(HTTP_API_CHANNELS, "{\"pattern\":1}"));
}

static void test_users(void **state)
{
	(void)state;
	assert_true(parse(HTTP_API_SUBSCRIBE,
			  "{\"user\":\"u\",\"channel\":\"c\",\"client\":\"i\",\"session\":\"s\","
			  "\"info\":{\"a\":1},\"data\":[2],\"expire_at\":7,"
			  "\"recover_since\":{\"offset\":3,\"epoch\":\"e\"}}"));
	assert_slice(request.user, "u");
	assert_slice(request.channel, "c");
	assert_slice(request.client, "i");
	assert_slice(request.session, "s");
	assert_slice(request.info, "{\"a\":1}");
	assert_slice(request.data, "[2]");
	assert_int_equal(request.expire_at, 7);
	assert_true(request.has_since);
	assert_int_equal(request.since_offset, 3);
	assert_slice(request.since_epoch, "e");
	assert_true(parse(HTTP_API_SUBSCRIBE, "{\"b64info\":\"MQ==\",\"info\":2,"
					      "\"b64data\":\"Mw==\",\"data\":4}"));
	assert_slice(request.info, "1");
	assert_slice(request.data, "3");
	assert_true(parse(HTTP_API_SUBSCRIBE, "{\"b64info\":\"e30gLQ==\"}"));
	assert_true(request.undecodable);
	assert_true(parse(HTTP_API_REFRESH, "{\"user\":\"u\",\"expired\":true,\"expire_at\":9,"
					    "\"info\":{}}"));
	assert_true(request.expired);
	assert_int_equal(request.expire_at, 9);
	assert_slice(request.info, "{}");
	assert_false(parse(HTTP_API_SUBSCRIBE, "{\"user\":1}"));
	assert_false(parse(HTTP_API_REFRESH, "{\"expire_at\":-1}"));
	assert_false(parse(HTTP_API_REFRESH, "{\"expired\":1}"));
}

static void test_override(void **state)
{
	(void)state;
	assert_true(parse(HTTP_API_SUBSCRIBE, "{}"));
	assert_int_equal(request.override.presence, -1);
	assert_int_equal(request.override.force_recovery, -1);
	assert_true(parse(HTTP_API_SUBSCRIBE,
			  "{\"override\":{\"presence\":{\"value\":true},\"join_leave\":{},"
			  "\"force_push_join_leave\":{\"value\":false},"
			  "\"force_positioning\":null,\"x\":1}}"));
	assert_int_equal(request.override.presence, 1);
	assert_int_equal(request.override.join_leave, 0);
	assert_int_equal(request.override.force_push_join_leave, 0);
	assert_int_equal(request.override.force_positioning, -1);
	assert_int_equal(request.override.force_recovery, -1);
	assert_false(parse(HTTP_API_SUBSCRIBE, "{\"override\":true}"));
	assert_false(parse(HTTP_API_SUBSCRIBE, "{\"override\":{\"presence\":true}}"));
	assert_false(parse(HTTP_API_SUBSCRIBE, "{\"override\":{\"presence\":{\"value\":1}}}"));
}

static void test_disconnect(void **state)
{
	(void)state;
	assert_true(parse(HTTP_API_DISCONNECT,
			  "{\"user\":\"u\",\"whitelist\":[\"a\",\"b\"],"
			  "\"disconnect\":{\"code\":4500,\"reason\":\"go away\",\"x\":1}}"));
	assert_int_equal(request.whitelist.count, 2);
	assert_slice(request.whitelist.items[1], "b");
	assert_int_equal(request.disconnect_code, 4500);
	assert_slice(request.disconnect_reason, "go away");
	assert_false(parse(HTTP_API_DISCONNECT, "{\"disconnect\":4500}"));
	assert_false(parse(HTTP_API_DISCONNECT, "{\"disconnect\":{\"code\":\"4500\"}}"));
	assert_false(parse(HTTP_API_DISCONNECT, "{\"whitelist\":\"a\"}"));
}

/* --- several calls in one body --- */

static struct http_api_commands commands;

static int end_commands(void **state)
{
	(void)state;
	http_api_commands_free(&commands);
	return 0;
}

static bool batch(const char *body)
{
	http_api_commands_free(&commands);
	return http_api_batch_parse(slice_str(body), &commands);
}

static bool legacy(const char *body)
{
	http_api_commands_free(&commands);
	return http_api_legacy_parse(slice_str(body), &commands);
}

static void test_batch(void **state)
{
	(void)state;
	assert_true(batch("{\"parallel\":true,\"commands\":[{\"info\":{}},"
			  "{\"publish\":{\"channel\":\"c\"}},{\"no_such\":{}},{}]}"));
	assert_true(commands.parallel);
	assert_int_equal(commands.count, 4);
	assert_int_equal(commands.items[0].method, HTTP_API_INFO);
	assert_int_equal(commands.items[1].method, HTTP_API_PUBLISH);
	assert_slice(commands.items[1].params, "{\"channel\":\"c\"}");
	assert_int_equal(commands.items[2].method, HTTP_API_UNKNOWN);
	assert_int_equal(commands.items[3].method, HTTP_API_UNKNOWN);
	assert_true(batch("{}"));
	assert_int_equal(commands.count, 0);
	assert_true(batch("{\"commands\":null}"));
	assert_true(batch("{\"commands\":[{\"info\":{}}],\"commands\":[]}"));
	assert_int_equal(commands.count, 0);
}

static void test_the_first_method_of_a_command_counts(void **state)
{
	(void)state;
	assert_true(batch("{\"commands\":[{\"info\":{},\"publish\":{},\"channels\":{}},"
			  "{\"publish\":null,\"info\":{}}]}"));
	assert_int_equal(commands.items[0].method, HTTP_API_PUBLISH);
	assert_int_equal(commands.items[1].method, HTTP_API_INFO);
}

static void test_bad_batches(void **state)
{
	static const char *const bodies[] = {
		"",
		"[]",
		"{\"commands\":{}}",
		"{\"commands\":[1]}",
		"{\"commands\":[null]}",
		"{\"commands\":[[]]}",
		"{\"commands\":[{\"publish\":1}]}",
		"{\"commands\":[{\"info\":{}},{\"publish\":{\"channel\":1}}]}",
		"{\"commands\":[{\"info\":{}}}",
		"{\"commands\":[],\"parallel\":1}",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++)
		if (batch(bodies[i]))
			fail_msg("accepted: %s", bodies[i]);
}

static void test_too_many_commands_are_told(void **state)
{
	struct buffer body = {0};

	(void)state;
	for (unsigned extra = 0; extra <= 2; extra++) {
		buffer_reset(&body);
		buffer_append_str(&body, "{\"commands\":[{}");
		for (unsigned i = 1; i < HTTP_API_COMMANDS_MAX + extra; i++)
			buffer_append_str(&body, ",{}");
		buffer_append_str(&body, "]}");
		http_api_commands_free(&commands);
		assert_true(http_api_batch_parse(buffer_slice(&body), &commands));
		assert_int_equal(commands.count, HTTP_API_COMMANDS_MAX + (extra ? 1 : 0));
	}
	buffer_free(&body);
}

static void test_legacy(void **state)
{
	(void)state;
	assert_true(legacy("{\"method\":\"publish\",\"params\":{\"channel\":\"c\"},\"id\":3}\n"
			   " {\"method\" : \"INFO\"}{\"params\":{}}\n\n"
			   "{\"method\":\"no_such\"}\n"));
	assert_int_equal(commands.count, 4);
	assert_int_equal(commands.items[0].method, HTTP_API_PUBLISH);
	assert_slice(commands.items[0].params, "{\"channel\":\"c\"}");
	assert_int_equal(commands.items[0].id, 3);
	assert_int_equal(commands.items[1].method, HTTP_API_INFO);
	assert_slice(commands.items[1].params, "{}");
	assert_int_equal(commands.items[2].method, HTTP_API_UNKNOWN);
	assert_int_equal(commands.items[3].method, HTTP_API_UNKNOWN);
	assert_false(commands.parallel);
}

static void test_bad_parameters_cost_only_their_legacy_command(void **state)
{
	(void)state;
	assert_true(legacy("{\"method\":\"publish\",\"params\":{\"channel\":1}}\n"
			   "{\"method\":\"info\",\"params\":7}\n{\"method\":\"info\"}"));
	assert_true(commands.items[0].bad);
	assert_true(commands.items[1].bad);
	assert_false(commands.items[2].bad);
}

static void test_bad_legacy_bodies(void **state)
{
	static const char *const bodies[] = {
		"",
		" \n",
		"[]",
		"1",
		"{\"method\":1}",
		"{\"id\":-1}",
		"{\"method\":\"info\"}\n{",
		"{\"method\":\"info\"}\nx",
		"{\"method\":\"info\"},{\"method\":\"info\"}",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++)
		if (legacy(bodies[i]))
			fail_msg("accepted: %s", bodies[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_three_places_for_the_key),
		cmocka_unit_test(test_wrong_keys),
		cmocka_unit_test(test_the_first_place_counts),
		cmocka_unit_test(test_an_empty_key_opens_to_nobody),
		cmocka_unit_test(test_error_mode),
		cmocka_unit_test(test_error_statuses),
		cmocka_unit_test(test_method_names),
		cmocka_unit_test_teardown(test_publish, end_request),
		cmocka_unit_test_teardown(test_absent_null_and_repeated_fields, end_request),
		cmocka_unit_test_teardown(test_bad_bodies, end_request),
		cmocka_unit_test_teardown(test_fields_of_other_methods_are_ignored, end_request),
		cmocka_unit_test_teardown(test_idempotency_and_versions, end_request),
		cmocka_unit_test_teardown(test_b64data, end_request),
		cmocka_unit_test_teardown(test_broadcast, end_request),
		cmocka_unit_test_teardown(test_broadcast_to_too_many_is_bounded, end_request),
		cmocka_unit_test_teardown(test_history, end_request),
		cmocka_unit_test_teardown(test_channels, end_request),
		cmocka_unit_test_teardown(test_users, end_request),
		cmocka_unit_test_teardown(test_override, end_request),
		cmocka_unit_test_teardown(test_disconnect, end_request),
		cmocka_unit_test_teardown(test_batch, end_commands),
		cmocka_unit_test_teardown(test_the_first_method_of_a_command_counts, end_commands),
		cmocka_unit_test_teardown(test_bad_batches, end_commands),
		cmocka_unit_test_teardown(test_too_many_commands_are_told, end_commands),
		cmocka_unit_test_teardown(test_legacy, end_commands),
		cmocka_unit_test_teardown(test_bad_parameters_cost_only_their_legacy_command,
					  end_commands),
		cmocka_unit_test_teardown(test_bad_legacy_bodies, end_commands),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

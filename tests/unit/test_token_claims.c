/* SPDX-License-Identifier: ISC */
/*
 * What a good token says (src/auth): the user, info and data byte for byte, expiry,
 * subs and channels, overrides, subscription tokens; and claims that are refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "keepsock/token.h"
#include "token_mint.h"

#define NOW   1000000u
#define HS256 "{\"alg\":\"HS256\"}"

static const struct mint mint = {.secret = "secret", .digest = "SHA256"};

static enum token_verdict open_connection_as(const char *user_claim, const char *payload,
					     struct connection_token *out)
{
	struct token_options options = {.hmac = "secret", .user_id_claim = user_claim};
	struct buffer token = {0}, error = {0};
	struct token_verifier *verifier = token_verifier_create(&options, &error);

	assert_non_null(verifier);
	mint_token(&token, &mint, HS256, payload);
	enum token_verdict verdict =
		token_verify_connection(verifier, buffer_slice(&token), NOW, out);
	buffer_free(&token);
	token_verifier_free(verifier);
	return verdict;
}

static void open_connection(const char *payload, struct connection_token *out)
{
	if (open_connection_as(NULL, payload, out) != TOKEN_OK)
		fail_msg("%s: %s", out->reason, payload);
}

static enum token_verdict open_subscription(const char *payload, struct subscription_token *out)
{
	struct token_options options = {.hmac = "secret"};
	struct buffer token = {0}, error = {0};
	struct token_verifier *verifier = token_verifier_create(&options, &error);

	assert_non_null(verifier);
	mint_token(&token, &mint, HS256, payload);
	enum token_verdict verdict =
		token_verify_subscription(verifier, buffer_slice(&token), NOW, out);
	buffer_free(&token);
	token_verifier_free(verifier);
	return verdict;
}

static void check_connection(const char *payload, enum token_verdict expected)
{
	struct connection_token token;
	enum token_verdict verdict = open_connection_as(NULL, payload, &token);

	if (verdict != expected)
		fail_msg("verdict %d instead of %d on %.200s", verdict, expected, payload);
	connection_token_free(&token);
}

static void check_subscription(const char *payload, enum token_verdict expected)
{
	struct subscription_token token;
	enum token_verdict verdict = open_subscription(payload, &token);

	if (verdict != expected)
		fail_msg("verdict %d instead of %d on %.200s", verdict, expected, payload);
	subscription_token_free(&token);
}

static void check_override(struct token_override o, int presence, int join_leave, int push,
			   int positioning, int recovery)
{
	assert_int_equal(o.presence, presence);
	assert_int_equal(o.join_leave, join_leave);
	assert_int_equal(o.force_push_join_leave, push);
	assert_int_equal(o.force_positioning, positioning);
	assert_int_equal(o.force_recovery, recovery);
}

/* ---- connection tokens ---- */

static void test_empty_token_is_anonymous(void **state)
{
	struct connection_token token;

	(void)state;
	open_connection("{}", &token);
	assert_int_equal(token.user.len + token.info.len + token.meta.len + token.n_subs, 0);
	assert_int_equal(token.expires_at, 0);
	connection_token_free(&token);
	open_connection("{\"sub\":null,\"info\":null,\"meta\":null,\"subs\":null}", &token);
	assert_int_equal(token.user.len + token.info.len + token.meta.len + token.n_subs, 0);
	connection_token_free(&token);
	connection_token_free(&token);
}

static void test_user(void **state)
{
	struct connection_token token;

	(void)state;
	open_connection("{\"sub\":\"J\\u00fcrgen \\\"X\\\"\"}", &token);
	assert_true(slice_is(token.user, "J\xc3\xbcrgen \"X\""));
	connection_token_free(&token);
	check_connection("{\"sub\":42}", TOKEN_INVALID);
	check_connection("{\"sub\":[\"u\"]}", TOKEN_INVALID);
	check_connection("{\"sub\":\"a\",\"sub\":\"b\"}", TOKEN_INVALID);
	check_connection("{\"sub\":\"a\",\"s\\u0075b\":\"b\"}", TOKEN_INVALID);
	check_connection("{\"sub\":\"a\\u0000b\"}", TOKEN_INVALID);
}

static void test_user_id_claim(void **state)
{
	static const struct {
		const char *claim, *payload, *user;
	} all[] = {
		{"uid", "{\"sub\":\"s\",\"uid\":\"u\"}", "u"},
		{"uid", "{\"sub\":[1],\"uid\":12345}", "12345"},
		{"uid", "{\"sub\":\"s\"}", ""},
		{"uid", "{\"sub\":\"s\",\"uid\":null}", ""},
		{"iss", "{\"iss\":\"i\"}", "i"},
		{"https://example.org/user_id_of_forty_ch",
		 "{\"https://example.org/user_id_of_forty_ch\":\"u\"}", "u"},
		{"sub", "{\"sub\":\"s\"}", "s"},
		{"", "{\"sub\":\"s\"}", "s"},
	};
	struct connection_token token;

	(void)state;
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		assert_int_equal(open_connection_as(all[i].claim, all[i].payload, &token),
				 TOKEN_OK);
		assert_true(slice_is(token.user, all[i].user));
		connection_token_free(&token);
	}
	assert_int_equal(open_connection_as("uid", "{\"uid\":1.5}", &token), TOKEN_INVALID);
	assert_int_equal(open_connection_as("uid", "{\"uid\":true}", &token), TOKEN_INVALID);
	assert_int_equal(open_connection_as("uid", "{\"uid\":\"a\",\"uid\":\"b\"}", &token),
			 TOKEN_INVALID);
}

static void test_info_and_meta_byte_for_byte(void **state)
{
	struct connection_token token;

	(void)state;
	open_connection("{\"info\": {\"n\" : 1.50, \"t\":\"\\u00e9\\/\",\"d\":{\"a\":1,\"a\":2}} ,"
			"\"meta\":[ 1e5 ,\n null]}",
			&token);
	assert_true(slice_is(token.info,
			     "{\"n\" : 1.50, \"t\":\"\\u00e9\\/\",\"d\":{\"a\":1,\"a\":2}}"));
	assert_true(slice_is(token.meta, "[ 1e5 ,\n null]"));
	connection_token_free(&token);
}

static void test_b64info(void **state)
{
	struct connection_token token;

	(void)state;
	/* {"a": 1} */
	open_connection("{\"info\":5,\"b64info\":\"eyJhIjogMX0=\"}", &token);
	assert_true(slice_is(token.info, "{\"a\": 1}"));
	connection_token_free(&token);
	open_connection("{\"info\":5,\"b64info\":\"\"}", &token);
	assert_true(slice_is(token.info, "5"));
	connection_token_free(&token);
	check_connection("{\"b64info\":\"eyJhIjogMX0\"}", TOKEN_INVALID);
	check_connection("{\"b64info\":\"/w==\"}", TOKEN_INVALID);
	check_connection("{\"b64info\":\"*\"}", TOKEN_INVALID);
	check_connection("{\"b64info\":5}", TOKEN_INVALID);
}

static void check_expiry(const char *payload, uint64_t expected)
{
	struct connection_token token;

	open_connection(payload, &token);
	assert_int_equal(token.expires_at, expected);
	connection_token_free(&token);
}

static void test_expiry_of_the_connection(void **state)
{
	(void)state;
	check_expiry("{\"exp\":1000001}", 1000001);
	check_expiry("{\"exp\":1000001.9}", 1000001);
	check_expiry("{\"exp\":1e300}", 1ull << 53);
	check_expiry("{\"exp\":1000001,\"expire_at\":2000000}", 2000000);
	check_expiry("{\"exp\":1000001,\"expire_at\":0}", 0);
	check_expiry("{\"exp\":1000001,\"expire_at\":-1}", 0);
	check_expiry("{\"exp\":1000001,\"expire_at\":null}", 1000001);
	/* Over already: for the caller to tell (error 110). */
	check_expiry("{\"expire_at\":5}", 5);
	check_expiry("{\"expire_at\":9223372036854775807}", 1ull << 53);
	check_connection("{\"exp\":999999,\"expire_at\":0}", TOKEN_EXPIRED);
	check_connection("{\"expire_at\":1000001.5}", TOKEN_INVALID);
	check_connection("{\"expire_at\":\"0\"}", TOKEN_INVALID);
	check_connection("{\"expire_at\":0,\"expire_at\":0}", TOKEN_INVALID);
}

static void test_channel_claim_is_refused(void **state)
{
	(void)state;
	check_connection("{\"sub\":\"u\",\"channel\":\"c\"}", TOKEN_INVALID);
	check_connection("{\"sub\":\"u\",\"channel\":5}", TOKEN_INVALID);
	check_connection("{\"sub\":\"u\",\"channel\":\"\"}", TOKEN_OK);
	check_connection("{\"sub\":\"u\",\"channel\":null}", TOKEN_OK);
}

static void test_claims_must_be_an_object(void **state)
{
	static const char *const bad[] = {
		"",
		"[]",
		"null",
		"5",
		"\"{}\"",
		"{} {}",
		"{",
		"{}x",
		"{\"a\"}",
		"{\"a\":1,}",
		"{\"sub\":'u'}",
		"\xef\xbb\xbf{}",
		"{\"sub\":\"\xff\"}",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		check_connection(bad[i], TOKEN_INVALID);
		check_subscription(bad[i], TOKEN_INVALID);
	}
	check_connection(" { } ", TOKEN_OK);
}

static void test_depth(void **state)
{
	struct buffer payload = {0};

	(void)state;
	for (size_t depth = 60; depth < 70; depth++) {
		buffer_reset(&payload);
		buffer_append_str(&payload, "{\"info\":");
		for (size_t i = 0; i < depth; i++)
			buffer_append_char(&payload, '[');
		for (size_t i = 0; i < depth; i++)
			buffer_append_char(&payload, ']');
		buffer_append_str(&payload, "}");
		/* JSON_DEPTH_MAX, and the claims themselves are one level. */
		check_connection(buffer_cstr(&payload), depth < 64 ? TOKEN_OK : TOKEN_INVALID);
	}
	buffer_free(&payload);
}

/* ---- subs and channels ---- */

static void test_subs(void **state)
{
	struct connection_token token;

	(void)state;
	open_connection("{\"channels\":[\"ignored\"],\"subs\":{"
			"\"b\":{\"info\": [1] ,\"data\":\"d\",\"override\":{"
			"\"presence\":{\"value\":true},\"join_leave\":{\"value\":false},"
			"\"force_recovery\":{},\"unknown\":5}},"
			"\"a\\u003a1\":{},\"c\":null,"
			"\"B\":{\"b64info\":\"W10=\",\"info\":7,\"b64data\":\"bnVsbA==\"}}}",
			&token);
	assert_int_equal(token.n_subs, 4);
	assert_true(slice_is(token.subs[0].channel, "B"));
	assert_true(slice_is(token.subs[0].info, "[]"));
	assert_true(slice_is(token.subs[0].data, "null"));
	assert_true(slice_is(token.subs[1].channel, "a:1"));
	check_override(token.subs[1].override, -1, -1, -1, -1, -1);
	assert_true(slice_is(token.subs[2].channel, "b"));
	assert_true(slice_is(token.subs[2].info, "[1]"));
	assert_true(slice_is(token.subs[2].data, "\"d\""));
	check_override(token.subs[2].override, 1, 0, -1, -1, 0);
	assert_true(slice_is(token.subs[3].channel, "c"));
	assert_int_equal(token.subs[3].info.len, 0);
	connection_token_free(&token);
}

static void test_channels(void **state)
{
	struct connection_token token;

	(void)state;
	open_connection("{\"subs\":{},\"channels\":[\"b\",\"a\",\"b\",\"ab\"]}", &token);
	assert_int_equal(token.n_subs, 3);
	assert_true(slice_is(token.subs[0].channel, "a"));
	assert_true(slice_is(token.subs[1].channel, "ab"));
	assert_true(slice_is(token.subs[2].channel, "b"));
	check_override(token.subs[2].override, -1, -1, -1, -1, -1);
	connection_token_free(&token);
	open_connection("{\"channels\":[]}", &token);
	assert_int_equal(token.n_subs, 0);
	connection_token_free(&token);
}

static void test_bad_subs(void **state)
{
	static const char *const bad[] = {
		"{\"subs\":[\"a\"]}",
		"{\"subs\":{\"\":{}}}",
		"{\"subs\":{\"a\":5}}",
		"{\"subs\":{\"a\":[]}}",
		"{\"subs\":{\"a\":{},\"a\":{}}}",
		"{\"subs\":{\"a\":{},\"b\":{},\"\\u0061\":{}}}",
		"{\"subs\":{\"a\":{}},\"subs\":{}}",
		"{\"subs\":{\"a\":{\"info\":1,\"info\":1}}}",
		"{\"subs\":{\"a\":{\"b64info\":\"x\"}}}",
		"{\"subs\":{\"a\":{\"b64data\":5}}}",
		"{\"subs\":{\"a\":{\"override\":true}}}",
		"{\"subs\":{\"a\":{\"override\":{\"presence\":true}}}}",
		"{\"subs\":{\"a\":{\"override\":{\"presence\":{\"value\":1}}}}}",
		"{\"subs\":{\"a\":{\"override\":{\"presence\":{},\"presence\":{}}}}}",
		"{\"subs\":{\"a\":{\"override\":{\"presence\":{\"value\":true,\"value\":true}}}}}",
		"{\"channels\":\"a\"}",
		"{\"channels\":{}}",
		"{\"channels\":[5]}",
		"{\"channels\":[\"a\",null]}",
		"{\"channels\":[\"\"]}",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		check_connection(bad[i], TOKEN_INVALID);
}

static void test_number_of_subs(void **state)
{
	struct buffer subs = {0}, channels = {0};

	(void)state;
	for (unsigned count = TOKEN_SUBS_MAX; count <= TOKEN_SUBS_MAX + 1; count++) {
		enum token_verdict expected = count <= TOKEN_SUBS_MAX ? TOKEN_OK : TOKEN_INVALID;

		buffer_reset(&subs);
		buffer_reset(&channels);
		for (unsigned i = 0; i < count; i++) {
			buffer_printf(&subs, "%s\"%x\":{}", i > 0 ? "," : "{\"subs\":{", i);
			buffer_printf(&channels, "%s\"%x\"", i > 0 ? "," : "{\"channels\":[", i);
		}
		buffer_append_str(&subs, "}}");
		buffer_append_str(&channels, "]}");
		check_connection(buffer_cstr(&subs), expected);
		check_connection(buffer_cstr(&channels), expected);
	}
	buffer_free(&subs);
	buffer_free(&channels);
}

/* Strings that decode to more than they were in base64 would move what was read before. */
static void test_slices_stay(void **state)
{
	struct buffer payload = {0};
	struct connection_token token;

	(void)state;
	buffer_append_str(&payload, "{\"sub\":\"user\",\"subs\":{");
	for (unsigned i = 0; i < 300; i++)
		buffer_printf(&payload, "%s\"c%03u\":{\"b64info\":\"InQi\"}", i > 0 ? "," : "", i);
	buffer_append_str(&payload, "}}");
	open_connection(buffer_cstr(&payload), &token);
	assert_true(slice_is(token.user, "user"));
	assert_int_equal(token.n_subs, 300);
	for (unsigned i = 0; i < 300; i++) {
		char name[8] = {'c', (char)('0' + i / 100), (char)('0' + i / 10 % 10),
				(char)('0' + i % 10)};

		assert_true(slice_is(token.subs[i].channel, name));
		assert_true(slice_is(token.subs[i].info, "\"t\""));
		assert_true(token.subs[i].channel.data >= token.text.data &&
			    token.subs[i].channel.data < token.text.data + token.text.len);
	}
	connection_token_free(&token);
	buffer_free(&payload);
}

/* ---- subscription tokens ---- */

static void test_subscription_token(void **state)
{
	struct subscription_token token;

	(void)state;
	assert_int_equal(
		open_subscription("{\"sub\":\"u\",\"channel\":\"news:1\",\"client\":\"id\","
				  "\"info\":{\"r\":1},\"data\":[2],\"exp\":1000005,\"meta\":5,"
				  "\"override\":{\"force_positioning\":{\"value\":true},"
				  "\"force_push_join_leave\":{\"value\":false}}}",
				  &token),
		TOKEN_OK);
	assert_null(token.reason);
	assert_true(slice_is(token.user, "u"));
	assert_true(slice_is(token.channel, "news:1"));
	assert_true(slice_is(token.client, "id"));
	assert_true(slice_is(token.info, "{\"r\":1}"));
	assert_true(slice_is(token.data, "[2]"));
	assert_int_equal(token.expires_at, 1000005);
	check_override(token.override, -1, -1, 0, 1, -1);
	subscription_token_free(&token);
	assert_int_equal(open_subscription("{\"channel\":\"c\",\"b64info\":\"MQ==\","
					   "\"b64data\":\"Mg==\",\"expire_at\":0,\"exp\":1000005}",
					   &token),
			 TOKEN_OK);
	assert_true(slice_is(token.info, "1") && slice_is(token.data, "2"));
	assert_int_equal(token.user.len + token.client.len + token.expires_at, 0);
	check_override(token.override, -1, -1, -1, -1, -1);
	subscription_token_free(&token);
}

static void test_bad_subscription_tokens(void **state)
{
	struct subscription_token token;

	(void)state;
	check_subscription("{\"sub\":\"u\"}", TOKEN_INVALID);
	check_subscription("{\"sub\":\"u\",\"channel\":\"\"}", TOKEN_INVALID);
	check_subscription("{\"sub\":\"u\",\"channel\":null}", TOKEN_INVALID);
	check_subscription("{\"sub\":\"u\",\"channel\":[\"c\"]}", TOKEN_INVALID);
	check_subscription("{\"channel\":\"c\",\"channel\":\"d\"}", TOKEN_INVALID);
	check_subscription("{\"channel\":\"c\",\"client\":5}", TOKEN_INVALID);
	check_subscription("{\"channel\":\"c\",\"client\":\"a\",\"client\":\"b\"}", TOKEN_INVALID);
	check_subscription("{\"channel\":\"c\",\"override\":[]}", TOKEN_INVALID);
	check_subscription("{\"channel\":\"c\",\"override\":{\"presence\":5}}", TOKEN_INVALID);
	check_subscription("{\"channel\":\"c\",\"b64data\":\"x\"}", TOKEN_INVALID);
	check_subscription("{\"channel\":\"c\",\"exp\":1000000}", TOKEN_EXPIRED);
	check_subscription("{\"exp\":1000000}", TOKEN_EXPIRED);
	check_subscription("{\"channel\":\"c\",\"nbf\":1000001}", TOKEN_EXPIRED);
	assert_int_equal(open_subscription("{}", &token), TOKEN_INVALID);
	assert_string_equal(token.reason, "without a channel claim");
	assert_int_equal(token.text.len + token.channel.len, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_empty_token_is_anonymous),
		cmocka_unit_test(test_user),
		cmocka_unit_test(test_user_id_claim),
		cmocka_unit_test(test_info_and_meta_byte_for_byte),
		cmocka_unit_test(test_b64info),
		cmocka_unit_test(test_expiry_of_the_connection),
		cmocka_unit_test(test_channel_claim_is_refused),
		cmocka_unit_test(test_claims_must_be_an_object),
		cmocka_unit_test(test_depth),
		cmocka_unit_test(test_subs),
		cmocka_unit_test(test_channels),
		cmocka_unit_test(test_bad_subs),
		cmocka_unit_test(test_number_of_subs),
		cmocka_unit_test(test_slices_stay),
		cmocka_unit_test(test_subscription_token),
		cmocka_unit_test(test_bad_subscription_tokens),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

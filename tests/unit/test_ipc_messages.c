/* SPDX-License-Identifier: ISC */
/*
 * The messages between master and worker: who may send what, and that what one
 * side encodes the other decodes, or refuses with a reason.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "keepsock/buffer.h"
#include "keepsock/ipc_messages.h"

static const struct ipc_start sample = {
	.slot = 3,
	.slots = 4,
	.node = (char *)"a",
	.config_name = (char *)"etc/\xc3\xa4\"\n.conf",
	.run_dir = (char *)"/run/keepsock",
	.listeners = 2,
	.shared_listeners = 1,
	.shard_count = 2,
	.shards = {{(char *)"::1", 6380, (char *)"me", (char *)"p\"w", 7},
		   {(char *)"", 0, (char *)"", (char *)"secret", 0}},
	.api_key = (char *)"key",
	.token_keys = {(char *)"secret", (char *)"before",
		       (char *)"-----BEGIN PUBLIC KEY-----\nMIIB\n", (char *)""},
	.subscription_token_keys = {(char *)"", (char *)"", (char *)"", (char *)"ec"},
};

/* Pinned here by hand: a new type must be thought about on both sides. */
static void test_each_type_has_one_direction(void **state)
{
	static const struct {
		uint32_t type;
		enum ipc_direction direction;
	} expected[] = {
		{IPC_REQUEST, MASTER_TO_WORKER},   {IPC_REDIS, MASTER_TO_WORKER},
		{IPC_LOG_LEVEL, MASTER_TO_WORKER}, {IPC_ROLE, MASTER_TO_WORKER},
		{IPC_STOP, MASTER_TO_WORKER},      {IPC_TLS, MASTER_TO_WORKER},
		{IPC_MOVE_OUT, MASTER_TO_WORKER},  {IPC_MOVE_IN, MASTER_TO_WORKER},
		{IPC_READY, WORKER_TO_MASTER},     {IPC_REPLY, WORKER_TO_MASTER},
		{IPC_MOVED, WORKER_TO_MASTER},
	};

	(void)state;
	assert_int_equal(sizeof(expected) / sizeof(expected[0]), IPC_TYPE_COUNT - 1);
	for (size_t i = 0; i < IPC_TYPE_COUNT - 1; i++) {
		uint32_t type = expected[i].type;
		bool down = expected[i].direction == MASTER_TO_WORKER;

		assert_int_equal(ipc_type_allowed(type, MASTER_TO_WORKER), down);
		assert_int_equal(ipc_type_allowed(type, WORKER_TO_MASTER), !down);
		assert_string_not_equal(ipc_type_name(type), "unknown");
	}
}

static void test_unknown_types_are_refused(void **state)
{
	static const uint32_t types[] = {IPC_NONE, IPC_TYPE_COUNT, UINT32_MAX};

	(void)state;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		assert_false(ipc_type_allowed(types[i], MASTER_TO_WORKER));
		assert_false(ipc_type_allowed(types[i], WORKER_TO_MASTER));
		assert_string_equal(ipc_type_name(types[i]), "unknown");
	}
}

static void test_start_survives_the_way(void **state)
{
	struct buffer text = {0}, error = {0};
	struct ipc_start start;

	(void)state;
	assert_int_equal(ipc_start_encode(&text, &sample), 0);
	assert_int_equal(ipc_start_decode(text.data, text.len, &start, &error), 0);
	assert_int_equal(start.slot, sample.slot);
	assert_int_equal(start.slots, sample.slots);
	assert_string_equal(start.node, sample.node);
	assert_string_equal(start.config_name, sample.config_name);
	assert_string_equal(start.run_dir, sample.run_dir);
	assert_int_equal(start.listeners, sample.listeners);
	assert_int_equal(start.shared_listeners, sample.shared_listeners);
	assert_string_equal(start.api_key, sample.api_key);
	assert_true(ipc_keys_equal(&start.token_keys, &sample.token_keys));
	assert_true(
		ipc_keys_equal(&start.subscription_token_keys, &sample.subscription_token_keys));
	assert_int_equal(start.shard_count, 2);
	assert_true(ipc_redis_equal(&start.shards[0], &sample.shards[0]));
	assert_true(ipc_redis_equal(&start.shards[1], &sample.shards[1]));
	assert_true(ipc_redis_known(&start.shards[0]));
	assert_false(ipc_redis_known(&start.shards[1]));
	ipc_start_free(&start);
	buffer_free(&text);
	buffer_free(&error);
}

static void test_keys_that_differ_in_one(void **state)
{
	const struct ipc_keys same = {(char *)"a", (char *)"b", (char *)"c", (char *)"d"};
	struct ipc_keys none = ipc_keys_none();

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		char *keys[4] = {same.hmac, same.hmac_previous, same.rsa, same.ecdsa};
		struct ipc_keys other;

		keys[i] = (char *)"x";
		other = (struct ipc_keys){keys[0], keys[1], keys[2], keys[3]};
		assert_false(ipc_keys_equal(&same, &other));
	}
	assert_true(ipc_keys_equal(&same, &same));
	assert_false(ipc_keys_equal(&same, &none));
	assert_string_equal(none.ecdsa, "");
	ipc_keys_free(&none);
	assert_null(none.hmac);
}

static void test_redis_survives_the_way(void **state)
{
	struct ipc_redis copy = ipc_redis_copy(&sample.shards[0]);
	struct buffer text = {0}, error = {0};
	struct ipc_redis redis;
	uint32_t shard;

	(void)state;
	assert_int_equal(ipc_redis_encode(&text, 63, &copy), 0);
	assert_int_equal(ipc_redis_decode(text.data, text.len, &shard, &redis, &error), 0);
	assert_int_equal(shard, 63);
	assert_true(ipc_redis_equal(&redis, &copy));
	redis.port++;
	assert_false(ipc_redis_equal(&redis, &copy));
	ipc_redis_free(&redis);
	ipc_redis_free(&copy);
	buffer_free(&text);
	buffer_free(&error);
}

static void test_a_shard_that_cannot_be_is_refused(void **state)
{
	static const char *const texts[] = {
		"{\"shard\": -1, \"redis\": %s}",
		"{\"shard\": 64, \"redis\": %s}",
		"{\"shard\": \"0\", \"redis\": %s}",
		"{\"redis\": %s}",
		"{\"shard\": 0}",
		"{\"shard\": 0, \"redis\": {}}",
		"{\"shard\": 0, \"redis\": %s, \"more\": 1}",
	};
	static const char endpoint[] = "{\"host\": \"h\", \"port\": 1, \"user\": \"\", "
				       "\"password\": \"\", \"db\": 0}";

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct buffer text = {0}, error = {0};
		const char *mark = strstr(texts[i], "%s");
		struct ipc_redis redis;
		uint32_t shard;

		buffer_append(&text, texts[i], mark ? (size_t)(mark - texts[i]) : strlen(texts[i]));
		if (mark) {
			buffer_append_str(&text, endpoint);
			buffer_append_str(&text, mark + 2);
		}
		assert_int_equal(ipc_redis_decode(text.data, text.len, &shard, &redis, &error), -1);
		assert_true(error.len > 0);
		assert_null(redis.host);
		buffer_free(&text);
		buffer_free(&error);
	}
}

static void test_text_that_is_not_utf8_is_an_error(void **state)
{
	struct ipc_start start = sample;
	struct buffer text = {0};

	(void)state;
	start.token_keys.hmac = (char *)"\xff";
	assert_int_equal(ipc_start_encode(&text, &start), -1);
	start = sample;
	start.node = (char *)"\xff";
	assert_int_equal(ipc_start_encode(&text, &start), -1);
	start = sample;
	start.shards[1].password = (char *)"\xff";
	assert_int_equal(ipc_start_encode(&text, &start), -1);
	assert_int_equal(ipc_redis_encode(&text, 1, &start.shards[1]), -1);
	assert_int_equal(text.len, 0);
	buffer_free(&text);
}

static void assert_refused(json_t *json)
{
	char *text = json_dumps(json, 0);
	struct buffer error = {0};
	struct ipc_start start;

	assert_int_equal(ipc_start_decode(text, strlen(text), &start, &error), -1);
	assert_true(error.len > 0);
	assert_null(start.node);
	assert_null(start.token_keys.hmac);
	assert_null(start.shards[0].host);
	assert_null(start.shards[1].host);
	assert_int_equal(start.shard_count, 0);
	buffer_free(&error);
	free(text);
}

/* The sample with one member changed (value) or left out (NULL); members of its second shard behind
 * a dot. */
static void assert_refused_with(const char *key, json_t *value)
{
	struct buffer text = {0};
	json_t *json, *object;

	assert_int_equal(ipc_start_encode(&text, &sample), 0);
	json = json_loadb(text.data, text.len, 0, NULL);
	assert_non_null(json);
	object = json;
	if (strncmp(key, "shards.", 7) == 0) {
		object = json_array_get(json_object_get(json, "shards"), 1);
		key += 7;
	}
	if (value)
		assert_int_equal(json_object_set_new(object, key, value), 0);
	else
		assert_int_equal(json_object_del(object, key), 0);
	assert_refused(json);
	json_decref(json);
	buffer_free(&text);
}

static void test_a_bad_start_is_refused(void **state)
{
	static const char *const members[] = {
		"version",
		"slot",
		"slots",
		"node",
		"config_name",
		"run_dir",
		"shards",
		"api_key",
		"listeners",
		"shared_listeners",
		"shards.host",
		"shards.port",
		"shards.user",
		"shards.password",
		"shards.db",
		"token_keys",
		"subscription_token_keys",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
		assert_refused_with(members[i], NULL);
		assert_refused_with(members[i], json_true());
	}
	assert_refused_with("version", json_integer(IPC_PROTOCOL_VERSION + 1));
	assert_refused_with("slot", json_integer(-1));
	assert_refused_with("slot", json_integer(sample.slots));
	assert_refused_with("slots", json_integer(0));
	assert_refused_with("listeners", json_integer(-1));
	assert_refused_with("shared_listeners", json_integer(-1));
	assert_refused_with("shared_listeners", json_integer(3));
	assert_refused_with("shards", json_array());
	assert_refused_with("shards.port", json_integer(1));  /* its host is not known */
	assert_refused_with("shards.host", json_string("a")); /* its port is 0 */
	assert_refused_with("shards.port", json_integer(65536));
	assert_refused_with("shards.db", json_integer(-1));
	assert_refused_with("another", json_integer(1));
	assert_refused_with("shards.another", json_integer(1));
	assert_refused_with("token_keys", json_pack("{s:s, s:s, s:s}", "hmac", "", "hmac_previous",
						    "", "rsa", ""));
	assert_refused_with("subscription_token_keys",
			    json_pack("{s:s, s:s, s:s, s:i}", "hmac", "", "hmac_previous", "",
				      "rsa", "", "ecdsa", 1));
}

static void test_what_is_no_json_is_refused(void **state)
{
	static const char *const texts[] = {"", "{", "[]", "null", "{} x"};
	struct buffer error = {0};
	struct ipc_redis redis;
	struct ipc_start start;
	uint32_t shard;

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		const char *text = texts[i];

		buffer_reset(&error);
		assert_int_equal(ipc_start_decode(text, strlen(text), &start, &error), -1);
		assert_true(error.len > 0);
		buffer_reset(&error);
		assert_int_equal(ipc_redis_decode(text, strlen(text), &shard, &redis, &error), -1);
		assert_true(error.len > 0);
	}
	buffer_free(&error);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_type_has_one_direction),
		cmocka_unit_test(test_unknown_types_are_refused),
		cmocka_unit_test(test_start_survives_the_way),
		cmocka_unit_test(test_keys_that_differ_in_one),
		cmocka_unit_test(test_redis_survives_the_way),
		cmocka_unit_test(test_a_shard_that_cannot_be_is_refused),
		cmocka_unit_test(test_text_that_is_not_utf8_is_an_error),
		cmocka_unit_test(test_a_bad_start_is_refused),
		cmocka_unit_test(test_what_is_no_json_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

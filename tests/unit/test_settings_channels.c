/* SPDX-License-Identifier: ISC */
/*
 * Settings of the channel service: namespaces and how a channel finds its own,
 * options and groups that contradict each other, values of new kinds.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "settings_text.h"

static void test_contradictions_of_the_channel_service(void **state)
{
	static const struct bad_file files[] = {
		{"channel: { history_size = 1; history_ttl = \"1m\"; force_recovery = true;\n "
		 "auto_cache_recover = true; };\n",
		 "dir/k.conf:2: channel: auto_cache_recover needs force_recovery, and \"cache\" as "
		 "force_recovery_mode"},
		{"channel: { force_recovery_mode = \"cache\"; auto_cache_recover = true; };\n",
		 "dir/k.conf:1: channel: auto_cache_recover needs force_recovery, and \"cache\" as "
		 "force_recovery_mode"},
		{"channel: {\n force_push_join_leave = true; };\n",
		 "dir/k.conf:2: channel: force_push_join_leave needs join_leave"},
		{"personal_channel: {\n namespace = \"me\"; };\n",
		 "dir/k.conf:2: personal_channel.namespace is not in namespaces, add it or correct "
		 "the name"},
		{"personal_channel: {\n single_connection = true; };\n",
		 "dir/k.conf:2: personal_channel.single_connection needs personal_channel.enabled"},
		{"personal_channel: { enabled = true;\n single_connection = true;\n "
		 "namespace = \"me\"; };\nchannel: { presence = true; };\n"
		 "namespaces = ( { name = \"me\"; } );\n",
		 "dir/k.conf:2: personal_channel.single_connection needs presence in the personal "
		 "channels"},
		{"redis: {\n shards = [\"redis://h\"]; };\n",
		 "dir/k.conf:2: redis.shards must have two elements or more: name a single server "
		 "in "
		 "redis.server"},
		{"redis: { shards = [\"redis://h/1\", \"redis://i\", \"redis://H:6379/2\"]; };\n",
		 "dir/k.conf:1: redis.shards names a server twice, whatever the database: each "
		 "shard must be a server of its own"},
		{"redis: { shards = [\"sentinel://a,b/m\", \"sentinel://c,b:26379/m\"]; };\n",
		 "dir/k.conf:1: redis.shards names a server twice, whatever the database: each "
		 "shard must be a server of its own"},
		{"redis: { server = \"redis://h\";\n sentinel_password_file = \"p\"; };\n",
		 "dir/k.conf:2: redis.sentinel_password_file needs a sentinel:// URL in "
		 "redis.server "
		 "or redis.shards"},
		{"redis: { min_replicas = 1; };\n", "dir/k.conf:1: redis.min_replicas is for an "
						    "external server, the embedded one has no "
						    "replicas: remove it"},
		{"redis: { server = \"redis://h\"; min_replicas = 1;\n command_timeout = \"1s\"; "
		 "};\n",
		 "dir/k.conf:2: redis.min_replicas_timeout must be less than "
		 "redis.command_timeout"},
		{"redis: { probe_interval = \"5s\"; };\n",
		 "dir/k.conf:1: redis.probe_timeout must be more than redis.probe_interval"},
		{"token: {\n hmac_previous_secret_file = \"f\"; };\n",
		 "dir/k.conf:2: token.hmac_previous_secret_file needs token.hmac_secret_file"},
		{"token: { audience = \"a\";\n audience_regex = \"a\"; };\n",
		 "dir/k.conf:2: token.audience and token.audience_regex exclude each other, set "
		 "one of "
		 "them"},
		{"subscription_token: { issuer = \"a\";\n issuer_regex = \"a\"; };\n",
		 "dir/k.conf:2: subscription_token.issuer and subscription_token.issuer_regex "
		 "exclude "
		 "each other, set one of them"},
	};
	struct settings s;

	(void)state;
	assert_errors(files, COUNT(files));
	parse("redis: { shards = [\"redis://h\", \"redis://h:7000\", \"sentinel://a,b/m\", "
	      "\"sentinel://a,b/n\"]; sentinel_password_file = \"p\"; min_replicas = 1; };",
	      &s);
	assert_int_equal(s.redis.shards.count, 4);
	settings_free(&s);
	parse("channel: { history_size = 1; history_ttl = \"1m\"; force_recovery = true; "
	      "force_recovery_mode = \"cache\"; auto_cache_recover = true; };",
	      &s);
	settings_free(&s);
}

/* ---- namespaces ---- */

static void test_namespaces(void **state)
{
	struct settings s;
	const struct channel_options *chat;

	(void)state;
	parse("channel: { presence = true; };\n"
	      "namespaces = ( { name = \"news.de\"; history_size = 3; history_ttl = \"1m\"; },\n"
	      "{ name = \"chat\"; join_leave = true; channel_regex = \"^[0-9]+$\"; },\n"
	      "{ name = \"chat-2\"; } );\n",
	      &s);
	assert_int_equal(s.namespace_count, 3);
	chat = settings_channel_options(&s, SLICE("chat:room"));
	assert_non_null(chat);
	assert_true(chat->join_leave);
	assert_false(chat->presence); /* the table's default, not that of `channel` */
	assert_int_equal(chat->history_meta_ttl, 30 * 86400000ll);
	assert_non_null(chat->regex);
	assert_ptr_equal(settings_channel_options(&s, SLICE("$chat:x:y")), chat);
	assert_int_equal(settings_channel_options(&s, SLICE("news.de:"))->history_size, 3);
	assert_null(settings_channel_options(&s, SLICE("news.de:"))->regex);
	assert_non_null(settings_channel_options(&s, SLICE("chat-2:a")));
	assert_ptr_equal(settings_channel_options(&s, SLICE("chat")), &s.channel);
	assert_ptr_equal(settings_channel_options(&s, SLICE("")), &s.channel);
	assert_null(settings_channel_options(&s, SLICE("cha:x")));
	assert_null(settings_channel_options(&s, SLICE("chat-:x")));
	assert_null(settings_channel_options(&s, SLICE("chats:x")));
	assert_null(settings_channel_options(&s, SLICE(":x")));
	assert_null(settings_channel_options(&s, SLICE("$:x")));
	assert_null(settings_channel_options(&s, slice_from("chat\0:x", 7)));
	settings_free(&s);
	parse("namespaces = ();", &s);
	assert_int_equal(s.namespace_count, 0);
	settings_free(&s);
}

static void test_as_many_namespaces_as_there_may_be(void **state)
{
	struct settings s;
	struct buffer text;

	(void)state;
	buffer_init(&text);
	buffer_append_str(&text, "namespaces = (");
	for (int i = 0; i < SETTINGS_NAMESPACES_MAX; i++)
		buffer_printf(&text, "%s{ name = \"n%d\"; history_max_publication_limit = %d; }",
			      i > 0 ? "," : "", i, i + 1);
	buffer_append_str(&text, ");");
	parse(buffer_cstr(&text), &s);
	for (int i = 0; i < SETTINGS_NAMESPACES_MAX; i++) {
		const struct channel_options *options;
		char channel[32];

		snprintf(channel, sizeof(channel), "n%d:x", i);
		options = settings_channel_options(&s, slice_str(channel));
		assert_non_null(options);
		assert_int_equal(options->history_max_publication_limit, i + 1);
	}
	settings_free(&s);
	text.len -= 2;
	buffer_append_str(&text, ", { name = \"more\"; });");
	assert_error(buffer_cstr(&text),
		     "dir/k.conf:1: namespaces must have at most 256 elements, not 257");
	buffer_free(&text);
}

static void test_bad_namespaces(void **state)
{
	static const struct bad_file files[] = {
		{"\nnamespaces = 5;\n",
		 "dir/k.conf:2: namespaces must be a list in parentheses: ( { "
		 "name = ...; } )"},
		{"namespaces: { name = \"chat\"; };\n",
		 "dir/k.conf:1: namespaces must be a list in parentheses: ( { name = ...; } )"},
		{"namespaces = (\n \"chat\" );\n",
		 "dir/k.conf:2: an element of namespaces must be a group such as { name = "
		 "\"chat\"; presence = true; }"},
		{"namespaces = (\n { presence = true; } );\n",
		 "dir/k.conf:2: an element of namespaces needs a name"},
		{"namespaces = ( { name = \"chat\"; },\n{ name = \"news\"; },\n{ name = \"chat\"; "
		 "} "
		 ");\n",
		 "dir/k.conf:3: namespace chat is in namespaces twice, remove one"},
		{"namespaces = (\n{ name = \"chat\";\n presents = true; } );\n",
		 "dir/k.conf:3: unknown setting presents in namespaces, correct or remove it"},
		{"namespaces = ( { name = \"c\"; } );\n",
		 "dir/k.conf:1: namespaces.name must be 2 to 64 bytes long, not 1"},
		{"namespaces = ( { name = \"\"; } );\n",
		 "dir/k.conf:1: namespaces.name must not be empty"},
		{"namespaces = ( { name = \"ch:at\"; } );\n",
		 "dir/k.conf:1: namespaces.name must be letters, digits, hyphens, underscores and "
		 "dots "
		 "only"},
		{"namespaces = ( { name = \"ch\xc3\xa4t\"; } );\n",
		 "dir/k.conf:1: namespaces.name must be letters, digits, hyphens, underscores and "
		 "dots "
		 "only"},
		{"namespaces = ( { name = \"chat\";\n presence = 1; } );\n",
		 "dir/k.conf:2: namespaces.presence must be true or false"},
		{"namespaces = ( { name = \"chat\";\n history_size = 5;\n } );\n",
		 "dir/k.conf:2: namespaces.chat: history_size and history_ttl need each other, set "
		 "both or none"},
		{"namespaces = ( { name = \"chat\";\n presence_ttl = \"5s\"; } );\n"
		 "client: { presence_update_interval = \"10s\"; };\n",
		 "dir/k.conf:2: namespaces.chat: presence_ttl must be more than "
		 "client.presence_update_interval"},
		{"channel: { presence_ttl = \"10m\"; };\n"
		 "client: { presence_update_interval = \"5m\"; };\n"
		 "namespaces = (\n{ name = \"chat\"; } );\n",
		 "dir/k.conf:4: namespaces.chat: presence_ttl must be more than "
		 "client.presence_update_interval"},
		{"namespaces = ( { name = \"chat\";\n channel_regex = \"(\"; } );\n",
		 "dir/k.conf:2: namespaces.channel_regex must be an extended regular expression "
		 "(POSIX)"},
		{"namespaces = ( { name = \"chat\"; channel_regex = \"(a)\\\\1\"; } );\n",
		 "dir/k.conf:1: namespaces.channel_regex must not hold back-references"},
		{"namespaces = ( { name = \"chat\"; force_recovery_mode = \"all\"; } );\n",
		 "dir/k.conf:1: namespaces.force_recovery_mode must be stream or cache"},
		{"namespaces = ( { name = \"chat\"; name = \"chat\"; } );\n",
		 "dir/k.conf:1: duplicate setting name, correct this line or the one before"},
		{"namespaces = ();\nnamespaces = ();\n",
		 "dir/k.conf:2: duplicate setting name, correct this line or the one before"},
	};

	(void)state;
	assert_errors(files, COUNT(files));
}

/* ---- new kinds of values ---- */

static void test_bad_values_of_the_channel_service(void **state)
{
	static const struct bad_file files[] = {
		{"redis: { shards = \"redis://h\"; };\n",
		 "dir/k.conf:1: redis.shards must be a list of strings such as [\"a\", \"b\"]"},
		{"redis: { shards = [\"redis://h\", \"embedded\"]; };\n",
		 "dir/k.conf:1: redis.shards must hold URLs only"},
		{"redis: { shards = [\"redis://h\", \"redis://:secret@h:0\"]; };\n",
		 "dir/k.conf:1: redis.shards must have a port from 1 to 65535"},
		{"http_api: { error_mode = \"loud\"; };\n",
		 "dir/k.conf:1: http_api.error_mode must be transport or empty"},
		{"token: { user_id_claim = \"a\\\"b\"; };\n",
		 "dir/k.conf:1: token.user_id_claim must be letters, digits, hyphens, underscores, "
		 "dots, colons and slashes only"},
		{"token: { audience_regex = \"[\"; };\n",
		 "dir/k.conf:1: token.audience_regex must be an extended regular expression "
		 "(POSIX)"},
		{"subscription_token: { hmac_previous_secret_valid_until = -1; };\n",
		 "dir/k.conf:1: subscription_token.hmac_previous_secret_valid_until must be from 0 "
		 "to "
		 "253402300799, not -1"},
		{"websocket: { compression_level = 0; };\n",
		 "dir/k.conf:1: websocket.compression_level must be from 1 to 9, not 0"},
		{"cluster: { node_timeout = \"1s\"; };\n",
		 "dir/k.conf:1: cluster.node_timeout must be from 2s to 60s, not 1s"},
	};
	struct settings s;

	(void)state;
	assert_errors(files, COUNT(files));
	/* An escaped backslash before a digit is no back-reference. */
	parse("channel: { channel_regex = \"a\\\\\\\\1\"; };", &s);
	assert_string_equal(s.channel.channel_regex, "a\\\\1");
	settings_free(&s);
}

static void test_token_files_are_paths(void **state)
{
	struct settings s;

	(void)state;
	parse_as(
		"token: { hmac_secret_file = \"hmac\"; rsa_public_key_file = \"/etc/rsa.pem\"; };\n"
		"subscription_token: { enabled = true; ecdsa_public_key_file = \"ec.pem\"; };",
		"dir/k.conf", &s);
	assert_string_equal(s.token.hmac_secret_file, "dir/hmac");
	assert_string_equal(s.token.rsa_public_key_file, "/etc/rsa.pem");
	assert_string_equal(s.token.ecdsa_public_key_file, "");
	assert_string_equal(s.token.user_id_claim, "sub");
	assert_true(s.subscription_token.enabled);
	assert_string_equal(s.subscription_token.ecdsa_public_key_file, "dir/ec.pem");
	settings_free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_contradictions_of_the_channel_service),
		cmocka_unit_test(test_namespaces),
		cmocka_unit_test(test_as_many_namespaces_as_there_may_be),
		cmocka_unit_test(test_bad_namespaces),
		cmocka_unit_test(test_bad_values_of_the_channel_service),
		cmocka_unit_test(test_token_files_are_paths),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: ISC */
/*
 * Parsing the settings: defaults, every type, every kind of error with its
 * exact file and line, contradictions, warnings.
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

/* ---- what is accepted ---- */

static void test_empty_file_gives_the_defaults(void **state)
{
	struct settings s;

	(void)state;
	parse("", &s);
	assert_string_equal(s.node.name, "a");
	assert_string_equal(s.node.run_dir, "/run/keepsock");
	assert_int_equal(s.node.workers, 0);
	assert_int_equal(s.listener_count, 1);
	assert_string_equal(s.listeners[0].address, "0.0.0.0");
	assert_int_equal(s.listeners[0].port, 8000);
	assert_string_equal(s.log.level, "info");
	assert_true(s.http.echo);
	assert_int_equal(s.websocket.message_size_limit, 65536);
	assert_int_equal(s.websocket.allowed_origins.count, 0);
	assert_int_equal(s.client.ping_interval, 25000);
	assert_int_equal(s.client.pong_timeout, 8000);
	assert_false(s.client.insecure);
	assert_true(s.channel.history_meta_ttl == INT64_C(30) * 86400 * 1000);
	assert_string_equal(s.redis.server, "embedded");
	assert_string_equal(s.admin.socket, "/run/keepsock/admin.sock");
	assert_int_equal(settings_admin_mode(&s), 0600);
	assert_int_equal(s.memory.arena_size, 1 << 30);
	settings_free(&s);
	settings_free(&s);
}

static void test_every_type(void **state)
{
	static const char text[] =
		"# a comment\n"
		"node = { name = \"Node-1\"; workers = 64; };\n"
		"client: { insecure = true; ping_interval = 1500; pong_timeout = \"500ms\"\n"
		"  stale_close_delay = \"5m\"; queue_max_size = \"64KiB\" }\n"
		"channel: { history_ttl = \"2h\"; history_size = 1; history_meta_ttl = \"2d\"; }\n"
		"memory: { arena_size = \"2GiB\"; };\n"
		"http: { body_size_limit = \"2MiB\"; head_size_limit = 0x4000; };\n"
		"websocket: { allowed_origins = [\"https://*.example.com\", "
		"\"http://localhost:*\"]; };\n";
	struct settings s;

	(void)state;
	parse(text, &s);
	assert_string_equal(s.node.name, "Node-1");
	assert_int_equal(s.node.workers, 64);
	assert_true(s.client.insecure);
	assert_int_equal(s.client.ping_interval, 1500);
	assert_int_equal(s.client.pong_timeout, 500);
	assert_int_equal(s.client.stale_close_delay, 300000);
	assert_int_equal(s.client.queue_max_size, 65536);
	assert_int_equal(s.channel.history_ttl, 7200000);
	assert_int_equal(s.channel.history_meta_ttl, 172800000);
	assert_true(s.memory.arena_size == INT64_C(2) << 30);
	assert_int_equal(s.http.body_size_limit, 2 << 20);
	assert_int_equal(s.http.head_size_limit, 16384);
	assert_int_equal(s.websocket.allowed_origins.count, 2);
	assert_string_equal(s.websocket.allowed_origins.items[0], "https://*.example.com");
	assert_string_equal(s.websocket.allowed_origins.items[1], "http://localhost:*");
	settings_free(&s);

	/* A list with parentheses, an empty one, and a number beyond 32 bits. */
	parse("websocket: { allowed_origins = (\"a\"); }; memory: { arena_size = 8589934592L; };",
	      &s);
	assert_int_equal(s.websocket.allowed_origins.count, 1);
	assert_true(s.memory.arena_size == INT64_C(8) << 30);
	settings_free(&s);
	parse("websocket: { allowed_origins = []; };", &s);
	assert_int_equal(s.websocket.allowed_origins.count, 0);
	settings_free(&s);
}

static void test_listeners(void **state)
{
	struct settings s;

	(void)state;
	parse("listeners = ( { port = 81; }, { address = \"::1\"; },\n"
	      "  { address = \"127.0.0.1\"; port = 82; } );",
	      &s);
	assert_int_equal(s.listener_count, 3);
	assert_string_equal(s.listeners[0].address, "0.0.0.0");
	assert_int_equal(s.listeners[0].port, 81);
	assert_string_equal(s.listeners[1].address, "::1");
	assert_int_equal(s.listeners[1].port, 8000);
	assert_string_equal(s.listeners[2].address, "127.0.0.1");
	assert_int_equal(s.listeners[2].port, 82);
	settings_free(&s);
}

static void test_paths_start_at_the_files_directory(void **state)
{
	static const char text[] = "node: { run_dir = \"run\"; state_dir = \"/var/state\"; };\n"
				   "log: { target = \"file:logs/k.log\"; };\n"
				   "http: { static_root = \"www\"; };\n"
				   "redis: { embedded_binary = \"bin/redis\"; };\n";
	struct settings s;

	(void)state;
	parse_as(text, "/etc/keepsock/k.conf", &s);
	assert_string_equal(s.node.run_dir, "/etc/keepsock/run");
	assert_string_equal(s.node.state_dir, "/var/state");
	assert_string_equal(s.log.target, "file:/etc/keepsock/logs/k.log");
	assert_string_equal(s.http.static_root, "/etc/keepsock/www");
	assert_string_equal(s.redis.embedded_binary, "/etc/keepsock/bin/redis");
	assert_string_equal(s.admin.socket, "/etc/keepsock/run/admin.sock");
	assert_string_equal(s.http_api.key_file, "");
	settings_free(&s);

	parse_as("redis: { embedded_binary = \"valkey-server\"; }; node: { run_dir = \"run\"; };",
		 "etc/k.conf", &s);
	assert_string_equal(s.redis.embedded_binary, "valkey-server");
	assert_string_equal(s.node.run_dir, "etc/run");
	settings_free(&s);

	parse_as("node: { run_dir = \"run\"; }; log: { target = \"file:/l\"; };", "/k.conf", &s);
	assert_string_equal(s.node.run_dir, "/run");
	assert_string_equal(s.log.target, "file:/l");
	settings_free(&s);

	parse_as("node: { run_dir = \"run\"; }; log: { target = \"syslog\"; };", "k.conf", &s);
	assert_string_equal(s.node.run_dir, "run");
	assert_string_equal(s.log.target, "syslog");
	settings_free(&s);
}

static void test_numbers_beyond_32_bits(void **state)
{
	struct settings s;

	(void)state;
	parse("memory: { arena_size = 4294967296; }; # 1L", &s);
	assert_true(s.memory.arena_size == INT64_C(1) << 32);
	settings_free(&s);
	parse("memory: { arena_size = 0x100000000; };", &s);
	assert_true(s.memory.arena_size == INT64_C(1) << 32);
	settings_free(&s);
	parse("channel: { history_meta_ttl = +2592000000; };", &s);
	assert_true(s.channel.history_meta_ttl == INT64_C(2592000000));
	settings_free(&s);
	assert_error("node: { workers = 4294967297; };",
		     "dir/k.conf:1: node.workers must be from 0 to 64, not 4294967297");
	assert_error("node: { workers = -4294967295; };",
		     "dir/k.conf:1: node.workers must be from 0 to 64, not -4294967295");
	assert_error("node: {\n workers = 18446744073709551617; };",
		     "dir/k.conf:2: this number is too big, make it smaller");
	assert_error("/*\n*/ node: { workers = 18446744073709551617L; };",
		     "dir/k.conf:2: this number is too big, make it smaller");
}

static void test_text_that_only_looks_like_something(void **state)
{
	struct settings s;

	(void)state;
	parse("# @include \"x\" 99999999999999999999\n"
	      "// \" 99999999999999999999\n"
	      "/* @include \"x\"\n 99999999999999999999 */\n"
	      "log: { target = \"file:/a 99999999999999999999 \\\" @include # b\"; };\n",
	      &s);
	assert_string_equal(s.log.target, "file:/a 99999999999999999999 \" @include # b");
	settings_free(&s);
}

/* ---- what is refused ---- */

static void test_unknown_settings(void **state)
{
	static const struct bad_file files[] = {
		{"client:\n{\n\tinsecure = true;\n\tinsecrue = true;\n};\n",
		 "dir/k.conf:4: unknown setting client.insecrue, correct or remove it"},
		{"# first\n\nclients: { };\n",
		 "dir/k.conf:3: unknown setting clients, correct or remove it"},
		{"port = 8000;\n", "dir/k.conf:1: unknown setting port, correct or remove it"},
		{"listeners = ( {\n address = \"::\";\n prot = 1; } );\n",
		 "dir/k.conf:3: unknown setting prot in listeners, correct or remove it"},
		/* A setting of another group is none of this one. */
		{"node: { insecure = true; };\n",
		 "dir/k.conf:1: unknown setting node.insecure, correct or remove it"},
	};

	(void)state;
	assert_errors(files, COUNT(files));
}

static void test_wrong_types(void **state)
{
	static const struct bad_file files[] = {
		{"\nnode: 5;\n", "dir/k.conf:2: node must be a group: node: { ... };"},
		{"client: { insecure = 1; };",
		 "dir/k.conf:1: client.insecure must be true or false"},
		{"client: { insecure = \"true\"; };",
		 "dir/k.conf:1: client.insecure must be true or false"},
		{"node: { workers = \"2\"; };",
		 "dir/k.conf:1: node.workers must be a whole number"},
		{"node: { workers = 2.5; };", "dir/k.conf:1: node.workers must be a whole number"},
		{"node: {\n name = a5; };",
		 "dir/k.conf:2: syntax error, correct this line or the one "
		 "before"},
		{"node: { name = 5; };",
		 "dir/k.conf:1: node.name must be a string in double quotes"},
		{"node: { name = [\"a\"]; };",
		 "dir/k.conf:1: node.name must be a string in double quotes"},
		{"client: { ping_interval = 2.5; };",
		 "dir/k.conf:1: client.ping_interval must be a number of milliseconds or a string "
		 "such as \"25s\""},
		{"client: { ping_interval = { }; };",
		 "dir/k.conf:1: client.ping_interval must be a number of milliseconds or a string "
		 "such as \"25s\""},
		{"client: { queue_max_size = true; };", "dir/k.conf:1: client.queue_max_size must "
							"be a number of bytes or a string such as "
							"\"64KiB\""},
		{"websocket: { allowed_origins = \"*\"; };",
		 "dir/k.conf:1: websocket.allowed_origins must be a list of strings such as "
		 "[\"a\", "
		 "\"b\"]"},
		{"websocket: { allowed_origins = [1, 2]; };",
		 "dir/k.conf:1: websocket.allowed_origins must hold nothing but non-empty strings"},
		{"websocket: { allowed_origins = [\"a\", \"\"]; };",
		 "dir/k.conf:1: websocket.allowed_origins must hold nothing but non-empty strings"},
		{"listeners = 8000;", "dir/k.conf:1: listeners must be a list in parentheses: ( { "
				      "address = ...; port = ...; } )"},
		{"listeners = ( 8000 );",
		 "dir/k.conf:1: an element of listeners must be a group such "
		 "as { address = \"127.0.0.1\"; port = 8000; }"},
	};

	(void)state;
	assert_errors(files, COUNT(files));
}

static void test_bad_units(void **state)
{
	static const char *const durations[] = {"25",
						"s",
						"25 s",
						"-1s",
						"25S",
						"1.5s",
						"25sec",
						"",
						"25s ",
						"99999999999999999999s",
						"9223372036854775807d"};
	static const char *const sizes[] = {"64K", "64KB", "KiB", "64 KiB",
					    "9223372036854775807GiB"};
	char text[128];

	(void)state;
	for (size_t i = 0; i < COUNT(durations); i++) {
		snprintf(text, sizeof(text), "client: { ping_interval = \"%s\"; };", durations[i]);
		assert_error(text, "dir/k.conf:1: client.ping_interval must be a number of "
				   "milliseconds or a string such as \"25s\"");
	}
	for (size_t i = 0; i < COUNT(sizes); i++) {
		snprintf(text, sizeof(text), "client: { queue_max_size = \"%s\"; };", sizes[i]);
		assert_error(text,
			     "dir/k.conf:1: client.queue_max_size must be a number of bytes or "
			     "a string such as \"64KiB\"");
	}
}

static void test_out_of_range(void **state)
{
	static const struct bad_file files[] = {
		{"node: { workers = 65; };",
		 "dir/k.conf:1: node.workers must be from 0 to 64, not 65"},
		{"node: { workers = -1; };",
		 "dir/k.conf:1: node.workers must be from 0 to 64, not -1"},
		{"client: { ping_interval = 999; };",
		 "dir/k.conf:1: client.ping_interval must be from 1s to 1d, not 999ms"},
		{"client: { ping_interval = \"25h\"; };",
		 "dir/k.conf:1: client.ping_interval must be from 1s to 1d, not 25h"},
		{"memory: { arena_size = 1; };",
		 "dir/k.conf:1: memory.arena_size must be from 16777216 to 1099511627776, not 1"},
		{"node: {\n name = \"\"; };", "dir/k.conf:2: node.name must not be empty"},
		{"node: { name = \"abcdefghijklmnopqrstuvwxyzabcdefg\"; };",
		 "dir/k.conf:1: node.name must be 1 to 32 bytes long, not 33"},
		{"node: { name = \"a b\"; };",
		 "dir/k.conf:1: node.name must be letters, digits and inner hyphens only"},
		{"node: { name = \"-a\"; };",
		 "dir/k.conf:1: node.name must be letters, digits and inner hyphens only"},
		{"node: { name = \"a-\"; };",
		 "dir/k.conf:1: node.name must be letters, digits and inner hyphens only"},
		{"node: { run_dir = \"/a\\nb\"; };",
		 "dir/k.conf:1: node.run_dir must not hold control characters"},
		{"log: { level = \"loud\"; };",
		 "dir/k.conf:1: log.level must be error, warning, info or debug"},
		{"log: { format = \"xml\"; };", "dir/k.conf:1: log.format must be logfmt or json"},
		{"log: { target = \"stdout\"; };",
		 "dir/k.conf:1: log.target must be stderr, syslog or file:PATH"},
		{"log: { target = \"file:\"; };",
		 "dir/k.conf:1: log.target must be stderr, syslog or file:PATH"},
		{"admin: { mode = \"0680\"; };",
		 "dir/k.conf:1: admin.mode must be octal digits such as \"0660\""},
		{"admin: { mode = \"4600\"; };",
		 "dir/k.conf:1: admin.mode must not hold set-uid, set-gid or sticky bits"},
		{"admin: { mode = 600; };",
		 "dir/k.conf:1: admin.mode must be a string in double quotes"},
		{"listeners = ( { port = 0; } );",
		 "dir/k.conf:1: listeners.port must be from 1 to 65535, not 0"},
		{"listeners = (\n {},\n { port = 65536; } );",
		 "dir/k.conf:3: listeners.port must be from 1 to 65535, not 65536"},
		{"listeners = ( { address = \"localhost\"; } );",
		 "dir/k.conf:1: listeners.address must be an IPv4 or IPv6 address"},
		{"listeners = ( );", "dir/k.conf:1: listeners must have 1 to 16 elements, not 0"},
	};

	(void)state;
	assert_errors(files, COUNT(files));
}

static void test_duplicates_and_syntax(void **state)
{
	static const struct bad_file files[] = {
		{"client: {\n insecure = true;\n insecure = false;\n};\n",
		 "dir/k.conf:3: duplicate setting name, correct this line or the one before"},
		{"client: { };\n\nclient: { };\n",
		 "dir/k.conf:3: duplicate setting name, correct this line or the one before"},
		{"listeners = (\n { port = 1; },\n { port = 1; } );\n",
		 "dir/k.conf:3: address 0.0.0.0 and port 1 are in listeners twice, remove one"},
		{"client: {\n insecure = true;\n",
		 "dir/k.conf:3: syntax error, correct this line or the one before"},
		{"client: { insecure: };",
		 "dir/k.conf:1: syntax error, correct this line or the one before"},
		{"/* open\n", "dir/k.conf:1: this comment never ends, close it with */"},
		{"\n/*/", "dir/k.conf:2: this comment never ends, close it with */"},
		{"log: { target = \"open\n",
		 "dir/k.conf:1: this string never ends, close it with a double quote"},
		{"\n\nlog: { target = \"open\\\"",
		 "dir/k.conf:3: this string never ends, close it with a double quote"},
		{"node: { };\n\t@include \"other.conf\"\n",
		 "dir/k.conf:2: @include is not supported, put all settings into one file"},
	};

	(void)state;
	assert_errors(files, COUNT(files));
}

static void test_contradictions(void **state)
{
	static const struct bad_file files[] = {
		{"channel: {\n history_size = 10;\n};\n",
		 "dir/k.conf:2: channel: history_size and history_ttl need each other, set both or "
		 "none"},
		{"channel: {\n\n history_ttl = \"1m\"; };\n",
		 "dir/k.conf:3: channel: history_size and history_ttl need each other, set both or "
		 "none"},
		{"channel: { force_recovery = true; };\n",
		 "dir/k.conf:1: channel: force_recovery needs history_size and history_ttl"},
		{"channel: { force_positioning = true; };\n",
		 "dir/k.conf:1: channel: force_positioning needs history_size and history_ttl"},
		{"channel: { history_size = 1; history_ttl = \"2d\";\n history_meta_ttl = \"1d\"; "
		 "};\n",
		 "dir/k.conf:2: channel: history_meta_ttl must not be less than history_ttl"},
		{"client: {\n pong_timeout = \"25s\"; };\n",
		 "dir/k.conf:2: client.pong_timeout must be less than client.ping_interval"},
		{"client: { pong_timeout = \"2s\";\n\n ping_interval = \"1s\"; };\n",
		 "dir/k.conf:3: client.pong_timeout must be less than client.ping_interval"},
		{"client: { presence_update_interval = \"60s\"; };\n",
		 "dir/k.conf:1: client.presence_update_interval must be less than "
		 "channel.presence_ttl"},
		{"websocket: {\n message_size_limit = \"1MiB\"; };\n",
		 "dir/k.conf:2: client.input_queue_max_size must not be less than "
		 "websocket.message_size_limit"},
		{"redis: { password_file = \"p\"; };\n",
		 "dir/k.conf:1: redis.password_file is for an external server, the embedded one "
		 "makes "
		 "its own password: remove it"},
	};
	struct settings s;

	(void)state;
	assert_errors(files, COUNT(files));
	parse("channel: { history_size = 1; history_ttl = \"1d\"; force_recovery = true; };", &s);
	settings_free(&s);
}

/* ---- warnings ---- */

static void collect_warning(void *ctx, const char *text)
{
	buffer_append_str(ctx, text);
	buffer_append_char(ctx, '\n');
}

/* Exactly count warnings, one of them with the words in it. */
static void assert_warnings(const char *text, size_t count, const char *words)
{
	struct settings s;
	struct buffer got;
	size_t lines = 0;

	buffer_init(&got);
	parse(text, &s);
	settings_warnings(&s, collect_warning, &got);
	for (size_t i = 0; i < got.len; i++)
		lines += got.data[i] == '\n';
	if (lines != count || (words && !strstr(buffer_cstr(&got), words)))
		fail_msg("%s gives: %s", text, buffer_cstr(&got));
	buffer_free(&got);
	settings_free(&s);
}

static void test_warnings(void **state)
{
#define LOOPBACK "listeners = ( { address = \"127.1.2.3\"; }, { address = \"::1\"; } );"
	(void)state;
	assert_warnings("", 0, NULL);
	assert_warnings("client: { insecure = true; };", 1, "client.insecure is on");
	assert_warnings("client: { insecure = true; }; " LOOPBACK, 0, NULL);
	assert_warnings("client: { insecure = true; }; listeners = ( { address = \"127.0.0.1\"; }, "
			"{ address = \"::\"; } );",
			1, "client.insecure is on");
	assert_warnings("http_api: { insecure = true; };", 1, "http_api.insecure is on");
	assert_warnings("http_api: { insecure = true; key_file = \"k\"; }; " LOOPBACK, 1,
			"http_api.key_file protects nothing");
	assert_warnings("client: { allow_anonymous = true; };"
			"channel: { allow_publish_for_client = true; };",
			0, NULL);
	assert_warnings("client: { allow_anonymous = true; };"
			"channel: { allow_publish_for_client = true; "
			"allow_publish_for_anonymous = true; };",
			1, "client.allow_anonymous and an allow_publish_for_anonymous");
	assert_warnings("client: { allow_anonymous = true; };"
			"namespaces = ( { name = \"chat\"; allow_publish_for_subscriber = true; "
			"allow_publish_for_anonymous = true; } );",
			1, "client.allow_anonymous and an allow_publish_for_anonymous");
	assert_warnings("subscription_token: { hmac_secret_file = \"f\"; };", 1,
			"they are not used");
	assert_warnings("subscription_token: { enabled = true; hmac_secret_file = \"f\"; };", 0,
			NULL);
	assert_warnings("websocket: { allowed_origins = [\"https://a\", \"*\"]; };", 1,
			"websocket.allowed_origins holds");
	assert_warnings("redis: { server = \"redis://10.0.0.1\"; };", 1, "has no password");
	assert_warnings("redis: { server = \"redis://10.0.0.1\"; password_file = \"p\"; };", 0,
			NULL);
	assert_warnings("redis: { server = \"redis://:p@10.0.0.1\"; };", 0, NULL);
	assert_warnings("redis: { server = \"redis://127.0.0.1\"; };", 0, NULL);
	assert_warnings("redis: { server = \"sentinel://127.0.0.1,10.0.0.1/m\"; };", 1,
			"has no password");
	assert_warnings("redis: { server = \"sentinel://127.0.0.1,localhost/m\"; };", 0, NULL);
	assert_warnings("redis: { shards = [\"redis://:p@10.0.0.1\", \"redis://10.0.0.2\"]; };", 1,
			"has no password");
	assert_warnings("redis: { shards = [\"redis://:p@10.0.0.1\", \"redis://:p@10.0.0.2\"]; };",
			0, NULL);
	assert_warnings("admin: { mode = \"0666\"; };", 1, "admin.mode lets every local user");
	assert_warnings("admin: { mode = \"0660\"; };", 0, NULL);
}

/* ---- reload ---- */

static void test_fixed_settings(void **state)
{
	struct settings from, to;

	(void)state;
	parse("", &from);
	parse("client: { insecure = true; };", &to);
	assert_null(settings_find_fixed_change(&from, &to));
	settings_free(&to);
	parse("node: { name = \"b\"; };", &to);
	assert_string_equal(settings_find_fixed_change(&from, &to), "node.name");
	settings_free(&to);
	parse("node: { user = \"www\"; };", &to);
	assert_string_equal(settings_find_fixed_change(&from, &to), "node.user");
	settings_free(&to);
	settings_free(&from);
}

/* What must not change while a node runs is an error with its line; anything else is not. */
static void test_a_change_of_what_is_fixed(void **state)
{
	static const char before[] = "node: { name = \"a\"; };\nhttp: { echo = true; };\n";
	static const char allowed[] = "node: { name = \"a\"; };\nhttp: { echo = false; };\n";
	static const char refused[] = "http: { echo = true; };\nnode: {\n name = \"b\"; };\n";
	struct settings from, to;
	struct buffer error = {0};

	(void)state;
	assert_int_equal(settings_parse(before, "f", &from, &error), 0);
	assert_int_equal(settings_parse_change(allowed, "f", &from, &to, &error), 0);
	assert_false(to.http.echo);
	settings_free(&to);
	assert_int_equal(settings_parse_change(refused, "f", &from, &to, &error), -1);
	assert_int_equal(strncmp(buffer_cstr(&error), "f:3: node.name ", 15), 0);
	assert_null(to.node.name);
	buffer_free(&error);
	settings_free(&from);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_change_of_what_is_fixed),
		cmocka_unit_test(test_empty_file_gives_the_defaults),
		cmocka_unit_test(test_every_type),
		cmocka_unit_test(test_listeners),
		cmocka_unit_test(test_paths_start_at_the_files_directory),
		cmocka_unit_test(test_numbers_beyond_32_bits),
		cmocka_unit_test(test_text_that_only_looks_like_something),
		cmocka_unit_test(test_unknown_settings),
		cmocka_unit_test(test_wrong_types),
		cmocka_unit_test(test_bad_units),
		cmocka_unit_test(test_out_of_range),
		cmocka_unit_test(test_duplicates_and_syntax),
		cmocka_unit_test(test_contradictions),
		cmocka_unit_test(test_warnings),
		cmocka_unit_test(test_fixed_settings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

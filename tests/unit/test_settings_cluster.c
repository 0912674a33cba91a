/* SPDX-License-Identifier: ISC */
/*
 * The group cluster: peers, places and addresses, good and bad, what the group
 * needs from others, and timings that could make two primaries.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>

#include <cmocka.h>

#include "settings_text.h"

#define REDIS "redis: { server = \"redis://10.0.0.9\"; };\n"

static void test_peers(void **state)
{
	struct settings_peer peer;

	(void)state;
	assert_null(settings_peer_parse("b=10.0.0.2:8500", &peer));
	assert_string_equal(peer.name, "b");
	assert_string_equal(peer.place.host, "10.0.0.2");
	assert_int_equal(peer.place.port, 8500);
	settings_peer_free(&peer);
	assert_null(settings_peer_parse("node-2=[2001:db8::2]:65535", &peer));
	assert_string_equal(peer.name, "node-2");
	assert_string_equal(peer.place.host, "2001:db8::2");
	assert_int_equal(peer.place.port, 65535);
	settings_peer_free(&peer);
}

static void test_bad_peers(void **state)
{
	static const char *const bad[] = {
		"",
		"b",
		"b=",
		"=10.0.0.2:8500",
		"b=10.0.0.2",
		"b=10.0.0.2:",
		"b=10.0.0.2:0",
		"b=10.0.0.2:65536",
		"b=host:8500",
		"b=2001:db8::2",
		"b=2001:db8::2:85x",
		"b=[10.0.0.2]:8500",
		"-b=[::1]:1",
		"b c=[::1]:1",
		"b=[::1]:123456",
		"b=[]:1",
	};

	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		struct settings_peer peer;

		if (settings_peer_parse(bad[i], &peer) == NULL)
			fail_msg("accepted: %s", bad[i]);
		assert_null(peer.name);
		assert_null(peer.place.host);
	}
}

static void test_vips(void **state)
{
	static const char *const bad[] = {
		"10.0.0.1",
		"10.0.0.1/",
		"10.0.0.1/0",
		"10.0.0.1/33",
		"::1/129",
		"x/24",
		"/24",
		"10.0.0.1/2x",
		"10.0.0.1/1234",
		/* no host's on a network */
		"0.0.0.0/32",
		"127.0.0.1/8",
		"224.0.0.1/32",
		"255.255.255.255/32",
		"::/128",
		"::1/128",
		"ff02::1/128",
		"fe80::1/64",
		"::ffff:10.0.0.1/128",
	};
	struct settings_vip vip;
	char text[INET6_ADDRSTRLEN];

	(void)state;
	assert_null(settings_vip_parse("192.0.2.10/24", &vip));
	assert_int_equal(vip.family, AF_INET);
	assert_int_equal(vip.prefix, 24);
	assert_string_equal(inet_ntop(AF_INET, vip.address, text, sizeof(text)), "192.0.2.10");
	assert_null(settings_vip_parse("2001:db8::a/128", &vip));
	assert_int_equal(vip.family, AF_INET6);
	assert_int_equal(vip.prefix, 128);
	assert_string_equal(inet_ntop(AF_INET6, vip.address, text, sizeof(text)), "2001:db8::a");
	for (size_t i = 0; i < COUNT(bad); i++) {
		if (settings_vip_parse(bad[i], &vip) == NULL)
			fail_msg("accepted: %s", bad[i]);
	}
}

static void test_what_the_group_needs(void **state)
{
	static const struct bad_file files[] = {
		{"cluster: {\n peers = [\"b=10.0.0.2:1\"];\n};\n",
		 "dir/k.conf:2: cluster.peers needs a Redis that lives and dies with none of the "
		 "nodes: the embedded one ends with its node, name another in redis.server"},
		{REDIS "cluster: { peers = [\"b=10.0.0.2:1\"]; };",
		 "dir/k.conf:2: cluster.peers needs cluster.secret_file"},
		{REDIS "cluster: { peers = [\"b=10.0.0.2:1\"]; secret_file = \"s\"; };",
		 "dir/k.conf:2: cluster.peers needs cluster.peer_listen"},
		{REDIS "cluster: { peers = [\"a=10.0.0.2:1\"]; };",
		 "dir/k.conf:2: cluster.peers names this node (node.name): list the others only"},
		{REDIS "cluster: { peers = [\"b=10.0.0.2:1\", \"b=10.0.0.3:1\"]; };",
		 "dir/k.conf:2: cluster.peers names a node twice"},
		{"cluster: { vip = [\"10.0.0.1/24\"]; };",
		 "dir/k.conf:1: cluster.vip needs cluster.vip_interface"},
		{"cluster: { check_scripts = [\"check\"]; };",
		 "dir/k.conf:1: cluster.check_scripts must hold absolute paths"},
	};

	(void)state;
	assert_errors(files, COUNT(files));
}

#define PAIR                                                                  \
	REDIS "cluster: { peers = [\"b=10.0.0.2:1\"]; secret_file = \"s\";\n" \
	      " peer_listen = \"10.0.0.1:1\"; };\n"

static void test_listeners_of_the_primary(void **state)
{
	static const struct bad_file files[] = {
		{PAIR "listeners = ( { address = \"10.0.0.1\"; when = \"primary\"; } );",
		 "dir/k.conf:2: cluster.peers needs a listener that is always open, by which a "
		 "standby is watched"},
		{PAIR "listeners = ( { port = 1; }, { port = 1; address = \"10.0.0.1\"; "
		      "when = \"primary\"; } );",
		 "dir/k.conf:2: a listener with when = \"primary\" has its port for itself: "
		 "another one on that port listens on all addresses"},
		{PAIR "listeners = ( { port = 1; address = \"10.0.0.2\"; },\n"
		      "{ port = 1; address = \"::\"; when = \"primary\"; } );",
		 "dir/k.conf:2: a listener with when = \"primary\" has its port for itself: "
		 "another one on that port listens on all addresses"},
		{"listeners = ( { when = \"standby\"; } );",
		 "dir/k.conf:1: listeners.when must be always or primary"},
		{PAIR "drain: { window = \"15s\"; };",
		 "dir/k.conf:4: drain.window must be less than cluster.demote_timeout"},
	};
	struct settings s;

	(void)state;
	assert_errors(files, COUNT(files));
	parse(PAIR "listeners = ( { port = 1; address = \"127.0.1.1\"; },"
		   "{ port = 1; address = \"127.0.0.1\"; when = \"primary\"; } );",
	      &s);
	assert_true(settings_have_roles(&s));
	assert_false(settings_listener_is_primary(&s.listeners[0]));
	assert_true(settings_listener_is_primary(&s.listeners[1]));
	settings_free(&s);
	parse("listeners = ( { when = \"primary\"; } ); drain: { window = \"60s\"; };", &s);
	assert_false(settings_have_roles(&s));
	settings_free(&s);
}

static void test_timings_are_proven(void **state)
{
	static const struct bad_file files[] = {
		{"cluster: {\n lease_ttl = \"4s\";\n lease_renew = \"1100ms\"; };",
		 "dir/k.conf:3: cluster.lease_ttl 4000 ms - cluster.lease_guard 1000 ms = 3000 ms "
		 "is how long a lease is held without a renewal; 3 times cluster.lease_renew 1100 "
		 "ms = 3300 ms must fit in: make lease_ttl greater or lease_renew smaller"},
		{"cluster: { lease_ttl = \"2s\"; lease_renew = \"300ms\"; vip = [\"10.0.0.1/24\"]; "
		 "vip_interface = \"eth0\"; };",
		 "dir/k.conf:1: cluster.vip: an address lives for whole seconds, at a late renewal "
		 "floor(cluster.lease_ttl 2000 ms - cluster.lease_guard 1000 ms - 2 x "
		 "cluster.lease_renew 300 ms = 400 ms) = 0 s, which must be 1 s or more: make "
		 "lease_ttl greater"},
		{"cluster: { lease_guard = \"999ms\"; };",
		 "dir/k.conf:1: cluster.lease_guard must be from 1s to 60s, not 999ms"},
	};
	struct settings s;

	(void)state;
	assert_errors(files, COUNT(files));
	/* On the edge. */
	parse("cluster: { lease_ttl = \"4s\"; lease_renew = \"1s\"; vip = [\"10.0.0.1/24\"]; "
	      "vip_interface = \"eth0\"; };",
	      &s);
	settings_free(&s);
}

/* Whatever the settings that are accepted: a word or a lease of one ends before another's begins.
 */
static void test_what_is_accepted_keeps_primaries_apart(void **state)
{
	(void)state;
	for (int ttl = 1000; ttl <= 8000; ttl += 250) {
		for (int renew = 50; renew <= 2000; renew += 50) {
			struct buffer error = {0};
			struct settings s;
			struct settings_timing timing;
			char text[128];

			snprintf(text, sizeof(text),
				 "cluster: { lease_ttl = %d; lease_renew = %d; };", ttl, renew);
			if (settings_parse(text, "k.conf", &s, &error) == 0) {
				timing = settings_timing_of(&s);
				assert_true(timing.hold >= 3 * renew);
				assert_true(timing.hold + s.cluster.lease_guard <= ttl);
				assert_true(timing.voucher > 0 && timing.voucher < ttl);
				assert_true(timing.promise > ttl);
				assert_true(timing.host_lost > ttl);
				settings_free(&s);
			}
			buffer_free(&error);
		}
	}
}

static void test_defaults(void **state)
{
	struct settings s;
	struct settings_timing timing;

	(void)state;
	parse("node: { run_dir = \"/run/x\"; };", &s);
	timing = settings_timing_of(&s);
	assert_int_equal(timing.hold, 3000);
	assert_int_equal(timing.host_lost, 4725);
	assert_string_equal(s.cluster.socket, "/run/x/supervisor.sock");
	settings_free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_peers),
		cmocka_unit_test(test_bad_peers),
		cmocka_unit_test(test_vips),
		cmocka_unit_test(test_what_the_group_needs),
		cmocka_unit_test(test_listeners_of_the_primary),
		cmocka_unit_test(test_timings_are_proven),
		cmocka_unit_test(test_what_is_accepted_keeps_primaries_apart),
		cmocka_unit_test(test_defaults),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

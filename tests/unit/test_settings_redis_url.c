/* SPDX-License-Identifier: ISC */
/*
 * The URLs of Redis servers and of Sentinels, good and bad.
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

static void assert_url(const char *text, const char *user, const char *password, const char *host,
		       int port, int db)
{
	struct settings_redis_url url;

	assert_null(settings_redis_url_parse(text, &url));
	assert_string_equal(url.user, user);
	assert_string_equal(url.password, password);
	assert_string_equal(url.host, host);
	assert_int_equal(url.port, port);
	assert_int_equal(url.db, db);
	settings_redis_url_free(&url);
}

static void test_redis_urls(void **state)
{
	(void)state;
	assert_url("redis://cache.example.com", "", "", "cache.example.com", 6379, 0);
	assert_url("redis://10.0.0.1:7000/3", "", "", "10.0.0.1", 7000, 3);
	assert_url("redis://:se%40cret@h:1/", "", "se@cret", "h", 1, 0);
	assert_url("redis://me:pa:ss@h", "me", "pa:ss", "h", 6379, 0);
	assert_url("redis://me:p@ss@h", "me", "p@ss", "h", 6379, 0);
	assert_url("redis://[::1]:7000/1", "", "", "::1", 7000, 1);
	assert_url("redis://[fe80::1%eth0]", "", "", "fe80::1%eth0", 6379, 0);
}

#define NEITHER "must be embedded or a URL that begins with redis:// or sentinel://"

static void test_bad_redis_urls(void **state)
{
	static const struct {
		const char *url;
		const char *problem;
	} cases[] = {
		{"http://h", NEITHER},
		{"rediss://h", NEITHER},
		{"localhost:6379", NEITHER},
		{"redis://", "must name a host"},
		{"redis://:6379", "must name a host"},
		{"redis://[]", "must name a host"},
		{"redis://h:", "must have a port from 1 to 65535"},
		{"redis://h:0", "must have a port from 1 to 65535"},
		{"redis://h:65536", "must have a port from 1 to 65535"},
		{"redis://h:6379x", "must have a port from 1 to 65535"},
		{"redis://[::1]7", "must have a port from 1 to 65535"},
		{"redis://[::1", "has an IPv6 address without its closing bracket"},
		{"redis://h/x", "must have a database number behind the slash"},
		{"redis://h/1/2", "must have a database number behind the slash"},
		{"redis://h/99999999", "must have a database number behind the slash"},
		{"redis://me@h",
		 "must have a colon between user and password (redis://:PASSWORD@HOST)"},
		{"redis://:a%2@h", "has a broken % escape in user or password"},
		{"redis://:a%zz@h", "has a broken % escape in user or password"},
		{"redis://:a%00@h", "has a broken % escape in user or password"},
		{"redis://h o", "has a character in its host name that hosts can't have"},
		{"redis://h?x=1", "has a character in its host name that hosts can't have"},
	};
	struct settings_redis_url url;

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		assert_string_equal(settings_redis_url_parse(cases[i].url, &url), cases[i].problem);
		assert_null(url.host);
	}
	assert_error("redis: {\n server = \"redis://h:0\"; };",
		     "dir/k.conf:2: redis.server must have a port from 1 to 65535");
}

static void test_sentinel_urls(void **state)
{
	struct settings_redis_url url;

	(void)state;
	assert_null(settings_redis_url_parse(
		"sentinel://me:p%2cw@one,[::1]:7000,three:1/my-master/3", &url));
	assert_string_equal(url.user, "me");
	assert_string_equal(url.password, "p,w");
	assert_string_equal(url.host, "");
	assert_int_equal(url.port, 0);
	assert_int_equal(url.db, 3);
	assert_string_equal(url.master_name, "my-master");
	assert_int_equal(url.sentinel_count, 3);
	assert_string_equal(url.sentinels[0].host, "one");
	assert_int_equal(url.sentinels[0].port, 26379);
	assert_string_equal(url.sentinels[1].host, "::1");
	assert_int_equal(url.sentinels[1].port, 7000);
	assert_string_equal(url.sentinels[2].host, "three");
	assert_int_equal(url.sentinels[2].port, 1);
	settings_redis_url_free(&url);
	assert_int_equal(url.sentinel_count, 0);
	assert_null(settings_redis_url_parse("sentinel://h/m", &url));
	assert_string_equal(url.master_name, "m");
	assert_int_equal(url.db, 0);
	settings_redis_url_free(&url);
	assert_null(settings_redis_url_parse("sentinel://h/m/", &url));
	settings_redis_url_free(&url);
}

static void test_bad_sentinel_urls(void **state)
{
	static const struct {
		const char *url;
		const char *problem;
	} cases[] = {
		{"sentinel://", "must name a host"},
		{"sentinel:///m", "must name a host"},
		{"sentinel://a,/m", "must name a host"},
		{"sentinel://,a/m", "must name a host"},
		{"sentinel://a,b", "must name the master behind the Sentinels"},
		{"sentinel://a,b/", "must name the master behind the Sentinels"},
		{"sentinel://a//1", "must name the master behind the Sentinels"},
		{"sentinel://a:0/m", "must have a port from 1 to 65535"},
		{"sentinel://a:1:2/m", "must have a port from 1 to 65535"},
		{"sentinel://a/m m",
		 "has a character in the master's name that Sentinels don't allow"},
		{"sentinel://a/m/x", "must have a database number behind the slash"},
		{"sentinel://me@a/m",
		 "must have a colon between user and password (redis://:PASSWORD@HOST)"},
		{"sentinel://1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17/m",
		 "must not name more than 16 Sentinels"},
	};
	struct settings_redis_url url;

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		assert_string_equal(settings_redis_url_parse(cases[i].url, &url), cases[i].problem);
		assert_null(url.user);
		assert_int_equal(url.sentinel_count, 0);
	}
	assert_null(settings_redis_url_parse("sentinel://1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16/m",
					     &url));
	settings_redis_url_free(&url);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_redis_urls),
		cmocka_unit_test(test_bad_redis_urls),
		cmocka_unit_test(test_sentinel_urls),
		cmocka_unit_test(test_bad_sentinel_urls),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: ISC */
/*
 * The URLs of redis.server and redis.shards, redis:// and sentinel://. Runs
 * wherever settings are parsed, and in the master that connects or asks the
 * Sentinels; it resolves nothing. Passwords are wiped from what it frees.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "keepsock/alloc.h"
#include "keepsock/hex.h"
#include "keepsock/secret.h"
#include "settings_private.h"

#define REDIS_DEFAULT_PORT    6379
#define SENTINEL_DEFAULT_PORT 26379
#define REDIS_DB_MAX          65535

static bool is_alphanumeric(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* NULL for a broken escape or an escaped NUL. */
static char *percent_decode(struct slice in)
{
	char *out = xmalloc(in.len + 1);
	size_t len = 0;

	for (size_t i = 0; i < in.len; i++) {
		int high, low;

		if (in.data[i] != '%') {
			out[len++] = in.data[i];
			continue;
		}
		high = i + 2 < in.len ? hex_value(in.data[i + 1]) : -1;
		low = i + 2 < in.len ? hex_value(in.data[i + 2]) : -1;
		if (high < 0 || low < 0 || high + low == 0) {
			secret_wipe(out, len);
			free(out);
			return NULL;
		}
		out[len++] = (char)(high << 4 | low);
		i += 2;
	}
	out[len] = '\0';
	return out;
}

static bool parse_decimal(struct slice text, long max, long *value)
{
	*value = 0;
	for (size_t i = 0; i < text.len; i++) {
		if (text.data[i] < '0' || text.data[i] > '9')
			return false;
		*value = *value * 10 + (text.data[i] - '0');
		if (*value > max)
			return false;
	}
	return text.len > 0;
}

static const char *parse_userinfo(struct slice info, struct settings_redis_url *out)
{
	const char *colon = memchr(info.data, ':', info.len);

	if (!colon)
		return "must have a colon between user and password (redis://:PASSWORD@HOST)";
	free(out->user);
	free(out->password);
	out->user = percent_decode(slice_from(info.data, (size_t)(colon - info.data)));
	out->password =
		percent_decode(slice_from(colon + 1, info.len - (size_t)(colon - info.data) - 1));
	if (!out->user || !out->password)
		return "has a broken % escape in user or password";
	return NULL;
}

/* HOST, HOST:PORT, [IPV6] or [IPV6]:PORT; out is as it was when it is none of them. */
static const char *parse_host_port(struct slice text, uint16_t default_port,
				   struct settings_host_port *out)
{
	struct slice host = text, port;
	const char *host_end;
	long number = default_port;

	if (text.len > 0 && text.data[0] == '[') {
		host_end = memchr(text.data, ']', text.len);
		if (!host_end)
			return "has an IPv6 address without its closing bracket";
		host = slice_from(text.data + 1, (size_t)(host_end - text.data) - 1);
		host_end++;
	} else {
		host_end = text.len > 0 ? memchr(text.data, ':', text.len) : NULL;
		if (!host_end)
			host_end = text.data + text.len;
		host.len = (size_t)(host_end - text.data);
	}
	if (host_end < text.data + text.len) {
		port = slice_from(host_end + 1, text.len - (size_t)(host_end - text.data) - 1);
		if (*host_end != ':' || !parse_decimal(port, 65535, &number) || number == 0)
			return "must have a port from 1 to 65535";
	}
	if (host.len == 0)
		return "must name a host";
	for (size_t i = 0; i < host.len; i++) {
		if (!is_alphanumeric(host.data[i]) && !memchr(".-_:%", host.data[i], 5))
			return "has a character in its host name that hosts can't have";
	}
	out->host = xstrndup(host.data, host.len);
	out->port = (uint16_t)number;
	return NULL;
}

static const char *parse_server(struct slice text, struct settings_redis_url *out)
{
	struct settings_host_port server;
	const char *problem = parse_host_port(text, REDIS_DEFAULT_PORT, &server);

	if (problem)
		return problem;
	free(out->host);
	out->host = server.host;
	out->port = server.port;
	return NULL;
}

/* Comma-separated. */
static const char *parse_sentinels(struct slice text, struct settings_redis_url *out)
{
	for (;;) {
		const char *comma = text.len > 0 ? memchr(text.data, ',', text.len) : NULL;
		size_t len = comma ? (size_t)(comma - text.data) : text.len;
		const char *problem;

		if (out->sentinel_count == SETTINGS_SENTINELS_MAX)
			return "must not name more than 16 Sentinels";
		problem = parse_host_port(slice_from(text.data, len), SENTINEL_DEFAULT_PORT,
					  &out->sentinels[out->sentinel_count]);
		if (problem)
			return problem;
		out->sentinel_count++;
		if (!comma)
			return NULL;
		text = slice_from(comma + 1, text.len - len - 1);
	}
}

/* What Sentinel itself allows in a name. */
static const char *parse_master_name(struct slice text, struct settings_redis_url *out)
{
	if (text.len == 0 || text.len > 255)
		return "must name the master behind the Sentinels";
	for (size_t i = 0; i < text.len; i++) {
		if (!is_alphanumeric(text.data[i]) && !memchr(".-_", text.data[i], 3))
			return "has a character in the master's name that Sentinels don't allow";
	}
	free(out->master_name);
	out->master_name = xstrndup(text.data, text.len);
	return NULL;
}

static const char *parse_database(struct slice text, struct settings_redis_url *out)
{
	long db;

	if (!parse_decimal(text, REDIS_DB_MAX, &db))
		return "must have a database number behind the slash";
	out->db = (int)db;
	return NULL;
}

/* What is in front of the first mark; *text becomes what is behind it, data NULL without one. */
static struct slice cut(struct slice *text, char mark)
{
	const char *found = text->len > 0 ? memchr(text->data, mark, text->len) : NULL;
	struct slice front = *text;

	*text = slice_from(NULL, 0);
	if (found) {
		*text = slice_from(found + 1, front.len - (size_t)(found - front.data) - 1);
		front.len = (size_t)(found - front.data);
	}
	return front;
}

/* Cuts USER:PASSWORD@ off the front of *rest. */
static const char *take_userinfo(struct slice *rest, struct settings_redis_url *out)
{
	const char *at = rest->len > 0 ? memrchr(rest->data, '@', rest->len) : NULL;
	struct slice info;

	if (!at)
		return NULL;
	info = slice_from(rest->data, (size_t)(at - rest->data));
	*rest = slice_from(at + 1, rest->len - info.len - 1);
	return parse_userinfo(info, out);
}

static const char *parse_redis(struct slice rest, struct settings_redis_url *out)
{
	struct slice server = cut(&rest, '/');
	const char *problem = parse_server(server, out);

	return problem || rest.len == 0 ? problem : parse_database(rest, out);
}

static const char *parse_sentinel(struct slice rest, struct settings_redis_url *out)
{
	struct slice sentinels = cut(&rest, '/');
	struct slice name = cut(&rest, '/');
	const char *problem = parse_sentinels(sentinels, out);

	out->port = 0;
	if (!problem)
		problem = parse_master_name(name, out);
	return problem || rest.len == 0 ? problem : parse_database(rest, out);
}

static const char *parse_url(const char *text, struct settings_redis_url *out)
{
	static const char redis[] = "redis://", sentinel[] = "sentinel://";
	bool direct = strncmp(text, redis, sizeof(redis) - 1) == 0;
	struct slice rest;
	const char *problem;

	if (!direct && strncmp(text, sentinel, sizeof(sentinel) - 1) != 0)
		return "must be embedded or a URL that begins with redis:// or sentinel://";
	rest = slice_str(text + (direct ? sizeof(redis) : sizeof(sentinel)) - 1);
	problem = take_userinfo(&rest, out);
	if (problem)
		return problem;
	return direct ? parse_redis(rest, out) : parse_sentinel(rest, out);
}

const char *settings_redis_url_parse(const char *text, struct settings_redis_url *out)
{
	const char *problem;

	*out = (struct settings_redis_url){
		.user = xstrdup(""),
		.password = xstrdup(""),
		.host = xstrdup(""),
		.port = REDIS_DEFAULT_PORT,
		.master_name = xstrdup(""),
	};
	problem = parse_url(text, out);
	if (problem)
		settings_redis_url_free(out);
	return problem;
}

void settings_redis_url_free(struct settings_redis_url *url)
{
	free(url->user);
	if (url->password)
		secret_wipe(url->password, strlen(url->password));
	free(url->password);
	free(url->host);
	free(url->master_name);
	for (size_t i = 0; i < url->sentinel_count; i++)
		free(url->sentinels[i].host);
	memset(url, 0, sizeof(*url));
}

/* ---- shards ---- */

const char *settings_redis_shard_url(const struct settings *s, uint32_t shard)
{
	return s->redis.shards.count > 0 ? s->redis.shards.items[shard] : s->redis.server;
}

uint32_t settings_redis_shard_count(const struct settings *s)
{
	return s->redis.shards.count > 0 ? (uint32_t)s->redis.shards.count : 1;
}

uint64_t settings_redis_descriptors(const struct settings *s)
{
	/* The subscription connection, and one that replaces another. */
	uint64_t of_a_shard = 2 + (uint64_t)s->redis.pool_size +
			      (uint64_t)s->redis.pool_max_overflow + (s->redis.min_replicas > 0);

	return of_a_shard * settings_redis_shard_count(s);
}

static bool lists_sentinel(const struct settings_redis_url *url,
			   const struct settings_host_port *sentinel)
{
	for (size_t i = 0; i < url->sentinel_count; i++) {
		if (url->sentinels[i].port == sentinel->port &&
		    strcasecmp(url->sentinels[i].host, sentinel->host) == 0)
			return true;
	}
	return false;
}

/* Databases of one server share their pub/sub channels. */
static bool same_server(const struct settings_redis_url *a, const struct settings_redis_url *b)
{
	if (a->sentinel_count == 0 || b->sentinel_count == 0)
		return a->sentinel_count == b->sentinel_count && a->port == b->port &&
		       strcasecmp(a->host, b->host) == 0;
	if (strcmp(a->master_name, b->master_name) != 0)
		return false;
	for (size_t i = 0; i < a->sentinel_count; i++) {
		if (lists_sentinel(b, &a->sentinels[i]))
			return true;
	}
	return false;
}

static bool urls_collide(const char *a, const char *b)
{
	struct settings_redis_url left, right;
	bool same = false;

	if (settings_redis_url_parse(a, &left) != NULL)
		return false;
	if (settings_redis_url_parse(b, &right) == NULL) {
		same = same_server(&left, &right);
		settings_redis_url_free(&right);
	}
	settings_redis_url_free(&left);
	return same;
}

bool redis_shards_collide(const struct settings_list *shards)
{
	for (size_t i = 0; i < shards->count; i++) {
		for (size_t j = 0; j < i; j++) {
			if (urls_collide(shards->items[i], shards->items[j]))
				return true;
		}
	}
	return false;
}

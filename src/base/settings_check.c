/* SPDX-License-Identifier: ISC */
/*
 * What the bounds of a single row can't say: the form of particular strings,
 * settings that contradict each other, and combinations that work but are
 * dangerous. Runs wherever settings are parsed; looks at values only, never at
 * files, sockets or the network.
 */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/log.h"
#include "keepsock/secret.h"
#include "settings_private.h"

#define REDIS_DEFAULT_PORT 6379
#define REDIS_DB_MAX       65535

/* ---- single values ---- */

static bool is_alphanumeric(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

const char *check_host_label(const char *value)
{
	size_t len = strlen(value);

	for (size_t i = 0; i < len; i++) {
		bool inner = i > 0 && i + 1 < len;

		if (!is_alphanumeric(value[i]) && !(value[i] == '-' && inner))
			return "must be letters, digits and inner hyphens only";
	}
	return NULL;
}

const char *check_log_level(const char *value)
{
	enum log_level level;

	return log_level_parse(value, &level) ? NULL : "must be error, warning, info or debug";
}

const char *check_log_format(const char *value)
{
	enum log_format format;

	return log_format_parse(value, &format) ? NULL : "must be logfmt or json";
}

const char *check_log_target(const char *value)
{
	if (strcmp(value, "stderr") == 0 || strcmp(value, "syslog") == 0)
		return NULL;
	if (strncmp(value, "file:", 5) == 0 && value[5] != '\0')
		return NULL;
	return "must be stderr, syslog or file:PATH";
}

const char *check_redis_server(const char *value)
{
	struct settings_redis_url url;
	const char *problem;

	if (strcmp(value, "embedded") == 0)
		return NULL;
	problem = settings_redis_url_parse(value, &url);
	settings_redis_url_free(&url);
	return problem;
}

const char *check_file_mode(const char *value)
{
	for (const char *p = value; *p; p++) {
		if (*p < '0' || *p > '7')
			return "must be octal digits such as \"0660\"";
	}
	if (strlen(value) == 4 && value[0] != '0')
		return "must not hold set-uid, set-gid or sticky bits";
	return NULL;
}

const char *check_ip_address(const char *value)
{
	struct in6_addr address;

	if (inet_pton(AF_INET, value, &address) == 1 || inet_pton(AF_INET6, value, &address) == 1)
		return NULL;
	return "must be an IPv4 or IPv6 address";
}

mode_t settings_admin_mode(const struct settings *s)
{
	return (mode_t)strtoul(s->admin.mode, NULL, 8);
}

/* ---- redis.server ---- */

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
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

/* HOST, HOST:PORT, [IPV6] or [IPV6]:PORT */
static const char *parse_host_port(struct slice text, struct settings_redis_url *out)
{
	struct slice host = text, port = {NULL, 0};
	const char *host_end;
	long number;

	if (text.len > 0 && text.data[0] == '[') {
		host_end = memchr(text.data, ']', text.len);
		if (!host_end)
			return "has an IPv6 address without its closing bracket";
		host = slice_from(text.data + 1, (size_t)(host_end - text.data) - 1);
		host_end++;
	} else {
		host_end = memchr(text.data, ':', text.len);
		if (!host_end)
			host_end = text.data + text.len;
		host.len = (size_t)(host_end - text.data);
	}
	if (host_end < text.data + text.len) {
		port = slice_from(host_end + 1, text.len - (size_t)(host_end - text.data) - 1);
		if (*host_end != ':' || !parse_decimal(port, 65535, &number) || number == 0)
			return "must have a port from 1 to 65535";
		out->port = (uint16_t)number;
	}
	if (host.len == 0)
		return "must name a host";
	for (size_t i = 0; i < host.len; i++) {
		if (!is_alphanumeric(host.data[i]) && !memchr(".-_:%", host.data[i], 5))
			return "has a character in its host name that hosts can't have";
	}
	free(out->host);
	out->host = xstrndup(host.data, host.len);
	return NULL;
}

static const char *parse_url(const char *text, struct settings_redis_url *out)
{
	static const char scheme[] = "redis://";
	struct slice rest;
	const char *mark, *problem;
	long db;

	if (strncmp(text, scheme, sizeof(scheme) - 1) != 0)
		return "must be embedded or a URL that begins with redis://";
	rest = slice_str(text + sizeof(scheme) - 1);
	mark = memrchr(rest.data, '@', rest.len);
	if (mark) {
		size_t len = (size_t)(mark - rest.data);

		problem = parse_userinfo(slice_from(rest.data, len), out);
		if (problem)
			return problem;
		rest = slice_from(mark + 1, rest.len - len - 1);
	}
	mark = memchr(rest.data, '/', rest.len);
	if (mark) {
		size_t len = (size_t)(mark - rest.data);
		struct slice number = slice_from(mark + 1, rest.len - len - 1);

		if (number.len > 0) {
			if (!parse_decimal(number, REDIS_DB_MAX, &db))
				return "must have a database number behind the slash";
			out->db = (int)db;
		}
		rest.len = len;
	}
	return parse_host_port(rest, out);
}

const char *settings_redis_url_parse(const char *text, struct settings_redis_url *out)
{
	const char *problem;

	*out = (struct settings_redis_url){
		.user = xstrdup(""),
		.password = xstrdup(""),
		.host = xstrdup(""),
		.port = REDIS_DEFAULT_PORT,
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
	*url = (struct settings_redis_url){NULL, NULL, NULL, 0, 0};
}

/* ---- settings that contradict each other ---- */

struct contradiction {
	bool found;
	size_t offsets[2];
	const char *text;
};

#define CONTRADICTION(found, a, b, text)                                                      \
	{                                                                                     \
		(found), {offsetof(struct settings, a), offsetof(struct settings, b)}, (text) \
	}

const char *settings_find_contradiction(const struct settings *s, size_t offsets[2])
{
	bool history = s->channel.history_size > 0 && s->channel.history_ttl > 0;
	bool embedded = strcmp(s->redis.server, "embedded") == 0;
	const struct contradiction all[] = {
		CONTRADICTION((s->channel.history_size > 0) != (s->channel.history_ttl > 0),
			      channel.history_size, channel.history_ttl,
			      "channel.history_size and channel.history_ttl need each other, set "
			      "both or none"),
		CONTRADICTION(s->channel.force_recovery && !history, channel.force_recovery,
			      channel.force_recovery,
			      "channel.force_recovery needs channel.history_size and "
			      "channel.history_ttl"),
		CONTRADICTION(s->channel.force_positioning && !history, channel.force_positioning,
			      channel.force_positioning,
			      "channel.force_positioning needs channel.history_size and "
			      "channel.history_ttl"),
		CONTRADICTION(s->channel.history_ttl > s->channel.history_meta_ttl,
			      channel.history_ttl, channel.history_meta_ttl,
			      "channel.history_meta_ttl must not be less than channel.history_ttl"),
		CONTRADICTION(s->client.pong_timeout >= s->client.ping_interval,
			      client.pong_timeout, client.ping_interval,
			      "client.pong_timeout must be less than client.ping_interval"),
		CONTRADICTION(s->client.presence_update_interval >= s->channel.presence_ttl,
			      client.presence_update_interval, channel.presence_ttl,
			      "client.presence_update_interval must be less than "
			      "channel.presence_ttl"),
		CONTRADICTION(s->websocket.message_size_limit > s->client.input_queue_max_size,
			      websocket.message_size_limit, client.input_queue_max_size,
			      "client.input_queue_max_size must not be less than "
			      "websocket.message_size_limit"),
		CONTRADICTION(embedded && *s->redis.password_file, redis.password_file,
			      redis.server,
			      "redis.password_file is for an external server, the embedded one "
			      "makes its own password: remove it"),
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		if (all[i].found) {
			memcpy(offsets, all[i].offsets, sizeof(all[i].offsets));
			return all[i].text;
		}
	}
	return NULL;
}

/* ---- combinations that work but are dangerous ---- */

static bool address_is_loopback(const char *text)
{
	struct in_addr v4;
	struct in6_addr v6;

	if (inet_pton(AF_INET, text, &v4) == 1)
		return ntohl(v4.s_addr) >> 24 == 127;
	return inet_pton(AF_INET6, text, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

static const struct settings_listener *find_public_listener(const struct settings *s)
{
	for (size_t i = 0; i < s->listener_count; i++) {
		if (!address_is_loopback(s->listeners[i].address))
			return &s->listeners[i];
	}
	return NULL;
}

static bool redis_is_open(const struct settings *s)
{
	struct settings_redis_url url;
	bool open;

	if (*s->redis.password_file || settings_redis_url_parse(s->redis.server, &url) != NULL)
		return false;
	open = *url.password == '\0' && !address_is_loopback(url.host) &&
	       strcmp(url.host, "localhost") != 0;
	settings_redis_url_free(&url);
	return open;
}

static bool any_origin_allowed(const struct settings *s)
{
	for (size_t i = 0; i < s->websocket.allowed_origins.count; i++) {
		if (strcmp(s->websocket.allowed_origins.items[i], "*") == 0)
			return true;
	}
	return false;
}

void settings_warnings(const struct settings *s, void (*fn)(void *ctx, const char *text), void *ctx)
{
	bool public = find_public_listener(s) != NULL;

	if (s->client.insecure && public)
		fn(ctx, "client.insecure is on and a listener is not on a loopback address: every "
			"host that reaches it may subscribe and publish anywhere");
	if (s->http_api.insecure && public)
		fn(ctx, "http_api.insecure is on and a listener is not on a loopback address: "
			"every host that reaches it may use the API");
	if (s->http_api.insecure && *s->http_api.key_file)
		fn(ctx, "http_api.insecure is on: http_api.key_file protects nothing");
	if (s->client.allow_anonymous && s->channel.allow_publish_for_client && public)
		fn(ctx, "client.allow_anonymous and channel.allow_publish_for_client are on and a "
			"listener is not on a loopback address: every host that reaches it may "
			"publish");
	if (any_origin_allowed(s))
		fn(ctx, "websocket.allowed_origins holds \"*\": pages of every site may connect "
			"with their visitor's cookies");
	if (redis_is_open(s))
		fn(ctx, "redis.server is on another host and has no password");
	if (settings_admin_mode(s) & 0007)
		fn(ctx, "admin.mode lets every local user connect to the admin socket");
}

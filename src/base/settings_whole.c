/* SPDX-License-Identifier: ISC */
/*
 * Settings looked at together: those that contradict each other, and
 * combinations that work but are dangerous. Runs wherever settings are parsed;
 * looks at values only, never at files, sockets or the network.
 */
#include <arpa/inet.h>
#include <string.h>

#include "settings_private.h"

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

#define CHANNEL_CONTRADICTION(found, a, b, text)               \
	{                                                      \
		(found),                                       \
			{offsetof(struct channel_options, a),  \
			 offsetof(struct channel_options, b)}, \
			(text)                                 \
	}

static bool given(const char *text)
{
	return *text != '\0';
}

/* The text of the first that was found, NULL when none was. */
static const char *first_found(const struct contradiction *all, size_t count, size_t offsets[2])
{
	for (size_t i = 0; i < count; i++) {
		if (all[i].found) {
			memcpy(offsets, all[i].offsets, sizeof(all[i].offsets));
			return all[i].text;
		}
	}
	return NULL;
}

const char *settings_find_channel_contradiction(const struct settings *s,
						const struct channel_options *o, size_t offsets[2])
{
	bool history = o->history_size > 0 && o->history_ttl > 0;
	bool cache = strcmp(o->force_recovery_mode, "cache") == 0;
	const struct contradiction all[] = {
		CHANNEL_CONTRADICTION((o->history_size > 0) != (o->history_ttl > 0), history_size,
				      history_ttl,
				      "history_size and history_ttl need each other, set both or "
				      "none"),
		CHANNEL_CONTRADICTION(o->force_recovery && !history, force_recovery, force_recovery,
				      "force_recovery needs history_size and history_ttl"),
		CHANNEL_CONTRADICTION(o->force_positioning && !history, force_positioning,
				      force_positioning,
				      "force_positioning needs history_size and history_ttl"),
		CHANNEL_CONTRADICTION(o->history_ttl > o->history_meta_ttl, history_ttl,
				      history_meta_ttl,
				      "history_meta_ttl must not be less than history_ttl"),
		CHANNEL_CONTRADICTION(o->auto_cache_recover && !(o->force_recovery && cache),
				      auto_cache_recover, force_recovery_mode,
				      "auto_cache_recover needs force_recovery, and \"cache\" as "
				      "force_recovery_mode"),
		CHANNEL_CONTRADICTION(o->force_push_join_leave && !o->join_leave,
				      force_push_join_leave, join_leave,
				      "force_push_join_leave needs join_leave"),
		CHANNEL_CONTRADICTION(s->client.presence_update_interval >= o->presence_ttl,
				      presence_ttl, presence_ttl,
				      "presence_ttl must be more than "
				      "client.presence_update_interval"),
	};

	return first_found(all, sizeof(all) / sizeof(all[0]), offsets);
}

/* The options of the personal channels, NULL when their namespace is not there. */
static const struct channel_options *personal_options(const struct settings *s)
{
	const struct settings_namespace *found;

	if (*s->personal_channel.namespace == '\0')
		return &s->channel;
	found = settings_find_namespace(s, slice_str(s->personal_channel.namespace));
	return found ? &found->options : NULL;
}

static const char *find_personal_contradiction(const struct settings *s, size_t offsets[2])
{
	const struct channel_options *options = personal_options(s);
	const struct contradiction all[] = {
		CONTRADICTION(!options, personal_channel.namespace, personal_channel.namespace,
			      "personal_channel.namespace is not in namespaces, add it or correct "
			      "the name"),
		CONTRADICTION(s->personal_channel.single_connection && !s->personal_channel.enabled,
			      personal_channel.single_connection, personal_channel.enabled,
			      "personal_channel.single_connection needs personal_channel.enabled"),
		CONTRADICTION(
			s->personal_channel.single_connection && options && !options->presence,
			personal_channel.single_connection, personal_channel.single_connection,
			"personal_channel.single_connection needs presence in the personal "
			"channels"),
	};

	return first_found(all, sizeof(all) / sizeof(all[0]), offsets);
}

static bool is_sentinel_url(const char *text)
{
	return strncmp(text, "sentinel://", 11) == 0;
}

static bool uses_sentinel(const struct settings *s)
{
	for (size_t i = 0; i < s->redis.shards.count; i++) {
		if (is_sentinel_url(s->redis.shards.items[i]))
			return true;
	}
	return s->redis.shards.count == 0 && is_sentinel_url(s->redis.server);
}

static const char *find_redis_contradiction(const struct settings *s, size_t offsets[2])
{
	bool sharded = s->redis.shards.count > 0;
	bool embedded = !sharded && strcmp(s->redis.server, "embedded") == 0;
	const struct contradiction all[] = {
		CONTRADICTION(embedded && given(s->redis.password_file), redis.password_file,
			      redis.server,
			      "redis.password_file is for an external server, the embedded one "
			      "makes its own password: remove it"),
		CONTRADICTION(s->redis.shards.count == 1, redis.shards, redis.shards,
			      "redis.shards must have two elements or more: name a single server "
			      "in redis.server"),
		CONTRADICTION(redis_shards_collide(&s->redis.shards), redis.shards, redis.shards,
			      "redis.shards names a server twice, whatever the database: each "
			      "shard must be a server of its own"),
		CONTRADICTION(given(s->redis.sentinel_password_file) && !uses_sentinel(s),
			      redis.sentinel_password_file, redis.server,
			      "redis.sentinel_password_file needs a sentinel:// URL in "
			      "redis.server or redis.shards"),
		CONTRADICTION(s->redis.min_replicas > 0 && embedded, redis.min_replicas,
			      redis.server,
			      "redis.min_replicas is for an external server, the embedded one has "
			      "no replicas: remove it"),
		CONTRADICTION(s->redis.min_replicas > 0 &&
				      s->redis.min_replicas_timeout >= s->redis.command_timeout,
			      redis.min_replicas_timeout, redis.command_timeout,
			      "redis.min_replicas_timeout must be less than "
			      "redis.command_timeout"),
		CONTRADICTION(s->redis.probe_timeout <= s->redis.probe_interval,
			      redis.probe_timeout, redis.probe_interval,
			      "redis.probe_timeout must be more than redis.probe_interval"),
	};

	return first_found(all, sizeof(all) / sizeof(all[0]), offsets);
}

static const char *find_cluster_contradiction(const struct settings *s, size_t offsets[2])
{
	bool peers = s->cluster.peers.count > 0;
	bool embedded = s->redis.shards.count == 0 && strcmp(s->redis.server, "embedded") == 0;
	const char *problem = settings_find_peer_problem(s);
	const char *listener_problem = settings_find_listener_problem(s);
	const struct contradiction all[] = {
		CONTRADICTION(peers && embedded, cluster.peers, redis.server,
			      "cluster.peers needs a Redis that lives and dies with none of the "
			      "nodes: the embedded one ends with its node, name another in "
			      "redis.server"),
		CONTRADICTION(given(problem), cluster.peers, node.name, problem),
		CONTRADICTION(peers && !given(s->cluster.secret_file), cluster.peers,
			      cluster.secret_file, "cluster.peers needs cluster.secret_file"),
		CONTRADICTION(peers && !given(s->cluster.peer_listen), cluster.peers,
			      cluster.peer_listen, "cluster.peers needs cluster.peer_listen"),
		CONTRADICTION(given(listener_problem), cluster.peers, node.name, listener_problem),
		CONTRADICTION(peers && s->drain.window >= s->cluster.demote_timeout, drain.window,
			      cluster.demote_timeout,
			      "drain.window must be less than cluster.demote_timeout"),
		CONTRADICTION(s->cluster.vip.count > 0 && !given(s->cluster.vip_interface),
			      cluster.vip, cluster.vip_interface,
			      "cluster.vip needs cluster.vip_interface"),
	};

	return first_found(all, sizeof(all) / sizeof(all[0]), offsets);
}

#define TOKEN_CONTRADICTIONS(group)                                                           \
	CONTRADICTION(given(s->group.hmac_previous_secret_file) &&                            \
			      !given(s->group.hmac_secret_file),                              \
		      group.hmac_previous_secret_file, group.hmac_previous_secret_file,       \
		      #group ".hmac_previous_secret_file needs " #group ".hmac_secret_file"), \
		CONTRADICTION(given(s->group.audience) && given(s->group.audience_regex),     \
			      group.audience, group.audience_regex,                           \
			      #group ".audience and " #group                                  \
				     ".audience_regex exclude each other, set one of them"),  \
		CONTRADICTION(given(s->group.issuer) && given(s->group.issuer_regex),         \
			      group.issuer, group.issuer_regex,                               \
			      #group ".issuer and " #group                                    \
				     ".issuer_regex exclude each other, set one of them")

static const char *find_token_contradiction(const struct settings *s, size_t offsets[2])
{
	const struct contradiction all[] = {
		TOKEN_CONTRADICTIONS(token),
		TOKEN_CONTRADICTIONS(subscription_token),
	};

	return first_found(all, sizeof(all) / sizeof(all[0]), offsets);
}

const char *settings_find_contradiction(const struct settings *s, size_t offsets[2])
{
	const struct contradiction all[] = {
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
	};
	const char *problem = first_found(all, sizeof(all) / sizeof(all[0]), offsets);

	if (!problem)
		problem = find_redis_contradiction(s, offsets);
	if (!problem)
		problem = find_token_contradiction(s, offsets);
	if (!problem)
		problem = find_cluster_contradiction(s, offsets);
	return problem ? problem : find_personal_contradiction(s, offsets);
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

static bool host_is_local(const char *host)
{
	return address_is_loopback(host) || strcmp(host, "localhost") == 0;
}

/* A server, or its Sentinels, on another host without a password in the URL. */
static bool url_is_open(const char *text)
{
	struct settings_redis_url url;
	bool open;

	if (settings_redis_url_parse(text, &url) != NULL)
		return false;
	open = url.sentinel_count == 0 && !host_is_local(url.host);
	for (size_t i = 0; i < url.sentinel_count; i++)
		open = open || !host_is_local(url.sentinels[i].host);
	open = open && !given(url.password);
	settings_redis_url_free(&url);
	return open;
}

static bool redis_is_open(const struct settings *s)
{
	if (given(s->redis.password_file))
		return false;
	for (size_t i = 0; i < s->redis.shards.count; i++) {
		if (url_is_open(s->redis.shards.items[i]))
			return true;
	}
	return s->redis.shards.count == 0 && url_is_open(s->redis.server);
}

static bool anonymous_may_publish(const struct channel_options *options)
{
	return options->allow_publish_for_anonymous &&
	       (options->allow_publish_for_client || options->allow_publish_for_subscriber);
}

static bool anonymous_may_publish_somewhere(const struct settings *s)
{
	bool found = anonymous_may_publish(&s->channel);

	for (size_t i = 0; i < s->namespace_count; i++)
		found = found || anonymous_may_publish(&s->namespaces[i].options);
	return found && s->client.allow_anonymous;
}

static bool any_origin_allowed(const struct settings *s)
{
	for (size_t i = 0; i < s->websocket.allowed_origins.count; i++) {
		if (strcmp(s->websocket.allowed_origins.items[i], "*") == 0)
			return true;
	}
	return false;
}

static bool subscription_keys_given(const struct settings *s)
{
	return given(s->subscription_token.hmac_secret_file) ||
	       given(s->subscription_token.rsa_public_key_file) ||
	       given(s->subscription_token.ecdsa_public_key_file);
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
	if (s->http_api.insecure && given(s->http_api.key_file))
		fn(ctx, "http_api.insecure is on: http_api.key_file protects nothing");
	if (anonymous_may_publish_somewhere(s) && public)
		fn(ctx, "client.allow_anonymous and an allow_publish_for_anonymous are on and a "
			"listener is not on a loopback address: every host that reaches it may "
			"publish");
	if (!s->subscription_token.enabled && subscription_keys_given(s))
		fn(ctx, "subscription_token names keys but is not enabled: they are not used");
	if (any_origin_allowed(s))
		fn(ctx, "websocket.allowed_origins holds \"*\": pages of every site may connect "
			"with their visitor's cookies");
	if (redis_is_open(s))
		fn(ctx, "a Redis server is on another host and has no password");
	if (settings_admin_mode(s) & 0007)
		fn(ctx, "admin.mode lets every local user connect to the admin socket");
}

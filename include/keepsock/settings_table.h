/* SPDX-License-Identifier: ISC */
/*
 * Every setting of keepsock.conf, once. struct settings, the parser and its
 * bounds, the manual page, the example file and `show config` are all made
 * from these rows (settings.h and src/base/settings*.c), so a new setting is a
 * new row and nothing else. Included many times, with different macros.
 *
 *	SETTING(group, name, TYPE, default, min, max, check, CHANGE, doc)
 *
 * TYPE     BOOL · INT · SIZE (bytes, or "64KiB") · DURATION_MS (milliseconds, or
 *          "25s") · STRING · STRING_LIST, and strings with a meaning: PATH
 *          (relative to the file's directory) · PROGRAM (a PATH when it holds a
 *          slash) · TARGET (of the log) · URL and URL_LIST (passwords are never
 *          shown)
 * default  as written in the file; strings without their quotes
 * min, max bounds of a number, of a string's length or of a list's count
 * check    a function of src/base/settings_check.c for what bounds can't say; of
 *          a list, each element
 * CHANGE   RELOADABLE, or FIXED: a reload that changes it is refused
 *
 * The others have the same columns without the group. LISTENER_SETTING: rows of
 * each element of the list `listeners`, TLS_SETTING of its group `tls`, and
 * CERTIFICATE_SETTING of each element of that group's list `certificates`. CHANNEL_SETTING: rows of
 *the group `channel`, which SETTINGS_CHANNEL_GROUP puts among the others, and of each element of
 *the list `namespaces`, which has the NAMESPACE_SETTING rows too.
 */
#ifndef SETTINGS_GROUP
#define SETTINGS_GROUP(group, doc)
#endif
#ifndef SETTINGS_GROUP_END
#define SETTINGS_GROUP_END(group)
#endif
#ifndef SETTING
#define SETTING(group, name, type, default_text, min, max, check, change, doc)
#endif
#ifndef SETTINGS_CHANNEL_GROUP
#define SETTINGS_CHANNEL_GROUP(doc)
#endif
#ifndef CHANNEL_SETTING
#define CHANNEL_SETTING(name, type, default_text, min, max, check, change, doc)
#endif
#ifndef NAMESPACE_SETTING
#define NAMESPACE_SETTING(name, type, default_text, min, max, check, change, doc)
#endif
#ifndef LISTENER_SETTING
#define LISTENER_SETTING(name, type, default_text, min, max, check, change, doc)
#endif
#ifndef TLS_SETTING
#define TLS_SETTING(name, type, default_text, min, max, check, change, doc)
#endif
#ifndef CERTIFICATE_SETTING
#define CERTIFICATE_SETTING(name, type, default_text, min, max, check, change, doc)
#endif

#define SETTINGS_KIB ((int64_t)1024)
#define SETTINGS_MIB (1024 * SETTINGS_KIB)
#define SETTINGS_GIB (1024 * SETTINGS_MIB)
#define SETTINGS_SEC ((int64_t)1000)
#define SETTINGS_DAY (86400 * SETTINGS_SEC)

/* clang-format off */

/* The rows that the groups token and subscription_token share. */
#define TOKEN_SETTINGS(group)                                                                      \
SETTING(group, hmac_secret_file, PATH, "", 0, 4000, NULL, RELOADABLE,                              \
	"File whose first line is the secret of HS256, HS384 and HS512 tokens; nobody but its owner "  \
	"may read it (mode 0600). Empty: none of them is accepted.")                                   \
SETTING(group, hmac_previous_secret_file, PATH, "", 0, 4000, NULL, RELOADABLE,                     \
	"File with the secret that was used before, still accepted: for a change of secrets.")        \
SETTING(group, hmac_previous_secret_valid_until, INT, "0", 0, 253402300799, NULL, RELOADABLE,      \
	"The previous secret is accepted until this time (Unix seconds). 0: without end.")            \
SETTING(group, rsa_public_key_file, PATH, "", 0, 4000, NULL, RELOADABLE,                           \
	"PEM file with the RSA public key of RS256, RS384 and RS512 tokens; several keys, one after "  \
	"the other, are all accepted: for a change of keys. Empty: none of them is accepted.")         \
SETTING(group, ecdsa_public_key_file, PATH, "", 0, 4000, NULL, RELOADABLE,                         \
	"PEM file with the public key, or several, of ES256, ES384 and ES512 tokens. Empty: none of "  \
	"them is accepted.")                                                                           \
SETTING(group, audience, STRING, "", 0, 255, NULL, RELOADABLE,                                     \
	"One of the token's audiences (claim aud) must be this. Empty: any.")                          \
SETTING(group, audience_regex, STRING, "", 0, 256, check_regex, RELOADABLE,                        \
	"One of the token's audiences must match this extended regular expression (POSIX). Empty: any.") \
SETTING(group, issuer, STRING, "", 0, 255, NULL, RELOADABLE,                                       \
	"The token's issuer (claim iss) must be this. Empty: any.")                                    \
SETTING(group, issuer_regex, STRING, "", 0, 256, check_regex, RELOADABLE,                          \
	"The token's issuer must match this extended regular expression (POSIX). Empty: any.")         \
SETTING(group, user_id_claim, STRING, "sub", 1, 40, check_claim_name, RELOADABLE,                  \
	"Claim that holds the user's id.")

SETTINGS_GROUP(node, "The node as a whole.")
SETTING(node, name, STRING, "a", 1, 32, check_host_label, FIXED,
	"Name of this node: letters, digits and inner hyphens. Unique among the nodes that share a "
	"Redis; it is part of Redis keys and of every survey's answer.")
SETTING(node, run_dir, PATH, "/run/keepsock", 1, 90, NULL, FIXED,
	"Runtime directory: lock file, admin socket. Made with mode 0700 when missing.")
SETTING(node, state_dir, PATH, "/var/lib/keepsock", 1, 4000, NULL, RELOADABLE,
	"Directory for what outlives a restart: the data of the embedded Redis.")
SETTING(node, user, STRING, "", 0, 32, NULL, FIXED,
	"User to run as when started by root. Empty: stay the user that started keepsockd.")
SETTING(node, workers, INT, "0", 0, 64, NULL, RELOADABLE,
	"Number of worker processes. 0: one per processor core. When a reload changes it, "
	"connections move from workers that are too many to the others, and stay open.")
SETTING(node, loop_lag_warning, DURATION_MS, "250ms", 10, 60 * SETTINGS_SEC, NULL, RELOADABLE,
	"A worker whose event loop is late by this much says so in its log, with what held it up.")
SETTINGS_GROUP_END(node)

SETTINGS_GROUP(log, "Where events are logged.")
SETTING(log, level, STRING, "info", 1, 16, check_log_level, RELOADABLE,
	"Least important level to log: error, warning, info or debug. `keepsockctl log level` "
	"changes it at run time.")
SETTING(log, target, TARGET, "stderr", 1, 4000, check_log_target, RELOADABLE,
	"stderr, syslog, or file:PATH.")
SETTING(log, format, STRING, "logfmt", 1, 16, check_log_format, RELOADABLE,
	"Form of a line: logfmt or json.")
SETTINGS_GROUP_END(log)

SETTINGS_GROUP(http, "HTTP requests: the API, health checks, and the handshakes of WebSocket connections.")
SETTING(http, header_timeout, DURATION_MS, "10s", 100, 600 * SETTINGS_SEC, NULL, RELOADABLE,
	"A request's head must be complete this long after its first byte, that of a new connection this "
	"long after it was accepted, or the connection is closed.")
SETTING(http, idle_timeout, DURATION_MS, "75s", 100, SETTINGS_DAY, NULL, RELOADABLE,
	"An HTTP connection without a request is closed after this time.")
SETTING(http, head_size_limit, SIZE, "16384", SETTINGS_KIB, 64 * SETTINGS_KIB, NULL, RELOADABLE,
	"Largest request head; a larger one gets 431.")
SETTING(http, body_size_limit, SIZE, "1048576", SETTINGS_KIB, 64 * SETTINGS_MIB, NULL, RELOADABLE,
	"Largest request body; a larger one gets 413.")
SETTING(http, static_root, PATH, "", 0, 4000, NULL, RELOADABLE,
	"Directory whose files are served at /. Empty: none.")
SETTING(http, acme_webroot, PATH, "", 0, 4000, NULL, RELOADABLE,
	"Directory that an ACME client (certbot --webroot) puts its files into: those below "
	".well-known/acme-challenge in it are served under /.well-known/acme-challenge/. Empty: none.")
SETTING(http, echo, BOOL, "true", 0, 0, NULL, RELOADABLE,
	"Serve /echo, a WebSocket endpoint for tests that sends every message back.")
SETTINGS_GROUP_END(http)

SETTINGS_GROUP(websocket, "The WebSocket transport.")
SETTING(websocket, message_size_limit, SIZE, "65536", 128, 16 * SETTINGS_MIB, NULL, RELOADABLE,
	"Largest message a client may send, all fragments together; a larger one closes the connection "
	"with 1009.")
SETTING(websocket, allowed_origins, STRING_LIST, "[]", 0, 256, NULL, RELOADABLE,
	"Origins whose pages may connect, as patterns with * and ?, such as "
	"\"https://*.example.com\". A page of the same origin and a client that sends no Origin always "
	"may.")
SETTING(websocket, compression, BOOL, "false", 0, 0, NULL, RELOADABLE,
	"Agree to permessage-deflate (RFC 7692), without context takeover, with clients that offer it.")
SETTING(websocket, compression_level, INT, "1", 1, 9, NULL, RELOADABLE,
	"1 is the fastest, 9 compresses best.")
SETTING(websocket, compression_min_size, SIZE, "128", 0, SETTINGS_MIB, NULL, RELOADABLE,
	"Shorter messages are sent uncompressed.")
SETTINGS_GROUP_END(websocket)

SETTINGS_GROUP(client, "Clients and their connections.")
SETTING(client, ping_interval, DURATION_MS, "25s", SETTINGS_SEC, SETTINGS_DAY, NULL, RELOADABLE,
	"Time between two pings to a client. Clients learn it in whole seconds.")
SETTING(client, pong_timeout, DURATION_MS, "8s", 100, SETTINGS_DAY, NULL, RELOADABLE,
	"A client that has not answered a ping for this long is disconnected with 3012. Less than "
	"ping_interval.")
SETTING(client, stale_close_delay, DURATION_MS, "10s", 100, SETTINGS_DAY, NULL, RELOADABLE,
	"A connection without a successful connect command is closed with 3502 after this time.")
SETTING(client, close_timeout, DURATION_MS, "5s", 100, 600 * SETTINGS_SEC, NULL, RELOADABLE,
	"How long a closing connection waits for the other side's close frame.")
SETTING(client, queue_max_size, SIZE, "1048576", 4 * SETTINGS_KIB, SETTINGS_GIB, NULL, RELOADABLE,
	"Most bytes that may wait for one slow reader; beyond it the client is disconnected with 3008.")
SETTING(client, input_queue_max_size, SIZE, "131072", 4 * SETTINGS_KIB, SETTINGS_GIB, NULL, RELOADABLE,
	"Most bytes of a client's messages that may wait for their turn; beyond it reading pauses. Not "
	"less than websocket.message_size_limit.")
SETTING(client, channel_limit, INT, "128", 1, 100000, NULL, RELOADABLE,
	"Most channels one client may be subscribed to at a time; beyond it error 106.")
SETTING(client, channel_max_length, INT, "255", 1, 255, NULL, RELOADABLE,
	"Longest channel name in bytes; a longer one is error 107.")
SETTING(client, connection_limit, INT, "0", 0, 10000000, NULL, RELOADABLE,
	"Most client connections of this node; beyond it 503 before the upgrade. 0: as many as the "
	"limit of open files allows.")
SETTING(client, connection_rate_limit, INT, "0", 0, 1000000, NULL, RELOADABLE,
	"Most new client connections per second of this node; beyond it 503. 0: no limit.")
SETTING(client, user_connection_limit, INT, "0", 0, 1000000, NULL, RELOADABLE,
	"Most connections one user, other than \"\", may have on this node; beyond it 3504. Of several "
	"that come at the same moment to different workers one more may pass. 0: no limit.")
SETTING(client, insecure, BOOL, "false", 0, 0, NULL, RELOADABLE,
	"Let every client connect without a token and do everything. For development only.")
SETTING(client, allow_anonymous, BOOL, "false", 0, 0, NULL, RELOADABLE,
	"Let clients without a token connect, as the user \"\" (Centrifugo: "
	"allow_anonymous_connect_without_token).")
SETTING(client, disallow_anonymous_connection_tokens, BOOL, "false", 0, 0, NULL, RELOADABLE,
	"Refuse connection tokens without a user with 3507.")
SETTING(client, connect_include_server_time, BOOL, "false", 0, 0, NULL, RELOADABLE,
	"Tell the time of the server, in milliseconds, in the reply to connect.")
SETTING(client, expired_close_delay, DURATION_MS, "25s", 100, SETTINGS_DAY, NULL, RELOADABLE,
	"A client that has not refreshed its connection this long after it expired is disconnected with "
	"3005.")
SETTING(client, expired_sub_close_delay, DURATION_MS, "25s", 100, SETTINGS_DAY, NULL, RELOADABLE,
	"A client that has not refreshed a subscription this long after it expired loses it with 2501; "
	"one made by the server disconnects it with 3006.")
SETTING(client, server_subscription_ttl, DURATION_MS, "30d", SETTINGS_SEC, 3650 * SETTINGS_DAY, NULL, RELOADABLE,
	"How long subscriptions made through the API are remembered for a user that does not connect.")
SETTING(client, presence_update_interval, DURATION_MS, "27s", 100, SETTINGS_DAY, NULL, RELOADABLE,
	"How often the presence of each subscription is renewed in Redis. Less than every presence_ttl.")
SETTING(client, position_check_delay, DURATION_MS, "40s", 100, SETTINGS_DAY, NULL, RELOADABLE,
	"A position that no publication confirmed for this long is compared with Redis.")
SETTINGS_GROUP_END(client)

SETTINGS_CHANNEL_GROUP("Options of the channels without a namespace.")
CHANNEL_SETTING(allow_subscribe_for_client, BOOL, "false", 0, 0, NULL, RELOADABLE,
	"Clients with a user may subscribe without a subscription token.")
CHANNEL_SETTING(allow_subscribe_for_anonymous, BOOL, "false", 0, 0, NULL, RELOADABLE,
	"With allow_subscribe_for_client: so may the user \"\".")
CHANNEL_SETTING(allow_publish_for_client, BOOL, "false", 0, 0, NULL, RELOADABLE,
	"Clients with a user may publish.")
CHANNEL_SETTING(allow_publish_for_subscriber, BOOL, "false", 0, 0, NULL, RELOADABLE,
	"Clients with a user may publish into channels that they are subscribed to.")
CHANNEL_SETTING(allow_publish_for_anonymous, BOOL, "false", 0, 0, NULL, RELOADABLE,
	"With one of the two above: so may the user \"\".")
CHANNEL_SETTING(allow_presence_for_client, BOOL, "false", 0, 0, NULL, RELOADABLE,
	"Clients with a user may ask who is present.")
CHANNEL_SETTING(allow_presence_for_subscriber, BOOL, "false", 0, 0, NULL, RELOADABLE,
	"Clients with a user may ask who is present in channels that they are subscribed to.")
CHANNEL_SETTING(allow_presence_for_anonymous, BOOL, "false", 0, 0, NULL, RELOADABLE,
	"With one of the two above: so may the user \"\".")
CHANNEL_SETTING(allow_history_for_client, BOOL, "false", 0, 0, NULL, RELOADABLE,
	"Clients with a user may read the history.")
CHANNEL_SETTING(allow_history_for_subscriber, BOOL, "false", 0, 0, NULL, RELOADABLE,
	"Clients with a user may read the history of channels that they are subscribed to.")
CHANNEL_SETTING(allow_history_for_anonymous, BOOL, "false", 0, 0, NULL, RELOADABLE,
	"With one of the two above: so may the user \"\".")
CHANNEL_SETTING(allow_user_limited_channels, BOOL, "false", 0, 0, NULL, RELOADABLE,
	"The users listed behind the last # of a channel's name, separated by commas, may subscribe "
	"to it, and nobody else.")
CHANNEL_SETTING(channel_regex, STRING, "", 0, 256, check_regex, RELOADABLE,
	"Extended regular expression (POSIX) that names must match, without their namespace; they may "
	"then hold other characters than ASCII. Empty: every name of ASCII characters.")
CHANNEL_SETTING(presence, BOOL, "false", 0, 0, NULL, RELOADABLE,
	"Keep who is subscribed.")
CHANNEL_SETTING(presence_ttl, DURATION_MS, "60s", SETTINGS_SEC, SETTINGS_DAY, NULL, RELOADABLE,
	"An entry of the presence that was not renewed for this long is gone.")
CHANNEL_SETTING(join_leave, BOOL, "false", 0, 0, NULL, RELOADABLE,
	"Tell subscribers who joins and leaves, if they ask for it and may ask who is present.")
CHANNEL_SETTING(force_push_join_leave, BOOL, "false", 0, 0, NULL, RELOADABLE,
	"Tell all subscribers who joins and leaves. Needs join_leave.")
CHANNEL_SETTING(history_size, INT, "0", 0, 1000000, NULL, RELOADABLE,
	"How many publications are kept. 0: no history. Needs history_ttl.")
CHANNEL_SETTING(history_ttl, DURATION_MS, "0", 0, 365 * SETTINGS_DAY, NULL, RELOADABLE,
	"How long publications are kept after the latest one. 0: no history. Needs history_size.")
CHANNEL_SETTING(history_meta_ttl, DURATION_MS, "30d", SETTINGS_SEC, 3650 * SETTINGS_DAY, NULL, RELOADABLE,
	"How long a channel's position is remembered after its last use. Not less than history_ttl.")
CHANNEL_SETTING(history_max_publication_limit, INT, "300", 1, 100000, NULL, RELOADABLE,
	"Most publications one history command returns.")
CHANNEL_SETTING(recovery_max_publication_limit, INT, "300", 1, 100000, NULL, RELOADABLE,
	"Most publications one subscriber recovers; a client that missed more is told so.")
CHANNEL_SETTING(allow_positioning, BOOL, "false", 0, 0, NULL, RELOADABLE,
	"Watch the position of subscriptions that ask for it. Those who may read the history may always "
	"ask.")
CHANNEL_SETTING(force_positioning, BOOL, "false", 0, 0, NULL, RELOADABLE,
	"Watch the position of every subscription and tell the client when it lost one. Needs "
	"history_size and history_ttl.")
CHANNEL_SETTING(allow_recovery, BOOL, "false", 0, 0, NULL, RELOADABLE,
	"Make subscriptions recoverable that ask for it. Those who may read the history may always ask.")
CHANNEL_SETTING(force_recovery, BOOL, "false", 0, 0, NULL, RELOADABLE,
	"Make every subscription recoverable. Needs history_size and history_ttl.")
CHANNEL_SETTING(force_recovery_mode, STRING, "stream", 1, 16, check_recovery_mode, RELOADABLE,
	"stream: who recovers gets everything missed. cache: only the latest publication.")
CHANNEL_SETTING(auto_cache_recover, BOOL, "false", 0, 0, NULL, RELOADABLE,
	"Give the latest publication to every new subscriber. Needs force_recovery, and cache as "
	"force_recovery_mode.")

SETTINGS_GROUP(personal_channel, "A channel of its own for each user, to which the server subscribes every connection of the user.")
SETTING(personal_channel, enabled, BOOL, "false", 0, 0, NULL, RELOADABLE,
	"Subscribe connections of users, other than \"\", to the user's channel #USER.")
SETTING(personal_channel, namespace, STRING, "", 0, 64, NULL, RELOADABLE,
	"Namespace of the personal channels, which are then named NAMESPACE:#USER. Empty: none.")
SETTING(personal_channel, single_connection, BOOL, "false", 0, 0, NULL, RELOADABLE,
	"Disconnect a user's other connections with 3503 when a new one comes. Needs enabled, and "
	"presence in the personal channels.")
SETTINGS_GROUP_END(personal_channel)

SETTINGS_GROUP(token, "JSON Web Tokens of connections and, unless subscription_token.enabled, of subscriptions.")
TOKEN_SETTINGS(token)
SETTINGS_GROUP_END(token)

SETTINGS_GROUP(subscription_token, "JSON Web Tokens of subscriptions, when they are not checked as those of connections.")
SETTING(subscription_token, enabled, BOOL, "false", 0, 0, NULL, RELOADABLE,
	"Check subscription tokens by this group. Otherwise the group token serves both.")
TOKEN_SETTINGS(subscription_token)
SETTINGS_GROUP_END(subscription_token)

SETTINGS_GROUP(redis, "The Redis server behind channels, history and presence.")
SETTING(redis, server, URL, "embedded", 1, 2000, check_redis_server, RELOADABLE,
	"embedded: keepsockd runs a redis-server of its own on 127.0.0.1. Otherwise "
	"redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE], reserved characters percent-encoded, or, to ask "
	"Sentinels who is the master, sentinel://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]...]/NAME[/DATABASE]; "
	"USER and PASSWORD are those of the Redis servers.")
SETTING(redis, shards, URL_LIST, "[]", 0, 64, check_redis_shard, RELOADABLE,
	"Two to 64 servers that share the channels, each a URL as in server, which is not used then. "
	"The same list, in the same order, on all nodes.")
SETTING(redis, password_file, PATH, "", 0, 4000, NULL, RELOADABLE,
	"File whose first line is the password of the external server, or of every shard. Empty: the one "
	"in the URL, if any.")
SETTING(redis, sentinel_password_file, PATH, "", 0, 4000, NULL, RELOADABLE,
	"File whose first line is the password of the Sentinels. Empty: they want none.")
SETTING(redis, embedded_binary, PROGRAM, "redis-server", 1, 4000, NULL, RELOADABLE,
	"Program to run as the embedded Redis; without a slash it is looked up in PATH.")
SETTING(redis, pool_size, INT, "2", 1, 64, NULL, RELOADABLE,
	"Command connections of each worker to each shard.")
SETTING(redis, pool_max_overflow, INT, "4", 0, 64, NULL, RELOADABLE,
	"How many more connections a worker may open to a shard while those of pool_size are busy.")
SETTING(redis, pool_recycle, DURATION_MS, "0", 0, 30 * SETTINGS_DAY, NULL, RELOADABLE,
	"A command connection older than this is replaced by a new one. 0: never.")
SETTING(redis, command_timeout, DURATION_MS, "3s", 10, 60 * SETTINGS_SEC, NULL, RELOADABLE,
	"A command without an answer after this time fails with the temporary error 100.")
SETTING(redis, connect_timeout, DURATION_MS, "1s", 10, 60 * SETTINGS_SEC, NULL, RELOADABLE,
	"How long one attempt to connect may take.")
SETTING(redis, reconnect_max_delay, DURATION_MS, "2s", 10, 600 * SETTINGS_SEC, NULL, RELOADABLE,
	"Longest pause between two attempts to connect; pauses grow up to it.")
SETTING(redis, min_replicas, INT, "0", 0, 10, NULL, RELOADABLE,
	"A publication is acknowledged only when this many replicas have it (WAIT); else it fails with "
	"the temporary error 100, though it may have happened. 0: none.")
SETTING(redis, min_replicas_timeout, DURATION_MS, "1s", 10, 60 * SETTINGS_SEC, NULL, RELOADABLE,
	"How long to wait for them. Less than command_timeout.")
SETTING(redis, probe_interval, DURATION_MS, "1s", 100, 60 * SETTINGS_SEC, NULL, RELOADABLE,
	"How often the way of a publication through Redis to every worker is tried.")
SETTING(redis, probe_timeout, DURATION_MS, "5s", 200, 600 * SETTINGS_SEC, NULL, RELOADABLE,
	"When no such probe came for this long, the worker is not ready and subscribes anew. More than "
	"probe_interval.")
SETTINGS_GROUP_END(redis)

SETTINGS_GROUP(cluster, "The nodes that share a Redis, and their supervisors (keepsock-supervisor), of which one makes its node the primary.")
SETTING(cluster, node_timeout, DURATION_MS, "5s", 2 * SETTINGS_SEC, 60 * SETTINGS_SEC, NULL, RELOADABLE,
	"A worker not heard of for this long is dead: its clients are taken out of the presence.")
SETTING(cluster, peers, STRING_LIST, "[]", 0, 7, check_cluster_peer, FIXED,
	"The other nodes' supervisors, each \"NAME=ADDRESS:PORT\" with its node.name and its peer_listen. "
	"Empty: there are none.")
SETTING(cluster, peer_listen, STRING, "", 0, 64, check_address_port, FIXED,
	"\"ADDRESS:PORT\" where the supervisor listens for its peers; an IPv6 address in brackets. Of two "
	"supervisors the one whose node's name comes first connects.")
SETTING(cluster, secret_file, PATH, "", 0, 4000, NULL, FIXED,
	"File whose first line is the secret that all supervisors share; nobody but its owner may read it "
	"(mode 0600). The links between them are encrypted with a key made from it.")
SETTING(cluster, socket, PATH, "", 0, 107, NULL, FIXED,
	"Path of the supervisor's admin socket. Empty: supervisor.sock in node.run_dir.")
SETTING(cluster, metrics_listen, STRING, "", 0, 64, check_address_port, FIXED,
	"\"ADDRESS:PORT\" where the supervisor serves its own metrics, GET /metrics; the node has /metrics "
	"itself. Empty: nowhere.")
SETTING(cluster, state_dir, PATH, "/var/lib/keepsock-supervisor", 1, 4000, NULL, FIXED,
	"Directory for what the supervisor must remember: the highest epoch. Made with mode 0700 when missing.")
SETTING(cluster, priority, INT, "100", 1, 255, NULL, FIXED,
	"Of several standbys the one with the highest priority is promoted. A primary is never replaced "
	"because of it.")
SETTING(cluster, lease_ttl, DURATION_MS, "4s", SETTINGS_SEC, 600 * SETTINGS_SEC, NULL, FIXED,
	"How long the primary's lease in Redis lasts after its last renewal. The same on all nodes.")
SETTING(cluster, lease_renew, DURATION_MS, "500ms", 50, 60 * SETTINGS_SEC, NULL, FIXED,
	"How often the primary renews it, standbys look at it, and supervisors tell each other how they are.")
SETTING(cluster, lease_guard, DURATION_MS, "1s", SETTINGS_SEC, 60 * SETTINGS_SEC, NULL, FIXED,
	"How long before its lease ends the primary gives up, and how much longer than lease_ttl others wait "
	"where they can't see it. The same on all nodes.")
SETTING(cluster, start_grace, DURATION_MS, "2s", 0, 600 * SETTINGS_SEC, NULL, FIXED,
	"A supervisor that has just started promotes nobody for this long, so that its peers can be heard.")
SETTING(cluster, min_change_interval, DURATION_MS, "10s", 0, 3600 * SETTINGS_SEC, NULL, FIXED,
	"A node that ceased to be the primary becomes it again no sooner than this, unless an operator wants "
	"it. A promotion that failed is tried again sooner.")
SETTING(cluster, check_interval, DURATION_MS, "500ms", 50, 60 * SETTINGS_SEC, NULL, FIXED,
	"How often each health check of the node is made.")
SETTING(cluster, check_timeout, DURATION_MS, "1s", 50, 60 * SETTINGS_SEC, NULL, FIXED,
	"A check without a result after this time has failed.")
SETTING(cluster, check_fall, INT, "3", 1, 100, NULL, FIXED,
	"A check that was good is bad after this many failures in a row.")
SETTING(cluster, check_rise, INT, "2", 1, 100, NULL, FIXED,
	"A check that was bad is good after this many successes in a row.")
SETTING(cluster, check_loop_lag, DURATION_MS, "1s", 10, 60 * SETTINGS_SEC, NULL, FIXED,
	"The check of the event loops fails while a worker's is later than this.")
SETTING(cluster, check_scripts, STRING_LIST, "[]", 0, 8, check_absolute_path, FIXED,
	"Programs that check the node too, by their absolute paths: exit status 0 is good.")
SETTING(cluster, start_node, BOOL, "true", 0, 0, NULL, FIXED,
	"Start the node when none is running. Otherwise it is another's work, systemd's for example, and the "
	"supervisor waits for it. A node that is running is adopted in either case.")
SETTING(cluster, node_binary, PROGRAM, "keepsockd", 1, 4000, NULL, FIXED,
	"Program to start as the node; without a slash it is looked for beside keepsock-supervisor, then in PATH.")
SETTING(cluster, restart_limit, INT, "3", 0, 100, NULL, FIXED,
	"A node that ended is a restart, not a failover, up to this many times within restart_window.")
SETTING(cluster, restart_window, DURATION_MS, "60s", SETTINGS_SEC, SETTINGS_DAY, NULL, FIXED,
	"See restart_limit.")
SETTING(cluster, restart_timeout, DURATION_MS, "2s", 100, 600 * SETTINGS_SEC, NULL, FIXED,
	"A primary whose node ended and is not there again after this time steps down.")
SETTING(cluster, promote_timeout, DURATION_MS, "5s", 100, 600 * SETTINGS_SEC, NULL, FIXED,
	"How long the node may take to become the primary.")
SETTING(cluster, demote_timeout, DURATION_MS, "15s", 100, 3600 * SETTINGS_SEC, NULL, FIXED,
	"How long the node may take to send its clients away when it is demoted in good order.")
SETTING(cluster, active_active, BOOL, "false", 0, 0, NULL, FIXED,
	"All nodes serve clients, behind a load balancer; being the primary then means only the duties that "
	"one node has, and the listeners that only the primary opens. The same on all nodes.")
SETTING(cluster, accept_rate, INT, "2500", 0, 1000000, NULL, RELOADABLE,
	"Most connections a second that the node accepts just after it was promoted, so that the clients of "
	"the node that was lost don't all come in at once. 0: no limit.")
SETTING(cluster, accept_rate_time, DURATION_MS, "30s", 0, 3600 * SETTINGS_SEC, NULL, RELOADABLE,
	"How long after its promotion.")
SETTING(cluster, vip, STRING_LIST, "[]", 0, 8, check_vip, FIXED,
	"Addresses that follow the primary, each \"ADDRESS/PREFIX\", IPv4 or IPv6.")
SETTING(cluster, vip_interface, STRING, "", 0, 15, NULL, FIXED,
	"Network interface of those addresses.")
SETTING(cluster, tickle_rate, INT, "3000", 0, 100000, NULL, FIXED,
	"After a host was lost, idle clients of its addresses notice nothing until their next ping. The new "
	"primary sends each of them one packet from the address, this many a second, so that they find out and "
	"come back. 0: none.")
SETTING(cluster, fence, PROGRAM, "", 0, 4000, NULL, FIXED,
	"Program run before a promotion for which no peer handed over, with the arguments NODE EPOCH: it "
	"makes sure that the node that was the primary has ended. The promotion waits for it, and goes on "
	"whatever it answers. Empty: none.")
SETTING(cluster, notify, PROGRAM, "", 0, 4000, NULL, FIXED,
	"Program run at each change of state, with the arguments NODE OLD NEW EPOCH REASON. Never two at a "
	"time: the next waits for the one before. Empty: none.")
SETTING(cluster, notify_timeout, DURATION_MS, "10s", 100, 600 * SETTINGS_SEC, NULL, FIXED,
	"fence, notify and check programs that run longer than this are killed; checks after check_timeout.")
SETTING(cluster, notify_user, STRING, "", 0, 32, NULL, FIXED,
	"User that these programs run as when the supervisor is root. Empty: node.user, or nobody when that is "
	"empty too.")
SETTING(cluster, notify_fifo, PATH, "", 0, 4000, NULL, FIXED,
	"Named pipe, made when missing, into which the same words are written, a line for each change. Empty: "
	"none.")
SETTINGS_GROUP_END(cluster)

SETTINGS_GROUP(drain, "Sending clients away, so that they come back to another node.")
SETTING(drain, window, DURATION_MS, "10s", 0, 3600 * SETTINGS_SEC, NULL, RELOADABLE,
	"Time over which a node that is drained, or demoted in good order, closes its clients' connections, "
	"evenly. Less than cluster.demote_timeout.")
SETTINGS_GROUP_END(drain)

SETTINGS_GROUP(takeover, "Reloads and upgrades, in which one worker takes over from another.")
SETTING(takeover, linger, DURATION_MS, "10s", 0, 15 * SETTINGS_SEC, NULL, RELOADABLE,
	"How long the worker that was taken over from stays to end the TLS handshakes it has begun; their "
	"connections then go to the one that serves. What takes longer is closed, and counted as dropped.")
SETTINGS_GROUP_END(takeover)

SETTINGS_GROUP(http_api, "The server HTTP API under /api.")
SETTING(http_api, key_file, PATH, "", 0, 4000, NULL, RELOADABLE,
	"File whose first line is the API key; nobody but its owner may read it (mode 0600). Empty: "
	"every call gets 401.")
SETTING(http_api, insecure, BOOL, "false", 0, 0, NULL, RELOADABLE,
	"Serve the API to everybody, without a key. For development only.")
SETTING(http_api, error_mode, STRING, "", 0, 16, check_error_mode, RELOADABLE,
	"transport: errors have an HTTP status such as 404. Empty: errors have the status 200.")
SETTING(http_api, idempotency_result_ttl, DURATION_MS, "300s", SETTINGS_SEC, SETTINGS_DAY, NULL, RELOADABLE,
	"How long a publication's idempotency_key is remembered.")
SETTINGS_GROUP_END(http_api)

SETTINGS_GROUP(admin, "The admin socket, which keepsockctl talks to.")
SETTING(admin, socket, PATH, "", 0, 107, NULL, RELOADABLE,
	"Path of the socket. Empty: admin.sock in node.run_dir.")
SETTING(admin, mode, STRING, "0600", 3, 4, check_file_mode, RELOADABLE,
	"Permissions of the socket, octal, as a string.")
SETTINGS_GROUP_END(admin)

SETTINGS_GROUP(memory, "Memory of the worker processes.")
SETTING(memory, arena_size, SIZE, "1073741824", 16 * SETTINGS_MIB, 1024 * SETTINGS_GIB, NULL, RELOADABLE,
	"Most memory one worker's connections, with all their queues, may take. Near it the worker "
	"refuses connections, then closes the slowest.")
SETTINGS_GROUP_END(memory)

LISTENER_SETTING(address, STRING, "0.0.0.0", 1, 64, check_ip_address, RELOADABLE,
	"IPv4 or IPv6 address to listen on.")
LISTENER_SETTING(port, INT, "8000", 1, 65535, NULL, RELOADABLE,
	"TCP port to listen on.")
LISTENER_SETTING(https_redirect_port, INT, "0", 0, 65535, NULL, RELOADABLE,
	"Requests to this listener, which has no tls, are sent to https:// on this port (308), except "
	"/health, /ready and ACME challenges. 443 for the usual one; 0: they are served.")
LISTENER_SETTING(when, STRING, "always", 1, 16, check_listener_when, RELOADABLE,
	"always, or primary: it is opened when the node is promoted and closed when it is demoted. A node "
	"without cluster.peers opens it like any other.")

TLS_SETTING(min_version, STRING, "1.2", 3, 3, check_tls_version, RELOADABLE,
	"Oldest version of TLS: 1.2 or 1.3.")
TLS_SETTING(max_version, STRING, "1.3", 3, 3, check_tls_version, RELOADABLE,
	"Newest version of TLS: 1.2 or 1.3.")
TLS_SETTING(cipher_suites, STRING_LIST, "[]", 0, 40, NULL, RELOADABLE,
	"Cipher suites by OpenSSL's names, the preferred first; all of them AEAD. Empty: those of TLS 1.3 "
	"with AES-GCM and ChaCha20, and of TLS 1.2 the same with ECDHE.")
TLS_SETTING(curves, STRING_LIST, "[]", 0, 16, NULL, RELOADABLE,
	"Groups for the key exchange by OpenSSL's names, the preferred first. Empty: X25519, P-256, P-384.")
TLS_SETTING(client_verify, STRING, "off", 3, 8, check_client_verify, RELOADABLE,
	"Certificates of clients: off, optional (a wrong one is refused, none is fine) or required.")
TLS_SETTING(client_ca, PATH, "", 0, 4000, NULL, RELOADABLE,
	"PEM file with the certificates of the authorities that clients' certificates must come from.")
TLS_SETTING(client_crl, PATH, "", 0, 4000, NULL, RELOADABLE,
	"PEM file with revocation lists, one of each of these authorities. Empty: nobody is revoked.")
TLS_SETTING(ticket_lifetime, DURATION_MS, "12h", 0, 7 * SETTINGS_DAY, NULL, RELOADABLE,
	"For how long a client can resume its session by a ticket; the tickets' key changes as often. 0: "
	"there are no tickets.")
TLS_SETTING(ticket_secret_file, PATH, "", 0, 4000, NULL, RELOADABLE,
	"File with the secret that the tickets' keys are made from, the same on all nodes, so that clients "
	"resume after a failover too; nobody but its owner may read it (mode 0600). A line of 32 or more "
	"characters; further lines are older secrets, still accepted. Empty: a random one of this node.")
TLS_SETTING(handshake_timeout, DURATION_MS, "10s", 100, 600 * SETTINGS_SEC, NULL, RELOADABLE,
	"How long a handshake may take.")
TLS_SETTING(handshake_limit, INT, "1000", 1, 1000000, NULL, RELOADABLE,
	"Most handshakes that one worker has under way on this listener; further connections wait to be "
	"accepted.")
TLS_SETTING(handshake_rate, INT, "1000", 0, 1000000, NULL, RELOADABLE,
	"Most handshakes that one worker begins in a second on this listener; further connections wait to "
	"be accepted. 0: no limit.")
TLS_SETTING(hsts_max_age, DURATION_MS, "0", 0, 1000 * SETTINGS_DAY, NULL, RELOADABLE,
	"Every response tells browsers to use nothing but TLS with this host for so long "
	"(Strict-Transport-Security). 0: none does.")
TLS_SETTING(hsts_subdomains, BOOL, "false", 0, 0, NULL, RELOADABLE,
	"hsts_max_age is meant for the hosts below this one too.")

CERTIFICATE_SETTING(certificate, PATH, "", 1, 4000, NULL, RELOADABLE,
	"PEM file with the certificate, then those that lead from it to an authority that clients know.")
CERTIFICATE_SETTING(key, PATH, "", 1, 4000, NULL, RELOADABLE,
	"PEM file with its private key, not encrypted; only its owner and group may read it (mode 0600 or 0640).")

NAMESPACE_SETTING(name, STRING, "", 2, 64, check_namespace_name, RELOADABLE,
	"Name of the namespace, which its channels have before the first colon: two or more letters, "
	"digits, hyphens, underscores and dots.")

/* clang-format on */

#undef TOKEN_SETTINGS
#undef SETTINGS_CHANNEL_GROUP
#undef CHANNEL_SETTING
#undef NAMESPACE_SETTING
#undef SETTINGS_GROUP
#undef SETTINGS_GROUP_END
#undef SETTING
#undef LISTENER_SETTING
#undef TLS_SETTING
#undef CERTIFICATE_SETTING

/* SPDX-License-Identifier: ISC */
/*
 * The settings of keepsock.conf as one struct, made from settings_table.h:
 * settings->client.ping_interval, settings->node.name, ... The master reads
 * the file and hands the same text to its workers, so all parse alike. Nothing
 * here opens a file.
 */
#ifndef KEEPSOCK_SETTINGS_H
#define KEEPSOCK_SETTINGS_H

#include <regex.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "keepsock/buffer.h"
#include "keepsock/slice.h"

struct settings_list {
	char **items; /* owned, NULL when empty */
	size_t count;
};

/* What each TYPE of the table is in C. Strings are owned and never NULL. */
#define SETTINGS_CTYPE_BOOL        bool
#define SETTINGS_CTYPE_INT         int64_t
#define SETTINGS_CTYPE_SIZE        int64_t
#define SETTINGS_CTYPE_DURATION_MS int64_t
#define SETTINGS_CTYPE_STRING      char *
#define SETTINGS_CTYPE_PATH        char *
#define SETTINGS_CTYPE_PROGRAM     char *
#define SETTINGS_CTYPE_TARGET      char *
#define SETTINGS_CTYPE_URL         char *
#define SETTINGS_CTYPE_STRING_LIST struct settings_list
#define SETTINGS_CTYPE_URL_LIST    struct settings_list

/* What all channels of a namespace, or those without one, have in common. */
struct channel_options {
#define CHANNEL_SETTING(name, type, default_text, min, max, check, change, doc) \
	SETTINGS_CTYPE_##type name;
#include "keepsock/settings_table.h"
	regex_t *regex; /* channel_regex compiled; owned; NULL when it is "" */
};

/* One element of the list `namespaces`. */
struct settings_namespace {
#define NAMESPACE_SETTING(name, type, default_text, min, max, check, change, doc) \
	SETTINGS_CTYPE_##type name;
#include "keepsock/settings_table.h"
	struct channel_options options;
};

/* One element of a listener's list `tls.certificates`. */
struct settings_certificate {
#define CERTIFICATE_SETTING(name, type, default_text, min, max, check, change, doc) \
	SETTINGS_CTYPE_##type name;
#include "keepsock/settings_table.h"
	int line; /* of the file, for messages */
};

/* The group `tls` of a listener. */
struct settings_tls {
#define TLS_SETTING(name, type, default_text, min, max, check, change, doc) \
	SETTINGS_CTYPE_##type name;
#include "keepsock/settings_table.h"
	struct settings_certificate *certificates; /* owned; at least one when enabled */
	size_t certificate_count;
	bool enabled; /* the group is there */
	int line;     /* of the file, for messages */
};

/* One element of the list `listeners`: address, port, tls. */
struct settings_listener {
#define LISTENER_SETTING(name, type, default_text, min, max, check, change, doc) \
	SETTINGS_CTYPE_##type name;
#include "keepsock/settings_table.h"
	struct settings_tls tls;
};

struct settings {
#define SETTINGS_GROUP(group, doc) struct {
#define SETTING(group, name, type, default_text, min, max, check, change, doc) \
	SETTINGS_CTYPE_##type name;
#define SETTINGS_GROUP_END(group) \
	}                         \
	group;
#define SETTINGS_CHANNEL_GROUP(doc) struct channel_options channel;
#include "keepsock/settings_table.h"
	struct settings_listener *listeners; /* owned; at least one */
	size_t listener_count;
	struct settings_namespace *namespaces; /* owned; sorted by name */
	size_t namespace_count;
};

#define SETTINGS_LISTENERS_MAX    16
#define SETTINGS_NAMESPACES_MAX   256
#define SETTINGS_CERTIFICATES_MAX 16 /* of a listener */

/*
 * Parses a whole configuration file; "" is one, and gives the defaults.
 * display_name stands in messages, and relative paths in the text are taken
 * from its directory (itself relative to the current one). 0 with *out filled
 * (free with settings_free()), or -1 with *out empty and one line
 * "FILE:LINE: what is wrong, what to do" appended to error.
 */
int settings_parse(const char *text, const char *display_name, struct settings *out,
		   struct buffer *error);

/*
 * The same for a file that is to replace what is in force: a FIXED setting that
 * differs is an error too, with its line.
 */
int settings_parse_change(const char *text, const char *display_name, const struct settings *from,
			  struct settings *out, struct buffer *error);

/* Leaves *s empty; harmless to call again. */
void settings_free(struct settings *s);

/* Calls fn for each combination that works but is dangerous, with a sentence for the log. */
void settings_warnings(const struct settings *s, void (*fn)(void *ctx, const char *text),
		       void *ctx);

/*
 * Calls fn for each setting, in the table's order, then listeners
 * ("listeners[0].port") and namespaces ("namespaces.chat.presence"). Values are texts as in the
 * file without quotes, and passwords are replaced by "***".
 */
typedef void settings_each_fn(void *ctx, const char *name, const char *type, const char *value,
			      const char *default_value, bool reloadable, const char *doc);
void settings_each(const struct settings *s, settings_each_fn *fn, void *ctx);

/*
 * The name of the first FIXED setting in which the two differ, NULL when a
 * reload may go from one to the other.
 */
const char *settings_find_fixed_change(const struct settings *from, const struct settings *to);

/* docs/keepsock.conf.5.md and etc/keepsock.conf; false when the stream failed. */
bool settings_write_man(FILE *out);
bool settings_write_example(FILE *out);

/* In a channel's name: ends the namespace; comes first, before it, in a private channel's. */
#define CHANNEL_NAMESPACE_BOUNDARY ':'
#define CHANNEL_PRIVATE_PREFIX     '$'

/*
 * The text before the first boundary without the private prefix: "chat" of
 * "$chat:room". data is NULL when the name has no boundary.
 */
struct slice settings_channel_namespace(struct slice channel);

/* Whether one of the listeners has TLS. */
bool settings_uses_tls(const struct settings *s);

/* NULL when no namespace has this name. */
const struct settings_namespace *settings_find_namespace(const struct settings *s,
							 struct slice name);

/* Of the channel's namespace, or settings.channel; NULL when it names an unknown namespace. */
const struct channel_options *settings_channel_options(const struct settings *s,
						       struct slice channel);

/* admin.mode as a number. */
mode_t settings_admin_mode(const struct settings *s);

struct settings_host_port {
	char *host; /* owned */
	uint16_t port;
};

#define SETTINGS_SENTINELS_MAX 16

/*
 * redis.server when it is a URL, or one of redis.shards, decoded. Strings are
 * owned by the struct, "" when absent. Of a sentinel:// URL host is "" and port
 * 0, and sentinels has at least one element.
 */
struct settings_redis_url {
	char *user;
	char *password;
	char *host;
	uint16_t port;
	int db;
	char *master_name;
	struct settings_host_port sentinels[SETTINGS_SENTINELS_MAX];
	size_t sentinel_count;
};

/* NULL, or what is wrong with the URL, *out then being empty. */
const char *settings_redis_url_parse(const char *url, struct settings_redis_url *out);

/* Wipes the password too. */
void settings_redis_url_free(struct settings_redis_url *url);

/* One of redis.shards, or redis.server. */
const char *settings_redis_shard_url(const struct settings *s, uint32_t shard);

/* How many redis.shards there are, or 1. */
uint32_t settings_redis_shard_count(const struct settings *s);

/* Open files that the connections of one worker to Redis take at most. */
uint64_t settings_redis_descriptors(const struct settings *s);

/* The node has peers: it starts as a standby, and is promoted. */
bool settings_have_roles(const struct settings *s);

/* Open in the role of the primary only. */
bool settings_listener_is_primary(const struct settings_listener *listener);

/* One of cluster.peers; name is owned, as the host of the place. */
struct settings_peer {
	char *name;
	struct settings_host_port place;
};

/* NULL, or what is wrong with it, *out then being empty. */
const char *settings_peer_parse(const char *text, struct settings_peer *out);
void settings_peer_free(struct settings_peer *peer);

/* "ADDRESS:PORT" or "[ADDRESS]:PORT"; host is owned. NULL, or what is wrong with it. */
const char *settings_address_port_parse(const char *text, struct settings_host_port *out);

/* One of cluster.vip. */
struct settings_vip {
	int family;                /* AF_INET, AF_INET6 */
	unsigned char address[16]; /* network order; 4 of them with AF_INET */
	unsigned prefix;           /* bits */
};

/* NULL, or what is wrong with it. */
const char *settings_vip_parse(const char *text, struct settings_vip *out);

/* What the timings of the group cluster amount to, all in ms. */
struct settings_timing {
	int64_t hold;       /* a lease is held this long after its renewal was sent */
	int64_t voucher;    /* a primary's word over the peer link counts this long */
	int64_t promise;    /* who granted a peer lease acquires nothing for this long */
	int64_t node_fault; /* worst: from a node's fault to the standby's promotion */
	int64_t host_lost;  /* worst: from the loss of the host to the standby's promotion */
};

struct settings_timing settings_timing_of(const struct settings *s);

#endif

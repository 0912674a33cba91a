/* SPDX-License-Identifier: ISC */
/*
 * The client protocol's messages, free of any wire format: commands as structs,
 * replies and pushes as structs, and the codec that turns them from and to bytes
 * (JSON, wire compatible with Centrifugo). Runs in the workers. It knows no
 * connection and no channel state, never allocates beyond the caller's buffers,
 * and never changes a payload.
 */
#ifndef KEEPSOCK_CLIENT_PROTOCOL_H
#define KEEPSOCK_CLIENT_PROTOCOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "keepsock/buffer.h"
#include "keepsock/json.h"
#include "keepsock/slice.h"

/* ---- Codes ---- */

/* Error replies: name, code, message, temporary (the client may retry). */
#define CLIENT_ERROR_TABLE(X)                                           \
	X(INTERNAL, 100, "internal server error", true)                 \
	X(UNAUTHORIZED, 101, "unauthorized", false)                     \
	X(UNKNOWN_CHANNEL, 102, "unknown channel", false)               \
	X(PERMISSION_DENIED, 103, "permission denied", false)           \
	X(METHOD_NOT_FOUND, 104, "method not found", false)             \
	X(ALREADY_SUBSCRIBED, 105, "already subscribed", false)         \
	X(LIMIT_EXCEEDED, 106, "limit exceeded", false)                 \
	X(BAD_REQUEST, 107, "bad request", false)                       \
	X(NOT_AVAILABLE, 108, "not available", false)                   \
	X(TOKEN_EXPIRED, 109, "token expired", false)                   \
	X(EXPIRED, 110, "expired", false)                               \
	X(TOO_MANY_REQUESTS, 111, "too many requests", true)            \
	X(UNRECOVERABLE_POSITION, 112, "unrecoverable position", false) \
	X(CONCURRENT_PAGINATION, 113, "concurrent pagination", true)

/*
 * Disconnects: name, WebSocket close code, reason. SDKs read the code only when
 * there is a reason and try to parse the reason as JSON first, so a reason is
 * plain words, never empty, never valid JSON, at most 123 bytes (RFC 6455 5.5).
 * 3000–3499 make the client come back, 3500–3999 end it.
 */
#define CLIENT_DISCONNECT_TABLE(X)                                       \
	X(CONNECTION_CLOSED, 3000, "connection closed") /* never sent */ \
	X(SHUTDOWN, 3001, "shutdown")                                    \
	X(SERVER_ERROR, 3004, "internal server error")                   \
	X(EXPIRED, 3005, "connection expired")                           \
	X(SUBSCRIPTION_EXPIRED, 3006, "subscription expired")            \
	X(SLOW, 3008, "slow")                                            \
	X(WRITE_ERROR, 3009, "write error")                              \
	X(INSUFFICIENT_STATE, 3010, "insufficient state")                \
	X(FORCE_RECONNECT, 3011, "force reconnect")                      \
	X(NO_PONG, 3012, "no pong")                                      \
	X(TOO_MANY_REQUESTS, 3013, "too many requests")                  \
	X(STATE_INVALIDATED, 3014, "state invalidated")                  \
	X(INVALID_TOKEN, 3500, "invalid token")                          \
	X(BAD_REQUEST, 3501, "bad request")                              \
	X(STALE, 3502, "stale")                                          \
	X(FORCE_DISCONNECT, 3503, "force disconnect")                    \
	X(CONNECTION_LIMIT, 3504, "connection limit")                    \
	X(CHANNEL_LIMIT, 3505, "channel limit")                          \
	X(INAPPROPRIATE_PROTOCOL, 3506, "inappropriate protocol")        \
	X(PERMISSION_DENIED, 3507, "permission denied")                  \
	X(NOT_AVAILABLE, 3508, "not available")                          \
	X(TOO_MANY_ERRORS, 3509, "too many errors")

/* Ends of a subscription: name, code, reason. From 2500 on the client subscribes again. */
#define CLIENT_UNSUBSCRIBE_TABLE(X)                                 \
	X(CLIENT, 0, "client unsubscribed")     /* internal only */ \
	X(DISCONNECT, 1, "client disconnected") /* internal only */ \
	X(SERVER, 2000, "server unsubscribe")                       \
	X(INSUFFICIENT_STATE, 2500, "insufficient state")           \
	X(EXPIRED, 2501, "subscription expired")                    \
	X(STATE_INVALIDATED, 2502, "state invalidated")

enum client_error_code {
#define X(name, code, message, temporary) CLIENT_ERROR_##name = code,
	CLIENT_ERROR_TABLE(X)
#undef X
};

enum client_disconnect_code {
#define X(name, code, reason) CLIENT_DISCONNECT_##name = code,
	CLIENT_DISCONNECT_TABLE(X)
#undef X
};

enum client_unsubscribe_code {
#define X(name, code, reason) CLIENT_UNSUBSCRIBE_##name = code,
	CLIENT_UNSUBSCRIBE_TABLE(X)
#undef X
};

/* Never NULL and never empty: an unknown code gets a general text. */
const char *client_error_message(uint32_t code);
bool client_error_temporary(uint32_t code);
const char *client_disconnect_reason(uint32_t code);
const char *client_unsubscribe_reason(uint32_t code);

/* ---- Commands ---- */

/*
 * Methods in the order of precedence: of several requests in one command the
 * first in this table counts, wherever it stands in the text.
 */
#define CLIENT_METHOD_TABLE(X)              \
	X(CONNECT, "connect")               \
	X(SUBSCRIBE, "subscribe")           \
	X(UNSUBSCRIBE, "unsubscribe")       \
	X(PUBLISH, "publish")               \
	X(PRESENCE, "presence")             \
	X(PRESENCE_STATS, "presence_stats") \
	X(HISTORY, "history")               \
	X(RPC, "rpc")                       \
	X(SEND, "send")                     \
	X(REFRESH, "refresh")               \
	X(SUB_REFRESH, "sub_refresh")       \
	X(PING, "ping")

enum client_method {
	CLIENT_METHOD_UNKNOWN, /* never in a decoded command */
#define X(name, wire) CLIENT_METHOD_##name,
	CLIENT_METHOD_TABLE(X)
#undef X
		CLIENT_METHOD_PONG, /* the command {} */
	CLIENT_METHOD_COUNT
};

/* "connect", "presence_stats", …; "pong" and "unknown" for those two. */
const char *client_method_name(enum client_method method);

/* Bits of client_command.flag. */
#define CLIENT_FLAG_REJECT_UNRECOVERED 2

/* A place in a channel's stream. */
struct client_position {
	struct slice epoch;
	uint64_t offset;
};

/*
 * A decoded command. Absent fields are zero. Strings are decoded: they point into
 * the raw command or, where it had escapes, into the scratch buffer; both have to
 * stay until the command is done. Fields marked raw are JSON inside the raw
 * command, byte for byte, already validated; empty if absent or null.
 */
struct client_command {
	uint32_t id;
	enum client_method method;
	struct slice channel; /* never empty for a method that has one */
	struct slice token;
	struct slice data;    /* raw */
	struct slice name;    /* connect: the SDK's name */
	struct slice version; /* connect: the application's version */
	struct slice subs;    /* connect, raw object: walk it with client_sub_next() */
	struct slice headers; /* connect, raw object of strings */
	struct slice rpc_method;
	struct slice epoch; /* subscribe: the position to recover from */
	uint64_t offset;
	struct slice delta; /* subscribe */
	struct slice tf;    /* subscribe, raw object: a tags filter */
	int64_t flag;
	int32_t type;
	int32_t limit; /* history */
	bool recover;
	bool positioned;
	bool recoverable;
	bool join_leave;
	bool reverse; /* history */
	bool has_since;
	struct client_position since; /* history */
};

enum client_decode_result {
	CLIENT_DECODE_OK,
	CLIENT_DECODE_BAD_REQUEST, /* disconnect with CLIENT_DISCONNECT_BAD_REQUEST */
};

/* One channel of a connect command's subs. */
struct client_sub {
	struct slice channel;
	struct slice epoch;
	struct slice delta;
	uint64_t offset;
	bool recover;
};

/*
 * Walks command.subs: start with json_object_begin(&it, command.subs), also if it
 * is empty (then there is nothing to walk). scratch must not be the one given to
 * decode(); it is reset at each call, so a sub's slices last until the next call.
 */
bool client_sub_next(struct json_walk *it, struct buffer *scratch, struct client_sub *sub);

/* ---- Replies and pushes ---- */

struct publication {
	struct slice data;  /* raw JSON */
	struct slice info;  /* raw ClientInfo object of the publisher; empty = none */
	struct slice tags;  /* raw JSON object; empty = none */
	uint64_t offset;    /* 0 = no history */
	struct slice epoch; /* only set for the publication that starts an epoch */
	bool delta;
};

struct client_subscribe_result {
	bool expires;
	uint32_t ttl; /* seconds */
	bool recoverable;
	bool positioned;
	bool recovered;
	bool was_recovering;
	bool delta;
	struct slice epoch;
	uint64_t offset;
	struct slice data; /* raw */
	const struct publication *publications;
	size_t n_publications;
};

struct client_connect_sub {
	struct slice channel;
	struct client_subscribe_result result;
};

struct client_connect_result {
	struct slice client; /* UUID; never empty */
	struct slice version;
	bool expires;
	uint32_t ttl;      /* seconds */
	struct slice data; /* raw */
	const struct client_connect_sub *subs;
	size_t n_subs;
	uint32_t ping; /* seconds between pings; 0 = no pings */
	bool pong;
	struct slice session;
	struct slice node;
	uint64_t time; /* wall milliseconds; 0 = not told */
};

struct client_presence_entry {
	struct slice client;
	struct slice info; /* raw ClientInfo object, never empty */
};

struct client_refresh_result {
	struct slice client; /* refresh only; may be empty */
	struct slice version;
	bool expires;
	uint32_t ttl; /* seconds */
};

struct client_error {
	uint32_t code;        /* 0 = no error */
	struct slice message; /* empty = message and temporary from CLIENT_ERROR_TABLE */
	bool temporary;       /* read only if message is given */
};

/* Either error.code is set or the union member named like the method is the result. */
struct client_reply {
	uint32_t id;
	enum client_method method;
	struct client_error error;
	union {
		struct client_connect_result connect;
		struct client_subscribe_result subscribe;
		struct {
			const struct publication *publications;
			size_t n_publications;
			struct slice epoch;
			uint64_t offset;
		} history;
		struct {
			const struct client_presence_entry *entries;
			size_t n_entries;
		} presence;
		struct {
			uint32_t num_clients;
			uint32_t num_users;
		} presence_stats;
		struct {
			struct slice data; /* raw */
		} rpc;
		struct client_refresh_result refresh; /* also for sub_refresh */
	};
};

enum client_push_kind {
	CLIENT_PUSH_PUBLICATION,
	CLIENT_PUSH_JOIN,
	CLIENT_PUSH_LEAVE,
	CLIENT_PUSH_UNSUBSCRIBE,
	CLIENT_PUSH_SUBSCRIBE,
	CLIENT_PUSH_MESSAGE,
	CLIENT_PUSH_DISCONNECT, /* not on WebSocket: there the close frame says it */
	CLIENT_PUSH_REFRESH,
};

struct client_push {
	enum client_push_kind kind;
	struct slice channel; /* empty for message, disconnect and refresh */
	union {
		struct publication publication;
		struct slice info; /* join, leave: raw ClientInfo object */
		struct {
			uint32_t code;
			struct slice reason; /* empty = from the table of codes */
		} end;                       /* unsubscribe, disconnect */
		struct client_subscribe_result subscribe;
		struct slice message; /* raw */
		struct {
			bool expires;
			uint32_t ttl; /* seconds */
		} refresh;
	};
};

/* ---- Codec ---- */

/*
 * Encoders append one message each and never fail. Raw fields must be valid JSON,
 * and a reply without error must be to a method that has a result (not ping, pong, send).
 */
struct message_codec {
	const char *name;
	/*
	 * Cuts the next raw command off a transport message; false = no more. An empty
	 * message or line gives an empty command, which decode() refuses; one line feed
	 * at the end is allowed. Deterministic, so a message can be split again later.
	 */
	bool (*next_command)(struct slice *message, struct slice *command);
	/* Fills *out completely. scratch is reset, then grown once at most: no slice goes stale. */
	enum client_decode_result (*decode)(struct slice raw, struct buffer *scratch,
					    struct client_command *out);
	void (*encode_reply)(struct buffer *out, const struct client_reply *reply);
	void (*encode_push)(struct buffer *out, const struct client_push *push);
	void (*encode_ping)(struct buffer *out);
	/* Between two messages in one frame. */
	void (*join)(struct buffer *out);
};

extern const struct message_codec json_codec;

/*
 * Appends a ClientInfo object: user and client as text, always present; conn_info
 * and chan_info raw JSON, left out if empty. The result is what publication.info,
 * client_presence_entry.info and client_push.info take.
 */
void client_info_encode(struct buffer *out, struct slice user, struct slice client,
			struct slice conn_info, struct slice chan_info);

#endif

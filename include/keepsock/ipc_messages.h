/* SPDX-License-Identifier: ISC */
/*
 * The messages between master and worker: one table of types with who may
 * send them, the contents of IPC_REDIS, and what the master wants every worker
 * to know from the start (struct ipc_start), which comes by its keeper. The
 * transport is ipc.h. A receiver refuses a type that its peer may not send; secrets travel
 * in these messages only, never on a command line or in the environment.
 */
#ifndef KEEPSOCK_IPC_MESSAGES_H
#define KEEPSOCK_IPC_MESSAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "keepsock/redis_shard.h"

struct buffer;

/* Part of the start: a worker refuses a master that speaks another version. */
#define IPC_PROTOCOL_VERSION 6

enum ipc_direction {
	MASTER_TO_WORKER,
	WORKER_TO_MASTER,
};

/* IPC(name, direction, what it carries). Types are numbered from 1, in this order. */
/* clang-format off */
#define IPC_MESSAGES_TABLE(IPC)                                                                    \
	IPC(REQUEST,       MASTER_TO_WORKER, "id; JSON {command, args}")                           \
	IPC(REDIS,         MASTER_TO_WORKER, "JSON {shard, ...struct ipc_redis}: where it is now")  \
	IPC(LOG_LEVEL,     MASTER_TO_WORKER, "the level's name")                                   \
	IPC(ROLE,          MASTER_TO_WORKER, "fds: all listeners of the primary, none on a standby; role and drain are in the node page") \
	IPC(TLS,           MASTER_TO_WORKER, "fd: struct tls_files, sealed: other certificates for the same listeners") \
	IPC(STOP,          MASTER_TO_WORKER, "nothing: close listeners, then clients (3001), exit 0") \
	IPC(MOVE_OUT,      MASTER_TO_WORKER, "id; struct ipc_move_out; fd: channel to the worker that gets connections") \
	IPC(MOVE_IN,       MASTER_TO_WORKER, "fd: channel to the worker that gives connections")   \
	IPC(READY,         WORKER_TO_MASTER, "nothing: the worker accepts clients")                \
	IPC(REPLY,         WORKER_TO_MASTER, "id of the request; JSON {ok, rows} or {ok, error}")  \
	IPC(MOVED,         WORKER_TO_MASTER, "id of MOVE_OUT; struct ipc_moved, text: why not all of them")

enum ipc_type {
	IPC_NONE,
#define IPC(name, direction, doc) IPC_##name,
	IPC_MESSAGES_TABLE(IPC)
#undef IPC
	IPC_TYPE_COUNT
};
/* clang-format on */

/* "START" …; "unknown" for a number that is no type. */
const char *ipc_type_name(uint32_t type);

/* Whether a message of this type may travel in this direction. */
bool ipc_type_allowed(uint32_t type, enum ipc_direction direction);

/* Connections are to move to another worker of the node. */
struct ipc_move_out {
	uint32_t count;    /* at most so many, 0 = all */
	uint32_t limit_ms; /* after that, those that are left stay */
	uint32_t retire;   /* 1: this worker accepts no connections any more */
	uint32_t reserved;
};

struct ipc_moved {
	uint32_t moved;
	uint32_t left; /* connections that this worker still has */
};

/*
 * Where the Redis of a shard is; all strings heap, owned by the struct, never
 * NULL once decoded.
 */
struct ipc_redis {
	char *host;     /* "" = not known yet: IPC_REDIS will tell */
	uint16_t port;  /* 0 = not known yet */
	char *user;     /* "" = the default user */
	char *password; /* "" = none */
	int db;
};

/*
 * The keys of one group of token settings, as text of their files: HMAC secrets
 * as one word, public keys as PEM. All heap, owned by the struct, "" = none.
 */
struct ipc_keys {
	char *hmac;
	char *hmac_previous;
	char *rsa;
	char *ecdsa;
};

/* Positions of the fds that come with struct ipc_start; the listeners follow, in the order of
 * ipc_start.listeners. */
#define IPC_START_FD_NODE_PAGE 0
#define IPC_START_FD_SETTINGS  1
#define IPC_START_FD_TLS       2 /* struct tls_files, sealed */
#define IPC_START_FD_LISTENERS 3
/* Its own, and those of slots that are no more. */
#define IPC_START_LISTENERS_MAX 240

struct ipc_start {
	uint32_t slot;
	uint32_t slots;
	char *node;        /* settings node.name */
	char *config_name; /* display name of the settings text, for settings_parse() */
	char *run_dir;
	uint32_t listeners; /* how many listener fds come with it; nonblocking, listening; those
			       of the slot, once or several times in the same order */
	uint32_t shared_listeners; /* the last ones of them: of the primary, the same in all workers
				    */
	uint32_t shard_count;      /* 1 .. REDIS_SHARDS_MAX */
	struct ipc_redis shards[REDIS_SHARDS_MAX];
	char *api_key;                           /* "" = none */
	struct ipc_keys token_keys;              /* of settings token */
	struct ipc_keys subscription_token_keys; /* of subscription_token; all "" unless enabled */
};

/* Appends the JSON of it; 0, or -1 when one of the strings is not UTF-8. */
int ipc_start_encode(struct buffer *out, const struct ipc_start *start);

/* 0, or -1 with error telling what is wrong; *start is all zero then. */
int ipc_start_decode(const void *payload, size_t len, struct ipc_start *start,
		     struct buffer *error);
void ipc_start_free(struct ipc_start *start); /* wipes the secrets */

struct ipc_keys ipc_keys_none(void);
bool ipc_keys_equal(const struct ipc_keys *a, const struct ipc_keys *b);
void ipc_keys_free(struct ipc_keys *keys); /* wipes them */

/* The same rules for IPC_REDIS. A decoded shard is below REDIS_SHARDS_MAX. */
int ipc_redis_encode(struct buffer *out, uint32_t shard, const struct ipc_redis *redis);
int ipc_redis_decode(const void *payload, size_t len, uint32_t *shard, struct ipc_redis *redis,
		     struct buffer *error);
/* Of a place that is not known yet, but how to sign in there is. */
struct ipc_redis ipc_redis_unknown(const char *user, const char *password, int db);
bool ipc_redis_known(const struct ipc_redis *redis);
struct ipc_redis ipc_redis_copy(const struct ipc_redis *redis);
bool ipc_redis_equal(const struct ipc_redis *a, const struct ipc_redis *b);
void ipc_redis_free(struct ipc_redis *redis); /* wipes the password */

#endif

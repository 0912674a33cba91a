/* SPDX-License-Identifier: ISC */
/*
 * What `keepsockd -t` finds out beyond the configuration's own rules, and what
 * the master needs resolved before it starts: secrets from their files, where
 * Redis is, how many workers.
 */
#ifndef KEEPSOCK_NODE_CHECK_H
#define KEEPSOCK_NODE_CHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "keepsock/redis_shard.h"

struct buffer;
struct ipc_keys;
struct ipc_redis;
struct settings;

/* node.workers, or the cores this process may use; 1..NODE_WORKERS_MAX. */
uint32_t node_worker_count(const struct settings *settings);

bool node_uses_embedded_redis(const struct settings *settings);

/* The API key, "" = none; heap (wipe it). NULL with error. */
char *node_read_api_key(const struct settings *settings, struct buffer *error);

/*
 * The keys of tokens from their files, tried out, those of subscription_token
 * only when it is enabled; free both. 0, or -1 with error and nothing to free.
 */
int node_read_token_keys(const struct settings *settings, struct ipc_keys *token,
			 struct ipc_keys *subscription, struct buffer *error);

/*
 * The external servers, a shard each, password file included. 0, or -1 with
 * error; free the first *count of them in either case.
 */
int node_find_external_redis(const struct settings *settings,
			     struct ipc_redis shards[REDIS_SHARDS_MAX], uint32_t *count,
			     struct buffer *error);

/* The Sentinels' password, "" = none; heap (wipe it). NULL with error. */
char *node_read_sentinel_password(const struct settings *settings, struct buffer *error);

/* Tells of everything that works but should worry the operator. */
void node_warnings(const struct settings *settings, unsigned long open_file_limit,
		   void (*fn)(void *ctx, const char *text), void *ctx);

/* The files that the settings name can be used; 0, or -1 with error. */
int node_check_files(const struct settings *settings, struct buffer *error);

#endif

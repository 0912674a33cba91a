/* SPDX-License-Identifier: ISC */
/*
 * What travels between master and worker: the table of message types and the
 * JSON of struct ipc_start and IPC_REDIS. Runs in both; a missing or mistyped member
 * is an error, never a default, since both sides are one binary.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/ipc_messages.h"
#include "keepsock/secret.h"

struct ipc_definition {
	const char *name;
	enum ipc_direction direction;
};

static const struct ipc_definition definitions[IPC_TYPE_COUNT] = {
#define IPC(type, type_direction, doc) [IPC_##type] = {#type, type_direction},
	IPC_MESSAGES_TABLE(IPC)
#undef IPC
};

const char *ipc_type_name(uint32_t type)
{
	if (type == IPC_NONE || type >= IPC_TYPE_COUNT)
		return "unknown";
	return definitions[type].name;
}

bool ipc_type_allowed(uint32_t type, enum ipc_direction direction)
{
	return type != IPC_NONE && type < IPC_TYPE_COUNT &&
	       definitions[type].direction == direction;
}

static void free_secret(char *secret)
{
	if (secret)
		secret_wipe(secret, strlen(secret));
	free(secret);
}

void ipc_redis_free(struct ipc_redis *redis)
{
	free(redis->host);
	free(redis->user);
	free_secret(redis->password);
	memset(redis, 0, sizeof(*redis));
}

struct ipc_redis ipc_redis_copy(const struct ipc_redis *redis)
{
	return (struct ipc_redis){
		.host = xstrdup(redis->host),
		.port = redis->port,
		.user = xstrdup(redis->user),
		.password = xstrdup(redis->password),
		.db = redis->db,
	};
}

struct ipc_redis ipc_redis_unknown(const char *user, const char *password, int db)
{
	return (struct ipc_redis){
		.host = xstrdup(""),
		.user = xstrdup(user),
		.password = xstrdup(password),
		.db = db,
	};
}

bool ipc_redis_known(const struct ipc_redis *redis)
{
	return redis->host && redis->host[0] != '\0';
}

bool ipc_redis_equal(const struct ipc_redis *a, const struct ipc_redis *b)
{
	return a->port == b->port && a->db == b->db && strcmp(a->host, b->host) == 0 &&
	       strcmp(a->user, b->user) == 0 && strcmp(a->password, b->password) == 0;
}

struct ipc_keys ipc_keys_none(void)
{
	return (struct ipc_keys){xstrdup(""), xstrdup(""), xstrdup(""), xstrdup("")};
}

bool ipc_keys_equal(const struct ipc_keys *a, const struct ipc_keys *b)
{
	return strcmp(a->hmac, b->hmac) == 0 && strcmp(a->hmac_previous, b->hmac_previous) == 0 &&
	       strcmp(a->rsa, b->rsa) == 0 && strcmp(a->ecdsa, b->ecdsa) == 0;
}

void ipc_keys_free(struct ipc_keys *keys)
{
	free_secret(keys->hmac);
	free_secret(keys->hmac_previous);
	free_secret(keys->rsa);
	free_secret(keys->ecdsa);
	memset(keys, 0, sizeof(*keys));
}

void ipc_start_free(struct ipc_start *start)
{
	free(start->node);
	free(start->config_name);
	free(start->run_dir);
	free_secret(start->api_key);
	ipc_keys_free(&start->token_keys);
	ipc_keys_free(&start->subscription_token_keys);
	for (uint32_t i = 0; i < REDIS_SHARDS_MAX; i++)
		ipc_redis_free(&start->shards[i]);
	memset(start, 0, sizeof(*start));
}

static json_t *redis_to_json(const struct ipc_redis *redis)
{
	return json_pack("{s:s, s:i, s:s, s:s, s:i}", "host", redis->host, "port", (int)redis->port,
			 "user", redis->user, "password", redis->password, "db", redis->db);
}

static json_t *keys_to_json(const struct ipc_keys *keys)
{
	return json_pack("{s:s, s:s, s:s, s:s}", "hmac", keys->hmac, "hmac_previous",
			 keys->hmac_previous, "rsa", keys->rsa, "ecdsa", keys->ecdsa);
}

/* Takes over json. */
static int append_json(struct buffer *out, json_t *json)
{
	char *text;

	if (!json)
		return -1;
	text = json_dumps(json, JSON_COMPACT);
	json_decref(json);
	if (!text)
		return -1;
	buffer_append_str(out, text);
	free_secret(text);
	return 0;
}

int ipc_redis_encode(struct buffer *out, uint32_t shard, const struct ipc_redis *redis)
{
	json_t *json = redis_to_json(redis);

	if (!json)
		return -1;
	return append_json(out, json_pack("{s:I, s:o}", "shard", (json_int_t)shard, "redis", json));
}

static json_t *shards_to_json(const struct ipc_start *start)
{
	json_t *shards = json_array();

	for (uint32_t i = 0; i < start->shard_count; i++) {
		/* Appending NULL fails, as it should. */
		if (json_array_append_new(shards, redis_to_json(&start->shards[i])) != 0) {
			json_decref(shards);
			return NULL;
		}
	}
	return shards;
}

int ipc_start_encode(struct buffer *out, const struct ipc_start *start)
{
	/* A member that is NULL makes the whole NULL, as it should. */
	return append_json(
		out, json_pack("{s:i, s:I, s:I, s:s, s:s, s:s, s:I, s:I, s:o, s:s, s:o, s:o}",
			       "version", IPC_PROTOCOL_VERSION, "slot", (json_int_t)start->slot,
			       "slots", (json_int_t)start->slots, "node", start->node,
			       "config_name", start->config_name, "run_dir", start->run_dir,
			       "listeners", (json_int_t)start->listeners, "shared_listeners",
			       (json_int_t)start->shared_listeners, "shards", shards_to_json(start),
			       "api_key", start->api_key, "token_keys",
			       keys_to_json(&start->token_keys), "subscription_token_keys",
			       keys_to_json(&start->subscription_token_keys)));
}

/* NULL with error set when the payload is no JSON object. */
static json_t *parse(const void *payload, size_t len, struct buffer *error)
{
	json_error_t why;
	json_t *json = json_loadb(payload, len, JSON_REJECT_DUPLICATES, &why);

	if (!json)
		buffer_printf(error, "bad JSON: %s", why.text);
	return json;
}

static int redis_from_json(json_t *json, struct ipc_redis *redis, struct buffer *error)
{
	const char *host, *user, *password;
	json_error_t why;
	int port, db;

	if (json_unpack_ex(json, &why, JSON_STRICT, "{s:s, s:i, s:s, s:s, s:i}", "host", &host,
			   "port", &port, "user", &user, "password", &password, "db", &db) != 0) {
		buffer_printf(error, "redis: %s", why.text);
		return -1;
	}
	if (port < 0 || port > UINT16_MAX || (port == 0) != (host[0] == '\0') || db < 0) {
		buffer_printf(error, "redis: port %d or db %d is out of range", port, db);
		return -1;
	}
	redis->host = xstrdup(host);
	redis->port = (uint16_t)port;
	redis->user = xstrdup(user);
	redis->password = xstrdup(password);
	redis->db = db;
	return 0;
}

static int redis_message_from_json(json_t *json, uint32_t *shard, struct ipc_redis *redis,
				   struct buffer *error)
{
	json_error_t why;
	json_int_t number;
	json_t *object;

	if (json_unpack_ex(json, &why, JSON_STRICT, "{s:I, s:o}", "shard", &number, "redis",
			   &object) != 0) {
		buffer_printf(error, "%s", why.text);
		return -1;
	}
	if (number < 0 || number >= (json_int_t)REDIS_SHARDS_MAX) {
		buffer_append_str(error, "shard is out of range");
		return -1;
	}
	*shard = (uint32_t)number;
	return redis_from_json(object, redis, error);
}

int ipc_redis_decode(const void *payload, size_t len, uint32_t *shard, struct ipc_redis *redis,
		     struct buffer *error)
{
	json_t *json = parse(payload, len, error);
	int result = -1;

	*shard = 0;
	memset(redis, 0, sizeof(*redis));
	if (json)
		result = redis_message_from_json(json, shard, redis, error);
	json_decref(json);
	return result;
}

/* The numbers as they came, before their range is known. */
struct start_numbers {
	json_int_t slot, slots, listeners, shared_listeners;
};

static bool start_numbers_valid(const struct start_numbers *n)
{
	return n->slots >= 1 && n->slots <= UINT32_MAX && n->slot >= 0 && n->slot < n->slots &&
	       n->listeners >= 0 && n->listeners <= UINT32_MAX && n->shared_listeners >= 0 &&
	       n->shared_listeners <= n->listeners;
}

static int shards_from_json(json_t *json, struct ipc_start *start, struct buffer *error)
{
	size_t count = json_array_size(json);

	if (count < 1 || count > REDIS_SHARDS_MAX) {
		buffer_append_str(error, "shards is no list, or its length is out of range");
		return -1;
	}
	for (size_t i = 0; i < count; i++) {
		if (redis_from_json(json_array_get(json, i), &start->shards[i], error) != 0)
			return -1;
	}
	start->shard_count = (uint32_t)count;
	return 0;
}

static int keys_from_json(json_t *json, struct ipc_keys *keys, struct buffer *error)
{
	const char *hmac, *previous, *rsa, *ecdsa;
	json_error_t why;

	if (json_unpack_ex(json, &why, JSON_STRICT, "{s:s, s:s, s:s, s:s}", "hmac", &hmac,
			   "hmac_previous", &previous, "rsa", &rsa, "ecdsa", &ecdsa) != 0) {
		buffer_printf(error, "keys: %s", why.text);
		return -1;
	}
	*keys = (struct ipc_keys){xstrdup(hmac), xstrdup(previous), xstrdup(rsa), xstrdup(ecdsa)};
	return 0;
}

/* The members that own memory and may be refused; the caller frees them then. */
static int start_objects_from_json(json_t *shards, json_t *keys, json_t *subscription_keys,
				   struct ipc_start *start, struct buffer *error)
{
	if (shards_from_json(shards, start, error) != 0 ||
	    keys_from_json(keys, &start->token_keys, error) != 0)
		return -1;
	return keys_from_json(subscription_keys, &start->subscription_token_keys, error);
}

static int start_from_json(json_t *json, struct ipc_start *start, struct buffer *error)
{
	const char *node, *config_name, *run_dir, *api_key;
	json_t *shards, *keys, *subscription_keys;
	struct start_numbers n;
	json_error_t why;
	int version;

	if (json_unpack_ex(json, &why, 0, "{s:i}", "version", &version) != 0 ||
	    version != IPC_PROTOCOL_VERSION) {
		buffer_printf(error, "the other side does not speak version %d",
			      IPC_PROTOCOL_VERSION);
		return -1;
	}
	if (json_unpack_ex(json, &why, JSON_STRICT,
			   "{s:i, s:I, s:I, s:s, s:s, s:s, s:I, s:I, s:o, s:s, s:o, s:o}",
			   "version", &version, "slot", &n.slot, "slots", &n.slots, "node", &node,
			   "config_name", &config_name, "run_dir", &run_dir, "listeners",
			   &n.listeners, "shared_listeners", &n.shared_listeners, "shards", &shards,
			   "api_key", &api_key, "token_keys", &keys, "subscription_token_keys",
			   &subscription_keys) != 0) {
		buffer_printf(error, "%s", why.text);
		return -1;
	}
	if (!start_numbers_valid(&n)) {
		buffer_append_str(error, "slot, slots or listeners is out of range");
		return -1;
	}
	if (start_objects_from_json(shards, keys, subscription_keys, start, error) != 0)
		return -1;
	start->slot = (uint32_t)n.slot;
	start->slots = (uint32_t)n.slots;
	start->listeners = (uint32_t)n.listeners;
	start->shared_listeners = (uint32_t)n.shared_listeners;
	start->node = xstrdup(node);
	start->config_name = xstrdup(config_name);
	start->run_dir = xstrdup(run_dir);
	start->api_key = xstrdup(api_key);
	return 0;
}

int ipc_start_decode(const void *payload, size_t len, struct ipc_start *start, struct buffer *error)
{
	json_t *json = parse(payload, len, error);
	int result = -1;

	memset(start, 0, sizeof(*start));
	if (json)
		result = start_from_json(json, start, error);
	json_decref(json);
	if (result != 0)
		ipc_start_free(start);
	return result;
}

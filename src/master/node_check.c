/* SPDX-License-Identifier: ISC */
/*
 * Resolving and checking what the configuration refers to. Runs in the master
 * at start and under `keepsockd -t`; changes nothing.
 */
#include <inttypes.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/ipc_messages.h"
#include "keepsock/node_check.h"
#include "keepsock/node_page.h"
#include "keepsock/secret.h"
#include "keepsock/settings.h"
#include "keepsock/text_file.h"
#include "keepsock/token_settings.h"

/* Listeners, arena, pipes, logs and files being served. */
#define DESCRIPTORS_OF_A_WORKER 64

uint32_t node_worker_count(const struct settings *settings)
{
	cpu_set_t cores;
	int count = 1;

	if (settings->node.workers > 0)
		return (uint32_t)settings->node.workers;
	if (sched_getaffinity(0, sizeof(cores), &cores) == 0)
		count = CPU_COUNT(&cores);
	return count > NODE_WORKERS_MAX ? NODE_WORKERS_MAX : (uint32_t)count;
}

bool node_uses_embedded_redis(const struct settings *settings)
{
	return settings->redis.shards.count == 0 && strcmp(settings->redis.server, "embedded") == 0;
}

char *node_read_api_key(const struct settings *settings, struct buffer *error)
{
	if (settings->http_api.key_file[0] == '\0')
		return xstrdup("");
	return text_file_read_secret(settings->http_api.key_file, error);
}

/* Which file holds which key. */
struct key_files {
	const char *hmac, *hmac_previous, *rsa, *ecdsa;
};

static char *read_key(const char *path, char *read(const char *path, struct buffer *error),
		      struct buffer *error)
{
	return path[0] == '\0' ? xstrdup("") : read(path, error);
}

static int read_keys(const struct key_files *files, struct ipc_keys *keys, struct buffer *error)
{
	*keys = (struct ipc_keys){0};
	keys->hmac = read_key(files->hmac, text_file_read_secret, error);
	if (keys->hmac)
		keys->hmac_previous = read_key(files->hmac_previous, text_file_read_secret, error);
	if (keys->hmac_previous)
		keys->rsa = read_key(files->rsa, text_file_read_public, error);
	if (keys->rsa)
		keys->ecdsa = read_key(files->ecdsa, text_file_read_public, error);
	if (keys->ecdsa)
		return 0;
	ipc_keys_free(keys);
	return -1;
}

#define KEY_FILES(group)                                                           \
	{                                                                          \
		(group).hmac_secret_file, (group).hmac_previous_secret_file,       \
			(group).rsa_public_key_file, (group).ecdsa_public_key_file \
	}

/* The worker that would get unusable keys could not start. */
static int try_keys(const struct token_options *options, const char *group, struct buffer *error)
{
	struct buffer why = {0};
	struct token_verifier *verifier = token_verifier_create(options, &why);

	if (!verifier)
		buffer_printf(error, "%s.%s", group, buffer_cstr(&why));
	buffer_free(&why);
	token_verifier_free(verifier);
	return verifier ? 0 : -1;
}

static int try_all_keys(const struct settings *settings, const struct ipc_keys *token,
			const struct ipc_keys *subscription, struct buffer *error)
{
	struct token_options options = token_options_of(settings, token);

	if (try_keys(&options, "token", error) < 0)
		return -1;
	options = subscription_token_options_of(settings, subscription);
	return try_keys(&options, "subscription_token", error);
}

int node_read_token_keys(const struct settings *settings, struct ipc_keys *token,
			 struct ipc_keys *subscription, struct buffer *error)
{
	const struct key_files token_files = KEY_FILES(settings->token);
	const struct key_files subscription_files = KEY_FILES(settings->subscription_token);

	if (read_keys(&token_files, token, error) < 0)
		return -1;
	if (!settings->subscription_token.enabled) {
		*subscription = ipc_keys_none();
	} else if (read_keys(&subscription_files, subscription, error) < 0) {
		ipc_keys_free(token);
		return -1;
	}
	if (try_all_keys(settings, token, subscription, error) == 0)
		return 0;
	ipc_keys_free(token);
	ipc_keys_free(subscription);
	return -1;
}

char *node_read_sentinel_password(const struct settings *settings, struct buffer *error)
{
	if (settings->redis.sentinel_password_file[0] == '\0')
		return xstrdup("");
	return text_file_read_secret(settings->redis.sentinel_password_file, error);
}

static int find_redis(const struct settings *settings, const char *text, struct ipc_redis *redis,
		      struct buffer *error)
{
	struct settings_redis_url url;
	const char *problem = settings_redis_url_parse(text, &url);
	char *password;

	if (problem) {
		buffer_printf(error, "redis: %s", problem);
		return -1;
	}
	password = settings->redis.password_file[0]
			   ? text_file_read_secret(settings->redis.password_file, error)
			   : xstrdup(url.password);
	if (password)
		*redis = (struct ipc_redis){
			.host = xstrdup(url.host),
			.port = url.port,
			.user = xstrdup(url.user),
			.password = password,
			.db = url.db,
		};
	settings_redis_url_free(&url);
	return password ? 0 : -1;
}

int node_find_external_redis(const struct settings *settings,
			     struct ipc_redis shards[REDIS_SHARDS_MAX], uint32_t *count,
			     struct buffer *error)
{
	uint32_t wanted = settings_redis_shard_count(settings);

	for (*count = 0; *count < wanted; (*count)++) {
		if (find_redis(settings, settings_redis_shard_url(settings, *count),
			       &shards[*count], error) < 0)
			return -1;
	}
	return 0;
}

/* Workers share the connections about evenly; a quarter more covers what "about" hides. */
static void warn_open_files(const struct settings *settings, unsigned long limit,
			    void (*fn)(void *ctx, const char *text), void *ctx)
{
	uint64_t share = (uint64_t)settings->client.connection_limit / node_worker_count(settings);
	uint64_t need =
		share + share / 4 + DESCRIPTORS_OF_A_WORKER + settings_redis_descriptors(settings);
	struct buffer text = {0};

	if (limit >= need)
		return;
	buffer_printf(&text,
		      "client.connection_limit %" PRId64 " needs about %" PRIu64
		      " open files in each worker, the limit is %lu: raise it (ulimit -n, "
		      "LimitNOFILE=)",
		      settings->client.connection_limit, need, limit);
	fn(ctx, buffer_cstr(&text));
	buffer_free(&text);
}

void node_warnings(const struct settings *settings, unsigned long open_file_limit,
		   void (*fn)(void *ctx, const char *text), void *ctx)
{
	settings_warnings(settings, fn, ctx);
	warn_open_files(settings, open_file_limit, fn, ctx);
	if (geteuid() == 0 && settings->node.user[0] == '\0')
		fn(ctx, "everything runs as root: name an ordinary user in node.user");
}

int node_check_files(const struct settings *settings, struct buffer *error)
{
	char *key = node_read_api_key(settings, error);
	char *password;
	struct ipc_keys token, subscription;
	struct ipc_redis shards[REDIS_SHARDS_MAX];
	uint32_t shard_count;
	int result;

	if (!key)
		return -1;
	secret_wipe(key, strlen(key));
	free(key);
	if (node_read_token_keys(settings, &token, &subscription, error) < 0)
		return -1;
	ipc_keys_free(&token);
	ipc_keys_free(&subscription);
	if (node_uses_embedded_redis(settings))
		return 0;
	password = node_read_sentinel_password(settings, error);
	if (!password)
		return -1;
	secret_wipe(password, strlen(password));
	free(password);
	result = node_find_external_redis(settings, shards, &shard_count, error);
	while (shard_count > 0)
		ipc_redis_free(&shards[--shard_count]);
	return result;
}

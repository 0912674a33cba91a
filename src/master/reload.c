/* SPDX-License-Identifier: ISC */
/*
 * A reload, see reload.h. Runs in the master's loop.
 *
 *   read, parse, refuse what can't change ─► secrets, listeners, admin socket
 *     ─► all of it in force in the master ─► each worker is taken over from
 *     ─► what is not wanted any more is closed ─► as many workers as are wanted
 *
 * A failure before the third step changes nothing; one in the fourth puts back
 * what was in force, and takes back the workers that had changed already.
 */
#include "master/reload.h"
#include "master/role.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keepsock/admin.h"
#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/log.h"
#include "keepsock/magic.h"
#include "keepsock/master.h"
#include "keepsock/node_check.h"
#include "keepsock/node_page.h"
#include "keepsock/sealed_text.h"
#include "keepsock/secret.h"
#include "keepsock/worker_slot.h"
#include "master/certificates.h"
#include "master/change.h"
#include "master/config_file.h"
#include "master/resize.h"

#define RELOAD_MAGIC UINT32_C(0x524c4f44) /* "RLOD" */

/* What workers are started with, as far as it comes from the configuration. All owned. */
struct equipment {
	struct settings settings;
	int settings_fd;
	struct listeners listeners;
	char *api_key;
	struct ipc_keys token_keys;
	struct ipc_keys subscription_token_keys;
	struct certificates *certificates;
	struct ipc_redis shards[REDIS_SHARDS_MAX];
	uint32_t shard_count;
};

struct reload {
	uint32_t magic;
	struct master *master;
	struct equipment other; /* what is not in force: first the new, then the old */
	struct admin *admin;    /* at another place, until it is in force; NULL */
	reload_done_fn *done;
	void *ctx;
};

static void free_equipment(struct equipment *equipment)
{
	settings_free(&equipment->settings);
	listeners_close(&equipment->listeners);
	if (equipment->settings_fd >= 0)
		close(equipment->settings_fd);
	if (equipment->api_key)
		secret_wipe(equipment->api_key, strlen(equipment->api_key));
	free(equipment->api_key);
	certificates_free(equipment->certificates);
	ipc_keys_free(&equipment->token_keys);
	ipc_keys_free(&equipment->subscription_token_keys);
	for (uint32_t i = 0; i < equipment->shard_count; i++)
		ipc_redis_free(&equipment->shards[i]);
	*equipment = (struct equipment){.settings_fd = -1};
}

static void free_reload(struct reload *reload)
{
	reload->master->reload = NULL;
	reload->master->is_changing = false;
	admin_close(reload->admin);
	free_equipment(&reload->other);
	reload->magic = 0;
	free(reload);
}

void reload_drop(struct master *master)
{
	resize_drop(master);
	if (master->reload)
		free_reload(master->reload);
}

/* ---- what a reload can't change ---- */

static int refuse(const struct master *master, const char *what, struct buffer *error)
{
	buffer_printf(error, "%s: %s can't be changed while the node runs: stop and start it",
		      master->config_name, what);
	return -1;
}

static int check_changes(const struct master *master, const struct settings *to,
			 struct buffer *error)
{
	const struct settings *from = &master->settings;

	if (resize_check(master, to, error) < 0)
		return -1;
	if (node_uses_embedded_redis(from) != node_uses_embedded_redis(to) ||
	    settings_redis_shard_count(from) != settings_redis_shard_count(to))
		return refuse(master, "the number and kind of Redis servers", error);
	if (node_uses_embedded_redis(to) && strcmp(from->node.state_dir, to->node.state_dir) != 0)
		return refuse(master, "node.state_dir, where the embedded Redis has its data,",
			      error);
	return 0;
}

/* ---- getting everything ready ---- */

static int read_settings(struct reload *reload, struct buffer *text, struct buffer *error)
{
	struct master *master = reload->master;

	if (strcmp(master->config_name, "defaults") == 0) {
		buffer_append_str(error, "keepsockd was started without a configuration file");
		return -1;
	}
	if (config_file_read(master->config_name, text, error) < 0 ||
	    settings_parse_change(buffer_cstr(text), master->config_name, &master->settings,
				  &reload->other.settings, error) < 0)
		return -1;
	return check_changes(master, &reload->other.settings, error);
}

static int read_secrets(struct equipment *next, struct buffer *error)
{
	next->api_key = node_read_api_key(&next->settings, error);
	return next->api_key ? node_read_token_keys(&next->settings, &next->token_keys,
						    &next->subscription_token_keys, error)
			     : -1;
}

static int read_certificates(struct master *master, struct equipment *next, struct buffer *error)
{
	next->certificates = certificates_prepare(master, &next->settings, error);
	return next->certificates ? 0 : -1;
}

/* A server that Sentinels have named stays known, as long as they are asked for the same one. */
static void keep_known_place(const struct master *master, struct equipment *next, uint32_t shard)
{
	const struct ipc_redis *known = &master->shards[shard];
	struct ipc_redis *redis = &next->shards[shard];

	if (ipc_redis_known(redis) || !ipc_redis_known(known) ||
	    strcmp(settings_redis_shard_url(&master->settings, shard),
		   settings_redis_shard_url(&next->settings, shard)) != 0)
		return;
	free(redis->host);
	redis->host = xstrdup(known->host);
	redis->port = known->port;
}

static int find_redis(const struct master *master, struct equipment *next, struct buffer *error)
{
	if (node_uses_embedded_redis(&next->settings)) {
		for (uint32_t i = 0; i < master->shard_count; i++)
			next->shards[next->shard_count++] = ipc_redis_copy(&master->shards[i]);
		return 0;
	}
	if (node_find_external_redis(&next->settings, next->shards, &next->shard_count, error) < 0)
		return -1;
	for (uint32_t i = 0; i < next->shard_count; i++)
		keep_known_place(master, next, i);
	return 0;
}

/* Those that stay are the same sockets, with all that waits in their queues. */
static int open_listeners(const struct master *master, struct equipment *next, struct buffer *error)
{
	const struct listeners *have = &master->listeners;
	uint32_t slots = node_worker_count(&next->settings);
	size_t count = have->count * have->slots;
	struct listener_member *members = xcalloc(count + 1, sizeof(*members));
	int result;

	for (size_t i = 0; i < count; i++)
		members[i] = (struct listener_member){(uint32_t)(i / have->count), have->fds[i]};
	/* Surplus ones stay open: other workers accept what comes there. */
	if (slots < have->slots)
		slots = have->slots;
	result = listeners_open(&next->listeners, &next->settings, slots, members, count, error);
	free(members);
	if (result == 0 && node_role_get(master->page).role != NODE_STANDBY)
		result = listeners_take_primary(&next->listeners, &next->settings, have, error);
	return result;
}

void reload_close_primary(struct master *master)
{
	if (master->reload)
		listeners_close_primary(&master->reload->other.listeners);
}

static int open_admin(struct reload *reload, struct buffer *error)
{
	const struct settings *to = &reload->other.settings;

	if (strcmp(reload->master->settings.admin.socket, to->admin.socket) == 0)
		return 0;
	reload->admin = admin_open(reload->master, to, -1, error);
	return reload->admin ? 0 : -1;
}

static int prepare(struct reload *reload, struct buffer *error)
{
	struct equipment *next = &reload->other;
	struct buffer text = {0};
	int result = read_settings(reload, &text, error);

	if (result == 0)
		result = read_secrets(next, error);
	if (result == 0)
		result = read_certificates(reload->master, next, error);
	if (result == 0)
		result = find_redis(reload->master, next, error);
	if (result == 0)
		result = open_listeners(reload->master, next, error);
	if (result == 0)
		result = open_admin(reload, error);
	if (result == 0) {
		next->settings_fd = sealed_text_create("keepsock-settings", buffer_slice(&text));
		if (next->settings_fd < 0) {
			buffer_printf(error, "cannot keep the configuration: %s", strerror(errno));
			result = -1;
		}
	}
	buffer_free(&text);
	return result;
}

/* ---- putting it in force ---- */

#define EXCHANGE(a, b)                          \
	do {                                    \
		__typeof__(a) exchanged_ = (a); \
		(a) = (b);                      \
		(b) = exchanged_;               \
	} while (0)

static void exchange(struct master *master, struct equipment *other)
{
	EXCHANGE(master->settings, other->settings);
	EXCHANGE(master->settings_fd, other->settings_fd);
	EXCHANGE(master->listeners, other->listeners);
	EXCHANGE(master->api_key, other->api_key);
	EXCHANGE(master->certificates, other->certificates);
	EXCHANGE(master->token_keys, other->token_keys);
	EXCHANGE(master->subscription_token_keys, other->subscription_token_keys);
	EXCHANGE(master->shard_count, other->shard_count);
	for (uint32_t i = 0; i < REDIS_SHARDS_MAX; i++)
		EXCHANGE(master->shards[i], other->shards[i]);
	role_on_exchange(master, &other->listeners);
}

static void revert(void *ctx)
{
	struct reload *reload = ctx;

	MAGIC_CHECK(reload, RELOAD_MAGIC);
	exchange(reload->master, &reload->other);
}

/* What changes in place, once the workers have. */
static void apply_in_place(struct reload *reload)
{
	struct master *master = reload->master;
	const char *level = master->settings.log.level;
	struct buffer error = {0};

	if (master_open_log(master, &error) < 0)
		log_error("log_not_changed error=%s", log_value_str(buffer_cstr(&error)));
	buffer_free(&error);
	master->log_level_changed = false;
	for (uint32_t i = 0; i < master->worker_count; i++)
		worker_slot_set_log_level(&master->workers[i], level);
	if (reload->admin) {
		master_replace_admin(master, reload->admin);
		reload->admin = NULL;
	} else if (chmod(master->settings.admin.socket, settings_admin_mode(&master->settings)) <
		   0) {
		log_error("admin_mode_not_changed error=%s", strerror(errno));
	}
	/* Workers that were taken over from have duplicates for a moment. */
	listeners_shut_removed(&reload->other.listeners, &master->listeners);
	master_redis_reloaded(master);
}

static void finish(struct reload *reload, const char *error)
{
	reload_done_fn *done = reload->done;
	void *ctx = reload->ctx;

	free_reload(reload);
	done(ctx, error);
}

static void on_resized(void *ctx, const char *error)
{
	struct reload *reload = ctx;

	MAGIC_CHECK(reload, RELOAD_MAGIC);
	finish(reload, error);
}

static void on_changed(void *ctx, const char *error)
{
	struct reload *reload = ctx;
	struct master *master = reload->master;

	MAGIC_CHECK(reload, RELOAD_MAGIC);
	if (error) {
		finish(reload, error);
		return;
	}
	apply_in_place(reload);
	log_info("reloaded config=%s", log_value_str(master->config_name));
	if (resize_target(master) == master->worker_count)
		finish(reload, NULL);
	else
		resize_start(master, on_resized, reload);
}

/* Keepers write their own log. */
static bool keepers_change(const struct settings *from, const struct settings *to)
{
	return strcmp(from->log.target, to->log.target) != 0 ||
	       strcmp(from->log.format, to->log.format) != 0;
}

static void log_warning_text(void *ctx, const char *text)
{
	(void)ctx;
	log_warning("configuration_warning text=%s", log_value_str(text));
}

void reload_start(struct master *master, reload_done_fn *done, void *ctx)
{
	const char *obstacle = change_obstacle(master);
	struct buffer error = {0};
	struct change_plan plan = {.reason = TAKEOVER_RELOAD, .revert = revert, .done = on_changed};
	struct reload *reload;

	if (obstacle) {
		done(ctx, obstacle);
		return;
	}
	reload = xcalloc(1, sizeof(*reload));
	*reload = (struct reload){.magic = RELOAD_MAGIC,
				  .master = master,
				  .other = {.settings_fd = -1},
				  .done = done,
				  .ctx = ctx};
	master->reload = reload;
	master->is_changing = true;
	if (prepare(reload, &error) < 0) {
		log_error("reload_refused reason=%s", log_value_str(buffer_cstr(&error)));
		free_reload(reload);
		done(ctx, buffer_cstr(&error));
	} else {
		node_warnings(&reload->other.settings, master->open_file_limit, log_warning_text,
			      NULL);
		plan.ctx = reload;
		plan.replace_keepers = keepers_change(&master->settings, &reload->other.settings);
		exchange(master, &reload->other);
		change_start(master, &plan);
	}
	buffer_free(&error);
}

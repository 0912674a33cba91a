/* SPDX-License-Identifier: ISC */
/*
 * The supervisor's life: what it opens in which order, its clocks, its end. It
 * stays who started it (root where addresses are to be moved), runs no thread
 * and holds no client.
 *
 * Told to end (SIGTERM), it hands over if its node is the primary, ends the node
 * if it started it, and leaves one that it adopted. Told again, it ends at once.
 * Killed, it leaves the node running and the lease in Redis: its successor takes
 * both up.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "keepsock/admin_server.h"
#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/clock.h"
#include "keepsock/ipc_messages.h"
#include "keepsock/log.h"
#include "keepsock/magic.h"
#include "keepsock/node_check.h"
#include "keepsock/privileges.h"
#include "keepsock/process_title.h"
#include "keepsock/run_dir.h"
#include "keepsock/sd_notify.h"
#include "keepsock/secret.h"
#include "keepsock/text_file.h"
#include "supervisor/epoch_file.h"
#include "supervisor/metrics_server.h"
#include "supervisor/supervisor.h"

#define TICK_MS 100
/* A worker tells for a second how late its loop was; it has been held up as we have. */
#define NODE_SETTLES_MS 2000

/* ---- clocks ---- */

void supervisor_note_time(struct supervisor *s, uint64_t now)
{
	uint64_t renew = (uint64_t)s->settings.cluster.lease_renew;
	uint64_t late = now - s->last_tick_ms;

	if (late <= TICK_MS + renew)
		return;
	s->last_tick_ms = now;
	log_warning("tilt ms=%" PRIu64, late);
	supervisor_count(s, SUPERVISOR_METRIC_tilts_total);
	/* Time for everything to be heard and looked at anew. */
	s->tilt_until_ms = now + 4 * renew;
	checks_excuse(s->checks, now + (4 * renew > NODE_SETTLES_MS ? 4 * renew : NODE_SETTLES_MS));
}

static void on_tick(evutil_socket_t fd, short what, void *ctx)
{
	struct supervisor *s = ctx;
	uint64_t now = clock_boottime_ms();

	(void)fd;
	(void)what;
	MAGIC_CHECK(s, SUPERVISOR_MAGIC);
	supervisor_note_time(s, now);
	s->last_tick_ms = now;
	supervisor_decide(s);
}

static void on_beat_time(evutil_socket_t fd, short what, void *ctx)
{
	struct supervisor *s = ctx;

	(void)fd;
	(void)what;
	MAGIC_CHECK(s, SUPERVISOR_MAGIC);
	word_send(s);
}

/* ---- what happens ---- */

static void on_lease_change(void *ctx)
{
	struct supervisor *s = ctx;

	MAGIC_CHECK(s, SUPERVISOR_MAGIC);
	if (s->checks)
		supervisor_decide(s);
}

static void on_node_change(void *ctx)
{
	struct supervisor *s = ctx;
	struct node_view node;

	MAGIC_CHECK(s, SUPERVISOR_MAGIC);
	node_watch_get_view(s->node, &node);
	if (node.since_ms != s->node_since_ms)
		role_on_node_up(s);
	s->node_since_ms = node.since_ms;
	supervisor_decide(s);
}

static void on_change(void *ctx)
{
	struct supervisor *s = ctx;

	MAGIC_CHECK(s, SUPERVISOR_MAGIC);
	supervisor_decide(s);
}

static bool is_primary(void *ctx)
{
	const struct supervisor *s = ctx;

	MAGIC_CHECK(s, SUPERVISOR_MAGIC);
	return s->state == HA_PRIMARY;
}

/* A primary whose node starts again has to serve, or to give up: its failures count. */
static bool is_starting(void *ctx)
{
	const struct supervisor *s = ctx;

	MAGIC_CHECK(s, SUPERVISOR_MAGIC);
	return !ha_may_hold(s->state) && supervisor_node_is_starting(s, clock_boottime_ms());
}

static void end_loop(void *ctx)
{
	struct supervisor *s = ctx;

	MAGIC_CHECK(s, SUPERVISOR_MAGIC);
	if (event_base_loopexit(s->base, NULL) < 0)
		log_fatal("loop_exit_failed");
}

void supervisor_end(struct supervisor *s)
{
	if (s->ending)
		return;
	s->ending = true;
	node_watch_stop(s->node, end_loop, s);
}

static void on_signal(evutil_socket_t number, short what, void *ctx)
{
	struct supervisor *s = ctx;

	(void)what;
	MAGIC_CHECK(s, SUPERVISOR_MAGIC);
	log_info("stop signal=%s again=%s", strsignal((int)number), s->stopping ? "yes" : "no");
	if (s->stopping) {
		end_loop(s);
		return;
	}
	s->stopping = true;
	if (sd_notify_send("STOPPING=1") < 0)
		log_warning("sd_notify_failed error=%s", strerror(errno));
	supervisor_decide(s);
}

/* ---- starting: order matters, each step uses those before it ---- */

static int take_directories(struct supervisor *s, struct buffer *error)
{
	const struct settings *settings = &s->settings;
	const char *own = settings->cluster.state_dir;
	struct service_user node;

	/* The node's is made for it if we are first, so that our socket has a place. */
	if (privileges_find_user(settings->node.user, &node, error) < 0 ||
	    run_dir_prepare(settings->node.run_dir, node.uid, node.gid, error) < 0 ||
	    run_dir_prepare(own, geteuid(), getegid(), error) < 0 || run_dir_check(own, error) < 0)
		return -1;
	s->lock_fd = run_dir_lock(own, error);
	return s->lock_fd < 0 ? -1 : 0;
}

static int remember(struct supervisor *s, struct buffer *error)
{
	if (epoch_file_read(s->settings.cluster.state_dir, &s->known_epoch, error) < 0)
		return -1;
	s->resume = lease_file_read(s->settings.cluster.state_dir);
	if (!s->resume[0]) {
		free(s->resume);
		s->resume = NULL;
	}
	return 0;
}

static struct event *add_timer(struct supervisor *s, int64_t every_ms, event_callback_fn fn)
{
	struct timeval every = {(time_t)(every_ms / 1000), (suseconds_t)(every_ms % 1000 * 1000)};
	struct event *timer = event_new(s->base, -1, EV_PERSIST, fn, s);

	if (!timer || event_add(timer, &every) != 0)
		abort(); /* only out of memory */
	return timer;
}

static int make_loop(struct supervisor *s, struct buffer *error)
{
	static const int numbers[SUPERVISOR_SIGNALS] = {SIGTERM, SIGINT};

	s->base = event_base_new();
	if (!s->base) {
		buffer_append_str(error, "cannot make an event loop");
		return -1;
	}
	for (int i = 0; i < SUPERVISOR_SIGNALS; i++) {
		s->signals[i] = evsignal_new(s->base, numbers[i], on_signal, s);
		if (!s->signals[i] || event_add(s->signals[i], NULL) < 0) {
			buffer_append_str(error, "cannot watch for signals");
			return -1;
		}
	}
	return 0;
}

static void write_metrics(void *ctx, struct buffer *out)
{
	const struct supervisor *s = ctx;

	MAGIC_CHECK(s, SUPERVISOR_MAGIC);
	supervisor_metrics_write(s, out);
}

static int make_parts(struct supervisor *s, struct buffer *error)
{
	struct node_watch_options node = {
		.base = s->base,
		.settings = &s->settings,
		.config_path = s->config_name,
		.on_change = on_node_change,
		.ctx = s,
	};
	struct addresses_options addresses = {
		.base = s->base,
		.settings = &s->settings,
		.on_change = on_change,
		.ctx = s,
	};
	struct checks_options checks = {
		.base = s->base,
		.settings = &s->settings,
		.redis_is_there = supervisor_redis_is_there,
		.is_starting = is_starting,
		.is_primary = is_primary,
		.on_change = on_change,
		.ctx = s,
	};
	struct metrics_server_options metrics = {
		.base = s->base,
		.place = s->settings.cluster.metrics_listen,
		.write = write_metrics,
		.ctx = s,
	};

	s->addresses = addresses_create(&addresses, error);
	if (!s->addresses)
		return -1;
	s->notify = notify_create(s->base, &s->settings, error);
	if (!s->notify)
		return -1;
	s->lease = lease_create(s->base, &s->settings, on_lease_change, s, error);
	if (!s->lease)
		return -1;
	s->peers = peers_create(s->base, &s->settings, &word_callbacks, s, error);
	if (!s->peers)
		return -1;
	s->admin = commands_open(s, error);
	if (!s->admin)
		return -1;
	if (s->settings.cluster.metrics_listen[0]) {
		s->metrics_server = metrics_server_open(&metrics, error);
		if (!s->metrics_server)
			return -1;
	}
	s->node = node_watch_create(&node);
	s->checks = checks_create(&checks, error);
	return s->checks ? 0 : -1;
}

static int start(struct supervisor *s, struct buffer *error)
{
	if (log_open(s->settings.log.level, s->settings.log.format, s->settings.log.target, error) <
		    0 ||
	    take_directories(s, error) < 0 || remember(s, error) < 0)
		return -1;
	log_info("start node=%s config=%s known_epoch=%" PRIu64 " uid=%ld programs_run_as=%s",
		 s->settings.node.name, log_value_str(s->config_name), s->known_epoch,
		 (long)geteuid(), geteuid() == 0 ? "notify_user" : "us");
	if (make_loop(s, error) < 0 || make_parts(s, error) < 0)
		return -1;
	s->started_ms = s->state_since_ms = s->last_tick_ms = clock_boottime_ms();
	s->tick = add_timer(s, TICK_MS, on_tick);
	s->beat = add_timer(s, s->settings.cluster.lease_renew, on_beat_time);
	snprintf(s->state_reason, sizeof(s->state_reason), "the supervisor has started");
	if (sd_notify_send("READY=1") < 0)
		log_warning("sd_notify_failed error=%s", strerror(errno));
	return 0;
}

/* ---- the end: everything in reverse ---- */

static void free_event(struct event *event)
{
	if (event)
		event_free(event);
}

static void release(struct supervisor *s)
{
	free_event(s->tick);
	free_event(s->beat);
	admin_close(s->admin);
	metrics_server_close(s->metrics_server);
	role_free(s);
	checks_free(s->checks);
	node_watch_free(s->node);
	peers_free(s->peers);
	lease_free(s->lease);
	notify_free(s->notify);
	addresses_free(s->addresses);
	for (int i = 0; i < SUPERVISOR_SIGNALS; i++)
		free_event(s->signals[i]);
	if (s->base)
		event_base_free(s->base);
	if (s->lock_fd >= 0)
		close(s->lock_fd);
	free(s->resume);
	settings_free(&s->settings);
	s->magic = 0;
	free(s);
}

int supervisor_run(struct supervisor_options *options)
{
	struct supervisor *s = xcalloc(1, sizeof(*s));
	struct buffer error = {0};
	int status = EXIT_SUCCESS;

	s->magic = SUPERVISOR_MAGIC;
	s->settings = options->settings;
	memset(&options->settings, 0, sizeof(options->settings));
	s->config_name = options->config_name;
	s->timing = settings_timing_of(&s->settings);
	s->lock_fd = -1;
	log_init("supervisor", -1);
	process_title_set("keepsock-supervisor: %s (%s)", s->settings.node.name, s->config_name);
	if (start(s, &error) < 0) {
		log_error("start_failed reason=%s", log_value_str(buffer_cstr(&error)));
		status = EXIT_FAILURE;
	} else if (event_base_dispatch(s->base) < 0) {
		log_error("loop_failed");
		status = EXIT_FAILURE;
	}
	log_info("end status=%d", status);
	release(s);
	buffer_free(&error);
	return status;
}

/* ---- keepsock-supervisor -t ---- */

static int check_secret(const struct settings *settings, struct buffer *error)
{
	char *secret;

	if (settings->cluster.secret_file[0] == '\0')
		return 0;
	secret = text_file_read_secret(settings->cluster.secret_file, error);
	if (!secret)
		return -1;
	secret_wipe(secret, strlen(secret));
	free(secret);
	return 0;
}

int supervisor_check_files(const struct settings *settings, struct buffer *error)
{
	struct ipc_redis shards[REDIS_SHARDS_MAX];
	uint32_t count = 0;
	int result;

	if (node_uses_embedded_redis(settings)) {
		buffer_append_str(error, "redis.server is embedded: a supervisor's lease needs a "
					 "Redis that lives and dies with none of the nodes");
		return -1;
	}
	result = node_find_external_redis(settings, shards, &count, error);
	while (count > 0)
		ipc_redis_free(&shards[--count]);
	return result == 0 ? check_secret(settings, error) : -1;
}

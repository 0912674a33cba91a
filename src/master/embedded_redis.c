/* SPDX-License-Identifier: ISC */
/*
 * Life of the embedded Redis. Runs in the master's loop and never blocks it.
 *
 *   start_process          on_probe_line: PONG
 *  ┌────────────► STARTING ───────────────────► READY
 *  │                 │ exited                     │ exited
 *  │ restart timer   ▼                            │
 *  └───────────── WAITING ◄───────────────────────┘
 *   any ── embedded_redis_stop ──► STOPPING ── exited ──► ENDED
 *
 * It speaks just enough Redis to know that the server answers; commands are
 * the workers' business.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/child.h"
#include "keepsock/clock.h"
#include "keepsock/embedded_redis.h"
#include "keepsock/ipc_messages.h"
#include "keepsock/log.h"
#include "keepsock/magic.h"
#include "keepsock/random.h"
#include "keepsock/run_dir.h"
#include "keepsock/secret.h"
#include "keepsock/text_file.h"
#include "master/redis_record.h"

#define EMBEDDED_REDIS_MAGIC UINT32_C(0x45524453) /* "ERDS" */

#define PROBE_INTERVAL_MS 50
#define START_DEADLINE_MS 10000
#define STOP_DEADLINE_MS  5000
#define LOG_TAIL_BYTES    2000
/* A port found free can be gone when Redis binds it. */
#define PORT_ATTEMPTS 5

enum embedded_redis_phase {
	PHASE_STARTING,
	PHASE_READY,
	PHASE_WAITING,
	PHASE_STOPPING,
	PHASE_ENDED,
};

static const char *const phase_names[] = {"starting", "ready", "waiting", "stopping", "ended"};

struct embedded_redis {
	uint32_t magic;
	enum embedded_redis_phase phase;
	uint64_t phase_since_ms;
	struct event_base *base; /* the master's */
	char *binary;
	char *directory; /* STATE_DIR/redis */
	char *config_path;
	char *log_path;
	char *record_path; /* which process serves the data */
	off_t log_start;   /* where this run's part of the log begins */
	int lock_fd;
	struct ipc_redis endpoint;
	struct child child;
	struct bufferevent *probe; /* NULL = not connected */
	struct event *timer;       /* probing, restarting or killing, as the phase says */
	uint64_t deadline_ms;
	uint32_t restart_delay_ms;
	uint64_t restarts;
	unsigned port_attempts;
	bool was_ready; /* ever */
	embedded_redis_event_fn *on_event;
	void *ctx;
};

static void change_phase(struct embedded_redis *redis, enum embedded_redis_phase to,
			 const char *reason)
{
	uint64_t now = clock_boottime_ms();

	log_info("embedded_redis change=%s->%s reason=%s ms=%" PRIu64 " pid=%d port=%u",
		 phase_names[redis->phase], phase_names[to], log_value_str(reason),
		 now - redis->phase_since_ms, (int)redis->child.pid, redis->endpoint.port);
	redis->phase = to;
	redis->phase_since_ms = now;
}

static void set_timer(struct embedded_redis *redis, uint32_t ms)
{
	struct timeval delay = {.tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000};

	if (event_add(redis->timer, &delay) < 0)
		log_fatal("embedded_redis_timer_failed");
}

static void drop_probe(struct embedded_redis *redis)
{
	if (redis->probe)
		bufferevent_free(redis->probe);
	redis->probe = NULL;
}

/* Appends the last of what this run logged. */
static void append_log_tail(struct embedded_redis *redis, struct buffer *out)
{
	text_file_read_tail(redis->log_path, redis->log_start, LOG_TAIL_BYTES, out);
}

static bool log_says_port_taken(struct embedded_redis *redis)
{
	struct buffer tail = {0};
	bool taken;

	append_log_tail(redis, &tail);
	taken = strstr(buffer_cstr(&tail), "Address already in use") != NULL;
	buffer_free(&tail);
	return taken;
}

static void fail(struct embedded_redis *redis, const char *what)
{
	struct buffer detail = {0};

	drop_probe(redis);
	event_del(redis->timer);
	buffer_printf(&detail, "%s; its log, %s, says:\n", what, redis->log_path);
	append_log_tail(redis, &detail);
	redis->on_event(redis->ctx, EMBEDDED_REDIS_FAILED, buffer_cstr(&detail));
	buffer_free(&detail);
}

/* ---- the probe: AUTH and PING over a connection of its own ---- */

static void on_ready(struct embedded_redis *redis)
{
	drop_probe(redis);
	event_del(redis->timer);
	redis->was_ready = true;
	redis->port_attempts = 0;
	change_phase(redis, PHASE_READY, "it answers");
	redis->on_event(redis->ctx, EMBEDDED_REDIS_READY, "");
}

/* False when the connection is of no more use. */
static bool on_probe_line(struct embedded_redis *redis, const char *line)
{
	if (strcmp(line, "+OK") == 0)
		return true;
	if (strcmp(line, "+PONG") == 0) {
		on_ready(redis);
		return false;
	}
	/* A large append-only file takes its time; it is alive, so the deadline moves. */
	if (strncmp(line, "-LOADING", 8) == 0)
		redis->deadline_ms = clock_boottime_ms() + START_DEADLINE_MS;
	return false;
}

static void on_probe_read(struct bufferevent *probe, void *ctx)
{
	struct embedded_redis *redis = ctx;
	bool usable = true;
	char *line;

	MAGIC_CHECK(redis, EMBEDDED_REDIS_MAGIC);
	while (usable && (line = evbuffer_readln(bufferevent_get_input(probe), NULL,
						 EVBUFFER_EOL_CRLF)) != NULL) {
		usable = on_probe_line(redis, line);
		free(line);
	}
	if (!usable)
		drop_probe(redis);
}

static void on_probe_event(struct bufferevent *probe, short what, void *ctx)
{
	struct embedded_redis *redis = ctx;
	const char *password;

	MAGIC_CHECK(redis, EMBEDDED_REDIS_MAGIC);
	if (!(what & BEV_EVENT_CONNECTED)) {
		drop_probe(redis);
		return;
	}
	password = redis->endpoint.password;
	if (evbuffer_add_printf(bufferevent_get_output(probe),
				"*2\r\n$4\r\nAUTH\r\n$%zu\r\n%s\r\n*1\r\n$4\r\nPING\r\n",
				strlen(password), password) < 0)
		drop_probe(redis);
}

static void start_probe(struct embedded_redis *redis)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons(redis->endpoint.port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};

	redis->probe = bufferevent_socket_new(redis->base, -1, BEV_OPT_CLOSE_ON_FREE);
	if (!redis->probe)
		return;
	bufferevent_setcb(redis->probe, on_probe_read, NULL, on_probe_event, redis);
	if (bufferevent_enable(redis->probe, EV_READ | EV_WRITE) < 0 ||
	    bufferevent_socket_connect(redis->probe, (struct sockaddr *)&address, sizeof(address)) <
		    0)
		drop_probe(redis);
}

static void on_probe_time(struct embedded_redis *redis)
{
	if (clock_boottime_ms() < redis->deadline_ms) {
		if (!redis->probe)
			start_probe(redis);
		set_timer(redis, PROBE_INTERVAL_MS);
	} else if (redis->was_ready) {
		log_warning("embedded_redis_mute pid=%d", (int)redis->child.pid);
		drop_probe(redis);
		child_signal(&redis->child, SIGKILL);
	} else {
		fail(redis, "the embedded Redis does not answer");
	}
}

/* ---- starting and restarting ---- */

/* A port nobody has at the moment; 0, or -1 with error. */
static int find_port(uint16_t *port, struct buffer *error)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t length = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int result = -1;

	if (fd >= 0 && bind(fd, (struct sockaddr *)&address, length) == 0 &&
	    getsockname(fd, (struct sockaddr *)&address, &length) == 0) {
		*port = ntohs(address.sin_port);
		result = 0;
	} else {
		buffer_printf(error, "cannot find a free port on 127.0.0.1: %s", strerror(errno));
	}
	if (fd >= 0)
		close(fd);
	return result;
}

/* A value for redis.conf, in double quotes with its escapes. */
static void append_quoted(struct buffer *out, const char *value)
{
	buffer_append_char(out, '"');
	for (; *value; value++) {
		unsigned char c = (unsigned char)*value;

		if (c == '"' || c == '\\')
			buffer_printf(out, "\\%c", c);
		else if (c < ' ' || c == 0x7f)
			buffer_printf(out, "\\x%02x", c);
		else
			buffer_append_char(out, (char)c);
	}
	buffer_append_char(out, '"');
}

static int write_config(struct embedded_redis *redis, struct buffer *error)
{
	struct buffer text = {0};
	int result;

	buffer_append_str(&text, "# Made by keepsockd at each start; changes are lost.\n"
				 "bind 127.0.0.1\n"
				 "protected-mode yes\n");
	buffer_printf(&text, "port %u\nrequirepass %s\ndir ", redis->endpoint.port,
		      redis->endpoint.password);
	append_quoted(&text, redis->directory);
	buffer_append_str(&text, "\n"
				 "databases 1\n"
				 "daemonize no\n"
				 "logfile \"\"\n"
				 "appendonly yes\n"
				 "appendfsync everysec\n"
				 "save \"\"\n"
				 "maxmemory-policy noeviction\n");
	result = text_file_write_private(redis->config_path, buffer_slice(&text), error);
	secret_wipe(text.data, text.cap);
	buffer_free(&text);
	return result;
}

static int open_log(struct embedded_redis *redis, struct buffer *error)
{
	int fd =
		open(redis->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	struct stat status;

	if (fd < 0 || fstat(fd, &status) < 0) {
		buffer_printf(error, "cannot open %s: %s", redis->log_path, strerror(errno));
		if (fd >= 0)
			close(fd);
		return -1;
	}
	redis->log_start = status.st_size;
	return fd;
}

static void schedule_restart(struct embedded_redis *redis, const char *reason)
{
	uint32_t delay = child_restart_delay(&redis->restart_delay_ms, child_age_ms(&redis->child));

	change_phase(redis, PHASE_WAITING, reason);
	redis->restarts++;
	set_timer(redis, delay);
}

/* Another port when ours was taken by somebody, up to PORT_ATTEMPTS in a row. */
static bool move_port(struct embedded_redis *redis)
{
	struct buffer error = {0};
	int result;

	if (redis->port_attempts >= PORT_ATTEMPTS || !log_says_port_taken(redis))
		return false;
	redis->port_attempts++;
	log_warning("embedded_redis_port_taken port=%u", redis->endpoint.port);
	result = find_port(&redis->endpoint.port, &error);
	if (result < 0)
		log_error("embedded_redis_port error=%s", log_value_str(buffer_cstr(&error)));
	buffer_free(&error);
	return result == 0;
}

/* Nobody needs record and password any more. */
static void forget_process(struct embedded_redis *redis)
{
	(void)unlink(redis->record_path);
	(void)unlink(redis->config_path);
}

static void on_child_exit(struct child *child, int status, void *ctx)
{
	struct embedded_redis *redis = ctx;
	struct buffer reason = {0};
	bool was_starting;

	(void)child;
	MAGIC_CHECK(redis, EMBEDDED_REDIS_MAGIC);
	drop_probe(redis);
	event_del(redis->timer);
	buffer_append_str(&reason, "the embedded Redis ended with ");
	child_describe_exit(&reason, status);
	was_starting = redis->phase == PHASE_STARTING;
	if (redis->phase == PHASE_STOPPING) {
		forget_process(redis);
		change_phase(redis, PHASE_ENDED, buffer_cstr(&reason));
		redis->on_event(redis->ctx, EMBEDDED_REDIS_ENDED, "");
	} else if (redis->was_ready || (was_starting && move_port(redis))) {
		if (redis->was_ready && was_starting)
			(void)move_port(redis);
		schedule_restart(redis, buffer_cstr(&reason));
		if (!was_starting)
			redis->on_event(redis->ctx, EMBEDDED_REDIS_LOST, buffer_cstr(&reason));
	} else {
		fail(redis, buffer_cstr(&reason));
	}
	buffer_free(&reason);
}

static void await_answer(struct embedded_redis *redis, const char *reason)
{
	change_phase(redis, PHASE_STARTING, reason);
	redis->deadline_ms = clock_boottime_ms() + START_DEADLINE_MS;
	set_timer(redis, PROBE_INTERVAL_MS);
}

static int start_process(struct embedded_redis *redis, struct buffer *error)
{
	char *argv[] = {redis->binary, redis->config_path, NULL};
	struct child_spec spec = {
		.path = redis->binary,
		.argv = argv,
		.program_fd = -1,
		.channels = {-1, -1},
		/* Our death is not its own: the next master adopts it. */
		.outlives_us = true,
	};
	int result;

	if (write_config(redis, error) < 0)
		return -1;
	spec.output_fd = open_log(redis, error);
	if (spec.output_fd < 0)
		return -1;
	result = child_start(&redis->child, redis->base, &spec, on_child_exit, redis, error);
	close(spec.output_fd);
	if (result < 0) {
		buffer_append_str(error, "; install redis-server, or name the program in "
					 "redis.embedded_binary");
		return -1;
	}
	if (redis_record_write(redis->record_path, redis->child.pid, error) < 0) {
		child_end(&redis->child);
		return -1;
	}
	await_answer(redis, redis->restarts ? "restart" : "start");
	return 0;
}

/*
 * What a dead master started serves on. One that can't be signed in to, its
 * configuration being lost, has to leave the data to another one.
 */
static int adopt_process(struct embedded_redis *redis, pid_t pid, int pidfd, bool known,
			 struct buffer *error)
{
	if (child_adopt(&redis->child, redis->base, pid, pidfd, on_child_exit, redis) < 0) {
		buffer_printf(error, "cannot watch the Redis that runs, pid %d", (int)pid);
		return -1;
	}
	/* Clients depend on it: whatever happens to it now is told to them, and mended. */
	redis->was_ready = true;
	await_answer(redis, known ? "adopted" : "found without its password");
	if (!known)
		child_signal(&redis->child, SIGTERM);
	return 0;
}

static void on_restart_time(struct embedded_redis *redis)
{
	struct buffer error = {0};

	if (start_process(redis, &error) < 0) {
		log_error("embedded_redis_restart_failed error=%s",
			  log_value_str(buffer_cstr(&error)));
		set_timer(redis, child_restart_delay(&redis->restart_delay_ms, 0));
	}
	buffer_free(&error);
}

static void on_timer(evutil_socket_t fd, short what, void *ctx)
{
	struct embedded_redis *redis = ctx;

	(void)fd;
	(void)what;
	MAGIC_CHECK(redis, EMBEDDED_REDIS_MAGIC);
	switch (redis->phase) {
	case PHASE_STARTING: on_probe_time(redis); break;
	case PHASE_WAITING: on_restart_time(redis); break;
	case PHASE_STOPPING:
		log_warning("embedded_redis_killed pid=%d", (int)redis->child.pid);
		child_signal(&redis->child, SIGKILL);
		break;
	case PHASE_READY:
	case PHASE_ENDED: break;
	}
}

/* ---- from outside ---- */

static char *make_password(void)
{
	unsigned char bytes[32];
	struct buffer text = {0};

	random_bytes(bytes, sizeof(bytes));
	for (size_t i = 0; i < sizeof(bytes); i++)
		buffer_printf(&text, "%02x", bytes[i]);
	secret_wipe(bytes, sizeof(bytes));
	(void)buffer_cstr(&text);
	return text.data;
}

/* Its data directory, ours alone: two servers on one append-only file would ruin it. */
static int prepare_directory(struct embedded_redis *redis, struct buffer *error)
{
	if (run_dir_prepare(redis->directory, geteuid(), getegid(), error) < 0 ||
	    run_dir_check(redis->directory, error) < 0)
		return -1;
	redis->lock_fd = run_dir_lock(redis->directory, error);
	return redis->lock_fd < 0 ? -1 : 0;
}

static struct embedded_redis *create(struct event_base *base,
				     const struct embedded_redis_options *options)
{
	struct embedded_redis *redis = xcalloc(1, sizeof(*redis));

	redis->magic = EMBEDDED_REDIS_MAGIC;
	redis->phase = PHASE_WAITING;
	redis->phase_since_ms = clock_boottime_ms();
	redis->base = base;
	redis->binary = xstrdup(options->binary);
	redis->directory = xasprintf("%s/redis", options->state_dir);
	redis->config_path = xasprintf("%s/redis.conf", options->run_dir);
	redis->log_path = xasprintf("%s/redis.log", redis->directory);
	redis->record_path = xasprintf("%s/pid", redis->directory);
	redis->lock_fd = -1;
	redis->was_ready = options->node_runs;
	redis->endpoint.host = xstrdup("127.0.0.1");
	redis->endpoint.user = xstrdup("");
	redis->endpoint.password = make_password();
	redis->on_event = options->on_event;
	redis->ctx = options->ctx;
	redis->timer = event_new(base, -1, 0, on_timer, redis);
	if (!redis->timer)
		log_fatal("embedded_redis_timer_failed");
	return redis;
}

/* 0, 1 when none runs and none is to be started, -1 with error. */
static int adopt_or_start(struct embedded_redis *redis,
			  const struct embedded_redis_options *options, struct buffer *error)
{
	pid_t pid = 0;
	int pidfd = redis_record_find(redis->record_path, &pid);
	bool known = (pidfd >= 0 || options->node_runs) &&
		     redis_record_endpoint(redis->config_path, &redis->endpoint);

	/* The workers of a node that runs know the old place already. */
	if (!known && find_port(&redis->endpoint.port, error) < 0) {
		if (pidfd >= 0)
			close(pidfd);
		return -1;
	}
	if (pidfd >= 0)
		return adopt_process(redis, pid, pidfd, known, error);
	return options->only_adopt ? 1 : start_process(redis, error);
}

struct embedded_redis *embedded_redis_start(struct event_base *base,
					    const struct embedded_redis_options *options,
					    struct buffer *error)
{
	struct embedded_redis *redis = create(base, options);

	if (prepare_directory(redis, error) == 0 && adopt_or_start(redis, options, error) == 0)
		return redis;
	embedded_redis_free(redis);
	return NULL;
}

const struct ipc_redis *embedded_redis_endpoint(const struct embedded_redis *redis)
{
	return &redis->endpoint;
}

const char *embedded_redis_state(const struct embedded_redis *redis)
{
	return phase_names[redis->phase];
}

pid_t embedded_redis_pid(const struct embedded_redis *redis)
{
	return redis->child.pid;
}

uint64_t embedded_redis_restarts(const struct embedded_redis *redis)
{
	return redis->restarts;
}

void embedded_redis_stop(struct embedded_redis *redis)
{
	drop_probe(redis);
	event_del(redis->timer);
	if (redis->phase == PHASE_STOPPING) {
		child_signal(&redis->child, SIGKILL);
	} else if (child_running(&redis->child)) {
		change_phase(redis, PHASE_STOPPING, "asked to");
		child_signal(&redis->child, SIGTERM);
		set_timer(redis, STOP_DEADLINE_MS);
	} else if (redis->phase != PHASE_ENDED) {
		change_phase(redis, PHASE_ENDED, "asked to");
		redis->on_event(redis->ctx, EMBEDDED_REDIS_ENDED, "");
	}
}

void embedded_redis_free(struct embedded_redis *redis)
{
	if (!redis)
		return;
	MAGIC_CHECK(redis, EMBEDDED_REDIS_MAGIC);
	drop_probe(redis);
	if (child_running(&redis->child))
		log_warning("left_running redis=%d", (int)redis->child.pid);
	else if (redis->lock_fd >= 0)
		forget_process(redis);
	child_leave(&redis->child);
	event_free(redis->timer);
	if (redis->lock_fd >= 0)
		close(redis->lock_fd);
	ipc_redis_free(&redis->endpoint);
	free(redis->binary);
	free(redis->directory);
	free(redis->config_path);
	free(redis->log_path);
	free(redis->record_path);
	redis->magic = 0;
	free(redis);
}

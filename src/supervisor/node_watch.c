/* SPDX-License-Identifier: ISC */
/*
 * The node's process, see node_watch.h. It knows nothing of roles or health:
 * only whether there is a master, which one, and how often it ended.
 */
#include "supervisor/node_watch.h"

#include <errno.h>
#include <event2/event.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/child.h"
#include "keepsock/clock.h"
#include "keepsock/log.h"
#include "keepsock/magic.h"
#include "keepsock/node_processes.h"
#include "keepsock/settings.h"
#include "supervisor/node_admin.h"

#define NODE_WATCH_MAGIC UINT32_C(0x4857444e) /* "NDWH" */
#define ENDS_MAX         101                  /* above restart_limit's most */
#define LOOK_MS          200
#define ERROR_MAX        160
/* A master that was told to end in good order closes its clients first. */
#define STOP_LIMIT_MS 15000

struct node_watch {
	uint32_t magic;
	struct node_watch_options options;
	char *binary;
	struct child child; /* when we started it */
	int pidfd;          /* when we adopted it; -1 = none */
	pid_t pid;
	struct event *end_event; /* of pidfd */
	struct event *timer;     /* the next look */
	struct event *fence_timer;
	unsigned fence_left;    /* so many more looks must find nobody; 0 = nobody is killed */
	struct node_call *call; /* the look under way */
	int candidate_fd;       /* pidfd of whom it asks; -1 = none */
	bool up;
	bool starting;
	bool adopted;
	bool spent;
	bool held;
	bool started_once; /* by us */
	uint64_t since_ms;
	uint64_t ends[ENDS_MAX]; /* boottime of the last ends, newest first */
	unsigned end_count;
	uint64_t restarts_total;
	char error[ERROR_MAX];
	char fence_error[ERROR_MAX];
	void (*stopped)(void *ctx);
	void *stopped_ctx;
};

static void set_delay(struct event *timer, int64_t ms)
{
	struct timeval delay = {(time_t)(ms / 1000), (suseconds_t)(ms % 1000 * 1000)};

	if (evtimer_add(timer, &delay) != 0)
		abort(); /* only out of memory */
}

static void set_timer(struct node_watch *watch, int64_t ms)
{
	set_delay(watch->timer, ms);
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* ---- the budget ---- */

static unsigned recent_ends(const struct node_watch *watch)
{
	uint64_t now = clock_boottime_ms();
	uint64_t window = (uint64_t)watch->options.settings->cluster.restart_window;
	unsigned count = 0;

	while (count < watch->end_count && now - watch->ends[count] < window)
		count++;
	return count;
}

static bool is_spent(const struct node_watch *watch)
{
	return (int64_t)recent_ends(watch) > watch->options.settings->cluster.restart_limit;
}

static void count_end(struct node_watch *watch)
{
	memmove(watch->ends + 1, watch->ends, sizeof(watch->ends) - sizeof(watch->ends[0]));
	watch->ends[0] = clock_boottime_ms();
	if (watch->end_count < ENDS_MAX)
		watch->end_count++;
	watch->restarts_total++;
	watch->spent = is_spent(watch);
}

/* ---- ups and downs ---- */

static void set_up(struct node_watch *watch, bool up, const char *reason)
{
	watch->since_ms = clock_boottime_ms();
	watch->up = up;
	watch->starting = watch->starting && up;
	snprintf(watch->error, sizeof(watch->error), "%s", up ? "" : reason);
	if (up)
		log_info("node_up pid=%d adopted=%s", (int)watch->pid,
			 watch->adopted ? "yes" : "no");
	else
		log_warning("node_down reason=%s restarts=%u limit=%lld", log_value_str(reason),
			    recent_ends(watch),
			    (long long)watch->options.settings->cluster.restart_limit);
	watch->options.on_change(watch->options.ctx);
}

/* We are done when nothing of the node is left. */
static void settle_stop(struct node_watch *watch)
{
	void (*stopped)(void *) = watch->stopped;

	if (!stopped || child_running(&watch->child) || watch->fence_left > 0)
		return;
	watch->stopped = NULL;
	event_del(watch->timer);
	stopped(watch->stopped_ctx);
}

static void on_end(struct node_watch *watch, const char *reason, bool ended_well)
{
	node_call_cancel(watch->call);
	watch->call = NULL;
	close_fd(&watch->candidate_fd);
	watch->pid = 0;
	if (watch->stopped) {
		/* Its workers went with it only if it ended in good order. */
		if (!ended_well)
			node_watch_fence(watch);
		settle_stop(watch);
		return;
	}
	count_end(watch);
	/* At once: another may be there already, and within the budget every moment counts. */
	set_timer(watch, watch->spent ? watch->options.settings->cluster.restart_timeout : 0);
	set_up(watch, false, reason);
}

static void on_child_exit(struct child *child, int status, void *ctx)
{
	struct node_watch *watch = ctx;
	struct buffer reason = {0};

	(void)child;
	MAGIC_CHECK(watch, NODE_WATCH_MAGIC);
	buffer_append_str(&reason, "the node ended with ");
	child_describe_exit(&reason, status);
	on_end(watch, buffer_cstr(&reason), WIFEXITED(status) && WEXITSTATUS(status) == 0);
	buffer_free(&reason);
}

static void on_adopted_end(evutil_socket_t fd, short what, void *ctx)
{
	struct node_watch *watch = ctx;

	(void)fd;
	(void)what;
	MAGIC_CHECK(watch, NODE_WATCH_MAGIC);
	event_free(watch->end_event);
	watch->end_event = NULL;
	close_fd(&watch->pidfd);
	on_end(watch, "the node that was adopted has ended", false);
}

/* ---- starting ---- */

static void start_node(struct node_watch *watch)
{
	const char *config = watch->options.config_path;
	char *argv[] = {watch->binary, (char *)(uintptr_t) "-c", (char *)(uintptr_t)config, NULL};
	struct child_spec spec = {
		.path = watch->binary,
		.program_fd = -1,
		.argv = argv,
		.channels = {-1, -1},
		.output_fd = -1,
		.outlives_us = true,
	};
	struct buffer error = {0};

	if (child_start(&watch->child, watch->options.base, &spec, on_child_exit, watch, &error) <
	    0) {
		if (strcmp(watch->error, buffer_cstr(&error)) != 0)
			log_error("node_start_failed reason=%s",
				  log_value_str(buffer_cstr(&error)));
		snprintf(watch->error, sizeof(watch->error), "%s", buffer_cstr(&error));
	} else {
		watch->pid = watch->child.pid;
		watch->adopted = false;
		watch->started_once = true;
		log_info("node_started pid=%d binary=%s", (int)watch->pid,
			 log_value_str(watch->binary));
	}
	buffer_free(&error);
}

/* ---- looking ---- */

/* The process that answered is the one that candidate_fd was opened for: it lived at that time. */
static bool adopt(struct node_watch *watch, pid_t pid)
{
	watch->pidfd = watch->candidate_fd;
	watch->candidate_fd = -1;
	watch->pid = pid;
	watch->adopted = true;
	watch->end_event = event_new(watch->options.base, watch->pidfd, EV_READ | EV_PERSIST,
				     on_adopted_end, watch);
	if (!watch->end_event || event_add(watch->end_event, NULL) != 0)
		abort(); /* only out of memory */
	return true;
}

static bool may_start(const struct node_watch *watch)
{
	return watch->options.settings->cluster.start_node && !watch->held && !watch->stopped &&
	       !child_running(&watch->child) && watch->pidfd < 0 && watch->fence_left == 0;
}

static bool says_starting(const json_t *answer)
{
	const char *state = json_string_value(json_object_get(answer, "state"));

	return state && strcmp(state, "starting") == 0;
}

/* One that is up was asked whether it serves by now; a silent one is the checks' to judge. */
static void note_state(struct node_watch *watch, const json_t *answer)
{
	if (!answer || says_starting(answer))
		return;
	watch->starting = false;
	log_info("node_serves pid=%d ms=%llu", (int)watch->pid,
		 (unsigned long long)(clock_boottime_ms() - watch->since_ms));
	watch->options.on_change(watch->options.ctx);
}

static void on_look_done(void *ctx, const json_t *answer, const char *error)
{
	struct node_watch *watch = ctx;
	pid_t peer;

	MAGIC_CHECK(watch, NODE_WATCH_MAGIC);
	peer = node_call_peer(watch->call);
	watch->call = NULL;
	set_timer(watch, LOOK_MS);
	if (watch->up) {
		note_state(watch, answer);
	} else if (answer && peer > 0 &&
		   json_integer_value(json_object_get(answer, "pid")) == peer) {
		watch->starting = says_starting(answer);
		if (child_running(&watch->child) && watch->child.pid == peer)
			set_up(watch, true, "");
		else if (watch->candidate_fd >= 0 && adopt(watch, peer))
			set_up(watch, true, "");
	} else if (may_start(watch)) {
		start_node(watch);
	} else {
		snprintf(watch->error, sizeof(watch->error), "%s", error ? error : "no node");
	}
	close_fd(&watch->candidate_fd);
}

static void ask(struct node_watch *watch)
{
	const struct settings *settings = watch->options.settings;

	watch->call = node_call_start(watch->options.base, settings->admin.socket, "status",
				      settings->cluster.check_timeout, on_look_done, watch);
}

static void on_timer(evutil_socket_t fd, short what, void *ctx)
{
	struct node_watch *watch = ctx;
	pid_t peer;

	(void)fd;
	(void)what;
	MAGIC_CHECK(watch, NODE_WATCH_MAGIC);
	if (watch->stopped) {
		log_warning("node_hangs pid=%d text=\"it did not end in time\"", (int)watch->pid);
		node_watch_fence(watch);
		return;
	}
	if (watch->up && (child_running(&watch->child) || watch->pidfd >= 0)) {
		bool spent = watch->spent && is_spent(watch);

		/* The window moves on. */
		set_timer(watch, LOOK_MS);
		if (spent != watch->spent) {
			watch->spent = spent;
			watch->options.on_change(watch->options.ctx);
		}
		if (watch->starting && !watch->call)
			ask(watch);
		return;
	}
	if (watch->call)
		return;
	ask(watch);
	peer = node_call_peer(watch->call);
	if (peer > 0 && peer != watch->child.pid)
		watch->candidate_fd = pidfd_open(peer, 0);
}

/* ---- ending all of it ---- */

/* A child that has just been forked joins the others a moment later. */
static void on_fence_timer(evutil_socket_t fd, short what, void *ctx)
{
	struct node_watch *watch = ctx;
	struct buffer error = {0};
	int found;

	(void)fd;
	(void)what;
	MAGIC_CHECK(watch, NODE_WATCH_MAGIC);
	/* The master by its pidfd too: it may not have come as far as to the list. */
	child_signal(&watch->child, SIGKILL);
	if (watch->pidfd >= 0 && pidfd_send_signal(watch->pidfd, SIGKILL, NULL, 0) < 0 &&
	    errno != ESRCH)
		log_error("node_kill_failed pid=%d error=%s", (int)watch->pid, strerror(errno));
	found = node_processes_kill(watch->options.settings->node.run_dir, &error);
	if (found != 0 || child_running(&watch->child) || watch->pidfd >= 0)
		watch->fence_left = NODE_PROCESSES_TIMES;
	else
		watch->fence_left--;
	if (found < 0 && strcmp(watch->fence_error, buffer_cstr(&error)) != 0)
		log_error("node_kill_failed reason=%s", log_value_str(buffer_cstr(&error)));
	snprintf(watch->fence_error, sizeof(watch->fence_error), "%s", buffer_cstr(&error));
	buffer_free(&error);
	if (watch->fence_left > 0) {
		set_delay(watch->fence_timer, found < 0 ? LOOK_MS : NODE_PROCESSES_AGAIN_MS);
		return;
	}
	log_info("node_is_dead");
	settle_stop(watch);
	watch->options.on_change(watch->options.ctx);
}

/* ---- from outside ---- */

/* Beside this program if it is there, else as it is, for PATH. */
static char *find_binary(const char *name)
{
	char self[PATH_MAX];
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash, *path;

	if (strchr(name, '/') || len <= 0)
		return xstrdup(name);
	self[len] = '\0';
	slash = strrchr(self, '/');
	*slash = '\0';
	path = xasprintf("%s/%s", self, name);
	if (access(path, X_OK) == 0)
		return path;
	free(path);
	return xstrdup(name);
}

struct node_watch *node_watch_create(const struct node_watch_options *options)
{
	struct node_watch *watch = xcalloc(1, sizeof(*watch));

	watch->magic = NODE_WATCH_MAGIC;
	watch->options = *options;
	watch->binary = find_binary(options->settings->cluster.node_binary);
	watch->pidfd = watch->candidate_fd = -1;
	watch->since_ms = clock_boottime_ms();
	snprintf(watch->error, sizeof(watch->error), "not looked for yet");
	watch->timer = evtimer_new(options->base, on_timer, watch);
	watch->fence_timer = evtimer_new(options->base, on_fence_timer, watch);
	if (!watch->timer || !watch->fence_timer)
		abort(); /* only out of memory */
	set_timer(watch, 0);
	return watch;
}

void node_watch_free(struct node_watch *watch)
{
	if (!watch)
		return;
	MAGIC_CHECK(watch, NODE_WATCH_MAGIC);
	node_call_cancel(watch->call);
	child_forget(&watch->child);
	if (watch->end_event)
		event_free(watch->end_event);
	close_fd(&watch->pidfd);
	close_fd(&watch->candidate_fd);
	event_free(watch->timer);
	event_free(watch->fence_timer);
	free(watch->binary);
	watch->magic = 0;
	free(watch);
}

void node_watch_get_view(const struct node_watch *watch, struct node_view *view)
{
	*view = (struct node_view){
		.up = watch->up,
		.starting = watch->starting,
		.adopted = watch->adopted,
		.spent = watch->spent,
		.pid = watch->pid,
		.since_ms = watch->since_ms,
		.restarts = recent_ends(watch),
		.restarts_total = watch->restarts_total,
		.error = watch->error,
	};
}

void node_watch_hold(struct node_watch *watch, bool hold)
{
	watch->held = hold;
	watch->end_count = 0;
	watch->spent = false;
}

bool node_watch_is_fencing(const struct node_watch *watch)
{
	return watch->fence_left > 0;
}

void node_watch_fence(struct node_watch *watch)
{
	if (watch->fence_left > 0)
		return;
	log_warning("node_killed pid=%d", (int)watch->pid);
	watch->fence_left = NODE_PROCESSES_TIMES;
	set_delay(watch->fence_timer, 0);
}

void node_watch_stop(struct node_watch *watch, void (*done)(void *ctx), void *ctx)
{
	/* Its master died while we had it: what is left of it is ours to end. */
	if (!watch->up && !watch->adopted && watch->started_once)
		node_watch_fence(watch);
	if (!child_running(&watch->child) && watch->fence_left == 0) {
		done(ctx);
		return;
	}
	watch->stopped = done;
	watch->stopped_ctx = ctx;
	node_call_cancel(watch->call);
	watch->call = NULL;
	child_signal(&watch->child, SIGTERM);
	set_timer(watch, STOP_LIMIT_MS);
}

/* SPDX-License-Identifier: ISC */
/*
 * The master's life: what it opens in which order, how it starts, what it does
 * when something changes, how it ends. It runs as the service user from the
 * first lines on and keeps no thread and no blocking call once its loop runs.
 *
 *   STARTING ── all workers ready ──► RUNNING ── signal ──► STOPPING ──► exit
 *      └───────────── signal, or no Redis ──────────────────►┘
 *
 * Stopping: workers first (IPC_STOP, killed after a deadline), then the
 * embedded Redis, which they need to the last. A master that ends in any other
 * way ends alone: what runs goes on, and the next one adopts it (orphans.h).
 */
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config.h"
#include "keepsock/admin.h"
#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/clock.h"
#include "keepsock/embedded_redis.h"
#include "keepsock/ipc.h"
#include "keepsock/log.h"
#include "keepsock/magic.h"
#include "keepsock/master.h"
#include "keepsock/node_check.h"
#include "keepsock/node_events.h"
#include "keepsock/node_page.h"
#include "keepsock/node_processes.h"
#include "keepsock/privileges.h"
#include "keepsock/process_title.h"
#include "keepsock/run_dir.h"
#include "keepsock/sd_notify.h"
#include "keepsock/sealed_text.h"
#include "keepsock/secret.h"
#include "keepsock/text_file.h"
#include "keepsock/worker_slot.h"
#include "master/certificates.h"
#include "master/change.h"
#include "master/orphans.h"
#include "master/reload.h"
#include "master/resume.h"
#include "master/role.h"
#include "master/takeovers.h"
#include "master/upgrade.h"

/* Beyond the time that clients get to answer their close frame. */
#define STOP_DEADLINE_MS 5000
/* A living master that --stop asks to end: it waits for its clients. */
#define END_HOLDER_MS 120000
/* An admin socket that was moved answers so long at the old place. */
#define OLD_ADMIN_S 2

static const char *const phase_names[] = {"starting", "running", "stopping"};

const char *master_phase_name(enum master_phase phase)
{
	return phase_names[phase];
}

static void change_phase(struct master *master, enum master_phase to, const char *reason)
{
	uint64_t now = clock_boottime_ms();

	log_info("master change=%s->%s reason=%s ms=%" PRIu64, phase_names[master->phase],
		 phase_names[to], log_value_str(reason), now - master->phase_since_ms);
	master->phase = to;
	master->phase_since_ms = now;
}

/* ---- telling systemd ---- */

static void notify(const char *state)
{
	if (sd_notify_send(state) < 0)
		log_warning("sd_notify_failed error=%s", strerror(errno));
}

static uint32_t count_workers(const struct master *master, enum worker_state state)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < master->worker_count; i++)
		count += master->workers[i].state == state;
	return count;
}

static void notify_status(struct master *master, const char *first_line)
{
	struct buffer text = {0};

	buffer_printf(&text, "%sSTATUS=%u of %u workers ready", first_line,
		      count_workers(master, WORKER_READY), master->worker_count);
	notify(buffer_cstr(&text));
	buffer_free(&text);
}

/* ---- stopping ---- */

void master_end_loop(struct master *master)
{
	if (event_base_loopexit(master->base, NULL) < 0)
		log_fatal("loop_exit_failed");
}

static void stop_redis_when_workers_are_down(struct master *master)
{
	if (count_workers(master, WORKER_DOWN) < master->worker_count)
		return;
	evtimer_del(master->stop_timer);
	master_redis_stop(master);
}

static void stop_workers(struct master *master, bool force)
{
	for (uint32_t i = 0; i < master->worker_count; i++)
		worker_slot_stop(&master->workers[i], force);
	stop_redis_when_workers_are_down(master);
}

static void on_stop_deadline(evutil_socket_t fd, short what, void *ctx)
{
	struct master *master = ctx;

	(void)fd;
	(void)what;
	MAGIC_CHECK(master, MASTER_MAGIC);
	stop_workers(master, true);
}

void master_stop(struct master *master, const char *reason)
{
	uint64_t deadline_ms = STOP_DEADLINE_MS + (uint64_t)master->settings.client.close_timeout;
	struct timeval deadline = {.tv_sec = (time_t)(deadline_ms / 1000),
				   .tv_usec = (suseconds_t)(deadline_ms % 1000 * 1000)};

	if (master->phase == MASTER_STOPPING) {
		stop_workers(master, true);
		return;
	}
	change_phase(master, MASTER_STOPPING, reason);
	change_drop(master);
	reload_drop(master);
	upgrade_drop(master);
	notify("STOPPING=1");
	if (evtimer_add(master->stop_timer, &deadline) < 0)
		log_fatal("master_timer_failed");
	stop_workers(master, false);
}

/* ---- what happens while it runs ---- */

/* The upgrade is done, or its undoing is. */
static void end_resume(struct master *master)
{
	struct resume *resume = master->resume;

	if (!resume)
		return;
	if (*resume->failure)
		log_error("upgrade_failed program=%s reason=%s",
			  log_value_str(resume->program_path), log_value_str(resume->failure));
	else
		log_info("upgraded program=%s version=" PACKAGE_VERSION,
			 log_value_str(resume->program_path));
	resume_answer(resume, *resume->failure ? resume->failure : NULL);
	resume_close(resume);
	master->resume = NULL;
}

static void on_caught_up(void *ctx, const char *error)
{
	struct master *master = ctx;

	MAGIC_CHECK(master, MASTER_MAGIC);
	if (error)
		log_error("workers_outdated reason=%s", log_value_str(error));
	end_resume(master);
}

/* Workers that an earlier master left go on with its settings and its program, until now. */
static void catch_up(struct master *master)
{
	const struct change_plan plan = {
		.reason = master->other_program ? TAKEOVER_UPGRADE : TAKEOVER_RELOAD,
		.replace_keepers = master->other_program,
		.done = on_caught_up,
		.ctx = master,
	};

	if (master->other_program || master->other_settings)
		change_start(master, &plan);
	else
		end_resume(master);
	master->other_program = master->other_settings = false;
}

void master_on_worker_change(struct master *master)
{
	switch (master->phase) {
	case MASTER_STARTING:
		if (count_workers(master, WORKER_READY) < master->worker_count)
			break;
		change_phase(master, MASTER_RUNNING, "all workers are ready");
		notify_status(master, "READY=1\n");
		catch_up(master);
		break;
	case MASTER_RUNNING: notify_status(master, ""); break;
	case MASTER_STOPPING: stop_redis_when_workers_are_down(master); break;
	}
}

/* Its failure was logged where it happened. */
static void on_signal_reload_done(void *ctx, const char *error)
{
	struct master *master = ctx;

	MAGIC_CHECK(master, MASTER_MAGIC);
	if (error)
		log_error("reload_failed reason=%s", log_value_str(error));
}

static void on_signal_upgrade_refused(void *ctx, const char *error)
{
	(void)ctx;
	log_error("upgrade_refused reason=%s", log_value_str(error));
}

static int no_descriptor(void *ctx, bool *json)
{
	(void)ctx;
	*json = false;
	return -1;
}

static void on_signal(evutil_socket_t number, short what, void *ctx)
{
	static const struct upgrade_asker nobody = {on_signal_upgrade_refused, no_descriptor, NULL};
	struct master *master = ctx;

	(void)what;
	MAGIC_CHECK(master, MASTER_MAGIC);
	if (number == SIGUSR2)
		upgrade_start(master, NULL, &nobody);
	else if (number == SIGHUP)
		reload_start(master, on_signal_reload_done, master);
	else
		master_stop(master, strsignal((int)number));
}

/* ---- starting: order matters, each step uses those before it ---- */

static int become_service_user(struct master *master, struct buffer *error)
{
	const struct settings *settings = &master->settings;
	struct service_user user;

	if (privileges_find_user(settings->node.user, &user, error) < 0 ||
	    run_dir_prepare(settings->node.run_dir, user.uid, user.gid, error) < 0 ||
	    run_dir_prepare(settings->node.state_dir, user.uid, user.gid, error) < 0 ||
	    privileges_drop(settings->node.user, &user, error) < 0)
		return -1;
	return 0;
}

/* After the change of user, so that workers can open the same file again. */
int master_open_log(struct master *master, struct buffer *error)
{
	const struct settings *settings = &master->settings;

	return log_open(settings->log.level, settings->log.format, settings->log.target, error);
}

static char *pid_file(const struct master *master)
{
	return xasprintf("%s/keepsockd.pid", master->settings.node.run_dir);
}

static int write_pid_file(const struct master *master, struct buffer *error)
{
	char *path = pid_file(master);
	char *text = xasprintf("%ld\n", (long)getpid());
	int result = text_file_write_private(path, slice_str(text), error);

	free(text);
	free(path);
	return result;
}

static void join_processes(const struct master *master)
{
	if (node_processes_join(master->settings.node.run_dir, NODE_PROCESS_MASTER) < 0)
		log_warning("processes_not_joined error=%s", log_value_str(strerror(errno)));
}

static int take_run_dir(struct master *master, struct buffer *error)
{
	const char *path = master->settings.node.run_dir;

	if (master->resume) {
		join_processes(master);
		master->lock_fd = fcntl(master->resume->lock_fd, F_DUPFD_CLOEXEC, 0);
		return write_pid_file(master, error);
	}
	if (run_dir_check(path, error) < 0 ||
	    (master->only_stops && run_dir_end_holder(path, END_HOLDER_MS, error) < 0))
		return -1;
	master->lock_fd = run_dir_lock(path, error);
	if (master->lock_fd < 0)
		return -1;
	join_processes(master);
	return write_pid_file(master, error);
}

/* The page that the workers write already, if it is one of this program's; NULL. */
static struct node_page *adopt_page(struct master *master, struct orphans *orphans)
{
	struct node_page *page = NULL;

	for (uint32_t i = 0; i < orphans->slots && !page; i++) {
		int fd = orphans->slot[i].page_fd;

		if (fd < 0)
			continue;
		page = node_page_map(fd);
		if (!page) {
			log_warning("node_page_not_adopted slot=%u error=%s", i, strerror(errno));
			continue;
		}
		master->page_fd = fd;
		orphans->slot[i].page_fd = -1;
	}
	return page;
}

/* As many slots as run are adopted, whatever the configuration says by now. */
static void count_workers_to_run(struct master *master, const struct orphans *orphans)
{
	master->worker_count = node_worker_count(&master->settings);
	if (master->page)
		master->worker_count = master->page->workers;
	if (orphans->slots > master->worker_count)
		master->worker_count = orphans->slots;
}

static int make_shared_memory(struct master *master, struct slice config_text,
			      struct orphans *orphans, struct buffer *error)
{
	master->settings_fd = sealed_text_create("keepsock-settings", config_text);
	if (master->settings_fd < 0) {
		buffer_printf(error, "cannot keep the configuration: %s", strerror(errno));
		return -1;
	}
	master->page = adopt_page(master, orphans);
	count_workers_to_run(master, orphans);
	if (!master->page) {
		master->page = node_page_create(master->worker_count, &master->page_fd);
		if (master->page)
			role_init(master);
	}
	if (!master->page) {
		buffer_printf(error, "cannot make the node page: %s", strerror(errno));
		return -1;
	}
	node_page_claim_slot(master->page, NODE_SLOT_MASTER);
	role_update_metrics(master);
	return 0;
}

/*
 * Keepers and workers are started from the binary that runs, whatever is
 * installed in its place meanwhile. The worker of a keeper that dies becomes our
 * child, so that it is waited for.
 */
static int prepare_children(struct master *master, struct buffer *error)
{
	master->program_fd = open("/proc/self/exe", O_PATH | O_CLOEXEC);
	if (master->program_fd < 0) {
		buffer_printf(error, "cannot open /proc/self/exe: %s", strerror(errno));
		return -1;
	}
	if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0) {
		buffer_printf(error, "prctl: %s", strerror(errno));
		return -1;
	}
	return 0;
}

static int make_loop(struct master *master, struct buffer *error)
{
	static const int numbers[MASTER_SIGNALS] = {SIGTERM, SIGINT, SIGHUP, SIGUSR2};
	sigset_t none;

	master->base = event_base_new();
	if (!master->base) {
		buffer_append_str(error, "cannot make an event loop");
		return -1;
	}
	for (int i = 0; i < MASTER_SIGNALS; i++) {
		master->signals[i] = evsignal_new(master->base, numbers[i], on_signal, master);
		if (!master->signals[i] || event_add(master->signals[i], NULL) < 0) {
			buffer_append_str(error, "cannot watch for signals");
			return -1;
		}
	}
	/* Blocked if we were another program until now. */
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	master->stop_timer = evtimer_new(master->base, on_stop_deadline, master);
	if (!master->stop_timer) {
		buffer_append_str(error, "cannot make a timer");
		return -1;
	}
	return 0;
}

static void make_slots(struct master *master)
{
	master->workers = xcalloc(NODE_WORKERS_MAX, sizeof(*master->workers));
	for (uint32_t i = 0; i < master->worker_count; i++)
		worker_slot_init(&master->workers[i], master, i);
}

static bool is_other_file(int a, int b)
{
	struct stat one, other;

	return a >= 0 && b >= 0 && fstat(a, &one) == 0 && fstat(b, &other) == 0 &&
	       (one.st_dev != other.st_dev || one.st_ino != other.st_ino);
}

static bool is_other_text(int fd, struct slice text)
{
	struct buffer found = {0};
	bool other = fd >= 0 && sealed_text_read(fd, &found) == 0 &&
		     !slice_equal(buffer_slice(&found), text);

	buffer_free(&found);
	return other;
}

/* Whether what was left runs with something else than what it would be started with now. */
static void compare_orphan(struct master *master, const struct orphan *orphan,
			   struct slice config_text)
{
	master->other_program =
		master->other_program || is_other_file(orphan->program_fd, master->program_fd);
	master->other_settings =
		master->other_settings || is_other_text(orphan->settings_fd, config_text);
}

/* What a dead master left goes on under this one. From here on a failure leaves it as it is. */
static int adopt_orphans(struct master *master, struct slice config_text, struct orphans *orphans,
			 struct buffer *error)
{
	size_t count;
	struct listener_member *members = orphans_listeners(orphans, &count);
	int result = 0;

	if (!master->only_stops)
		result = listeners_open(&master->listeners, &master->settings, master->worker_count,
					members, count, error);
	/* A node that was the primary goes on as such. */
	if (result == 0 && !master->only_stops && node_role_get(master->page).role != NODE_STANDBY)
		result = listeners_open_primary(&master->listeners, &master->settings, members,
						count, error);
	free(members);
	for (uint32_t i = 0; i < orphans->slots && result == 0; i++) {
		if (!orphan_exists(&orphans->slot[i]))
			continue;
		compare_orphan(master, &orphans->slot[i], config_text);
		worker_slot_adopt(&master->workers[i], &orphans->slot[i]);
	}
	if (result == 0 && orphans->slots > 0)
		node_event_add(NODE_EVENT_MASTER_REPLACED, "pid %d", (int)getpid());
	return result;
}

static void log_warning_text(void *ctx, const char *text)
{
	(void)ctx;
	log_warning("configuration_warning text=%s", log_value_str(text));
}

/* The first that is found: all workers have the same. */
static int open_certificates(struct master *master, const struct orphans *orphans,
			     struct buffer *error)
{
	int left_fd = -1;

	for (uint32_t i = 0; i < orphans->slots && left_fd < 0; i++)
		left_fd = orphans->slot[i].tls_fd;
	return certificates_open(master, left_fd, error);
}

/* Everything that runs clients: what is there, then what is missing. */
static int start_node(struct master *master, struct slice config_text, struct buffer *error)
{
	struct orphans *orphans = xmalloc(sizeof(*orphans));
	int admin_fd = -1;
	int result = orphans_find(orphans, master->settings.node.run_dir, error);

	/* Who only ends them needs no successors for them. */
	if (result == 0 && !master->only_stops && !orphans_fit(orphans, error)) {
		orphans_free(orphans);
		result = -1;
	}
	if (result == 0) {
		result = open_certificates(master, orphans, error);
		if (result == 0)
			result = make_shared_memory(master, config_text, orphans, error);
		if (result == 0) {
			make_slots(master);
			result = adopt_orphans(master, config_text, orphans, error);
		}
		orphans_free(orphans);
	}
	free(orphans);
	if (result < 0 || master->only_stops)
		return result < 0 ? -1 : master_redis_adopt(master, error);
	certificates_watch(master);
	if (master->resume) {
		takeovers_restore(master, master->resume->takeovers);
		admin_fd = fcntl(master->resume->admin_fd, F_DUPFD_CLOEXEC, 0);
	}
	master->admin = admin_open(master, &master->settings, admin_fd, error);
	if (!master->admin)
		return -1;
	return master_redis_start(master, error);
}

static int start(struct master *master, struct slice config_text, struct buffer *error)
{
	if (become_service_user(master, error) < 0 || master_open_log(master, error) < 0 ||
	    take_run_dir(master, error) < 0)
		return -1;
	log_info("start node=%s config=%s workers=%u uid=%ld open_files=%lu",
		 master->settings.node.name, log_value_str(master->config_name),
		 node_worker_count(&master->settings), (long)geteuid(), master->open_file_limit);
	node_warnings(&master->settings, master->open_file_limit, log_warning_text, NULL);
	master->api_key = node_read_api_key(&master->settings, error);
	if (!master->api_key ||
	    node_read_token_keys(&master->settings, &master->token_keys,
				 &master->subscription_token_keys, error) < 0 ||
	    prepare_children(master, error) < 0 || make_loop(master, error) < 0)
		return -1;
	return start_node(master, config_text, error);
}

/* ---- the end: everything in reverse ---- */

static void remove_pid_file(const struct master *master)
{
	char *path = pid_file(master);

	if (unlink(path) < 0)
		log_warning("pid_file_left path=%s error=%s", log_value_str(path), strerror(errno));
	free(path);
}

static void free_events(struct master *master)
{
	for (int i = 0; i < MASTER_SIGNALS; i++) {
		if (master->signals[i])
			event_free(master->signals[i]);
	}
	if (master->stop_timer)
		event_free(master->stop_timer);
	if (master->base)
		event_base_free(master->base);
}

static void close_old_admin(struct master *master)
{
	admin_close(master->old_admin);
	master->old_admin = NULL;
	if (master->old_admin_timer)
		event_free(master->old_admin_timer);
	master->old_admin_timer = NULL;
}

static void on_old_admin_time(evutil_socket_t fd, short what, void *ctx)
{
	struct master *master = ctx;

	(void)fd;
	(void)what;
	MAGIC_CHECK(master, MASTER_MAGIC);
	close_old_admin(master);
}

void master_replace_admin(struct master *master, struct admin *admin)
{
	static const struct timeval linger = {.tv_sec = OLD_ADMIN_S};

	close_old_admin(master);
	master->old_admin = master->admin;
	master->admin = admin;
	master->old_admin_timer = evtimer_new(master->base, on_old_admin_time, master);
	if (!master->old_admin_timer || evtimer_add(master->old_admin_timer, &linger) < 0)
		log_fatal("master_timer_failed");
}

static void release(struct master *master)
{
	change_drop(master);
	reload_drop(master);
	upgrade_drop(master);
	close_old_admin(master);
	role_end(master);
	admin_close(master->admin);
	takeovers_free(master->takeovers);
	for (uint32_t i = 0; master->workers && i < master->worker_count; i++)
		worker_slot_free(&master->workers[i]);
	master_redis_free(master);
	listeners_close(&master->listeners);
	certificates_close(master);
	free_events(master);
	if (master->page) {
		node_page_claim_slot(NULL, 0);
		node_page_unmap(master->page);
		close(master->page_fd);
	}
	if (master->program_fd >= 0)
		close(master->program_fd);
	if (master->settings_fd >= 0)
		close(master->settings_fd);
	if (master->lock_fd >= 0) {
		remove_pid_file(master);
		close(master->lock_fd);
	}
	if (master->api_key)
		secret_wipe(master->api_key, strlen(master->api_key));
	free(master->api_key);
	ipc_keys_free(&master->token_keys);
	ipc_keys_free(&master->subscription_token_keys);
	settings_free(&master->settings);
	free(master->workers);
	free(master->message);
	free(master->keeper_message);
	master->magic = 0;
	free(master);
}

static struct master *create(struct master_options *options)
{
	struct master *master = xcalloc(1, sizeof(*master));

	master->magic = MASTER_MAGIC;
	master->started_ms = master->phase_since_ms = clock_boottime_ms();
	master->settings = options->settings;
	memset(&options->settings, 0, sizeof(options->settings));
	master->config_name = options->config_name;
	master->open_file_limit = options->open_file_limit;
	master->only_stops = options->only_stop;
	master->program_path = options->program_path;
	master->resume = options->resume;
	master->settings_fd = master->lock_fd = master->page_fd = master->program_fd = -1;
	master->takeovers = takeovers_create();
	master->message = xmalloc(sizeof(*master->message));
	master->keeper_message = xmalloc(sizeof(*master->keeper_message));
	return master;
}

void master_go_back(struct resume *resume, const char *reason)
{
	struct buffer error = {0};
	int program_fd = resume->old_program_fd;

	if (program_fd < 0)
		return;
	free(resume->failure);
	resume->failure = xasprintf("the new program could not start as a master: %s", reason);
	resume->old_program_fd = -1;
	resume_execute(resume, program_fd, &error);
	log_error("master_not_taken_back reason=%s", log_value_str(buffer_cstr(&error)));
	resume->old_program_fd = program_fd;
	buffer_free(&error);
}

int master_run(struct master_options *options)
{
	struct master *master = create(options);
	struct buffer error = {0};
	int status;

	log_init("master", -1);
	process_title_set("keepsockd: master of %s (%s)", master->settings.node.name,
			  master->config_name);
	if (start(master, options->config_text, &error) < 0) {
		log_error("start_failed reason=%s", log_value_str(buffer_cstr(&error)));
		if (master->resume)
			master_go_back(master->resume, buffer_cstr(&error));
		master->exit_status = EXIT_FAILURE;
	} else {
		if (master->only_stops)
			master_stop(master, "asked to");
		if (event_base_dispatch(master->base) < 0) {
			log_error("loop_failed");
			master->exit_status = EXIT_FAILURE;
		}
	}
	log_info("end status=%d", master->exit_status);
	status = master->exit_status;
	release(master);
	buffer_free(&error);
	return status;
}

/* SPDX-License-Identifier: ISC */
/*
 * Starting and watching child processes. Runs in master and keepers. Between
 * fork and exec only plain system calls are made; the child's failure to exec
 * comes back through a pipe that a successful exec closes.
 */
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "keepsock/buffer.h"
#include "keepsock/child.h"
#include "keepsock/clock.h"
#include "keepsock/log.h"
#include "keepsock/magic.h"

#define CHILD_MAGIC UINT32_C(0x43484c44) /* "CHLD" */
/* Its channels become these, in this order. */
#define CHILD_FIRST_FD 3

/* Whatever the child needs is moved here, above the descriptors that are about to be taken. */
#define CHILD_MOVED_FD 16

#define LIVED_LONG_MS        1000
#define RESTART_DELAY_MIN_MS 100
#define RESTART_DELAY_MAX_MS 5000

static void reset_signals(void)
{
	struct sigaction action;
	sigset_t none;

	memset(&action, 0, sizeof(action));
	action.sa_handler = SIG_DFL;
	for (int number = 1; number < NSIG; number++)
		(void)sigaction(number, &action, NULL); /* SIGKILL and the like refuse: fine */
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/* A duplicate out of the way; -1 stays -1. False with errno. */
static bool move_away(int *fd)
{
	if (*fd < 0)
		return true;
	*fd = fcntl(*fd, F_DUPFD_CLOEXEC, CHILD_MOVED_FD);
	return *fd >= 0;
}

/* Puts what the child inherits in its place, and closes everything else at the exec. */
static bool place_descriptors(struct child_spec *spec, int *error_fd)
{
	unsigned last = CHILD_FIRST_FD;

	if (!move_away(error_fd) || !move_away(&spec->program_fd) || !move_away(&spec->output_fd))
		return false;
	for (size_t i = 0; i < CHILD_CHANNELS_MAX; i++) {
		if (!move_away(&spec->channels[i]))
			return false;
	}
	if (spec->output_fd >= 0 &&
	    (dup2(spec->output_fd, STDOUT_FILENO) < 0 || dup2(spec->output_fd, STDERR_FILENO) < 0))
		return false;
	for (size_t i = 0; i < CHILD_CHANNELS_MAX; i++) {
		if (spec->channels[i] < 0)
			continue;
		if (dup2(spec->channels[i], CHILD_FIRST_FD + (int)i) < 0)
			return false;
		last = CHILD_FIRST_FD + (unsigned)i + 1;
	}
	return close_range(last, UINT_MAX, CLOSE_RANGE_CLOEXEC) == 0;
}

static void execute(const struct child_spec *spec)
{
	if (spec->program_fd >= 0)
		execveat(spec->program_fd, "", spec->argv, environ, AT_EMPTY_PATH);
	else
		execvp(spec->path, spec->argv);
}

static int change_user(const struct child_spec *spec)
{
	if (!spec->as_user)
		return 0;
	if (setgroups(0, NULL) < 0 || setresgid(spec->gid, spec->gid, spec->gid) < 0)
		return -1;
	return setresuid(spec->uid, spec->uid, spec->uid);
}

/* Runs in the child; returns only when something failed, with errno set. */
static void become(struct child_spec *spec, int *error_fd, pid_t parent)
{
	reset_signals();
	if (!place_descriptors(spec, error_fd) || setpgid(0, 0) < 0 || change_user(spec) < 0 ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		return;
	if (!spec->outlives_us) {
		if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
			return;
		/* The parent may have died before the line above that ties us to it. */
		if (getppid() != parent)
			_exit(1);
	}
	execute(spec);
}

_Noreturn static void run_child(struct child_spec spec, int error_fd, pid_t parent)
{
	int error;

	become(&spec, &error_fd, parent);
	error = errno;
	/* If the parent is gone there is nobody to tell. */
	if (write(error_fd, &error, sizeof(error)) < 0)
		_exit(126);
	_exit(127);
}

/* 0 when the child has executed its binary, else the errno that stopped it. */
static int wait_for_exec(int error_fd)
{
	int error = 0;
	ssize_t got;

	do {
		got = read(error_fd, &error, sizeof(error));
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		return errno;
	return got == (ssize_t)sizeof(error) ? error : 0;
}

static void stop_watching(struct child *child)
{
	if (child->exit_event)
		event_free(child->exit_event);
	child->exit_event = NULL;
	close(child->pidfd);
	child->pidfd = -1;
	child->pid = 0;
}

static void on_exit_event(evutil_socket_t fd, short what, void *ctx)
{
	struct child *child = ctx;
	siginfo_t info;
	int status;

	(void)what;
	MAGIC_CHECK(child, CHILD_MAGIC);
	memset(&info, 0, sizeof(info));
	if (waitid(P_PIDFD, (id_t)fd, &info, WEXITED | WNOHANG) < 0)
		status = CHILD_STATUS_UNKNOWN; /* ECHILD: adopted, its parent waits for it */
	else if (info.si_pid == 0)
		return;
	else
		status = info.si_code == CLD_EXITED ? W_EXITCODE(info.si_status, 0)
						    : W_EXITCODE(0, info.si_status);
	stop_watching(child);
	child->on_exit(child, status, child->ctx);
}

/* 0, or -1 with errno, the pidfd being closed. */
static int watch(struct child *child, struct event_base *base)
{
	child->exit_event =
		event_new(base, child->pidfd, EV_READ | EV_PERSIST, on_exit_event, child);
	if (!child->exit_event || event_add(child->exit_event, NULL) < 0) {
		stop_watching(child);
		errno = ENOMEM;
		return -1;
	}
	return 0;
}

/* Forks with all signals blocked, so that none of ours runs a handler in the child. */
static pid_t fork_child(const struct child_spec *spec, int error_fd)
{
	sigset_t all, before;
	pid_t parent = getpid();
	pid_t pid;

	sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, &before);
	pid = fork();
	if (pid == 0)
		run_child(*spec, error_fd, parent);
	(void)sigprocmask(SIG_SETMASK, &before, NULL);
	return pid;
}

static void reap(pid_t pid)
{
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

int child_start(struct child *child, struct event_base *base, const struct child_spec *spec,
		void (*on_exit)(struct child *child, int status, void *ctx), void *ctx,
		struct buffer *error)
{
	int pipe_fds[2];
	int why;
	pid_t pid;

	if (pipe2(pipe_fds, O_CLOEXEC) < 0) {
		buffer_printf(error, "pipe: %s", strerror(errno));
		return -1;
	}
	pid = fork_child(spec, pipe_fds[1]);
	why = errno;
	close(pipe_fds[1]);
	if (pid < 0) {
		close(pipe_fds[0]);
		buffer_printf(error, "fork: %s", strerror(why));
		return -1;
	}
	why = wait_for_exec(pipe_fds[0]);
	close(pipe_fds[0]);
	if (why != 0) {
		reap(pid);
		buffer_printf(error, "cannot execute %s: %s",
			      spec->path ? spec->path : spec->argv[0], strerror(why));
		return -1;
	}
	*child = (struct child){
		.magic = CHILD_MAGIC,
		.pid = pid,
		.last_pid = pid,
		.pidfd = -1,
		.started_ms = clock_boottime_ms(),
		.on_exit = on_exit,
		.ctx = ctx,
	};
	/* It is opened before anybody reaps, so it can only mean this child. */
	child->pidfd = pidfd_open(pid, 0);
	if (child->pidfd >= 0 && watch(child, base) == 0)
		return 0;
	buffer_printf(error, "cannot watch pid %d: %s", (int)pid, strerror(errno));
	child->pid = 0;
	(void)kill(pid, SIGKILL); /* not reaped yet, so the pid is still its own */
	reap(pid);
	return -1;
}

int child_adopt(struct child *child, struct event_base *base, pid_t pid, int pidfd,
		void (*on_exit)(struct child *child, int status, void *ctx), void *ctx)
{
	*child = (struct child){
		.magic = CHILD_MAGIC,
		.pid = pid,
		.last_pid = pid,
		.pidfd = pidfd,
		.started_ms = clock_boottime_ms(),
		.on_exit = on_exit,
		.ctx = ctx,
	};
	return watch(child, base);
}

void child_leave(struct child *child)
{
	if (child_running(child))
		stop_watching(child);
}

void child_move(struct child *to, struct child *from,
		void (*on_exit)(struct child *child, int status, void *ctx), void *ctx)
{
	struct event_base *base = event_get_base(from->exit_event);

	*to = *from;
	to->on_exit = on_exit;
	to->ctx = ctx;
	event_free(from->exit_event);
	*from = (struct child){.last_pid = from->last_pid, .pidfd = -1};
	to->exit_event = event_new(base, to->pidfd, EV_READ | EV_PERSIST, on_exit_event, to);
	if (!to->exit_event || event_add(to->exit_event, NULL) < 0)
		log_fatal("child_event_failed");
}

void child_signal(struct child *child, int signal_number)
{
	if (!child_running(child))
		return;
	/* ESRCH: it is dead and about to be reaped. */
	if (pidfd_send_signal(child->pidfd, signal_number, NULL, 0) < 0 && errno != ESRCH)
		log_error("child_signal_failed pid=%d signal=%d error=%s", (int)child->pid,
			  signal_number, strerror(errno));
}

void child_end(struct child *child)
{
	struct pollfd gone;
	siginfo_t info;

	if (!child_running(child))
		return;
	child_signal(child, SIGKILL);
	gone = (struct pollfd){.fd = child->pidfd, .events = POLLIN};
	while (poll(&gone, 1, -1) < 0 && errno == EINTR)
		;
	/* Fails for one that was adopted: its parent waits for it. */
	(void)waitid(P_PIDFD, (id_t)child->pidfd, &info, WEXITED | WNOHANG);
	stop_watching(child);
}

void child_forget(struct child *child)
{
	if (child_running(child))
		stop_watching(child);
}

uint64_t child_age_ms(const struct child *child)
{
	return clock_boottime_ms() - child->started_ms;
}

uint32_t child_restart_delay(uint32_t *delay_ms, uint64_t lived_ms)
{
	if (lived_ms >= LIVED_LONG_MS)
		*delay_ms = 0;
	else if (*delay_ms == 0)
		*delay_ms = RESTART_DELAY_MIN_MS;
	else
		*delay_ms =
			*delay_ms < RESTART_DELAY_MAX_MS / 2 ? *delay_ms * 2 : RESTART_DELAY_MAX_MS;
	return *delay_ms;
}

void child_describe_exit(struct buffer *out, int status)
{
	if (status == CHILD_STATUS_UNKNOWN)
		buffer_append_str(out, "an end that nobody told of");
	else if (WIFSIGNALED(status))
		buffer_printf(out, "signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
	else
		buffer_printf(out, "exit status %d", WEXITSTATUS(status));
}

/* SPDX-License-Identifier: ISC */
/*
 * A child process of the master or of a keeper: started without a shell,
 * watched through its pidfd by the event loop, reaped, and not outliving its
 * parent unless it is meant to (the kernel kills it). Children run in a process
 * group each, so that Ctrl-C reaches the master alone and the master decides
 * who stops when.
 */
#ifndef KEEPSOCK_CHILD_H
#define KEEPSOCK_CHILD_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct buffer;
struct event;
struct event_base;

#define CHILD_CHANNELS_MAX 2

struct child_spec {
	const char *path; /* looked for in $PATH when it has no slash */
	int program_fd;   /* executed instead of a path; -1 = none (it may be an O_PATH one) */
	char *const *argv;
	int channels[CHILD_CHANNELS_MAX]; /* become its descriptors 3 and 4; -1 = none */
	int output_fd;                    /* becomes its stdout and stderr; -1 = ours */
	bool outlives_us;                 /* our death is not its own */
	bool as_user;                     /* it runs as uid and gid, without other groups */
	uid_t uid;
	gid_t gid;
};

/* All zero = not running and never was. */
struct child {
	uint32_t magic;
	pid_t pid;      /* 0 = not running */
	pid_t last_pid; /* its pid, even when it is dead */
	int pidfd;
	uint64_t started_ms; /* boottime */
	struct event *exit_event;
	void (*on_exit)(struct child *child, int status, void *ctx);
	void *ctx;
};

/*
 * Starts it and returns when it has executed its binary; 0, or -1 with error.
 * on_exit gets a wait status (WIFEXITED ...), once, when child->pid is 0 again.
 */
int child_start(struct child *child, struct event_base *base, const struct child_spec *spec,
		void (*on_exit)(struct child *child, int status, void *ctx), void *ctx,
		struct buffer *error);

static inline bool child_running(const struct child *child)
{
	return child->pid != 0;
}

/* The status of one that somebody else waits for, as of waitid(): nobody told us. */
#define CHILD_STATUS_UNKNOWN INT_MIN

/*
 * Watches a process that runs already, another's child perhaps; takes the pidfd
 * over. on_exit as above, with CHILD_STATUS_UNKNOWN when it was not ours to
 * wait for. 0, or -1 with errno.
 */
int child_adopt(struct child *child, struct event_base *base, pid_t pid, int pidfd,
		void (*on_exit)(struct child *child, int status, void *ctx), void *ctx);

/* Forgets it; it goes on running. */
void child_leave(struct child *child);

/* Does nothing when it is not running; it can't hit another process that got its pid. */
void child_signal(struct child *child, int signal_number);

/*
 * Another struct watches the process from now on, with another callback; *from
 * is as if its own had ended. For one that runs.
 */
void child_move(struct child *to, struct child *from,
		void (*on_exit)(struct child *child, int status, void *ctx), void *ctx);

/* Kills it if it runs and waits until it is gone; on_exit is not called. For the end only. */
void child_end(struct child *child);

/* Lets go of it: it runs on, and nobody is told of its end. */
void child_forget(struct child *child);

/* Milliseconds since it was started. */
uint64_t child_age_ms(const struct child *child);

/*
 * How long to wait before a dead child is started again, in ms, given how long
 * it lived: not at all if that was a second, else 100 ms, doubling up to 5 s.
 * *delay_ms is the state, 0 at first.
 */
uint32_t child_restart_delay(uint32_t *delay_ms, uint64_t lived_ms);

/* "exit status 1", "signal 9 (Killed)". */
void child_describe_exit(struct buffer *out, int status);

#endif

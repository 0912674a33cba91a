/* SPDX-License-Identifier: ISC */
/*
 * Programs of the operator: check scripts, the notify hook, fence. Started
 * without a shell, in a process group of their own, as another user when the
 * supervisor is root; killed with all they started when they take too long. They
 * don't outlive the supervisor. Runs in the supervisor.
 */
#ifndef KEEPSOCK_SUPERVISOR_PROGRAM_H
#define KEEPSOCK_SUPERVISOR_PROGRAM_H

#include <stdbool.h>
#include <stdint.h>

#include "keepsock/privileges.h"

struct buffer;
struct event_base;
struct program;
struct settings;

/* Who they run as. */
struct program_user {
	bool change; /* we are root */
	struct service_user user;
	char name[33];
};

/* By cluster.notify_user; 0, or -1 with error. */
int program_find_user(const struct settings *settings, struct program_user *user,
		      struct buffer *error);

/* good: it exited with 0. how: "exit status 1", "signal 9 (Killed)". From the loop, once. */
typedef void program_done_fn(void *ctx, bool good, const char *how);

/* NULL with error: it could not be started. argv[0] is the program. */
struct program *program_start(struct event_base *base, const struct program_user *user,
			      char *const *argv, int64_t timeout_ms, program_done_fn *done,
			      void *ctx, struct buffer *error);

/* Kills it; done is not called. NULL is fine. */
void program_end(struct program *program);

#endif

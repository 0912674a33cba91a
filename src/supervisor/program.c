/* SPDX-License-Identifier: ISC */
/*
 * The operator's programs, see program.h.
 */
#include "supervisor/program.h"

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/child.h"
#include "keepsock/log.h"
#include "keepsock/magic.h"
#include "keepsock/settings.h"

#define PROGRAM_MAGIC UINT32_C(0x4d475250) /* "PRGM" */

struct program {
	uint32_t magic;
	struct child child;
	struct event *timer;
	bool late;
	program_done_fn *done;
	void *ctx;
};

int program_find_user(const struct settings *settings, struct program_user *user,
		      struct buffer *error)
{
	const char *name = settings->cluster.notify_user;

	*user = (struct program_user){.change = geteuid() == 0};
	if (!user->change) {
		if (*name == '\0')
			return 0;
		return privileges_find_user(name, &user->user, error);
	}
	if (*name == '\0')
		name = settings->node.user[0] ? settings->node.user : "nobody";
	snprintf(user->name, sizeof(user->name), "%s", name);
	return privileges_find_user(name, &user->user, error);
}

/* The whole group: the child has not been reaped, so the number is its own. */
static void kill_group(const struct program *program)
{
	if (child_running(&program->child) && kill(-program->child.pid, SIGKILL) < 0 &&
	    errno != ESRCH)
		log_error("program_kill_failed pid=%d error=%s", (int)program->child.pid,
			  strerror(errno));
}

static void free_program(struct program *program)
{
	event_free(program->timer);
	program->magic = 0;
	free(program);
}

static void on_program_exit(struct child *child, int status, void *ctx)
{
	struct program *program = ctx;
	struct buffer how = {0};
	program_done_fn *done;

	(void)child;
	MAGIC_CHECK(program, PROGRAM_MAGIC);
	done = program->done;
	ctx = program->ctx;
	if (program->late)
		buffer_append_str(&how, "it took too long: ");
	child_describe_exit(&how, status);
	free_program(program);
	done(ctx, WIFEXITED(status) && WEXITSTATUS(status) == 0, buffer_cstr(&how));
	buffer_free(&how);
}

static void on_program_timer(evutil_socket_t fd, short what, void *ctx)
{
	struct program *program = ctx;

	(void)fd;
	(void)what;
	MAGIC_CHECK(program, PROGRAM_MAGIC);
	program->late = true;
	kill_group(program);
}

struct program *program_start(struct event_base *base, const struct program_user *user,
			      char *const *argv, int64_t timeout_ms, program_done_fn *done,
			      void *ctx, struct buffer *error)
{
	struct program *program = xcalloc(1, sizeof(*program));
	struct timeval limit = {(time_t)(timeout_ms / 1000),
				(suseconds_t)(timeout_ms % 1000 * 1000)};
	struct child_spec spec = {
		.path = argv[0],
		.program_fd = -1,
		.argv = argv,
		.channels = {-1, -1},
		.output_fd = -1,
		.as_user = user->change,
		.uid = user->user.uid,
		.gid = user->user.gid,
	};

	program->magic = PROGRAM_MAGIC;
	program->done = done;
	program->ctx = ctx;
	program->timer = evtimer_new(base, on_program_timer, program);
	if (!program->timer || evtimer_add(program->timer, &limit) != 0)
		abort(); /* only out of memory */
	if (child_start(&program->child, base, &spec, on_program_exit, program, error) == 0)
		return program;
	free_program(program);
	return NULL;
}

void program_end(struct program *program)
{
	if (!program)
		return;
	MAGIC_CHECK(program, PROGRAM_MAGIC);
	kill_group(program);
	child_end(&program->child);
	free_program(program);
}

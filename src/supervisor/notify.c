/* SPDX-License-Identifier: ISC */
/*
 * The notify program and pipe, see notify.h. A program that hangs is killed
 * after cluster.notify_timeout, so that the queue, which is bounded, moves on.
 */
#include "supervisor/notify.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/log.h"
#include "keepsock/magic.h"
#include "keepsock/settings.h"
#include "supervisor/program.h"

#define NOTIFY_MAGIC UINT32_C(0x5946544e) /* "NTFY" */
#define WAITING_MAX  64
#define WORDS        6

struct change {
	char *words[WORDS + 1]; /* the program, its arguments; owned, NULL at the end */
};

struct notify {
	uint32_t magic;
	struct event_base *base;
	const struct settings *settings;
	struct program_user user;
	struct program *program;
	struct change waiting[WAITING_MAX]; /* the first is the one that runs */
	unsigned count;
	int fifo; /* -1 = none */
};

static void start_next(struct notify *notify);

static void drop_first(struct notify *notify)
{
	for (unsigned i = 0; i < WORDS; i++)
		free(notify->waiting[0].words[i]);
	notify->count--;
	memmove(notify->waiting, notify->waiting + 1, notify->count * sizeof(notify->waiting[0]));
}

static void on_done(void *ctx, bool good, const char *how)
{
	struct notify *notify = ctx;

	MAGIC_CHECK(notify, NOTIFY_MAGIC);
	notify->program = NULL;
	if (!good)
		log_warning("notify_failed state=%s result=%s", notify->waiting[0].words[3],
			    log_value_str(how));
	drop_first(notify);
	start_next(notify);
}

static void start_next(struct notify *notify)
{
	while (notify->count > 0 && !notify->program) {
		struct buffer error = {0};

		notify->program = program_start(
			notify->base, &notify->user, notify->waiting[0].words,
			notify->settings->cluster.notify_timeout, on_done, notify, &error);
		if (!notify->program) {
			log_error("notify_failed state=%s result=%s", notify->waiting[0].words[3],
				  log_value_str(buffer_cstr(&error)));
			drop_first(notify);
		}
		buffer_free(&error);
	}
}

/* All of a line or nothing: pipes write up to PIPE_BUF bytes in one piece. */
static void write_fifo(struct notify *notify, const struct buffer *line)
{
	if (notify->fifo < 0)
		return;
	if (write(notify->fifo, line->data, line->len) < 0)
		log_warning("notify_fifo_failed error=%s",
			    errno == EAGAIN ? "nobody reads it" : strerror(errno));
}

void notify_change(struct notify *notify, const char *from, const char *to, uint64_t epoch,
		   const char *reason)
{
	const struct settings *settings = notify->settings;
	struct buffer line = {0};
	struct change *change;

	buffer_printf(&line, "%s %s %s %" PRIu64 " %s\n", settings->node.name, from, to, epoch,
		      reason);
	write_fifo(notify, &line);
	buffer_free(&line);
	if (settings->cluster.notify[0] == '\0')
		return;
	if (notify->count == WAITING_MAX) {
		log_error("notify_dropped state=%s reason=\"too many are waiting\"", to);
		return;
	}
	change = &notify->waiting[notify->count++];
	*change = (struct change){{
		xstrdup(settings->cluster.notify),
		xstrdup(settings->node.name),
		xstrdup(from),
		xstrdup(to),
		xasprintf("%" PRIu64, epoch),
		xstrdup(reason),
		NULL,
	}};
	start_next(notify);
}

unsigned notify_waiting(const struct notify *notify)
{
	return notify->count;
}

/* Open for reading too, so that writing never fails for want of a reader. */
static int open_fifo(struct notify *notify, struct buffer *error)
{
	const char *path = notify->settings->cluster.notify_fifo;
	struct stat status;

	if (*path == '\0')
		return 0;
	if (mkfifo(path, 0640) < 0 && errno != EEXIST) {
		buffer_printf(error, "cluster.notify_fifo: %s: %s", path, strerror(errno));
		return -1;
	}
	notify->fifo = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
	if (notify->fifo < 0 || fstat(notify->fifo, &status) < 0) {
		buffer_printf(error, "cluster.notify_fifo: %s: %s", path, strerror(errno));
		return -1;
	}
	if (!S_ISFIFO(status.st_mode)) {
		buffer_printf(error, "cluster.notify_fifo: %s is no named pipe", path);
		return -1;
	}
	return 0;
}

struct notify *notify_create(struct event_base *base, const struct settings *settings,
			     struct buffer *error)
{
	struct notify *notify = xcalloc(1, sizeof(*notify));

	notify->magic = NOTIFY_MAGIC;
	notify->base = base;
	notify->settings = settings;
	notify->fifo = -1;
	if (program_find_user(settings, &notify->user, error) < 0 || open_fifo(notify, error) < 0) {
		notify_free(notify);
		return NULL;
	}
	return notify;
}

void notify_free(struct notify *notify)
{
	if (!notify)
		return;
	MAGIC_CHECK(notify, NOTIFY_MAGIC);
	if (notify->count > 0)
		log_warning("notify_dropped count=%u reason=\"the supervisor ends\"",
			    notify->count);
	program_end(notify->program);
	while (notify->count > 0)
		drop_first(notify);
	if (notify->fifo >= 0)
		close(notify->fifo);
	notify->magic = 0;
	free(notify);
}

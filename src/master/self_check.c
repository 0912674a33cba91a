/* SPDX-License-Identifier: ISC */
/*
 * The self-check of a new program, see self_check.h: the master's side, and the
 * role itself. The first trusts nothing of what the second does: it may crash,
 * hang, lack a library or be something else altogether.
 *
 * The new program gets the settings' text and its display name over descriptor
 * 3, and answers with JSON of the versions it speaks, or the text of an error.
 */
#include "master/self_check.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "config.h"
#include "keepsock/alloc.h"
#include "keepsock/arena.h"
#include "keepsock/buffer.h"
#include "keepsock/child.h"
#include "keepsock/ipc.h"
#include "keepsock/ipc_messages.h"
#include "keepsock/keeper_messages.h"
#include "keepsock/log.h"
#include "keepsock/magic.h"
#include "keepsock/master.h"
#include "keepsock/node_check.h"
#include "keepsock/sealed_text.h"
#include "keepsock/settings.h"

#define SELF_CHECK_MAGIC UINT32_C(0x53454c46) /* "SELF" */
#define LIMIT_S          10
#define SAYS_MAX         300
#define CHECK_QUESTION   1
#define CHECK_ANSWER     2

struct self_check {
	uint32_t magic;
	struct master *master;
	struct child child;
	int channel;
	int output; /* what it writes to stdout and stderr; a memfd */
	bool too_late;
	struct event *limit;
	self_check_fn *done;
	void *ctx;
};

/* ---- the role ---- */

static void append_versions(struct buffer *out)
{
	json_t *object = json_pack("{s:s, s:i, s:i, s:i}", "version", PACKAGE_VERSION, "keeper",
				   (int)KEEPER_PROTOCOL_VERSION, "worker", IPC_PROTOCOL_VERSION,
				   "arena", (int)ARENA_LAYOUT_VERSION);
	char *text = json_dumps(object, JSON_COMPACT);

	buffer_append_str(out, text ? text : "");
	free(text);
	json_decref(object);
}

static int check_settings(struct ipc_message *question, struct buffer *error)
{
	struct buffer text = {0};
	struct settings settings;
	struct slice name;
	char *display;
	int result = -1;

	if (question->nfds != 1 || ipc_message_payload(question, &name) < 0 ||
	    sealed_text_read(question->fds[0], &text) < 0) {
		buffer_append_str(error, "there is no configuration to check");
	} else {
		display = xstrndup(name.data, name.len);
		result = settings_parse(buffer_cstr(&text), display, &settings, error);
		if (result == 0)
			result = node_check_files(&settings, error);
		if (result == 0)
			settings_free(&settings);
		free(display);
	}
	buffer_free(&text);
	return result;
}

int self_check_main(int ipc_fd, int argc, char **argv)
{
	struct ipc_message *question = xmalloc(sizeof(*question));
	struct buffer answer = {0};
	int status = EXIT_FAILURE;

	(void)argc;
	(void)argv;
	if (ipc_receive(ipc_fd, question) == 1 && question->type == CHECK_QUESTION) {
		if (check_settings(question, &answer) == 0)
			append_versions(&answer);
		if (ipc_send(ipc_fd, CHECK_ANSWER, 0, answer.data, answer.len, NULL, 0) == 0)
			status = EXIT_SUCCESS;
		ipc_message_close_fds(question);
	}
	buffer_free(&answer);
	free(question);
	return status;
}

/* ---- the master's side ---- */

static void free_check(struct self_check *check)
{
	child_end(&check->child);
	if (check->limit)
		event_free(check->limit);
	if (check->channel >= 0)
		close(check->channel);
	if (check->output >= 0)
		close(check->output);
	check->magic = 0;
	free(check);
}

void self_check_drop(struct self_check *check)
{
	if (check)
		free_check(check);
}

static void finish(struct self_check *check, const char *error)
{
	self_check_fn *done = check->done;
	void *ctx = check->ctx;

	free_check(check);
	done(ctx, error);
}

static bool has_version(const json_t *answer, const char *key, json_int_t ours)
{
	return json_integer_value(json_object_get(answer, key)) == ours;
}

/* What it answered; appends why that is no good. */
static void judge_answer(struct slice text, struct buffer *error)
{
	json_t *answer = json_loadb(text.data ? text.data : "", text.len, 0, NULL);
	const char *version = json_string_value(json_object_get(answer, "version"));
	json_int_t arena = json_integer_value(json_object_get(answer, "arena"));

	if (!version)
		buffer_printf(error, "the new program refuses: %.*s", SLICE_ARG(text));
	else if (!has_version(answer, "keeper", KEEPER_PROTOCOL_VERSION) ||
		 !has_version(answer, "worker", IPC_PROTOCOL_VERSION))
		buffer_printf(error,
			      "version %s speaks other protocols than the node that runs: stop and "
			      "start it",
			      version);
	else if (arena < (json_int_t)ARENA_LAYOUT_VERSION)
		buffer_printf(
			error,
			"version %s knows arenas of layout %lld, those that are in use are of "
			"layout %u",
			version, (long long)arena, ARENA_LAYOUT_VERSION);
	else
		log_info("self_check version=%s arena=%lld", log_value_str(version),
			 (long long)arena);
	json_decref(answer);
}

/* The beginning of what it wrote, on one line. */
static void append_output(const struct self_check *check, struct buffer *error)
{
	char text[SAYS_MAX + 1];
	ssize_t got = pread(check->output, text, SAYS_MAX, 0);

	if (got <= 0)
		return;
	for (ssize_t i = 0; i < got; i++) {
		if ((unsigned char)text[i] < ' ')
			text[i] = ' ';
	}
	buffer_printf(error, "; it said: %.*s", (int)got, text);
}

static void on_exit_of_check(struct child *child, int status, void *ctx)
{
	struct self_check *check = ctx;
	struct ipc_message *message = check->master->message;
	struct buffer error = {0}, why = {0};
	struct slice text;

	(void)child;
	MAGIC_CHECK(check, SELF_CHECK_MAGIC);
	child_describe_exit(&why, status);
	if (check->too_late) {
		buffer_printf(&error, "the new program did not answer within %d s", LIMIT_S);
	} else if (ipc_receive(check->channel, message) == 1) {
		if (message->type == CHECK_ANSWER && ipc_message_payload(message, &text) == 0)
			judge_answer(text, &error);
		else
			buffer_append_str(&error, "the new program is no keepsockd");
		ipc_message_close_fds(message);
	} else {
		buffer_printf(&error, "the new program ended with %s", buffer_cstr(&why));
		append_output(check, &error);
	}
	finish(check, error.len ? buffer_cstr(&error) : NULL);
	buffer_free(&error);
	buffer_free(&why);
}

static void on_limit(evutil_socket_t fd, short what, void *ctx)
{
	struct self_check *check = ctx;

	(void)fd;
	(void)what;
	MAGIC_CHECK(check, SELF_CHECK_MAGIC);
	check->too_late = true;
	child_signal(&check->child, SIGKILL);
}

static int launch(struct self_check *check, int program_fd, int its_end, struct buffer *error)
{
	static const struct timeval limit = {.tv_sec = LIMIT_S};
	const char *name = check->master->config_name;
	char program[] = "keepsockd", role[] = "--role=check";
	char *argv[] = {program, role, NULL};
	struct child_spec spec = {
		.program_fd = program_fd,
		.argv = argv,
		.channels = {its_end, -1},
		.output_fd = check->output,
	};

	if (evtimer_add(check->limit, &limit) < 0 ||
	    ipc_send(check->channel, CHECK_QUESTION, 0, name, strlen(name),
		     &check->master->settings_fd, 1) < 0) {
		buffer_printf(error, "cannot ask the new program: %s", strerror(errno));
		return -1;
	}
	return child_start(&check->child, check->master->base, &spec, on_exit_of_check, check,
			   error);
}

struct self_check *self_check_start(struct master *master, int program_fd, self_check_fn *done,
				    void *ctx)
{
	struct self_check *check = xcalloc(1, sizeof(*check));
	struct buffer error = {0};
	int ends[2];

	*check = (struct self_check){
		.magic = SELF_CHECK_MAGIC,
		.master = master,
		.channel = -1,
		.output = memfd_create("keepsock-check", MFD_CLOEXEC),
		.done = done,
		.ctx = ctx,
	};
	check->limit = evtimer_new(master->base, on_limit, check);
	if (!check->limit)
		log_fatal("self_check_timer_failed");
	if (check->output < 0 || ipc_pair(ends) < 0) {
		buffer_printf(&error, "cannot ask the new program: %s", strerror(errno));
	} else {
		check->channel = ends[0];
		if (fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0 &&
		    launch(check, program_fd, ends[1], &error) == 0) {
			close(ends[1]);
			return check;
		}
		close(ends[1]);
	}
	finish(check, error.len ? buffer_cstr(&error) : "it could not be asked");
	buffer_free(&error);
	return NULL;
}

/* SPDX-License-Identifier: ISC */
/*
 * The node's admin socket: its handlers, and questions to workers on a
 * request's behalf. Runs in the master; a peer that goes away cancels what was
 * asked for it.
 */
#include <stdlib.h>
#include <string.h>

#include "keepsock/admin.h"
#include "keepsock/alloc.h"
#include "keepsock/inquiry.h"
#include "keepsock/magic.h"
#include "keepsock/master.h"
#include "keepsock/settings.h"

#define ADMIN_QUESTION_MAGIC UINT32_C(0x41445155) /* "ADQU" */

/* An inquiry under way for a request, which frees this. */
struct admin_question {
	uint32_t magic;
	struct admin_request *request;
	struct master *master;
	uint64_t inquiry;
	void (*done)(struct admin_request *request, const struct inquiry_answer *answers,
		     size_t count);
};

/* In the order of the command table. */
static admin_handler_fn *const handlers[] = {
#define COMMAND(name, arguments, privilege, handler, help) admin_on_##handler,
	ADMIN_COMMANDS_TABLE(COMMAND)
#ifdef KEEPSOCK_CRASH_POINTS
		ADMIN_TEST_COMMANDS_TABLE(COMMAND)
#endif
#undef COMMAND
};

struct admin *admin_open(struct master *master, const struct settings *settings, int adopt_fd,
			 struct buffer *error)
{
	struct admin_options options = {
		.base = master->base,
		.path = settings->admin.socket,
		.setting = "admin.socket",
		.mode = settings_admin_mode(settings),
		.commands = admin_command_at(0),
		.handlers = handlers,
		.command_count = sizeof(handlers) / sizeof(handlers[0]),
		.owner = master,
		.adopt_fd = adopt_fd,
	};

	return admin_server_open(&options, error);
}

struct master *admin_request_master(const struct admin_request *request)
{
	struct master *master = admin_request_owner(request);

	MAGIC_CHECK(master, MASTER_MAGIC);
	return master;
}

/* ---- asking workers ---- */

static void free_question(struct admin_question *question)
{
	question->magic = 0;
	free(question);
}

static void on_request_gone(void *ctx)
{
	struct admin_question *question = ctx;

	MAGIC_CHECK(question, ADMIN_QUESTION_MAGIC);
	inquiry_cancel(question->master, question->inquiry);
	free_question(question);
}

static void on_inquiry_done(void *ctx, const struct inquiry_answer *answers, size_t count)
{
	struct admin_question *question = ctx;
	struct admin_request *request = question->request;
	void (*done)(struct admin_request *, const struct inquiry_answer *, size_t) =
		question->done;

	MAGIC_CHECK(question, ADMIN_QUESTION_MAGIC);
	admin_request_wait(request, NULL, NULL);
	free_question(question);
	done(request, answers, count);
}

void admin_ask_workers(struct admin_request *request, const char *command, json_t *args,
		       uint32_t slot,
		       void (*done)(struct admin_request *request,
				    const struct inquiry_answer *answers, size_t count))
{
	struct admin_question *question = xcalloc(1, sizeof(*question));

	*question = (struct admin_question){
		.magic = ADMIN_QUESTION_MAGIC,
		.request = request,
		.master = admin_request_master(request),
		.done = done,
	};
	admin_request_wait(request, on_request_gone, question);
	question->inquiry = inquiry_start(
		question->master,
		&(struct inquiry_question){.command = command, .args = args, .slot = slot},
		on_inquiry_done, question);
}

/* SPDX-License-Identifier: ISC */
/*
 * Collecting the workers' answers to one question. Runs in the master's loop
 * and never waits. What a worker answers is checked for its shape; whether it
 * makes sense is for whoever asked.
 */
#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/inquiry.h"
#include "keepsock/log.h"
#include "keepsock/magic.h"
#include "keepsock/master.h"
#include "keepsock/worker_slot.h"

#define INQUIRY_MAGIC      UINT32_C(0x494e5152) /* "INQR" */
#define INQUIRY_TIMEOUT_MS 2000

struct inquiry_worker {
	bool pending;
	json_t *reply; /* owned; a well-formed answer, NULL = none */
};

struct inquiry {
	uint32_t magic;
	struct inquiry *next;
	struct master *master;
	uint64_t id;
	char *command;
	uint32_t only; /* that slot, or INQUIRY_ALL_WORKERS */
	bool starting_too;
	struct inquiry_worker *workers; /* owned */
	uint32_t worker_count;          /* there were when it began */
	struct event *timer;
	inquiry_done_fn *done;
	void *ctx;
};

static struct inquiry *find(struct master *master, uint64_t id)
{
	struct inquiry *inquiry = master->inquiries;

	while (inquiry && inquiry->id != id)
		inquiry = inquiry->next;
	return inquiry;
}

static void unlink_inquiry(struct inquiry *inquiry)
{
	struct inquiry **link = &inquiry->master->inquiries;

	while (*link != inquiry)
		link = &(*link)->next;
	*link = inquiry->next;
}

static void free_inquiry(struct inquiry *inquiry)
{
	for (uint32_t i = 0; i < inquiry->worker_count; i++)
		json_decref(inquiry->workers[i].reply);
	event_free(inquiry->timer);
	free(inquiry->workers);
	free(inquiry->command);
	inquiry->magic = 0;
	free(inquiry);
}

static bool asks(const struct inquiry *inquiry, uint32_t slot)
{
	return inquiry->only == INQUIRY_ALL_WORKERS || inquiry->only == slot;
}

/* Off the list first: whoever is told may cancel, or ask again. */
static void finish(struct inquiry *inquiry)
{
	struct inquiry_answer *answers = xcalloc(inquiry->worker_count, sizeof(*answers));
	size_t count = 0;

	unlink_inquiry(inquiry);
	for (uint32_t i = 0; i < inquiry->worker_count; i++) {
		struct inquiry_answer *answer = &answers[count];

		if (!asks(inquiry, i))
			continue;
		answer->slot = i;
		answer->rows = json_object_get(inquiry->workers[i].reply, "rows");
		answer->error =
			json_string_value(json_object_get(inquiry->workers[i].reply, "error"));
		if (inquiry->workers[i].pending)
			log_warning("worker_not_answering slot=%u command=%s", i,
				    log_value_str(inquiry->command));
		count++;
	}
	inquiry->done(inquiry->ctx, answers, count);
	free(answers);
	free_inquiry(inquiry);
}

static bool complete(const struct inquiry *inquiry)
{
	for (uint32_t i = 0; i < inquiry->worker_count; i++) {
		if (inquiry->workers[i].pending)
			return false;
	}
	return true;
}

static void on_timeout(evutil_socket_t fd, short what, void *ctx)
{
	struct inquiry *inquiry = ctx;

	(void)fd;
	(void)what;
	MAGIC_CHECK(inquiry, INQUIRY_MAGIC);
	finish(inquiry);
}

static bool can_answer(const struct inquiry *inquiry, const struct worker_slot *slot)
{
	return slot->state == WORKER_READY ||
	       (slot->state == WORKER_STARTING && inquiry->starting_too);
}

/* The request as text; {} stands for no arguments, so that workers need not ask. */
static char *encode_request(const char *command, json_t *args)
{
	json_t *request =
		json_pack("{s:s, s:o}", "command", command, "args", args ? args : json_object());
	char *text = request ? json_dumps(request, JSON_COMPACT) : NULL;

	json_decref(request);
	return text;
}

/* True when somebody was asked. */
static bool ask_workers(struct inquiry *inquiry, json_t *args)
{
	char *text = encode_request(inquiry->command, args);
	bool asked = false;

	if (!text) {
		log_error("inquiry_encode_failed command=%s", log_value_str(inquiry->command));
		return false;
	}
	for (uint32_t i = 0; i < inquiry->worker_count; i++) {
		struct worker_slot *slot = &inquiry->master->workers[i];

		if (!asks(inquiry, i) || !can_answer(inquiry, slot))
			continue;
		inquiry->workers[i].pending =
			worker_slot_send(slot, IPC_REQUEST, inquiry->id, text, strlen(text));
		asked = asked || inquiry->workers[i].pending;
	}
	free(text);
	return asked;
}

uint64_t inquiry_start(struct master *master, const struct inquiry_question *question,
		       inquiry_done_fn *done, void *ctx)
{
	struct inquiry *inquiry = xcalloc(1, sizeof(*inquiry));
	struct timeval timeout = {.tv_sec = INQUIRY_TIMEOUT_MS / 1000};

	inquiry->magic = INQUIRY_MAGIC;
	inquiry->master = master;
	inquiry->id = ++master->last_inquiry;
	inquiry->command = xstrdup(question->command);
	inquiry->only = question->slot;
	inquiry->starting_too = question->starting_too;
	inquiry->worker_count = master->worker_count;
	inquiry->workers = xcalloc(master->worker_count, sizeof(*inquiry->workers));
	inquiry->done = done;
	inquiry->ctx = ctx;
	inquiry->next = master->inquiries;
	master->inquiries = inquiry;
	/* Nobody to wait for: the answer still comes from the loop, as promised. */
	if (!ask_workers(inquiry, question->args))
		timeout.tv_sec = 0;
	inquiry->timer = evtimer_new(master->base, on_timeout, inquiry);
	if (!inquiry->timer || evtimer_add(inquiry->timer, &timeout) < 0)
		log_fatal("inquiry_timer_failed");
	return inquiry->id;
}

void inquiry_cancel(struct master *master, uint64_t id)
{
	struct inquiry *inquiry = find(master, id);

	if (!inquiry)
		return;
	unlink_inquiry(inquiry);
	free_inquiry(inquiry);
}

/* NULL when it is not one of the two shapes. */
static json_t *decode_reply(struct slice payload)
{
	json_t *reply = json_loadb(payload.data, payload.len, 0, NULL);
	json_t *rows = json_object_get(reply, "rows");
	json_t *row;
	size_t i;
	bool valid;

	if (json_is_true(json_object_get(reply, "ok"))) {
		valid = json_is_array(rows) && !json_object_get(reply, "error");
		json_array_foreach(rows, i, row) valid = valid && json_is_object(row);
	} else {
		valid = !rows && json_is_string(json_object_get(reply, "error"));
	}
	if (valid)
		return reply;
	json_decref(reply);
	return NULL;
}

void inquiry_on_reply(struct master *master, uint32_t slot, uint64_t id, struct slice payload)
{
	struct inquiry *inquiry = find(master, id);
	struct inquiry_worker *worker;

	if (!inquiry || slot >= inquiry->worker_count || !inquiry->workers[slot].pending)
		return;
	worker = &inquiry->workers[slot];
	worker->pending = false;
	worker->reply = decode_reply(payload);
	if (!worker->reply)
		log_error("bad_reply slot=%u command=%s", slot, log_value_str(inquiry->command));
	if (complete(inquiry))
		finish(inquiry);
}

void inquiry_on_worker_death(struct master *master, uint32_t slot)
{
	struct inquiry *inquiry = master->inquiries;

	while (inquiry) {
		bool was_last = slot < inquiry->worker_count && inquiry->workers[slot].pending;

		if (was_last)
			inquiry->workers[slot].pending = false;
		if (was_last && complete(inquiry)) {
			finish(inquiry);
			inquiry =
				master->inquiries; /* whoever was told may have changed the list */
		} else {
			inquiry = inquiry->next;
		}
	}
}

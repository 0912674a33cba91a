/* SPDX-License-Identifier: ISC */
/*
 * The admin socket of a node: one line in, an answer out, closed. The request
 * is `COMMAND [ARGUMENTS] [--json]`; the answer's first line is OK or
 * `ERROR reason`, the rest is the body. Runs in the master. Commands are in
 * admin_commands.h; what a peer may do is decided here, once, by the table's
 * privilege and the peer's uid.
 */
#ifndef KEEPSOCK_ADMIN_H
#define KEEPSOCK_ADMIN_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "keepsock/admin_commands.h"

struct admin;
struct admin_request;
struct buffer;
struct master;
struct inquiry_answer;

/* Opens the socket; NULL with error. */
struct admin *admin_open(struct master *master, struct buffer *error);

/* Drops what is under way and removes the socket. NULL is fine. */
void admin_close(struct admin *admin);

/*
 * A handler gets a request whose arguments fit the table, and answers it with
 * exactly one of the admin_answer functions, now or when its inquiry is done.
 */
typedef void admin_handler_fn(struct admin_request *request);

#define COMMAND(name, arguments, privilege, handler, help) admin_handler_fn admin_on_##handler;
ADMIN_COMMANDS_TABLE(COMMAND)
#ifdef KEEPSOCK_CRASH_POINTS
ADMIN_TEST_COMMANDS_TABLE(COMMAND)
#endif
#undef COMMAND

struct master *admin_request_master(const struct admin_request *request);
const struct admin_call *admin_request_call(const struct admin_request *request);

void admin_answer_error(struct admin_request *request, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* One object: a line per member, or the object as JSON. Taken over. */
void admin_answer_object(struct admin_request *request, json_t *object);

/*
 * A list: a table, or {"rows": [...], "not_answering": [slots]}. Both arrays
 * are taken over; not_answering may be NULL for a list that asked no worker.
 */
void admin_answer_rows(struct admin_request *request, json_t *rows, json_t *not_answering);

/* As a list, with an object about all rows together: its members stand beside "rows". Taken over.
 */
void admin_answer_summary(struct admin_request *request, json_t *summary, json_t *rows,
			  json_t *not_answering);

/* As admin_answer_object(), with a descriptor beside the answer; fd stays the caller's. */
void admin_answer_object_with_fd(struct admin_request *request, json_t *object, int fd);

/*
 * Asks workers for the request; args is taken over, may be NULL. done gets the
 * request and answers it. A peer that goes away cancels the inquiry.
 */
void admin_ask_workers(struct admin_request *request, const char *command, json_t *args,
		       uint32_t slot,
		       void (*done)(struct admin_request *request,
				    const struct inquiry_answer *answers, size_t count));

#endif

/* SPDX-License-Identifier: ISC */
/*
 * An admin socket: one line in, an answer out, closed. The request is
 * `COMMAND [ARGUMENTS] [--json]`; the answer's first line is OK or
 * `ERROR reason`, the rest is the body. The master and the supervisor have one
 * each, with a command table of their own; what a peer may do is decided here,
 * once, by the table's privilege and the peer's uid.
 */
#ifndef KEEPSOCK_ADMIN_SERVER_H
#define KEEPSOCK_ADMIN_SERVER_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "keepsock/admin_commands.h"

struct admin;
struct admin_request;
struct buffer;
struct event_base;

/*
 * A handler gets a request whose arguments fit the table, and answers it with
 * exactly one of the admin_answer functions, now or later.
 */
typedef void admin_handler_fn(struct admin_request *request);

/* path and setting are needed until admin_server_open() has returned, the rest for ever. */
struct admin_options {
	struct event_base *base;
	const char *path;
	const char *setting; /* its name, for messages: a constant */
	mode_t mode;
	const struct admin_command *commands;
	admin_handler_fn *const *handlers; /* one for each command */
	size_t command_count;
	void *owner;  /* for the handlers */
	int adopt_fd; /* > 0: listens there already, and is taken over */
};

/* Opens the socket; NULL with error. */
struct admin *admin_server_open(const struct admin_options *options, struct buffer *error);

/* The socket that listens; stays the admin's. */
int admin_server_fd(const struct admin *admin);

/* Drops what is under way and removes the socket. NULL is fine. */
void admin_close(struct admin *admin);

void *admin_request_owner(const struct admin_request *request);
const struct admin_call *admin_request_call(const struct admin_request *request);

/*
 * For a handler that answers later or goes on answering: on_gone(ctx) is called
 * when the request is gone, answered or not, and must not be used any more. NULL:
 * nobody needs to know.
 */
void admin_request_wait(struct admin_request *request, void (*on_gone)(void *ctx), void *ctx);

/*
 * Frees the request without an answer and gives its connection away: the
 * caller owns the descriptor (close-on-exec), and writes the whole answer. -1
 * with errno, the request being freed as well.
 */
int admin_request_detach(struct admin_request *request);

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
 * An answer without an end: objects, each a line of text or of JSON, until the
 * peer goes (admin_request_wait() tells) or reads too slowly. Either call may be
 * the one that ends the request. Objects are taken over.
 */
void admin_answer_begin(struct admin_request *request);
void admin_answer_continue(struct admin_request *request, json_t *object);

#endif

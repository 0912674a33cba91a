/* SPDX-License-Identifier: ISC */
/*
 * The admin socket of a node: what its command table (admin_commands.h) has
 * handlers for, and how they ask workers. Runs in the master; the socket itself
 * is admin_server.h's.
 */
#ifndef KEEPSOCK_ADMIN_H
#define KEEPSOCK_ADMIN_H

#include "keepsock/admin_server.h"

struct master;
struct settings;
struct inquiry_answer;

/* Opens the socket that these settings name, or takes over one that listens there already
 * (adopt_fd > 0); NULL with error. admin_close() ends it. */
struct admin *admin_open(struct master *master, const struct settings *settings, int adopt_fd,
			 struct buffer *error);

#define COMMAND(name, arguments, privilege, handler, help) admin_handler_fn admin_on_##handler;
ADMIN_COMMANDS_TABLE(COMMAND)
#ifdef KEEPSOCK_CRASH_POINTS
ADMIN_TEST_COMMANDS_TABLE(COMMAND)
#endif
#undef COMMAND

struct master *admin_request_master(const struct admin_request *request);

/*
 * Asks workers for the request; args is taken over, may be NULL. done gets the
 * request and answers it. A peer that goes away cancels the inquiry.
 */
void admin_ask_workers(struct admin_request *request, const char *command, json_t *args,
		       uint32_t slot,
		       void (*done)(struct admin_request *request,
				    const struct inquiry_answer *answers, size_t count));

#endif

/* SPDX-License-Identifier: ISC */
/*
 * The connect command: who the client is, which subscriptions the server gives
 * it, and the one commit that makes it connected.
 */
#ifndef KEEPSOCK_WORKER_CLIENT_CONNECT_H
#define KEEPSOCK_WORKER_CLIENT_CONNECT_H

#include "worker/client_server_side.h"
#include "worker/internal.h"

enum command_outcome client_connect(struct connection *c, const struct client_command *command,
				    uint16_t *close_code);
/* Every tick: whoever waited too long. */
void client_connect_tick(struct worker *w);
/* The user's subscriptions in Redis changed: who is connecting asks again. */
void client_connect_changed(struct worker *w, const struct user_target *target);
/* Calls `act` for each connection of the user that is still connecting; it may end it. */
unsigned client_connect_each(struct worker *w, const struct user_target *target,
			     bool (*act)(struct connection *c, const void *arg), const void *arg);

#endif

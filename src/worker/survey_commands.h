/* SPDX-License-Identifier: ISC */
/*
 * Surveys that act: the HTTP API's commands on users, as every worker carries
 * them out on its own connections. All may be repeated. Each has "user",
 * "client" and "session" (the last two "" = all), and gives {"connections": how
 * many it concerned}.
 *
 * user_subscribe    "subscription": text of server_subscription_encode()
 * user_unsubscribe  "channel": text, "" = all
 * user_disconnect   "whitelist": [client id, …], "code", "reason" ("" = the code's own)
 * user_refresh      "expired": bool, "expire_at": wall seconds, "info": raw JSON as text
 */
#ifndef KEEPSOCK_WORKER_SURVEY_COMMANDS_H
#define KEEPSOCK_WORKER_SURVEY_COMMANDS_H

#include <jansson.h>

#include "worker/internal.h"

/* False: arguments that make no sense; nothing was done. */
typedef bool survey_command_fn(struct worker *w, const json_t *args, unsigned *connections);

/* NULL: no such command. */
survey_command_fn *survey_command_find(const char *op);

#endif

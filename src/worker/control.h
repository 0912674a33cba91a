/* SPDX-License-Identifier: ISC */
/*
 * Between the master's requests (control.c) and what answers them: views of this
 * worker, views of the cluster, actions. Run by the worker.
 */
#ifndef KEEPSOCK_WORKER_CONTROL_H
#define KEEPSOCK_WORKER_CONTROL_H

#include <jansson.h>

#include "worker/internal.h"

/* An answer lists at most this many rows. */
#define CONTROL_ROWS_MAX 100000u

/* Answers are taken over by whoever gets them. */
json_t *control_rows(json_t *rows); /* takes rows over */
json_t *control_row(json_t *row);   /* the same with one */
json_t *control_refusal(const char *error);
/* Sends an answer that was not given at once. */
void control_reply(struct worker *w, uint64_t id, json_t *answer);

json_t *control_text(struct slice text);
bool control_is_client(const struct passport *passport);
json_t *control_connection_row(struct worker *w, const struct passport *passport);
/* By its id as text; NULL: it is not here. */
struct connection *control_find_client(struct worker *w, const char *text);

/* The answer, or NULL: control_reply() follows. What each takes and gives: inquiry.h. */
typedef json_t *control_command_fn(struct worker *w, uint64_t id, json_t *args);

/* control_views.c */
control_command_fn control_show_worker, control_show_connections, control_show_connection;
control_command_fn control_show_channels, control_show_channel, control_show_fds;
/* control_users.c */
control_command_fn control_show_users, control_show_user, control_show_sessions, control_show_nodes;
/* control_actions.c */
control_command_fn control_disconnect, control_unsubscribe, control_publish, control_purge;
control_command_fn control_role;                              /* role.c */
control_command_fn control_drain;                             /* drain.c */
control_command_fn control_crash_after, control_deposit_anew; /* test builds */

#endif

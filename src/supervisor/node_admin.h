/* SPDX-License-Identifier: ISC */
/*
 * What a supervisor says to its node: one command over the node's admin socket
 * (admin_server.h), one JSON object back. Runs in the supervisor.
 *
 * Besides `status` and `show metrics` it uses two commands that are made for it:
 *
 *   promote EPOCH   Be the primary with this role epoch. The answer comes when
 *                   the node serves as one: listeners bound, shards raised to the
 *                   epoch. A node that is the primary with that epoch already
 *                   answers at once. Answer: {"role": "primary", "epoch": EPOCH}
 *   demote [drain]  Be a standby. Publishing ends first; with drain the clients are
 *                   then sent away over the node's own drain window, without it at
 *                   once. The answer comes when they have been. A standby answers at
 *                   once. Answer: {"role": "standby", "epoch": EPOCH}
 *
 * `status` has members "pid", "state" ("starting" until all workers have been ready once), "role"
 * ("primary" or "standby") and "epoch". A node starts as a standby. /ready of a healthy standby
 * is 503 with a reason that begins with "standby".
 */
#ifndef KEEPSOCK_SUPERVISOR_NODE_ADMIN_H
#define KEEPSOCK_SUPERVISOR_NODE_ADMIN_H

#include <jansson.h>
#include <stdint.h>
#include <sys/types.h>

struct event_base;
struct node_call;

/* From the event loop, once. answer: NULL with error; both live until it returns. */
typedef void node_answer_fn(void *ctx, const json_t *answer, const char *error);

/*
 * command without --json; timeout of the whole. Never NULL: what fails at once is
 * told from the loop too.
 */
struct node_call *node_call_start(struct event_base *base, const char *socket, const char *command,
				  int64_t timeout_ms, node_answer_fn *done, void *ctx);

/* done will not be called. NULL is fine. */
void node_call_cancel(struct node_call *call);

/* Process at the other end (it listened), 0: not connected. While the call is under way. */
pid_t node_call_peer(const struct node_call *call);

#endif

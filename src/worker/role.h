/* SPDX-License-Identifier: ISC */
/*
 * What the node's role (node_role.h) means in a worker: who may connect, publish
 * and subscribe, which listeners are open, how fast is accepted. Run by the worker;
 * it reads the role where it is needed and keeps no copy.
 */
#ifndef KEEPSOCK_WORKER_ROLE_H
#define KEEPSOCK_WORKER_ROLE_H

#include "keepsock/redis_scripts.h"
#include "worker/internal.h"

struct ipc_message;

/* The role lets the node take clients and publish. */
bool role_serves(const struct worker *w);

/* NULL: clients may come; otherwise why not: of the role, or of a drain. */
const char *role_refusal(const struct worker *w);

/* NULL: nothing but what role_refusal() says is in the way of clients. */
const char *role_not_ready_reason(const struct worker *w);

/* For scripts that publish or subscribe, as of now. */
struct redis_fence role_fence(const struct worker *w);

/* For their callbacks: a refusal is counted, and looked into. */
void role_note(struct worker *w, const struct redis_outcome *outcome);

/* The epoch of a primary, that Redis is to keep; 0: the node has none to tell. */
uint64_t role_epoch(const struct worker *w);

/* Accepting is paced: the most there may be a second; 0: as many as come. */
uint64_t role_accept_rate(const struct worker *w);

/* IPC_ROLE; takes its descriptors over. */
void role_on_message(struct worker *w, struct ipc_message *message);

/* Each tick: keeps the epoch in Redis, sees to raises that take too long. */
void role_tick(struct worker *w);

#endif

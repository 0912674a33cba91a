/* SPDX-License-Identifier: ISC */
/*
 * Changing the node's role (node_role.h), as its supervisor or an operator wants
 * it. Runs in the master; one change at a time, a demotion takes the place of
 * whatever is under way.
 *
 *   promote:  BINDING ── the primary's listeners are open ──► RAISING ── every reachable
 *             shard keeps the epoch ──► primary, answered
 *   demote:   standby at once; DRAINING ── every client has been told ──► answered
 *
 * A promotion that fails, or whose asker left, leaves the role as it was.
 */
#ifndef KEEPSOCK_MASTER_ROLE_H
#define KEEPSOCK_MASTER_ROLE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct admin_request;
struct listeners;
struct master;

/* The role of a node that starts, in its fresh page. */
void role_init(struct master *master);
void role_update_metrics(const struct master *master);

/* Answers the request, now or later. */
void role_promote(struct master *master, struct admin_request *request, uint64_t epoch);
void role_demote(struct master *master, struct admin_request *request, bool drain);

/* Clients are to be gone by that boottime; 0: they may come again. */
void role_drain(struct master *master, uint64_t until_ms);

/*
 * Other settings are in force, with listeners that were opened for them, maybe in
 * another role; `before` are those from before.
 */
void role_on_exchange(struct master *master, const struct listeners *before);

/* role, epoch and what else there is to tell of it. */
json_t *role_view(const struct master *master);

/* Drops what is under way. */
void role_end(struct master *master);

#endif

/* SPDX-License-Identifier: ISC */
/*
 * How many connections each user has on the node: every worker writes its own
 * numbers into its slot of the node page, whoever applies a limit adds them up.
 * Users are known by a hash; of two that share 48 bits of it each counts for both.
 */
#ifndef KEEPSOCK_NODE_USERS_H
#define KEEPSOCK_NODE_USERS_H

#include <stdatomic.h>
#include <stdint.h>

#include "keepsock/slice.h"

/* Users with connections that one worker can tell of, roughly; others it knows alone. */
#define NODE_USERS_MAX 32768u

/* An entry: 48 bits of the user's hash, then how many connections; 0 = free. */
struct node_users {
	_Atomic uint64_t entry[NODE_USERS_MAX];
};

struct node_page;

/* By which the functions below know a user; never 0. */
uint64_t node_users_hash(struct slice user);

/* This worker's slot has `count` connections of the user now (65,535 stand for more). */
void node_users_set(struct node_page *page, uint32_t slot, uint64_t user, uint32_t count);

/* Connections of the user in all slots but one. */
uint64_t node_users_elsewhere(const struct node_page *page, uint32_t slot, uint64_t user);

/* The slot's worker has none any more. */
void node_users_clear(struct node_page *page, uint32_t slot);

#endif

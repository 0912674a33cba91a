/* SPDX-License-Identifier: ISC */
/*
 * Which connections of this worker belong to which user: an index in the heap,
 * rebuilt from the passports. The user "" (anonymous) is not in it. Run by the
 * worker; it never closes anything.
 */
#ifndef KEEPSOCK_WORKER_USERS_H
#define KEEPSOCK_WORKER_USERS_H

#include <stdint.h>

#include "keepsock/slice.h"

struct arena;
struct node_page;
struct connection;

/* One user with at least one connection here. Its name is that of its connections' passports. */
struct user {
	struct user *next; /* in its bucket */
	struct connection *first;
	uint64_t hash;
	uint32_t count; /* connections */
};

struct users {
	struct arena *arena;
	struct user **buckets; /* owned */
	uint32_t bucket_count;
	uint32_t count;         /* users */
	struct node_page *page; /* where the other workers read our numbers; NULL: nowhere */
	uint32_t slot;
};

/* `page` and `slot`: where all workers of the node tell each other; page NULL: this one is alone.
 */
void users_init(struct users *users, struct arena *arena, struct node_page *page, uint32_t slot);
void users_free(struct users *users);

/* The connection's passport names its user by now. Does nothing for the user "". */
void users_add(struct users *users, struct connection *c);
/* While the passport still names the user. Harmless for a connection that is not in the index. */
void users_remove(struct users *users, struct connection *c);

/* NULL if the user has no connection here. Walk with `first` and users_next(). */
struct user *users_find(const struct users *users, struct slice name);
/* The user's next connection, NULL at the end. */
struct connection *users_next(const struct users *users, const struct connection *c);
/* Connections of the user on this node; 0 for the user "". */
uint64_t users_count(const struct users *users, struct slice name);

#endif

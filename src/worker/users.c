/* SPDX-License-Identifier: ISC */
/*
 * The index of users, see users.h. A chained hash table that doubles; a user's
 * connections are linked through their heap halves. Run by the worker.
 */
#include "worker/users.h"

#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/node_page.h"
#include "worker/connection.h"

#define BUCKETS_FIRST 256u

static struct slice connection_user(const struct users *users, const struct connection *c)
{
	return passport_user(users->arena, arena_at(users->arena, c->passport));
}

static struct connection *at(const struct users *users, arena_ref passport)
{
	return passport ? arena_companion(users->arena, passport, sizeof(struct connection)) : NULL;
}

void users_init(struct users *users, struct arena *arena, struct node_page *page, uint32_t slot)
{
	memset(users, 0, sizeof(*users));
	users->arena = arena;
	users->page = page;
	users->slot = slot;
	users->bucket_count = BUCKETS_FIRST;
	users->buckets = xcalloc(users->bucket_count, sizeof(struct user *));
}

void users_free(struct users *users)
{
	for (uint32_t i = 0; i < users->bucket_count; i++) {
		while (users->buckets[i]) {
			struct user *user = users->buckets[i];

			users->buckets[i] = user->next;
			free(user);
		}
	}
	free(users->buckets);
	memset(users, 0, sizeof(*users));
}

static struct user **bucket_of(const struct users *users, uint64_t hash)
{
	return &users->buckets[hash & (users->bucket_count - 1)];
}

static void grow(struct users *users)
{
	struct user **old = users->buckets;
	uint32_t count = users->bucket_count;

	users->bucket_count = count * 2;
	users->buckets = xcalloc(users->bucket_count, sizeof(struct user *));
	for (uint32_t i = 0; i < count; i++) {
		while (old[i]) {
			struct user *user = old[i];
			struct user **bucket = bucket_of(users, user->hash);

			old[i] = user->next;
			user->next = *bucket;
			*bucket = user;
		}
	}
	free(old);
}

static struct user *find(const struct users *users, struct slice name, uint64_t hash)
{
	struct user *user = *bucket_of(users, hash);

	while (user &&
	       (user->hash != hash || !slice_equal(connection_user(users, user->first), name)))
		user = user->next;
	return user;
}

struct user *users_find(const struct users *users, struct slice name)
{
	return name.len ? find(users, name, node_users_hash(name)) : NULL;
}

struct connection *users_next(const struct users *users, const struct connection *c)
{
	return at(users, c->user_next);
}

uint64_t users_count(const struct users *users, struct slice name)
{
	const struct user *user = users_find(users, name);
	uint64_t count = user ? user->count : 0;

	if (users->page && name.len > 0)
		count += node_users_elsewhere(users->page, users->slot, node_users_hash(name));
	return count;
}

static void tell_node(const struct users *users, const struct user *user)
{
	if (users->page)
		node_users_set(users->page, users->slot, user->hash, user->count);
}

void users_add(struct users *users, struct connection *c)
{
	struct slice name = connection_user(users, c);
	uint64_t hash = node_users_hash(name);
	struct user *user;

	if (name.len == 0 || c->indexed)
		return;
	user = find(users, name, hash);
	if (!user) {
		struct user **bucket;

		if (users->count++ >= users->bucket_count)
			grow(users);
		user = xcalloc(1, sizeof(*user));
		user->hash = hash;
		bucket = bucket_of(users, hash);
		user->next = *bucket;
		*bucket = user;
	}
	user->count++;
	tell_node(users, user);
	c->indexed = true;
	c->user_previous = 0;
	c->user_next = user->first ? user->first->passport : 0;
	if (user->first)
		user->first->user_previous = c->passport;
	user->first = c;
}

void users_remove(struct users *users, struct connection *c)
{
	struct connection *next, *previous;
	struct user *user, **link;
	struct slice name;

	if (!c->indexed)
		return;
	name = connection_user(users, c);
	user = find(users, name, node_users_hash(name));
	next = at(users, c->user_next);
	previous = at(users, c->user_previous);
	if (previous)
		previous->user_next = c->user_next;
	else
		user->first = next;
	if (next)
		next->user_previous = c->user_previous;
	c->user_next = c->user_previous = 0;
	c->indexed = false;
	user->count--;
	tell_node(users, user);
	if (user->count > 0)
		return;
	link = bucket_of(users, user->hash);
	while (*link != user)
		link = &(*link)->next;
	*link = user->next;
	users->count--;
	free(user);
}

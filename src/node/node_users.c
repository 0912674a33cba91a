/* SPDX-License-Identifier: ISC */
/*
 * Users' connections in the node page, see node_users.h. Written by the slot's
 * own worker only, read by all, without locks. A user's entry is one of a few
 * neighbours from its hash on, always all looked at: an entry that is given up
 * leaves no gap that a search could stop at.
 */
#include "keepsock/node_users.h"

#include "keepsock/node_page.h"

#define WINDOW     32u
#define COUNT_MASK UINT64_C(0xffff)

/* FNV-1a, 64 bits, its bits then mixed: neighbours' names must not be neighbours here. */
uint64_t node_users_hash(struct slice user)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < user.len; i++)
		hash = (hash ^ (uint8_t)user.data[i]) * UINT64_C(0x100000001b3);
	hash = (hash ^ hash >> 33) * UINT64_C(0xff51afd7ed558ccd);
	hash = (hash ^ hash >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
	hash ^= hash >> 33;
	return hash & ~COUNT_MASK ? hash : ~hash;
}

static uint32_t place(uint64_t user, uint32_t i)
{
	return (uint32_t)((user >> 20) + i) % NODE_USERS_MAX;
}

static bool is_of(uint64_t entry, uint64_t user)
{
	return entry != 0 && (entry & ~COUNT_MASK) == (user & ~COUNT_MASK);
}

void node_users_set(struct node_page *page, uint32_t slot, uint64_t user, uint32_t count)
{
	struct node_users *users = &page->slot[slot].users;
	uint64_t value = (user & ~COUNT_MASK) | (count < COUNT_MASK ? count : COUNT_MASK);
	uint32_t found = NODE_USERS_MAX;

	for (uint32_t i = 0; i < WINDOW; i++) {
		uint64_t entry = atomic_load(&users->entry[place(user, i)]);

		if (is_of(entry, user)) {
			found = place(user, i);
			break;
		}
		if (entry == 0 && found == NODE_USERS_MAX)
			found = place(user, i);
	}
	if (found < NODE_USERS_MAX)
		atomic_store(&users->entry[found], count > 0 ? value : 0);
}

static uint64_t count_in(const struct node_users *users, uint64_t user)
{
	for (uint32_t i = 0; i < WINDOW; i++) {
		uint64_t entry = atomic_load(&users->entry[place(user, i)]);

		if (is_of(entry, user))
			return entry & COUNT_MASK;
	}
	return 0;
}

uint64_t node_users_elsewhere(const struct node_page *page, uint32_t slot, uint64_t user)
{
	uint64_t count = 0;

	for (uint32_t i = 0; i < page->workers; i++) {
		if (i != slot)
			count += count_in(&page->slot[i].users, user);
	}
	return count;
}

void node_users_clear(struct node_page *page, uint32_t slot)
{
	/* Most pages of a page nobody wrote stay unbacked this way. */
	for (uint32_t i = 0; i < NODE_USERS_MAX; i++) {
		if (atomic_load(&page->slot[slot].users.entry[i]) != 0)
			atomic_store(&page->slot[slot].users.entry[i], 0);
	}
}

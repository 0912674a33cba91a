/* SPDX-License-Identifier: ISC */
/*
 * The role words of the node page, see node_role.h. Runs in the master and the
 * workers; lock-free, like all of the page.
 */
#include "keepsock/node_role.h"

#include "keepsock/node_page.h"

#define ROLE_BITS       2u
#define NANOSECONDS     UINT64_C(1000000000)
#define ACCEPT_BURST_NS (NANOSECONDS / 10)

_Static_assert(NODE_PRIMARY < 1u << ROLE_BITS, "a role fits into its bits");

const char *node_role_name(enum node_role role)
{
	static const char *const names[] = {
		[NODE_STANDALONE] = "standalone",
		[NODE_STANDBY] = "standby",
		[NODE_PRIMARY] = "primary",
	};

	return names[role];
}

struct node_role_view node_role_get(const struct node_page *page)
{
	uint64_t word = atomic_load(&page->role.role);

	return (struct node_role_view){
		.role = (enum node_role)(word & ((1u << ROLE_BITS) - 1)),
		.epoch = word >> ROLE_BITS,
	};
}

void node_role_set(struct node_page *page, enum node_role role, uint64_t epoch, uint64_t now_ms)
{
	if (role != NODE_STANDBY)
		node_drain_set(page, 0);
	/* Before the role: who sees a new primary also sees since when it is one. */
	atomic_store(&page->role.since_ms, now_ms);
	atomic_store(&page->role.role, epoch << ROLE_BITS | (uint64_t)role);
}

uint64_t node_role_since(const struct node_page *page)
{
	return atomic_load(&page->role.since_ms);
}

bool node_role_set_fenced(struct node_page *page, uint64_t epoch)
{
	return epoch != 0 && atomic_exchange(&page->role.fenced, epoch) != epoch;
}

bool node_role_is_fenced(const struct node_page *page)
{
	struct node_role_view view = node_role_get(page);

	return view.role == NODE_PRIMARY && view.epoch == atomic_load(&page->role.fenced);
}

void node_drain_set(struct node_page *page, uint64_t until_ms)
{
	atomic_store(&page->role.drain_until_ms, until_ms);
}

uint64_t node_drain_until(const struct node_page *page)
{
	return atomic_load(&page->role.drain_until_ms);
}

/* As in node_page.c, but whether there is something to accept is known only afterwards. */
bool node_role_may_accept(const struct node_page *page, uint64_t per_second, uint64_t now_ns)
{
	uint64_t paid = atomic_load(&page->role.accept_time);

	/* What is slower than the burst has one after the other all the same. */
	return paid <= now_ns || paid + NANOSECONDS / per_second <= now_ns + ACCEPT_BURST_NS;
}

void node_role_count_accept(struct node_page *page, uint64_t per_second, uint64_t now_ns)
{
	uint64_t paid = atomic_load(&page->role.accept_time);
	uint64_t next;

	do {
		next = (paid > now_ns ? paid : now_ns) + NANOSECONDS / per_second;
	} while (!atomic_compare_exchange_weak(&page->role.accept_time, &paid, next));
}

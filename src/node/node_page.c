/* SPDX-License-Identifier: ISC */
/*
 * The node page: creation by the master, mapping by workers, and the
 * node-wide limits on connections. Lock-free: a process killed at any point
 * leaves nothing that another one would wait for.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keepsock/node_page.h"

#define NANOSECONDS UINT64_C(1000000000)

static struct node_page *map_page(int fd)
{
	void *page =
		mmap(NULL, sizeof(struct node_page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	return page == MAP_FAILED ? NULL : page;
}

/* The size is final: a worker that shrank it would kill all others with SIGBUS. */
static int size_and_seal(int fd)
{
	if (ftruncate(fd, (off_t)sizeof(struct node_page)) < 0)
		return -1;
	return fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
}

struct node_page *node_page_create(uint32_t workers, int *fd)
{
	struct node_page *page = NULL;
	int memory;

	if (workers == 0 || workers > NODE_WORKERS_MAX) {
		errno = EINVAL;
		return NULL;
	}
	memory = memfd_create("keepsock-node", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (memory < 0)
		return NULL;
	if (size_and_seal(memory) == 0)
		page = map_page(memory);
	if (!page) {
		int saved = errno;

		close(memory);
		errno = saved;
		return NULL;
	}
	page->magic = NODE_PAGE_MAGIC;
	page->size = sizeof(struct node_page);
	page->workers = workers;
	page->metrics = METRIC_COUNT;
	*fd = memory;
	return page;
}

struct node_page *node_page_map(int fd)
{
	struct node_page *page;
	struct stat status;

	if (fstat(fd, &status) < 0)
		return NULL;
	if (status.st_size != (off_t)sizeof(struct node_page)) {
		errno = EPROTO;
		return NULL;
	}
	page = map_page(fd);
	if (!page)
		return NULL;
	if (page->magic != NODE_PAGE_MAGIC || page->size != sizeof(struct node_page) ||
	    page->metrics != METRIC_COUNT || page->workers == 0 ||
	    page->workers > NODE_WORKERS_MAX) {
		node_page_unmap(page);
		errno = EPROTO;
		return NULL;
	}
	return page;
}

void node_page_set_workers(struct node_page *page, uint32_t workers)
{
	atomic_store(&page->workers, workers);
}

void node_page_unmap(struct node_page *page)
{
	/* Can only fail for an address that was never mapped. */
	(void)munmap(page, sizeof(*page));
}

uint64_t node_page_get(const struct node_page *page, uint32_t slot, enum metric metric)
{
	return atomic_load_explicit(&page->slot[slot].counters.value[metric], memory_order_relaxed);
}

void node_page_reset_gauges(struct node_page *page, uint32_t slot)
{
	for (int i = 0; i < METRIC_COUNT; i++) {
		if (metric_kind((enum metric)i) != METRIC_KIND_COUNTER)
			atomic_store(&page->slot[slot].counters.value[i], 0);
	}
	atomic_store(&page->slot[slot].loop_due_ms, 0);
	node_users_clear(page, slot);
}

void node_page_set_not_ready(struct node_page *page, uint32_t slot)
{
	atomic_store(&page->slot[slot].counters.value[METRIC_ready], 0);
}

/*
 * Counted first, checked after: of two workers at the limit each sees the
 * other's connection (both accesses are sequentially consistent), so they may
 * both step back, but never both go on.
 */
bool node_page_admit_connection(struct node_page *page, uint64_t limit)
{
	_Atomic uint64_t *own = &metrics_own->value[METRIC_client_connections];
	uint64_t open = 0;

	atomic_fetch_add(own, 1);
	if (limit == 0)
		return true;
	for (uint32_t slot = 0; slot < page->workers; slot++)
		open += atomic_load(&page->slot[slot].counters.value[METRIC_client_connections]);
	if (open <= limit)
		return true;
	atomic_fetch_sub(own, 1);
	return false;
}

/*
 * The virtual scheduling form of a token bucket, so that one word is the whole
 * state: the time by which everything admitted so far is paid for.
 */
bool node_page_take_connection_rate(struct node_page *page, uint64_t per_second, uint64_t now_ns)
{
	uint64_t paid = atomic_load(&page->connection_rate_time);
	uint64_t price, next;

	if (per_second == 0)
		return true;
	price = NANOSECONDS / per_second;
	do {
		next = (paid > now_ns ? paid : now_ns) + price;
		if (next > now_ns + NANOSECONDS)
			return false;
	} while (!atomic_compare_exchange_weak(&page->connection_rate_time, &paid, next));
	return true;
}

/* SPDX-License-Identifier: ISC */
/*
 * An adoption's sockets: each that the keeper hands over goes to the passport of
 * its reference and generation; one that belongs to none is closed, which its
 * peer is told. Run by the worker, once at its start.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "keepsock/alloc.h"
#include "keepsock/ipc.h"
#include "keepsock/log.h"
#include "worker/adopt_private.h"
#include "worker/deposits.h"
#include "worker/poller.h"

static const struct passport *passport_of(const struct worker *w, const struct keeper_item *item)
{
	const struct passport *passport;
	enum passport_kind kind =
		KEEPER_KIND_OF(item->kind) == KEEPER_KIND_CLIENT ? PASSPORT_CLIENT : PASSPORT_REDIS;

	if (!arena_ref_valid(w->arena, item->ref, ARENA_PASSPORT))
		return NULL;
	passport = arena_at(w->arena, item->ref);
	return passport->magic == PASSPORT_MAGIC && passport->kind == kind &&
			       passport->generation == item->generation
		       ? passport
		       : NULL;
}

/*
 * Not shut down: it may be another worker's connection by now, whose passport our predecessor had
 * destroyed after a move when it died, or before one that did not come to be.
 */
static void close_stray(struct adoption *adoption, const struct keeper_item *item, int fd)
{
	log_debug("stray_socket ref=%u generation=%llu", item->ref,
		  (unsigned long long)item->generation);
	close(fd);
	deposits_release_item(adoption->worker, item);
	adoption->lost++;
}

static void take_item(struct adoption *adoption, const struct keeper_item *item, int fd)
{
	struct worker *w = adoption->worker;
	uint32_t shard = KEEPER_KIND_SHARD(item->kind);

	if (!passport_of(w, item)) {
		close_stray(adoption, item, fd);
	} else if (KEEPER_KIND_OF(item->kind) == KEEPER_KIND_CLIENT) {
		(void)connection_attach(w, item->ref, fd);
	} else if (shard < w->start.shard_count && adoption->redis_fds[shard] < 0 &&
		   w->arena->header->shards[shard].passport == item->ref) {
		adoption->redis_fds[shard] = fd;
	} else {
		close_stray(adoption, item, fd);
	}
}

static void take_batch(struct adoption *adoption, struct ipc_message *message)
{
	struct slice payload = {0};

	if (ipc_message_payload(message, &payload) < 0)
		return;
	for (size_t i = 0; i < message->nfds; i++) {
		struct keeper_item item = keeper_items_at(payload, i);

		take_item(adoption, &item, message->fds[i]);
		message->fds[i] = -1;
	}
}

/* Heap halves of what has no socket, until it is told apart from what has. */
static void attach_all(struct worker *w)
{
	arena_ref ref = 0;

	while ((ref = passport_next(w->arena, ref))) {
		const struct passport *passport = arena_at(w->arena, ref);

		if (passport->kind == PASSPORT_CLIENT)
			(void)connection_attach(w, ref, -1);
	}
}

/* In the order of the passports, which is that of memory; how many of the held ones are theirs. */
static size_t attach_held(struct adoption *adoption)
{
	struct worker *w = adoption->worker;
	size_t count = 0;
	arena_ref ref = 0;

	while ((ref = passport_next(w->arena, ref))) {
		const struct passport *passport = arena_at(w->arena, ref);
		struct kept kept;
		bool has_socket;

		if (passport->kind != PASSPORT_CLIENT)
			continue;
		has_socket = kept_table_find(&adoption->held, ref, &kept) &&
			     kept.item.generation == passport->generation &&
			     KEEPER_KIND_OF(kept.item.kind) == KEEPER_KIND_CLIENT;
		connection_attach(w, ref, has_socket ? kept.fd : -1)->watched =
			has_socket ? EV_READ : 0;
		count += has_socket;
	}
	return count;
}

/* Redis's, and what belongs to nobody. */
static void take_rest(struct adoption *adoption, bool strays)
{
	struct worker *w = adoption->worker;
	struct kept kept;
	size_t cursor = 0;

	while (kept_table_next(&adoption->held, &cursor, &kept)) {
		bool client = KEEPER_KIND_OF(kept.item.kind) == KEEPER_KIND_CLIENT;

		if (!client) {
			take_item(adoption, &kept.item, kept.fd);
		} else if (strays && !passport_of(w, &kept.item)) {
			/* Others have it too: it would stay in the set. */
			(void)poller_watch(w->poller, kept.fd, kept.item.ref, EV_READ, 0);
			close_stray(adoption, &kept.item, kept.fd);
		}
	}
}

void adopt_held_sockets(struct adoption *adoption)
{
	size_t clients = attach_held(adoption);

	take_rest(adoption, clients < adoption->held.count);
	/* They are the connections' now. */
	kept_table_forget(&adoption->held);
}

bool adopt_sockets(struct adoption *adoption)
{
	struct ipc_message *message = xmalloc(sizeof(*message));
	int result;

	attach_all(adoption->worker);
	while ((result = deposits_take_batch(adoption->worker->deposits, message, &adoption->end)) >
	       0) {
		take_batch(adoption, message);
		ipc_message_close_fds(message);
	}
	free(message);
	return result == 0;
}

void adopt_drop_socket(struct adoption *adoption, arena_ref ref)
{
	struct worker *w = adoption->worker;
	const struct passport *passport = arena_at(w->arena, ref);
	const struct keeper_item item = {ref, 0, passport->generation};
	int *fd = NULL;

	if (passport->kind == PASSPORT_CLIENT)
		fd = &connection_at(w, ref)->fd;
	for (unsigned i = 0; !fd && i < ARENA_SHARDS_MAX; i++) {
		if (w->arena->header->shards[i].passport == ref)
			fd = &adoption->redis_fds[i];
	}
	if (!fd || *fd < 0)
		return;
	shutdown(*fd, SHUT_RDWR);
	close(*fd);
	*fd = -1;
	/* A client's goes when its passport does. */
	if (passport->kind == PASSPORT_REDIS)
		deposits_release_item(w, &item);
}

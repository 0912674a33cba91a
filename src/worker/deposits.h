/* SPDX-License-Identifier: ISC */
/*
 * The worker's side of its keeper: everything a successor needs is deposited
 * there (the arena, each client's socket, Redis's subscription sockets) and
 * released when it is closed (DESIGN §3 rule 7). Run by the worker. Nothing here
 * waits: with the keeper away or slow the worker serves on, unprotected, and
 * deposits later.
 */
#ifndef KEEPSOCK_WORKER_DEPOSITS_H
#define KEEPSOCK_WORKER_DEPOSITS_H

#include <stdbool.h>
#include <stdint.h>

#include "keepsock/arena.h"
#include "keepsock/keeper_messages.h"

struct connection;
struct deposits;
struct worker;

/* Takes over the channel to the keeper, which is blocking until deposits_open(). */
struct deposits *deposits_create(struct worker *w, int keeper_fd);
void deposits_free(struct deposits *deposits);

/*
 * For a successor, before deposits_open(): the next descriptors of its
 * predecessor. 1: *message holds a HAND_OVER (the caller takes its fds, and has
 * them closed with ipc_message_close_fds()); 0: that was all, *end tells how
 * the predecessor ended; -1 with errno. Blocks until the keeper answers.
 */
int deposits_take_batch(struct deposits *deposits, struct ipc_message *message,
			struct keeper_hand_over_end *end);
/* The keeper's arena is of an older layout: from the adoption on ours is the one that counts. */
void deposits_arena_is_new(struct deposits *deposits);
/* Everything is adopted: the keeper counts `connections` and what was not handed on as lost. */
int deposits_adopted(struct deposits *deposits, const struct keeper_adopted *adopted);
/* It can't be adopted: the keeper ends the connections, this worker starts fresh. */
int deposits_refuse(struct deposits *deposits, const char *reason);

/*
 * One message to the keeper, one of it; each waits as long as that takes. As
 * ipc_send() and ipc_receive(). For whoever serves nobody: a successor, and a
 * worker that is frozen.
 */
int deposits_say(struct deposits *deposits, uint32_t type, const void *payload, size_t length);
/* With a descriptor, which stays open here; -1: without. */
int deposits_say_with(struct deposits *deposits, uint32_t type, const void *payload, size_t length,
		      int fd);
int deposits_hear(struct deposits *deposits, struct ipc_message *message);
/* What the keeper said meanwhile and is not about the takeover. */
void deposits_on_message(struct worker *w, struct ipc_message *message);
/* The keeper compares counts soon. */
void deposits_count(struct worker *w);
/* It took over from its predecessor, and serves. */
int deposits_committed(struct deposits *deposits, const struct keeper_committed *committed);

/* The arena is there and the loop is about to run: deposits it. */
void deposits_open(struct worker *w);

/* --- from now on --- */
/* A connection with passport and socket: deposited in this loop turn, before its first reply. */
void deposits_add_client(struct connection *c);
/* One that the keeper has already: it was adopted. */
void deposits_client_is_kept(struct connection *c);
/* The keeper forgets everything and gets it again, as when more releases wait than may. */
void deposits_anew(struct worker *w);
/* Its passport is about to be destroyed. */
void deposits_release_client(struct connection *c);

/* A shard's subscription connection got its passport; before that is destroyed: release. */
void deposits_add_redis(struct worker *w, uint32_t shard, arena_ref passport, int fd);
void deposits_redis_is_kept(struct worker *w, uint32_t shard, arena_ref passport, int fd);
void deposits_release_redis(struct worker *w, uint32_t shard);

/* A descriptor that was handed over and belongs to nobody; the caller closes it. */
void deposits_release_item(struct worker *w, const struct keeper_item *item);

/* Sends what is due, as far as the keeper takes it. */
void deposits_flush(struct worker *w);
/* Periodic: lets the keeper compare counts. */
void deposits_tick(struct worker *w);

/* Descriptors the keeper was given and did not get back. */
uint32_t deposits_kept(const struct worker *w);
/* The keeper is there. */
bool deposits_reachable(const struct worker *w);
/* Whether everything that is to be deposited was sent. */
bool deposits_settled(const struct worker *w);

#endif

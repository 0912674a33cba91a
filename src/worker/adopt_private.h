/* SPDX-License-Identifier: ISC */
/*
 * What the steps of an adoption share; adopt.c calls them in their order. Nobody
 * else includes this.
 */
#ifndef KEEPSOCK_WORKER_ADOPT_PRIVATE_H
#define KEEPSOCK_WORKER_ADOPT_PRIVATE_H

#include "keepsock/arena_adoption.h"
#include "keepsock/keeper_messages.h"
#include "keepsock/kept_table.h"
#include "worker/adopt.h"

struct adoption {
	struct worker *worker;
	uint64_t began_ns;
	struct arena_adoption found;
	uint64_t takeover;               /* number of the takeover; 0 = the predecessor is dead */
	struct arena *prepared;          /* owned until it is the worker's; of a takeover */
	struct kept_table held;          /* owned; what a takeover was handed over so far */
	struct keeper_hand_over_end end; /* how the predecessor ended */
	int redis_fds[ARENA_SHARDS_MAX]; /* owned; -1 = none */
	int handshakes; /* owned; from the predecessor, which ends those it has begun; -1 = none */
	/* Who has died for the last time. */
	arena_ref guilty_connection; /* 0 = nobody */
	bool guilty_batch;
	uint32_t connections; /* that live on */
	uint32_t lost;        /* passports without socket, and the other way round */
};

/* --- adopt_takeover.c: how it gets there while the predecessor runs --- */
/* The arena, this process's own; everything that the keeper holds is in adoption->held. */
struct arena *adopt_prepared_arena(struct adoption *adoption, int arena_fd);

/* --- adopt_sockets.c: which socket belongs to which passport --- */
/* False: the keeper can't be understood. */
bool adopt_sockets(struct adoption *adoption);
/* The same with what is held already. */
void adopt_held_sockets(struct adoption *adoption);
/* Of a connection that can't go on: closed, as if it had not been handed over. */
void adopt_drop_socket(struct adoption *adoption, arena_ref passport);

/* --- adopt_settle.c: what the predecessor had begun to read, write and send --- */
void adopt_settle(struct adoption *adoption);

/* --- adopt_blame.c: for whose sake workers die --- */
void adopt_judge(struct adoption *adoption);
void adopt_punish(struct adoption *adoption);

/* --- adopt_connections.c --- */
void adopt_connections(struct adoption *adoption);

#endif

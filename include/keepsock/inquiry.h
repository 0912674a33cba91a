/* SPDX-License-Identifier: ISC */
/*
 * Questions of the master to its workers: one request to some or all of them,
 * answers collected until all are in or two seconds are over. A worker that
 * hangs or dies meanwhile is "not answering" and delays nobody else.
 *
 * Requests are IPC_REQUEST {"command": ..., "args": {...}}; answers IPC_REPLY
 * {"ok": true, "rows": [{...}, ...]} or {"ok": false, "error": "..."}.
 *
 *	command             arguments             a row of the answer
 *	show worker         -                     one: pid and what `show workers` lists
 *	show connections    -                     id, peer, state, user, ...
 *	show connection     id                    everything; no row = not here
 *	show channels       -                     name, subscribers, offset, epoch
 *	show channel        name                  as above, more; no row = not here
 *	show redis          -                     the connections to it
 *	show users          -                     user, connections
 *	show user           user                  the user's connections
 *	show sessions       -                     of all nodes: node, worker, client, ...
 *	show nodes          -                     of all nodes: node, worker, silent_ms, ...
 *	unsubscribe         client, channel       one: found, unsubscribed
 *	disconnect          client, code, reason  one: closed (0 or 1)
 *	publish             channel, data         one: offset, epoch; data is JSON as text
 *	purge               node                  one: workers, members
 *	role                epoch (0: ask)        for each shard: outcome (ok, refused, away),
 *	                                          role_epoch
 *	drain               -                     one: left, clients still to be sent away
 *	debug crash-after   point, count          one, empty (test builds)
 *	debug deposit-anew  -                     one, empty (test builds)
 */
#ifndef KEEPSOCK_INQUIRY_H
#define KEEPSOCK_INQUIRY_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "keepsock/slice.h"

struct master;

struct inquiry_answer {
	uint32_t slot;
	json_t *rows;      /* array of objects, NULL = none given */
	const char *error; /* the worker's refusal, NULL = none */
};

/* With both NULL the worker is not answering. Answers are valid during the call only. */
typedef void inquiry_done_fn(void *ctx, const struct inquiry_answer *answers, size_t count);

#define INQUIRY_ALL_WORKERS UINT32_MAX

struct inquiry_question {
	const char *command;
	json_t *args;      /* taken over; NULL = none */
	uint32_t slot;     /* who is asked, or INQUIRY_ALL_WORKERS */
	bool starting_too; /* also who is not ready yet, since it has not seen Redis for example */
};

/*
 * Asks. done is called once, never before this returns. The id is for
 * inquiry_cancel().
 */
uint64_t inquiry_start(struct master *master, const struct inquiry_question *question,
		       inquiry_done_fn *done, void *ctx);

/* done will not be called; harmless after it was. */
void inquiry_cancel(struct master *master, uint64_t id);

/* An IPC_REPLY of that worker; late and unknown ones are dropped. */
void inquiry_on_reply(struct master *master, uint32_t slot, uint64_t id, struct slice payload);
void inquiry_on_worker_death(struct master *master, uint32_t slot);

#endif

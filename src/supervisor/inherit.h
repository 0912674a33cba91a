/* SPDX-License-Identifier: ISC */
/*
 * What a new primary does about the node that was lost: its presence and sessions
 * are taken out of Redis as soon as the verdict has fallen, and its clients, which
 * may notice nothing for a whole ping interval, are woken once the address is ours.
 * Neither is waited for: without them both happens later by itself. Runs in the
 * supervisor.
 */
#ifndef KEEPSOCK_SUPERVISOR_INHERIT_H
#define KEEPSOCK_SUPERVISOR_INHERIT_H

#include <jansson.h>
#include <stdint.h>

struct supervisor;

/* The verdict: this node (copied) has been the primary and is not any more. */
void inherit_begin(struct supervisor *s, const char *node);

/*
 * We serve: in its place, or again. Then clients of processes that our node had before, on
 * addresses that were gone since, are woken too. Before last_holder is forgotten.
 */
void inherit_serve(struct supervisor *s);

/* Tries again what failed. */
void inherit_progress(struct supervisor *s, uint64_t now);

/* The role is gone, or somebody else's business. */
void inherit_end(struct supervisor *s);

#endif

/* SPDX-License-Identifier: ISC */
/*
 * A takeover, seen by the worker that is to go: it ends its loop turn, makes
 * sure that everything is deposited, freezes its arena, and waits for who gets
 * it. Run by the worker. Once it has lost the arena it leaves without touching
 * anything (DESIGN §4).
 */
#ifndef KEEPSOCK_WORKER_FREEZE_H
#define KEEPSOCK_WORKER_FREEZE_H

#include <stdbool.h>
#include <stdint.h>

#include "keepsock/slice.h"

struct worker;

/* FREEZE, THAW or LEAVE came from the keeper. */
void freeze_on_message(struct worker *w, uint32_t type, struct slice payload);

/* The keeper is gone: nobody is about to take over. */
void freeze_forget(struct worker *w);

/* At the end of each loop turn: freezes if it is asked to and everything is deposited; returns when
 * the arena is this worker's again, if ever. */
void freeze_if_asked(struct worker *w);

#endif

/* SPDX-License-Identifier: ISC */
/*
 * Telling the operator's own machinery of each change of state: a program, one
 * at a time and in order, and a named pipe. Runs in the supervisor, which waits
 * for neither.
 */
#ifndef KEEPSOCK_SUPERVISOR_NOTIFY_H
#define KEEPSOCK_SUPERVISOR_NOTIFY_H

#include <stdint.h>

struct buffer;
struct event_base;
struct notify;
struct settings;

/* NULL with error. */
struct notify *notify_create(struct event_base *base, const struct settings *settings,
			     struct buffer *error);

/* A program that runs is killed; what waits is dropped, with a line in the log. NULL is fine. */
void notify_free(struct notify *notify);

/* The words are copied. */
void notify_change(struct notify *notify, const char *from, const char *to, uint64_t epoch,
		   const char *reason);

/* How many changes the program has yet to hear of, the one it runs for included. */
unsigned notify_waiting(const struct notify *notify);

#endif

/* SPDX-License-Identifier: ISC */
/*
 * Named places in workers, and in keepers, where a test build can die on demand
 * (`debug crash-after POINT`): one table, so that a test can prove that each was
 * reached. In a release build crash_point() is nothing.
 */
#ifndef KEEPSOCK_CRASH_POINTS_H
#define KEEPSOCK_CRASH_POINTS_H

#include <stdbool.h>

#include "config.h"
#include "keepsock/slice.h"

/* CRASH(symbol, name, what a death there leaves) */
#define CRASH_POINT_TABLE(CRASH)                                                             \
	CRASH(COMMIT_BEFORE, "commit-before", "pairs written, not committed")                \
	CRASH(COMMIT_STORED, "commit-stored", "committed, no word applied")                  \
	CRASH(COMMIT_HALF, "commit-half", "committed, one word applied")                     \
	CRASH(ACCEPTED, "accepted", "socket accepted, no passport")                          \
	CRASH(PASSPORT, "passport", "passport committed, nothing read")                      \
	CRASH(DEPOSIT, "deposit", "passport committed, its socket not deposited")            \
	CRASH(DEPOSITED, "deposited", "its socket deposited, nothing read")                  \
	CRASH(RELEASE, "release", "passport destroyed, its socket still deposited")          \
	CRASH(READ_BEFORE, "read-before", "read announced, not done")                        \
	CRASH(READ_AFTER, "read-after", "bytes read, none consumed")                         \
	CRASH(WRITE_BEFORE, "write-before", "write announced, not done")                     \
	CRASH(WRITE_AFTER, "write-after", "bytes written, not counted")                      \
	CRASH(FANOUT_BEGIN, "fanout-begin", "batch committed, nobody served")                \
	CRASH(FANOUT_DEFLATED, "fanout-deflated", "compressed frame committed, not sent")    \
	CRASH(FANOUT_SEND, "fanout-send", "cursor stored, not sent")                         \
	CRASH(FANOUT_SENT, "fanout-sent", "sent, not counted")                               \
	CRASH(FANOUT_QUEUED, "fanout-queued", "a backlogged subscriber queued")              \
	CRASH(FANOUT_END, "fanout-end", "everybody served, batch not ended")                 \
	CRASH(COMMAND_SENT, "command-sent", "command given to Redis, reply not read")        \
	CRASH(COMMAND_REPLY, "command-reply", "Redis replied, nothing committed")            \
	CRASH(REDIS_READ, "redis-read", "subscription bytes read, not committed")            \
	CRASH(CONNECT_RECORDS, "connect-records", "its subscriptions, but no reply")         \
	CRASH(CLOSE, "close", "close decided, socket still open")                            \
	CRASH(TAKEOVER_START, "takeover-start", "the next worker knows what it is to do")    \
	CRASH(TAKEOVER_BATCH, "takeover-batch", "it holds some of the sockets")              \
	CRASH(TAKEOVER_READY, "takeover-ready", "it is prepared, nobody knows")              \
	CRASH(TAKEOVER_FREEZE, "takeover-freeze", "the old worker is to freeze")             \
	CRASH(TAKEOVER_FROZEN, "takeover-frozen", "it is frozen, nobody knows")              \
	CRASH(TAKEOVER_THAW, "takeover-thaw", "it is to go on")                              \
	CRASH(TAKEOVER_LEAVE, "takeover-leave", "it is to leave")                            \
	CRASH(TAKEOVER_COMMIT, "takeover-commit", "the next worker is to take the arena")    \
	CRASH(TAKEOVER_OWNED, "takeover-owned", "it has the arena, adopted nothing")         \
	CRASH(TAKEOVER_ADOPTED, "takeover-adopted", "it has adopted, nobody knows")          \
	CRASH(TAKEOVER_COMMITTED, "takeover-committed", "the keeper knows, nobody served")   \
	CRASH(KEEPER_FREEZE, "keeper-freeze", "a keeper is about to have its worker freeze") \
	CRASH(KEEPER_COMMIT, "keeper-commit", "its worker is frozen, nobody takes over")     \
	CRASH(KEEPER_COMMITTED, "keeper-committed", "the next one may have the arena")       \
	CRASH(KEEPER_LEAVE, "keeper-leave", "it has, and neither master nor worker know")

enum crash_point {
#define CRASH(symbol, name, doc) CRASH_##symbol,
	CRASH_POINT_TABLE(CRASH)
#undef CRASH
		CRASH_POINT_COUNT
};

#ifdef KEEPSOCK_CRASH_POINTS
/* Dies by the armed signal when the armed point is reached for the armed number of times. */
void crash_point(enum crash_point point);
/* Arms a point by its name; hits = 1 means the next time. False: no such point. */
bool crash_point_arm(const char *name, unsigned hits);
/* The same with another signal: SIGSTOP makes it hang there. */
bool crash_point_arm_signal(const char *name, unsigned hits, int signal_number);
/*
 * Dies by SIGABRT, as by a fault of its own, if the text holds
 * "keepsock-poison-KIND": what every worker dies of that is given it.
 */
void crash_poison(const char *kind, struct slice text);
#else
#define crash_point(point)       ((void)0)
#define crash_poison(kind, text) ((void)0)
#endif

#endif

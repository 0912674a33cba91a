/* SPDX-License-Identifier: ISC */
/*
 * The health of the local node, as its clients would find it. Runs in the
 * supervisor: each check is made every cluster.check_interval, never twice at a
 * time, and has cluster.check_timeout; rise_fall.h makes verdicts of results.
 */
#ifndef KEEPSOCK_SUPERVISOR_CHECKS_H
#define KEEPSOCK_SUPERVISOR_CHECKS_H

#include <stdbool.h>
#include <stdint.h>

struct buffer;
struct checks;
struct event_base;
struct settings;

/* X(symbol, name, help) */
#define CHECK_KINDS(X)                                                                          \
	X(MASTER, "master", "the master answers its admin socket")                              \
	X(LOOP, "loop", "no worker's event loop is later than cluster.check_loop_lag")          \
	X(DELIVERY, "delivery", "the delivery probe is heard; not judged without Redis")        \
	X(READY, "ready",                                                                       \
	  "/ready says 200, or on a standby that it is one; not judged without Redis")          \
	X(ECHO, "echo", "a WebSocket message comes back from /echo through a listener")         \
	X(ECHO_TLS, "echo_tls", "the same through a listener with TLS, if that is another one") \
	X(SCRIPT, "script", "a program of cluster.check_scripts exits with 0")

enum check_kind {
#define X(symbol, name, help) CHECK_##symbol,
	CHECK_KINDS(X)
#undef X
};

#define CHECK_TEXT_MAX 160

struct check_view {
	char name[64];
	bool good;
	bool judged; /* its results count at the moment */
	uint64_t runs;
	uint64_t failures;
	uint64_t took_ms; /* the last run */
	uint64_t at_ms;   /* boottime of its end, 0: none yet */
	const char *text; /* of the last failure, "" = none */
};

struct checks_options {
	struct event_base *base;
	const struct settings *settings;
	bool (*redis_is_there)(void *ctx); /* as far as the supervisor can tell */
	bool (*is_starting)(void *ctx);    /* so the node says, and has not said it for too long */
	bool (*is_primary)(void *ctx);     /* the node has to be ready for clients */
	void (*on_change)(void *ctx);      /* a verdict has changed; from the event loop */
	void *ctx;
};

/* Starts checking; NULL with error. */
struct checks *checks_create(const struct checks_options *options, struct buffer *error);
void checks_free(struct checks *checks); /* NULL is fine */

/* All verdicts begin anew. */
void checks_forget(struct checks *checks);

/* We were held up, and the node perhaps as well: until then, in boottime, failures don't count. */
void checks_excuse(struct checks *checks, uint64_t until_ms);

/* All verdicts that count are good; *worst is one that is not, or "". */
bool checks_good(const struct checks *checks, const char **worst);

/* One that counts is bad: *worst says why. Neither this nor good: there is no verdict yet. */
bool checks_bad(const struct checks *checks, const char **worst);

/* Its master does not answer, an event loop stands still, or its listeners say nothing: no time
 * will mend that. *worst: why. */
bool checks_hang(const struct checks *checks, const char **worst);

/* False when there are not that many. */
bool checks_get_view(const struct checks *checks, unsigned index, struct check_view *view);

#endif

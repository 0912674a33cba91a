/* SPDX-License-Identifier: ISC */
/*
 * One command connection to Redis. Inside the Redis room only.
 *
 *	 CLOSED   (open, close; only that of a slot of the pool is made again by itself)
 *	   |
 *	            timer              address               connected
 *	  WAITING ---------> RESOLVING ---------> CONNECTING -----------> GREETING
 *	     ^                   |                     |                      |
 *	     |<---- lost --------+---------------------+----------------------+ all greetings
 *	     |                                                                | answered
 *	     +<---- lost ------------------------------------------------- READY
 *
 * `away` says whether calls wait for READY or fail at once; see redis_command.h.
 */
#ifndef KEEPSOCK_REDIS_CONNECTION_H
#define KEEPSOCK_REDIS_CONNECTION_H

#include <event2/event.h>
#include <event2/util.h>
#include <hiredis/hiredis.h>

#include "redis_request.h"

struct redis_pool;
struct redis_resolution;

/* X(name, text) */
#define REDIS_CONNECTION_STATES(X)  \
	X(CLOSED, "closed")         \
	X(WAITING, "waiting")       \
	X(RESOLVING, "resolving")   \
	X(CONNECTING, "connecting") \
	X(GREETING, "greeting")     \
	X(READY, "ready")

enum redis_connection_state {
#define X(name, text) REDIS_CONNECTION_##name,
	REDIS_CONNECTION_STATES(X)
#undef X
};

/*
 * CLOSED ones have none. A slot's is replaced when lost; a REPLACEMENT takes over
 * its slot as soon as it is ready and the one there is idle.
 */
enum redis_connection_role {
	REDIS_ROLE_NONE,
	REDIS_ROLE_SLOT,
	REDIS_ROLE_REPLACEMENT,
	REDIS_ROLE_OVERFLOW,
};

/* AUTH, INFO, SELECT and one SCRIPT LOAD per script. */
#define REDIS_GREETINGS_MAX (3 + REDIS_SCRIPT_COUNT)

#define REDIS_CONNECTION_MAGIC 0x4e4f4352u /* "RCON" */

struct redis_connection {
	uint32_t magic;
	struct redis_pool *pool; /* owns this */
	unsigned index;
	enum redis_connection_state state;
	enum redis_connection_role role;
	unsigned slot;          /* of the pool, for SLOT and REPLACEMENT */
	bool replicates;        /* its answers wait for replicas, see redis_replicate.c */
	bool away;              /* calls fail at once */
	bool was_ready;         /* at least once: the next READY is a reconnect */
	unsigned attempts;      /* failed in a row */
	uint64_t since_ms;      /* boottime of the last change of state */
	unsigned unused;        /* READY phases without a call, in a row */
	uint64_t recycle_at_ms; /* boottime; 0 = never */
	uint64_t serial;        /* of the socket; tells a handler that a callback dropped its own */

	struct redis_resolution *resolution; /* not owned: forgotten, it frees itself */
	struct evutil_addrinfo *addresses;   /* owned */
	const struct evutil_addrinfo *next_address;
	int fd;             /* owned; -1 = none */
	struct event *read; /* this and the next two owned */
	struct event *write;
	struct event *flush; /* active = something to write at the end of this turn */
	struct event *timer; /* owned; the nearest of phase_deadline_ms and the queue's */
	uint64_t timer_ms;   /* when it fires; 0 = not set */
	uint64_t phase_deadline_ms;

	int greetings[REDIS_GREETINGS_MAX]; /* a script, or a negative number */
	unsigned n_greetings;
	unsigned greeted;

	char run[REDIS_RUN_MAX + 1]; /* of the server it is, or was, signed in to */

	redisReader *reader; /* owned */
	struct buffer output;
	size_t written;           /* of output */
	struct redis_queue queue; /* unanswered, in order; not in output before READY */
	/* With replicates only: */
	struct redis_queue unsent; /* for the next batch */
	struct redis_queue held;   /* answered; replicas are waited for */
	bool wait_under_way;
	char last_reason[160]; /* of the last loss that was logged */
};

/* CLOSED. */
void redis_connection_init(struct redis_connection *connection, struct redis_pool *pool,
			   unsigned index);

/* Starts connecting, from CLOSED. */
void redis_connection_open(struct redis_connection *connection, enum redis_connection_role role,
			   unsigned slot);

/* Drops the socket without another attempt; text is what the calls that wait are told. */
void redis_connection_close(struct redis_connection *connection, const char *text);

/* Calls that it has not answered. */
unsigned redis_connection_waiting(const struct redis_connection *connection);

/* READY and nothing at all is under way. */
bool redis_connection_is_idle(const struct redis_connection *connection);

/* Answers everything with UNAVAILABLE (later, from the pool's queue) and lets go of all it owns. */
void redis_connection_release(struct redis_connection *connection);

/* Drops the socket, answers everything with UNAVAILABLE and connects again. */
void redis_connection_restart(struct redis_connection *connection);

void redis_connection_submit(struct redis_connection *connection, struct redis_request *request);

/* What an error reply means to the caller; text is Redis's, without the '-'. */
enum redis_result redis_connection_classify(const char *text);

#endif

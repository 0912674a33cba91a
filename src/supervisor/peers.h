/* SPDX-License-Identifier: ISC */
/*
 * The links between supervisors: one TCP connection for each pair, encrypted
 * with the shared secret, over which each tells the other how it is. Runs in the
 * supervisor. It judges nothing: what a peer said and when is all it knows.
 *
 * Of two the one whose name comes first connects, again and again. A message is a
 * line of JSON, at most PEER_MESSAGE_MAX bytes; one that makes no sense ends the
 * connection, as does silence for four times cluster.lease_renew.
 */
#ifndef KEEPSOCK_SUPERVISOR_PEERS_H
#define KEEPSOCK_SUPERVISOR_PEERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "supervisor/ha_state.h"

#define PEERS_MAX        7
#define PEER_NAME_MAX    32
#define PEER_MESSAGE_MAX 2048

struct buffer;
struct event_base;
struct peers;
struct settings;

/*
 * What a supervisor says of itself each cluster.lease_renew and whenever it
 * changes. X(kind, member, key): kind BOOL, NUMBER (up to 2^53) or STATE.
 *   holds     a voucher: it has the lease, its node may be serving as the primary
 *   good      it can be promoted: a healthy standby that nothing of its own holds back
 *   sees      it sees a Redis whose lease may be believed
 *   want      it asks for a peer lease; the number names the question, 0: it does not
 *   grant     it grants the peer lease of that question of whom this is sent to; 0: none
 *   known     the highest epoch it knows of
 *   yield     it hands over to heir, whom others shall leave alone
 *   claim     an operator wants it to be the primary, and it could be: the holder shall hand over
 */
#define PEER_BEAT(X)                \
	X(STATE, state, "state")    \
	X(BOOL, holds, "holds")     \
	X(BOOL, good, "good")       \
	X(BOOL, sees, "sees")       \
	X(BOOL, claim, "claim")     \
	X(NUMBER, epoch, "epoch")   \
	X(NUMBER, known, "known")   \
	X(NUMBER, priority, "prio") \
	X(NUMBER, want, "want")     \
	X(NUMBER, grant, "grant")

#define PEER_CTYPE_BOOL   bool
#define PEER_CTYPE_NUMBER uint64_t
#define PEER_CTYPE_STATE  enum ha_state

struct peer_beat {
#define X(kind, member, key) PEER_CTYPE_##kind member;
	PEER_BEAT(X)
#undef X
	char heir[PEER_NAME_MAX + 1]; /* "" = none */
};

struct peer_view {
	const char *name;
	const char *place; /* "HOST:PORT" */
	bool connected;
	uint64_t heard_ms;     /* boottime of its last beat; 0: never */
	struct peer_beat beat; /* that one */
	const char *error;     /* why it is not connected */
};

struct peers_callbacks {
	/* The link to it is there: say how you are. */
	void (*on_ready)(void *ctx, size_t index);
	/* A peer has said something: index names it. */
	void (*on_beat)(void *ctx, size_t index);
	/* The connection to it is gone. */
	void (*on_lost)(void *ctx, size_t index);
};

/* Starts listening and connecting; NULL with error. */
struct peers *peers_create(struct event_base *base, const struct settings *settings,
			   const struct peers_callbacks *callbacks, void *ctx,
			   struct buffer *error);
void peers_free(struct peers *peers); /* NULL is fine */

size_t peers_count(const struct peers *peers);
void peers_get_view(const struct peers *peers, size_t index, struct peer_view *view);

/* To one of them; lost when it is not connected. */
void peers_send(struct peers *peers, size_t index, const struct peer_beat *beat);

/* What a beat is on the wire, with its sender's name; for tests too. */
void peer_beat_encode(struct buffer *out, const char *name, const struct peer_beat *beat);
/* False: it makes no sense. */
bool peer_beat_decode(const char *line, size_t len, char name[PEER_NAME_MAX + 1],
		      struct peer_beat *beat);

#endif

/* SPDX-License-Identifier: ISC */
/*
 * The node's last events: what an operator asks for after a bad night. Every
 * process writes a ring of its own in the node page, so what a dead worker saw
 * stays; `show events` puts the rings together. Nothing here allocates, blocks
 * or fails; an event is also logged by whoever tells it, in its own words.
 */
#ifndef KEEPSOCK_NODE_EVENTS_H
#define KEEPSOCK_NODE_EVENTS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct node_page;

/* EVENT(symbol, name): the name is what `show events` lists; told for each process by itself. */
/* clang-format off */
#define NODE_EVENTS_TABLE(EVENT)                                                                  \
	EVENT(WORKER_STARTED, "worker started")                                                   \
	EVENT(WORKER_DIED, "worker died")                                                         \
	EVENT(KEEPER_DIED, "keeper died")                                                         \
	EVENT(MASTER_REPLACED, "master replaced")     /* it goes on with what a dead one left */  \
	EVENT(TAKEOVER, "takeover")                   /* of a worker that served */              \
	EVENT(ADOPTED, "adopted")                     /* what a dead worker left lives on */      \
	EVENT(CERTIFICATES_RELOADED, "certificates reloaded")                                     \
	EVENT(CERTIFICATES_REFUSED, "certificates refused") /* the old ones stay in force */      \
	EVENT(MOVED, "moved")                         /* connections, to another worker */        \
	EVENT(BLAMED, "blamed")                       /* workers died of it again and again */    \
	EVENT(REDIS_LOST, "redis lost")               /* connections to a shard are gone */       \
	EVENT(REDIS_BACK, "redis back")               /* ... and there again */                   \
	EVENT(REDIS_MOVED, "redis moved")             /* another server, e.g. told by Sentinel */ \
	EVENT(CONTINUITY_KEPT, "continuity kept")     /* verdict after a change of the Redis run */ \
	EVENT(CONTINUITY_RENEWED, "continuity renewed")                                           \
	EVENT(PROBE_LOST, "probe lost")               /* Redis answers, but delivers nothing */   \
	EVENT(PROBE_BACK, "probe back")                                                           \
	EVENT(PURGED, "purged")                       /* a dead worker's traces were removed */   \
	EVENT(PROMOTED, "promoted")                                                                \
	EVENT(DEMOTED, "demoted")                                                                  \
	EVENT(FENCED, "fenced")                       /* another node is the primary */            \
	EVENT(DRAIN, "drain")                         /* begun or ended by an operator */          \
	EVENT(PURGED_OURSELVES, "purged ourselves")   /* we were taken for dead, and register again */ \
	EVENT(HANDSHAKES_DROPPED, "handshakes dropped") /* they outlasted takeover.linger */
/* clang-format on */

enum node_event {
	NODE_EVENT_NONE,
#define EVENT(symbol, name) NODE_EVENT_##symbol,
	NODE_EVENTS_TABLE(EVENT)
#undef EVENT
		NODE_EVENT_COUNT
};

/* Bytes of an event's text; the rest is cut off. */
#define NODE_EVENT_TEXT_MAX 112u
/* Of each process, older ones are overwritten. */
#define NODE_EVENTS_KEPT 32u

/* In the node page; words, so that a reader in another process sees no torn one. */
struct node_event_record {
	_Atomic uint64_t number; /* of its process, from 1; 0 while it is written */
	_Atomic uint64_t at_ms;  /* wall clock */
	_Atomic uint64_t kind;
	_Atomic uint64_t text[NODE_EVENT_TEXT_MAX / 8]; /* padded with NUL */
};

/* A process's ring. */
struct node_event_ring {
	_Atomic uint64_t count; /* of all that ever happened there */
	struct node_event_record records[NODE_EVENTS_KEPT];
};

/* Remembers an event of this process. Before node_page_claim_slot() it is dropped. */
void node_event_add(enum node_event kind, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

const char *node_event_name(enum node_event kind);

/* A copy of one. */
struct node_event_view {
	uint64_t at_ms;
	uint64_t number;
	uint32_t slot; /* NODE_SLOT_MASTER: the master's */
	enum node_event kind;
	char text[NODE_EVENT_TEXT_MAX + 1];
};

/* Of all processes that wrote one: at most this many. */
#define NODE_EVENTS_MAX ((64u + 1u) * NODE_EVENTS_KEPT)

/* Fills `views` (room for NODE_EVENTS_MAX) with the events of all processes, oldest first;
 * returns how many. */
size_t node_events_read(const struct node_page *page, struct node_event_view *views);

#endif

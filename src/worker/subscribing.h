/* SPDX-License-Identifier: ISC */
/*
 * Subscriptions in preparation. Each waits for two things: that this worker
 * hears the channel (SUBSCRIBE confirmed), and one script that reads history,
 * position, presence and the shard sequence S in one step. Messages that come
 * meanwhile are held; those above S follow in the commit that makes the
 * subscription. Who asked (the client's command, its connect, the HTTP API)
 * makes that commit. Run by the worker; a fan-out never waits for any of it.
 *
 *	start -> joining -> reading -> ready() -> the owner's commit -> end
 *	            any of them fails, is too late or not wanted -> end
 */
#ifndef KEEPSOCK_WORKER_SUBSCRIBING_H
#define KEEPSOCK_WORKER_SUBSCRIBING_H

#include "keepsock/redis_scripts.h"
#include "worker/internal.h"

struct subscribing;

/* Publications are kept: only then there are positions. */
static inline bool channel_has_history(const struct channel_options *options)
{
	return options->history_size > 0 && options->history_ttl > 0;
}

/*
 * Called exactly once for each start, never from within it, and again after
 * subscribing_repeat(). ok: what was read is in `s` until the call returns, and
 * longer after subscribing_keep(). Not ok: Redis was away or too slow, or the
 * connection closed. The owner answers with subscribing_end(), now or later. No
 * draft is open.
 */
typedef void subscribing_ready(struct subscribing *s, bool ok);

/* Copied by subscribing_start(), but for the options, which are those of w->settings. */
struct subscribing_request {
	struct slice channel;
	const struct channel_options *options;
	uint32_t flags;               /* enum subscription_flags */
	uint64_t expires_at;          /* wall seconds, 0 = never */
	struct slice user, conn_info; /* the client's: its passport may not say them yet */
	struct slice info;            /* raw JSON: chan_info; may be empty */
	struct slice data;            /* raw JSON for the result; may be empty */
	bool recover;
	bool cache; /* recovery of the newest publication alone */
	uint64_t since_offset;
	struct slice since_epoch;
	uint64_t deadline; /* boottime ms */
	subscribing_ready *ready;
	void *owner;
};

enum subscribing_state { SUBSCRIBING_JOINING, SUBSCRIBING_READING, SUBSCRIBING_DONE };

struct subscribing {
	struct worker *worker;
	struct connection *connection;
	struct subscribing *next, **link;    /* of the worker, while its deadline counts */
	struct subscribing *next_own, **own; /* of the connection, until it is reported */
	struct subscribing *next_waiter;     /* for the same channel to be joined */
	struct channel *channel;
	const struct channel_options *options;
	enum subscribing_state state;
	bool abandoned; /* nobody waits any more, but Redis has yet to answer */
	bool committed; /* the record is in the arena */
	uint64_t deadline;
	uint64_t run; /* of the subscription connection, when Redis was asked */
	struct passport_id client;
	uint32_t flags;
	uint64_t expires_at;
	struct buffer user, member; /* owned; the latter is the ClientInfo for others */
	struct buffer info, data;   /* owned */
	bool recover, cache;
	uint64_t since_offset;
	char since_epoch[REDIS_EPOCH_MAX];
	size_t since_epoch_length;
	subscribing_ready *ready;
	void *owner;

	/* What was read. */
	uint64_t sequence, top;
	char epoch[CHANNEL_EPOCH_MAX];
	size_t epoch_length;
	struct client_subscribe_result result;
	struct buffer text;               /* owned: what kept publications point into */
	struct publication *publications; /* owned */
};

/* NULL: Redis is away, or the arena is full. A draft may be open. */
struct subscribing *subscribing_start(struct connection *c,
				      const struct subscribing_request *request);

struct slice subscribing_channel(const struct subscribing *s);

/* Copies the recovered publications, so that the owner may wait for more. Returns their bytes. */
size_t subscribing_keep(struct subscribing *s);
/* Too many of them: the result is one that was not recovered. */
void subscribing_forget_publications(struct subscribing *s);

enum subscribing_verdict {
	SUBSCRIBING_CURRENT,   /* what was read still leads to what will be served */
	SUBSCRIBING_OVERTAKEN, /* subscribing_repeat() */
	SUBSCRIBING_VOID,      /* the channel is not heard any more, or too much was held */
};
enum subscribing_verdict subscribing_check(const struct subscribing *s);
/* Reads again. ready() follows. */
void subscribing_repeat(struct subscribing *s);

/*
 * Two steps of the commit, in the connection's open draft, for a current one:
 * the record (with the channel's entry and position; one in a draft) and what
 * was held meanwhile. Record: false when the arena is full.
 */
bool subscribing_append_record(struct subscribing *s);
void subscribing_append_held(const struct subscribing *s);
/* A chunk with a subscription's info, 0 if that is empty; sets draft->failed when it does not fit.
 */
arena_ref subscription_info_make(struct passport_draft *draft, struct slice info);
/* The draft with the record is committed. */
void subscribing_committed(struct subscribing *s);

/* Frees it, at the latest when Redis has answered. If it was not committed it leaves no presence.
 */
void subscribing_end(struct subscribing *s);

/* The connection closes. */
void subscribing_abandon(struct connection *c);
/* The channel's SUBSCRIBE is confirmed, or can't be (Redis went away). */
void subscribing_joined(struct worker *w, struct channel *channel, bool available);
/* Every tick: whoever waited too long. */
void subscribing_tick(struct worker *w);
/* Somebody fewer needs the channel. */
void subscribing_settle_channel(struct worker *w, struct channel *channel);

#endif

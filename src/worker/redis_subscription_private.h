/* SPDX-License-Identifier: ISC */
/*
 * What the two halves of the subscription connection share: the connection as
 * such (redis_subscription_connect.c) and what goes over it
 * (redis_subscription.c). Nobody else includes this.
 */
#ifndef KEEPSOCK_WORKER_REDIS_SUBSCRIPTION_PRIVATE_H
#define KEEPSOCK_WORKER_REDIS_SUBSCRIPTION_PRIVATE_H

#include <event2/dns.h>
#include <hiredis/hiredis.h>

#include "keepsock/redis_resolve.h"
#include "worker/delivery.h"
#include "worker/redis_subscription.h"
#include "worker/shards.h"

enum subscription_state {
	SUBSCRIPTION_WAITING, /* for the next attempt */
	SUBSCRIPTION_RESOLVING,
	SUBSCRIPTION_CONNECTING,
	SUBSCRIPTION_SIGNING_IN, /* AUTH sent */
	SUBSCRIPTION_ASKING,     /* INFO sent: which run of Redis is this? */
	SUBSCRIPTION_SETTLING,   /* is what was seen before still true in this run? */
	SUBSCRIPTION_CONTROL,    /* control channels not confirmed yet */
	SUBSCRIPTION_LIVE,
};

struct redis_subscription {
	struct redis_shard *shard;
	struct worker *worker;
	enum subscription_state state;
	uint64_t run;
	int fd;                 /* owned; -1 */
	struct event *event;    /* owned; read (and write while blocked) */
	struct event *retry;    /* owned; reconnect, attempt time-out */
	struct event *again;    /* owned; the next slice of a fan-out */
	struct evdns_base *dns; /* owned */
	struct redis_resolution *resolution;
	arena_ref passport;  /* while the connection is up */
	redisReader *reader; /* owned */
	uint64_t fed;        /* stream offset up to which the reader was fed */
	redisReply *held;    /* a reply that waits for the fan-outs before it */
	struct delivery *delivery;
	struct channel *review;    /* channels to look at when the turn ends */
	uint64_t outstanding;      /* confirmations to come */
	uint64_t joined;           /* channels in state joined */
	unsigned control_channels; /* ... and those that are no channels of ours */
	unsigned attempt;
	char redis_run[REDIS_RUN_MAX +
		       1]; /* of the server behind the connection, "" until it told */
	bool paused;
	bool on_hold;
	bool sequences_old; /* the channels' sequences are of the connection before */
	uint64_t reconnects, messages, audits_failed, last_sequence;
	char last_error[160];
};

/* --- redis_subscription_connect.c --- */
const char *redis_subscription_state_name(enum subscription_state state);
void redis_subscription_set_state(struct redis_subscription *s, enum subscription_state state);
void redis_subscription_wait_ms(struct event *event, uint64_t ms);
/* Closes the socket and gives the passport back; nothing is announced. */
void redis_subscription_disconnect(struct redis_subscription *s);
void redis_subscription_retry_later(struct redis_subscription *s);
/* After signing in: asks which run of Redis this is. */
void redis_subscription_ask(struct redis_subscription *s);
/* Once its run is settled: asks for the control channels. */
void redis_subscription_control(struct redis_subscription *s);
void redis_subscription_on_retry(evutil_socket_t fd, short what, void *arg);
void redis_subscription_on_socket(evutil_socket_t fd, short what, void *arg);

/* --- redis_subscription.c --- */
/* The socket is readable: takes what is there and serves it. */
void redis_subscription_read(struct redis_subscription *s);
/* What comes next is ordered by another connection; nothing of the old one may be under way. */
void redis_subscription_forget_sequences(struct redis_subscription *s);
/* The connection is of no use any more: closes it, announces that, tries again later. */
void redis_subscription_lost(struct redis_subscription *s, const char *why);
/* No channel is heard any more. Who waited is answered; who is subscribed catches up later. */
void redis_subscription_forget_channels(struct redis_subscription *s);
/* The next channel of this shard; previous NULL = start. */
struct channel *redis_subscription_next_channel(const struct redis_subscription *s,
						struct channel *previous);
/* The control channels that the shard's connection hears. */
static inline unsigned redis_subscription_controls(const struct redis_subscription *s)
{
	/* Every shard has its probe; surveys and their answers go over the first. */
	return s->shard->index == 0 ? 3 : 1;
}
/* Writes what is committed and arms the event for what is left. */
void redis_subscription_flush(struct redis_subscription *s);
/* Appends a command to the open draft's output; false: not enough memory. */
bool redis_subscription_append_command(struct worker *w, const char **words, const size_t *lengths,
				       int count);

#endif

/* SPDX-License-Identifier: ISC */
/*
 * One connection to something that speaks Redis's protocol, for the few
 * questions of master and supervisor: Sentinels, and the server that they name.
 * It is made once; whoever wants another one opens another link.
 * Workers have pools (redis_command.h).
 */
#ifndef KEEPSOCK_REDIS_LINK_H
#define KEEPSOCK_REDIS_LINK_H

#include <stddef.h>
#include <stdint.h>

#include <hiredis/hiredis.h>

struct evdns_base;
struct event_base;
struct redis_link;

/* Strings are needed until the link is gone. */
struct redis_link_options {
	const char *host; /* name, IPv4 or IPv6 address (no brackets) */
	uint16_t port;
	const char *user;     /* "" = the default user */
	const char *password; /* "" = do not sign in */
	unsigned timeout_ms;  /* of connecting and signing in, and of each answer */
};

/*
 * All from the event loop. After on_lost, and after redis_link_close(), none
 * comes any more; both may be followed by opening a new link at once.
 */
struct redis_link_callbacks {
	void (*on_ready)(void *ctx);
	/* Answers in order, and what a subscription brings; the reply lives until it returns. */
	void (*on_reply)(void *ctx, const redisReply *reply);
	/* The link is gone. */
	void (*on_lost)(void *ctx, const char *reason);
};

/* Starts connecting. *dns is as for redis_resolve(). */
struct redis_link *redis_link_open(struct event_base *base, struct evdns_base **dns,
				   const struct redis_link_options *options,
				   const struct redis_link_callbacks *callbacks, void *ctx);

/* Once it is ready. words are C strings, at most 12. */
void redis_link_send(struct redis_link *link, const char *const *words, size_t n);

/* Commands without an answer. */
unsigned redis_link_waiting(const struct redis_link *link);

/* NULL is fine; also from its own callbacks. */
void redis_link_close(struct redis_link *link);

#endif

/* SPDX-License-Identifier: ISC */
/*
 * Finding the addresses of a Redis host without blocking the loop, for command
 * and subscription connections alike. Used by workers.
 */
#ifndef KEEPSOCK_REDIS_RESOLVE_H
#define KEEPSOCK_REDIS_RESOLVE_H

#include <stdint.h>

#include <event2/dns.h>
#include <event2/util.h>

struct redis_resolution;

/* error is NULL when there are addresses, which are the callee's, for evutil_freeaddrinfo(). */
typedef void (*redis_resolved)(void *ctx, const char *error, struct evutil_addrinfo *addresses);

/*
 * Addresses are used at once, names go to *dns, which is made when first needed
 * and is the caller's to free with evdns_base_free(dns, 1). NULL: the callback
 * has already been called. Else it comes later from the loop, unless forgotten.
 */
struct redis_resolution *redis_resolve(struct event_base *base, struct evdns_base **dns,
				       const char *host, uint16_t port, redis_resolved callback,
				       void *ctx);

/* The callback will not come. */
void redis_resolution_forget(struct redis_resolution *resolution);

#endif

/* SPDX-License-Identifier: ISC */
/*
 * Name resolution for the connections to Redis, by libevent's resolver (which
 * reads the hosts file too). Runs in workers; it must never call the C
 * library's blocking resolver with a name.
 */
#include <inttypes.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "keepsock/alloc.h"
#include "keepsock/magic.h"
#include "keepsock/redis_resolve.h"

#define RESOLUTION_MAGIC 0x4c534552u /* "RESL" */

/*
 * Lives until the resolver has answered, even when nobody wants the answer any
 * more: a cancelled request still calls back, and libevent 2.1 touches its
 * freed base if one is cancelled before evdns_base_free().
 */
struct redis_resolution {
	uint32_t magic;
	redis_resolved callback; /* NULL: forgotten */
	void *ctx;
	bool starting; /* still inside evdns_getaddrinfo() */
	bool answered;
	int error;
	struct evutil_addrinfo *addresses; /* an answer that came while starting */
};

static void deliver(struct redis_resolution *resolution)
{
	redis_resolved callback = resolution->callback;
	void *ctx = resolution->ctx;
	int error = resolution->error;
	struct evutil_addrinfo *addresses = resolution->addresses;

	resolution->magic = 0;
	free(resolution);
	if (callback)
		callback(ctx, error ? evutil_gai_strerror(error) : NULL, addresses);
	else if (addresses)
		evutil_freeaddrinfo(addresses);
}

static void on_answer(int error, struct evutil_addrinfo *addresses, void *ctx)
{
	struct redis_resolution *resolution = ctx;

	MAGIC_CHECK(resolution, RESOLUTION_MAGIC);
	resolution->answered = true;
	resolution->error = error ? error : addresses ? 0 : EVUTIL_EAI_NONAME;
	resolution->addresses = addresses;
	if (!resolution->starting)
		deliver(resolution);
}

static struct evutil_addrinfo *numeric_addresses(const char *host, const char *service)
{
	struct evutil_addrinfo hints = {.ai_family = AF_UNSPEC,
					.ai_socktype = SOCK_STREAM,
					.ai_protocol = IPPROTO_TCP,
					.ai_flags = EVUTIL_AI_NUMERICHOST};
	struct evutil_addrinfo *addresses = NULL;

	return evutil_getaddrinfo(host, service, &hints, &addresses) == 0 ? addresses : NULL;
}

struct redis_resolution *redis_resolve(struct event_base *base, struct evdns_base **dns,
				       const char *host, uint16_t port, redis_resolved callback,
				       void *ctx)
{
	struct evutil_addrinfo hints = {.ai_family = AF_UNSPEC,
					.ai_socktype = SOCK_STREAM,
					.ai_protocol = IPPROTO_TCP,
					.ai_flags = EVUTIL_AI_ADDRCONFIG};
	struct redis_resolution *resolution;
	struct evutil_addrinfo *addresses;
	char service[8];

	if (host[0] == '\0') {
		callback(ctx, "where it is is not known yet", NULL);
		return NULL;
	}
	snprintf(service, sizeof(service), "%" PRIu16, port);
	addresses = numeric_addresses(host, service);
	if (addresses) {
		callback(ctx, NULL, addresses);
		return NULL;
	}
	if (!*dns)
		*dns = evdns_base_new(base, EVDNS_BASE_INITIALIZE_NAMESERVERS |
						    EVDNS_BASE_DISABLE_WHEN_INACTIVE);
	if (!*dns) {
		callback(ctx, "no resolver could be set up", NULL);
		return NULL;
	}
	resolution = xcalloc(1, sizeof(*resolution));
	resolution->magic = RESOLUTION_MAGIC;
	resolution->callback = callback;
	resolution->ctx = ctx;
	resolution->starting = true;
	evdns_getaddrinfo(*dns, host, service, &hints, on_answer, resolution);
	resolution->starting = false;
	if (!resolution->answered)
		return resolution;
	deliver(resolution);
	return NULL;
}

void redis_resolution_forget(struct redis_resolution *resolution)
{
	MAGIC_CHECK(resolution, RESOLUTION_MAGIC);
	resolution->callback = NULL;
}

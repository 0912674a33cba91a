/* SPDX-License-Identifier: ISC */
/*
 * The group cluster: the forms of its strings, and the arithmetic that keeps two
 * primaries apart. Runs wherever settings are parsed; looks at values only,
 * never at files, sockets or the network.
 *
 * The primary counts its lease from the moment it sent a renewal, Redis from the
 * moment it got it, which is later. So the primary's end, renewal + lease_ttl -
 * lease_guard, is lease_guard before the earliest moment at which anybody else can
 * have the lease; the kernel, which takes the address away, is up to 0.75 s late.
 */
#include <arpa/inet.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "settings_private.h"

/* This many renewals in a row may fail before the lease is given up. */
#define RENEWALS_IN_HOLD 3
/* Lifetimes of addresses are whole seconds, rounded down. */
#define VIP_UNIT_MS 1000
/* A supervisor's look at everything. */
#define TICK_MS 100

/* ---- strings ---- */

const char *settings_address_port_parse(const char *text, struct settings_host_port *out)
{
	static const char wrong[] =
		"must be ADDRESS:PORT, such as 10.0.0.1:8500 or [2001:db8::1]:8500";
	const char *colon = strrchr(text, ':');
	unsigned char address[16];
	size_t len;
	char *end;
	long port;
	bool v6;

	memset(out, 0, sizeof(*out));
	if (!colon || colon[1] < '1' || colon[1] > '9')
		return wrong;
	port = strtol(colon + 1, &end, 10);
	if (*end != '\0' || port > UINT16_MAX || end - colon > 6)
		return wrong;
	len = (size_t)(colon - text);
	v6 = len > 2 && text[0] == '[' && text[len - 1] == ']';
	out->host = v6 ? xstrndup(text + 1, len - 2) : xstrndup(text, len);
	out->port = (uint16_t)port;
	if (inet_pton(v6 ? AF_INET6 : AF_INET, out->host, address) == 1)
		return NULL;
	free(out->host);
	memset(out, 0, sizeof(*out));
	return wrong;
}

const char *check_address_port(const char *value)
{
	struct settings_host_port place;
	const char *problem;

	if (*value == '\0')
		return NULL;
	problem = settings_address_port_parse(value, &place);
	free(place.host);
	return problem;
}

const char *settings_peer_parse(const char *text, struct settings_peer *out)
{
	static const char wrong[] =
		"must hold NAME=ADDRESS:PORT, such as \"b=10.0.0.2:8500\", with the node's name";
	const char *equals = strchr(text, '=');

	memset(out, 0, sizeof(*out));
	if (!equals || equals == text || equals - text > 32)
		return wrong;
	if (settings_address_port_parse(equals + 1, &out->place) != NULL)
		return wrong;
	out->name = xstrndup(text, (size_t)(equals - text));
	if (check_host_label(out->name) == NULL)
		return NULL;
	settings_peer_free(out);
	return wrong;
}

void settings_peer_free(struct settings_peer *peer)
{
	free(peer->name);
	free(peer->place.host);
	memset(peer, 0, sizeof(*peer));
}

const char *check_cluster_peer(const char *value)
{
	struct settings_peer peer;
	const char *problem = settings_peer_parse(value, &peer);

	settings_peer_free(&peer);
	return problem;
}

/* An address that a host can have on a network and others can reach by its number alone. */
static bool is_host_address(const struct settings_vip *vip)
{
	struct in6_addr six;

	if (vip->family == AF_INET)
		return vip->address[0] != 0 && vip->address[0] != 127 && vip->address[0] < 224;
	memcpy(&six, vip->address, sizeof(six));
	return !IN6_IS_ADDR_UNSPECIFIED(&six) && !IN6_IS_ADDR_LOOPBACK(&six) &&
	       !IN6_IS_ADDR_MULTICAST(&six) && !IN6_IS_ADDR_LINKLOCAL(&six) &&
	       !IN6_IS_ADDR_V4MAPPED(&six);
}

const char *settings_vip_parse(const char *text, struct settings_vip *out)
{
	static const char wrong[] =
		"must hold ADDRESS/PREFIX, such as \"192.0.2.10/24\" or \"2001:db8::10/128\"";
	const char *slash = strchr(text, '/');
	unsigned long bits;
	char *address, *end;
	bool known;

	memset(out, 0, sizeof(*out));
	if (!slash || slash[1] < '1' || slash[1] > '9' || slash - text > INET6_ADDRSTRLEN)
		return wrong;
	bits = strtoul(slash + 1, &end, 10);
	out->family = memchr(text, ':', (size_t)(slash - text)) ? AF_INET6 : AF_INET;
	if (*end != '\0' || end - slash > 4 || bits > (out->family == AF_INET ? 32u : 128u))
		return wrong;
	out->prefix = (unsigned)bits;
	address = xstrndup(text, (size_t)(slash - text));
	known = inet_pton(out->family, address, out->address) == 1;
	free(address);
	if (!known)
		return wrong;
	return is_host_address(out) ? NULL : "must hold addresses of hosts on a network";
}

const char *check_vip(const char *value)
{
	struct settings_vip vip;

	return settings_vip_parse(value, &vip);
}

/* ---- the peers together ---- */

static bool peer_is_named(const char *peer, const char *name)
{
	size_t len = strlen(name);

	return strncmp(peer, name, len) == 0 && peer[len] == '=';
}

static bool peers_share_a_name(const char *a, const char *b)
{
	size_t len = strcspn(a, "=");

	return strncmp(a, b, len) == 0 && b[len] == '=';
}

const char *settings_find_peer_problem(const struct settings *s)
{
	const struct settings_list *peers = &s->cluster.peers;

	for (size_t i = 0; i < peers->count; i++) {
		if (peer_is_named(peers->items[i], s->node.name))
			return "cluster.peers names this node (node.name): list the others only";
		for (size_t j = 0; j < i; j++) {
			if (peers_share_a_name(peers->items[i], peers->items[j]))
				return "cluster.peers names a node twice";
		}
	}
	return "";
}

bool settings_have_roles(const struct settings *s)
{
	return s->cluster.peers.count > 0;
}

/* ---- listeners of a role ---- */

bool settings_listener_is_primary(const struct settings_listener *listener)
{
	return strcmp(listener->when, "primary") == 0;
}

static bool is_any_address(const char *text)
{
	struct in_addr v4;
	struct in6_addr v6;

	if (inet_pton(AF_INET, text, &v4) == 1)
		return v4.s_addr == INADDR_ANY;
	return inet_pton(AF_INET6, text, &v6) == 1 && IN6_IS_ADDR_UNSPECIFIED(&v6);
}

/* Two of them can't be bound at the same time unless both share the port. */
static bool listeners_collide(const struct settings_listener *a, const struct settings_listener *b)
{
	return a->port == b->port && (is_any_address(a->address) || is_any_address(b->address));
}

const char *settings_find_listener_problem(const struct settings *s)
{
	size_t primary = 0;

	for (size_t i = 0; i < s->listener_count; i++) {
		if (!settings_listener_is_primary(&s->listeners[i]))
			continue;
		primary++;
		for (size_t j = 0; j < s->listener_count; j++) {
			if (j != i && listeners_collide(&s->listeners[i], &s->listeners[j]))
				return "a listener with when = \"primary\" has its port for "
				       "itself: "
				       "another one on that port listens on all addresses";
		}
	}
	if (settings_have_roles(s) && primary > 0 && primary == s->listener_count)
		return "cluster.peers needs a listener that is always open, by which a standby "
		       "is watched";
	return "";
}

/* ---- timing ---- */

struct settings_timing settings_timing_of(const struct settings *s)
{
	int64_t jitter = s->cluster.lease_renew / 4;

	return (struct settings_timing){
		.hold = s->cluster.lease_ttl - s->cluster.lease_guard,
		/* Heard just after a renewal: it has lapsed when the lease has. */
		.voucher = s->cluster.lease_ttl - s->cluster.lease_renew,
		.promise = s->cluster.lease_ttl + s->cluster.lease_guard,
		/* A node that does not end but does not answer either; then, should the
		 * primary's word not arrive, the standby's next look at Redis. */
		.node_fault = s->cluster.check_fall *
				      (s->cluster.check_interval + s->cluster.check_timeout) +
			      TICK_MS + s->cluster.lease_renew + jitter,
		.host_lost = s->cluster.lease_ttl + s->cluster.lease_renew + TICK_MS + jitter,
	};
}

#define OFFSETS(a, b)                                      \
	do {                                               \
		offsets[0] = offsetof(struct settings, a); \
		offsets[1] = offsetof(struct settings, b); \
	} while (0)

bool settings_check_timing(const struct settings *s, struct buffer *why, size_t offsets[2])
{
	struct settings_timing timing = settings_timing_of(s);
	int64_t ttl = s->cluster.lease_ttl, guard = s->cluster.lease_guard;
	int64_t renew = s->cluster.lease_renew;
	/* A renewal late by one interval must still leave the address a whole second. */
	int64_t life = (timing.hold - 2 * renew) / VIP_UNIT_MS;

	if (timing.hold < RENEWALS_IN_HOLD * renew) {
		buffer_printf(why,
			      "cluster.lease_ttl %" PRId64 " ms - cluster.lease_guard %" PRId64
			      " ms = %" PRId64
			      " ms is how long a lease is held without a renewal; %d times "
			      "cluster.lease_renew %" PRId64 " ms = %" PRId64
			      " ms must fit in: make lease_ttl greater or lease_renew smaller",
			      ttl, guard, timing.hold, RENEWALS_IN_HOLD, renew,
			      RENEWALS_IN_HOLD * renew);
		OFFSETS(cluster.lease_ttl, cluster.lease_renew);
		return false;
	}
	if (s->cluster.vip.count > 0 && life < 1) {
		buffer_printf(why,
			      "cluster.vip: an address lives for whole seconds, at a late renewal "
			      "floor(cluster.lease_ttl %" PRId64
			      " ms - cluster.lease_guard %" PRId64
			      " ms - 2 x cluster.lease_renew %" PRId64 " ms = %" PRId64
			      " ms) = %" PRId64 " s, which must be 1 s or more: make lease_ttl "
			      "greater",
			      ttl, guard, renew, timing.hold - 2 * renew, life);
		OFFSETS(cluster.lease_ttl, cluster.vip);
		return false;
	}
	return true;
}

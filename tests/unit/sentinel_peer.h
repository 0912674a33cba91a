/* SPDX-License-Identifier: ISC */
/*
 * Peers of a sentinel watch that the test plays itself: Sentinels that name a
 * master, or don't, and servers that say their role. They live in the test's loop.
 */
#ifndef KEEPSOCK_TESTS_SENTINEL_PEER_H
#define KEEPSOCK_TESTS_SENTINEL_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bufferevent;
struct event_base;
struct evconnlistener;

/* All of a test's, by their connections. */
struct sentinel_peers {
	struct event_base *base; /* the test's */
	struct bufferevent *connections[256];
	unsigned count;
};

/* What it answers to which command. */
struct sentinel_peer {
	struct sentinel_peers *all;
	struct evconnlistener *listener;
	uint16_t port;
	const char *role;     /* a server: "master" or "slave" */
	const char *raw;      /* instead of all answers */
	uint16_t master;      /* a Sentinel: the port it names, 0 = it knows no such master */
	unsigned epoch;       /* ... with this */
	const char *password; /* wanted, or NULL */
	unsigned asked;       /* SENTINEL MASTER and ROLE, how often */
	bool slow;            /* a Sentinel: it owes its answers */
	unsigned owed;
	struct bufferevent *subscriber;
};

/* Listens on a free port of 127.0.0.1. */
void sentinel_peer_start(struct sentinel_peers *all, struct sentinel_peer *peer);

/* Its connections stay. */
void sentinel_peer_stop(struct sentinel_peer *peer);

/* Ends all connections. */
void sentinel_peers_end(struct sentinel_peers *all);

void sentinel_peer_say(struct bufferevent *connection, const char *text);
void sentinel_peer_say_words(struct bufferevent *connection, const char *const *words, size_t n);

#endif

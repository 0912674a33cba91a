/* SPDX-License-Identifier: ISC */
/*
 * The node's role, its epoch, and whether it sends its clients away, in the node
 * page: written by the master, read by all workers at every turn, so that a change
 * is one store, and whoever is started, adopts or takes over knows it. Workers
 * write one thing, that Redis has fenced them.
 *
 *   STANDALONE ── promote ──►  PRIMARY ◄── promote ── STANDBY
 *        │                        └──────── demote ──────►▲
 *        └──────────────── demote ────────────────────────┘
 */
#ifndef KEEPSOCK_NODE_ROLE_H
#define KEEPSOCK_NODE_ROLE_H

#include <stdbool.h>
#include <stdint.h>

struct node_page;

enum node_role {
	NODE_STANDALONE, /* has no peers: serves, and nobody is fenced off */
	NODE_STANDBY,    /* takes no clients and publishes nothing, unless all nodes do */
	NODE_PRIMARY,
};

/* In the node page. */
struct node_role_words {
	_Atomic uint64_t role;           /* epoch << 2 | enum node_role */
	_Atomic uint64_t since_ms;       /* boottime of the last change */
	_Atomic uint64_t fenced;         /* epoch with which Redis refused us; 0 = none */
	_Atomic uint64_t drain_until_ms; /* boottime by which no client is left; 0 = no drain */
	_Atomic uint64_t accept_time;    /* boottime in ns that the accept rate is used up to */
};

/* Highest epoch that a role can have. */
#define NODE_ROLE_EPOCH_MAX ((UINT64_C(1) << 53) - 1)

struct node_role_view {
	enum node_role role;
	uint64_t epoch; /* of the last promotion, kept by a standby; 0 = there was none */
};

const char *node_role_name(enum node_role role);

/* Both in one step. */
struct node_role_view node_role_get(const struct node_page *page);

/* Sets both; a promotion also ends the drain. now_ms is clock_boottime_ms(). */
void node_role_set(struct node_page *page, enum node_role role, uint64_t epoch, uint64_t now_ms);

/* Boottime of the last node_role_set(). */
uint64_t node_role_since(const struct node_page *page);

/* Redis knows a primary with a higher epoch than the one it was asked with; true: that is news. */
bool node_role_set_fenced(struct node_page *page, uint64_t epoch);

/* The node is still in the role for which Redis refused it. */
bool node_role_is_fenced(const struct node_page *page);

/* Clients are to be gone by then; 0: nobody is sent away any more. */
void node_drain_set(struct node_page *page, uint64_t until_ms);
uint64_t node_drain_until(const struct node_page *page);

/*
 * The node-wide rate of accepts, per_second of them, a tenth of a second's at once: whether
 * another one may be made now, and that one was. Workers that ask at the same time may
 * exceed it by one each. per_second is not 0; now_ns is clock_boottime_ns().
 */
bool node_role_may_accept(const struct node_page *page, uint64_t per_second, uint64_t now_ns);
void node_role_count_accept(struct node_page *page, uint64_t per_second, uint64_t now_ns);

#endif

/* SPDX-License-Identifier: ISC */
/*
 * The local node as a process: found by its admin socket or started, watched by
 * its pidfd, started again within a budget. Runs in the supervisor. A node
 * outlives its supervisor: the next one adopts it.
 *
 *   LOOKING ── nobody answers, start_node ──► STARTED ── answers ──► UP
 *      │  ▲                                      │                   │
 *      │  └──────────────── ended ───────────────┴───────────────────┘
 *      └── somebody answers ──► UP (adopted)
 */
#ifndef KEEPSOCK_SUPERVISOR_NODE_WATCH_H
#define KEEPSOCK_SUPERVISOR_NODE_WATCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct event_base;
struct node_watch;
struct settings;

struct node_view {
	bool up;           /* its master runs and has answered */
	bool starting;     /* it is up, and says that its workers don't all serve yet */
	bool adopted;      /* not started by us */
	bool spent;        /* it ended more often than its budget allows */
	pid_t pid;         /* 0 = none */
	uint64_t since_ms; /* boottime of the last change of up */
	unsigned restarts; /* within the window, now */
	uint64_t restarts_total;
	const char *error; /* why it is not up, "" = it is */
};

struct node_watch_options {
	struct event_base *base;
	const struct settings *settings;
	const char *config_path;      /* for the node's own -c; needed for ever, as the settings */
	void (*on_change)(void *ctx); /* up, starting or spent has changed; from the event loop */
	void *ctx;
};

struct node_watch *node_watch_create(const struct node_watch_options *options);

/* Leaves the node running. NULL is fine. */
void node_watch_free(struct node_watch *watch);

void node_watch_get_view(const struct node_watch *watch, struct node_view *view);

/* While held it is not started, and how often it ended is forgotten. */
void node_watch_hold(struct node_watch *watch, bool hold);

/*
 * Ends all processes of the node at once, also those whose master is dead, hung
 * ones too; until that is done no other is started, then as usual. When one can't
 * be ended that is logged, and tried again for as long as it takes.
 */
void node_watch_fence(struct node_watch *watch);

/* It is under way: something of the node may still run. */
bool node_watch_is_fencing(const struct node_watch *watch);

/*
 * Ends a node that we started (SIGTERM, all of it killed when that takes too
 * long); done from the event loop, at once when there is none.
 */
void node_watch_stop(struct node_watch *watch, void (*done)(void *ctx), void *ctx);

#endif

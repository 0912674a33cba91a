/* SPDX-License-Identifier: ISC */
/*
 * Where the master of a Redis shard is, as its Sentinels say: all of them are
 * asked, their announcements are heard, and what they name is believed when the
 * server itself says that it is a master. Used by the master, one watch per
 * shard, and by the supervisor.
 */
#ifndef KEEPSOCK_SENTINEL_H
#define KEEPSOCK_SENTINEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct event_base;
struct sentinel_watch;
struct settings_host_port;

#define SENTINEL_HOST_MAX 255

/* A master's address, in which generation of the Sentinels' configuration. */
struct sentinel_answer {
	char host[SENTINEL_HOST_MAX + 1]; /* "" = none */
	uint16_t port;
	uint64_t epoch; /* config-epoch: higher = newer */
};

/* All strings are copied. */
struct sentinel_options {
	const char *master_name;
	const struct settings_host_port *sentinels;
	size_t sentinel_count;         /* 1 .. SETTINGS_SENTINELS_MAX */
	const char *sentinel_password; /* "" = none */
	const char *user;              /* of the Redis server, "" = the default user */
	const char *password;          /* "" = none */
	unsigned timeout_ms;           /* of connecting, and of each answer */
};

/* There is a master, and not where the one before was; from the event loop. */
typedef void (*sentinel_callback)(void *ctx, const struct sentinel_answer *master);

/* Starts asking, and never ends doing so. */
struct sentinel_watch *sentinel_watch_create(struct event_base *base,
					     const struct sentinel_options *options,
					     sentinel_callback callback, void *ctx);

/*
 * Asks all Sentinels now; votes counts those whose answer to a question of this
 * round, or of a later one, names that place. It grows as answers come, of which
 * on_answer tells, from the event loop; NULL: nobody.
 */
void sentinel_watch_ask(struct sentinel_watch *watch);
size_t sentinel_watch_votes(const struct sentinel_watch *watch, const char *host, uint16_t port);
void sentinel_watch_on_answer(struct sentinel_watch *watch, void (*on_answer)(void *ctx),
			      void *ctx);
size_t sentinel_watch_count(const struct sentinel_watch *watch);

/* NULL is fine. */
void sentinel_watch_free(struct sentinel_watch *watch);

/* What one of the Sentinels says; strings live as long as the watch, until the loop goes on. */
struct sentinel_view {
	const char *host;
	uint16_t port;
	bool asked; /* its last answer is its latest: the connection for questions is there */
	bool heard; /* its announcements are */
	const struct sentinel_answer *answer; /* host "" = none that counts */
	const char *error;                    /* the last one, "" = none since it answered */
};

const char *sentinel_watch_name(const struct sentinel_watch *watch);

/* The master the workers use; host "" = none was found yet. */
const struct sentinel_answer *sentinel_watch_master(const struct sentinel_watch *watch);

/* Why what the Sentinels name is not used, "" = it is, or they name none. */
const char *sentinel_watch_error(const struct sentinel_watch *watch);

/* False when there are not that many. */
bool sentinel_watch_view(const struct sentinel_watch *watch, size_t index,
			 struct sentinel_view *view);

#endif

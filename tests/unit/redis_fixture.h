/* SPDX-License-Identifier: ISC */
/*
 * What the tests of the scripts share: a real redis-server, a pool whose run
 * is settled, and one call after the other, each waited for. Every function
 * fails the running test when it cannot do its work.
 */
#ifndef KEEPSOCK_TESTS_REDIS_FIXTURE_H
#define KEEPSOCK_TESTS_REDIS_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <event2/event.h>
#include <hiredis/hiredis.h>

#include "keepsock/redis_continuity.h"
#include "keepsock/redis_keys.h"
#include "keepsock/redis_registry.h"
#include "keepsock/redis_scripts.h"
#include "redis_server.h"
#include "redis_wait.h"

#define MANY     10000
#define HOUR_MS  UINT64_C(3600000)
#define NOW      UINT64_C(1700000000000) /* a made-up wall clock: nothing has to wait for it */
#define WORKER   "a.0.00c0ffee"
#define DONE_KEY "keepsock.done." WORKER

/* The last answer of any call, copied out of the callback. */
struct answer {
	unsigned count; /* of answers so far */
	enum redis_result code;
	bool duplicate, truncated, joined;
	uint64_t sequence, top, number, users;
	char epoch[REDIS_EPOCH_MAX + 1];
	size_t n;
	struct redis_published positions[8];
	char epochs[8][REDIS_EPOCH_MAX + 1];
	uint64_t offsets[64];
	struct buffer text; /* of all members or bodies */
};

struct fixture {
	struct event_base *base;
	struct redis_server *server;
	struct redis_pool *pool;
	struct answer answer;
	struct buffer body;
	char fresh_letters[REDIS_EPOCH_LENGTH + 1]; /* offered as a new channel's epoch */
	char run[REDIS_RUN_MAX + 1];                /* the last one settled; its generation */
	char generation[REDIS_GENERATION_LENGTH + 1];
	char fresh_epoch[REDIS_EPOCH_MAX + 1]; /* what those letters become */
};

/* setup_alone() leaves the run unsettled and has one connection only. */
int setup(void **state);
int setup_alone(void **state);
int teardown(void **state);

/* Waits for the answer to the call that was made when answer.count was `before`. */
void finish(struct fixture *f, unsigned before);

/* Changes the letters that are offered from now on. */
void choose_letters(struct fixture *f, const char *letters);

/* Waits until every connection is ready. */
void wait_for_connections(struct fixture *f);

/* Reports for WORKER, the only one there is, which has seen nothing that could be missing. */
void settle(struct fixture *f);

/* Integer reply of a command. */
long long integer_of(struct fixture *f, const char *command);
/* String reply of a command into f->answer.text; "" for nil. */
const char *text_of(struct fixture *f, const char *command);
/* How many keys match. */
size_t count_keys(struct fixture *f, const char *pattern);

/* -- publishing ---------------------------------------------------------- */

/* Five publications for an hour; nothing at all. */
extern const struct redis_publish_channel news;
extern const struct redis_publish_channel plain;

struct redis_publish message_for(struct fixture *f, const char *data,
				 const struct redis_publish_channel *channels, size_t n);
void send_publish(struct fixture *f, const struct redis_publish *message);
/* OK it has to be. */
void publish(struct fixture *f, const char *data, const struct redis_publish_channel *channel);

/* -- listening ----------------------------------------------------------- */

/* A blocking subscriber to everything of ours. For redisFree(). */
redisContext *subscribe_all(struct fixture *f);
/* The next message; the slices live until the reply is freed. */
redisReply *next_message(redisContext *context, struct slice *name,
			 struct redis_envelope *envelope);

/* -- callbacks; ctx is the answer ---------------------------------------- */

void on_publish(void *ctx, const struct redis_publish_result *result);
void on_subscribe(void *ctx, const struct redis_subscribe_result *result);
void on_history(void *ctx, const struct redis_history_result *result);
void on_count(void *ctx, const struct redis_count_result *result);
void on_presence(void *ctx, const struct redis_presence_result *result);
void on_presence_stats(void *ctx, const struct redis_presence_stats_result *result);

/* Begins to fill an answer. */
void start_answer(struct answer *a, const struct redis_outcome *outcome);

/* The errors that are tested for are not news. */
void quiet_log(void);

#endif

/* SPDX-License-Identifier: ISC */
/*
 * A private redis-server for tests: its own directory, a free port of
 * 127.0.0.1, a password if wanted, and an end with the test whatever happens to
 * it. Every function fails the running test when it cannot do its work.
 */
#ifndef KEEPSOCK_TESTS_REDIS_SERVER_H
#define KEEPSOCK_TESTS_REDIS_SERVER_H

#include <stdint.h>
#include <sys/types.h>

#include <hiredis/hiredis.h>

struct redis_server;

/* Returns when it takes connections. password NULL: none. Keeps an append-only file. */
struct redis_server *redis_server_start(const char *password);

/* Kills it and removes its directory. */
void redis_server_free(struct redis_server *server);

uint16_t redis_server_port(const struct redis_server *server);

/* SIGKILL; returns when it is gone. */
void redis_server_kill(struct redis_server *server);

/* Starts it again on its port, with the data it had. */
void redis_server_restart(struct redis_server *server);

/* Keeps a copy of the data as it is now, besides any kept before. */
void redis_server_keep_data(const struct redis_server *server, const char *name);

/* A killed server finds that copy when it is restarted; name NULL: no data at all. */
void redis_server_put_data(const struct redis_server *server, const char *name);

/*
 * Makes it a replica of another one, in sync when this returns, or (NULL) a
 * master of its own.
 */
void redis_server_follow(const struct redis_server *server, const struct redis_server *master);

/* SIGSTOP and SIGCONT; returns when it has stopped or goes on. */
void redis_server_pause(struct redis_server *server);
void redis_server_resume(struct redis_server *server);

/* A blocking connection, signed in. For redisFree(). */
redisContext *redis_server_connect(const struct redis_server *server);

/* Runs a command on a connection of its own, which must not fail. For freeReplyObject(). */
redisReply *redis_server_command(const struct redis_server *server, const char *format, ...);

/* The same where the reply does not matter. */
void redis_server_do(const struct redis_server *server, const char *format, ...);

#endif

/* SPDX-License-Identifier: ISC */
/*
 * How a master finds the embedded Redis that a dead one started: the process by
 * a record in its data directory, the way in by the configuration that was
 * written for it. Used by embedded_redis.c.
 */
#ifndef KEEPSOCK_MASTER_REDIS_RECORD_H
#define KEEPSOCK_MASTER_REDIS_RECORD_H

#include <stdbool.h>
#include <sys/types.h>

struct buffer;
struct ipc_redis;

/* Notes that this process serves the directory's data; 0, or -1 with error. */
int redis_record_write(const char *path, pid_t pid, struct buffer *error);

/* The process that was noted, if it still is the same one: its pidfd, *pid being set. -1: none. */
int redis_record_find(const char *path, pid_t *pid);

/* Port and password as that configuration has them; false when it is of no use. */
bool redis_record_endpoint(const char *config_path, struct ipc_redis *endpoint);

#endif

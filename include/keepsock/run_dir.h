/* SPDX-License-Identifier: ISC */
/*
 * Directories that belong to one node at a time: made when missing, refused
 * when somebody else could write to them, and locked, so that a second master
 * on the same directory says so and stops. Used by the master.
 */
#ifndef KEEPSOCK_RUN_DIR_H
#define KEEPSOCK_RUN_DIR_H

#include <stdint.h>
#include <sys/types.h>

struct buffer;

/*
 * Makes the directory (mode 0700) if it is missing, owned by uid and gid; its
 * parent must exist. One that exists is left as it is. 0, or -1 with error.
 */
int run_dir_prepare(const char *path, uid_t uid, gid_t gid, struct buffer *error);

/* The directory must be ours and writable by us only; 0, or -1 with error. */
int run_dir_check(const char *path, struct buffer *error);

/*
 * Takes path/lock and writes our pid into it. The lock lasts as long as the
 * returned descriptor (close-on-exec, owned by the caller); the file stays. -1
 * with error when another process has it, naming its pid.
 */
int run_dir_lock(const char *path, struct buffer *error);

/*
 * Sends the process that has the lock, if there is one, SIGTERM and waits until
 * it is gone, at most so long; 0, or -1 with error.
 */
int run_dir_end_holder(const char *path, int timeout_ms, struct buffer *error);

#endif

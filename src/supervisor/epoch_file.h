/* SPDX-License-Identifier: ISC */
/*
 * What a supervisor must remember over its own death and the host's: the highest
 * epoch it ever knew, so that a Redis that lost its data gives none twice, and
 * the text of the lease it holds, so that its successor can take it up. Two small
 * files in cluster.state_dir. Runs in the supervisor; writing may block on the
 * disk, and happens when a role changes only.
 */
#ifndef KEEPSOCK_SUPERVISOR_EPOCH_FILE_H
#define KEEPSOCK_SUPERVISOR_EPOCH_FILE_H

#include <stdint.h>

struct buffer;

/* 0 when there is no file yet; -1 with error when it can't be read or holds no number. */
int epoch_file_read(const char *directory, uint64_t *epoch, struct buffer *error);

/* On the disk when this returns; 0, or -1 with error. */
int epoch_file_write(const char *directory, uint64_t epoch, struct buffer *error);

/* Of the lease; "" when there is none, or none that can be read. Heap. */
char *lease_file_read(const char *directory);

/* "" = there is none any more. 0, or -1 with error. */
int lease_file_write(const char *directory, const char *text, struct buffer *error);

#endif

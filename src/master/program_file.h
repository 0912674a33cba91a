/* SPDX-License-Identifier: ISC */
/*
 * Which programs an upgrade may execute. Used by the master only.
 */
#ifndef KEEPSOCK_MASTER_PROGRAM_FILE_H
#define KEEPSOCK_MASTER_PROGRAM_FILE_H

struct buffer;

/*
 * Opens the program for execveat(): a regular file of root or the service user,
 * in directories of theirs, none of which others may change (a sticky one, such
 * as /tmp, keeps others from changing what is not theirs). A descriptor
 * (O_PATH, close-on-exec), or -1 with error.
 */
int program_file_open(const char *path, struct buffer *error);

#endif

/* SPDX-License-Identifier: ISC */
/*
 * Small files read and written whole: configuration, keys, generated files.
 * Used at start by the master; all of it may block on the disk.
 */
#ifndef KEEPSOCK_TEXT_FILE_H
#define KEEPSOCK_TEXT_FILE_H

#include <stddef.h>

#include <sys/types.h>

#include "keepsock/slice.h"

struct buffer;

/* Appends the whole file to out; 0, or -1 with error when it is unreadable or over limit bytes. */
int text_file_read(const char *path, size_t limit, struct buffer *out, struct buffer *error);

/*
 * Appends the end of a file, at most `most` bytes and nothing before offset
 * `from`; for reports, so what can't be read is left out.
 */
void text_file_read_tail(const char *path, off_t from, size_t most, struct buffer *out);

/*
 * The secret on the first line of a file that nobody but its owner may read or
 * write: printable ASCII without spaces; white space around it is dropped.
 * Returns a heap string (wipe it), NULL with error.
 */
char *text_file_read_secret(const char *path, struct buffer *error);

/*
 * The text of a file that everybody may read, but nobody but its owner (or
 * root) write, such as one of public keys: at most TEXT_FILE_PUBLIC_LIMIT bytes
 * of printable ASCII and white space. Returns a heap string, NULL with error.
 */
#define TEXT_FILE_PUBLIC_LIMIT ((size_t)8192)
char *text_file_read_public(const char *path, struct buffer *error);

/* Writes all of it; 0, or -1 with errno. For descriptors that block. */
int text_file_write_all(int fd, struct slice text);

/* Replaces the file (mode 0600) with text; 0, or -1 with error. */
int text_file_write_private(const char *path, struct slice text, struct buffer *error);

#endif

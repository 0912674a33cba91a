/* SPDX-License-Identifier: ISC */
/*
 * Text in a sealed memfd: how the master hands the configuration in force to
 * its workers, so that a worker started later parses the very same text,
 * whatever happened to the file meanwhile.
 */
#ifndef KEEPSOCK_SEALED_TEXT_H
#define KEEPSOCK_SEALED_TEXT_H

#include "keepsock/slice.h"

struct buffer;

/* A descriptor (close-on-exec, owned by the caller), or -1 with errno. */
int sealed_text_create(const char *name, struct slice text);

/*
 * Appends the text; 0, or -1 with errno: EPERM when it is not sealed. The file
 * offset, which all holders share, is not touched.
 */
int sealed_text_read(int fd, struct buffer *out);

#endif

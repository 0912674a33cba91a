/* SPDX-License-Identifier: ISC */
/*
 * The files that the listeners' TLS settings name: reading them, and carrying
 * what they hold from the master, which reads them, to the workers, which never
 * open a key. It travels in sealed memory (sealed_text.h), whose descriptor is
 * part of what a worker is started with.
 */
#ifndef KEEPSOCK_TLS_FILES_H
#define KEEPSOCK_TLS_FILES_H

#include <stddef.h>
#include <stdint.h>

#include "keepsock/slice.h"
#include "keepsock/tls_context.h"

struct buffer;
struct settings;

struct tls_files {
	uint64_t generation;            /* the master's, rising with each set that is in force */
	struct tls_material *listeners; /* owned; one for each listener, empty without TLS */
	size_t count;
};

/*
 * Reads them all; own_secret (text as of a file) makes tickets where no file is
 * named. 0, or -1 with error, *line that of the setting, and *files empty. Keys
 * that everybody may read, and secrets that others than their owner may, are
 * refused.
 */
int tls_files_read(const struct settings *settings, const char *own_secret, struct tls_files *files,
		   struct buffer *error, int *line);

/* Wipes what is secret. */
void tls_files_free(struct tls_files *files);

/* Of this build only: both ends are the same one. */
void tls_files_encode(const struct tls_files *files, struct buffer *out);
/* 0, or -1: malformed, *files is empty. */
int tls_files_decode(struct slice text, struct tls_files *files);

/*
 * What tells whether one of the files was changed or replaced: a digest of what
 * the file system says about each, those that are missing as well.
 */
uint64_t tls_files_stamp(const struct settings *settings);

#endif

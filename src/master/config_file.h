/* SPDX-License-Identifier: ISC */
/*
 * Reading the configuration's file, for the start and for reloads.
 */
#ifndef KEEPSOCK_MASTER_CONFIG_FILE_H
#define KEEPSOCK_MASTER_CONFIG_FILE_H

struct buffer;

/* Appends its text; 0, or -1 with error when it is unreadable, too long, or no UTF-8 text. */
int config_file_read(const char *path, struct buffer *text, struct buffer *error);

#endif
